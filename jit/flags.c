/*
 * Backward pass over a block's uops: which arithmetic flags may still be looked at behind each, and
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
    case UOP_LEA: return false;
    default: return true;
    }
}

void uops_flags(struct translation *t)
{
    unsigned live = FLAGS_ARITHMETIC;
    for (unsigned i = t->uop_count; i-- > 0;) {
        struct uop *u = &t->uops[i];
        u->flive = (u16)live;
        unsigned kept = FLAGS_ARITHMETIC & ~(u->fpartial ? 0u : u->fdef);
        if (u->fdef && (live & kept)) u->fuse |= live & kept;
        live = (live & kept) | u->fuse;
        if (observes(u)) live = FLAGS_ARITHMETIC;
    }
}
