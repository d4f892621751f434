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

static bool stack_access(const struct translation *t, const struct uop *u, struct group_key *key, i32 *offset,
                         u8 *size, bool *write)
{
    *key = (struct group_key){.base = RSP, .index = REG_ZERO, .size = (u8)natural(t)};
    *size = (u8)natural(t);
    *offset = 0;
    *write = false;
    switch (u->op) {
    case UOP_PUSH:
    case UOP_PUSHM:
    case UOP_PUSHF:
    case UOP_CALL:
    case UOP_CALLI:
        *offset = -(i32)natural(t);
        return *write = true;
    case UOP_POP:
    case UOP_RET: return true;
    case UOP_LEAVE: key->base = RBP; return true;
    default: return false;
    }
}

bool uop_address(const struct translation *t, const struct uop *u, unsigned n, struct group_key *key,
                 i32 *offset, u8 *size, bool *write)
{
    bool memory = u->access && u->op != UOP_HELPER && u->op != UOP_HELPER_END;
    if (!memory || n) return n == (memory ? 1u : 0u) && stack_access(t, u, key, offset, size, write);
    const struct insn *i = u->insn;
    *key = (struct group_key){.base = i->base, .index = i->index, .scale = i->scale,
                              .seg = i->seg >= FS ? i->seg : 0, .size = i->address_size};
    if (i->index == REG_ZERO) {
        key->scale = 0;
        if (i->base == REG_ZERO || i->base == REG_IP_BASE) key->page = (i32)i->disp & ~(i32)4095;
    }
    *offset = (i32)i->disp;
    *size = u->msize;
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

int group_find(const struct translation *t, const struct group_key *key)
{
    for (unsigned k = 0; k < t->key_count; k++)
        if (!memcmp(&t->keys[k], key, sizeof(*key))) return (int)k;
    return -1;
}

static void include(struct ahead *a, i32 low, i32 high, bool write, unsigned count)
{
    if (!count) return;
    i32 l = a->count && a->low < low ? a->low : low, h = a->count && a->high > high ? a->high : high;
    if (h - l > SPAN_MAX) return;
    a->low = l;
    a->high = h;
    a->write |= write;
    a->count = (u8)(a->count + count > 100 ? 100 : a->count + count);
}

/* What UOP does to KEY: false when its registers' values are gone. */
static bool step(const struct translation *t, const struct uop *u, const struct group_key *key, i32 *shift)
{
    i32 by;
    if (u->op == UOP_HELPER || u->op == UOP_HELPER_END) return false;
    if (key->index != REG_ZERO && (u->kills >> key->index & 1)) return false;
    if (key->base >= 16 || !(u->kills >> key->base & 1)) return true;
    if (key->base != RSP || !uop_adds(t, u, RSP, &by)) return false;
    *shift += by;
    return true;
}

struct ahead group_ahead(const struct translation *t, unsigned number, unsigned k, unsigned key)
{
    const struct node *node = &t->nodes[number];
    struct ahead a = {0};
    i32 shift = 0, offset;
    u8 size;
    bool write;
    for (; k < node->count; k++) {
        const struct uop *u = &t->uops[node->first + k];
        struct group_key at;
        for (unsigned n = 0; n < 2 && uop_address(t, u, n, &at, &offset, &size, &write); n++)
            if (!memcmp(&at, &t->keys[key], sizeof(at)))
                include(&a, offset + shift, offset + shift + size, write, 1);
        if (!step(t, u, &t->keys[key], &shift)) return a;
    }
    const i16 successors[2] = {node->next, node->taken};
    for (unsigned n = 0; n < 2; n++) {
        if (successors[n] < 0) continue;
        const struct ahead *s = &t->ahead[successors[n]][key];
        include(&a, s->low + shift, s->high + shift, s->write, s->count);
    }
    return a;
}

/* The keys used most. */
static void keys_find(struct translation *t)
{
    struct { struct group_key key; unsigned uses; } all[64];
    unsigned count = 0;
    i32 offset;
    u8 size;
    bool write;
    for (unsigned i = 0; i < t->uop_count; i++) {
        struct group_key key;
        for (unsigned n = 0; n < 2 && uop_address(t, &t->uops[i], n, &key, &offset, &size, &write); n++) {
            unsigned k;
            for (k = 0; k < count && memcmp(&all[k].key, &key, sizeof(key)); k++) continue;
            if (k == ARRAY_SIZE(all)) continue;
            if (k == count) all[count++].key = key, all[k].uses = 0;
            all[k].uses++;
        }
    }
    t->key_count = 0;
    while (t->key_count < GROUP_MAX) {
        unsigned best = 0;
        for (unsigned k = 1; k < count; k++)
            if (all[k].uses > all[best].uses) best = k;
        if (!count || !all[best].uses) break;
        t->keys[t->key_count++] = all[best].key;
        all[best].uses = 0;
    }
}

void unit_groups(struct translation *t)
{
    keys_find(t);
    memset(t->ahead, 0, t->node_count * sizeof(t->ahead[0]));
    for (unsigned pass = 0; pass < (t->loops ? PASSES : 1); pass++)
        for (unsigned n = t->node_count; n-- > 0;)
            for (unsigned k = 0; k < t->key_count; k++) t->ahead[n][k] = group_ahead(t, n, 0, k);
}
