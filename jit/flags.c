/*
 * Backward pass over a unit's uops: which arithmetic flags may still be looked at behind each, and
 * which an instruction that writes only some of them must therefore find in their place.
 *
 * Every place where the guest could be interrupted or fault looks at all of them: an exception
 * pushes EFLAGS.
 */
#include "jit/jit_int.h"

static bool observes(const struct uop *u)
{
    switch (u->op) {
    case UOP_RM:
    case UOP_VECTOR: return u->access != 0 || u->op == UOP_VECTOR;
    case UOP_NOP:
    case UOP_MOVI64:
    case UOP_BSWAP:
    case UOP_BARE:
    case UOP_LEA:
    case UOP_JCC:
    case UOP_JMP:
    case UOP_FALL: return false;
    default: return true;
    }
}

static unsigned out_of(const struct translation *t, const struct node *node)
{
    unsigned op = t->uops[node->first + node->count - 1].op, live = 0;
    if (op != UOP_JCC && op != UOP_JMP && op != UOP_FALL) return FLAGS_ARITHMETIC;
    if (op != UOP_FALL) live |= node->taken < 0 ? FLAGS_ARITHMETIC : t->nodes[node->taken].flags_in;
    if (op != UOP_JMP) live |= node->next < 0 ? FLAGS_ARITHMETIC : t->nodes[node->next].flags_in;
    return live;
}

/* True when what is looked at in front of NODE has grown. FINAL: what was found is noted in the uops. */
static bool node_flags(struct translation *t, struct node *node, bool final)
{
    unsigned live = out_of(t, node);
    for (unsigned i = node->first + node->count; i-- > node->first;) {
        struct uop *u = &t->uops[i];
        unsigned kept = FLAGS_ARITHMETIC & ~(u->fpartial ? 0u : u->fdef);
        unsigned use = u->fuse | (u->fdef ? live & kept : 0);
        if (final) {
            u->flive = (u16)live;
            u->fuse = (u16)use;
        }
        live = (live & kept) | use;
        if (observes(u)) live = FLAGS_ARITHMETIC;
    }
    if (node->head) live = FLAGS_ARITHMETIC; /* may leave there */
    bool grown = live & ~node->flags_in;
    node->flags_in = (u16)live;
    return grown;
}

void unit_flags(struct translation *t)
{
    bool grown = !t->ordered;
    while (grown) {
        grown = false;
        for (unsigned n = t->node_count; n-- > 0;) grown |= node_flags(t, &t->nodes[n], false);
    }
    for (unsigned n = t->node_count; n-- > 0;) node_flags(t, &t->nodes[n], true);
}
