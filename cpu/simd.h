/*
 * What the vector rooms (simd*.c, avx.c, crypto.c) share: fetching sources without copying
 * registers, delivering results, and running an element function at the instruction's vector
 * length.
 *
 * An element function is inlined with a constant length, so that its loop is unrolled and
 * vectorised.
 */
#ifndef CPU_SIMD_H
#define CPU_SIMD_H

#include "cpu/sem.h"

/* The x87 stack becomes the MMX file: TOP 0, every register valid. */
static ALWAYS_INLINE void mmx_enter(struct vcpu *cpu)
{
    cpu->fsw &= (u16)~0x3800;
    cpu->ftw = 0xff;
}
static ALWAYS_INLINE void mmx_write(struct vcpu *cpu, unsigned reg, u64 value)
{
    cpu->fpu_mantissa[reg & 7] = value;
    cpu->fpu_exponent[reg & 7] = 0xffff;
    mmx_enter(cpu);
}
static ALWAYS_INLINE bool simd_is_mmx(const struct insn *insn) { return insn->vl == 8; }

/* The memory operand's SIZE (16 or 32) bytes; the rest of TO is left alone. */
static ALWAYS_INLINE bool vec_load(struct vcpu *cpu, const struct insn *insn, union vec *to,
                                   unsigned size, unsigned align)
{
    u64 linear;
    TRY(mem_linear(cpu, insn, size, false, &linear));
    if (align && unlikely(linear & (align - 1))) {
        cpu_gp0(cpu);
        return false;
    }
    const struct tlb_entry *e = tlb_slot(cpu->tlb_now, linear);
    if (likely(((linear + size - 1) & PAGE_MASK) ==
               atomic_load_explicit(&e->tag_read, memory_order_relaxed))) {
        const u8 *host = (const u8 *)(uintptr_t)(linear + e->addend);
        for (unsigned i = 0; i < size / 8; i++) to->q[i] = guest_ld64(host + i * 8);
        return true;
    }
    u8 bytes[32];
    TRY(tlb_read_slow(cpu, linear, bytes, size, cpu->tlb_mode));
    for (unsigned i = 0; i < size / 8; i++) to->q[i] = ld64(bytes + i * 8);
    return true;
}
static ALWAYS_INLINE bool vec_store(struct vcpu *cpu, const struct insn *insn,
                                    const union vec *from, unsigned size, unsigned align)
{
    u64 linear;
    TRY(mem_linear(cpu, insn, size, true, &linear));
    if (align && unlikely(linear & (align - 1))) {
        cpu_gp0(cpu);
        return false;
    }
    const struct tlb_entry *e = tlb_slot(cpu->tlb_now, linear);
    if (likely(((linear + size - 1) & PAGE_MASK) ==
               atomic_load_explicit(&e->tag_write, memory_order_relaxed))) {
        u8 *host = (u8 *)(uintptr_t)(linear + e->addend);
        for (unsigned i = 0; i < size / 8; i++) guest_st64(host + i * 8, from->q[i]);
        return true;
    }
    u8 bytes[32];
    for (unsigned i = 0; i < size / 8; i++) st64(bytes + i * 8, from->q[i]);
    return tlb_write_slow(cpu, linear, bytes, size, cpu->tlb_mode);
}

/* True when a write of SIZE bytes at LINEAR would not fault. */
static ALWAYS_INLINE bool lin_probe_write(struct vcpu *cpu, u64 linear, unsigned size)
{
    const struct tlb_entry *e = tlb_slot(cpu->tlb_now, linear);
    if (likely(((linear + size - 1) & PAGE_MASK) ==
               atomic_load_explicit(&e->tag_write, memory_order_relaxed)))
        return true;
    return tlb_probe(cpu, linear, size, true, cpu->tlb_mode);
}

/* Operand N's low SIZE bytes: a register itself (lanes beyond SIZE are the register's) or TMP.
 * NULL: fault. Unlike vec_read it never turns the x87 stack into the MMX file. */
const union vec *vec_fetch(struct vcpu *cpu, const struct insn *insn, unsigned n, unsigned size,
                           union vec *tmp);
static ALWAYS_INLINE const union vec *vec_source(struct vcpu *cpu, const struct insn *insn,
                                                 unsigned n, unsigned size, union vec *tmp)
{
    if (likely(insn->operand[n].kind == OPERAND_VECTOR)) return cpu_vec(cpu, insn->operand[n].reg);
    return vec_fetch(cpu, insn, n, size, tmp);
}
/* Like vec_source, for a memory operand that need not be aligned whatever the row says. */
const union vec *vec_fetch_unaligned(struct vcpu *cpu, const struct insn *insn, unsigned n,
                                     unsigned size, union vec *tmp);

/* Elements of SIZE (1, 4, 8) bytes to and from the memory operand, those of COUNT that have their
 * bit in SELECTED: only they can fault. A load zeroes the others and the rest of TO; a store that
 * faults has written nothing. */
bool vec_load_selected(struct vcpu *cpu, const struct insn *insn, union vec *to, u32 selected,
                       unsigned size, unsigned count);
bool vec_store_selected(struct vcpu *cpu, const struct insn *insn, const union vec *from,
                        u32 selected, unsigned size, unsigned count);
static ALWAYS_INLINE u64 vec_element(const union vec *v, unsigned i, unsigned size)
{
    return size == 1   ? vec_b(v, i)
           : size == 2 ? vec_w(v, i)
           : size == 4 ? vec_d(v, i)
                       : vec_q(v, i);
}
static ALWAYS_INLINE void vec_set_element(union vec *v, unsigned i, unsigned size, u64 value)
{
    if (size == 1) vec_b(v, i) = (u8)value;
    else if (size == 2) vec_w(v, i) = (u16)value;
    else if (size == 4) vec_d(v, i) = (u32)value;
    else vec_q(v, i) = value;
}

/* SIZE (8, 16, 32) low bytes of R to a vector register; above them zeroes if VEX. R is not the
 * register. */
static ALWAYS_INLINE void xmm_write(struct vcpu *cpu, const struct insn *insn, unsigned reg,
                                    unsigned size, const union vec *r)
{
    union vec *to = cpu_vec(cpu, reg);
    for (unsigned i = 0; i < size / 8; i++) to->q[i] = r->q[i];
    if (insn->flags & INSN_VEX)
        for (unsigned i = size / 8; i < 8; i++) to->q[i] = 0;
}

/* R as the result in vector register operand 0, 16 or 32 bytes. Cannot fail. */
static ALWAYS_INLINE bool vec_result(struct vcpu *cpu, const struct insn *insn, const union vec *r)
{
    if (insn->vl == 32) xmm_write(cpu, insn, insn->operand[0].reg, 32, r);
    else xmm_write(cpu, insn, insn->operand[0].reg, 16, r);
    return true;
}

/* Calls FN with the remaining arguments and the vector length as a constant; R is what it fills and
 * what operand 0 becomes. Leaves the function. */
#define SIMD_DELIVER(cpu, insn, fn, r, ...)                                                        \
    do {                                                                                           \
        if ((insn)->vl == 16) {                                                                    \
            fn(r, __VA_ARGS__, 16);                                                                \
            xmm_write(cpu, insn, (insn)->operand[0].reg, 16, r);                                   \
        } else if ((insn)->vl == 32) {                                                             \
            fn(r, __VA_ARGS__, 32);                                                                \
            xmm_write(cpu, insn, (insn)->operand[0].reg, 32, r);                                   \
        } else {                                                                                   \
            fn(r, __VA_ARGS__, 8);                                                                 \
            mmx_write(cpu, (insn)->operand[0].reg, (r)->q[0]);                                     \
        }                                                                                          \
        return true;                                                                               \
    } while (0)

/* The imm8 of an instruction whose immediate is not otherwise interpreted. */
static ALWAYS_INLINE unsigned simd_imm8(const struct insn *insn) { return (u8)insn->imm; }

/* Element functions: BYTES is a constant 8, 16 or 32 after inlining. R never aliases a source. */
typedef void (*simd_fn1)(union vec *r, const union vec *x, unsigned bytes);
typedef void (*simd_fn2)(union vec *r, const union vec *x, const union vec *y, unsigned bytes);
typedef void (*simd_fn1i)(union vec *r, const union vec *x, unsigned imm, unsigned bytes);
typedef void (*simd_fn2i)(union vec *r, const union vec *x, const union vec *y, unsigned imm,
                          unsigned bytes);

/* operand 0 = fn(operand 1) */
static ALWAYS_INLINE bool simd_unary(struct vcpu *cpu, const struct insn *insn, simd_fn1 fn)
{
    union vec tx, r;
    const union vec *x = vec_source(cpu, insn, 1, insn->vl, &tx);
    TRY(x);
    SIMD_DELIVER(cpu, insn, fn, &r, x);
}

/* operand 0 = fn(operand 1, operand 2) */
static ALWAYS_INLINE bool simd_binary(struct vcpu *cpu, const struct insn *insn, simd_fn2 fn)
{
    union vec tx, ty, r;
    const union vec *y = vec_source(cpu, insn, 2, insn->vl, &ty);
    TRY(y);
    const union vec *x = vec_source(cpu, insn, 1, insn->vl, &tx);
    TRY(x);
    SIMD_DELIVER(cpu, insn, fn, &r, x, y);
}

/* operand 0 = fn(operand 1, imm8) */
static ALWAYS_INLINE bool simd_unary_imm(struct vcpu *cpu, const struct insn *insn, simd_fn1i fn)
{
    union vec tx, r;
    const union vec *x = vec_source(cpu, insn, 1, insn->vl, &tx);
    TRY(x);
    SIMD_DELIVER(cpu, insn, fn, &r, x, simd_imm8(insn));
}

/* operand 0 = fn(operand 1, operand 2, imm8) */
static ALWAYS_INLINE bool simd_binary_imm(struct vcpu *cpu, const struct insn *insn, simd_fn2i fn)
{
    union vec tx, ty, r;
    const union vec *y = vec_source(cpu, insn, 2, insn->vl, &ty);
    TRY(y);
    const union vec *x = vec_source(cpu, insn, 1, insn->vl, &tx);
    TRY(x);
    SIMD_DELIVER(cpu, insn, fn, &r, x, y, simd_imm8(insn));
}

/* The semantics function of NAME: run(cpu, insn, ...). */
#define SIMD_SEM(NAME, run, ...)                                                                   \
    bool sem_##NAME(struct vcpu *cpu, const struct insn *insn)                                     \
    {                                                                                              \
        return run(cpu, insn, __VA_ARGS__);                                                        \
    }

/* each_NAME: element by element `expression` of a and b, taken from lanes `lane` as `type`. */
#define SIMD_EACH(NAME, lane, type, expression)                                                    \
    static ALWAYS_INLINE void each_##NAME(union vec *r, const union vec *x, const union vec *y,    \
                                          unsigned bytes)                                          \
    {                                                                                              \
        for (unsigned i = 0; i < bytes / sizeof(type); i++) {                                      \
            type a = (type)lane(x, i), b = (type)lane(y, i);                                       \
            lane(r, i) = (expression);                                                             \
        }                                                                                          \
    }
/* And sem_NAME. */
#define SIMD_BINARY(NAME, lane, type, expression)                                                  \
    SIMD_EACH(NAME, lane, type, expression)                                                        \
    SIMD_SEM(NAME, simd_binary, each_##NAME)

#define SIMD_UNARY(NAME, lane, type, expression)                                                   \
    static ALWAYS_INLINE void each_##NAME(union vec *r, const union vec *x, unsigned bytes)        \
    {                                                                                              \
        for (unsigned i = 0; i < bytes / sizeof(type); i++) {                                      \
            type a = (type)lane(x, i);                                                             \
            lane(r, i) = (expression);                                                             \
        }                                                                                          \
    }                                                                                              \
    SIMD_SEM(NAME, simd_unary, each_##NAME)

/* Bits 7, 15 ... 63 of Q side by side: each is moved to its place in the top byte, no sum carries into it. */
static ALWAYS_INLINE u32 byte_signs(u64 q)
{
    return (u32)((q >> 7 & 0x0101010101010101ull) * 0x0102040810204080ull >> 56);
}

/* --- saturation --- */
static ALWAYS_INLINE int clamp(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}
static ALWAYS_INLINE u8 sat_u8(int v) { return (u8)clamp(v, 0, 0xff); }
static ALWAYS_INLINE u16 sat_u16(int v) { return (u16)clamp(v, 0, 0xffff); }
static ALWAYS_INLINE u8 sat_i8(int v) { return (u8)clamp(v, -0x80, 0x7f); }
static ALWAYS_INLINE u16 sat_i16(int v) { return (u16)clamp(v, -0x8000, 0x7fff); }

#endif
