/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT; and the usual cases of the first two and of IRET for callers
 * in a hurry (fastcall.h).
 * Specification: Intel SDM vol. 2; AMD APM vol. 2 ch. 6.1, vol. 3. The vendors differ: AMD has
 * SYSCALL in compatibility and legacy mode and no SYSENTER in long mode; Intel the other way round.
 * SYSRET to a non-canonical address faults in ring 0 on Intel, at the target on AMD.
 */
#include "cpu/fastcall.h"
#include "cpu/debug.h" /* debug_pend */
#include "cpu/intr.h"  /* eflags_write */
#include "cpu/seg.h"
#include "cpu/sem.h"
#include "cpu/sys.h" /* cpu_is_intel */

#define ATTR_FLAT (SEG_P | SEG_S | SEG_ACCESSED | SEG_WRITABLE | SEG_G)

#define SYSRET_FLAGS \
    (u32)(FLAGS_ARITHMETIC | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_AC | \
          FLAG_VIF | FLAG_VIP | FLAG_ID)

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

/* --- the usual cases: 64-bit code, flat segments, nobody stepping --- */

/* CPL and EFLAGS.AC are new. */
static void fast_mode(struct vcpu *cpu, unsigned cpl)
{
    bool ac = (cpu->cr4 & CR4_SMAP) && (cpu->eflags & FLAG_AC);
    unsigned key = cpu->mode_key & ~(unsigned)(MODE_USER | MODE_RING12 | MODE_AC);
    cpu->cpl = (u8)cpl;
    cpu->tlb_mode = cpl == 3 ? TLB_USER : ac ? TLB_KERNEL_AC : TLB_KERNEL;
    cpu->tlb_now = cpu->tlb.entry[cpu->tlb_mode];
    if (cpl == 3) key |= MODE_USER;
    else if (ac) key |= MODE_AC;
    cpu->mode_key = (u16)key;
}

/* EFLAGS may become FLAGS at privilege CPL without more to be done about it. */
static bool fast_flags(const struct vcpu *cpu, u32 flags, unsigned cpl)
{
    if (flags & FLAG_TF) return false;
    if ((flags & FLAG_IF) && atomic_load_explicit(&cpu->requests, memory_order_relaxed))
        return false;
    return !(cpl == 3 && (flags & FLAG_AC) && (cpu->cr0 & CR0_AM));
}

static bool fast_code(const struct vcpu *cpu)
{
    return cpu_code64(cpu) && !(cpu->mode_key & (MODE_STEP | MODE_RING12)) && !cpu->align_check;
}

static void fast_put_flags(struct vcpu *cpu, u32 flags, u32 *arithmetic)
{
    cpu->eflags = flags & ~(u32)(FLAGS_ARITHMETIC | FLAG_RF | 2);
    *arithmetic = flags & FLAGS_ARITHMETIC;
}

bool fast_syscall(struct vcpu *cpu, u64 next, u32 *arithmetic)
{
    u32 flags = cpu->eflags | 2 | *arithmetic, after = flags & ~(u32)cpu->sfmask;
    u16 cs = (u16)(cpu->star >> 32);
    if (!(cpu->efer & EFER_SCE) || !fast_code(cpu) || !fast_flags(cpu, after, 0)) return false;
    cpu->regs[RCX] = next;
    cpu->regs[R11] = flags & ~(u32)FLAG_RF;
    flat_segments(cpu, cs & 0xfffc, (u16)(cs + 8), 0, true);
    fast_put_flags(cpu, after, arithmetic);
    cpu->rip = cpu->lstar;
    fast_mode(cpu, 0);
    return true;
}

bool fast_sysret(struct vcpu *cpu, u32 *arithmetic)
{
    u32 flags = (u32)cpu->regs[R11] & SYSRET_FLAGS;
    u16 cs = (u16)(cpu->star >> 48);
    if (!(cpu->efer & EFER_SCE) || !fast_code(cpu) || cpu->cpl || !fast_flags(cpu, flags, 3) ||
        !cpu_is_canonical(cpu->regs[RCX]))
        return false;
    flat_segments(cpu, (u16)(cs + 16), (u16)(cs + 8), 3, true);
    fast_put_flags(cpu, flags | (cpu->eflags & ~SYSRET_FLAGS), arithmetic);
    cpu->rip = cpu->regs[RCX];
    fast_mode(cpu, 3);
    return true;
}

/* Host address of SIZE bytes at LINEAR, or NULL when the TLB can't be made to lead there at
 * once. */
static const u8 *fast_read(struct vcpu *cpu, enum tlb_mode mode, u64 linear, unsigned size)
{
    struct tlb_entry *e = tlb_slot(cpu->tlb.entry[mode], linear);
    u64 tag = (linear + size - 1) & PAGE_MASK;
    if (atomic_load_explicit(&e->tag_read, memory_order_relaxed) != tag &&
        !tlb_refill(cpu, tag, (u64)((u8 *)e - (u8 *)cpu->tlb.entry[mode]), mode * 2))
        return NULL;
    return (const u8 *)(uintptr_t)(linear + e->addend);
}

/* SELECTOR's descriptor in the GDT when its attributes under MASK are WANTED, loaded into SEG. */
static bool fast_segment(struct vcpu *cpu, struct segment *seg, u16 selector, u32 mask, u32 wanted)
{
    if (selector_is_null(selector) || (selector & 4) || (selector | 7u) > cpu->gdt_limit)
        return false;
    const u8 *at = fast_read(cpu, TLB_KERNEL, cpu->gdt_base + (selector & 0xfff8), 8);
    if (!at) return false;
    u32 low = (u32)guest_ld64(at), high = (u32)(guest_ld64(at) >> 32);
    seg->selector = selector;
    seg->attr = high >> 8 & 0xf0ff;
    seg->base = low >> 16 | (high & 0xff) << 16 | (high & 0xff000000u);
    seg->limit = (low & 0xffff) | (high & 0xf0000);
    if (seg->attr & SEG_G) seg->limit = seg->limit << 12 | 0xfff;
    return (seg->attr & mask) == wanted;
}

#define IRET64_FLAGS (SYSRET_FLAGS | FLAG_RF) /* at CPL 0 */

/* To 64-bit code of CPL 0 or 3. */
bool fast_iret(struct vcpu *cpu, u32 *arithmetic)
{
    const u32 code = SEG_P | SEG_S | SEG_CODE | SEG_ACCESSED,
              data = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED;
    struct segment cs = {0}, ss = {0};
    if (!fast_code(cpu) || cpu->cpl || (cpu->eflags & FLAG_NT)) return false;
    if (unlikely(cpu->nmi_blocked)) return false; /* another may wait for it, which who runs on would not see */
    const u8 *frame = fast_read(cpu, cpu->tlb_mode, cpu->regs[RSP], 40);
    if (!frame) return false;
    u64 ip = guest_ld64(frame), sp = guest_ld64(frame + 24);
    u16 cs_selector = (u16)guest_ld64(frame + 8), ss_selector = (u16)guest_ld64(frame + 32);
    u32 flags = ((u32)guest_ld64(frame + 16) & IRET64_FLAGS) | (cpu->eflags & ~IRET64_FLAGS);
    u32 cpl = cs_selector & 3, dpl = cpl << SEG_DPL_SHIFT;
    if ((cpl && cpl != 3) || !cpu_is_canonical(ip) || !fast_flags(cpu, flags, cpl) ||
        (ss_selector & 3) != cpl ||
        !fast_segment(cpu, &cs, cs_selector, code | SEG_CONFORMING | SEG_DPL | SEG_L | SEG_DB,
                      code | dpl | SEG_L))
        return false;
    bool null_ss = !cpl && !ss_selector;
    if (!null_ss && !fast_segment(cpu, &ss, ss_selector, data | SEG_CODE | SEG_DPL, data | dpl))
        return false;
    cpu->seg[CS] = cs;
    if (null_ss) seg_put_null(cpu, SS, 0);
    else cpu->seg[SS] = ss;
    cpu->regs[RSP] = sp;
    cpu->rip = ip;
    fast_put_flags(cpu, flags, arithmetic);
    fast_mode(cpu, cpl);
    if (cpl) seg_drop_inner(cpu);
    cpu_serialize(cpu);
    return true;
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
    const bool wide = cpu_long_mode(cpu), to64 = wide && insn->size == 8;
    if (!(cpu->efer & EFER_SCE) || (cpu_is_intel(cpu) && !cpu_code64(cpu))) return cpu_ud(cpu);
    if (cpu->cpl || !cpu_protected(cpu)) return cpu_gp0(cpu);
    u64 target = to64 ? cpu->regs[RCX] : (u32)cpu->regs[RCX];
    if (to64 && cpu_is_intel(cpu) && !cpu_is_canonical(target)) return cpu_gp0(cpu);
    u16 cs = (u16)(cpu->star >> 48);
    if (wide) eflags_write(cpu, (u32)cpu->regs[R11] & ~(u32)FLAG_RF, SYSRET_FLAGS | FLAG_RF);
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
