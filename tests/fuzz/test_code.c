/*
 * Random programs and random bytes as guest code, with the host's processor as judge: each runs on
 * the host in a child of its own and on every engine as user code over the same pages, to the
 * exception that ends it; registers, defined flags, vectors, x87, memory and the exception must
 * agree. A failing one is made smaller before it is shown.
 *
 * Arguments: a seed (only that program), a number of programs. LENGTH=long runs many more.
 * Left out: what processors differ in or is the host's own business (see `foreign`).
 */
#include "tests/insn/flat.h"
#include "tests/insn/host.h"
#include "tests/insn/sequence.h"

#include "cpu/doubt.h"
#include "jit/jit.h"

#include <stdarg.h>
#include <stdio.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define STEPS 3000
#define KERNEL (HOST_STACK + 0x20000)  /* tables; its stack behind them; handlers */
#define KERNEL_STACK (KERNEL + 0x3000) /* top */
#define HANDLERS (KERNEL + 0x3000)
#define KERNEL_SIZE 0x4000u
#define IDT 0u
#define GDT 0x800u
#define TSS 0x900u
#define RAM MIB(1)

static const struct engine {
    const char *name;
    const struct jit_options *options;
} engines[] = {
    {"interpreter", NULL},
    {"tier 1", &(const struct jit_options){.threshold = 1, .no_loops = true}},
    {"tier 2", &(const struct jit_options){.threshold = 1, .hot = 2, .no_background = true}},
};
#define ENGINES ARRAY_SIZE(engines)

/* Where the program's pages are in the guest's memory. */
static const struct { u64 linear; u32 physical, size; } areas[] = {
    {HOST_CODE, 0x10000, HOST_CODE_SIZE}, {HOST_DATA, 0x20000, HOST_DATA_SIZE},
    {HOST_STACK, 0x30000, HOST_STACK_SIZE}, {HOST_COUNTERS, 0x38000, 4096},
    {KERNEL, 0x40000, KERNEL_SIZE}};
enum { CODE, DATA, STACK, COUNTERS, KERNEL_AREA };

struct guest {
    struct bus *bus;
    struct region region;
    u8 *ram;
    struct vcpu *cpu;
    struct jit *jit;
};

struct field {
    struct guest guest[ENGINES]; /* cpu NULL: not here */
    struct host_case *host;
    struct host_case in;         /* the program, as it begins */
    struct sequence_place place;
    struct feature_set features;
    u64 seed;
    unsigned engine;
    struct doubt doubt;
    u16 last_op;                 /* that the first engine ran */
    char what[256];
    unsigned judged, left_out;
};

/* --- the guests --- */

static void host_features(struct feature_set *set)
{
#if defined(__x86_64__)
    static const struct { u8 id; u32 leaf, subleaf; char reg[4]; u8 bit; } known[] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit) {FEATURE_##id, leaf, subleaf, #reg, bit},
#include "cpu/features.def"
#undef FEATURE
    };
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        unsigned r[4] = {0};
        if (!__get_cpuid_count(known[i].leaf, known[i].subleaf, &r[0], &r[1], &r[2], &r[3]))
            continue;
        if (r[known[i].reg[1] - 'A'] >> known[i].bit & 1)
            set->bits[known[i].id >> 6] |= 1ull << (known[i].id & 63);
    }
#else
    (void)set;
#endif
}

static void map_pages(u8 *ram)
{
    st64(ram + 0x1000, 0x2000 | 7);
    st64(ram + 0x2000, 0x3000 | 7);
    st64(ram + 0x3000 + (HOST_CODE >> 21 & 511) * 8, 0x4000 | 7);
    for (unsigned a = 0; a < ARRAY_SIZE(areas); a++)
        for (u32 at = 0; at < areas[a].size; at += 4096)
            st64(ram + 0x4000 + ((areas[a].linear + at) >> 12 & 511) * 8,
                 (areas[a].physical + at) | 0x67);
    st64(ram + 0x4000 + ((HOST_DATA >> 12 & 511) + HOST_ABSENT) * 8, 0);
    ram[0x4000 + ((HOST_DATA >> 12 & 511) + HOST_READ_ONLY) * 8] &= (u8)~2;
}

static void kernel_write(u8 *kernel)
{
    for (u64 i = 0; i < 32; i++) {
        u64 to = HANDLERS + 16 * i;
        st64(kernel + IDT + i * 16,
             (to & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | (to >> 16 & 0xffff) << 48);
        st64(kernel + IDT + i * 16 + 8, to >> 32);
        kernel[to - KERNEL] = 0xf4;
    }
    st64(kernel + GDT + 8, 0x00af9b000000ffffull);
    st64(kernel + TSS + 4, KERNEL_STACK);
    st16(kernel + TSS + 0x66, 0xffff);
}

static bool guest_open(struct guest *g, const struct engine *engine,
                       const struct feature_set *features)
{
    struct error error;
    g->bus = bus_new(RAM, 0, NULL, &error);
    if (!g->bus) return false;
    g->ram = bus_alloc_memory(g->bus, RAM, "ram");
    region_init_memory(&g->region, g->ram, RAM, false, "ram");
    bus_map(g->bus, BUS_MEMORY, &g->region, 0, LAYER_RAM);
    map_pages(g->ram);
    g->cpu = cpu_new(0, g->bus, NULL);
    if (!g->cpu || !cpu_set_model(g->cpu, "max", &error)) return false;
    g->cpu->features = *features;
    if (!engine->options) return true;
    g->jit = jit_new(engine->options, NULL, &error);
    if (g->jit && jit_attach(g->cpu, g->jit, &error)) return true;
    printf("# no %s in this build or on this host\n", engine->name);
    return false;
}

static u8 *area(struct guest *g, unsigned n) { return g->ram + areas[n].physical; }

static void user_mode(struct vcpu *cpu)
{
    cpu_reset(cpu);
    cpu->cr3 = 0x1000;
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    cpu->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    cpu->xcr0 = 7;
    cpu->idt_base = KERNEL + IDT, cpu->idt_limit = 0x1ff;
    cpu->gdt_base = KERNEL + GDT, cpu->gdt_limit = 0xf;
    for (unsigned i = 0; i < 6; i++)
        flat_segment(cpu, i, 0x2b, SEG_P | SEG_S | SEG_DPL | 3 | SEG_G | SEG_DB);
    flat_segment(cpu, CS, 0x33, SEG_P | SEG_S | SEG_DPL | SEG_CODE | 3 | SEG_G | SEG_L);
    cpu->seg[TR] = (struct segment){.base = KERNEL + TSS, .limit = 0x67, .attr = SEG_P | 11,
                                    .selector = 0x10};
    cpu->cpl = 3;
    cpu->activity = CPU_RUNNING;
}

static void load(struct guest *g, const struct host_case *c)
{
    struct vcpu *cpu = g->cpu;
    const struct native_state *s = &c->state;
    struct memory *memory = bus_memory(g->bus);
    memory_code_written(memory, g->ram, RAM);
    for (u32 at = 0; at < RAM; at += 4096)
        atomic_store(&memory->code_pages[arena_page(memory, g->ram + at)].writes, 0);
    memcpy(area(g, CODE), c->code, sizeof c->code);
    memcpy(area(g, DATA), c->data, sizeof c->data);
    memcpy(area(g, STACK), c->stack, sizeof c->stack);
    memcpy(area(g, COUNTERS), c->counters, sizeof c->counters);
    memset(area(g, KERNEL_AREA), 0, KERNEL_SIZE);
    kernel_write(area(g, KERNEL_AREA));
    user_mode(cpu);
    memcpy(cpu->regs, s->gpr, sizeof s->gpr);
    cpu->rip = s->rip;
    cpu->eflags = FLAG_IF | (s->flags & FLAG_DF);
    flags_put(cpu, s->flags & FLAGS_ARITHMETIC);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned q = 0; q < 2; q++) {
            cpu->zmm[i * 8 + q] = ld64(s->xmm[i] + q * 8);
            cpu->zmm[i * 8 + q + 2] = ld64(s->ymm[i] + q * 8);
        }
    cpu->mxcsr = s->mxcsr;
    cpu->fcw = s->fcw, cpu->fsw = s->fsw, cpu->ftw = s->ftw;
    for (unsigned i = 0; i < 8; i++) {
        unsigned r = ((s->fsw >> 11) + i) & 7;
        cpu->fpu_mantissa[r] = ld64(s->st[i]);
        cpu->fpu_exponent[r] = ld16(s->st[i] + 8);
    }
    cpu->icount = 0;
    cpu_restored(cpu);
    tlb_flush_all(cpu);
}

/* The state at the exception whose handler was reached. False: it was not one. */
static bool unload(struct guest *g, struct native_state *s, struct native_fault *fault)
{
    struct vcpu *cpu = g->cpu;
    if (cpu->activity != CPU_HALTED || cpu->rip - HANDLERS >= 32 * 16) return false;
    unsigned vector = (unsigned)(cpu->rip - HANDLERS) / 16;
    bool has_error = (vector >= 10 && vector <= 14) || vector == 8 || vector == 17;
    const u8 *frame = area(g, KERNEL_AREA) + (cpu->regs[RSP] - KERNEL);
    *fault = (struct native_fault){
        .vector = (int)vector, .error = has_error ? ld32(frame) : 0, .address = cpu->cr2};
    if (has_error) frame += 8;
    memset(s, 0, sizeof *s);
    memcpy(s->gpr, cpu->regs, sizeof s->gpr);
    s->rip = ld64(frame);
    s->flags = (u32)ld64(frame + 16) & NATIVE_FLAGS;
    s->gpr[RSP] = ld64(frame + 24);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned q = 0; q < 2; q++) {
            st64(s->xmm[i] + q * 8, cpu->zmm[i * 8 + q]);
            st64(s->ymm[i] + q * 8, cpu->zmm[i * 8 + q + 2]);
        }
    s->mxcsr = cpu->mxcsr;
    s->fcw = cpu->fcw, s->fsw = cpu->fsw, s->ftw = cpu->ftw;
    for (unsigned i = 0; i < 8; i++) {
        unsigned r = ((cpu->fsw >> 11) + i) & 7;
        st64(s->st[i], cpu->fpu_mantissa[r]);
        st16(s->st[i] + 8, cpu->fpu_exponent[r]);
    }
    return true;
}

/* --- what is not for the host to judge --- */

// clang-format off
static const u16 foreign_ops[] = {
    OP_SYSCALL, OP_SYSENTER, OP_INT, OP_INT3, OP_INT1, OP_IRET, OP_CALL_FAR, OP_JMP_FAR, OP_RET_FAR,
    OP_UD, OP_GP0, OP_SGDT, OP_SIDT, OP_SLDT, OP_STR, OP_SMSW, OP_LAR, OP_LSL, OP_VERR, OP_VERW,
    OP_MOV_SEG, OP_PUSH_SEG, OP_POP_SEG, OP_LFS, OP_LGS, OP_LSS, OP_CPUID, OP_RDTSC, OP_RDTSCP,
    OP_RDPMC, OP_RDPID, OP_XGETBV, OP_RDRAND, OP_RDSEED, OP_RDFSBASE, OP_RDGSBASE, OP_WRFSBASE,
    OP_WRGSBASE, OP_FXSAVE, OP_FXRSTOR, OP_XSAVE, OP_XRSTOR, OP_XSAVEOPT, OP_XSAVEC, OP_FNSTENV,
    OP_FNSAVE, OP_FLDENV, OP_FRSTOR, OP_LDMXCSR, OP_F2XM1, OP_FYL2X, OP_FYL2XP1, OP_FPTAN,
    OP_FPATAN, OP_FSIN, OP_FCOS, OP_FSINCOS, OP_MONITOR, OP_MWAIT, OP_STAC, OP_CLAC, OP_SYSRET,
    OP_SYSEXIT, OP_RSM, OP_VMCALL, OP_VMMCALL, OP_MASKMOVQ,
    OP_MASKMOVDQU /* may fault for bytes that are not written */};
// clang-format on

/* Its outcome, or the host's, is not the manual's alone. */
static bool foreign(const struct vcpu *cpu, const struct insn *i)
{
    for (unsigned n = 0; n < ARRAY_SIZE(foreign_ops); n++)
        if (i->op == foreign_ops[n]) return true;
    /* how far one that faults got */
    if (i->op >= OP_VGATHERDPS && i->op <= OP_VPGATHERQQ) return true;
    if ((i->op == OP_SHLD || i->op == OP_SHRD) && i->size == 2) return true; /* counts over 16 */
    /* With F2 or F3 AMD's take the one for the other; no manual says so. */
    if ((i->op == OP_LOOPE || i->op == OP_LOOPNE) && i->length > 2) return true;
    if (i->op == OP_POPF) { /* nothing but arithmetic flags */
        const u64 sp = cpu->regs[RSP] - HOST_STACK;
        if (sp >= HOST_STACK_SIZE - 8) return true;
        return ld64(cpu->memory->arena + areas[STACK].physical + sp) & ~(u64)FLAGS_ARITHMETIC;
    }
    for (unsigned n = 0; n < 4; n++)
        if (i->operand[n].kind == OPERAND_MEMORY && i->seg >= FS) return true; /* the host's thread pointer */
    return false;
}

/* The bytes at rip, as far as they are on the program's pages. */
static unsigned fetch(struct guest *g, u8 *bytes)
{
    for (unsigned n = 0; n < 4; n++) {
        u64 at = g->cpu->rip - areas[n].linear;
        if (at >= areas[n].size) continue;
        unsigned count = areas[n].size - at < 15 ? (unsigned)(areas[n].size - at) : 15;
        memcpy(bytes, area(g, n) + at, count);
        return count;
    }
    return 0;
}

/* Runs it on the first engine, an instruction at a time. False: not for the host. */
static bool screen(struct field *f)
{
    struct guest *g = &f->guest[0];
    struct vcpu *cpu = g->cpu;
    f->doubt = (struct doubt){0};
    load(g, &f->in);
    for (unsigned n = 0; n < STEPS; n++) {
        u8 bytes[15];
        struct insn insn;
        struct doubt before = f->doubt;
        unsigned count = cpu->cpl == 3 ? fetch(g, bytes) : 0;
        if (cpu->cpl == 3 && count) {
            enum decode_status status = decode_insn(&insn, bytes, count, CODE64, cpu->rip & 0xfff,
                                                    &f->features);
            /* the host may have more */
            if (status == DECODE_UNDEFINED || status == DECODE_TOO_LONG) return false;
            if (status == DECODE_OK) {
                if (foreign(cpu, &insn)) return false;
                doubt_insn(&f->doubt, &insn);
                f->last_op = insn.op;
                if (f->doubt.used) return false;
            }
        }
        cpu->budget = 1;
        enum cpu_exit exit = cpu_run(cpu);
        if (cpu->cpl != 3) f->doubt = before; /* it did not complete */
        if (exit == CPU_EXIT_IDLE) return true;
        if (exit != CPU_EXIT_BUDGET) return false;
    }
    return false;
}

/* --- judging --- */

static bool differ(struct field *f, const char *format, ...) PRINTF(2, 3);
static bool differ(struct field *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->what, sizeof f->what, format, args);
    va_end(args);
    return false;
}

static bool same_fault(const struct native_fault *h, const struct native_fault *o)
{
    u32 compared = h->address >> 63 ? ~1u : ~0u; /* the host's kernel is there, but not for the
                                                    program */
    if (h->vector != o->vector) return false;
    return h->vector != VECTOR_PF ||
           (!((h->error ^ o->error) & compared) && h->address >> 12 == o->address >> 12);
}

static bool same_state(struct field *f, const struct native_state *h, const struct native_state *o)
{
    for (unsigned r = 0; r < 16; r++)
        if (h->gpr[r] != o->gpr[r])
            return differ(f, "r%u: host %llx, ours %llx", r, (unsigned long long)h->gpr[r],
                          (unsigned long long)o->gpr[r]);
    if (h->rip != o->rip)
        return differ(f, "rip: host %llx, ours %llx", (unsigned long long)h->rip,
                      (unsigned long long)o->rip);
    if ((h->flags ^ o->flags) & ~f->doubt.undefined)
        return differ(f, "flags: host %x, ours %x", h->flags, o->flags);
    for (unsigned r = 0; r < 16; r++)
        if (memcmp(h->xmm[r], o->xmm[r], 16) || memcmp(h->ymm[r], o->ymm[r], 16))
            return differ(f, "ymm%u: host %016llx %016llx, ours %016llx %016llx (low half)", r,
                          (unsigned long long)ld64(h->xmm[r] + 8),
                          (unsigned long long)ld64(h->xmm[r]),
                          (unsigned long long)ld64(o->xmm[r] + 8),
                          (unsigned long long)ld64(o->xmm[r]));
    if (h->mxcsr != o->mxcsr) return differ(f, "mxcsr: host %x, ours %x", h->mxcsr, o->mxcsr);
    if (h->fcw != o->fcw || h->fsw != o->fsw || h->ftw != o->ftw)
        return differ(f, "x87: host fcw %x fsw %x ftw %x, ours %x %x %x", h->fcw, h->fsw, h->ftw,
                      o->fcw, o->fsw, o->ftw);
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(h->st[i], o->st[i], 10)) return differ(f, "st%u", i);
    return true;
}

static bool same_bytes(struct field *f, const char *what, const u8 *h, const u8 *o, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (h[i] != o[i]) return differ(f, "%s +%zx: host %02x, ours %02x", what, i, h[i], o[i]);
    return true;
}

static bool judge(struct field *f, unsigned n)
{
    struct guest *g = &f->guest[n];
    struct native_state ours;
    struct native_fault fault;
    load(g, &f->in);
    g->cpu->budget = INT64_MAX;
    g->cpu->budget = STEPS * 4;
    if (cpu_run(g->cpu) != CPU_EXIT_IDLE || !unload(g, &ours, &fault))
        return differ(f, "ours did not end in an exception");
    if (!same_fault(&f->host->fault, &fault))
        return differ(f, "exception: host %d(%x) %llx, ours %d(%x) %llx", f->host->fault.vector,
                      f->host->fault.error, (unsigned long long)f->host->fault.address,
                      fault.vector, fault.error, (unsigned long long)fault.address);
    return same_state(f, &f->host->state, &ours) &&
           same_bytes(f, "data", f->host->data, area(g, DATA), HOST_DATA_SIZE) &&
           same_bytes(f, "stack", f->host->stack, area(g, STACK), HOST_STACK_SIZE) &&
           same_bytes(f, "code", f->host->code, area(g, CODE), HOST_CODE_SIZE);
}

/* A branch to a non-canonical address: some processors fault at the branch, some at its target. */
static bool fetched_nowhere(const struct field *f)
{
    return f->host->fault.vector == VECTOR_GP && !cpu_is_canonical(f->host->state.rip);
}

/* The host's outcome into f->host. False: not for the host. */
static bool ask_host(struct field *f)
{
    struct native_state state;
    struct native_fault fault;
    if (!screen(f) || !unload(&f->guest[0], &state, &fault)) return false;
    /* A branch to a non-canonical address: some fault there, some first push what returns. */
    bool branch = f->last_op == OP_CALL_INDIRECT || f->last_op == OP_JMP_INDIRECT ||
                  f->last_op == OP_RET;
    if (branch && fault.vector == VECTOR_GP) return false;
    if (f->last_op == OP_CMPS) return false; /* which operand faults first */
    *f->host = f->in;
    host_run(f->host);
    /* Where the child has memory of its own no fault comes. */
    bool elsewhere = fault.vector == VECTOR_PF && fault.address >> 21 != HOST_CODE >> 21;
    if (elsewhere && !same_fault(&f->host->fault, &fault)) return false;
    return f->host->end == HOST_EXCEPTION && !fetched_nowhere(f);
}

/* --- programs --- */

static void begin(struct field *f, struct rng *rng)
{
    struct native_state *s = &f->in.state;
    memset(&f->in, 0, sizeof f->in);
    for (unsigned i = 0; i < HOST_DATA_SIZE; i += 8)
        if (i >> 12 != HOST_ABSENT)
            st64(f->in.data + i, rng_next(rng) >> (rng_below(rng, 4) ? 0 : 40));
    for (unsigned r = 0; r < 16; r++) {
        s->gpr[r] = rng_below(rng, 2) ? HOST_DATA + rng_below(rng, 4 * 4096)
                                      : rng_next(rng) >> rng_below(rng, 64);
        for (unsigned q = 0; q < 16; q += 8) {
            st64(s->xmm[r] + q,
                 rng_below(rng, 2) ? rng_next(rng) : 0x3ff0000000000000ull + (rng_next(rng) >> 16));
            st64(s->ymm[r] + q, rng_next(rng));
        }
    }
    s->gpr[RSP] = HOST_STACK + HOST_STACK_SIZE / 2;
    s->flags = (u32)rng_next(rng) & FLAGS_ARITHMETIC;
    s->fcw = 0x37f;
    s->mxcsr = 0x1f80;
    for (unsigned i = 0; i < 8; i++) {
        st64(s->st[i], rng_next(rng) | 1ull << 63);
        st16(s->st[i] + 8, (u16)(0x3ff0 + rng_below(rng, 32)));
    }
    s->ftw = 0xff;
}

/* Bytes as they come: whole random encodings, or nothing but chance. */
static void random_bytes(struct sequence *s, struct rng *rng, unsigned count)
{
    *s = (struct sequence){.code64 = true,
                           .start = (u16)(rng_below(rng, 4) ? 0 : 4096 - rng_below(rng, 60))};
    while (s->count < count) {
        struct piece *p = &s->piece[s->count++];
        struct encoded code;
        unsigned length = 1 + rng_below(rng, 8);
        encode_random(rng, &encodings[rng_below(rng, encodings_count)], &code);
        if (rng_below(rng, 3)) length = code.length < 15 ? code.length : 15;
        else for (unsigned i = 0; i < length; i++) code.bytes[i] = (u8)rng_next(rng);
        *p = (struct piece){.kind = PIECE_PLAIN, .length = (u8)length};
        memcpy(p->bytes, code.bytes, length);
    }
}

static bool agrees(struct field *f, const struct sequence *s, unsigned engine)
{
    struct rng rng = {f->seed};
    begin(f, &rng);
    f->in.state.rip = HOST_CODE + sequence_assemble(s, &f->place, 4, f->in.code);
    return !ask_host(f) || judge(f, engine);
}

static bool still_fails(void *opaque, const struct sequence *s)
{
    struct field *f = opaque;
    return !agrees(f, s, f->engine);
}

static void show(struct field *f, const struct sequence *failed)
{
    struct sequence s = *failed;
    printf("# seed %llu, %s: %s\n", (unsigned long long)f->seed, engines[f->engine].name, f->what);
    sequence_shrink(&s, still_fails, f);
    still_fails(f, &s);
    printf("# the smallest that fails: %s\n", f->what);
    fflush(stdout);
    sequence_print(&s, &f->place, 4);
}

static unsigned one(struct field *f, u64 seed)
{
    struct sequence s;
    struct rng rng = {seed * 2 + 1};
    unsigned failures = 0;
    bool asked = false;
    f->seed = seed;
    if (seed & 1) sequence_random(&s, &rng, &f->place, true, 3 + rng_below(&rng, 60));
    else random_bytes(&s, &rng, 1 + rng_below(&rng, 12));
    for (unsigned n = 0; n < ENGINES; n++) {
        if (!f->guest[n].cpu) continue;
        struct rng again = {seed};
        if (!asked) {
            begin(f, &again);
            f->in.state.rip = HOST_CODE + sequence_assemble(&s, &f->place, 4, f->in.code);
            if (!ask_host(f)) {
                f->left_out++;
                return 0;
            }
            f->judged++;
            asked = true;
        }
        f->engine = n;
        if (judge(f, n)) continue;
        failures++;
        show(f, &s);
        asked = false; /* the last that was made smaller is in the way */
    }
    return failures;
}

int main(int argc, char **argv)
{
    static struct field f;
    const char *length = getenv("LENGTH");
    u64 seed = 1, programs = length && strcmp(length, "quick") ? 100000 : 1200;
    unsigned failures = 0;
    if (argc > 1) seed = strtoull(argv[1], NULL, 0), programs = 1;
    if (argc > 2) programs = strtoull(argv[2], NULL, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!(f.host = host_open())) {
        printf("1..0 # SKIP programs can't be run on this host's processor\n");
        return 0;
    }
    host_features(&f.features);
    f.place = (struct sequence_place){.code = HOST_CODE, .data = HOST_DATA,
                                      .data_size = HOST_DATA_SIZE,
                                      .counters = HOST_COUNTERS, .features = &f.features};
    for (unsigned n = 0; n < ENGINES; n++)
        if (!guest_open(&f.guest[n], &engines[n], &f.features)) f.guest[n].cpu = NULL;
    printf("1..1\n");
    for (u64 n = 0; n < programs && failures < 6; n++) failures += one(&f, seed + n);
    printf("# %u programs judged by the host, %u left out\n", f.judged, f.left_out);
    printf("%sok 1 - random code agrees with the host's processor\n", failures ? "not " : "");
    return failures != 0;
}
