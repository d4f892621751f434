/* Taking exceptions and interrupts, and what starts or resets a processor. */
#ifndef CPU_INTR_H
#define CPU_INTR_H

#include "cpu/cpu.h"

/*
 * Delivers cpu->exception. cpu->rip is what the handler returns to: of the instruction for a fault,
 * behind it for a trap (exception.is_trap). False: triple fault, the processor shuts down.
 * A vector of -1 (start the instruction again) is fine and does nothing.
 */
bool cpu_deliver_exception(struct vcpu *cpu);
/* An external interrupt, at an instruction boundary with cpu->rip the next instruction. */
bool cpu_deliver_interrupt(struct vcpu *cpu, u8 vector);
bool cpu_deliver_nmi(struct vcpu *cpu);
bool cpu_deliver_machine_check(struct vcpu *cpu);

/* Start-up IPI (only while CPU_WAIT_SIPI): real mode at cpu->sipi_vector << 12. */
void cpu_start_sipi(struct vcpu *cpu);

/* INT n and its kin: VECTOR with return address IP; CHECK_DPL for INT n, INT3, INTO. */
bool interrupt_software(struct vcpu *cpu, u8 vector, u64 ip, bool check_dpl);
/* As the 8086 does: through the vector table at BASE (real mode, virtual-8086 redirection). */
bool interrupt_8086(struct vcpu *cpu, u8 vector, u64 ip, u32 flags_image, u32 flags_cleared);

/* Replaces the bits MASK of EFLAGS (arithmetic ones too) and recomputes what hangs on them. */
void eflags_write(struct vcpu *cpu, u32 value, u32 mask);

#endif
