/*
 * What the x87 rooms (x87*.c) share: the register stack, delivering results, raising exceptions.
 *
 * Order inside an instruction: memory is read, the result computed, memory written, and only then
 * anything of the x87 changes; so a memory fault leaves it alone.
 */
#ifndef CPU_X87_H
#define CPU_X87_H

#include "cpu/sem.h"
#include "cpu/softfloat.h"
#include "cpu/x64_fp.h"

#define FSW_SF 0x0040u
#define FSW_ES 0x0080u
#define FSW_C0 0x0100u
#define FSW_C1 0x0200u
#define FSW_C2 0x0400u
#define FSW_TOP 0x3800u
#define FSW_C3 0x4000u
#define FSW_B 0x8000u
#define FSW_CODES (FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3)
#define STACK_UNDERFLOW (FP_IE | FSW_SF)
#define STACK_OVERFLOW (FP_IE | FSW_SF | FSW_C1)

static const struct f80 f80_indefinite = { 3ull << 62, 0xffff };
static const struct f80 f80_one = { 1ull << 63, 0x3fff };

/* --- registers --- */

static ALWAYS_INLINE unsigned x87_top(const struct vcpu *cpu) { return cpu->fsw >> 11 & 7; }
static ALWAYS_INLINE unsigned x87_physical(const struct vcpu *cpu, unsigned i)
{
    return (x87_top(cpu) + i) & 7;
}
static ALWAYS_INLINE bool x87_empty(const struct vcpu *cpu, unsigned i)
{
    return !(cpu->ftw >> x87_physical(cpu, i) & 1);
}
static ALWAYS_INLINE struct f80 x87_get(const struct vcpu *cpu, unsigned i)
{
    unsigned n = x87_physical(cpu, i);
    return (struct f80){ cpu->fpu_mantissa[n], cpu->fpu_exponent[n] };
}
static ALWAYS_INLINE void x87_set(struct vcpu *cpu, unsigned i, struct f80 value)
{
    unsigned n = x87_physical(cpu, i);
    cpu->fpu_mantissa[n] = value.mantissa;
    cpu->fpu_exponent[n] = value.exponent;
    cpu->ftw |= 1u << n;
}
static ALWAYS_INLINE void x87_move_top(struct vcpu *cpu, int by)
{
    cpu->fsw = (u16)((cpu->fsw & ~FSW_TOP) | ((x87_top(cpu) + (unsigned)by) << 11 & FSW_TOP));
}
static ALWAYS_INLINE void x87_free(struct vcpu *cpu, unsigned i)
{
    cpu->ftw &= (u8)~(1u << x87_physical(cpu, i));
}
static ALWAYS_INLINE void x87_pop(struct vcpu *cpu)
{
    x87_free(cpu, 0);
    x87_move_top(cpu, 1);
}
static ALWAYS_INLINE void x87_push(struct vcpu *cpu, struct f80 value)
{
    x87_move_top(cpu, -1);
    x87_set(cpu, 0, value);
}

/* --- operands: rows name the implied ST0 or leave it out --- */

static ALWAYS_INLINE const struct operand *x87_memory(const struct insn *insn)
{
    if (insn->operand[0].kind == OPERAND_MEMORY) return &insn->operand[0];
    return insn->operand[1].kind == OPERAND_MEMORY ? &insn->operand[1] : NULL;
}
/* The register operand that is not the implied ST0; the last one named. */
static ALWAYS_INLINE unsigned x87_register(const struct insn *insn)
{
    if (insn->operand[1].kind == OPERAND_X87) return insn->operand[1].reg & 7;
    return insn->operand[0].kind == OPERAND_X87 ? insn->operand[0].reg & 7 : 1;
}

/* --- environment --- */

static ALWAYS_INLINE struct fp_env x87_env(const struct vcpu *cpu)
{
    static const u8 precision[4] = { 24, 64, 53, 64 };
    return (struct fp_env){
        .rounding = cpu->fcw >> 10 & 3,
        .precision = precision[cpu->fcw >> 8 & 3],
        .unmasked = (u8)(~cpu->fcw & FP_ALL),
        .x87 = true,
    };
}

/* Last instruction and operand, kept by every instruction that is not a control instruction. */
static ALWAYS_INLINE void x87_note(struct vcpu *cpu, const struct insn *insn)
{
    cpu->fip = cpu_ip(cpu, insn);
    cpu->fcs = cpu->seg[CS].selector;
    if (x87_memory(insn)) {
        cpu->fdp = insn_ea(cpu, insn);
        cpu->fds = cpu->seg[insn->seg].selector;
    }
}

/* ES and B after the flags or the masks changed (x87_env.c). */
void x87_update_summary(struct vcpu *cpu);
/* An unmasked exception came up: ES, B and the opcode register (x87_env.c). */
void x87_exception(struct vcpu *cpu, const struct insn *insn);

/*
 * FLAGS (FP_*, SF, and C1) are what the instruction raised. False: an unmasked one forbids the
 * result, registers and stack stay.
 */
static ALWAYS_INLINE bool x87_raise(struct vcpu *cpu, const struct insn *insn, unsigned flags)
{
    unsigned wanted = flags & ~cpu->fcw & FP_ALL;
    if (unlikely(wanted & FP_BEFORE)) flags &= FP_BEFORE | FSW_SF | (flags & FSW_SF ? FSW_C1 : 0);
    cpu->fsw = (u16)((cpu->fsw & ~FSW_C1) | (flags & (FP_ALL | FSW_SF | FSW_C1)));
    if (unlikely(wanted)) x87_exception(cpu, insn);
    return !(wanted & FP_BEFORE);
}

/* VALUE to a new ST0, with flags FLAGS of making it. A denormal operand does not keep it from being
 * pushed, unmasked or not (AMD). */
static ALWAYS_INLINE bool x87_push_result(struct vcpu *cpu, const struct insn *insn,
                                          struct f80 value, unsigned flags)
{
    x87_note(cpu, insn);
    if (unlikely(!x87_empty(cpu, 7)) && !(flags & FSW_SF)) {
        flags = STACK_OVERFLOW;
        value = f80_indefinite;
    }
    if (x87_raise(cpu, insn, flags) || !(flags & FP_IE)) x87_push(cpu, value);
    return true;
}

/* --- running an operation on the host's x87 or in software --- */

#if HOST_X86_64
#define HOST_X87(name) x64_##name
#else
#define HOST_X87(name) NULL
#define x64_fnclex() ((void)0)
#define x64_fldcw(value) ((void)0)
#endif

typedef struct f80 (*x87_host1)(struct f80 a, u16 *status);
typedef struct f80 (*x87_soft1)(struct f80 a, struct fp_env *env);
typedef struct f80 (*x87_host2)(struct f80 a, struct f80 b, u16 *status);
typedef struct f80 (*x87_soft2)(struct f80 a, struct f80 b, struct fp_env *env);

/*
 * Loading FCW costs several times an operation in software, so the host's x87 serves arithmetic in
 * the default modes only: 64-bit precision, nearest. Transcendental functions are the host's in
 * every mode. Unmasked underflow is software's: UE then means something else.
 */
enum x87_modes { X87_DEFAULT_MODE, X87_ANY_MODE };
static ALWAYS_INLINE bool x87_host_usable(const struct vcpu *cpu, enum x87_modes modes)
{
    if (!HOST_X86_64) return false;
    if (modes == X87_ANY_MODE) return likely(cpu->fcw & FP_UE);
    return likely((cpu->fcw & (0xf00 | FP_UE)) == (0x300 | FP_UE));
}
/* STATUS may hold flags of somebody else's operation. */
static ALWAYS_INLINE bool x87_host_stale(const struct vcpu *cpu, u16 status)
{
    return status & FP_ALL & (~cpu->fcw & FP_ALL ? FP_ALL : ~(unsigned)cpu->fsw);
}
/* The guest's rounding and precision around operations in X87_ANY_MODE. */
static ALWAYS_INLINE void x87_host_enter(const struct vcpu *cpu, enum x87_modes modes)
{
    if (modes == X87_ANY_MODE && unlikely((cpu->fcw & 0xf00) != 0x300))
        x64_fldcw((cpu->fcw & 0xf00) | 0x7f);
}
static ALWAYS_INLINE void x87_host_leave(const struct vcpu *cpu, enum x87_modes modes)
{
    if (modes == X87_ANY_MODE && unlikely((cpu->fcw & 0xf00) != 0x300)) x64_fldcw(0x37f);
}

/* R = HOST() or SOFT(), *FLAGS: FP_ALL and the condition codes. HOST sets `status`, SOFT `env`.
 */
#define X87_RUN(modes, host, host_call, soft_call)                                                 \
    struct f80 r;                                                                                  \
    if (x87_host_usable(cpu, modes) && host) {                                                     \
        u16 status;                                                                                \
        x87_host_enter(cpu, modes);                                                                \
        r = host_call;                                                                             \
        if (unlikely(x87_host_stale(cpu, status))) {                                               \
            x64_fnclex();                                                                          \
            r = host_call;                                                                         \
        }                                                                                          \
        x87_host_leave(cpu, modes);                                                                \
        *flags = status & (FP_ALL | FSW_CODES);                                                    \
        if (likely(!(status & ~cpu->fcw & FP_ALL))) return r;                                      \
    }                                                                                              \
    struct fp_env env = x87_env(cpu);                                                              \
    r = soft_call;                                                                                 \
    *flags = env.flags;                                                                            \
    return r;

static ALWAYS_INLINE struct f80 x87_run1(const struct vcpu *cpu, enum x87_modes modes,
                                         x87_host1 host, x87_soft1 soft, struct f80 a,
                                         unsigned *flags)
{
    X87_RUN(modes, host, host(a, &status), soft(a, &env))
}
static ALWAYS_INLINE struct f80 x87_run2(const struct vcpu *cpu, enum x87_modes modes,
                                         x87_host2 host, x87_soft2 soft, struct f80 a, struct f80 b,
                                         unsigned *flags)
{
    X87_RUN(modes, host, host(a, b, &status), soft(a, b, &env))
}

#endif
