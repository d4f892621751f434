/*
 * Packed shifts: by one count (register, memory or immediate), by bytes, and by a count per
 * element.
 *
 * Specification: Intel SDM vol. 2 (PSLLW to PSRLDQ, VPSLLVD to VPSRAVD).
 */
#include "cpu/simd.h"

typedef void (*shift_fn)(union vec *r, const union vec *x, unsigned count, unsigned bytes);

/* COUNT is the width of an element or more when everything is to be shifted out. */
#define SHIFT(NAME, lane, type, limit, expression)                                                 \
    static ALWAYS_INLINE void each_##NAME(union vec *r, const union vec *x, unsigned count,        \
                                          unsigned bytes)                                          \
    {                                                                                              \
        const unsigned width = sizeof(type) * 8;                                                   \
        bool out = count >= width;                                                                 \
        unsigned n = out ? width - 1 : count;                                                      \
        for (unsigned i = 0; i < bytes / sizeof(type); i++) {                                      \
            type a = (type)lane(x, i);                                                             \
            lane(r, i) = (expression);                                                             \
        }                                                                                          \
        if (out && (limit))                                                                        \
            for (unsigned i = 0; i < bytes / 8; i++) r->q[i] = 0;                                  \
    }                                                                                              \
    bool sem_##NAME(struct vcpu *cpu, const struct insn *insn)                                     \
    {                                                                                              \
        return shift_by_one_count(cpu, insn, each_##NAME);                                         \
    }

static ALWAYS_INLINE bool shift_by_one_count(struct vcpu *cpu, const struct insn *insn, shift_fn fn)
{
    union vec tx, ty, r;
    u64 wide;
    if (insn->operand[2].kind == OPERAND_IMMEDIATE) {
        wide = simd_imm8(insn);
    } else {
        /* The count is the low quadword, but 16 bytes are read whatever the destination's length.
         */
        const union vec *y = vec_source(cpu, insn, 2, simd_is_mmx(insn) ? 8 : 16, &ty);
        TRY(y);
        wide = y->q[0];
    }
    const union vec *x = vec_source(cpu, insn, 1, insn->vl, &tx);
    TRY(x);
    unsigned count = wide > 255 ? 255 : (unsigned)wide;
    SIMD_DELIVER(cpu, insn, fn, &r, x, count);
}

// clang-format off
SHIFT(PSLLW, vec_w, u16, true, (u32)a << n)
SHIFT(PSLLD, vec_d, u32, true, a << n)
SHIFT(PSLLQ, vec_q, u64, true, a << n)
SHIFT(PSRLW, vec_w, u16, true, a >> n)
SHIFT(PSRLD, vec_d, u32, true, a >> n)
SHIFT(PSRLQ, vec_q, u64, true, a >> n)
SHIFT(PSRAW, vec_w, i16, false, a >> n)
SHIFT(PSRAD, vec_d, i32, false, a >> n)

SIMD_BINARY(VPSLLVD, vec_d, u32, b < 32 ? a << (b & 31) : 0)
SIMD_BINARY(VPSLLVQ, vec_q, u64, b < 64 ? a << (b & 63) : 0)
SIMD_BINARY(VPSRLVD, vec_d, u32, b < 32 ? a >> (b & 31) : 0)
SIMD_BINARY(VPSRLVQ, vec_q, u64, b < 64 ? a >> (b & 63) : 0)
SIMD_BINARY(VPSRAVD, vec_d, i32, a >> ((u32)b < 32 ? b : 31))
// clang-format on

/* --- whole 16-byte lanes by bytes --- */
static ALWAYS_INLINE void each_PSLLDQ(union vec *r, const union vec *x, unsigned imm,
                                      unsigned bytes)
{
    for (unsigned lane = 0; lane < bytes; lane += 16)
        for (unsigned i = 0; i < 16; i++)
            vec_b(r, lane + i) = i < imm ? 0 : vec_b(x, lane + ((i - imm) & 15));
}
SIMD_SEM(PSLLDQ, simd_unary_imm, each_PSLLDQ)

static ALWAYS_INLINE void each_PSRLDQ(union vec *r, const union vec *x, unsigned imm,
                                      unsigned bytes)
{
    for (unsigned lane = 0; lane < bytes; lane += 16)
        for (unsigned i = 0; i < 16; i++)
            vec_b(r, lane + i) = i + imm > 15 ? 0 : vec_b(x, lane + ((i + imm) & 15));
}
SIMD_SEM(PSRLDQ, simd_unary_imm, each_PSRLDQ)
