/*
 * Specialised handlers: Jcc, JMP, CALL, RET and their indirect forms; comparisons fused with the
 * conditional branch behind them.
 */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("optimize-sibling-calls", "no-partial-inlining", "no-ipa-icf")
#endif

#include "cpu/interp_hot.h"

// clang-format off
#define EACH_CC(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
// clang-format on

/* --- direct --- */

static bool jmp(struct vcpu *cpu, const struct insn *insn)
{
    INTERP_BRANCH;
}

// clang-format off
#define JCC(cc)                                                                                    \
    static bool jcc_##cc(struct vcpu *cpu, const struct insn *insn)                                \
    {                                                                                              \
        if (!flags_condition(cpu, cc)) INTERP_NEXT;                                                \
        INTERP_BRANCH;                                                                             \
    }
EACH_CC(JCC)
#define JCC_NAME(cc) jcc_##cc,
static const insn_fn table_jcc[16] = {EACH_CC(JCC_NAME)};
// clang-format on

static ALWAYS_INLINE bool push_next(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    u64 sp = (cpu->regs[RSP] - size) & size_mask(size);
    void *to = hot_pointer(cpu, sp, size, true);
    if (unlikely(!to)) return false;
    mem_store_host(to, cpu->regs[REG_IP_BASE] + insn->pos + insn->length, size);
    cpu->regs[RSP] = sp;
    return true;
}

#define CALL_DIRECT(size)                                                                          \
    static bool call_##size(struct vcpu *cpu, const struct insn *insn)                             \
    {                                                                                              \
        if (unlikely(!push_next(cpu, insn, size)))                                                 \
            INTERP_MUSTTAIL return interp_end_near(cpu, insn);                                     \
        INTERP_BRANCH;                                                                             \
    }
CALL_DIRECT(4)
CALL_DIRECT(8)

/* --- indirect --- */

/* On to TARGET; false: it is not canonical, the generic way raises #GP. */
static ALWAYS_INLINE bool set_target(struct vcpu *cpu, const struct insn *insn, u64 target,
                                     unsigned size)
{
    if (size == 8 && unlikely(!cpu_is_canonical(target))) return false;
    cpu->rip = target;
    cpu->icount += INSN_INDEX(insn) + 1;
    return true;
}

static ALWAYS_INLINE bool ret(struct vcpu *cpu, const struct insn *insn, unsigned size, u64 extra)
{
    u64 sp = cpu->regs[RSP] & size_mask(size);
    const void *from = hot_pointer(cpu, sp, size, false);
    if (unlikely(!from) || !set_target(cpu, insn, mem_load_host(from, size), size)) return false;
    cpu->regs[RSP] = (sp + size + extra) & size_mask(size);
    return true;
}

static ALWAYS_INLINE bool jmp_m(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                enum ea_kind kind)
{
    const void *from = hot_operand(cpu, insn, kind, size, false);
    return likely(from != NULL) && set_target(cpu, insn, mem_load_host(from, size), size);
}

static ALWAYS_INLINE bool call_to(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                  u64 target)
{
    if (size == 8 && unlikely(!cpu_is_canonical(target))) return false;
    return likely(push_next(cpu, insn, size)) && set_target(cpu, insn, target, size);
}

static ALWAYS_INLINE bool call_m(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                 enum ea_kind kind)
{
    const void *from = hot_operand(cpu, insn, kind, size, false);
    return likely(from != NULL) && call_to(cpu, insn, size, mem_load_host(from, size));
}

#define INDIRECT(name, done)                                                                       \
    static bool name(struct vcpu *cpu, const struct insn *insn)                                    \
    {                                                                                              \
        if (unlikely(!(done))) INTERP_MUSTTAIL return interp_end_near(cpu, insn);                  \
        INTERP_MUSTTAIL return interp_next(cpu, insn);                                             \
    }
INDIRECT(ret_4, ret(cpu, insn, 4, 0))
INDIRECT(ret_8, ret(cpu, insn, 8, 0))
INDIRECT(ret_imm_4, ret(cpu, insn, 4, (u16)insn->imm))
INDIRECT(ret_imm_8, ret(cpu, insn, 8, (u16)insn->imm))
INDIRECT(jmp_r_4, set_target(cpu, insn, (u32)cpu->regs[insn->operand[0].reg], 4))
INDIRECT(jmp_r_8, set_target(cpu, insn, cpu->regs[insn->operand[0].reg], 8))
INDIRECT(jmp_m_4, jmp_m(cpu, insn, 4, EA_32))
INDIRECT(jmp_m_8, jmp_m(cpu, insn, 8, EA_INDEX))
INDIRECT(call_r_4, call_to(cpu, insn, 4, (u32)cpu->regs[insn->operand[0].reg]))
INDIRECT(call_r_8, call_to(cpu, insn, 8, cpu->regs[insn->operand[0].reg]))
INDIRECT(call_m_4, call_m(cpu, insn, 4, EA_32))
INDIRECT(call_m_8, call_m(cpu, insn, 8, EA_INDEX))

static insn_fn pick_indirect(const struct vcpu *cpu, const struct insn *insn)
{
    bool wide = insn->size == 8, call = insn->op == OP_CALL_INDIRECT;
    if (operand_is_gpr(insn, 0)) {
        if (call) return wide ? call_r_8 : call_r_4;
        return wide ? jmp_r_8 : jmp_r_4;
    }
    enum ea_kind kind = hot_kind(cpu, insn);
    if (wide && (kind == EA_BASE || kind == EA_INDEX)) return call ? call_m_8 : jmp_m_8;
    if (!wide && kind == EA_32) return call ? call_m_4 : jmp_m_4;
    return NULL;
}

/* Only where rIP, operands and the stack pointer are of one size: 64-bit and flat 32-bit code. */
insn_fn interp_pick_branch(const struct vcpu *cpu, const struct insn *insn)
{
    unsigned natural = cpu->code_size == CODE64 ? 8 : 4;
    if (!(cpu->mode_key & MODE_FLAT) || cpu->code_size == CODE16 || insn->size != natural)
        return NULL;
    bool wide = natural == 8, stack = cpu->stack_size == natural;
    switch (insn->op) {
    case OP_JMP: return jmp;
    case OP_Jcc: return table_jcc[insn->cc & 15];
    case OP_CALL: return !stack ? NULL : wide ? call_8 : call_4;
    case OP_JMP_INDIRECT: return pick_indirect(cpu, insn);
    case OP_CALL_INDIRECT: return stack ? pick_indirect(cpu, insn) : NULL;
    case OP_RET:
        if (!stack) return NULL;
        if (insn->operand[0].kind == OPERAND_IMMEDIATE) return wide ? ret_imm_8 : ret_imm_4;
        return wide ? ret_8 : ret_4;
    default: return NULL;
    }
}

/* --- CMP or TEST with the Jcc behind it --- */

/* The condition straight from the operands, which is shorter than from the flags. */
static ALWAYS_INLINE bool compare_condition(unsigned op, u64 a, u64 b, unsigned size, unsigned cc)
{
    i64 x = sign_extend(a, size), y = sign_extend(b, size);
    bool r;
    if (op == OP_TEST) x &= y, y = 0, a = (u64)x & size_mask(size), b = 0;
    switch (cc >> 1) {
    case 1: r = (a & size_mask(size)) < (b & size_mask(size)); break;
    case 2: r = x == y; break;
    case 3: r = (a & size_mask(size)) <= (b & size_mask(size)); break;
    case 4: r = sign_extend((u64)x - (u64)y, size) < 0; break;
    case 6: r = x < y; break;
    default: r = x <= y; break;
    }
    return r ^ (cc & 1);
}

/* Both operands; false: slow. */
enum fused_form { FUSED_RR, FUSED_RI, FUSED_RM, FUSED_MR, FUSED_MI, FUSED_FORMS };
static ALWAYS_INLINE bool fused_operands(const struct vcpu *cpu, const struct insn *insn,
                                         enum fused_form form, unsigned size, u64 *a, u64 *b)
{
    const void *at = NULL;
    if (form >= FUSED_RM) {
        at = hot_operand(cpu, insn, EA_INDEX, size, false);
        if (unlikely(!at)) return false;
    }
    *a = form >= FUSED_MR ? mem_load_host(at, size) : gpr_read(cpu, insn->operand[0].reg, size);
    *b = form == FUSED_RR || form == FUSED_MR ? gpr_read(cpu, insn->operand[1].reg, size)
         : form == FUSED_RM                   ? mem_load_host(at, size)
                                              : insn->imm;
    return true;
}

// clang-format off
#define FUSED(op, form, size, cc)                                                                  \
    static bool op##_##form##_##size##_##cc(struct vcpu *cpu, const struct insn *insn)             \
    {                                                                                              \
        u64 a, b;                                                                                  \
        if (unlikely(!fused_operands(cpu, insn, form, size, &a, &b)))                              \
            INTERP_MUSTTAIL return interp_slow(cpu, insn);                                         \
        alu_flags(cpu, OP_##op, a, b, alu_result(cpu, OP_##op, a, b), size);                       \
        insn++;                                                                                    \
        if (!compare_condition(OP_##op, a, b, size, cc)) INTERP_NEXT;                              \
        INTERP_BRANCH;                                                                             \
    }
/* Not O and P. */
#define EACH_FUSED_CC(X, op, form, size)                                                           \
    X(op, form, size, 2) X(op, form, size, 3) X(op, form, size, 4) X(op, form, size, 5)            \
    X(op, form, size, 6) X(op, form, size, 7) X(op, form, size, 8) X(op, form, size, 9)            \
    X(op, form, size, 12) X(op, form, size, 13) X(op, form, size, 14) X(op, form, size, 15)
#define EACH_FUSED_SIZE(X, op, form)                                                               \
    EACH_FUSED_CC(X, op, form, 1) EACH_FUSED_CC(X, op, form, 4) EACH_FUSED_CC(X, op, form, 8)
#define EACH_FUSED(X)                                                                              \
    EACH_FUSED_SIZE(X, CMP, FUSED_RR) EACH_FUSED_SIZE(X, CMP, FUSED_RI)                            \
    EACH_FUSED_SIZE(X, CMP, FUSED_RM) EACH_FUSED_SIZE(X, CMP, FUSED_MR)                            \
    EACH_FUSED_SIZE(X, CMP, FUSED_MI)                                                              \
    EACH_FUSED_SIZE(X, TEST, FUSED_RR) EACH_FUSED_SIZE(X, TEST, FUSED_RI)                          \
    EACH_FUSED_SIZE(X, TEST, FUSED_MR) EACH_FUSED_SIZE(X, TEST, FUSED_MI)
EACH_FUSED(FUSED)
#define FUSED_ROW(op, form, size, cc) [OP_##op == OP_TEST][form][(size) / 4][cc] = op##_##form##_##size##_##cc,
static const insn_fn table_fused[2][FUSED_FORMS][3][16] = {EACH_FUSED(FUSED_ROW)};
// clang-format on

static bool fused_form(const struct vcpu *cpu, const struct insn *insn, enum fused_form *form)
{
    unsigned to = insn->operand[0].kind, from = insn->operand[1].kind;
    if (to == OPERAND_GPR && from == OPERAND_GPR) *form = FUSED_RR;
    else if (to == OPERAND_GPR && from == OPERAND_IMMEDIATE) *form = FUSED_RI;
    else if (to == OPERAND_GPR && from == OPERAND_MEMORY) *form = FUSED_RM;
    else if (to == OPERAND_MEMORY && from == OPERAND_GPR) *form = FUSED_MR;
    else if (to == OPERAND_MEMORY && from == OPERAND_IMMEDIATE) *form = FUSED_MI;
    else return false;
    if (*form < FUSED_RM) return true;
    enum ea_kind kind = hot_kind(cpu, insn);
    return kind == EA_BASE || kind == EA_INDEX;
}

insn_fn interp_fused(struct vcpu *cpu, const struct insn *insn)
{
    enum fused_form form;
    if ((insn->op != OP_CMP && insn->op != OP_TEST) || insn->size == 2) return NULL;
    if (insn[1].fn != table_jcc[insn[1].cc & 15] || !fused_form(cpu, insn, &form)) return NULL;
    return table_fused[insn->op == OP_TEST][form][insn->size / 4][insn[1].cc & 15];
}
