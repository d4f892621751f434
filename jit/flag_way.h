/*
 * The arithmetic flags that translated code leaves behind a unit: as LAHF and SETO have them, or the
 * operation that wrote them and its operands, which is cheaper to store and seldom asked for.
 */
#ifndef JIT_FLAG_WAY_H
#define JIT_FLAG_WAY_H

#include "cpu/alu.h"
#include "jit/jit_int.h"

/* jit_near.flag_way, of flag_operand[0] and [1]: [31:16] the second operand when WAY_IMMEDIATE, [9:8] the
 * operation's size as a power of 2, [7:0] the operation. 0: jit_near.flags has them. */
enum flag_way {
    WAY_FLAGS,
    WAY_SUB,        /* a - b */
    WAY_TEST,       /* a & b */
    WAY_ADDED,      /* a is the sum of something and b */
    WAY_SUBTRACTED, /* a is the difference of something and b */
    WAY_NEGATED,    /* a is zero less something */
    WAY_LOGIC,      /* a is the result */
    WAY_SHL, WAY_SHR, WAY_SAR, /* a by b, which is not zero */
    WAY_SIZE_SHIFT = 8,
    WAY_IMMEDIATE = 1 << 10,
    WAY_IMMEDIATE_SHIFT = 16,
};

/* Into the processor's own flags. */
static inline void flag_way_take(struct vcpu *cpu)
{
    unsigned way = jit_near(cpu)->flag_way, size = 1u << (way >> WAY_SIZE_SHIFT & 3);
    const u64 *operand = jit_near(cpu)->flag_operand;
    u64 a = operand[0] & size_mask(size), b = operand[1];
    if (way & WAY_IMMEDIATE) b = (u64)(i64)(i16)(way >> WAY_IMMEDIATE_SHIFT);
    b &= size_mask(size);
    switch (way & 0xff) {
    case WAY_SUB: flags_sub(cpu, a, b, a - b, size); break;
    case WAY_TEST: flags_logic(cpu, a & b, size); break;
    case WAY_ADDED: flags_add(cpu, a - b, b, a, size); break;
    case WAY_SUBTRACTED: flags_sub(cpu, a + b, b, a, size); break;
    case WAY_NEGATED: flags_sub(cpu, 0, 0 - a, a, size); break;
    case WAY_SHL: alu_shift(cpu, OP_SHL, a, (unsigned)b, size); break;
    case WAY_SHR: alu_shift(cpu, OP_SHR, a, (unsigned)b, size); break;
    case WAY_SAR: alu_shift(cpu, OP_SAR, a, (unsigned)b, size); break;
    default: flags_logic(cpu, a, size);
    }
}

/* jit_near.flags as EFLAGS has them, and back; these are the flags then. */
static inline u32 flags_unpack(const struct jit_near *s) { return (s->flags >> 8 & 0xd5) | (s->flags & 1u) << 11; }

static inline void flags_pack(struct jit_near *s, u32 eflags)
{
    s->flags = (u16)((eflags & 0xd5) << 8 | 2 << 8 | (eflags >> 11 & 1));
    s->flag_way = WAY_FLAGS;
}

static inline void flags_from_native(struct vcpu *cpu)
{
    if (jit_near(cpu)->flag_way) flag_way_take(cpu);
    else flags_put(cpu, flags_unpack(jit_near(cpu)));
}

static inline void flags_to_native(const struct vcpu *cpu) { flags_pack(jit_near(cpu), flags_get(cpu)); }

#endif
