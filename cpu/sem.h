/*
 * What semantics functions are made of: operands, registers, and the list of them.
 *
 * sem_<OP> reads its operands, computes, makes its memory write, then its register writes, then its
 * flags: in that order, so that a fault leaves nothing half done. It does not advance rip: an
 * instruction that ends a block by changing it sets cpu->rip itself (cpu_next_ip for the
 * fall-through).
 */
#ifndef CPU_SEM_H
#define CPU_SEM_H

#include "cpu/cpu.h"
#include "cpu/flags.h"
#include "cpu/mem.h"

#define OP(name) bool sem_##name(struct vcpu *cpu, const struct insn *insn);
#include "cpu/ops.def"
#undef OP
typedef bool (*sem_fn)(struct vcpu *, const struct insn *);
extern const sem_fn sem_table[OP_COUNT];

static ALWAYS_INLINE u64 gpr_read(const struct vcpu *cpu, unsigned reg, unsigned size)
{
    return cpu->regs[reg] & size_mask(size);
}
/* 32-bit writes clear the upper half, smaller ones keep the rest. */
static ALWAYS_INLINE void gpr_write(struct vcpu *cpu, unsigned reg, unsigned size, u64 value)
{
    if (size == 8) cpu->regs[reg] = value;
    else if (size == 4) cpu->regs[reg] = (u32)value;
    else cpu->regs[reg] = (cpu->regs[reg] & ~size_mask(size)) | (value & size_mask(size));
}

/* Integer operand N of INSN, whatever it is: register, high byte, memory, immediate.
 * Zero-extended. */
static inline bool operand_read(struct vcpu *cpu, const struct insn *insn, unsigned n, u64 *value)
{
    const struct operand *o = &insn->operand[n];
    switch (o->kind) {
    case OPERAND_GPR: *value = gpr_read(cpu, o->reg, o->size); return true;
    case OPERAND_GPR8H: *value = cpu->regs[o->reg] >> 8 & 0xff; return true;
    case OPERAND_MEMORY: return mem_read(cpu, insn, o->size, value);
    default: *value = insn->imm & size_mask(insn->size); return true;
    }
}
/* For operands that are written last. A memory operand that was read first as a destination must be
 * probed by reading it with operand_read_rmw. */
static inline bool operand_write(struct vcpu *cpu, const struct insn *insn, unsigned n, u64 value)
{
    const struct operand *o = &insn->operand[n];
    switch (o->kind) {
    case OPERAND_GPR: gpr_write(cpu, o->reg, o->size, value); return true;
    case OPERAND_GPR8H:
        cpu->regs[o->reg] = (cpu->regs[o->reg] & ~0xff00ull) | (value & 0xff) << 8;
        return true;
    case OPERAND_MEMORY: return mem_write(cpu, insn, o->size, value);
    default: return true;
    }
}
/* Reads a destination that operand_write will then write: faults as a write would. */
static inline bool operand_read_rmw(struct vcpu *cpu, const struct insn *insn, unsigned n,
                                    u64 *value)
{
    const struct operand *o = &insn->operand[n];
    if (o->kind != OPERAND_MEMORY) return operand_read(cpu, insn, n, value);
    u64 linear;
    TRY(mem_linear(cpu, insn, o->size, true, &linear));
    struct tlb_entry *e = tlb_slot(cpu->tlb_now, linear);
    if (unlikely(((linear + o->size - 1) & PAGE_MASK) !=
                 atomic_load_explicit(&e->tag_write, memory_order_relaxed)))
        TRY(tlb_probe(cpu, linear, o->size, true, cpu->tlb_mode));
    return lin_read(cpu, linear, o->size, value);
}

/* Behind an instruction that serializes (SDM vol. 3 9.3): earlier stores come before later loads. */
static ALWAYS_INLINE void cpu_serialize(const struct vcpu *cpu)
{
    if (cpu->count > 1) atomic_thread_fence(memory_order_seq_cst);
}

/* What INSN's row demands before its semantics run: FPU state, protected mode, CPL 0 (interp.c). */
bool insn_allowed(struct vcpu *cpu, const struct insn *insn);

/* FPU/SSE/AVX availability: #UD or #NM (and pending #MF) as the row's attributes say. The
 * interpreter calls it before sem_* for rows with ATTR_X87, ATTR_MMX, ATTR_SSE or ATTR_AVX
 * (simd.c). */
bool fpu_check(struct vcpu *cpu, const struct insn *insn);

/* Vector operands. Reads SIZE bytes of operand N (vector, MMX or memory) into lanes, zeroing the
 * rest of TO. Memory alignment as the row's attributes say: legacy SSE 16-byte operands must be
 * aligned unless ATTR_UNALIGNED, VEX ones only with ATTR_ALIGNED (simd.c). */
bool vec_read(struct vcpu *cpu, const struct insn *insn, unsigned n, unsigned size, union vec *to);
/* Writes SIZE bytes to operand N. A vector register: legacy SSE keeps bytes above SIZE (caller
 * passes what it merges), VEX zeroes everything above. MMX: sets the x87 tag/TOP as MMX does. */
bool vec_write(struct vcpu *cpu, const struct insn *insn, unsigned n, unsigned size,
               const union vec *from);

#endif
