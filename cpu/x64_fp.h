/*
 * Floating-point arithmetic with the units of an x86-64 host: the guest's instruction itself, under
 * the guest's rounding, precision, DAZ and FTZ with every exception masked. Same results and flags
 * as softfloat.h; what the two vendors do differently (RCPPS, RSQRTPS, FSIN and its kin) is the
 * host's.
 *
 * Between instructions the host's registers hold the C environment's modes (MXCSR 0x1f80, FCW
 * 0x37f); their sticky status flags hold anything.
 */
#ifndef CPU_X64_FP_H
#define CPU_X64_FP_H

#include "cpu/softfloat.h"
#include "cpu/vec.h"

#if defined(__x86_64__) && !defined(PORTABLE_FP)
#define HOST_X86_64 1
#include <emmintrin.h>

/* --- SSE --- */

#define X64_MXCSR_MASKED 0x1f80u
#define X64_MXCSR_MODE 0xe040u /* FTZ, RC, DAZ */

static ALWAYS_INLINE u32 x64_stmxcsr(void)
{
    u32 value;
    __asm__ volatile("stmxcsr %0" : "=m"(value));
    return value;
}
static ALWAYS_INLINE void x64_ldmxcsr(u32 value)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(value));
}

/* Operations to come run under GUEST's modes; EXACT: starting with no flag set. */
static ALWAYS_INLINE void x64_sse_begin(u32 guest, bool exact)
{
    x64_ldmxcsr((guest & X64_MXCSR_MODE) | X64_MXCSR_MASKED | (exact ? 0 : guest & FP_ALL));
}
/* Flags raised since; unless exact those that the guest already had, too. */
static ALWAYS_INLINE u32 x64_sse_end(u32 guest)
{
    u32 after = x64_stmxcsr();
    if (unlikely(guest & X64_MXCSR_MODE)) x64_ldmxcsr(X64_MXCSR_MASKED);
    return after & FP_ALL;
}

/* 16 bytes, R = A op B: packed operations whole, scalar ones merge A's upper part. */
#define X64_SSE_BINARY(op)                                                                         \
    static ALWAYS_INLINE void x64_##op(void *r, const void *a, const void *b)                      \
    {                                                                                              \
        __m128i x = _mm_loadu_si128(a), y = _mm_loadu_si128(b);                                    \
        __asm__ volatile(#op " %1, %0" : "+x"(x) : "x"(y));                                        \
        _mm_storeu_si128(r, x);                                                                    \
    }
X64_SSE_BINARY(addps)
X64_SSE_BINARY(addpd) X64_SSE_BINARY(subps) X64_SSE_BINARY(subpd) X64_SSE_BINARY(mulps)
    X64_SSE_BINARY(mulpd) X64_SSE_BINARY(divps) X64_SSE_BINARY(divpd) X64_SSE_BINARY(minps)
        X64_SSE_BINARY(minpd) X64_SSE_BINARY(maxps) X64_SSE_BINARY(maxpd)
    /* SSE3 */
    X64_SSE_BINARY(haddps) X64_SSE_BINARY(haddpd) X64_SSE_BINARY(hsubps) X64_SSE_BINARY(hsubpd)
        X64_SSE_BINARY(addsubps) X64_SSE_BINARY(addsubpd)
    /* A unused */
    X64_SSE_BINARY(sqrtps) X64_SSE_BINARY(sqrtpd) X64_SSE_BINARY(rcpps) X64_SSE_BINARY(rsqrtps)
        X64_SSE_BINARY(cvtps2pd) X64_SSE_BINARY(cvtpd2ps) X64_SSE_BINARY(cvtdq2ps)
            X64_SSE_BINARY(cvtdq2pd) X64_SSE_BINARY(cvtps2dq) X64_SSE_BINARY(cvttps2dq)
                X64_SSE_BINARY(cvtpd2dq) X64_SSE_BINARY(cvttpd2dq)

/* One element of 32 or 64 bits, as bit patterns. */
#define X64_SSE_SCALAR(op, move)                                                                   \
    static ALWAYS_INLINE u64 x64_##op(u64 a, u64 b)                                                \
    {                                                                                              \
        __m128i x = _mm_cvtsi64_si128((i64)a), y = _mm_cvtsi64_si128((i64)b);                      \
        __asm__ volatile(#op " %1, %0" : "+x"(x) : "x"(y));                                        \
        return (u64)_mm_cvtsi128_si64(x) & move;                                                   \
    }
#define X64_32 0xffffffffull
#define X64_64 ~0ull
                    X64_SSE_SCALAR(addss, X64_32) X64_SSE_SCALAR(addsd, X64_64)
                        X64_SSE_SCALAR(subss, X64_32) X64_SSE_SCALAR(subsd, X64_64)
                            X64_SSE_SCALAR(mulss, X64_32) X64_SSE_SCALAR(mulsd, X64_64)
                                X64_SSE_SCALAR(divss, X64_32) X64_SSE_SCALAR(divsd, X64_64)
                                    X64_SSE_SCALAR(minss, X64_32) X64_SSE_SCALAR(minsd, X64_64)
                                        X64_SSE_SCALAR(maxss, X64_32) X64_SSE_SCALAR(maxsd, X64_64)
    /* A unused */
    X64_SSE_SCALAR(sqrtss, X64_32) X64_SSE_SCALAR(sqrtsd, X64_64) X64_SSE_SCALAR(rcpss, X64_32)
        X64_SSE_SCALAR(rsqrtss, X64_32) X64_SSE_SCALAR(cvtss2sd, X64_64) X64_SSE_SCALAR(cvtsd2ss,
                                                                                        X64_32)

/* EFLAGS as COMISS leaves them, masked to ZF PF CF. */
#define X64_SSE_COMPARE(op)                                                                        \
    static ALWAYS_INLINE u32 x64_##op(u64 a, u64 b)                                                \
    {                                                                                              \
        __m128i x = _mm_cvtsi64_si128((i64)a), y = _mm_cvtsi64_si128((i64)b);                      \
        u8 zf, pf, cf;                                                                             \
        __asm__ volatile(#op " %4, %3\n\tsetz %0\n\tsetp %1\n\tsetc %2"                            \
                         : "=q"(zf), "=q"(pf), "=q"(cf) : "x"(x), "x"(y) : "cc");                  \
        return (u32)zf << 6 | (u32)pf << 2 | cf;                                                   \
    }
            X64_SSE_COMPARE(comiss) X64_SSE_COMPARE(comisd) X64_SSE_COMPARE(ucomiss)
                X64_SSE_COMPARE(ucomisd)

#define X64_FROM_INT(name, op, type, mask)                                                         \
    static ALWAYS_INLINE u64 x64_##name(type n)                                                    \
    {                                                                                              \
        __m128i x = _mm_setzero_si128();                                                           \
        __asm__ volatile(op " %1, %0" : "+x"(x) : "r"(n));                                         \
        return (u64)_mm_cvtsi128_si64(x) & mask;                                                   \
    }
                    X64_FROM_INT(cvtsi2ss32, "cvtsi2ssl", i32,
                                 X64_32) X64_FROM_INT(cvtsi2ss64, "cvtsi2ssq", i64, X64_32)
                        X64_FROM_INT(cvtsi2sd32, "cvtsi2sdl", i32, X64_64)
                            X64_FROM_INT(cvtsi2sd64, "cvtsi2sdq", i64, X64_64)

#define X64_TO_INT(name, op, type)                                                                 \
    static ALWAYS_INLINE i64 x64_##name(u64 a)                                                     \
    {                                                                                              \
        __m128i x = _mm_cvtsi64_si128((i64)a);                                                     \
        type n;                                                                                    \
        __asm__ volatile(op " %1, %0" : "=r"(n) : "x"(x));                                         \
        return n;                                                                                  \
    }
                                X64_TO_INT(cvtss2si32, "cvtss2si", i32) X64_TO_INT(cvtss2si64,
                                                                                   "cvtss2si", i64)
                                    X64_TO_INT(cvttss2si32, "cvttss2si", i32)
                                        X64_TO_INT(cvttss2si64, "cvttss2si", i64)
                                            X64_TO_INT(cvtsd2si32, "cvtsd2si", i32)
                                                X64_TO_INT(cvtsd2si64, "cvtsd2si", i64)
                                                    X64_TO_INT(cvttsd2si32, "cvttsd2si", i32)
                                                        X64_TO_INT(cvttsd2si64, "cvttsd2si", i64)

    /* SSE4.1; the immediate's rounding, PE as usual. */
#define X64_ROUND(name, op, imm, mask)                                                             \
    static inline u64 x64_##name(u64 a)                                                            \
    {                                                                                              \
        __m128i x = _mm_cvtsi64_si128((i64)a);                                                     \
        __asm__ volatile(op " $" #imm ", %0, %0" : "+x"(x));                                       \
        return (u64)_mm_cvtsi128_si64(x) & mask;                                                   \
    }
X64_ROUND(roundss_nearest, "roundss", 0, X64_32) X64_ROUND(roundss_down, "roundss", 1, X64_32)
X64_ROUND(roundss_up, "roundss", 2, X64_32) X64_ROUND(roundss_zero, "roundss", 3, X64_32)
X64_ROUND(roundsd_nearest, "roundsd", 0, X64_64) X64_ROUND(roundsd_down, "roundsd", 1, X64_64)
X64_ROUND(roundsd_up, "roundsd", 2, X64_64) X64_ROUND(roundsd_zero, "roundsd", 3, X64_64)

/* The same answer throughout the process. */
static ALWAYS_INLINE bool x64_has_sse41(void)
{
    return __builtin_cpu_supports("sse4.1");
}
    static ALWAYS_INLINE bool x64_has_sse3(void) { return __builtin_cpu_supports("sse3"); }
static ALWAYS_INLINE bool x64_has_fma(void) { return __builtin_cpu_supports("fma"); }

/* 16 bytes, R = A * B + C with the signs of the mnemonic; NaNs in the order A, B, C: the digits of
 * the mnemonic say that the second operand comes first. */
#define X64_FMA(op)                                                                                \
    static ALWAYS_INLINE void x64_##op(void *r, const void *a, const void *b, const void *c)       \
    {                                                                                              \
        __m128i x = _mm_loadu_si128(a), y = _mm_loadu_si128(b), z = _mm_loadu_si128(c);            \
        __asm__ volatile(#op " %2, %1, %0" : "+x"(y) : "x"(x), "x"(z));                            \
        _mm_storeu_si128(r, y);                                                                    \
    }
X64_FMA(vfmadd213ps) X64_FMA(vfmadd213pd) X64_FMA(vfmadd213ss) X64_FMA(vfmadd213sd)
X64_FMA(vfmsub213ps) X64_FMA(vfmsub213pd) X64_FMA(vfmsub213ss) X64_FMA(vfmsub213sd)
X64_FMA(vfnmadd213ps) X64_FMA(vfnmadd213pd) X64_FMA(vfnmadd213ss) X64_FMA(vfnmadd213sd)
X64_FMA(vfnmsub213ps) X64_FMA(vfnmsub213pd) X64_FMA(vfnmsub213ss) X64_FMA(vfnmsub213sd)
X64_FMA(vfmaddsub213ps) X64_FMA(vfmaddsub213pd) X64_FMA(vfmsubadd213ps) X64_FMA(vfmsubadd213pd)

/* --- x87 --- */

#define X64_FCW_DEFAULT 0x37fu

static ALWAYS_INLINE u16 x64_fnstsw(void)
{
    u16 value;
    __asm__ volatile("fnstsw %0" : "=a"(value));
    return value;
}
static ALWAYS_INLINE void x64_fldcw(u16 value)
{
    __asm__ volatile("fldcw %0" : : "m"(value));
}

static ALWAYS_INLINE void x64_fnclex(void)
{
    __asm__ volatile("fnclex");
}

/* *STATUS: the status word between the operation and the FSTP that delivers, which clears C1. */
#define X64_X87_ASM(text)                                                                          \
    struct f80 r;                                                                                  \
    __asm__ volatile("fldt %3\n\tfldt %2\n\t" text                                                \
                     : "=m"(r), "=a"(*status) : "m"(a), "m"(b) : "st", "st(1)");                   \
    return r;

/* A in ST, B in ST1. */
#define X64_X87_TOP(op)                                                                            \
    static ALWAYS_INLINE struct f80 x64_##op(struct f80 a, struct f80 b, u16 *status)              \
    {                                                                                              \
        X64_X87_ASM(#op "\n\tfnstsw %1\n\tfstpt %0\n\tfstp %%st(0)")                              \
    }
#define X64_X87_ARITHMETIC(op)                                                                     \
    static ALWAYS_INLINE struct f80 x64_##op(struct f80 a, struct f80 b, u16 *status)              \
    {                                                                                              \
        X64_X87_ASM(#op " %%st(1), %%st\n\tfnstsw %1\n\tfstpt %0\n\tfstp %%st(0)")                \
    }
X64_X87_ARITHMETIC(fadd)
X64_X87_ARITHMETIC(fsub) X64_X87_ARITHMETIC(fmul) X64_X87_ARITHMETIC(fdiv) X64_X87_TOP(fprem)
    X64_X87_TOP(fprem1) X64_X87_TOP(fscale)

/* ST1 op ST, popping: A is ST, B is ST1. */
#define X64_X87_POPPING(op)                                                                        \
    static ALWAYS_INLINE struct f80 x64_##op(struct f80 a, struct f80 b, u16 *status)              \
    {                                                                                              \
        X64_X87_ASM(#op "\n\tfnstsw %1\n\tfstpt %0")                                              \
    }
        X64_X87_POPPING(fpatan) X64_X87_POPPING(fyl2x) X64_X87_POPPING(fyl2xp1)

#define X64_X87_UNARY(op)                                                                          \
    static ALWAYS_INLINE struct f80 x64_##op(struct f80 a, u16 *status)                            \
    {                                                                                              \
        struct f80 r;                                                                              \
        __asm__ volatile("fldt %2\n\t" #op "\n\tfnstsw %1\n\tfstpt %0"                            \
                         : "=m"(r), "=a"(*status) : "m"(a) : "st");                                \
        return r;                                                                                  \
    }
            X64_X87_UNARY(fsqrt) X64_X87_UNARY(frndint) X64_X87_UNARY(f2xm1) X64_X87_UNARY(fsin)
                X64_X87_UNARY(fcos)

/* Two results: the new ST in *TOP, the one below returned. Not pushed (C2): ST unchanged in both.
 */
#define X64_X87_PUSHING(op, complete)                                                              \
    static ALWAYS_INLINE struct f80 x64_##op(struct f80 a, struct f80 *top, u16 *status)           \
    {                                                                                              \
        struct f80 r = a;                                                                          \
        __asm__ volatile("fldt %2\n\t" #op "\n\tfnstsw %%ax\n\tfstpt %1" complete                  \
                         : "+m"(r), "=m"(*top), "+m"(a), "=a"(*status) : : "st", "st(1)", "cc");   \
        return r;                                                                                  \
    }
#define X64_IF_PUSHED "\n\ttestw $0x400, %%ax\n\tjnz 1f\n\tfstpt %0\n1:"
                    X64_X87_PUSHING(fsincos, X64_IF_PUSHED) X64_X87_PUSHING(fptan, X64_IF_PUSHED)
                        X64_X87_PUSHING(fxtract, "\n\tfstpt %0")

#define X64_X87_COMPARE(name, op)                                                                  \
    static ALWAYS_INLINE u32 x64_##name(struct f80 a, struct f80 b)                                \
    {                                                                                              \
        u8 zf, pf, cf;                                                                             \
        __asm__ volatile("fldt %4\n\tfldt %3\n\t" op " %%st(1), %%st\n\tsetz %0\n\tsetp %1\n\t"    \
                         "setc %2\n\tfstp %%st(0)"                                                 \
                         : "=q"(zf), "=q"(pf), "=q"(cf) : "m"(a), "m"(b)                           \
                         : "cc", "st", "st(1)");                                                   \
        return (u32)zf << 6 | (u32)pf << 2 | cf;                                                   \
    }
                            X64_X87_COMPARE(fcomip, "fcomip") X64_X87_COMPARE(fucomip, "fucomip")

                                static ALWAYS_INLINE struct f80 x64_fld32(u32 bits)
{
    struct f80 r;
    __asm__ volatile("flds %1\n\tfstpt %0" : "=m"(r) : "m"(bits) : "st");
    return r;
}
static ALWAYS_INLINE struct f80 x64_fld64(u64 bits)
{
    struct f80 r;
    __asm__ volatile("fldl %1\n\tfstpt %0" : "=m"(r) : "m"(bits) : "st");
    return r;
}
#define X64_X87_STORE(name, op, type)                                                              \
    static ALWAYS_INLINE type x64_##name(struct f80 a)                                             \
    {                                                                                              \
        type r;                                                                                    \
        __asm__ volatile("fldt %1\n\t" op " %0" : "=m"(r) : "m"(a) : "st");                        \
        return r;                                                                                  \
    }
X64_X87_STORE(fst32, "fstps", u32) X64_X87_STORE(fst64, "fstpl", u64)
X64_X87_STORE(fist16, "fistps", i16) X64_X87_STORE(fist32, "fistpl", i32)
X64_X87_STORE(fist64, "fistpll", i64) X64_X87_STORE(fisttp16, "fisttps", i16)
X64_X87_STORE(fisttp32, "fisttpl", i32) X64_X87_STORE(fisttp64, "fisttpll", i64)

#else
#define HOST_X86_64 0
#endif
#endif
