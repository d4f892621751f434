/*
 * Arithmetic flags, kept as the last result and a word of carries until somebody asks.
 *
 *   lf_result  sign-extended result: ZF = (lf_result == 0), SF = bit 63 ^ aux bit 0,
 *              PF = even parity of (lf_result ^ aux >> 8) low byte
 *   lf_aux     bit 63 CF, bit 62 "carry into the top bit" (OF = bit 63 ^ bit 62), bit 3 AF,
 *              bits 8-15 parity correction, bit 0 sign correction
 */
#ifndef CPU_FLAGS_H
#define CPU_FLAGS_H

#include "cpu/cpu.h"

#define AUX_CF (1ull << 63)
#define AUX_PO (1ull << 62)
#define AUX_AF (1ull << 3)
#define AUX_SF 1ull

/* CARRIES: carry (or borrow) out of every bit of an addition of SIZE bytes. */
static ALWAYS_INLINE void flags_set_lazy(struct vcpu *cpu, u64 result, u64 carries, unsigned size)
{
    cpu->lf_result = (u64)sign_extend(result, size);
    if (size == 8) cpu->lf_aux = carries & (AUX_CF | AUX_PO | AUX_AF);
    else cpu->lf_aux = (carries << (64 - size * 8) & (AUX_CF | AUX_PO)) | (carries & AUX_AF);
}
static ALWAYS_INLINE void flags_add(struct vcpu *cpu, u64 a, u64 b, u64 r, unsigned size)
{
    flags_set_lazy(cpu, r, (a & b) | ((a | b) & ~r), size);
}
static ALWAYS_INLINE void flags_sub(struct vcpu *cpu, u64 a, u64 b, u64 r, unsigned size)
{
    flags_set_lazy(cpu, r, (~a & b) | ((~a | b) & r), size);
}
static ALWAYS_INLINE void flags_logic(struct vcpu *cpu, u64 r, unsigned size)
{
    cpu->lf_result = (u64)sign_extend(r, size);
    cpu->lf_aux = 0;
}
static ALWAYS_INLINE bool flag_cf(const struct vcpu *cpu) { return cpu->lf_aux >> 63; }
static ALWAYS_INLINE bool flag_of(const struct vcpu *cpu)
{
    return (cpu->lf_aux ^ cpu->lf_aux << 1) >> 63;
}
static ALWAYS_INLINE bool flag_zf(const struct vcpu *cpu) { return cpu->lf_result == 0; }
static ALWAYS_INLINE bool flag_sf(const struct vcpu *cpu)
{
    return (cpu->lf_result >> 63) ^ (cpu->lf_aux & 1);
}
static ALWAYS_INLINE bool flag_af(const struct vcpu *cpu) { return cpu->lf_aux >> 3 & 1; }
static ALWAYS_INLINE bool flag_pf(const struct vcpu *cpu)
{
    return !__builtin_parity((u8)(cpu->lf_result ^ cpu->lf_aux >> 8));
}
static inline void flags_set_cf(struct vcpu *cpu, bool cf)
{
    bool of = flag_of(cpu); /* keeps OF */
    cpu->lf_aux = (cpu->lf_aux & ~(AUX_CF | AUX_PO)) | (cf ? AUX_CF : 0) | (cf != of ? AUX_PO : 0);
}
static inline void flags_set_cf_of(struct vcpu *cpu, bool cf, bool of)
{
    cpu->lf_aux = (cpu->lf_aux & ~(AUX_CF | AUX_PO)) | (cf ? AUX_CF : 0) | (cf != of ? AUX_PO : 0);
}
/* The six arithmetic flags as EFLAGS bits, and back. */
static inline u32 flags_get(const struct vcpu *cpu)
{
    return (flag_cf(cpu) ? FLAG_CF : 0) | (flag_pf(cpu) ? FLAG_PF : 0) |
           (flag_af(cpu) ? FLAG_AF : 0) | (flag_zf(cpu) ? FLAG_ZF : 0) |
           (flag_sf(cpu) ? FLAG_SF : 0) | (flag_of(cpu) ? FLAG_OF : 0);
}
static inline void flags_put(struct vcpu *cpu, u32 flags)
{
    bool cf = flags & FLAG_CF, of = flags & FLAG_OF;
    cpu->lf_result = flags & FLAG_ZF ? 0 : 0x100; /* a nonzero word with sign 0 and even parity */
    cpu->lf_aux = (cf ? AUX_CF : 0) | (cf != of ? AUX_PO : 0) | (flags & FLAG_AF ? AUX_AF : 0) |
                  (flags & FLAG_SF ? AUX_SF : 0) | (flags & FLAG_PF ? 0 : 0x100);
}
/* The whole of EFLAGS as PUSHF sees it (with bit 1 set). */
static inline u32 cpu_eflags(const struct vcpu *cpu) { return cpu->eflags | 2 | flags_get(cpu); }

static ALWAYS_INLINE bool flags_condition(const struct vcpu *cpu, unsigned cc)
{
    bool r;
    switch (cc >> 1) {
    case 0: r = flag_of(cpu); break;
    case 1: r = flag_cf(cpu); break;
    case 2: r = flag_zf(cpu); break;
    case 3: r = flag_cf(cpu) || flag_zf(cpu); break;
    case 4: r = flag_sf(cpu); break;
    case 5: r = flag_pf(cpu); break;
    case 6: r = flag_sf(cpu) != flag_of(cpu); break;
    default: r = flag_zf(cpu) || flag_sf(cpu) != flag_of(cpu); break;
    }
    return r ^ (cc & 1);
}

#endif
