/*
 * Uops to x86-64 code: the block's frame, integer operations, and the code every block shares (entry
 * from C, the way back, calls to C).
 *
 * A block: [page's generation as translated?] [time left?] body, side exits. Both checks leave by
 * `leave`, with the instruction's place in the page in r9.
 */
#include "jit/x64_int.h"

#define ROOM_HOT KIB(24)
#define ROOM_COLD KIB(8)

/* --- integer operations --- */

struct places {
    u8 host[4];      /* of each operand that is a general register */
    u8 reg[4];       /* the guest's, for those in scratch */
    bool scratch[4];
    bool force;      /* SPL.. need a REX prefix */
};

/* Registers that live in struct vcpu get scratch ones: r9, and r10 when no memory operand has it. */
static void places_find(struct lower *l, const struct uop *u, struct places *p)
{
    unsigned next = H_R9;
    *p = (struct places){.host = {H_NONE, H_NONE, H_NONE, H_NONE}};
    for (unsigned n = 0; n < 4; n++) {
        const struct operand *o = &u->insn->operand[n];
        if (o->kind == OPERAND_GPR8H) p->host[n] = (u8)(o->reg + 4);
        if (o->kind != OPERAND_GPR) continue;
        p->host[n] = (u8)home(o->reg);
        p->reg[n] = o->reg;
        if (p->host[n] == H_NONE) {
            p->scratch[n] = true;
            for (unsigned m = 0; m < n; m++)
                if (p->scratch[m] && p->reg[m] == o->reg) p->host[n] = p->host[m];
            if (p->host[n] == H_NONE) p->host[n] = (u8)next++;
        }
        if (o->size == 1 && p->host[n] >= 4 && p->host[n] < 8) p->force = true;
    }
    (void)l;
}

static void places_load(struct lower *l, const struct uop *u, const struct places *p)
{
    for (unsigned n = 0; n < 4; n++) {
        if (!p->scratch[n]) continue;
        bool partial = (u->writes >> n & 1) && u->insn->operand[n].size < 4;
        if ((u->reads >> n & 1) || partial) x64_mov_load(&l->hot, 8, p->host[n], AT_REG(p->reg[n]));
    }
}

static void places_store(struct lower *l, const struct uop *u, const struct places *p)
{
    for (unsigned n = 0; n < 4; n++)
        if (p->scratch[n] && (u->writes >> n & 1)) x64_mov_store(&l->hot, 8, AT_REG(p->reg[n]), p->host[n]);
}

static void flags_written(struct lower *l, const struct uop *u)
{
    if (u->fdef) l->flags = FL_REG;
}

static void rm_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    struct places p;
    struct x64_rm rm = {0};
    u32 site = NO_SITE;
    if (u->access) {
        struct address a = address_of(u->insn);
        site = site_new(l, SITE_ACCESS, u);
        rm = mem_check(l, &a, u->msize, u->align, u->access & UOP_WRITE, site);
    }
    flags_want(l, u->fuse);
    places_find(l, u, &p);
    places_load(l, u, &p);
    if (!u->access) rm = x64_reg(p.host[u->rm]);
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
    flags_written(l, u);
    if (site != NO_SITE) site_resume(l, site);
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
    flags_want(l, u->fuse);
    if (u->pp == X64_66) x64_u8(e, 0x66);
    if (u->w) x64_u8(e, 0x48);
    if (u->map == X64_0F) x64_u8(e, 0x0f);
    x64_u8(e, u->opcode);
    if (u->imm_size) x64_u8(e, (unsigned)u->imm);
    flags_written(l, u);
}

/* --- stack --- */

static void move_stack(struct lower *l, i64 by)
{
    x64_lea(&l->hot, address_size(l), H_R11, x64_mem(H_R11, by));
}

static void push_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = address_size(l);
    const struct operand *o = &u->insn->operand[0];
    struct address at = stack_at(l, -(i64)size);
    u32 site = site_new(l, SITE_ACCESS, u);
    if (u->op == UOP_PUSHM) {
        struct address a = address_of(u->insn);
        x64_mov_load(e, size, H_R9, mem_check(l, &a, size, 0, false, site));
        x64_mov_store(e, 8, AT_STATE(scratch[0]), H_R9);
    }
    struct x64_rm to = mem_check(l, &at, size, 0, true, site);
    if (u->op == UOP_PUSHM) {
        x64_mov_load(e, 8, H_R9, AT_STATE(scratch[0]));
        x64_mov_store(e, size, to, H_R9);
    } else if (o->kind == OPERAND_IMMEDIATE) {
        x64_op(e, 0, size == 8, false, X64_ONE, 0xc7, 0, &to);
        x64_u32(e, (u32)u->insn->imm);
    } else if (home(o->reg) == H_NONE) {
        x64_mov_load(e, 8, H_R9, AT_REG(o->reg));
        x64_mov_store(e, size, to, H_R9);
    } else {
        x64_mov_store(e, size, to, home(o->reg));
    }
    move_stack(l, -(i64)size);
    site_resume(l, site);
}

static void pop_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = address_size(l), reg = u->insn->operand[0].reg;
    struct address at = stack_at(l, 0);
    u32 site = site_new(l, SITE_ACCESS, u);
    struct x64_rm from = mem_check(l, &at, size, 0, false, site);
    unsigned to = home(reg) == H_NONE ? H_R9 : home(reg);
    x64_mov_load(e, size, to, from);
    if (to == H_R9) x64_mov_store(e, 8, AT_REG(reg), H_R9);
    move_stack(l, size);
    site_resume(l, site);
}

static void leave_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = address_size(l);
    struct address at = stack_at(l, 0);
    at.base = RBP;
    u32 site = site_new(l, SITE_ACCESS, u);
    struct x64_rm from = mem_check(l, &at, size, 0, false, site);
    x64_mov_load(e, size, H_R9, from);
    x64_lea(e, size, H_R11, x64_mem(H_RBP, size));
    x64_mov(e, H_RBP, H_R9);
    site_resume(l, site);
}

static void pushf_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    struct address at = stack_at(l, -8);
    u32 site = site_new(l, SITE_ACCESS, u);
    struct x64_rm of = AT_STATE(flags), others = of;
    others.disp++;
    flags_save(l);
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
    flags_save(l);
    x64_op(e, 0, false, false, X64_ONE, 0x80, X64_CMP, &cpl);
    x64_u8(e, 0);
    cold_call(l, x64_jcc(e, CC_NE), site);
    if (on) {
        x64_alu_imm(e, X64_CMP, 4, AT_CPU(requests), 0);
        cold_call(l, x64_jcc(e, CC_NE), site);
    }
    x64_alu_imm(e, on ? X64_OR : X64_AND, 4, AT_CPU(eflags), on ? FLAG_IF : ~FLAG_IF);
    l->flags = FL_MEM;
}

/* --- division: what could fault goes to C --- */

static void div_lower(struct lower *l, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned size = u->insn->size, reg = u->insn->operand[0].reg;
    u32 site = site_new(l, SITE_ACCESS, u);
    flags_save(l);
    struct x64_rm from = {0};
    if (u->access) {
        struct address a = address_of(u->insn);
        from = mem_check(l, &a, size, 0, false, site);
    } else {
        from = home(reg) == H_NONE ? AT_REG(reg) : x64_reg(home(reg));
    }
    x64_mov_load(e, size, H_R9, from);
    l->flags = FL_MEM;
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

/* --- the interpreter's function --- */

static void helper_lower(struct lower *l, const struct uop *u)
{
    flags_save(l);
    u32 site = site_new(l, u->op == UOP_HELPER ? SITE_HELPER : SITE_END, u);
    x64_mov_imm32(&l->hot, H_R9, site);
    x64_jmp_to(&l->hot, l->j->code.rw + (l->j->slow - l->j->code.rx));
    site_resume(l, site);
    l->flags = FL_MEM | FL_REG;
    l->vectors = 0;
    l->x87 = false;
}

static void uop_lower(struct lower *l, const struct uop *u)
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
    case UOP_DIV: div_lower(l, u); break;
    case UOP_FALL:
        flags_save(l);
        exit_direct(l, u, l->t->end, l->t->count);
        break;
    case UOP_HELPER:
    case UOP_HELPER_END:
    case UOP_COUNT: helper_lower(l, u); break;
    case UOP_JCC:
    case UOP_JMP:
    case UOP_CALL:
    case UOP_RET:
    case UOP_JMPI:
    case UOP_CALLI: branch_lower(l, u); break;
    }
}

/* --- the block --- */

static void head_lower(struct lower *l)
{
    struct x64 *e = &l->hot;
    struct jblock *b = l->block;
    b->checked = code_rx(l->j, e->p);
    x64_mov_imm64(e, H_R9, (u64)(uintptr_t)b->page_generation);
    struct x64_rm at = x64_mem(H_R9, 0);
    x64_op(e, 0, false, false, X64_ONE, 0x81, X64_CMP, &at);
    x64_u32(e, b->generation);
    u8 *stale = x64_jcc(e, CC_NE);
    b->entry = code_rx(l->j, e->p);
    x64_mov_load(e, 8, H_R9, AT_CPU(icount));
    x64_alu(e, X64_CMP, 8, H_R9, AT_CPU(run_until));
    u8 *late = x64_jcc(e, CC_AE);
    x64_patch(stale, l->cold.p);
    x64_patch(late, l->cold.p);
    x64_mov_imm32(&l->cold, H_R9, b->pos);
    x64_jmp_to(&l->cold, l->j->code.rw + (l->j->leave - l->j->code.rx));
}

bool x64_lower(struct jit_cpu *j, struct jblock *block, const struct translation *t)
{
    struct lower l = {.j = j, .block = block, .t = t, .flags = FL_MEM, .number = j->block_count};
    u32 sites = j->site_count;
    l.hot = (struct x64){(u8 *)(((uintptr_t)j->hot + 15) & ~(uintptr_t)15), j->hot_end};
    l.cold = (struct x64){j->cold, j->cold_end};
    const u8 *hot_limit = l.hot.p + ROOM_HOT, *cold_limit = l.cold.p + ROOM_COLD;
    u8 *start = l.hot.p;
    block->pos = (u16)t->pos;
    block->end = (u16)t->end;
    block->count = (u8)t->count;
    head_lower(&l);
    if (t->straddle) straddle_guard(&l, t->straddle);
    if (t->vectors) /* here, where no flags are at stake */
        vectors_want(&l, t->avx ? 3 : 1, &t->uops[0]);
    if (t->x87) x87_want(&l, &t->uops[0]);
    for (unsigned n = 0; n < t->uop_count; n++) {
        uop_lower(&l, &t->uops[n]);
        if (unlikely(l.hot.p > hot_limit || l.cold.p > cold_limit)) {
            j->site_count = sites;
            return false;
        }
    }
    stubs_emit(&l);
    block->code_bytes = (u32)(l.hot.p - start);
    block->cold_bytes = (u32)(l.cold.p - j->cold);
    j->hot = l.hot.p;
    j->cold = l.cold.p;
    return true;
}

/* --- shared code --- */

static void guest_registers(struct x64 *e, bool load)
{
    for (unsigned r = 0; r < 16; r++) {
        if (home(r) == H_NONE) continue;
        if (load) x64_mov_load(e, 8, home(r), AT_REG(r));
        else x64_mov_store(e, 8, AT_REG(r), home(r));
    }
}

static void guest_vectors(struct x64 *e, bool avx, bool load)
{
    struct x64_rm guest = AT_CPU(mxcsr), host = AT_STATE(host_mxcsr);
    for (unsigned r = 0; r < 16; r++) {
        struct x64_rm at = x64_mem(H_RSP, (i64)(offsetof(struct vcpu, zmm) + r * 64));
        unsigned opcode = load ? 0x10 : 0x11; /* movups */
        if (avx) x64_vex(e, X64_NP, false, true, X64_0F, opcode, r, 0, &at);
        else x64_op(e, 0, false, false, X64_0F, opcode, r, &at);
    }
    if (!load) x64_op(e, 0, false, false, X64_0F, 0xae, 3, &guest); /* stmxcsr */
    x64_op(e, 0, false, false, X64_0F, 0xae, 2, load ? &guest : &host);
    if (!load && avx) x64_u8(e, 0xc5), x64_u8(e, 0xf8), x64_u8(e, 0x77); /* vzeroupper */
}

static u8 *if_vectors_dead(struct x64 *e)
{
    struct x64_rm at = AT_STATE(vectors_live);
    x64_op(e, 0, false, false, X64_ONE, 0x80, X64_CMP, &at);
    x64_u8(e, 0);
    return x64_jcc(e, CC_E);
}

static const u8 callee_saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

static void push(struct x64 *e, unsigned reg)
{
    if (reg >= 8) x64_u8(e, 0x41);
    x64_u8(e, 0x50 | (reg & 7));
}
static void pop(struct x64 *e, unsigned reg)
{
    if (reg >= 8) x64_u8(e, 0x41);
    x64_u8(e, 0x58 | (reg & 7));
}

/* Guest registers and vectors are in struct vcpu: back to the caller of `enter`. */
static void emit_return(struct x64 *e)
{
    x64_mov_load(e, 8, H_RSP, AT_STATE(host_rsp));
    pop(e, H_RDI);
    for (unsigned n = ARRAY_SIZE(callee_saved); n-- > 0;) pop(e, callee_saved[n]);
    x64_u8(e, 0xc3);
}

static void emit_spill(struct x64 *e, bool avx)
{
    guest_registers(e, false);
    u8 *dead = if_vectors_dead(e);
    guest_vectors(e, avx, false);
    x64_patch(dead, e->p);
}

static void emit_enter(struct x64 *e)
{
    struct x64_rm resume = AT_STATE(resume);
    for (unsigned n = 0; n < ARRAY_SIZE(callee_saved); n++) push(e, callee_saved[n]);
    push(e, H_RDI);
    x64_mov_store(e, 8, x64_mem(H_RDI, AT_STATE(host_rsp).disp), H_RSP);
    x64_mov(e, H_RSP, H_RDI);
    x64_mov_store(e, 8, resume, H_RSI);
    guest_registers(e, true);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 4, &resume);
}

/* r9: the site. The processor's address is what lies on top of the C stack. */
static void emit_slow(struct x64 *e, bool avx)
{
    struct x64_rm resume = AT_STATE(resume), rax = x64_reg(H_RAX), at = AT_STATE(flags);
    emit_spill(e, avx);
    x64_mov(e, H_RDI, H_RSP);
    x64_mov_load(e, 4, H_RSI, x64_reg(H_R9));
    x64_mov_load(e, 8, H_RSP, AT_STATE(host_rsp));
    x64_mov_imm64(e, H_RAX, (u64)(uintptr_t)jit_slow);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 2, &rax);
    x64_mov_load(e, 8, H_RSP, x64_mem(H_RSP, 0));
    x64_op(e, 0, true, false, X64_ONE, 0x85, H_RAX, &rax);
    u8 *go_on = x64_jcc(e, CC_NE);
    emit_return(e);
    x64_patch(go_on, e->p);
    x64_mov_store(e, 8, resume, H_RAX);
    u8 *dead = if_vectors_dead(e);
    guest_vectors(e, avx, true);
    x64_patch(dead, e->p);
    x64_op(e, 0, false, false, X64_0F, 0xb7, H_RAX, &at);
    x64_u8(e, 0x04), x64_u8(e, 0x7f); /* add al, 0x7f */
    x64_u8(e, 0x9e);                  /* sahf */
    guest_registers(e, true);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 4, &resume);
}

/* r9: offset in the page. */
static void emit_leave(struct x64 *e, bool avx)
{
    x64_mov_load(e, 8, H_R10, AT_REG(REG_IP_BASE));
    x64_alu(e, X64_ADD, 8, H_R10, x64_reg(H_R9));
    x64_mov_store(e, 8, AT_CPU(rip), H_R10);
    emit_spill(e, avx);
    emit_return(e);
}

void x64_thunks(struct jit_cpu *j)
{
    struct x64 e = {j->hot, j->hot_end};
    j->enter = code_rx(j, e.p);
    emit_enter(&e);
    j->leave = code_rx(j, e.p);
    emit_leave(&e, j->host.avx);
    j->slow = code_rx(j, e.p);
    emit_slow(&e, j->host.avx);
    x87_thunks(j, &e);
    j->hot = e.p;
}
