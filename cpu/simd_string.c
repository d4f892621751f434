/*
 * SSE4.2 string instructions: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM.
 *
 * Specification: Intel SDM vol. 2 section 4.1. Memory operands need no alignment.
 */
#include "cpu/simd.h"

enum { AGGREGATE_ANY, AGGREGATE_RANGES, AGGREGATE_EACH, AGGREGATE_ORDERED };

struct string_compare {
    const union vec *a, *b;     /* first and second source */
    unsigned a_length, b_length;
    unsigned count;             /* elements in a register: 16 bytes or 8 words */
    bool words, is_signed;
};

static ALWAYS_INLINE int string_element(const struct string_compare *s, const union vec *v,
                                        unsigned i)
{
    if (s->words) return s->is_signed ? (i16)vec_w(v, i) : vec_w(v, i);
    return s->is_signed ? (i8)vec_b(v, i) : vec_b(v, i);
}

/* Bit j: element j of b equals one of a's. */
static u32 compare_any(const struct string_compare *s)
{
    u32 bits = 0;
    for (unsigned j = 0; j < s->b_length; j++) {
        int v = string_element(s, s->b, j);
        for (unsigned i = 0; i < s->a_length; i++)
            if (string_element(s, s->a, i) == v) {
                bits |= 1u << j;
                break;
            }
    }
    return bits;
}

/* Bit j: element j of b lies in one of a's pairs; a last element without its mate is no pair. */
static u32 compare_ranges(const struct string_compare *s)
{
    u32 bits = 0;
    for (unsigned j = 0; j < s->b_length; j++) {
        int v = string_element(s, s->b, j);
        for (unsigned i = 0; i + 1 < s->a_length; i += 2)
            if (v >= string_element(s, s->a, i) && v <= string_element(s, s->a, i + 1)) {
                bits |= 1u << j;
                break;
            }
    }
    return bits;
}

/* Bit j: the elements are equal, or both strings have ended. */
static u32 compare_each(const struct string_compare *s)
{
    u32 bits = 0;
    for (unsigned j = 0; j < s->count; j++) {
        bool in_a = j < s->a_length, in_b = j < s->b_length;
        bool same =
            in_a && in_b ? string_element(s, s->a, j) == string_element(s, s->b, j) : in_a == in_b;
        bits |= (u32)same << j;
    }
    return bits;
}

/* Bit j: a is found in b at j, as far as the register shows. */
static u32 compare_ordered(const struct string_compare *s)
{
    u32 bits = 0;
    for (unsigned j = 0; j < s->count; j++) {
        bool found = true;
        for (unsigned i = 0; found && i < s->a_length && i + j < s->count; i++)
            found = i + j < s->b_length &&
                    string_element(s, s->a, i) == string_element(s, s->b, i + j);
        bits |= (u32)found << j;
    }
    return bits;
}

static unsigned implicit_length(const struct string_compare *s, const union vec *v)
{
    unsigned i = 0;
    while (i < s->count && (s->words ? vec_w(v, i) : vec_b(v, i))) i++;
    return i;
}

/* The absolute value, no more than COUNT. REX.W makes it 64 bits. */
static unsigned explicit_length(const struct vcpu *cpu, const struct insn *insn, unsigned reg,
                                unsigned count)
{
    i64 v = insn->flags & INSN_W ? (i64)cpu->regs[reg] : (i32)cpu->regs[reg];
    u64 length = v < 0 ? 0 - (u64)v : (u64)v;
    return length > count ? count : (unsigned)length;
}

/* Runs the comparison, sets the flags and gives IntRes2. */
static bool string_compare(struct vcpu *cpu, const struct insn *insn, bool is_explicit,
                           struct string_compare *s, u32 *result)
{
    union vec tmp;
    unsigned imm = simd_imm8(insn);
    s->words = imm & 1;
    s->is_signed = imm & 2;
    s->count = s->words ? 8 : 16;
    s->a = cpu_vec(cpu, insn->operand[0].reg);
    s->b = vec_fetch_unaligned(cpu, insn, 1, 16, &tmp);
    TRY(s->b);
    s->a_length =
        is_explicit ? explicit_length(cpu, insn, RAX, s->count) : implicit_length(s, s->a);
    s->b_length =
        is_explicit ? explicit_length(cpu, insn, RDX, s->count) : implicit_length(s, s->b);
    u32 bits;
    switch (imm >> 2 & 3) {
    case AGGREGATE_ANY: bits = compare_any(s); break;
    case AGGREGATE_RANGES: bits = compare_ranges(s); break;
    case AGGREGATE_EACH: bits = compare_each(s); break;
    default: bits = compare_ordered(s); break;
    }
    if (imm & 0x10) bits ^= imm & 0x20 ? (1u << s->b_length) - 1 : (1u << s->count) - 1;
    flags_put(cpu, (bits ? FLAG_CF : 0) | (s->b_length < s->count ? FLAG_ZF : 0) |
                       (s->a_length < s->count ? FLAG_SF : 0) | (bits & 1 ? FLAG_OF : 0));
    *result = bits;
    return true;
}

static bool string_index(struct vcpu *cpu, const struct insn *insn, bool is_explicit)
{
    struct string_compare s;
    u32 bits;
    TRY(string_compare(cpu, insn, is_explicit, &s, &bits));
    unsigned index = s.count;
    if (bits)
        index = simd_imm8(insn) & 0x40 ? 31 - (unsigned)__builtin_clz(bits)
                                       : (unsigned)__builtin_ctz(bits);
    cpu->regs[RCX] = index;
    return true;
}

static bool string_mask(struct vcpu *cpu, const struct insn *insn, bool is_explicit)
{
    struct string_compare s;
    u32 bits;
    TRY(string_compare(cpu, insn, is_explicit, &s, &bits));
    union vec r = {{0}};
    if (simd_imm8(insn) & 0x40) {
        for (unsigned i = 0; i < s.count; i++)
            vec_set_element(&r, i, s.words ? 2 : 1, bits >> i & 1 ? ~0ull : 0);
    } else {
        r.q[0] = bits;
    }
    xmm_write(cpu, insn, 0, 16, &r);
    return true;
}

// clang-format off
SIMD_SEM(PCMPESTRI, string_index, true)
SIMD_SEM(PCMPISTRI, string_index, false)
SIMD_SEM(PCMPESTRM, string_mask, true)
SIMD_SEM(PCMPISTRM, string_mask, false)
// clang-format on
