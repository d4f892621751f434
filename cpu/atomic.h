/* Locked read-modify-writes on guest memory (atomic.c). */
#ifndef CPU_ATOMIC_H
#define CPU_ATOMIC_H

#include "cpu/sem.h"

/* What to make of the old value; CONTEXT is the caller's. Called once or more. */
typedef u64 (*atomic_fn)(u64 old, u64 operand);

/*
 * The SIZE bytes at LINEAR become fn(old, OPERAND) in one step as all processors see it; *old gets
 * what was there. False: fault, nothing changed.
 */
bool atomic_update(struct vcpu *cpu, u64 linear, unsigned size, atomic_fn fn, u64 operand,
                   u64 *old);
/* Stores WANTED if the memory holds EXPECTED; *old gets what was there. */
bool atomic_compare(struct vcpu *cpu, u64 linear, unsigned size, u64 expected, u64 wanted,
                    u64 *old);

/* The same for INSN's memory operand. */
static inline bool atomic_operand(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                  atomic_fn fn, u64 operand, u64 *old)
{
    u64 linear;
    TRY(mem_linear(cpu, insn, size, true, &linear));
    return atomic_update(cpu, linear, size, fn, operand, old);
}

#endif
