/*
 * Debug registers, single step, and what the interpreter calls around an instruction in MODE_STEP.
 *
 * A #DB trap is noted in cpu->pending_db (with leave_block set) and taken behind the instruction:
 * whoever runs instructions calls debug_trap_due() at every boundary where leave_block was set, and
 * in MODE_STEP brackets each instruction with the two hooks:
 *
 *     if (!cpu_step_hooks_before(cpu)) → cpu_deliver_exception     (rip is the instruction's)
 *     run it; on success rip is the next one's
 *     if (!cpu_step_hooks_after(cpu)) → cpu_deliver_exception      (a trap: rip stays)
 *
 * A repeated string instruction in MODE_STEP makes one iteration, and when more are to come calls
 * cpu_restart; then cpu_step_hooks_after is called too (rip being the instruction's).
 */
#ifndef CPU_DEBUG_H
#define CPU_DEBUG_H

#include "cpu/cpu.h"

#define DR6_B(n) (1u << (n))
#define DR6_BD (1u << 13)
#define DR6_BS (1u << 14)
#define DR6_BT (1u << 15)
#define DR6_FIXED 0xffff0ff0u /* bits that read as one (no RTM, no bus-lock trap) */
#define DR7_FIXED 0x00000400u
#define DR7_GD (1u << 13)

bool cpu_step_hooks_before(struct vcpu *cpu); /* code breakpoints; notes TF */
bool cpu_step_hooks_after(struct vcpu *cpu);  /* single step, data breakpoints */

/* False with #DB recorded when a trap is pending and may be taken here (not behind MOV SS). */
bool debug_trap_due(struct vcpu *cpu);

/* A #DB trap with these DR6 bits behind the current instruction. */
static inline void debug_pend(struct vcpu *cpu, u32 dr6)
{
    cpu->pending_db |= dr6;
    cpu->leave_block = true;
}

/* DR0-3 or DR7 changed: recount, and let the TLB forget the pages concerned (before and after). */
void debug_rearm(struct vcpu *cpu);
bool debug_has_code_breakpoints(const struct vcpu *cpu);
bool debug_page_watched(const struct vcpu *cpu, u64 page, u64 physical);
/* A data access that succeeded in a watched page. */
void debug_access(struct vcpu *cpu, u64 linear, u64 physical, unsigned size, bool write);
/* A port access, for I/O breakpoints (CR4.DE). */
void debug_port(struct vcpu *cpu, u16 port, unsigned size);

#endif
