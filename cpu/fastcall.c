/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT.
 * Specification: Intel SDM vol. 2; AMD APM vol. 2 ch. 6.1, vol. 3. The vendors differ: AMD has SYSCALL
 * in compatibility and legacy mode and no SYSENTER in long mode; Intel the other way round. SYSRET to
 * a non-canonical address faults in ring 0 on Intel, at the target on AMD.
 */
#include "cpu/debug.h" /* debug_pend */
#include "cpu/intr.h"  /* eflags_write */
#include "cpu/seg.h"
#include "cpu/sem.h"
#include "cpu/sys.h" /* cpu_is_intel */

#define ATTR_FLAT (SEG_P | SEG_S | SEG_ACCESSED | SEG_WRITABLE | SEG_G)

static void flat_segment(struct vcpu *cpu, unsigned seg, u16 selector, u32 attr)
{
    cpu->seg[seg].selector = selector;
    cpu->seg[seg].base = 0;
    cpu->seg[seg].limit = 0xffffffff;
    cpu->seg[seg].attr = ATTR_FLAT | attr;
}

static void flat_segments(struct vcpu *cpu, u16 cs, u16 ss, unsigned cpl, bool wide)
{
    u32 dpl = cpl << SEG_DPL_SHIFT;
    flat_segment(cpu, CS, (u16)((cs & 0xfffc) | cpl), SEG_CODE | dpl | (wide ? SEG_L : SEG_DB));
    flat_segment(cpu, SS, (u16)((ss & 0xfffc) | cpl), SEG_DB | dpl);
    cpu->cpl = (u8)cpl;
}

/* TF is looked at behind the instruction, not in front of it as for others. */
static void trap_by_new_tf(struct vcpu *cpu)
{
    cpu->step_armed = false;
    if (cpu->eflags & FLAG_TF) debug_pend(cpu, DR6_BS);
}

bool sem_SYSCALL(struct vcpu *cpu, const struct insn *insn)
{
    const bool wide = cpu_long_mode(cpu), from64 = cpu_code64(cpu);
    if (!(cpu->efer & EFER_SCE) || !cpu_protected(cpu)) return cpu_ud(cpu);
    if (!from64 && cpu_is_intel(cpu)) return cpu_ud(cpu);
    u16 cs = (u16)(cpu->star >> 32);
    u64 next = cpu_next_ip(cpu, insn);
    cpu->regs[RCX] = next;
    u32 flags = cpu_eflags(cpu);
    flat_segments(cpu, cs & 0xfffc, (u16)(cs + 8), 0, wide);
    if (wide) {
        cpu->regs[R11] = flags & ~(u32)FLAG_RF;
        eflags_write(cpu, 0, ((u32)cpu->sfmask | FLAG_RF) & ~2u);
        cpu->rip = from64 ? cpu->lstar : cpu->cstar;
    } else {
        eflags_write(cpu, 0, FLAG_IF | FLAG_RF | FLAG_VM);
        cpu->rip = (u32)cpu->star;
    }
    cpu_update_mode(cpu);
    trap_by_new_tf(cpu);
    return true;
}

bool sem_SYSRET(struct vcpu *cpu, const struct insn *insn)
{
    const u32 user_flags = FLAGS_ARITHMETIC | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT |
                           FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID | FLAG_RF;
    const bool wide = cpu_long_mode(cpu), to64 = wide && insn->size == 8;
    if (!(cpu->efer & EFER_SCE) || (cpu_is_intel(cpu) && !cpu_code64(cpu))) return cpu_ud(cpu);
    if (cpu->cpl || !cpu_protected(cpu)) return cpu_gp0(cpu);
    u64 target = to64 ? cpu->regs[RCX] : (u32)cpu->regs[RCX];
    if (to64 && cpu_is_intel(cpu) && !cpu_is_canonical(target)) return cpu_gp0(cpu);
    u16 cs = (u16)(cpu->star >> 48);
    if (wide) eflags_write(cpu, (u32)cpu->regs[R11] & ~(u32)FLAG_RF, user_flags);
    else eflags_write(cpu, FLAG_IF, FLAG_IF);
    flat_segments(cpu, (u16)(cs + (to64 ? 16 : 0)), (u16)(cs + 8), 3, to64);
    cpu->rip = target;
    cpu_update_mode(cpu);
    trap_by_new_tf(cpu);
    return true;
}

bool sem_SYSENTER(struct vcpu *cpu, const struct insn *insn)
{
    const bool wide = cpu_long_mode(cpu);
    u16 cs = cpu->sysenter_cs & 0xfffc;
    (void)insn;
    if (wide && !cpu_is_intel(cpu)) return cpu_ud(cpu);
    if (cpu_real_mode(cpu) || !cs) return cpu_gp0(cpu);
    eflags_write(cpu, 0, FLAG_VM | FLAG_IF | FLAG_RF);
    flat_segments(cpu, cs, (u16)(cs + 8), 0, wide);
    cpu->regs[RSP] = wide ? cpu->sysenter_esp : (u32)cpu->sysenter_esp;
    cpu->rip = wide ? cpu->sysenter_eip : (u32)cpu->sysenter_eip;
    cpu_update_mode(cpu);
    return true;
}

bool sem_SYSEXIT(struct vcpu *cpu, const struct insn *insn)
{
    const bool to64 = cpu_long_mode(cpu) && insn->size == 8;
    u16 cs = cpu->sysenter_cs & 0xfffc;
    if (cpu_long_mode(cpu) && !cpu_is_intel(cpu)) return cpu_ud(cpu);
    if (!cpu_protected(cpu) || cpu->cpl || !cs) return cpu_gp0(cpu);
    u64 ip = to64 ? cpu->regs[RDX] : (u32)cpu->regs[RDX];
    u64 sp = to64 ? cpu->regs[RCX] : (u32)cpu->regs[RCX];
    if (!cpu_is_canonical(ip) || !cpu_is_canonical(sp)) return cpu_gp0(cpu);
    flat_segments(cpu, (u16)(cs + (to64 ? 32 : 16)), (u16)(cs + (to64 ? 40 : 24)), 3, to64);
    cpu->regs[RSP] = sp;
    cpu->rip = ip;
    cpu_update_mode(cpu);
    return true;
}
