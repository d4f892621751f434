/*
 * Specialised handlers: the plain vector moves (MOVUPS MOVUPD MOVAPS MOVAPD MOVDQA MOVDQU and their
 * VEX forms), the clearing of a register by PXOR or XORPS; and the availability checks of all other
 * SSE, AVX, MMX and x87 instructions in their short form. What the short form does not pass goes to
 * interp_checked, which finds out the exception.
 */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("optimize-sibling-calls", "no-partial-inlining", "no-ipa-icf")
#endif

#include "cpu/interp_hot.h"

#define FSW_SUMMARY 0x80 /* an unmasked x87 exception is pending */

#define CHECKED(name, ready)                                                                       \
    static bool name(struct vcpu *cpu, const struct insn *insn)                                    \
    {                                                                                              \
        if (unlikely(!(ready))) INTERP_MUSTTAIL return interp_checked(cpu, insn);                  \
        INTERP_MUSTTAIL return interp_slow(cpu, insn);                                             \
    }
CHECKED(checked_sse, vector_ready(cpu, false))
CHECKED(checked_avx, vector_ready(cpu, true))
CHECKED(checked_x87, !(cpu->cr0 & (CR0_EM | CR0_TS)) && !(cpu->fsw & FSW_SUMMARY))

static ALWAYS_INLINE bool vector_load(struct vcpu *cpu, const struct insn *insn, enum ea_kind kind,
                                      unsigned size, bool vex, bool aligned)
{
    if (unlikely(!vector_ready(cpu, vex))) return false;
    const u8 *from = hot_operand(cpu, insn, kind, size, false);
    if (unlikely(!from) || (aligned && unlikely((uintptr_t)from & (size - 1)))) return false;
    u64 q[4];
    for (unsigned i = 0; i < size / 8; i++) q[i] = guest_ld64(from + i * 8);
    vector_put(cpu, insn, size, vex, q);
    return true;
}

static ALWAYS_INLINE bool vector_store(struct vcpu *cpu, const struct insn *insn, enum ea_kind kind,
                                       unsigned size, bool vex, bool aligned)
{
    if (unlikely(!vector_ready(cpu, vex))) return false;
    u8 *to = hot_operand(cpu, insn, kind, size, true);
    if (unlikely(!to) || (aligned && unlikely((uintptr_t)to & (size - 1)))) return false;
    const u64 *q = cpu_vec(cpu, insn->operand[1].reg)->q;
    for (unsigned i = 0; i < size / 8; i++) guest_st64(to + i * 8, q[i]);
    return true;
}

static ALWAYS_INLINE bool vector_copy(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                      bool vex)
{
    if (unlikely(!vector_ready(cpu, vex))) return false;
    u64 q[4];
    memcpy(q, cpu_vec(cpu, insn->operand[1].reg)->q, size);
    vector_put(cpu, insn, size, vex, q);
    return true;
}

static ALWAYS_INLINE bool vector_clear(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                       bool vex)
{
    static const u64 zero[4];
    if (unlikely(!vector_ready(cpu, vex))) return false;
    vector_put(cpu, insn, size, vex, zero);
    return true;
}

// clang-format off
#define MEMORY(n, size, vex, kind)                                                                 \
    VECTOR_HANDLER(load_##n##_##kind##_u, vector_load(cpu, insn, kind, size, vex, false))          \
    VECTOR_HANDLER(load_##n##_##kind##_a, vector_load(cpu, insn, kind, size, vex, true))           \
    VECTOR_HANDLER(store_##n##_##kind##_u, vector_store(cpu, insn, kind, size, vex, false))        \
    VECTOR_HANDLER(store_##n##_##kind##_a, vector_store(cpu, insn, kind, size, vex, true))
#define WIDTH(n, size, vex)                                                                        \
    MEMORY(n, size, vex, EA_INDEX) MEMORY(n, size, vex, EA_32)                                     \
    VECTOR_HANDLER(copy_##n, vector_copy(cpu, insn, size, vex))                                    \
    VECTOR_HANDLER(clear_##n, vector_clear(cpu, insn, size, vex))
WIDTH(0, 16, false)
WIDTH(1, 16, true)
WIDTH(2, 32, true)
/* By width, EA_32, aligned. */
#define ROW(form, n)                                                                               \
    {{form##_##n##_EA_INDEX_u, form##_##n##_EA_INDEX_a}, {form##_##n##_EA_32_u, form##_##n##_EA_32_a}}
static const insn_fn table_load[3][2][2] = {ROW(load, 0), ROW(load, 1), ROW(load, 2)};
static const insn_fn table_store[3][2][2] = {ROW(store, 0), ROW(store, 1), ROW(store, 2)};
static const insn_fn table_copy[3] = {copy_0, copy_1, copy_2};
static const insn_fn table_clear[3] = {clear_0, clear_1, clear_2};
// clang-format on

static insn_fn pick_vector_move(const struct vcpu *cpu, const struct insn *insn, unsigned width)
{
    unsigned to = insn->operand[0].kind, from = insn->operand[1].kind;
    if (to == OPERAND_VECTOR && from == OPERAND_VECTOR) return table_copy[width];
    enum ea_kind kind = hot_kind(cpu, insn);
    if (kind == EA_NONE || kind == EA_SEG) return NULL;
    bool aligned = insn_row(insn->row)->attributes & ATTR_ALIGNED;
    if (to == OPERAND_VECTOR && from == OPERAND_MEMORY)
        return table_load[width][kind == EA_32][aligned];
    if (to == OPERAND_MEMORY && from == OPERAND_VECTOR)
        return table_store[width][kind == EA_32][aligned];
    return NULL;
}

static insn_fn pick_vector(const struct vcpu *cpu, const struct insn *insn)
{
    unsigned width = !(insn->flags & INSN_VEX) ? 0 : insn->vl == 16 ? 1 : 2;
    if (insn->vl != 16 && insn->vl != 32) return NULL;
    switch (insn->op) {
    case OP_MOVUPS:
    case OP_MOVUPD:
    case OP_MOVAPS:
    case OP_MOVAPD:
    case OP_MOVDQA:
    case OP_MOVDQU: return pick_vector_move(cpu, insn, width);
    case OP_PXOR:
    case OP_XORPS:
    case OP_XORPD:
        if (insn->operand[2].kind == OPERAND_VECTOR && insn->operand[1].kind == OPERAND_VECTOR &&
            insn->operand[1].reg == insn->operand[2].reg)
            return table_clear[width];
        return NULL;
    default: return NULL;
    }
}

insn_fn interp_pick_vector(const struct vcpu *cpu, const struct insn *insn)
{
    u32 attributes = insn_row(insn->row)->attributes;
    if (!(attributes & (ATTR_X87 | ATTR_MMX | ATTR_SSE | ATTR_AVX))) return NULL;
    if (insn->flags & (INSN_ENDS_BLOCK | INSN_LOCK)) return NULL;
    insn_fn fn = pick_vector(cpu, insn);
    if (!fn) fn = interp_pick_packed(cpu, insn);
    if (fn) return fn;
    if (insn->op == OP_FWAIT || (attributes & ATTR_CPL0)) return interp_checked;
    if (attributes & (ATTR_X87 | ATTR_MMX))
        return attributes & ATTR_SSE ? interp_checked : checked_x87;
    if (attributes & ATTR_AVX) return checked_avx;
    return attributes & ATTR_PROTECTED ? interp_checked : checked_sse;
}
