/*
 * Specialised handlers: shifts and rotates of registers, IMUL, BT of registers; and the choice among
 * all specialised handlers.
 */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("optimize-sibling-calls", "no-partial-inlining", "no-ipa-icf")
#endif

#include "cpu/interp_hot.h"

static ALWAYS_INLINE bool shift_by(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                   unsigned size, unsigned count)
{
    unsigned reg = insn->operand[0].reg;
    u64 a = gpr_read(cpu, reg, size);
    if (op == OP_ROL || op == OP_ROR) a = alu_rotate(cpu, op, a, count, size);
    else a = alu_shift(cpu, op, a, count, size);
    gpr_write(cpu, reg, size, a);
    return true;
}

/* The count is not zero. */
static ALWAYS_INLINE bool shift_imm(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                    unsigned size)
{
    return shift_by(cpu, insn, op, size, insn->imm & (size == 8 ? 63 : 31));
}

/* A count of zero is left to the generic way. */
static ALWAYS_INLINE bool shift_cl(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                   unsigned size)
{
    unsigned count = cpu->regs[RCX] & (size == 8 ? 63 : 31);
    return likely(count) && shift_by(cpu, insn, op, size, count);
}

// clang-format off
#define SHIFT(op)                                                                                  \
    HANDLER(op##_i_4, shift_imm(cpu, insn, OP_##op, 4))                                            \
    HANDLER(op##_i_8, shift_imm(cpu, insn, OP_##op, 8))                                            \
    HANDLER(op##_c_4, shift_cl(cpu, insn, OP_##op, 4))                                             \
    HANDLER(op##_c_8, shift_cl(cpu, insn, OP_##op, 8))
#define EACH_SHIFT(X) X(ROL) X(ROR) X(SHL) X(SHR) X(SAR)
EACH_SHIFT(SHIFT)
#define SHIFT_ROW(op) [OP_##op - OP_ROL] = {op##_i_4, op##_i_8, op##_c_4, op##_c_8},
static const insn_fn table_shift[][4] = {EACH_SHIFT(SHIFT_ROW)};
// clang-format on

static insn_fn pick_shift(const struct insn *insn)
{
    if (!operand_is_gpr(insn, 0) || insn->size < 4) return NULL;
    bool wide = insn->size == 8;
    if (insn->operand[1].kind != OPERAND_IMMEDIATE) return table_shift[insn->op - OP_ROL][2 + wide];
    if (!(insn->imm & (wide ? 63 : 31))) return NULL;
    return table_shift[insn->op - OP_ROL][wide];
}

static ALWAYS_INLINE bool imul(struct vcpu *cpu, const struct insn *insn, unsigned size, u64 b)
{
    u64 a = gpr_read(cpu, insn->operand[1].reg, size);
    gpr_write(cpu, insn->operand[0].reg, size, alu_imul(cpu, a, b, size));
    return true;
}
HANDLER(imul_rr_4, imul(cpu, insn, 4, gpr_read(cpu, insn->operand[2].reg, 4)))
HANDLER(imul_rr_8, imul(cpu, insn, 8, cpu->regs[insn->operand[2].reg]))
HANDLER(imul_ri_4, imul(cpu, insn, 4, insn->imm))
HANDLER(imul_ri_8, imul(cpu, insn, 8, insn->imm))

static insn_fn pick_imul(const struct insn *insn)
{
    if (!operand_is_gpr(insn, 1) || insn->size < 4) return NULL;
    if (operand_is_gpr(insn, 2)) return insn->size == 8 ? imul_rr_8 : imul_rr_4;
    if (insn->operand[2].kind != OPERAND_IMMEDIATE) return NULL;
    return insn->size == 8 ? imul_ri_8 : imul_ri_4;
}

static ALWAYS_INLINE bool bt(struct vcpu *cpu, const struct insn *insn, unsigned size, u64 n)
{
    flags_set_cf(cpu, cpu->regs[insn->operand[0].reg] >> (n & (size * 8 - 1)) & 1);
    return true;
}
HANDLER(bt_rr_4, bt(cpu, insn, 4, cpu->regs[insn->operand[1].reg]))
HANDLER(bt_rr_8, bt(cpu, insn, 8, cpu->regs[insn->operand[1].reg]))
HANDLER(bt_ri_4, bt(cpu, insn, 4, insn->imm))
HANDLER(bt_ri_8, bt(cpu, insn, 8, insn->imm))

static insn_fn pick_bt(const struct insn *insn)
{
    if (!operand_is_gpr(insn, 0) || insn->size < 4) return NULL;
    if (operand_is_gpr(insn, 1)) return insn->size == 8 ? bt_rr_8 : bt_rr_4;
    return insn->size == 8 ? bt_ri_8 : bt_ri_4;
}

insn_fn interp_pick_bits(const struct vcpu *cpu, const struct insn *insn)
{
    (void)cpu;
    switch (insn->op) {
    case OP_ROL:
    case OP_ROR:
    case OP_SHL:
    case OP_SHR:
    case OP_SAR: return pick_shift(insn);
    case OP_IMUL: return pick_imul(insn);
    case OP_BT: return pick_bt(insn);
    default: return NULL;
    }
}

/* --- the choice --- */

static bool is_near_transfer(unsigned op)
{
    return op >= OP_JMP && op <= OP_LOOPNE;
}

static insn_fn pick_hot(const struct vcpu *cpu, const struct insn *insn)
{
    if (insn->flags & INSN_LOCK) return NULL;
    insn_fn fn = interp_pick_alu(cpu, insn);
    if (!fn) fn = interp_pick_move(cpu, insn);
    if (!fn) fn = interp_pick_bits(cpu, insn);
    if (!fn) fn = interp_pick_branch(cpu, insn);
    if (!fn) fn = interp_pick_vector(cpu, insn);
    return fn;
}

/* What the row asks to be checked before the semantics run. */
static insn_fn pick_cold(const struct insn *insn)
{
    u32 attributes = insn_row(insn->row)->attributes;
    if (is_near_transfer(insn->op)) return interp_end_near;
    if (insn->flags & INSN_ENDS_BLOCK) return interp_end;
    return attributes & (ATTR_CPL0 | ATTR_PROTECTED) ? interp_checked : interp_slow;
}

insn_fn interp_handler(struct vcpu *cpu, const struct insn *insn)
{
    insn_fn fn = pick_hot(cpu, insn);
    return fn ? fn : pick_cold(insn);
}
_Static_assert(OP_LOOPNE == OP_JMP + 9, "near transfers are together in ops.def");
