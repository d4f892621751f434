/*
 * Specialised handlers: packed integer arithmetic, comparison and logic of whole registers (simd_int.def),
 * the second source in memory or not; and PMOVMSKB. libc's string functions are made of them.
 */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("optimize-sibling-calls", "no-partial-inlining", "no-ipa-icf")
#endif

#include "cpu/interp_hot.h"
#include "cpu/simd.h"

static ALWAYS_INLINE bool packed_r(struct vcpu *cpu, const struct insn *insn, simd_fn2 each,
                                   unsigned size, bool vex)
{
    union vec r;
    if (unlikely(!vector_ready(cpu, vex))) return false;
    each(&r, cpu_vec(cpu, insn->operand[1].reg), cpu_vec(cpu, insn->operand[2].reg), size);
    vector_put(cpu, insn, size, vex, r.q);
    return true;
}

static ALWAYS_INLINE bool packed_m(struct vcpu *cpu, const struct insn *insn, simd_fn2 each,
                                   unsigned size, bool vex)
{
    union vec r, y;
    if (unlikely(!vector_ready(cpu, vex))) return false;
    const u8 *from = hot_operand(cpu, insn, EA_INDEX, size, false);
    if (unlikely(!from) || (!vex && unlikely((uintptr_t)from & (size - 1)))) return false;
    for (unsigned i = 0; i < size / 8; i++) y.q[i] = guest_ld64(from + i * 8);
    each(&r, cpu_vec(cpu, insn->operand[1].reg), &y, size);
    vector_put(cpu, insn, size, vex, r.q);
    return true;
}

// clang-format off
#define FORMS(NAME, AS)                                                                            \
    VECTOR_HANDLER(NAME##_r_0, packed_r(cpu, insn, each_##AS, 16, false))                          \
    VECTOR_HANDLER(NAME##_r_1, packed_r(cpu, insn, each_##AS, 16, true))                           \
    VECTOR_HANDLER(NAME##_r_2, packed_r(cpu, insn, each_##AS, 32, true))                           \
    VECTOR_HANDLER(NAME##_m_0, packed_m(cpu, insn, each_##AS, 16, false))                          \
    VECTOR_HANDLER(NAME##_m_1, packed_m(cpu, insn, each_##AS, 16, true))                           \
    VECTOR_HANDLER(NAME##_m_2, packed_m(cpu, insn, each_##AS, 32, true))
#define PACKED(NAME, lane, type, expression) SIMD_EACH(NAME, lane, type, expression) FORMS(NAME, NAME)
#define PACKED_SAME(NAME, AS)
#include "cpu/simd_int.def"
#undef PACKED
#undef PACKED_SAME

/* By second source (register, memory) and width. */
#define ROW(NAME, AS)                                                                              \
    [OP_##NAME] = {{AS##_r_0, AS##_r_1, AS##_r_2}, {AS##_m_0, AS##_m_1, AS##_m_2}},
static const insn_fn table_packed[OP_COUNT][2][3] = {
#define PACKED(NAME, lane, type, expression) ROW(NAME, NAME)
#define PACKED_SAME(NAME, AS) ROW(NAME, AS)
#include "cpu/simd_int.def"
#undef PACKED
#undef PACKED_SAME
};
// clang-format on

static ALWAYS_INLINE bool movmskb(struct vcpu *cpu, const struct insn *insn, unsigned size, bool vex)
{
    if (unlikely(!vector_ready(cpu, vex))) return false;
    const union vec *x = cpu_vec(cpu, insn->operand[1].reg);
    u32 bits = 0;
    for (unsigned i = 0; i < size / 8; i++) bits |= byte_signs(vec_q(x, i)) << i * 8;
    cpu->regs[insn->operand[0].reg] = bits;
    return true;
}
VECTOR_HANDLER(movmskb_0, movmskb(cpu, insn, 16, false))
VECTOR_HANDLER(movmskb_1, movmskb(cpu, insn, 16, true))
VECTOR_HANDLER(movmskb_2, movmskb(cpu, insn, 32, true))
static const insn_fn table_movmskb[3] = {movmskb_0, movmskb_1, movmskb_2};

insn_fn interp_pick_packed(const struct vcpu *cpu, const struct insn *insn)
{
    if (insn->vl != 16 && insn->vl != 32) return NULL;
    unsigned width = !(insn->flags & INSN_VEX) ? 0 : insn->vl == 16 ? 1 : 2;
    const struct operand *o = insn->operand;
    if (insn->op == OP_PMOVMSKB) return o[1].kind == OPERAND_VECTOR ? table_movmskb[width] : NULL;
    if (o[0].kind != OPERAND_VECTOR || o[1].kind != OPERAND_VECTOR) return NULL;
    if (o[2].kind == OPERAND_VECTOR) return table_packed[insn->op][0][width];
    if (o[2].kind != OPERAND_MEMORY) return NULL;
    enum ea_kind kind = hot_kind(cpu, insn);
    return kind == EA_BASE || kind == EA_INDEX ? table_packed[insn->op][1][width] : NULL;
}
