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
#include "machine/error.h"

struct jit_options {
    u64 tb_size;       /* bytes of code memory for each processor; 0: 64 MiB */
    unsigned threshold;/* entries after which a block is translated; 0: 3 */
    bool force_cold;   /* tests: every memory access takes the slow path */
    bool no_link;      /* tests: no block leads straight to another */
    bool no_vectors;   /* tests: vector and x87 instructions through the interpreter's functions */
};

struct jit_stats {
    u64 blocks, insns, host_bytes;   /* translated */
    u64 flushes, stale;              /* times everything was forgotten; voided blocks met */
    u64 accesses, helpers, ends, links, lookups, vectors, x87; /* calls out of translated code */
    u64 entries, refused;            /* from the main loop; blocks left to the interpreter */
};

struct jit;
struct jit *jit_new(const struct jit_options *options, struct log *log);
void jit_free(struct jit *jit);
/* Says in ERROR why not. OPTIONS are those given to jit_new. */
bool jit_attach(struct vcpu *cpu, struct jit *jit, struct error *error);
void jit_detach(struct vcpu *cpu);
const struct jit_stats *jit_statistics(const struct jit *jit);

#endif
