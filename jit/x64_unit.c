/*
 * A unit's frame: its ways in, its nodes one behind the other, the edges between them.
 *
 * A way in: [page's generation as translated?] [time left?]. The heads of a unit's own loops look at the
 * last, too. Leaving there goes by `leave`, the instruction's place in the page in r9.
 *
 * What is known at a node's start (struct context) depends on the way there. A node is emitted once for
 * each context worth it, so that a loop's second turn may do without what its first turn established:
 * saved flags, address checks of registers that keep their values, vectors in their registers. Nodes
 * with several ways in are entered with a context reduced to what is of use there.
 */
#include "jit/x64_int.h"

#include <assert.h>
#include <stdlib.h>

#define ROOM_HOT KIB(24)       /* of a tier 1 unit */
#define ROOM_COLD KIB(8)
#define ROOM_LOOPS_HOT KIB(192)
#define ROOM_LOOPS_COLD KIB(96)
#define SLACK KIB(1)           /* more than is emitted between two looks at the room left */
#define SAME_NODE_MAX 3u       /* contexts a node is emitted for */
#define PENDING_MAX 128u

/* --- versions --- */

static bool room(struct lower *l)
{
    if (l->hot.p > l->hot.end || l->cold.p > l->cold.end) l->failed = true;
    return !l->failed;
}

static void version_patch(struct lower *l, u8 *at, unsigned version)
{
    if (l->versions[version].code) x64_patch(at, l->versions[version].code);
    else if (l->patch_count == ARRAY_SIZE(l->patches)) l->failed = true;
    else l->patches[l->patch_count++] = (struct version_patch){at, (u16)version};
}

static void version_place(struct lower *l, unsigned version)
{
    l->versions[version].code = l->hot.p;
    for (unsigned n = 0; n < l->patch_count;) {
        if (l->patches[n].version == version) {
            x64_patch(l->patches[n].at, l->hot.p);
            l->patches[n] = l->patches[--l->patch_count];
        } else {
            n++;
        }
    }
}

static unsigned version_new(struct lower *l, unsigned node, const struct context *in)
{
    if (l->version_count == VERSION_MAX) {
        l->failed = true;
        return 0;
    }
    l->versions[l->version_count] = (struct version){(u16)node, *in, NULL};
    return l->version_count++;
}

/* Behind a version for V one may go on that knows what C holds; how much of use it knows, or -1. */
static int fits(const struct lower *l, const struct context *v, const struct context *c)
{
    int worth = v->vectors + v->x87 * 4 + v->x87_page;
    if (v->flags != c->flags || !recipe_same(&v->recipe, &c->recipe) || v->pending != c->pending) return -1;
    if ((v->vectors & ~c->vectors) || (v->x87 && !c->x87) || (v->x87_page && !c->x87_page)) return -1;
    for (unsigned k = 0; k < l->t->key_count; k++) {
        const struct group *g = &v->groups[k], *have = &c->groups[k];
        if (!g->on) continue;
        if (!have->on || have->low > g->low || have->high < g->high || (g->write && !have->write)) return -1;
        worth += 4;
    }
    return worth;
}

static int known(const struct lower *l, const struct context *c)
{
    int worth = c->vectors + c->x87 * 4 + c->x87_page;
    for (unsigned k = 0; k < l->t->key_count; k++) worth += c->groups[k].on ? 4 : 0;
    return worth;
}

/* The version of NODE to enter with l->c, which may be reduced by code. */
static unsigned version_for(struct lower *l, unsigned node)
{
    unsigned same = 0, best = VERSION_MAX;
    int worth = -1;
    unsigned most = l->version_count < VERSION_MAX / 2 ? SAME_NODE_MAX : 0;
    for (unsigned v = 0; v < l->version_count; v++) {
        const struct version *version = &l->versions[v];
        if (version->node != node) continue;
        same++;
        int fit = fits(l, &version->in, &l->c);
        if (fit > worth) worth = fit, best = v;
    }
    if (best < VERSION_MAX && (worth == known(l, &l->c) || same >= most)) return best;
    if (same < most) return version_new(l, node, &l->c);
    flags_memory(l);
    l->c = (struct context){.flags = FL_MEM};
    for (unsigned v = 0; v < l->version_count; v++)
        if (l->versions[v].node == node && !fits(l, &l->versions[v].in, &l->c) &&
            !known(l, &l->versions[v].in))
            return v;
    return version_new(l, node, &l->c);
}

/* --- edges --- */

static bool joins(const struct lower *l, unsigned node)
{
    const struct node *n = &l->t->nodes[node];
    return n->predecessors != 1 || n->head || n->root || l->c.pending > PENDING_MAX;
}

/* Reduces l->c to what is of use in NODE, which has other ways in. */
static void reduce(struct lower *l, unsigned node)
{
    const struct node *n = &l->t->nodes[node];
    if (!n->flags_in) {
        l->c.flags = 0;
        l->c.recipe = (struct recipe){0};
    } else if (l->c.flags & FL_MEM) {
        l->c.flags = FL_MEM;
        l->c.recipe = (struct recipe){0};
    } else if (l->c.flags & FL_RECIPE) {
        l->c.flags = FL_RECIPE;
    } else {
        flags_memory(l);
        l->c.flags = FL_MEM;
    }
    count_insns(&l->hot, l->c.pending);
    l->c.pending = 0;
    for (unsigned k = 0; k < l->t->key_count; k++)
        if (!l->t->ahead[node][k].count) l->c.groups[k] = (struct group){0};
}

static unsigned version_enter(struct lower *l, unsigned node)
{
    if (!joins(l, node)) return version_new(l, node, &l->c);
    l->held = -1;
    reduce(l, node);
    return version_for(l, node);
}

/* To NODE: returns the version to be emitted right here, or -1 when a jump leads there. */
static int edge(struct lower *l, unsigned node)
{
    unsigned v = version_enter(l, node);
    if (!l->versions[v].code && !l->failed) return (int)v;
    version_patch(l, x64_jmp(&l->hot), v);
    return -1;
}

static void edge_jump(struct lower *l, unsigned node)
{
    unsigned v = version_enter(l, node);
    version_patch(l, x64_jmp(&l->hot), v);
}

/* On CC to a stub for what U leads to besides: NODE, or TARGET. */
static void branch_stub(struct lower *l, unsigned cc, const struct uop *u, i16 node, i64 target)
{
    if (l->stub_count == STUB_MAX) {
        l->failed = true;
        return;
    }
    l->stubs[l->stub_count++] = (struct exit_stub){x64_jcc(&l->hot, cc), u, node, target, l->c};
}

static unsigned branch_cc(const struct uop *u) { return u->op == UOP_LOOP ? loop_cc(u) : u->insn->cc & 15u; }

/* A conditional branch taken: the way there, here or in a stub. */
static void branch_taken(struct lower *l, const struct node *node, const struct uop *u)
{
    struct x64 *e = &l->hot;
    unsigned cc = branch_cc(u);
    if (node->taken >= 0 && !joins(l, (unsigned)node->taken)) {
        version_patch(l, x64_jcc(e, cc), version_new(l, (unsigned)node->taken, &l->c));
        return;
    }
    if (node->taken >= 0 && l->t->nodes[node->taken].head) {
        u8 *on = x64_jcc(e, cc ^ 1);
        struct context here = l->c;
        edge_jump(l, (unsigned)node->taken);
        l->c = here;
        x64_patch(on, e->p);
        return;
    }
    branch_stub(l, cc, u, node->taken, branch_target(u));
}

/* Behind a node's last uop; the version that follows, or -1. */
static int node_end(struct lower *l, const struct node *node, const struct uop *u)
{
    unsigned count = u->index + (u->op != UOP_FALL);
    bool held = addend_held(l) && (l->c.flags & (FL_REG | FL_RECIPE));
    i16 next = node->next;
    i64 behind = (i64)u->insn->pos + u->insn->length;
    bool turned = !l->t->loops && node->taken >= 0 && next < 0; /* the unit's way is where it is taken */
    switch (u->op) {
    case UOP_LOOP:
    case UOP_JCC:
        if (u->op == UOP_JCC) flags_want(l, u->fuse == FLAG_CF ? FLAG_CF : FLAGS_ARITHMETIC, u);
        l->c.pending = (u16)(l->c.pending + count);
        if (turned) branch_stub(l, branch_cc(u) ^ 1, u, -1, behind);
        else branch_taken(l, node, u);
        addend_keep(l, held);
        count = 0;
        if (turned) next = node->taken;
        else if (next < 0) exit_direct(l, u, behind, 0);
        break;
    case UOP_FALL:
        if (next < 0) exit_direct(l, u, branch_target(u), count);
        break;
    case UOP_JMP:
    case UOP_CALL:
        next = node->taken;
        if (next < 0) exit_direct(l, u, branch_target(u), count);
        break;
    default: return -1;
    }
    l->c.pending = (u16)(l->c.pending + count);
    return next < 0 ? -1 : edge(l, (unsigned)next);
}

static void stubs_emit(struct lower *l)
{
    for (unsigned n = 0; n < l->stub_count && room(l); n++) {
        const struct exit_stub *s = &l->stubs[n];
        x64_patch(s->patch, l->hot.p);
        l->c = s->at;
        if (s->node < 0) exit_direct(l, s->uop, s->target, 0);
        else edge_jump(l, (unsigned)s->node);
    }
    l->stub_count = 0;
}

/* --- nodes --- */

static u8 *stale_check(struct lower *l, const struct jblock *b)
{
    struct x64 *e = &l->hot;
    struct x64_rm at = x64_mem(H_R9, 0);
    i64 from_here = (i64)((uintptr_t)b->page_generation - (uintptr_t)code_rx(l->j, e->p + 10));
    if (from_here == (i32)from_here) { /* cmp dword [rip + from_here], generation */
        x64_u8(e, 0x81), x64_u8(e, 0x3d);
        x64_u32(e, (u32)from_here);
    } else {
        x64_mov_imm64(e, H_R9, (u64)(uintptr_t)b->page_generation);
        x64_op(e, 0, false, false, X64_ONE, 0x81, X64_CMP, &at);
    }
    x64_u32(e, b->generation);
    return x64_jcc(e, CC_NE);
}

static u8 *time_check(struct lower *l)
{
    x64_mov_load(&l->hot, 8, H_R9, AT_CPU(icount));
    x64_alu(&l->hot, X64_CMP, 8, H_R9, AT_CPU(run_until));
    return x64_jcc(&l->hot, CC_AE);
}

static void leave_at(struct lower *l, unsigned pos)
{
    flags_cold(l);
    x64_mov_imm32(&l->cold, H_R9, pos);
    x64_jmp_to(&l->cold, l->j->code.rw + (l->j->leave - l->j->code.rx));
}

/* Whoever writes code stops the processors that may be running it (vcpu.run_until). */
static void loop_head(struct lower *l, const struct node *node)
{
    x64_patch(time_check(l), l->cold.p);
    leave_at(l, node->pos);
}

static void mark(struct lower *l, const struct uop *u)
{
    struct code_marks *marks = l->marks;
    if (likely(!marks->wanted) || marks->count == ARRAY_SIZE(marks->mark)) return;
    marks->mark[marks->count++] = (struct code_mark){(u32)(l->hot.p - l->start), (u16)(u - l->t->uops)};
}

/* Emits version V and what follows it without a jump. */
static void chain_emit(struct lower *l, int v)
{
    l->held = -1;
    while (v >= 0 && room(l)) {
        const struct version *version = &l->versions[v];
        const struct node *node = &l->t->nodes[version->node];
        version_place(l, (unsigned)v);
        l->node = version->node;
        l->c = version->in;
        if (node->head) loop_head(l, node);
        const struct uop *u = NULL;
        for (l->uop = 0; l->uop < node->count && room(l); l->uop++) {
            u = &l->t->uops[node->first + l->uop];
            mark(l, u);
            uop_lower(l, u);
        }
        if (!room(l)) return;
        v = node_end(l, node, u);
    }
}

static void versions_emit(struct lower *l, unsigned first)
{
    for (unsigned v = first; v < l->version_count && room(l); v++) {
        if (!l->versions[v].code) chain_emit(l, (int)v);
        stubs_emit(l);
    }
}

/* --- ways in --- */

static void way_in(struct lower *l, struct jblock *b, const struct node *node)
{
    struct x64 *e = &l->hot;
    l->c = (struct context){.flags = FL_MEM};
    b->checked = code_rx(l->j, e->p);
    b->pos = node->pos;
    b->loops = l->t->loops;
    u8 *stale = stale_check(l, b);
    b->entry = code_rx(l->j, e->p);
    u8 *late = time_check(l);
    x64_patch(stale, l->cold.p);
    x64_patch(late, l->cold.p);
    leave_at(l, node->pos);
    b->inner = code_rx(l->j, e->p);
    if (l->t->straddle) straddle_guard(l, l->t->straddle);
}

/* A straight unit wants its vectors at once, where no flags are at stake. */
static void vectors_first(struct lower *l)
{
    const struct translation *t = l->t;
    unsigned want = 0;
    for (unsigned n = 0; n < t->uop_count; n++)
        if (t->uops[n].wants_vectors) want |= t->uops[n].avx ? 3 : 1;
    if (want && !t->loops) vectors_want(l, want, &t->uops[0]);
    for (unsigned n = 0; n < t->uop_count && !t->loops; n++)
        if (t->uops[n].wants_x87) x87_want(l, &t->uops[0]);
}

static void begin(struct lower *l, const struct jit_cpu *j, struct making *m)
{
    struct code_cursor *at = &m->at;
    bool loops = m->t.loops;
    l->j = j;
    l->t = &m->t;
    l->at = at;
    l->marks = &m->marks;
    l->number = at->block_count;
    l->failed = false;
    l->stack_behind = 0;
    l->stub_count = l->version_count = l->patch_count = 0;
    l->hot.p = (u8 *)(((uintptr_t)at->hot + 15) & ~(uintptr_t)15);
    l->cold.p = at->cold;
    l->start = l->hot.p;
    m->marks.count = 0;
    l->hot.end = l->hot.p + (loops ? ROOM_LOOPS_HOT : ROOM_HOT);
    l->cold.end = l->cold.p + (loops ? ROOM_LOOPS_COLD : ROOM_COLD);
    at->crowded = l->hot.end > at->hot_end - SLACK || l->cold.end > at->cold_end - SLACK;
    if (l->hot.end > at->hot_end - SLACK) l->hot.end = at->hot_end - SLACK;
    if (l->cold.end > at->cold_end - SLACK) l->cold.end = at->cold_end - SLACK;
}

bool x64_lower(const struct jit_cpu *j, struct making *m, struct jblock *blocks)
{
    struct lower *l = m->lower;
    const struct translation *t = &m->t;
    struct code_cursor *at = &m->at;
    u32 sites = at->site_count, insns = at->insn_count;
    begin(l, j, m);
    for (unsigned n = 0; n < t->root_count && room(l); n++) {
        unsigned first = l->version_count;
        way_in(l, &blocks[n], &t->nodes[t->roots[n]]);
        if (!n) vectors_first(l);
        if (!n && !t->nodes[t->roots[n]].head) {
            chain_emit(l, (int)version_new(l, t->roots[n], &l->c));
            stubs_emit(l);
        } else {
            edge_jump(l, t->roots[n]);
        }
        versions_emit(l, first);
    }
    assert(l->hot.p <= at->hot_end && l->cold.p <= at->cold_end);
    if (l->failed) {
        at->crowded |= at->site_count + 16 > at->site_end;
        at->site_count = sites;
        at->insn_count = insns;
        return false;
    }
    blocks[0].code_bytes = (u32)(l->hot.p - l->start);
    blocks[0].cold_bytes = (u32)(l->cold.p - at->cold);
    at->hot = l->hot.p;
    at->cold = l->cold.p;
    return true;
}

/* SITE's block is not asked again. */
void x64_cool(struct jit_cpu *j, struct jsite *site)
{
    struct x64 e = {.p = site->patch};
    x64_jmp_to(&e, j->code.rw + (site->resume - j->code.rx));
}

/* Whoever comes to FROM goes to TO instead. */
void x64_redirect(struct jit_cpu *j, struct jblock *from, struct jblock *to)
{
    struct x64 checked = {.p = j->code.rw + (from->checked - j->code.rx)};
    struct x64 entry = {.p = j->code.rw + (from->entry - j->code.rx)};
    memcpy(from->was, checked.p, 5);
    memcpy(from->was + 5, entry.p, 5);
    x64_jmp_to(&checked, j->code.rw + (to->checked - j->code.rx));
    x64_jmp_to(&entry, j->code.rw + (to->entry - j->code.rx));
    from->redirected = (u32)(to - j->blocks);
    to->instead_of = (u32)(from - j->blocks);
}

void x64_redirect_undo(struct jit_cpu *j, const struct jblock *from)
{
    memcpy(j->code.rw + (from->checked - j->code.rx), from->was, 5);
    memcpy(j->code.rw + (from->entry - j->code.rx), from->was + 5, 5);
}

void x64_serialize(void)
{
#if defined(__x86_64__)
    u32 eax = 0, ebx, ecx = 0, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx) : : "memory");
#endif
}

struct lower *x64_lower_new(void) { return calloc(1, sizeof(struct lower)); }

bool x64_start(struct jit_cpu *j)
{
    j->own.lower = x64_lower_new();
    if (!j->own.lower) return false;
    x64_thunks(j);
    return true;
}

void x64_stop(struct jit_cpu *j) { free(j->own.lower); }
