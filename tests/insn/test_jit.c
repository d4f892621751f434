/*
 * The translator against the interpreter: the same random programs from the same state, compared in
 * registers, flags, memory, faults and the number of instructions. Programs loop, branch, call,
 * cross pages, touch pages that fault, and write their own code.
 */
#include "tests/insn/flat.h"

#include "jit/jit.h"
#include "jit/x64_emit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

#define DATA_PAGES 8u        /* from FLAT_DATA; the fifth is absent, the sixth read-only */
#define PAGE_TABLE 0x4000u

struct pair {
    struct flat *a, *b;      /* interpreter, translator */
    struct jit *jit;
    struct log log;
    u64 random;
    u8 code[16384];
    struct x64 e;
    bool simd, x87, user;
};

static u64 rnd(struct pair *p)
{
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return p->random * 0x2545f4914f6cdd1dull >> 11;
}
static unsigned below(struct pair *p, unsigned n) { return (unsigned)(rnd(p) % n); }

static void map_data(struct flat *f)
{
    st64(f->ram + 0x3000 + 8, PAGE_TABLE | 7);
    for (u64 i = 0; i < 512; i++) st64(f->ram + PAGE_TABLE + i * 8, (MIB(2) + i * 4096) | 7);
    st64(f->ram + PAGE_TABLE + 0x104 * 8, 0);
    st64(f->ram + PAGE_TABLE + 0x105 * 8, (FLAT_DATA + 0x5000) | 5);
}

static struct pair *pair_new(const struct jit_options *options)
{
    struct pair *p = calloc(1, sizeof(*p));
    struct error error = {0};
    if (getenv("JIT_LOG")) p->log.mask = 1u << LOG_IN_ASM | 1u << LOG_OP | 1u << LOG_OUT_ASM;
    p->a = flat_new();
    p->b = flat_new();
    p->jit = jit_new(options, &p->log, &error);
    if (!jit_attach(p->b->cpu, p->jit, &error)) {
        fprintf(stderr, "# no translator: %s\n", error.text);
        return NULL;
    }
    return p;
}

static void pair_free(struct pair *p)
{
    jit_detach(p->b->cpu);
    jit_free(p->jit);
    flat_free(p->a);
    flat_free(p->b);
    free(p);
}

/* Numbers of every kind, a stack of any depth, any mode; now and then an unmasked exception. */
static void prepare_x87(struct vcpu *cpu, u64 s)
{
    static const u16 exponents[] = {0,      1,      0x3fff, 0x4000, 0x403e,
                                    0x7ffe, 0x7fff, 0xbfff, 0xffff, 0x3f80};
    cpu->fcw = (u16)(0x7f | (s >> 8 & 0xf00));
    if ((cpu->fcw & 0x300) == 0x100) cpu->fcw |= 0x300;
    if ((s >> 20 & 15) == 0) cpu->fcw &= (u16)~(1u << (s >> 24 & 3));
    if ((s >> 28 & 1) == 0) cpu->fcw = 0x37f;
    cpu->fsw = (u16)(s >> 32 & 0x7800);
    cpu->ftw = (s >> 36 & 3) == 0 ? (u8)(s >> 40) : 0;
    cpu->fip = cpu->fdp = cpu->fcs = cpu->fds = cpu->fop = 0;
    for (unsigned i = 0; i < 8; i++) {
        s = s * 6364136223846793005ull + 1442695040888963407ull;
        cpu->fpu_mantissa[i] = s & 3 ? s | 1ull << 63 : (s >> 4 & 7) << 61;
        cpu->fpu_exponent[i] = exponents[(s >> 50) % ARRAY_SIZE(exponents)];
    }
}

static void prepare(struct pair *p, struct flat *f, u64 seed)
{
    u64 s = seed * 0x9e3779b97f4a7c15ull | 1;
    memory_code_written(bus_memory(f->bus), f->ram + FLAT_CODE, sizeof(p->code));
    struct memory *memory = bus_memory(f->bus);
    for (unsigned i = 0; i < sizeof(p->code) / 4096; i++) /* not what tests of modified code want */
        atomic_store(&memory->code_pages[arena_page(memory, f->ram + FLAT_CODE) + i].writes, 0);
    flat_reset(f);
    map_data(f);
    tlb_flush_all(f->cpu);
    memcpy(f->ram + FLAT_CODE, p->code, sizeof(p->code));
    for (unsigned i = 0; i < DATA_PAGES * 512; i++) {
        s = s * 6364136223846793005ull + 1442695040888963407ull;
        st64(f->ram + FLAT_DATA + i * 8, i & 1 ? s : s >> 40);
    }
    memset(f->ram + FLAT_STACK - 8192, 0, 16384);
    for (unsigned r = 0; r < 16; r++) {
        s = s * 6364136223846793005ull + 1442695040888963407ull;
        f->cpu->regs[r] = r & 1 ? s : s >> 33;
        for (unsigned q = 0; q < 4; q++) {
            s = s * 6364136223846793005ull + 1442695040888963407ull;
            f->cpu->zmm[r * 8 + q] = p->simd && (s & 3) == 0 ? 0x4000000000000000ull + (s >> 14)
                                     : s;
        }
    }
    f->cpu->regs[RSP] = FLAT_STACK;
    f->cpu->regs[RBX] = FLAT_DATA + 0x800;
    f->cpu->regs[RSI] = FLAT_DATA + 0x1800;
    f->cpu->regs[R9] = FLAT_DATA + 0x1000 - (s >> 60);
    f->cpu->regs[R12] = FLAT_DATA + 0x2ff0;
    f->cpu->regs[R13] = s >> 58;
    f->cpu->regs[R15] = 4 + (seed & 7);
    f->cpu->cr4 |= CR4_OSXSAVE;
    f->cpu->xcr0 = 7;
    f->cpu->mxcsr = 0x1f80;
    f->cpu->icount = 0;
    prepare_x87(f->cpu, p->x87 ? s * 0x9e3779b97f4a7c15ull : 0);
    cpu_restored(f->cpu);
    if (p->user) flat_user(f);
}

/* --- generating --- */

static const u8 pointers[] = {RBX, RSI, R9, R12};
static unsigned some_reg(struct pair *p)
{
    static const u8 free_regs[] = {RAX, RCX, RDX, RDI, RBP, R8, R10, R11, R14};
    return free_regs[below(p, sizeof(free_regs))];
}
static unsigned any_reg(struct pair *p)
{
    return below(p, 8) ? some_reg(p) : pointers[below(p, 4)];
}

static struct x64_rm some_memory(struct pair *p)
{
    unsigned base = pointers[below(p, 4)], k = below(p, 12);
    i64 disp = k < 5 ? (i64)below(p, 64) : (i64)below(p, 0x600) - 0x300;
    if (!below(p, 24)) disp = (i64)below(p, 0x3000);
    if (k & 1) return x64_mem(base, disp);
    if (!below(p, 40)) return x64_mem(H_NONE, FLAT_DATA + below(p, 0x4000));
    return x64_sib(base, R13, below(p, 4), disp);
}
static struct x64_rm some_rm(struct pair *p)
{
    return below(p, 3) ? some_memory(p) : x64_reg(any_reg(p));
}

static void define_flags(struct pair *p)
{
    x64_alu(&p->e, X64_CMP, 8, some_reg(p), x64_reg(some_reg(p)));
}

static void gen_alu(struct pair *p)
{
    struct x64 *e = &p->e;
    unsigned op = below(p, 8), kind = below(p, 6), pp = 0;
    bool wide = below(p, 2), byte = !below(p, 4);
    if (!byte && !wide && !below(p, 3)) pp = X64_66;
    struct x64_rm rm = some_rm(p);
    unsigned reg = some_reg(p);
    if (!rm.memory && op != 7) rm.reg = (u8)some_reg(p);
    if (kind < 3) {
        bool to_reg = below(p, 2);
        if (rm.memory && !to_reg && op != 7 && !below(p, 6)) x64_u8(e, 0xf0);
        x64_op(e, pp, wide && !byte, byte, X64_ONE, op * 8 + (to_reg ? 2 : 0) + !byte, reg, &rm);
    } else if (kind < 5) {
        bool small = below(p, 2) && !byte;
        x64_op(e, pp, wide && !byte, byte, X64_ONE, byte ? 0x80 : small ? 0x83 : 0x81, op, &rm);
        x64_imm(e, rnd(p), small || byte ? 1 : pp ? 2 : 4);
    } else {
        static const u8 digits[] = {0, 2, 3};
        unsigned d = digits[below(p, 3)];
        x64_op(e, pp, wide && !byte, byte, X64_ONE, 0xf6 + !byte, d, &rm);
        if (!d) x64_imm(e, rnd(p), byte ? 1 : pp ? 2 : 4);
    }
}

static void gen_move(struct pair *p)
{
    struct x64 *e = &p->e;
    struct x64_rm rm = some_rm(p);
    unsigned reg = some_reg(p), k = below(p, 12);
    bool wide = below(p, 2);
    if (!rm.memory) rm.reg = (u8)some_reg(p);
    switch (k) {
    case 0: x64_op(e, 0, wide, true, X64_0F, 0xb6 + below(p, 2), reg, &rm); break;
    case 1: x64_op(e, 0, wide, true, X64_0F, 0xbe + below(p, 2), reg, &rm); break;
    case 2: x64_op(e, 0, true, false, X64_ONE, 0x63, reg, &rm); break;
    case 3: x64_op(e, 0, false, true, X64_ONE, 0x88 + below(p, 2) * 2, reg, &rm); break;
    case 4: x64_op(e, X64_66, false, false, X64_ONE, 0x89 + below(p, 2) * 2, reg, &rm); break;
    case 5:
        x64_op(e, 0, wide, false, X64_ONE, 0xc7, 0, &rm);
        x64_u32(e, (u32)rnd(p));
        break;
    case 6: x64_mov_imm64(e, reg, rnd(p)); break;
    case 7:
        rm = some_memory(p);
        x64_op(e, 0, wide, false, X64_ONE, 0x8d, reg, &rm);
        break;
    case 8: x64_op(e, 0, wide, false, X64_0F, 0x40 + below(p, 16), reg, &rm); break;
    case 9: x64_op(e, 0, false, true, X64_0F, 0x90 + below(p, 16), 0, &rm); break;
    case 10:
        rm = some_memory(p);
        x64_op(e, 0, wide, false, X64_0F38, 0xf0 + below(p, 2), reg, &rm);
        break;
    default: x64_op(e, 0, wide, false, X64_ONE, 0x89 + below(p, 2) * 2, reg, &rm);
    }
}

static void gen_shift(struct pair *p)
{
    static const u8 digits[] = {0, 1, 2, 3, 4, 5, 7};
    struct x64 *e = &p->e;
    struct x64_rm rm = some_rm(p);
    bool wide = below(p, 2), byte = !below(p, 4);
    if (!rm.memory) rm.reg = (u8)some_reg(p);
    unsigned d = digits[below(p, 7)];
    if (below(p, 2)) {
        x64_op(e, 0, wide && !byte, byte, X64_ONE, 0xc0 + !byte, d, &rm);
        x64_u8(e, below(p, 3) ? 1 : below(p, 70));
    } else {
        x64_op(e, 0, wide && !byte, byte, X64_ONE, 0xd2 + !byte, d, &rm);
    }
    define_flags(p);
}

static void gen_bits(struct pair *p)
{
    struct x64 *e = &p->e;
    struct x64_rm rm = some_rm(p);
    bool wide = below(p, 2);
    unsigned reg = some_reg(p);
    if (!rm.memory) rm.reg = (u8)some_reg(p);
    switch (below(p, 8)) {
    case 0:
        x64_op(e, 0, wide, false, X64_0F, 0xba, 4 + below(p, 4), &rm);
        x64_u8(e, below(p, 64));
        break;
    case 1:
        rm = x64_reg(some_reg(p));
        x64_op(e, 0, wide, false, X64_0F, 0xa3 + below(p, 4) * 8, reg, &rm);
        break;
    case 2: x64_op(e, X64_F3, wide, false, X64_0F, 0xbc + below(p, 2), reg, &rm); break;
    case 3: x64_op(e, X64_F3, wide, false, X64_0F, 0xb8, reg, &rm); break;
    case 4: x64_op(e, 0, wide, false, X64_0F, 0xaf, reg, &rm); break;
    case 5:
        x64_op(e, 0, wide, false, X64_0F, below(p, 2) ? 0xa4 : 0xac, reg, &rm);
        x64_u8(e, 1 + below(p, 31));
        break;
    case 6:
        x64_vex(e, below(p, 4), wide, false, X64_0F38, 0xf7, reg, some_reg(p), &rm);
        break;
    default: x64_op(e, X64_F2, wide, !wide, X64_0F38, wide ? 0xf1 : 0xf0, reg, &rm);
    }
    define_flags(p);
}

static void gen_other(struct pair *p)
{
    struct x64 *e = &p->e;
    struct x64_rm rm = some_rm(p);
    bool wide = below(p, 2);
    unsigned reg = some_reg(p);
    if (!rm.memory) rm.reg = (u8)some_reg(p);
    switch (below(p, 12)) {
    case 0: x64_op(e, 0, wide, false, X64_ONE, 0xff, below(p, 2), &rm); break;
    case 1: /* push, pop */
        if (reg >= 8) x64_u8(e, 0x41);
        x64_u8(e, 0x50 | (reg & 7));
        reg = some_reg(p);
        if (reg >= 8) x64_u8(e, 0x41);
        x64_u8(e, 0x58 | (reg & 7));
        break;
    case 2: x64_op(e, 0, wide, false, X64_ONE, 0x87, reg, &rm); break;
    case 3:
        if (rm.memory && below(p, 2)) x64_u8(e, 0xf0);
        x64_op(e, 0, wide, false, X64_0F, 0xc1, reg, &rm);
        break;
    case 4:
        if (rm.memory && below(p, 2)) x64_u8(e, 0xf0);
        x64_op(e, 0, wide, false, X64_0F, 0xb1, reg, &rm);
        break;
    case 5: /* division, often an exception; keep some from it */
        if (below(p, 4)) x64_alu(e, X64_XOR, 4, RDX, x64_reg(RDX));
        x64_op(e, 0, wide, false, X64_ONE, 0xf7, 6 + below(p, 2), &rm);
        define_flags(p);
        break;
    case 6:
        x64_op(e, 0, wide, false, X64_ONE, 0xf7, 4 + below(p, 2), &rm);
        define_flags(p);
        break;
    case 7:
        if (wide) x64_u8(e, 0x48);
        x64_u8(e, 0x98 + below(p, 2));
        break;
    case 8: x64_u8(e, below(p, 2) ? 0xf5 : 0xf8 + below(p, 2)); break;
    case 9: /* push imm; pop [memory] or a string instruction: helpers */
        x64_u8(e, 0x68), x64_u32(e, (u32)rnd(p));
        x64_u8(e, 0x58);
        x64_u8(e, 0x9f - below(p, 2)); /* lahf, sahf */
        break;
    case 10: /* pushf, pop */
        x64_u8(e, 0x9c);
        x64_u8(e, 0x58);
        break;
    /* push rm, pop rcx */
    default: x64_op(e, 0, true, false, X64_ONE, 0xff, 6, &rm), x64_u8(e, 0x59);
    }
}

static void gen_bmi(struct pair *p)
{
    struct x64 *e = &p->e;
    struct x64_rm rm = some_rm(p);
    bool wide = below(p, 2);
    unsigned reg = some_reg(p);
    if (!rm.memory) rm.reg = (u8)some_reg(p);
    switch (below(p, 8)) {
    case 0:
        if (wide || reg >= 8) x64_u8(e, 0x40 | wide << 3 | (reg >= 8));
        x64_u8(e, 0x0f), x64_u8(e, 0xc8 | (reg & 7));
        return;
    case 1: x64_op(e, 0, wide, false, X64_ONE, 0x69, reg, &rm), x64_u32(e, (u32)rnd(p)); break;
    case 2: x64_op(e, 0, wide, false, X64_ONE, 0x6b, reg, &rm), x64_u8(e, below(p, 256)); break;
    case 3: x64_vex(e, X64_NP, wide, false, X64_0F38, 0xf2, reg, some_reg(p), &rm); break;
    case 4: x64_vex(e, X64_NP, wide, false, X64_0F38, 0xf3, 1 + below(p, 3), reg, &rm); break;
    case 5: x64_vex(e, X64_NP, wide, false, X64_0F38, 0xf5, reg, some_reg(p), &rm); break;
    case 6: x64_vex(e, X64_F2 + below(p, 2) * 0, wide, false, X64_0F38, below(p, 2) ? 0xf5 : 0xf6,
                    reg, some_reg(p), &rm); break;
    default: x64_vex(e, X64_F2, wide, false, X64_0F3A, 0xf0, reg, 0, &rm), x64_u8(e, below(p, 64));
    }
    define_flags(p);
}

/* AH.. among the operands; RBX, a pointer, is left alone. */
static void gen_high(struct pair *p)
{
    static const u8 bytes[] = {0, 1, 2, 4, 5, 6};
    struct x64 *e = &p->e;
    struct x64_rm rm = x64_reg(bytes[below(p, 6)]);
    unsigned reg = bytes[below(p, 6)];
    switch (below(p, 4)) {
    case 0: x64_op(e, 0, 0, 0, X64_0F, below(p, 2) ? 0xb6 : 0xbe, below(p, 2) ? 2 : 7, &rm); break;
    case 1: x64_op(e, 0, 0, 0, X64_ONE, 0x88 + below(p, 2) * 2, reg, &rm); break;
    case 2:
        if (below(p, 2)) rm = x64_mem(RBX, below(p, 40));
        x64_op(e, 0, 0, 0, X64_ONE, below(p, 8) * 8 + below(p, 2) * 2, reg, &rm);
        break;
    default: x64_op(e, 0, 0, 0, X64_0F, 0x90 + below(p, 16), 0, &rm);
    }
}

/* REP MOVS, STOS; operands may lie over one another, in two pages, or where there is nothing. */
static void gen_string(struct pair *p)
{
    struct x64 *e = &p->e;
    bool moves = below(p, 2), down = !below(p, 6);
    unsigned size = 1u << below(p, 4);
    x64_lea(e, 8, RDI, some_memory(p));
    x64_mov_imm32(e, RCX, below(p, 8) ? below(p, 40) : below(p, 900));
    if (moves) {
        x64_u8(e, 0x56); /* push rsi */
        x64_lea(e, 8, RSI, below(p, 3) ? some_memory(p) : x64_mem(RDI, (i64)below(p, 17) - 8));
    }
    if (down) x64_u8(e, 0xfd);
    if (size == 2) x64_u8(e, 0x66);
    if (below(p, 3)) x64_u8(e, 0xf3);
    if (size == 8) x64_u8(e, 0x48);
    x64_u8(e, (moves ? 0xa4 : 0xaa) + (size != 1));
    if (down) x64_u8(e, 0xfc);
    if (moves) x64_u8(e, 0x5e);
}

/* Instructions that the interpreter runs, and BSF, BSR. */
static void gen_rare(struct pair *p)
{
    struct x64 *e = &p->e;
    struct x64_rm rm = x64_reg(some_reg(p));
    switch (below(p, 4)) {
    case 3: /* push flags; popf */
        x64_u8(e, 0x68), x64_u32(e, (u32)rnd(p) & 0x8d5);
        x64_u8(e, 0x9d);
        break;
    case 0: x64_op(e, 0, below(p, 2), 0, X64_0F, 0xbc + below(p, 2), some_reg(p),
                   &rm); define_flags(p); break;
    /* rdtsc; xor eax, eax */
    case 1: x64_u8(e, 0x0f), x64_u8(e, 0x31); x64_u8(e, 0x31), x64_u8(e, 0xc0); break;
    default: gen_string(p);
    }
}

static void gen_avx(struct pair *p)
{
    static const struct { u8 pp, map, op, two; } table[] = {
        {X64_66, X64_0F, 0x74, 0}, {X64_66, X64_0F, 0xda, 0}, {X64_66, X64_0F, 0xeb, 0},
        {X64_66, X64_0F, 0xef, 0}, {X64_66, X64_0F, 0xdb, 0}, {X64_66, X64_0F, 0xf8, 0},
        {X64_66, X64_0F, 0x6f, 1}, {X64_F3, X64_0F, 0x6f, 1}, {X64_F3, X64_0F, 0x7f, 1},
        {X64_66, X64_0F, 0x7f, 1}, {X64_66, X64_0F, 0x60, 0}, {X64_66, X64_0F38, 0x00, 0},
        {X64_66, X64_0F38, 0x3a, 0}, {X64_66, X64_0F38, 0x78, 1}, {X64_66, X64_0F38, 0x58, 1},
        {X64_66, X64_0F38, 0x17, 1}, {X64_66, X64_0F38, 0x20, 1}, {X64_66, X64_0F38, 0x36, 0},
        {X64_NP, X64_0F, 0x58, 0}, {X64_66, X64_0F, 0x59, 0}};
    struct x64 *e = &p->e;
    struct x64_rm rm = below(p, 2) ? some_memory(p) : x64_reg(below(p, 16));
    unsigned k = below(p, ARRAY_SIZE(table) + 4);
    if (k < ARRAY_SIZE(table)) {
        x64_vex(e, table[k].pp, 0, below(p, 3) > 0 || table[k].op == 0x36, table[k].map,
                table[k].op, below(p, 16), table[k].two ? 0 : below(p, 16), &rm);
        return;
    }
    struct x64_rm gr = x64_reg(some_reg(p)), v = x64_reg(below(p, 16));
    if (k % 4 == 0) x64_vex(e, X64_66, 0, 1, X64_0F, 0xd7, some_reg(p), 0, &v);
    else if (k % 4 == 1) x64_vex(e, X64_66, below(p, 2), 0, X64_0F, 0x6e, below(p, 16), 0, &gr);
    else if (k % 4 == 2) x64_u8(e, 0xc5), x64_u8(e, 0xf8), x64_u8(e, 0x77);
    else x64_vex(e, X64_66, below(p, 2), 0, X64_0F, 0x7e, below(p, 16), 0, &gr);
}

static void gen_simd(struct pair *p)
{
    static const struct { u8 pp, map, op, store; } table[] = {
        {X64_NP, X64_0F, 0x58, 0}, {X64_66, X64_0F, 0x58, 0}, {X64_F3, X64_0F, 0x58, 0},
        {X64_F2, X64_0F, 0x58, 0}, {X64_F2, X64_0F, 0x59, 0}, {X64_F2, X64_0F, 0x5c, 0},
        {X64_F2, X64_0F, 0x5e, 0}, {X64_F2, X64_0F, 0x51, 0}, {X64_F2, X64_0F, 0x5d, 0},
        {X64_F2, X64_0F, 0x5f, 0}, {X64_F3, X64_0F, 0x5a, 0}, {X64_F2, X64_0F, 0x5a, 0},
        {X64_NP, X64_0F, 0x5a, 0}, {X64_66, X64_0F, 0x5a, 0}, {X64_NP, X64_0F, 0x5b, 0},
        {X64_F3, X64_0F, 0x5b, 0}, {X64_66, X64_0F, 0xfe, 0}, {X64_66, X64_0F, 0xef, 0},
        {X64_66, X64_0F, 0xd4, 0}, {X64_66, X64_0F, 0x60, 0}, {X64_66, X64_0F, 0x62, 0},
        {X64_66, X64_0F, 0x6c, 0}, {X64_66, X64_0F, 0x74, 0}, {X64_66, X64_0F, 0xda, 0},
        {X64_NP, X64_0F, 0x28, 0}, {X64_NP, X64_0F, 0x10, 0}, {X64_NP, X64_0F, 0x11, 1},
        {X64_NP, X64_0F, 0x29, 1}, {X64_F3, X64_0F, 0x6f, 0}, {X64_F3, X64_0F, 0x7f, 1},
        {X64_66, X64_0F, 0xd6, 1}, {X64_F3, X64_0F, 0x7e, 0}, {X64_F2, X64_0F, 0x10, 0},
        {X64_F2, X64_0F, 0x11, 1}, {X64_F3, X64_0F, 0x10, 0}, {X64_F3, X64_0F, 0x11, 1},
        {X64_66, X64_0F38, 0x00, 0}, {X64_66, X64_0F38, 0x1c, 0}, {X64_66, X64_0F38, 0x20, 0},
        {X64_66, X64_0F38, 0x31, 0}, {X64_66, X64_0F38, 0x40, 0}, {X64_66, X64_0F38, 0xdc, 0},
        {X64_F2, X64_0F, 0x12, 0}, {X64_F3, X64_0F, 0x16, 0}, {X64_66, X64_0F, 0x2e, 2},
        {X64_NP, X64_0F, 0x2f, 2}, {X64_66, X64_0F38, 0x17, 2}, {X64_66, X64_0F, 0x71, 0}};
    struct x64 *e = &p->e;
    unsigned k = below(p, ARRAY_SIZE(table) + 8), reg = below(p, 16);
    struct x64_rm rm = below(p, 2) ? some_memory(p) : x64_reg(below(p, 16));
    bool vex = below(p, 3) == 0;
    if (k + 1 < ARRAY_SIZE(table)) {
        if (vex && table[k].store != 2 && table[k].pp < X64_F3 && table[k].op != 0xd6)
            x64_vex(e, table[k].pp, 0, 0, table[k].map, table[k].op, reg,
                    table[k].store || table[k].op == 0x28 || table[k].op == 0x10 ||
                    table[k].op == 0x5a ||
                    table[k].op == 0x5b || table[k].op == 0x1c || table[k].op == 0x20 ||
                    table[k].op == 0x31 ? 0 : below(p, 16), &rm);
        else x64_op(e, table[k].pp, 0, 0, table[k].map, table[k].op, reg, &rm);
        if (table[k].op == 0x71) x64_u8(e, 3);
        return;
    }
    struct x64_rm gr = below(p, 2) ? some_memory(p) : x64_reg(some_reg(p));
    bool wide = below(p, 2);
    switch (k % 8) {
    case 0: x64_op(e, X64_F2, wide, 0, X64_0F, 0x2a, reg, &gr); break;
    case 1: x64_op(e, X64_F2, wide, 0, X64_0F, 0x2c + below(p, 2), some_reg(p), &rm); break;
    case 2: x64_op(e, X64_66, wide, 0, X64_0F, 0x6e, reg, &gr); break;
    case 3: x64_op(e, X64_66, wide, 0, X64_0F, 0x7e, reg, &gr); break;
    case 4: rm = x64_reg(below(p, 16)); x64_op(e, X64_66, 0, 0, X64_0F, 0xd7, some_reg(p),
                                               &rm); break;
    case 5: x64_op(e, X64_66, 0, 0, X64_0F, 0x70, reg, &rm); x64_u8(e, below(p, 256)); break;
    case 6: x64_vex(e, X64_66, 0, 1, X64_0F, 0xfe, reg, below(p, 16), &rm); break;
    default: x64_vex(e, X64_66, wide, 1, X64_0F38, 0xb8, reg, below(p, 16), &rm);
    }
}

/* A control word, mostly with all exceptions masked. */
static void gen_control(struct pair *p)
{
    struct x64 *e = &p->e;
    struct x64_rm at = x64_mem(RBX, below(p, 32) * 2);
    unsigned pc = below(p, 3), word = 0x7f | (pc + (pc > 0)) << 8 | below(p, 4) << 10;
    if (!below(p, 10)) word &= (u16)rnd(p);
    x64_op(e, X64_66, 0, 0, X64_ONE, 0xc7, 0, &at);
    x64_u16(e, word);
    x64_op(e, 0, 0, 0, X64_ONE, 0xd9, 5, &at);
}

static bool x87_defined(unsigned opcode, unsigned modrm)
{
    static const struct { u8 opcode, first, last; } undefined[] = {
        {0xd9, 0xd1, 0xd7}, {0xd9, 0xe2, 0xe3}, {0xd9, 0xe6, 0xe7}, {0xd9, 0xef, 0xef},
        {0xda, 0xe0, 0xe8}, {0xda, 0xea, 0xff}, {0xdb, 0xe5, 0xe7}, {0xdb, 0xf8, 0xff},
        {0xdd, 0xf0, 0xff}, {0xde, 0xd8, 0xd8}, {0xde, 0xda, 0xdf}, {0xdf, 0xe1, 0xe7},
        {0xdf, 0xf8, 0xff}};
    for (unsigned n = 0; n < ARRAY_SIZE(undefined); n++)
        if (opcode == undefined[n].opcode && modrm >= undefined[n].first &&
            modrm <= undefined[n].last)
            return false;
    return true;
}

static void gen_x87(struct pair *p)
{
    struct x64 *e = &p->e;
    unsigned opcode = 0xd8 + below(p, 8);
    if (!below(p, 12)) {
        gen_control(p);
    } else if (!below(p, 60)) {
        x64_u8(e, 0x9b);
    } else if (below(p, 5) < 2) {
        struct x64_rm rm = some_memory(p);
        unsigned digit = below(p, 8), k = opcode << 4 | digit;
        if (k == 0xd91 || k == 0xdb4 || k == 0xdb6 || k == 0xdd5) return;
        if ((k == 0xd94 || k == 0xd95 || k == 0xdd4) && below(p, 20)) return;
        x64_op(e, 0, 0, 0, X64_ONE, opcode, digit, &rm);
    } else {
        unsigned modrm = 0xc0 | below(p, 64);
        if (!x87_defined(opcode, modrm)) return;
        if (opcode == 0xd9 && modrm >= 0xc8 && below(p, 2)) modrm = 0xe8 + below(p, 7);
        if (opcode == 0xdb && modrm == 0xe3 && below(p, 10)) return;
        x64_u8(e, opcode);
        x64_u8(e, modrm);
    }
}

static void gen_mmx(struct pair *p)
{
    static const u8 plain[] = {
        0x60, 0x61, 0x62, 0x63, 0x64, 0x67, 0x68, 0x6a, 0x6b, 0x6f, 0x74, 0x76, 0xd1, 0xd2, 0xd3,
        0xd4, 0xd5, 0xd8, 0xda, 0xdb, 0xdf, 0xe0, 0xe4, 0xe5, 0xe8, 0xeb, 0xef, 0xf1, 0xf3, 0xf4,
        0xf5, 0xf6, 0xf8, 0xfb, 0xfe};
    struct x64 *e = &p->e;
    unsigned reg = below(p, 8), k = below(p, 40);
    struct x64_rm rm = below(p, 2) ? some_memory(p) : x64_reg(below(p, 8)),
                  mm = x64_reg(below(p, 8));
    struct x64_rm gr = below(p, 2) ? some_memory(p) : x64_reg(some_reg(p));
    switch (k) {
    case 0: x64_u8(e, 0x0f), x64_u8(e, 0x77); break;
    case 1: x64_op(e, 0, below(p, 2), 0, X64_0F, 0x6e, reg, &gr); break;
    case 2: x64_op(e, 0, below(p, 2), 0, X64_0F, 0x7e, reg, &gr); break;
    case 3: x64_op(e, 0, 0, 0, X64_0F, 0x7f, reg, &rm); break;
    case 4: x64_op(e, 0, 0, 0, X64_0F, 0x70, reg, &rm), x64_u8(e, below(p, 256)); break;
    case 5: x64_op(e, 0, 0, 0, X64_0F, 0x71 + below(p, 3), 2 + below(p, 2) * 4, &mm),
        x64_u8(e, below(p, 70)); break;
    case 6: x64_op(e, 0, 0, 0, X64_0F, 0xd7, some_reg(p), &mm); break;
    case 7: x64_op(e, 0, 0, 0, X64_0F, 0xc5, some_reg(p), &mm), x64_u8(e, below(p, 8)); break;
    case 8: gr = x64_reg(some_reg(p)), x64_op(e, 0, 0, 0, X64_0F, 0xc4, reg, &gr),
        x64_u8(e, below(p, 8)); break;
    case 9: x64_op(e, X64_F2, 0, 0, X64_0F, 0xd6, reg, &mm); break;
    case 10: x64_op(e, X64_F3, 0, 0, X64_0F, 0xd6, below(p, 16), &mm); break;
    case 11: x64_op(e, below(p, 2), 0, 0, X64_0F, 0x2a, below(p, 16), &mm); break;
    case 12: rm = x64_reg(below(p, 16)), x64_op(e, below(p, 2), 0, 0, X64_0F, 0x2c + below(p, 2),
                                                reg, &rm); break;
    case 13: rm = some_memory(p), x64_op(e, 0, 0, 0, X64_0F, 0xe7, reg, &rm); break;
    case 14: x64_op(e, 0, 0, 0, X64_0F38, below(p, 12), reg, &rm); break;
    case 15: x64_op(e, 0, 0, 0, X64_0F3A, 0x0f, reg, &rm), x64_u8(e, below(p, 18)); break;
    default: x64_op(e, 0, 0, 0, X64_0F, plain[below(p, ARRAY_SIZE(plain))], reg, &rm);
    }
}

/* Task switching and what saves and restores everything. */
static void gen_context(struct pair *p)
{
    struct x64 *e = &p->e;
    struct x64_rm at = x64_mem(H_NONE, FLAT_DATA + 0x2000 + below(p, 4) * 512);
    switch (below(p, 4)) {
    case 0: x64_op(e, 0, below(p, 2), 0, X64_0F, 0xae, 0, &at); break; /* fxsave */
    case 1: /* and fxrstor of the same */
        x64_op(e, 0, 1, 0, X64_0F, 0xae, 0, &at);
        x64_op(e, 0, 1, 0, X64_0F, 0xae, 1, &at);
        break;
    case 2: x64_u8(e, 0x0f), x64_u8(e, 0x06); break; /* clts */
    default: /* mov rax, cr0; bts eax, 3 or nothing; mov cr0, rax; clts now and then */
        if (below(p, 6)) return;
        x64_u8(e, 0x0f), x64_u8(e, 0x20), x64_u8(e, 0xc0);
        x64_u8(e, 0x0f), x64_u8(e, 0xba), x64_u8(e, 0xe8), x64_u8(e, 3);
        x64_u8(e, 0x0f), x64_u8(e, 0x22), x64_u8(e, 0xc0);
        if (below(p, 3)) x64_u8(e, 0x0f), x64_u8(e, 0x06);
    }
}

static void gen_one(struct pair *p)
{
    unsigned k = below(p, 32);
    if (p->x87 && k < 20) {
        if (!below(p, 20)) gen_context(p);
        else if (below(p, 5)) gen_x87(p);
        else gen_mmx(p);
        return;
    }
    if (p->simd && k < 12) gen_simd(p);
    else if (p->simd && k < 20) gen_avx(p);
    else if (k == 22) gen_high(p);
    else if (k == 27) gen_rare(p);
    else if (k == 21 || k == 24 || k == 29) gen_bmi(p);
    else if (k < 11) gen_alu(p);
    else if (k < 20) gen_move(p);
    else if (k < 23) gen_shift(p);
    else if (k < 26) gen_bits(p);
    else gen_other(p);
}

static void gen_branch(struct pair *p)
{
    struct x64 *e = &p->e;
    unsigned k = below(p, 5);
    if (k < 3) { /* over a few instructions */
        u8 *at = x64_jcc(e, below(p, 16));
        for (unsigned n = 1 + below(p, 3); n--;) gen_one(p);
        x64_patch(at, e->p);
    } else if (k == 3) { /* a function, called directly or through r14 */
        u8 *over = x64_jmp(e), *start = e->p;
        for (unsigned n = below(p, 4); n--;) gen_one(p);
        x64_u8(e, 0xc3);
        x64_patch(over, e->p);
        if (below(p, 2)) {
            x64_u8(e, 0xe8);
            x64_u32(e, (u32)(start - (e->p + 4)));
        } else {
            x64_mov_imm64(e, R14, FLAT_CODE + (u64)(start - p->code));
            struct x64_rm rm = x64_reg(R14);
            x64_op(e, 0, 0, 0, X64_ONE, 0xff, 2, &rm);
        }
    } else { /* a jump through rax, sometimes to another page */
        x64_u8(e, 0x48), x64_u8(e, 0x8d), x64_u8(e, 0x05); /* lea rax, [rip+...] */
        u8 *at = e->p;
        x64_u32(e, 0);
        x64_u8(e, 0xff), x64_u8(e, 0xe0);
        unsigned skip = below(p, 4) ? below(p, 8) : below(p, 700);
        st32(at, (u32)(e->p + skip - (at + 4)));
        memset(e->p, 0xcc, skip);
        e->p += skip;
    }
}

static void generate(struct pair *p, unsigned count)
{
    memset(p->code, 0xf4, sizeof(p->code));
    p->e = (struct x64){p->code, p->code + sizeof(p->code) - 1024};
    unsigned start = below(p, 3) ? 0 : 4096 - below(p, 200);
    if (start) {
        x64_jmp_to(&p->e, p->code + start);
        p->e.p = p->code + start;
    }
    u8 *top = p->e.p;
    while (count-- && p->e.p < p->e.end) {
        if (below(p, 7)) gen_one(p);
        else gen_branch(p);
    }
    struct x64_rm counter = x64_reg(R15);
    x64_op(&p->e, 0, true, false, X64_ONE, 0xff, 1, &counter);
    x64_patch(x64_jcc(&p->e, CC_NE), top);
    x64_u8(&p->e, 0xf4);
}

/* --- comparing --- */

static bool same(struct pair *p, const char **what)
{
    struct vcpu *a = p->a->cpu, *b = p->b->cpu;
#define SAME(cond, name) if (!(cond)) { *what = name; return false; }
    for (unsigned r = 0; r < 16; r++) SAME(a->regs[r] == b->regs[r], "general registers");
    SAME(a->rip == b->rip, "rip");
    SAME(cpu_eflags(a) == cpu_eflags(b), "flags");
    SAME(a->icount == b->icount, "icount");
    SAME(a->cr2 == b->cr2, "cr2");
    for (unsigned r = 0; r < 16; r++)
        SAME(!memcmp(&a->zmm[r * 8], &b->zmm[r * 8], 32), "vector registers");
    SAME(a->mxcsr == b->mxcsr, "mxcsr");
    SAME(a->fcw == b->fcw && a->fsw == b->fsw && a->ftw == b->ftw, "x87 words");
    for (unsigned r = 0; r < 8; r++)
        SAME(a->fpu_mantissa[r] == b->fpu_mantissa[r] && a->fpu_exponent[r] == b->fpu_exponent[r],
             "x87 registers");
    SAME(a->fip == b->fip && a->fcs == b->fcs && a->fdp == b->fdp && a->fds == b->fds &&
             a->fop == b->fop,
         "x87 pointers");
    SAME(!memcmp(p->a->ram + FLAT_DATA, p->b->ram + FLAT_DATA, DATA_PAGES * 4096), "data");
    SAME(!memcmp(p->a->ram + FLAT_STACK - 8192, p->b->ram + FLAT_STACK - 8192, 8192), "stack");
    return true;
}

static void show_code(struct pair *p)
{
    FILE *f = getenv("JIT_CODE") ? fopen(getenv("JIT_CODE"), "wb") : NULL;
    if (f) fwrite(p->code, sizeof(p->code), 1, f), fclose(f);
}

static void show(struct pair *p, u64 seed, const char *what)
{
    struct vcpu *a = p->a->cpu, *b = p->b->cpu;
    fprintf(stderr, "# seed %llu: %s differ\n", (unsigned long long)seed, what);
    for (unsigned r = 0; r < 16; r++)
        if (a->regs[r] != b->regs[r])
            fprintf(stderr, "# r%u %016llx %016llx\n", r, (unsigned long long)a->regs[r],
                    (unsigned long long)b->regs[r]);
    for (unsigned r = 0; r < 128; r++)
        if (a->zmm[r] != b->zmm[r])
            fprintf(stderr, "# zmm%u.%u %016llx %016llx\n", r / 8, r % 8,
                    (unsigned long long)a->zmm[r], (unsigned long long)b->zmm[r]);
    for (unsigned i = 0; i < DATA_PAGES * 512; i++)
        if (ld64(p->a->ram + FLAT_DATA + i * 8) != ld64(p->b->ram + FLAT_DATA + i * 8))
            fprintf(stderr, "# data+%x %016llx %016llx\n", i * 8,
                    (unsigned long long)ld64(p->a->ram + FLAT_DATA + i * 8),
                    (unsigned long long)ld64(p->b->ram + FLAT_DATA + i * 8));
    fprintf(stderr, "# rip %llx %llx flags %x %x icount %llu %llu mxcsr %x %x\n",
            (unsigned long long)a->rip, (unsigned long long)b->rip, cpu_eflags(a), cpu_eflags(b),
            (unsigned long long)a->icount, (unsigned long long)b->icount, a->mxcsr, b->mxcsr);
}

static void show_x87(struct pair *p)
{
    struct vcpu *c[2] = {p->a->cpu, p->b->cpu};
    for (unsigned n = 0; n < 2; n++) {
        fprintf(stderr, "# fcw %x fsw %x ftw %x fop %x fip %llx fdp %llx %x %x\n#", c[n]->fcw,
                c[n]->fsw, c[n]->ftw, c[n]->fop, (unsigned long long)c[n]->fip,
                (unsigned long long)c[n]->fdp, c[n]->fcs, c[n]->fds);
        for (unsigned r = 0; r < 8; r++)
            fprintf(stderr, " %04x:%016llx", c[n]->fpu_exponent[r],
                    (unsigned long long)c[n]->fpu_mantissa[r]);
        fprintf(stderr, "\n");
    }
}

static enum cpu_exit run(struct flat *f, i64 budget)
{
    f->cpu->budget = budget;
    return cpu_run(f->cpu);
}

/* Finds the first instruction after which they differ. */
static void locate(struct pair *p, u64 seed)
{
    const char *what = "";
    u64 last = 0;
    for (i64 n = 1; n < 4000; n++) {
        prepare(p, p->a, seed);
        prepare(p, p->b, seed);
        run(p->a, n);
        enum cpu_exit exit = CPU_EXIT_BUDGET;
        /* enough that blocks are entered, then to the point one by one */
        exit = run(p->b, n);
        if (!same(p, &what)) {
            fprintf(stderr, "# first after %lld instructions, before it rip %llx (%s)\n",
                    (long long)n, (unsigned long long)last, what);
            return;
        }
        last = p->a->cpu->rip;
        if (exit != CPU_EXIT_BUDGET) return;
    }
}

static void compare(struct pair *p, u64 seed, i64 budget)
{
    const char *what = "";
    prepare(p, p->a, seed);
    prepare(p, p->b, seed);
    enum cpu_exit x = run(p->a, budget), y = run(p->b, budget);
    if (x == y && same(p, &what)) return;
    show(p, seed, x == y ? what : "exits");
    show_code(p);
    if (p->x87) show_x87(p);
    locate(p, seed);
    fail();
}

enum { INTEGER, VECTORS, X87 };
static struct jit_stats campaign(const struct jit_options *options, unsigned kind,
                                 unsigned programs, u64 seed)
{
    struct jit_stats sum = {0}, *s = &sum;
    struct pair *p = pair_new(options);
    if (!p) {
        skip();
        return sum;
    }
    const char *one = getenv("JIT_SEED"), *many = getenv("JIT_PROGRAMS");
    if (many) programs = (unsigned)atoi(many);
    p->simd = kind == VECTORS;
    p->x87 = kind == X87;
    for (unsigned n = one ? (unsigned)(strtoull(one, NULL, 0) - seed) : 0; n < programs; n++) {
        u64 number = seed + n;
        p->random = number * 0x9e3779b97f4a7c15ull | 1;
        for (unsigned i = 0; i < 4; i++) rnd(p);
        generate(p, 5 + below(p, n & 1 ? 12 : 80));
        p->user = number & 1;
        compare(p, number, below(p, 4) ? 30000 : 200 + below(p, 1000));
        if (one && !getenv("JIT_ON")) break;
    }
    jit_statistics(p->jit, s);
    fprintf(stderr,
            "# %llu blocks, %llu instructions, %llu bytes; %llu accesses %llu helpers %llu ends "
            "%llu links %llu lookups %llu vectors %llu entries %llu refused %llu evictions; loops %llu %llu insns %llu bytes\n",
            (unsigned long long)s->blocks, (unsigned long long)s->insns,
            (unsigned long long)s->host_bytes, (unsigned long long)s->accesses,
            (unsigned long long)s->helpers, (unsigned long long)s->ends,
            (unsigned long long)s->links, (unsigned long long)s->lookups,
            (unsigned long long)s->vectors, (unsigned long long)s->entries,
            (unsigned long long)s->refused, (unsigned long long)s->evictions,
            (unsigned long long)s->loop_units, (unsigned long long)s->loop_insns,
            (unsigned long long)s->loop_bytes);
    pair_free(p);
    return sum;
}

static void test_integer(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 1, .no_loops = true}, INTEGER, 3000, 1000);
}
static void test_vectors(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 1, .no_loops = true}, VECTORS, 3000, 5000);
}
static void test_loops(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 1, .hot = 1, .no_background = true,
                                   .all_loops = true}, INTEGER, 3000, 1000);
}
static void test_loops_vectors(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 1, .hot = 2, .no_background = true,
                                   .all_loops = true}, VECTORS, 2000, 15000);
}
static void test_loops_groups_fail(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 1, .hot = 1, .no_background = true, .all_loops = true,
                                   .fail_groups = true}, VECTORS, 1000, 20000);
}
static void test_loops_x87(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 1, .hot = 1, .no_background = true,
                                   .all_loops = true}, X87, 1000, 25000);
}
/* Made by another thread: waited for, and entered as it comes. */
static void test_loops_background(void **state)
{
    (void)state;
    struct jit_stats s = campaign(&(struct jit_options){.threshold = 1, .hot = 1, .all_loops = true,
                                                        .await_background = true},
                                  INTEGER, 1000, 50000);
    assert_true(!s.blocks || s.background_units > 100);
    campaign(&(struct jit_options){.threshold = 1, .hot = 1, .all_loops = true}, VECTORS, 1000, 55000);
}
static void test_cold(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 1, .force_cold = true}, VECTORS, 500, 9000);
}
static void test_x87(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 1}, X87, 3000, 20000);
}
static void test_x87_cold(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 1, .force_cold = true}, X87, 500, 30000);
}
static void test_unlinked_small(void **state)
{
    (void)state;
    campaign(&(struct jit_options){.threshold = 3, .no_link = true, .tb_size = KIB(256)}, VECTORS,
             500, 10000);
}

/* Code that is linked to, redirected and in the jump cache goes all the time. */
static void test_evictions(void **state)
{
    (void)state;
    struct jit_stats s = campaign(&(struct jit_options){.threshold = 1, .hot = 2, .all_loops = true,
                                                        .tb_size = KIB(64)},
                                  INTEGER, 2000, 40000);
    assert_true(!s.blocks || (s.evictions > 100 && s.unlinked > 10));
}

static void test_evictions_background(void **state)
{
    (void)state;
    struct jit_stats s = campaign(&(struct jit_options){.threshold = 1, .hot = 2, .all_loops = true,
                                                        .await_background = true, .tb_size = MIB(1)},
                                  INTEGER, 1000, 60000);
    assert_true(!s.blocks || (s.evictions > 10 && s.background_units > 100));
}

/* A loop that patches an instruction ahead of itself, and one in its own block. */
static void self_modifying(const struct jit_options *options, i64 budget)
{
    struct pair *p = pair_new(options);
    if (!p) {
        skip();
        return;
    }
    static const u8 code[] = {
        0x31, 0xc0,                                     /* xor eax, eax */
        0x8d, 0x3d, 0x0a, 0x00, 0x00, 0x00,             /* lea edi, [rip+10] */
        0xff, 0x47, 0x01,                               /* loop: inc dword [rdi+1] */
        0x48, 0xff, 0xc1,                               /* inc rcx */
        0x90, 0x90, 0x90, 0x90,
        0x05, 0x00, 0x00, 0x00, 0x00,                   /* add eax, imm32 */
        0x41, 0xff, 0xcf,                               /* dec r15d */
        0x75, 0xec,                                     /* jnz loop */
        0xf4};
    memset(p->code, 0xf4, sizeof(p->code));
    memcpy(p->code, code, sizeof(code));
    for (u64 seed = 0; seed < 20; seed++) compare(p, seed, budget);
    pair_free(p);
}

static void test_self_modifying(void **state)
{
    (void)state;
    self_modifying(&(struct jit_options){.threshold = 1}, 10000);
    self_modifying(&(struct jit_options){.threshold = 1, .no_budget = true}, INT64_MAX);
}

static void gen_store(struct x64 *e, u64 at, u32 value)
{
    struct x64_rm rm = x64_mem(H_NONE, (i64)at);
    x64_op(e, 0, 0, 0, X64_ONE, 0xc7, 0, &rm);
    x64_u32(e, value);
}

/* An instruction in two pages, whose second is remapped, and written when WRITE, in a loop. */
static void straddle_program(struct pair *p, bool write)
{
    const u64 first = FLAT_DATA + 0x6000, second = FLAT_DATA + 0x7000;
    struct x64 *e = &p->e;
    struct x64_rm pte = x64_mem(H_NONE, PAGE_TABLE + 0x107 * 8),
                  page = x64_mem(H_NONE, (i64)second);
    struct x64_rm rdx = x64_reg(RDX), counter = x64_reg(R15);
    memset(p->code, 0xf4, sizeof(p->code));
    *e = (struct x64){p->code, p->code + sizeof(p->code)};
    gen_store(e, first + 0xffc, 0x11059090);
    gen_store(e, second, 0xc3000001);
    gen_store(e, second + 0x1000, 0xc3000002);
    u8 *loop = e->p;
    x64_mov_imm32(e, RDX, (u32)first + 0xffe);
    for (unsigned n = 0; n < 3; n++) x64_op(e, 0, 0, 0, X64_ONE, 0xff, 2, &rdx);
    x64_alu_imm(e, X64_XOR, 4, pte, 0xf000);
    if (write) x64_op(e, 0, 0, 0, X64_ONE, 0xfe, 0, &page); /* by the old translation */
    x64_op(e, 0, 0, 0, X64_0F, 0x01, 7, &page);
    x64_op(e, 0, true, false, X64_ONE, 0xff, 1, &counter);
    x64_patch(x64_jcc(e, CC_NE), loop);
    x64_u8(e, 0xf4);
}

static void test_straddling(void **state)
{
    (void)state;
    struct pair *p = pair_new(&(struct jit_options){.threshold = 1});
    if (!p) {
        skip();
        return;
    }
    for (u64 seed = 0; seed < 20; seed++) {
        straddle_program(p, seed & 1);
        compare(p, seed, 10000);
    }
    pair_free(p);
}

/* --- the stack's page --- */

#define STACK_PAGE (FLAT_STACK - 4096)
#define STACK_TABLE 0x5000u
#define STACK_HANDLER (FLAT_HANDLER + 0x400)

/* Four rounds: R15's number to the stack often, then #UD. At last RCX to two pages at once. */
static const u8 stack_code[] = {
    0xb9, 0x64, 0x00, 0x00, 0x00,   /* round: mov ecx, 100 */
    0x41, 0x57, 0x58,               /* loop: push r15; pop rax */
    0xff, 0xc9, 0x75, 0xf9,         /* dec ecx; jnz loop */
    0x0f, 0x0b,                     /* ud2 */
    0x49, 0xff, 0xcf, 0x75, 0xeb,   /* dec r15; jnz round */
    0x48, 0x89, 0x8c, 0x24, 0xfc, 0xef, 0xff, 0xff, /* mov [rsp - 4100], rcx */
    0xf4};

/* #UD's handler: the stack's PTE xor BY, a flush, past the UD2 and back. */
static void stack_handler(struct flat *f, u32 by, bool whole)
{
    struct x64 e = {f->ram + FLAT_HANDLER + 16 * VECTOR_UD, NULL};
    struct x64_rm pte = x64_mem(H_NONE, STACK_TABLE + (STACK_PAGE >> 12) * 8);
    struct x64_rm page = x64_mem(H_NONE, STACK_PAGE);
    x64_jmp_to(&e, f->ram + STACK_HANDLER);
    e.p = f->ram + STACK_HANDLER;
    x64_alu_imm(&e, X64_XOR, 4, pte, (i32)by);
    if (whole) x64_u32(&e, 0x0fd8200f), x64_u16(&e, 0xd822); /* mov rax, cr3; mov cr3, rax */
    else x64_op(&e, 0, 0, 0, X64_0F, 0x01, 7, &page);
    x64_alu_imm(&e, X64_ADD, 8, x64_mem(H_RSP, 0), 2);
    x64_u16(&e, 0xcf48); /* iretq */
}

/* Ends with the vector told. */
static void stack_run(struct flat *f, u32 by, bool whole, unsigned vector)
{
    flat_reset(f);
    for (u64 i = 0; i < 512; i++) st64(f->ram + STACK_TABLE + i * 8, i << 12 | 7);
    st64(f->ram + 0x3000, STACK_TABLE | 7);
    tlb_flush_all(f->cpu);
    memset(f->ram + STACK_PAGE - 4096, 0xff, 8192);
    flat_code(f, stack_code, sizeof(stack_code));
    memory_code_written(bus_memory(f->bus), f->ram + STACK_HANDLER, 64);
    stack_handler(f, by, whole);
    flat_user(f);
    f->cpu->regs[R15] = 4;
    assert_int_equal(run(f, 100000), CPU_EXIT_IDLE);
    assert_int_equal((f->cpu->rip - FLAT_HANDLER) / 16, vector);
}

/* What was known of the stack's page is void when it is another, or may not be written any more. */
static void test_stack(void **state)
{
    const u64 other = FLAT_DATA;
    (void)state;
    struct pair *p = pair_new(&(struct jit_options){.threshold = 1});
    if (!p) {
        skip();
        return;
    }
    for (unsigned n = 0; n < 4; n++) {
        struct flat *f = p->b;
        memset(f->ram + other, 0, 4096);
        stack_run(f, STACK_PAGE ^ other, n & 1, VECTOR_GP); /* HLT */
        assert_int_equal(ld64(f->ram + STACK_PAGE + 4088), 2);
        assert_int_equal(ld64(f->ram + other + 4088), 1);
        assert_int_equal(ld32(f->ram + STACK_PAGE - 4), 0);
        assert_int_equal(ld32(f->ram + STACK_PAGE), 0);
        stack_run(f, 2, n & 1, VECTOR_PF);
        assert_int_equal(f->cpu->cr2, FLAT_STACK - 8);
        assert_int_equal(ld64(f->ram + STACK_PAGE + 4088), 4);
    }
    pair_free(p);
}

/* Code that is pushed, another one each time, and called. */
static void test_stack_code(void **state)
{
    static const u8 code[] = {
        0xb9, 0x40, 0x00, 0x00, 0x00,       /* mov ecx, 64 */
        0x51, 0x58, 0xff, 0xc9, 0x75, 0xfa, /* once: push rcx; pop rax; dec ecx; jnz once */
        0xb9, 0x40, 0x00, 0x00, 0x00,
        0x48, 0xb8, 0x81, 0xc2, 0x00, 0x00, 0x00, 0x00, 0xc3, 0x90, /* loop: mov rax, add edx, 0; ret */
        0x89, 0xce,                         /* mov esi, ecx */
        0x48, 0xc1, 0xe6, 0x10,             /* shl rsi, 16 */
        0x48, 0x09, 0xf0,                   /* or rax, rsi */
        0x50,                               /* push rax */
        0x48, 0x89, 0xe3,                   /* mov rbx, rsp */
        0xff, 0xd3,                         /* call rbx */
        0x58,                               /* pop rax */
        0xff, 0xc9,                         /* dec ecx */
        0x75, 0xe2,                         /* jnz loop */
        0xf4};
    (void)state;
    struct pair *p = pair_new(&(struct jit_options){.threshold = 1});
    if (!p) {
        skip();
        return;
    }
    memset(p->code, 0xf4, sizeof(p->code));
    memcpy(p->code, code, sizeof(code));
    p->user = true;
    for (u64 seed = 0; seed < 40; seed++) compare(p, seed, 10000);
    pair_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integer),      cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_loops),
        cmocka_unit_test(test_loops_vectors), cmocka_unit_test(test_loops_x87),
        cmocka_unit_test(test_loops_groups_fail),
        cmocka_unit_test(test_cold),         cmocka_unit_test(test_unlinked_small),
        cmocka_unit_test(test_loops_background), cmocka_unit_test(test_evictions_background),
        cmocka_unit_test(test_evictions), cmocka_unit_test(test_self_modifying),
        cmocka_unit_test(test_x87), cmocka_unit_test(test_x87_cold),
        cmocka_unit_test(test_straddling),
        cmocka_unit_test(test_stack), cmocka_unit_test(test_stack_code),
    };
    if (getenv("JIT_TEST")) cmocka_set_test_filter(getenv("JIT_TEST"));
    return cmocka_run_group_tests_name("jit", tests, NULL, NULL);
}
