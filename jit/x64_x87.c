/*
 * x87 instructions as themselves, on the guest's registers in the host's (x87_live.c).
 */
#include "jit/x64_int.h"

/* Leaves through C until the registers are there. */
void x87_want(struct lower *l, const struct uop *u)
{
    if (l->c.x87) return;
    flags_hold(l);
    u32 site = site_new(l, SITE_X87, u);
    l->j->sites[site].target = u->insn->pos;
    struct x64_rm at = AT_NEAR(x87_live);
    x64_op(&l->hot, 0, false, false, X64_ONE, 0x80, X64_CMP, &at);
    x64_u8(&l->hot, 0);
    l->c.flags &= ~(unsigned)FL_REG;
    cold_call(l, x64_jcc(&l->hot, CC_E), site);
    site_resume(l, site);
    l->c.x87 = true;
}

/* --- the pointers to the last instruction and operand --- */

static bool notes(const struct uop *u)
{
    if (u->op != UOP_X87) return false;
    switch (u->insn->op) {
    case OP_FLDCW: case OP_FNSTCW: case OP_FNSTSW: case OP_FNCLEX: case OP_FNINIT: case OP_FWAIT:
    case OP_EMMS: return false;
    default: return true;
    }
}

static void note_memory(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    struct address a = address_of(u->insn);
    struct x64_rm at = AT_STATE(x87_note);
    emit_ea(l, &a, H_R10, a.size);
    x64_mov_store(e, 8, AT_STATE(x87_fdp), H_R10);
    x64_op(e, 0, false, false, X64_ONE, 0xc7, 0, &at);
    x64_u32(e, u->insn->pos | (u32)u->insn->seg << 16);
}

/* U has been executed. Where the next one is certain to be, its note is enough. */
static void note(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    if (!notes(u)) return;
    if (!l->c.x87_page) {
        x64_mov_load(e, 8, H_R9, AT_REG(REG_IP_BASE));
        x64_mov_store(e, 8, AT_STATE(x87_page), H_R9);
        l->c.x87_page = true;
    }
    if (u->access) {
        note_memory(l, u);
    } else if (!notes(u + 1) || u[1].access) {
        struct x64_rm at = AT_STATE(x87_note.pos);
        x64_op(e, X64_66, false, false, X64_ONE, 0xc7, 0, &at);
        x64_u16(e, u->insn->pos);
    }
}

/* FNINIT's. */
static void forget(struct lower *l)
{
    struct x64 *e = &l->hot;
    struct x64_rm at = AT_STATE(x87_note);
    x64_op(e, 0, false, false, X64_ONE, 0xc7, 0, &at);
    x64_u32(e, X87_NOTHING | (u32)X87_NOTHING << 16);
    x64_mov_imm32(e, H_R9, 0);
    x64_mov_store(e, 8, AT_CPU(fip), H_R9);
    x64_mov_store(e, 8, AT_CPU(fdp), H_R9);
    const struct x64_rm words[] = {AT_CPU(fcs), AT_CPU(fds), AT_CPU(fop)};
    for (unsigned n = 0; n < ARRAY_SIZE(words); n++)
        x64_op(e, X64_66, false, false, X64_ONE, 0x89, H_R9, &words[n]);
}

/* --- instructions --- */

/* Only words that mask every exception; what is looked at is what is loaded. */
static void control_lower(struct lower *l, const struct x64_rm *from, u32 site)
{
    struct x64 *e = &l->hot;
    struct x64_rm word = AT_STATE(scratch[0]);
    flags_hold(l);
    x64_op(e, 0, false, false, X64_0F, 0xb7, H_R9, from);
    x64_mov_store(e, 4, word, H_R9);
    x64_alu_imm(e, X64_AND, 4, x64_reg(H_R9), 0x3f);
    x64_alu_imm(e, X64_CMP, 4, x64_reg(H_R9), 0x3f);
    l->c.flags &= ~(unsigned)FL_REG;
    cold_call(l, x64_jcc(e, CC_NE), site);
    x64_op(e, 0, false, false, X64_ONE, 0xd9, 5, &word);
}

void x87_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    x87_want(l, u);
    if (u->access) {
        struct address a = address_of(u->insn);
        u32 site = site_new(l, SITE_ACCESS, u);
        struct x64_rm rm = mem_check(l, &a, u->msize, 0, u->access & UOP_WRITE, site);
        if (u->insn->op == OP_FLDCW) control_lower(l, &rm, site);
        else x64_op(e, 0, false, false, X64_ONE, u->opcode, u->digit, &rm);
        site_resume(l, site);
        note(l, u);
        return;
    }
    flags_want(l, u->fuse, u);
    if (u->insn->op != OP_FWAIT && u->insn->op != OP_FNOP) {
        x64_u8(e, u->opcode);
        x64_u8(e, u->raw_rm);
    }
    if (u->insn->op == OP_FNINIT) forget(l);
    note(l, u);
    flags_written(l, u, RECIPE_NONE);
}

/* Called from C with an image in the 32-bit protected mode format. */
void x87_thunks(struct jit_cpu *j, struct x64 *e)
{
    struct x64_rm image = x64_mem(H_RDI, 0);
    j->x87_save = code_rx(j, e->p);
    x64_op(e, 0, false, false, X64_ONE, 0xdd, 6, &image); /* fnsave */
    x64_u8(e, 0xc3);
    j->x87_restore = code_rx(j, e->p);
    x64_op(e, 0, false, false, X64_ONE, 0xdd, 4, &image); /* frstor */
    x64_u8(e, 0xc3);
}
