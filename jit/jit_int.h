/*
 * The translator's insides, shared by its files.
 *
 * Everything here belongs to one virtual processor and is touched by its thread only: blocks, code
 * memory, jump cache. (`struct jit` is what the processors of a machine share: options, counters.) But for
 * the area of code memory that the processor's background thread fills (background.c).
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

#define JUMP_SLOTS 16384u
#define HEAT_SLOTS 2048u
#define PAUSES 100u
#define X87_NOTHING 0xffffu
#define JUMP_SECOND 4096u /* behind them: for what met its like in its slot */
#define JUMP_HASH 0x9e3779b1u
#define JUMP_HASH_SECOND 0x85ebca6bu
#define JUMP_PAGE_BITS 65536u

/* Whose entries of the jump cache: a mode's, and for user code a process context's. */
struct jump_space {
    u64 sign;           /* what they carry */
    u32 key;
    bool local;         /* there are some of pages that are not global */
    u64 segment;        /* segment_key() */
};
/* The usual supervisor mode and the same with EFLAGS.AC have fixed places. */
#define SPACE_KEY (MODE_CODE64 | MODE_FLAT | MODE_STACK32 | MODE_PROTECTED)
enum { SPACE_SUPERVISOR, SPACE_AC, SPACE_OTHERS, SPACES = 66 };

/*
 * Translated code's state lies in and around struct vcpu, which it reaches through its state pointer. That
 * points into regs, so that a displacement of one byte reaches what units touch most: the registers without
 * a host register, what struct vcpu has next to them up to the TLB's first fields, and below it what lies
 * within a signal handler's distance from the stack pointer, 128 bytes.
 */
#define NEAR_GROUPS 3u
struct jit_near {       /* ends where struct vcpu begins */
    u64 groups[NEAR_GROUPS]; /* addends of checked pages, good within a unit */
    u64 flag_operand[2]; /* of the operation that wrote the flags: what redoing it takes and is not in
                           registers; all of it when flag_way says so */
    u64 jump_sign;      /* what entries of `jumps` must carry to be good now */
    u32 flag_way;       /* how the flags can be had (flag_way.h); 0: */
    u16 flags;          /* AH: SF ZF AF PF CF as LAHF has them; AL: OF */
    u8 vectors_live;    /* the guest's vector registers and MXCSR are in the host's: 1 SSE, 3 AVX too */
    u8 x87_live;        /* the guest's x87 registers and words are in the host's */
};
#define STATE_POINTER ((i64)offsetof(struct vcpu, regs[R9])) /* where in struct vcpu it points */
#define STATE_AT ((i64)((sizeof(struct vcpu) + CPU_SHIFT + CPU_ALIGNED - 1) / CPU_ALIGNED * CPU_ALIGNED - CPU_SHIFT))
_Static_assert(STATE_POINTER + sizeof(struct jit_near) <= 128, "out of signal handlers' way");
_Static_assert(offsetof(struct vcpu, tlb.entry) + sizeof(struct tlb_entry) - 8 - STATE_POINTER <= 128, "near");
_Static_assert((offsetof(struct vcpu, tlb.entry) + CPU_SHIFT) % CPU_ALIGNED == 0, "entries keep to a line");

/* Behind struct vcpu. */
struct jit_state {
    u64 scratch[3];
    u64 stack_at;       /* an address through RSP that is being looked up */
    u64 resume;         /* where translated code goes on */
    u64 groups[GROUP_MAX - NEAR_GROUPS]; /* as jit_near's */
    u64 host_rsp;       /* C stack of the thread that runs the processor */
    struct { u64 read, write; } reach[6]; /* offsets below are translated code's (segments.c) */
    u32 pauses;         /* PAUSEs until others may have the host's processor */
    u32 slow_site;      /* where jit_light wants to go on */
    u32 host_mxcsr;
    struct x87_note { u16 pos, seg; } x87_note; /* last x87 instruction: offset in x87_page; segment
                           register of the last operand at x87_fdp. X87_NOTHING: none since settled */
    u64 x87_page, x87_fdp;
    struct jump_space spaces[SPACES];
    i32 passes[HEAT_SLOTS]; /* of branches to other pages, until they are linked anew */
    i32 heat[HEAT_SLOTS]; /* ways back left until a loop is worth tier 2 */
    struct jump { u64 key, sign, page; const u8 *code; } jumps[JUMP_SLOTS + JUMP_SECOND] __attribute__((aligned(64)));
};

#define KEY_PLAIN 0x8000u /* beside the mode: no shared checks */
_Static_assert(MODE_RING12 < KEY_PLAIN && !(STOPS_KEY & KEY_PLAIN), "a bit of its own");

/* Where in a code segment that is not flat a page lies: offset of its first byte, negative when the segment
 * begins in it; the last offset of the segment. */
struct code_place { u32 start, last; };

struct jblock {
    u64 key;
    struct code_place place; /* zero: flat */
    _Atomic u32 *page_generation;
    u32 generation;
    u32 next;           /* in its hash chain; 0: none */
    const u8 *entry;    /* executable address behind the generation check */
    const u8 *checked;  /* in front of it */
    const u8 *inner;    /* behind the look at the time, too */
    u16 pos;            /* in the page */
    bool loops;         /* tier 2 */
    u32 redirected;     /* of tier 1: the block that is entered instead, or 0 */
    u32 instead_of;     /* of tier 2: the block that leads here, if it still does */
    u8 was[10];         /* what its entries were before they were redirected */
    u32 code_bytes, cold_bytes;
    struct code_straddle *straddle; /* of a unit that is one instruction in two pages, else NULL */
};

#define STRADDLE_LIMIT 4096u

enum site_kind {
    /* Those that run the instruction. */
    SITE_ACCESS,   /* an instruction's memory access was not for the fast path: run it, go on */
    SITE_LOAD,     /* the same, of one that only reads: load for it, go on with it */
    SITE_HELPER,   /* an instruction without a uop: run it, go on */
    SITE_END,      /* an instruction that ends the block: run it, look up where it leads */
    SITE_LIGHT,    /* the same; jit_light did not do it. The next site is its LOOKUP */
    SITE_RUNS = SITE_LIGHT,
    SITE_LINK,     /* direct branch within the page, counted: look up, then link */
    SITE_PLAIN,    /* a shared check failed, counted: on with a unit that has none, link */
    SITE_LOOKUP,   /* branch done and counted, rip stored: look up */
    SITE_CROSS,    /* the same, of a direct branch, which may be linked */
    SITE_VECTORS,  /* vector registers are wanted in the host's */
    SITE_X87,      /* the x87's are */
    SITE_FLAGS,    /* jit_near.flags is wanted */
    SITE_STRADDLE, /* the block's second page is not what it was */
    SITE_HOT,      /* a tier 1 unit has gone back often */
};

/* What led out of the page. */
enum cross_by { CROSS_FALL, CROSS_JUMP, CROSS_CALL };

/* A place where translated code calls C. */
struct jsite {
    union {
        const u8 *resume; /* executable address */
        u8 *cell;         /* SITE_CROSS: writable address of what it is compared with (x64_cross.c) */
    };
    u8 *patch;          /* SITE_LINK, SITE_CROSS, SITE_PLAIN: writable address of the jump's displacement */
    u32 block;
    u32 insn;           /* of the kinds that run it: in jit_cpu.insns */
    u16 target;         /* offset in the page: SITE_LINK, SITE_HOT: where it leads; others: of the instruction */
    u16 mode;           /* SITE_LINK: the mode it leads to, as in a block's key */
    u16 index;          /* instructions in front that icount does not yet have */
    u8 kind;
    u8 want;            /* SITE_VECTORS: vectors_live wanted. SITE_CROSS: enum cross_by */
    i32 way;            /* SITE_CROSS: bytes from the page to the target's */
};

/* A site's jump was patched to lead to a block. */
struct link {
    u32 block;          /* or 0 */
    u32 unlinked;       /* the displacement before */
};

#define BLOCK_HASH_BITS 16
#define COUNTER_SLOTS 65536u

struct code_memory {
    u8 *rw;             /* writable view */
    const u8 *rx;       /* executable view of the same memory */
    size_t size;
};

/* A part of code memory and of the tables: what is evicted together (areas.c). */
#define AREAS_MOST 16u
struct code_area {
    u8 *hot, *hot_end, *cold_end; /* writable addresses; cold parts from hot_end on */
    u32 block, block_end, site, site_end, straddle, straddle_end;
    u32 block_used, site_used; /* up to which; and bytes, while another one is being filled */
    u64 used, began;    /* at this icount */
    u64 turn;           /* when that was among all areas; 0: never yet */
};

/* The rest of an area that is being filled, writable addresses, and of its parts of the tables: the next one
 * free, where the part ends. Who emits takes from a copy, which is kept when the unit is (make.c). */
#define NO_AREA AREAS_MOST
enum { CURSOR_OWN, CURSOR_BACKGROUND, CURSORS };
struct code_cursor {
    unsigned area;      /* or NO_AREA */
    u8 *hot, *hot_end, *cold, *cold_end;
    u32 block_count, block_end, site_count, site_end, insn_count, straddle_count, straddle_end;
    bool crowded;       /* the rest was too small for the last unit */
};

/* A unit in the making. From its decoding to its installation nothing else is written but code memory and
 * tables at its cursor. */
struct making {
    struct translation t;
    struct code_cursor at;
    unsigned which;      /* cursor of which AT is a copy */
    struct lower *lower; /* the back end's */
    struct code_marks {  /* where uops' code begins, when the listing wants it */
        bool wanted;
        unsigned count;
        struct code_mark { u32 at; u16 uop; } mark[2048];
    } marks;
    u64 key;             /* of the way in that was asked for */
    struct code_place place;
    _Atomic u32 *page_generation;
    u32 generation;      /* when decoding began */
    u64 rip_base;        /* where the page was in the code segment: for listings */
    u64 ns;              /* that lowering took */
};

/* How an access through RSP is looked up that is not to the page it was to before. */
enum stack_way { STACK_READ, STACK_WRITE, STACK_WRITE_IF_KNOWN /* the TLB is not filled for it */, STACK_WAYS };

struct jit_cpu {
    struct jit *jit;
    struct vcpu *cpu;
    struct jit_state *state;
    struct code_memory code;
    struct code_area areas[AREAS_MOST];
    unsigned area_count;
    struct code_cursor cursors[CURSORS];
    u64 turns;           /* areas begun */
    u8 *hot, *hot_end;   /* writable addresses the thunks may take; behind them lie the areas */
    const u8 *enter, *leave, *slow, *light; /* thunks, executable addresses */
    const u8 *refill[TLB_MODES * 2], *refill_at, *stack[STACK_WAYS], *second, *cross_way, *cross_gone;
    const u8 *x87_save, *x87_restore;
    struct jblock *blocks;
    struct jsite *sites;
    struct link *links;  /* by site */
    struct insn *insns;  /* no more than sites: an area's part begins where its sites' does */
    u32 block_limit, site_limit; /* of all areas */
    u8 pressure;         /* doublings of the threshold, as room is short */
    struct code_straddle straddles[STRADDLE_LIMIT]; /* what blocks in two pages compare on the way in */
    struct block_chain { u32 first, kinds; } hash[1u << BLOCK_HASH_BITS]; /* chains of blocks; KINDS: see cache.c */
    u8 counters[COUNTER_SLOTS];
    struct { u64 page, icount; u32 writes; } modified[256]; /* pages whose code was written lately */
    u32 evictions;       /* code has gone: pointers into it and to blocks and sites may be void */
    struct host_features host;
    enum engine_result result;
    /* Jump cache validity: each mode, and for user code each process context, has a sign. */
    struct jump_space *space_now;
    u64 signs;           /* the state of the generator of signs */
    bool refused;        /* the block at rip is the interpreter's, once */
    bool low_supervisor; /* supervisor code in the lower half of the addresses */
    u32 page_count;
    u64 searched;        /* icount when the cache was searched for a page */
    u64 pages[JUMP_PAGE_BITS / 64]; /* hashed pages with entries */
    u64 crossed[JUMP_PAGE_BITS / 64]; /* and that branches of other pages are linked to */
    u32 crossed_count;
    struct making own;   /* by the processor's thread */
    struct background *background; /* NULL: none was needed yet */
    bool background_off; /* not wanted, or no thread to be had */
    struct jit_stats stats;
    struct lockstep *lockstep; /* or NULL */
    u64 ops[OP_COUNT];   /* exits to the interpreter's function, by operation */
};

#define JIT_CPUS 64u

struct jit {
    struct jit_options options;
    struct log *log;
    struct jit_cpu *cpus[JIT_CPUS]; /* attached; those that were detached leave a hole */
    struct jit_perf *perf;          /* NULL: nobody asked */
    struct symbols *symbols;        /* NULL: none */
};

/* x64_unit.c, x64_thunks.c. Code for M's unit; blocks[n] is for its root n. False: it does not fit. Of J it
 * takes what never changes. */
bool x64_lower(const struct jit_cpu *j, struct making *m, struct jblock *blocks);
struct lower *x64_lower_new(void); /* freed by free(); NULL: no memory */
void x64_redirect(struct jit_cpu *j, struct jblock *from, struct jblock *to);
void x64_redirect_undo(struct jit_cpu *j, const struct jblock *from);
void x64_serialize(void); /* behind what was seen of another thread's code, in front of running it */
void x64_cool(struct jit_cpu *j, struct jsite *site);
bool x64_start(struct jit_cpu *j);
void x64_stop(struct jit_cpu *j);
/* x64_cross.c */
void cross_link(struct jit_cpu *j, struct jsite *site, const struct jblock *block);
typedef u64 (*x64_enter_fn)(struct vcpu *cpu, const u8 *code);

/* jit.c: what translated code calls; entering it */
enum engine_result jit_enter(struct jit_cpu *j, const struct jblock *block);
const u8 *jit_slow(struct vcpu *cpu, u32 site);
/* unit.c: the code of the unit that M->key and M->place ask for is decoded, under the rules for code pages
 * (cpu/smp.h), as the processor is now. LOOPS: up to so many instructions of tier 2; 0: tier 1. */
bool unit_decode(struct jit_cpu *j, struct making *m, const u8 *page, unsigned loops);
/* The unit is the first COUNT instructions decoded: nodes and uops of them. Touches T only. */
bool unit_build(const struct jit_cpu *j, struct translation *t, unsigned count);

/* make.c */
struct jblock *block_make(struct jit_cpu *j, u64 key, struct code_place place, const u8 *page);
enum loops_answer {
    LOOPS_MADE,   /* or being made */
    LOOPS_LATER,  /* not now */
    LOOPS_NEVER,  /* tier 2 can't take it */
};
/* A tier 2 unit, now or before long, in place of the block with KEY and of those it leads through; SITE asks. */
enum loops_answer loops_make(struct jit_cpu *j, u64 key, struct code_place place, const u8 *page,
                             const struct jsite *site);
/* The steps: the processor's thread; any; the processor's again, while the page is what it was. */
bool making_begin(struct jit_cpu *j, struct making *m, unsigned cursor, u64 key, struct code_place place,
                  const u8 *page, unsigned loops);
bool making_lower(const struct jit_cpu *j, struct making *m);
void loops_install(struct jit_cpu *j, struct making *m);
bool cursor_used_up(const struct code_cursor *c);

/* background.c: tier 2 units by another thread. All by the processor's thread, or while it does not run. */
bool background_wanted(struct jit_cpu *j); /* starts the thread when it is */
enum loops_answer background_ask(struct jit_cpu *j, u64 key, struct code_place place, const u8 *page,
                                 const struct jsite *site);
void background_look(struct jit_cpu *j);   /* what is made is kept; no code goes */
void background_drop(struct jit_cpu *j);   /* what is being made; waits for the thread */
void background_stop(struct jit_cpu *j);

/* light.c: what it calls without saving registers that C leaves alone; NULL: see state->slow_site */
const u8 *jit_light(struct vcpu *cpu, u32 site);

/* x87_live.c */
bool x87_load(struct jit_cpu *j);        /* false: not under these masks, or CR0 */
void x87_spill(struct jit_cpu *j);       /* nothing when they are not there */
void x87_settle(struct jit_cpu *j);
bool x87_concerns(const struct insn *insn);

/* cache.c */
bool code_memory_new(struct code_memory *code, size_t size);
void code_memory_free(struct code_memory *code);
/* Little more will be written in [FROM, END) for now. */
void code_memory_written(const struct code_memory *code, u8 *from, u8 *end);
void cache_reset(struct jit_cpu *j);
struct jblock *cache_find(struct jit_cpu *j, u64 key, struct code_place place);
void cache_add(struct jit_cpu *j, u32 block);
void cache_remove(struct jit_cpu *j, u32 block); /* if it is there */
/* Times the interpreter has been where no block with KEY was; others may share it. */
static inline u8 *cache_counter(struct jit_cpu *j, u64 key)
{
    return &j->counters[key * 0x9e3779b97f4a7c15ull >> 48 & (COUNTER_SLOTS - 1)];
}
/* How often KEY has been come to: there is a block (255), or times so far. */
unsigned cache_seen(struct jit_cpu *j, u64 key, struct code_place place);
void signs_start(struct jit_cpu *j);     /* once, before cache_reset */
void jumps_mode(struct jit_cpu *j);      /* state->jump_sign for the processor's mode now */
bool jumps_add(struct jit_cpu *j, u64 linear, const u8 *code); /* false: not now */
const struct jump *jumps_find(struct jit_cpu *j, u64 linear); /* good now, or NULL */
/* No address meets it but by guessing a sign. */
static inline void jump_void(struct jump *jump) { jump->key = jump->sign = 0; }
void jumps_crossed(struct jit_cpu *j, u64 page); /* a branch has been linked to code there */
void jumps_clear(struct jit_cpu *j);
void jumps_unmapped(struct vcpu *cpu, enum unmapped what, u64 which);

/* segments.c */
void segments_look(struct jit_cpu *j);           /* state->reach for the segment registers now */
u64 segment_key(const struct vcpu *cpu);         /* what the jump cache's entries of segmented code depend on */
/* Linear address of rip, and its page's place; false: not for translated code. */
bool code_place(const struct vcpu *cpu, u64 *linear, struct code_place *place);
static inline bool cpu_segmented(const struct vcpu *cpu)
{
    return cpu->code_size != CODE64 && (cpu->code_size == CODE16 || !(cpu->mode_key & MODE_FLAT));
}
static inline u64 code_linear(const struct vcpu *cpu)
{
    return cpu_segmented(cpu) ? (u32)(cpu->seg[CS].base + cpu->rip) : cpu->rip;
}

/* areas.c */
void areas_make(struct jit_cpu *j);
void areas_reset(struct jit_cpu *j);
u64 areas_used(const struct jit_cpu *j); /* bytes */
bool area_is_half_full(const struct jit_cpu *j, const struct code_cursor *c);
/* CURSOR begins the area that has been filled the longest time ago, and evicts what is there; from C that
 * returns to no code of it. No cursor's own is taken. */
void area_next(struct jit_cpu *j, unsigned cursor);
bool link_may(const struct jit_cpu *j, const struct jsite *site);
void link_unmake(struct jit_cpu *j, const struct jsite *site);
/* SITE's jump leads to TO, in BLOCK, until that is evicted. */
void link_make(struct jit_cpu *j, const struct jsite *site, const struct jblock *block, const u8 *to);

/* perf.c: telling Linux perf what lies where. NAME: of code that no block is. */
struct jit_perf *perf_new(const struct jit_options *options, struct error *error);
void perf_free(struct jit_perf *perf);
void perf_code(struct jit_perf *perf, const u8 *code, size_t length, const char *name);
void perf_block(struct jit_cpu *j, const struct jblock *block, const struct making *m);

/* symbols.c: names of guest code. NAME gets "name+0xoffset", or the address when nothing is known. */
struct symbols *symbols_load(const char *path, struct error *error);
void symbols_free(struct symbols *symbols);
void symbols_name(const struct symbols *symbols, u64 address, char *name, size_t size);

/* lockstep.c */
bool lockstep_new(struct jit_cpu *j); /* when options ask for it */
void lockstep_free(struct jit_cpu *j);
enum engine_result lockstep_run(struct jit_cpu *j, const struct jblock *block);
/* While cpu->undo is set, in front of INSN run in C: it reaches beyond processor and memory. */
bool lockstep_refuses(struct vcpu *cpu, const struct insn *insn);
void lockstep_print(const struct jit_cpu *j, char *line, size_t size);

/* stats.c */
u64 jit_time(void); /* ns */

/* dump.c */
void jit_list(unsigned code_size, const u8 *bytes, size_t length, u64 address); /* to stderr */
#define LISTING_CHANNELS (1u << LOG_IN_ASM | 1u << LOG_OP | 1u << LOG_OUT_ASM)
void jit_dump(struct jit_cpu *j, const struct jblock *block, const struct making *m);

static inline struct jit_state *jit_state_of(struct vcpu *cpu)
{
    return (struct jit_state *)((u8 *)cpu + STATE_AT);
}
static inline struct jit_near *jit_near(const struct vcpu *cpu) { return (struct jit_near *)cpu - 1; }
static inline const u8 *code_rx(const struct jit_cpu *j, const u8 *rw)
{
    return j->code.rx + (rw - j->code.rw);
}

#endif
