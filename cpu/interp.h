/*
 * The interpreter's insides: the decoded-block cache, how a handler goes on to the next instruction,
 * and how a block is left. Included by interp*.c and cpu.c only.
 *
 * A handler ends in INTERP_NEXT, a sibling call of the next instruction's handler. Blocks follow one
 * another the same way while the processor has nothing else to do (icount < run_until); where the
 * compiler can't be relied on for sibling calls each block returns to cpu_run instead, so that the
 * host stack grows by one block at most.
 */
#ifndef CPU_INTERP_H
#define CPU_INTERP_H

#include "cpu/sem.h"

#if defined(__has_attribute)
#if __has_attribute(musttail)
#define INTERP_MUSTTAIL __attribute__((musttail))
#define INTERP_CHAIN 1
#endif
#endif
#ifndef INTERP_MUSTTAIL
#define INTERP_MUSTTAIL
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define INTERP_CHAIN 1
#else
#define INTERP_CHAIN 0
#endif
#endif

#define BLOCK_SLOTS 131072u   /* 64-byte slots, touched as they are used: 8 MiB */
#define BLOCK_SLOTS_AT_START 32768u
#define BLOCK_SLOTS_LEAST 24576u
#define BLOCK_INSNS 64u
#define BLOCK_BUCKET_BITS 14
#define BLOCK_HASH (1u << BLOCK_BUCKET_BITS)
#define BLOCK_JUMPS 2048u

/* One slot in front of its instructions. Position independent, found by arena page. */
struct block {
    struct code_page *page;
    u64 key;          /* block_key() */
    u64 arena_page;
    u32 generation;   /* of the page when it was decoded */
    u32 next;         /* slot of the next block in its hash chain; 0: none */
    u16 bytes;        /* of guest code */
    u8 count;         /* instructions */
    u8 unused[27];
    struct insn insns[];
};
_Static_assert(sizeof(struct block) == sizeof(struct insn), "a block's head takes one slot");

/* Where a linear address in a mode leads, good while the TLB still says `slow`. */
struct jump_entry {
    u64 key;          /* linear ^ mode_key << 48 */
    struct block *block;
    u64 slow;         /* physical page | TLB_EXECUTABLE */
    u64 unused;
};

struct block_cache {
    struct insn slots[BLOCK_SLOTS];
    struct insn scratch[2];            /* an instruction that is not kept */
    struct jump_entry jumps[BLOCK_JUMPS];
    u32 hash[BLOCK_HASH];
    u32 used, limit;                   /* slots; slot 0 is never handed out */
    struct insn *link_from;            /* the branch that wants to be linked to what runs next */
};

/* How many instructions of its block come before INSN. */
#define INSN_INDEX(insn) ((insn)->operand[3].unused)

#define INTERP_NEXT                                                                                \
    do {                                                                                           \
        const struct insn *next_ = insn + 1;                                                       \
        INTERP_MUSTTAIL return next_->fn(cpu, next_);                                              \
    } while (0)

/* Handlers that others end in. */
bool interp_slow(struct vcpu *cpu, const struct insn *insn);     /* generic semantics, then next */
bool interp_checked(struct vcpu *cpu, const struct insn *insn);  /* with the row's checks first */
bool interp_end(struct vcpu *cpu, const struct insn *insn);      /* generic, back to cpu_run */
bool interp_end_near(struct vcpu *cpu, const struct insn *insn); /* generic near transfer */
bool interp_fall(struct vcpu *cpu, const struct insn *insn);     /* behind a block's last */
bool interp_link(struct vcpu *cpu, const struct insn *insn);     /* direct branch, not linked */
bool interp_next(struct vcpu *cpu, const struct insn *insn);     /* on to cpu->rip, counted already */

static ALWAYS_INLINE bool interp_hurried(const struct vcpu *cpu)
{
    return cpu->icount >= atomic_load_explicit(&cpu->run_until, memory_order_relaxed);
}

static ALWAYS_INLINE bool block_fresh(const struct block *block)
{
    return atomic_load_explicit(&block->page->generation, memory_order_acquire) ==
           block->generation;
}

/* The block a direct branch was linked to, or NULL. The link lies in the unused displacement. */
static ALWAYS_INLINE const struct insn *interp_linked(struct vcpu *cpu, const struct insn *insn)
{
    cpu->icount += INSN_INDEX(insn) + 1;
#if INTERP_CHAIN
    if (unlikely(interp_hurried(cpu)) || unlikely(!insn->disp)) return NULL;
    const struct block *block = (const struct block *)(insn + insn->disp);
    return likely(block_fresh(block)) ? block->insns : NULL;
#else
    return NULL;
#endif
}

/* Leaves the block by the direct branch INSN. */
#define INTERP_BRANCH                                                                              \
    do {                                                                                           \
        const struct insn *to_ = interp_linked(cpu, insn);                                         \
        if (likely(to_ != NULL)) { INTERP_MUSTTAIL return to_->fn(cpu, to_); }                     \
        INTERP_MUSTTAIL return interp_link(cpu, insn);                                             \
    } while (0)

/* Where a direct near branch leads. */
static ALWAYS_INLINE u64 interp_target(const struct vcpu *cpu, const struct insn *insn)
{
    u64 ip = cpu->regs[REG_IP_BASE] + insn->pos + insn->length + insn->imm;
    return insn->size == 8 ? ip : insn->size == 4 ? (u32)ip : (u16)ip;
}

/* The handler for a decoded instruction (interp_pick.c). */
insn_fn interp_handler(struct vcpu *cpu, const struct insn *insn);
/* A handler for INSN fused with the Jcc behind it, or NULL. */
insn_fn interp_fused(struct vcpu *cpu, const struct insn *insn);

/* --- what cpu_run uses (interp.c) --- */
struct block_cache *block_cache_new(void);
void block_cache_flush(struct block_cache *cache);
/* Linear addresses may lead elsewhere, whatever the TLB says. */
void block_cache_unmapped(struct block_cache *cache);
/* The first instruction to run at cpu->rip: a cached block's, or a single one's. NULL: exception
 * recorded for cpu->rip. ONE: just one instruction. Sets REG_IP_BASE. */
const struct insn *interp_enter(struct vcpu *cpu, bool one);
/* Of the instruction that made a handler return false. */
static inline u64 interp_stopped_ip(const struct vcpu *cpu)
{
    return cpu_ip(cpu, cpu->current_insn);
}

#endif
