/*
 * Multiplication and division.
 * Specification: Intel SDM vol. 2. Undefined flags as on Zen: a multiplication keeps SF ZF AF PF, a
 * division keeps CF and OF, sets AF and clears the others.
 */
#include "cpu/alu.h"
#include "cpu/sem.h"

/* rDX:rAX (AX for bytes) = HIGH:LOW. */
static void write_pair(struct vcpu *cpu, unsigned size, u64 low, u64 high)
{
    if (size == 1) {
        gpr_write(cpu, RAX, 2, (low & 0xff) | (high & 0xff) << 8);
        return;
    }
    gpr_write(cpu, RAX, size, low);
    gpr_write(cpu, RDX, size, high);
}

static u64 high_half(struct vcpu *cpu, unsigned size)
{
    return size == 1 ? cpu->regs[RAX] >> 8 & 0xff : gpr_read(cpu, RDX, size);
}

bool sem_MUL(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size, bits = size * 8;
    u64 b;
    TRY(operand_read(cpu, insn, 0, &b));
    u128 r = (u128)gpr_read(cpu, RAX, size) * b;
    u64 high = (u64)(r >> bits) & size_mask(size);
    write_pair(cpu, size, (u64)r, high);
    flags_set_cf_of(cpu, high != 0, high != 0);
    return true;
}

bool sem_IMUL1(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size, bits = size * 8;
    u64 b;
    TRY(operand_read(cpu, insn, 0, &b));
    __int128 r = (__int128)sign_extend(cpu->regs[RAX], size) * sign_extend(b, size);
    bool lost = r != (__int128)sign_extend((u64)r, size);
    write_pair(cpu, size, (u64)r, (u64)(r >> bits));
    flags_set_cf_of(cpu, lost, lost);
    return true;
}

bool sem_IMUL(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, b;
    TRY(operand_read(cpu, insn, 1, &a));
    TRY(operand_read(cpu, insn, 2, &b));
    u64 saved_result = cpu->lf_result, saved_aux = cpu->lf_aux;
    u64 r = alu_imul(cpu, a, b, insn->size);
    if (operand_write(cpu, insn, 0, r)) return true;
    cpu->lf_result = saved_result;
    cpu->lf_aux = saved_aux;
    return false;
}

static void division_flags(struct vcpu *cpu)
{
    flags_put(cpu, (flags_get(cpu) & (FLAG_CF | FLAG_OF)) | FLAG_AF);
}

bool sem_DIV(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size;
    u64 b, high = high_half(cpu, size), low = gpr_read(cpu, RAX, size);
    TRY(operand_read(cpu, insn, 0, &b));
    if (b == 0 || high >= b) return cpu_fault(cpu, VECTOR_DE);
    if (size < 8) {
        u64 a = high << (size * 8) | low;
        write_pair(cpu, size, a / b, a % b);
    } else if (!high) {
        write_pair(cpu, size, low / b, low % b);
    } else {
        u128 a = (u128)high << 64 | low;
        write_pair(cpu, size, (u64)(a / b), (u64)(a % b));
    }
    division_flags(cpu);
    return true;
}

bool sem_IDIV(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size;
    u64 divisor, high = high_half(cpu, size), low = gpr_read(cpu, RAX, size);
    TRY(operand_read(cpu, insn, 0, &divisor));
    i64 b = sign_extend(divisor, size);
    if (b == 0) return cpu_fault(cpu, VECTOR_DE);
    /* The quotient of magnitudes, which can't overflow 128 bits as that of the numbers could. */
    __int128 a = (__int128)((u128)(u64)sign_extend(high, size) << (size * 8) | low);
    if (size < 8) a = (__int128)(i64)((u64)sign_extend(high, size) << (size * 8) | low);
    u128 magnitude = a < 0 ? -(u128)a : (u128)a;
    u64 by = b < 0 ? -(u64)b : (u64)b;
    u128 quotient = magnitude >> 64 ? magnitude / by : (u128)((u64)magnitude / by);
    u64 rest = (u64)(magnitude - quotient * by);
    bool negative = (a < 0) != (b < 0);
    u128 limit = ((u128)1 << (size * 8 - 1)) - !negative;
    if (quotient > limit) return cpu_fault(cpu, VECTOR_DE);
    write_pair(cpu, size, negative ? -(u64)quotient : (u64)quotient, a < 0 ? -rest : rest);
    division_flags(cpu);
    return true;
}
