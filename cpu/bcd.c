/*
 * Decimal adjustment, 16- and 32-bit code only.
 * Specification: Intel SDM vol. 2. Undefined flags: AAA and AAS set SF ZF PF by AL and clear OF,
 * AAM and AAD clear CF AF OF, DAA and DAS clear OF.
 */
#include "cpu/sem.h"

static void set_al(struct vcpu *cpu, u8 al)
{
    gpr_write(cpu, RAX, 1, al);
}

static void flags_by_al(struct vcpu *cpu, u8 al, bool cf, bool af)
{
    flags_logic(cpu, al, 1);
    cpu->lf_aux |= (cf ? AUX_CF | AUX_PO : 0) | (af ? AUX_AF : 0);
}

static void ascii_adjust(struct vcpu *cpu, int step)
{
    bool adjust = (cpu->regs[RAX] & 15) > 9 || flag_af(cpu);
    if (adjust) gpr_write(cpu, RAX, 2, cpu->regs[RAX] + (u64)(i64)(step * 0x106));
    u8 al = cpu->regs[RAX] & 15;
    set_al(cpu, al);
    flags_by_al(cpu, al, adjust, adjust);
}

bool sem_AAA(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    ascii_adjust(cpu, 1);
    return true;
}

bool sem_AAS(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    ascii_adjust(cpu, -1);
    return true;
}

bool sem_AAM(struct vcpu *cpu, const struct insn *insn)
{
    u8 base = (u8)insn->imm, al = (u8)cpu->regs[RAX];
    if (!base) return cpu_fault(cpu, VECTOR_DE);
    gpr_write(cpu, RAX, 2, (u64)(al / base) << 8 | al % base);
    flags_by_al(cpu, al % base, false, false);
    return true;
}

bool sem_AAD(struct vcpu *cpu, const struct insn *insn)
{
    u8 al = (u8)(cpu->regs[RAX] + (cpu->regs[RAX] >> 8 & 0xff) * (u8)insn->imm);
    gpr_write(cpu, RAX, 2, al);
    flags_by_al(cpu, al, false, false);
    return true;
}

static void decimal_adjust(struct vcpu *cpu, int step)
{
    u8 old = (u8)cpu->regs[RAX], al = old;
    bool low = (old & 15) > 9 || flag_af(cpu), high = old > 0x99 || flag_cf(cpu);
    bool cf = high;
    if (low) {
        if (step < 0 && old < 6) cf = true;
        al = (u8)(al + step * 6);
    }
    if (high) al = (u8)(al + step * 0x60);
    set_al(cpu, al);
    flags_by_al(cpu, al, cf, low);
}

bool sem_DAA(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    decimal_adjust(cpu, 1);
    return true;
}

bool sem_DAS(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    decimal_adjust(cpu, -1);
    return true;
}

bool sem_SALC(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    set_al(cpu, flag_cf(cpu) ? 0xff : 0);
    return true;
}
