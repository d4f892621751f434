/* System-management mode: entering it; RSM is sem_RSM. */
#ifndef CPU_SMM_H
#define CPU_SMM_H

#include "cpu/cpu.h"

/* Saves the state below SMBASE+10000h and starts the handler. At an instruction boundary. */
void cpu_enter_smm(struct vcpu *cpu);

static inline bool cpu_sees_smram(const struct vcpu *cpu) { return cpu->in_smm; }

#endif
