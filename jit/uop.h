/*
 * Uops: what the translator makes of decoded instructions and what a back end lowers. Flat and
 * x86-flavoured: an ADD uop is x86's ADD with its size and flags. The memory operand's parts stay in
 * the instruction, which is kept for the helper anyway.
 */
#ifndef JIT_UOP_H
#define JIT_UOP_H

#include "cpu/cpu.h"

enum uop_op {
#define UOP(name, what) UOP_##name,
#include "jit/uop.def"
#undef UOP
    UOP_COUNT
};

#define BLOCK_MAX 64u   /* instructions of a tier 1 unit */
#define UNIT_MAX 256u   /* and of a tier 2 one */
#define NODE_MAX 80u
_Static_assert(UNIT_MAX + NODE_MAX <= CPU_RUN_AHEAD, "no way through a unit is longer");
#define ROOT_MAX 16u
#define GROUP_MAX 12u

enum uop_access { UOP_READ = 1, UOP_WRITE = 2 };

struct uop {
    const struct insn *insn;
    u16 op;              /* enum uop_op */
    u16 fdef, fuse;      /* EFLAGS bits it may write (what it leaves alone is not in it); reads */
    u16 flive;           /* bits somebody may look at behind it */
    bool fpartial;       /* writes fdef on some paths only, or leaves bits of FLAGS_ARITHMETIC */
    u8 access;           /* enum uop_access of the memory operand; 0: none */
    u8 msize;            /* bytes accessed */
    u8 align;            /* the memory operand must be aligned to it; 0 or 1: no */
    u8 index;            /* instructions of its node in front of it */
    u16 kills;           /* general registers it writes, a bit each */
    u16 moves, voids;    /* keys with such registers, a bit each; those that it leaves nothing known of */
    i32 shift;           /* what was added to rSP in its node in front of it */
    struct uop_at { i32 offset; u16 next; u8 key, size; } at[2]; /* groups.c; KEY: its number + 1, 0: none */
    u8 at_writes;        /* a bit for each of them */
    /* x86 encoding, for RM, VECTOR and BARE */
    u8 map, opcode, pp;
    bool w, l, vex, lock;
    bool avx;            /* VECTOR: needs AVX state */
    u8 size;             /* of the operation, for RM */
    u8 digit;            /* reg field when there is no register in it; 0xff: operand `reg` */
    u8 reg, rm, vvvv;    /* numbers of the operands that are in these fields; 0xff: none */
    u8 reads, writes;    /* operands (a bit each) whose register is read, written */
    u8 imm_size;
    u8 raw_reg, raw_vvvv, raw_rm; /* VECTOR: register numbers as encoded */
    bool reg_gpr, rm_gpr;
    bool wants_vectors, wants_x87; /* registers that must be the guest's */
    u64 imm;
};

/* Straight-line code: entered at its first uop only, left at its last. */
struct node {
    u16 pos, first, count; /* offset in the page; its uops */
    i16 taken, next;       /* nodes its last uop leads to; -1: out of the unit */
    u8 predecessors;
    bool head;             /* of a loop: time and staleness are looked at */
    bool root;             /* a way in from outside */
    u16 flags_in;          /* arithmetic flags that somebody may look at from here on */
    i32 shift;             /* what is added to rSP in all */
};

/* Addresses that differ by a constant while their registers keep their values. */
struct group_key { u32 form; i32 page; };
static inline struct group_key key_make(unsigned base, unsigned index, unsigned scale, unsigned seg, unsigned size, i64 disp)
{
    bool indexed = index != REG_ZERO, fixed = !indexed && base >= REG_ZERO;
    return (struct group_key){base | index << 8 | (indexed ? scale : 0u) << 16 | (seg >= FS ? seg : 0u) << 18 | size << 22,
                              fixed ? (i32)disp & ~(i32)4095 : 0};
}
static inline unsigned key_base(const struct group_key *key) { return key->form & 0xff; }
static inline unsigned key_index(const struct group_key *key) { return key->form >> 8 & 0xff; }
static inline bool key_same(struct group_key a, struct group_key b) { return a.form == b.form && a.page == b.page; }

/* What is ahead of a place in the code: how a key will be accessed before its registers change. */
struct ahead { i32 low, high; bool write; u8 count; };

/* The code of one unit: a straight line (tier 1) or all that is reached within a page (tier 2). */
struct translation {
    struct insn insns[UNIT_MAX];
    struct uop uops[UNIT_MAX + NODE_MAX];
    struct node nodes[NODE_MAX];
    struct group_key keys[GROUP_MAX];
    struct ahead ahead[NODE_MAX][GROUP_MAX];
    unsigned count;      /* instructions */
    unsigned decoded;    /* those to choose from */
    unsigned uop_count, node_count, key_count;
    unsigned roots[ROOT_MAX], root_count; /* nodes; the first is what was asked for */
    unsigned pos;        /* offset in the page: what was asked for */
    unsigned code_size;  /* enum code_size */
    unsigned stack_size;
    unsigned mode_key;
    bool segmented;      /* its segments are not flat, or it is 16-bit code */
    i64 start, last;     /* segmented: code_place */
    bool loops;          /* tier 2 */
    bool ordered;        /* nodes lead to later ones only */
    bool alone;          /* the machine has one processor */
    bool plain;          /* no shared checks: one failed here */
    unsigned limit;      /* instructions it may have */
    const struct stop_set *stops; /* places it may not run over, or NULL; while decoding */
    u16 stops_key;       /* theirs, 0: none */
    u16 at[4096];        /* instruction number + 1 by offset */
    u8 leader[4096];     /* 1: a node begins, 2: a root */
    struct code_straddle *straddle; /* it is one instruction in two pages, else NULL */
    u8 bytes[4096 + 32]; /* the instructions', at their places */
    u16 marks[256];      /* where leaders are */
    unsigned mark_count;
};

/* Accesses through SEG with addresses of SIZE bytes are compared with the segment's reach. */
static inline bool access_checked(const struct translation *t, unsigned seg, unsigned size)
{
    return t->code_size != CODE64 && (t->segmented || seg >= FS || size == 2);
}
/* Bytes of an instruction pointer, and of the operands of near branches. */
static inline unsigned ip_size(const struct translation *t)
{
    return t->code_size == CODE64 ? 8 : t->code_size == CODE32 ? 4 : 2;
}
/* The offset in the segment of what lies TARGET from the page's start. */
static inline u32 unit_ip(const struct translation *t, i64 target)
{
    return (u32)(t->start + target) & (t->code_size == CODE16 ? 0xffffu : 0xffffffffu);
}
/* Where from the page's start a branch to TARGET leads; not in the page where the segment ends before. */
static inline i64 unit_place(const struct translation *t, i64 target)
{
    if (!t->segmented) return target;
    u32 ip = unit_ip(t, target);
    return ip <= t->last ? (i64)ip - t->start : -1;
}

struct host_features;
/* The uop for the instruction; HELPER or HELPER_END when it has none (translate.c). LAST: of its node. */
void uop_select(const struct translation *t, struct uop *u, const struct host_features *host, bool no_vectors,
                bool last);
/* System instructions (pick_system.c). */
bool pick_system(const struct translation *t, struct uop *u, const struct insn *insn);
/* A load of a data segment register as in real and virtual-8086 mode, which changes nothing but where accesses
 * through it lead: its block goes on. */
bool loads_segment(const struct translation *t, const struct insn *insn);
/* x87 instructions (pick_x87.c); BYTES behind the prefixes. */
bool pick_x87(struct uop *u, const struct insn *insn, const u8 *bytes);
/* Backward pass: flive and what partial writers must preserve (flags.c). */
void unit_flags(struct translation *t);
/* Fills keys and what is ahead of each node (groups.c). */
void unit_groups(struct translation *t);
/* The number of an address's key, -1: none. */
static inline int group_find(const struct translation *t, struct group_key key)
{
    for (unsigned k = 0; k < t->key_count; k++)
        if (key_same(t->keys[k], key)) return (int)k;
    return -1;
}
/* UOP adds a constant to REG: which. */
bool uop_adds(const struct translation *t, const struct uop *u, unsigned reg, i32 *by);
/* What lies ahead of uop K of NODE for KEY. */
void group_ahead(const struct translation *t, unsigned node, unsigned k, unsigned key, struct ahead *ahead);
const char *uop_name(unsigned op);

#endif
