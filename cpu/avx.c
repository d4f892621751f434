/*
 * What only AVX and AVX2 have: broadcasts, permutations across lanes, masked moves, gathers,
 * VZERO*.
 *
 * Specification: Intel SDM vol. 2. The VEX forms of older operations are in simd_*.c.
 */
#include "cpu/simd.h"

/* --- broadcast of the lowest element --- */
static ALWAYS_INLINE bool broadcast(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    union vec r;
    u64 value;
    if (insn->operand[1].kind == OPERAND_MEMORY) TRY(mem_read(cpu, insn, size, &value));
    else value = vec_element(cpu_vec(cpu, insn->operand[1].reg), 0, size);
    for (unsigned width = size; width < 8; width *= 2)
        value = (value & size_mask(width)) | value << width * 8;
    for (unsigned i = 0; i < 4; i++) r.q[i] = value;
    return vec_result(cpu, insn, &r);
}
// clang-format off
SIMD_SEM(VBROADCASTSS, broadcast, 4)
SIMD_SEM(VBROADCASTSD, broadcast, 8)
SIMD_SEM(VPBROADCASTB, broadcast, 1)
SIMD_SEM(VPBROADCASTW, broadcast, 2)
SIMD_SEM(VPBROADCASTD, broadcast, 4)
SIMD_SEM(VPBROADCASTQ, broadcast, 8)
// clang-format on

static bool broadcast_128(struct vcpu *cpu, const struct insn *insn)
{
    union vec r;
    TRY(mem_read_vec(cpu, insn, &r, 16, 0));
    r.q[2] = r.q[0];
    r.q[3] = r.q[1];
    return vec_result(cpu, insn, &r);
}
bool sem_VBROADCASTF128(struct vcpu *cpu, const struct insn *insn)
{
    return broadcast_128(cpu, insn);
}
bool sem_VBROADCASTI128(struct vcpu *cpu, const struct insn *insn)
{
    return broadcast_128(cpu, insn);
}

/* --- 128-bit halves --- */
static bool extract_128(struct vcpu *cpu, const struct insn *insn)
{
    const union vec *x = cpu_vec(cpu, insn->operand[1].reg);
    unsigned half = insn->imm & 1;
    union vec r;
    r.q[0] = x->q[half * 2];
    r.q[1] = x->q[half * 2 + 1];
    if (insn->operand[0].kind == OPERAND_MEMORY) return mem_write_vec(cpu, insn, &r, 16, 0);
    xmm_write(cpu, insn, insn->operand[0].reg, 16, &r);
    return true;
}
bool sem_VEXTRACTF128(struct vcpu *cpu, const struct insn *insn) { return extract_128(cpu, insn); }
bool sem_VEXTRACTI128(struct vcpu *cpu, const struct insn *insn) { return extract_128(cpu, insn); }

static bool insert_128(struct vcpu *cpu, const struct insn *insn)
{
    union vec tmp;
    const union vec *y = vec_source(cpu, insn, 2, 16, &tmp);
    TRY(y);
    unsigned half = insn->imm & 1;
    union vec r = *cpu_vec(cpu, insn->operand[1].reg);
    r.q[half * 2] = y->q[0];
    r.q[half * 2 + 1] = y->q[1];
    return vec_result(cpu, insn, &r);
}
bool sem_VINSERTF128(struct vcpu *cpu, const struct insn *insn) { return insert_128(cpu, insn); }
bool sem_VINSERTI128(struct vcpu *cpu, const struct insn *insn) { return insert_128(cpu, insn); }

static bool permute_128(struct vcpu *cpu, const struct insn *insn)
{
    union vec tmp, r;
    const union vec *y = vec_source(cpu, insn, 2, 32, &tmp);
    TRY(y);
    const union vec *x = cpu_vec(cpu, insn->operand[1].reg);
    unsigned imm = simd_imm8(insn);
    for (unsigned half = 0; half < 2; half++, imm >>= 4) {
        const union vec *from = imm & 2 ? y : x;
        for (unsigned i = 0; i < 2; i++)
            r.q[half * 2 + i] = imm & 8 ? 0 : from->q[(imm & 1) * 2 + i];
    }
    return vec_result(cpu, insn, &r);
}
bool sem_VPERM2F128(struct vcpu *cpu, const struct insn *insn) { return permute_128(cpu, insn); }
bool sem_VPERM2I128(struct vcpu *cpu, const struct insn *insn) { return permute_128(cpu, insn); }

/* --- permutations --- */
static ALWAYS_INLINE void each_VPERMILPS(union vec *r, const union vec *x, const union vec *y,
                                         unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 4; i++) vec_d(r, i) = vec_d(x, (i & ~3u) | (vec_d(y, i) & 3));
}
static ALWAYS_INLINE void each_VPERMILPS_imm(union vec *r, const union vec *x, unsigned imm,
                                             unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 4; i++)
        vec_d(r, i) = vec_d(x, (i & ~3u) | (imm >> 2 * (i & 3) & 3));
}
bool sem_VPERMILPS(struct vcpu *cpu, const struct insn *insn)
{
    if (insn->operand[2].kind == OPERAND_IMMEDIATE)
        return simd_unary_imm(cpu, insn, each_VPERMILPS_imm);
    return simd_binary(cpu, insn, each_VPERMILPS);
}

static ALWAYS_INLINE void each_VPERMILPD(union vec *r, const union vec *x, const union vec *y,
                                         unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 8; i++)
        vec_q(r, i) = vec_q(x, (i & ~1u) | (unsigned)(vec_q(y, i) >> 1 & 1));
}
static ALWAYS_INLINE void each_VPERMILPD_imm(union vec *r, const union vec *x, unsigned imm,
                                             unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 8; i++) vec_q(r, i) = vec_q(x, (i & ~1u) | (imm >> i & 1));
}
bool sem_VPERMILPD(struct vcpu *cpu, const struct insn *insn)
{
    if (insn->operand[2].kind == OPERAND_IMMEDIATE)
        return simd_unary_imm(cpu, insn, each_VPERMILPD_imm);
    return simd_binary(cpu, insn, each_VPERMILPD);
}

/* Operand 1 holds the indices, operand 2 what they choose from. */
static bool permute_dwords(struct vcpu *cpu, const struct insn *insn)
{
    union vec tmp, r;
    const union vec *from = vec_source(cpu, insn, 2, 32, &tmp);
    TRY(from);
    const union vec *index = cpu_vec(cpu, insn->operand[1].reg);
    for (unsigned i = 0; i < 8; i++) vec_d(&r, i) = vec_d(from, vec_d(index, i) & 7);
    return vec_result(cpu, insn, &r);
}
bool sem_VPERMD(struct vcpu *cpu, const struct insn *insn) { return permute_dwords(cpu, insn); }
bool sem_VPERMPS(struct vcpu *cpu, const struct insn *insn) { return permute_dwords(cpu, insn); }

static bool permute_qwords(struct vcpu *cpu, const struct insn *insn)
{
    union vec tmp, r;
    const union vec *from = vec_source(cpu, insn, 1, 32, &tmp);
    TRY(from);
    for (unsigned i = 0; i < 4; i++) r.q[i] = from->q[insn->imm >> 2 * i & 3];
    return vec_result(cpu, insn, &r);
}
bool sem_VPERMQ(struct vcpu *cpu, const struct insn *insn) { return permute_qwords(cpu, insn); }
bool sem_VPERMPD(struct vcpu *cpu, const struct insn *insn) { return permute_qwords(cpu, insn); }

/* --- masked moves: operand 1 is the mask; elements whose top bit is clear are not touched --- */
static ALWAYS_INLINE bool masked_move(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    const union vec *mask = cpu_vec(cpu, insn->operand[1].reg);
    unsigned count = insn->vl / size;
    u32 selected = 0;
    for (unsigned i = 0; i < count; i++)
        selected |= (u32)(vec_element(mask, i, size) >> (size * 8 - 1)) << i;
    bool all = selected == (1u << count) - 1;
    if (insn->operand[0].kind == OPERAND_MEMORY) {
        const union vec *from = cpu_vec(cpu, insn->operand[2].reg);
        if (all) return mem_write_vec(cpu, insn, from, insn->vl, 0);
        return vec_store_selected(cpu, insn, from, selected, size, count);
    }
    union vec r;
    if (all) TRY(mem_read_vec(cpu, insn, &r, insn->vl, 0));
    else TRY(vec_load_selected(cpu, insn, &r, selected, size, count));
    return vec_result(cpu, insn, &r);
}
// clang-format off
SIMD_SEM(VMASKMOVPS, masked_move, 4)
SIMD_SEM(VMASKMOVPD, masked_move, 8)
SIMD_SEM(VPMASKMOVD, masked_move, 4)
SIMD_SEM(VPMASKMOVQ, masked_move, 8)
// clang-format on

/*
 * --- gathers ---
 * Elements are fetched from the lowest up; each one done is in the destination and out of the mask,
 * so that after a fault the instruction goes on where it stopped.
 */
static ALWAYS_INLINE bool gather(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                 unsigned index_size)
{
    unsigned to = insn->operand[0].reg, by = insn->operand[2].reg, at = insn->operand[3].reg;
    if (to == by || to == at || by == at) return cpu_ud(cpu);
    unsigned count = insn->vl / (size > index_size ? size : index_size);
    union vec r = *cpu_vec(cpu, to), mask = *cpu_vec(cpu, by);
    const union vec *index = cpu_vec(cpu, at);
    u64 base = insn_ea(cpu, insn);
    for (unsigned i = 0; i < count; i++) {
        if (!(vec_element(&mask, i, size) >> (size * 8 - 1))) continue;
        i64 k = sign_extend(vec_element(index, i, index_size), index_size);
        u64 linear, value, ea = (base + ((u64)k << insn->scale)) & size_mask(insn->address_size);
        if (!seg_linear(cpu, insn->seg, ea, size, false, &linear) ||
            !lin_read(cpu, linear, size, &value)) {
            *cpu_vec(cpu, to) = r;
            *cpu_vec(cpu, by) = mask;
            return false;
        }
        vec_set_element(&r, i, size, value);
        vec_set_element(&mask, i, size, 0);
    }
    for (unsigned i = count * size / 8; i < 8; i++) r.q[i] = 0;
    *cpu_vec(cpu, to) = r;
    memset(cpu_vec(cpu, by), 0, sizeof(mask));
    return true;
}
// clang-format off
SIMD_SEM(VGATHERDPS, gather, 4, 4)
SIMD_SEM(VGATHERDPD, gather, 8, 4)
SIMD_SEM(VGATHERQPS, gather, 4, 8)
SIMD_SEM(VGATHERQPD, gather, 8, 8)
SIMD_SEM(VPGATHERDD, gather, 4, 4)
SIMD_SEM(VPGATHERDQ, gather, 8, 4)
SIMD_SEM(VPGATHERQD, gather, 4, 8)
SIMD_SEM(VPGATHERQQ, gather, 8, 8)
// clang-format on

/* --- clearing; outside 64-bit mode the upper eight registers are out of reach --- */
static bool zero_registers(struct vcpu *cpu, unsigned from_quadword)
{
    unsigned count = cpu_code64(cpu) ? 16 : 8;
    for (unsigned n = 0; n < count; n++)
        for (unsigned i = from_quadword; i < 4; i++) cpu_vec(cpu, n)->q[i] = 0; /* beyond them nobody writes */
    return true;
}
bool sem_VZEROUPPER(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return zero_registers(cpu, 2);
}
bool sem_VZEROALL(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return zero_registers(cpu, 0);
}
