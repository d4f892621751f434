/*
 * The x86-64 back end's insides.
 *
 * Host registers: rsp the state (within struct vcpu; nothing is pushed), r9 and r10 scratch, r11 the guest's
 * rSP, the others the guest register of the same number; the guest's R9..R11 stay in struct vcpu. Vector
 * registers and MXCSR are the guest's while vectors_live says so, the x87's while x87_live
 * does. C code runs on the thread's own stack.
 *
 * Arithmetic flags are in RFLAGS, in jit_near.flags, or can be had again by redoing the last operation
 * that wrote them (a recipe), as known at each point of a unit. C code finds them in jit_near.flags: the
 * cold way there redoes them when need be.
 */
#ifndef JIT_X64_INT_H
#define JIT_X64_INT_H

#include "jit/jit_int.h"
#include "jit/x64_emit.h"

enum { FL_REG = 1, FL_MEM = 2, FL_RECIPE = 4, FL_NATIVE = 8 /* beside FL_MEM: jit_near.flags has them */ };

#define NO_SITE 0xffffffffu
#define VERSION_MAX 400u
#define STUB_MAX 160u

/* How to have the last flags again: redo UOP on what it read. */
enum recipe_kind {
    RECIPE_NONE,
    RECIPE_REDO,    /* its operands are what they were */
    RECIPE_INVERT,  /* its first operand follows from its result and the second */
    RECIPE_SAVED,   /* its first operand's old value is in flag_operand */
};
struct recipe {
    const struct uop *uop;
    u8 kind;
    bool stored; /* its register operands are in flag_operand, too, as those from memory are */
};

/* The bytes [low, high) from a key's address have been checked; the page's addend is at_group's. */
struct group { bool on, write; i32 low, high; };

/* What is known at a place in the code. */
struct context {
    u8 flags;        /* FL_*: where the arithmetic flags can be had; 0: nobody will ask */
    u8 vectors;      /* of vectors_live */
    bool x87;        /* x87_live is known to be set */
    bool x87_page;   /* x87_page is this unit's */
    u16 pending;     /* instructions that icount does not yet have, to the node's start */
    struct recipe recipe;
    struct group groups[GROUP_MAX];
};

/* A node's code for one context. */
struct version { u16 node; struct context in; u8 *code; };
struct version_patch { u8 *at; u16 version; };
/* Where a conditional branch goes besides: NODE, or (-1) out of the unit, to TARGET. */
struct exit_stub { u8 *patch; const struct uop *uop; i16 node; i64 target; struct context at; };

struct lower {
    const struct jit_cpu *j;  /* what never changes of it, and its tables at the cursor */
    const struct translation *t;
    struct code_cursor *at;
    struct code_marks *marks;
    struct x64 hot, cold;
    const u8 *start;          /* of the hot part */
    struct context c;
    u32 number;               /* of the unit's first block */
    unsigned node, uop;       /* being lowered */
    bool cold_before;         /* the uop may have been done in C: nothing behind its check is sure */
    int held;                 /* the group whose addend r10 is, at HELD_AT; -1: none's */
    const u8 *held_at;
    i64 stack_behind;         /* what r11 will be moved by behind a row of PUSH and POP; 0 but for within one */
    bool failed;              /* out of room */
    unsigned stub_count, version_count, patch_count;
    struct exit_stub stubs[STUB_MAX];
    struct version versions[VERSION_MAX];
    struct version_patch patches[VERSION_MAX * 4];
};

/* An address in parts. */
struct address { u32 base : 8, index : 8, scale : 2, seg : 4, size : 8; i64 disp; }; /* see struct x64_rm */

/* What lies BY from struct vcpu's begin. */
#define AT(by) x64_mem(H_RSP, (i64)(by) - STATE_POINTER)
#define AT_INDEX(by, index, scale) x64_sib(H_RSP, index, scale, (i64)(by) - STATE_POINTER)
#define AT_CPU(member) AT(offsetof(struct vcpu, member))
#define AT_REG(reg) AT(offsetof(struct vcpu, regs) + (reg) * 8)
#define AT_SEG(number, member) \
    AT(offsetof(struct vcpu, seg) + (number) * sizeof(struct segment) + offsetof(struct segment, member))
#define AT_NEAR(member) AT((i64)offsetof(struct jit_near, member) - (i64)sizeof(struct jit_near))
#define AT_STATE(member) AT(STATE_AT + (i64)offsetof(struct jit_state, member))
static inline struct x64_rm at_group(unsigned k)
{
    return k < NEAR_GROUPS ? AT_NEAR(groups[k]) : AT_STATE(groups[k - NEAR_GROUPS]);
}

/* Host register of a guest register, H_NONE for those in struct vcpu. */
static inline unsigned home(unsigned reg)
{
    static const u8 table[] = {H_RAX, H_RCX, H_RDX, H_RBX, H_R11, H_RBP, H_RSI, H_RDI, H_R8,
                               H_NONE, H_NONE, H_NONE, H_R12, H_R13, H_R14, H_R15, H_NONE, H_NONE};
    return table[reg];
}

/* What is emitted from here on finds a group's addend in r10. */
static inline bool addend_held(const struct lower *l) { return l->held >= 0 && l->held_at == l->hot.p; }
/* Nothing emitted since it was there has overwritten it. It is lost where C may have done the uop. */
static inline void addend_keep(struct lower *l, bool held)
{
    l->held_at = held && !l->cold_before ? l->hot.p : NULL;
}

static inline unsigned address_size(const struct lower *l) { return ip_size(l->t); }
static inline unsigned stack_width(const struct lower *l) { return l->t->code_size == CODE64 ? 8 : l->t->stack_size; }

/* x64_mem.c */
struct address address_of(const struct insn *insn);
struct address stack_at(const struct lower *l, i64 disp);
void move_stack(struct lower *l, i64 by); /* leaves RFLAGS alone */
/* The check in front of an access; returns how the operand is reached, in terms of r10 and registers at
 * home. r9 is free behind it. Leaves through SITE when the TLB does not allow it. */
struct x64_rm mem_check(struct lower *l, const struct address *a, unsigned size, unsigned align,
                        bool write, u32 site);
/* TO = the effective address, without segment; uses TO and r9. */
void emit_ea(struct lower *l, const struct address *a, unsigned to, unsigned size);
void lea_lower(struct lower *l, const struct uop *u);
/* The check of what lies from r10 to r9, both included and less than the TLB's reach apart: r10 is the
 * addend behind it, r9 free. */
void span_check(struct lower *l, bool write, u32 site);
/* The TLB entry's place of the address r10. */
void emit_slot(struct x64 *e);
/* A member of the entry r10 of MODE's TLB. */
#define AT_ENTRY(mode, member) \
    AT_INDEX(offsetof(struct vcpu, tlb.entry) + (mode) * sizeof(((struct tlb *)0)->entry[0]) + \
             offsetof(struct tlb_entry, member), H_R10, 0)
/* In code that is called: the return address lies on top. */
static inline struct x64_rm called(struct x64_rm at)
{
    at.disp += 8;
    return at;
}
/* r10, a linear address that scratch[2] holds, too, is looked up in the TLB as mem_check does: r10 is the addend. */
void linear_check(struct lower *l, unsigned size, unsigned align, bool write, u32 site);
/* The stack's bytes FROM rSP on are in a checked group. */
bool stack_checked(const struct lower *l, i64 from, unsigned size, bool write);
void groups_after(struct lower *l, const struct uop *u); /* U has been lowered */
void groups_forget(struct lower *l);

/* x64_flags.c */
void flags_memory(struct lower *l);                /* the state holds them, in some way */
void flags_stored(struct lower *l, const struct uop *u); /* jit_near.flags does; RFLAGS is free */
void flags_ready(struct lower *l, const struct uop *u); /* a flags_want behind it for U keeps r10 */
void flags_hold(struct lower *l);                  /* RFLAGS may be overwritten */
void flags_want(struct lower *l, unsigned bits, const struct uop *u); /* RFLAGS holds BITS. Keeps r9 and
        r10, unless it must redo (r9), or flags_ready was not called */
void flags_cold(struct lower *l);                  /* flags_memory in cold code; the hot path's view stays */
void flags_before(struct lower *l, const struct uop *u);
enum recipe_kind recipe_plan(const struct lower *l, const struct uop *u);
bool recipe_same(const struct recipe *a, const struct recipe *b);
bool recipe_wants_value(const struct uop *u, enum recipe_kind kind);
void flags_written(struct lower *l, const struct uop *u, enum recipe_kind kind);

#define AT_JUMP(member) \
    AT_INDEX(STATE_AT + (i64)(offsetof(struct jit_state, jumps) + offsetof(struct jump, member)), H_R9, 0)

/* x64_cross.c: TARGET is an offset from the page's start, outside of it; COUNTED: instructions icount got. */
void cross_lower(struct lower *l, const struct uop *u, i64 target, unsigned counted);
void cross_thunks(struct jit_cpu *j, struct x64 *e);

/* x64_exit.c */
/* r9 = REG's slot of 2^BITS in the jump cache, from the slot FIRST on. */
void probe_slot(struct x64 *e, unsigned reg, u32 hash, unsigned bits, u32 first);
/* Looks r10 up in the jump cache's first slot for it, r9; its place in the jump taken on CC. Then in the second:
 * in the jump taken when it is there. r10 is the key behind the first. */
u8 *probe_first(struct x64 *e, unsigned cc);
u8 *probe_second(const struct jit_cpu *j, struct x64 *e);
void jump_there(struct lower *l, struct x64 *e, unsigned count);
u32 site_new(struct lower *l, enum site_kind kind, const struct uop *u);
bool site_unused(struct lower *l, u32 site); /* true: it is no more */
void site_resume(struct lower *l, u32 site);
void cold_call(struct lower *l, u8 *patch, u32 site); /* the jump at PATCH goes to C */
/* What is called when a look was not met: NULL, nothing. STACK: the bytes of an access through RSP that is not in
 * the stack's page; 0: another, and the thunk fills the TLB. */
struct refill { const u8 *thunk; unsigned stack; };
void cold_refill(struct lower *l, u8 *patch, struct refill how, u32 site); /* where that did not do, to C */
void cold_refill_at(struct lower *l, u8 *patch, unsigned how, unsigned size, u32 site); /* HOW: tlb_refill's */
void cold_plain(struct lower *l, u8 *patch, struct refill how, const struct uop *u); /* on without one shared check */
void call_c(struct lower *l, struct x64 *e, u32 site);
void count_insns(struct x64 *e, unsigned count);
void vectors_want(struct lower *l, unsigned want, const struct uop *u);
void exit_direct(struct lower *l, const struct uop *u, i64 target, unsigned count);
void branch_lower(struct lower *l, const struct uop *u);
i64 branch_target(const struct uop *u);
void emit_second(struct x64 *e);

/* x64_lower.c, x64_vec.c */
void uop_lower(struct lower *l, const struct uop *u);
void vector_lower(struct lower *l, const struct uop *u);

/* x64_system.c */
void swapgs_lower(struct lower *l);
void direction_lower(struct lower *l, const struct uop *u);
void pause_lower(struct lower *l, const struct uop *u);
void read_cr_lower(struct lower *l, const struct uop *u);
void access_lower(struct lower *l, const struct uop *u);
void transfer_lower(struct lower *l, const struct uop *u);

/* x64_segments.c: code that is not flat */
struct x64_rm checked_access(struct lower *l, const struct address *a, unsigned size, unsigned align, bool write, u32 site);
void segment_read_lower(struct lower *l, const struct uop *u);
void segment_load_lower(struct lower *l, const struct uop *u);
void linear_target(struct lower *l);   /* r10, an offset in the code segment, becomes a linear address */
void loop_lower(struct lower *l, const struct uop *u); /* RFLAGS: see loop_cc */
static inline unsigned loop_cc(const struct uop *u) { return u->insn->op == OP_JCXZ ? CC_E : CC_NE; }

/* x64_straddle.c */
void straddle_guard(struct lower *l, const struct code_straddle *straddle);

/* x64_x87.c */
void x87_want(struct lower *l, const struct uop *u);
void x87_lower(struct lower *l, const struct uop *u);
void x87_thunks(struct jit_cpu *j, struct x64 *e);

/* x64_thunks.c */
void x64_thunks(struct jit_cpu *j);

#endif
