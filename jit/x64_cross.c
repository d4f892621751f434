/*
 * Direct branches to other pages. Which code they lead to depends on the mapping: a link is good for one
 * linear address of the branch in one space of the jump cache, and compares both in one word, the link's
 * cell. What else comes by looks in the jump cache; now and then it becomes the link's owner.
 */
#include "jit/x64_int.h"

#define PASSES 64u /* by the jump cache between two changes of owner, over all that share a counter */

/* The pages from the branch's to the target's, in bytes. */
static i32 way_to(i64 target) { return (i32)(target & ~(i64)(PAGE_SIZE - 1)); }

/* In the cold part: the word a link is compared with. No address meets zero but by guessing a sign. */
static u8 *cell_new(struct x64 *cold)
{
    while ((uintptr_t)cold->p & 7) x64_u8(cold, 0xcc);
    u8 *cell = cold->p;
    x64_u64(cold, 0);
    return cell;
}

/* cmp r9, [rip + CELL] */
static void compare_cell(struct x64 *e, const u8 *cell)
{
    x64_u8(e, 0x4c), x64_u8(e, 0x3b), x64_u8(e, 0x0d);
    x64_u32(e, (u32)(cell - (e->p + 4)));
}

/* r10, where the branch's page is and BY on from there: to THUNK with the target, SITE in r9. */
static void cold_way(struct lower *l, i64 by, u32 site, const u8 *thunk)
{
    x64_lea(&l->cold, address_size(l), H_R10, x64_mem(H_R10, by));
    x64_mov_imm32(&l->cold, H_R9, site);
    x64_jmp_to(&l->cold, l->j->code.rw + (thunk - l->j->code.rx));
}

/* r10 is the target, r9 the site. cross_way: by the jump cache, unless it is time for C to link anew. */
void cross_thunks(struct jit_cpu *j, struct x64 *e)
{
    const u8 *slow = j->code.rw + (j->slow - j->code.rx);
    struct x64_rm code = AT_JUMP(code);
    j->cross_gone = code_rx(j, e->p);
    x64_mov_store(e, 8, AT_CPU(rip), H_R10);
    x64_jmp_to(e, slow);
    j->cross_way = code_rx(j, e->p);
    x64_mov_store(e, 8, AT_CPU(rip), H_R10);
    x64_mov_store(e, 8, AT_STATE(scratch[0]), H_R9);
    x64_alu_imm(e, X64_AND, 4, x64_reg(H_R9), HEAT_SLOTS - 1);
    x64_alu_imm(e, X64_SUB, 4, AT_INDEX(STATE_AT + (i64)offsetof(struct jit_state, passes), H_R9, 2), 1);
    u8 *own = x64_jcc(e, CC_LE);
    u8 *good = probe_first(e, CC_E), *second = probe_second(j, e);
    x64_patch(own, e->p);
    x64_mov_load(e, 4, H_R9, AT_STATE(scratch[0]));
    x64_jmp_to(e, slow);
    x64_patch(good, e->p);
    x64_patch(second, e->p);
    x64_mov_load(e, 8, H_R10, AT_JUMP(page));
    x64_mov_store(e, 8, AT_REG(REG_IP_BASE), H_R10);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 4, &code);
}
_Static_assert(!(HEAT_SLOTS & (HEAT_SLOTS - 1)), "a mask takes the counter's slot from the site");

static enum cross_by crossed_by(const struct uop *u, i64 target)
{
    if (u->op == UOP_CALL) return CROSS_CALL;
    return u->op == UOP_JMP || target != (i64)u->insn->pos + u->insn->length ? CROSS_JUMP : CROSS_FALL;
}

void cross_lower(struct lower *l, const struct uop *u, i64 target, unsigned counted)
{
    struct x64 *e = &l->hot, *cold = &l->cold;
    u32 site = site_new(l, SITE_CROSS, u);
    struct jsite *s = &l->j->sites[site];
    s->cell = cell_new(cold);
    s->way = way_to(target);
    s->want = crossed_by(u, target);
    s->index = (u16)(counted - 1);
    x64_mov_load(e, 8, H_R10, AT_REG(REG_IP_BASE));
    x64_mov_load(e, 8, H_R9, AT_NEAR(jump_sign));
    x64_alu(e, X64_XOR, 8, H_R9, x64_reg(H_R10));
    compare_cell(e, s->cell);
    x64_patch(x64_jcc(e, CC_NE), cold->p);
    cold_way(l, target, site, l->j->cross_way);
    x64_alu_imm(e, X64_ADD, address_size(l), x64_reg(H_R10), s->way);
    x64_mov_store(e, 8, AT_REG(REG_IP_BASE), H_R10);
    s->patch = x64_jmp(e);
    x64_patch(s->patch, cold->p); /* what it led to has been evicted */
    cold_way(l, target - s->way, site, l->j->cross_gone);
}

/* BLOCK is what SITE leads to from where it was just passed: rip is its start, and in the jump cache. */
void cross_link(struct jit_cpu *j, struct jsite *site, const struct jblock *block)
{
    u64 page = j->cpu->rip & PAGE_MASK, from = page - (u64)(i64)site->way;
    if (block->place.last) return;
    if (j->cpu->code_size != CODE64) from = (u32)from;
    j->state->passes[(u32)(site - j->sites) % HEAT_SLOTS] = PASSES;
    jumps_crossed(j, page); /* which may change the sign */
    link_unmake(j, site);
    link_make(j, site, block, block->checked);
    st64(site->cell, from ^ jit_near(j->cpu)->jump_sign);
    j->stats.crossed++;
}
