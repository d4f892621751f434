/*
 * Page walks: no paging, 32-bit (PSE, PSE-36), PAE, and four-level.
 * Specification: Intel SDM vol. 3 ch. 4 (4.3-4.5 structures, 4.6 rights, 4.7 error code, 4.8 A and
 * D).
 *
 * Not modelled: five-level paging, protection keys, PAT and MTRR memory types.
 * Tables that lie outside memory are walked through the bus, without atomic updates.
 */
#include "cpu/mem.h"
#include "cpu/smm.h" /* cpu_sees_smram */
#include "cpu/undo.h"

#define PTE_P 1u
#define PTE_W 2u
#define PTE_U 4u
#define PTE_A 0x20u
#define PTE_D 0x40u
#define PTE_PS 0x80u
#define PTE_G 0x100u
#define PTE_NX (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull

#define PF_P 1u
#define PF_W 2u
#define PF_U 4u
#define PF_RSVD 8u
#define PF_I 16u

/* Where an entry lies: HOST, or, when NULL, behind the bus. */
struct place {
    u8 *host;
    u64 physical;
};

/* False: not to be found by a light walk, or not memory and one that only looks wants it. */
static ALWAYS_INLINE bool place_find(struct vcpu *cpu, u64 physical, enum walk_kind kind,
                                     struct place *place)
{
    physical &= cpu->a20_mask & cpu->physical_mask;
    place->physical = physical;
    place->host = tlb_memory(&cpu->tlb, physical);
    if (likely(place->host != NULL)) return true;
    if (kind == WALK_LIGHT) return false;
    if (kind == WALK_ACCESS) tlb_learn(cpu, physical);
    struct memory_target target = {0};
    memory_resolve(cpu->bus, physical & PAGE_MASK, cpu_sees_smram(cpu), &target);
    bool direct = target.host && (!target.read_only || kind == WALK_PROBE);
    if (direct) place->host = target.host + (physical & (PAGE_SIZE - 1));
    /* who only looks may hold the lock that chips are called under */
    return direct || kind != WALK_PROBE;
}

static GUEST_ACCESS u64 place_read(struct vcpu *cpu, const struct place *place, unsigned size)
{
    if (unlikely(!place->host))
        return bus_memory_read_as(cpu->bus, place->physical, size, cpu_sees_smram(cpu));
    if (size == 8)
        return le64(__atomic_load_n((const u64 *)(const void *)place->host, __ATOMIC_ACQUIRE));
    return le32(__atomic_load_n((const u32 *)(const void *)place->host, __ATOMIC_ACQUIRE));
}

/* ENTRY → ENTRY | BITS. */
enum setting { SET_DONE, SET_CHANGED /* by somebody else meanwhile */,
               SET_REFUSED /* to a light walk */ };

GUEST_RACES static enum setting place_set(struct vcpu *cpu, const struct place *place,
                                          unsigned size, u64 entry, u64 bits, enum walk_kind kind)
{
    if (kind == WALK_LIGHT && memory_is_code(cpu->memory, place->host)) return SET_REFUSED;
    if (unlikely(!place->host)) {
        bus_memory_write_as(cpu->bus, place->physical, entry | bits, size, cpu_sees_smram(cpu));
        return SET_DONE;
    }
    bool done;
    if (size == 8) {
        u64 expected = le64(entry);
        done = __atomic_compare_exchange_n((u64 *)(void *)place->host, &expected,
                                           le64(entry | bits), false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    } else {
        u32 expected = le32((u32)entry);
        done = __atomic_compare_exchange_n((u32 *)(void *)place->host, &expected,
                                           le32((u32)(entry | bits)), false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    }
    if (unlikely(cpu->undo) && done) undo_walk_set(cpu, place->host, size, bits);
    if (kind != WALK_LIGHT && unlikely(memory_is_code(cpu->memory, place->host)) &&
        memory_code_written(cpu->memory, place->host, size))
        cpu->leave_block = true;
    return done ? SET_DONE : SET_CHANGED;
}

/* What a walk has found so far. */
struct progress {
    u64 rights;  /* AND of the entries' U and W bits */
    u64 nx;      /* OR of their NX bits */
    enum walk_kind kind;
    enum access access;
    enum tlb_mode mode;
};

static u32 fault_code(const struct vcpu *cpu, const struct progress *p, u32 code)
{
    if (p->access == ACCESS_WRITE) code |= PF_W;
    if (p->mode == TLB_USER) code |= PF_U;
    if (p->access == ACCESS_EXECUTE &&
        ((cpu->cr4 & CR4_SMEP) || ((cpu->cr4 & CR4_PAE) && (cpu->efer & EFER_NXE))))
        code |= PF_I;
    return code;
}

/* Rights once the whole chain is known (SDM 4.6.1). */
static ALWAYS_INLINE bool allowed(const struct vcpu *cpu, const struct progress *p)
{
    bool user = p->rights & PTE_U, writable = p->rights & PTE_W;
    if (p->access == ACCESS_EXECUTE && p->nx) return false;
    if (p->mode == TLB_USER) return user && (writable || p->access != ACCESS_WRITE);
    if (p->access == ACCESS_EXECUTE) return !(user && (cpu->cr4 & CR4_SMEP));
    if (user && (cpu->cr4 & CR4_SMAP) && p->mode == TLB_KERNEL) return false;
    return p->access == ACCESS_READ || writable || !(cpu->cr0 & CR0_WP);
}

/* The last entry is known: rights, A and D, the result. CHANGED: an entry moved, walk again. */
enum leaf { LEAF_DONE, LEAF_FAULT, LEAF_CHANGED };

static enum leaf walk_leaf(struct vcpu *cpu, const struct progress *p, const struct place *place,
                           unsigned size, u64 entry, struct walk *walk)
{
    if (!allowed(cpu, p)) {
        walk->error = fault_code(cpu, p, PF_P);
        return LEAF_FAULT;
    }
    u64 bits = PTE_A | (p->access == ACCESS_WRITE ? PTE_D : 0);
    if (p->kind != WALK_PROBE && (entry & bits) != bits) {
        enum setting set = place_set(cpu, place, size, entry, bits, p->kind);
        if (set != SET_DONE) return set == SET_CHANGED ? LEAF_CHANGED : LEAF_FAULT;
        entry |= bits;
    }
    struct progress other = *p;
    walk->user = p->rights & PTE_U;
    walk->flags = (entry & PTE_G) && (cpu->cr4 & CR4_PGE) ? TLB_GLOBAL : 0;
    other.access = ACCESS_WRITE;
    if ((entry & PTE_D) && allowed(cpu, &other)) walk->flags |= TLB_WRITABLE;
    other.access = ACCESS_EXECUTE;
    if (allowed(cpu, &other)) walk->flags |= TLB_EXECUTABLE;
    return LEAF_DONE;
}

static void walk_large(struct walk *walk, u64 base, u64 linear, unsigned shift)
{
    walk->physical = (base + (linear & ((1ull << shift) - 1))) & PAGE_MASK;
    walk->large_shift = shift;
    walk->flags |= TLB_LARGE;
}

/*
 * The paging-structure cache the SDM permits (4.10.3): for regions of 2 MiB walked lately, with
 * what the levels above allow, the page table, or the entry that maps the whole region. Keys hold
 * the epoch, so that any flush empties it.
 */
#define DIRECTORY_W 1u
#define DIRECTORY_U 2u
#define DIRECTORY_NX 4u
#define DIRECTORY_LARGE 8u /* HOST is the entry's */
#define DIRECTORY_BITS 15u

static ALWAYS_INLINE u64 directory_key(const struct tlb *tlb, u64 linear)
{
    return (linear >> 21 & 0x7ffffff) << 4 | (u64)(tlb->directory_epoch + 1) << 31;
}

/* Returns the level PLACE is of; 0: not there. */
static ALWAYS_INLINE unsigned directory_find(struct vcpu *cpu, u64 linear, struct progress *p,
                                             struct place *place)
{
    struct tlb *tlb = &cpu->tlb;
    unsigned slot = linear >> 21 & (TLB_DIRECTORIES - 1);
    u64 key = tlb->directory[slot].key;
    if (p->kind == WALK_PROBE || (key ^ directory_key(tlb, linear)) >> 4) return 0;
    p->rights = (key & DIRECTORY_W ? PTE_W : 0) | (key & DIRECTORY_U ? PTE_U : 0);
    p->nx = key & DIRECTORY_NX ? PTE_NX : 0;
    place->host = tlb->directory[slot].host;
    if (key & DIRECTORY_LARGE) {
        if (likely(place_read(cpu, place, 8) & PTE_PS)) return 2;
        tlb->directory[slot].key = 0; /* it points to a table now */
        return 0;
    }
    place->host += (linear >> 12 & 511) * 8;
    return 1;
}

static void directory_keep(struct tlb *tlb, u64 linear, const struct progress *p, u8 *host,
                           bool large)
{
    unsigned slot = linear >> 21 & (TLB_DIRECTORIES - 1);
    tlb->directory[slot].key = directory_key(tlb, linear) | (p->rights & PTE_W ? DIRECTORY_W : 0) |
                               (p->rights & PTE_U ? DIRECTORY_U : 0) | (p->nx ? DIRECTORY_NX : 0) |
                               (large ? DIRECTORY_LARGE : 0);
    tlb->directory[slot].host = host;
}

static bool fault(const struct vcpu *cpu, const struct progress *p, u32 code, struct walk *walk)
{
    walk->error = fault_code(cpu, p, code);
    return false;
}

/* The levels of 64-bit entries from LEVEL (4, or 2 for PAE) down, TABLE being its table. */
static bool walk_wide(struct vcpu *cpu, u64 linear, unsigned level, u64 table, struct progress *p,
                      struct walk *walk)
{
    const bool pae = level == 2;
    const u64 rights = p->rights, nx = p->nx, top = table;
    u64 reserved = ~cpu->physical_mask & PTE_ADDRESS;
    if (!(cpu->efer & EFER_NXE)) reserved |= PTE_NX;
    if (pae) reserved |= 0x7ff0000000000000ull; /* not free for software here */
again:
    p->rights = rights;
    p->nx = nx;
    table = top;
    struct place place;
    unsigned known = directory_find(cpu, linear, p, &place);
    for (level = known ? known : pae ? 2 : 4;; level--) {
        unsigned shift = 3 + 9 * level;
        if (!known && !place_find(cpu, table + (linear >> shift & 511) * 8, p->kind, &place))
            return false;
        if (level == 1 && !known && place.host && p->kind != WALK_PROBE)
            directory_keep(&cpu->tlb, linear, p, place.host - (linear >> 12 & 511) * 8, false);
        u64 entry = place_read(cpu, &place, 8);
        bool large = (entry & PTE_PS) && level > 1;
        if (!(entry & PTE_P)) return fault(cpu, p, 0, walk);
        u64 bad = reserved;
        if (large && (level == 4 || (level == 3 && !feature_on(&cpu->features, FEATURE_PDPE1GB))))
            bad |= PTE_PS;
        if (large) bad |= ((1ull << shift) - 1) & PTE_ADDRESS & ~(1ull << 12); /* bit 12: PAT */
        if (unlikely(entry & bad)) return fault(cpu, p, PF_P | PF_RSVD, walk);
        if (large && level == 2 && !known && place.host && p->kind != WALK_PROBE)
            directory_keep(&cpu->tlb, linear, p, place.host, true);
        p->rights &= entry;
        p->nx |= entry & PTE_NX;
        if (level > 1 && !large) {
            if (!(entry & PTE_A) && p->kind != WALK_PROBE) {
                enum setting set = place_set(cpu, &place, 8, entry, PTE_A, p->kind);
                if (set == SET_REFUSED) return false;
                if (set == SET_CHANGED) goto again;
            }
            table = entry & PTE_ADDRESS;
            continue;
        }
        switch (walk_leaf(cpu, p, &place, 8, entry, walk)) {
        case LEAF_FAULT: return false;
        case LEAF_CHANGED: goto again;
        case LEAF_DONE: break;
        }
        if (large) walk_large(walk, entry & PTE_ADDRESS & ~((1ull << shift) - 1), linear, shift);
        else walk->physical = entry & PTE_ADDRESS;
        return true;
    }
}

/* PSE-36: bits 13-20 of a 4 MiB entry are bits 32-39 of the address. */
static bool walk_4mib(struct vcpu *cpu, u64 linear, u32 entry, struct progress *p,
                      const struct place *place, struct walk *walk, bool *changed)
{
    bool pse36 = feature_on(&cpu->features, FEATURE_PSE36);
    u64 base = (entry & 0xffc00000u) | (pse36 ? (u64)(entry >> 13 & 0xff) << 32 : 0);
    u32 reserved = pse36 ? 1u << 21 : 0x003fe000u;
    if ((entry & reserved) || (base & ~cpu->physical_mask))
        return fault(cpu, p, PF_P | PF_RSVD, walk);
    switch (walk_leaf(cpu, p, place, 4, entry, walk)) {
    case LEAF_FAULT: return false;
    case LEAF_CHANGED: *changed = true; return false;
    case LEAF_DONE: break;
    }
    walk_large(walk, base, linear, 22);
    return true;
}

static bool walk_32bit(struct vcpu *cpu, u64 linear, struct progress *p, struct walk *walk)
{
    const struct progress start = *p;
    struct place place;
    bool changed;
again:
    *p = start;
    changed = false;
    if (!place_find(cpu, (cpu->cr3 & 0xfffff000u) + (linear >> 22 & 1023) * 4, p->kind, &place))
        return false;
    u64 entry = place_read(cpu, &place, 4);
    if (!(entry & PTE_P)) return fault(cpu, p, 0, walk);
    p->rights &= entry;
    if ((entry & PTE_PS) && (cpu->cr4 & CR4_PSE)) {
        bool done = walk_4mib(cpu, linear, (u32)entry, p, &place, walk, &changed);
        if (changed) goto again;
        return done;
    }
    if (!(entry & PTE_A) && p->kind != WALK_PROBE) {
        enum setting set = place_set(cpu, &place, 4, entry, PTE_A, p->kind);
        if (set == SET_REFUSED) return false;
        if (set == SET_CHANGED) goto again;
    }
    if (!place_find(cpu, (entry & 0xfffff000u) + (linear >> 12 & 1023) * 4, p->kind, &place))
        return false;
    entry = place_read(cpu, &place, 4);
    if (!(entry & PTE_P)) return fault(cpu, p, 0, walk);
    p->rights &= entry;
    switch (walk_leaf(cpu, p, &place, 4, entry, walk)) {
    case LEAF_FAULT: return false;
    case LEAF_CHANGED: goto again;
    case LEAF_DONE: break;
    }
    walk->physical = entry & 0xfffff000u;
    return true;
}

/* What ENTRY and the levels above it allow, in the way of allowed(). */
static ALWAYS_INLINE u32 leaf_rights(const struct vcpu *cpu, enum tlb_mode mode, bool user,
                                     bool writable, bool nx)
{
    bool supervisor = mode != TLB_USER;
    bool reach = supervisor ? !(user && mode == TLB_KERNEL && (cpu->cr4 & CR4_SMAP)) : user;
    bool run = !nx && (supervisor ? !(user && (cpu->cr4 & CR4_SMEP)) : user);
    bool write = reach && (writable || (supervisor && !(cpu->cr0 & CR0_WP)));
    return (reach ? TLB_PRESENT : 0) | (write ? TLB_WRITABLE : 0) | (run ? TLB_EXECUTABLE : 0);
}

/* A walk from the paging-structure cache that finds nothing to set; anything else is
 * walk_wide's. */
static ALWAYS_INLINE bool walk_known(struct vcpu *cpu, u64 linear, enum access access,
                                     enum tlb_mode mode, struct walk *walk)
{
    static const u32 needed[] = {
        [ACCESS_READ] = TLB_PRESENT, [ACCESS_WRITE] = TLB_WRITABLE,
        [ACCESS_EXECUTE] = TLB_EXECUTABLE};
    const struct tlb *tlb = &cpu->tlb;
    unsigned slot = linear >> 21 & (TLB_DIRECTORIES - 1);
    u64 key = tlb->directory[slot].key;
    if ((key ^ directory_key(tlb, linear)) >> 4) return false;
    const u8 *at = tlb->directory[slot].host;
    bool large = key & DIRECTORY_LARGE;
    if (!large) at += (linear >> 12 & 511) * 8;
    u64 entry = le64(__atomic_load_n((const u64 *)(const void *)at, __ATOMIC_ACQUIRE));
    u64 must = PTE_P | PTE_A | (access == ACCESS_WRITE ? PTE_D : 0) | (large ? PTE_PS : 0);
    u64 bad = (~cpu->physical_mask & PTE_ADDRESS) | (large ? 0x1fe000 : 0) |
              (cpu->efer & EFER_NXE ? 0 : PTE_NX);
    if (unlikely((entry & must) != must || (entry & bad))) return false;
    u32 rights = leaf_rights(cpu, mode, (key & DIRECTORY_U) && (entry & PTE_U),
                             (key & DIRECTORY_W) && (entry & PTE_W),
                             (key & DIRECTORY_NX) || (entry & PTE_NX));
    if (unlikely(!(rights & needed[access]))) return false;
    if (!(entry & PTE_D)) rights &= ~(u32)TLB_WRITABLE;
    walk->flags = (rights & (TLB_WRITABLE | TLB_EXECUTABLE)) |
                  ((entry & PTE_G) && (cpu->cr4 & CR4_PGE) ? TLB_GLOBAL : 0) |
                  (large ? TLB_LARGE : 0);
    walk->physical = entry & PTE_ADDRESS;
    if (large)
        walk->physical =
            (entry & PTE_ADDRESS & ~(MIB(2) - 1)) | (linear & (MIB(2) - 1) & PAGE_MASK);
    walk->large_shift = large ? 21 : 0;
    walk->user = (key & DIRECTORY_U) && (entry & PTE_U);
    walk->error = 0;
    return true;
}

bool mmu_walk(struct vcpu *cpu, u64 linear, enum access access, enum tlb_mode mode,
              enum walk_kind kind, struct walk *walk)
{
    if (kind != WALK_PROBE && (cpu->efer & EFER_LMA) && walk_known(cpu, linear, access, mode, walk))
        return true;
    struct progress p = {.rights = ~(u64)0, .kind = kind, .access = access, .mode = mode};
    walk->flags = 0;
    walk->large_shift = 0;
    walk->error = 0;
    if (!(cpu->cr0 & CR0_PG)) {
        walk->physical = linear & 0xfffff000u;
        walk->flags = TLB_WRITABLE | TLB_EXECUTABLE;
        walk->user = true;
        return true;
    }
    bool done;
    if (cpu->efer & EFER_LMA) {
        done = walk_wide(cpu, linear, 4, cpu->cr3 & PTE_ADDRESS, &p, walk);
    } else if (cpu->cr4 & CR4_PAE) {
        u64 pdpte = cpu->pae_pdpte[linear >> 30 & 3];
        if (pdpte & PTE_P) done = walk_wide(cpu, (u32)linear, 2, pdpte & PTE_ADDRESS, &p, walk);
        else done = fault(cpu, &p, 0, walk);
    } else {
        done = walk_32bit(cpu, (u32)linear, &p, walk);
    }
    if (!done && kind == WALK_ACCESS)
        log_to(cpu->log, LOG_MMU, "cpu%u: page fault at %016llx, error %x", cpu->index,
               (unsigned long long)linear, walk->error);
    else if (kind == WALK_ACCESS) /* the others may not call a library */
        log_to(cpu->log, LOG_MMU, "cpu%u: walk of %016llx to %016llx", cpu->index,
               (unsigned long long)linear, (unsigned long long)walk->physical);
    return done;
}

static unsigned entries_wide(struct vcpu *cpu, u64 linear, unsigned level, u64 table, u64 place[4])
{
    unsigned n = 0;
    for (;; level--) {
        place[n++] =
            (table + (linear >> (3 + 9 * level) & 511) * 8) & cpu->a20_mask & cpu->physical_mask;
        u64 entry = bus_memory_read_as(cpu->bus, place[n - 1], 8, cpu_sees_smram(cpu));
        if (!(entry & PTE_P) || level == 1 || (entry & PTE_PS)) return n;
        table = entry & PTE_ADDRESS;
    }
}

unsigned mmu_entries(struct vcpu *cpu, u64 linear, u64 place[4], unsigned *size)
{
    *size = 8;
    if (!(cpu->cr0 & CR0_PG)) return 0;
    if (cpu->efer & EFER_LMA) return entries_wide(cpu, linear, 4, cpu->cr3 & PTE_ADDRESS, place);
    if (cpu->cr4 & CR4_PAE) {
        u64 pdpte = cpu->pae_pdpte[linear >> 30 & 3];
        return pdpte & PTE_P ? entries_wide(cpu, (u32)linear, 2, pdpte & PTE_ADDRESS, place) : 0;
    }
    *size = 4;
    place[0] = (cpu->cr3 & 0xfffff000u) + (linear >> 22 & 1023) * 4;
    u64 entry = bus_memory_read_as(cpu->bus, place[0], 4, cpu_sees_smram(cpu));
    if (!(entry & PTE_P) || ((entry & PTE_PS) && (cpu->cr4 & CR4_PSE))) return 1;
    place[1] = (entry & 0xfffff000u) + (linear >> 12 & 1023) * 4;
    return 2;
}
