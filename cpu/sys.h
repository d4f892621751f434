/* Control registers and what hangs on them. */
#ifndef CPU_SYS_H
#define CPU_SYS_H

#include "cpu/cpu.h"

/* CR3 := VALUE with PDPTEs and flush; false with #GP(0) when a PDPTE has reserved bits set. */
bool cr3_load(struct vcpu *cpu, u64 value);
/* The PDPTEs of CR3 for PAE paging, all or none; false with #GP(0). */
bool pae_load(struct vcpu *cpu, u64 cr3);
/* As MOV does, whatever the privilege; false with the exception recorded. NUMBER is one there
 * is. */
bool cr_write(struct vcpu *cpu, unsigned number, u64 value);
bool dr_write(struct vcpu *cpu, unsigned number, u64 value); /* 0-3, 6, 7 */
u64 cr4_allowed(const struct vcpu *cpu);
u64 xcr0_allowed(const struct vcpu *cpu);
bool cpu_is_intel(const struct vcpu *cpu);
u64 cpu_tsc(const struct vcpu *cpu);

/* Model-specific registers (msr.c); false with #GP(0). */
bool msr_read(struct vcpu *cpu, u32 number, u64 *value);
bool msr_write(struct vcpu *cpu, u32 number, u64 value);

#endif
