/*
 * BMI1 and BMI2, and the flagless shifts.
 * Specification: Intel SDM vol. 2. Undefined flags as on Zen: PF by the result, AF clear but set by
 * BEXTR.
 */
#include "cpu/sem.h"

static bool sources(struct vcpu *cpu, const struct insn *insn, u64 *a, u64 *b)
{
    TRY(operand_read(cpu, insn, 1, a));
    return operand_read(cpu, insn, 2, b);
}

/* Register destination, flags of a logical operation and CF. */
static bool finish(struct vcpu *cpu, const struct insn *insn, u64 r, bool cf)
{
    operand_write(cpu, insn, 0, r);
    flags_logic(cpu, r, insn->size);
    if (cf) cpu->lf_aux |= AUX_CF | AUX_PO;
    return true;
}

bool sem_ANDN(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, b;
    TRY(sources(cpu, insn, &a, &b));
    return finish(cpu, insn, ~a & b, false);
}

bool sem_BEXTR(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, control;
    TRY(sources(cpu, insn, &a, &control));
    unsigned start = control & 0xff, length = control >> 8 & 0xff;
    u64 r = start < 64 ? a >> start : 0;
    if (length < 64) r &= (1ull << length) - 1;
    finish(cpu, insn, r, false);
    cpu->lf_aux |= AUX_AF;
    return true;
}

bool sem_BLSI(struct vcpu *cpu, const struct insn *insn)
{
    u64 a;
    TRY(operand_read(cpu, insn, 1, &a));
    return finish(cpu, insn, a & -a, a != 0);
}

bool sem_BLSMSK(struct vcpu *cpu, const struct insn *insn)
{
    u64 a;
    TRY(operand_read(cpu, insn, 1, &a));
    return finish(cpu, insn, a ^ (a - 1), a == 0);
}

bool sem_BLSR(struct vcpu *cpu, const struct insn *insn)
{
    u64 a;
    TRY(operand_read(cpu, insn, 1, &a));
    return finish(cpu, insn, a & (a - 1), a == 0);
}

bool sem_BZHI(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, index;
    TRY(sources(cpu, insn, &a, &index));
    unsigned n = index & 0xff, bits = insn->size * 8;
    if (n < bits) a &= (1ull << n) - 1;
    return finish(cpu, insn, a, n >= bits);
}

bool sem_PDEP(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, mask, r = 0;
    TRY(sources(cpu, insn, &a, &mask));
    for (; mask; mask &= mask - 1, a >>= 1)
        if (a & 1) r |= mask & -mask;
    return operand_write(cpu, insn, 0, r);
}

bool sem_PEXT(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, mask, r = 0;
    TRY(sources(cpu, insn, &a, &mask));
    for (unsigned n = 0; mask; mask &= mask - 1, n++)
        if (a & mask & -mask) r |= 1ull << n;
    return operand_write(cpu, insn, 0, r);
}

/* Both destinations the same register: it gets the high half. */
bool sem_MULX(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size;
    u64 b;
    TRY(operand_read(cpu, insn, 2, &b));
    u128 r = (u128)gpr_read(cpu, RDX, size) * b;
    operand_write(cpu, insn, 1, (u64)r);
    return operand_write(cpu, insn, 0, (u64)(r >> (size * 8)));
}

bool sem_RORX(struct vcpu *cpu, const struct insn *insn)
{
    unsigned bits = insn->size * 8, n = insn->imm & (bits - 1);
    u64 a;
    TRY(operand_read(cpu, insn, 1, &a));
    return operand_write(cpu, insn, 0, n ? a >> n | a << (bits - n) : a);
}

bool sem_SARX(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, n;
    TRY(sources(cpu, insn, &a, &n));
    return operand_write(cpu, insn, 0,
                         (u64)(sign_extend(a, insn->size) >> (n & (insn->size * 8 - 1))));
}

bool sem_SHLX(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, n;
    TRY(sources(cpu, insn, &a, &n));
    return operand_write(cpu, insn, 0, a << (n & (insn->size * 8 - 1)));
}

bool sem_SHRX(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, n;
    TRY(sources(cpu, insn, &a, &n));
    return operand_write(cpu, insn, 0, a >> (n & (insn->size * 8 - 1)));
}
