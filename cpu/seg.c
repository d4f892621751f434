/*
 * Descriptors, segment registers and the instructions about them.
 * Specification: Intel SDM vol. 3 ch. 3.4-3.5, 5; vol. 2 (MOV, POP, LDS, LAR, LSL, VERR, ARPL,
 * LGDT, …).
 *
 * Loading a null selector into FS or GS in 64-bit mode clears the base, as Intel's and AMD's newer
 * processors do.
 */
#include "cpu/seg.h"
#include "cpu/sem.h"

/* --- descriptors --- */

bool desc_locate(const struct vcpu *cpu, u16 selector, u64 *linear)
{
    u64 base = cpu->gdt_base;
    u32 limit = cpu->gdt_limit;
    if (selector & 4) {
        const struct segment *ldt = &cpu->seg[LDTR];
        if (ldt->attr & SEG_UNUSABLE) return false;
        base = ldt->base;
        limit = ldt->limit;
    }
    if ((u32)(selector | 7) > limit) return false;
    *linear = base + (selector & 0xfff8);
    if (!cpu_long_mode(cpu)) *linear = (u32)*linear;
    return true;
}

static void desc_unpack(struct descriptor *d)
{
    u32 low = (u32)d->raw, high = (u32)(d->raw >> 32);
    d->base = low >> 16 | (high & 0xff) << 16 | (high & 0xff000000u);
    d->limit = (low & 0xffff) | (high & 0xf0000);
    d->attr = high >> 8 & 0xf0ff;
    if (d->attr & SEG_G) d->limit = d->limit << 12 | 0xfff;
}

bool desc_read(struct vcpu *cpu, u16 selector, struct descriptor *d, int vector, u32 error)
{
    if (!desc_locate(cpu, selector, &d->linear)) return cpu_fault_error(cpu, vector, error);
    TRY(sys_read(cpu, d->linear, 8, &d->raw));
    desc_unpack(d);
    return true;
}

bool desc_read_high(struct vcpu *cpu, u16 selector, struct descriptor *d, int vector, u32 error)
{
    u32 limit = selector & 4 ? cpu->seg[LDTR].limit : cpu->gdt_limit;
    u64 high;
    if ((u32)(selector & 0xfff8) + 15 > limit) return cpu_fault_error(cpu, vector, error);
    TRY(sys_read(cpu, d->linear + 8, 8, &high));
    if (high >> 40 & 0x1f) return cpu_fault_error(cpu, vector, error);
    d->base = (u32)d->base | high << 32;
    if (!cpu_is_canonical(d->base)) return cpu_fault_error(cpu, vector, error);
    return true;
}

bool desc_set_type_bits(struct vcpu *cpu, struct descriptor *d, u32 bits)
{
    if ((d->attr & bits) == bits) return true;
    TRY(sys_write(cpu, d->linear + 5, 1, (d->attr | bits) & 0xff));
    d->attr |= bits;
    d->raw |= (u64)bits << 40;
    return true;
}

void seg_put(struct vcpu *cpu, unsigned seg, u16 selector, const struct descriptor *d)
{
    struct segment *s = &cpu->seg[seg];
    s->selector = selector;
    s->base = d->base;
    s->limit = d->limit;
    s->attr = d->attr;
}

void cs_put(struct vcpu *cpu, u16 selector, const struct descriptor *d, unsigned cpl)
{
    seg_put(cpu, CS, (u16)((selector & 0xfffc) | cpl), d);
    cpu->cpl = (u8)cpl;
}

/* The limit stays: a real-mode load behind a null one still finds 64 KiB (or more). */
void seg_put_null(struct vcpu *cpu, unsigned seg, u16 selector)
{
    struct segment *s = &cpu->seg[seg];
    s->selector = selector;
    s->base = 0;
    s->attr = SEG_UNUSABLE | (u32)cpu->cpl << SEG_DPL_SHIFT;
}

void seg_put_real(struct vcpu *cpu, unsigned seg, u16 selector)
{
    struct segment *s = &cpu->seg[seg];
    s->selector = selector;
    s->base = (u32)selector << 4;
    if (cpu_vm86(cpu)) {
        s->limit = 0xffff;
        s->attr = SEG_P | SEG_DPL | SEG_S | SEG_WRITABLE | SEG_ACCESSED;
    } else { /* limit and size stay as protected mode left them ("unreal" mode) */
        s->attr = (s->attr & (SEG_DB | SEG_G)) | SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED;
    }
}

/* --- loading --- */

bool ss_check(struct vcpu *cpu, u16 selector, unsigned new_cpl, int vector, u32 ext,
              struct descriptor *d)
{
    u32 error = (selector & 0xfffc) | ext;
    if (selector_is_null(selector)) return cpu_fault_error(cpu, vector, ext);
    TRY(desc_read(cpu, selector, d, vector, error));
    if ((selector & 3u) != new_cpl || desc_dpl(d) != new_cpl || !desc_is_writable_data(d))
        return cpu_fault_error(cpu, vector, error);
    if (!desc_present(d)) return cpu_fault_error(cpu, VECTOR_SS, error);
    return true;
}

static bool load_ss(struct vcpu *cpu, u16 selector)
{
    struct descriptor d;
    if (selector_is_null(selector)) {
        if (!cpu_code64(cpu) || cpu->cpl == 3 || (selector & 3) != cpu->cpl) return cpu_gp0(cpu);
        seg_put_null(cpu, SS, selector);
        return true;
    }
    TRY(ss_check(cpu, selector, cpu->cpl, VECTOR_GP, 0, &d));
    TRY(desc_set_type_bits(cpu, &d, SEG_ACCESSED));
    seg_put(cpu, SS, selector, &d);
    return true;
}

static bool load_data(struct vcpu *cpu, unsigned seg, u16 selector)
{
    struct descriptor d;
    u32 error = selector & 0xfffc;
    if (selector_is_null(selector)) {
        seg_put_null(cpu, seg, selector);
        return true;
    }
    TRY(desc_read(cpu, selector, &d, VECTOR_GP, error));
    if (desc_is_system(&d) || (desc_is_code(&d) && !(d.attr & SEG_READABLE)))
        return cpu_fault_error(cpu, VECTOR_GP, error);
    if (!desc_is_conforming(&d) && (desc_dpl(&d) < cpu->cpl || desc_dpl(&d) < (selector & 3u)))
        return cpu_fault_error(cpu, VECTOR_GP, error);
    if (!desc_present(&d)) return cpu_fault_error(cpu, VECTOR_NP, error);
    TRY(desc_set_type_bits(cpu, &d, SEG_ACCESSED));
    seg_put(cpu, seg, selector, &d);
    return true;
}

bool seg_load(struct vcpu *cpu, unsigned seg, u16 selector)
{
    if (!cpu_protected(cpu)) seg_put_real(cpu, seg, selector);
    else TRY(seg == SS ? load_ss(cpu, selector) : load_data(cpu, seg, selector));
    cpu_update_mode(cpu);
    return true;
}

bool ip_check(struct vcpu *cpu, const struct descriptor *d, u64 ip, u32 ext)
{
    bool ok = cpu_long_mode(cpu) && (d->attr & SEG_L) ? cpu_is_canonical(ip) : ip <= d->limit;
    return ok || cpu_fault_error(cpu, VECTOR_GP, ext);
}

void seg_drop_inner(struct vcpu *cpu)
{
    static const u8 data_segments[] = {ES, DS, FS, GS};
    for (unsigned i = 0; i < ARRAY_SIZE(data_segments); i++) {
        struct segment *s = &cpu->seg[data_segments[i]];
        bool conforming = (s->attr & (SEG_CODE | SEG_CONFORMING)) == (SEG_CODE | SEG_CONFORMING);
        if (s->attr & SEG_UNUSABLE) continue;
        if (conforming || (s->attr >> SEG_DPL_SHIFT & 3) >= cpu->cpl) continue;
        u64 base = s->base; /* in long mode FS and GS keep it, as processors do */
        seg_put_null(cpu, data_segments[i], 0);
        if (cpu_long_mode(cpu) && data_segments[i] >= FS) s->base = base;
    }
}

/* --- MOV, PUSH, POP, LxS --- */

static bool read_word(struct vcpu *cpu, const struct insn *insn, unsigned n, u16 *value)
{
    u64 wide;
    if (insn->operand[n].kind == OPERAND_MEMORY) TRY(mem_read(cpu, insn, 2, &wide));
    else wide = cpu->regs[insn->operand[n].reg];
    *value = (u16)wide;
    return true;
}

/* A register takes the whole operand size, memory always 16 bits. */
static bool write_word(struct vcpu *cpu, const struct insn *insn, u64 value)
{
    if (insn->operand[0].kind == OPERAND_MEMORY) return mem_write(cpu, insn, 2, value & 0xffff);
    gpr_write(cpu, insn->operand[0].reg, insn->size, value);
    return true;
}

bool sem_MOV_SEG(struct vcpu *cpu, const struct insn *insn)
{
    if (insn->operand[0].kind != OPERAND_SEGMENT) {
        unsigned from = insn->operand[1].reg;
        if (from > GS) return cpu_ud(cpu);
        return write_word(cpu, insn, cpu->seg[from].selector);
    }
    unsigned to = insn->operand[0].reg;
    u16 selector;
    if (to == CS || to > GS) return cpu_ud(cpu);
    u64 next = cpu_next_ip(cpu, insn);
    TRY(read_word(cpu, insn, 1, &selector));
    TRY(seg_load(cpu, to, selector));
    if (to == SS) cpu->shadow = 2;
    if (insn->flags & INSN_ENDS_BLOCK) cpu->rip = next;
    return true;
}

bool sem_PUSH_SEG(struct vcpu *cpu, const struct insn *insn)
{
    return stack_push(cpu, insn->size, cpu->seg[insn->operand[0].reg].selector);
}

bool sem_POP_SEG(struct vcpu *cpu, const struct insn *insn)
{
    unsigned seg = insn->operand[0].reg;
    u64 selector, rsp = cpu->regs[RSP], next = cpu_next_ip(cpu, insn);
    TRY(stack_read_at(cpu, 0, insn->size, &selector));
    stack_move(cpu, insn->size); /* by the old stack segment's width */
    if (!seg_load(cpu, seg, (u16)selector)) {
        cpu->regs[RSP] = rsp;
        return false;
    }
    if (seg == SS) cpu->shadow = 2;
    if (insn->flags & INSN_ENDS_BLOCK) cpu->rip = next;
    return true;
}

static bool load_far_pointer(struct vcpu *cpu, const struct insn *insn, unsigned seg)
{
    u64 linear, offset, selector, next = cpu_next_ip(cpu, insn);
    if (insn->operand[1].kind != OPERAND_MEMORY) return cpu_ud(cpu);
    TRY(mem_linear(cpu, insn, insn->size + 2, false, &linear));
    TRY(lin_read(cpu, linear, insn->size, &offset));
    TRY(lin_read(cpu, linear + insn->size, 2, &selector));
    TRY(seg_load(cpu, seg, (u16)selector));
    gpr_write(cpu, insn->operand[0].reg, insn->size, offset);
    if (insn->flags & INSN_ENDS_BLOCK) cpu->rip = next;
    return true;
}

bool sem_LDS(struct vcpu *cpu, const struct insn *insn) { return load_far_pointer(cpu, insn, DS); }
bool sem_LES(struct vcpu *cpu, const struct insn *insn) { return load_far_pointer(cpu, insn, ES); }
bool sem_LFS(struct vcpu *cpu, const struct insn *insn) { return load_far_pointer(cpu, insn, FS); }
bool sem_LGS(struct vcpu *cpu, const struct insn *insn) { return load_far_pointer(cpu, insn, GS); }
bool sem_LSS(struct vcpu *cpu, const struct insn *insn) { return load_far_pointer(cpu, insn, SS); }

/* --- LAR, LSL, VERR, VERW, ARPL --- */

static void set_zf(struct vcpu *cpu, bool zf)
{
    flags_put(cpu, (flags_get(cpu) & ~(u32)FLAG_ZF) | (zf ? FLAG_ZF : 0));
}

/* *VISIBLE: the descriptor is there and its privilege lets CPL and RPL see it. False only for
 * #PF. */
static bool desc_look(struct vcpu *cpu, u16 selector, struct descriptor *d, bool *visible)
{
    *visible = !selector_is_null(selector) && desc_locate(cpu, selector, &d->linear);
    if (!*visible) return true;
    TRY(sys_read(cpu, d->linear, 8, &d->raw));
    desc_unpack(d);
    if (!desc_is_conforming(d) && (desc_dpl(d) < cpu->cpl || desc_dpl(d) < (selector & 3u)))
        *visible = false;
    return true;
}

/* Bit TYPE set: the instruction knows that system descriptor. */
static bool system_type_known(const struct vcpu *cpu, unsigned type, u16 legacy, u16 long_mode)
{
    return (cpu_long_mode(cpu) ? long_mode : legacy) >> type & 1;
}

bool sem_LAR(struct vcpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    u16 selector;
    bool ok;
    if (!cpu_protected(cpu)) return cpu_ud(cpu);
    TRY(read_word(cpu, insn, 1, &selector));
    TRY(desc_look(cpu, selector, &d, &ok));
    /* TSS 1 3 9 B, LDT 2, call gates 4 C, task gate 5; in long mode no 16-bit ones */
    if (ok && desc_is_system(&d)) ok = system_type_known(cpu, desc_type(&d), 0x1a3e, 0x1a04);
    if (ok)
        gpr_write(cpu, insn->operand[0].reg, insn->size,
                  (u32)(d.raw >> 32) & (insn->size == 2 ? 0xff00 : 0xf0ff00));
    set_zf(cpu, ok);
    return true;
}

bool sem_LSL(struct vcpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    u16 selector;
    bool ok;
    if (!cpu_protected(cpu)) return cpu_ud(cpu);
    TRY(read_word(cpu, insn, 1, &selector));
    TRY(desc_look(cpu, selector, &d, &ok));
    if (ok && desc_is_system(&d)) ok = system_type_known(cpu, desc_type(&d), 0x0a0e, 0x0a04);
    if (ok) gpr_write(cpu, insn->operand[0].reg, insn->size, d.limit);
    set_zf(cpu, ok);
    return true;
}

static bool verify(struct vcpu *cpu, const struct insn *insn, bool write)
{
    struct descriptor d;
    u16 selector;
    bool ok;
    if (!cpu_protected(cpu)) return cpu_ud(cpu);
    TRY(read_word(cpu, insn, 0, &selector));
    TRY(desc_look(cpu, selector, &d, &ok));
    if (ok && write) ok = desc_is_writable_data(&d);
    else if (ok) ok = !desc_is_system(&d) && (!desc_is_code(&d) || (d.attr & SEG_READABLE));
    set_zf(cpu, ok);
    return true;
}
bool sem_VERR(struct vcpu *cpu, const struct insn *insn) { return verify(cpu, insn, false); }
bool sem_VERW(struct vcpu *cpu, const struct insn *insn) { return verify(cpu, insn, true); }

bool sem_ARPL(struct vcpu *cpu, const struct insn *insn)
{
    u64 to;
    u16 from;
    if (!cpu_protected(cpu)) return cpu_ud(cpu);
    TRY(read_word(cpu, insn, 1, &from));
    bool memory = insn->operand[0].kind == OPERAND_MEMORY;
    if (memory) TRY(operand_read_rmw(cpu, insn, 0, &to));
    else to = cpu->regs[insn->operand[0].reg] & 0xffff;
    bool raise = (to & 3) < (from & 3u);
    if (raise) {
        to = (to & 0xfffc) | (from & 3);
        if (memory) TRY(mem_write(cpu, insn, 2, to));
        else gpr_write(cpu, insn->operand[0].reg, 2, to);
    }
    set_zf(cpu, raise);
    return true;
}

/* --- the table registers --- */

static bool umip_refuses(const struct vcpu *cpu)
{
    return (cpu->cr4 & CR4_UMIP) && cpu->cpl > 0;
}

bool sem_SLDT(struct vcpu *cpu, const struct insn *insn)
{
    if (!cpu_protected(cpu)) return cpu_ud(cpu);
    if (umip_refuses(cpu)) return cpu_gp0(cpu);
    return write_word(cpu, insn, cpu->seg[LDTR].selector);
}

bool sem_STR(struct vcpu *cpu, const struct insn *insn)
{
    if (!cpu_protected(cpu)) return cpu_ud(cpu);
    if (umip_refuses(cpu)) return cpu_gp0(cpu);
    return write_word(cpu, insn, cpu->seg[TR].selector);
}

bool sem_SMSW(struct vcpu *cpu, const struct insn *insn)
{
    if (umip_refuses(cpu)) return cpu_gp0(cpu);
    return write_word(cpu, insn, cpu->cr0);
}

static bool store_table(struct vcpu *cpu, const struct insn *insn, u64 base, u16 limit)
{
    u8 image[10];
    if (insn->operand[0].kind != OPERAND_MEMORY) return cpu_ud(cpu);
    if (umip_refuses(cpu)) return cpu_gp0(cpu);
    st16(image, limit);
    st64(image + 2, base);
    return mem_write_bytes(cpu, insn, image, cpu_code64(cpu) ? 10 : 6, 0);
}
bool sem_SGDT(struct vcpu *cpu, const struct insn *insn)
{
    return store_table(cpu, insn, cpu->gdt_base, cpu->gdt_limit);
}
bool sem_SIDT(struct vcpu *cpu, const struct insn *insn)
{
    return store_table(cpu, insn, cpu->idt_base, cpu->idt_limit);
}

static bool load_table(struct vcpu *cpu, const struct insn *insn, u64 *base, u16 *limit)
{
    u8 image[10] = {0};
    if (insn->operand[0].kind != OPERAND_MEMORY) return cpu_ud(cpu);
    if (cpu->cpl) return cpu_gp0(cpu);
    TRY(mem_read_bytes(cpu, insn, image, cpu_code64(cpu) ? 10 : 6, 0));
    u64 value = ld64(image + 2);
    if (!cpu_code64(cpu)) value &= insn->size == 2 ? 0xffffff : 0xffffffff;
    if (!cpu_is_canonical(value)) return cpu_gp0(cpu);
    *base = value;
    *limit = ld16(image);
    cpu_serialize(cpu);
    if (insn->flags & INSN_ENDS_BLOCK) cpu->rip = cpu_next_ip(cpu, insn);
    return true;
}
bool sem_LGDT(struct vcpu *cpu, const struct insn *insn)
{
    return load_table(cpu, insn, &cpu->gdt_base, &cpu->gdt_limit);
}
bool sem_LIDT(struct vcpu *cpu, const struct insn *insn)
{
    return load_table(cpu, insn, &cpu->idt_base, &cpu->idt_limit);
}

/* LDTR and TR: the GDT's descriptor of SELECTOR, whole, of one of the TYPES. */
static bool read_system(struct vcpu *cpu, u16 selector, u16 types, struct descriptor *d)
{
    u32 error = selector & 0xfffc;
    if (selector & 4) return cpu_fault_error(cpu, VECTOR_GP, error);
    TRY(desc_read(cpu, selector, d, VECTOR_GP, error));
    if (!desc_is_system(d) || !(types >> desc_type(d) & 1))
        return cpu_fault_error(cpu, VECTOR_GP, error);
    if (!desc_present(d)) return cpu_fault_error(cpu, VECTOR_NP, error);
    if (cpu_long_mode(cpu)) TRY(desc_read_high(cpu, selector, d, VECTOR_GP, error));
    return true;
}

bool sem_LLDT(struct vcpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    u16 selector;
    if (!cpu_protected(cpu)) return cpu_ud(cpu);
    if (cpu->cpl) return cpu_gp0(cpu);
    TRY(read_word(cpu, insn, 0, &selector));
    if (selector_is_null(selector)) {
        seg_put_null(cpu, LDTR, selector);
    } else {
        TRY(read_system(cpu, selector, 1 << TYPE_LDT, &d));
        seg_put(cpu, LDTR, selector, &d);
    }
    cpu_serialize(cpu);
    if (insn->flags & INSN_ENDS_BLOCK) cpu->rip = cpu_next_ip(cpu, insn);
    return true;
}

bool sem_LTR(struct vcpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    u16 selector;
    if (!cpu_protected(cpu)) return cpu_ud(cpu);
    if (cpu->cpl) return cpu_gp0(cpu);
    TRY(read_word(cpu, insn, 0, &selector));
    if (selector_is_null(selector)) return cpu_gp0(cpu);
    u16 types = cpu_long_mode(cpu) ? 1 << TYPE_TSS32 : 1 << TYPE_TSS32 | 1 << TYPE_TSS16;
    TRY(read_system(cpu, selector, types, &d));
    TRY(desc_set_type_bits(cpu, &d, 2)); /* busy */
    seg_put(cpu, TR, selector, &d);
    cpu_serialize(cpu);
    if (insn->flags & INSN_ENDS_BLOCK) cpu->rip = cpu_next_ip(cpu, insn);
    return true;
}

/* --- FS and GS bases --- */

static bool fsgs_allowed(struct vcpu *cpu)
{
    if (!cpu_code64(cpu) || !(cpu->cr4 & CR4_FSGSBASE)) return cpu_ud(cpu);
    return true;
}
static bool write_base(struct vcpu *cpu, const struct insn *insn, unsigned seg)
{
    TRY(fsgs_allowed(cpu));
    u64 base = gpr_read(cpu, insn->operand[0].reg, insn->size);
    if (!cpu_is_canonical(base)) return cpu_gp0(cpu);
    cpu->seg[seg].base = base;
    return true;
}
static bool read_base(struct vcpu *cpu, const struct insn *insn, unsigned seg)
{
    TRY(fsgs_allowed(cpu));
    gpr_write(cpu, insn->operand[0].reg, insn->size, cpu->seg[seg].base);
    return true;
}
bool sem_RDFSBASE(struct vcpu *cpu, const struct insn *insn) { return read_base(cpu, insn, FS); }
bool sem_RDGSBASE(struct vcpu *cpu, const struct insn *insn) { return read_base(cpu, insn, GS); }
bool sem_WRFSBASE(struct vcpu *cpu, const struct insn *insn) { return write_base(cpu, insn, FS); }
bool sem_WRGSBASE(struct vcpu *cpu, const struct insn *insn) { return write_base(cpu, insn, GS); }

bool sem_SWAPGS(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (!cpu_code64(cpu)) return cpu_ud(cpu);
    if (cpu->cpl) return cpu_gp0(cpu);
    u64 base = cpu->seg[GS].base;
    cpu->seg[GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
    return true;
}
