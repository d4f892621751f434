/*
 * Delivery of exceptions and interrupts: real mode, IDT gates of 16, 32 and 64 bits, task gates.
 * Specification: Intel SDM vol. 3 ch. 6 (6.12-6.15), 17.3 (RF), vol. 2 INT; double faults: table
 * 6-5.
 *
 * Nothing changes but memory below the new stack pointer until the last check has passed.
 */
#include "cpu/intr.h"
#include "cpu/debug.h" /* DR6, DR7 bits */
#include "cpu/seg.h"
#include "cpu/sem.h"

struct delivery {
    u8 vector;
    bool check_dpl;   /* software: the gate's DPL must allow CPL */
    bool has_error;
    u32 ext;          /* 1 in error codes of what goes wrong on the way, unless software's doing */
    u32 error;
    u64 ip;           /* return address */
    u32 flags;        /* EFLAGS image to push */
};

void eflags_write(struct vcpu *cpu, u32 value, u32 mask)
{
    const u32 mode_bits = FLAG_TF | FLAG_AC | FLAG_VM;
    u32 old = cpu->eflags;
    if (mask & FLAGS_ARITHMETIC)
        flags_put(cpu, (flags_get(cpu) & ~mask) | (value & mask & FLAGS_ARITHMETIC));
    mask &= ~(u32)FLAGS_ARITHMETIC;
    cpu->eflags = (old & ~mask) | (value & mask);
    if ((old ^ cpu->eflags) & mode_bits) cpu_update_mode(cpu);
    if (~old & cpu->eflags & FLAG_IF) cpu->leave_block = true; /* a request may be waiting */
}

/* --- frames --- */

static u8 frame_mode(const struct vcpu *cpu, unsigned cpl)
{
    if (cpl == 3) return TLB_USER;
    if (!(cpu->cr4 & CR4_SMAP)) return TLB_KERNEL;
    return cpu->cpl < 3 && (cpu->eflags & FLAG_AC) ? TLB_KERNEL_AC : TLB_KERNEL;
}

void frame_current(struct vcpu *cpu, struct frame *f, unsigned size, u32 error)
{
    const struct segment *ss = &cpu->seg[SS];
    f->flat = cpu_code64(cpu);
    f->base = f->flat ? 0 : ss->base;
    f->limit = ss->limit;
    f->attr = ss->attr;
    f->mask = size_mask(cpu->stack_size);
    f->sp = cpu->regs[RSP];
    f->size = (u8)size;
    f->error = error;
    f->mode = frame_mode(cpu, cpu->cpl);
}

void frame_new(struct vcpu *cpu, struct frame *f, const struct descriptor *d, u64 sp, unsigned cpl,
               unsigned size, u32 error)
{
    f->flat = cpu_long_mode(cpu);
    f->base = f->flat || !d ? 0 : d->base;
    f->limit = d ? d->limit : 0;
    f->attr = d ? d->attr : 0;
    f->mask = f->flat ? ~(u64)0 : f->attr & SEG_DB ? 0xffffffffu : 0xffffu;
    f->sp = sp;
    f->size = (u8)size;
    f->error = error;
    f->mode = frame_mode(cpu, cpl);
}

static bool frame_fits(const struct frame *f, u64 at)
{
    u64 last = at + f->size - 1;
    if (f->flat) return cpu_is_canonical(at) && cpu_is_canonical(last);
    if (f->attr & SEG_UNUSABLE) return false;
    if ((f->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == SEG_EXPAND_DOWN)
        return at > f->limit && last <= f->mask;
    return last <= f->limit;
}

bool frame_push(struct vcpu *cpu, struct frame *f, u64 value)
{
    u64 at = (f->sp - f->size) & f->mask;
    if (!frame_fits(f, at)) return cpu_fault_error(cpu, VECTOR_SS, f->error);
    u64 linear = f->flat ? at : (u32)(f->base + at);
    TRY(lin_write_as(cpu, cpu->tlb.entry[f->mode], f->mode, linear, f->size, value));
    f->sp = (f->sp & ~f->mask) | at;
    return true;
}

void frame_commit(struct vcpu *cpu, const struct frame *f)
{
    cpu->regs[RSP] = (cpu->regs[RSP] & ~(f->mask > 0xffff ? ~(u64)0 : f->mask)) | (f->sp & f->mask);
}

/* --- 8086 style --- */

bool interrupt_8086(struct vcpu *cpu, u8 vector, u64 ip, u32 flags_image, u32 flags_cleared)
{
    u64 entry, base = cpu_vm86(cpu) ? 0 : cpu->idt_base;
    TRY(lin_read_as(cpu, cpu_vm86(cpu) ? cpu->tlb_now : cpu->tlb.entry[TLB_KERNEL],
                    cpu_vm86(cpu) ? (enum tlb_mode)cpu->tlb_mode : TLB_KERNEL,
                    (u32)(base + vector * 4u), 4, &entry));
    TRY(stack_write_at(cpu, -2, 2, flags_image & 0xffff));
    TRY(stack_write_at(cpu, -4, 2, cpu->seg[CS].selector));
    TRY(stack_write_at(cpu, -6, 2, ip & 0xffff));
    stack_move(cpu, -6);
    cpu->eflags &= ~flags_cleared;
    seg_put_real(cpu, CS, (u16)(entry >> 16));
    cpu->rip = entry & 0xffff;
    cpu_update_mode(cpu);
    return true;
}

static bool deliver_real(struct vcpu *cpu, const struct delivery *dv)
{
    if (dv->vector * 4u + 3 > cpu->idt_limit)
        return cpu_fault_error(cpu, VECTOR_GP, dv->vector * 8u + 2 + dv->ext);
    return interrupt_8086(cpu, dv->vector, dv->ip, dv->flags,
                          FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
}

/* --- gates --- */

struct gate {
    struct descriptor cs;
    u64 offset;
    u16 selector;
    u8 type, ist, size; /* size of a push */
    u8 new_cpl;
    bool inner;
};

static void enter_handler(struct vcpu *cpu, const struct gate *gate)
{
    u32 clear = FLAG_TF | FLAG_VM | FLAG_RF | FLAG_NT;
    if (!(gate->type & 1)) clear |= FLAG_IF;
    cpu->eflags &= ~clear;
    cs_put(cpu, gate->selector, &gate->cs, gate->new_cpl);
    cpu->rip = gate->offset;
    cpu_update_mode(cpu);
}

/* The gate's code segment, and the privilege it brings. */
static bool gate_target(struct vcpu *cpu, const struct delivery *dv, struct gate *gate)
{
    u32 error = (gate->selector & 0xfffc) | dv->ext;
    if (selector_is_null(gate->selector)) return cpu_fault_error(cpu, VECTOR_GP, dv->ext);
    TRY(desc_read(cpu, gate->selector, &gate->cs, VECTOR_GP, error));
    unsigned dpl = desc_dpl(&gate->cs);
    if (!desc_is_code(&gate->cs) || dpl > cpu->cpl) return cpu_fault_error(cpu, VECTOR_GP, error);
    if (!desc_present(&gate->cs)) return cpu_fault_error(cpu, VECTOR_NP, error);
    if (cpu_long_mode(cpu) && (gate->cs.attr & (SEG_L | SEG_DB)) != SEG_L)
        return cpu_fault_error(cpu, VECTOR_GP, error);
    gate->inner = !desc_is_conforming(&gate->cs) && dpl < cpu->cpl;
    gate->new_cpl = gate->inner ? (u8)dpl : cpu->cpl;
    if (cpu_vm86(cpu) && gate->new_cpl != 0) return cpu_fault_error(cpu, VECTOR_GP, error);
    return true;
}

static bool push_return(struct vcpu *cpu, const struct delivery *dv, struct frame *f)
{
    TRY(frame_push(cpu, f, dv->flags));
    TRY(frame_push(cpu, f, cpu->seg[CS].selector));
    TRY(frame_push(cpu, f, dv->ip));
    return !dv->has_error || frame_push(cpu, f, dv->error);
}

static bool deliver_long(struct vcpu *cpu, const struct delivery *dv, struct gate *gate)
{
    u64 sp = cpu->regs[RSP];
    struct frame f;
    if (gate->ist) TRY(tss_ist(cpu, gate->ist, dv->ext, &sp));
    else if (gate->inner) TRY(tss_stack64(cpu, gate->new_cpl, dv->ext, &sp));
    frame_new(cpu, &f, NULL, sp & ~(u64)15, gate->new_cpl, 8, dv->ext);
    TRY(frame_push(cpu, &f, cpu->seg[SS].selector));
    TRY(frame_push(cpu, &f, cpu->regs[RSP]));
    TRY(push_return(cpu, dv, &f));
    TRY(ip_check(cpu, &gate->cs, gate->offset, dv->ext));
    TRY(desc_set_type_bits(cpu, &gate->cs, SEG_ACCESSED));
    enter_handler(cpu, gate);
    if (gate->inner) seg_put_null(cpu, SS, gate->new_cpl);
    cpu->regs[RSP] = f.sp;
    cpu_update_mode(cpu);
    return true;
}

static bool deliver_inner(struct vcpu *cpu, const struct delivery *dv, struct gate *gate)
{
    static const u8 vm86_order[] = {GS, FS, DS, ES};
    const bool vm86 = cpu_vm86(cpu);
    struct descriptor ss;
    struct frame f;
    u16 selector;
    u64 sp;
    TRY(tss_stack(cpu, gate->new_cpl, dv->ext, &selector, &sp));
    TRY(ss_check(cpu, selector, gate->new_cpl, VECTOR_TS, dv->ext, &ss));
    frame_new(cpu, &f, &ss, sp, gate->new_cpl, gate->size, (selector & 0xfffc) | dv->ext);
    for (unsigned i = 0; vm86 && i < ARRAY_SIZE(vm86_order); i++)
        TRY(frame_push(cpu, &f, cpu->seg[vm86_order[i]].selector));
    TRY(frame_push(cpu, &f, cpu->seg[SS].selector));
    TRY(frame_push(cpu, &f, cpu->regs[RSP]));
    TRY(push_return(cpu, dv, &f));
    TRY(ip_check(cpu, &gate->cs, gate->offset, dv->ext));
    TRY(desc_set_type_bits(cpu, &gate->cs, SEG_ACCESSED));
    TRY(desc_set_type_bits(cpu, &ss, SEG_ACCESSED));
    enter_handler(cpu, gate);
    seg_put(cpu, SS, selector, &ss);
    frame_commit(cpu, &f);
    for (unsigned i = 0; vm86 && i < ARRAY_SIZE(vm86_order); i++)
        seg_put_null(cpu, vm86_order[i], 0);
    cpu_update_mode(cpu);
    return true;
}

static bool deliver_same(struct vcpu *cpu, const struct delivery *dv, struct gate *gate)
{
    struct frame f;
    frame_current(cpu, &f, gate->size, dv->ext);
    TRY(push_return(cpu, dv, &f));
    TRY(ip_check(cpu, &gate->cs, gate->offset, dv->ext));
    TRY(desc_set_type_bits(cpu, &gate->cs, SEG_ACCESSED));
    frame_commit(cpu, &f);
    enter_handler(cpu, gate);
    return true;
}

static bool deliver_task(struct vcpu *cpu, const struct delivery *dv, u16 selector)
{
    struct frame f;
    TRY(task_gate(cpu, selector, TASK_INTERRUPT, dv->ip, dv->ext | (dv->flags & FLAG_RF)));
    if (!dv->has_error) return true;
    frame_current(cpu, &f, cpu->seg[TR].attr & 8 ? 4 : 2, dv->ext);
    TRY(frame_push(cpu, &f, dv->error));
    frame_commit(cpu, &f);
    return true;
}

static bool deliver_protected(struct vcpu *cpu, const struct delivery *dv)
{
    const bool wide = cpu_long_mode(cpu);
    const unsigned length = wide ? 16 : 8;
    u32 error = dv->vector * 8u + 2 + dv->ext, at = dv->vector * length;
    struct descriptor d = {0};
    u64 high = 0, linear = cpu->idt_base + at;
    if (at + length - 1 > cpu->idt_limit) return cpu_fault_error(cpu, VECTOR_GP, error);
    if (!wide) linear = (u32)linear;
    TRY(sys_read(cpu, linear, 8, &d.raw));
    if (wide) TRY(sys_read(cpu, linear + 8, 8, &high));

    struct gate gate = {.type = d.raw >> 40 & 0x1f, .selector = gate_selector(&d)};
    u16 known = wide ? 1 << TYPE_INT32 | 1 << TYPE_TRAP32
                     : 1 << TYPE_TASK_GATE | 1 << TYPE_INT16 | 1 << TYPE_TRAP16 | 1 << TYPE_INT32 |
                           1 << TYPE_TRAP32;
    if (gate.type > 15 || !(known >> gate.type & 1)) return cpu_fault_error(cpu, VECTOR_GP, error);
    if (dv->check_dpl && (d.raw >> 45 & 3) < cpu->cpl)
        return cpu_fault_error(cpu, VECTOR_GP, error);
    if (!(d.raw >> 47 & 1)) return cpu_fault_error(cpu, VECTOR_NP, error);
    if (gate.type == TYPE_TASK_GATE) return deliver_task(cpu, dv, gate.selector);

    gate.offset = gate_offset(&d);
    gate.size = wide ? 8 : gate.type & 8 ? 4 : 2;
    if (gate.size == 2) gate.offset &= 0xffff;
    if (wide) gate.offset |= high << 32, gate.ist = d.raw >> 32 & 7;
    TRY(gate_target(cpu, dv, &gate));
    if (wide) return deliver_long(cpu, dv, &gate);
    return gate.inner ? deliver_inner(cpu, dv, &gate) : deliver_same(cpu, dv, &gate);
}

static void log_delivery(struct vcpu *cpu, const struct delivery *dv, bool software)
{
    bool pf = dv->vector == VECTOR_PF && !software;
    log_to(cpu->log, LOG_INTERRUPT,
           "%6u: v=%02x e=%04x i=%d cpl=%d IP=%04x:%016llx pc=%016llx SP=%04x:%016llx %s=%016llx",
           cpu->deliveries++, dv->vector, dv->error, software, cpu->cpl, cpu->seg[CS].selector,
           (unsigned long long)dv->ip, (unsigned long long)(cpu->seg[CS].base + dv->ip),
           cpu->seg[SS].selector, (unsigned long long)cpu->regs[RSP], pf ? "CR2" : "EAX",
           (unsigned long long)(pf ? cpu->cr2 : cpu->regs[RAX]));
}

static bool deliver(struct vcpu *cpu, const struct delivery *dv, bool software)
{
    if (unlikely(log_on(cpu->log, LOG_INTERRUPT))) log_delivery(cpu, dv, software);
    TRY(cpu_real_mode(cpu) ? deliver_real(cpu, dv) : deliver_protected(cpu, dv));
    cpu->shadow = 0;
    cpu->step_armed = false; /* TF was cleared */
    cpu->activity = CPU_RUNNING;
    cpu->leave_block = true;
    if (unlikely(cpu->stops != NULL)) {
        stops_event(cpu, STOP_EXCEPTION, dv->vector, 1, false, dv->error);
        if (cpu->stop.kind == STOP_EXCEPTION) cpu->stop.ip = dv->ip;
    }
    return true;
}

/* --- what can happen --- */

bool interrupt_software(struct vcpu *cpu, u8 vector, u64 ip, bool check_dpl)
{
    struct delivery dv = {.vector = vector, .check_dpl = check_dpl, .ext = !check_dpl, .ip = ip,
                          .flags = cpu_eflags(cpu)};
    return deliver(cpu, &dv, true);
}

static bool is_contributory(int vector)
{
    return vector == VECTOR_DE || (vector >= VECTOR_TS && vector <= VECTOR_GP);
}

/* SECOND happened while FIRST was delivered. */
static bool makes_double_fault(int first, int second)
{
    if (is_contributory(first)) return is_contributory(second);
    return first == VECTOR_PF && (second == VECTOR_PF || is_contributory(second));
}

/* Only the instruction knows which segment a non-canonical address was for. */
static bool address_was_stack(const struct vcpu *cpu, u64 linear)
{
    const struct insn *insn = cpu->current_insn;
    if (!insn) return false; /* it was the instruction's own address */
    /* indices are vectors */
    if (insn->op >= OP_VGATHERDPS && insn->op <= OP_VPGATHERQQ) return insn->seg == SS;
    for (unsigned i = 0; i < ARRAY_SIZE(insn->operand); i++) {
        if (insn->operand[i].kind != OPERAND_MEMORY) continue;
        u64 base = insn->seg >= FS ? cpu->seg[insn->seg].base : 0;
        u64 size = insn->operand[i].size ? insn->operand[i].size : 1024;
        if (linear - insn_ea(cpu, insn) - base < size) return insn->seg == SS;
    }
    return insn_row(insn->row)->attributes & ATTR_STACK;
}

/* What the exception itself leaves in registers, and how it is pushed. */
static void exception_prepare(struct vcpu *cpu, struct delivery *dv)
{
    u8 vector = (u8)cpu->exception.vector;
    dv->vector = vector;
    dv->check_dpl = false;
    dv->ext = 1;
    dv->has_error = cpu->exception.has_error && !cpu_real_mode(cpu);
    dv->error = cpu->exception.has_error ? cpu->exception.error : 0;
    dv->ip = cpu->rip;
    dv->flags = cpu_eflags(cpu);
    if (vector != VECTOR_DB && vector != VECTOR_DF && vector != VECTOR_MC && vector != VECTOR_BP &&
        vector != VECTOR_OF && vector != VECTOR_NMI && !cpu->exception.is_trap)
        dv->flags |= FLAG_RF;
    if (vector == VECTOR_PF) cpu->cr2 = cpu->exception.address;
    if (vector == VECTOR_DB) {
        cpu->dr[6] = (cpu->dr[6] & ~(u64)15) | cpu->exception.dr6 | DR6_FIXED;
        cpu->dr[7] &= ~(u64)DR7_GD;
    }
}

static bool deliver_chain(struct vcpu *cpu, int first)
{
    for (;;) {
        int vector = cpu->exception.vector;
        struct delivery dv;
        if (vector < 0) return true;
        if (first == VECTOR_DF && (is_contributory(vector) || vector == VECTOR_PF)) {
            log_to(cpu->log, LOG_INTERRUPT, "cpu%u: triple fault", cpu->index);
            return false;
        }
        if (makes_double_fault(first, vector)) {
            cpu_fault_error(cpu, VECTOR_DF, 0);
            vector = VECTOR_DF;
        }
        exception_prepare(cpu, &dv);
        if (deliver(cpu, &dv, false)) return true;
        first = vector;
    }
}

bool cpu_deliver_exception(struct vcpu *cpu)
{
    if (cpu->exception.vector < 0) return true;
    cpu->pending_db = 0; /* the instruction did not complete */
    if (unlikely(cpu->stops != NULL) && !cpu->exception.is_trap) stops_cancel(cpu);
    if (unlikely(cpu->fault_noncanonical)) {
        u64 linear = cpu->exception.address;
        bool stack = address_was_stack(cpu, linear);
        cpu_fault_error(cpu, stack ? VECTOR_SS : VECTOR_GP, 0);
    }
    return deliver_chain(cpu, -1);
}

static bool deliver_event(struct vcpu *cpu, u8 vector)
{
    struct delivery dv = {.vector = vector, .ext = 1, .ip = cpu->rip, .flags = cpu_eflags(cpu)};
    return deliver(cpu, &dv, false) || deliver_chain(cpu, -1);
}

bool cpu_deliver_interrupt(struct vcpu *cpu, u8 vector) { return deliver_event(cpu, vector); }

bool cpu_deliver_nmi(struct vcpu *cpu)
{
    cpu->nmi_blocked = 1;
    return deliver_event(cpu, VECTOR_NMI);
}

bool cpu_deliver_machine_check(struct vcpu *cpu)
{
    if (!(cpu->cr4 & CR4_MCE)) return false;
    return deliver_event(cpu, VECTOR_MC);
}
