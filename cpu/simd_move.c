/*
 * Vector moves: whole registers, halves, scalars, duplicates, masks, to and from general registers;
 * EMMS.
 *
 * Specification: Intel SDM vol. 2. Non-temporal hints and write combining have no effect here.
 */
#include "cpu/simd.h"

/* --- whole registers; ALIGNED: a memory operand must be aligned to its length --- */
static ALWAYS_INLINE bool move_bytes(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                     bool aligned)
{
    const struct operand *to = &insn->operand[0], *from = &insn->operand[1];
    unsigned align = aligned ? size : 0;
    if (to->kind == OPERAND_MEMORY)
        return vec_store(cpu, insn, cpu_vec(cpu, from->reg), size, align);
    union vec tmp;
    if (from->kind == OPERAND_MEMORY) TRY(vec_load(cpu, insn, &tmp, size, align));
    else tmp = *cpu_vec(cpu, from->reg);
    xmm_write(cpu, insn, to->reg, size, &tmp);
    return true;
}
static ALWAYS_INLINE bool move_whole(struct vcpu *cpu, const struct insn *insn, bool aligned)
{
    return insn->vl == 32 ? move_bytes(cpu, insn, 32, aligned) : move_bytes(cpu, insn, 16, aligned);
}

// clang-format off
SIMD_SEM(MOVAPS, move_whole, true)
SIMD_SEM(MOVAPD, move_whole, true)
SIMD_SEM(MOVDQA, move_whole, true)
SIMD_SEM(MOVUPS, move_whole, false)
SIMD_SEM(MOVUPD, move_whole, false)
SIMD_SEM(MOVDQU, move_whole, false)
SIMD_SEM(LDDQU, move_whole, false)
SIMD_SEM(MOVNTPS, move_whole, true)
SIMD_SEM(MOVNTPD, move_whole, true)
SIMD_SEM(MOVNTDQ, move_whole, true)
SIMD_SEM(MOVNTDQA, move_whole, true)
// clang-format on

/* --- low elements --- */
/* A value into the low quadword, zeroes above: vector or MMX register. */
static ALWAYS_INLINE void write_low(struct vcpu *cpu, const struct insn *insn, u64 value)
{
    const struct operand *to = &insn->operand[0];
    if (to->kind == OPERAND_MMX) {
        mmx_write(cpu, to->reg, value);
    } else {
        union vec r;
        r.q[0] = value;
        r.q[1] = 0;
        xmm_write(cpu, insn, to->reg, 16, &r);
    }
}
static ALWAYS_INLINE u64 read_low(const struct vcpu *cpu, const struct operand *o)
{
    return o->kind == OPERAND_MMX ? cpu->fpu_mantissa[o->reg & 7] : cpu->zmm[o->reg * 8];
}

bool sem_MOVD_MOVQ(struct vcpu *cpu, const struct insn *insn)
{
    const struct operand *to = &insn->operand[0], *from = &insn->operand[1];
    u64 value;
    if (to->kind == OPERAND_MMX || to->kind == OPERAND_VECTOR) {
        if (from->kind == OPERAND_MEMORY) TRY(mem_read(cpu, insn, from->size, &value));
        else value = gpr_read(cpu, from->reg, from->size);
        write_low(cpu, insn, value);
        return true;
    }
    value = read_low(cpu, from);
    if (to->kind == OPERAND_MEMORY) TRY(mem_write(cpu, insn, to->size, value));
    else gpr_write(cpu, to->reg, to->size, value);
    if (from->kind == OPERAND_MMX) mmx_enter(cpu);
    return true;
}

/* Eight bytes between vector or MMX registers and memory; also MOVNTQ, MOVQ2DQ, MOVDQ2Q. */
static ALWAYS_INLINE bool move_quadword(struct vcpu *cpu, const struct insn *insn)
{
    const struct operand *to = &insn->operand[0], *from = &insn->operand[1];
    u64 value;
    if (from->kind == OPERAND_MEMORY) TRY(mem_read(cpu, insn, 8, &value));
    else value = read_low(cpu, from);
    if (to->kind == OPERAND_MEMORY) TRY(mem_write(cpu, insn, 8, value));
    else write_low(cpu, insn, value);
    if (from->kind == OPERAND_MMX) mmx_enter(cpu);
    return true;
}
bool sem_MOVQ(struct vcpu *cpu, const struct insn *insn) { return move_quadword(cpu, insn); }
bool sem_MOVNTQ(struct vcpu *cpu, const struct insn *insn) { return move_quadword(cpu, insn); }
bool sem_MOVQ2DQ(struct vcpu *cpu, const struct insn *insn) { return move_quadword(cpu, insn); }
bool sem_MOVDQ2Q(struct vcpu *cpu, const struct insn *insn) { return move_quadword(cpu, insn); }

/* Loads zero the rest; between registers the rest comes from operand 1. */
static ALWAYS_INLINE bool move_scalar(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    const struct operand *to = &insn->operand[0], *from = &insn->operand[1];
    u64 value;
    if (to->kind == OPERAND_MEMORY) return mem_write(cpu, insn, size, read_low(cpu, from));
    if (from->kind == OPERAND_MEMORY) {
        TRY(mem_read(cpu, insn, size, &value));
        write_low(cpu, insn, value);
        return true;
    }
    union vec r = *cpu_vec(cpu, from->reg);
    const union vec *y = cpu_vec(cpu, insn->operand[2].reg);
    if (size == 4) vec_d(&r, 0) = vec_d(y, 0);
    else vec_q(&r, 0) = vec_q(y, 0);
    xmm_write(cpu, insn, to->reg, 16, &r);
    return true;
}
// clang-format off
SIMD_SEM(MOVSS, move_scalar, 4)
SIMD_SEM(MOVSD, move_scalar, 8)
// clang-format on

/* --- halves: the result is {LOW, HIGH} --- */
static ALWAYS_INLINE bool write_halves(struct vcpu *cpu, const struct insn *insn, u64 low, u64 high)
{
    union vec r;
    r.q[0] = low;
    r.q[1] = high;
    xmm_write(cpu, insn, insn->operand[0].reg, 16, &r);
    return true;
}
static ALWAYS_INLINE bool move_half(struct vcpu *cpu, const struct insn *insn, unsigned half)
{
    const union vec *x = cpu_vec(cpu, insn->operand[1].reg);
    if (insn->operand[0].kind == OPERAND_MEMORY) return mem_write(cpu, insn, 8, x->q[half]);
    u64 value;
    TRY(mem_read(cpu, insn, 8, &value));
    return half ? write_halves(cpu, insn, x->q[0], value) : write_halves(cpu, insn, value, x->q[1]);
}
// clang-format off
SIMD_SEM(MOVLPS, move_half, 0)
SIMD_SEM(MOVLPD, move_half, 0)
SIMD_SEM(MOVHPS, move_half, 1)
SIMD_SEM(MOVHPD, move_half, 1)
// clang-format on
bool sem_MOVHLPS(struct vcpu *cpu, const struct insn *insn)
{
    return write_halves(cpu, insn, cpu_vec(cpu, insn->operand[2].reg)->q[1],
                        cpu_vec(cpu, insn->operand[1].reg)->q[1]);
}
bool sem_MOVLHPS(struct vcpu *cpu, const struct insn *insn)
{
    return write_halves(cpu, insn, cpu_vec(cpu, insn->operand[1].reg)->q[0],
                        cpu_vec(cpu, insn->operand[2].reg)->q[0]);
}

/* --- duplicates --- */
static ALWAYS_INLINE void each_MOVSLDUP(union vec *r, const union vec *x, unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 4; i++) vec_d(r, i) = vec_d(x, i & ~1u);
}
SIMD_SEM(MOVSLDUP, simd_unary, each_MOVSLDUP)

static ALWAYS_INLINE void each_MOVSHDUP(union vec *r, const union vec *x, unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 4; i++) vec_d(r, i) = vec_d(x, i | 1);
}
SIMD_SEM(MOVSHDUP, simd_unary, each_MOVSHDUP)

bool sem_MOVDDUP(struct vcpu *cpu, const struct insn *insn)
{
    union vec tmp, r;
    const union vec *x = vec_source(cpu, insn, 1, insn->vl == 32 ? 32 : 8, &tmp);
    TRY(x);
    r.q[1] = r.q[0] = x->q[0];
    if (insn->vl == 32) r.q[3] = r.q[2] = x->q[2];
    else r.q[3] = r.q[2] = 0;
    return vec_result(cpu, insn, &r);
}

/* --- sign bits into a general register --- */
static ALWAYS_INLINE bool sign_bits(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    union vec tmp;
    const union vec *x = vec_source(cpu, insn, 1, insn->vl, &tmp);
    TRY(x);
    u32 bits = 0;
    const unsigned each = 8 / size; /* in a quadword */
    for (unsigned i = 0; i < insn->vl / 8u; i++) {
        u64 q = vec_q(x, i);
        u32 tops = size == 1 ? byte_signs(q) : size == 4 ? (q >> 31 & 1) | (q >> 63) << 1 : q >> 63;
        bits |= tops << (i * each);
    }
    cpu->regs[insn->operand[0].reg] = bits;
    if (insn->operand[1].kind == OPERAND_MMX) mmx_enter(cpu);
    return true;
}
// clang-format off
SIMD_SEM(MOVMSKPS, sign_bits, 4)
SIMD_SEM(MOVMSKPD, sign_bits, 8)
SIMD_SEM(PMOVMSKB, sign_bits, 1)
// clang-format on

/* --- bytes selected by a mask to memory at rDI --- */
bool sem_MASKMOVDQU(struct vcpu *cpu, const struct insn *insn)
{
    const union vec *mask = cpu_vec(cpu, insn->operand[2].reg);
    u32 selected = 0;
    for (unsigned i = 0; i < 16; i++) selected |= (u32)(vec_b(mask, i) >> 7) << i;
    return vec_store_selected(cpu, insn, cpu_vec(cpu, insn->operand[1].reg), selected, 1, 16);
}

bool sem_MASKMOVQ(struct vcpu *cpu, const struct insn *insn)
{
    union vec data, mask;
    u32 selected = 0;
    data.q[0] = read_low(cpu, &insn->operand[1]);
    mask.q[0] = read_low(cpu, &insn->operand[2]);
    for (unsigned i = 0; i < 8; i++) selected |= (u32)(vec_b(&mask, i) >> 7) << i;
    TRY(vec_store_selected(cpu, insn, &data, selected, 1, 8));
    mmx_enter(cpu);
    return true;
}

bool sem_EMMS(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    mmx_enter(cpu);
    cpu->ftw = 0;
    return true;
}
