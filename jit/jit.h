/*
 * The translator: guest code to host code, block by block, beside the interpreter. Only the processor
 * model's own rules are the interpreter's; the translator never knows better.
 *
 * jit_new for a machine, jit_attach for each of its processors before they run; cpu_run then offers
 * every block to it. Where the host can't do it (another processor, no executable memory, a sanitizer
 * in the build) jit_attach says so and the interpreter runs everything.
 */
#ifndef JIT_JIT_H
#define JIT_JIT_H

#include "cpu/cpu.h"
#include "jit/options.h"
#include "machine/error.h"

/* Of one processor, or summed over all. */
struct jit_stats {
#define JIT_COUNT(name, what) u64 name;
#include "jit/stats.def"
#undef JIT_COUNT
};

struct jit;
/* NULL: no memory, or a file that OPTIONS names cannot be had; then ERROR says so (it may be NULL). */
struct jit *jit_new(const struct jit_options *options, struct log *log, struct error *error);
void jit_free(struct jit *jit);
/* Says in ERROR why not. OPTIONS are those given to jit_new. */
bool jit_attach(struct vcpu *cpu, struct jit *jit, struct error *error);
void jit_detach(struct vcpu *cpu);
/* Summed over the processors; those that run go on meanwhile. */
void jit_statistics(const struct jit *jit, struct jit_stats *sum);
/* The same as text, with TLB misses and cold exits by cause: SINK gets it line by line, without '\n'. */
void jit_statistics_print(const struct jit *jit, void (*sink)(void *opaque, const char *line), void *opaque);

#endif
