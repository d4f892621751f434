/*
 * The x86-64 back end's insides.
 *
 * Host registers: rsp the state (struct vcpu; nothing is pushed), r9 and r10 scratch, r11 the guest's
 * rSP, the others the guest register of the same number; the guest's R9..R11 stay in struct vcpu. Vector
 * registers and MXCSR are the guest's while state->vectors_live says so, the x87's while x87_live
 * does. C code runs on the thread's own stack.
 *
 * Arithmetic flags are in RFLAGS, in state->flags, or in both, as known at each point of a block; at
 * its start, and wherever C code or the guest's exception handler could look, they are in state->flags.
 */
#ifndef JIT_X64_INT_H
#define JIT_X64_INT_H

#include "jit/jit_int.h"
#include "jit/x64_emit.h"

enum { FL_REG = 1, FL_MEM = 2 };

#define NO_SITE 0xffffffffu

struct exit_stub { u8 *patch; const struct uop *uop; u8 flags; };

struct lower {
    struct jit_cpu *j;
    struct jblock *block;
    const struct translation *t;
    struct x64 hot, cold;
    unsigned flags;           /* FL_* */
    unsigned vectors;         /* what is known of vectors_live */
    bool x87;                 /* x87_live is known to be set */
    bool x87_page;            /* x87_page is this block's */
    u32 number;               /* of the block */
    unsigned stub_count;
    struct exit_stub stubs[BLOCK_MAX + 1];
};

/* An address in parts. */
struct address { u8 base, index, scale, seg, size; i64 disp; };

#define AT_CPU(member) x64_mem(H_RSP, (i64)offsetof(struct vcpu, member))
#define AT_REG(reg) x64_mem(H_RSP, (i64)(offsetof(struct vcpu, regs) + (reg) * 8))
#define STATE_AT ((i64)((sizeof(struct vcpu) + 63) & ~(size_t)63))
#define AT_STATE(member) x64_mem(H_RSP, STATE_AT + (i64)offsetof(struct jit_state, member))

/* Host register of a guest register, H_NONE for those in struct vcpu. */
static inline unsigned home(unsigned reg)
{
    static const u8 table[] = {H_RAX, H_RCX, H_RDX, H_RBX, H_R11, H_RBP, H_RSI, H_RDI, H_R8,
                               H_NONE, H_NONE, H_NONE, H_R12, H_R13, H_R14, H_R15, H_NONE, H_NONE};
    return table[reg];
}

static inline unsigned address_size(const struct lower *l) { return l->t->code_size == CODE64 ? 8 : 4; }

/* x64_mem.c */
struct address address_of(const struct insn *insn);
struct address stack_at(const struct lower *l, i64 disp);
/* The check in front of an access; returns how the operand is reached, in terms of r10 and registers at
 * home. r9 is free behind it. Leaves through SITE when the TLB does not allow it. */
struct x64_rm mem_check(struct lower *l, const struct address *a, unsigned size, unsigned align,
                        bool write, u32 site);
/* TO = the effective address, without segment; uses TO and r9. */
void emit_ea(struct lower *l, const struct address *a, unsigned to, unsigned size);
void lea_lower(struct lower *l, const struct uop *u);

/* x64_exit.c */
u32 site_new(struct lower *l, enum site_kind kind, const struct uop *u);
void site_resume(struct lower *l, u32 site);
void cold_call(struct lower *l, u8 *patch, u32 site); /* the jump at PATCH goes to C */
void flags_save(struct lower *l);
void flags_want(struct lower *l, unsigned bits);
void vectors_want(struct lower *l, unsigned want, const struct uop *u);
void exit_direct(struct lower *l, const struct uop *u, i64 target, unsigned count);
void stubs_emit(struct lower *l);
void branch_lower(struct lower *l, const struct uop *u);

/* x64_vec.c */
void vector_lower(struct lower *l, const struct uop *u);

/* x64_straddle.c */
void straddle_guard(struct lower *l, const struct code_straddle *straddle);

/* x64_x87.c */
void x87_want(struct lower *l, const struct uop *u);
void x87_lower(struct lower *l, const struct uop *u);
void x87_thunks(struct jit_cpu *j, struct x64 *e);

#endif
