/* What guests of KVM find here: its clock, and an answer to hypercalls (kvm.c). CPUID's part is in
 * cpuid.c. */
#ifndef CPU_KVM_H
#define CPU_KVM_H

#include "cpu/cpu.h"

/* The guest writes MSR_KVM_WALL_CLOCK, MSR_KVM_SYSTEM_TIME. Own thread, the machine lock not
 * held. */
void kvm_wall_clock_write(struct vcpu *cpu, u64 value);
void kvm_system_time_write(struct vcpu *cpu, u64 value);
/* CPU's tsc_adjust has changed, by itself: tells all who have a clock. Own thread, lock not
 * held. */
void kvm_tsc_moved(struct vcpu *cpu);
/* REQUEST_CLOCK: some other processor's has. */
void kvm_clock_update(struct vcpu *cpu);

#endif
