/*
 * Random guest programs as lists of pieces, so that a failing one can be made smaller: any row of
 * insns.def that a program may run, memory operands aimed at test pages (some of which fault),
 * branches, calls, loops as brackets around pieces. For 64-bit, 32-bit and 16-bit code.
 */
#ifndef TESTS_INSN_SEQUENCE_H
#define TESTS_INSN_SEQUENCE_H

#include "tests/insn/encode.h"

#define SEQUENCE_MAX 160u
#define SEQUENCE_CODE 16384u /* bytes */

enum piece_kind {
    PIECE_PLAIN,      /* bytes: an instruction, in front of it what makes its addresses good */
    PIECE_SKIP,       /* jcc cc over what is inside */
    PIECE_CALL,       /* what is inside is a function, called here */
    PIECE_INDIRECT,   /* jmp reg over what is inside */
    PIECE_LOOP,       /* what is inside, n times */
    PIECE_AHEAD,      /* changes an instruction that stands behind what is inside */
    PIECE_BACK,       /* the same, in front of it */
    PIECE_END,        /* of the innermost of these */
};

struct piece {
    u8 kind, cc, n, length;
    u8 bytes[60];
};

struct sequence {
    bool code64;
    u16 start;        /* offset of the first byte in the code */
    unsigned count;
    struct piece piece[SEQUENCE_MAX];
};

/* Where code, data and counters lie in the guest. */
struct sequence_place {
    bool code16;         /* what is not 64-bit is 16-bit code, all of it below 64 KiB */
    u32 code, data, data_size, counters; /* counters: room for 64 quadwords */
    const struct feature_set *features;
    /* Or NULL: other addresses for half of the memory operands; a piece of its own now and then. */
    u64 (*address)(struct rng *rng, bool code64);
    void (*piece)(struct rng *rng, bool code64, struct piece *p);
};

void sequence_random(struct sequence *s, struct rng *rng, const struct sequence_place *place,
                     bool code64, unsigned count);
/* Into SEQUENCE_CODE bytes, the rest HLT. Returns the entry's offset; the code is run over again
 * TURNS times. */
unsigned sequence_assemble(const struct sequence *s, const struct sequence_place *place,
                           unsigned turns, u8 *code);
/* The smallest sequence found for which FAILS still holds; S becomes it. */
void sequence_shrink(struct sequence *s, bool (*fails)(void *opaque, const struct sequence *s),
                     void *opaque);
void sequence_print(const struct sequence *s, const struct sequence_place *place, unsigned turns);

#endif
