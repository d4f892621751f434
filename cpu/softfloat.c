/*
 * Software floating point: unpacking, rounding, arithmetic, and the f16/f32/f64 entry points.
 * Specification: see softfloat.h.
 */
#include "cpu/softfloat.h"

const struct fp_format fp_f16 = { 11, 5, -14, 15 };
const struct fp_format fp_f32 = { 24, 8, -126, 127 };
const struct fp_format fp_f64 = { 53, 11, -1022, 1023 };
const struct fp_format fp_f80 = { 64, 15, -16382, 16383 };

/* The exponent correction of unmasked x87 overflow and underflow: 3 * 2^13. */
#define X87_WRAP 24576

struct fp_value fp_default_nan(void)
{
    return (struct fp_value){ .kind = FP_QNAN, .sign = true, .sig = 3ull << 62 };
}

struct fp_value fp_invalid(struct fp_env *env)
{
    env->flags |= FP_IE;
    return fp_default_nan();
}

struct fp_value fp_make_zero(bool sign)
{
    return (struct fp_value){ .kind = FP_ZERO, .sign = sign };
}

struct fp_value fp_make_infinity(bool sign)
{
    return (struct fp_value){ .kind = FP_INFINITE, .sign = sign, .sig = 1ull << 63 };
}

/* --- packing --- */

struct fp_value fp_unpack(const struct fp_format *f, u64 bits, bool daz)
{
    unsigned fraction_bits = f->precision - 1;
    unsigned field_max = (1u << f->exponent_bits) - 1;
    unsigned field = bits >> fraction_bits & field_max;
    u64 fraction = bits << (64 - fraction_bits) >> 1; /* left-aligned below the integer bit */
    struct fp_value v = { .sign = bits >> (fraction_bits + f->exponent_bits) & 1 };

    if (likely(field && field != field_max)) {
        v.kind = FP_FINITE;
        v.exp = (i32)field - f->emax;
        v.sig = 1ull << 63 | fraction;
    } else if (field) {
        v.kind = !fraction ? FP_INFINITE : fraction >> 62 ? FP_QNAN : FP_SNAN;
        v.sig = 1ull << 63 | fraction;
    } else if (fraction && !daz) {
        unsigned shift = __builtin_clzll(fraction);
        v.kind = FP_FINITE;
        v.denormal = true;
        v.exp = f->emin - (i32)shift;
        v.sig = fraction << shift;
    }
    return v;
}

u64 fp_pack(const struct fp_format *f, struct fp_value v)
{
    unsigned fraction_bits = f->precision - 1;
    u64 sign = (u64)v.sign << (fraction_bits + f->exponent_bits);
    u64 infinity = (u64)((1u << f->exponent_bits) - 1) << fraction_bits;
    u64 fraction = v.sig << 1 >> (64 - fraction_bits);
    switch (v.kind) {
    case FP_ZERO: return sign;
    case FP_FINITE:
        if (!(v.sig >> 63)) return sign | fraction;
        return sign | (u64)(v.exp + f->emax) << fraction_bits | fraction;
    case FP_INFINITE: return sign | infinity;
    default: return sign | infinity | fraction | 1ull << (fraction_bits - 1);
    }
}

struct fp_value f80_unpack(struct f80 a)
{
    struct fp_value v = { .sign = a.exponent >> 15, .sig = a.mantissa };
    unsigned field = a.exponent & 0x7fff;
    bool integer = a.mantissa >> 63;
    if (likely(field && field != 0x7fff)) {
        v.kind = integer ? FP_FINITE : FP_UNSUPPORTED;
        v.exp = (i32)field - 16383;
    } else if (field) {
        v.kind = !integer ? FP_UNSUPPORTED : !(a.mantissa << 1) ? FP_INFINITE :
                 a.mantissa >> 62 & 1 ? FP_QNAN : FP_SNAN;
    } else if (a.mantissa) { /* denormals, and pseudo-denormals: integer bit without an exponent */
        unsigned shift = __builtin_clzll(a.mantissa);
        v.kind = FP_FINITE;
        v.denormal = true;
        v.exp = -16382 - (i32)shift;
        v.sig = a.mantissa << shift;
    }
    return v;
}

struct f80 f80_pack(struct fp_value v)
{
    u16 sign = v.sign ? 0x8000 : 0;
    switch (v.kind) {
    case FP_ZERO: return (struct f80){ 0, sign };
    case FP_FINITE:
        return (struct f80){ v.sig, sign | (v.sig >> 63 ? (u16)(v.exp + 16383) : 0) };
    case FP_INFINITE: return (struct f80){ 1ull << 63, sign | 0x7fff };
    default: return (struct f80){ v.sig | 3ull << 62, sign | 0x7fff };
    }
}

/* --- rounding --- */

u128 fp_shift_sticky(u128 sig, unsigned count)
{
    if (count == 0) return sig;
    if (count > 127) return sig != 0;
    return sig >> count | ((sig << (128 - count)) != 0);
}

static bool round_up(enum fp_rounding rounding, bool sign, bool odd, u128 rest, u128 half)
{
    switch (rounding) {
    case FP_NEAREST: return rest > half || (rest == half && odd);
    case FP_DOWN: return sign && rest;
    case FP_UP: return !sign && rest;
    default: return false;
    }
}

static struct fp_value round_overflow(struct fp_env *env, const struct fp_format *f,
                                      unsigned precision, struct fp_value v)
{
    bool sign = v.sign, trapped = env->unmasked & FP_OE;
    env->flags |= FP_OE;
    if (trapped && !env->x87) return v; /* not delivered */
    if (trapped && f == &fp_f80) {
        v.exp -= X87_WRAP;
        if (v.exp <= f->emax) return v;
        env->flags |= FP_PE | FP_C1; /* FSCALE only: infinite in every mode */
        return fp_make_infinity(sign);
    }
    env->flags |= FP_PE;
    if (env->rounding == FP_TO_ZERO || env->rounding == (sign ? FP_UP : FP_DOWN)) {
        env->flags &= ~FP_C1;
        return (struct fp_value){ .kind = FP_FINITE, .sign = sign, .exp = f->emax,
                                  .sig = ~0ull << (64 - precision) };
    }
    env->flags |= FP_C1;
    return fp_make_infinity(sign);
}

/* Whether rounding with an unbounded exponent would leave the number below the smallest normal. */
static bool is_tiny(struct fp_env *env, const struct fp_format *f, unsigned precision, bool sign,
                    i32 exp, u128 sig)
{
    if (exp < f->emin - 1) return true;
    unsigned drop = 128 - precision;
    u128 mask = ((u128)1 << drop) - 1;
    if (~(sig | mask)) return true; /* not all ones: no carry */
    return !round_up(env->rounding, sign, true, sig & mask, (u128)1 << (drop - 1));
}

struct fp_value fp_round(struct fp_env *env, const struct fp_format *f, unsigned precision,
                         bool sign, i32 exp, u128 sig)
{
    bool tiny = false;
    env->flags &= ~FP_C1;
    if (unlikely(exp < f->emin)) {
        tiny = is_tiny(env, f, precision, sign, exp, sig);
        if (tiny && (env->unmasked & FP_UE)) {
            env->flags |= FP_UE;
            tiny = false;
            if (!env->x87) exp = f->emin; /* nothing is delivered; PE is of an unbounded exponent */
            else if (f == &fp_f80) exp += X87_WRAP;
            if (f == &fp_f80 && exp < f->emin) { /* FSCALE only: zero in every mode */
                env->flags |= FP_PE;
                return fp_make_zero(sign);
            }
        } else if (tiny && env->ftz) {
            env->flags |= FP_UE | FP_PE;
            return fp_make_zero(sign);
        }
        if (exp < f->emin) {
            sig = fp_shift_sticky(sig, f->emin - exp > 200 ? 200u : (unsigned)(f->emin - exp));
            exp = f->emin;
        }
    }

    unsigned drop = 128 - precision;
    u128 rest = sig & (((u128)1 << drop) - 1);
    u128 kept = sig >> drop;
    if (rest) {
        env->flags |= FP_PE | (tiny ? FP_UE : 0);
        if (round_up(env->rounding, sign, kept & 1, rest, (u128)1 << (drop - 1))) {
            env->flags |= FP_C1;
            kept++;
            if (kept >> precision) {
                kept >>= 1;
                exp++;
            }
        }
    }
    if (!kept) return fp_make_zero(sign);
    struct fp_value v = { .kind = FP_FINITE, .sign = sign, .exp = exp,
                          .sig = (u64)kept << (64 - precision) };
    return likely(exp <= f->emax) ? v : round_overflow(env, f, precision, v);
}

/* --- NaNs and denormals --- */

static struct fp_value quiet(struct fp_value v)
{
    v.kind = FP_QNAN;
    v.sig |= 3ull << 62;
    return v;
}

static struct fp_value propagate_x87(struct fp_value a, struct fp_value b)
{
    if (!fp_is_nan(b)) return quiet(a);
    if (!fp_is_nan(a)) return quiet(b);
    if (a.kind != b.kind) return a.kind == FP_QNAN ? a : b;
    if (a.sig != b.sig) return quiet(a.sig > b.sig ? a : b);
    return quiet(a.sign ? b : a);
}

struct fp_value fp_propagate(struct fp_env *env, struct fp_value a, struct fp_value b)
{
    if (a.kind == FP_UNSUPPORTED || b.kind == FP_UNSUPPORTED) return fp_invalid(env);
    if (a.kind == FP_SNAN || b.kind == FP_SNAN) env->flags |= FP_IE;
    if (env->x87) return propagate_x87(a, b);
    return quiet(fp_is_nan(a) ? a : b);
}

static void note_denormals(struct fp_env *env, struct fp_value a, struct fp_value b)
{
    if (unlikely(a.denormal || b.denormal)) env->flags |= FP_DE;
}

/* --- arithmetic --- */

static struct fp_value round_value(struct fp_env *env, const struct fp_format *f,
                                   unsigned precision, struct fp_value v)
{
    if (v.kind != FP_FINITE) return v;
    return fp_round(env, f, precision, v.sign, v.exp, (u128)v.sig << 64);
}

/* Sum of two numbers whose significands have bit 126 as their highest. */
static struct fp_value add_finite(struct fp_env *env, const struct fp_format *f, unsigned precision,
                                  bool sign_a, i32 exp_a, u128 a, bool sign_b, i32 exp_b, u128 b)
{
    if (exp_a < exp_b || (exp_a == exp_b && a < b)) {
        bool sign = sign_a; sign_a = sign_b; sign_b = sign;
        i32 exp = exp_a; exp_a = exp_b; exp_b = exp;
        u128 sig = a; a = b; b = sig;
    }
    b = fp_shift_sticky(b, exp_a - exp_b > 200 ? 200u : (unsigned)(exp_a - exp_b));
    u128 sum = sign_a == sign_b ? a + b : a - b;
    if (!sum) return fp_make_zero(env->rounding == FP_DOWN);
    unsigned shift = (u64)(sum >> 64) ? (unsigned)__builtin_clzll((u64)(sum >> 64)) :
                                        64 + (unsigned)__builtin_clzll((u64)sum);
    return fp_round(env, f, precision, sign_a, exp_a + 1 - (i32)shift, sum << shift);
}

struct fp_value fp_value_add(struct fp_env *env, const struct fp_format *f, unsigned precision,
                             struct fp_value a, struct fp_value b, bool subtract)
{
    if (unlikely(fp_is_nan(a) || fp_is_nan(b))) return fp_propagate(env, a, b);
    b.sign ^= subtract;
    note_denormals(env, a, b);
    if (a.kind == FP_INFINITE || b.kind == FP_INFINITE) {
        if (a.kind == b.kind && a.sign != b.sign) return fp_invalid(env);
        return a.kind == FP_INFINITE ? a : b;
    }
    if (a.kind == FP_ZERO && b.kind == FP_ZERO)
        return a.sign == b.sign ? a : fp_make_zero(env->rounding == FP_DOWN);
    if (a.kind == FP_ZERO) return round_value(env, f, precision, b);
    if (b.kind == FP_ZERO) return round_value(env, f, precision, a);
    return add_finite(env, f, precision, a.sign, a.exp, (u128)a.sig << 63, b.sign, b.exp,
                      (u128)b.sig << 63);
}

struct fp_value fp_value_mul(struct fp_env *env, const struct fp_format *f, unsigned precision,
                             struct fp_value a, struct fp_value b)
{
    if (unlikely(fp_is_nan(a) || fp_is_nan(b))) return fp_propagate(env, a, b);
    bool sign = a.sign ^ b.sign;
    if (a.kind == FP_INFINITE || b.kind == FP_INFINITE) {
        if (a.kind == FP_ZERO || b.kind == FP_ZERO) return fp_invalid(env);
        note_denormals(env, a, b);
        return fp_make_infinity(sign);
    }
    note_denormals(env, a, b);
    if (a.kind == FP_ZERO || b.kind == FP_ZERO) return fp_make_zero(sign);
    u128 product = (u128)a.sig * b.sig;
    i32 exp = a.exp + b.exp + 1;
    if (!(product >> 127)) {
        product <<= 1;
        exp--;
    }
    return fp_round(env, f, precision, sign, exp, product);
}

struct fp_value fp_value_div(struct fp_env *env, const struct fp_format *f, unsigned precision,
                             struct fp_value a, struct fp_value b)
{
    if (unlikely(fp_is_nan(a) || fp_is_nan(b))) return fp_propagate(env, a, b);
    bool sign = a.sign ^ b.sign;
    if (a.kind == b.kind && (a.kind == FP_ZERO || a.kind == FP_INFINITE)) return fp_invalid(env);
    if (b.kind == FP_ZERO && a.kind == FP_FINITE) {
        env->flags |= FP_ZE; /* and no DE */
        return fp_make_infinity(sign);
    }
    note_denormals(env, a, b);
    if (a.kind == FP_INFINITE) return fp_make_infinity(sign);
    if (b.kind == FP_INFINITE || a.kind == FP_ZERO) return fp_make_zero(sign);
    i32 exp = a.exp - b.exp;
    u128 dividend = (u128)a.sig << 64;
    if (a.sig >= b.sig) dividend >>= 1;
    else exp--;
    u64 high = (u64)(dividend / b.sig);
    u64 rest = (u64)(dividend % b.sig);
    u128 second = (u128)rest << 64;
    u64 low = (u64)(second / b.sig);
    if (second % b.sig) low |= 1;
    return fp_round(env, f, precision, sign, exp, (u128)high << 64 | low);
}

struct fp_value fp_value_sqrt(struct fp_env *env, const struct fp_format *f, unsigned precision,
                              struct fp_value a)
{
    if (unlikely(fp_is_nan(a))) return fp_propagate(env, a, a);
    if (a.kind == FP_ZERO) return a;
    if (a.sign) return fp_invalid(env);
    if (a.kind == FP_INFINITE) return a;
    note_denormals(env, a, a);
    /* Digit by digit: two bits of the radicand (integer part 1..3, from bit 126) a step. */
    bool odd = a.exp & 1;
    i32 exp = (a.exp - odd) / 2;
    u128 radicand = (u128)a.sig << (odd ? 64 : 63);
    u128 rest = 0, root = 0;
    for (unsigned i = 0; i < precision + 2u; i++) {
        rest = rest << 2 | (u64)(radicand >> 126);
        radicand <<= 2;
        u128 trial = root << 2 | 1;
        root <<= 1;
        if (rest >= trial) {
            rest -= trial;
            root |= 1;
        }
    }
    return fp_round(env, f, precision, false, exp,
                    root << (126 - precision) | (rest || radicand ? 1 : 0));
}

static struct fp_value value_fma(struct fp_env *env, const struct fp_format *f, struct fp_value a,
                                 struct fp_value b, struct fp_value c, bool negate_product,
                                 bool negate_c)
{
    bool product_invalid = (a.kind == FP_INFINITE && b.kind == FP_ZERO) ||
                           (a.kind == FP_ZERO && b.kind == FP_INFINITE);
    if (unlikely(fp_is_nan(a) || fp_is_nan(b) || fp_is_nan(c))) {
        if (c.kind == FP_SNAN) env->flags |= FP_IE;
        if (fp_is_nan(a) || fp_is_nan(b)) return fp_propagate(env, a, b);
        return fp_propagate(env, c, c);
    }
    if (product_invalid) return fp_invalid(env);
    bool sign = a.sign ^ b.sign ^ negate_product;
    c.sign ^= negate_c;
    bool infinite = a.kind == FP_INFINITE || b.kind == FP_INFINITE;
    if (infinite && c.kind == FP_INFINITE && c.sign != sign) return fp_invalid(env);
    note_denormals(env, a, b);
    note_denormals(env, c, c);
    if (infinite) return fp_make_infinity(sign);
    if (c.kind == FP_INFINITE) return c;
    if (a.kind == FP_ZERO || b.kind == FP_ZERO) {
        if (c.kind != FP_ZERO) return round_value(env, f, f->precision, c);
        return c.sign == sign ? c : fp_make_zero(env->rounding == FP_DOWN);
    }
    u128 product = (u128)a.sig * b.sig;
    i32 exp = a.exp + b.exp + 1;
    if (!(product >> 127)) {
        product <<= 1;
        exp--;
    }
    if (c.kind == FP_ZERO) return fp_round(env, f, f->precision, sign, exp, product);
    /* f64 at most: the product's lowest bits are zero, so nothing is lost before the sticky bit. */
    return add_finite(env, f, f->precision, sign, exp, product >> 1, c.sign, c.exp,
                      (u128)c.sig << 63);
}

struct fp_value fp_value_rint(struct fp_env *env, enum fp_rounding rounding, struct fp_value a,
                              bool loud)
{
    if (fp_is_nan(a)) return fp_propagate(env, a, a);
    env->flags &= ~FP_C1;
    if (a.kind != FP_FINITE || a.exp >= 63) return a;
    u128 sig = a.exp < -1 ? 1 : (u128)a.sig << (a.exp + 1); /* integer part in the high 64 bits */
    u64 whole = (u64)(sig >> 64), rest = (u64)sig;
    if (rest && loud) env->flags |= FP_PE;
    if (round_up(rounding, a.sign, whole & 1, rest, 1ull << 63)) {
        whole++;
        if (loud) env->flags |= FP_C1;
    }
    if (!whole) return fp_make_zero(a.sign);
    unsigned shift = __builtin_clzll(whole);
    return (struct fp_value){ .kind = FP_FINITE, .sign = a.sign, .exp = 63 - (i32)shift,
                              .sig = whole << shift };
}

i64 fp_value_to_int(struct fp_env *env, enum fp_rounding rounding, struct fp_value a, unsigned bits)
{
    i64 indefinite = (i64)(~0ull << (bits - 1));
    if (a.kind == FP_ZERO) return 0;
    if (a.kind == FP_FINITE && a.exp < 64) {
        u16 before = env->flags;
        struct fp_value whole = fp_value_rint(env, rounding, a, true);
        if (whole.kind == FP_ZERO) return 0;
        if (whole.exp < (i32)bits - 1) {
            i64 n = (i64)(whole.sig >> (63 - whole.exp));
            return whole.sign ? -n : n;
        }
        if (whole.exp == (i32)bits - 1 && whole.sign && whole.sig == 1ull << 63) return indefinite;
        env->flags = before & ~FP_C1;
    }
    env->flags |= FP_IE;
    return indefinite;
}

struct fp_value fp_value_from_int(i64 n)
{
    if (!n) return fp_make_zero(false);
    u64 magnitude = n < 0 ? 0 - (u64)n : (u64)n;
    unsigned shift = __builtin_clzll(magnitude);
    return (struct fp_value){ .kind = FP_FINITE, .sign = n < 0, .exp = 63 - (i32)shift,
                              .sig = magnitude << shift };
}

enum fp_relation fp_value_compare(struct fp_env *env, struct fp_value a, struct fp_value b,
                                  bool quiet_nan)
{
    if (unlikely(fp_is_nan(a) || fp_is_nan(b))) {
        if (!quiet_nan || a.kind > FP_QNAN || b.kind > FP_QNAN) env->flags |= FP_IE;
        return FP_UNORDERED;
    }
    note_denormals(env, a, b);
    if (a.kind == FP_ZERO && b.kind == FP_ZERO) return FP_EQUAL;
    if (a.kind == FP_ZERO) return b.sign ? FP_GREATER : FP_LESS;
    if (b.kind == FP_ZERO) return a.sign ? FP_LESS : FP_GREATER;
    if (a.sign != b.sign) return a.sign ? FP_LESS : FP_GREATER;
    enum fp_relation above = a.sign ? FP_LESS : FP_GREATER, below = (enum fp_relation)-(int)above;
    if (a.kind != b.kind) return a.kind == FP_INFINITE ? above : below;
    if (a.kind == FP_INFINITE) return FP_EQUAL;
    if (a.exp != b.exp) return a.exp > b.exp ? above : below;
    if (a.sig != b.sig) return a.sig > b.sig ? above : below;
    return FP_EQUAL;
}

/* --- f16, f32, f64 --- */

u64 fp_add(const struct fp_format *f, u64 a, u64 b, struct fp_env *env)
{
    return fp_pack(f, fp_value_add(env, f, f->precision, fp_unpack(f, a, env->daz),
                                   fp_unpack(f, b, env->daz), false));
}

u64 fp_sub(const struct fp_format *f, u64 a, u64 b, struct fp_env *env)
{
    return fp_pack(f, fp_value_add(env, f, f->precision, fp_unpack(f, a, env->daz),
                                   fp_unpack(f, b, env->daz), true));
}

u64 fp_mul(const struct fp_format *f, u64 a, u64 b, struct fp_env *env)
{
    return fp_pack(f, fp_value_mul(env, f, f->precision, fp_unpack(f, a, env->daz),
                                   fp_unpack(f, b, env->daz)));
}

u64 fp_div(const struct fp_format *f, u64 a, u64 b, struct fp_env *env)
{
    return fp_pack(f, fp_value_div(env, f, f->precision, fp_unpack(f, a, env->daz),
                                   fp_unpack(f, b, env->daz)));
}

u64 fp_sqrt(const struct fp_format *f, u64 a, struct fp_env *env)
{
    return fp_pack(f, fp_value_sqrt(env, f, f->precision, fp_unpack(f, a, env->daz)));
}

/* A denormal that DAZ made zero comes out as zero; everything else unchanged, signalling NaNs too.
 */
static u64 min_max_result(const struct fp_format *f, u64 bits, struct fp_value v)
{
    return v.kind == FP_ZERO ? fp_pack(f, v) : bits;
}

u64 fp_min(const struct fp_format *f, u64 a, u64 b, struct fp_env *env)
{
    struct fp_value va = fp_unpack(f, a, env->daz), vb = fp_unpack(f, b, env->daz);
    if (fp_value_compare(env, va, vb, false) == FP_LESS) return min_max_result(f, a, va);
    return min_max_result(f, b, vb);
}

u64 fp_max(const struct fp_format *f, u64 a, u64 b, struct fp_env *env)
{
    struct fp_value va = fp_unpack(f, a, env->daz), vb = fp_unpack(f, b, env->daz);
    if (fp_value_compare(env, va, vb, false) == FP_GREATER) return min_max_result(f, a, va);
    return min_max_result(f, b, vb);
}

u64 fp_fma(const struct fp_format *f, u64 a, u64 b, u64 c, bool negate_product, bool negate_c,
           struct fp_env *env)
{
    return fp_pack(f, value_fma(env, f, fp_unpack(f, a, env->daz), fp_unpack(f, b, env->daz),
                                fp_unpack(f, c, env->daz), negate_product, negate_c));
}

u64 fp_rint(const struct fp_format *f, u64 a, enum fp_rounding rounding, bool loud,
            struct fp_env *env)
{
    return fp_pack(f, fp_value_rint(env, rounding, fp_unpack(f, a, env->daz), loud));
}

enum fp_relation fp_compare(const struct fp_format *f, u64 a, u64 b, bool quiet_nan,
                            struct fp_env *env)
{
    return fp_value_compare(env, fp_unpack(f, a, env->daz), fp_unpack(f, b, env->daz), quiet_nan);
}

u64 fp_convert(const struct fp_format *to, const struct fp_format *from, u64 a, struct fp_env *env)
{
    struct fp_value v = fp_unpack(from, a, env->daz);
    if (fp_is_nan(v)) return fp_pack(to, fp_propagate(env, v, v));
    if (from != &fp_f16) note_denormals(env, v, v);
    return fp_pack(to, round_value(env, to, to->precision, v));
}

i64 fp_to_int(const struct fp_format *f, u64 a, enum fp_rounding rounding, unsigned bits,
              struct fp_env *env)
{
    return fp_value_to_int(env, rounding, fp_unpack(f, a, env->daz), bits);
}

u64 fp_from_int(const struct fp_format *f, i64 n, struct fp_env *env)
{
    return fp_pack(f, round_value(env, f, f->precision, fp_value_from_int(n)));
}
