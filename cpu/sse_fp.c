/*
 * SSE and AVX floating point: arithmetic, comparison, rounding, dot products, MXCSR.
 *
 * Specification: Intel SDM vol. 1 chapter 11 and appendix E, and the instructions' pages. RCPPS and
 * RSQRTPS are the host's on x86-64; elsewhere the exact value rounded to 12 bits (the manual allows
 * a relative error of 1.5 * 2^-12).
 */
#include "cpu/sse_fp.h"

bool sse_exception(struct vcpu *cpu, unsigned flags)
{
    /* Those found before computing keep the others from being found, in any element. */
    if (flags & (~cpu->mxcsr >> 7) & FP_BEFORE) flags &= FP_BEFORE;
    cpu->mxcsr |= flags & FP_ALL;
    return cpu->cr4 & CR4_OSXMMEXCPT ? cpu_fault(cpu, VECTOR_XM) : cpu_ud(cpu);
}

/* --- arithmetic --- */

typedef void (*host_packed)(void *r, const void *a, const void *b);
typedef u64 (*host_scalar)(u64 a, u64 b);
typedef u64 (*soft_binary)(const struct fp_format *f, u64 a, u64 b, struct fp_env *env);

static ALWAYS_INLINE bool sse_packed(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                     const union vec *a, const union vec *b, host_packed host,
                                     soft_binary soft)
{
    union vec r;
    unsigned flags;
    if (sse_host_usable(cpu) && host) {
        sse_host_begin(cpu);
        host(&r, a, b);
        if (insn->vl == 32) host(&r.q[2], &a->q[2], &b->q[2]);
        if (sse_host_end(cpu, &flags)) {
            cpu->mxcsr |= flags;
            return vec_result(cpu, insn, &r);
        }
    }
    struct fp_env env = sse_env(cpu);
    for (unsigned i = 0; i < insn->vl / size; i++)
        sse_set_element(&r, i, size, soft(sse_format(size), sse_element(a, i, size),
                                          sse_element(b, i, size), &env));
    TRY(sse_raise(cpu, env.flags));
    return vec_result(cpu, insn, &r);
}

static ALWAYS_INLINE bool sse_packed_binary(struct vcpu *cpu, const struct insn *insn,
                                            unsigned size, host_packed host, soft_binary soft)
{
    union vec ta, tb;
    const union vec *b = vec_source(cpu, insn, 2, insn->vl, &tb);
    TRY(b);
    const union vec *a = vec_source(cpu, insn, 1, insn->vl, &ta);
    TRY(a);
    return sse_packed(cpu, insn, size, a, b, host, soft);
}

/* What lets an operation be run without looking at flags, when PE is set already. */
enum tameness { TAME_SUM, TAME_PRODUCT, TAME_QUOTIENT, TAME_CHOICE };
static ALWAYS_INLINE bool is_tame(enum tameness kind, unsigned size, u64 a, u64 b, u64 r)
{
    bool plain = sse_is_plain(r, size);
    switch (kind) {
    case TAME_SUM:
        return sse_is_tame(a, size) && sse_is_tame(b, size) && (plain || sse_is_zero(r, size));
    case TAME_PRODUCT:
        return sse_is_tame(a, size) && sse_is_tame(b, size) &&
               (plain || sse_is_zero(a, size) || sse_is_zero(b, size));
    case TAME_QUOTIENT:
        return sse_is_plain(b, size) && (sse_is_zero(a, size) || (plain && sse_is_plain(a, size)));
    default: return sse_is_tame(a, size) && sse_is_tame(b, size);
    }
}

static ALWAYS_INLINE bool sse_scalar_binary(struct vcpu *cpu, const struct insn *insn,
                                            unsigned size, host_scalar host, soft_binary soft,
                                            enum tameness kind)
{
    u64 b, r;
    unsigned flags;
    TRY(sse_scalar_read(cpu, insn, 2, size, &b));
    u64 a = sse_element(cpu_vec(cpu, insn->operand[1].reg), 0, size);
    if (sse_host_usable(cpu) && host) {
        if (sse_relaxed(cpu)) {
            r = host(a, b);
            if (likely(is_tame(kind, size, a, b, r))) {
                sse_scalar_write(cpu, insn, size, r);
                return true;
            }
        }
        sse_host_begin(cpu);
        r = host(a, b);
        if (sse_host_end(cpu, &flags)) {
            cpu->mxcsr |= flags;
            sse_scalar_write(cpu, insn, size, r);
            return true;
        }
    }
    struct fp_env env = sse_env(cpu);
    r = soft(sse_format(size), a, b, &env);
    TRY(sse_raise(cpu, env.flags));
    sse_scalar_write(cpu, insn, size, r);
    return true;
}

#define SSE_BINARY(NAME, op, soft, kind)                                                           \
    bool sem_##NAME##PS(struct vcpu *cpu, const struct insn *insn)                                 \
    {                                                                                              \
        return sse_packed_binary(cpu, insn, 4, HOST_SSE(op##ps), soft);                            \
    }                                                                                              \
    bool sem_##NAME##PD(struct vcpu *cpu, const struct insn *insn)                                 \
    {                                                                                              \
        return sse_packed_binary(cpu, insn, 8, HOST_SSE(op##pd), soft);                            \
    }                                                                                              \
    bool sem_##NAME##SS(struct vcpu *cpu, const struct insn *insn)                                 \
    {                                                                                              \
        return sse_scalar_binary(cpu, insn, 4, HOST_SSE(op##ss), soft, kind);                      \
    }                                                                                              \
    bool sem_##NAME##SD(struct vcpu *cpu, const struct insn *insn)                                 \
    {                                                                                              \
        return sse_scalar_binary(cpu, insn, 8, HOST_SSE(op##sd), soft, kind);                      \
    }
SSE_BINARY(ADD, add, fp_add, TAME_SUM)
SSE_BINARY(SUB, sub, fp_sub, TAME_SUM)
SSE_BINARY(MUL, mul, fp_mul, TAME_PRODUCT)
SSE_BINARY(DIV, div, fp_div, TAME_QUOTIENT)
SSE_BINARY(MIN, min, fp_min, TAME_CHOICE)
SSE_BINARY(MAX, max, fp_max, TAME_CHOICE)

/* --- square roots: one source --- */

static u64 soft_sqrt(const struct fp_format *f, u64 a, u64 b, struct fp_env *env)
{
    (void)a;
    return fp_sqrt(f, b, env);
}

static ALWAYS_INLINE bool sse_packed_sqrt(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                          host_packed host)
{
    union vec t;
    const union vec *b = vec_source(cpu, insn, 1, insn->vl, &t);
    TRY(b);
    return sse_packed(cpu, insn, size, b, b, host, soft_sqrt);
}
bool sem_SQRTPS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_packed_sqrt(cpu, insn, 4, HOST_SSE(sqrtps));
}
bool sem_SQRTPD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_packed_sqrt(cpu, insn, 8, HOST_SSE(sqrtpd));
}

static ALWAYS_INLINE bool sse_scalar_sqrt(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                          host_scalar host)
{
    u64 b, r;
    unsigned flags;
    TRY(sse_scalar_read(cpu, insn, 2, size, &b));
    if (host && sse_relaxed(cpu) && sse_is_plain(b, size) && !(b >> (size * 8 - 1))) {
        sse_scalar_write(cpu, insn, size, host(b, b));
        return true;
    }
    if (sse_host_usable(cpu) && host) {
        sse_host_begin(cpu);
        r = host(b, b);
        if (sse_host_end(cpu, &flags)) {
            cpu->mxcsr |= flags;
            sse_scalar_write(cpu, insn, size, r);
            return true;
        }
    }
    struct fp_env env = sse_env(cpu);
    r = fp_sqrt(sse_format(size), b, &env);
    TRY(sse_raise(cpu, env.flags));
    sse_scalar_write(cpu, insn, size, r);
    return true;
}
bool sem_SQRTSS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_scalar_sqrt(cpu, insn, 4, HOST_SSE(sqrtss));
}
bool sem_SQRTSD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_scalar_sqrt(cpu, insn, 8, HOST_SSE(sqrtsd));
}

/* --- reciprocals: no flags, no modes, denormals are zeroes --- */

static u64 approximate(u64 bits, bool root)
{
    struct fp_env env = { .precision = 64, .daz = true, .ftz = true };
    struct fp_value v = fp_unpack(&fp_f32, bits, true), one = fp_value_from_int(1);
    if (fp_is_nan(v)) return fp_pack(&fp_f32, fp_propagate(&env, v, v));
    if (v.kind == FP_ZERO) return fp_pack(&fp_f32, fp_make_infinity(v.sign));
    if (root && v.sign) return fp_pack(&fp_f32, fp_default_nan());
    if (v.kind == FP_INFINITE) return fp_pack(&fp_f32, fp_make_zero(v.sign));
    if (root) v = fp_value_sqrt(&env, &fp_f80, 64, v);
    return fp_pack(&fp_f32, fp_value_div(&env, &fp_f32, 12, one, v));
}

static ALWAYS_INLINE bool sse_approximate(struct vcpu *cpu, const struct insn *insn,
                                          host_packed host, bool root)
{
    union vec t, r;
    const union vec *b = vec_source(cpu, insn, 1, insn->vl, &t);
    TRY(b);
    if (host) {
        host(&r, b, b);
        if (insn->vl == 32) host(&r.q[2], &b->q[2], &b->q[2]);
    } else {
        for (unsigned i = 0; i < insn->vl / 4u; i++)
            vec_d(&r, i) = (u32)approximate(vec_d(b, i), root);
    }
    return vec_result(cpu, insn, &r);
}
static ALWAYS_INLINE bool sse_approximate_scalar(struct vcpu *cpu, const struct insn *insn,
                                                 host_scalar host, bool root)
{
    u64 b;
    TRY(sse_scalar_read(cpu, insn, 2, 4, &b));
    sse_scalar_write(cpu, insn, 4, host ? host(b, b) : approximate(b, root));
    return true;
}
bool sem_RCPPS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_approximate(cpu, insn, HOST_SSE(rcpps), false);
}
bool sem_RSQRTPS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_approximate(cpu, insn, HOST_SSE(rsqrtps), true);
}
bool sem_RCPSS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_approximate_scalar(cpu, insn, HOST_SSE(rcpss), false);
}
bool sem_RSQRTSS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_approximate_scalar(cpu, insn, HOST_SSE(rsqrtss), true);
}

/* --- SSE3: horizontal and alternating. The host's instruction, or element functions as below. ---
 */

static bool host_three(struct vcpu *cpu, const struct insn *insn, host_packed host,
                       const union vec *a, const union vec *b, union vec *r)
{
    unsigned flags;
    if (!sse_host_usable(cpu) || !host || !x64_has_sse3()) return false;
    sse_host_begin(cpu);
    host(r, a, b);
    if (insn->vl == 32) host(&r->q[2], &a->q[2], &b->q[2]);
    if (!sse_host_end(cpu, &flags)) return false;
    cpu->mxcsr |= flags;
    return true;
}

/* Pairs of A, then pairs of B, within each 16 bytes; the even element is the first operand. */
static bool sse_horizontal(struct vcpu *cpu, const struct insn *insn, unsigned size,
                           host_packed host, soft_binary soft)
{
    union vec ta, tb, even, odd;
    const union vec *b = vec_source(cpu, insn, 2, insn->vl, &tb);
    TRY(b);
    const union vec *a = vec_source(cpu, insn, 1, insn->vl, &ta);
    TRY(a);
    if (host_three(cpu, insn, host, a, b, &even)) return vec_result(cpu, insn, &even);
    unsigned lane = 16 / size;
    for (unsigned i = 0; i < insn->vl / size; i++) {
        unsigned base = i & ~(lane - 1), within = i & (lane - 1);
        const union vec *from = within < lane / 2 ? a : b;
        unsigned pair = base + (within & (lane / 2 - 1)) * 2;
        sse_set_element(&even, i, size, sse_element(from, pair, size));
        sse_set_element(&odd, i, size, sse_element(from, pair + 1, size));
    }
    return sse_packed(cpu, insn, size, &even, &odd, NULL, soft);
}
bool sem_HADDPS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_horizontal(cpu, insn, 4, HOST_SSE(haddps), fp_add);
}
bool sem_HADDPD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_horizontal(cpu, insn, 8, HOST_SSE(haddpd), fp_add);
}
bool sem_HSUBPS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_horizontal(cpu, insn, 4, HOST_SSE(hsubps), fp_sub);
}
bool sem_HSUBPD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_horizontal(cpu, insn, 8, HOST_SSE(hsubpd), fp_sub);
}

static bool sse_alternating(struct vcpu *cpu, const struct insn *insn, unsigned size,
                            host_packed host)
{
    union vec ta, tb, r;
    const union vec *b = vec_source(cpu, insn, 2, insn->vl, &tb);
    TRY(b);
    const union vec *a = vec_source(cpu, insn, 1, insn->vl, &ta);
    TRY(a);
    if (host_three(cpu, insn, host, a, b, &r)) return vec_result(cpu, insn, &r);
    struct fp_env env = sse_env(cpu);
    for (unsigned i = 0; i < insn->vl / size; i++) {
        soft_binary soft = i & 1 ? fp_add : fp_sub;
        sse_set_element(&r, i, size, soft(sse_format(size), sse_element(a, i, size),
                                          sse_element(b, i, size), &env));
    }
    TRY(sse_raise(cpu, env.flags));
    return vec_result(cpu, insn, &r);
}
bool sem_ADDSUBPS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_alternating(cpu, insn, 4, HOST_SSE(addsubps));
}
bool sem_ADDSUBPD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_alternating(cpu, insn, 8, HOST_SSE(addsubpd));
}

/* --- comparison --- */

/* Predicates 0..7: which relations they hold for (LESS, EQUAL, GREATER, UNORDERED as bits 0..3),
 * and whether a quiet NaN is let pass. 8..15 pair EQ with unordered, and others; bit 4 flips
 * loudness. */
#define LT 1
#define EQ 2
#define GT 4
#define UN 8
static const u8 predicate_holds[16] = {
    EQ, LT, LT | EQ, UN, LT | GT | UN, EQ | GT | UN, GT | UN, LT | EQ | GT,
    EQ | UN, LT | UN, LT | EQ | UN, 0, LT | GT, EQ | GT, GT, LT | EQ | GT | UN,
};
#undef LT
#undef EQ
#undef GT
#undef UN
#define QUIET_PREDICATES 0x9999u /* 0 3 4 7 and, in the second eight, 8 11 12 15 */

static ALWAYS_INLINE u64 compare_element(const struct vcpu *cpu, unsigned predicate, unsigned size,
                                         u64 a, u64 b, unsigned *flags)
{
    bool quiet = (QUIET_PREDICATES >> (predicate & 15) & 1) ^ (predicate >> 4);
    enum fp_relation relation = sse_compare(cpu, size, a, b, quiet, flags);
    return 0 - (u64)(predicate_holds[predicate & 15] >> (relation + 1) & 1);
}

static ALWAYS_INLINE unsigned predicate_of(const struct insn *insn)
{
    return simd_imm8(insn) & (insn->flags & INSN_VEX ? 31 : 7);
}

static ALWAYS_INLINE bool sse_compare_packed(struct vcpu *cpu, const struct insn *insn,
                                             unsigned size)
{
    union vec ta, tb, r = { { 0 } };
    const union vec *b = vec_source(cpu, insn, 2, insn->vl, &tb);
    TRY(b);
    const union vec *a = vec_source(cpu, insn, 1, insn->vl, &ta);
    TRY(a);
    unsigned predicate = predicate_of(insn), flags = 0;
    for (unsigned i = 0; i < insn->vl / size; i++)
        sse_set_element(&r, i, size, compare_element(cpu, predicate, size, sse_element(a, i, size),
                                                     sse_element(b, i, size), &flags));
    TRY(sse_raise(cpu, flags));
    return vec_result(cpu, insn, &r);
}
bool sem_CMPPS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_compare_packed(cpu, insn, 4);
}
bool sem_CMPPD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_compare_packed(cpu, insn, 8);
}

static ALWAYS_INLINE bool sse_compare_scalar(struct vcpu *cpu, const struct insn *insn,
                                             unsigned size)
{
    u64 b;
    unsigned flags = 0;
    TRY(sse_scalar_read(cpu, insn, 2, size, &b));
    u64 a = sse_element(cpu_vec(cpu, insn->operand[1].reg), 0, size);
    u64 r = compare_element(cpu, predicate_of(insn), size, a, b, &flags);
    TRY(sse_raise(cpu, flags));
    sse_scalar_write(cpu, insn, size, r);
    return true;
}
bool sem_CMPSS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_compare_scalar(cpu, insn, 4);
}
bool sem_CMPSD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_compare_scalar(cpu, insn, 8);
}

static ALWAYS_INLINE bool sse_compare_flags(struct vcpu *cpu, const struct insn *insn,
                                            unsigned size, bool quiet)
{
    static const u8 eflags[4] = { FLAG_CF, FLAG_ZF, 0, FLAG_ZF | FLAG_PF | FLAG_CF };
    u64 b;
    unsigned flags = 0;
    TRY(sse_scalar_read(cpu, insn, 1, size, &b));
    u64 a = sse_element(cpu_vec(cpu, insn->operand[0].reg), 0, size);
    enum fp_relation relation = sse_compare(cpu, size, a, b, quiet, &flags);
    TRY(sse_raise(cpu, flags));
    flags_put(cpu, eflags[relation + 1]);
    return true;
}
bool sem_COMISS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_compare_flags(cpu, insn, 4, false);
}
bool sem_COMISD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_compare_flags(cpu, insn, 8, false);
}
bool sem_UCOMISS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_compare_flags(cpu, insn, 4, true);
}
bool sem_UCOMISD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_compare_flags(cpu, insn, 8, true);
}

/* --- rounding to integers --- */

/* imm8: bits 0-1 the mode unless bit 2 says MXCSR's, bit 3 keeps PE quiet. */
static ALWAYS_INLINE u64 round_element(struct fp_env *env, const struct insn *insn, unsigned size,
                                       u64 a)
{
    unsigned imm = simd_imm8(insn);
    enum fp_rounding rounding = imm & 4 ? env->rounding : imm & 3;
    return fp_rint(sse_format(size), a, rounding, !(imm & 8), env);
}
/* Under the default rounding mode; NULL: not this host. */
typedef u64 (*host_round)(u64 a);
static host_round host_rounds(unsigned size, unsigned imm)
{
#if HOST_X86_64
    static const host_round with[2][4] = {
        { x64_roundss_nearest, x64_roundss_down, x64_roundss_up, x64_roundss_zero },
        { x64_roundsd_nearest, x64_roundsd_down, x64_roundsd_up, x64_roundsd_zero },
    };
    if (x64_has_sse41()) return with[size == 8][imm & 4 ? FP_NEAREST : imm & 3];
#endif
    (void)size;
    (void)imm;
    return NULL;
}

static ALWAYS_INLINE bool sse_round_packed(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    union vec t, r;
    const union vec *a = vec_source(cpu, insn, 1, insn->vl, &t);
    TRY(a);
    struct fp_env env = sse_env(cpu);
    for (unsigned i = 0; i < insn->vl / size; i++)
        sse_set_element(&r, i, size, round_element(&env, insn, size, sse_element(a, i, size)));
    TRY(sse_raise(cpu, env.flags));
    return vec_result(cpu, insn, &r);
}
static ALWAYS_INLINE bool sse_round_scalar(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    u64 a;
    TRY(sse_scalar_read(cpu, insn, 2, size, &a));
    host_round host = host_rounds(size, simd_imm8(insn));
    if (host && sse_relaxed(cpu) && sse_is_tame(a, size)) {
        sse_scalar_write(cpu, insn, size, host(a));
        return true;
    }
    struct fp_env env = sse_env(cpu);
    u64 r = round_element(&env, insn, size, a);
    TRY(sse_raise(cpu, env.flags));
    sse_scalar_write(cpu, insn, size, r);
    return true;
}
bool sem_ROUNDPS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_round_packed(cpu, insn, 4);
}
bool sem_ROUNDPD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_round_packed(cpu, insn, 8);
}
bool sem_ROUNDSS(struct vcpu *cpu, const struct insn *insn)
{
    return sse_round_scalar(cpu, insn, 4);
}
bool sem_ROUNDSD(struct vcpu *cpu, const struct insn *insn)
{
    return sse_round_scalar(cpu, insn, 8);
}

/* --- dot products --- */

/* Products by the high mask, sums of neighbours, sum of those, within each 16 bytes; to the low
 * mask. An unmasked exception in one step keeps the next from being taken. */
static bool sse_dot(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    union vec ta, tb, t, r;
    const union vec *b = vec_source(cpu, insn, 2, insn->vl, &tb);
    TRY(b);
    const union vec *a = vec_source(cpu, insn, 1, insn->vl, &ta);
    TRY(a);
    const struct fp_format *f = sse_format(size);
    unsigned count = insn->vl / size, lane = 16 / size, imm = simd_imm8(insn);
    struct fp_env env = sse_env(cpu);
    for (unsigned i = 0; i < count; i++) {
        bool wanted = imm >> (4 + (i & (lane - 1))) & 1;
        u64 x = sse_element(a, i, size), y = sse_element(b, i, size);
        sse_set_element(&t, i, size, wanted ? fp_mul(f, x, y, &env) : 0);
    }
    TRY(sse_raise(cpu, env.flags));
    for (unsigned step = 1; step < lane; step *= 2) {
        for (unsigned i = 0; i < count; i += 2 * step) {
            u64 x = sse_element(&t, i, size), y = sse_element(&t, i + step, size);
            sse_set_element(&t, i, size, fp_add(f, x, y, &env));
        }
        TRY(sse_raise(cpu, env.flags));
    }
    for (unsigned i = 0; i < count; i++) {
        bool wanted = imm >> (i & (lane - 1)) & 1;
        sse_set_element(&r, i, size, wanted ? sse_element(&t, i & ~(lane - 1), size) : 0);
    }
    return vec_result(cpu, insn, &r);
}
bool sem_DPPS(struct vcpu *cpu, const struct insn *insn) { return sse_dot(cpu, insn, 4); }
bool sem_DPPD(struct vcpu *cpu, const struct insn *insn) { return sse_dot(cpu, insn, 8); }

/* --- MXCSR --- */

bool sem_LDMXCSR(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    TRY(mem_read(cpu, insn, 4, &value));
    if (value >> 16) return cpu_gp0(cpu);
    cpu->mxcsr = (u32)value;
    return true;
}
bool sem_STMXCSR(struct vcpu *cpu, const struct insn *insn)
{
    return mem_write(cpu, insn, 4, cpu->mxcsr);
}
