/*
 * Rearranging elements within 16-byte lanes: unpack, pack, shuffle, align, widen, blend, insert,
 * extract.
 *
 * Specification: Intel SDM vol. 2. What crosses lanes is in avx.c.
 */
#include "cpu/simd.h"

/* MMX registers are one short lane. */
#define LANE_BYTES(bytes) ((bytes) == 8 ? 8u : 16u)

/* --- unpack: elements of x and y in turn, from the low or high half of each lane --- */
#define UNPACK(NAME, lane, type, high)                                                             \
    static ALWAYS_INLINE void each_##NAME(union vec *r, const union vec *x, const union vec *y,    \
                                          unsigned bytes)                                          \
    {                                                                                              \
        const unsigned count = LANE_BYTES(bytes) / sizeof(type), half = count / 2;                 \
        for (unsigned base = 0; base < bytes / sizeof(type); base += count)                        \
            for (unsigned i = 0; i < half; i++) {                                                  \
                lane(r, base + 2 * i) = lane(x, base + (high) * half + i);                         \
                lane(r, base + 2 * i + 1) = lane(y, base + (high) * half + i);                     \
            }                                                                                      \
    }
#define UNPACK_HIGH(NAME, lane, type)                                                              \
    UNPACK(NAME, lane, type, 1)                                                                    \
    SIMD_SEM(NAME, simd_binary, each_##NAME)
#define UNPACK_LOW(NAME, lane, type)                                                               \
    UNPACK(NAME, lane, type, 0)                                                                    \
    SIMD_SEM(NAME, unpack_low, each_##NAME)

/* The MMX forms touch only four bytes of memory. */
static ALWAYS_INLINE bool unpack_low(struct vcpu *cpu, const struct insn *insn, simd_fn2 fn)
{
    if (likely(!simd_is_mmx(insn))) return simd_binary(cpu, insn, fn);
    union vec tx, ty, r;
    const union vec *y = vec_source(cpu, insn, 2, 4, &ty);
    TRY(y);
    const union vec *x = vec_source(cpu, insn, 1, 8, &tx);
    TRY(x);
    fn(&r, x, y, 8);
    mmx_write(cpu, insn->operand[0].reg, r.q[0]);
    return true;
}

// clang-format off
UNPACK_LOW(PUNPCKLBW, vec_b, u8)
UNPACK_LOW(PUNPCKLWD, vec_w, u16)
UNPACK_LOW(PUNPCKLDQ, vec_d, u32)
UNPACK_HIGH(PUNPCKHBW, vec_b, u8)
UNPACK_HIGH(PUNPCKHWD, vec_w, u16)
UNPACK_HIGH(PUNPCKHDQ, vec_d, u32)
// clang-format on

static ALWAYS_INLINE void each_PUNPCKLQDQ(union vec *r, const union vec *x, const union vec *y,
                                          unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 8; i++) vec_q(r, i) = i & 1 ? vec_q(y, i & ~1u) : vec_q(x, i);
}
static ALWAYS_INLINE void each_PUNPCKHQDQ(union vec *r, const union vec *x, const union vec *y,
                                          unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 8; i++) vec_q(r, i) = i & 1 ? vec_q(y, i) : vec_q(x, i | 1);
}
// clang-format off
SIMD_SEM(PUNPCKLQDQ, simd_binary, each_PUNPCKLQDQ)
SIMD_SEM(PUNPCKHQDQ, simd_binary, each_PUNPCKHQDQ)
SIMD_SEM(UNPCKLPS, simd_binary, each_PUNPCKLDQ)
SIMD_SEM(UNPCKHPS, simd_binary, each_PUNPCKHDQ)
SIMD_SEM(UNPCKLPD, simd_binary, each_PUNPCKLQDQ)
SIMD_SEM(UNPCKHPD, simd_binary, each_PUNPCKHQDQ)
// clang-format on

/* --- pack: x into the lower half of each lane, y into the upper, saturated --- */
#define PACK(NAME, to, from, type, narrow)                                                         \
    static ALWAYS_INLINE void each_##NAME(union vec *r, const union vec *x, const union vec *y,    \
                                          unsigned bytes)                                          \
    {                                                                                              \
        const unsigned half = LANE_BYTES(bytes) / sizeof(type);                                    \
        for (unsigned base = 0; base < bytes / sizeof(type); base += half)                         \
            for (unsigned i = 0; i < half; i++) {                                                  \
                to(r, base * 2 + i) = narrow((type)from(x, base + i));                             \
                to(r, base * 2 + half + i) = narrow((type)from(y, base + i));                      \
            }                                                                                      \
    }                                                                                              \
    SIMD_SEM(NAME, simd_binary, each_##NAME)

// clang-format off
PACK(PACKSSWB, vec_b, vec_w, i16, sat_i8)
PACK(PACKUSWB, vec_b, vec_w, i16, sat_u8)
PACK(PACKSSDW, vec_w, vec_d, i32, sat_i16)
PACK(PACKUSDW, vec_w, vec_d, i32, sat_u16)
// clang-format on

/* --- shuffles --- */
static ALWAYS_INLINE void each_PSHUFB(union vec *r, const union vec *x, const union vec *y,
                                      unsigned bytes)
{
    const unsigned mask = LANE_BYTES(bytes) - 1;
    for (unsigned i = 0; i < bytes; i++) {
        u8 k = vec_b(y, i);
        vec_b(r, i) = k & 0x80 ? 0 : vec_b(x, (i & ~mask) | (k & mask));
    }
}
SIMD_SEM(PSHUFB, simd_binary, each_PSHUFB)

static ALWAYS_INLINE void each_PSHUFD(union vec *r, const union vec *x, unsigned imm,
                                      unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 4; i++)
        vec_d(r, i) = vec_d(x, (i & ~3u) | (imm >> 2 * (i & 3) & 3));
}
SIMD_SEM(PSHUFD, simd_unary_imm, each_PSHUFD)

/* WHICH: the quadwords of each pair that are shuffled, bit 0 the low one. */
static ALWAYS_INLINE void shuffle_words(union vec *r, const union vec *x, unsigned imm,
                                        unsigned bytes, unsigned which)
{
    for (unsigned i = 0; i < bytes / 2; i++) {
        bool shuffled = which >> (i >> 2 & 1) & 1;
        vec_w(r, i) = vec_w(x, shuffled ? (i & ~3u) | (imm >> 2 * (i & 3) & 3) : i);
    }
}
static ALWAYS_INLINE void each_PSHUFW(union vec *r, const union vec *x, unsigned imm,
                                      unsigned bytes)
{
    shuffle_words(r, x, imm, bytes, 3);
}
static ALWAYS_INLINE void each_PSHUFLW(union vec *r, const union vec *x, unsigned imm,
                                       unsigned bytes)
{
    shuffle_words(r, x, imm, bytes, 1);
}
static ALWAYS_INLINE void each_PSHUFHW(union vec *r, const union vec *x, unsigned imm,
                                       unsigned bytes)
{
    shuffle_words(r, x, imm, bytes, 2);
}
// clang-format off
SIMD_SEM(PSHUFW, simd_unary_imm, each_PSHUFW)
SIMD_SEM(PSHUFLW, simd_unary_imm, each_PSHUFLW)
SIMD_SEM(PSHUFHW, simd_unary_imm, each_PSHUFHW)
// clang-format on

static ALWAYS_INLINE void each_SHUFPS(union vec *r, const union vec *x, const union vec *y,
                                      unsigned imm, unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 4; i++)
        vec_d(r, i) = vec_d(i & 2 ? y : x, (i & ~3u) | (imm >> 2 * (i & 3) & 3));
}
SIMD_SEM(SHUFPS, simd_binary_imm, each_SHUFPS)

static ALWAYS_INLINE void each_SHUFPD(union vec *r, const union vec *x, const union vec *y,
                                      unsigned imm, unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 8; i++)
        vec_q(r, i) = vec_q(i & 1 ? y : x, (i & ~1u) | (imm >> i & 1));
}
SIMD_SEM(SHUFPD, simd_binary_imm, each_SHUFPD)

static ALWAYS_INLINE void each_PALIGNR(union vec *r, const union vec *x, const union vec *y,
                                       unsigned imm, unsigned bytes)
{
    const unsigned size = LANE_BYTES(bytes);
    for (unsigned lane = 0; lane < bytes; lane += size)
        for (unsigned i = 0; i < size; i++) {
            unsigned k = i + imm;
            vec_b(r, lane + i) = k < size ? vec_b(y, lane + k)
                                 : k < 2 * size ? vec_b(x, lane + k - size) : 0;
        }
}
SIMD_SEM(PALIGNR, simd_binary_imm, each_PALIGNR)

/* --- widening: the source is a fraction of the destination's length --- */
#define WIDEN(NAME, to, from, type, ratio)                                                         \
    static ALWAYS_INLINE void each_##NAME(union vec *r, const union vec *x, unsigned bytes)        \
    {                                                                                              \
        for (unsigned i = 0; i < bytes / (sizeof(type) * (ratio)); i++)                            \
            to(r, i) = (u64)(i64)(type)from(x, i);                                                 \
    }                                                                                              \
    bool sem_##NAME(struct vcpu *cpu, const struct insn *insn)                                     \
    {                                                                                              \
        return simd_widen(cpu, insn, each_##NAME, ratio);                                          \
    }

static ALWAYS_INLINE bool simd_widen(struct vcpu *cpu, const struct insn *insn, simd_fn1 fn,
                                     unsigned ratio)
{
    union vec tmp, r;
    const union vec *x = &tmp;
    if (insn->operand[1].kind == OPERAND_VECTOR) {
        x = cpu_vec(cpu, insn->operand[1].reg);
    } else if (insn->vl / ratio == 2) {
        u64 value;
        TRY(mem_read(cpu, insn, 2, &value));
        tmp.q[0] = value;
    } else {
        TRY(mem_read_vec(cpu, insn, &tmp, insn->vl / ratio, 0));
    }
    if (insn->vl == 32) fn(&r, x, 32);
    else fn(&r, x, 16);
    return vec_result(cpu, insn, &r);
}

// clang-format off
WIDEN(PMOVSXBW, vec_w, vec_b, i8, 2)
WIDEN(PMOVSXBD, vec_d, vec_b, i8, 4)
WIDEN(PMOVSXBQ, vec_q, vec_b, i8, 8)
WIDEN(PMOVSXWD, vec_d, vec_w, i16, 2)
WIDEN(PMOVSXWQ, vec_q, vec_w, i16, 4)
WIDEN(PMOVSXDQ, vec_q, vec_d, i32, 2)
WIDEN(PMOVZXBW, vec_w, vec_b, u8, 2)
WIDEN(PMOVZXBD, vec_d, vec_b, u8, 4)
WIDEN(PMOVZXBQ, vec_q, vec_b, u8, 8)
WIDEN(PMOVZXWD, vec_d, vec_w, u16, 2)
WIDEN(PMOVZXWQ, vec_q, vec_w, u16, 4)
WIDEN(PMOVZXDQ, vec_q, vec_d, u32, 2)
// clang-format on

/* --- blends --- */
#define BLEND(NAME, lane, type, bits)                                                              \
    static ALWAYS_INLINE void each_##NAME(union vec *r, const union vec *x, const union vec *y,    \
                                          unsigned imm, unsigned bytes)                            \
    {                                                                                              \
        for (unsigned i = 0; i < bytes / sizeof(type); i++)                                        \
            lane(r, i) = imm >> (i % (bits)) & 1 ? lane(y, i) : lane(x, i);                        \
    }                                                                                              \
    SIMD_SEM(NAME, simd_binary_imm, each_##NAME)

/* By the top bit of each element of operand 3. */
#define BLEND_VARIABLE(NAME, lane, type)                                                           \
    static ALWAYS_INLINE void each_##NAME(union vec *r, const union vec *x, const union vec *y,    \
                                          const union vec *mask, unsigned bytes)                   \
    {                                                                                              \
        for (unsigned i = 0; i < bytes / sizeof(type); i++)                                        \
            lane(r, i) = (type)lane(mask, i) < 0 ? lane(y, i) : lane(x, i);                        \
    }                                                                                              \
    bool sem_##NAME(struct vcpu *cpu, const struct insn *insn)                                     \
    {                                                                                              \
        union vec tmp, r;                                                                          \
        const union vec *y = vec_source(cpu, insn, 2, insn->vl, &tmp);                             \
        TRY(y);                                                                                    \
        const union vec *x = cpu_vec(cpu, insn->operand[1].reg);                                   \
        const union vec *mask = cpu_vec(cpu, insn->operand[3].reg);                                \
        if (insn->vl == 32) each_##NAME(&r, x, y, mask, 32);                                       \
        else each_##NAME(&r, x, y, mask, 16);                                                      \
        return vec_result(cpu, insn, &r);                                                          \
    }

// clang-format off
BLEND(BLENDPS, vec_d, u32, 8)
BLEND(BLENDPD, vec_q, u64, 8)
BLEND(PBLENDW, vec_w, u16, 8)
BLEND(VPBLENDD, vec_d, u32, 8)
BLEND_VARIABLE(BLENDVPS, vec_d, i32)
BLEND_VARIABLE(BLENDVPD, vec_q, i64)
BLEND_VARIABLE(PBLENDVB, vec_b, i8)
// clang-format on

/* --- inserting one element --- */
static ALWAYS_INLINE bool simd_insert(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    const struct operand *from = &insn->operand[2];
    u64 value;
    if (from->kind == OPERAND_MEMORY) TRY(mem_read(cpu, insn, size, &value));
    else value = cpu->regs[from->reg];
    unsigned at = simd_imm8(insn);
    union vec r;
    if (simd_is_mmx(insn)) {
        r.q[0] = cpu->fpu_mantissa[insn->operand[1].reg & 7];
        vec_w(&r, at & 3) = (u16)value;
        mmx_write(cpu, insn->operand[0].reg, r.q[0]);
        return true;
    }
    r = *cpu_vec(cpu, insn->operand[1].reg);
    switch (size) {
    case 1: vec_b(&r, at & 15) = (u8)value; break;
    case 2: vec_w(&r, at & 7) = (u16)value; break;
    case 4: vec_d(&r, at & 3) = (u32)value; break;
    default: vec_q(&r, at & 1) = value; break;
    }
    xmm_write(cpu, insn, insn->operand[0].reg, 16, &r);
    return true;
}
// clang-format off
SIMD_SEM(PINSRB, simd_insert, 1)
SIMD_SEM(PINSRW, simd_insert, 2)
SIMD_SEM(PINSRD, simd_insert, 4)
SIMD_SEM(PINSRQ, simd_insert, 8)
// clang-format on

bool sem_INSERTPS(struct vcpu *cpu, const struct insn *insn)
{
    unsigned imm = simd_imm8(insn);
    u64 value;
    if (insn->operand[2].kind == OPERAND_MEMORY) TRY(mem_read(cpu, insn, 4, &value));
    else value = vec_d(cpu_vec(cpu, insn->operand[2].reg), imm >> 6);
    union vec r = *cpu_vec(cpu, insn->operand[1].reg);
    vec_d(&r, imm >> 4 & 3) = (u32)value;
    for (unsigned i = 0; i < 4; i++)
        if (imm >> i & 1) vec_d(&r, i) = 0;
    xmm_write(cpu, insn, insn->operand[0].reg, 16, &r);
    return true;
}

/* --- extracting one element: to memory as it is, to a register zero-extended --- */
static ALWAYS_INLINE bool simd_extract(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    const struct operand *to = &insn->operand[0], *from = &insn->operand[1];
    unsigned at = simd_imm8(insn);
    union vec x;
    u64 value;
    bool mmx = from->kind == OPERAND_MMX;
    if (mmx) x.q[0] = cpu->fpu_mantissa[from->reg & 7];
    else x = *cpu_vec(cpu, from->reg);
    switch (size) {
    case 1: value = vec_b(&x, at & 15); break;
    case 2: value = vec_w(&x, at & (mmx ? 3 : 7)); break;
    case 4: value = vec_d(&x, at & 3); break;
    default: value = vec_q(&x, at & 1); break;
    }
    if (to->kind == OPERAND_MEMORY) return mem_write(cpu, insn, size, value);
    cpu->regs[to->reg] = value;
    if (mmx) mmx_enter(cpu);
    return true;
}
// clang-format off
SIMD_SEM(PEXTRB, simd_extract, 1)
SIMD_SEM(PEXTRW, simd_extract, 2)
SIMD_SEM(PEXTRD, simd_extract, 4)
SIMD_SEM(PEXTRQ, simd_extract, 8)
SIMD_SEM(EXTRACTPS, simd_extract, 4)
// clang-format on
