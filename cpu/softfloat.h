/*
 * Floating-point arithmetic in software, as x86 does it: f16, f32, f64 and the x87's f80.
 * Specification: IEEE 754-2008 with the choices of Intel SDM vol. 1 chapters 4, 8 and 11 (which NaN
 * survives, default NaN negative, tininess after rounding, DE, DAZ, FTZ, precision control, C1).
 * Portable reference; on x86-64 hosts x64_fp.h does the same with the host's units.
 *
 * Numbers of the three small formats travel as bit patterns in a u64. Flags only accumulate.
 */
#ifndef CPU_SOFTFLOAT_H
#define CPU_SOFTFLOAT_H

#include "machine/types.h"

/* The exception bits of MXCSR and of the x87 status word. */
enum fp_flag {
    FP_IE = 1, FP_DE = 2, FP_ZE = 4, FP_OE = 8, FP_UE = 16, FP_PE = 32,
    FP_ALL = 0x3f, FP_BEFORE = FP_IE | FP_DE | FP_ZE, /* found before computing */
    FP_C1 = 0x200, /* the last rounding increased the magnitude */
};
/* RC of MXCSR and of the x87 control word. */
enum fp_rounding { FP_NEAREST, FP_DOWN, FP_UP, FP_TO_ZERO };

struct fp_env {
    u8 rounding;
    u8 precision;  /* f80 results: 24, 53 or 64 */
    u8 unmasked;   /* FP_*: exceptions the guest wants; changes UE, PE and, with x87, the result */
    bool daz, ftz;
    bool x87;      /* the x87's NaN choice; wraps exponents of unmasked overflow and underflow */
    u16 flags;     /* OR of enum fp_flag */
};

struct fp_format {
    u8 precision, exponent_bits;
    i16 emin, emax;
};
extern const struct fp_format fp_f16, fp_f32, fp_f64, fp_f80;

struct f80 {
    u64 mantissa;
    u16 exponent; /* sign in bit 15 */
};

/* --- unpacked numbers: (-1)^sign * sig / 2^63 * 2^exp; a NaN's payload is left-aligned in sig ---
 */
enum fp_kind { FP_ZERO, FP_FINITE, FP_INFINITE, FP_QNAN, FP_SNAN, FP_UNSUPPORTED };
struct fp_value {
    u8 kind;
    bool sign, denormal;
    i32 exp;
    u64 sig;
};
struct fp_value fp_unpack(const struct fp_format *format, u64 bits, bool daz);
u64 fp_pack(const struct fp_format *format, struct fp_value value);
struct fp_value f80_unpack(struct f80 a);
struct f80 f80_pack(struct fp_value value);

/* Rounds sig / 2^127 * 2^exp (bit 127 set, bit 0 sticky) to PRECISION bits in FORMAT's range. */
struct fp_value fp_round(struct fp_env *env, const struct fp_format *format, unsigned precision,
                         bool sign, i32 exp, u128 sig);
struct fp_value fp_default_nan(void);
struct fp_value fp_invalid(struct fp_env *env);
struct fp_value fp_make_zero(bool sign);
struct fp_value fp_make_infinity(bool sign);
static inline bool fp_is_nan(struct fp_value v) { return v.kind >= FP_QNAN; }
/* The NaN that an operation on A and B gives, at least one being a NaN. */
struct fp_value fp_propagate(struct fp_env *env, struct fp_value a, struct fp_value b);
u128 fp_shift_sticky(u128 sig, unsigned count);

struct fp_value fp_value_add(struct fp_env *env, const struct fp_format *f, unsigned precision,
                             struct fp_value a, struct fp_value b, bool subtract);
struct fp_value fp_value_mul(struct fp_env *env, const struct fp_format *f, unsigned precision,
                             struct fp_value a, struct fp_value b);
struct fp_value fp_value_div(struct fp_env *env, const struct fp_format *f, unsigned precision,
                             struct fp_value a, struct fp_value b);
struct fp_value fp_value_sqrt(struct fp_env *env, const struct fp_format *f, unsigned precision,
                              struct fp_value a);
/* Nearest integer by ROUNDING; sets PE (and C1) only when LOUD. */
struct fp_value fp_value_rint(struct fp_env *env, enum fp_rounding rounding, struct fp_value a,
                              bool loud);
/* Signed integer of BITS 16, 32 or 64; the integer indefinite and IE when it does not fit. */
i64 fp_value_to_int(struct fp_env *env, enum fp_rounding rounding, struct fp_value a,
                    unsigned bits);
struct fp_value fp_value_from_int(i64 n);
enum fp_relation { FP_LESS = -1, FP_EQUAL = 0, FP_GREATER = 1, FP_UNORDERED = 2 };
/* QUIET: a quiet NaN does not raise IE. */
enum fp_relation fp_value_compare(struct fp_env *env, struct fp_value a, struct fp_value b,
                                  bool quiet);

/* --- f16, f32, f64 by bit pattern --- */
u64 fp_add(const struct fp_format *f, u64 a, u64 b, struct fp_env *env);
u64 fp_sub(const struct fp_format *f, u64 a, u64 b, struct fp_env *env);
u64 fp_mul(const struct fp_format *f, u64 a, u64 b, struct fp_env *env);
u64 fp_div(const struct fp_format *f, u64 a, u64 b, struct fp_env *env);
u64 fp_sqrt(const struct fp_format *f, u64 a, struct fp_env *env);
u64 fp_min(const struct fp_format *f, u64 a, u64 b,
           struct fp_env *env); /* MINPS: B when in doubt */
u64 fp_max(const struct fp_format *f, u64 a, u64 b, struct fp_env *env);
/* A * B + C, one rounding; NaNs are chosen in the order A, B, C. */
u64 fp_fma(const struct fp_format *f, u64 a, u64 b, u64 c, bool negate_product, bool negate_c,
           struct fp_env *env);
u64 fp_rint(const struct fp_format *f, u64 a, enum fp_rounding rounding, bool loud,
            struct fp_env *env);
enum fp_relation fp_compare(const struct fp_format *f, u64 a, u64 b, bool quiet,
                            struct fp_env *env);
u64 fp_convert(const struct fp_format *to, const struct fp_format *from, u64 a, struct fp_env *env);
i64 fp_to_int(const struct fp_format *f, u64 a, enum fp_rounding rounding, unsigned bits,
              struct fp_env *env);
u64 fp_from_int(const struct fp_format *f, i64 n, struct fp_env *env);

/* --- f80 (softfloat_f80.c) --- */
struct f80 f80_add(struct f80 a, struct f80 b, struct fp_env *env);
struct f80 f80_sub(struct f80 a, struct f80 b, struct fp_env *env);
struct f80 f80_mul(struct f80 a, struct f80 b, struct fp_env *env);
struct f80 f80_div(struct f80 a, struct f80 b, struct fp_env *env);
struct f80 f80_sqrt(struct f80 a, struct fp_env *env);
struct f80 f80_rint(struct f80 a, struct fp_env *env);
struct f80 f80_scale(struct f80 a, struct f80 b, struct fp_env *env);
/* FXTRACT: returns the significand, *exponent gets the exponent as a number. */
struct f80 f80_extract(struct f80 a, struct f80 *exponent, struct fp_env *env);
/* FPREM, or FPREM1 when NEAREST. *quotient: its low three bits; *partial: C2, not finished. */
struct f80 f80_rem(struct f80 a, struct f80 b, bool nearest, unsigned *quotient, bool *partial,
                   struct fp_env *env);
enum fp_relation f80_compare(struct f80 a, struct f80 b, bool quiet, struct fp_env *env);
struct f80 f80_from_int(i64 n);
i64 f80_to_int(struct f80 a, enum fp_rounding rounding, unsigned bits, struct fp_env *env);
struct f80 f80_from(const struct fp_format *f, u64 bits, struct fp_env *env);
u64 f80_to(const struct fp_format *f, struct f80 a, struct fp_env *env);
/* Packed BCD of ten bytes. */
struct f80 f80_from_bcd(const u8 bcd[10]);
void f80_to_bcd(struct f80 a, u8 bcd[10], struct fp_env *env);

/* --- transcendental functions (softfloat_trans.c): within 0.51 ulp of the exact value, FSIN and
 * its kin of the value for the 66-bit pi that the SDM documents. False: operand out of range, C2.
 * --- */
struct f80 f80_2xm1(struct f80 a, struct fp_env *env);
struct f80 f80_yl2x(struct f80 x, struct f80 y, struct fp_env *env);
struct f80 f80_yl2xp1(struct f80 x, struct f80 y, struct fp_env *env);
struct f80 f80_atan2(struct f80 y, struct f80 x, struct fp_env *env);
bool f80_sincos(struct f80 a, struct f80 *sine, struct f80 *cosine,
                struct fp_env *env); /* either NULL */
bool f80_tan(struct f80 a, struct f80 *tangent, struct fp_env *env);

#endif
