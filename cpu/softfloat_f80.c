/*
 * Software floating point: the x87's 80-bit format.
 * Specification: see softfloat.h; Intel SDM vol. 1 chapter 8 and the pages of FPREM, FSCALE,
 * FXTRACT, FBLD, FBSTP.
 */
#include "cpu/softfloat.h"

struct f80 f80_add(struct f80 a, struct f80 b, struct fp_env *env)
{
    return f80_pack(
        fp_value_add(env, &fp_f80, env->precision, f80_unpack(a), f80_unpack(b), false));
}

struct f80 f80_sub(struct f80 a, struct f80 b, struct fp_env *env)
{
    return f80_pack(fp_value_add(env, &fp_f80, env->precision, f80_unpack(a), f80_unpack(b), true));
}

struct f80 f80_mul(struct f80 a, struct f80 b, struct fp_env *env)
{
    return f80_pack(fp_value_mul(env, &fp_f80, env->precision, f80_unpack(a), f80_unpack(b)));
}

struct f80 f80_div(struct f80 a, struct f80 b, struct fp_env *env)
{
    return f80_pack(fp_value_div(env, &fp_f80, env->precision, f80_unpack(a), f80_unpack(b)));
}

struct f80 f80_sqrt(struct f80 a, struct fp_env *env)
{
    return f80_pack(fp_value_sqrt(env, &fp_f80, env->precision, f80_unpack(a)));
}

struct f80 f80_rint(struct f80 a, struct fp_env *env)
{
    struct fp_value v = f80_unpack(a);
    if (v.denormal) env->flags |= FP_DE;
    return f80_pack(fp_value_rint(env, env->rounding, v, true));
}

static struct fp_value finish(struct fp_env *env, struct fp_value v)
{
    if (v.kind != FP_FINITE) return v;
    return fp_round(env, &fp_f80, 64, v.sign, v.exp, (u128)v.sig << 64);
}

struct f80 f80_scale(struct f80 a, struct f80 b, struct fp_env *env)
{
    struct fp_value x = f80_unpack(a), n = f80_unpack(b);
    if (fp_is_nan(x) || fp_is_nan(n)) return f80_pack(fp_propagate(env, x, n));
    if (n.kind == FP_INFINITE) {
        if (x.kind == (n.sign ? FP_INFINITE : FP_ZERO)) return f80_pack(fp_invalid(env));
        if (x.denormal) env->flags |= FP_DE;
        return f80_pack(n.sign ? fp_make_zero(x.sign) : fp_make_infinity(x.sign));
    }
    if (x.denormal || n.denormal) env->flags |= FP_DE;
    if (x.kind != FP_FINITE) return a;
    if (n.kind == FP_FINITE && n.exp >= 0) {
        i32 step = n.exp > 16 ? 0x10000 : (i32)(n.sig >> (63 - n.exp));
        x.exp += n.sign ? -step : step;
    }
    return f80_pack(finish(env, x));
}

struct f80 f80_extract(struct f80 a, struct f80 *exponent, struct fp_env *env)
{
    struct fp_value v = f80_unpack(a);
    if (fp_is_nan(v)) {
        *exponent = f80_pack(fp_propagate(env, v, v));
        return *exponent;
    }
    switch (v.kind) {
    case FP_ZERO:
        env->flags |= FP_ZE;
        *exponent = f80_pack(fp_make_infinity(true));
        return a;
    case FP_INFINITE:
        *exponent = f80_pack(fp_make_infinity(false));
        return a;
    default:
        if (v.denormal) env->flags |= FP_DE;
        *exponent = f80_from_int(v.exp);
        return (struct f80){ v.sig, (u16)(v.sign ? 0xbfff : 0x3fff) };
    }
}

/* (sig * 2^steps) mod divisor, the quotient's low bits in *quotient. */
static u64 remainder_steps(u64 sig, u64 divisor, unsigned steps, u64 *quotient)
{
    u128 rest = sig;
    u64 q = 0;
    for (unsigned i = 0;; i++) {
        q <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            q |= 1;
        }
        if (i == steps) break;
        rest <<= 1;
    }
    *quotient = q;
    return (u64)rest;
}

/* R's significand REST at the weight of exponent EXP. */
static struct fp_value make_remainder(struct fp_env *env, bool sign, i32 exp, u64 rest)
{
    if (!rest) return fp_make_zero(sign);
    unsigned shift = __builtin_clzll(rest);
    return fp_round(env, &fp_f80, 64, sign, exp - (i32)shift, (u128)(rest << shift) << 64);
}

struct f80 f80_rem(struct f80 a, struct f80 b, bool nearest, unsigned *quotient, bool *partial,
                   struct fp_env *env)
{
    struct fp_value x = f80_unpack(a), y = f80_unpack(b);
    *quotient = 0;
    *partial = false;
    if (fp_is_nan(x) || fp_is_nan(y)) return f80_pack(fp_propagate(env, x, y));
    if (x.kind == FP_INFINITE || y.kind == FP_ZERO) return f80_pack(fp_invalid(env));
    if (x.denormal || y.denormal) env->flags |= FP_DE;
    if (x.kind == FP_ZERO) return a;
    if (y.kind == FP_INFINITE) return f80_pack(finish(env, x));
    i32 difference = x.exp - y.exp;
    if (difference < -1 || (difference < 0 && !nearest)) return f80_pack(finish(env, x));

    u64 q = 0;
    if (difference >= 64) {
        unsigned steps = ((unsigned)difference & 31) | 32;
        u64 rest = remainder_steps(x.sig, y.sig, steps, &q);
        *partial = true;
        return f80_pack(make_remainder(env, x.sign, x.exp - (i32)steps, rest));
    }
    if (difference < 0) { /* half a divisor or more, less than one */
        if (x.sig <= y.sig)
            return f80_pack(finish(env, x)); /* a tie goes to the even quotient, 0 */
        *quotient = 1;
        return f80_pack(make_remainder(env, !x.sign, x.exp, (y.sig << 1) - x.sig));
    }
    u64 rest = remainder_steps(x.sig, y.sig, (unsigned)difference, &q);
    if (nearest && (rest > y.sig - rest || (rest == y.sig - rest && (q & 1)))) {
        rest = y.sig - rest;
        q++;
        x.sign = !x.sign;
        if (!rest) x.sign = !x.sign;
    }
    *quotient = q & 7;
    return f80_pack(make_remainder(env, x.sign, y.exp, rest));
}

static bool is_normal(struct f80 a)
{
    return (a.exponent & 0x7fff) - 1u < 0x7ffe && a.mantissa >> 63;
}

enum fp_relation f80_compare(struct f80 a, struct f80 b, bool quiet, struct fp_env *env)
{
    if (likely(is_normal(a) && is_normal(b))) {
        if (a.exponent == b.exponent && a.mantissa == b.mantissa) return FP_EQUAL;
        if ((a.exponent ^ b.exponent) & 0x8000) return a.exponent & 0x8000 ? FP_LESS : FP_GREATER;
        bool above = a.exponent == b.exponent ? a.mantissa > b.mantissa : a.exponent > b.exponent;
        return above != (bool)(a.exponent & 0x8000) ? FP_GREATER : FP_LESS;
    }
    return fp_value_compare(env, f80_unpack(a), f80_unpack(b), quiet);
}

struct f80 f80_from_int(i64 n)
{
    return f80_pack(fp_value_from_int(n));
}

i64 f80_to_int(struct f80 a, enum fp_rounding rounding, unsigned bits, struct fp_env *env)
{
    return fp_value_to_int(env, rounding, f80_unpack(a), bits);
}

struct f80 f80_from(const struct fp_format *f, u64 bits, struct fp_env *env)
{
    struct fp_value v = fp_unpack(f, bits, false);
    if (fp_is_nan(v)) return f80_pack(fp_propagate(env, v, v));
    if (v.denormal) env->flags |= FP_DE;
    return f80_pack(v);
}

u64 f80_to(const struct fp_format *f, struct f80 a, struct fp_env *env)
{
    struct fp_value v = f80_unpack(a);
    if (fp_is_nan(v)) return fp_pack(f, fp_propagate(env, v, v));
    if (v.kind == FP_FINITE)
        v = fp_round(env, f, f->precision, v.sign, v.exp, (u128)v.sig << 64);
    return fp_pack(f, v);
}

/* --- packed decimal: 18 digits, sign in bit 7 of byte 9 --- */

struct f80 f80_from_bcd(const u8 bcd[10])
{
    u64 n = 0;
    for (int i = 8; i >= 0; i--) n = n * 100 + (bcd[i] >> 4) * 10u + (bcd[i] & 15);
    struct fp_value v = fp_value_from_int((i64)n);
    v.sign = bcd[9] >> 7;
    return f80_pack(v);
}

void f80_to_bcd(struct f80 a, u8 bcd[10], struct fp_env *env)
{
    static const u8 indefinite[10] = { 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff };
    struct fp_env work = *env;
    i64 n = f80_to_int(a, env->rounding, 64, &work);
    if (n >= 1000000000000000000ll || n <= -1000000000000000000ll) {
        env->flags = (env->flags & ~FP_C1) | FP_IE;
        memcpy(bcd, indefinite, 10);
        return;
    }
    env->flags = work.flags;
    u64 rest = n < 0 ? 0 - (u64)n : (u64)n;
    for (unsigned i = 0; i < 9; i++, rest /= 100) {
        unsigned two = rest % 100;
        bcd[i] = (u8)(two / 10 << 4 | two % 10);
    }
    bcd[9] = a.exponent >> 15 ? 0x80 : 0;
}
