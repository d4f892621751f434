/* See campaign.h. */
#include "tests/insn/campaign.h"

#include "jit/jit.h"

#include <stdarg.h>
#include <stdio.h>

#define IDT32 0x6000u
#define COUNTERS 0x2f0000u
#define STACK_SIZE 8192u
#define SELECTOR32 0x18u

/* The engines: a line each. Without options: the interpreter, block by block. */
static const struct engine {
    const char *name;
    const struct jit_options *options;
    unsigned exits;  /* random ones */
} engines[] = {
    {"interpreter's blocks", NULL, 0},
    {"tier 1", &(const struct jit_options){.threshold = 1, .no_loops = true}, 0},
    {"tier 2", &(const struct jit_options){.threshold = 1, .hot = 2, .no_background = true}, 0},
    {"tier 2 by another thread",
     &(const struct jit_options){.threshold = 1, .hot = 2, .await_background = true}, 0},
    {"tier 2 with random exits", &(const struct jit_options){.threshold = 1, .hot = 2, .no_background = true}, 30},
    {"tier 2 with failing groups",
     &(const struct jit_options){.threshold = 1, .hot = 1, .no_background = true, .fail_groups = true}, 0},
    {"all checks cold",
     &(const struct jit_options){.threshold = 1, .hot = 3, .no_background = true, .force_cold = true}, 0},
    {"little memory, no links",
     &(const struct jit_options){.threshold = 1, .hot = 3, .no_link = true, .tb_size = KIB(64)}, 0},
    {"little memory", &(const struct jit_options){.threshold = 1, .hot = 2, .tb_size = KIB(64)}, 0},
};
#define ENGINES ARRAY_SIZE(engines)

struct field {
    void (*lay_out)(struct flat *flat, u64 seed, bool code64);
    struct flat *reference, *flat[ENGINES];
    struct jit *jit[ENGINES];
    struct sequence_place place;
    u64 seed;
    unsigned engine, turns;
    i64 budget;
    u8 code[SEQUENCE_CODE];
    const char *what;
    char detail[512];
};

/* --- machines --- */

struct field *field_new(struct flat *(*make)(void),
                        void (*lay_out)(struct flat *flat, u64 seed, bool code64))
{
    struct field *f = calloc(1, sizeof(*f));
    if (!f) abort();
    f->lay_out = lay_out;
    f->reference = make();
    for (unsigned n = 0; n < ENGINES; n++) {
        struct error error;
        struct flat *flat = make();
        if (engines[n].options) {
            f->jit[n] = jit_new(engines[n].options, NULL, &error);
            if (!f->jit[n] || !jit_attach(flat->cpu, f->jit[n], &error)) {
                flat_free(flat);
                continue;
            }
        }
        flat->cpu->stress.exits = engines[n].exits;
        f->flat[n] = flat;
    }
    f->place = (struct sequence_place){.code = FLAT_CODE, .data = FLAT_DATA,
                                       .data_size = FIELD_DATA_PAGES * 4096,
                                       .counters = COUNTERS,
                                       .features = &f->reference->cpu->features};
    return f;
}

void field_free(struct field *f)
{
    for (unsigned n = 0; n < ENGINES; n++) {
        if (!f->flat[n]) continue;
        jit_detach(f->flat[n]->cpu);
        jit_free(f->jit[n]);
        flat_free(f->flat[n]);
    }
    flat_free(f->reference);
    free(f);
}

static void map_data(u8 *ram)
{
    st64(ram + 0x3000 + 8, FIELD_PAGE_TABLE | 7);
    for (u64 i = 0; i < 512; i++) st64(ram + FIELD_PAGE_TABLE + i * 8, (MIB(2) + i * 4096) | 7);
    st64(ram + FIELD_PAGE_TABLE + 0x104 * 8, 0);
    st64(ram + FIELD_PAGE_TABLE + 0x105 * 8, (FLAT_DATA + 0x5000) | 5);
}

/* Flat 32-bit code under PAE, with the same tables below. */
static void enter32(struct vcpu *cpu, u8 *ram)
{
    st64(ram + FLAT_GDT + SELECTOR32, 0x00cf9b000000ffffull);
    for (unsigned i = 0; i < 4; i++) {
        st64(ram + FIELD_POINTERS32 + i * 8, i ? 0 : 0x3001);
        cpu->pae_pdpte[i] = i ? 0 : 0x3001;
    }
    for (u64 i = 0; i < 32; i++) {
        u64 to = FLAT_HANDLER + 16 * i;
        st64(ram + IDT32 + i * 8, (to & 0xffff) | SELECTOR32 << 16 | 0x8e00ull << 32);
    }
    cpu->efer = EFER_NXE;
    cpu->cr3 = FIELD_POINTERS32;
    cpu->idt_base = IDT32, cpu->idt_limit = 0xff;
    for (unsigned seg = ES; seg <= GS; seg++)
        flat_segment(cpu, seg, 16, SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_DB | SEG_G);
    flat_segment(cpu, CS, SELECTOR32,
                 SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED | SEG_DB | SEG_G);
}

static u64 step(u64 *s) { return *s = *s * 6364136223846793005ull + 1442695040888963407ull; }

static void fill_registers(struct vcpu *cpu, u64 s, bool code64)
{
    for (unsigned r = 0; r < 16; r++) {
        u64 v = step(&s);
        cpu->regs[r] = !code64 ? (r < 8 ? (u32)(r & 1 ? v : v >> 45) : 0) : r & 1 ? v : v >> 33;
        for (unsigned q = 0; q < 4; q++) {
            v = step(&s);
            cpu->zmm[r * 8 + q] = (v >> 60) & 3 ? v : 0x4000000000000000ull + (v >> 14);
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        cpu->fpu_mantissa[i] = step(&s) | 1ull << 63;
        cpu->fpu_exponent[i] = (u16)(0x3ff0 + (step(&s) >> 59));
    }
    cpu->fcw = 0x37f;
    cpu->fsw = (u16)((s >> 40 & 7) << 11);
    cpu->ftw = (u8)(s >> 20);
    cpu->mxcsr = 0x1f80;
    cpu->regs[RSP] = FLAT_STACK;
    flags_put(cpu, (u32)(s >> 32) & FLAGS_ARITHMETIC);
}

static void prepare(struct field *f, struct flat *flat, bool code64, unsigned start)
{
    struct memory *memory = bus_memory(flat->bus);
    struct vcpu *cpu = flat->cpu;
    u64 s = f->seed * 0x9e3779b97f4a7c15ull | 1;
    memory_code_written(memory, flat->ram + FLAT_CODE, SEQUENCE_CODE);
    for (unsigned i = 0; i < SEQUENCE_CODE / 4096; i++) /* not held against the next program */
        atomic_store(&memory->code_pages[arena_page(memory, flat->ram + FLAT_CODE) + i].writes, 0);
    flat_reset(flat);
    map_data(flat->ram);
    if (!code64) enter32(cpu, flat->ram);
    memcpy(flat->ram + FLAT_CODE, f->code, SEQUENCE_CODE);
    for (unsigned i = 0; i < FIELD_DATA_PAGES * 512; i++) {
        step(&s);
        st64(flat->ram + FLAT_DATA + i * 8, i & 1 ? s : s >> 40);
    }
    memset(flat->ram + FLAT_STACK - STACK_SIZE, 0, 2 * STACK_SIZE);
    memset(flat->ram + COUNTERS, 0, 512);
    memset(flat->ram + FLAT_DATA - 4096, 0, 4096);
    memset(flat->ram + FLAT_DATA + FIELD_DATA_PAGES * 4096, 0, 4096);
    fill_registers(cpu, s, code64);
    cpu->rip = FLAT_CODE + start;
    cpu->cr4 |= CR4_OSXSAVE;
    cpu->xcr0 = 7;
    cpu->icount = 0;
    if (f->lay_out) f->lay_out(flat, f->seed, code64);
    cpu_restored(cpu);
    tlb_flush_all(cpu);
}

/* --- comparing --- */

static bool tell(struct field *f, const char *what, const char *format, ...) PRINTF(3, 4);
static bool tell(struct field *f, const char *what, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->detail, sizeof f->detail, format, args);
    va_end(args);
    f->what = what;
    return false;
}

static bool same_memory(struct field *f, const struct flat *b, u64 from, u64 size, const char *what)
{
    const u8 *x = f->reference->ram + from, *y = b->ram + from;
    if (!memcmp(x, y, size)) return true;
    u64 i = 0;
    while (x[i] == y[i]) i++;
    return tell(f, what, "at %llx: %02x, not %02x", (unsigned long long)(from + i), y[i], x[i]);
}

#define SAME(what, member)                                                                         \
    if (a->member != b->member)                                                                    \
    return tell(f, what, #member " %llx, not %llx", (unsigned long long)b->member, \
                (unsigned long long)a->member)

static bool same_registers(struct field *f, const struct vcpu *a, const struct vcpu *b)
{
    for (unsigned r = 0; r < 16; r++)
        if (a->regs[r] != b->regs[r])
            return tell(f, "registers", "r%u %llx, not %llx", r, (unsigned long long)b->regs[r],
                        (unsigned long long)a->regs[r]);
    SAME("rip", rip);
    SAME("icount", icount);
    SAME("cr2", cr2);
    if (cpu_eflags(a) != cpu_eflags(b))
        return tell(f, "flags", "%x, not %x", cpu_eflags(b), cpu_eflags(a));
    for (unsigned r = 0; r < 16; r++)
        for (unsigned q = 0; q < 4; q++)
            if (a->zmm[r * 8 + q] != b->zmm[r * 8 + q])
                return tell(f, "vectors", "ymm%u.%u %016llx, not %016llx", r, q,
                            (unsigned long long)b->zmm[r * 8 + q],
                            (unsigned long long)a->zmm[r * 8 + q]);
    SAME("mxcsr", mxcsr);
    SAME("x87", fcw);
    SAME("x87", ftw);
    SAME("x87", fsw);
    SAME("x87 pointers", fip);
    SAME("x87 pointers", fcs);
    SAME("x87 pointers", fdp);
    SAME("x87 pointers", fds);
    for (unsigned seg = ES; seg <= GS; seg++) {
        SAME("segments", seg[seg].selector);
        SAME("segments", seg[seg].base);
        SAME("segments", seg[seg].limit);
        SAME("segments", seg[seg].attr);
    }
    for (unsigned i = 0; i < 8; i++) {
        SAME("x87", fpu_mantissa[i]);
        SAME("x87", fpu_exponent[i]);
    }
    return true;
}

static bool run_and_compare(struct field *f, const struct sequence *s, unsigned n, i64 budget)
{
    struct flat *flat = f->flat[n];
    struct vcpu *a = f->reference->cpu, *b = flat->cpu;
    unsigned start = sequence_assemble(s, &f->place, f->turns, f->code);
    prepare(f, f->reference, s->code64, start);
    prepare(f, flat, s->code64, start);
    /* Not far enough from the limit for whole blocks: one instruction at a time. */
    enum cpu_exit x = CPU_EXIT_BUDGET, y;
    for (i64 left = budget; left > 0 && x == CPU_EXIT_BUDGET; left -= 50) {
        a->budget = left < 50 ? left : 50;
        x = cpu_run(a);
    }
    b->budget = budget;
    y = cpu_run(b);
    if (x != y) return tell(f, "exits", "%d, not %d", y, x);
    return same_registers(f, a, b) &&
           same_memory(f, flat, FLAT_DATA, FIELD_DATA_PAGES * 4096, "data") &&
           same_memory(f, flat, FLAT_CODE, SEQUENCE_CODE, "code") &&
           same_memory(f, flat, FLAT_STACK - STACK_SIZE, 2 * STACK_SIZE, "stack");
}

/* --- campaigns --- */

static bool still_fails(void *opaque, const struct sequence *s)
{
    struct field *f = opaque;
    return !run_and_compare(f, s, f->engine, f->budget);
}

static void show(struct field *f, struct sequence *s)
{
    fprintf(stderr, "# seed %llu, %s, %s code: %s: %s\n", (unsigned long long)f->seed,
            engines[f->engine].name,
            s->code64 ? "64-bit" : f->place.code16 ? "16-bit" : "32-bit", f->what, f->detail);
    sequence_shrink(s, still_fails, f);
    for (unsigned turns = 1; turns < f->turns; turns++) { /* the fewest turns that do */
        unsigned all = f->turns;
        f->turns = turns;
        if (still_fails(f, s)) break;
        f->turns = all;
    }
    still_fails(f, s);
    fprintf(stderr, "# the smallest that fails, %u turns, budget %lld: %s: %s\n", f->turns,
            (long long)f->budget, f->what, f->detail);
    sequence_print(s, &f->place, f->turns);
}

void field_tell(const struct field *f, u64 *seed, const char **engine)
{
    *seed = f->seed;
    *engine = engines[f->engine].name;
}

struct sequence_place *field_place(struct field *f) { return &f->place; }

unsigned campaign(struct field *f, u64 seed, unsigned programs, bool code64)
{
    struct sequence s;
    unsigned failures = 0, run = 0;
    for (u64 n = 0; n < programs && failures < 5; n++) {
        struct rng rng = {(seed + n) * 2 + code64};
        f->seed = seed + n;
        sequence_random(&s, &rng, &f->place, code64, 3 + rng_below(&rng, n & 1 ? 12 : 100));
        f->budget = rng_below(&rng, 4) ? 20000 : 1 + rng_below(&rng, 900);
        f->turns = 1 + rng_below(&rng, 12);
        for (unsigned engine = 0; engine < ENGINES; engine++) {
            /* the rarer ones now and then */
            if (!f->flat[engine] || (engine >= 3 && (n + engine) % 4)) continue;
            struct sequence copy = s;
            unsigned turns = f->turns;
            f->engine = engine;
            run++;
            if (run_and_compare(f, &s, engine, f->budget)) continue;
            failures++;
            show(f, &copy);
            f->turns = turns;
        }
    }
    fprintf(stderr, "# %u runs of %u programs, %u differ\n", run, programs, failures);
    return failures;
}
