/*
 * Which memory accesses of a unit go through the same registers, and so can share one look at the soft
 * TLB while those keep their values or change by known constants.
 *
 * What is found here only says where a shared check pays and how far it should reach; that an access is
 * covered by one is established while lowering, from what has really been checked.
 */
#include "jit/jit_int.h"

#define SPAN_MAX 2048
#define PASSES 3u /* over loops */

static unsigned natural(const struct translation *t) { return t->code_size == CODE64 ? 8 : 4; }

static bool stack_access(const struct translation *t, const struct uop *u, struct group_key *key, struct uop_at *at,
                         bool *write)
{
    unsigned base = u->op == UOP_LEAVE ? RBP : RSP;
    *key = key_make(base, REG_ZERO, 0, SS, natural(t), 0);
    at->size = (u8)natural(t);
    at->offset = 0;
    *write = false;
    switch (u->op) {
    case UOP_PUSH:
    case UOP_PUSHM:
    case UOP_PUSHF:
    case UOP_CALL:
    case UOP_CALLI:
        at->offset = -(i32)natural(t);
        return *write = true;
    case UOP_POP:
    case UOP_RET:
    case UOP_LEAVE: return true;
    default: return false;
    }
}

/* U's access N: its key, where from the key's origin it lies, how many bytes. False: it has no more. */
static bool uop_address(const struct translation *t, const struct uop *u, unsigned n, struct group_key *key,
                        struct uop_at *at, bool *write)
{
    bool memory = u->access && u->op != UOP_HELPER && u->op != UOP_HELPER_END;
    if (!memory || n) return n == (memory ? 1u : 0u) && stack_access(t, u, key, at, write);
    const struct insn *i = u->insn;
    *key = key_make(i->base, i->index, i->scale, i->seg, i->address_size, i->disp);
    at->offset = (i32)i->disp;
    at->size = u->msize;
    *write = u->access & UOP_WRITE;
    return true;
}

bool uop_adds(const struct translation *t, const struct uop *u, unsigned reg, i32 *by)
{
    const struct insn *i = u->insn;
    i32 n = (i32)natural(t);
    switch (u->op) {
    case UOP_PUSH:
    case UOP_PUSHM:
    case UOP_PUSHF:
    case UOP_CALL:
    case UOP_CALLI: *by = -n; return reg == RSP;
    case UOP_POP: *by = n; return reg == RSP && i->operand[0].reg != RSP;
    case UOP_LEA:
        *by = (i32)i->disp;
        return i->base == reg && i->index == REG_ZERO && i->size == n && i->address_size == n &&
               i->disp == (i16)i->disp;
    case UOP_RM:
        if ((i->op != OP_ADD && i->op != OP_SUB) || i->size != n || u->access ||
            i->operand[0].kind != OPERAND_GPR || i->operand[0].reg != reg ||
            i->operand[1].kind != OPERAND_IMMEDIATE || (i64)i->imm != (i16)i->imm)
            return false;
        *by = i->op == OP_ADD ? (i32)i->imm : -(i32)i->imm;
        return true;
    default: return false;
    }
}

static ALWAYS_INLINE void include(struct ahead *a, i32 low, i32 high, bool write, unsigned count)
{
    i32 l = a->count && a->low < low ? a->low : low, h = a->count && a->high > high ? a->high : high;
    if (h - l > SPAN_MAX) return;
    a->low = l;
    a->high = h;
    a->write |= write;
    a->count = (u8)(a->count + count > 100 ? 100 : a->count + count);
}

/* --- keys --- */

/* Those that are used by one access only are of use where it comes again. */
static void keys_choose(struct translation *t, const struct group_key *all, u8 *uses, unsigned count, u8 *number)
{
    u8 least = t->loops ? 1 : 2;
    while (t->key_count < GROUP_MAX) {
        unsigned best = 0;
        for (unsigned k = 1; k < count; k++)
            if (uses[k] > uses[best]) best = k;
        if (!count || uses[best] < least) break;
        t->keys[t->key_count++] = all[best];
        number[best] = (u8)t->key_count;
        uses[best] = 0;
    }
}

/* The keys used most, and which accesses have them. */
static void keys_find(struct translation *t)
{
    struct group_key all[64], key;
    u8 uses[64], number[65] = {0};
    unsigned count = 0;
    bool write;
    for (unsigned i = 0; i < t->uop_count; i++) {
        struct uop *u = &t->uops[i];
        for (unsigned n = 0; n < 2; n++) {
            struct uop_at *at = &u->at[n];
            if (!uop_address(t, u, n, &key, at, &write)) break;
            unsigned k;
            for (k = 0; k < count && !key_same(all[k], key); k++) continue;
            at->key = (u8)(k + 1);
            u->at_writes |= (u8)(write << n);
            if (k == ARRAY_SIZE(all)) continue; /* its number is none */
            if (k == count) all[count++] = key, uses[k] = 0;
            if (uses[k] < 255) uses[k]++;
        }
    }
    t->key_count = 0;
    keys_choose(t, all, uses, count, number);
    for (unsigned i = 0; i < t->uop_count; i++)
        for (unsigned n = 0; n < 2; n++)
            if (t->uops[i].at[n].key) t->uops[i].at[n].key = number[t->uops[i].at[n].key - 1];
}

/* --- accesses with the same key, chained --- */

#define AT_END 0xffffu  /* of the node: its successors' are next */
#define AT_NONE 0xfffeu /* the registers' values are gone */

static bool adds_stack(const struct translation *t, const struct uop *u, i32 *by)
{
    return (u->kills >> RSP & 1) && uop_adds(t, u, RSP, by);
}

/* Which keys U changes, and which of them it leaves nothing known of; what is added to rSP. */
static void node_moves(struct translation *t, struct node *node, const u16 *keys_with)
{
    u16 all = (u16)((1u << t->key_count) - 1);
    i32 shift = 0, by;
    for (unsigned i = node->first; i < node->first + (unsigned)node->count; i++) {
        struct uop *u = &t->uops[i];
        u->shift = shift;
        if (u->op == UOP_HELPER || u->op == UOP_HELPER_END) {
            u->moves = u->voids = all;
            continue;
        }
        for (unsigned regs = u->kills & ~(1u << RSP); regs; regs &= regs - 1)
            u->voids |= keys_with[__builtin_ctz(regs)];
        u->moves = u->voids;
        if (!(u->kills >> RSP & 1)) continue;
        u->moves |= keys_with[RSP];
        if (adds_stack(t, u, &by)) shift += by;
        else u->voids |= keys_with[RSP];
    }
    node->shift = shift;
}

/* FIRST: the first access of each key in NODE. */
static void node_chain(struct translation *t, const struct node *node, u16 *first)
{
    for (unsigned k = 0; k < t->key_count; k++) first[k] = AT_END;
    for (unsigned i = node->first + (unsigned)node->count; i-- > node->first;) {
        struct uop *u = &t->uops[i];
        for (unsigned voids = u->voids; voids; voids &= voids - 1) first[__builtin_ctz(voids)] = AT_NONE;
        for (unsigned n = 2; n-- > 0;) {
            if (!u->at[n].key) continue;
            u->at[n].next = first[u->at[n].key - 1];
            first[u->at[n].key - 1] = (u16)(i * 2 + n);
        }
    }
}

/* What lies ahead from the access AT of NODE on, offsets as behind SHIFT. */
static void ahead_from(const struct translation *t, const struct node *node, unsigned key, unsigned at, i32 shift,
                       struct ahead *a)
{
    bool stack = key_base(&t->keys[key]) == RSP;
    a->count = 0;
    a->write = false;
    for (const struct uop_at *now; at < AT_NONE; at = now->next) {
        const struct uop *u = &t->uops[at / 2];
        now = &u->at[at % 2];
        i32 low = now->offset + (stack ? u->shift - shift : 0);
        include(a, low, low + now->size, u->at_writes >> at % 2 & 1, 1);
    }
    if (at == AT_NONE) return;
    i32 by = stack ? node->shift - shift : 0;
    const i16 successors[2] = {node->next, node->taken};
    for (unsigned n = 0; n < 2; n++) {
        if (successors[n] < 0) continue;
        const struct ahead *s = &t->ahead[successors[n]][key];
        if (s->count) include(a, s->low + by, s->high + by, s->write, s->count);
    }
}

void group_ahead(const struct translation *t, unsigned number, unsigned k, unsigned key, struct ahead *ahead)
{
    const struct node *node = &t->nodes[number];
    const struct uop *from = &t->uops[node->first + k], *end = &t->uops[node->first + node->count];
    unsigned at = AT_END;
    for (const struct uop *u = from; u < end && at == AT_END; u++) {
        for (unsigned n = 2; n-- > 0;)
            if (u->at[n].key == key + 1) at = (unsigned)(u - t->uops) * 2 + n;
        if (at == AT_END && (u->voids >> key & 1)) at = AT_NONE;
    }
    ahead_from(t, node, key, at, from->shift, ahead);
}

void unit_groups(struct translation *t)
{
    u16 first[NODE_MAX][GROUP_MAX], keys_with[REG_SLOTS] = {0};
    keys_find(t);
    if (!t->key_count) return;
    for (unsigned k = 0; k < t->key_count; k++) {
        keys_with[key_base(&t->keys[k])] |= (u16)(1u << k);
        keys_with[key_index(&t->keys[k])] |= (u16)(1u << k);
    }
    for (unsigned n = 0; n < t->node_count; n++) {
        node_moves(t, &t->nodes[n], keys_with);
        node_chain(t, &t->nodes[n], first[n]);
        for (unsigned k = 0; k < t->key_count; k++) t->ahead[n][k].count = 0;
    }
    for (unsigned pass = 0; pass < (t->ordered ? 1 : PASSES); pass++)
        for (unsigned n = t->node_count; n-- > 0;)
            for (unsigned k = 0; k < t->key_count; k++)
                if (first[n][k] != AT_NONE) ahead_from(t, &t->nodes[n], k, first[n][k], 0, &t->ahead[n][k]);
}
