/*
 * Packed integer arithmetic, comparison and logic: MMX, SSE2 to SSE4.2, AVX, AVX2; and PTEST.
 *
 * Specification: Intel SDM vol. 2. Each operation is written once, over elements.
 */
#include "cpu/simd.h"

// clang-format off
#define PACKED(NAME, lane, type, expression) SIMD_BINARY(NAME, lane, type, expression)
#define PACKED_SAME(NAME, AS) SIMD_SEM(NAME, simd_binary, each_##AS)
#include "cpu/simd_int.def"
#undef PACKED
#undef PACKED_SAME

SIMD_UNARY(PABSB, vec_b, i8, a < 0 ? -a : a)
SIMD_UNARY(PABSW, vec_w, i16, a < 0 ? -a : a)
SIMD_UNARY(PABSD, vec_d, i32, a < 0 ? 0u - (u32)a : (u32)a)
// clang-format on

/* --- sums of products --- */
static ALWAYS_INLINE void each_PMADDWD(union vec *r, const union vec *x, const union vec *y,
                                       unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 4; i++) {
        u32 low = (u32)((i16)vec_w(x, 2 * i) * (i16)vec_w(y, 2 * i));
        u32 high = (u32)((i16)vec_w(x, 2 * i + 1) * (i16)vec_w(y, 2 * i + 1));
        vec_d(r, i) = low + high; /* 8000h * 8000h twice wraps to 80000000h */
    }
}
SIMD_SEM(PMADDWD, simd_binary, each_PMADDWD)

static ALWAYS_INLINE void each_PMADDUBSW(union vec *r, const union vec *x, const union vec *y,
                                         unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 2; i++)
        vec_w(r, i) = sat_i16(vec_b(x, 2 * i) * (i8)vec_b(y, 2 * i) +
                              vec_b(x, 2 * i + 1) * (i8)vec_b(y, 2 * i + 1));
}
SIMD_SEM(PMADDUBSW, simd_binary, each_PMADDUBSW)

static ALWAYS_INLINE void each_PSADBW(union vec *r, const union vec *x, const union vec *y,
                                      unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 8; i++) {
        u64 sum = 0;
        for (unsigned k = i * 8; k < i * 8 + 8; k++) {
            int d = vec_b(x, k) - vec_b(y, k);
            sum += (u64)(d < 0 ? -d : d);
        }
        vec_q(r, i) = sum;
    }
}
SIMD_SEM(PSADBW, simd_binary, each_PSADBW)

static ALWAYS_INLINE void each_MPSADBW(union vec *r, const union vec *x, const union vec *y,
                                       unsigned imm, unsigned bytes)
{
    for (unsigned lane = 0; lane < bytes; lane += 16, imm >>= 3) {
        unsigned from = lane + (imm & 4), with = lane + (imm & 3) * 4;
        for (unsigned i = 0; i < 8; i++) {
            unsigned sum = 0;
            for (unsigned k = 0; k < 4; k++) {
                int d = vec_b(x, from + i + k) - vec_b(y, with + k);
                sum += (unsigned)(d < 0 ? -d : d);
            }
            vec_w(r, lane / 2 + i) = (u16)sum;
        }
    }
}
SIMD_SEM(MPSADBW, simd_binary_imm, each_MPSADBW)

/* --- horizontal: pairs of x, then pairs of y, within each 16-byte lane (8 for MMX) --- */
#define HORIZONTAL(NAME, lane, type, expression)                                                   \
    static ALWAYS_INLINE void each_##NAME(union vec *r, const union vec *x, const union vec *y,    \
                                          unsigned bytes)                                          \
    {                                                                                              \
        const unsigned count = (bytes == 8 ? 8 : 16) / sizeof(type), half = count / 2;             \
        for (unsigned base = 0; base < bytes / sizeof(type); base += count)                        \
            for (unsigned i = 0; i < count; i++) {                                                 \
                const union vec *from = i < half ? x : y;                                          \
                unsigned k = base + 2 * (i % half);                                                \
                type a = (type)lane(from, k), b = (type)lane(from, k + 1);                         \
                lane(r, base + i) = (expression);                                                  \
            }                                                                                      \
    }                                                                                              \
    SIMD_SEM(NAME, simd_binary, each_##NAME)

// clang-format off
HORIZONTAL(PHADDW, vec_w, u16, a + b)
HORIZONTAL(PHADDD, vec_d, u32, a + b)
HORIZONTAL(PHADDSW, vec_w, i16, sat_i16(a + b))
HORIZONTAL(PHSUBW, vec_w, u16, a - b)
HORIZONTAL(PHSUBD, vec_d, u32, a - b)
HORIZONTAL(PHSUBSW, vec_w, i16, sat_i16(a - b))
// clang-format on

bool sem_PHMINPOSUW(struct vcpu *cpu, const struct insn *insn)
{
    union vec tmp, r = {{0}};
    const union vec *x = vec_source(cpu, insn, 1, 16, &tmp);
    TRY(x);
    unsigned at = 0;
    for (unsigned i = 1; i < 8; i++)
        if (vec_w(x, i) < vec_w(x, at)) at = i;
    vec_w(&r, 0) = vec_w(x, at);
    vec_w(&r, 1) = (u16)at;
    return vec_result(cpu, insn, &r);
}

/* --- tests: ZF and CF say whether (a & b) and (~a & b) are all zero in the bits of MASK --- */
static ALWAYS_INLINE bool simd_test(struct vcpu *cpu, const struct insn *insn, u64 mask)
{
    union vec tmp;
    const union vec *y = vec_source(cpu, insn, 1, insn->vl, &tmp);
    TRY(y);
    const union vec *x = cpu_vec(cpu, insn->operand[0].reg);
    u64 both = 0, only = 0;
    for (unsigned i = 0; i < insn->vl / 8u; i++) {
        both |= x->q[i] & y->q[i];
        only |= ~x->q[i] & y->q[i];
    }
    flags_put(cpu, (both & mask ? 0 : FLAG_ZF) | (only & mask ? 0 : FLAG_CF));
    return true;
}
// clang-format off
SIMD_SEM(PTEST, simd_test, ~0ull)
SIMD_SEM(VTESTPS, simd_test, 0x8000000080000000ull)
SIMD_SEM(VTESTPD, simd_test, 1ull << 63)
// clang-format on
