/*
 * Specialised handlers: MOV, MOVZX, MOVSX, MOVSXD, LEA, CMOVcc, SETcc, PUSH, POP, LEAVE, CBW, CWD.
 */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("optimize-sibling-calls", "no-partial-inlining", "no-ipa-icf")
#endif

#include "cpu/interp_hot.h"

/* --- MOV --- */

static ALWAYS_INLINE bool mov_rr(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    gpr_write(cpu, insn->operand[0].reg, size, cpu->regs[insn->operand[1].reg]);
    return true;
}

static ALWAYS_INLINE bool mov_ri(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    gpr_write(cpu, insn->operand[0].reg, size, insn->imm);
    return true;
}

static ALWAYS_INLINE bool mov_load(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                   enum ea_kind kind)
{
    const void *from = hot_operand(cpu, insn, kind, size, false);
    if (unlikely(!from)) return false;
    gpr_write(cpu, insn->operand[0].reg, size, mem_load_host(from, size));
    return true;
}

static ALWAYS_INLINE bool mov_store(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                    enum ea_kind kind, u64 value)
{
    void *to = hot_operand(cpu, insn, kind, size, true);
    if (unlikely(!to)) return false;
    mem_store_host(to, value, size);
    return true;
}

// clang-format off
#define MOV_REGISTER(n, size)                                                                      \
    HANDLER(mov_rr_##n, mov_rr(cpu, insn, size))                                                   \
    HANDLER(mov_ri_##n, mov_ri(cpu, insn, size))
#define MOV_MEMORY(n, size, kind)                                                                  \
    HANDLER(mov_load_##n##_##kind, mov_load(cpu, insn, size, kind))                                \
    HANDLER(mov_store_##n##_##kind, mov_store(cpu, insn, size, kind, cpu->regs[insn->operand[1].reg])) \
    HANDLER(mov_imm_##n##_##kind, mov_store(cpu, insn, size, kind, insn->imm))
#define MOV_SIZE(n, size)                                                                          \
    MOV_REGISTER(n, size) MOV_MEMORY(n, size, EA_BASE) MOV_MEMORY(n, size, EA_INDEX)               \
    MOV_MEMORY(n, size, EA_32) MOV_MEMORY(n, size, EA_SEG)
MOV_SIZE(0, 1) MOV_SIZE(1, 2) MOV_SIZE(2, 4) MOV_SIZE(3, 8)
#define MOV_KINDS(form, n) {form##_##n##_EA_BASE, form##_##n##_EA_INDEX, form##_##n##_EA_32, form##_##n##_EA_SEG}
#define MOV_TABLE(form) {MOV_KINDS(form, 0), MOV_KINDS(form, 1), MOV_KINDS(form, 2), MOV_KINDS(form, 3)}
static const insn_fn table_mov_rr[4] = {mov_rr_0, mov_rr_1, mov_rr_2, mov_rr_3};
static const insn_fn table_mov_ri[4] = {mov_ri_0, mov_ri_1, mov_ri_2, mov_ri_3};
static const insn_fn table_mov_load[4][EA_KINDS] = MOV_TABLE(mov_load);
static const insn_fn table_mov_store[4][EA_KINDS] = MOV_TABLE(mov_store);
static const insn_fn table_mov_imm[4][EA_KINDS] = MOV_TABLE(mov_imm);
// clang-format on

static insn_fn pick_mov(const struct vcpu *cpu, const struct insn *insn)
{
    unsigned n = size_log2(insn->operand[0].size), to = insn->operand[0].kind;
    unsigned from = insn->operand[1].kind;
    if (to == OPERAND_GPR && from == OPERAND_GPR) return table_mov_rr[n];
    if (to == OPERAND_GPR && from == OPERAND_IMMEDIATE) return table_mov_ri[n];
    enum ea_kind kind = hot_kind(cpu, insn);
    if (kind == EA_NONE) return NULL;
    if (to == OPERAND_GPR && from == OPERAND_MEMORY) return table_mov_load[n][kind];
    if (to != OPERAND_MEMORY) return NULL;
    if (from == OPERAND_GPR) return table_mov_store[n][kind];
    return from == OPERAND_IMMEDIATE ? table_mov_imm[n][kind] : NULL;
}

/* --- MOVZX MOVSX MOVSXD --- */

static ALWAYS_INLINE u64 widen(u64 value, unsigned from, bool is_signed)
{
    return is_signed ? (u64)sign_extend(value, from) : value & size_mask(from);
}

static ALWAYS_INLINE bool widen_r(struct vcpu *cpu, const struct insn *insn, unsigned from,
                                  unsigned to, bool is_signed)
{
    gpr_write(cpu, insn->operand[0].reg, to,
              widen(cpu->regs[insn->operand[1].reg], from, is_signed));
    return true;
}

static ALWAYS_INLINE bool widen_m(struct vcpu *cpu, const struct insn *insn, enum ea_kind kind,
                                  unsigned from, unsigned to, bool is_signed)
{
    const void *at = hot_operand(cpu, insn, kind, from, false);
    if (unlikely(!at)) return false;
    gpr_write(cpu, insn->operand[0].reg, to, widen(mem_load_host(at, from), from, is_signed));
    return true;
}

// clang-format off
/* Zero extension to 32 bits is that to 64. */
#define WIDEN(name, from, to, is_signed)                                                           \
    HANDLER(name##_r, widen_r(cpu, insn, from, to, is_signed))                                     \
    HANDLER(name##_EA_BASE, widen_m(cpu, insn, EA_BASE, from, to, is_signed))                      \
    HANDLER(name##_EA_INDEX, widen_m(cpu, insn, EA_INDEX, from, to, is_signed))                    \
    HANDLER(name##_EA_32, widen_m(cpu, insn, EA_32, from, to, is_signed))                          \
    HANDLER(name##_EA_SEG, widen_m(cpu, insn, EA_SEG, from, to, is_signed))
#define EACH_WIDEN(X) X(zx1, 1, 8, false) X(zx2, 2, 8, false) X(sx1_4, 1, 4, true)                 \
    X(sx2_4, 2, 4, true) X(sx1_8, 1, 8, true) X(sx2_8, 2, 8, true) X(sx4_8, 4, 8, true)
EACH_WIDEN(WIDEN)
#define WIDEN_ROW(name, from, to, is_signed) {name##_EA_BASE, name##_EA_INDEX, name##_EA_32, name##_EA_SEG, name##_r},
static const insn_fn table_widen[][EA_KINDS + 1] = {EACH_WIDEN(WIDEN_ROW)};
// clang-format on

static insn_fn pick_widen(const struct vcpu *cpu, const struct insn *insn)
{
    unsigned from = insn->operand[1].size, to = insn->operand[0].size, row;
    if (to < 4 || from == 0 || from > 4 || from >= to) return NULL;
    if (insn->op == OP_MOVZX) row = from == 1 ? 0 : 1;
    else if (from == 4) row = 6;
    else row = (to == 4 ? 2 : 4) + (from == 2);
    if (operand_is_gpr(insn, 1)) return table_widen[row][EA_KINDS];
    if (insn->operand[1].kind != OPERAND_MEMORY) return NULL;
    enum ea_kind kind = hot_kind(cpu, insn);
    return kind == EA_NONE ? NULL : table_widen[row][kind];
}

/* --- LEA: no segment, so its kind depends on the address size only --- */

static ALWAYS_INLINE bool lea(struct vcpu *cpu, const struct insn *insn, enum ea_kind kind,
                              unsigned size)
{
    gpr_write(cpu, insn->operand[0].reg, size, hot_ea(cpu, insn, kind));
    return true;
}
HANDLER(lea_base_4, lea(cpu, insn, EA_BASE, 4))
HANDLER(lea_base_8, lea(cpu, insn, EA_BASE, 8))
HANDLER(lea_index_4, lea(cpu, insn, EA_INDEX, 4))
HANDLER(lea_index_8, lea(cpu, insn, EA_INDEX, 8))

static insn_fn pick_lea(const struct insn *insn)
{
    bool base = insn->index == REG_ZERO;
    if (insn->size == 4 && insn->address_size >= 4) return base ? lea_base_4 : lea_index_4;
    if (insn->size == 8 && insn->address_size == 8) return base ? lea_base_8 : lea_index_8;
    return NULL;
}

/* --- by condition --- */

static ALWAYS_INLINE bool cmov_rr(struct vcpu *cpu, const struct insn *insn, unsigned cc,
                                  unsigned size)
{
    unsigned to = insn->operand[0].reg;
    u64 value = cpu->regs[insn->operand[1].reg], old = cpu->regs[to];
    gpr_write(cpu, to, size, flags_condition(cpu, cc) ? value : old);
    return true;
}

static ALWAYS_INLINE bool setcc_r(struct vcpu *cpu, const struct insn *insn, unsigned cc)
{
    gpr_write(cpu, insn->operand[0].reg, 1, flags_condition(cpu, cc));
    return true;
}

// clang-format off
#define EACH_CC(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define BY_CC(cc)                                                                                  \
    HANDLER(cmov_4_##cc, cmov_rr(cpu, insn, cc, 4))                                                \
    HANDLER(cmov_8_##cc, cmov_rr(cpu, insn, cc, 8))                                                \
    HANDLER(setcc_##cc, setcc_r(cpu, insn, cc))
EACH_CC(BY_CC)
#define CMOV_4(cc) cmov_4_##cc,
#define CMOV_8(cc) cmov_8_##cc,
#define SETCC(cc) setcc_##cc,
static const insn_fn table_cmov_4[16] = {EACH_CC(CMOV_4)};
static const insn_fn table_cmov_8[16] = {EACH_CC(CMOV_8)};
static const insn_fn table_setcc[16] = {EACH_CC(SETCC)};
// clang-format on

static insn_fn pick_condition(const struct insn *insn)
{
    unsigned cc = insn->cc & 15;
    if (!operand_is_gpr(insn, 0)) return NULL;
    if (insn->op == OP_SETcc) return table_setcc[cc];
    if (!operand_is_gpr(insn, 1) || insn->size < 4) return NULL;
    return insn->size == 4 ? table_cmov_4[cc] : table_cmov_8[cc];
}

/* --- the stack: flat, pointer and operand of one size --- */

static ALWAYS_INLINE bool push(struct vcpu *cpu, unsigned size, u64 value)
{
    u64 sp = (cpu->regs[RSP] - size) & size_mask(size);
    void *to = hot_pointer(cpu, sp, size, true);
    if (unlikely(!to)) return false;
    mem_store_host(to, value, size);
    cpu->regs[RSP] = sp;
    return true;
}

static ALWAYS_INLINE bool pop_r(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    u64 sp = cpu->regs[RSP] & size_mask(size);
    const void *from = hot_pointer(cpu, sp, size, false);
    if (unlikely(!from)) return false;
    u64 value = mem_load_host(from, size);
    cpu->regs[RSP] = (sp + size) & size_mask(size);
    cpu->regs[insn->operand[0].reg] = value;
    return true;
}

static ALWAYS_INLINE bool leave(struct vcpu *cpu, unsigned size)
{
    u64 bp = cpu->regs[RBP] & size_mask(size);
    const void *from = hot_pointer(cpu, bp, size, false);
    if (unlikely(!from)) return false;
    cpu->regs[RBP] = mem_load_host(from, size);
    cpu->regs[RSP] = (bp + size) & size_mask(size);
    return true;
}

HANDLER(push_r_4, push(cpu, 4, cpu->regs[insn->operand[0].reg]))
HANDLER(push_r_8, push(cpu, 8, cpu->regs[insn->operand[0].reg]))
HANDLER(push_i_4, push(cpu, 4, insn->imm))
HANDLER(push_i_8, push(cpu, 8, insn->imm))
HANDLER(pop_r_4, pop_r(cpu, insn, 4))
HANDLER(pop_r_8, pop_r(cpu, insn, 8))
HANDLER(leave_4, leave(cpu, 4))
HANDLER(leave_8, leave(cpu, 8))

static insn_fn pick_stack(const struct vcpu *cpu, const struct insn *insn)
{
    if (!(cpu->mode_key & MODE_FLAT) || cpu->stack_size != insn->size || insn->size < 4)
        return NULL;
    bool wide = insn->size == 8;
    if (insn->op == OP_LEAVE) return wide ? leave_8 : leave_4;
    if (operand_is_gpr(insn, 0)) {
        if (insn->op == OP_PUSH) return wide ? push_r_8 : push_r_4;
        return wide ? pop_r_8 : pop_r_4;
    }
    if (insn->op == OP_PUSH && insn->operand[0].kind == OPERAND_IMMEDIATE)
        return wide ? push_i_8 : push_i_4;
    return NULL;
}

/* --- CBW CWD NOP --- */

static ALWAYS_INLINE bool cbw(struct vcpu *cpu, unsigned size)
{
    gpr_write(cpu, RAX, size, (u64)sign_extend(cpu->regs[RAX], size / 2));
    return true;
}

static ALWAYS_INLINE bool cwd(struct vcpu *cpu, unsigned size)
{
    gpr_write(cpu, RDX, size, (u64)(sign_extend(cpu->regs[RAX], size) >> 63));
    return true;
}
HANDLER(cbw_4, cbw(cpu, 4))
HANDLER(cbw_8, cbw(cpu, 8))
HANDLER(cwd_4, cwd(cpu, 4))
HANDLER(cwd_8, cwd(cpu, 8))
HANDLER(nop, true)

insn_fn interp_pick_move(const struct vcpu *cpu, const struct insn *insn)
{
    switch (insn->op) {
    case OP_MOV: return pick_mov(cpu, insn);
    case OP_MOVZX:
    case OP_MOVSX:
    case OP_MOVSXD: return pick_widen(cpu, insn);
    case OP_LEA: return pick_lea(insn);
    case OP_CMOVcc:
    case OP_SETcc: return pick_condition(insn);
    case OP_PUSH:
    case OP_POP:
    case OP_LEAVE: return pick_stack(cpu, insn);
    case OP_CBW: return insn->size == 4 ? cbw_4 : insn->size == 8 ? cbw_8 : NULL;
    case OP_CWD: return insn->size == 4 ? cwd_4 : insn->size == 8 ? cwd_8 : NULL;
    case OP_NOP: return nop;
    default: return NULL;
    }
}
