/*
 * Fused multiply-add (FMA3).
 *
 * Specification: Intel SDM vol. 1 section 14.5, and the instructions' pages. The digits of a
 * mnemonic say which operands are multiplied and which is added; a NaN result is the first NaN in
 * that order.
 */
#include "cpu/sse_fp.h"

typedef void (*host_fma)(void *r, const void *a, const void *b, const void *c);

/* Signs: of the product, and of the addend in even and in odd elements. */
struct fma_signs {
    bool product, even, odd;
};

/* Operand numbers of multiplicand, multiplier and addend. */
#define ORDER_132 0, 2, 1
#define ORDER_213 1, 0, 2
#define ORDER_231 1, 2, 0

static ALWAYS_INLINE bool fma_host_usable(const struct vcpu *cpu)
{
    return sse_host_usable(cpu) && x64_has_fma();
}

static ALWAYS_INLINE bool fma_packed(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                     host_fma host, struct fma_signs signs, unsigned x, unsigned y,
                                     unsigned z)
{
    union vec t[3], r;
    const union vec *source[3];
    unsigned flags;
    for (unsigned i = 3; i-- > 0;) {
        source[i] = vec_source(cpu, insn, i, insn->vl, &t[i]);
        TRY(source[i]);
    }
    const union vec *a = source[x], *b = source[y], *c = source[z];
    if (host && fma_host_usable(cpu)) {
        sse_host_begin(cpu);
        host(&r, a, b, c);
        if (insn->vl == 32) host(&r.q[2], &a->q[2], &b->q[2], &c->q[2]);
        if (sse_host_end(cpu, &flags)) {
            cpu->mxcsr |= flags;
            return vec_result(cpu, insn, &r);
        }
    }
    struct fp_env env = sse_env(cpu);
    for (unsigned i = 0; i < insn->vl / size; i++)
        sse_set_element(&r, i, size,
                        fp_fma(sse_format(size), sse_element(a, i, size), sse_element(b, i, size),
                               sse_element(c, i, size), signs.product,
                               i & 1 ? signs.odd : signs.even, &env));
    TRY(sse_raise(cpu, env.flags));
    return vec_result(cpu, insn, &r);
}

static ALWAYS_INLINE bool fma_scalar(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                     host_fma host, struct fma_signs signs, unsigned x, unsigned y,
                                     unsigned z)
{
    u64 source[3], r;
    unsigned flags;
    union vec *to = cpu_vec(cpu, insn->operand[0].reg);
    TRY(sse_scalar_read(cpu, insn, 2, size, &source[2]));
    source[1] = sse_element(cpu_vec(cpu, insn->operand[1].reg), 0, size);
    source[0] = sse_element(to, 0, size);
    bool done = false;
    if (host && fma_host_usable(cpu)) {
        u64 a[2] = { source[x], 0 }, b[2] = { source[y], 0 }, c[2] = { source[z], 0 };
        bool relaxed = sse_relaxed(cpu) && sse_is_tame(a[0], size) && sse_is_tame(b[0], size) &&
                       sse_is_tame(c[0], size);
        u64 result[2];
        host(result, a, b, c);
        done = relaxed && sse_is_plain(result[0], size);
        flags = 0;
        if (unlikely(!done)) {
            sse_host_begin(cpu);
            host(result, a, b, c);
            done = sse_host_end(cpu, &flags);
        }
        r = result[0];
    }
    if (!done) {
        struct fp_env env = sse_env(cpu);
        r = fp_fma(sse_format(size), source[x], source[y], source[z], signs.product, signs.even,
                   &env);
        flags = env.flags;
    }
    TRY(sse_raise(cpu, flags));
    sse_set_element(to, 0, size, r);
    for (unsigned i = 2; i < 8; i++) to->q[i] = 0;
    return true;
}

#define FMA_ONE(NAME, form, type, run, size, op, signs)                                            \
    bool sem_##NAME##form##type(struct vcpu *cpu, const struct insn *insn)                         \
    {                                                                                              \
        return run(cpu, insn, size, HOST_SSE(op), signs, ORDER_##form);                            \
    }
#define FMA_FORMS(NAME, type, run, size, op, signs)                                                \
    FMA_ONE(NAME, 132, type, run, size, op, signs)                                                 \
    FMA_ONE(NAME, 213, type, run, size, op, signs)                                                 \
    FMA_ONE(NAME, 231, type, run, size, op, signs)
#define FMA_PACKED(NAME, op, signs)                                                                \
    FMA_FORMS(NAME, PS, fma_packed, 4, op##213ps, signs)                                           \
    FMA_FORMS(NAME, PD, fma_packed, 8, op##213pd, signs)
#define FMA_ALL(NAME, op, signs)                                                                   \
    FMA_PACKED(NAME, op, signs)                                                                    \
    FMA_FORMS(NAME, SS, fma_scalar, 4, op##213ss, signs)                                           \
    FMA_FORMS(NAME, SD, fma_scalar, 8, op##213sd, signs)
#define SIGNS(product, even, odd) ((struct fma_signs){ product, even, odd })

FMA_ALL(VFMADD, vfmadd, SIGNS(false, false, false))
FMA_ALL(VFMSUB, vfmsub, SIGNS(false, true, true))
FMA_ALL(VFNMADD, vfnmadd, SIGNS(true, false, false))
FMA_ALL(VFNMSUB, vfnmsub, SIGNS(true, true, true))
FMA_PACKED(VFMADDSUB, vfmaddsub, SIGNS(false, true, false))
FMA_PACKED(VFMSUBADD, vfmsubadd, SIGNS(false, false, true))
