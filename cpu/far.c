/*
 * Far transfers: JMP, CALL, RET to other segments, call gates, IRET, and software interrupts.
 * Specification: Intel SDM vol. 2 (JMP, CALL, RET, IRET, INT n), vol. 3 ch. 5.8, 6.12, 20.3 (VME).
 */
#include "cpu/debug.h" /* debug_has_code_breakpoints */
#include "cpu/intr.h"
#include "cpu/seg.h"
#include "cpu/sem.h"

#define ERROR_OF(selector) ((u32)((selector) & 0xfffc))

/* --- direct targets --- */

static void log_transfer(struct vcpu *cpu, const char *what)
{
    log_to(cpu->log, LOG_PCALL, "cpu%u: %s in front of %04x:%016llx, CPL %u", cpu->index, what,
           cpu->seg[CS].selector, (unsigned long long)cpu->rip, cpu->cpl);
}

static bool far_operand(struct vcpu *cpu, const struct insn *insn, u16 *selector, u64 *offset)
{
    u64 linear, wide;
    if (insn->operand[0].kind == OPERAND_FAR) {
        *offset = insn->imm & size_mask(insn->size);
        *selector = insn->imm2;
        return true;
    }
    TRY(mem_linear(cpu, insn, insn->size + 2, false, &linear));
    TRY(lin_read(cpu, linear, insn->size, offset));
    TRY(lin_read(cpu, linear + insn->size, 2, &wide));
    *selector = (u16)wide;
    return true;
}

/* A code segment reached directly: its rights, presence and where IP would be. */
static bool direct_check(struct vcpu *cpu, u16 selector, struct descriptor *d, u64 ip)
{
    u32 error = ERROR_OF(selector);
    if (desc_is_conforming(d)) {
        if (desc_dpl(d) > cpu->cpl) return cpu_fault_error(cpu, VECTOR_GP, error);
    } else if ((selector & 3u) > cpu->cpl || desc_dpl(d) != cpu->cpl) {
        return cpu_fault_error(cpu, VECTOR_GP, error);
    }
    if (cpu_long_mode(cpu) && (d->attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))
        return cpu_fault_error(cpu, VECTOR_GP, error);
    if (!desc_present(d)) return cpu_fault_error(cpu, VECTOR_NP, error);
    return ip_check(cpu, d, ip, 0);
}

static bool enter_code(struct vcpu *cpu, u16 selector, const struct descriptor *d, unsigned cpl,
                       u64 ip)
{
    cs_put(cpu, selector, d, cpl);
    cpu->rip = ip;
    cpu_update_mode(cpu);
    return true;
}

/* --- call gates --- */

struct call_gate {
    struct descriptor cs;
    u64 offset;
    u16 selector;
    u8 size, parameters;
};

/* The gate D of SELECTOR and its target, but not the target's privilege against CPL. */
static bool gate_open(struct vcpu *cpu, u16 selector, struct descriptor *d, struct call_gate *gate)
{
    u32 error = ERROR_OF(selector);
    const bool wide = cpu_long_mode(cpu);
    if (desc_dpl(d) < cpu->cpl || desc_dpl(d) < (selector & 3u))
        return cpu_fault_error(cpu, VECTOR_GP, error);
    if (!desc_present(d)) return cpu_fault_error(cpu, VECTOR_NP, error);
    gate->selector = gate_selector(d);
    gate->offset = gate_offset(d);
    gate->parameters = d->raw >> 32 & 31;
    gate->size = desc_type(d) == TYPE_CALL16 ? 2 : 4;
    if (gate->size == 2) gate->offset &= 0xffff;
    if (wide) {
        u64 high;
        u32 limit = selector & 4 ? cpu->seg[LDTR].limit : cpu->gdt_limit;
        if ((u32)(selector & 0xfff8) + 15 > limit) return cpu_fault_error(cpu, VECTOR_GP, error);
        TRY(sys_read(cpu, d->linear + 8, 8, &high));
        if (high >> 40 & 0x1f) return cpu_fault_error(cpu, VECTOR_GP, error);
        gate->offset |= high << 32;
        gate->size = 8;
        gate->parameters = 0;
    }
    if (selector_is_null(gate->selector)) return cpu_gp0(cpu);
    error = ERROR_OF(gate->selector);
    TRY(desc_read(cpu, gate->selector, &gate->cs, VECTOR_GP, error));
    if (!desc_is_code(&gate->cs) || desc_dpl(&gate->cs) > cpu->cpl ||
        (wide && (gate->cs.attr & (SEG_L | SEG_DB)) != SEG_L))
        return cpu_fault_error(cpu, VECTOR_GP, error);
    return true;
}

static bool gate_present(struct vcpu *cpu, const struct call_gate *gate)
{
    return desc_present(&gate->cs) || cpu_fault_error(cpu, VECTOR_NP, ERROR_OF(gate->selector));
}

static bool jump_gate(struct vcpu *cpu, u16 selector, struct descriptor *d)
{
    struct call_gate gate;
    TRY(gate_open(cpu, selector, d, &gate));
    if (!desc_is_conforming(&gate.cs) && desc_dpl(&gate.cs) != cpu->cpl)
        return cpu_fault_error(cpu, VECTOR_GP, ERROR_OF(gate.selector));
    TRY(gate_present(cpu, &gate));
    TRY(ip_check(cpu, &gate.cs, gate.offset, 0));
    TRY(desc_set_type_bits(cpu, &gate.cs, SEG_ACCESSED));
    return enter_code(cpu, gate.selector, &gate.cs, cpu->cpl, gate.offset);
}

static bool push_caller(struct vcpu *cpu, struct frame *f, u64 next)
{
    TRY(frame_push(cpu, f, cpu->seg[CS].selector));
    return frame_push(cpu, f, next);
}

static bool call_gate_same(struct vcpu *cpu, struct call_gate *gate, u64 next)
{
    struct frame f;
    frame_current(cpu, &f, gate->size, 0);
    if (cpu_long_mode(cpu)) f.flat = true, f.mask = ~(u64)0;
    TRY(push_caller(cpu, &f, next));
    TRY(ip_check(cpu, &gate->cs, gate->offset, 0));
    TRY(desc_set_type_bits(cpu, &gate->cs, SEG_ACCESSED));
    frame_commit(cpu, &f);
    return enter_code(cpu, gate->selector, &gate->cs, cpu->cpl, gate->offset);
}

static bool call_gate_inner(struct vcpu *cpu, struct call_gate *gate, u64 next)
{
    const bool wide = cpu_long_mode(cpu);
    const unsigned cpl = desc_dpl(&gate->cs);
    struct descriptor ss;
    struct frame f;
    u16 selector = (u16)cpl;
    u64 sp, parameter;
    if (wide) {
        TRY(tss_stack64(cpu, cpl, 0, &sp));
    } else {
        TRY(tss_stack(cpu, cpl, 0, &selector, &sp));
        TRY(ss_check(cpu, selector, cpl, VECTOR_TS, 0, &ss));
    }
    frame_new(cpu, &f, wide ? NULL : &ss, sp, cpl, gate->size, ERROR_OF(selector));
    TRY(frame_push(cpu, &f, cpu->seg[SS].selector));
    TRY(frame_push(cpu, &f, cpu->regs[RSP]));
    for (unsigned i = gate->parameters; i-- > 0;) {
        TRY(stack_read_at(cpu, i * gate->size, gate->size, &parameter));
        TRY(frame_push(cpu, &f, parameter));
    }
    TRY(push_caller(cpu, &f, next));
    TRY(ip_check(cpu, &gate->cs, gate->offset, 0));
    TRY(desc_set_type_bits(cpu, &gate->cs, SEG_ACCESSED));
    if (!wide) TRY(desc_set_type_bits(cpu, &ss, SEG_ACCESSED));
    enter_code(cpu, gate->selector, &gate->cs, cpl, gate->offset);
    if (wide) seg_put_null(cpu, SS, selector);
    else seg_put(cpu, SS, selector, &ss);
    frame_commit(cpu, &f);
    cpu_update_mode(cpu);
    return true;
}

static bool call_gate(struct vcpu *cpu, u16 selector, struct descriptor *d, u64 next)
{
    struct call_gate gate;
    TRY(gate_open(cpu, selector, d, &gate));
    TRY(gate_present(cpu, &gate));
    if (!desc_is_conforming(&gate.cs) && desc_dpl(&gate.cs) < cpu->cpl)
        return call_gate_inner(cpu, &gate, next);
    return call_gate_same(cpu, &gate, next);
}

/* --- system descriptors as targets --- */

static bool far_system(struct vcpu *cpu, u16 selector, struct descriptor *d, bool call, u64 next)
{
    const enum task_reason reason = call ? TASK_CALL : TASK_JUMP;
    const unsigned type = desc_type(d);
    const bool privileged = desc_dpl(d) < cpu->cpl || desc_dpl(d) < (selector & 3u);
    const bool wide = cpu_long_mode(cpu);
    if (type == TYPE_CALL32 || (type == TYPE_CALL16 && !wide))
        return call ? call_gate(cpu, selector, d, next) : jump_gate(cpu, selector, d);
    if (!wide && !privileged && type == TYPE_TASK_GATE) {
        if (!desc_present(d)) return cpu_fault_error(cpu, VECTOR_NP, ERROR_OF(selector));
        return task_gate(cpu, gate_selector(d), reason, next, 0);
    }
    if (!wide && !privileged && !(selector & 4) && (type == TYPE_TSS16 || type == TYPE_TSS32))
        return task_switch(cpu, selector, d, reason, next, 0);
    return cpu_fault_error(cpu, VECTOR_GP, ERROR_OF(selector));
}

/* --- JMP, CALL --- */

static bool real_target(struct vcpu *cpu, u64 offset)
{
    /* a segment's limit is unchanged by loading it here */
    u32 limit = cpu_vm86(cpu) ? 0xffff : cpu->seg[CS].limit;
    return offset <= limit || cpu_gp0(cpu);
}

static bool enter_real(struct vcpu *cpu, u16 selector, u64 offset)
{
    seg_put_real(cpu, CS, selector);
    cpu->rip = offset;
    cpu_update_mode(cpu);
    return true;
}

bool sem_JMP_FAR(struct vcpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    u16 selector;
    u64 offset, next = cpu_next_ip(cpu, insn);
    log_transfer(cpu, "far jump");
    TRY(far_operand(cpu, insn, &selector, &offset));
    if (!cpu_protected(cpu)) {
        TRY(real_target(cpu, offset));
        return enter_real(cpu, selector, offset);
    }
    if (selector_is_null(selector)) return cpu_gp0(cpu);
    TRY(desc_read(cpu, selector, &d, VECTOR_GP, ERROR_OF(selector)));
    if (desc_is_system(&d)) return far_system(cpu, selector, &d, false, next);
    if (!desc_is_code(&d)) return cpu_fault_error(cpu, VECTOR_GP, ERROR_OF(selector));
    TRY(direct_check(cpu, selector, &d, offset));
    TRY(desc_set_type_bits(cpu, &d, SEG_ACCESSED));
    return enter_code(cpu, selector, &d, cpu->cpl, offset);
}

bool sem_CALL_FAR(struct vcpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    u16 selector;
    const i64 size = insn->size;
    u64 offset, next = cpu_next_ip(cpu, insn);
    const bool protected = cpu_protected(cpu);
    log_transfer(cpu, "far call");
    TRY(far_operand(cpu, insn, &selector, &offset));
    if (protected) {
        if (selector_is_null(selector)) return cpu_gp0(cpu);
        TRY(desc_read(cpu, selector, &d, VECTOR_GP, ERROR_OF(selector)));
        if (desc_is_system(&d)) return far_system(cpu, selector, &d, true, next);
        if (!desc_is_code(&d)) return cpu_fault_error(cpu, VECTOR_GP, ERROR_OF(selector));
        TRY(direct_check(cpu, selector, &d, offset));
    } else {
        TRY(real_target(cpu, offset));
    }
    TRY(stack_write_at(cpu, -size, insn->size, cpu->seg[CS].selector));
    TRY(stack_write_at(cpu, -2 * size, insn->size, next & size_mask(insn->size)));
    if (protected) TRY(desc_set_type_bits(cpu, &d, SEG_ACCESSED));
    stack_move(cpu, -2 * size);
    return protected ? enter_code(cpu, selector, &d, cpu->cpl, offset)
                     : enter_real(cpu, selector, offset);
}

/* --- returns --- */

/* CS of a return: code, privilege no inner than CPL. */
static bool return_cs(struct vcpu *cpu, u16 selector, struct descriptor *d)
{
    u32 error = ERROR_OF(selector);
    unsigned rpl = selector & 3u;
    if (selector_is_null(selector)) return cpu_gp0(cpu);
    TRY(desc_read(cpu, selector, d, VECTOR_GP, error));
    if (!desc_is_code(d) || rpl < cpu->cpl) return cpu_fault_error(cpu, VECTOR_GP, error);
    if (desc_is_conforming(d) ? desc_dpl(d) > rpl : desc_dpl(d) != rpl)
        return cpu_fault_error(cpu, VECTOR_GP, error);
    if (cpu_long_mode(cpu) && (d->attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))
        return cpu_fault_error(cpu, VECTOR_GP, error);
    if (!desc_present(d)) return cpu_fault_error(cpu, VECTOR_NP, error);
    return true;
}

/* SS of a return to CS (privilege RPL). *NULL_SS: a null selector, fine for 64-bit code above ring
 * 3. */
static bool return_ss(struct vcpu *cpu, u16 selector, const struct descriptor *cs, unsigned rpl,
                      struct descriptor *d, bool *null_ss)
{
    *null_ss = selector_is_null(selector);
    if (*null_ss) {
        bool fine = cpu_long_mode(cpu) && (cs->attr & SEG_L) && rpl != 3 && (selector & 3u) == rpl;
        return fine || cpu_gp0(cpu);
    }
    return ss_check(cpu, selector, rpl, VECTOR_GP, 0, d);
}

/* rSP of the stack returned to, by the width it has now. */
static void set_sp(struct vcpu *cpu, u64 sp)
{
    if (cpu->stack_size == 8) cpu->regs[RSP] = sp;
    else if (cpu->stack_size == 4) cpu->regs[RSP] = (u32)sp;
    else cpu->regs[RSP] = ((u32)cpu->regs[RSP] & 0xffff0000u) | (sp & 0xffff);
}

struct outer {
    struct descriptor cs, ss;
    u64 ip, sp;
    u16 cs_selector, ss_selector;
    bool null_ss;
};

/* Reads SP and SS at OFFSET of the stack, completes and checks OUTER; cs is checked already. */
static bool outer_read(struct vcpu *cpu, struct outer *o, i64 offset, unsigned size)
{
    u64 selector;
    TRY(stack_read_at(cpu, offset, size, &o->sp));
    TRY(stack_read_at(cpu, offset + size, size, &selector));
    o->ss_selector = (u16)selector;
    TRY(return_ss(cpu, o->ss_selector, &o->cs, o->cs_selector & 3u, &o->ss, &o->null_ss));
    TRY(ip_check(cpu, &o->cs, o->ip, 0));
    TRY(desc_set_type_bits(cpu, &o->cs, SEG_ACCESSED));
    return o->null_ss || desc_set_type_bits(cpu, &o->ss, SEG_ACCESSED);
}

static void outer_enter(struct vcpu *cpu, const struct outer *o, unsigned release)
{
    unsigned old_cpl = cpu->cpl, cpl = o->cs_selector & 3u;
    enter_code(cpu, o->cs_selector, &o->cs, cpl, o->ip);
    if (o->null_ss) seg_put_null(cpu, SS, o->ss_selector);
    else seg_put(cpu, SS, o->ss_selector, &o->ss);
    cpu_update_mode(cpu);
    set_sp(cpu, o->sp + release);
    if (cpl > old_cpl) {
        seg_drop_inner(cpu);
        cpu_update_mode(cpu);
    }
}

bool sem_RET_FAR(struct vcpu *cpu, const struct insn *insn)
{
    const unsigned size = insn->size;
    const unsigned release = insn->operand[0].kind == OPERAND_IMMEDIATE ? (u16)insn->imm : 0;
    struct outer o;
    u64 selector;
    log_transfer(cpu, "far return");
    TRY(stack_read_at(cpu, 0, size, &o.ip));
    TRY(stack_read_at(cpu, size, size, &selector));
    o.cs_selector = (u16)selector;
    if (!cpu_protected(cpu)) {
        TRY(real_target(cpu, o.ip));
        stack_move(cpu, 2 * size + release);
        return enter_real(cpu, o.cs_selector, o.ip);
    }
    TRY(return_cs(cpu, o.cs_selector, &o.cs));
    if ((o.cs_selector & 3u) == cpu->cpl) {
        TRY(ip_check(cpu, &o.cs, o.ip, 0));
        TRY(desc_set_type_bits(cpu, &o.cs, SEG_ACCESSED));
        stack_move(cpu, 2 * size + release);
        return enter_code(cpu, o.cs_selector, &o.cs, cpu->cpl, o.ip);
    }
    TRY(outer_read(cpu, &o, 2 * size + release, size));
    outer_enter(cpu, &o, release);
    return true;
}

/* --- IRET --- */

/* RF counts only where breakpoints could be met; dropping it saves us from clearing it later. */
static void iret_flags(struct vcpu *cpu, u64 image, u32 mask, unsigned size)
{
    if (size == 2) mask &= 0xffff;
    eflags_write(cpu, (u32)image, mask);
    if (!debug_has_code_breakpoints(cpu)) cpu->eflags &= ~(u32)FLAG_RF;
}

#define IRET_FLAGS (FLAGS_ARITHMETIC | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID)

static bool iret_vme(struct vcpu *cpu, u64 ip, u64 cs, u64 flags)
{
    if ((flags & FLAG_TF) || ((cpu->eflags & FLAG_VIP) && (flags & FLAG_IF))) return cpu_gp0(cpu);
    stack_move(cpu, 6);
    u32 mask = (IRET_FLAGS & 0xffff) | FLAG_VIF;
    eflags_write(cpu, (u32)(flags & 0xffff & ~FLAG_VIF) | (flags & FLAG_IF ? FLAG_VIF : 0), mask);
    return enter_real(cpu, (u16)cs, ip & 0xffff);
}

static bool iret_real(struct vcpu *cpu, const struct insn *insn)
{
    const unsigned size = insn->size;
    const bool vm86 = cpu_vm86(cpu);
    u64 ip, cs, flags;
    if (vm86 && cpu_iopl(cpu) < 3 && (!(cpu->cr4 & CR4_VME) || size != 2)) return cpu_gp0(cpu);
    TRY(stack_read_at(cpu, 0, size, &ip));
    TRY(stack_read_at(cpu, size, size, &cs));
    TRY(stack_read_at(cpu, 2 * size, size, &flags));
    if (vm86 && cpu_iopl(cpu) < 3) return iret_vme(cpu, ip, cs, flags);
    TRY(real_target(cpu, ip));
    stack_move(cpu, 3 * size);
    iret_flags(cpu, flags, IRET_FLAGS | FLAG_IF | (vm86 ? 0 : FLAG_IOPL), size);
    return enter_real(cpu, (u16)cs, ip);
}

static bool iret_to_vm86(struct vcpu *cpu, u64 ip, u64 cs, u64 flags)
{
    static const u8 order[] = {SS, ES, DS, FS, GS};
    u64 sp, selector[ARRAY_SIZE(order)];
    TRY(stack_read_at(cpu, 12, 4, &sp));
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        TRY(stack_read_at(cpu, 16 + 4 * i, 4, &selector[i]));
    if (ip > 0xffff) return cpu_gp0(cpu);
    cpu->cpl = 3;
    eflags_write(cpu, (u32)flags,
                 IRET_FLAGS | FLAG_IF | FLAG_IOPL | FLAG_VM | FLAG_VIF | FLAG_VIP);
    if (!debug_has_code_breakpoints(cpu)) cpu->eflags &= ~(u32)FLAG_RF;
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++) seg_put_real(cpu, order[i], (u16)selector[i]);
    cpu->regs[RSP] = (u32)sp;
    return enter_real(cpu, (u16)cs, ip);
}

static bool iret_protected(struct vcpu *cpu, const struct insn *insn)
{
    const unsigned size = insn->size;
    const bool wide = cpu_code64(cpu);
    struct outer o;
    u64 selector, flags;
    if (cpu->eflags & FLAG_NT) {
        if (cpu_long_mode(cpu)) return cpu_gp0(cpu);
        return task_return(cpu, cpu_next_ip(cpu, insn));
    }
    TRY(stack_read_at(cpu, 0, size, &o.ip));
    TRY(stack_read_at(cpu, size, size, &selector));
    TRY(stack_read_at(cpu, 2 * size, size, &flags));
    if ((flags & FLAG_VM) && cpu->cpl == 0 && size == 4 && !cpu_long_mode(cpu))
        return iret_to_vm86(cpu, o.ip, selector, flags);

    o.cs_selector = (u16)selector;
    u32 mask = IRET_FLAGS;
    if (cpu->cpl <= cpu_iopl(cpu)) mask |= FLAG_IF;
    if (cpu->cpl == 0) mask |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
    TRY(return_cs(cpu, o.cs_selector, &o.cs));
    if (wide || (o.cs_selector & 3u) != cpu->cpl) {
        TRY(outer_read(cpu, &o, 3 * size, size));
        outer_enter(cpu, &o, 0);
    } else {
        TRY(ip_check(cpu, &o.cs, o.ip, 0));
        TRY(desc_set_type_bits(cpu, &o.cs, SEG_ACCESSED));
        stack_move(cpu, 3 * size);
        enter_code(cpu, o.cs_selector, &o.cs, cpu->cpl, o.ip);
    }
    iret_flags(cpu, flags, mask, size);
    cpu_update_mode(cpu); /* MODE_STEP may hang on RF and CPL on AC */
    return true;
}

bool sem_IRET(struct vcpu *cpu, const struct insn *insn)
{
    log_transfer(cpu, "interrupt return");
    cpu_unblock_nmi(cpu); /* even when it faults (SDM vol. 3, 6.7.1) */
    cpu_serialize(cpu);
    return cpu_protected(cpu) ? iret_protected(cpu, insn) : iret_real(cpu, insn);
}

/* --- software interrupts --- */

static bool int_vme(struct vcpu *cpu, u8 vector, u64 next)
{
    u32 image = cpu_eflags(cpu);
    if (cpu_iopl(cpu) < 3) {
        image = (image & ~(u32)FLAG_IF) | FLAG_IOPL | (cpu->eflags & FLAG_VIF ? FLAG_IF : 0);
        return interrupt_8086(cpu, vector, next, image, FLAG_VIF | FLAG_TF);
    }
    return interrupt_8086(cpu, vector, next, image, FLAG_IF | FLAG_TF);
}

bool sem_INT(struct vcpu *cpu, const struct insn *insn)
{
    u8 vector = (u8)insn->imm;
    u64 next = cpu_next_ip(cpu, insn);
    if (cpu_vm86(cpu)) {
        bool redirect = false;
        if (cpu->cr4 & CR4_VME) TRY(vme_redirects(cpu, vector, &redirect));
        if (redirect) return int_vme(cpu, vector, next);
        if (cpu_iopl(cpu) < 3) return cpu_gp0(cpu);
    }
    return interrupt_software(cpu, vector, next, true);
}

bool sem_INT3(struct vcpu *cpu, const struct insn *insn)
{
    return interrupt_software(cpu, VECTOR_BP, cpu_next_ip(cpu, insn), true);
}

bool sem_INTO(struct vcpu *cpu, const struct insn *insn)
{
    u64 next = cpu_next_ip(cpu, insn);
    if (flag_of(cpu)) return interrupt_software(cpu, VECTOR_OF, next, true);
    cpu->rip = next;
    return true;
}

/* ICEBP: #DB as a trap, DR6 untouched, no DPL check. */
bool sem_INT1(struct vcpu *cpu, const struct insn *insn)
{
    TRY(interrupt_software(cpu, VECTOR_DB, cpu_next_ip(cpu, insn), false));
    cpu->dr[6] |= cpu->pending_db; /* a data breakpoint that MOV SS held off comes with it */
    cpu->pending_db = 0;
    return true;
}
