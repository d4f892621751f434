/*
 * Uops to x86-64 code: integer operations, the stack, and the dispatch over all of them.
 */
#include "jit/x64_int.h"

/* --- integer operations --- */

struct places {
    u8 host[4];      /* of each operand that is a general register */
    u8 scratch;      /* operands (a bit each) that need one of these: */
    u8 reg[4];       /* the guest's registers in struct vcpu */
    bool force;      /* SPL.. need a REX prefix */
    bool in_place;   /* the r/m operand stays in struct vcpu */
};

/* Registers that live in struct vcpu get scratch ones: r9, and r10 when no memory operand has it. */
static void places_find(const struct uop *u, struct places *p)
{
    unsigned next = H_R9;
    *p = (struct places){.host = {H_NONE, H_NONE, H_NONE, H_NONE}};
    for (unsigned n = 0; n < 4 && u->insn->operand[n].kind; n++) {
        const struct operand *o = &u->insn->operand[n];
        if (o->kind == OPERAND_GPR8H) p->host[n] = (u8)(o->reg + 4);
        if (o->kind != OPERAND_GPR) continue;
        unsigned host = home(o->reg);
        if (host == H_NONE) {
            for (unsigned m = 0; m < n; m++)
                if ((p->scratch >> m & 1) && p->reg[m] == o->reg) host = p->host[m];
            if (host == H_NONE) host = next++;
            p->reg[n] = o->reg;
            p->scratch |= (u8)(1u << n);
        }
        p->host[n] = (u8)host;
        p->force |= o->size == 1 && host >= 4 && host < 8;
    }
}

/* The r/m operand can be the guest register's place in struct vcpu. Not where that means another
 * operation (bits beyond it, a lock), and not for a part of it: a later load would wait for the store. */
static bool rm_in_place(const struct uop *u, const struct places *p, enum recipe_kind recipe)
{
    unsigned op = u->insn->op, n = u->rm;
    if (u->access || n > 3 || !(p->scratch >> n & 1) || recipe == RECIPE_SAVED) return false;
    if (op == OP_BT || op == OP_BTS || op == OP_BTR || op == OP_BTC || op == OP_XCHG) return false;
    for (unsigned m = 0; m < 4; m++)
        if (m != n && (p->scratch >> m & 1) && p->reg[m] == p->reg[n]) return false;
    return !(u->writes >> n & 1) || u->insn->operand[n].size == 8;
}

static void places_load(struct lower *l, const struct uop *u, const struct places *p)
{
    for (unsigned left = p->scratch, n = 0; left; left >>= 1, n++) {
        if (!(left & 1) || (p->in_place && n == u->rm)) continue;
        bool partial = (u->writes >> n & 1) && u->insn->operand[n].size < 4;
        if ((u->reads >> n & 1) || partial) x64_mov_load(&l->hot, 8, p->host[n], AT_REG(p->reg[n]));
    }
}

static void places_store(struct lower *l, const struct uop *u, const struct places *p)
{
    for (unsigned left = p->scratch & u->writes, n = 0; left; left >>= 1, n++)
        if ((left & 1) && !(p->in_place && n == u->rm)) x64_mov_store(&l->hot, 8, AT_REG(p->reg[n]), p->host[n]);
}

/* The value of operand N, kept for who redoes the flags. Where C had to load it, it goes on from here, too. */
static struct x64_rm value_keep(struct lower *l, unsigned n, unsigned size, struct x64_rm rm, u32 site)
{
    struct x64 *e = &l->hot;
    if (size >= 4) x64_mov_load(e, size, H_R9, rm);
    else x64_op(e, 0, false, false, X64_0F, size == 1 ? 0xb6 : 0xb7, H_R9, &rm);
    x64_mov_store(e, 8, AT_NEAR(flag_operand[n]), H_R9);
    if (site == NO_SITE) return x64_reg(H_R9);
    l->j->sites[site].resume = code_rx(l->j, l->cold.p);
    x64_mov_load(&l->cold, 8, H_R9, AT_NEAR(flag_operand[n]));
    x64_jmp_to(&l->cold, e->p);
    return x64_reg(H_R9);
}

/* AH.. can't be encoded beside R10: with AL and AH exchanged the low byte is. The address is in R10 whole, then. */
static bool swap_high(struct lower *l, const struct uop *u, struct places *p)
{
    for (unsigned n = 0; n < 4 && u->access && u->insn->operand[n].kind; n++) {
        const struct operand *o = &u->insn->operand[n];
        if (o->kind != OPERAND_GPR8H) continue;
        p->host[n] = o->reg;
        x64_u8(&l->hot, 0x86), x64_u8(&l->hot, 0xc0u | (o->reg + 4u) << 3 | o->reg); /* xchg al, ah */
        return true;
    }
    return false;
}

static void rm_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    struct places p;
    struct x64_rm rm = {0};
    u32 site = NO_SITE;
    enum recipe_kind recipe = recipe_plan(l, u);
    bool value = recipe_wants_value(u, recipe), held = addend_held(l) && !u->fuse;
    if (u->access) {
        struct address a = address_of(u->insn);
        flags_ready(l, u);
        site = site_new(l, value ? SITE_LOAD : SITE_ACCESS, u);
        rm = mem_check(l, &a, u->msize, u->align, u->access & UOP_WRITE, site);
        if (site_unused(l, site)) site = NO_SITE;
        held = true;
    }
    flags_want(l, u->fuse, u);
    places_find(u, &p);
    p.in_place = rm_in_place(u, &p, recipe);
    places_load(l, u, &p);
    if (p.in_place) rm = AT_REG(p.reg[u->rm]);
    else if (!u->access) rm = x64_reg(p.host[u->rm]);
    else if (value) rm = value_keep(l, u->insn->operand[0].kind != OPERAND_MEMORY, u->msize, rm, site);
    bool swapped = swap_high(l, u, &p);
    if (recipe == RECIPE_SAVED) x64_mov_store(e, 8, AT_NEAR(flag_operand[0]), p.host[0]);
    unsigned reg = u->digit != 0xff ? u->digit : p.host[u->reg];
    if (u->lock) x64_u8(e, 0xf0);
    if (u->vex) {
        unsigned vvvv = u->vvvv != 0xff ? p.host[u->vvvv] : 0;
        x64_vex(e, u->pp, u->w, false, u->map, u->opcode, reg, vvvv, &rm);
    } else {
        x64_op(e, u->pp, u->w, p.force, u->map, u->opcode, reg, &rm);
    }
    if (u->imm_size) x64_imm(e, u->imm, u->imm_size);
    places_store(l, u, &p);
    if (swapped) swap_high(l, u, &p);
    flags_written(l, u, recipe);
    if (site != NO_SITE && !value) site_resume(l, site);
    if (p.scratch)
        for (unsigned n = 0; n < 4; n++) held &= p.host[n] != H_R10;
    addend_keep(l, held);
}

static void movi64_lower(struct lower *l, const struct uop *u)
{
    unsigned reg = u->insn->operand[0].reg, to = home(reg);
    x64_mov_imm64(&l->hot, to == H_NONE ? H_R9 : to, u->insn->imm);
    if (to == H_NONE) x64_mov_store(&l->hot, 8, AT_REG(reg), H_R9);
}

static void bswap_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned reg = u->insn->operand[0].reg, to = home(reg), host = to == H_NONE ? H_R9 : to;
    if (to == H_NONE) x64_mov_load(e, 8, H_R9, AT_REG(reg));
    unsigned rex = (u->insn->size == 8) << 3 | (host >= 8);
    if (rex) x64_u8(e, 0x40 | rex);
    x64_u8(e, 0x0f);
    x64_u8(e, 0xc8 | (host & 7));
    if (to == H_NONE) x64_mov_store(e, 8, AT_REG(reg), H_R9);
}

static void bare_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    flags_want(l, u->fuse, u);
    if (u->pp == X64_66) x64_u8(e, 0x66);
    if (u->w) x64_u8(e, 0x48);
    if (u->map == X64_0F) x64_u8(e, 0x0f);
    x64_u8(e, u->opcode);
    if (u->imm_size) x64_u8(e, (unsigned)u->imm);
    flags_written(l, u, RECIPE_NONE);
}

/* --- stack --- */

/* This PUSH or POP is not done in C, and what lies behind it in its node is one, too, of what has been checked. */
static bool stack_goes_on(const struct lower *l, const struct uop *u, i64 by)
{
    if (l->cold_before || l->uop + 1u >= l->t->nodes[l->node].count || l->t->code_size != CODE64) return false;
    const struct uop *next = u + 1;
    const struct operand *o = &next->insn->operand[0];
    if ((next->op != UOP_PUSH && next->op != UOP_POP) || next->insn->size != 8) return false;
    if (o->kind != OPERAND_IMMEDIATE && (o->kind != OPERAND_GPR || o->reg == RSP)) return false;
    return stack_checked(l, by + (next->op == UOP_PUSH ? -8 : 0), 8, next->op == UOP_PUSH);
}

/* The last PUSH or POP of a row moves rSP for all of them. */
static void stack_moves(struct lower *l, const struct uop *u, i64 by)
{
    l->stack_behind += by;
    if (stack_goes_on(l, u, by)) return;
    if (l->stack_behind) move_stack(l, l->stack_behind);
    l->stack_behind = 0;
}

static struct x64_rm stack_operand(struct lower *l, const struct address *a, unsigned size, bool write, u32 site)
{
    struct x64_rm rm = mem_check(l, a, size, 0, write, site);
    rm.disp += (i32)l->stack_behind;
    return rm;
}

static void push_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = u->insn->size;
    const struct operand *o = &u->insn->operand[0];
    struct address at = stack_at(l, -(i64)size);
    u32 site = site_new(l, SITE_ACCESS, u);
    if (u->op == UOP_PUSHM) {
        struct address a = address_of(u->insn);
        x64_mov_load(e, size, H_R9, mem_check(l, &a, size, 0, false, site));
        x64_mov_store(e, 8, AT_STATE(scratch[0]), H_R9);
    }
    struct x64_rm to = stack_operand(l, &at, size, true, site);
    if (u->op == UOP_PUSHM) {
        x64_mov_load(e, 8, H_R9, AT_STATE(scratch[0]));
        x64_mov_store(e, size, to, H_R9);
    } else if (o->kind == OPERAND_IMMEDIATE) {
        x64_op(e, size == 2 ? X64_66 : 0, size == 8, false, X64_ONE, 0xc7, 0, &to);
        x64_imm(e, u->insn->imm, size == 2 ? 2 : 4);
    } else if (o->kind == OPERAND_SEGMENT) {
        struct x64_rm selector = AT_SEG(o->reg, selector);
        x64_op(e, 0, false, false, X64_0F, 0xb7, H_R9, &selector);
        x64_mov_store(e, size, to, H_R9);
    } else if (home(o->reg) == H_NONE) {
        x64_mov_load(e, 8, H_R9, AT_REG(o->reg));
        x64_mov_store(e, size, to, H_R9);
    } else {
        x64_mov_store(e, size, to, home(o->reg));
    }
    stack_moves(l, u, -(i64)size);
    if (!site_unused(l, site)) site_resume(l, site);
    addend_keep(l, true);
}

static void pop_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = u->insn->size, reg = u->insn->operand[0].reg;
    struct address at = stack_at(l, 0);
    u32 site = site_new(l, SITE_ACCESS, u);
    struct x64_rm from = stack_operand(l, &at, size, false, site);
    unsigned to = home(reg) == H_NONE ? H_R9 : home(reg);
    x64_mov_load(e, size, to, from);
    if (to == H_R9) x64_mov_store(e, 8, AT_REG(reg), H_R9);
    if (reg != RSP) stack_moves(l, u, size);
    if (!site_unused(l, site)) site_resume(l, site);
    addend_keep(l, true);
}

static void leave_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = u->insn->size;
    struct address at = stack_at(l, 0);
    at.base = RBP;
    u32 site = site_new(l, SITE_ACCESS, u);
    struct x64_rm from = mem_check(l, &at, size, 0, false, site);
    x64_mov_load(e, size, H_R9, from);
    x64_lea(e, size, H_R11, x64_mem(H_RBP, size));
    x64_mov_load(e, size == 2 ? 2 : 8, H_RBP, x64_reg(H_R9));
    if (!site_unused(l, site)) site_resume(l, site);
}

static void pushf_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    struct address at = stack_at(l, -8);
    u32 site = site_new(l, SITE_ACCESS, u);
    struct x64_rm of = AT_NEAR(flags), others = of;
    others.disp++;
    flags_stored(l, u);
    x64_op(e, 0, false, false, X64_0F, 0xb6, H_R9, &others);
    x64_op(e, 0, false, false, X64_0F, 0xb6, H_R10, &of);
    x64_shift(e, 4, 4, H_R10, 11);
    x64_alu(e, X64_OR, 4, H_R9, x64_reg(H_R10));
    x64_alu(e, X64_OR, 4, H_R9, AT_CPU(eflags));
    x64_alu_imm(e, X64_AND, 4, x64_reg(H_R9), ~(FLAG_VM | FLAG_RF));
    x64_mov_store(e, 8, AT_STATE(scratch[0]), H_R9);
    struct x64_rm to = mem_check(l, &at, 8, 0, true, site);
    x64_mov_load(e, 8, H_R9, AT_STATE(scratch[0]));
    x64_mov_store(e, 8, to, H_R9);
    move_stack(l, -8);
    site_resume(l, site);
}

/* STI with a request pending is the interpreter's: it may be due behind the next instruction. */
static void interrupts_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    bool on = u->op == UOP_STI;
    u32 site = site_new(l, SITE_END, u);
    struct x64_rm cpl = AT_CPU(cpl);
    flags_hold(l);
    l->c.flags &= ~(unsigned)FL_REG;
    if (l->t->mode_key & (MODE_USER | MODE_RING12)) {
        x64_op(e, 0, false, false, X64_ONE, 0x80, X64_CMP, &cpl);
        x64_u8(e, 0);
        cold_call(l, x64_jcc(e, CC_NE), site);
    }
    if (on) {
        x64_alu_imm(e, X64_CMP, 4, AT_CPU(requests), 0);
        cold_call(l, x64_jcc(e, CC_NE), site);
    }
    x64_alu_imm(e, on ? X64_OR : X64_AND, 4, AT_CPU(eflags), on ? FLAG_IF : ~FLAG_IF);
}

/* --- division: what could fault goes to C --- */

/* DIV of 8 and 16 bits by FROM. */
static void div_small(struct lower *l, unsigned size, struct x64_rm from, u32 site)
{
    struct x64 *e = &l->hot;
    struct x64_rm r9 = x64_reg(H_R9), high = x64_reg(size == 1 ? H_RAX : H_RDX);
    x64_op(e, 0, false, false, X64_0F, size == 1 ? 0xb6 : 0xb7, H_R9, &from);
    x64_op(e, 0, false, false, X64_0F, 0xb7, H_R10, &high);
    if (size == 1) x64_shift(e, 5, 4, H_R10, 8); /* AH */
    x64_alu(e, X64_CMP, 4, H_R10, r9);
    l->c.flags &= ~(unsigned)FL_REG;
    cold_call(l, x64_jcc(e, CC_AE), site);
    x64_op(e, size == 2 ? X64_66 : 0, false, false, X64_ONE, size == 1 ? 0xf6 : 0xf7, 6, &r9);
    site_resume(l, site);
}

static void div_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = u->insn->size, reg = u->insn->operand[0].reg;
    u32 site = site_new(l, SITE_ACCESS, u);
    flags_hold(l);
    struct x64_rm from = {0};
    if (u->access) {
        struct address a = address_of(u->insn);
        from = mem_check(l, &a, size, 0, false, site);
    } else {
        from = home(reg) == H_NONE ? AT_REG(reg) : x64_reg(home(reg));
    }
    if (size < 4) {
        div_small(l, size, from, site);
        return;
    }
    x64_mov_load(e, size, H_R9, from);
    l->c.flags &= ~(unsigned)FL_REG;
    struct x64_rm r9 = x64_reg(H_R9);
    if (u->insn->op == OP_DIV) {
        x64_alu(e, X64_CMP, size, H_RDX, r9);
        cold_call(l, x64_jcc(e, CC_AE), site);
        x64_op(e, 0, size == 8, false, X64_ONE, 0xf7, 6, &r9);
    } else {
        x64_mov(e, H_R10, H_RAX);
        x64_shift(e, 7, size, H_R10, size * 8 - 1);
        x64_alu(e, X64_CMP, size, H_R10, x64_reg(H_RDX));
        cold_call(l, x64_jcc(e, CC_NE), site);
        x64_lea(e, size, H_R10, x64_mem(H_R9, 1));
        x64_alu_imm(e, X64_CMP, size, x64_reg(H_R10), 1);
        cold_call(l, x64_jcc(e, CC_BE), site);
        x64_op(e, 0, size == 8, false, X64_ONE, 0xf7, 7, &r9);
    }
    site_resume(l, site);
}

/* --- strings --- */

static void upward_only(struct lower *l, u32 site)
{
    struct x64_rm eflags = AT_CPU(eflags);
    flags_hold(l);
    x64_op(&l->hot, 0, false, false, X64_ONE, 0xf7, 0, &eflags); /* test */
    x64_u32(&l->hot, FLAG_DF);
    l->c.flags &= ~(unsigned)FL_REG;
    cold_call(l, x64_jcc(&l->hot, CC_NE), site);
}

static void string_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = u->insn->size, pp = size == 2 ? X64_66 : 0, wide = size != 1, value = H_RAX;
    unsigned width = u->insn->address_size;
    bool moves = u->insn->op == OP_MOVS;
    struct address from = {RSI, REG_ZERO, 0, u->insn->seg, (u8)width, 0};
    struct address to = {RDI, REG_ZERO, 0, ES, (u8)width, 0};
    u32 site = site_new(l, SITE_ACCESS, u);
    upward_only(l, site);
    if (u->insn->op == OP_LODS) {
        struct x64_rm rm = mem_check(l, &from, size, 0, false, site);
        x64_op(e, pp, size == 8, false, X64_ONE, 0x8a + wide, H_RAX, &rm);
        x64_lea(e, width, H_RSI, x64_mem(H_RSI, size));
        site_resume(l, site);
        return;
    }
    if (moves) {
        struct x64_rm rm = mem_check(l, &from, size, 0, false, site);
        value = H_R9;
        if (size >= 4) x64_mov_load(e, size, value, rm);
        else x64_op(e, 0, false, false, X64_0F, 0xb6 + wide, value, &rm);
        x64_mov_store(e, 8, AT_STATE(scratch[0]), H_R9);
    }
    struct x64_rm rm = mem_check(l, &to, size, 0, true, site);
    if (moves) x64_mov_load(e, 8, H_R9, AT_STATE(scratch[0]));
    x64_op(e, pp, size == 8, false, X64_ONE, 0x88 + wide, value, &rm);
    if (moves) x64_lea(e, width, H_RSI, x64_mem(H_RSI, size));
    x64_lea(e, width, H_RDI, x64_mem(H_RDI, size));
    site_resume(l, site);
}

/* The check for COUNT elements from REG on: r10 is the addend behind it. */
static void string_check(struct lower *l, unsigned reg, bool write, const struct uop *u, u32 site)
{
    static const u8 scales[] = {[1] = 0, [2] = 1, [4] = 2, [8] = 3};
    struct x64 *e = &l->hot;
    x64_lea(e, 8, H_R9, x64_sib(home(reg), H_RCX, scales[u->insn->size], -1));
    x64_mov(e, H_R10, home(reg));
    span_check(l, write, site);
}

/* What is not upward, within a page and small is the interpreter's. */
static void repeat_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    struct x64_rm rcx = x64_reg(H_RCX);
    bool moves = u->insn->op == OP_MOVS, wide = u->insn->size != 1;
    u32 site = site_new(l, SITE_ACCESS, u);
    upward_only(l, site);
    x64_alu_imm(e, X64_CMP, 8, x64_reg(H_RCX), PAGE_SIZE);
    cold_call(l, x64_jcc(e, CC_A), site);
    x64_op(e, 0, true, false, X64_ONE, 0x85, H_RCX, &rcx); /* test */
    u8 *none = x64_jcc(e, CC_E);
    string_check(l, RDI, true, u, site);
    if (moves) {
        x64_mov_store(e, 8, AT_STATE(scratch[0]), H_R10);
        string_check(l, RSI, false, u, site);
        x64_alu(e, X64_ADD, 8, H_RSI, x64_reg(H_R10));
        x64_alu(e, X64_ADD, 8, H_RDI, AT_STATE(scratch[0]));
    } else {
        x64_alu(e, X64_ADD, 8, H_RDI, x64_reg(H_R10));
    }
    x64_u8(e, 0xf3);
    if (u->insn->size == 2) x64_u8(e, 0x66);
    if (u->insn->size == 8) x64_u8(e, 0x48);
    x64_u8(e, (moves ? 0xa4u : 0xaau) + wide);
    if (moves) x64_alu(e, X64_SUB, 8, H_RSI, x64_reg(H_R10));
    x64_alu(e, X64_SUB, 8, H_RDI, moves ? AT_STATE(scratch[0]) : x64_reg(H_R10));
    l->c.flags &= ~(unsigned)FL_REG;
    x64_patch(none, e->p);
    site_resume(l, site);
}

/* --- the interpreter's function --- */

static void helper_lower(struct lower *l, const struct uop *u)
{
    flags_memory(l);
    u32 site = site_new(l, u->op == UOP_HELPER ? SITE_HELPER : SITE_END, u);
    call_c(l, &l->hot, site);
    site_resume(l, site);
    l->c.flags = FL_MEM | FL_REG;
    l->c.vectors = 0;
    l->c.x87 = l->c.x87_page = false;
    groups_forget(l);
}

static void operation_lower(struct lower *l, const struct uop *u)
{
    switch ((enum uop_op)u->op) {
    case UOP_NOP: break;
    case UOP_RM: rm_lower(l, u); break;
    case UOP_VECTOR: vector_lower(l, u); break;
    case UOP_X87: x87_lower(l, u); break;
    case UOP_MOVI64: movi64_lower(l, u); break;
    case UOP_BSWAP: bswap_lower(l, u); break;
    case UOP_BARE: bare_lower(l, u); break;
    case UOP_LEA: lea_lower(l, u); break;
    case UOP_PUSH:
    case UOP_PUSHM: push_lower(l, u); break;
    case UOP_POP: pop_lower(l, u); break;
    case UOP_LEAVE: leave_lower(l, u); break;
    case UOP_PUSHF: pushf_lower(l, u); break;
    case UOP_CLI:
    case UOP_STI: interrupts_lower(l, u); break;
    case UOP_READ_SEG: segment_read_lower(l, u); break;
    case UOP_LOAD_SEG: segment_load_lower(l, u); break;
    case UOP_SWAPGS: swapgs_lower(l); break;
    case UOP_DF: direction_lower(l, u); break;
    case UOP_PAUSE: pause_lower(l, u); break;
    case UOP_READ_CR: read_cr_lower(l, u); break;
    case UOP_AC: access_lower(l, u); break;
    case UOP_TRANSFER: transfer_lower(l, u); break;
    case UOP_DIV: div_lower(l, u); break;
    case UOP_REPEAT: repeat_lower(l, u); break;
    case UOP_STRING: string_lower(l, u); break;
    case UOP_FALL: break; /* the unit's */
    case UOP_HELPER:
    case UOP_HELPER_END:
    case UOP_COUNT: helper_lower(l, u); break;
    case UOP_JCC:
    case UOP_LOOP:
    case UOP_JMP:
    case UOP_CALL:
    case UOP_RET:
    case UOP_JMPI:
    case UOP_CALLI: branch_lower(l, u); break;
    }
}

void uop_lower(struct lower *l, const struct uop *u)
{
    l->cold_before = false;
    bool held = addend_held(l);
    flags_before(l, u);
    addend_keep(l, held);
    operation_lower(l, u);
    groups_after(l, u);
}
