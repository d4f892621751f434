/* System instructions to x86-64 code. */
#include "jit/x64_int.h"

#define AT_GS_BASE AT_SEG(GS, base)

void swapgs_lower(struct lower *l)
{
    struct x64 *e = &l->hot;
    x64_mov_load(e, 8, H_R9, AT_GS_BASE);
    x64_mov_load(e, 8, H_R10, AT_CPU(kernel_gs_base));
    x64_mov_store(e, 8, AT_GS_BASE, H_R10);
    x64_mov_store(e, 8, AT_CPU(kernel_gs_base), H_R9);
    groups_forget(l); /* what was checked through GS lies elsewhere */
}

void direction_lower(struct lower *l, const struct uop *u)
{
    bool on = u->insn->op == OP_STD;
    flags_hold(l);
    x64_alu_imm(&l->hot, on ? X64_OR : X64_AND, 4, AT_CPU(eflags), on ? FLAG_DF : ~FLAG_DF);
    l->c.flags &= ~(unsigned)FL_REG;
}

void pause_lower(struct lower *l, const struct uop *u)
{
    u32 site = site_new(l, SITE_ACCESS, u);
    flags_hold(l);
    x64_alu_imm(&l->hot, X64_SUB, 4, AT_STATE(pauses), 1);
    l->c.flags &= ~(unsigned)FL_REG;
    cold_call(l, x64_jcc(&l->hot, CC_S), site);
    site_resume(l, site);
}

void read_cr_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned reg = u->insn->operand[0].reg, to = home(reg) == H_NONE ? H_R9 : home(reg);
    switch (u->insn->operand[1].reg) {
    case 0: x64_mov_load(e, 8, to, AT_CPU(cr0)); break;
    case 2: x64_mov_load(e, 8, to, AT_CPU(cr2)); break;
    case 3: x64_mov_load(e, 8, to, AT_CPU(cr3)); break;
    default: x64_mov_load(e, 8, to, AT_CPU(cr4));
    }
    if (to == H_R9) x64_mov_store(e, 8, AT_REG(reg), H_R9);
}

/* The other array of the TLB, and the twin mode's place in the jump cache. */
static void access_switch(struct lower *l, bool on)
{
    struct x64 *e = &l->hot;
    struct x64_rm mode = AT_CPU(tlb_mode), key = AT_CPU(mode_key);
    unsigned to = on ? TLB_KERNEL_AC : TLB_KERNEL;
    x64_op(e, 0, false, false, X64_ONE, 0xc6, 0, &mode);
    x64_u8(e, to);
    x64_lea(e, 8, H_R9, AT_CPU(tlb.entry[to]));
    x64_mov_store(e, 8, AT_CPU(tlb_now), H_R9);
    x64_op(e, X64_66, false, false, X64_ONE, 0x83, on ? X64_OR : X64_AND, &key);
    x64_u8(e, on ? MODE_AC : (u8)~MODE_AC);
    x64_mov_load(e, 8, H_R9, on ? AT_STATE(spaces[SPACE_AC].sign) : AT_STATE(spaces[SPACE_SUPERVISOR].sign));
    x64_mov_store(e, 8, AT_NEAR(jump_sign), H_R9);
}

/* In AC mode SMAP is on; else EFLAGS.AC may be set while it is off. */
void access_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    bool on = u->insn->op == OP_STAC, now = l->t->mode_key & MODE_AC;
    flags_memory(l);
    if (on && !now) {
        struct x64_rm cr4 = AT_CPU(cr4);
        u32 site = site_new(l, SITE_END, u);
        x64_op(e, 0, false, false, X64_ONE, 0xf7, 0, &cr4);
        x64_u32(e, CR4_SMAP);
        l->c.flags = FL_MEM;
        cold_call(l, x64_jcc(e, CC_E), site);
    }
    x64_alu_imm(e, on ? X64_OR : X64_AND, 4, AT_CPU(eflags), on ? FLAG_AC : ~FLAG_AC);
    l->c.flags = FL_MEM;
    if (on != now) access_switch(l, on);
    exit_direct(l, u, (i64)u->insn->pos + u->insn->length, u->index + 1u);
}

void transfer_lower(struct lower *l, const struct uop *u)
{
    flags_memory(l);
    u32 site = site_new(l, SITE_LIGHT, u);
    site_new(l, SITE_LOOKUP, u);
    x64_mov_imm32(&l->hot, H_R9, site);
    x64_jmp_to(&l->hot, l->j->code.rw + (l->j->light - l->j->code.rx));
}
