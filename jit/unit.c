/*
 * The code a translation covers: one way from one place, through calls and jumps ahead within the page
 * (tier 1: conditional branches go on where they have gone so far, and are side exits where they haven't), or
 * everything direct branches reach there (tier 2). Instructions are decoded under the rules for code
 * pages (cpu/smp.h); one that straddles pages is a unit of its own, and one that can't be had yet the
 * end of the unit in front.
 *
 * That is done on the processor's thread. What follows from the decoded instructions touches nothing but their
 * translation and may be done on any (background.c).
 */
#include "jit/jit_int.h"

#include "cpu/smp.h"

enum { LEADER = 1, ROOT = 2 };
#define NODE_INSNS 100u

static bool is_conditional(const struct insn *i) { return i->op == OP_Jcc || i->op == OP_LOOP || i->op == OP_JCXZ; }

static bool ends_straight(const struct translation *t, const struct insn *insn)
{
    return (insn->flags & INSN_ENDS_BLOCK) && insn->op != OP_CLI && insn->op != OP_STI && !loads_segment(t, insn);
}

static bool direct(const struct insn *i)
{
    return i->op == OP_JMP || i->op == OP_CALL || is_conditional(i);
}

static i64 target_of(const struct translation *t, const struct insn *i)
{
    return unit_place(t, (i64)(i->pos + i->length + i->imm));
}

struct walk_state {
    struct jit_cpu *j;
    struct making *m;
    struct translation *t;
    const u8 *page;
    u16 queue[NODE_MAX];
    unsigned queued;
    const struct insn *decoded; /* the interpreter's, of a straight unit's way */
    unsigned decoded_count;
    bool decoded_looked; /* none at the last place where some might have begun */
};

static void mark(struct translation *t, unsigned pos, u8 as)
{
    if (!t->leader[pos]) {
        if (t->mark_count < ARRAY_SIZE(t->marks)) t->marks[t->mark_count] = (u16)pos;
        t->mark_count++;
    }
    if (t->leader[pos] < as) t->leader[pos] = as;
}

/* Forgets the last unit's. */
static void marks_clear(struct translation *t)
{
    for (unsigned n = 0; n < t->decoded; n++) t->at[t->insns[n].pos] = 0;
    if (t->mark_count > ARRAY_SIZE(t->marks)) memset(t->leader, 0, sizeof(t->leader));
    else for (unsigned n = 0; n < t->mark_count; n++) t->leader[t->marks[n]] = 0;
    t->count = t->decoded = t->mark_count = 0;
}

static void lead(struct walk_state *w, i64 pos, u8 as)
{
    struct translation *t = w->t;
    if (pos < 0 || pos >= (i64)PAGE_SIZE) return;
    if (as == ROOT && t->leader[pos] != ROOT) {
        if (t->root_count >= ROOT_MAX) as = LEADER;
        else t->root_count++;
    }
    bool queue = !t->leader[pos];
    mark(t, (unsigned)pos, as);
    if (queue && !t->at[pos] && w->queued < NODE_MAX) w->queue[w->queued++] = (u16)pos;
}

static bool within_segment(const struct translation *t, const struct insn *i)
{
    i64 ip = t->start + (i64)i->pos;
    return !t->segmented || (ip >= 0 && ip + i->length - 1 <= t->last);
}

/* INSN is what the interpreter has decoded at POS; it has been there lately, and so has its cache been. */
static bool decoded_at(struct walk_state *w, struct insn *insn, unsigned pos)
{
    if (w->t->loops) return false;
    if (!w->decoded_count || w->decoded->pos != pos) {
        if (w->decoded_looked) return false;
        unsigned mode = w->j->cpu->mode_key | (unsigned)(w->m->key & STOPS_KEY);
        w->decoded_count = 0;
        w->decoded = code_decoded(w->j->cpu, w->page, pos, mode, &w->decoded_count);
        if (!w->decoded_count) w->decoded_looked = true;
        if (!w->decoded_count) return false;
    }
    code_decoded_copy(insn, w->decoded++);
    w->decoded_count--;
    return true;
}

static const struct insn *decode_at(struct walk_state *w, unsigned pos)
{
    struct translation *t = w->t;
    if (t->at[pos]) return &t->insns[t->at[pos] - 1];
    if (t->decoded >= t->limit || unlikely(stops_at(t->stops, pos))) return NULL;
    struct insn *insn = &t->insns[t->decoded];
    if (!decoded_at(w, insn, pos) && !code_decode(w->j->cpu, insn, w->page, pos)) return NULL;
    if (!within_segment(t, insn)) return NULL;
    if (insn->flags & INSN_ENDS_BLOCK) w->decoded_looked = false;
    guest_copy(t->bytes + pos, w->page + pos, insn->length);
    t->at[pos] = (u16)++t->decoded;
    return insn;
}

/* Where a straight unit goes on behind I, which always branches, or -1. Not back: that way are loops. */
static i64 straight_on(const struct translation *t, const struct insn *i)
{
    i64 target = i->op == OP_JMP || i->op == OP_CALL ? target_of(t, i) : -1;
    bool back = i->op == OP_JMP && target <= (i64)i->pos;
    return back || target >= (i64)PAGE_SIZE || (target >= 0 && t->at[target]) ? -1 : target;
}

/* How often POS has been come to, as far as that is known. */
static unsigned seen(const struct walk_state *w, i64 pos)
{
    u64 key = w->m->key & ~((u64)0xfff0000 | KEY_PLAIN);
    return cache_seen(w->j, key | (u64)pos << 16, w->m->place);
}

/* The conditional branch I, in a straight unit, has rather led to its target than on to AFTER. */
static bool turns(const struct walk_state *w, const struct insn *i, i64 after)
{
    i64 target = target_of(w->t, i);
    if (target <= after || target >= (i64)PAGE_SIZE || w->t->at[target]) return false;
    unsigned there = seen(w, target);
    return there && (after >= (i64)PAGE_SIZE || there > seen(w, after));
}

/* On from POS; where it may lead besides is noted. */
static void follow(struct walk_state *w, unsigned pos)
{
    struct translation *t = w->t;
    while (pos < PAGE_SIZE && !t->at[pos]) {
        const struct insn *i = decode_at(w, pos);
        if (!i) return;
        pos += i->length;
        if (is_conditional(i)) {
            if (t->loops) lead(w, target_of(t, i), LEADER);
            else if (turns(w, i, pos)) pos = (unsigned)target_of(t, i);
            if (pos < PAGE_SIZE) mark(t, pos, LEADER);
            continue;
        }
        if (!ends_straight(t, i)) continue;
        if (!t->loops) {
            i64 target = straight_on(t, i);
            if (target < 0) return;
            mark(t, (unsigned)target, LEADER);
            pos = (unsigned)target;
            continue;
        }
        if (direct(i)) lead(w, target_of(t, i), LEADER);
        if (i->op == OP_CALL || i->op == OP_CALL_INDIRECT) lead(w, pos, ROOT);
        return;
    }
}

/* --- nodes --- */

static bool goes_on(const struct uop *u)
{
    return u->op != UOP_JMP && u->op != UOP_CALL && u->op != UOP_RET && u->op != UOP_JMPI &&
           u->op != UOP_CALLI && u->op != UOP_HELPER_END && u->op != UOP_AC && u->op != UOP_TRANSFER;
}

/* The unit goes from I to POS: in a straight one, to what was decoded next. */
static bool goes_to(const struct translation *t, const struct insn *i, i64 pos)
{
    return pos >= 0 && pos < (i64)PAGE_SIZE && t->at[pos] && (t->loops || t->at[pos] == t->at[i->pos] + 1);
}

/* A node for the code from POS to the next leader or transfer, or while there is room. */
static bool node_make(const struct jit_cpu *j, struct translation *t, unsigned pos)
{
    if (t->node_count >= NODE_MAX || t->uop_count + 2 > ARRAY_SIZE(t->uops)) return false;
    struct node *node = &t->nodes[t->node_count++];
    *node = (struct node){.pos = (u16)pos, .first = (u16)t->uop_count, .taken = -1, .next = -1,
                          .root = t->leader[pos] == ROOT};
    for (;;) {
        const struct insn *i = &t->insns[t->at[pos] - 1];
        unsigned after = pos + i->length;
        bool last = !goes_to(t, i, after) || t->leader[after];
        struct uop *u = &t->uops[t->uop_count++];
        *u = (struct uop){.insn = i, .index = (u8)node->count};
        uop_select(t, u, &j->host, j->jit->options.no_vectors, last);
        node->count++;
        pos = after;
        if (u->op == UOP_JCC || u->op == UOP_LOOP || !goes_on(u)) return true;
        if (!last && t->uop_count + 2 <= ARRAY_SIZE(t->uops) && node->count < NODE_INSNS) continue;
        t->uops[t->uop_count++] = (struct uop){.op = UOP_FALL, .index = (u8)node->count, .insn = i};
        node->count++;
        return true;
    }
}

static i16 node_at(const struct translation *t, i64 pos, unsigned from)
{
    for (unsigned n = from; n < t->node_count; n++)
        if (t->nodes[n].pos == pos) return (i16)n;
    for (unsigned n = 0; n < t->node_count; n++)
        if (t->nodes[n].pos == pos) return (i16)n;
    return -1;
}

static void link(struct translation *t, unsigned from, i16 *edge, const struct insn *i, i64 pos)
{
    if (!goes_to(t, i, pos)) return;
    *edge = node_at(t, pos, from + 1); /* most lead to the next */
    if (*edge >= 0 && t->nodes[*edge].predecessors < 255) t->nodes[*edge].predecessors++;
}

static void edges_make(struct translation *t)
{
    t->ordered = true;
    for (unsigned n = 0; n < t->node_count; n++) {
        struct node *node = &t->nodes[n];
        const struct uop *u = &t->uops[node->first + node->count - 1];
        const struct insn *i = u->insn;
        bool conditional = u->op == UOP_JCC || u->op == UOP_LOOP;
        if (conditional || u->op == UOP_JMP || u->op == UOP_CALL) link(t, n, &node->taken, i, target_of(t, i));
        if (conditional || u->op == UOP_FALL) link(t, n, &node->next, i, (i64)i->pos + i->length);
        if ((node->taken >= 0 && node->taken <= (i16)n) || (node->next >= 0 && node->next <= (i16)n)) t->ordered = false;
    }
}

/* Marks what a way through the unit reaches again: every cycle has a head. */
static void heads_find(struct translation *t, unsigned n, u8 *state)
{
    struct node *node = &t->nodes[n];
    state[n] = 1;
    const i16 successors[2] = {node->next, node->taken};
    for (unsigned k = 0; k < 2; k++) {
        i16 s = successors[k];
        if (s < 0) continue;
        if (state[s] == 1) t->nodes[s].head = true;
        else if (!state[s]) heads_find(t, (unsigned)s, state);
    }
    state[n] = 2;
}

static void nodes_make(const struct jit_cpu *j, struct translation *t)
{
    u8 state[NODE_MAX] = {0};
    t->node_count = t->uop_count = t->root_count = 0;
    node_make(j, t, t->pos);
    for (unsigned n = 0; !t->loops && n < t->mark_count; n++) /* in the order of the way */
        if (t->at[t->marks[n]] && t->marks[n] != t->pos && !node_make(j, t, t->marks[n])) break;
    for (unsigned pos = 0; t->loops && pos < PAGE_SIZE; pos++)
        if (t->leader[pos] && t->at[pos] && pos != t->pos && !node_make(j, t, pos)) break;
    edges_make(t);
    t->roots[t->root_count++] = (unsigned)node_at(t, t->pos, 0);
    for (unsigned n = 0; n < t->node_count && t->root_count < ROOT_MAX; n++)
        if (t->nodes[n].root && t->nodes[n].pos != t->pos) t->roots[t->root_count++] = n;
    for (unsigned n = 0; n < t->root_count && !t->ordered; n++)
        if (!state[t->roots[n]]) heads_find(t, t->roots[n], state);
}

/* The instruction at t->pos, which goes on in the next page. */
static bool straddle_decode(struct jit_cpu *j, struct making *m, const u8 *page)
{
    struct translation *t = &m->t;
    if (m->at.straddle_count == m->at.straddle_end) return false;
    struct code_straddle *s = &j->straddles[m->at.straddle_count];
    u64 next = (code_linear(j->cpu) & PAGE_MASK) + PAGE_SIZE;
    if (j->cpu->code_size != CODE64) next = (u32)next;
    if (!code_decode_straddle(j->cpu, t->insns, page, t->pos, next, s) ||
        t->pos + t->insns[0].length <= PAGE_SIZE || !within_segment(t, t->insns))
        return false;
    memcpy(t->bytes + t->pos, s->bytes, sizeof(s->bytes));
    t->straddle = s;
    t->at[t->pos] = (u16)++t->decoded;
    return true;
}

static bool any_head(const struct translation *t)
{
    for (unsigned n = 0; n < t->node_count; n++)
        if (t->nodes[n].head) return true;
    return false;
}

bool unit_decode(struct jit_cpu *j, struct making *m, const u8 *page, unsigned loops)
{
    const struct vcpu *cpu = j->cpu;
    struct translation *t = &m->t;
    struct walk_state w = {.j = j, .m = m, .t = t, .page = page};
    marks_clear(t);
    t->pos = m->key >> 16 & (PAGE_SIZE - 1);
    t->root_count = 0;
    t->loops = loops;
    t->plain = m->key & KEY_PLAIN;
    t->stops = m->key & STOPS_KEY ? cpu->stops : NULL;
    t->stops_key = m->key & STOPS_KEY;
    t->limit = loops ? loops : BLOCK_MAX;
    t->code_size = cpu->code_size;
    t->stack_size = cpu->stack_size;
    t->mode_key = cpu->mode_key;
    t->segmented = cpu_segmented(cpu);
    t->start = m->place.start > 0xfffff000u ? (i64)m->place.start - (1ll << 32) : m->place.start;
    t->last = m->place.last;
    t->alone = cpu->count == 1;
    lead(&w, t->pos, ROOT);
    for (unsigned n = 0; n < w.queued; n++) follow(&w, w.queue[n]);
    t->straddle = NULL;
    return t->at[t->pos] || (!loops && straddle_decode(j, m, page));
}

bool unit_build(const struct jit_cpu *j, struct translation *t, unsigned count)
{
    for (unsigned n = 0; n < t->decoded; n++) t->at[t->insns[n].pos] = n < count ? (u16)(n + 1) : 0;
    t->count = count;
    nodes_make(j, t);
    /* no turn would be the cheaper for what another established */
    if (t->loops && !any_head(t) && !j->jit->options.all_loops) return false;
    unit_flags(t);
    t->key_count = 0;
    if (!t->plain && !t->segmented) unit_groups(t);
    return true;
}
