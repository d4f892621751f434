/*
 * Guest addresses and the soft TLB's check in translated code.
 *
 * The slot is chosen by the first byte, the tag is compared with the last byte's page (or, for operands
 * that must be aligned, with the address less its page offset but for the bits that must be zero): an
 * access that crosses pages or is misaligned fails the comparison and goes to C. Nothing but a
 * successful comparison leads to the access.
 */
#include "jit/x64_int.h"

#define SHIFT_MAX (1 << 20) /* groups that have moved farther are forgotten */

struct address address_of(const struct insn *i)
{
    /* Those of 32 bits wrap: a whole address (MOV A1) may be as a displacement is. */
    i64 disp = i->address_size == 8 ? i->disp : (i32)i->disp;
    return (struct address){i->base, i->index, i->scale, i->seg, i->address_size, disp};
}

struct address stack_at(const struct lower *l, i64 disp)
{
    return (struct address){RSP, REG_ZERO, 0, SS, (u8)stack_width(l), disp};
}

void move_stack(struct lower *l, i64 by) { x64_lea(&l->hot, stack_width(l), H_R11, x64_mem(H_R11, by)); }

static bool at_home(unsigned reg) { return reg < 16 && home(reg) != H_NONE; }

void emit_ea(struct lower *l, const struct address *a, unsigned to, unsigned size)
{
    struct x64 *e = &l->hot;
    unsigned base = H_NONE, index = H_NONE;
    if (size == 2) {
        struct x64_rm low = x64_reg(to);
        emit_ea(l, a, to, 4);
        x64_op(e, 0, false, false, X64_0F, 0xb7, to, &low);
        return;
    }
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

void emit_slot(struct x64 *e)
{
    x64_shift(e, 5, 4, H_R10, 7);
    x64_alu_imm(e, X64_AND, 4, x64_reg(H_R10), (TLB_ENTRIES - 1) << 5);
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
            x64_alu(e, X64_ADD, 8, H_R10, AT_SEG(a->seg, base));
        if (more) x64_lea(e, 8, H_R9, x64_mem(H_R10, more));
        else x64_mov(e, H_R9, H_R10);
    }
    x64_alu_imm(e, X64_AND, 8, x64_reg(H_R9), (i32)(0xfffff000u | (align > 1 ? align - 1 : 0)));
    emit_slot(e);
}

static void add_loaded(struct lower *l, struct x64_rm from)
{
    x64_mov_load(&l->hot, 8, H_R9, from);
    x64_lea(&l->hot, 8, H_R10, x64_sib(H_R10, H_R9, 0, 0));
}

/* r10 is the page's addend: the operand, from it and the address again. Leaves RFLAGS alone. */
static struct x64_rm emit_operand(struct lower *l, const struct address *a)
{
    struct x64 *e = &l->hot;
    if (a->size == 4) {
        x64_mov(e, H_R9, H_R10);
        emit_ea(l, a, H_R10, 4); /* no index in memory: address_ok */
        x64_lea(e, 8, H_R10, x64_sib(H_R10, H_R9, 0, 0));
        return x64_mem(H_R10, 0);
    }
    if (a->seg >= FS)
        add_loaded(l, AT_SEG(a->seg, base));
    bool base = at_home(a->base), index = at_home(a->index);
    if (!base && a->base != REG_ZERO) add_loaded(l, AT_REG(a->base));
    if (!index && a->index != REG_ZERO) {
        x64_mov_load(e, 8, H_R9, AT_REG(a->index));
        x64_lea(e, 8, H_R10, x64_sib(H_R10, H_R9, a->scale, 0));
    }
    if (base && index) {
        x64_lea(e, 8, H_R10, x64_sib(H_R10, home(a->base), 0, 0));
        return x64_sib(H_R10, home(a->index), a->scale, a->disp);
    }
    if (base) return x64_sib(H_R10, home(a->base), 0, a->disp);
    if (index) return x64_sib(H_R10, home(a->index), a->scale, a->disp);
    return x64_mem(H_R10, a->disp);
}

static unsigned tlb_mode(const struct lower *l)
{
    return l->t->mode_key & MODE_USER ? TLB_USER : l->t->mode_key & MODE_AC ? TLB_KERNEL_AC : TLB_KERNEL;
}

static void emit_compare(struct lower *l, bool write)
{
    x64_alu(&l->hot, X64_CMP, 8, H_R9, write ? AT_ENTRY(tlb_mode(l), tag_write) : AT_ENTRY(tlb_mode(l), tag_read));
    l->c.flags &= ~(unsigned)FL_REG;
}

static void compare_tag(struct lower *l, const struct address *a, unsigned size, unsigned align, bool write)
{
    flags_hold(l);
    emit_tag(l, a, size, align, is_simple(a));
    emit_compare(l, write);
}

static void load_addend(struct lower *l)
{
    x64_mov_load(&l->hot, 8, H_R10, AT_ENTRY(tlb_mode(l), addend));
}

static struct refill tlb_refills(const struct lower *l, bool write)
{
    return (struct refill){.thunk = l->j->refill[tlb_mode(l) * 2 + write]};
}

/* The comparison was not met: the TLB is filled, or C called. */
static void unless_met(struct lower *l, bool write, u32 site)
{
    l->cold_before = true;
    if (l->j->jit->options.force_cold) cold_call(l, x64_jmp(&l->hot), site);
    else cold_refill(l, x64_jcc(&l->hot, CC_NE), tlb_refills(l, write), site);
}

/* --- accesses through RSP, by the stack's page (struct tlb_stack) --- */

static bool through_stack(const struct lower *l, const struct address *a, unsigned align)
{
    return a->base == RSP && a->index == REG_ZERO && a->size == 8 && a->seg < FS && align <= 1 &&
           a->disp == (i32)a->disp && (l->t->mode_key & MODE_USER) && !l->j->jit->options.force_cold &&
           !l->j->jit->options.fail_groups;
}

/* r10 is the addend when SIZE bytes from A on lie in the stack's page; else the jump at what it returns is taken. */
static u8 *stack_check(struct lower *l, const struct address *a, unsigned size)
{
    struct x64 *e = &l->hot;
    flags_hold(l);
    emit_ea(l, a, H_R9, 8);
    x64_alu(e, X64_XOR, 8, H_R9, AT_CPU(tlb.stack.tag));
    x64_alu_imm(e, X64_CMP, 8, x64_reg(H_R9), (i32)(PAGE_SIZE - size));
    u8 *other = x64_jcc(e, CC_A);
    x64_mov_load(e, 8, H_R10, AT_CPU(tlb.stack.addend));
    l->c.flags &= ~(unsigned)FL_REG;
    return other;
}

void span_check(struct lower *l, bool write, u32 site)
{
    x64_alu_imm(&l->hot, X64_AND, 8, x64_reg(H_R9), -(i32)PAGE_SIZE);
    emit_slot(&l->hot);
    emit_compare(l, write);
    unless_met(l, write, site);
    load_addend(l);
}

void linear_check(struct lower *l, unsigned size, unsigned align, bool write, u32 site)
{
    unsigned more = align > 1 ? 0 : size - 1;
    if (more) x64_lea(&l->hot, 8, H_R9, x64_mem(H_R10, more));
    else x64_mov(&l->hot, H_R9, H_R10);
    x64_alu_imm(&l->hot, X64_AND, 8, x64_reg(H_R9), (i32)(0xfffff000u | (align > 1 ? align - 1 : 0)));
    emit_slot(&l->hot);
    emit_compare(l, write);
    if (write && align <= 1 && !l->j->jit->options.force_cold) {
        l->cold_before = true;
        cold_refill_at(l, x64_jcc(&l->hot, CC_NE), tlb_mode(l) * 2 + 1, size, site);
    } else {
        unless_met(l, write, site);
    }
    load_addend(l);
}

/* --- checks shared by a group of accesses --- */

static int group_of(const struct lower *l, const struct address *a)
{
    if (l->j->jit->options.force_cold || access_checked(l->t, a->seg, a->size)) return -1;
    return group_find(l->t, key_make(a->base, a->index, a->scale, a->seg, a->size, a->disp));
}

static bool covers(const struct group *g, const struct address *a, unsigned size, bool write)
{
    return g->on && a->disp >= g->low && a->disp + (i64)size <= g->high && (g->write || !write);
}

/* One check for all that lies ahead; failing, it goes on with a unit that has none. */
static void group_check(struct lower *l, unsigned k, const struct address *a, const struct ahead *ahead,
                        bool write)
{
    struct address low = *a;
    low.disp = ahead->low;
    unsigned size = (unsigned)(ahead->high - ahead->low);
    const struct uop *u = &l->t->uops[l->t->nodes[l->node].first + l->uop];
    bool known = write != ahead->write; /* a page must not become dirty for a write that may not come */
    if (through_stack(l, a, 0)) {
        enum stack_way way = known ? STACK_WRITE_IF_KNOWN : write ? STACK_WRITE : STACK_READ;
        u8 *other = stack_check(l, &low, size);
        cold_plain(l, other, (struct refill){l->j->stack[way], size}, u);
    } else {
        bool fail = l->j->jit->options.fail_groups;
        compare_tag(l, &low, size, 0, ahead->write);
        u8 *other = fail ? x64_jmp(&l->hot) : x64_jcc(&l->hot, CC_NE);
        cold_plain(l, other, fail || known ? (struct refill){0} : tlb_refills(l, write), u);
        load_addend(l);
    }
    x64_mov_store(&l->hot, 8, at_group(k), H_R10);
    l->c.groups[k] = (struct group){true, ahead->write, ahead->low, ahead->high};
}

/* True: the access is within a checked group, r10 the addend. */
static bool group_access(struct lower *l, const struct address *a, unsigned size, unsigned align, bool write,
                         u32 site)
{
    int k = group_of(l, a);
    if (k < 0 || (align > 1 && !is_simple(a))) return false;
    struct group *g = &l->c.groups[k];
    if (!covers(g, a, size, write)) {
        struct ahead ahead;
        group_ahead(l->t, l->node, l->uop, (unsigned)k, &ahead);
        bool within = ahead.count > 1 && a->disp >= ahead.low && a->disp + (i64)size <= ahead.high;
        if (!within || (write && !ahead.write) || l->cold_before) return false;
        group_check(l, (unsigned)k, a, &ahead, write);
    } else if (!addend_held(l) || l->held != k) {
        x64_mov_load(&l->hot, 8, H_R10, at_group(k));
    }
    l->held = align > 1 ? -1 : k;
    if (align > 1) {
        struct x64 *e = &l->hot;
        flags_hold(l);
        emit_ea(l, a, H_R9, 8);
        x64_u8(e, 0x41), x64_u8(e, 0xf6), x64_u8(e, 0xc1), x64_u8(e, align - 1); /* test r9b, align - 1 */
        l->c.flags &= ~(unsigned)FL_REG;
        l->cold_before = true;
        cold_call(l, x64_jcc(e, CC_NE), site);
    }
    return true;
}

bool stack_checked(const struct lower *l, i64 from, unsigned size, bool write)
{
    struct address a = stack_at(l, from);
    int k = group_of(l, &a);
    return k >= 0 && covers(&l->c.groups[k], &a, size, write);
}

void groups_forget(struct lower *l) { memset(l->c.groups, 0, sizeof(l->c.groups)); }

void groups_after(struct lower *l, const struct uop *u)
{
    for (unsigned moves = u->moves, k = 0; moves; moves >>= 1, k++) {
        if (!(moves & 1)) continue;
        const struct group_key *key = &l->t->keys[k];
        struct group *g = &l->c.groups[k];
        i32 by;
        if (!g->on) continue;
        unsigned base = key_base(key), index = key_index(key);
        if (index != REG_ZERO && (u->kills >> index & 1)) g->on = false;
        if (base >= 16 || !(u->kills >> base & 1)) continue;
        bool known = uop_adds(l->t, u, base, &by);
        if (!known || g->low - by < -SHIFT_MAX || g->high - by > SHIFT_MAX) *g = (struct group){0};
        else g->low -= by, g->high -= by;
    }
}

static void access_check(struct lower *l, const struct address *a, unsigned size, unsigned align, bool write, u32 site)
{
    if (through_stack(l, a, align)) {
        l->cold_before = true;
        u8 *other = stack_check(l, a, size);
        cold_refill(l, other, (struct refill){l->j->stack[write ? STACK_WRITE : STACK_READ], size}, site);
        return;
    }
    compare_tag(l, a, size, align, write);
    unless_met(l, write, site);
    load_addend(l);
}

struct x64_rm mem_check(struct lower *l, const struct address *a, unsigned size, unsigned align,
                        bool write, u32 site)
{
    if (access_checked(l->t, a->seg, a->size)) {
        l->held = -1;
        l->cold_before = true;
        return checked_access(l, a, size, align, write, site);
    }
    if (!group_access(l, a, size, align, write, site)) {
        l->held = -1;
        access_check(l, a, size, align, write, site);
    }
    const u8 *addend_at = l->hot.p;
    struct x64_rm rm = emit_operand(l, a);
    if (l->hot.p != addend_at) l->held = -1; /* all it emits goes to r10 */
    return rm;
}

void lea_lower(struct lower *l, const struct uop *u)
{
    struct address a = address_of(u->insn);
    unsigned reg = u->insn->operand[0].reg, to = home(reg);
    if (a.size == 2 || u->insn->size == 2) { /* all registers are at home */
        emit_ea(l, &a, H_R10, a.size);
        x64_mov_load(&l->hot, u->insn->size, to, x64_reg(H_R10));
        return;
    }
    /* A destination at home may be an index too: compute beside it when a base comes from memory. */
    bool direct = to != H_NONE && (at_home(a.base) || a.base == REG_ZERO) &&
                  (at_home(a.index) || a.index == REG_ZERO);
    bool held = direct && addend_held(l);
    emit_ea(l, &a, direct ? to : H_R10, u->insn->size);
    addend_keep(l, held);
    if (direct) return;
    if (to != H_NONE) x64_mov(&l->hot, to, H_R10);
    else x64_mov_store(&l->hot, 8, AT_REG(reg), H_R10);
}
