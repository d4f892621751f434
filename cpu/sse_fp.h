/*
 * What the floating-point SSE rooms (sse_fp.c, sse_cvt.c, fma.c) share: MXCSR, exceptions, scalar
 * operands, running an operation on the host's unit or in software.
 *
 * An unmasked exception leaves everything but MXCSR's flags alone, so results are written after
 * sse_raise. The host's unit serves whenever underflow is masked; if it then reports an exception
 * that the guest has unmasked, software runs the instruction again to say exactly which flags come
 * up.
 */
#ifndef CPU_SSE_FP_H
#define CPU_SSE_FP_H

#include "cpu/simd.h"
#include "cpu/softfloat.h"
#include "cpu/x64_fp.h"

#define MXCSR_DAZ 0x0040u
#define MXCSR_MASKS 0x1f80u
#define MXCSR_UM 0x0800u
#define MXCSR_FTZ 0x8000u
#define MXCSR_MODE 0xe040u /* FTZ, RC, DAZ */

#if HOST_X86_64
#define HOST_SSE(name) x64_##name
#else
#define HOST_SSE(name) NULL
#define x64_sse_begin(guest, exact) ((void)0)
#define x64_sse_end(guest) 0u
#define x64_has_sse3() false
#define x64_has_fma() false
#endif

static ALWAYS_INLINE struct fp_env sse_env(const struct vcpu *cpu)
{
    return (struct fp_env){
        .rounding = cpu->mxcsr >> 13 & 3,
        .precision = 64,
        .unmasked = (u8)(~cpu->mxcsr >> 7 & FP_ALL),
        .daz = cpu->mxcsr & MXCSR_DAZ,
        .ftz = cpu->mxcsr & MXCSR_FTZ,
    };
}

/* #XM (or #UD) for FLAGS, some of them unmasked (sse_fp.c). */
bool sse_exception(struct vcpu *cpu, unsigned flags);
static ALWAYS_INLINE bool sse_raise(struct vcpu *cpu, unsigned flags)
{
    if (unlikely(flags & (~cpu->mxcsr >> 7) & FP_ALL)) return sse_exception(cpu, flags);
    cpu->mxcsr |= flags & FP_ALL;
    return true;
}

static ALWAYS_INLINE bool sse_host_usable(const struct vcpu *cpu)
{
    return HOST_X86_64 && likely(cpu->mxcsr & MXCSR_UM);
}
static ALWAYS_INLINE void sse_host_begin(const struct vcpu *cpu)
{
    x64_sse_begin(cpu->mxcsr, (cpu->mxcsr & MXCSR_MASKS) != MXCSR_MASKS);
    (void)cpu;
}
/* False: an unmasked exception; software shall say which. */
static ALWAYS_INLINE bool sse_host_end(const struct vcpu *cpu, unsigned *flags)
{
    *flags = x64_sse_end(cpu->mxcsr);
    return likely((cpu->mxcsr & MXCSR_MASKS) == MXCSR_MASKS) ||
           !(*flags & (~cpu->mxcsr >> 7) & FP_ALL);
}
/*
 * Default modes, everything masked, PE set already: an operation that can raise nothing but PE then
 * needs no look at the host's MXCSR, which costs more than the operation.
 */
static ALWAYS_INLINE bool sse_relaxed(const struct vcpu *cpu)
{
    return HOST_X86_64 &&
           likely((cpu->mxcsr & (MXCSR_MODE | MXCSR_MASKS | FP_PE)) == (MXCSR_MASKS | FP_PE));
}

/* --- one element of SIZE 4 or 8 bytes --- */

static ALWAYS_INLINE const struct fp_format *sse_format(unsigned size)
{
    return size == 4 ? &fp_f32 : &fp_f64;
}
static ALWAYS_INLINE u64 sse_element(const union vec *v, unsigned i, unsigned size)
{
    return size == 4 ? vec_d(v, i) : vec_q(v, i);
}
static ALWAYS_INLINE void sse_set_element(union vec *v, unsigned i, unsigned size, u64 bits)
{
    if (size == 4) vec_d(v, i) = (u32)bits;
    else vec_q(v, i) = bits;
}
static ALWAYS_INLINE bool sse_is_zero(u64 bits, unsigned size)
{
    return size == 4 ? !((u32)bits << 1) : !(bits << 1);
}
/* A normal number with one to spare above the smallest: neither operand nor result raises more than
 * PE. */
static ALWAYS_INLINE bool sse_is_plain(u64 bits, unsigned size)
{
    return size == 4 ? ((u32)bits >> 23 & 0xff) - 2 < 0xfdu
                     : (u32)(bits >> 52 & 0x7ff) - 2 < 0x7fdu;
}
static ALWAYS_INLINE bool sse_is_tame(u64 bits, unsigned size)
{
    return sse_is_plain(bits, size) || sse_is_zero(bits, size);
}

/* Element 0 of operand N, a vector register or memory of SIZE bytes. */
static ALWAYS_INLINE bool sse_scalar_read(struct vcpu *cpu, const struct insn *insn, unsigned n,
                                          unsigned size, u64 *bits)
{
    if (insn->operand[n].kind == OPERAND_MEMORY) return mem_read(cpu, insn, size, bits);
    *bits = sse_element(cpu_vec(cpu, insn->operand[n].reg), 0, size);
    return true;
}
/* BITS to element 0 of operand 0; VEX takes the rest of the low 16 bytes from operand 1. */
static ALWAYS_INLINE void sse_scalar_write(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                           u64 bits)
{
    union vec *to = cpu_vec(cpu, insn->operand[0].reg);
    if (insn->flags & INSN_VEX) {
        const union vec *from = cpu_vec(cpu, insn->operand[1].reg);
        to->q[0] = from->q[0];
        to->q[1] = from->q[1];
        for (unsigned i = 2; i < 8; i++) to->q[i] = 0;
    }
    if (size == 4) to->q[0] = (to->q[0] & ~0xffffffffull) | (u32)bits;
    else to->q[0] = bits;
}

/* The operand behind the register to merge from, if the row has one. */
static ALWAYS_INLINE unsigned sse_last_source(const struct insn *insn)
{
    return insn->operand[2].kind == OPERAND_NONE || insn->operand[2].kind == OPERAND_IMMEDIATE ? 1
                                                                                               : 2;
}

/* A against B as C compares, when that raises nothing; else in software. *FLAGS gets what is
 * raised. */
static ALWAYS_INLINE enum fp_relation sse_compare(const struct vcpu *cpu, unsigned size, u64 a,
                                                  u64 b, bool quiet, unsigned *flags)
{
    if (likely(sse_is_tame(a, size) && sse_is_tame(b, size))) {
        double x, y;
        if (size == 4) {
            float fx, fy;
            u32 a32 = (u32)a, b32 = (u32)b;
            memcpy(&fx, &a32, 4);
            memcpy(&fy, &b32, 4);
            x = fx;
            y = fy;
        } else {
            memcpy(&x, &a, 8);
            memcpy(&y, &b, 8);
        }
        return x < y ? FP_LESS : x > y ? FP_GREATER : FP_EQUAL;
    }
    struct fp_env env = sse_env(cpu);
    enum fp_relation relation = fp_compare(sse_format(size), a, b, quiet, &env);
    *flags |= env.flags;
    return relation;
}

#endif
