/*
 * SYSCALL, SYSRET and IRET as 64-bit systems use them, without a look at what else they could be.
 * False: not such a case, nothing has changed; then the instruction's own function is the one to
 * call.
 *
 * ARITHMETIC: the six flags, in and out. rip is where it leads. For translated code that waits:
 * only rAX, rCX, rDX, rSI, rDI, rSP and R8 to R11 of the general registers are looked at or
 * changed, and no host vector register is touched (where the host is x86-64).
 */
#ifndef CPU_FASTCALL_H
#define CPU_FASTCALL_H

#include "cpu/cpu.h"

bool fast_syscall(struct vcpu *cpu, u64 next, u32 *arithmetic);
bool fast_sysret(struct vcpu *cpu, u32 *arithmetic);
bool fast_iret(struct vcpu *cpu, u32 *arithmetic);

#endif
