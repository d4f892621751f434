/*
 * Specialised handlers: ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT. The pickers' tables
 * are by operation, size and address kind.
 */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("optimize-sibling-calls", "no-partial-inlining", "no-ipa-icf")
#endif

#include "cpu/interp_hot.h"

static ALWAYS_INLINE bool op_writes(unsigned op)
{
    return op != OP_CMP && op != OP_TEST;
}

/* Register destination; B is the other operand. */
static ALWAYS_INLINE bool alu_to_register(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                          unsigned size, u64 b)
{
    unsigned reg = insn->operand[0].reg;
    u64 a = gpr_read(cpu, reg, size), r = alu_result(cpu, op, a, b);
    if (op_writes(op)) gpr_write(cpu, reg, size, r);
    alu_flags(cpu, op, a, b, r, size);
    return true;
}

static ALWAYS_INLINE bool alu_rr(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                 unsigned size)
{
    return alu_to_register(cpu, insn, op, size, gpr_read(cpu, insn->operand[1].reg, size));
}

static ALWAYS_INLINE bool alu_ri(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                 unsigned size)
{
    return alu_to_register(cpu, insn, op, size, insn->imm);
}

static ALWAYS_INLINE bool alu_rm(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                 unsigned size, enum ea_kind kind)
{
    const void *from = hot_operand(cpu, insn, kind, size, false);
    return likely(from != NULL) && alu_to_register(cpu, insn, op, size, mem_load_host(from, size));
}

static ALWAYS_INLINE bool alu_to_memory(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                        unsigned size, enum ea_kind kind, u64 b)
{
    void *at = hot_operand(cpu, insn, kind, size, op_writes(op));
    if (unlikely(!at)) return false;
    u64 a = mem_load_host(at, size), r = alu_result(cpu, op, a, b);
    if (op_writes(op)) mem_store_host(at, r, size);
    alu_flags(cpu, op, a, b, r, size);
    return true;
}

static ALWAYS_INLINE bool alu_mr(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                 unsigned size, enum ea_kind kind)
{
    return alu_to_memory(cpu, insn, op, size, kind, gpr_read(cpu, insn->operand[1].reg, size));
}

static ALWAYS_INLINE bool alu_mi(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                 unsigned size, enum ea_kind kind)
{
    return alu_to_memory(cpu, insn, op, size, kind, insn->imm);
}

// clang-format off
#define REGISTER_FORMS(op, n, size)                                                                \
    HANDLER(op##_rr_##n, alu_rr(cpu, insn, OP_##op, size))                                         \
    HANDLER(op##_ri_##n, alu_ri(cpu, insn, OP_##op, size))
#define MEMORY_FORMS(op, n, size, kind)                                                            \
    HANDLER(op##_rm_##n##_##kind, alu_rm(cpu, insn, OP_##op, size, kind))                          \
    HANDLER(op##_mr_##n##_##kind, alu_mr(cpu, insn, OP_##op, size, kind))                          \
    HANDLER(op##_mi_##n##_##kind, alu_mi(cpu, insn, OP_##op, size, kind))
#define FORMS(op)                                                                                  \
    REGISTER_FORMS(op, 0, 1) REGISTER_FORMS(op, 1, 2)                                              \
    REGISTER_FORMS(op, 2, 4) REGISTER_FORMS(op, 3, 8)                                              \
    MEMORY_FORMS(op, 0, 1, EA_INDEX) MEMORY_FORMS(op, 0, 1, EA_32)                                 \
    MEMORY_FORMS(op, 1, 2, EA_INDEX) MEMORY_FORMS(op, 1, 2, EA_32)                                 \
    MEMORY_FORMS(op, 2, 4, EA_BASE) MEMORY_FORMS(op, 2, 4, EA_INDEX)                               \
    MEMORY_FORMS(op, 2, 4, EA_32) MEMORY_FORMS(op, 2, 4, EA_SEG)                                   \
    MEMORY_FORMS(op, 3, 8, EA_BASE) MEMORY_FORMS(op, 3, 8, EA_INDEX)                               \
    MEMORY_FORMS(op, 3, 8, EA_32) MEMORY_FORMS(op, 3, 8, EA_SEG)
#define EACH_ALU(X) X(ADD) X(OR) X(ADC) X(SBB) X(AND) X(SUB) X(XOR) X(CMP) X(TEST)

EACH_ALU(FORMS)

/* EA_BASE is EA_INDEX without an index: the small sizes have only the latter. */
#define ROW(op, form)                                                                              \
    [OP_##op] = {                                                                                  \
        {op##_##form##_0_EA_INDEX, op##_##form##_0_EA_INDEX, op##_##form##_0_EA_32},               \
        {op##_##form##_1_EA_INDEX, op##_##form##_1_EA_INDEX, op##_##form##_1_EA_32},               \
        {op##_##form##_2_EA_BASE, op##_##form##_2_EA_INDEX, op##_##form##_2_EA_32, op##_##form##_2_EA_SEG}, \
        {op##_##form##_3_EA_BASE, op##_##form##_3_EA_INDEX, op##_##form##_3_EA_32, op##_##form##_3_EA_SEG}},
#define ROW_RM(op) ROW(op, rm)
#define ROW_MR(op) ROW(op, mr)
#define ROW_MI(op) ROW(op, mi)
#define ROW_RR(op) [OP_##op] = {op##_rr_0, op##_rr_1, op##_rr_2, op##_rr_3},
#define ROW_RI(op) [OP_##op] = {op##_ri_0, op##_ri_1, op##_ri_2, op##_ri_3},
static const insn_fn table_rr[][4] = {EACH_ALU(ROW_RR)};
static const insn_fn table_ri[][4] = {EACH_ALU(ROW_RI)};
static const insn_fn table_rm[][4][EA_KINDS] = {EACH_ALU(ROW_RM)};
static const insn_fn table_mr[][4][EA_KINDS] = {EACH_ALU(ROW_MR)};
static const insn_fn table_mi[][4][EA_KINDS] = {EACH_ALU(ROW_MI)};
// clang-format on

/* XOR and SUB of a register with itself. */
static ALWAYS_INLINE bool zero_register(struct vcpu *cpu, const struct insn *insn)
{
    cpu->regs[insn->operand[0].reg] = 0;
    cpu->lf_result = 0;
    cpu->lf_aux = 0;
    return true;
}
HANDLER(zero, zero_register(cpu, insn))

/* --- INC DEC NEG NOT --- */

static ALWAYS_INLINE u64 unary(struct vcpu *cpu, unsigned op, u64 a, unsigned size)
{
    u64 r = op == OP_INC ? a + 1 : op == OP_DEC ? a - 1 : op == OP_NEG ? -a : ~a;
    if (op == OP_INC || op == OP_DEC) alu_step_flags(cpu, r, op == OP_INC, size);
    else if (op == OP_NEG) flags_sub(cpu, 0, a, r, size);
    return r;
}

static ALWAYS_INLINE bool unary_r(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                  unsigned size)
{
    unsigned reg = insn->operand[0].reg;
    gpr_write(cpu, reg, size, unary(cpu, op, gpr_read(cpu, reg, size), size));
    return true;
}

static ALWAYS_INLINE bool unary_m(struct vcpu *cpu, const struct insn *insn, unsigned op,
                                  unsigned size, enum ea_kind kind)
{
    void *at = hot_operand(cpu, insn, kind, size, true);
    if (unlikely(!at)) return false;
    mem_store_host(at, unary(cpu, op, mem_load_host(at, size), size), size);
    return true;
}

// clang-format off
#define UNARY(op)                                                                                  \
    HANDLER(op##_r_0, unary_r(cpu, insn, OP_##op, 1))                                              \
    HANDLER(op##_r_1, unary_r(cpu, insn, OP_##op, 2))                                              \
    HANDLER(op##_r_2, unary_r(cpu, insn, OP_##op, 4))                                              \
    HANDLER(op##_r_3, unary_r(cpu, insn, OP_##op, 8))                                              \
    HANDLER(op##_m_2_EA_INDEX, unary_m(cpu, insn, OP_##op, 4, EA_INDEX))                           \
    HANDLER(op##_m_2_EA_32, unary_m(cpu, insn, OP_##op, 4, EA_32))                                 \
    HANDLER(op##_m_2_EA_SEG, unary_m(cpu, insn, OP_##op, 4, EA_SEG))                               \
    HANDLER(op##_m_3_EA_INDEX, unary_m(cpu, insn, OP_##op, 8, EA_INDEX))                           \
    HANDLER(op##_m_3_EA_32, unary_m(cpu, insn, OP_##op, 8, EA_32))                                 \
    HANDLER(op##_m_3_EA_SEG, unary_m(cpu, insn, OP_##op, 8, EA_SEG))
#define EACH_UNARY(X) X(INC) X(DEC) X(NEG) X(NOT)
EACH_UNARY(UNARY)
#define UNARY_R(op) [OP_##op - OP_NOT] = {op##_r_0, op##_r_1, op##_r_2, op##_r_3},
#define UNARY_M(op)                                                                                \
    [OP_##op - OP_NOT] = {                                                                         \
        {NULL}, {NULL},                                                                            \
        {op##_m_2_EA_INDEX, op##_m_2_EA_INDEX, op##_m_2_EA_32, op##_m_2_EA_SEG},                   \
        {op##_m_3_EA_INDEX, op##_m_3_EA_INDEX, op##_m_3_EA_32, op##_m_3_EA_SEG}},
static const insn_fn table_unary_r[4][4] = {EACH_UNARY(UNARY_R)};
static const insn_fn table_unary_m[4][4][EA_KINDS] = {EACH_UNARY(UNARY_M)};
// clang-format on

static insn_fn pick_unary(const struct vcpu *cpu, const struct insn *insn)
{
    unsigned n = size_log2(insn->size), op = insn->op - OP_NOT;
    if (operand_is_gpr(insn, 0)) return table_unary_r[op][n];
    if (insn->operand[0].kind != OPERAND_MEMORY) return NULL;
    enum ea_kind kind = hot_kind(cpu, insn);
    return kind == EA_NONE ? NULL : table_unary_m[op][n][kind];
}

insn_fn interp_pick_alu(const struct vcpu *cpu, const struct insn *insn)
{
    const struct operand *to = &insn->operand[0], *from = &insn->operand[1];
    unsigned n = size_log2(insn->size), op = insn->op;
    if (op >= OP_NOT && op <= OP_DEC) return pick_unary(cpu, insn);
    if (op > OP_TEST) return NULL;
    if (to->kind == OPERAND_GPR && from->kind == OPERAND_GPR) {
        if ((op == OP_XOR || op == OP_SUB) && to->reg == from->reg && insn->size >= 4) return zero;
        return table_rr[op][n];
    }
    if (to->kind == OPERAND_GPR && from->kind == OPERAND_IMMEDIATE) return table_ri[op][n];
    enum ea_kind kind = hot_kind(cpu, insn);
    if (kind == EA_NONE) return NULL;
    if (to->kind == OPERAND_GPR && from->kind == OPERAND_MEMORY) return table_rm[op][n][kind];
    if (to->kind != OPERAND_MEMORY) return NULL;
    if (from->kind == OPERAND_GPR) return table_mr[op][n][kind];
    return from->kind == OPERAND_IMMEDIATE ? table_mi[op][n][kind] : NULL;
}
_Static_assert(OP_ADD == 0 && OP_TEST == 8 && OP_NEG == OP_NOT + 1 && OP_DEC == OP_NOT + 3,
               "ops.def's order is the tables'");
