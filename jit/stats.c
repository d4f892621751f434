/* The translator's counters as text. Read while the processors run: a counter may be a moment old. */
#include "jit/jit_int.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define TOP 24u

u64 jit_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

void jit_statistics(const struct jit *jit, struct jit_stats *sum)
{
    *sum = (struct jit_stats){0};
    for (unsigned i = 0; i < JIT_CPUS; i++) {
        if (!jit->cpus[i]) continue;
        const struct jit_stats *s = &jit->cpus[i]->stats;
#define JIT_COUNT(name, what) sum->name += s->name;
#include "jit/stats.def"
#undef JIT_COUNT
    }
}

struct printer {
    void (*sink)(void *opaque, const char *line);
    void *opaque;
};

static void put(const struct printer *p, const char *format, ...) PRINTF(2, 3);
static void put(const struct printer *p, const char *format, ...)
{
    char line[160];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    p->sink(p->opaque, line);
}

static void put_count(const struct printer *p, u64 count, const char *what)
{
    if (count) put(p, "%14" PRIu64 "  %s", count, what);
}

static void put_averages(const struct printer *p, const struct jit_stats *s)
{
    if (!s->blocks || !s->insns) return;
    put(p, "a block: %.1f instructions, %.1f guest bytes, %.1f host bytes (%.1f cold); an instruction: %.0f ns to translate",
        (double)s->insns / (double)s->blocks, (double)s->guest_bytes / (double)s->blocks,
        (double)s->host_bytes / (double)s->blocks, (double)s->cold_bytes / (double)s->blocks,
        (double)s->translate_ns / (double)s->insns);
}

/* The operations that most often needed the interpreter's function. */
static void put_operations(const struct printer *p, const struct jit *jit)
{
    u64 count[OP_COUNT] = {0}, total = 0;
    for (unsigned i = 0; i < JIT_CPUS; i++)
        for (unsigned op = 0; jit->cpus[i] && op < OP_COUNT; op++) count[op] += jit->cpus[i]->ops[op];
    for (unsigned op = 0; op < OP_COUNT; op++) total += count[op];
    put(p, "exits to the interpreter's function, by operation:");
    for (unsigned n = 0; n < TOP; n++) {
        unsigned most = 0;
        for (unsigned op = 1; op < OP_COUNT; op++)
            if (count[op] > count[most]) most = op;
        if (!count[most]) break;
        put(p, "%14" PRIu64 "  %-16s %4.1f %%", count[most], op_name(most),
            100.0 * (double)count[most] / (double)total);
        count[most] = 0;
    }
}

static void put_tlb(const struct printer *p, const struct jit *jit)
{
    static const char *const what[TLB_STATS] = {
#define TLB_STAT(name, what) what,
#include "cpu/tlb_stats.def"
#undef TLB_STAT
    };
    put(p, "soft TLB:");
    for (unsigned n = 0; n < TLB_STATS; n++) {
        u64 sum = 0;
        for (unsigned i = 0; i < JIT_CPUS; i++)
            if (jit->cpus[i]) sum += jit->cpus[i]->cpu->tlb.stats[n];
        put_count(p, sum, what[n]);
    }
}

void jit_statistics_print(const struct jit *jit, void (*sink)(void *opaque, const char *line), void *opaque)
{
    const struct printer p = {sink, opaque};
    struct jit_stats sum;
    u64 used = 0, size = 0, icount = 0;
    jit_statistics(jit, &sum);
    for (unsigned i = 0; i < JIT_CPUS; i++) {
        const struct jit_cpu *j = jit->cpus[i];
        if (!j) continue;
        used += areas_used(j);
        size += j->code.size;
        icount += j->cpu->icount;
    }
    put(&p, "code memory: %" PRIu64 " KiB used of %" PRIu64 " KiB; %" PRIu64 " guest instructions run", used >> 10,
        size >> 10, icount);
    put_averages(&p, &sum);
#define JIT_COUNT(name, what) put_count(&p, sum.name, what);
#include "jit/stats.def"
#undef JIT_COUNT
    for (unsigned i = 0; i < JIT_CPUS; i++)
        if (jit->cpus[i] && jit->cpus[i]->lockstep) {
            char line[160];
            lockstep_print(jit->cpus[i], line, sizeof line);
            sink(opaque, line);
        }
    put_operations(&p, jit);
    put_tlb(&p, jit);
}
