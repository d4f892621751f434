/*
 * Uops: what the translator makes of decoded instructions and what a back end lowers. Flat and
 * x86-flavoured: an ADD uop is x86's ADD with its size and flags. The memory operand's parts stay in
 * the instruction, which is kept for the helper anyway.
 */
#ifndef JIT_UOP_H
#define JIT_UOP_H

#include "cpu/insn.h"

enum uop_op {
#define UOP(name, what) UOP_##name,
#include "jit/uop.def"
#undef UOP
    UOP_COUNT
};

#define BLOCK_MAX 64u

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
    u8 index;            /* instructions of the block in front of it */
    /* x86 encoding, for RM, VECTOR and BARE */
    u8 map, opcode, pp;
    bool w, l, vex, lock;
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

struct translation {
    struct insn insns[BLOCK_MAX];
    struct uop uops[BLOCK_MAX + 1];
    unsigned count;      /* instructions */
    unsigned uop_count;
    unsigned pos, end;   /* offsets in the page: first byte, behind the last */
    unsigned code_size;  /* enum code_size */
    unsigned stack_size;
    unsigned mode_key;
    bool vectors;        /* some uop is VECTOR */
    bool avx;
    bool x87;            /* some uop wants the x87's registers */
    struct code_straddle *straddle; /* the block is one instruction in two pages, else NULL */
    u8 bytes[4096 + 16]; /* such an instruction's, at its place */
};

/* Picks uops for the decoded instructions (translate.c); BYTES is the page they come from. */
struct host_features;
void uops_select(struct translation *t, const u8 *bytes, const struct host_features *host,
                 bool no_vectors);
/* x87 instructions (pick_x87.c); BYTES behind the prefixes. */
bool pick_x87(struct uop *u, const struct insn *insn, const u8 *bytes);
/* Backward pass: flive and what partial writers must preserve (flags.c). */
void uops_flags(struct translation *t);
const char *uop_name(unsigned op);

#endif
