/*
 * Software floating point against the host's units, bit for bit and flag for flag: random and
 * corner operands, every rounding mode, precision, DAZ and FTZ. On hosts that are not x86-64 only
 * the known answers are checked.
 */
#include "cpu/x64_fp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* --- known answers, any host --- */

static void known_f64(void **state)
{
    (void)state;
    struct fp_env env = { .precision = 64 };
    assert_int_equal(fp_add(&fp_f64, 0x3ff0000000000000, 0x4000000000000000, &env),
                     0x4008000000000000);
    assert_int_equal(env.flags, 0);
    assert_int_equal(fp_div(&fp_f64, 0x3ff0000000000000, 0x4008000000000000, &env),
                     0x3fd5555555555555);
    assert_int_equal(env.flags & FP_ALL, FP_PE);
    env.flags = 0;
    assert_int_equal(fp_div(&fp_f64, 0, 0, &env), 0xfff8000000000000);
    assert_int_equal(env.flags & FP_ALL, FP_IE);
    assert_int_equal(fp_sqrt(&fp_f64, 0x4000000000000000, &env), 0x3ff6a09e667f3bcd);
    assert_int_equal(fp_convert(&fp_f32, &fp_f64, 0x3ff0000000000000, &env), 0x3f800000);
    assert_int_equal(fp_convert(&fp_f16, &fp_f32, 0x3f800000, &env), 0x3c00);
    assert_int_equal(fp_to_int(&fp_f64, 0xc004000000000000, FP_NEAREST, 32, &env), -2);
    assert_int_equal(fp_to_int(&fp_f64, 0xc004000000000000, FP_DOWN, 32, &env), -3);
}

static void known_f80(void **state)
{
    (void)state;
    struct fp_env env = { .precision = 64, .x87 = true };
    struct f80 one = f80_from_int(1), three = f80_from_int(3);
    struct f80 third = f80_div(one, three, &env);
    assert_int_equal(third.mantissa, 0xaaaaaaaaaaaaaaab);
    assert_int_equal(third.exponent, 0x3ffd);
    assert_int_equal(env.flags, FP_PE | FP_C1);
    u8 bcd[10];
    f80_to_bcd(f80_from_int(-1234567), bcd, &env);
    assert_int_equal(bcd[0], 0x67);
    assert_int_equal(bcd[3], 0x01);
    assert_int_equal(bcd[9], 0x80);
    assert_int_equal(f80_to_int(f80_from_bcd(bcd), FP_NEAREST, 64, &env), -1234567);
    /* unmasked overflow: the exponent wraps */
    env = (struct fp_env){ .precision = 64, .x87 = true, .unmasked = FP_OE };
    struct f80 big = { 1ull << 63, 0x7ffe };
    struct f80 product = f80_mul(big, big, &env);
    assert_int_equal(product.exponent, 0x7ffe + 0x7ffe - 0x3fff - 24576);
    assert_int_equal(env.flags & FP_ALL, FP_OE);
}

#if HOST_X86_64
static u64 next(u64 *seed)
{
    u64 x = *seed;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *seed = x;
    return x * 0x2545f4914f6cdd1d;
}

/* Something from every kind, near others of its kind often enough to cancel. */
static u64 operand(const struct fp_format *f, u64 *seed)
{
    unsigned fraction_bits = f->precision - 1;
    u64 r = next(seed), pick = next(seed);
    u64 field_max = (1u << f->exponent_bits) - 1;
    u64 fraction = r & ((1ull << fraction_bits) - 1);
    u64 sign = (r >> 63) << (fraction_bits + f->exponent_bits);
    u64 field = r >> 52 & field_max;
    switch (pick & 15) {
    case 0: field = 0; break;
    case 1: field = field_max; break;
    case 2: field = pick >> 8 & 1 ? 0 : field_max; fraction = pick >> 9 & 3; break;
    case 3: field = 1 + (pick >> 8 & 1); break;
    case 4: field = field_max - 1 - (pick >> 8 & 1); break;
    case 5: case 6: case 7: case 8: field = (u64)f->emax - 2 + (pick >> 8 & 7); break;
    case 9: field = (u64)f->emax + (pick >> 8 & 63); break;
    case 10: field = (u64)f->emax / 2 + (pick >> 8 & 7); break;
    default: break;
    }
    switch (pick >> 32 & 7) {
    case 0: fraction = 0; break;
    case 1: fraction = (1ull << fraction_bits) - 1; break;
    case 2: fraction &= ~0ull << (fraction_bits - 5); break;
    case 3: fraction &= 31; break;
    case 4: fraction |= ((1ull << fraction_bits) - 1) >> 7; break;
    default: break;
    }
    return sign | (field & field_max) << fraction_bits | fraction;
}

static struct f80 operand80(u64 *seed)
{
    u64 r = next(seed), pick = next(seed);
    u16 sign = r & 1 ? 0x8000 : 0;
    u64 mantissa = next(seed) | 1ull << 63;
    unsigned field = r >> 8 & 0x7fff;
    switch (pick & 15) {
    case 0: field = 0; mantissa &= next(seed); break;
    case 1: field = 0x7fff; break;
    case 2: field = 0; mantissa = 0; break;
    case 3: field = 0x7fff; mantissa = 1ull << 63; break;
    case 4: field = 1 + (pick >> 8 & 3); break;
    case 5: field = 0x7ffe - (pick >> 8 & 1); break;
    case 6: case 7: case 8: field = 0x3ffd + (pick >> 8 & 3); break;
    case 9: case 10: field = 0x3fff - 20 + (pick >> 8 & 127); break;
    case 11: field = 0x3fff + (pick >> 8 & 255); break;
    case 12: if (!(pick >> 8 & 7)) mantissa &= ~(1ull << 63); break;
    case 13: field = 0x1ff0 + (pick >> 8 & 31); break;
    default: break;
    }
    switch (pick >> 32 & 15) {
    case 0: mantissa &= 1ull << 63; break;
    case 1: mantissa |= ~0ull >> 1; break;
    case 2: mantissa &= ~0ull << 40; break;
    case 3: mantissa &= ~0ull << 11; break;
    case 4: mantissa &= 1ull << 63 | 31; break;
    case 5: mantissa |= 0x3ff; break;
    case 6: mantissa = (mantissa & ~0ull << 11) | 0x400; break;
    default: break;
    }
    return (struct f80){ mantissa, (u16)(sign | field) };
}

struct sse_case {
    u32 mxcsr;
    struct fp_env env;
};
static struct sse_case sse_modes(u64 *seed)
{
    u64 r = next(seed);
    struct sse_case c = { .mxcsr = X64_MXCSR_MASKED | (u32)(r & 3) << 13 };
    c.env.rounding = r & 3;
    c.env.precision = 64;
    c.env.daz = r >> 2 & 1;
    c.env.ftz = r >> 3 & 1;
    c.mxcsr |= (c.env.daz ? 0x40u : 0) | (c.env.ftz ? 0x8000u : 0);
    return c;
}

static void same(const char *what, u64 mine, u64 theirs, u32 my_flags, u32 their_flags, u64 a,
                 u64 b, u64 c, u32 mode)
{
    if (mine == theirs && my_flags == their_flags) return;
    fail_msg(
        "%s(%016llx, %016llx, %016llx) mode %04x: %016llx flags %03x, the host %016llx flags %03x",
        what, (unsigned long long)a, (unsigned long long)b, (unsigned long long)c, mode,
        (unsigned long long)mine, my_flags, (unsigned long long)theirs, their_flags);
}

#define SSE_BINARY(what, format, host, soft)                                                       \
    static void test_##what(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        u64 seed = 0x9e3779b97f4a7c15 ^ sizeof(#what);                                             \
        for (unsigned i = 0; i < 100000; i++) {                                                    \
            struct sse_case c = sse_modes(&seed);                                                  \
            struct fp_env *env = &c.env;                                                           \
            u64 a = operand(&format, &seed), b = operand(&format, &seed);                          \
            if (!(i & 15)) b = a ^ (next(&seed) & 3);                                              \
            x64_sse_begin(c.mxcsr, true);                                                          \
            u64 theirs = (u64)(host);                                                              \
            u32 flags = x64_sse_end(c.mxcsr);                                                      \
            u64 mine = (u64)(soft);                                                                \
            same(#what, mine, theirs, env->flags & FP_ALL, flags, a, b, 0, c.mxcsr);               \
        }                                                                                          \
    }

#define BOTH(op)                                                                                   \
    SSE_BINARY(op##ss, fp_f32, x64_##op##ss(a, b), fp_##op(&fp_f32, a, b, env))                    \
    SSE_BINARY(op##sd, fp_f64, x64_##op##sd(a, b), fp_##op(&fp_f64, a, b, env))
BOTH(add)
BOTH(sub) BOTH(mul) BOTH(div) BOTH(min) BOTH(max) SSE_BINARY(sqrtss, fp_f32, x64_sqrtss(0, a),
                                                             fp_sqrt(&fp_f32, a, env))
    SSE_BINARY(sqrtsd, fp_f64, x64_sqrtsd(0, a), fp_sqrt(&fp_f64, a, env))
        SSE_BINARY(cvtss2sd, fp_f32, x64_cvtss2sd(0, a), fp_convert(&fp_f64, &fp_f32, a, env))
            SSE_BINARY(cvtsd2ss, fp_f64, x64_cvtsd2ss(0, a), fp_convert(&fp_f32, &fp_f64, a, env))
                SSE_BINARY(cvtss2si32, fp_f32, (i64)x64_cvtss2si32(a),
                           fp_to_int(&fp_f32, a, env->rounding, 32, env))
                    SSE_BINARY(cvtss2si64, fp_f32, x64_cvtss2si64(a),
                               fp_to_int(&fp_f32, a, env->rounding, 64, env))
                        SSE_BINARY(cvttss2si32, fp_f32, (i64)x64_cvttss2si32(a),
                                   fp_to_int(&fp_f32, a, FP_TO_ZERO, 32, env))
                            SSE_BINARY(cvtsd2si32, fp_f64, (i64)x64_cvtsd2si32(a),
                                       fp_to_int(&fp_f64, a, env->rounding, 32, env))
                                SSE_BINARY(cvtsd2si64, fp_f64, x64_cvtsd2si64(a),
                                           fp_to_int(&fp_f64, a, env->rounding, 64, env))
                                    SSE_BINARY(cvttsd2si64, fp_f64, x64_cvttsd2si64(a),
                                               fp_to_int(&fp_f64, a, FP_TO_ZERO, 64, env))
                                        SSE_BINARY(cvtsi2ss32, fp_f32, x64_cvtsi2ss32((i32)a),
                                                   fp_from_int(&fp_f32, (i32)a, env))
                                            SSE_BINARY(cvtsi2ss64, fp_f64, x64_cvtsi2ss64((i64)a),
                                                       fp_from_int(&fp_f32, (i64)a, env))
                                                SSE_BINARY(cvtsi2sd64, fp_f64,
                                                           x64_cvtsi2sd64((i64)a),
                                                           fp_from_int(&fp_f64, (i64)a, env))

                                                    static u32 comi(enum fp_relation r)
{
    return r == FP_UNORDERED ? 0x45 : r == FP_EQUAL ? 0x40 : r == FP_LESS ? 1 : 0;
}
SSE_BINARY(comiss, fp_f32, x64_comiss(a, b), comi(fp_compare(&fp_f32, a, b, false, env)))
SSE_BINARY(comisd, fp_f64, x64_comisd(a, b), comi(fp_compare(&fp_f64, a, b, false, env)))
SSE_BINARY(ucomiss, fp_f32, x64_ucomiss(a, b), comi(fp_compare(&fp_f32, a, b, true, env)))
SSE_BINARY(ucomisd, fp_f64, x64_ucomisd(a, b), comi(fp_compare(&fp_f64, a, b, true, env)))

/* Instructions that need more than SSE2 of the host. */
#define HOST_ROUND(name, op, imm)                                                                  \
    static u64 name(u64 a)                                                                         \
    {                                                                                              \
        __m128i x = _mm_cvtsi64_si128((i64)a), y = x;                                              \
        __asm__ volatile(op " $" #imm ", %1, %0" : "+x"(y) : "x"(x));                              \
        return (u64)_mm_cvtsi128_si64(y);                                                          \
    }
HOST_ROUND(roundss_mode, "roundss", 4) HOST_ROUND(roundsd_mode, "roundsd", 4)
HOST_ROUND(roundsd_quiet, "roundsd", 9) HOST_ROUND(vcvtps2ph, "vcvtps2ph", 4)
HOST_ROUND(vcvtps2ph_up, "vcvtps2ph", 2)
SSE_BINARY(roundss, fp_f32, roundss_mode(a) & X64_32, fp_rint(&fp_f32, a, env->rounding, true, env))
SSE_BINARY(roundsd, fp_f64, roundsd_mode(a), fp_rint(&fp_f64, a, env->rounding, true, env))
SSE_BINARY(roundsd9, fp_f64, roundsd_quiet(a), fp_rint(&fp_f64, a, FP_DOWN, false, env))

static u64 vcvtph2ps(u64 a)
{
    __m128i x = _mm_cvtsi64_si128((i64)a);
    __asm__ volatile("vcvtph2ps %0, %0" : "+x"(x));
    return (u64)_mm_cvtsi128_si64(x) & X64_32;
}
static u64 soft_ps2ph(u64 a, unsigned rounding, struct fp_env *env)
{
    env->ftz = false;
    env->rounding = rounding;
    return fp_convert(&fp_f16, &fp_f32, a, env);
}
static u64 soft_ph2ps(u64 a, struct fp_env *env)
{
    env->daz = false;
    return fp_convert(&fp_f32, &fp_f16, a, env);
}
SSE_BINARY(ps2ph, fp_f32, vcvtps2ph(a) & 0xffff, soft_ps2ph(a, env->rounding, env))
SSE_BINARY(ps2ph_up, fp_f32, vcvtps2ph_up(a) & 0xffff, soft_ps2ph(a, FP_UP, env))
SSE_BINARY(ph2ps, fp_f16, vcvtph2ps(a), soft_ph2ps(a, env))

#define FMA(what, format, host, negate_product, negate_c)                                          \
    static void test_##what(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        u64 seed = 0x123456789abcdef;                                                              \
        if (!x64_has_fma()) skip();                                                                \
        for (unsigned i = 0; i < 200000; i++) {                                                    \
            struct sse_case c = sse_modes(&seed);                                                  \
            union vec r, x = { .q = { operand(&format, &seed) } };                                 \
            union vec y = { .q = { operand(&format, &seed) } };                                    \
            union vec z = { .q = { operand(&format, &seed) } };                                    \
            if (i & 1) {                                                                           \
                struct fp_env near = { .precision = 64 };                                          \
                z.q[0] = fp_mul(&format, x.q[0], y.q[0], &near) ^                                  \
                         (1ull << (format.precision + format.exponent_bits - 1)) ^ (i >> 1 & 3);   \
            }                                                                                      \
            x64_sse_begin(c.mxcsr, true);                                                          \
            host(&r, &x, &y, &z);                                                                  \
            u32 flags = x64_sse_end(c.mxcsr);                                                      \
            u64 mine = fp_fma(&format, x.q[0], y.q[0], z.q[0], negate_product, negate_c, &c.env);  \
            same(#what, mine, r.q[0], c.env.flags & FP_ALL, flags, x.q[0], y.q[0], z.q[0],         \
                 c.mxcsr);                                                                         \
        }                                                                                          \
    }
FMA(fmaddss, fp_f32, x64_vfmadd213ss, false, false)
FMA(fmaddsd, fp_f64, x64_vfmadd213sd, false, false)
    FMA(fmsubsd, fp_f64, x64_vfmsub213sd, false, true)
        FMA(fnmaddsd, fp_f64, x64_vfnmadd213sd, true, false)
            FMA(fnmsubss, fp_f32, x64_vfnmsub213ss, true, true)

    /* --- x87 --- */

    static const u8 precisions[4] = { 24, 24, 53, 64 };

#define X87(what, condition, host, soft, mask)                                                     \
    static void test_##what(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        u64 seed = 0xfedcba987654321 ^ sizeof(#what);                                              \
        for (unsigned i = 0; i < 60000; i++) {                                                     \
            u64 bits = next(&seed);                                                                \
            unsigned rounding = bits & 3, pc = bits >> 2 & 3;                                      \
            if (pc == 1) pc = 3;                                                                   \
            struct fp_env local = { .rounding = rounding, .x87 = true };                           \
            local.precision = precisions[pc];                                                      \
            struct fp_env *env = &local;                                                           \
            struct f80 a = operand80(&seed), b = operand80(&seed);                                 \
            struct f80 theirs = { 0, 0 }, mine = { 0, 0 };                                         \
            u64 a64 = operand(&fp_f64, &seed), a32 = operand(&fp_f32, &seed);                      \
            (void)a64; (void)a32; (void)env; (void)b;                                              \
            if (!(i & 15)) b = (struct f80){ a.mantissa ^ (bits >> 8 & 3), a.exponent };           \
            x64_fnclex();                                                                          \
            x64_fldcw((u16)(0x7f | pc << 8 | rounding << 10));                                     \
            u16 status = 0xffff;                                                                   \
            host;                                                                                  \
            if (status == 0xffff) status = x64_fnstsw();                                           \
            x64_fldcw(X64_FCW_DEFAULT);                                                            \
            soft;                                                                                  \
            if (condition) {                                                                       \
                same(#what " low", mine.mantissa, theirs.mantissa, env->flags & (mask),            \
                     status & (mask), a.mantissa, b.mantissa, (u64)a.exponent << 16 | b.exponent,  \
                     pc << 8 | rounding << 10);                                                    \
                same(#what " high", mine.exponent, theirs.exponent, 0, 0, a.mantissa, b.mantissa,  \
                     (u64)a.exponent << 16 | b.exponent, pc << 8 | rounding << 10);                \
            }                                                                                      \
        }                                                                                          \
    }
#define WITH_C1 (FP_ALL | FP_C1)
X87(fadd, true, theirs = x64_fadd(a, b, &status), mine = f80_add(a, b, env), WITH_C1)
X87(fsub, true, theirs = x64_fsub(a, b, &status), mine = f80_sub(a, b, env), WITH_C1)
X87(fmul, true, theirs = x64_fmul(a, b, &status), mine = f80_mul(a, b, env), WITH_C1)
X87(fdiv, true, theirs = x64_fdiv(a, b, &status), mine = f80_div(a, b, env), WITH_C1)
X87(fsqrt, true, theirs = x64_fsqrt(a, &status), mine = f80_sqrt(a, env), WITH_C1)
X87(frndint, true, theirs = x64_frndint(a, &status), mine = f80_rint(a, env), WITH_C1)
X87(fscale, true, theirs = x64_fscale(a, b, &status), mine = f80_scale(a, b, env), FP_ALL)
X87(fst64, true, theirs.mantissa = x64_fst64(a), mine.mantissa = f80_to(&fp_f64, a, env), WITH_C1)
X87(fst32, true, theirs.mantissa = x64_fst32(a), mine.mantissa = f80_to(&fp_f32, a, env), WITH_C1)
X87(fld64, true, theirs = x64_fld64(a64), mine = f80_from(&fp_f64, a64, env), FP_ALL)
X87(fld32, true, theirs = x64_fld32((u32)a32), mine = f80_from(&fp_f32, a32, env), FP_ALL)
X87(fist16, true, theirs.mantissa = (u64)(i64)x64_fist16(a),
    mine.mantissa = (u64)f80_to_int(a, env->rounding, 16, env), WITH_C1)
X87(fist32, true, theirs.mantissa = (u64)(i64)x64_fist32(a),
    mine.mantissa = (u64)f80_to_int(a, env->rounding, 32, env), WITH_C1)
X87(fist64, true, theirs.mantissa = (u64)x64_fist64(a),
    mine.mantissa = (u64)f80_to_int(a, env->rounding, 64, env), WITH_C1)
X87(fisttp64, true, theirs.mantissa = (u64)x64_fisttp64(a),
    mine.mantissa = (u64)f80_to_int(a, FP_TO_ZERO, 64, env), FP_ALL)
X87(fcomip, true, theirs.mantissa = x64_fcomip(a, b),
    mine.mantissa = comi(f80_compare(a, b, false, env)), FP_ALL)
X87(fucomip, true, theirs.mantissa = x64_fucomip(a, b),
    mine.mantissa = comi(f80_compare(a, b, true, env)), FP_ALL)

static struct f80 soft_rem(struct f80 a, struct f80 b, bool nearest, struct fp_env *env, u32 *codes)
{
    unsigned q;
    bool partial;
    struct f80 r = f80_rem(a, b, nearest, &q, &partial, env);
    *codes = partial ? 0x400 : (q & 4 ? 0x100 : 0) | (q & 2 ? 0x4000 : 0) | (q & 1 ? 0x200 : 0);
    return r;
}
#define REM(what, nearest)                                                                         \
    X87(what, true, theirs = x64_##what(a, b, &status),                                            \
        u32 codes; mine = soft_rem(a, b, nearest, env, &codes);                                    \
        if (fp_is_nan(f80_unpack(theirs))) codes = status & 0x4700; /* left as they were */        \
        env->flags = (env->flags & FP_ALL) | codes, FP_ALL | 0x4700)
REM(fprem, false) REM(fprem1, true)

static struct f80 soft_bcd(struct f80 a, struct fp_env *env)
{
    u8 bcd[10];
    f80_to_bcd(a, bcd, env);
    return (struct f80){ ld64(bcd), ld16(bcd + 8) };
}
static struct f80 host_bcd(struct f80 a)
{
    struct f80 r = { 0, 0 };
    __asm__ volatile("fldt %1\n\tfbstp %0" : "=m"(r) : "m"(a) : "st");
    return r;
}
X87(fbstp, true, theirs = host_bcd(a), mine = soft_bcd(a, env), FP_ALL)

static void test_fxtract(void **state)
{
    (void)state;
    u64 seed = 77;
    for (unsigned i = 0; i < 20000; i++) {
        struct f80 a = operand80(&seed), exponent, top;
        struct fp_env env = { .precision = 64, .x87 = true };
        u16 status;
        x64_fnclex();
        struct f80 below = x64_fxtract(a, &top, &status);
        struct f80 significand = f80_extract(a, &exponent, &env);
        same("fxtract significand", significand.mantissa, top.mantissa, env.flags & FP_ALL,
             status & FP_ALL, a.mantissa, a.exponent, 0, 0);
        same("fxtract", significand.exponent, top.exponent, 0, 0, a.mantissa, a.exponent, 0, 0);
        same("fxtract exponent", exponent.mantissa, below.mantissa, exponent.exponent,
             below.exponent, a.mantissa, a.exponent, 0, 0);
    }
}

/* Transcendental functions: within an ulp of the host's for numbers, the same for special operands.
 */
static bool near(struct f80 a, struct f80 b)
{
    if ((a.exponent ^ b.exponent) & 0x8000) return false;
    i64 steps = (i64)((u64)(a.exponent & 0x7fff) << 48) - (i64)((u64)(b.exponent & 0x7fff) << 48);
    if (steps == 0) return a.mantissa - b.mantissa + 2 <= 4;
    if (steps == 1ll << 48) return (a.mantissa << 1) - b.mantissa + 2 <= 4;
    return steps == -(1ll << 48) && (b.mantissa << 1) - a.mantissa + 2 <= 4;
}

#define TRANS(what, condition, host, soft)                                                         \
    static void test_##what(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        u64 seed = 0xabcdef;                                                                       \
        for (unsigned i = 0; i < 10000; i++) {                                                     \
            struct f80 a = operand80(&seed), b = operand80(&seed), mine = { 0, 0 };                \
            struct fp_env local = { .precision = 64, .x87 = true }, *env = &local;                 \
            struct fp_value va = f80_unpack(a), vb = f80_unpack(b);                                \
            (void)va; (void)vb;                                                                    \
            if (!(condition)) continue;                                                            \
            x64_fnclex();                                                                          \
            u16 status;                                                                            \
            struct f80 theirs = host;                                                              \
            soft;                                                                                  \
            if (near(mine, theirs) && !((local.flags ^ status) & FP_ALL)) continue;                \
            fail_msg(#what "(%04x %016llx, %04x %016llx): %04x %016llx flags %x, the host %04x "   \
                     "%016llx flags %x", a.exponent, (unsigned long long)a.mantissa, b.exponent,   \
                     (unsigned long long)b.mantissa, mine.exponent,                                \
                     (unsigned long long)mine.mantissa, local.flags & FP_ALL, theirs.exponent,     \
                     (unsigned long long)theirs.mantissa, status & FP_ALL);                        \
        }                                                                                          \
    }
TRANS(f2xm1, va.kind != FP_FINITE || va.exp < 0, x64_f2xm1(a, &status), mine = f80_2xm1(a, env))
TRANS(fyl2x, true, x64_fyl2x(a, b, &status), mine = f80_yl2x(a, b, env))
TRANS(fyl2xp1, va.kind != FP_INFINITE && (va.kind != FP_FINITE || va.exp < -2),
      x64_fyl2xp1(a, b, &status), mine = f80_yl2xp1(a, b, env))
TRANS(fpatan, true, x64_fpatan(a, b, &status), mine = f80_atan2(b, a, env))
TRANS(fsin, va.kind != FP_FINITE || va.exp < 3, x64_fsin(a, &status),
      f80_sincos(a, &mine, NULL, env))
TRANS(fcos, va.kind != FP_FINITE || va.exp < 3, x64_fcos(a, &status),
      f80_sincos(a, NULL, &mine, env))
static struct f80 host_tan(struct f80 a, u16 *status)
{
    struct f80 top;
    return x64_fptan(a, &top, status);
}
TRANS(fptan, va.kind != FP_FINITE || va.exp < 3, host_tan(a, &status), f80_tan(a, &mine, env))
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_f64),
        cmocka_unit_test(known_f80),
#if HOST_X86_64
#define T(name) cmocka_unit_test(test_##name)
        T(addss),
        T(addsd),
        T(subss),
        T(subsd),
        T(mulss),
        T(mulsd),
        T(divss),
        T(divsd),
        T(minss),
        T(minsd),
        T(maxss),
        T(maxsd),
        T(sqrtss),
        T(sqrtsd),
        T(cvtss2sd),
        T(cvtsd2ss),
        T(cvtss2si32),
        T(cvtss2si64),
        T(cvttss2si32),
        T(cvtsd2si32),
        T(cvtsd2si64),
        T(cvttsd2si64),
        T(cvtsi2ss32),
        T(cvtsi2ss64),
        T(cvtsi2sd64),
        T(comiss),
        T(comisd),
        T(ucomiss),
        T(ucomisd),
        T(roundss),
        T(roundsd),
        T(roundsd9),
        T(ps2ph),
        T(ps2ph_up),
        T(ph2ps),
        T(fmaddss),
        T(fmaddsd),
        T(fmsubsd),
        T(fnmaddsd),
        T(fnmsubss),
        T(fadd),
        T(fsub),
        T(fmul),
        T(fdiv),
        T(fsqrt),
        T(frndint),
        T(fscale),
        T(fst64),
        T(fst32),
        T(fld64),
        T(fld32),
        T(fist16),
        T(fist32),
        T(fist64),
        T(fisttp64),
        T(fcomip),
        T(fucomip),
        T(fprem),
        T(fprem1),
        T(fbstp),
        T(fxtract),
        T(f2xm1),
        T(fyl2x),
        T(fyl2xp1),
        T(fpatan),
        T(fsin),
        T(fcos),
        T(fptan),
#endif
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
