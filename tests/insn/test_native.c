/*
 * The semantics against the host's own processor: every row of insns.def that a user program may
 * run in 64-bit mode, random encodings, corner-value states, memory operands on real pages of a
 * paged address space (also across pages, read-only, absent and non-canonical). Compared:
 * registers, defined flags, vector and x87 state, memory, faults. Each is run by every engine: the
 * semantics functions, the interpreter's handlers, the translator's tiers. Then validity and length
 * of random bytes.
 *
 * LENGTH=long runs 50 times as many. Arguments: an operation's name (only that; empty: all), a
 * count of rounds, a seed.
 * Flags that are undefined are compared too, but only told, not failed.
 */
#include "cpu/interp.h"
#include "machine/bus_host.h"
#include "machine/error.h"
#include "tests/insn/encode.h"
#include "tests/insn/native.h"
#include "tests/insn/native_tier.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>

#define POS 0x100 /* of the instruction in its page */
#define RAM_SIZE MIB(1)
#define GP_OR_SS 100 /* vector of a non-canonical address: who delivers it looks at the segment */
#define VALIDITY_SHOWN 40
#define FSW_C1 0x200
#define SHOWN 3 /* failures an operation */

/* The engines: a line each. Without options: the interpreter's. */
static const struct engine {
    const char *name;
    bool handler;
    const struct jit_options *options;
} engines[] = {
    {"sem", false, NULL},
    {"handler", true, NULL},
    {"tier 1", false, &(const struct jit_options){.threshold = 1, .no_loops = true}},
    {"tier 2", false, &(const struct jit_options){.threshold = 1, .hot = 1}},
};
#define ENGINES ARRAY_SIZE(engines)

struct bench {
    struct vcpu *cpu;
    struct tier tiers[ENGINES];
    bool absent[ENGINES];        /* no translator here */
    u8 before[NATIVE_DATA_SIZE]; /* data in front of the instruction */
    struct bus *bus;
    struct log log;
    struct region region;
    u8 *ram, *guest_data;
    struct feature_set features; /* the host's, as far as we know them */
    struct rng rng;
    unsigned failures[OP_COUNT], runs[OP_COUNT], undefined[OP_COUNT];
    u32 undefined_flags[OP_COUNT];
};

/* --- what is left out, and why --- */
// clang-format off
static const struct { u16 op; const char *why; } excluded[] = {
    {OP_SYSCALL, "leaves"}, {OP_SYSENTER, "leaves"}, {OP_INT, "leaves"}, {OP_INT3, "leaves"},
    {OP_INT1, "leaves"}, {OP_IRET, "leaves"}, {OP_CALL_FAR, "leaves"}, {OP_JMP_FAR, "leaves"},
    {OP_RET_FAR, "leaves"}, {OP_RSM, "leaves"}, {OP_UD, "validity's"},
    {OP_PUSHF, "shows the harness's TF"}, {OP_POPF, "takes the harness's TF"},
    {OP_SGDT, "UMIP"}, {OP_SIDT, "UMIP"}, {OP_SLDT, "UMIP"}, {OP_STR, "UMIP"}, {OP_SMSW, "UMIP"},
    {OP_LAR, "the host's descriptors"}, {OP_LSL, "the host's descriptors"},
    {OP_VERR, "the host's descriptors"}, {OP_VERW, "the host's descriptors"},
    {OP_MOV_SEG, "the host's selectors"}, {OP_PUSH_SEG, "the host's selectors"},
    {OP_POP_SEG, "the host's selectors"}, {OP_LFS, "the host's selectors"},
    {OP_LGS, "the host's selectors"}, {OP_LSS, "the host's selectors"},
    {OP_CPUID, "the host's answers"}, {OP_RDTSC, "the host's answers"},
    {OP_RDTSCP, "the host's answers"}, {OP_RDPMC, "the host's answers"},
    {OP_RDPID, "the host's answers"}, {OP_XGETBV, "the host's answers"},
    {OP_VMCALL, "the host's answers"}, {OP_VMMCALL, "the host's answers"},
    {OP_RDRAND, "random"}, {OP_RDSEED, "random"}, {OP_MONITOR, "CPL 0"}, {OP_MWAIT, "CPL 0"},
    {OP_CLAC, "CPL 0"}, {OP_STAC, "CPL 0"},
    {OP_RDFSBASE, "thread pointer"}, {OP_RDGSBASE, "thread pointer"},
    {OP_WRFSBASE, "thread pointer"}, {OP_WRGSBASE, "thread pointer"},
    {OP_FXSAVE, "saves the harness's x87 pointers"}, {OP_FXRSTOR, "image"},
    {OP_XSAVE, "image"}, {OP_XRSTOR, "image"}, {OP_XSAVEOPT, "image"}, {OP_XSAVEC, "image"},
    {OP_XSAVES, "CPL 0"}, {OP_XRSTORS, "CPL 0"},
    {OP_FNSTENV, "saves the harness's x87 pointers"},
    {OP_FNSAVE, "saves the harness's x87 pointers"},
};
// clang-format on
/* Results are approximations that differ between makers: relative error is what the manual
 * promises. */
static bool is_approximate(unsigned op)
{
    return op == OP_RCPPS || op == OP_RCPSS || op == OP_RSQRTPS || op == OP_RSQRTSS;
}

static const char *why_excluded(const struct encoding *e)
{
    const struct insn_row *row = insn_row(e->row);
    for (unsigned i = 0; i < ARRAY_SIZE(excluded); i++)
        if (excluded[i].op == row->op) return excluded[i].why;
    if (row->attributes & ATTR_CPL0) return "CPL 0";
    return NULL;
}

/* --- the two processors --- */
static void host_features(struct feature_set *set)
{
    static const struct {
        u8 id;
        u32 leaf, subleaf;
        char reg[4];
        u8 bit;
    } known[] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit) {FEATURE_##id, leaf, subleaf, #reg, bit},
#include "cpu/features.def"
#undef FEATURE
    };
    *set = (struct feature_set){{0, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        unsigned r[4] = {0};
        if (!__get_cpuid_count(known[i].leaf, known[i].subleaf, &r[0], &r[1], &r[2], &r[3]))
            continue;
        if (r[known[i].reg[1] - 'A'] >> known[i].bit & 1)
            set->bits[known[i].id >> 6] |= 1ull << (known[i].id & 63);
    }
}

/* Guest physical addresses. All that is mapped lies in one page table's 2 MiB. */
enum {
    PML4 = 0x1000,
    PDPT = 0x2000,
    PD = 0x3000,
    PT = 0x4000,
    GUEST_CODE = 0x10000,
    GUEST_DATA = 0x20000,
    GUEST_KERNEL = 0x30000
};

static void map_page(struct bench *b, u64 linear, u64 physical, bool writable)
{
    st64(b->ram + PML4, PDPT | 7);
    st64(b->ram + PDPT, PD | 7);
    st64(b->ram + PD + (linear >> 21 & 511) * 8, PT | 7);
    st64(b->ram + PT + (linear >> 12 & 511) * 8, physical | 0x65 | (writable ? 2 : 0));
}

static bool bench_open(struct bench *b)
{
    struct error error;
    memset(b, 0, sizeof(*b));
    b->rng.state = 1;
    b->bus = bus_new(RAM_SIZE, MIB(1), &b->log, &error);
    if (!b->bus) return false;
    b->ram = bus_alloc_memory(b->bus, RAM_SIZE, "ram");
    region_init_memory(&b->region, b->ram, RAM_SIZE, false, "ram");
    bus_map(b->bus, BUS_MEMORY, &b->region, 0, LAYER_RAM);
    b->guest_data = b->ram + GUEST_DATA;
    map_page(b, NATIVE_CODE, GUEST_CODE, false);
    for (unsigned i = 0; i < NATIVE_RW_PAGES; i++)
        map_page(b, NATIVE_DATA + i * 4096, GUEST_DATA + i * 4096, true);
    map_page(b, NATIVE_RO, GUEST_DATA + NATIVE_RW_PAGES * 4096, false);

    for (unsigned i = 0; i < TIER_KERNEL_PAGES; i++)
        map_page(b, TIER_KERNEL + i * 4096, GUEST_KERNEL + i * 4096, true);

    struct vcpu *cpu = b->cpu = cpu_new(0, b->bus, &b->log);
    host_features(&b->features);
    cpu->features = b->features;
    cpu->physical_mask = (1ull << 40) - 1;
    cpu->cpl = 3;
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    cpu->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    cpu->cr3 = PML4;
    cpu->xcr0 = 7;
    for (unsigned i = 0; i < 6; i++)
        cpu->seg[i] = (struct segment){
            .limit = ~0u, .attr = SEG_P | SEG_S | SEG_DPL | 3 | SEG_G | SEG_DB, .selector = 0x2b};
    cpu->seg[CS].attr = SEG_P | SEG_S | SEG_DPL | SEG_CODE | 3 | SEG_G | SEG_L;
    cpu_restored(cpu);
    cpu->activity = CPU_RUNNING;
    return cpu->code_size == CODE64;
}

/* When the host's features are all known. */
static void open_tiers(struct bench *b)
{
    for (unsigned i = 0; i < ENGINES; i++) {
        if (!engines[i].options) continue;
        b->absent[i] = !tier_open(&b->tiers[i], b->cpu, engines[i].options, b->ram + GUEST_CODE,
                                  b->ram + GUEST_KERNEL);
        if (b->absent[i]) printf("# no %s in this build or on this host\n", engines[i].name);
    }
}

static void fill_data(struct bench *b)
{
    for (unsigned i = 0; i < NATIVE_DATA_SIZE; i += 8) {
        u64 r = rng_next(&b->rng);
        switch (r & 7) {
        case 0: r = 0; break;
        case 1: r = ~0ull; break;
        case 2: r = 0x3ff0000000000000ull | (r & 0x8000000000000000ull); break;
        case 3: r = 0x7fc000007f800000ull; break;
        default: break;
        }
        st64(b->guest_data + i, r);
    }
    memcpy((void *)NATIVE_DATA, b->guest_data, NATIVE_DATA_SIZE);
    native_data_ready(); /* read-only from now on */
}

/* --- states --- */
static u64 corner(struct rng *rng)
{
    static const u64 corners[] = {0,
                                  1,
                                  2,
                                  ~0ull,
                                  0x7f,
                                  0x80,
                                  0xff,
                                  0x7fff,
                                  0x8000,
                                  0xffff,
                                  0x7fffffff,
                                  0x80000000,
                                  0xffffffff,
                                  0x7fffffffffffffff,
                                  0x8000000000000000,
                                  0x100,
                                  0x10000,
                                  0x100000000,
                                  0x5555555555555555};
    u64 r = rng_next(rng);
    switch (r >> 60) {
    case 0:
    case 1:
    case 2:
    case 3: return corners[(r >> 8) % ARRAY_SIZE(corners)];
    case 4:
    case 5: return r & 63;
    case 6: return (u64)(-(i64)(r & 63));
    case 7: return (u64)(i64)(i32)r;
    case 8: return (u32)r;
    default: return rng_next(rng);
    }
}

static u32 corner_float(struct rng *rng)
{
    static const u32 corners[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
                                  0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xff812345,
                                  0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000,
                                  0xcf000000, 0x5f000000, 0x3f000000, 0x40200000, 0x4effffff,
                                  0x33000000, 0x477fe000};
    u64 r = rng_next(rng);
    if (r >> 62 == 0) return (u32)r;
    if (r >> 62 == 1) return corners[(u32)r % ARRAY_SIZE(corners)];
    return ((u32)r & 0x807fffff) | (127 + (r >> 32) % 9 - 4) << 23;
}
static u64 corner_double(struct rng *rng)
{
    static const u64 corners[] = {0,
                                  1ull << 63,
                                  0x3ff0000000000000,
                                  0xbff0000000000000,
                                  0x7ff0000000000000,
                                  0xfff0000000000000,
                                  0x7ff8000000000000,
                                  0x7ff0000000000001,
                                  1,
                                  0x800fffffffffffff,
                                  0x0010000000000000,
                                  0x7fefffffffffffff,
                                  0x41dfffffffc00000,
                                  0xc1e0000000000000,
                                  0x43e0000000000000,
                                  0xc3e0000000000000,
                                  0x3fe0000000000000,
                                  0x47efffffe0000000,
                                  0x3810000000000000,
                                  0x36a0000000000000};
    u64 r = rng_next(rng), r2 = rng_next(rng);
    if (r >> 62 == 0) return r2;
    if (r >> 62 == 1) return corners[(u32)r % ARRAY_SIZE(corners)];
    return (r2 & 0x800fffffffffffffull) | (1023 + (r >> 32) % 9 - 4) << 52;
}

static void random_vector(struct rng *rng, u8 *to)
{
    unsigned kind = rng_below(rng, 4);
    for (unsigned i = 0; i < 16; i += 8) {
        u64 value = kind == 0   ? rng_next(rng)
                    : kind == 1 ? corner(rng)
                    : kind == 2 ? corner_double(rng)
                                : corner_float(rng) | (u64)corner_float(rng) << 32;
        st64(to + i, value);
    }
}

static void random_x87(struct rng *rng, u8 *to)
{
    u64 m = rng_next(rng);
    u16 e = (u16)rng_next(rng);
    memset(to, 0, 16);
    switch (rng_below(rng, 8)) {
    case 0:
        m = corner(rng);
        e = rng_below(rng, 2) ? 0x7fff : 0;
        e |= rng_below(rng, 2) << 15;
        break;
    case 1:
        m = 1ull << 63;
        e = (e & 0x8000) | (rng_below(rng, 2) ? 0x7fff : 0x3fff);
        break;
    case 2:
        m = 0;
        e &= 0x8000;
        break;
    case 3: m |= 1ull << 63; break;
    case 4: break; /* also forms that no operation makes */
    default:
        m |= 1ull << 63;
        e = (e & 0x8000) | (u16)(0x3fff - 40 + rng_below(rng, 110));
        break;
    }
    st64(to, m);
    st16(to + 8, e);
}

static void random_state(struct rng *rng, struct native_state *s, const struct insn_row *row)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < 16; i++) s->gpr[i] = corner(rng);
    s->flags = (u32)rng_next(rng) & NATIVE_FLAGS;
    s->mxcsr = 0x1f80;
    s->fcw = 0x37f;
    if (row->attributes & (ATTR_SSE | ATTR_AVX)) {
        for (unsigned i = 0; i < 16; i++) {
            random_vector(rng, s->xmm[i]);
            random_vector(rng, s->ymm[i]);
        }
        if (rng_below(rng, 2)) s->mxcsr = 0x1f80 | (rng_below(rng, 4) << 13);
        if (!rng_below(rng, 4)) s->mxcsr |= rng_next(rng) & 0x807f;
        if (!rng_below(rng, 12)) s->mxcsr &= ~(u32)rng_next(rng) | 0xe07f;
    }
    if (row->attributes & (ATTR_X87 | ATTR_MMX)) {
        for (unsigned i = 0; i < 8; i++) random_x87(rng, s->st[i]);
        s->ftw = rng_below(rng, 4) ? 0xff : (u8)rng_next(rng);
        s->fsw = (u16)(rng_below(rng, 8) << 11 | (rng_next(rng) & 0x4700));
        if (rng_below(rng, 2))
            s->fcw = (u16)(0x7f | rng_below(rng, 4) << 10 | rng_below(rng, 4) << 8);
        if (!rng_below(rng, 8)) s->fsw |= rng_next(rng) & 0x7f;
        if (!rng_below(rng, 10)) s->fcw &= (u16)rng_next(rng) | 0xff40;
        if (s->fsw & ~s->fcw & 0x3f)
            s->fsw |= 0x8080;
        else
            s->fsw &= 0x7f7f;
    }
}

static void load_guest(struct vcpu *cpu, const struct native_state *s)
{
    memcpy(cpu->regs, s->gpr, sizeof(s->gpr));
    cpu->regs[REG_ZERO] = 0;
    cpu->regs[REG_IP_BASE] = NATIVE_CODE;
    cpu->rip = s->rip;
    cpu->eflags = FLAG_IF | (s->flags & FLAG_DF);
    flags_put(cpu, s->flags & FLAGS_ARITHMETIC);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned q = 0; q < 2; q++) {
            cpu_vec(cpu, i)->q[q] = ld64(s->xmm[i] + q * 8);
            cpu_vec(cpu, i)->q[q + 2] = ld64(s->ymm[i] + q * 8);
        }
    cpu->mxcsr = s->mxcsr;
    cpu->fcw = s->fcw;
    cpu->fsw = s->fsw;
    cpu->ftw = s->ftw;
    for (unsigned i = 0; i < 8; i++) {
        unsigned r = ((s->fsw >> 11) + i) & 7;
        cpu->fpu_mantissa[r] = ld64(s->st[i]);
        cpu->fpu_exponent[r] = ld16(s->st[i] + 8);
    }
    cpu->exception.vector = -2;
    cpu->leave_block = false;
    cpu->pending_db = 0;
    cpu->icount = 0;
}

static void save_guest(struct vcpu *cpu, struct native_state *s)
{
    memset(s, 0, sizeof(*s));
    memcpy(s->gpr, cpu->regs, sizeof(s->gpr));
    s->rip = cpu->rip;
    s->flags = cpu_eflags(cpu) & NATIVE_FLAGS;
    for (unsigned i = 0; i < 16; i++)
        for (unsigned q = 0; q < 2; q++) {
            st64(s->xmm[i] + q * 8, cpu_vec(cpu, i)->q[q]);
            st64(s->ymm[i] + q * 8, cpu_vec(cpu, i)->q[q + 2]);
        }
    s->mxcsr = cpu->mxcsr;
    s->fcw = cpu->fcw;
    s->fsw = cpu->fsw;
    s->ftw = cpu->ftw;
    for (unsigned i = 0; i < 8; i++) {
        unsigned r = ((cpu->fsw >> 11) + i) & 7;
        st64(s->st[i], cpu->fpu_mantissa[r]);
        st16(s->st[i] + 8, cpu->fpu_exponent[r]);
    }
}

/* --- running ours --- */
static bool stop(struct vcpu *cpu, const struct insn *insn)
{
    (void)cpu;
    (void)insn;
    return true;
}

static struct native_fault run_guest(struct bench *b, const struct insn *decoded, bool handler)
{
    struct vcpu *cpu = b->cpu;
    struct insn insns[2] = {*decoded, {.fn = stop, .op = OP_NOP}};
    bool control = decoded->flags & INSN_ENDS_BLOCK, done = false;
    if (!control) cpu->rip = cpu_next_ip(cpu, decoded);
    for (unsigned i = 0; i < 1000 && !done; i++) {
        cpu->exception.vector = -2;
        cpu->current_insn = insns;
        if (handler && !control) {
            insns[0].fn = interp_handler(cpu, insns);
            done = insns[0].fn(cpu, insns);
        } else {
            done = (!(insn_row(decoded->row)->attributes &
                      (ATTR_X87 | ATTR_MMX | ATTR_SSE | ATTR_AVX)) ||
                    fpu_check(cpu, insns)) &&
                   sem_table[decoded->op](cpu, insns);
        }
        if (!done && cpu->exception.vector != -1) break; /* -1: once more */
    }
    if (done) return (struct native_fault){.vector = -1};
    if (!control) cpu->rip = NATIVE_CODE + decoded->pos;
    bool either = cpu->exception.vector == VECTOR_GP && cpu->fault_noncanonical; /* #SS by intr.c */
    return (struct native_fault){.vector = either ? GP_OR_SS : cpu->exception.vector,
                                 .error = cpu->exception.has_error ? cpu->exception.error : 0,
                                 .address = cpu->exception.address};
}

/* --- memory operands --- */

/* An address on the test pages for SIZE bytes; now and then a bad one. */
static u64 pick_address(struct rng *rng, unsigned size, unsigned alignment)
{
    u64 page = NATIVE_DATA + rng_below(rng, NATIVE_RW_PAGES) * 4096;
    u64 inside = page + rng_below(rng, 4096 - 512);
    switch (rng_below(rng, 40)) {
    case 0: return NATIVE_DATA + 4096 - rng_below(rng, size + 1); /* across two pages */
    case 1: return NATIVE_RO - rng_below(rng, size + 1);          /* into the read-only one */
    case 2: return NATIVE_RO + 4096 - rng_below(rng, size + 1);   /* into nothing */
    case 3: return NATIVE_RO + rng_below(rng, 2048);
    case 4: return NATIVE_DATA - rng_below(rng, size + 1);
    case 5: return inside;
    case 6: return inside | 0x8000000000000000ull >> rng_below(rng, 16); /* not canonical */
    case 7:
    case 8: return NATIVE_DATA + 4096 - alignment;
    default: return inside & ~(u64)(alignment - 1);
    }
}

/* Makes the memory operand lead to TARGET: false when this encoding can't. */
static bool aim(struct encoded *code, struct insn *insn, struct native_state *s, u64 target)
{
    bool is32 = insn->address_size == 4;
    u64 index = insn->index == REG_ZERO ? 0 : s->gpr[insn->index] << insn->scale;
    if (insn->base < 16) {
        if (insn->base == insn->index) return false;
        u64 value = target - index - (u64)insn->disp;
        s->gpr[insn->base] = is32 ? (u32)value | (s->gpr[insn->base] & ~0xffffffffull) : value;
        return true;
    }
    if (code->disp_at < 0) return false;
    u64 disp =
        target - index - (insn->base == REG_IP_BASE ? NATIVE_CODE + insn->pos + insn->length : 0);
    if (is32) disp = (u64)(i64)(i32)disp;
    if ((u64)(i64)(i32)disp != disp) return false;
    st32(code->bytes + code->disp_at, (u32)disp);
    return true;
}

static bool is_bit_string(const struct insn *insn)
{
    return (insn->op == OP_BT || insn->op == OP_BTS || insn->op == OP_BTR || insn->op == OP_BTC) &&
           insn->operand[0].kind == OPERAND_MEMORY && insn->operand[1].kind == OPERAND_GPR;
}

static void prepare_implicit(struct rng *rng, const struct insn *insn, struct native_state *s)
{
    u32 attributes = insn_row(insn->row)->attributes;
    if (attributes & ATTR_REP) {
        bool first = rng_below(rng, 2); /* one of them bad: which is looked at first is not said */
        u64 good = NATIVE_DATA + 1024 + rng_below(rng, 4096);
        s->gpr[RSI] = first ? pick_address(rng, insn->size * 4, 1) : good;
        s->gpr[RDI] = first ? good : pick_address(rng, insn->size * 4, 1);
        if (insn->flags & (INSN_REP | INSN_REPNE)) {
            s->gpr[RCX] = rng_below(rng, 24);
            if (insn->address_size == 4) s->gpr[RCX] |= rng_next(rng) << 32;
        }
    }
    /* Whether a zero mask faults is up to the processor. */
    if (insn->op == OP_MASKMOVQ || insn->op == OP_MASKMOVDQU)
        s->gpr[RDI] = NATIVE_DATA + rng_below(rng, 8176);
    if (insn->op == OP_XLAT) s->gpr[RBX] = pick_address(rng, 256, 1);
    if (attributes & ATTR_STACK) {
        s->gpr[RSP] = rng_below(rng, 12) ? NATIVE_DATA + 1024 + rng_below(rng, 2048)
                                         : pick_address(rng, 8, 8);
        if (insn->op == OP_ENTER || insn->op == OP_LEAVE) {
            s->gpr[RBP] = NATIVE_DATA + 4096 + rng_below(rng, 2048);
            if (!rng_below(rng, 8)) s->gpr[RBP] = pick_address(rng, 8, 8);
        }
    }
}

static unsigned memory_size(const struct insn *insn)
{
    unsigned size = 1;
    for (unsigned i = 0; i < 4; i++)
        if (insn->operand[i].kind == OPERAND_MEMORY && insn->operand[i].size > size)
            size = insn->operand[i].size;
    return size;
}

/* Near transfers through registers and memory go to a canonical address. */
static void tame_target(struct bench *b, const struct insn *insn, struct native_state *s, u64 at)
{
    u64 to = NATIVE_CODE + 2048 + rng_below(&b->rng, 2048);
    if (insn->operand[0].kind == OPERAND_GPR) {
        s->gpr[insn->operand[0].reg] = to;
        return;
    }
    if (at < NATIVE_DATA || at + 8 > NATIVE_RO) return;
    st64(b->guest_data + (at - NATIVE_DATA), to);
    st64((void *)(uintptr_t)at, to);
}

/* Registers and bytes such that every access lies where it can do no harm. */
static bool prepare(struct bench *b, struct encoded *code, struct insn *insn,
                    struct native_state *s)
{
    struct rng *rng = &b->rng;
    bool has_modrm_memory = insn->base != REG_ZERO || code->disp_at >= 0;
    bool gather = insn->op >= OP_VGATHERDPS && insn->op <= OP_VPGATHERQQ;
    u64 target = 0;
    prepare_implicit(rng, insn, s);
    if (insn_row(insn->row)->attributes & ATTR_REP || insn->op == OP_MASKMOVQ ||
        insn->op == OP_MASKMOVDQU || insn->op == OP_XLAT)
        return true;
    if (insn->op == OP_MOV && has_modrm_memory == false && memory_size(insn) &&
        insn->base == REG_ZERO &&
        (insn->operand[0].kind == OPERAND_MEMORY || insn->operand[1].kind == OPERAND_MEMORY)) {
        u64 address = pick_address(rng, 8, 1); /* moffs: the address follows the opcode */
        if (insn->address_size == 8)
            st64(code->bytes + insn->length - 8, address);
        else
            st32(code->bytes + insn->length - 4, (u32)address);
        return true;
    }
    if (is_bit_string(insn))
        s->gpr[insn->operand[1].reg] =
            (u64)((i64)rng_below(rng, 1600) - 800) & size_mask(insn->size);
    if (gather) {
        unsigned n = insn->operand[3].reg;
        bool q = insn->op == OP_VGATHERQPS || insn->op == OP_VGATHERQPD ||
                 insn->op == OP_VPGATHERQD || insn->op == OP_VPGATHERQQ;
        for (unsigned i = 0; i < 4; i++) {
            u64 index = q ? (u64)((i64)rng_below(rng, 64) - 32)
                          : (u32)(rng_below(rng, 64) - 32) | (u64)(rng_below(rng, 64) - 32) << 32;
            st64((i < 2 ? s->xmm[n] : s->ymm[n]) + (i & 1) * 8, index);
        }
    }
    bool memory = false;
    for (unsigned i = 0; i < 4; i++) memory |= insn->operand[i].kind == OPERAND_MEMORY;
    if (memory && insn->op != OP_NOP) {
        if (insn->index < 16 && insn->index != insn->base)
            s->gpr[insn->index] = (u64)((i64)rng_below(rng, 64) - 32);
        unsigned size = memory_size(insn);
        target = pick_address(rng, size, size >= 8 && !(size & (size - 1)) ? size : 1);
        if (insn->address_size == 4) target = (u32)target;
        if (!aim(code, insn, s, target)) return false;
        if (is_bit_string(insn) && insn->base == insn->operand[1].reg) return false;
    }
    if (insn->op == OP_JMP_INDIRECT || insn->op == OP_CALL_INDIRECT)
        tame_target(b, insn, s, target);
    if (insn->op == OP_RET) tame_target(b, insn, s, s->gpr[RSP]);
    if (insn->op == OP_ENTER && insn->imm2 & 31 && insn->imm > 2048) return false;
    if (insn->op == OP_DIV || insn->op == OP_IDIV)
        if (rng_below(rng, 2) && insn->base != RDX && insn->index != RDX)
            s->gpr[RDX] = insn->op == OP_IDIV && (s->gpr[RAX] >> 63) ? ~0ull : 0;
    return true;
}

/* --- comparing --- */
static bool flags_agree(struct bench *b, const struct insn *insn, const struct native_state *in,
                        u32 host, u32 ours)
{
    const struct insn_row *row = insn_row(insn->row);
    u32 undefined = row->flags_undefined & NATIVE_FLAGS, differ = host ^ ours;
    unsigned bits = insn->size * 8;
    if (insn->op >= OP_ROL && insn->op <= OP_SHRD) {
        unsigned n = insn->operand[1].kind == OPERAND_IMMEDIATE ? (unsigned)insn->imm
                                                                : (unsigned)in->gpr[RCX];
        bool twice = insn->op == OP_SHLD || insn->op == OP_SHRD;
        if (twice)
            n = insn->operand[2].kind == OPERAND_IMMEDIATE ? (unsigned)insn->imm
                                                           : (unsigned)in->gpr[RCX];
        n &= bits == 64 ? 63 : 31;
        if (n == 0)
            undefined = 0;
        else if (n == 1)
            undefined &= ~(u32)FLAG_OF;
        if ((insn->op == OP_SHL || insn->op == OP_SHR) && n >= bits) undefined |= FLAG_CF;
        if (twice && n > bits) undefined |= FLAGS_ARITHMETIC;
    }
    if (differ & undefined) {
        b->undefined[insn->op]++;
        b->undefined_flags[insn->op] |= differ & undefined;
    }
    return !(differ & ~undefined);
}

static bool approximately(const u8 *host, const u8 *ours, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i += 4) {
        float h, o;
        memcpy(&h, host + i, 4);
        memcpy(&o, ours + i, 4);
        if (!memcmp(host + i, ours + i, 4)) continue;
        float error = (h - o) / h;
        if (!(error < 0x1p-10f && error > -0x1p-10f)) return false;
    }
    return true;
}

static bool fault_agrees(const struct native_fault *host, const struct native_fault *ours)
{
    if (ours->vector == GP_OR_SS) return host->vector == VECTOR_GP || host->vector == VECTOR_SS;
    if (host->vector != ours->vector) return false;
    if (host->vector == VECTOR_PF)
        return host->error == ours->error && !((host->address ^ ours->address) >> 12);
    return true;
}

static bool vectors_agree(const struct insn *insn, const struct native_fault *fault,
                          const struct native_state *h, const struct native_state *o)
{
    if (insn->op >= OP_VGATHERDPS && insn->op <= OP_VPGATHERQQ && fault->vector >= 0)
        return true; /* how far it got, and what it did to elements that were not asked for */
    if (is_approximate(insn->op))
        return approximately(h->xmm[0], o->xmm[0], 256) && approximately(h->ymm[0], o->ymm[0], 256);
    return !memcmp(h->xmm, o->xmm, 256) && !memcmp(h->ymm, o->ymm, 256);
}

/* SHLD and SHRD of 16 bits by more than 16 leave anything. */
static bool result_undefined(const struct insn *insn, const struct native_state *in)
{
    if ((insn->op != OP_SHLD && insn->op != OP_SHRD) || insn->size != 2) return false;
    unsigned n =
        insn->operand[2].kind == OPERAND_IMMEDIATE ? (unsigned)insn->imm : (unsigned)in->gpr[RCX];
    return (n & 31) > 16;
}

/* What the manuals leave open: arguments out of range, last places, and C1, which tells their
 * rounding. */
static bool is_transcendental(unsigned op)
{
    switch (op) {
    case OP_F2XM1:
    case OP_FYL2X:
    case OP_FYL2XP1:
    case OP_FPTAN:
    case OP_FPATAN:
    case OP_FSIN:
    case OP_FCOS:
    case OP_FSINCOS: return true;
    default: return false;
    }
}
static bool argument_in_range(const struct insn *insn, const struct native_state *in)
{
    unsigned exponent = ld16(in->st[0] + 8) & 0x7fff;
    if (insn->op == OP_F2XM1) return exponent < 0x3fff;
    if (insn->op == OP_FYL2XP1) return exponent < 0x3ffd;
    return true;
}
static bool nearly(const u8 *h, const u8 *o)
{
    u64 h_mantissa = ld64(h), o_mantissa = ld64(o);
    i64 apart = (i64)(h_mantissa - o_mantissa);
    int binades = ld16(h + 8) - ld16(o + 8);
    if (binades == 1) return h_mantissa == 1ull << 63 && o_mantissa == ~0ull;
    if (binades == -1) return o_mantissa == 1ull << 63 && h_mantissa == ~0ull;
    return !binades && apart <= 1 && apart >= -1;
}
/* MXCSR bit 17 is AMD's misaligned mode, which we do not have. */
static bool is_foreign(const struct insn *insn, const struct native_state *host)
{
    return insn->op == OP_LDMXCSR && host->mxcsr >> 17;
}

static const char *disagreement(struct bench *b, const struct insn *insn,
                                const struct native_state *in, const struct native_state *h,
                                const struct native_state *o, const struct native_fault *hf,
                                const struct native_fault *of)
{
    if (is_foreign(insn, h)) return NULL;
    /* A near transfer to a non-canonical address: AMD faults when it fetches there. */
    bool fetch =
        hf->vector == VECTOR_GP && of->vector == -1 && h->rip == o->rip && h->rip != in->rip;
    if (!fetch && !fault_agrees(hf, of)) return "fault";
    if (result_undefined(insn, in)) return NULL;
    u16 ignored = 0;
    bool approximate = is_transcendental(insn->op);
    if (approximate && !argument_in_range(insn, in)) return NULL;
    if (approximate) ignored = FSW_C1;
    if (memcmp(h->gpr, o->gpr, sizeof(h->gpr))) return "registers";
    if (h->rip != o->rip) return "rip";
    if (!flags_agree(b, insn, in, h->flags, o->flags)) return "flags";
    if (!vectors_agree(insn, hf, h, o)) return "vectors";
    if (h->mxcsr != o->mxcsr) return "mxcsr";
    if (h->fcw != o->fcw || ((h->fsw ^ o->fsw) & ~ignored) || h->ftw != o->ftw)
        return "x87 control";
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(h->st[i], o->st[i], 10) && !(approximate && nearly(h->st[i], o->st[i])))
            return "x87 registers";
    if (memcmp(b->guest_data, (void *)NATIVE_DATA, NATIVE_DATA_SIZE)) return "memory";
    return NULL;
}

/* --- telling --- */
static void show_bytes(const char *what, const u8 *bytes, unsigned n)
{
    printf(" %s", what);
    while (n--) printf("%02x", bytes[n]);
}

static void show_differences(struct bench *b, const struct native_state *in,
                             const struct native_state *h, const struct native_state *o)
{
    static const char names[16][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < 16; i++)
        if (h->gpr[i] != o->gpr[i])
            printf("#    %s: %llx, host %llx, ours %llx\n", names[i],
                   (unsigned long long)in->gpr[i], (unsigned long long)h->gpr[i],
                   (unsigned long long)o->gpr[i]);
    if (h->flags != o->flags)
        printf("#    flags: %x, host %x, ours %x\n", in->flags, h->flags, o->flags);
    if (h->rip != o->rip)
        printf("#    rip: host %llx, ours %llx\n", (unsigned long long)h->rip,
               (unsigned long long)o->rip);
    if (h->mxcsr != o->mxcsr)
        printf("#    mxcsr: %x, host %x, ours %x\n", in->mxcsr, h->mxcsr, o->mxcsr);
    if (h->fsw != o->fsw || h->fcw != o->fcw || h->ftw != o->ftw)
        printf("#    fcw fsw ftw: %x %x %x, host %x %x %x, ours %x %x %x\n", in->fcw, in->fsw,
               in->ftw, h->fcw, h->fsw, h->ftw, o->fcw, o->fsw, o->ftw);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned half = 0; half < 2; half++) {
            const u8 *hv = half ? h->ymm[i] : h->xmm[i], *ov = half ? o->ymm[i] : o->xmm[i];
            if (!memcmp(hv, ov, 16)) continue;
            printf("#    %s%u:", half ? "ymm high " : "xmm", i);
            show_bytes("", half ? in->ymm[i] : in->xmm[i], 16);
            show_bytes("host ", hv, 16);
            show_bytes("ours ", ov, 16);
            printf("\n");
        }
    for (unsigned i = 0; i < 8; i++) {
        if (!memcmp(h->st[i], o->st[i], 10)) continue;
        printf("#    st%u:", i);
        show_bytes("", in->st[i], 10);
        show_bytes("host ", h->st[i], 10);
        show_bytes("ours ", o->st[i], 10);
        printf("\n");
    }
    for (unsigned i = 0; i < NATIVE_DATA_SIZE; i += 8) {
        u64 hm = ld64((u8 *)(uintptr_t)NATIVE_DATA + i), om = ld64(b->guest_data + i);
        if (hm != om)
            printf("#    memory %llx: host %llx, ours %llx\n", NATIVE_DATA + i,
                   (unsigned long long)hm, (unsigned long long)om);
    }
}

static void show(struct bench *b, const struct insn *insn, const struct encoded *code,
                 const char *engine,
                 const char *what, const struct native_state *in, const struct native_state *h,
                 const struct native_state *o, const struct native_fault *hf,
                 const struct native_fault *of)
{
    printf("# %s (%s):", op_name(insn->op), engine);
    for (unsigned i = 0; i < insn->length; i++) printf(" %02x", code->bytes[i]);
    printf(": %s", what);
    if (hf->vector >= 0 || of->vector != -1)
        printf("; fault host %d(%x) %llx, ours %d(%x) %llx", hf->vector, hf->error,
               (unsigned long long)hf->address, of->vector, of->error,
               (unsigned long long)of->address);
    printf("\n");
    for (unsigned i = 0; i < 4; i++) {
        const struct operand *op = &insn->operand[i];
        if (op->kind == OPERAND_GPR)
            printf("#    [%u] %llx\n", i, (unsigned long long)in->gpr[op->reg]);
        if (op->kind == OPERAND_VECTOR) {
            printf("#    [%u]", i);
            show_bytes("", in->ymm[op->reg], 16);
            show_bytes("", in->xmm[op->reg], 16);
            printf("\n");
        }
        if (op->kind == OPERAND_MEMORY && op->size <= 16 &&
            in->gpr[insn->base < 16 ? insn->base : RAX]) {
            u64 at = insn->base < 16
                         ? in->gpr[insn->base] + (u64)insn->disp +
                               (insn->index < 16 ? in->gpr[insn->index] << insn->scale : 0)
                         : 0;
            if (at >= NATIVE_DATA && at + op->size <= NATIVE_DATA + NATIVE_DATA_SIZE) {
                printf("#    [%u] after:", i);
                show_bytes("", (const u8 *)(uintptr_t)at, op->size);
                printf("\n");
            }
        }
        if (op->kind == OPERAND_X87 || op->kind == OPERAND_MMX) {
            unsigned r = op->kind == OPERAND_X87 ? op->reg : (op->reg - (in->fsw >> 11)) & 7;
            printf("#    [%u]", i);
            show_bytes("", in->st[r], 10);
            printf("\n");
        }
    }
    if (insn_row(insn->row)->attributes & ATTR_X87) {
        printf("#    st0, st1:");
        show_bytes("", in->st[0], 10);
        show_bytes("", in->st[1], 10);
        printf("\n");
    }
    printf("#    in: rax %llx rcx %llx rdx %llx flags %x mxcsr %x fcw %x fsw %x ftw %x\n",
           (unsigned long long)in->gpr[RAX], (unsigned long long)in->gpr[RCX],
           (unsigned long long)in->gpr[RDX], in->flags, in->mxcsr, in->fcw, in->fsw, in->ftw);
    show_differences(b, in, h, o);
}

/* --- one run --- */

static bool run_on(struct bench *b, unsigned engine, const struct insn *insn,
                   const struct encoded *code, const struct native_state *in,
                   struct native_state *out, struct native_fault *fault)
{
    struct tier *tier = &b->tiers[engine];
    struct vcpu *cpu = tier->cpu ? tier->cpu : b->cpu;
    if (b->absent[engine]) return false;
    /* A unit of tier 2 goes on at the target, whatever lies there: test_jit has loops for these. */
    bool direct = insn->op == OP_Jcc || insn->op == OP_JMP || insn->op == OP_CALL;
    if (direct && engines[engine].options && !engines[engine].options->no_loops) return false;
    load_guest(cpu, in);
    if (!tier->cpu) *fault = run_guest(b, insn, engines[engine].handler);
    else if (!tier_run(tier, code->bytes, insn->length, POS, fault)) return false;
    save_guest(cpu, out);
    return true;
}

static void compare_on(struct bench *b, unsigned engine, const struct insn *insn,
                       const struct encoded *code, const struct native_state *in,
                       const struct native_state *host, const struct native_fault *hf)
{
    struct native_state ours;
    struct native_fault of;
    memcpy(b->guest_data, b->before, NATIVE_DATA_SIZE);
    if (!run_on(b, engine, insn, code, in, &ours, &of)) return;
    b->runs[insn->op]++;
    const char *what = disagreement(b, insn, in, host, &ours, hf, &of);
    if (what && b->failures[insn->op]++ < SHOWN)
        show(b, insn, code, engines[engine].name, what, in, host, &ours, hf, &of);
}

static bool run_one(struct bench *b, const struct encoding *e)
{
    struct encoded code;
    struct insn insn = {0};
    struct native_state in, host;
    encode_random(&b->rng, e, &code);
    if (decode_insn(&insn, code.bytes, 15, CODE64, POS, &b->features) != DECODE_OK) return false;
    if (insn_row(insn.row)->attributes & ATTR_CPL0) return false;
    if (insn.operand[0].kind == OPERAND_RELATIVE && insn.imm + insn.length == 0)
        return false; /* itself */
    random_state(&b->rng, &in, insn_row(insn.row));
    in.rip = NATIVE_CODE + POS;
    if (!prepare(b, &code, &insn, &in)) return false;
    if (decode_insn(&insn, code.bytes, 15, CODE64, POS, &b->features) != DECODE_OK) return false;

    native_code(code.bytes, insn.length, POS);
    host = in;
    memcpy(b->before, b->guest_data, NATIVE_DATA_SIZE);
    struct native_fault hf = native_run(&host);
    for (unsigned i = 0; i < ENGINES; i++) compare_on(b, i, &insn, &code, &in, &host, &hf);
    memcpy(b->guest_data, (void *)NATIVE_DATA, NATIVE_DATA_SIZE);
    return true;
}

static unsigned test_semantics(struct bench *b, unsigned rounds, const char *only)
{
    unsigned failed = 0, ops = 0;
    for (unsigned i = 0; i < encodings_count; i++) {
        const struct insn_row *row = insn_row(encodings[i].row);
        if (only && strcmp(only, op_name(row->op))) continue;
        if (why_excluded(&encodings[i]) || (row->attributes & ATTR_NO64)) continue;
        if (!feature_on(&b->features, row->feature)) continue;
        for (unsigned done = 0, tried = 0; done < rounds && tried < rounds * 8; tried++)
            done += run_one(b, &encodings[i]);
    }
    for (unsigned op = 0; op < OP_COUNT; op++) {
        ops += b->runs[op] != 0;
        if (b->undefined[op])
            printf("# %s: undefined flags %x differ from this host's in %u of %u\n", op_name(op),
                   b->undefined_flags[op], b->undefined[op], b->runs[op]);
        if (!b->failures[op]) continue;
        failed++;
        printf("# %s: %u of %u differ\n", op_name(op), b->failures[op], b->runs[op]);
    }
    printf("# %u operations run, %u differ\n", ops, failed);
    for (unsigned i = 0; i < ENGINES; i++)
        if (b->tiers[i].declined)
            printf("# %s left %u to the interpreter\n", engines[i].name, b->tiers[i].declined);
    return failed;
}

/* --- validity and length of any bytes --- */

/* Never run: they leave, wait, or take the thread pointer away. */
static bool is_dangerous(const struct insn *insn, const u8 *bytes)
{
    switch (insn->op) {
    case OP_SYSCALL:
    case OP_SYSENTER:
    case OP_INT:
    case OP_MOV_SEG:
    case OP_POP_SEG:
    case OP_LFS:
    case OP_LGS:
    case OP_LSS:
    case OP_WRFSBASE:
    case OP_WRGSBASE:
    case OP_IRET:
    case OP_RET_FAR:
    case OP_CALL_FAR:
    case OP_JMP_FAR:
    case OP_POPF:
    case OP_XRSTOR:
    case OP_FXRSTOR:
    case OP_INT3:
    case OP_INT1: return true;
    }
    for (unsigned i = 0; i < 8; i++)
        if (bytes[i] == 0x0f && bytes[i + 1] == 0x01 && bytes[i + 2] >= 0xc0)
            return insn->op == OP_UD;
    return false;
}

/* Where the host fetches beyond the first LENGTH bytes, it says so by a fault behind the page. */
static struct native_fault run_at_page_end(const u8 *bytes, unsigned length)
{
    struct native_state s;
    memset(&s, 0, sizeof(s));
    s.mxcsr = 0x1f80;
    s.fcw = 0x37f;
    for (unsigned i = 0; i < 16; i++) s.gpr[i] = NATIVE_DATA + 0x800;
    s.rip = NATIVE_CODE + 4096 - length;
    native_code_end(bytes, length);
    return native_run(&s);
}
static bool wants_more(const struct native_fault *f)
{
    return f->vector == VECTOR_PF && (f->error & 16) && f->address == NATIVE_CODE + 4096;
}

static const char *validity(const u8 *bytes, const struct insn *insn, enum decode_status status)
{
    if (status != DECODE_OK || insn->op == OP_UD) {
        struct native_fault f = run_at_page_end(bytes, 15);
        if (status == DECODE_TOO_LONG) return f.vector == VECTOR_GP ? NULL : "is not too long";
        return f.vector == VECTOR_UD || wants_more(&f) ? NULL : "is defined";
    }
    struct native_fault whole = run_at_page_end(bytes, insn->length);
    if (whole.vector == VECTOR_UD) return "is undefined";
    if (wants_more(&whole) && !(insn->flags & INSN_ENDS_BLOCK)) return "is longer";
    if (insn->length == 1) return NULL;
    struct native_fault part = run_at_page_end(bytes, insn->length - 1);
    return wants_more(&part) ? NULL : "is shorter";
}

/* Undefined for us, but the host has it; and operations that are #UD above CPL 0. */
static bool is_hosts_own(const struct insn *insn, const u8 *bytes)
{
    switch (insn->op) {
    case OP_CLAC:
    case OP_STAC:
    case OP_MONITOR:
    case OP_MWAIT:
    case OP_RSM:
    case OP_SYSEXIT:
    case OP_SYSRET:
    case OP_MOV_CR:
    case OP_MOV_DR: return true;
    case OP_SGDT:
    case OP_SIDT:
    case OP_SLDT:
    case OP_STR:
    case OP_SMSW: return true; /* the kernel plays them */
    }
    if (bytes[0] == 0xc4 && (bytes[1] & 31) == 3 && bytes[3] <= 1)
        return true; /* VPERMQ, VPERMPD: any W */
    unsigned at = 0;
    while (at < 12 && bytes[at] != 0x0f) at++;
    return bytes[at] == 0x0f &&
           (bytes[at + 1] == 0x2b || bytes[at + 1] == 0x78 || bytes[at + 1] == 0x79); /* SSE4a */
}

/* A hypervisor may hide what the processor does all the same. */
static bool is_hidden(enum decode_status status, const u8 *bytes)
{
    static const struct feature_set all = {{~0ull, ~0ull}};
    struct insn insn;
    return status == DECODE_UNDEFINED &&
           decode_insn(&insn, bytes, 15, CODE64, 0, &all) == DECODE_OK;
}

static unsigned test_validity(struct bench *b, unsigned rounds)
{
    unsigned failed = 0, run = 0;
    for (unsigned i = 0; i < rounds; i++) {
        struct encoded code;
        struct insn insn = {0};
        encode_random(&b->rng, &encodings[rng_below(&b->rng, encodings_count)], &code);
        if ((i & 3) == 2 && code.bytes[0] == 0xc4) code.bytes[2] ^= 0x80; /* the other W */
        if (i & 1) code.bytes[rng_below(&b->rng, 6)] = (u8)rng_next(&b->rng);
        if ((i & 7) == 7)
            for (unsigned k = 0; k < 15; k++) code.bytes[k] = (u8)rng_next(&b->rng);
        enum decode_status status = decode_insn(&insn, code.bytes, 15, CODE64, 0, &b->features);
        if (is_dangerous(&insn, code.bytes) || is_hidden(status, code.bytes)) continue;
        run++;
        const char *what = validity(code.bytes, &insn, status);
        if (!what || is_hosts_own(&insn, code.bytes) || failed++ >= VALIDITY_SHOWN) continue;
        printf("#");
        for (unsigned k = 0; k < 15; k++) printf(" %02x", code.bytes[k]);
        printf(": %s, length %u, but it %s\n", op_name(insn.op), insn.length, what);
    }
    printf("# %u byte sequences run, %u differ\n", run, failed);
    memcpy(b->guest_data, (void *)NATIVE_DATA, NATIVE_DATA_SIZE);
    return failed;
}

/* Features that CPUID does not show but the processor has: they are tested too. */
static void probe_hidden(struct bench *b)
{
    static const struct feature_set all = {{~0ull, ~0ull}};
    for (unsigned i = 0; i < encodings_count; i++) {
        const struct insn_row *row = insn_row(encodings[i].row);
        struct encoded code;
        struct insn insn;
        if (feature_on(&b->features, row->feature) || why_excluded(&encodings[i])) continue;
        encode_random(&b->rng, &encodings[i], &code);
        if (decode_insn(&insn, code.bytes, 15, CODE64, 0, &all) != DECODE_OK) continue;
        if (insn_row(insn.row)->feature != row->feature) continue;
        if (run_at_page_end(code.bytes, insn.length).vector == VECTOR_UD) continue;
        printf("# %s works though CPUID does not say so\n", op_name(row->op));
        b->features.bits[row->feature >> 6] |= 1ull << (row->feature & 63);
    }
    b->cpu->features = b->features;
}

static void tell_excluded(const struct feature_set *features)
{
    for (unsigned op = 0; op < OP_COUNT; op++)
        for (unsigned i = 0; i < encodings_count; i++) {
            const struct insn_row *row = insn_row(encodings[i].row);
            if (row->op != op) continue;
            const char *why = why_excluded(&encodings[i]);
            if (!why && row->attributes & ATTR_NO64) why = "not in 64-bit mode";
            if (!why && !feature_on(features, row->feature)) why = "not on this host";
            if (!why) continue;
            printf("# not run: %s (%s)\n", op_name(op), why);
            break;
        }
}

int main(int argc, char **argv)
{
    static struct bench b;
    const char *length = getenv("LENGTH");
    unsigned rounds = length && !strcmp(length, "long") ? 2000 : 40;
    if (argc > 2) rounds = (unsigned)atoi(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!native_open() || !bench_open(&b)) {
        printf("1..0 # SKIP the harness does not work on this host\n");
        return 0;
    }
    if (argc > 3) b.rng.state = strtoull(argv[3], NULL, 0);
    printf("1..2\n");
    probe_hidden(&b);
    fill_data(&b);
    open_tiers(&b);
    unsigned failed = test_semantics(&b, rounds, argc > 1 && argv[1][0] ? argv[1] : NULL);
    if (argc < 2) tell_excluded(&b.features);
    printf("%sok 1 - semantics\n", failed ? "not " : "");
    unsigned wrong = argc > 1 && argv[1][0] ? 0 : test_validity(&b, rounds * 150);
    printf("%sok 2 - validity and length\n", wrong ? "not " : "");
    native_close();
    return failed || wrong;
}

#else
int main(void)
{
    printf("1..0 # SKIP not an x86-64 Linux host\n");
    return 0;
}
#endif
