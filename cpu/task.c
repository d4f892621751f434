/*
 * The task-state segment: stacks for inner levels, the I/O permission map, and hardware task
 * switches.
 * Specification: Intel SDM vol. 3 ch. 7 (7.2 structures, 7.3 switching), vol. 1 ch. 18.5.2 (I/O
 * map), vol. 3 ch. 20.3.3 (software interrupt redirection bitmap).
 *
 * A fault before the switch belongs to the old task; behind it (loading the new task's segments) it
 * is delivered here, in the new one.
 */
#include "cpu/debug.h" /* debug_pend */
#include "cpu/intr.h"  /* cpu_deliver_exception */
#include "cpu/seg.h"
#include "cpu/sem.h"
#include "cpu/sys.h" /* cr3_load */

static bool tss_error(struct vcpu *cpu, u32 ext)
{
    return cpu_fault_error(cpu, VECTOR_TS, (cpu->seg[TR].selector & 0xfffc) | (ext & 1));
}

static u64 tss_linear(const struct vcpu *cpu, u32 offset)
{
    u64 linear = cpu->seg[TR].base + offset;
    return cpu_long_mode(cpu) ? linear : (u32)linear;
}

/* --- stacks --- */

bool tss_stack(struct vcpu *cpu, unsigned level, u32 ext, u16 *ss, u64 *sp)
{
    const bool wide = cpu->seg[TR].attr & 8;
    u32 at = wide ? level * 8 + 4 : level * 4 + 2;
    u64 selector;
    if (at + (wide ? 5 : 3) > cpu->seg[TR].limit) return tss_error(cpu, ext);
    TRY(sys_read(cpu, tss_linear(cpu, at), wide ? 4 : 2, sp));
    TRY(sys_read(cpu, tss_linear(cpu, at + (wide ? 4 : 2)), 2, &selector));
    *ss = (u16)selector;
    return true;
}

static bool tss_read64(struct vcpu *cpu, u32 at, u32 ext, u64 *sp)
{
    if (at + 7 > cpu->seg[TR].limit) return tss_error(cpu, ext);
    TRY(sys_read(cpu, tss_linear(cpu, at), 8, sp));
    return cpu_is_canonical(*sp) || cpu_fault_error(cpu, VECTOR_SS, ext & 1);
}
bool tss_stack64(struct vcpu *cpu, unsigned level, u32 ext, u64 *sp)
{
    return tss_read64(cpu, level * 8 + 4, ext, sp);
}
bool tss_ist(struct vcpu *cpu, unsigned n, u32 ext, u64 *sp)
{
    return tss_read64(cpu, n * 8 + 28, ext, sp);
}

/* --- bitmaps --- */

static bool tss_has_map(const struct vcpu *cpu)
{
    const struct segment *tr = &cpu->seg[TR];
    return (tr->attr & SEG_P) && !(tr->attr & SEG_UNUSABLE) && (tr->attr & 8) && tr->limit >= 0x67;
}

bool io_bitmap_allows(struct vcpu *cpu, u16 port, unsigned size)
{
    u64 base, bits;
    if (!tss_has_map(cpu)) return cpu_gp0(cpu);
    TRY(sys_read(cpu, tss_linear(cpu, 0x66), 2, &base));
    u32 at = (u32)base + port / 8;
    if (at + 1 > cpu->seg[TR].limit) return cpu_gp0(cpu);
    TRY(sys_read(cpu, tss_linear(cpu, at), 2, &bits));
    if (bits >> (port & 7) & ((1u << size) - 1)) return cpu_gp0(cpu);
    return true;
}

bool vme_redirects(struct vcpu *cpu, u8 vector, bool *redirect)
{
    u64 base, bits;
    if (!tss_has_map(cpu)) return cpu_gp0(cpu);
    TRY(sys_read(cpu, tss_linear(cpu, 0x66), 2, &base));
    u32 at = (u32)base - 32 + vector / 8;
    if (base < 32 || at > cpu->seg[TR].limit) return cpu_gp0(cpu);
    TRY(sys_read(cpu, tss_linear(cpu, at), 1, &bits));
    *redirect = !(bits >> (vector & 7) & 1);
    return true;
}

/* --- task switches --- */

/* A task as its TSS holds it; 16-bit ones are widened. */
struct task {
    u32 cr3, eip, eflags, regs[8];
    u16 selector[6]; /* ES CS SS DS FS GS */
    u16 ldt;
    bool trap;
};

struct tss_layout {
    u8 width, eip, eflags, regs, selectors, selector_count, ldt;
    u16 minimum; /* limit */
    u16 upper;   /* of unused halves of 16-bit registers */
};
static const struct tss_layout tss16 = {2, 0x0e, 0x10, 0x12, 0x22, 4, 0x2a, 0x2b, 0xffff};
static const struct tss_layout tss32 = {4, 0x20, 0x24, 0x28, 0x48, 6, 0x60, 0x67, 0};

static bool tss_get(struct vcpu *cpu, u64 base, u32 offset, unsigned size, u32 *value)
{
    u64 wide;
    TRY(sys_read(cpu, (u32)(base + offset), size, &wide));
    *value = (u32)wide;
    return true;
}

static bool task_read(struct vcpu *cpu, u64 base, const struct tss_layout *l, struct task *t)
{
    u32 value, filler = (u32)l->upper << 16;
    memset(t, 0, sizeof(*t));
    TRY(tss_get(cpu, base, l->eip, l->width, &t->eip));
    TRY(tss_get(cpu, base, l->eflags, l->width, &t->eflags));
    for (unsigned i = 0; i < 8; i++) {
        TRY(tss_get(cpu, base, l->regs + i * l->width, l->width, &t->regs[i]));
        t->regs[i] |= filler;
    }
    for (unsigned i = 0; i < l->selector_count; i++) {
        TRY(tss_get(cpu, base, l->selectors + i * l->width, 2, &value));
        t->selector[i] = (u16)value;
    }
    TRY(tss_get(cpu, base, l->ldt, 2, &value));
    t->ldt = (u16)value;
    if (l->width == 2) return true;
    TRY(tss_get(cpu, base, 0x1c, 4, &t->cr3));
    TRY(tss_get(cpu, base, 0x64, 2, &value));
    t->trap = value & 1;
    return true;
}

static bool task_write(struct vcpu *cpu, u64 base, const struct tss_layout *l, u32 eip, u32 eflags)
{
    TRY(sys_write(cpu, (u32)(base + l->eip), l->width, eip & size_mask(l->width)));
    TRY(sys_write(cpu, (u32)(base + l->eflags), l->width, eflags & size_mask(l->width)));
    for (unsigned i = 0; i < 8; i++)
        TRY(sys_write(cpu, (u32)(base + l->regs + i * l->width), l->width,
                      cpu->regs[i] & size_mask(l->width)));
    for (unsigned i = 0; i < l->selector_count; i++)
        TRY(sys_write(cpu, (u32)(base + l->selectors + i * l->width), 2, cpu->seg[i].selector));
    return true;
}

static bool set_busy(struct vcpu *cpu, u16 selector, bool busy)
{
    u64 linear, byte;
    if (!desc_locate(cpu, selector, &linear)) return true;
    TRY(sys_read(cpu, linear + 5, 1, &byte));
    return sys_write(cpu, linear + 5, 1, busy ? byte | 2 : byte & ~(u64)2);
}

/* --- the new task's segments; faults are #TS, #NP, #SS of the new task --- */

static bool task_ldt(struct vcpu *cpu, u16 selector)
{
    struct descriptor d;
    u32 error = selector & 0xfffc;
    if (selector_is_null(selector)) return true;
    if (selector & 4) return cpu_fault_error(cpu, VECTOR_TS, error);
    TRY(desc_read(cpu, selector, &d, VECTOR_TS, error));
    if (!desc_is_system(&d) || desc_type(&d) != TYPE_LDT || !desc_present(&d))
        return cpu_fault_error(cpu, VECTOR_TS, error);
    seg_put(cpu, LDTR, selector, &d);
    return true;
}

static bool task_cs(struct vcpu *cpu, u16 selector)
{
    struct descriptor d;
    u32 error = selector & 0xfffc;
    unsigned rpl = selector & 3u;
    if (selector_is_null(selector)) return cpu_fault_error(cpu, VECTOR_TS, 0);
    TRY(desc_read(cpu, selector, &d, VECTOR_TS, error));
    if (!desc_is_code(&d) ||
        (desc_is_conforming(&d) ? desc_dpl(&d) > rpl : desc_dpl(&d) != rpl))
        return cpu_fault_error(cpu, VECTOR_TS, error);
    if (!desc_present(&d)) return cpu_fault_error(cpu, VECTOR_NP, error);
    TRY(desc_set_type_bits(cpu, &d, SEG_ACCESSED));
    cs_put(cpu, selector, &d, rpl);
    return true;
}

static bool task_ss(struct vcpu *cpu, u16 selector)
{
    struct descriptor d;
    TRY(ss_check(cpu, selector, cpu->cpl, VECTOR_TS, 0, &d));
    TRY(desc_set_type_bits(cpu, &d, SEG_ACCESSED));
    seg_put(cpu, SS, selector, &d);
    return true;
}

static bool task_data(struct vcpu *cpu, unsigned seg, u16 selector)
{
    struct descriptor d;
    u32 error = selector & 0xfffc;
    if (selector_is_null(selector)) return true;
    TRY(desc_read(cpu, selector, &d, VECTOR_TS, error));
    if (desc_is_system(&d) || (desc_is_code(&d) && !(d.attr & SEG_READABLE)) ||
        (!desc_is_conforming(&d) && (desc_dpl(&d) < cpu->cpl || desc_dpl(&d) < (selector & 3u))))
        return cpu_fault_error(cpu, VECTOR_TS, error);
    if (!desc_present(&d)) return cpu_fault_error(cpu, VECTOR_NP, error);
    TRY(desc_set_type_bits(cpu, &d, SEG_ACCESSED));
    seg_put(cpu, seg, selector, &d);
    return true;
}

static bool task_segments(struct vcpu *cpu, const struct task *t)
{
    static const u8 data_segments[] = {ES, DS, FS, GS};
    TRY(task_ldt(cpu, t->ldt));
    if (cpu_vm86(cpu)) return true;
    TRY(task_cs(cpu, t->selector[CS]));
    TRY(task_ss(cpu, t->selector[SS]));
    for (unsigned i = 0; i < ARRAY_SIZE(data_segments); i++)
        TRY(task_data(cpu, data_segments[i], t->selector[data_segments[i]]));
    if (cpu->rip > cpu->seg[CS].limit) return cpu_gp0(cpu);
    return true;
}

/* Registers of the new task; its segments are named but not loaded yet. */
static void task_enter(struct vcpu *cpu, const struct task *t, bool nested)
{
    u32 flags = t->eflags & ~2u;
    flags &= FLAGS_ARITHMETIC | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF |
             FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID;
    if (nested) flags |= FLAG_NT;
    flags_put(cpu, flags);
    cpu->eflags = flags & ~(u32)FLAGS_ARITHMETIC;
    cpu->rip = t->eip;
    for (unsigned i = 0; i < 8; i++) cpu->regs[i] = t->regs[i];
    cpu->cr0 |= CR0_TS;
    cpu->dr[7] &= ~(u64)0x155; /* the local enables */
    debug_rearm(cpu);
    cpu->cpl = flags & FLAG_VM ? 3 : t->selector[CS] & 3;
    for (unsigned i = 0; i < 6; i++) {
        if (flags & FLAG_VM) seg_put_real(cpu, i, t->selector[i]);
        else seg_put_null(cpu, i, t->selector[i]);
    }
    seg_put_null(cpu, LDTR, t->ldt);
}

/* Both descriptors' busy bits, the back link, TR, CR3. */
static bool task_commit(struct vcpu *cpu, u16 selector, struct descriptor *d,
                        enum task_reason reason, const struct task *t)
{
    const u16 old = cpu->seg[TR].selector;
    if (reason == TASK_JUMP || reason == TASK_IRET) TRY(set_busy(cpu, old, false));
    if (reason != TASK_IRET) TRY(set_busy(cpu, selector, true));
    if (reason == TASK_CALL || reason == TASK_INTERRUPT) TRY(sys_write(cpu, (u32)d->base, 2, old));
    d->attr |= 2;
    seg_put(cpu, TR, selector, d);
    if ((d->attr & 8) && (cpu->cr0 & CR0_PG) && !cr3_load(cpu, t->cr3)) return false;
    task_enter(cpu, t, reason == TASK_CALL || reason == TASK_INTERRUPT);
    return true;
}

bool task_switch(struct vcpu *cpu, u16 selector, struct descriptor *d, enum task_reason reason,
                 u64 next_ip, u32 ext)
{
    const u32 error = (selector & 0xfffc) | (ext & 1);
    const struct tss_layout *to = d->attr & 8 ? &tss32 : &tss16;
    const struct tss_layout *from = cpu->seg[TR].attr & 8 ? &tss32 : &tss16;
    struct task t;
    if (!desc_present(d)) return cpu_fault_error(cpu, VECTOR_NP, error);
    if (d->limit < to->minimum) return cpu_fault_error(cpu, VECTOR_TS, error);
    if (cpu->seg[TR].limit < from->minimum) return tss_error(cpu, ext);
    TRY(tlb_probe(cpu, (u32)(cpu->seg[TR].base + from->eip), 1, true, TLB_KERNEL));
    TRY(tlb_probe(cpu, (u32)(cpu->seg[TR].base + from->ldt), 1, true, TLB_KERNEL));
    TRY(tlb_probe(cpu, (u32)d->base, 2, reason != TASK_JUMP, TLB_KERNEL));
    TRY(task_read(cpu, d->base, to, &t));

    u32 flags = cpu_eflags(cpu) | (ext & FLAG_RF);
    if (reason == TASK_IRET) flags &= ~(u32)FLAG_NT;
    TRY(task_write(cpu, cpu->seg[TR].base, from, (u32)next_ip, flags));
    TRY(task_commit(cpu, selector, d, reason, &t));
    if (t.trap) debug_pend(cpu, DR6_BT);
    bool loaded = task_segments(cpu, &t);
    cpu_update_mode(cpu);
    cpu->leave_block = true;
    /* The new task's fault; when even that fails it will fail again for whoever reports it. */
    return loaded || cpu_deliver_exception(cpu);
}

bool task_gate(struct vcpu *cpu, u16 selector, enum task_reason reason, u64 next_ip, u32 ext)
{
    struct descriptor d;
    u32 error = (selector & 0xfffc) | (ext & 1);
    if (selector & 4) return cpu_fault_error(cpu, VECTOR_GP, error);
    if (selector_is_null(selector)) return cpu_fault_error(cpu, VECTOR_GP, ext & 1);
    TRY(desc_read(cpu, selector, &d, VECTOR_GP, error));
    if (!desc_is_system(&d) || (desc_type(&d) != TYPE_TSS16 && desc_type(&d) != TYPE_TSS32))
        return cpu_fault_error(cpu, VECTOR_GP, error);
    return task_switch(cpu, selector, &d, reason, next_ip, ext);
}

bool task_return(struct vcpu *cpu, u64 next_ip)
{
    struct descriptor d;
    u64 link;
    if (cpu->seg[TR].limit < 1) return tss_error(cpu, 0);
    TRY(sys_read(cpu, tss_linear(cpu, 0), 2, &link));
    u32 error = link & 0xfffc;
    if ((link & 4) || selector_is_null((u16)link)) return cpu_fault_error(cpu, VECTOR_TS, error);
    TRY(desc_read(cpu, (u16)link, &d, VECTOR_TS, error));
    if (!desc_is_system(&d) || (desc_type(&d) | 8) != TYPE_TSS32_BUSY)
        return cpu_fault_error(cpu, VECTOR_TS, error);
    return task_switch(cpu, (u16)link, &d, TASK_IRET, next_ip, 0);
}
