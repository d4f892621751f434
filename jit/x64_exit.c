/*
 * How translated code leaves a unit: calls to C, branches, links and the jump cache.
 */
#include "jit/x64_int.h"

u32 site_new(struct lower *l, enum site_kind kind, const struct uop *u)
{
    const struct jit_cpu *j = l->j;
    struct code_cursor *at = l->at;
    u32 number = at->site_count++, insn = at->insn_count;
    if (at->site_count + 8 > at->site_end) at->site_count--, l->failed = true;
    u16 index = (u16)(l->c.pending + u->index);
    j->sites[number] = (struct jsite){.kind = (u8)kind, .index = index, .block = l->number, .insn = insn, .target = u->insn->pos};
    if (kind > SITE_RUNS) return number;
    at->insn_count++;
    j->insns[insn] = *u->insn;
    j->insns[insn].spare = index; /* for cpu_icount_now */
    return number;
}

/* SITE, the last but for what stays, is where an access would have left that can't: it needs none. */
bool site_unused(struct lower *l, u32 site)
{
    if (l->cold_before || site + 1 != l->at->site_count || l->failed) return false;
    l->at->site_count--;
    l->at->insn_count--;
    return true;
}

void site_resume(struct lower *l, u32 site)
{
    l->j->sites[site].resume = code_rx(l->j, l->hot.p);
}

void call_c(struct lower *l, struct x64 *e, u32 site)
{
    x64_mov_imm32(e, H_R9, site);
    x64_jmp_to(e, l->j->code.rw + (l->j->slow - l->j->code.rx));
}

/* The jump at PATCH, a look that was not met, comes back to what is emitted next when HOW made it good: with r9
 * and r10 as they were, or, through the stack, with the addend in r10. Else it goes on in the cold part. */
static void refill(struct lower *l, u8 *patch, struct refill how)
{
    struct x64 *cold = &l->cold;
    x64_patch(patch, cold->p);
    if (!how.thunk) return;
    x64_call_to(cold, l->j->code.rw + (how.thunk - l->j->code.rx));
    if (how.stack) x64_alu_imm(cold, X64_CMP, 8, x64_reg(H_R9), (i32)(PAGE_SIZE - how.stack));
    x64_patch(x64_jcc(cold, how.stack ? CC_BE : CC_NE), l->hot.p);
}

void cold_refill(struct lower *l, u8 *patch, struct refill how, u32 site)
{
    refill(l, patch, how);
    flags_cold(l);
    call_c(l, &l->cold, site);
}

void cold_call(struct lower *l, u8 *patch, u32 site) { cold_refill(l, patch, (struct refill){0}, site); }

/* With the linear address in scratch[2]. */
void cold_refill_at(struct lower *l, u8 *patch, unsigned how, unsigned size, u32 site)
{
    x64_patch(patch, l->cold.p);
    x64_mov_imm32(&l->cold, H_R9, size << 8 | how);
    x64_call_to(&l->cold, l->j->code.rw + (l->j->refill_at - l->j->code.rx));
    x64_patch(x64_jcc(&l->cold, CC_NE), l->hot.p);
    flags_cold(l);
    call_c(l, &l->cold, site);
}

/* Else a unit without shared checks goes on from U. */
void cold_plain(struct lower *l, u8 *patch, struct refill how, const struct uop *u)
{
    u32 site = site_new(l, SITE_PLAIN, u);
    refill(l, patch, how);
    flags_cold(l);
    count_insns(&l->cold, l->c.pending + u->index);
    l->j->sites[site].patch = x64_jmp(&l->cold);
    x64_patch(l->j->sites[site].patch, l->cold.p);
    call_c(l, &l->cold, site);
}

/* --- vectors --- */

void vectors_want(struct lower *l, unsigned want, const struct uop *u)
{
    if ((l->c.vectors & want) == want) return;
    flags_hold(l);
    u32 site = site_new(l, SITE_VECTORS, u);
    l->j->sites[site].want = (u8)want;
    struct x64_rm at = AT_NEAR(vectors_live);
    x64_op(&l->hot, 0, false, false, X64_ONE, 0x80, X64_CMP, &at);
    x64_u8(&l->hot, want);
    l->c.flags &= ~(unsigned)FL_REG;
    cold_call(l, x64_jcc(&l->hot, CC_B), site);
    site_resume(l, site);
    l->c.vectors = (u8)want;
}

/* --- leaving --- */

void count_insns(struct x64 *e, unsigned count)
{
    if (!count) return;
    x64_alu_imm(e, X64_ADD, 8, AT_CPU(icount), (i32)count);
}

void probe_slot(struct x64 *e, unsigned reg, u32 hash, unsigned bits, u32 first)
{
    struct x64_rm rm = x64_reg(reg);
    x64_op(e, 0, false, false, X64_ONE, 0x69, H_R9, &rm);
    x64_u32(e, hash);
    x64_shift(e, 5, 4, H_R9, 32 - bits);
    x64_shift(e, 4, 4, H_R9, 5);
    if (first) x64_alu_imm(e, X64_ADD, 4, x64_reg(H_R9), (i32)(first << 5));
}
_Static_assert(sizeof(struct jump) == 32 && JUMP_SLOTS == 1 << 14 && JUMP_SECOND == 1 << 12, "probe's hashes");

u8 *probe_first(struct x64 *e, unsigned cc)
{
    probe_slot(e, H_R10, JUMP_HASH, 14, 0);
    x64_alu(e, X64_XOR, 8, H_R10, AT_NEAR(jump_sign));
    x64_alu(e, X64_CMP, 8, H_R10, AT_JUMP(key));
    return x64_jcc(e, cc);
}

u8 *probe_second(const struct jit_cpu *j, struct x64 *e)
{
    x64_call_to(e, j->code.rw + (j->second - j->code.rx));
    return x64_jcc(e, CC_E);
}

/* Looks r10 up; leaves for SITE when it isn't there. r9 is the slot behind it. */
static void probe(struct lower *l, u32 site)
{
    x64_patch(probe_first(&l->hot, CC_NE), l->cold.p);
    x64_patch(probe_second(l->j, &l->cold), l->hot.p);
    flags_cold(l);
    call_c(l, &l->cold, site);
}

/* Called: r9 = the second slot of the key r10, and E when it is good. */
void emit_second(struct x64 *e)
{
    probe_slot(e, H_R10, JUMP_HASH_SECOND, 12, JUMP_SLOTS);
    x64_alu(e, X64_CMP, 8, H_R10, called(AT_JUMP(key)));
    x64_u8(e, 0xc3);
}

/* To the code of slot r9. */
void jump_there(struct lower *l, struct x64 *e, unsigned count)
{
    x64_mov_load(e, 8, H_R10, AT_JUMP(page));
    if (l->t->segmented) x64_alu(e, X64_SUB, 8, H_R10, AT_SEG(CS, base));
    x64_mov_store(e, 8, AT_REG(REG_IP_BASE), H_R10);
    count_insns(e, count);
    struct x64_rm code = AT_JUMP(code);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 4, &code);
}

/* In front of a straight unit's way back, where the loop may be worth a unit of its own. */
static void heat_check(struct lower *l, const struct uop *u, unsigned target)
{
    struct x64 *e = &l->hot;
    u32 site = site_new(l, SITE_HOT, u);
    l->j->sites[site].target = (u16)target;
    l->j->sites[site].patch = e->p;
    x64_alu_imm(e, X64_SUB, 4, AT_STATE(heat[l->number % HEAT_SLOTS]), 1);
    cold_call(l, x64_jcc(e, CC_E), site);
    site_resume(l, site);
}

static bool goes_back(const struct lower *l, const struct uop *u, i64 target)
{
    bool back = target <= (i64)u->insn->pos || l->j->jit->options.all_loops;
    return back && !l->t->loops && !l->t->straddle && !l->t->plain &&
           !l->j->jit->options.no_loops;
}

/* TARGET: offset from the page's start. COUNT: instructions of the node. */
void exit_direct(struct lower *l, const struct uop *u, i64 target, unsigned count)
{
    struct x64 *e = &l->hot;
    u32 ip = unit_ip(l->t, target);
    flags_memory(l);
    count_insns(e, l->c.pending + count);
    target = unit_place(l->t, target);
    if (target >= 0 && target < (i64)PAGE_SIZE) {
        if (goes_back(l, u, target)) heat_check(l, u, (unsigned)target);
        u32 site = site_new(l, SITE_LINK, u);
        struct jsite *s = &l->j->sites[site];
        s->patch = x64_jmp(e);
        s->target = (u16)target;
        s->mode = (u16)((l->t->mode_key & ~(unsigned)MODE_NO_FPU) | l->t->stops_key);
        if (u->op == UOP_AC) s->mode = (s->mode & (u16)~MODE_AC) | (u->insn->op == OP_STAC ? MODE_AC : 0);
        cold_call(l, s->patch, site);
        return;
    }
    if (!l->t->segmented) {
        cross_lower(l, u, target, l->c.pending + count);
        return;
    }
    u32 site = site_new(l, SITE_LOOKUP, u);
    x64_mov_imm32(e, H_R10, ip);
    x64_mov_store(e, 8, AT_CPU(rip), H_R10);
    linear_target(l);
    probe(l, site);
    jump_there(l, e, 0);
}

i64 branch_target(const struct uop *u)
{
    const struct insn *i = u->insn;
    return (i64)i->pos + i->length + (u->op == UOP_FALL ? 0 : (i64)i->imm);
}

static void emit_next_ip(struct lower *l, unsigned reg, const struct insn *i)
{
    if (l->t->segmented) {
        x64_mov_imm32(&l->hot, reg, unit_ip(l->t, i->pos + i->length));
        return;
    }
    x64_mov_load(&l->hot, 8, reg, AT_REG(REG_IP_BASE));
    x64_lea(&l->hot, address_size(l), reg, x64_mem(reg, i->pos + i->length));
}

static void call_lower(struct lower *l, const struct uop *u)
{
    unsigned size = address_size(l);
    struct address a = stack_at(l, -(i64)size);
    u32 site = site_new(l, SITE_END, u);
    struct x64_rm to = mem_check(l, &a, size, 0, true, site);
    emit_next_ip(l, H_R9, u->insn);
    x64_mov_store(&l->hot, size, to, H_R9);
    move_stack(l, -(i64)size);
    site_unused(l, site);
}

static void load_ip(struct lower *l, struct x64_rm from)
{
    if (address_size(l) > 2) x64_mov_load(&l->hot, address_size(l), H_R10, from);
    else x64_op(&l->hot, 0, false, false, X64_0F, 0xb7, H_R10, &from);
}

static void ret_lower(struct lower *l, const struct uop *u)
{
    unsigned size = address_size(l);
    struct address a = stack_at(l, 0);
    u32 site = site_new(l, SITE_END, u);
    struct x64_rm from = mem_check(l, &a, size, 0, false, site);
    load_ip(l, from);
    linear_target(l);
    probe(l, site);
    bool extra = u->insn->operand[0].kind == OPERAND_IMMEDIATE;
    move_stack(l, (i64)size + (extra ? (u16)u->insn->imm : 0));
    jump_there(l, &l->hot, l->c.pending + u->index + 1u);
}

/* r10 = where an indirect branch leads. */
static void load_target(struct lower *l, const struct uop *u, u32 site)
{
    unsigned size = address_size(l), reg = u->insn->operand[0].reg;
    if (u->access) {
        struct address a = address_of(u->insn);
        load_ip(l, mem_check(l, &a, size, 0, false, site));
    } else {
        load_ip(l, home(reg) == H_NONE ? AT_REG(reg) : x64_reg(home(reg)));
    }
    linear_target(l);
}

/* The target is looked up before anything changes: a miss, as an operand that is not there, runs the
 * whole instruction in C. */
static void call_indirect_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = address_size(l);
    u32 site = site_new(l, SITE_END, u);
    struct address a = stack_at(l, -(i64)size);
    struct x64_rm to = mem_check(l, &a, size, 0, true, site), code = AT_STATE(resume);
    x64_lea(e, 8, H_R10, to);
    x64_mov_store(e, 8, AT_STATE(scratch[0]), H_R10);
    load_target(l, u, site);
    probe(l, site);
    x64_mov_load(e, 8, H_R10, AT_JUMP(page));
    if (l->t->segmented) x64_alu(e, X64_SUB, 8, H_R10, AT_SEG(CS, base));
    x64_mov_load(e, 8, H_R9, AT_JUMP(code));
    x64_mov_store(e, 8, code, H_R9);
    emit_next_ip(l, H_R9, u->insn);
    x64_mov_store(e, 8, AT_REG(REG_IP_BASE), H_R10);
    x64_mov_load(e, 8, H_R10, AT_STATE(scratch[0]));
    x64_mov_store(e, size, x64_mem(H_R10, 0), H_R9);
    move_stack(l, -(i64)size);
    count_insns(e, l->c.pending + u->index + 1u);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 4, &code);
}

/* What a branch does before it leaves; JCC, JMP and CALL then go where the unit's edges say. */
void branch_lower(struct lower *l, const struct uop *u)
{
    if (u->op == UOP_JCC || u->op == UOP_JMP) return;
    if (u->op == UOP_LOOP) {
        loop_lower(l, u);
        return;
    }
    if (u->op == UOP_CALL) {
        call_lower(l, u);
        return;
    }
    flags_memory(l);
    switch (u->op) {
    case UOP_RET: ret_lower(l, u); break;
    case UOP_CALLI: call_indirect_lower(l, u); break;
    default: {
        u32 site = site_new(l, SITE_END, u);
        load_target(l, u, site);
        probe(l, site);
        jump_there(l, &l->hot, l->c.pending + u->index + 1u);
    }
    }
}
