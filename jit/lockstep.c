/*
 * Lockstep: a block is run translated, taken back, run by the interpreter for the same number of
 * instructions, and both outcomes compared: registers, flags, exceptions, memory.
 *
 * Translated code runs twice when it writes memory: once to learn which pages, with every store in the
 * slow path, and again from the same state with the pages' write tags valid, so that the stores which
 * are compared are those of the translated code itself. What goes on is the interpreter's outcome.
 *
 * Not compared: instructions that reach beyond processor and memory (ports, MSRs, time, random numbers,
 * control registers, device memory). The block stops in front of them, is compared so far, and the
 * interpreter does them alone. Blocks that write their own code are compared without the second run.
 * Flags that an instruction leaves undefined may differ; what is computed from such flags is not compared.
 * One processor only: another's stores would be taken back too.
 */
#include "jit/jit_int.h"

#include "cpu/doubt.h"
#include "cpu/interp.h"
#include "cpu/undo.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LISTED 160u    /* bytes of guest code shown */
#define BLOCK_ABOUT 6u /* instructions, for "one block in N" */

/* Everything of a processor that running an instruction may change, but memory and TLB. */
struct snapshot {
    _Alignas(64) u8 head[offsetof(struct vcpu, requests)];
    u64 xsave_in_use;
    u32 pending_db, watch_pages;
    bool step_armed, align_check, fault_noncanonical;
};

struct outcome {
    enum engine_result result;
    u64 count;           /* instructions */
    u64 fault_ip;        /* ENGINE_FAULT: of the instruction */
};

struct lockstep {
    bool failed, ferr;
    u64 next, random;
    u64 compared, disturbed, refused, undefined;
    struct snapshot begin, translated;
    struct cpu_undo undo;
};

/* --- taking and giving back --- */

static void save(const struct vcpu *cpu, struct snapshot *s)
{
    memcpy(s->head, cpu, sizeof(s->head));
    s->xsave_in_use = cpu->xsave_in_use;
    s->pending_db = cpu->pending_db;
    s->watch_pages = cpu->watch_pages;
    s->step_armed = cpu->step_armed;
    s->align_check = cpu->align_check;
    s->fault_noncanonical = cpu->fault_noncanonical;
}

static void restore(struct vcpu *cpu, const struct snapshot *s)
{
    memcpy(cpu, s->head, sizeof(s->head));
    cpu->xsave_in_use = s->xsave_in_use;
    cpu->pending_db = s->pending_db;
    cpu->watch_pages = s->watch_pages;
    cpu->step_armed = s->step_armed;
    cpu->align_check = s->align_check;
    cpu->fault_noncanonical = s->fault_noncanonical;
}

static const struct vcpu *as_cpu(const struct snapshot *s) { return (const struct vcpu *)(const void *)s->head; }

/* --- the runs --- */

/* Blocks end with the first check of the time that is left. */
static void run_translated(struct jit_cpu *j, const struct jblock *block, struct outcome *o)
{
    struct vcpu *cpu = j->cpu;
    u64 start = cpu->icount;
    atomic_store(&cpu->run_until, start + 1);
    j->refused = false;
    o->result = jit_enter(j, block);
    o->count = cpu->icount - start;
    o->fault_ip = o->result == ENGINE_FAULT ? cpu_ip(cpu, cpu->current_insn) : 0;
}

static const struct insn *next_insn(struct vcpu *cpu, u64 left)
{
    const struct insn *insn = interp_enter(cpu, left < BLOCK_INSNS);
    if (!insn || left < BLOCK_INSNS) return insn;
    return ((const struct block *)(const void *)insn - 1)->count <= left ? insn : interp_enter(cpu, true);
}

/* The interpreter, COUNT instructions, and one more that is to fault when the other did. */
static void run_interpreted(struct vcpu *cpu, const struct outcome *other, bool refused_op, struct doubt *doubt,
                            struct outcome *o)
{
    u64 start = cpu->icount;
    *o = (struct outcome){.result = ENGINE_RAN};
    atomic_store(&cpu->run_until, 1);
    for (;;) {
        u64 left = other->count - (cpu->icount - start);
        if (!left && (other->result != ENGINE_FAULT || refused_op)) break;
        cpu->shadow = 0;
        cpu->leave_block = false;
        const struct insn *insn = doubt || !left ? interp_enter(cpu, true) : next_insn(cpu, left);
        if (insn && doubt && left) doubt_insn(doubt, insn);
        bool done = insn && insn->fn(cpu, insn);
        if (done && left) continue;
        if (!done) o->result = ENGINE_FAULT;
        if (!done) o->fault_ip = cpu->current_insn ? cpu_ip(cpu, cpu->current_insn) : cpu->rip;
        break;
    }
    o->count = cpu->icount - start;
}

/* --- comparing --- */

#define DIFFERENCES 12u
struct differences { unsigned count; char what[DIFFERENCES][96]; };

static void differ(struct differences *d, const char *format, ...) PRINTF(2, 3);
static void differ(struct differences *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (d->count < DIFFERENCES) vsnprintf(d->what[d->count], sizeof d->what[0], format, args);
    d->count++;
    va_end(args);
}

static u64 element(const void *object, const struct state_field *f, u32 n)
{
    const u8 *at = (const u8 *)object + f->offset + (size_t)n * f->size;
    switch (f->size) {
    case 1: return *at;
    case 2: return *(const u16 *)(const void *)at;
    case 4: return *(const u32 *)(const void *)at;
    default: return *(const u64 *)(const void *)at;
    }
}

static bool among(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; (p = strstr(p, name)); p += n)
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n])) return true;
    return false;
}

static void compare_fields(struct differences *d, const char *prefix, const void *a, const void *b,
                           const struct state_field *fields, const char *without)
{
    for (const struct state_field *f = fields; f->name; f++) {
        if (among(without, f->name) || !memcmp((const u8 *)a + f->offset, (const u8 *)b + f->offset, (size_t)f->size * f->count))
            continue;
        for (u32 n = 0; n < f->count; n++) {
            if (f->kind == STATE_GROUP) {
                char name[48];
                snprintf(name, sizeof name, "%s[%u].", f->name, n);
                const u8 *at = (const u8 *)a + f->offset + (size_t)n * f->size;
                compare_fields(d, name, at, (const u8 *)b + (at - (const u8 *)a), f->fields, "unused");
            } else if (element(a, f, n) != element(b, f, n) && !(n >= 16 && !strcmp(f->name, "regs"))) {
                differ(d, "%s%s[%u] translated %" PRIx64 " interpreted %" PRIx64, prefix, f->name, n, element(a, f, n),
                       element(b, f, n));
            }
        }
    }
}

static void compare_exception(struct differences *d, const struct vcpu *a, const struct vcpu *b)
{
    if (a->exception.vector != b->exception.vector)
        differ(d, "exception: translated %d, interpreted %d", a->exception.vector, b->exception.vector);
    else if (a->exception.vector >= 0 &&
             (a->exception.has_error != b->exception.has_error || a->exception.is_trap != b->exception.is_trap ||
              (a->exception.has_error && a->exception.error != b->exception.error)))
        differ(d, "exception %d: error codes %x and %x", a->exception.vector, a->exception.error, b->exception.error);
    if (a->exception.vector == VECTOR_PF && a->exception.address != b->exception.address)
        differ(d, "exception 14: addresses %" PRIx64 " and %" PRIx64, a->exception.address, b->exception.address);
}

/* The first NOTED pages were written by the translated code and are as it left them in `after`. */
static void compare_memory(struct differences *d, const struct vcpu *cpu, unsigned noted)
{
    for (unsigned i = 0; i < cpu->undo->pages; i++) {
        const struct undo_page *page = &cpu->undo->page[i];
        const u8 *wanted = i < noted ? page->after : page->before;
        if (!memcmp(wanted, page->host, PAGE_SIZE)) continue;
        for (unsigned at = 0; at < PAGE_SIZE; at += 8)
            if (memcmp(wanted + at, page->host + at, 8))
                differ(d, "memory: arena page %" PRIx64 " +%03x translated %016" PRIx64 " interpreted %016" PRIx64,
                       arena_page(cpu->memory, page->host), at, ld64(wanted + at), ld64(page->host + at));
    }
}

static void compare(struct jit_cpu *j, const struct outcome *t, const struct outcome *i, unsigned noted, bool refused_op,
                    unsigned undefined, struct differences *d)
{
    const struct vcpu *cpu = j->cpu, *other = as_cpu(&j->lockstep->translated);
    d->count = 0;
    if (t->count != i->count) differ(d, "instructions: translated %" PRIu64 ", interpreted %" PRIu64, t->count, i->count);
    if (t->result != i->result && !refused_op)
        differ(d, "fault: translated %s, interpreted %s", t->result == ENGINE_FAULT ? "yes" : "no",
               i->result == ENGINE_FAULT ? "yes" : "no");
    else if (t->result == ENGINE_FAULT && !refused_op) {
        compare_exception(d, other, cpu);
        if (t->fault_ip != i->fault_ip)
            differ(d, "faulting instruction: translated %" PRIx64 ", interpreted %" PRIx64, t->fault_ip, i->fault_ip);
    }
    bool rip = t->result != ENGINE_FAULT;
    compare_fields(d, "", other, cpu, cpu_state_fields(),
                   rip ? "lf_result lf_aux eflags icount shadow" : "lf_result lf_aux eflags icount shadow rip");
    u32 a = cpu_eflags(other) & ~undefined, b = cpu_eflags(cpu) & ~undefined;
    if (a != b) differ(d, "eflags translated %x interpreted %x", a, b);
    compare_memory(d, cpu, noted);
}

/* --- telling --- */

static void report(struct jit_cpu *j, const struct jblock *block, const struct outcome *t, const struct differences *d)
{
    struct lockstep *l = j->lockstep;
    const struct vcpu *before = as_cpu(&l->begin), *after = as_cpu(&l->translated), *cpu = j->cpu;
    const u8 *page = cpu->memory->arena + (block->key >> 28) * PAGE_SIZE;
    char name[320];
    symbols_name(j->jit->symbols, before->rip, name, sizeof name);
    fprintf(stderr, "lyrebird: lockstep: cpu%u %s: after %" PRIu64 " instructions of the block at %" PRIx64
                    " translated and interpreted differ (%u ways)\n", cpu->index, name, t->count, before->rip, d->count);
    for (unsigned n = 0; n < d->count && n < DIFFERENCES; n++) fprintf(stderr, "  %s\n", d->what[n]);
    fprintf(stderr, "  %-4s %-16s %-16s %-16s\n", "", "before", "translated", "interpreted");
    for (unsigned r = 0; r < 16; r++)
        fprintf(stderr, "  r%-3u %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", r, before->regs[r], after->regs[r], cpu->regs[r]);
    fprintf(stderr, "  rip  %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", before->rip, after->rip, cpu->rip);
    fprintf(stderr, "  flags %15x %16x %16x\n", cpu_eflags(before), cpu_eflags(after), cpu_eflags(cpu));
    fprintf(stderr, "  cr2  %016" PRIx64 " cr3 %" PRIx64 " cpl %u mode %x icount %" PRIu64 "\n", before->cr2, before->cr3,
            before->cpl, before->mode_key, before->icount);
    unsigned length = PAGE_SIZE - block->pos < LISTED ? PAGE_SIZE - block->pos : LISTED;
    jit_list(before->code_size, page + block->pos, length, before->rip);
    fprintf(stderr, "  translated to\n");
    jit_list(CODE64, block->checked, block->code_bytes, (u64)(uintptr_t)block->checked);
}

static void fail(struct jit_cpu *j, const struct jblock *block, const struct outcome *t, const struct differences *d)
{
    const struct jit_options *o = &j->jit->options;
    report(j, block, t, d);
    j->lockstep->failed = true;
    if (o->failed) o->failed(o->opaque);
}

/* --- one comparison --- */

static void take_back(struct jit_cpu *j)
{
    undo_rollback(j->cpu);
    restore(j->cpu, &j->lockstep->begin);
    j->cpu->undo->publish = false;
}

static bool undo_in_doubt(struct jit_cpu *j, const struct outcome *t, unsigned noted, bool refused_op,
                          struct differences *d)
{
    struct doubt doubt = {0};
    struct outcome i;
    take_back(j);
    run_interpreted(j->cpu, t, refused_op, &doubt, &i);
    compare(j, t, &i, noted, refused_op, doubt.undefined, d);
    return d->count && !doubt.used;
}

/* Registers and memory are as they were when translated code began. Leaves the interpreter's outcome. */
static enum engine_result judge(struct jit_cpu *j, const struct jblock *block, const struct outcome *t)
{
    struct lockstep *l = j->lockstep;
    struct vcpu *cpu = j->cpu;
    struct outcome i;
    struct differences d;
    unsigned noted = cpu->undo->pages;
    bool refused_op = cpu->undo->refused_op;
    save(cpu, &l->translated);
    undo_keep_after(cpu);
    take_back(j);
    run_interpreted(cpu, t, refused_op, NULL, &i);
    compare(j, t, &i, noted, refused_op, 0, &d);
    l->compared++;
    if (unlikely(d.count)) {
        if (undo_in_doubt(j, t, noted, refused_op, &d)) fail(j, block, t, &d);
        else l->undefined++;
    }
    return refused_op ? ENGINE_RAN : i.result;
}

static enum engine_result sample(struct jit_cpu *j, const struct jblock *block)
{
    struct lockstep *l = j->lockstep;
    struct vcpu *cpu = j->cpu;
    struct outcome first, t;
    u32 evictions = j->evictions;
    save(cpu, &l->begin);
    undo_start(cpu, &l->undo);
    run_translated(j, block, &first);
    t = first;
    if (cpu->undo->pages && !undo_code_written(cpu) && evictions == j->evictions) {
        bool refused = cpu->undo->refused;
        take_back(j);
        cpu->undo->publish = true;
        tlb_publish_noted(cpu, true);
        run_translated(j, block, &t);
        cpu->undo->publish = false;
        cpu->undo->refused |= refused;
    }
    enum engine_result result = t.result;
    bool same = t.count == first.count && t.result == first.result && t.fault_ip == first.fault_ip;
    /* A repetition that rests half-way, as when it wrote code, may do so elsewhere the next time. */
    bool resting = t.result == ENGINE_FAULT && cpu->exception.vector < 0 && !cpu->undo->refused;
    if (!same || resting || !atomic_load(&cpu->run_until)) l->disturbed++; /* somebody wants the processor */
    else if (t.count || t.result == ENGINE_FAULT) result = judge(j, block, &t);
    undo_finish(cpu);
    return result;
}

/* --- from outside --- */

bool lockstep_refuses(struct vcpu *cpu, const struct insn *insn)
{
    switch (insn->op) {
    case OP_IN: case OP_OUT: case OP_INS: case OP_OUTS: case OP_RDTSC: case OP_RDTSCP: case OP_RDPMC:
    case OP_RDRAND: case OP_RDSEED: case OP_RDMSR: case OP_WRMSR: case OP_MOV_CR: case OP_HLT:
    case OP_INVLPG: case OP_INVPCID: case OP_MWAIT: case OP_RSM:
        cpu->undo->refused = cpu->undo->refused_op = true;
        cpu_restart(cpu);
        return true;
    default: return false;
    }
}

static void note_ferr(void *lockstep) { ((struct lockstep *)lockstep)->ferr = true; }

/* What the machine does meanwhile would be taken back, or seen by one of two runs only. */
static enum engine_result sample_alone(struct jit_cpu *j, const struct jblock *block)
{
    const struct jit_options *o = &j->jit->options;
    struct vcpu *cpu = j->cpu;
    void (*ferr)(void *) = cpu->ferr;
    void *ferr_opaque = cpu->ferr_opaque;
    if (o->hold) o->hold(o->opaque, true);
    cpu->ferr = ferr ? note_ferr : NULL;
    cpu->ferr_opaque = j->lockstep;
    enum engine_result result = sample(j, block);
    cpu->ferr = ferr;
    cpu->ferr_opaque = ferr_opaque;
    if (o->hold) o->hold(o->opaque, false);
    if (j->lockstep->ferr && ferr) ferr(ferr_opaque);
    j->lockstep->ferr = false;
    return result;
}

/* The instruction that was refused, for good. */
static enum engine_result step_alone(struct jit_cpu *j)
{
    struct vcpu *cpu = j->cpu;
    j->lockstep->refused++;
    cpu->shadow = 0;
    const struct insn *insn = interp_enter(cpu, true);
    return insn && insn->fn(cpu, insn) ? ENGINE_RAN : ENGINE_FAULT;
}

enum engine_result lockstep_run(struct jit_cpu *j, const struct jblock *block)
{
    struct lockstep *l = j->lockstep;
    struct vcpu *cpu = j->cpu;
    unsigned every = j->jit->options.lockstep;
    if (l->failed) return jit_enter(j, block);
    if (every > 1 && cpu->icount < l->next) {
        u64 until = atomic_load(&cpu->run_until);
        if (until > l->next) atomic_compare_exchange_strong(&cpu->run_until, &until, l->next);
        return jit_enter(j, block);
    }
    l->random = l->random * 6364136223846793005ull + 1442695040888963407ull;
    enum engine_result result = sample_alone(j, block);
    l->next = cpu->icount + (every > 1 ? (l->random >> 33) % (2 * BLOCK_ABOUT * (every - 1)) : 0);
    if (likely(!l->undo.refused)) return result;
    if (result == ENGINE_FAULT) cpu->rip = cpu_ip(cpu, cpu->current_insn);
    return step_alone(j);
}

bool lockstep_new(struct jit_cpu *j)
{
    void *memory;
    if (!j->jit->options.lockstep) return true;
    if (posix_memalign(&memory, 64, sizeof(struct lockstep))) return false;
    j->lockstep = memset(memory, 0, sizeof(struct lockstep));
    return true;
}

void lockstep_free(struct jit_cpu *j)
{
    free(j->lockstep);
    j->lockstep = NULL;
}

void lockstep_print(const struct jit_cpu *j, char *line, size_t size)
{
    const struct lockstep *l = j->lockstep;
    snprintf(line, size, "lockstep: %" PRIu64 " blocks compared, %" PRIu64 " of them without undefined flags; %" PRIu64
             " disturbed, %" PRIu64 " instructions left to the interpreter", l->compared, l->undefined, l->disturbed, l->refused);
}
