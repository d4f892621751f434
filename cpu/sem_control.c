/*
 * Near transfers of control and BOUND: the generic semantics.
 * Specification: Intel SDM vol. 2. A target outside the code segment, or not canonical, is the
 * transfer's own #GP(0): it is checked before anything changes.
 */
#include "cpu/sem.h"

static bool near_check(struct vcpu *cpu, u64 target)
{
    if (cpu_code64(cpu)) return cpu_is_canonical(target) || cpu_gp0(cpu);
    return target <= cpu->seg[CS].limit || cpu_gp0(cpu);
}

static bool near_jump(struct vcpu *cpu, u64 target)
{
    TRY(near_check(cpu, target));
    cpu->rip = target;
    return true;
}

static u64 relative_target(const struct vcpu *cpu, const struct insn *insn)
{
    return (cpu_next_ip(cpu, insn) + insn->imm) & size_mask(insn->size);
}

bool sem_JMP(struct vcpu *cpu, const struct insn *insn)
{
    return near_jump(cpu, relative_target(cpu, insn));
}

bool sem_JMP_INDIRECT(struct vcpu *cpu, const struct insn *insn)
{
    u64 target;
    TRY(operand_read(cpu, insn, 0, &target));
    return near_jump(cpu, target);
}

static bool near_call(struct vcpu *cpu, const struct insn *insn, u64 target)
{
    TRY(near_check(cpu, target));
    TRY(stack_push(cpu, insn->size, cpu_next_ip(cpu, insn)));
    cpu->rip = target;
    return true;
}

bool sem_CALL(struct vcpu *cpu, const struct insn *insn)
{
    return near_call(cpu, insn, relative_target(cpu, insn));
}

bool sem_CALL_INDIRECT(struct vcpu *cpu, const struct insn *insn)
{
    u64 target;
    TRY(operand_read(cpu, insn, 0, &target));
    return near_call(cpu, insn, target);
}

bool sem_RET(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size;
    u64 target;
    TRY(stack_read_at(cpu, 0, size, &target));
    TRY(near_jump(cpu, target));
    stack_move(cpu, size + (insn->operand[0].kind == OPERAND_IMMEDIATE ? (u16)insn->imm : 0));
    return true;
}

static bool jump_if(struct vcpu *cpu, const struct insn *insn, bool taken)
{
    if (taken) return near_jump(cpu, relative_target(cpu, insn));
    cpu->rip = cpu_next_ip(cpu, insn);
    return true;
}

bool sem_Jcc(struct vcpu *cpu, const struct insn *insn)
{
    return jump_if(cpu, insn, flags_condition(cpu, insn->cc));
}

bool sem_JCXZ(struct vcpu *cpu, const struct insn *insn)
{
    return jump_if(cpu, insn, gpr_read(cpu, RCX, insn->address_size) == 0);
}

static bool loop(struct vcpu *cpu, const struct insn *insn, bool condition)
{
    u64 count = (gpr_read(cpu, RCX, insn->address_size) - 1) & size_mask(insn->address_size);
    TRY(jump_if(cpu, insn, count && condition));
    gpr_write(cpu, RCX, insn->address_size, count);
    return true;
}

bool sem_LOOP(struct vcpu *cpu, const struct insn *insn)
{
    return loop(cpu, insn, true);
}

bool sem_LOOPE(struct vcpu *cpu, const struct insn *insn)
{
    return loop(cpu, insn, flag_zf(cpu));
}

bool sem_LOOPNE(struct vcpu *cpu, const struct insn *insn)
{
    return loop(cpu, insn, !flag_zf(cpu));
}

bool sem_BOUND(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size;
    u64 index, linear, low, high;
    TRY(operand_read(cpu, insn, 0, &index));
    TRY(mem_linear(cpu, insn, size * 2, false, &linear));
    TRY(lin_read(cpu, linear, size, &low));
    TRY(lin_read(cpu, linear + size, size, &high));
    i64 i = sign_extend(index, size);
    if (i < sign_extend(low, size) || i > sign_extend(high, size)) return cpu_fault(cpu, VECTOR_BR);
    return true;
}
