/*
 * Where the guest's arithmetic flags are, and how they are had again.
 *
 * Checks of addresses and counters overwrite RFLAGS. Most flags are never looked at but by an exception
 * that does not come; so instead of saving them, the operation that wrote them is remembered (a recipe),
 * and redone in front of the instruction that reads them. Where the unit is left, or ways in it join, the
 * operation and its operands are stored (flag_way.h).
 */
#include "jit/flag_way.h"
#include "jit/x64_int.h"

static void store_imm32(struct x64 *e, unsigned size, struct x64_rm at, u32 imm)
{
    x64_op(e, 0, size == 8, false, X64_ONE, 0xc7, 0, &at);
    x64_u32(e, imm);
}

static void emit_flags_save(struct x64 *e)
{
    x64_mov(e, H_R9, H_RAX);
    x64_u8(e, 0x9f); /* lahf */
    struct x64_rm al = x64_reg(H_RAX);
    x64_op(e, 0, false, false, X64_0F, 0x90 | CC_O, 0, &al);
    struct x64_rm to = AT_NEAR(flags);
    x64_op(e, X64_66, false, false, X64_ONE, 0x89, H_RAX, &to);
    x64_mov(e, H_RAX, H_R9);
    store_imm32(e, 4, AT_NEAR(flag_way), WAY_FLAGS);
}

/* --- redoing --- */

static bool is_logic(const struct insn *i) { return i->op == OP_AND || i->op == OP_OR || i->op == OP_XOR; }

/* The flags follow from the first operand as it is behind the operation. */
static bool result_is_enough(const struct insn *i)
{
    const struct operand *o = i->operand;
    bool same = o[0].kind == OPERAND_GPR && o[1].kind == OPERAND_GPR && o[0].reg == o[1].reg;
    return is_logic(i) || (i->op == OP_TEST && same);
}

static struct x64_rm value_of(const struct recipe *r, unsigned n)
{
    const struct operand *o = &r->uop->insn->operand[n];
    if (o->kind == OPERAND_MEMORY || r->stored) return AT_NEAR(flag_operand[n]);
    return home(o->reg) == H_NONE ? AT_REG(o->reg) : x64_reg(home(o->reg));
}

static void sized(struct x64 *e, unsigned size, unsigned opcode, unsigned reg, struct x64_rm rm)
{
    x64_op(e, size == 2 ? X64_66 : 0, size == 8, size == 1, X64_ONE, opcode + (size != 1), reg, &rm);
}

/* ALU operation K (7: CMP; 8: TEST) on RM and the second operand. */
static void sized_imm(struct x64 *e, unsigned size, unsigned k, struct x64_rm rm, u64 imm)
{
    sized(e, size, k == 8 ? 0xf6 : 0x80, k == 8 ? 0 : k, rm);
    x64_imm(e, imm, size > 4 ? 4 : size);
}

static void with_second(struct x64 *e, const struct recipe *r, unsigned k, unsigned reg)
{
    const struct insn *i = r->uop->insn;
    if (i->operand[1].kind == OPERAND_IMMEDIATE) sized_imm(e, i->size, k, x64_reg(reg), i->imm);
    else sized(e, i->size, k == 8 ? 0x84 : k * 8 + 2, reg, value_of(r, 1));
}

static void redo_compare(struct x64 *e, const struct recipe *r, struct x64_rm a)
{
    const struct insn *i = r->uop->insn;
    unsigned k = i->op == OP_TEST ? 8 : 7;
    if (i->operand[1].kind == OPERAND_IMMEDIATE) {
        sized_imm(e, i->size, k, a, i->imm);
        return;
    }
    if (a.memory) {
        x64_mov_load(e, 8, H_R9, a);
        a = x64_reg(H_R9);
    }
    with_second(e, r, k, a.reg);
}

/* From the result A. */
static void redo_alu(struct x64 *e, const struct recipe *r, struct x64_rm a)
{
    const struct insn *i = r->uop->insn;
    const struct operand *o = i->operand;
    x64_mov_load(e, 8, H_R9, a);
    a = x64_reg(H_R9);
    if (i->op == OP_NEG) {
        sized(e, i->size, 0xf6, 3, a);
        sized(e, i->size, 0xf6, 3, a);
    } else if (o[1].kind == OPERAND_GPR && o[1].reg == o[0].reg) { /* SUB */
        sized(e, i->size, 0x28, a.reg, a);
    } else {
        with_second(e, r, i->op == OP_ADD ? X64_SUB : X64_ADD, H_R9);
        with_second(e, r, i->op == OP_ADD ? X64_ADD : X64_SUB, H_R9);
    }
}

static void redo_result(struct x64 *e, const struct recipe *r, struct x64_rm a)
{
    if (a.memory) {
        x64_mov_load(e, 8, H_R9, a);
        a = x64_reg(H_R9);
    }
    sized(e, r->uop->insn->size, 0x84, a.reg, a);
}

/* RFLAGS as the recipe's operation left them. Uses r9. */
static void redo(struct x64 *e, const struct recipe *r)
{
    const struct uop *u = r->uop;
    if (r->kind == RECIPE_SAVED) {
        x64_mov_load(e, 8, H_R9, AT_NEAR(flag_operand[0]));
        sized(e, u->insn->size, 0xc0, u->digit, x64_reg(H_R9));
        x64_u8(e, (unsigned)u->imm);
    } else if (result_is_enough(u->insn)) {
        redo_result(e, r, value_of(r, 0));
    } else if (r->kind == RECIPE_REDO) {
        redo_compare(e, r, value_of(r, 0));
    } else {
        redo_alu(e, r, value_of(r, 0));
    }
}

/* --- which recipe --- */

static bool observes(const struct uop *u)
{
    return u->access || (u->op != UOP_RM && u->op != UOP_NOP && u->op != UOP_MOVI64 &&
                         u->op != UOP_BSWAP && u->op != UOP_BARE && u->op != UOP_LEA && u->op != UOP_JCC);
}

/* From uop V of the node on, somebody may look at the flags; USES: reading RFLAGS counts, too. */
static bool observed(const struct lower *l, const struct uop *v, bool uses)
{
    const struct node *node = &l->t->nodes[l->node];
    const struct uop *end = &l->t->uops[node->first + node->count];
    for (; v < end; v++) {
        if (observes(v) || (uses && v->fuse)) return true;
        if (v->fdef == FLAGS_ARITHMETIC && !v->fpartial && !v->fuse) return false;
    }
    return true;
}

static bool plain_operands(const struct insn *i)
{
    for (unsigned n = 0; n < 4; n++)
        if (i->operand[n].kind == OPERAND_GPR8H) return false;
    return true;
}

static bool in_memory(const struct operand *o) { return o->kind == OPERAND_GPR && home(o->reg) == H_NONE; }

/* The recipe to be had for U; one that takes extra code only when it will be of use. */
enum recipe_kind recipe_plan(const struct lower *l, const struct uop *u)
{
    const struct insn *i = u->insn;
    const struct operand *o = i->operand;
    if (u->op != UOP_RM || u->lock || u->vex || u->fpartial || u->fdef != FLAGS_ARITHMETIC || !plain_operands(i))
        return RECIPE_NONE;
    bool same = o[1].kind == OPERAND_GPR && o[0].kind == OPERAND_GPR && o[1].reg == o[0].reg;
    enum recipe_kind kind = RECIPE_NONE;
    switch (i->op) {
    case OP_CMP:
    case OP_TEST: kind = RECIPE_REDO; break;
    case OP_ADD:
        if (same) return RECIPE_NONE;
        /* fall through */
    case OP_SUB:
    case OP_AND:
    case OP_OR:
    case OP_XOR:
    case OP_NEG: kind = RECIPE_INVERT; break;
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
        kind = o[1].kind == OPERAND_IMMEDIATE ? RECIPE_SAVED : RECIPE_NONE;
        break;
    default: return RECIPE_NONE;
    }
    if (kind != RECIPE_REDO && o[0].kind != OPERAND_GPR) return RECIPE_NONE;
    bool logic = is_logic(i);
    if ((kind == RECIPE_SAVED || (u->access && !logic)) && !observed(l, u + 1, false)) return RECIPE_NONE;
    if (u->access && !logic && (in_memory(&o[0]) || in_memory(&o[1]))) return RECIPE_NONE;
    return kind;
}

/* The value of operand N in memory goes by r9 to flag_operand[N]. */
bool recipe_wants_value(const struct uop *u, enum recipe_kind kind)
{
    return kind && u->access && !is_logic(u->insn);
}

/* The registers it takes. */
static unsigned recipe_registers(const struct recipe *r)
{
    const struct insn *i = r->uop->insn;
    unsigned regs = 0;
    if (r->kind == RECIPE_SAVED || r->stored) return 0;
    for (unsigned n = 0; n < (result_is_enough(i) ? 1 : 2); n++)
        if (i->operand[n].kind == OPERAND_GPR) regs |= 1u << i->operand[n].reg;
    return regs;
}

static bool same_operand(const struct operand *a, const struct operand *b)
{
    return a->kind == b->kind && (a->kind != OPERAND_GPR || a->reg == b->reg);
}

/* Where both hold, they give the same flags. */
bool recipe_same(const struct recipe *a, const struct recipe *b)
{
    if (a->kind != b->kind || a->stored != b->stored) return false;
    if (!a->kind || a->uop == b->uop) return true;
    const struct insn *i = a->uop->insn, *k = b->uop->insn;
    return i->op == k->op && i->size == k->size && a->uop->imm == b->uop->imm && i->imm == k->imm &&
           same_operand(&i->operand[0], &k->operand[0]) && same_operand(&i->operand[1], &k->operand[1]);
}

void flags_written(struct lower *l, const struct uop *u, enum recipe_kind kind)
{
    if (!u->fdef) return;
    l->c.flags = FL_REG | (kind ? FL_RECIPE : 0);
    l->c.recipe = kind ? (struct recipe){.uop = u, .kind = (u8)kind} : (struct recipe){0};
}

/* --- having them --- */

static void drop_recipe(struct lower *l)
{
    l->c.flags &= ~(unsigned)FL_RECIPE;
    l->c.recipe = (struct recipe){0};
}

static unsigned way_of(const struct recipe *r)
{
    if (result_is_enough(r->uop->insn)) return WAY_LOGIC;
    switch (r->uop->insn->op) {
    case OP_CMP: return WAY_SUB;
    case OP_TEST: return WAY_TEST;
    case OP_ADD: return WAY_ADDED;
    case OP_SUB: return WAY_SUBTRACTED;
    case OP_NEG: return WAY_NEGATED;
    case OP_SHL: return WAY_SHL;
    case OP_SHR: return WAY_SHR;
    default: return WAY_SAR;
    }
}

/* Operand N, if it is not there already. */
static void way_operand(struct x64 *e, const struct insn *i, unsigned n)
{
    const struct operand *o = &i->operand[n];
    if (o->kind != OPERAND_GPR) return;
    unsigned from = home(o->reg);
    if (from == H_NONE) x64_mov_load(e, 8, from = H_R9, AT_REG(o->reg));
    x64_mov_store(e, 8, AT_NEAR(flag_operand[n]), from);
}

static bool takes_second(const struct insn *i) { return !result_is_enough(i) && i->op != OP_NEG; }

/* Its operands; uses r9, leaves RFLAGS alone. */
static void emit_operands(struct x64 *e, const struct recipe *r)
{
    const struct insn *i = r->uop->insn;
    if (r->kind == RECIPE_SAVED || r->stored) return;
    way_operand(e, i, 0);
    if (takes_second(i)) way_operand(e, i, 1);
}

/* The operation and its operands instead of the flags. Uses r9, leaves RFLAGS alone. */
static void emit_way(struct x64 *e, const struct recipe *r)
{
    const struct insn *i = r->uop->insn;
    unsigned way = way_of(r);
    u64 imm = r->kind == RECIPE_SAVED ? r->uop->imm : i->imm;
    bool second = takes_second(i);
    emit_operands(e, r);
    if (second && i->operand[1].kind == OPERAND_IMMEDIATE) {
        u64 seen = imm & size_mask(i->size);
        if (((u64)(i64)(i16)imm & size_mask(i->size)) == seen)
            way |= WAY_IMMEDIATE | (unsigned)(u16)imm << WAY_IMMEDIATE_SHIFT;
        else store_imm32(e, 8, AT_NEAR(flag_operand[1]), (u32)imm);
    }
    unsigned log = i->size == 8 ? 3 : i->size >> 1;
    store_imm32(e, 4, AT_NEAR(flag_way), way | log << WAY_SIZE_SHIFT);
}

static void to_memory(struct lower *l, struct x64 *e)
{
    if (l->c.flags & FL_MEM) return;
    if (l->c.flags & FL_RECIPE) emit_way(e, &l->c.recipe);
    else emit_flags_save(e);
}

void flags_memory(struct lower *l)
{
    to_memory(l, &l->hot);
    l->c.flags = (u8)((l->c.flags & (FL_REG | FL_NATIVE)) | FL_MEM);
    drop_recipe(l);
}

/* Where they come from another unit or version, it may have stored the operation. */
static void make_native(struct lower *l, const struct uop *u)
{
    if (l->c.flags & FL_NATIVE) return;
    u32 site = site_new(l, SITE_FLAGS, u);
    x64_alu_imm(&l->hot, X64_CMP, 4, AT_NEAR(flag_way), WAY_FLAGS);
    x64_patch(x64_jcc(&l->hot, CC_NE), l->cold.p);
    call_c(l, &l->cold, site);
    site_resume(l, site);
    l->c.flags |= FL_NATIVE;
}

void flags_ready(struct lower *l, const struct uop *u)
{
    if (u->fuse && !(l->c.flags & (FL_REG | FL_RECIPE))) make_native(l, u);
}

void flags_stored(struct lower *l, const struct uop *u)
{
    if (!(l->c.flags & FL_MEM)) {
        if (!(l->c.flags & FL_REG)) redo(&l->hot, &l->c.recipe);
        emit_flags_save(&l->hot);
        l->c.flags = FL_MEM | FL_NATIVE;
        drop_recipe(l);
    }
    l->c.flags &= ~(unsigned)FL_REG;
    make_native(l, u);
}

void flags_hold(struct lower *l)
{
    if (!(l->c.flags & (FL_MEM | FL_RECIPE))) flags_memory(l);
}

void flags_cold(struct lower *l)
{
    u8 flags = l->c.flags;
    if (!flags) return;
    l->c.flags &= ~(unsigned)FL_REG; /* what led here has overwritten them */
    to_memory(l, &l->cold);
    l->c.flags = flags;
}

void flags_want(struct lower *l, unsigned bits, const struct uop *u)
{
    struct x64 *e = &l->hot;
    if (!bits || (l->c.flags & FL_REG)) return;
    if (l->c.flags & FL_RECIPE) {
        redo(e, &l->c.recipe);
        l->c.flags |= FL_REG;
        return;
    }
    make_native(l, u);
    struct x64_rm at = AT_NEAR(flags);
    if (bits == FLAG_CF) {
        x64_op(e, 0, false, false, X64_0F, 0xba, 4, &at); /* bt */
        x64_u8(e, 8);
        return;
    }
    x64_mov_store(e, 8, AT_STATE(scratch[0]), H_RAX);
    x64_op(e, 0, false, false, X64_0F, 0xb7, H_RAX, &at);
    x64_u8(e, 0x04), x64_u8(e, 0x7f); /* add al, 0x7f: OF */
    x64_u8(e, 0x9e);                  /* sahf */
    x64_mov_load(e, 8, H_RAX, AT_STATE(scratch[0]));
    l->c.flags |= FL_REG;
}

/* U is about to overwrite registers: a recipe that needs them has them stored. */
void flags_before(struct lower *l, const struct uop *u)
{
    if (!(l->c.flags & FL_RECIPE) || !(recipe_registers(&l->c.recipe) & u->kills)) return;
    if (u->fdef == FLAGS_ARITHMETIC && !u->fpartial) return; /* good until U has written its own */
    if (!(l->c.flags & FL_MEM) && observed(l, u, !(l->c.flags & FL_REG))) {
        emit_operands(&l->hot, &l->c.recipe);
        l->c.recipe.stored = true;
    } else {
        drop_recipe(l);
    }
}
