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

/* The r/m operand: a register, or [base + index << scale + disp]. base H_NONE: absolute disp32. Bit fields, so
 * that compilers put it together in a register: written byte by byte it could not be read at once for long. */
struct x64_rm {
    u32 memory : 1;
    u32 reg : 8; /* when it is a register; AH.. are 4..7 with `high` in x64_op */
    u32 base : 8, index : 8, scale : 2;
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

/* What an instruction is but for its registers: prefix PP, REX.W, an empty REX (FORCE: SPL..DIL), MAP, opcode. */
static inline u32 x64_spec(unsigned pp, bool w, bool force, unsigned map, unsigned opcode)
{
    return opcode | pp << 8 | map << 10 | (unsigned)w << 12 | (unsigned)force << 13;
}

/*
 * What is there of prefixes, sib and displacement depends on the guest's code, so that branches on it would be
 * guessed wrong: each part is written in any case, and counts or is overwritten by the next. Up to 8 bytes
 * behind the instruction are overwritten, too.
 */
static inline unsigned x64_rex_xb(struct x64_rm rm)
{
    unsigned b = (u8)(rm.base + 1) > 8, x = (u8)(rm.index + 1) > 8; /* H_NONE is none of R8.. */
    return rm.memory ? x << 1 | b : rm.reg >= 8;
}

static ALWAYS_INLINE u8 *x64_put_modrm(u8 *p, unsigned reg, struct x64_rm rm)
{
    unsigned r = (reg & 7) << 3, index = rm.index == H_NONE ? 4 : rm.index & 7;
    if (unlikely(rm.memory && rm.base == H_NONE)) {
        p[0] = (u8)(r | 4);
        p[1] = (u8)((unsigned)rm.scale << 6 | index << 3 | 5);
        st32(p + 2, (u32)rm.disp);
        return p + 6;
    }
    unsigned base = (rm.memory ? rm.base : rm.reg) & 7;
    unsigned sib = rm.memory & ((rm.index != H_NONE) | (base == 4));
    unsigned mod = ((rm.disp != 0) | (base == 5)) + (rm.disp != (i8)rm.disp), size = mod + (mod & 2); /* 0, 1, 4 */
    mod = rm.memory ? mod : 3;
    p[0] = (u8)(mod << 6 | r | (sib ? 4 : base));
    p[1] = (u8)((unsigned)rm.scale << 6 | index << 3 | base);
    p += 1 + sib;
    st32(p, (u32)rm.disp);
    return p + (rm.memory ? size : 0);
}

static ALWAYS_INLINE u8 *x64_put(u8 *p, u32 spec, unsigned reg, struct x64_rm rm)
{
    static const u8 prefix[4] = {0, 0x66, 0xf3, 0xf2};
    static const u32 escape[4] = {0, 0x0f, 0x380f, 0x3a0f};
    unsigned pp = spec >> 8 & 3, map = spec >> 10 & 3, escapes = map - (map > 2);
    unsigned rex = (spec >> 9 & 8) | (reg >= 8) << 2 | x64_rex_xb(rm);
    *p = prefix[pp];
    p += pp != 0;
    *p = (u8)(0x40 | rex);
    p += (rex | (spec & 1u << 13)) != 0;
    st32(p, escape[map] | (spec & 0xff) << escapes * 8);
    return x64_put_modrm(p + escapes + 1, reg, rm);
}

/* x64_emit.c: the same by a call, where little of it is known beforehand. */
void x64_modrm(struct x64 *e, unsigned reg, struct x64_rm rm); /* and sib, displacement */
void x64_emit(struct x64 *e, u32 spec, unsigned reg, struct x64_rm rm);
void x64_emit_imm(struct x64 *e, u32 spec, unsigned digit, struct x64_rm rm, i32 v); /* 81: or 83, as V is */

#define X64_KNOWN(rm) \
    (__builtin_constant_p((rm).memory) && __builtin_constant_p((rm).base) && __builtin_constant_p((rm).index) && \
     ((rm).memory || __builtin_constant_p((rm).reg)))

/* PP is the mandatory or operand-size prefix; FORCE an empty REX (SPL..DIL). */
static ALWAYS_INLINE void x64_op(struct x64 *e, unsigned pp, bool w, bool force, unsigned map,
                                 unsigned opcode, unsigned reg, const struct x64_rm *rm)
{
    u32 spec = x64_spec(pp, w, force, map, opcode);
    if (__builtin_constant_p(spec) && X64_KNOWN(*rm)) e->p = x64_put(e->p, spec, reg, *rm);
    else x64_emit(e, spec, reg, *rm);
}

static inline void x64_vex(struct x64 *e, unsigned pp, bool w, bool l, unsigned map,
                           unsigned opcode, unsigned reg, unsigned vvvv, const struct x64_rm *rm)
{
    unsigned xb = x64_rex_xb(*rm);
    x64_u8(e, 0xc4);
    x64_u8(e, ((reg >= 8 ? 0 : 0x80) | (xb & 2 ? 0 : 0x40) | (xb & 1 ? 0 : 0x20)) | map);
    x64_u8(e, (unsigned)w << 7 | (~vvvv & 15) << 3 | (unsigned)l << 2 | pp);
    x64_u8(e, opcode);
    x64_modrm(e, reg, *rm);
}

/* --- common instructions; SIZE 4 or 8, of the first three 2, too: then registers keep their upper bits --- */
static ALWAYS_INLINE void x64_mov_load(struct x64 *e, unsigned size, unsigned reg, struct x64_rm rm)
{
    x64_op(e, size == 2 ? 1 : 0, size == 8, false, X64_ONE, 0x8b, reg, &rm);
}
static ALWAYS_INLINE void x64_mov_store(struct x64 *e, unsigned size, struct x64_rm rm, unsigned reg)
{
    x64_op(e, size == 2 ? 1 : 0, size == 8, false, X64_ONE, 0x89, reg, &rm);
}
static ALWAYS_INLINE void x64_mov(struct x64 *e, unsigned to, unsigned from)
{
    x64_mov_load(e, 8, to, x64_reg(from));
}
static ALWAYS_INLINE void x64_lea(struct x64 *e, unsigned size, unsigned reg, struct x64_rm rm)
{
    x64_op(e, size == 2 ? 1 : 0, size == 8, false, X64_ONE, 0x8d, reg, &rm);
}
static ALWAYS_INLINE void x64_mov_imm32(struct x64 *e, unsigned reg, u32 v) /* zero-extended */
{
    if (reg >= 8) x64_u8(e, 0x41);
    x64_u8(e, 0xb8 | (reg & 7));
    x64_u32(e, v);
}
static ALWAYS_INLINE void x64_mov_imm64(struct x64 *e, unsigned reg, u64 v)
{
    x64_u8(e, 0x48 | (reg >= 8));
    x64_u8(e, 0xb8 | (reg & 7));
    x64_u64(e, v);
}
/* ADD 0, OR 1, ADC 2, SBB 3, AND 4, SUB 5, XOR 6, CMP 7 */
enum { X64_ADD, X64_OR, X64_ADC, X64_SBB, X64_AND, X64_SUB, X64_XOR, X64_CMP };
static ALWAYS_INLINE void x64_alu(struct x64 *e, unsigned op, unsigned size, unsigned reg, struct x64_rm rm)
{
    x64_op(e, 0, size == 8, false, X64_ONE, op * 8 + 3, reg, &rm);
}
static ALWAYS_INLINE void x64_alu_imm(struct x64 *e, unsigned op, unsigned size, struct x64_rm rm, i32 v)
{
    u32 spec = x64_spec(0, size == 8, false, X64_ONE, 0x81);
    if (!__builtin_constant_p(spec) || !X64_KNOWN(rm)) {
        x64_emit_imm(e, spec, op, rm, v);
        return;
    }
    bool small = v == (i8)v;
    u8 *p = x64_put(e->p, spec | (unsigned)small << 1, op, rm);
    st32(p, (u32)v);
    e->p = p + (small ? 1 : 4);
}
/* SHL 4, SHR 5, SAR 7 */
static ALWAYS_INLINE void x64_shift(struct x64 *e, unsigned op, unsigned size, unsigned reg, unsigned by)
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
