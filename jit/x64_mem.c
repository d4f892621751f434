/*
 * Guest addresses and the soft TLB's check in translated code.
 *
 * The slot is chosen by the first byte, the tag is compared with the last byte's page (or, for operands
 * that must be aligned, with the address less its page offset but for the bits that must be zero): an
 * access that crosses pages or is misaligned fails the comparison and goes to C. Nothing but a
 * successful comparison leads to the access.
 */
#include "jit/x64_int.h"

struct address address_of(const struct insn *i)
{
    return (struct address){i->base, i->index, i->scale, i->seg, i->address_size, i->disp};
}

struct address stack_at(const struct lower *l, i64 disp)
{
    return (struct address){RSP, REG_ZERO, 0, SS, (u8)address_size(l), disp};
}

static bool at_home(unsigned reg) { return reg < 16 && home(reg) != H_NONE; }

void emit_ea(struct lower *l, const struct address *a, unsigned to, unsigned size)
{
    struct x64 *e = &l->hot;
    unsigned base = H_NONE, index = H_NONE;
    if (at_home(a->base)) base = home(a->base);
    else if (a->base != REG_ZERO) x64_mov_load(e, 8, base = to, AT_REG(a->base));
    if (at_home(a->index)) index = home(a->index);
    else if (a->index != REG_ZERO) x64_mov_load(e, 8, index = H_R9, AT_REG(a->index));
    if (base == H_NONE && index == H_NONE && a->disp >= 0) {
        x64_mov_imm32(e, to, (u32)a->disp);
        return;
    }
    if (index == H_NONE && !a->disp) {
        if (base != to || size == 4) x64_mov_load(e, size, to, x64_reg(base));
        return;
    }
    x64_lea(e, size, to, x64_sib(base, index, a->scale, a->disp));
}

/* Registers at home, 64-bit, no segment: both address computations come straight from them. */
static bool is_simple(const struct address *a)
{
    return a->size == 8 && a->seg < FS && (at_home(a->base) || a->base == REG_ZERO) &&
           (at_home(a->index) || a->index == REG_ZERO) && (a->base != REG_ZERO || a->index != REG_ZERO);
}

static void emit_tag(struct lower *l, const struct address *a, unsigned size, unsigned align, bool simple)
{
    struct x64 *e = &l->hot;
    unsigned more = align > 1 ? 0 : size - 1;
    if (simple) {
        struct address last = *a;
        last.disp += more;
        if (last.disp == (i32)last.disp) {
            emit_ea(l, a, H_R10, 4); /* the slot needs its low half only */
            emit_ea(l, &last, H_R9, 8);
        } else {
            simple = false;
        }
    }
    if (!simple) {
        emit_ea(l, a, H_R10, a->size);
        if (a->seg >= FS)
            x64_alu(e, X64_ADD, 8, H_R10, x64_mem(H_RSP, (i64)(offsetof(struct vcpu, seg) +
                    a->seg * sizeof(struct segment) + offsetof(struct segment, base))));
        if (more) x64_lea(e, 8, H_R9, x64_mem(H_R10, more));
        else x64_mov(e, H_R9, H_R10);
    }
    x64_alu_imm(e, X64_AND, 8, x64_reg(H_R9), (i32)(0xfffff000u | (align > 1 ? align - 1 : 0)));
    x64_shift(e, 5, 4, H_R10, 7);
    x64_alu_imm(e, X64_AND, 4, x64_reg(H_R10), (TLB_ENTRIES - 1) << 5);
}

/* r10 is the page's addend: the operand, from it and the address again. */
static struct x64_rm emit_operand(struct lower *l, const struct address *a)
{
    struct x64 *e = &l->hot;
    if (a->size == 4) {
        x64_mov(e, H_R9, H_R10);
        emit_ea(l, a, H_R10, 4); /* no index in memory: address_ok */
        x64_alu(e, X64_ADD, 8, H_R10, x64_reg(H_R9));
        return x64_mem(H_R10, 0);
    }
    if (a->seg >= FS)
        x64_alu(e, X64_ADD, 8, H_R10, x64_mem(H_RSP, (i64)(offsetof(struct vcpu, seg) +
                a->seg * sizeof(struct segment) + offsetof(struct segment, base))));
    bool base = at_home(a->base), index = at_home(a->index);
    if (!base && a->base != REG_ZERO) x64_alu(e, X64_ADD, 8, H_R10, AT_REG(a->base));
    if (!index && a->index != REG_ZERO) {
        x64_mov_load(e, 8, H_R9, AT_REG(a->index));
        x64_lea(e, 8, H_R10, x64_sib(H_R10, H_R9, a->scale, 0));
    }
    if (base && index) {
        x64_alu(e, X64_ADD, 8, H_R10, x64_reg(home(a->base)));
        return x64_sib(H_R10, home(a->index), a->scale, a->disp);
    }
    if (base) return x64_sib(H_R10, home(a->base), 0, a->disp);
    if (index) return x64_sib(H_R10, home(a->index), a->scale, a->disp);
    return x64_mem(H_R10, a->disp);
}

static i64 tlb_disp(const struct lower *l)
{
    const struct vcpu *cpu = l->j->cpu;
    unsigned mode = l->t->mode_key & MODE_USER ? TLB_USER
                    : l->t->mode_key & MODE_AC ? TLB_KERNEL_AC : TLB_KERNEL;
    return (const u8 *)cpu->tlb->entry[mode] - (const u8 *)cpu;
}

struct x64_rm mem_check(struct lower *l, const struct address *a, unsigned size, unsigned align,
                        bool write, u32 site)
{
    struct x64 *e = &l->hot;
    i64 tlb = tlb_disp(l);
    flags_save(l);
    emit_tag(l, a, size, align, is_simple(a));
    i64 tag = write ? offsetof(struct tlb_entry, tag_write) : offsetof(struct tlb_entry, tag_read);
    x64_alu(e, X64_CMP, 8, H_R9, x64_sib(H_RSP, H_R10, 0, tlb + tag));
    cold_call(l, l->j->jit->options.force_cold ? x64_jmp(e) : x64_jcc(e, CC_NE), site);
    l->flags &= ~(unsigned)FL_REG;
    x64_mov_load(e, 8, H_R10, x64_sib(H_RSP, H_R10, 0, tlb + (i64)offsetof(struct tlb_entry, addend)));
    return emit_operand(l, a);
}

void lea_lower(struct lower *l, const struct uop *u)
{
    struct address a = address_of(u->insn);
    unsigned reg = u->insn->operand[0].reg, to = home(reg);
    /* A destination at home may be an index too: compute beside it when a base comes from memory. */
    bool direct = to != H_NONE && (at_home(a.base) || a.base == REG_ZERO) &&
                  (at_home(a.index) || a.index == REG_ZERO);
    emit_ea(l, &a, direct ? to : H_R10, u->insn->size);
    if (direct) return;
    if (to != H_NONE) x64_mov(&l->hot, to, H_R10);
    else x64_mov_store(&l->hot, 8, AT_REG(reg), H_R10);
}
