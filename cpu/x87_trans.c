/*
 * x87: remainders, scaling and the transcendental functions.
 *
 * Specification: the instructions' pages in Intel SDM vol. 2. On an x86-64 host the transcendental
 * functions are the host's own (the vendors differ in the last bits); elsewhere
 * softfloat_trans.c's.
 */
#include "cpu/x87.h"

/* --- ST0 = f(ST0, ST1) --- */

/* CODES: condition codes that the operation decides, C1 among them. */
static ALWAYS_INLINE bool x87_top_two(struct vcpu *cpu, const struct insn *insn, x87_host2 host,
                                      x87_soft2 soft, unsigned codes)
{
    unsigned flags = STACK_UNDERFLOW;
    struct f80 r = f80_indefinite;
    x87_note(cpu, insn);
    if (likely(!x87_empty(cpu, 0) && !x87_empty(cpu, 1)))
        r = x87_run2(cpu, X87_ANY_MODE, host, soft, x87_get(cpu, 0), x87_get(cpu, 1), &flags);
    bool settled = x87_raise(cpu, insn, flags & (FP_ALL | FSW_SF));
    /* Without a quotient C1 and C2 are cleared, and C0 and C3 stay (AMD). */
    if (unlikely(!settled || fp_is_nan(f80_unpack(r)))) {
        codes &= FSW_C1 | FSW_C2;
        flags = 0;
    }
    cpu->fsw = (u16)((cpu->fsw & ~codes) | (flags & codes));
    if (likely(settled)) x87_set(cpu, 0, r);
    return true;
}

static struct f80 soft_remainder(struct f80 a, struct f80 b, bool nearest, struct fp_env *env)
{
    unsigned quotient;
    bool partial;
    struct f80 r = f80_rem(a, b, nearest, &quotient, &partial, env);
    env->flags &= FP_ALL;
    if (partial) env->flags |= FSW_C2;
    else env->flags |= (quotient & 4 ? FSW_C0 : 0) | (quotient & 2 ? FSW_C3 : 0) |
                       (quotient & 1 ? FSW_C1 : 0);
    return r;
}
static struct f80 soft_fprem(struct f80 a, struct f80 b, struct fp_env *env)
{
    return soft_remainder(a, b, false, env);
}
static struct f80 soft_fprem1(struct f80 a, struct f80 b, struct fp_env *env)
{
    return soft_remainder(a, b, true, env);
}

bool sem_FPREM(struct vcpu *cpu, const struct insn *insn)
{
    return x87_top_two(cpu, insn, HOST_X87(fprem), soft_fprem, FSW_CODES);
}
bool sem_FPREM1(struct vcpu *cpu, const struct insn *insn)
{
    return x87_top_two(cpu, insn, HOST_X87(fprem1), soft_fprem1, FSW_CODES);
}
bool sem_FSCALE(struct vcpu *cpu, const struct insn *insn)
{
    return x87_top_two(cpu, insn, NULL, f80_scale, FSW_C1);
}

/* --- ST1 = f(ST0, ST1), pop --- */

static ALWAYS_INLINE bool x87_top_two_pop(struct vcpu *cpu, const struct insn *insn, x87_host2 host,
                                          x87_soft2 soft)
{
    unsigned flags = STACK_UNDERFLOW;
    struct f80 r = f80_indefinite;
    x87_note(cpu, insn);
    if (likely(!x87_empty(cpu, 0) && !x87_empty(cpu, 1))) {
        r = x87_run2(cpu, X87_ANY_MODE, host, soft, x87_get(cpu, 0), x87_get(cpu, 1), &flags);
        flags &= FP_ALL | FSW_C1;
    }
    if (!x87_raise(cpu, insn, flags)) return true;
    x87_set(cpu, 1, r);
    x87_pop(cpu);
    return true;
}

static struct f80 soft_fpatan(struct f80 a, struct f80 b, struct fp_env *env)
{
    return f80_atan2(b, a, env);
}

bool sem_FPATAN(struct vcpu *cpu, const struct insn *insn)
{
    return x87_top_two_pop(cpu, insn, HOST_X87(fpatan), soft_fpatan);
}
bool sem_FYL2X(struct vcpu *cpu, const struct insn *insn)
{
    return x87_top_two_pop(cpu, insn, HOST_X87(fyl2x), f80_yl2x);
}
bool sem_FYL2XP1(struct vcpu *cpu, const struct insn *insn)
{
    return x87_top_two_pop(cpu, insn, HOST_X87(fyl2xp1), f80_yl2xp1);
}

/* --- ST0 = f(ST0), C2 when out of range; an unmasked exception clears it, too (AMD) --- */

static ALWAYS_INLINE bool x87_top_one(struct vcpu *cpu, const struct insn *insn, x87_host1 host,
                                      x87_soft1 soft, bool ranged)
{
    unsigned flags = STACK_UNDERFLOW;
    struct f80 r = f80_indefinite;
    x87_note(cpu, insn);
    if (likely(!x87_empty(cpu, 0)))
        r = x87_run1(cpu, X87_ANY_MODE, host, soft, x87_get(cpu, 0), &flags);
    bool settled = x87_raise(cpu, insn, flags & (FP_ALL | FSW_C1 | FSW_SF));
    if (ranged) cpu->fsw = (u16)((cpu->fsw & ~FSW_C2) | (flags & FSW_C2));
    if (likely(settled)) x87_set(cpu, 0, r);
    return true;
}

static struct f80 soft_fsin(struct f80 a, struct fp_env *env)
{
    struct f80 r = a;
    if (!f80_sincos(a, &r, NULL, env)) env->flags |= FSW_C2;
    return r;
}
static struct f80 soft_fcos(struct f80 a, struct fp_env *env)
{
    struct f80 r = a;
    if (!f80_sincos(a, NULL, &r, env)) env->flags |= FSW_C2;
    return r;
}

bool sem_F2XM1(struct vcpu *cpu, const struct insn *insn)
{
    return x87_top_one(cpu, insn, HOST_X87(f2xm1), f80_2xm1, false);
}
bool sem_FSIN(struct vcpu *cpu, const struct insn *insn)
{
    return x87_top_one(cpu, insn, HOST_X87(fsin), soft_fsin, true);
}
bool sem_FCOS(struct vcpu *cpu, const struct insn *insn)
{
    return x87_top_one(cpu, insn, HOST_X87(fcos), soft_fcos, true);
}

/* --- one operand, two results: ST0 is replaced, another pushed --- */

/* *TOP: to push; returned: for ST0 before the push. C2 in env->flags: neither. */
typedef struct f80 (*x87_soft_pair)(struct f80 a, struct f80 *top, struct fp_env *env);
typedef struct f80 (*x87_host_pair)(struct f80 a, struct f80 *top, u16 *status);

static ALWAYS_INLINE struct f80 run_pair(const struct vcpu *cpu, x87_host_pair host,
                                         x87_soft_pair soft, struct f80 a, struct f80 *top,
                                         unsigned *flags)
{
    if (x87_host_usable(cpu, X87_ANY_MODE) && host) {
        u16 status;
        x64_fnclex();
        x87_host_enter(cpu, X87_ANY_MODE);
        struct f80 r = host(a, top, &status);
        x87_host_leave(cpu, X87_ANY_MODE);
        *flags = status & (FP_ALL | FSW_CODES);
        if (!(status & ~cpu->fcw & FP_ALL)) return r;
    }
    struct fp_env env = x87_env(cpu);
    struct f80 r = soft(a, top, &env);
    *flags = env.flags;
    return r;
}

static ALWAYS_INLINE bool x87_pair(struct vcpu *cpu, const struct insn *insn, x87_host_pair host,
                                   x87_soft_pair soft, bool ranged)
{
    struct f80 r = f80_indefinite, top = f80_indefinite;
    unsigned flags;
    x87_note(cpu, insn);
    if (unlikely(x87_empty(cpu, 0))) flags = STACK_UNDERFLOW;
    else if (unlikely(!x87_empty(cpu, 7))) flags = STACK_OVERFLOW;
    else r = run_pair(cpu, host, soft, x87_get(cpu, 0), &top, &flags);
    bool settled = x87_raise(cpu, insn, flags & (FP_ALL | FSW_C1 | FSW_SF));
    if (ranged) cpu->fsw = (u16)((cpu->fsw & ~FSW_C2) | (flags & FSW_C2));
    if (!settled || (ranged && (flags & FSW_C2))) return true;
    x87_set(cpu, 0, r);
    x87_push(cpu, top);
    return true;
}

static struct f80 soft_fsincos(struct f80 a, struct f80 *top, struct fp_env *env)
{
    struct f80 sine = a;
    if (!f80_sincos(a, &sine, top, env)) env->flags |= FSW_C2;
    return sine;
}
static struct f80 soft_fptan(struct f80 a, struct f80 *top, struct fp_env *env)
{
    struct f80 tangent = a;
    if (!f80_tan(a, &tangent, env)) env->flags |= FSW_C2;
    /* A NaN is pushed twice; so is the NaN of an infinity. */
    *top = fp_is_nan(f80_unpack(tangent)) ? tangent : f80_one;
    return tangent;
}
static struct f80 soft_fxtract(struct f80 a, struct f80 *top, struct fp_env *env)
{
    struct f80 exponent;
    *top = f80_extract(a, &exponent, env);
    return exponent;
}

bool sem_FSINCOS(struct vcpu *cpu, const struct insn *insn)
{
    return x87_pair(cpu, insn, HOST_X87(fsincos), soft_fsincos, true);
}
bool sem_FPTAN(struct vcpu *cpu, const struct insn *insn)
{
    return x87_pair(cpu, insn, HOST_X87(fptan), soft_fptan, true);
}
bool sem_FXTRACT(struct vcpu *cpu, const struct insn *insn)
{
    return x87_pair(cpu, insn, NULL, soft_fxtract, false);
}
