/*
 * What the specialised handlers are made of. They serve the common case only: flat segments, a TLB
 * hit, no LOCK; anything else goes to interp_slow, which runs the generic semantics of the same
 * instruction. A template returns false for that, before it has changed anything.
 */
#ifndef CPU_INTERP_HOT_H
#define CPU_INTERP_HOT_H

#include "cpu/alu.h"
#include "cpu/interp.h"

/* How the memory operand's address is made. Segment base zero but for EA_SEG. */
enum ea_kind { EA_BASE, EA_INDEX, EA_32, EA_SEG, EA_KINDS, EA_NONE = EA_KINDS };

#define HANDLER(name, done)                                                                        \
    static bool name(struct vcpu *cpu, const struct insn *insn)                                    \
    {                                                                                              \
        if (unlikely(!(done))) INTERP_MUSTTAIL return interp_slow(cpu, insn);                      \
        INTERP_NEXT;                                                                               \
    }

static ALWAYS_INLINE u64 hot_ea(const struct vcpu *cpu, const struct insn *insn, enum ea_kind kind)
{
    u64 ea = cpu->regs[insn->base] + (u64)(i64)insn->disp;
    if (kind != EA_BASE) ea += cpu->regs[insn->index] << insn->scale;
    if (kind == EA_32) ea = (u32)ea;
    if (kind == EA_SEG) ea += cpu->seg[insn->seg].base;
    return ea;
}

/* Host address of SIZE bytes at LINEAR, or NULL when the slow way must be taken. */
static ALWAYS_INLINE void *hot_pointer(const struct vcpu *cpu, u64 linear, unsigned size,
                                       bool write)
{
    const struct tlb_entry *e = tlb_slot(cpu->tlb_now, linear);
    u64 tag = atomic_load_explicit(write ? &e->tag_write : &e->tag_read, memory_order_relaxed);
    if (unlikely(((linear + size - 1) & PAGE_MASK) != tag)) return NULL;
    void *host = (void *)(uintptr_t)(linear + e->addend);
    if (!host) __builtin_unreachable(); /* saves the callers' test a branch */
    return host;
}

static ALWAYS_INLINE void *hot_operand(const struct vcpu *cpu, const struct insn *insn,
                                       enum ea_kind kind, unsigned size, bool write)
{
    return hot_pointer(cpu, hot_ea(cpu, insn, kind), size, write);
}

/* Kind of INSN's memory operand; EA_NONE: generic only. */
static inline enum ea_kind hot_kind(const struct vcpu *cpu, const struct insn *insn)
{
    if (!(cpu->mode_key & MODE_FLAT)) return EA_NONE;
    if (insn->seg >= FS) return insn->address_size == 8 ? EA_SEG : EA_NONE;
    /* Below 64 bits code segments are not writable: the general way tells reads from writes. */
    if (unlikely(insn->seg == CS) && cpu->code_size != CODE64) return EA_NONE;
    if (insn->address_size == 4) return EA_32;
    if (insn->address_size != 8) return EA_NONE;
    return insn->index == REG_ZERO ? EA_BASE : EA_INDEX;
}

static inline unsigned size_log2(unsigned size)
{
    return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
}

static inline bool operand_is_gpr(const struct insn *insn, unsigned n)
{
    return insn->operand[n].kind == OPERAND_GPR;
}

/* --- SSE and AVX: what their availability check passes in short, else interp_checked finds out --- */
#define XCR0_SSE_AND_AVX 6

static ALWAYS_INLINE bool vector_ready(const struct vcpu *cpu, bool vex)
{
    if (!vex) return !(cpu->cr0 & (CR0_EM | CR0_TS)) && (cpu->cr4 & CR4_OSFXSR);
    return (cpu->cr4 & CR4_OSXSAVE) && !(cpu->cr0 & CR0_TS) && (cpu->mode_key & MODE_PROTECTED) &&
           (cpu->xcr0 & XCR0_SSE_AND_AVX) == XCR0_SSE_AND_AVX;
}

#define VECTOR_HANDLER(name, done)                                                                 \
    static bool name(struct vcpu *cpu, const struct insn *insn)                                    \
    {                                                                                              \
        if (unlikely(!(done))) INTERP_MUSTTAIL return interp_checked(cpu, insn);                   \
        INTERP_NEXT;                                                                               \
    }

static ALWAYS_INLINE void vector_put(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                     bool vex, const u64 *q)
{
    u64 *to = cpu_vec(cpu, insn->operand[0].reg)->q;
    for (unsigned i = 0; i < size / 8; i++) to[i] = q[i];
    if (vex)
        for (unsigned i = size / 8; i < 8; i++) to[i] = 0;
}

/* Pickers by family; NULL: nothing special. */
insn_fn interp_pick_alu(const struct vcpu *cpu, const struct insn *insn);
insn_fn interp_pick_move(const struct vcpu *cpu, const struct insn *insn);
insn_fn interp_pick_bits(const struct vcpu *cpu, const struct insn *insn);
insn_fn interp_pick_branch(const struct vcpu *cpu, const struct insn *insn);
insn_fn interp_pick_vector(const struct vcpu *cpu, const struct insn *insn);
insn_fn interp_pick_packed(const struct vcpu *cpu, const struct insn *insn);

#endif
