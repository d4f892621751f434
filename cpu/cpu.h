/*
 * A virtual processor: its architectural state, what it is told from outside, and how it is run.
 * Specification: Intel SDM vol. 1-3, AMD APM vol. 1-3; where they differ the vendor that CPUID
 * shows.
 *
 * Arithmetic flags are kept lazily in lf_result and lf_aux (flags.h); eflags holds the others.
 * Thread: a vcpu belongs to the thread that runs it; only `requests` and what is said to be may be
 * touched by others.
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "cpu/insn.h"
#include "cpu/stops.h"
#include "cpu/vec.h"
#include "machine/log.h"
#include "machine/memory.h"
#include "machine/pins.h"
#include "machine/state.h"

#define TLB_ENTRIES 4096
#define TLB_DIRECTORIES 512
#define TLB_EVICTED 512

/* --- EFLAGS --- */
enum {
    FLAG_CF = 1 << 0, FLAG_PF = 1 << 2, FLAG_AF = 1 << 4, FLAG_ZF = 1 << 6, FLAG_SF = 1 << 7,
    FLAG_TF = 1 << 8, FLAG_IF = 1 << 9, FLAG_DF = 1 << 10, FLAG_OF = 1 << 11, FLAG_IOPL = 3 << 12,
    FLAG_NT = 1 << 14, FLAG_RF = 1 << 16, FLAG_VM = 1 << 17, FLAG_AC = 1 << 18, FLAG_VIF = 1 << 19,
    FLAG_VIP = 1 << 20, FLAG_ID = 1 << 21,
    FLAGS_ARITHMETIC = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF,
};

/* --- control registers --- */
#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_EM (1u << 2)
#define CR0_TS (1u << 3)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_WP (1u << 16)
#define CR0_AM (1u << 18)
#define CR0_NW (1u << 29)
#define CR0_CD (1u << 30)
#define CR0_PG (1u << 31)
#define CR4_VME (1u << 0)
#define CR4_PVI (1u << 1)
#define CR4_TSD (1u << 2)
#define CR4_DE (1u << 3)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)
#define CR4_MCE (1u << 6)
#define CR4_PGE (1u << 7)
#define CR4_PCE (1u << 8)
#define CR4_OSFXSR (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP (1u << 11)
#define CR4_FSGSBASE (1u << 16)
#define CR4_PCIDE (1u << 17)
#define CR4_OSXSAVE (1u << 18)
#define CR4_SMEP (1u << 20)
#define CR4_SMAP (1u << 21)
#define EFER_SCE (1u << 0)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define EFER_NXE (1u << 11)

/* --- vectors --- */
enum {
    VECTOR_DE = 0, VECTOR_DB = 1, VECTOR_NMI = 2, VECTOR_BP = 3, VECTOR_OF = 4, VECTOR_BR = 5,
    VECTOR_UD = 6, VECTOR_NM = 7, VECTOR_DF = 8, VECTOR_TS = 10, VECTOR_NP = 11, VECTOR_SS = 12,
    VECTOR_GP = 13, VECTOR_PF = 14, VECTOR_MF = 16, VECTOR_AC = 17, VECTOR_MC = 18, VECTOR_XM = 19,
};

/* --- segments --- */
/* Attribute bits are the descriptor's high dword >> 8, limit nibble masked out. */
#define SEG_TYPE 0x000f
#define SEG_ACCESSED 0x0001
#define SEG_WRITABLE 0x0002 /* data */
#define SEG_READABLE 0x0002 /* code */
#define SEG_EXPAND_DOWN 0x0004
#define SEG_CONFORMING 0x0004
#define SEG_CODE 0x0008
#define SEG_S 0x0010        /* code or data, not system */
#define SEG_DPL_SHIFT 5
#define SEG_DPL 0x0060
#define SEG_P 0x0080
#define SEG_AVL 0x1000
#define SEG_L 0x2000
#define SEG_DB 0x4000
#define SEG_G 0x8000
#define SEG_UNUSABLE 0x10000 /* loaded with a null selector */

#define SEGMENT_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                  \
    SCALAR(u64, base)                                                                              \
    SCALAR(u32, limit)      /* in bytes, granularity applied */                                    \
    SCALAR(u32, attr)                                                                              \
    SCALAR(u16, selector)                                                                          \
    SCALAR(u16, unused)
struct segment { STATE_MEMBERS(SEGMENT_STATE) };

struct descriptor_table { u64 base; u16 limit; };

/* --- requests from outside (bits of vcpu.requests) --- */
enum cpu_request {
    REQUEST_INTR = 1 << 0,      /* level: INTR is high */
    REQUEST_NMI = 1 << 1,
    REQUEST_SMI = 1 << 2,
    REQUEST_INIT = 1 << 3,
    REQUEST_SIPI = 1 << 4,
    REQUEST_STOP = 1 << 5,      /* leave cpu_run */
    REQUEST_TLB_FLUSH = 1 << 6, /* memory map changed */
    REQUEST_QUIESCE = 1 << 7,   /* acknowledge protect_epoch at the next block boundary */
    REQUEST_MCE = 1 << 8,
    REQUEST_A20 = 1 << 9,
    REQUEST_SAMPLE = 1 << 10,   /* call `sample` at the next boundary */
    REQUEST_CLOCK = 1 << 11,    /* kvm_clock_update */
};

enum cpu_activity { CPU_RUNNING, CPU_HALTED, CPU_WAIT_SIPI, CPU_SHUTDOWN, CPU_MWAIT };

/* Why cpu_run came back. */
enum cpu_exit { CPU_EXIT_STOP, CPU_EXIT_IDLE /* halted, nothing pending */, CPU_EXIT_TRIPLE_FAULT,
                CPU_EXIT_DEBUG /* breakpoint or single step for a debugger */, CPU_EXIT_BUDGET,
                CPU_EXIT_NAP /* MWAIT: another processor may store to the monitored line */ };

/*
 * Soft TLB, study section 5: AoS of 32 bytes, three arrays by privilege. A tag is the page's linear
 * address; an invalid tag has low bits set and matches nothing. tag_write is valid only when a
 * store may go straight to memory (dirty bit set, no code decoded from the page, plain RAM, no
 * watchpoint).
 */
struct tlb_entry {
    _Atomic u64 tag_read;
    _Atomic u64 tag_write;
    u64 addend;     /* host address minus linear address */
    u64 slow;       /* physical page address | TLB_* ; 0: empty */
};
#define TLB_PRESENT 1    /* entry describes a page (tag_page valid via slow_tag) */
#define TLB_WRITABLE 2   /* translation allows writes and D is set */
#define TLB_IO 4         /* no direct memory: bus */
#define TLB_ROM 8        /* direct reads, writes through the bus */
#define TLB_CODE 16      /* code decoded from it: writes take the slow path */
#define TLB_GLOBAL 32
#define TLB_WATCH 64     /* data breakpoint in the page: every access takes the slow path */
#define TLB_LARGE 128    /* part of a 2 MiB, 4 MiB or 1 GiB page */
#define TLB_EXECUTABLE 256
#define TLB_LISTED 512          /* slot is in touched */
#define TLB_LISTED_GLOBAL 1024  /* slot is in touched_global */
#define TLB_APIC 2048           /* the local APIC's page */
/* no address is compared with this bit: alignment checks keep lower ones */
#define TLB_INVALID_TAG 0x800ull

enum tlb_mode { TLB_USER, TLB_KERNEL, TLB_KERNEL_AC, TLB_MODES };
/* USER: CPL 3. KERNEL: supervisor, user pages refused when SMAP is on. KERNEL_AC: supervisor,
 * AC=1. */

enum tlb_stat {
#define TLB_STAT(name, what) TLB_STAT_##name,
#include "cpu/tlb_stats.def"
#undef TLB_STAT
    TLB_STATS
};

/*
 * The page of user code's stack, which translated code looks at first for accesses through RSP: both
 * tags of its entry are valid, or another processor that made the one for writing invalid waits for
 * this one (smp_acknowledge). Any tag is met by some address: when there is no such page it is one
 * that is not canonical and unlikely to be met, and leads to tlb.nowhere, where a real processor
 * would fault.
 */
struct tlb_stack {
    u64 tag;        /* linear address of the page */
    u64 addend;     /* as an entry's */
};
#define TLB_STACK_NONE 0xc7a5916e3bd08000ull

struct tlb {
    struct tlb_stack stack;
    struct tlb_entry entry[TLB_MODES][TLB_ENTRIES];
    u64 slow_tag[TLB_MODES][TLB_ENTRIES]; /* linear page the entry's `slow` is about; invalid tag if
                                             none */
    u16 touched[TLB_MODES][TLB_ENTRIES];  /* slots filled since the last flush of non-globals */
    u16 touched_count[TLB_MODES];
    u16 touched_global[TLB_MODES][TLB_ENTRIES]; /* slots filled with globals since the last full
                                                   flush */
    u16 touched_global_count[TLB_MODES];
    struct memory_window window[4];  /* plain memory met so far */
    u32 window_next;
    u32 directory_epoch; /* of the current context; in the keys: another one empties the cache */
    u32 directory_last;  /* the latest given to any context */
    struct { u16 pcid; u32 epoch; } context[16]; /* epochs of contexts that may come back; 0:
                                                    none */
    struct { u64 key; u8 *host; } directory[TLB_DIRECTORIES]; /* entries by 2 MiB region (mmu.c) */
    u64 large_2m[1024]; /* regions where slices of 2 and 4 MiB pages may be: a bit each 2 MiB,
                           hashed */
    u64 large_1g;      /* and of 1 GiB pages */
    _Atomic u64 evicted[TLB_EVICTED / 64]; /* hashed arena pages whose write tags made room for
                                              others since the last block boundary */
    bool has_evicted;
    u64 stats[TLB_STATS];
    u32 published;     /* write tags made valid since tlb_drop_write_tags */
    u8 nowhere[4096];
};

/* The declared registers: what a snapshot holds. */
#define VCPU_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                     \
    VCPU_NEAR_STATE(SCALAR, ARRAY, GROUP, BLOB) VCPU_FAR_STATE(SCALAR, ARRAY, GROUP, BLOB)
/* What is touched most, so near that translated code names it with a byte: see struct vcpu. */
#define VCPU_NEAR_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                \
    ARRAY(u64, regs, REG_SLOTS)                                                                    \
    SCALAR(u64, icount)       /* instructions completed */
#define VCPU_FAR_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                 \
    SCALAR(u64, rip)                                                                               \
    SCALAR(u64, lf_result)                                                                         \
    SCALAR(u64, lf_aux)                                                                            \
    SCALAR(u32, eflags)       /* without the arithmetic flags */                                   \
    SCALAR(u8, cpl)                                                                                \
    SCALAR(u8, activity)      /* enum cpu_activity */                                              \
    SCALAR(u8, shadow)        /* 1: interrupts inhibited for one instruction (STI), 2: and debug   \
                                 traps (MOV SS) */                                                 \
    SCALAR(u8, nmi_blocked)                                                                        \
    SCALAR(u8, in_smm)                                                                             \
    SCALAR(u8, sipi_vector)                                                                        \
    GROUP(segment, seg, SEGMENTS)                                                                  \
    SCALAR(u64, gdt_base) SCALAR(u16, gdt_limit)                                                   \
    SCALAR(u64, idt_base) SCALAR(u16, idt_limit)                                                   \
    SCALAR(u64, cr0) SCALAR(u64, cr2) SCALAR(u64, cr3) SCALAR(u64, cr4)                            \
    SCALAR(u64, xcr0) SCALAR(u64, xss) SCALAR(u64, efer)                                           \
    ARRAY(u64, dr, 8)                                                                              \
    ARRAY(u64, pae_pdpte, 4)                                                                       \
    SCALAR(u64, star) SCALAR(u64, lstar) SCALAR(u64, cstar) SCALAR(u64, sfmask)                    \
    SCALAR(u64, kernel_gs_base) SCALAR(u64, tsc_aux)                                               \
    SCALAR(u64, sysenter_cs) SCALAR(u64, sysenter_esp) SCALAR(u64, sysenter_eip)                   \
    SCALAR(u64, pat) SCALAR(u64, misc_enable) SCALAR(u64, debugctl)                                \
    SCALAR(u64, mtrr_def_type) ARRAY(u64, mtrr_var, 16) ARRAY(u64, mtrr_fixed, 11)                 \
    SCALAR(u64, mcg_status) SCALAR(u64, mcg_ctl) ARRAY(u64, mc_banks, 40)                          \
    SCALAR(u64, apic_base) SCALAR(u64, smbase) SCALAR(u64, spec_ctrl)                              \
    SCALAR(u64, tsc_adjust)   /* added to the machine-wide counter */                              \
    ARRAY(u64, fpu_mantissa, 8) ARRAY(u16, fpu_exponent, 8) /* by physical register */             \
    SCALAR(u16, fcw) SCALAR(u16, fsw) /* TOP lives in fsw bits 11-13 */                            \
    SCALAR(u8, ftw)           /* one bit a physical register: 1 = not empty */                     \
    SCALAR(u16, fop) SCALAR(u64, fip) SCALAR(u64, fdp) SCALAR(u16, fcs) SCALAR(u16, fds)           \
    SCALAR(u32, mxcsr)                                                                             \
    SCALAR(u64, monitor_address)                                                                   \
    ARRAY(u64, zmm, 32 * 8)   /* as union vec; use cpu_vec() */                                    \
    ARRAY(u64, opmask, 8)                                                                          \
    SCALAR(u64, kvm_system_time) SCALAR(u64, kvm_wall_clock)

struct cpu_model;
struct block_cache;

/* What a translator did when cpu_run offered it the processor. */
enum engine_result {
    ENGINE_RAN,       /* some instructions */
    ENGINE_FAULT,     /* the same, and one of them recorded an exception: current_insn */
    ENGINE_SHUTDOWN,  /* the same, and a triple fault */
    ENGINE_ONE_BLOCK, /* nothing; interpret a block, then ask again */
    ENGINE_DECLINED,  /* nothing; not in this mode */
};

/* What a TLB flush concerned. */
enum unmapped {
    UNMAPPED_PAGE,     /* one linear page, in the current context and globals */
    UNMAPPED_CONTEXT,  /* what is not global of one process context: its number */
    UNMAPPED_CONTEXTS, /* what is not global of all */
    UNMAPPED_SWITCH,   /* nothing, but the context is another now */
    UNMAPPED_ALL,
};

/*
 * Somebody outside who looks at instructions before they run. Where it looks (whole pages) the
 * interpreter runs; elsewhere nothing changes. Changed only while the processor is parked; blocks
 * translated before are not noticed.
 */
struct cpu_trace {
    /* LINEAR is where the processor is. INSN: the instruction, when each is wanted; else NULL, at a
     * block. */
    void (*before)(struct cpu_trace *trace, struct vcpu *cpu, u64 linear, const struct insn *insn);
    const struct log_range *ranges;
    unsigned range_count;      /* 0: everywhere */
    bool each_insn;
};
static inline bool trace_covers(const struct cpu_trace *trace, u64 linear)
{
    u64 page = linear & ~0xfffull;
    for (unsigned i = 0; i < trace->range_count; i++)
        if (trace->ranges[i].last >= page && trace->ranges[i].first <= (page | 0xfff)) return true;
    return !trace->range_count;
}

/*
 * A vcpu lies between two rooms of the same allocation: below it the translator's host stack
 * pointer points at it, so signal handlers need a place; behind it are the translator's own data.
 */
#define CPU_RUN_AHEAD 340u /* instructions that an engine may run between two looks at run_until */

#define CPU_ROOM_BELOW KIB(64)
#define CPU_ROOM_BEHIND KIB(704)
/* A vcpu lies CPU_SHIFT bytes behind such an address, so that the entries of the TLB in it keep to a
 * line of the host's cache. */
#define CPU_ALIGNED 64u
#define CPU_SHIFT 16u

/* Tests make rare paths common: a soft TLB of few entries, blocks that come back to cpu_run at
 * random. */
#define STRESS_TLB_MOST 64u
struct cpu_stress {
    unsigned tlb_entries;      /* at most; 0: all there are */
    unsigned exits;            /* come back after at most so many instructions; 0: when there is
                                  something to do */
    u64 random;
    struct { u16 mode, slot; } filled[STRESS_TLB_MOST]; /* a ring, oldest first */
    unsigned first, count;
};

struct vcpu {
    STATE_MEMBERS(VCPU_NEAR_STATE)
    _Atomic u64 run_until;     /* blocks follow one another while icount, its neighbour, is below;
                                  0: come back */
    struct tlb tlb;            /* its first entries are near, too */
    STATE_MEMBERS(VCPU_FAR_STATE)

    /* --- not saved: rebuilt by cpu_restored --- */
    u16 mode_key;              /* enum mode_key bits: what decoded blocks depend on */
    u8 code_size;              /* enum code_size */
    u8 tlb_mode;               /* enum tlb_mode of ordinary data accesses now */
    u8 stack_size;             /* 2, 4 or 8: width of the stack pointer */
    struct tlb_entry *tlb_now; /* tlb.entry[tlb_mode] */
    u64 a20_mask;              /* physical addresses are ANDed with it */
    u64 physical_mask;         /* bits a physical address may have */
    u32 map_generation;        /* of the memory map the TLB was filled from */

    struct {                   /* valid after an insn_fn or memory access returned false */
        i16 vector;            /* -1: no exception, start the instruction again */
        bool has_error, is_software, is_trap;
        u32 error;
        u64 address;           /* CR2 of #PF */
        u64 dr6;               /* bits of #DB */
    } exception;
    bool leave_block;          /* stop behind the current instruction (own code was written…) */

    _Atomic u32 requests;      /* enum cpu_request; any thread */
    _Atomic u32 nmis;          /* NMIs that came and were not taken, to 2; any thread */
    _Atomic u64 protect_ack;   /* epoch this processor has acknowledged */
    _Atomic u64 protect_need;  /* and must acknowledge: it may be storing to a page that became
                                  code */
    _Atomic u32 in_guest;      /* 1 while cpu_run may touch memory */

    struct feature_set features;
    const struct cpu_model *model;
    unsigned index;            /* 0.. */
    unsigned count;            /* processors in the machine */
    struct bus *bus;
    struct memory *memory;
    struct log *log;
    struct local_apic_port apic; /* all NULL: no APIC */
    int (*inta)(void *pic);      /* without one: the 8259 */
    void *inta_opaque;
    u64 (*tsc_now)(void *opaque);/* machine-wide counter before tsc_adjust */
    u64 (*wall_start)(void *tsc_opaque); /* the wall clock's ns since 1970 when that was 0 */
    void *tsc_opaque;
    u64 tsc_frequency;
    void (*random)(void *opaque, void *to, size_t length);
    void *random_opaque;
    void (*wake)(void *opaque);  /* told when a request is posted, to wake a halted thread */
    void *wake_opaque;
    void (*relax)(void *opaque); /* it has been spinning for a while: others may need the host's
                                    processor */
    void *relax_opaque;
    void (*ferr)(void *opaque);  /* FERR#: unmasked x87 exception with CR0.NE clear (IRQ 13); may be
                                    NULL */
    void *ferr_opaque;
    void (*lock)(void *opaque);  /* the machine lock, around apic and inta calls */
    void (*unlock)(void *opaque);
    void *lock_opaque;
    struct smp_group *group;     /* all processors of the machine; see smp.h */

    struct block_cache *blocks;  /* the interpreter's decoded blocks */
    enum engine_result (*engine)(struct vcpu *cpu); /* a translator, or NULL */
    /* told of TLB flushes */
    void (*engine_unmapped)(struct vcpu *cpu, enum unmapped what, u64 which);
    void (*engine_forget)(struct vcpu *cpu); /* every translated block is void */
    void *jit;                   /* the translator's per-processor data; cpu/ never looks inside */
    i64 budget;                  /* instructions until CPU_EXIT_BUDGET; INT64_MAX: none */
    u64 limit;                   /* within cpu_run: icount at which the budget ends */
    bool exact;                  /* requests end the block behind the current instruction: for time
                                    that is counted instructions, when one thread runs everything */
    u32 watch_pages;             /* data breakpoints armed */
    u64 watch_linear[64], watch_physical[64]; /* their pages: a bit each of the number's lowest 12
                                                 bits */
    bool debug_step;             /* a debugger wants CPU_EXIT_DEBUG after each instruction */
    bool debug_masked;           /* and takes no interrupt meanwhile */
    u64 step_from, step_until;   /* goes on stepping while rip is in there */
    struct stop_set *stops;      /* what else a debugger wants, or NULL (stops.h) */
    struct stop stop;            /* why CPU_EXIT_DEBUG */
    u8 stop_mode;                /* stops_mode() as last told */
    bool stop_passed;            /* the breakpoint at these has been told already */
    u64 stop_passed_rip, stop_passed_icount;
    struct cpu_trace *trace;     /* or NULL */
    void (*sample)(void *opaque, struct vcpu *cpu); /* REQUEST_SAMPLE's; own thread */
    void *sample_opaque;
    u64 xsave_in_use;            /* XINUSE bits that are known to be set */

    /* The interpreter's (interp.c, cpu.c). */
    const struct insn *current_insn; /* set by cold handlers, and by those that return false */

    u32 pending_db;              /* DR6 bits of a #DB trap due behind this instruction; see
                                    debug.h */
    bool step_armed;             /* TF was set when the instruction began */
    bool align_check;            /* CPL 3, CR0.AM, EFLAGS.AC: USER entries get no tags */
    bool fault_noncanonical;     /* the recorded #GP is a non-canonical address: may become #SS */
    u32 deliveries;              /* numbers the lines of the int log */
    struct cpu_stress stress;
    struct cpu_undo *undo;       /* running as if (undo.h), or NULL */
};

/* --- making and running (cpu.c) --- */
struct error;
struct vcpu *cpu_new(unsigned index, struct bus *bus, struct log *log);
void cpu_free(struct vcpu *cpu);
/* Before it runs: memory for decoded code that is kept, within what there is; 2 MiB when not
 * said. */
void cpu_keep_code(struct vcpu *cpu, u64 bytes);
/* "max", "qemu64,+avx,-sse4.2"…; says which feature can't be given. */
bool cpu_set_model(struct vcpu *cpu, const char *text, struct error *error);
void cpu_reset(struct vcpu *cpu);                 /* power-on / RESET#; BSP runs, others wait for
                                                     SIPI */
void cpu_take_init(struct vcpu *cpu);             /* INIT# */
void cpu_restored(struct vcpu *cpu);              /* recompute everything not saved */
enum cpu_exit cpu_run(struct vcpu *cpu);          /* own thread only */
void cpu_request(struct vcpu *cpu, u32 bits);     /* any thread */
void cpu_clear_request(struct vcpu *cpu, u32 bits);
void cpu_nmi(struct vcpu *cpu);                   /* any thread */
void cpu_unblock_nmi(struct vcpu *cpu);           /* IRET, RSM; own thread */
void cpu_limit(struct vcpu *cpu, u64 icount);     /* from a chip that CPU is talking to: no further
                                                     than that */
u64 cpu_icount_now(const struct vcpu *cpu);       /* the same: instructions before the one that is
                                                     talking */
bool cpu_may_run(const struct vcpu *cpu);         /* cpu_run would not come back idle at once */
const struct state_field *cpu_state_fields(void); /* of VCPU_STATE (state.c) */
struct cpu_pins cpu_pins(struct vcpu *cpu);

/* Delivers what stopped current_insn (cpu->exception). False: triple fault. For translators. */
bool cpu_deliver_stopped(struct vcpu *cpu);

/* --- recomputation after a register changed (sys.c) --- */
void cpu_update_mode(struct vcpu *cpu);           /* code_size, stack_size, tlb_mode, mode_key */

/* Bits of mode_key. */
enum mode_key {
    MODE_CODE16 = 0, MODE_CODE32 = 1, MODE_CODE64 = 2, MODE_CODE_MASK = 3,
    MODE_FLAT = 4,       /* CS SS DS ES: base 0, limit 4 GiB, present, rights as wanted; or
                            64-bit */
    MODE_USER = 8,       /* CPL 3 */
    MODE_STACK32 = 16,   /* SS.B, or 64-bit */
    MODE_STEP = 32,      /* TF, debugger, code breakpoints: one instruction at a time */
    MODE_AC = 64,        /* TLB_KERNEL_AC is the data array */
    MODE_PROTECTED = 128,/* PE and not VM */
    MODE_RING12 = 512,   /* CPL 1 or 2 */
    MODE_NO_FPU = 256,   /* CR0.EM or TS: every FPU/SSE/AVX instruction must go through its check */
};

/* --- exceptions (fault.c records, intr.c delivers); all return false --- */
bool cpu_fault(struct vcpu *cpu, int vector);                       /* no error code */
bool cpu_fault_error(struct vcpu *cpu, int vector, u32 error);
bool cpu_page_fault(struct vcpu *cpu, u64 linear, u32 error);
bool cpu_restart(struct vcpu *cpu);               /* vector -1: same instruction again */
static inline bool cpu_gp0(struct vcpu *cpu) { return cpu_fault_error(cpu, VECTOR_GP, 0); }
static inline bool cpu_ud(struct vcpu *cpu) { return cpu_fault(cpu, VECTOR_UD); }

/* Evaluates X once; leaves the function with false when it is. */
#define TRY(x)                                                                                     \
    do {                                                                                           \
        if (unlikely(!(x))) return false;                                                          \
    } while (0)

/* --- small views --- */
_Static_assert(offsetof(struct vcpu, zmm) % _Alignof(union vec) == 0, "cpu_vec: pad VCPU_STATE");
static ALWAYS_INLINE union vec *cpu_vec(struct vcpu *cpu, unsigned n)
{
    return (union vec *)&cpu->zmm[n * 8];
}
static inline bool cpu_long_mode(const struct vcpu *cpu) { return cpu->efer & EFER_LMA; }
static inline bool cpu_code64(const struct vcpu *cpu) { return cpu->code_size == CODE64; }
static inline bool cpu_real_mode(const struct vcpu *cpu) { return !(cpu->cr0 & CR0_PE); }
static inline bool cpu_vm86(const struct vcpu *cpu) { return cpu->eflags & FLAG_VM; }
static inline bool cpu_protected(const struct vcpu *cpu)
{
    return (cpu->cr0 & CR0_PE) && !(cpu->eflags & FLAG_VM);
}
static inline unsigned cpu_iopl(const struct vcpu *cpu) { return cpu->eflags >> 12 & 3; }
/* Address of INSN and of the one behind it (offsets in CS, not linear). */
static inline u64 cpu_ip(const struct vcpu *cpu, const struct insn *insn)
{
    return cpu->regs[REG_IP_BASE] + insn->pos;
}
static inline u64 cpu_next_ip(const struct vcpu *cpu, const struct insn *insn)
{
    u64 ip = cpu->regs[REG_IP_BASE] + insn->pos + insn->length;
    return cpu->code_size == CODE64 ? ip : cpu->code_size == CODE32 ? (u32)ip : (u16)ip;
}
/* The process-context identifier; 0 while there are none. */
static inline unsigned cpu_pcid(const struct vcpu *cpu)
{
    return cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0;
}
static inline bool cpu_is_canonical(u64 address)
{
    return (u64)((i64)(address << 16) >> 16) == address;
}

#endif
