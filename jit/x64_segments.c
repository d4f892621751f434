/*
 * Code that is not flat, in host code: accesses compared with their segment's reach, segment registers,
 * branch targets as offsets in the code segment (segments.c). LOOP and JCXZ.
 */
#include "jit/x64_int.h"

#define AT_REACH(number, member) AT_STATE(reach[number].member)

/* The linear address is kept in scratch[2] until the page's addend is there. */
struct x64_rm checked_access(struct lower *l, const struct address *a, unsigned size, unsigned align, bool write,
                             u32 site)
{
    struct x64 *e = &l->hot;
    flags_hold(l);
    emit_ea(l, a, H_R10, a->size);
    x64_lea(e, 8, H_R9, x64_mem(H_R10, size - 1));
    x64_alu(e, X64_CMP, 8, H_R9, write ? AT_REACH(a->seg, write) : AT_REACH(a->seg, read));
    l->c.flags &= ~(unsigned)FL_REG;
    l->cold_before = true;
    cold_call(l, x64_jcc(e, CC_AE), site);
    x64_alu(e, X64_ADD, 4, H_R10, AT_SEG(a->seg, base));
    x64_mov_store(e, 8, AT_STATE(scratch[2]), H_R10);
    linear_check(l, size, align, write, site);
    x64_alu(e, X64_ADD, 8, H_R10, AT_STATE(scratch[2]));
    return x64_mem(H_R10, 0);
}

void linear_target(struct lower *l)
{
    if (!l->t->segmented) return;
    flags_memory(l);
    x64_alu(&l->hot, X64_ADD, 4, H_R10, AT_SEG(CS, base));
    l->c.flags &= ~(unsigned)FL_REG;
}

void segment_read_lower(struct lower *l, const struct uop *u)
{
    const struct operand *o = u->insn->operand;
    struct x64_rm selector = AT_SEG(o[1].reg, selector);
    x64_op(&l->hot, 0, false, false, X64_0F, 0xb7, H_R9, &selector);
    x64_mov_load(&l->hot, u->insn->size, home(o[0].reg), x64_reg(H_R9));
}

/* As seg_put_real has it: r9 is the selector, zero-extended. */
static void emit_load(struct lower *l, unsigned seg)
{
    struct x64 *e = &l->hot;
    struct x64_rm limit = AT_SEG(seg, limit), attr = AT_SEG(seg, attr);
    const u32 data = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED;
    x64_mov_store(e, 2, AT_SEG(seg, selector), H_R9);
    x64_shift(e, 4, 4, H_R9, 4);
    x64_mov_store(e, 8, AT_SEG(seg, base), H_R9);
    if (l->t->mode_key & MODE_USER) { /* virtual-8086 mode */
        x64_op(e, 0, false, false, X64_ONE, 0xc7, 0, &limit);
        x64_u32(e, 0xffff);
        x64_op(e, 0, false, false, X64_ONE, 0xc7, 0, &attr);
        x64_u32(e, data | SEG_DPL);
        x64_mov_imm32(e, H_R9, 0x10000);
    } else {
        x64_alu_imm(e, X64_AND, 4, attr, SEG_DB | SEG_G);
        x64_alu_imm(e, X64_OR, 4, attr, (i32)data);
        x64_mov_load(e, 4, H_R9, limit);
        x64_lea(e, 8, H_R9, x64_mem(H_R9, 1));
    }
    x64_mov_store(e, 8, AT_REACH(seg, read), H_R9);
    x64_mov_store(e, 8, AT_REACH(seg, write), H_R9);
}

void segment_load_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    const struct operand *o = u->insn->operand;
    struct x64_rm noted = AT_STATE(x87_note.seg);
    u32 site = site_new(l, SITE_ACCESS, u);
    flags_hold(l);
    x64_op(e, X64_66, false, false, X64_ONE, 0x83, X64_CMP, &noted); /* the selector is yet to be noted? */
    x64_u8(e, o[0].reg);
    l->c.flags &= ~(unsigned)FL_REG;
    cold_call(l, x64_jcc(e, CC_E), site);
    if (u->insn->op != OP_POP_SEG) {
        struct x64_rm from = x64_reg(home(o[1].reg));
        x64_op(e, 0, false, false, X64_0F, 0xb7, H_R9, &from);
        emit_load(l, o[0].reg);
        site_resume(l, site);
        return;
    }
    struct address at = stack_at(l, 0);
    struct x64_rm from = mem_check(l, &at, u->insn->size, 0, false, site);
    x64_op(e, 0, false, false, X64_0F, 0xb7, H_R9, &from);
    emit_load(l, o[0].reg);
    x64_lea(e, stack_width(l), H_R11, x64_mem(H_R11, u->insn->size));
    site_resume(l, site);
}

void loop_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = u->insn->address_size;
    struct x64_rm count = x64_reg(H_RCX);
    flags_hold(l);
    if (u->insn->op == OP_JCXZ) {
        x64_op(e, size == 2 ? X64_66 : 0, size == 8, false, X64_ONE, 0x85, H_RCX, &count); /* test */
    } else {
        x64_op(e, size == 2 ? X64_66 : 0, size == 8, false, X64_ONE, 0x83, X64_SUB, &count);
        x64_u8(e, 1);
    }
    l->c.flags &= ~(unsigned)FL_REG;
}
