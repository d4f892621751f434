/*
 * Random encodings of a row of insns.def, in 64-bit mode: what the native differential test (and
 * any other generator of code) is fed from.
 */
#ifndef TESTS_INSN_ENCODE_H
#define TESTS_INSN_ENCODE_H

#include "cpu/insn.h"

struct rng {
    u64 state;
};
static inline u64 rng_next(struct rng *rng)
{
    u64 z = rng->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
static inline unsigned rng_below(struct rng *rng, unsigned n)
{
    return (unsigned)(rng_next(rng) >> 33) % n;
}

/* A row's columns, as text. */
struct encoding {
    unsigned row;
    enum { ENCODING_INSN, ENCODING_X87, ENCODING_GROUP7 } kind;
    const char *map, *opcode, *prefix, *reg, *mod, *w;
};
extern const struct encoding encodings[];
extern const unsigned encodings_count;

struct encoded {
    u8 bytes[32];
    unsigned length; /* as written; may be more than 15 */
    int disp_at;     /* of a 4-byte displacement, or -1 */
};

/* Random registers, memory form (small displacements), immediates, prefixes that mean something. */
void encode_random(struct rng *rng, const struct encoding *encoding, struct encoded *to);

#endif
