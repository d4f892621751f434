/* Recording an exception: what the instruction that met it returns with. Delivery is intr.c's. */
#include "cpu/cpu.h"

static bool record(struct vcpu *cpu, int vector, bool has_error, u32 error)
{
    cpu->exception.vector = (i16)vector;
    cpu->exception.has_error = has_error;
    cpu->exception.is_software = false;
    cpu->exception.is_trap = false;
    cpu->exception.error = error;
    cpu->exception.address = 0;
    cpu->exception.dr6 = 0;
    cpu->fault_noncanonical = false;
    return false;
}

bool cpu_fault(struct vcpu *cpu, int vector) { return record(cpu, vector, false, 0); }

bool cpu_fault_error(struct vcpu *cpu, int vector, u32 error)
{
    return record(cpu, vector, true, error);
}

bool cpu_page_fault(struct vcpu *cpu, u64 linear, u32 error)
{
    record(cpu, VECTOR_PF, true, error);
    cpu->exception.address = linear;
    return false;
}

/* Code breakpoints that were passed are not met again by the rest of a repeated instruction. */
bool cpu_restart(struct vcpu *cpu)
{
    if (cpu->mode_key & MODE_STEP) cpu->eflags |= FLAG_RF;
    return record(cpu, -1, false, 0);
}
