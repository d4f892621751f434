/*
 * -coverage: which instructions of chosen code were run, and which way its conditional branches
 * went.
 *
 * The report has a line an instruction, by address: "ADDRESS COUNT", for a conditional branch also
 * "taken N not-taken N".
 * Addresses are linear: what runs at the same address in several address spaces counts together.
 * Only `range=` code is looked at (and interpreted); it is at most 64 MiB in all.
 */
#include "machine/debug/trace_int.h"

#include "cpu/flags.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define BYTES_MOST MIB(64)

struct place {
    u32 count, taken, not_taken; /* stop at the top */
};

struct coverage {
    struct watcher base;
    FILE *file;
    char *name;
    struct place *places[LOG_RANGES]; /* a place a byte */
};

/* Races among processors lose counts, never memory. */
static void count(u32 *n)
{
    u32 now = __atomic_load_n(n, __ATOMIC_RELAXED);
    if (now != UINT32_MAX) __atomic_store_n(n, now + 1, __ATOMIC_RELAXED);
}

static void coverage_before(struct watcher *base, struct vcpu *cpu, u64 linear,
                            const struct insn *insn)
{
    struct coverage *c = (struct coverage *)base;
    for (unsigned i = 0; insn && i < base->range_count; i++) {
        if (linear < base->ranges[i].first || linear > base->ranges[i].last) continue;
        struct place *place = &c->places[i][linear - base->ranges[i].first];
        count(&place->count);
        if (insn->op == OP_Jcc)
            count(flags_condition(cpu, insn->cc) ? &place->taken : &place->not_taken);
    }
}

struct watcher *coverage_open(struct machine *m, const char *spec, struct error *error)
{
    struct keyvals kv;
    u64 bytes = 0;
    struct coverage *c = calloc(1, sizeof *c);
    (void)m;
    if (!c) abort();
    c->base.before = coverage_before;
    c->base.each_insn = true;
    if (!keyvals_parse(&kv, spec, "file", error) ||
        !keyvals_only(&kv, "coverage", "file range", error) ||
        !watcher_ranges(&c->base, &kv, error))
        return NULL;
    const char *name = keyvals_get(&kv, "file");
    if (!name) return error_set(error, "file= is missing"), NULL;
    if (!c->base.range_count) return error_set(error, "range= is missing"), NULL;
    for (unsigned i = 0; i < c->base.range_count; i++) {
        u64 size = c->base.ranges[i].last - c->base.ranges[i].first;
        if (size >= BYTES_MOST || (bytes += size + 1) > BYTES_MOST)
            return error_set(error, "more than 64 MiB of code"), NULL;
        c->places[i] = calloc(size + 1, sizeof *c->places[i]);
        if (!c->places[i]) return error_set(error, "no memory"), NULL;
    }
    c->file = fopen(name, "w");
    if (!c->file) return error_set(error, "%s: %s", name, strerror(errno)), NULL;
    c->name = strdup(name);
    return &c->base;
}

static void report(struct coverage *c, unsigned range)
{
    const struct log_range *r = &c->base.ranges[range];
    for (u64 i = 0; i <= r->last - r->first; i++) {
        const struct place *p = &c->places[range][i];
        if (!p->count) continue;
        fprintf(c->file, "%016" PRIx64 " %u", r->first + i, p->count);
        if (p->taken || p->not_taken)
            fprintf(c->file, " taken %u not-taken %u", p->taken, p->not_taken);
        fputc('\n', c->file);
    }
}

bool coverage_close(struct watcher *base, struct error *error)
{
    struct coverage *c = (struct coverage *)base;
    for (unsigned i = 0; i < base->range_count; i++) report(c, i);
    bool failed = ferror(c->file);
    if (fclose(c->file)) failed = true;
    return !failed || error_set(error, "%s: could not be written whole", c->name);
}
