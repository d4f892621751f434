/*
 * x86-64 instruction encoder: bytes at a pointer, nothing else.
 * Specification: Intel SDM vol. 2 ch. 2 (formats). No instruction emitted through x64_rm is longer than 16 bytes; the
 * caller keeps room.
 */
#ifndef JIT_X64_EMIT_H
#define JIT_X64_EMIT_H

#include "machine/types.h"

enum { H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI, H_R8, H_R9, H_R10, H_R11, H_R12,
       H_R13, H_R14, H_R15, H_NONE = 255 };

struct x64 {
    u8 *p;     /* where the next byte goes (writable view) */
    u8 *end;
};

/* The r/m operand: a register, or [base + index << scale + disp]. base H_NONE: absolute disp32. */
struct x64_rm {
    bool memory;
    u8 reg;      /* when it is a register; AH.. are 4..7 with `high` in x64_op */
    u8 base, index, scale;
    i32 disp;
};

/* Opcode maps. */
enum { X64_ONE, X64_0F, X64_0F38, X64_0F3A };
enum { X64_NP, X64_66, X64_F3, X64_F2 }; /* as VEX.pp */

static inline struct x64_rm x64_reg(unsigned reg)
{
    return (struct x64_rm){.reg = (u8)reg};
}
static inline struct x64_rm x64_mem(unsigned base, i64 disp)
{
    return (struct x64_rm){.memory = true, .base = (u8)base, .index = H_NONE, .disp = (i32)disp};
}
static inline struct x64_rm x64_sib(unsigned base, unsigned index, unsigned scale, i64 disp)
{
    return (struct x64_rm){.memory = true, .base = (u8)base, .index = (u8)index,
                           .scale = (u8)scale, .disp = (i32)disp};
}

static ALWAYS_INLINE void x64_u8(struct x64 *e, unsigned v) { *e->p++ = (u8)v; }
static ALWAYS_INLINE void x64_u16(struct x64 *e, unsigned v) { st16(e->p, (u16)v), e->p += 2; }
static ALWAYS_INLINE void x64_u32(struct x64 *e, u32 v) { st32(e->p, v), e->p += 4; }
static ALWAYS_INLINE void x64_u64(struct x64 *e, u64 v) { st64(e->p, v), e->p += 8; }
static inline void x64_imm(struct x64 *e, u64 v, unsigned size)
{
    for (unsigned i = 0; i < size; i++) x64_u8(e, (unsigned)(v >> (i * 8)) & 0xff);
}

/* modrm, sib and displacement. */
static inline void x64_modrm(struct x64 *e, unsigned reg, const struct x64_rm *rm)
{
    unsigned r = (reg & 7) << 3;
    if (!rm->memory) {
        x64_u8(e, 0xc0 | r | (rm->reg & 7));
        return;
    }
    if (rm->base == H_NONE) {
        unsigned index = rm->index == H_NONE ? 4 : rm->index & 7;
        x64_u8(e, r | 4);
        x64_u8(e, (unsigned)rm->scale << 6 | index << 3 | 5);
        x64_u32(e, (u32)rm->disp);
        return;
    }
    unsigned mod = !rm->disp && (rm->base & 7) != 5 ? 0 : rm->disp == (i8)rm->disp ? 0x40 : 0x80;
    if (rm->index != H_NONE || (rm->base & 7) == 4) {
        unsigned index = rm->index == H_NONE ? 4 : rm->index & 7;
        x64_u8(e, mod | r | 4);
        x64_u8(e, (unsigned)rm->scale << 6 | index << 3 | (rm->base & 7));
    } else {
        x64_u8(e, mod | r | (rm->base & 7));
    }
    if (mod == 0x40) x64_u8(e, (unsigned)rm->disp & 0xff);
    else if (mod == 0x80) x64_u32(e, (u32)rm->disp);
}

static inline unsigned x64_rex_xb(const struct x64_rm *rm)
{
    if (!rm->memory) return rm->reg >= 8;
    unsigned b = rm->base != H_NONE && rm->base >= 8, x = rm->index != H_NONE && rm->index >= 8;
    return x << 1 | b;
}

/* PP is the mandatory or operand-size prefix; FORCE an empty REX (SPL..DIL). */
static inline void x64_op(struct x64 *e, unsigned pp, bool w, bool force, unsigned map,
                          unsigned opcode, unsigned reg, const struct x64_rm *rm)
{
    static const u8 prefix[4] = {0, 0x66, 0xf3, 0xf2};
    if (pp) x64_u8(e, prefix[pp]);
    unsigned rex = (unsigned)w << 3 | (reg >= 8) << 2 | x64_rex_xb(rm);
    if (rex || force) x64_u8(e, 0x40 | rex);
    if (map) x64_u8(e, 0x0f);
    if (map >= X64_0F38) x64_u8(e, map == X64_0F38 ? 0x38 : 0x3a);
    x64_u8(e, opcode);
    x64_modrm(e, reg, rm);
}

static inline void x64_vex(struct x64 *e, unsigned pp, bool w, bool l, unsigned map,
                           unsigned opcode, unsigned reg, unsigned vvvv, const struct x64_rm *rm)
{
    unsigned xb = x64_rex_xb(rm);
    x64_u8(e, 0xc4);
    x64_u8(e, ((reg >= 8 ? 0 : 0x80) | (xb & 2 ? 0 : 0x40) | (xb & 1 ? 0 : 0x20)) | map);
    x64_u8(e, (unsigned)w << 7 | (~vvvv & 15) << 3 | (unsigned)l << 2 | pp);
    x64_u8(e, opcode);
    x64_modrm(e, reg, rm);
}

/* --- common instructions; SIZE 4 or 8, of the first three 2, too: then registers keep their upper bits --- */
static inline void x64_mov_load(struct x64 *e, unsigned size, unsigned reg, struct x64_rm rm)
{
    x64_op(e, size == 2 ? 1 : 0, size == 8, false, X64_ONE, 0x8b, reg, &rm);
}
static inline void x64_mov_store(struct x64 *e, unsigned size, struct x64_rm rm, unsigned reg)
{
    x64_op(e, size == 2 ? 1 : 0, size == 8, false, X64_ONE, 0x89, reg, &rm);
}
static inline void x64_mov(struct x64 *e, unsigned to, unsigned from)
{
    x64_mov_load(e, 8, to, x64_reg(from));
}
static inline void x64_lea(struct x64 *e, unsigned size, unsigned reg, struct x64_rm rm)
{
    x64_op(e, size == 2 ? 1 : 0, size == 8, false, X64_ONE, 0x8d, reg, &rm);
}
static inline void x64_mov_imm32(struct x64 *e, unsigned reg, u32 v) /* zero-extended */
{
    if (reg >= 8) x64_u8(e, 0x41);
    x64_u8(e, 0xb8 | (reg & 7));
    x64_u32(e, v);
}
static inline void x64_mov_imm64(struct x64 *e, unsigned reg, u64 v)
{
    x64_u8(e, 0x48 | (reg >= 8));
    x64_u8(e, 0xb8 | (reg & 7));
    x64_u64(e, v);
}
/* ADD 0, OR 1, ADC 2, SBB 3, AND 4, SUB 5, XOR 6, CMP 7 */
enum { X64_ADD, X64_OR, X64_ADC, X64_SBB, X64_AND, X64_SUB, X64_XOR, X64_CMP };
static inline void x64_alu(struct x64 *e, unsigned op, unsigned size, unsigned reg, struct x64_rm rm)
{
    x64_op(e, 0, size == 8, false, X64_ONE, op * 8 + 3, reg, &rm);
}
static inline void x64_alu_imm(struct x64 *e, unsigned op, unsigned size, struct x64_rm rm, i32 v)
{
    bool small = v == (i8)v;
    x64_op(e, 0, size == 8, false, X64_ONE, small ? 0x83 : 0x81, op, &rm);
    if (small) x64_u8(e, (unsigned)v & 0xff);
    else x64_u32(e, (u32)v);
}
/* SHL 4, SHR 5, SAR 7 */
static inline void x64_shift(struct x64 *e, unsigned op, unsigned size, unsigned reg, unsigned by)
{
    struct x64_rm rm = x64_reg(reg);
    x64_op(e, 0, size == 8, false, X64_ONE, 0xc1, op, &rm);
    x64_u8(e, by);
}
/* Jumps to be patched: the address of their displacement. */
static inline u8 *x64_jcc(struct x64 *e, unsigned cc)
{
    x64_u8(e, 0x0f);
    x64_u8(e, 0x80 | cc);
    x64_u32(e, 0);
    return e->p - 4;
}
static inline u8 *x64_jmp(struct x64 *e)
{
    x64_u8(e, 0xe9);
    x64_u32(e, 0);
    return e->p - 4;
}
static inline void x64_patch(u8 *at, const u8 *target) { st32(at, (u32)(target - (at + 4))); }
static inline void x64_jmp_to(struct x64 *e, const u8 *target) { x64_patch(x64_jmp(e), target); }
static inline void x64_call_to(struct x64 *e, const u8 *target)
{
    x64_u8(e, 0xe8);
    x64_u32(e, 0);
    x64_patch(e->p - 4, target);
}

enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_LE = 14 };

#endif
