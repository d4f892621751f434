/*
 * What a debugger outside the guest stops a processor for: breakpoints, watchpoints and events. The
 * guest sees nothing of it (its own debug registers are debug.h's).
 *
 * The set is the machine's, shared by its processors and changed only while none of them runs;
 * whoever changes it calls stops_install for each. Without one (vcpu.stops is NULL) nothing here
 * costs anything.
 *
 * Pages with breakpoints have blocks of their own, whose keys carry the set's number: they end in
 * front of every breakpoint. At a breakpoint's place no block begins, so both engines come back to
 * the main loop there, which looks closer (stops_break_due).
 */
#ifndef CPU_STOPS_H
#define CPU_STOPS_H

#include "machine/types.h"

struct vcpu;

enum stop_kind {
    STOP_NONE,
    STOP_STEP,         /* the step asked for is done */
    STOP_BREAK,        /* in front of the instruction at a linear address */
    STOP_WRITE,        /* behind an instruction that wrote, */
    STOP_READ,         /* read */
    STOP_ACCESS,       /* or did either at a linear address */
    STOP_TABLE,        /* behind one that changed eight bytes at a physical address, A and D
                          apart */
    STOP_PORT,         /* behind one that used a port */
    STOP_MMIO,         /* or a chip's register: offset in its region */
    STOP_MSR,          /* or wrote a model-specific register */
    STOP_EXCEPTION,    /* at the handler's first instruction; address is the vector */
    STOP_MODE,         /* behind a change between real, protected, virtual-8086, long mode */
    STOP_TRIPLE_FAULT, /* the machine would be reset */
};

struct stop_point {
    u8 kind;           /* enum stop_kind */
    bool bound;        /* to the address space CR3 */
    bool hardware;     /* how the client called it; means nothing here */
    u32 id;            /* 0: the debugger's own, else a number shown to the user */
    u64 address, length;
    u64 cr3;
    u64 value;         /* STOP_TABLE: as last seen */
    char chip[32];     /* STOP_MMIO: the region's name */
    /* STOP_BREAK: in the processor's thread; false goes on. NULL: always. */
    bool (*condition)(void *opaque, struct vcpu *cpu);
    void *opaque;
};

struct stop_set {
    struct stop_point *point;
    unsigned count;
    u32 kinds;         /* 1 << kind of those there are */
    u16 key;           /* in block keys of pages with breakpoints: STOPS_KEY bits */
    u64 pages[64];     /* hashed linear pages with breakpoints */
    u64 offsets[64];   /* offsets in a page at which some page has a breakpoint */
};
#define STOPS_KEY_SHIFT 10
#define STOPS_KEY 0x7c00u /* above the bits of enum mode_key, below the translator's own */

/* Why the processor came back with CPU_EXIT_DEBUG. */
struct stop {
    u8 kind;
    bool write, hardware;
    u8 size;
    u32 id;            /* of the point */
    u32 point;         /* its index */
    u64 address;       /* as the point's kind says: of the access, at least the point's own */
    u64 value, before; /* read or written; an exception's error code; modes; an entry's change */
    u64 ip;            /* STOP_EXCEPTION: what the handler returns to */
};

/* SET may be NULL. FORGET: the key's numbers begin anew, blocks that carry one are void. The
 * processor is not running. */
void stops_install(struct vcpu *cpu, struct stop_set *set, bool forget);

/* The breakpoints that the blocks of LINEAR's page must heed, or NULL. */
static ALWAYS_INLINE const struct stop_set *stops_in_page(const struct stop_set *set, u64 linear)
{
    if (likely(!set) || !(set->pages[linear >> 18 & 63] >> (linear >> 12 & 63) & 1)) return NULL;
    return set;
}
static ALWAYS_INLINE bool stops_at(const struct stop_set *set, unsigned pos)
{
    return set && (set->offsets[pos >> 6 & 63] >> (pos & 63) & 1);
}
/* Its page must be watched. */
static inline bool stop_is_watch(const struct stop_point *point)
{
    return point->kind >= STOP_WRITE && point->kind <= STOP_TABLE;
}
static inline bool stops_want(const struct stop_set *set, enum stop_kind kind)
{
    return unlikely(set != NULL) && (set->kinds >> kind & 1);
}

/* --- what the processor tells; vcpu.stops is set --- */
/* Records a stop when a point of KIND meets [address, address+size). */
void stops_event(struct vcpu *cpu, enum stop_kind kind, u64 address, unsigned size, bool write,
                 u64 value);
void stops_access(struct vcpu *cpu, u64 linear, u64 physical, unsigned size, bool write);
/* A register of the local APIC (its page) or of a chip on the bus. */
void stops_mmio(struct vcpu *cpu, u64 physical, bool apic, unsigned size, bool write, u64 value);
bool stops_page_watched(const struct vcpu *cpu, u64 page, u64 physical);
/* The instruction will be run again: what it touched does not count. */
void stops_cancel(struct vcpu *cpu);

/* At an instruction boundary: something is to be reported (cpu->stop). */
bool stops_due(struct vcpu *cpu);
bool stops_pending(const struct vcpu *cpu); /* there may be: only looks */
/* The instruction at rip is not to be run yet. */
bool stops_break_due(struct vcpu *cpu);

/* What STOP_MODE compares; a name for it. */
unsigned stops_mode(const struct vcpu *cpu);
const char *stops_mode_name(unsigned mode);

#endif
