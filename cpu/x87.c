/*
 * x87: arithmetic, comparisons, loads and stores.
 *
 * Specification: Intel SDM vol. 1 chapter 8 and the instructions' pages; AMD APM vol. 5. The opcode
 * register changes only with an unmasked exception, like processors without the compatibility mode
 * of IA32_MISC_ENABLE bit 2. Control instructions are in x87_env.c, transcendental ones in
 * x87_trans.c.
 */
#include "cpu/x87.h"

/* --- operands of arithmetic and comparison --- */

/* The memory operand as f80, exactly: an integer, or floating of 4 or 8 bytes (a signalling NaN
 * stays one; a denormal's DE goes to *flags). */
static ALWAYS_INLINE bool read_operand(struct vcpu *cpu, const struct insn *insn,
                                       const struct operand *memory, bool integer,
                                       struct f80 *value, unsigned *flags)
{
    u64 bits;
    TRY(mem_read(cpu, insn, memory->size, &bits));
    if (integer) {
        *value = f80_from_int(sign_extend(bits, memory->size));
    } else {
        struct fp_value v = fp_unpack(memory->size == 4 ? &fp_f32 : &fp_f64, bits, false);
        *value = f80_pack(v);
        if (unlikely(v.kind == FP_SNAN)) value->mantissa = v.sig;
        *flags = v.denormal ? FP_DE : 0;
    }
    return true;
}

/* --- arithmetic --- */

static ALWAYS_INLINE bool x87_arithmetic(struct vcpu *cpu, const struct insn *insn, x87_host2 host,
                                         x87_soft2 soft, bool integer, bool reverse, bool pop)
{
    const struct operand *memory = x87_memory(insn);
    unsigned to = 0, from = 1, before = 0, flags;
    struct f80 a, b;
    if (memory) {
        TRY(read_operand(cpu, insn, memory, integer, &b, &before));
    } else {
        if (insn->operand[0].kind == OPERAND_X87) to = insn->operand[0].reg & 7;
        else if (pop) to = 1;
        from = insn->operand[1].kind == OPERAND_X87 ? insn->operand[1].reg & 7 : 0;
        b = x87_get(cpu, from);
    }
    x87_note(cpu, insn);
    if (unlikely(x87_empty(cpu, to) || (!memory && x87_empty(cpu, from)))) {
        if (!x87_raise(cpu, insn, STACK_UNDERFLOW)) return true;
        x87_set(cpu, to, f80_indefinite);
    } else {
        a = x87_get(cpu, to);
        if (unlikely(before)) x64_fnclex(); /* ZE below shall be this operation's */
        struct f80 r = reverse ? x87_run2(cpu, X87_DEFAULT_MODE, host, soft, b, a, &flags) :
                                 x87_run2(cpu, X87_DEFAULT_MODE, host, soft, a, b, &flags);
        flags &= FP_ALL | FSW_C1;
        /* NaNs, invalid operations and division by zero come before a denormal operand. */
        if (unlikely(before) && !(flags & FP_ZE) && !fp_is_nan(f80_unpack(r))) flags |= before;
        if (!x87_raise(cpu, insn, flags)) return true;
        x87_set(cpu, to, r);
    }
    if (pop) x87_pop(cpu);
    return true;
}

#define ARITHMETIC(NAME, op, soft, integer, reverse, pop)                                          \
    bool sem_##NAME(struct vcpu *cpu, const struct insn *insn)                                     \
    {                                                                                              \
        return x87_arithmetic(cpu, insn, HOST_X87(op), soft, integer, reverse, pop);               \
    }
ARITHMETIC(FADD, fadd, f80_add, false, false, false)
ARITHMETIC(FADDP, fadd, f80_add, false, false, true)
ARITHMETIC(FIADD, fadd, f80_add, true, false, false)
ARITHMETIC(FMUL, fmul, f80_mul, false, false, false)
ARITHMETIC(FMULP, fmul, f80_mul, false, false, true)
ARITHMETIC(FIMUL, fmul, f80_mul, true, false, false)
ARITHMETIC(FSUB, fsub, f80_sub, false, false, false)
ARITHMETIC(FSUBP, fsub, f80_sub, false, false, true)
ARITHMETIC(FISUB, fsub, f80_sub, true, false, false)
ARITHMETIC(FSUBR, fsub, f80_sub, false, true, false)
ARITHMETIC(FSUBRP, fsub, f80_sub, false, true, true)
ARITHMETIC(FISUBR, fsub, f80_sub, true, true, false)
ARITHMETIC(FDIV, fdiv, f80_div, false, false, false)
ARITHMETIC(FDIVP, fdiv, f80_div, false, false, true)
ARITHMETIC(FIDIV, fdiv, f80_div, true, false, false)
ARITHMETIC(FDIVR, fdiv, f80_div, false, true, false)
ARITHMETIC(FDIVRP, fdiv, f80_div, false, true, true)
ARITHMETIC(FIDIVR, fdiv, f80_div, true, true, false)

/* ST0 = f(ST0) */
static ALWAYS_INLINE bool x87_unary(struct vcpu *cpu, const struct insn *insn, x87_host1 host,
                                    x87_soft1 soft)
{
    unsigned flags;
    x87_note(cpu, insn);
    if (unlikely(x87_empty(cpu, 0))) {
        if (x87_raise(cpu, insn, STACK_UNDERFLOW)) x87_set(cpu, 0, f80_indefinite);
        return true;
    }
    struct f80 r = x87_run1(cpu, X87_DEFAULT_MODE, host, soft, x87_get(cpu, 0), &flags);
    if (x87_raise(cpu, insn, flags & (FP_ALL | FSW_C1))) x87_set(cpu, 0, r);
    return true;
}

static struct f80 change_sign(struct f80 a, struct fp_env *env)
{
    (void)env;
    return (struct f80){ a.mantissa, a.exponent ^ 0x8000 };
}

static struct f80 clear_sign(struct f80 a, struct fp_env *env)
{
    (void)env;
    return (struct f80){ a.mantissa, a.exponent & 0x7fff };
}

bool sem_FSQRT(struct vcpu *cpu, const struct insn *insn)
{
    return x87_unary(cpu, insn, HOST_X87(fsqrt), f80_sqrt);
}
bool sem_FRNDINT(struct vcpu *cpu, const struct insn *insn)
{
    return x87_unary(cpu, insn, NULL, f80_rint);
}
bool sem_FCHS(struct vcpu *cpu, const struct insn *insn)
{
    return x87_unary(cpu, insn, NULL, change_sign);
}
bool sem_FABS(struct vcpu *cpu, const struct insn *insn)
{
    return x87_unary(cpu, insn, NULL, clear_sign);
}

/* --- comparison --- */

static unsigned relation_codes(enum fp_relation relation)
{
    switch (relation) {
    case FP_GREATER: return 0;
    case FP_LESS: return FSW_C0;
    case FP_EQUAL: return FSW_C3;
    default: return FSW_C0 | FSW_C2 | FSW_C3;
    }
}

/* ST0 against B; B_EMPTY: it was an empty register. An unmasked exception keeps the stack from
 * being popped, but not the codes from being set (AMD). */
static void compare_codes(struct vcpu *cpu, const struct insn *insn, struct f80 b, bool b_empty,
                          unsigned before, bool quiet, unsigned pops)
{
    x87_note(cpu, insn);
    unsigned flags = STACK_UNDERFLOW, codes = FSW_C0 | FSW_C2 | FSW_C3;
    if (likely(!x87_empty(cpu, 0) && !b_empty)) {
        struct fp_env env = x87_env(cpu);
        codes = relation_codes(f80_compare(x87_get(cpu, 0), b, quiet, &env));
        flags = env.flags | (codes & FSW_C2 ? 0 : before);
    }
    bool settled = x87_raise(cpu, insn, flags & (FP_ALL | FSW_SF));
    cpu->fsw = (u16)((cpu->fsw & ~FSW_CODES) | codes);
    while (settled && pops--) x87_pop(cpu);
}

static ALWAYS_INLINE bool x87_compare(struct vcpu *cpu, const struct insn *insn, bool integer,
                                      bool quiet, unsigned pops)
{
    const struct operand *memory = x87_memory(insn);
    unsigned before = 0;
    struct f80 b;
    if (memory) {
        TRY(read_operand(cpu, insn, memory, integer, &b, &before));
        compare_codes(cpu, insn, b, false, before, quiet, pops);
    } else {
        unsigned from = x87_register(insn);
        compare_codes(cpu, insn, x87_get(cpu, from), x87_empty(cpu, from), 0, quiet, pops);
    }
    return true;
}

#define COMPARE(NAME, integer, quiet, pops)                                                        \
    bool sem_##NAME(struct vcpu *cpu, const struct insn *insn)                                     \
    {                                                                                              \
        return x87_compare(cpu, insn, integer, quiet, pops);                                       \
    }
COMPARE(FCOM, false, false, 0)
COMPARE(FCOMP, false, false, 1)
COMPARE(FCOMPP, false, false, 2)
COMPARE(FICOM, true, false, 0)
COMPARE(FICOMP, true, false, 1)
COMPARE(FUCOM, false, true, 0)
COMPARE(FUCOMP, false, true, 1)
COMPARE(FUCOMPP, false, true, 2)

bool sem_FTST(struct vcpu *cpu, const struct insn *insn)
{
    compare_codes(cpu, insn, (struct f80){ 0, 0 }, false, 0, false, 0);
    return true;
}

static ALWAYS_INLINE bool x87_compare_flags(struct vcpu *cpu, const struct insn *insn, bool quiet,
                                            bool pop)
{
    unsigned from = x87_register(insn), flags = STACK_UNDERFLOW, codes = FSW_C0 | FSW_C2 | FSW_C3;
    u16 c1 = 0;
    x87_note(cpu, insn);
    if (likely(!x87_empty(cpu, 0) && !x87_empty(cpu, from))) {
        struct fp_env env = x87_env(cpu);
        codes = relation_codes(f80_compare(x87_get(cpu, 0), x87_get(cpu, from), quiet, &env));
        flags = env.flags;
        c1 = cpu->fsw & FSW_C1; /* AMD leaves C1; Intel's manual says 0 */
    }
    bool settled = x87_raise(cpu, insn, flags & (FP_ALL | FSW_SF));
    cpu->fsw |= c1;
    flags_put(cpu, (codes & FSW_C3 ? FLAG_ZF : 0) | (codes & FSW_C2 ? FLAG_PF : 0) |
                   (codes & FSW_C0 ? FLAG_CF : 0));
    if (settled && pop) x87_pop(cpu);
    return true;
}

bool sem_FCOMI(struct vcpu *cpu, const struct insn *insn)
{
    return x87_compare_flags(cpu, insn, false, false);
}
bool sem_FCOMIP(struct vcpu *cpu, const struct insn *insn)
{
    return x87_compare_flags(cpu, insn, false, true);
}
bool sem_FUCOMI(struct vcpu *cpu, const struct insn *insn)
{
    return x87_compare_flags(cpu, insn, true, false);
}
bool sem_FUCOMIP(struct vcpu *cpu, const struct insn *insn)
{
    return x87_compare_flags(cpu, insn, true, true);
}

bool sem_FXAM(struct vcpu *cpu, const struct insn *insn)
{
    struct f80 a = x87_get(cpu, 0);
    struct fp_value v = f80_unpack(a);
    unsigned codes;
    x87_note(cpu, insn);
    if (x87_empty(cpu, 0)) codes = FSW_C3 | FSW_C0;
    else if (v.kind == FP_UNSUPPORTED) codes = 0;
    else if (fp_is_nan(v)) codes = FSW_C0;
    else if (v.kind == FP_INFINITE) codes = FSW_C2 | FSW_C0;
    else if (v.kind == FP_ZERO) codes = FSW_C3;
    else codes = v.denormal ? FSW_C3 | FSW_C2 : FSW_C2;
    if (a.exponent & 0x8000) codes |= FSW_C1;
    cpu->fsw = (u16)((cpu->fsw & ~FSW_CODES) | codes);
    return true;
}

/* --- moves --- */

bool sem_FLD(struct vcpu *cpu, const struct insn *insn)
{
    const struct operand *memory = x87_memory(insn);
    struct f80 value;
    unsigned flags = 0;
    if (!memory) {
        unsigned from = x87_register(insn);
        value = x87_get(cpu, from);
        if (unlikely(x87_empty(cpu, from))) {
            flags = STACK_UNDERFLOW;
            value = f80_indefinite;
        }
    } else if (memory->size == 10) {
        u8 bytes[10];
        TRY(mem_read_bytes(cpu, insn, bytes, 10, 0));
        value = (struct f80){ ld64(bytes), ld16(bytes + 8) };
    } else {
        TRY(read_operand(cpu, insn, memory, false, &value, &flags));
        if (unlikely((value.exponent & 0x7fff) == 0x7fff && !(value.mantissa & 1ull << 62) &&
                     value.mantissa << 1)) {
            value.mantissa |= 1ull << 62;
            flags = FP_IE;
        }
    }
    return x87_push_result(cpu, insn, value, flags & (FP_ALL | FSW_SF));
}

bool sem_FILD(struct vcpu *cpu, const struct insn *insn)
{
    const struct operand *memory = x87_memory(insn);
    struct f80 value;
    unsigned flags;
    if (unlikely(!memory)) return cpu_ud(cpu);
    TRY(read_operand(cpu, insn, memory, true, &value, &flags));
    return x87_push_result(cpu, insn, value, 0);
}

bool sem_FBLD(struct vcpu *cpu, const struct insn *insn)
{
    u8 bcd[10];
    TRY(mem_read_bytes(cpu, insn, bcd, 10, 0));
    return x87_push_result(cpu, insn, f80_from_bcd(bcd), 0);
}

/* ST0 as f32 or f64. */
static ALWAYS_INLINE u64 narrow(const struct vcpu *cpu, struct f80 a, unsigned size,
                                unsigned *flags)
{
#if HOST_X86_64
    if (x87_host_usable(cpu, X87_DEFAULT_MODE) && likely(cpu->fcw & FP_OE)) {
        u64 r = size == 4 ? x64_fst32(a) : x64_fst64(a);
        u16 status = x64_fnstsw();
        if (unlikely(x87_host_stale(cpu, status))) {
            x64_fnclex();
            r = size == 4 ? x64_fst32(a) : x64_fst64(a);
            status = x64_fnstsw();
        }
        *flags = status & (FP_ALL | FSW_C1);
        return r;
    }
#endif
    struct fp_env env = x87_env(cpu);
    u64 r = f80_to(size == 4 ? &fp_f32 : &fp_f64, a, &env);
    *flags = env.flags;
    return r;
}

/* Delivers SIZE bytes to memory unless an unmasked exception forbids it; then flags and pop. The
 * operand's faults come before such an exception, and without a result there is no PE or C1 (AMD).
 */
static bool store_result(struct vcpu *cpu, const struct insn *insn, const u8 *bytes, unsigned size,
                         unsigned flags, bool pop)
{
    bool forbidden = flags & ~cpu->fcw & (FP_IE | FP_OE | FP_UE);
    if (likely(!forbidden)) {
        if (size == 10) TRY(mem_write_bytes(cpu, insn, bytes, 10, 0));
        else TRY(mem_write(cpu, insn, size, bytes_value(bytes, size)));
    } else {
        TRY(mem_probe_write(cpu, insn, size));
        flags &= ~(FP_PE | FSW_C1);
    }
    x87_note(cpu, insn);
    x87_raise(cpu, insn, flags);
    if (pop && !forbidden) x87_pop(cpu);
    return true;
}

static bool store_register(struct vcpu *cpu, const struct insn *insn, bool pop)
{
    unsigned to = insn->operand[0].kind == OPERAND_X87 ? insn->operand[0].reg & 7 : 0;
    bool empty = x87_empty(cpu, 0);
    struct f80 value = empty ? f80_indefinite : x87_get(cpu, 0);
    x87_note(cpu, insn);
    if (unlikely(empty) && insn->operand[1].kind == OPERAND_X87) { /* D9 /3 only pops then */
        cpu->fsw &= (u16)~FSW_C1;
        x87_pop(cpu);
        return true;
    }
    if (!x87_raise(cpu, insn, empty ? STACK_UNDERFLOW : 0)) return true;
    x87_set(cpu, to, value);
    if (pop) x87_pop(cpu);
    return true;
}

static ALWAYS_INLINE bool x87_store(struct vcpu *cpu, const struct insn *insn, bool pop)
{
    const struct operand *memory = x87_memory(insn);
    if (!memory) return store_register(cpu, insn, pop);
    unsigned flags = 0, size = memory->size;
    bool empty = x87_empty(cpu, 0);
    struct f80 value = empty ? f80_indefinite : x87_get(cpu, 0);
    u8 bytes[16];
    if (size == 10) {
        st64(bytes, value.mantissa);
        st16(bytes + 8, value.exponent);
    } else {
        st64(bytes, narrow(cpu, value, size, &flags));
    }
    if (unlikely(empty)) flags = STACK_UNDERFLOW;
    return store_result(cpu, insn, bytes, size, flags, pop);
}
bool sem_FST(struct vcpu *cpu, const struct insn *insn) { return x87_store(cpu, insn, false); }
bool sem_FSTP(struct vcpu *cpu, const struct insn *insn) { return x87_store(cpu, insn, true); }

static ALWAYS_INLINE bool x87_store_int(struct vcpu *cpu, const struct insn *insn, bool truncate,
                                        bool pop)
{
    const struct operand *memory = x87_memory(insn);
    if (unlikely(!memory)) return cpu_ud(cpu);
    unsigned bits = memory->size * 8u;
    struct fp_env env = x87_env(cpu);
    i64 n = (i64)(~0ull << (bits - 1));
    if (unlikely(x87_empty(cpu, 0))) env.flags = STACK_UNDERFLOW;
    else n = f80_to_int(x87_get(cpu, 0), truncate ? FP_TO_ZERO : env.rounding, bits, &env);
    u8 bytes[8];
    st64(bytes, (u64)n);
    return store_result(cpu, insn, bytes, memory->size, env.flags, pop);
}
bool sem_FIST(struct vcpu *cpu, const struct insn *insn)
{
    return x87_store_int(cpu, insn, false, false);
}
bool sem_FISTP(struct vcpu *cpu, const struct insn *insn)
{
    return x87_store_int(cpu, insn, false, true);
}
bool sem_FISTTP(struct vcpu *cpu, const struct insn *insn)
{
    return x87_store_int(cpu, insn, true, true);
}

bool sem_FBSTP(struct vcpu *cpu, const struct insn *insn)
{
    u8 bcd[10];
    struct fp_env env = x87_env(cpu);
    bool empty = x87_empty(cpu, 0);
    f80_to_bcd(empty ? f80_indefinite : x87_get(cpu, 0), bcd, &env);
    return store_result(cpu, insn, bcd, 10, empty ? STACK_UNDERFLOW : env.flags, true);
}

bool sem_FXCH(struct vcpu *cpu, const struct insn *insn)
{
    unsigned other = x87_register(insn);
    struct f80 a = x87_get(cpu, 0), b = x87_get(cpu, other);
    bool a_empty = x87_empty(cpu, 0), b_empty = x87_empty(cpu, other);
    x87_note(cpu, insn);
    if (!x87_raise(cpu, insn, unlikely(a_empty || b_empty) ? STACK_UNDERFLOW : 0)) return true;
    x87_set(cpu, 0, b_empty ? f80_indefinite : b);
    x87_set(cpu, other, a_empty ? f80_indefinite : a);
    return true;
}

bool sem_FCMOVcc(struct vcpu *cpu, const struct insn *insn)
{
    unsigned from = x87_register(insn);
    x87_note(cpu, insn);
    if (unlikely(x87_empty(cpu, 0) || x87_empty(cpu, from))) {
        if (x87_raise(cpu, insn, STACK_UNDERFLOW)) x87_set(cpu, 0, f80_indefinite);
    } else if (flags_condition(cpu, insn->cc)) { /* C1 stays */
        x87_set(cpu, 0, x87_get(cpu, from));
    }
    return true;
}

/* --- constants: 66 bits inside, rounded as RC says --- */

static bool load_constant(struct vcpu *cpu, const struct insn *insn, u64 below, unsigned exponent,
                          bool nearest_is_above)
{
    unsigned rounding = cpu->fcw >> 10 & 3;
    bool above = rounding == FP_UP || (rounding == FP_NEAREST && nearest_is_above);
    return x87_push_result(cpu, insn, (struct f80){ below + above, (u16)exponent }, 0);
}
bool sem_FLD1(struct vcpu *cpu, const struct insn *insn)
{
    return x87_push_result(cpu, insn, f80_one, 0);
}
bool sem_FLDZ(struct vcpu *cpu, const struct insn *insn)
{
    return x87_push_result(cpu, insn, (struct f80){ 0, 0 }, 0);
}
bool sem_FLDPI(struct vcpu *cpu, const struct insn *insn)
{
    return load_constant(cpu, insn, 0xc90fdaa22168c234, 0x4000, true);
}
bool sem_FLDL2T(struct vcpu *cpu, const struct insn *insn)
{
    return load_constant(cpu, insn, 0xd49a784bcd1b8afe, 0x4000, false);
}
bool sem_FLDL2E(struct vcpu *cpu, const struct insn *insn)
{
    return load_constant(cpu, insn, 0xb8aa3b295c17f0bb, 0x3fff, true);
}
bool sem_FLDLG2(struct vcpu *cpu, const struct insn *insn)
{
    return load_constant(cpu, insn, 0x9a209a84fbcff798, 0x3ffd, true);
}
bool sem_FLDLN2(struct vcpu *cpu, const struct insn *insn)
{
    return load_constant(cpu, insn, 0xb17217f7d1cf79ab, 0x3ffe, true);
}
