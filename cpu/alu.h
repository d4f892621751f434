/*
 * Integer arithmetic as values: results and flags of the operations that both the generic semantics
 * and the interpreter's specialised handlers perform. SIZE and OP are constants where it is hot.
 *
 * Undefined flags follow AMD's Zen: shifts set AF and compute OF for every count as if for the last
 * bit, rotates keep ZF SF AF PF, multiplications keep them too.
 */
#ifndef CPU_ALU_H
#define CPU_ALU_H

#include "cpu/flags.h"

/* A op B for ADD OR ADC SBB AND SUB XOR CMP TEST; bits above SIZE are rubbish. */
static ALWAYS_INLINE u64 alu_result(const struct vcpu *cpu, unsigned op, u64 a, u64 b)
{
    switch (op) {
    case OP_ADD: return a + b;
    case OP_ADC: return a + b + flag_cf(cpu);
    case OP_SBB: return a - b - flag_cf(cpu);
    case OP_SUB:
    case OP_CMP: return a - b;
    case OP_OR: return a | b;
    case OP_XOR: return a ^ b;
    default: return a & b;
    }
}

static ALWAYS_INLINE void alu_flags(struct vcpu *cpu, unsigned op, u64 a, u64 b, u64 r,
                                    unsigned size)
{
    switch (op) {
    case OP_ADD:
    case OP_ADC: flags_add(cpu, a, b, r, size); break;
    case OP_SUB:
    case OP_SBB:
    case OP_CMP: flags_sub(cpu, a, b, r, size); break;
    default: flags_logic(cpu, r, size);
    }
}

/* INC and DEC keep CF. */
static ALWAYS_INLINE void alu_step_flags(struct vcpu *cpu, u64 r, bool up, unsigned size)
{
    u64 sign = 1ull << (size * 8 - 1);
    bool cf = flag_cf(cpu), of = (r & size_mask(size)) == (up ? sign : sign - 1);
    cpu->lf_result = (u64)sign_extend(r, size);
    cpu->lf_aux = (cf ? AUX_CF : 0) | (cf != of ? AUX_PO : 0) |
                  ((r & 15) == (up ? 0u : 15u) ? AUX_AF : 0);
}

/* COUNT is already masked to 5 or 6 bits and not zero; A is zero-extended. */
static ALWAYS_INLINE u64 alu_shift(struct vcpu *cpu, unsigned op, u64 a, unsigned count,
                                   unsigned size)
{
    unsigned bits = size * 8;
    u64 r;
    bool cf, of;
    if (op == OP_SHL) {
        cf = count <= bits && (a >> (bits - count) & 1);
        r = count < bits ? a << count : 0;
        of = cf ^ (r >> (bits - 1) & 1);
    } else if (op == OP_SHR) {
        cf = count <= bits && (a >> (count - 1) & 1);
        r = count < bits ? a >> count : 0;
        of = (r >> (bits - 2)) & 1;
    } else {
        i64 s = sign_extend(a, size);
        cf = s >> (count - 1) & 1;
        r = (u64)(s >> count);
        of = false;
    }
    flags_logic(cpu, r, size);
    cpu->lf_aux = (cf ? AUX_CF : 0) | (cf != of ? AUX_PO : 0) | AUX_AF;
    return r;
}

static ALWAYS_INLINE u64 alu_rotate(struct vcpu *cpu, unsigned op, u64 a, unsigned count,
                                    unsigned size)
{
    unsigned bits = size * 8, n = count & (bits - 1);
    u64 r;
    if (op == OP_ROL) {
        r = n ? a << n | a >> (bits - n) : a;
        bool cf = r & 1;
        flags_set_cf_of(cpu, cf, cf ^ (r >> (bits - 1) & 1));
    } else {
        r = n ? a >> n | a << (bits - n) : a;
        bool cf = r >> (bits - 1) & 1;
        flags_set_cf_of(cpu, cf, cf ^ (r >> (bits - 2) & 1));
    }
    return r;
}

/* Signed product of SIZE bytes; CF and OF tell that it did not fit. */
static ALWAYS_INLINE u64 alu_imul(struct vcpu *cpu, u64 a, u64 b, unsigned size)
{
    bool lost;
    u64 r;
    if (size == 8) {
        i64 product;
        lost = __builtin_mul_overflow((i64)a, (i64)b, &product);
        r = (u64)product;
    } else {
        i64 product = sign_extend(a, size) * sign_extend(b, size);
        lost = product != sign_extend((u64)product, size);
        r = (u64)product;
    }
    flags_set_cf_of(cpu, lost, lost);
    return r;
}

#endif
