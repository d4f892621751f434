/*
 * SSE and AVX conversions between floating formats and integers, F16C.
 *
 * Specification: Intel SDM vol. 1 sections 4.8 and 11.4, and the instructions' pages. F16C runs in
 * software everywhere.
 */
#include "cpu/sse_fp.h"

/* --- packed --- */

typedef void (*host_packed)(void *r, const void *unused, const void *b);
typedef u64 (*soft_convert)(u64 bits, struct fp_env *env);

static u64 f32_to_f64(u64 a, struct fp_env *env) { return fp_convert(&fp_f64, &fp_f32, a, env); }
static u64 f64_to_f32(u64 a, struct fp_env *env) { return fp_convert(&fp_f32, &fp_f64, a, env); }
static u64 i32_to_f32(u64 a, struct fp_env *env) { return fp_from_int(&fp_f32, (i32)a, env); }
static u64 i32_to_f64(u64 a, struct fp_env *env) { return fp_from_int(&fp_f64, (i32)a, env); }
static u64 f32_to_i32(u64 a, struct fp_env *env)
{
    return (u32)fp_to_int(&fp_f32, a, env->rounding, 32, env);
}
static u64 f32_to_i32_truncating(u64 a, struct fp_env *env)
{
    return (u32)fp_to_int(&fp_f32, a, FP_TO_ZERO, 32, env);
}
static u64 f64_to_i32(u64 a, struct fp_env *env)
{
    return (u32)fp_to_int(&fp_f64, a, env->rounding, 32, env);
}
static u64 f64_to_i32_truncating(u64 a, struct fp_env *env)
{
    return (u32)fp_to_int(&fp_f64, a, FP_TO_ZERO, 32, env);
}

/* COUNT elements of FROM bytes each from B to R, elements of TO bytes; lanes beyond are zeroed. */
static ALWAYS_INLINE bool convert_elements(struct vcpu *cpu, union vec *r, const union vec *b,
                                           unsigned count, unsigned from, unsigned to,
                                           host_packed host, soft_convert soft)
{
    unsigned flags, step = 16 / (from > to ? from : to);
    memset(r, 0, sizeof(*r));
    if (sse_host_usable(cpu) && host && count >= step) {
        sse_host_begin(cpu);
        for (unsigned i = 0; i < count; i += step) {
            u8 chunk[16];
            host(chunk, b, b->b + i * from);
            memcpy(r->b + i * to, chunk, step * to);
        }
        if (sse_host_end(cpu, &flags)) {
            cpu->mxcsr |= flags;
            return true;
        }
    }
    struct fp_env env = sse_env(cpu);
    for (unsigned i = 0; i < count; i++)
        sse_set_element(r, i, to, soft(sse_element(b, i, from), &env));
    return sse_raise(cpu, env.flags);
}

static ALWAYS_INLINE bool sse_convert(struct vcpu *cpu, const struct insn *insn, unsigned from,
                                      unsigned to, host_packed host, soft_convert soft)
{
    union vec t, r;
    unsigned count = insn->vl / (from > to ? from : to);
    const union vec *b = vec_source(cpu, insn, 1, count * from, &t);
    TRY(b);
    TRY(convert_elements(cpu, &r, b, count, from, to, host, soft));
    return vec_result(cpu, insn, &r);
}

#define CONVERT(NAME, from, to, op, soft)                                                          \
    bool sem_##NAME(struct vcpu *cpu, const struct insn *insn)                                     \
    {                                                                                              \
        return sse_convert(cpu, insn, from, to, HOST_SSE(op), soft);                               \
    }
CONVERT(CVTPS2PD, 4, 8, cvtps2pd, f32_to_f64)
CONVERT(CVTPD2PS, 8, 4, cvtpd2ps, f64_to_f32)
CONVERT(CVTDQ2PS, 4, 4, cvtdq2ps, i32_to_f32)
CONVERT(CVTDQ2PD, 4, 8, cvtdq2pd, i32_to_f64)
CONVERT(CVTPS2DQ, 4, 4, cvtps2dq, f32_to_i32)
CONVERT(CVTTPS2DQ, 4, 4, cvttps2dq, f32_to_i32_truncating)
CONVERT(CVTPD2DQ, 8, 4, cvtpd2dq, f64_to_i32)
CONVERT(CVTTPD2DQ, 8, 4, cvttpd2dq, f64_to_i32_truncating)

/* --- with MMX registers: two elements, in software --- */

/* The x87 becomes the MMX file even if the conversion then raises an exception (AMD). */

/* A vector from MMX or memory: a register source makes the x87 the MMX file, memory does not. */
static bool from_mmx(struct vcpu *cpu, const struct insn *insn, unsigned to, soft_convert soft)
{
    union vec t, r;
    unsigned n = sse_last_source(insn);
    const union vec *b = vec_fetch(cpu, insn, n, 8, &t);
    TRY(b);
    if (insn->operand[n].kind == OPERAND_MMX) mmx_enter(cpu);
    TRY(convert_elements(cpu, &r, b, 2, 4, to, NULL, soft));
    union vec *x = cpu_vec(cpu, insn->operand[0].reg);
    x->q[0] = r.q[0];
    if (to == 8) x->q[1] = r.q[1];
    return true;
}
bool sem_CVTPI2PS(struct vcpu *cpu, const struct insn *insn)
{
    return from_mmx(cpu, insn, 4, i32_to_f32);
}
bool sem_CVTPI2PD(struct vcpu *cpu, const struct insn *insn)
{
    return from_mmx(cpu, insn, 8, i32_to_f64);
}

static bool to_mmx(struct vcpu *cpu, const struct insn *insn, unsigned from, soft_convert soft)
{
    union vec t, r;
    const union vec *b = vec_source(cpu, insn, 1, 2 * from, &t);
    TRY(b);
    mmx_enter(cpu);
    TRY(convert_elements(cpu, &r, b, 2, from, 4, NULL, soft));
    mmx_write(cpu, insn->operand[0].reg, r.q[0]);
    return true;
}
bool sem_CVTPS2PI(struct vcpu *cpu, const struct insn *insn)
{
    return to_mmx(cpu, insn, 4, f32_to_i32);
}
bool sem_CVTTPS2PI(struct vcpu *cpu, const struct insn *insn)
{
    return to_mmx(cpu, insn, 4, f32_to_i32_truncating);
}
bool sem_CVTPD2PI(struct vcpu *cpu, const struct insn *insn)
{
    return to_mmx(cpu, insn, 8, f64_to_i32);
}
bool sem_CVTTPD2PI(struct vcpu *cpu, const struct insn *insn)
{
    return to_mmx(cpu, insn, 8, f64_to_i32_truncating);
}

/* --- scalar, floating to floating --- */

typedef u64 (*host_scalar)(u64 unused, u64 b);

static ALWAYS_INLINE bool scalar_convert(struct vcpu *cpu, const struct insn *insn, unsigned from,
                                         unsigned to, host_scalar host, soft_convert soft)
{
    u64 b, r;
    unsigned flags;
    TRY(sse_scalar_read(cpu, insn, 2, from, &b));
    if (sse_host_usable(cpu) && host) {
        bool relaxed = sse_relaxed(cpu) && sse_is_tame(b, from);
        if (!relaxed) sse_host_begin(cpu);
        r = host(b, b);
        if (likely(relaxed && (sse_is_plain(r, to) || sse_is_zero(b, from)))) {
            sse_scalar_write(cpu, insn, to, r);
            return true;
        }
        if (relaxed) {
            sse_host_begin(cpu);
            r = host(b, b);
        }
        if (sse_host_end(cpu, &flags)) {
            cpu->mxcsr |= flags;
            sse_scalar_write(cpu, insn, to, r);
            return true;
        }
    }
    struct fp_env env = sse_env(cpu);
    r = soft(b, &env);
    TRY(sse_raise(cpu, env.flags));
    sse_scalar_write(cpu, insn, to, r);
    return true;
}
bool sem_CVTSS2SD(struct vcpu *cpu, const struct insn *insn)
{
    return scalar_convert(cpu, insn, 4, 8, HOST_SSE(cvtss2sd), f32_to_f64);
}
bool sem_CVTSD2SS(struct vcpu *cpu, const struct insn *insn)
{
    return scalar_convert(cpu, insn, 8, 4, HOST_SSE(cvtsd2ss), f64_to_f32);
}

/* --- scalar, from integers: nothing but PE can come of it --- */

typedef u64 (*host_from_int)(i64 n);

static ALWAYS_INLINE bool from_int(struct vcpu *cpu, const struct insn *insn, unsigned to,
                                   host_from_int host)
{
    unsigned n = sse_last_source(insn);
    u64 bits, r;
    TRY(operand_read(cpu, insn, n, &bits));
    i64 value = sign_extend(bits, insn->operand[n].size);
    if (host && sse_relaxed(cpu)) {
        sse_scalar_write(cpu, insn, to, host(value));
        return true;
    }
    struct fp_env env = sse_env(cpu);
    r = fp_from_int(sse_format(to), value, &env);
    TRY(sse_raise(cpu, env.flags));
    sse_scalar_write(cpu, insn, to, r);
    return true;
}
bool sem_CVTSI2SS(struct vcpu *cpu, const struct insn *insn)
{
    return from_int(cpu, insn, 4, HOST_SSE(cvtsi2ss64));
}
bool sem_CVTSI2SD(struct vcpu *cpu, const struct insn *insn)
{
    return from_int(cpu, insn, 8, HOST_SSE(cvtsi2sd64));
}

/* --- scalar, to integers --- */

typedef i64 (*host_to_int)(u64 bits);

static ALWAYS_INLINE bool to_int(struct vcpu *cpu, const struct insn *insn, unsigned from,
                                 bool truncate, host_to_int host)
{
    u64 b;
    unsigned size = insn->operand[0].size;
    TRY(sse_scalar_read(cpu, insn, 1, from, &b));
    if (host &&
        sse_relaxed(cpu)) { /* denormals raise nothing but PE; out of range is looked at again */
        i64 n = host(b);
        if (likely(n != INT64_MIN && (size == 8 || n == (i32)n))) {
            gpr_write(cpu, insn->operand[0].reg, size, (u64)n);
            return true;
        }
    }
    struct fp_env env = sse_env(cpu);
    i64 n = fp_to_int(sse_format(from), b, truncate ? FP_TO_ZERO : env.rounding, size * 8, &env);
    TRY(sse_raise(cpu, env.flags));
    gpr_write(cpu, insn->operand[0].reg, size, (u64)n);
    return true;
}
bool sem_CVTSS2SI(struct vcpu *cpu, const struct insn *insn)
{
    return to_int(cpu, insn, 4, false, HOST_SSE(cvtss2si64));
}
bool sem_CVTTSS2SI(struct vcpu *cpu, const struct insn *insn)
{
    return to_int(cpu, insn, 4, true, HOST_SSE(cvttss2si64));
}
bool sem_CVTSD2SI(struct vcpu *cpu, const struct insn *insn)
{
    return to_int(cpu, insn, 8, false, HOST_SSE(cvtsd2si64));
}
bool sem_CVTTSD2SI(struct vcpu *cpu, const struct insn *insn)
{
    return to_int(cpu, insn, 8, true, HOST_SSE(cvttsd2si64));
}

/* --- F16C --- */

/* MXCSR.DAZ does not apply to half precision, nor does a denormal of it raise DE. */
bool sem_VCVTPH2PS(struct vcpu *cpu, const struct insn *insn)
{
    union vec t, r;
    unsigned count = insn->vl / 4u;
    const union vec *b = vec_source(cpu, insn, 1, count * 2, &t);
    TRY(b);
    struct fp_env env = sse_env(cpu);
    env.daz = false;
    for (unsigned i = 0; i < count; i++)
        vec_d(&r, i) = (u32)fp_convert(&fp_f32, &fp_f16, vec_w(b, i), &env);
    TRY(sse_raise(cpu, env.flags));
    return vec_result(cpu, insn, &r);
}

/* imm8 as in ROUNDPS, but for PE; MXCSR.FTZ does not apply. */
bool sem_VCVTPS2PH(struct vcpu *cpu, const struct insn *insn)
{
    union vec t, r;
    unsigned count = insn->vl / 4u, imm = simd_imm8(insn);
    const union vec *a = vec_source(cpu, insn, 1, insn->vl, &t);
    TRY(a);
    struct fp_env env = sse_env(cpu);
    env.ftz = false;
    if (!(imm & 4)) env.rounding = imm & 3;
    memset(&r, 0, sizeof(r));
    for (unsigned i = 0; i < count; i++)
        vec_w(&r, i) = (u16)fp_convert(&fp_f16, &fp_f32, vec_d(a, i), &env);
    if (env.flags & env.unmasked) { /* a bad address comes before it */
        if (insn->operand[0].kind == OPERAND_MEMORY) TRY(mem_probe_write(cpu, insn, count * 2));
        return sse_exception(cpu, env.flags);
    }
    TRY(vec_write(cpu, insn, 0, count * 2, &r));
    cpu->mxcsr |= env.flags & FP_ALL;
    return true;
}
