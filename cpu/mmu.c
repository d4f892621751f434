/*
 * Page walks: no paging, 32-bit (PSE, PSE-36), PAE, and four-level.
 * Specification: Intel SDM vol. 3 ch. 4 (4.3-4.5 structures, 4.6 rights, 4.7 error code, 4.8 A and D).
 *
 * Not modelled: five-level paging, protection keys, PAT and MTRR memory types.
 * Tables that lie outside memory are walked through the bus, without atomic updates.
 */
#include "cpu/mem.h"
#include "cpu/smm.h" /* cpu_sees_smram */

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

static ALWAYS_INLINE void place_find(struct vcpu *cpu, u64 physical, struct place *place)
{
    physical &= cpu->a20_mask & cpu->physical_mask;
    u64 page = physical & PAGE_MASK;
    unsigned slot = page >> 12 & (ARRAY_SIZE(cpu->tlb->table) - 1);
    place->physical = physical;
    if (unlikely(cpu->tlb->table[slot].page != page)) {
        struct memory_target target = {0};
        memory_resolve(cpu->bus, page, cpu_sees_smram(cpu), &target);
        cpu->tlb->table[slot].page = page;
        cpu->tlb->table[slot].host = target.read_only ? NULL : target.host;
    }
    u8 *host = cpu->tlb->table[slot].host;
    place->host = host ? host + (physical & (PAGE_SIZE - 1)) : NULL;
}

static GUEST_ACCESS u64 place_read(struct vcpu *cpu, const struct place *place, unsigned size)
{
    if (unlikely(!place->host))
        return bus_memory_read_as(cpu->bus, place->physical, size, cpu_sees_smram(cpu));
    if (size == 8) return le64(__atomic_load_n((const u64 *)(const void *)place->host, __ATOMIC_RELAXED));
    return le32(__atomic_load_n((const u32 *)(const void *)place->host, __ATOMIC_RELAXED));
}

/* ENTRY → ENTRY | BITS. False when somebody changed it meanwhile. */
GUEST_RACES static bool place_set(struct vcpu *cpu, const struct place *place, unsigned size, u64 entry, u64 bits)
{
    if (unlikely(!place->host)) {
        bus_memory_write_as(cpu->bus, place->physical, entry | bits, size, cpu_sees_smram(cpu));
        return true;
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
    if (unlikely(memory_is_code(cpu->memory, place->host)) &&
        memory_code_written(cpu->memory, place->host, size))
        cpu->leave_block = true;
    return done;
}

/* What a walk has found so far. */
struct progress {
    u64 rights;  /* AND of the entries' U and W bits */
    u64 nx;      /* OR of their NX bits */
    bool probe_only;
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
    if (!p->probe_only && (entry & bits) != bits) {
        if (!place_set(cpu, place, size, entry, bits)) return LEAF_CHANGED;
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
 * Page tables of regions walked lately, with what the levels above allow: the paging-structure cache
 * the SDM permits (4.10.3). Keys hold the epoch, so that any flush empties it.
 */
static u64 directory_key(const struct tlb *tlb, u64 linear)
{
    return (linear >> 21 & 0x7ffffff) | (tlb->directory_epoch + 1) << 27;
}

static bool directory_find(const struct tlb *tlb, u64 linear, struct progress *p, u8 **table)
{
    unsigned slot = linear >> 21 & (ARRAY_SIZE(tlb->directory) - 1);
    if (p->probe_only || tlb->directory[slot].key != directory_key(tlb, linear)) return false;
    p->rights = tlb->directory[slot].rights;
    p->nx = tlb->directory[slot].nx;
    *table = tlb->directory[slot].host;
    return true;
}

static void directory_keep(struct tlb *tlb, u64 linear, const struct progress *p, u8 *table)
{
    unsigned slot = linear >> 21 & (ARRAY_SIZE(tlb->directory) - 1);
    tlb->directory[slot].key = directory_key(tlb, linear);
    tlb->directory[slot].rights = p->rights;
    tlb->directory[slot].nx = p->nx;
    tlb->directory[slot].host = table;
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
    const struct progress start = *p;
    const u64 top = table;
    u64 reserved = ~cpu->physical_mask & PTE_ADDRESS;
    if (!(cpu->efer & EFER_NXE)) reserved |= PTE_NX;
    if (pae) reserved |= 0x7ff0000000000000ull; /* not free for software here */
again:
    *p = start;
    table = top;
    u8 *last = NULL;
    for (level = directory_find(cpu->tlb, linear, p, &last) ? 1 : pae ? 2 : 4;; level--) {
        unsigned shift = 3 + 9 * level;
        struct place place;
        if (last) {
            place.host = last + (linear >> 12 & 511) * 8;
        } else {
            place_find(cpu, table + (linear >> shift & 511) * 8, &place);
            if (level == 1 && place.host && !p->probe_only)
                directory_keep(cpu->tlb, linear, p, place.host - (linear >> 12 & 511) * 8);
        }
        u64 entry = place_read(cpu, &place, 8);
        bool large = (entry & PTE_PS) && level > 1;
        if (!(entry & PTE_P)) return fault(cpu, p, 0, walk);
        u64 bad = reserved;
        if (large && (level == 4 || (level == 3 && !feature_on(&cpu->features, FEATURE_PDPE1GB))))
            bad |= PTE_PS;
        if (large) bad |= ((1ull << shift) - 1) & PTE_ADDRESS & ~(1ull << 12); /* bit 12: PAT */
        if (unlikely(entry & bad)) return fault(cpu, p, PF_P | PF_RSVD, walk);
        p->rights &= entry;
        p->nx |= entry & PTE_NX;
        if (level > 1 && !large) {
            if (!(entry & PTE_A) && !p->probe_only && !place_set(cpu, &place, 8, entry, PTE_A))
                goto again;
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
    place_find(cpu, (cpu->cr3 & 0xfffff000u) + (linear >> 22 & 1023) * 4, &place);
    u64 entry = place_read(cpu, &place, 4);
    if (!(entry & PTE_P)) return fault(cpu, p, 0, walk);
    p->rights &= entry;
    if ((entry & PTE_PS) && (cpu->cr4 & CR4_PSE)) {
        bool done = walk_4mib(cpu, linear, (u32)entry, p, &place, walk, &changed);
        if (changed) goto again;
        return done;
    }
    if (!(entry & PTE_A) && !p->probe_only && !place_set(cpu, &place, 4, entry, PTE_A)) goto again;

    place_find(cpu, (entry & 0xfffff000u) + (linear >> 12 & 1023) * 4, &place);
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

bool mmu_walk(struct vcpu *cpu, u64 linear, enum access access, enum tlb_mode mode, bool probe_only,
              struct walk *walk)
{
    struct progress p = {.rights = ~(u64)0, .probe_only = probe_only, .access = access, .mode = mode};
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
    if (!done && !probe_only)
        log_to(cpu->log, LOG_MMU, "cpu%u: page fault at %016llx, error %x", cpu->index,
               (unsigned long long)linear, walk->error);
    return done;
}
