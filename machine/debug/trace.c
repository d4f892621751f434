/*
 * Who looks at the guest's code, put together; and the log's exec, cpu and in_asm.
 *
 * Pages that somebody looks at are interpreted; the rest of the guest runs as ever. in_asm is the
 * translator's where there is one; a block is shown here when it is first met, by a table that
 * forgets: a block may be shown again.
 */
#include "machine/debug/trace.h"

#include "machine/debug/disasm.h"
#include "machine/debug/guest_memory.h"
#include "machine/debug/registers.h"
#include "machine/debug/trace_int.h"

#include <inttypes.h>
#include <stdlib.h>

#define WATCHERS 3
#define SEEN 65536u

struct log_watcher {
    struct watcher base;
    struct machine *machine;
    u64 *seen; /* by hash of address and address space; racy among processors, and harmless */
};

struct cpu_watch {
    struct cpu_trace base;
    struct trace *trace;
};

struct trace {
    struct machine *machine;
    struct log_watcher log;
    struct watcher *insns, *coverage;
    struct profile *profile;
    struct watcher *active[WATCHERS]; /* those that look now */
    unsigned active_count;
    struct log_range ranges[WATCHERS * LOG_RANGES];
    struct cpu_watch *cpus;
};

bool watcher_ranges(struct watcher *w, const struct keyvals *kv, struct error *error)
{
    for (unsigned i = 0; i < kv->count; i++)
        if (!strcmp(kv->item[i].key, "range") &&
            !log_parse_ranges(kv->item[i].value, w->ranges, &w->range_count, error))
            return error_prefix(error, "range=%s", kv->item[i].value);
    return true;
}

/* --- the log --- */

void trace_log_registers(struct log *log, struct vcpu *cpu, const char *title)
{
    FILE *stream = log->stream ? log->stream : stderr;
    flockfile(stream);
    fprintf(stream, "%s (CPU %u)\n", title, cpu->index);
    registers_dump(stream, cpu, log_on(log, LOG_FPU));
    funlockfile(stream);
}

static bool ends_block(const char *text)
{
    return *text == 'j' || !strncmp(text, "call", 4) || !strncmp(text, "ret", 3) ||
           !strncmp(text, "iret", 4) || !strncmp(text, "int", 3) || !strncmp(text, "sys", 3) ||
           !strncmp(text, "hlt", 3) || !strncmp(text, "loop", 4);
}

static void log_code(struct log *log, struct vcpu *cpu, u64 linear)
{
    u8 bytes[PAGE_SIZE];
    char text[160];
    unsigned bits = cpu->code_size == CODE64 ? 64 : cpu->code_size == CODE32 ? 32 : 16;
    struct disasm *disasm = disasm_open(bits);
    size_t have = guest_read(cpu, linear, bytes, PAGE_SIZE - (linear & (PAGE_SIZE - 1))), at = 0;
    log_write(log, LOG_IN_ASM, "block %" PRIx64 ", %u bits", linear, bits);
    for (unsigned i = 0; i < 64 && at < have; i++) {
        unsigned n = disasm_one(disasm, bytes + at, have - at, linear + at, text, sizeof text);
        if (!n) break;
        log_write(log, LOG_IN_ASM, "  %012" PRIx64 "  %s", linear + at, text);
        at += n;
        if (ends_block(text)) break;
    }
    disasm_close(disasm);
}

static bool is_new(struct log_watcher *w, const struct vcpu *cpu, u64 linear)
{
    u64 key = linear ^ (cpu->cr0 & CR0_PG ? cpu->cr3 << 20 : 0) ^ (u64)cpu->code_size << 62 ^ 1;
    u64 *slot = &w->seen[key * 0x9e3779b97f4a7c15ull >> 48 & (SEEN - 1)];
    if (__atomic_load_n(slot, __ATOMIC_RELAXED) == key) return false;
    __atomic_store_n(slot, key, __ATOMIC_RELAXED);
    return true;
}

static void log_before(struct watcher *base, struct vcpu *cpu, u64 linear, const struct insn *insn)
{
    struct log_watcher *w = (struct log_watcher *)base;
    struct log *log = &w->machine->log;
    (void)insn;
    if (log_on(log, LOG_IN_ASM) && is_new(w, cpu, linear)) log_code(log, cpu, linear);
    log_to(log, LOG_EXEC, "Trace %u: [%016" PRIx64 "/%016" PRIx64 "/%04x]", cpu->index,
           cpu->code_size == CODE64 ? 0 : cpu->seg[CS].base, linear, cpu->mode_key);
    if (log_on(log, LOG_CPU)) trace_log_registers(log, cpu, "registers");
}

/* --- all together --- */

static void before(struct cpu_trace *base, struct vcpu *cpu, u64 linear, const struct insn *insn)
{
    struct trace *t = ((struct cpu_watch *)base)->trace;
    for (unsigned i = 0; i < t->active_count; i++) {
        struct watcher *w = t->active[i];
        if (log_in_ranges(w->ranges, w->range_count, linear)) w->before(w, cpu, linear, insn);
    }
}

static void activate(struct trace *t, struct watcher *w)
{
    if (w) t->active[t->active_count++] = w;
}

/* Do exec, cpu and in_asm need us? The translator shows what it translates by itself. */
static bool log_looks(const struct machine *m)
{
    bool each = log_on(&m->log, LOG_EXEC) || log_on(&m->log, LOG_CPU);
    return each || (log_on(&m->log, LOG_IN_ASM) && !m->vcpu[0].cpu->engine);
}

void trace_update(struct machine *m)
{
    struct trace *t = m->trace;
    unsigned count = 0;
    bool everywhere = false, each = false;
    t->active_count = 0;
    if (log_looks(m)) activate(t, &t->log.base);
    activate(t, t->insns);
    activate(t, t->coverage);
    for (unsigned i = 0; i < t->active_count; i++) {
        const struct watcher *w = t->active[i];
        memcpy(t->ranges + count, w->ranges, w->range_count * sizeof w->ranges[0]);
        count += w->range_count;
        everywhere |= !w->range_count;
        each |= w->each_insn;
    }
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        t->cpus[i] = (struct cpu_watch){{before, t->ranges, everywhere ? 0 : count, each}, t};
        m->vcpu[i].cpu->trace = t->active_count ? &t->cpus[i].base : NULL;
    }
}

bool trace_start(struct machine *m, struct error *error)
{
    const struct options *o = m->options;
    struct trace *t = calloc(1, sizeof *t);
    if (!t || !(t->cpus = calloc(m->vcpu_count, sizeof *t->cpus)) ||
        !(t->log.seen = calloc(SEEN, sizeof *t->log.seen)))
        abort();
    m->trace = t;
    t->machine = m;
    t->log.machine = m;
    t->log.base.before = log_before;
    memcpy(t->log.base.ranges, m->log.ranges, sizeof m->log.ranges);
    t->log.base.range_count = m->log.range_count;
    if (o->trace_insns && !(t->insns = insns_open(m, o->trace_insns, error)))
        return error_prefix(error, "-trace-insns");
    if (o->coverage && !(t->coverage = coverage_open(m, o->coverage, error)))
        return error_prefix(error, "-coverage");
    if (o->profile && !(t->profile = profile_open(m, o->profile, error)))
        return error_prefix(error, "-profile");
    trace_update(m);
    return true;
}

void trace_stop(struct machine *m)
{
    struct trace *t = m->trace;
    struct error error;
    if (!t) return;
    if (t->insns && !insns_close(t->insns, &error))
        fprintf(stderr, "lyrebird: -trace-insns: %s\n", error.text);
    if (t->coverage && !coverage_close(t->coverage, &error))
        fprintf(stderr, "lyrebird: -coverage: %s\n", error.text);
    if (t->profile && !profile_close(t->profile, &error))
        fprintf(stderr, "lyrebird: -profile: %s\n", error.text);
    t->insns = t->coverage = NULL;
    t->profile = NULL;
}
