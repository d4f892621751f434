/*
 * The translator's insides, shared by its files.
 *
 * Everything here belongs to one virtual processor and is touched by its thread only: blocks, code
 * memory, jump cache. (`struct jit` is what the processors of a machine share: options, counters.)
 */
#ifndef JIT_INT_H
#define JIT_INT_H

#include "cpu/flags.h"
#include "cpu/sem.h"
#include "cpu/smp.h"
#include "jit/jit.h"
#include "jit/uop.h"

struct host_features {
    struct feature_set set;
    bool avx;
};

#define JUMP_SLOTS 4096u
#define X87_NOTHING 0xffffu
#define JUMP_HASH 0x9e3779b1u

/* Behind struct vcpu, reached by translated code through its state pointer. */
struct jit_state {
    u64 host_rsp;       /* C stack of the thread that runs the processor */
    u64 resume;         /* where translated code goes on */
    u64 scratch[3];
    u64 jump_number;    /* what entries of `jumps` must carry to be good now */
    u16 flags;          /* AH: SF ZF AF PF CF as LAHF has them; AL: OF */
    u8 vectors_live;    /* the guest's vector registers and MXCSR are in the host's: 1 SSE, 3 AVX too */
    u8 x87_live;        /* the guest's x87 registers and words are in the host's */
    u32 host_mxcsr;
    struct x87_note { u16 pos, seg; } x87_note; /* last x87 instruction: offset in x87_page; segment
                           register of the last operand at x87_fdp. X87_NOTHING: none since settled */
    u64 x87_page, x87_fdp;
    struct jump { u64 linear, number, page; const u8 *code; } jumps[JUMP_SLOTS];
};

struct jblock {
    u64 key;
    _Atomic u32 *page_generation;
    u32 generation;
    u32 next;           /* in its hash chain; 0: none */
    const u8 *entry;    /* executable address behind the generation check */
    const u8 *checked;  /* in front of it */
    u16 pos, end;       /* guest bytes, in the page */
    u8 count;
    u32 code_bytes, cold_bytes;
    struct code_straddle *straddle; /* of a block that is one instruction in two pages, else NULL */
};

#define STRADDLE_LIMIT 4096u

enum site_kind {
    SITE_ACCESS,   /* an instruction's memory access was not for the fast path: run it, go on */
    SITE_HELPER,   /* an instruction without a uop: run it, go on */
    SITE_END,      /* an instruction that ends the block: run it, look up where it leads */
    SITE_LINK,     /* direct branch within the page, counted: look up, then link */
    SITE_LOOKUP,   /* branch done and counted, rip stored: look up */
    SITE_VECTORS,  /* vector registers are wanted in the host's */
    SITE_X87,      /* the x87's are */
    SITE_STRADDLE, /* the block's second page is not what it was */
};

/* A place where translated code calls C. */
struct jsite {
    struct insn insn;
    const u8 *resume;   /* executable address */
    u8 *patch;          /* SITE_LINK: writable address of the jump's displacement */
    u32 block;
    u16 target;         /* SITE_LINK: offset in the page. SITE_VECTORS and behind: of the instruction */
    u8 kind, index;     /* index: instructions of the block in front */
    u8 want;            /* SITE_VECTORS: vectors_live wanted */
};

#define BLOCK_HASH_BITS 16
#define COUNTER_SLOTS 65536u

struct code_memory {
    u8 *rw;             /* writable view */
    const u8 *rx;       /* executable view of the same memory */
    size_t size;
};

struct jit_cpu {
    struct jit *jit;
    struct vcpu *cpu;
    struct jit_state *state;
    struct code_memory code;
    u8 *hot, *hot_end, *cold, *cold_end; /* writable addresses not yet used */
    u8 *hot_start, *cold_start;
    const u8 *enter, *leave, *slow;      /* thunks, executable addresses */
    const u8 *x87_save, *x87_restore;
    struct jblock *blocks;
    struct jsite *sites;
    u32 block_count, block_limit, site_count, site_limit, straddle_count;
    struct code_straddle straddles[STRADDLE_LIMIT]; /* what blocks in two pages compare on the way in */
    u32 hash[1u << BLOCK_HASH_BITS];
    u8 counters[COUNTER_SLOTS];
    struct { u64 page, icount; u32 writes; } modified[256]; /* pages whose code was written lately */
    u32 flushes;
    struct host_features host;
    enum engine_result result;
    /* Jump cache validity: a number for each mode in use, and what has been entered since. */
    u16 modes[16];
    u32 epochs[16];
    bool local[16];      /* entries of pages that are not global */
    u8 mode_count, mode_now;
    u32 mode_key_now;
    bool refused;        /* the block at rip is the interpreter's, once */
    u64 pages[64];       /* hashed pages with entries */
    u64 large;           /* hashed GiB with entries from large pages */
    struct translation work;
};

struct jit {
    struct jit_options options;
    struct log *log;
    struct jit_stats stats;
};

/* translate.c, x64_lower.c */
bool jit_translate(struct jit_cpu *j, struct jblock *block, const u8 *page, unsigned pos);
bool x64_lower(struct jit_cpu *j, struct jblock *block, const struct translation *t);
void x64_thunks(struct jit_cpu *j);
typedef u64 (*x64_enter_fn)(struct vcpu *cpu, const u8 *code);

/* jit.c: what translated code calls */
const u8 *jit_slow(struct vcpu *cpu, u32 site);

/* x87_live.c */
bool x87_load(struct jit_cpu *j);        /* false: not under these masks, or CR0 */
void x87_spill(struct jit_cpu *j);       /* nothing when they are not there */
void x87_settle(struct jit_cpu *j);
bool x87_concerns(const struct insn *insn);

/* cache.c */
bool code_memory_new(struct code_memory *code, size_t size);
void code_memory_free(struct code_memory *code);
void cache_reset(struct jit_cpu *j);
struct jblock *cache_find(struct jit_cpu *j, u64 key);
void cache_add(struct jit_cpu *j, u32 block);
void jumps_mode(struct jit_cpu *j);      /* state->jump_number for the processor's mode now */
void jumps_add(struct jit_cpu *j, u64 linear, const u8 *code);
void jumps_clear(struct jit_cpu *j);
void jumps_unmapped(struct vcpu *cpu, u64 page, bool all);

/* dump.c */
void jit_dump(struct jit_cpu *j, const struct jblock *block, const struct translation *t,
              const u8 *page);

static inline struct jit_state *jit_state_of(struct vcpu *cpu)
{
    return (struct jit_state *)(((uintptr_t)(cpu + 1) + 63) & ~(uintptr_t)63);
}
static inline const u8 *code_rx(const struct jit_cpu *j, const u8 *rw)
{
    return j->code.rx + (rw - j->code.rw);
}

#endif
