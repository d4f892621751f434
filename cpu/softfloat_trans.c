/*
 * Software floating point: the x87's transcendental functions, for hosts without an x87.
 *
 * Series evaluated with 128-bit significands, so that the one rounding at the end decides: within
 * 0.51 ulp, but not bit for bit what any processor gives (they differ among themselves). FSIN,
 * FCOS, FSINCOS and FPTAN reduce their argument exactly with the 66-bit pi of Intel SDM vol. 1
 * section 8.3.8. Special operands: the tables of the instructions' pages in SDM vol. 2.
 */
#include "cpu/softfloat.h"

/* (-1)^sign * sig / 2^127 * 2^exp; bit 127 of sig is set unless the number is zero. */
struct wide {
    u128 sig;
    i32 exp;
    bool sign;
};

#define WIDE(exponent, high, low) { .sig = (u128)(high) << 64 | (low), .exp = (exponent) }
static const struct wide one = WIDE(0, 0x8000000000000000, 0);
static const struct wide ln_2 = WIDE(-1, 0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af);
static const struct wide two_log2_e = WIDE(1, 0xb8aa3b295c17f0bb, 0xbe87fed0691d3e89);
static const struct wide atan_half = WIDE(-2, 0xed63382b0dda7b45, 0x6fe445ecbc3a8d03);
static const struct wide pi_quarter = WIDE(-1, 0xc90fdaa22168c234, 0xc4c6628b80dc1cd1);

static struct wide scaled(struct wide a, i32 exp)
{
    a.exp += exp;
    return a;
}

static struct wide negated(struct wide a)
{
    a.sign = !a.sign;
    return a;
}

static struct wide normalized(bool sign, i32 exp, u128 sig)
{
    if (!sig) return (struct wide){ 0 };
    u64 high = (u64)(sig >> 64);
    unsigned shift =
        high ? (unsigned)__builtin_clzll(high) : 64 + (unsigned)__builtin_clzll((u64)sig);
    return (struct wide){ sig << shift, exp - (i32)shift, sign };
}

static struct wide from_value(struct fp_value v)
{
    return v.kind == FP_FINITE ? (struct wide){ (u128)v.sig << 64, v.exp, v.sign }
                               : (struct wide){ 0 };
}

static struct wide from_int(i64 n)
{
    return from_value(fp_value_from_int(n));
}

static struct wide mul(struct wide a, struct wide b)
{
    if (!a.sig || !b.sig) return (struct wide){ 0 };
    u64 ah = (u64)(a.sig >> 64), al = (u64)a.sig, bh = (u64)(b.sig >> 64), bl = (u64)b.sig;
    u128 middle = (u128)ah * bl, other = (u128)al * bh;
    u128 carry = (u128)(u64)middle + (u64)other + (u64)((u128)al * bl >> 64);
    u128 high = (u128)ah * bh + (u64)(middle >> 64) + (u64)(other >> 64) + (u64)(carry >> 64);
    return normalized(a.sign ^ b.sign, a.exp + b.exp + 1, high);
}

static struct wide add(struct wide a, struct wide b)
{
    if (!a.sig) return b;
    if (!b.sig) return a;
    if (a.exp < b.exp || (a.exp == b.exp && a.sig < b.sig)) {
        struct wide swap = a;
        a = b;
        b = swap;
    }
    u128 y = a.exp - b.exp > 127 ? 0 : b.sig >> (a.exp - b.exp);
    if (a.sign != b.sign) return normalized(a.sign, a.exp, a.sig - y);
    u128 sum = a.sig + y;
    if (sum >= a.sig) return (struct wide){ sum, a.exp, a.sign };
    return (struct wide){ sum >> 1 | (u128)1 << 127, a.exp + 1, a.sign };
}

static struct wide divided(struct wide a, struct wide b)
{
    if (!a.sig) return a;
    u128 rest = a.sig, quotient = 0;
    bool carry = false;
    for (unsigned i = 0; i < 128; i++) {
        quotient <<= 1;
        if (carry || rest >= b.sig) {
            rest -= b.sig;
            quotient |= 1;
        }
        carry = rest >> 127;
        rest <<= 1;
    }
    return normalized(a.sign ^ b.sign, a.exp - b.exp, quotient);
}

static struct wide divided_by(struct wide a, u32 n)
{
    if (!a.sig) return a;
    u128 quotient = a.sig / n;
    u64 rest = (u64)(a.sig % n);
    u64 high = (u64)(quotient >> 64); /* n < 2^32: never zero */
    unsigned shift = (unsigned)__builtin_clzll(high);
    u128 sig = quotient << shift;
    if (shift) sig |= ((u128)rest << shift) / n;
    return (struct wide){ sig, a.exp - (i32)shift, a.sign };
}

/* An irrational result: inexact whatever its bits. */
static struct f80 finish(struct fp_env *env, struct wide a)
{
    if (!a.sig) return f80_pack(fp_make_zero(a.sign));
    return f80_pack(fp_round(env, &fp_f80, 64, a.sign, a.exp, a.sig | 1));
}

static void note_denormal(struct fp_env *env, struct fp_value v)
{
    if (v.denormal) env->flags |= FP_DE;
}

/* --- 2^x - 1 --- */

struct f80 f80_2xm1(struct f80 a, struct fp_env *env)
{
    struct fp_value v = f80_unpack(a);
    if (fp_is_nan(v)) return f80_pack(fp_propagate(env, v, v));
    if (v.kind == FP_INFINITE) return v.sign ? f80_from_int(-1) : a;
    note_denormal(env, v);
    if (v.kind == FP_ZERO || v.exp > 0) return a; /* beyond +-1: undefined, Zen leaves it */
    if (v.exp == 0) {
        if (v.sig != 1ull << 63) return a;
        return v.sign ? (struct f80){ 1ull << 63, 0xbffe } : a;
    }
    struct wide t = mul(from_value(v), ln_2), sum = one;
    for (u32 k = 34; k > 1; k--) sum = add(one, divided_by(mul(t, sum), k));
    return finish(env, mul(t, sum));
}

/* --- logarithms --- */

/* log2((1 + z) / (1 - z)), |z| < 0.18 */
static struct wide log2_ratio(struct wide z)
{
    struct wide square = mul(z, z), sum = { 0 };
    for (u32 k = 57; k > 1; k -= 2) sum = mul(square, add(divided_by(one, k), sum));
    return mul(mul(two_log2_e, z), add(one, sum));
}

static struct wide log2_wide(struct wide x)
{
    i32 exp = x.exp;
    x.exp = 0;
    if ((u64)(x.sig >> 64) > 0xb504f333f9de6484) { /* sqrt 2 */
        x.exp--;
        exp++;
    }
    struct wide z = divided(add(x, negated(one)), add(x, one));
    return add(from_int(exp), log2_ratio(z));
}

/* y * l where l is an infinity of sign NEGATIVE or an exact zero. */
static struct f80 times_infinity(struct fp_env *env, struct fp_value y, bool negative)
{
    if (y.kind == FP_ZERO) return f80_pack(fp_invalid(env));
    return f80_pack(fp_make_infinity(y.sign ^ negative));
}

static struct f80 yl2x_special(struct fp_value x, struct fp_value y, struct fp_env *env)
{
    if (x.kind == FP_ZERO) {
        if (y.kind == FP_FINITE) env->flags |= FP_ZE;
        return times_infinity(env, y, true);
    }
    if (x.kind == FP_INFINITE) return times_infinity(env, y, false);
    if (y.kind == FP_INFINITE) {
        if (x.exp == 0 && x.sig == 1ull << 63) return f80_pack(fp_invalid(env));
        return f80_pack(fp_make_infinity(y.sign ^ (x.exp < 0)));
    }
    return f80_pack(fp_make_zero(y.sign ^ (x.exp < 0))); /* y is zero */
}

struct f80 f80_yl2x(struct f80 a, struct f80 b, struct fp_env *env)
{
    struct fp_value x = f80_unpack(a), y = f80_unpack(b);
    if (fp_is_nan(x) || fp_is_nan(y)) return f80_pack(fp_propagate(env, x, y));
    if (x.sign && x.kind != FP_ZERO) return f80_pack(fp_invalid(env));
    if (x.kind == FP_ZERO && y.kind == FP_FINITE) return yl2x_special(x, y, env); /* ZE and no DE */
    note_denormal(env, x);
    note_denormal(env, y);
    if (x.kind != FP_FINITE || y.kind != FP_FINITE) return yl2x_special(x, y, env);
    if (x.sig == 1ull << 63) { /* a power of two: exact, though PE says otherwise */
        y.denormal = false;
        struct fp_value r = fp_value_mul(env, &fp_f80, 64, y, fp_value_from_int(x.exp));
        if (x.exp) env->flags |= FP_PE;
        if (r.kind == FP_FINITE && !(r.sig >> 63)) env->flags |= FP_UE;
        return f80_pack(r);
    }
    return finish(env, mul(from_value(y), log2_wide(from_value(x))));
}

struct f80 f80_yl2xp1(struct f80 a, struct f80 b, struct fp_env *env)
{
    struct fp_value x = f80_unpack(a), y = f80_unpack(b);
    if (fp_is_nan(x) || fp_is_nan(y)) return f80_pack(fp_propagate(env, x, y));
    if (x.sign && x.kind != FP_ZERO && (x.kind == FP_INFINITE || x.exp >= 0))
        return f80_pack(fp_invalid(env));
    note_denormal(env, x);
    note_denormal(env, y);
    if (x.kind == FP_INFINITE) return times_infinity(env, y, false);
    if (y.kind == FP_INFINITE) return times_infinity(env, x, y.sign);
    if (x.kind == FP_ZERO || y.kind == FP_ZERO) return f80_pack(fp_make_zero(x.sign ^ y.sign));
    struct wide w = from_value(x);
    struct wide l =
        x.exp < -2 ? log2_ratio(divided(w, add(scaled(one, 1), w))) : log2_wide(add(one, w));
    return finish(env, mul(from_value(y), l));
}

/* --- arc tangent --- */

/* atan(t), 0 < t <= 1 */
static struct wide atan_wide(struct wide t)
{
    struct wide base = { 0 };
    u64 top = (u64)(t.sig >> 64);
    if (t.exp == 0 || (t.exp == -1 && top >= 0xc000000000000000)) {
        base = pi_quarter;
        t = divided(add(t, negated(one)), add(one, t));
    } else if (t.exp >= -2) {
        base = atan_half;
        t = divided(add(t, negated(scaled(one, -1))), add(one, scaled(t, -1)));
    }
    struct wide square = mul(t, t), sum = { 0 };
    for (u32 k = 67; k > 1; k -= 2) {
        struct wide term = divided_by(one, k);
        term.sign = k >> 1 & 1;
        sum = mul(square, add(term, sum));
    }
    return add(base, mul(t, add(one, sum)));
}

static struct f80 atan_result(struct fp_env *env, struct wide a, bool sign)
{
    a.sign = sign;
    return finish(env, a);
}

struct f80 f80_atan2(struct f80 b, struct f80 a, struct fp_env *env)
{
    struct fp_value y = f80_unpack(b), x = f80_unpack(a);
    struct wide pi = scaled(pi_quarter, 2), pi_half = scaled(pi_quarter, 1);
    if (fp_is_nan(x) || fp_is_nan(y)) return f80_pack(fp_propagate(env, y, x));
    note_denormal(env, x);
    note_denormal(env, y);
    if (y.kind == FP_INFINITE && x.kind == FP_INFINITE)
        return atan_result(env, x.sign ? add(pi_half, pi_quarter) : pi_quarter, y.sign);
    if (y.kind == FP_ZERO || x.kind == FP_INFINITE) {
        if (x.sign) return atan_result(env, pi, y.sign);
        return f80_pack(fp_make_zero(y.sign));
    }
    if (y.kind == FP_INFINITE || x.kind == FP_ZERO) return atan_result(env, pi_half, y.sign);
    struct wide p = from_value(y), q = from_value(x), angle;
    p.sign = q.sign = false;
    if (p.exp < q.exp || (p.exp == q.exp && p.sig <= q.sig)) {
        struct wide ratio = divided(p, q);
        angle = atan_wide(ratio);
        if (x.sign) angle = add(pi, negated(angle));
        else if (ratio.exp < -70) angle = ratio; /* keeps an underflow's bits */
    } else {
        angle = atan_wide(divided(q, p));
        angle = add(pi_half, x.sign ? angle : negated(angle));
    }
    return atan_result(env, angle, y.sign);
}

/* --- sine, cosine, tangent --- */

/* pi/2 = this / 2^65 */
#define HALF_PI_66 ((u128)3 << 64 | 0x243f6a8885a308d3ull)

/* Reduces A to within pi/4 of zero; returns the number of quarter turns taken off, modulo 4. */
static unsigned reduce(struct fp_value v, struct wide *r)
{
    *r = from_value(v);
    if (v.exp < -1) return 0;
    u128 rest = v.sig;
    unsigned quotient = 0;
    for (i32 i = 0;; i++) {
        quotient <<= 1;
        if (rest >= HALF_PI_66) {
            rest -= HALF_PI_66;
            quotient |= 1;
        }
        if (i == v.exp + 2) break;
        rest <<= 1;
    }
    bool negative = v.sign;
    if (rest > HALF_PI_66 / 2) {
        rest = HALF_PI_66 - rest;
        quotient++;
        negative = !negative;
    }
    *r = normalized(negative, 127 - 65, rest);
    return (v.sign ? 0 - quotient : quotient) & 3;
}

/* A sum that is less than one, by too little to show: it shall round as what it is. */
static struct wide below_one(struct wide sum)
{
    if (sum.sig != one.sig || sum.exp != one.exp) return sum;
    return (struct wide){ ~(u128)0, -1, false };
}

static struct wide sine_wide(struct wide r)
{
    struct wide square = mul(r, r), sum = one;
    for (u32 k = 15; k > 0; k--)
        sum = add(one, negated(divided_by(mul(square, sum), 2 * k * (2 * k + 1))));
    return mul(r, below_one(sum));
}

static struct wide cosine_wide(struct wide r)
{
    struct wide square = mul(r, r), sum = one;
    for (u32 k = 16; k > 0; k--)
        sum = add(one, negated(divided_by(mul(square, sum), 2 * k * (2 * k - 1))));
    return below_one(sum);
}

/* NaN, infinity, zero, out of range. True: *sine and *cosine are the answers (when *in_range). */
static bool trig_special(struct f80 a, struct f80 *sine, struct f80 *cosine, bool *in_range,
                         struct fp_env *env)
{
    struct fp_value v = f80_unpack(a);
    *in_range = true;
    if (fp_is_nan(v)) {
        *sine = *cosine = f80_pack(fp_propagate(env, v, v));
        return true;
    }
    if (v.kind == FP_INFINITE) {
        *sine = *cosine = f80_pack(fp_invalid(env));
        return true;
    }
    if (v.kind == FP_ZERO) {
        *sine = a;
        *cosine = f80_from_int(1);
        return true;
    }
    note_denormal(env, v);
    *in_range = v.exp < 63;
    return !*in_range;
}

bool f80_sincos(struct f80 a, struct f80 *sine, struct f80 *cosine, struct fp_env *env)
{
    struct f80 s, c;
    bool in_range;
    struct wide r;
    if (trig_special(a, &s, &c, &in_range, env)) {
        if (!in_range) return false;
    } else {
        unsigned turns = reduce(f80_unpack(a), &r);
        if (sine) {
            struct wide w = turns & 1 ? cosine_wide(r) : sine_wide(r);
            s = finish(env, turns & 2 ? negated(w) : w);
        }
        if (cosine) {
            struct wide w = turns & 1 ? sine_wide(r) : cosine_wide(r);
            c = finish(env, (turns + 1) & 2 ? negated(w) : w);
        }
    }
    if (sine) *sine = s;
    if (cosine) *cosine = c;
    return true;
}

bool f80_tan(struct f80 a, struct f80 *tangent, struct fp_env *env)
{
    struct f80 unused;
    bool in_range;
    struct wide r;
    if (trig_special(a, tangent, &unused, &in_range, env)) return in_range;
    unsigned turns = reduce(f80_unpack(a), &r);
    struct wide s = sine_wide(r), c = cosine_wide(r);
    *tangent = finish(env, turns & 1 ? negated(divided(c, s)) : divided(s, c));
    return true;
}
