/*
 * Vector instructions as themselves: the guest's XMM and YMM registers are the host's of the same
 * number, its MXCSR (all exceptions masked, else the block is interpreted) the host's.
 */
#include "jit/x64_int.h"

/* The general register an instruction names besides vectors: at home, or r9. */
static unsigned gpr_host(const struct uop *u, unsigned *guest, bool *written)
{
    for (unsigned n = 0; n < 4; n++) {
        const struct operand *o = &u->insn->operand[n];
        if (o->kind != OPERAND_GPR) continue;
        *guest = o->reg;
        *written = n == 0;
        return home(o->reg) == H_NONE ? H_R9 : home(o->reg);
    }
    return H_NONE;
}

void vector_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    if (u->wants_vectors) vectors_want(l, u->avx ? 3 : 1, u);
    if (u->wants_x87) x87_want(l, u);
    struct x64_rm rm = x64_reg(u->raw_rm);
    unsigned reg = u->raw_reg, guest = 0;
    bool written = false;
    u32 site = NO_SITE;
    if (u->imm_size == 0xff) { /* VZEROUPPER, VZEROALL */
        x64_u8(e, 0xc5), x64_u8(e, 0xf8 | (unsigned)u->l << 2), x64_u8(e, 0x77);
        return;
    }
    if (u->access) {
        struct address a = address_of(u->insn);
        site = site_new(l, SITE_ACCESS, u);
        rm = mem_check(l, &a, u->msize, u->align, u->access & UOP_WRITE, site);
        if (site_unused(l, site)) site = NO_SITE;
    }
    unsigned host = gpr_host(u, &guest, &written);
    bool memory_home = host == H_R9;
    if (memory_home && !written) x64_mov_load(e, 8, H_R9, AT_REG(guest));
    if (u->reg_gpr) reg = host;
    if (u->rm_gpr) rm = x64_reg(host);
    if (u->vex) x64_vex(e, u->pp, u->w, u->l, u->map, u->opcode, reg, u->raw_vvvv, &rm);
    else x64_op(e, u->pp, u->w, false, u->map, u->opcode, reg, &rm);
    if (u->imm_size) x64_u8(e, (unsigned)u->imm);
    if (memory_home && written) x64_mov_store(e, 8, AT_REG(guest), H_R9);
    flags_written(l, u, RECIPE_NONE);
    if (site != NO_SITE) site_resume(l, site);
    addend_keep(l, u->access);
}
