/*
 * Running instructions as if: every page of guest memory they write is kept as it was, so that all
 * can be taken back, and nothing outside memory is touched. For comparing engines.
 *
 * While cpu->undo is set no store goes past the slow path (write tags are dropped) but to pages
 * that are noted already when `publish` allows it; an access to a device or ROM, or more pages than
 * there is room for, is refused: the instruction stops with cpu_restart. Accessed and dirty bits
 * that page walks set stay set. One processor only, nobody else writing its memory meanwhile.
 */
#ifndef CPU_UNDO_H
#define CPU_UNDO_H

#include "cpu/cpu.h"

#define UNDO_PAGES 64u
#define UNDO_ENTRIES 256u

struct undo_page {
    u8 *host;
    u32 generation;      /* of its code, when noted */
    u8 before[PAGE_SIZE], after[PAGE_SIZE];
};

struct cpu_undo {
    bool publish;        /* write tags may be made valid for pages that are noted */
    bool refused;        /* an access was, */
    bool refused_op;     /* or a whole instruction, by who runs them */
    unsigned pages, entries;
    struct { struct tlb_entry *entry; u64 page; } entry[UNDO_ENTRIES]; /* written through */
    struct undo_page page[UNDO_PAGES];
};

void undo_start(struct vcpu *cpu, struct cpu_undo *undo);
void undo_rollback(struct vcpu *cpu);    /* memory as it was at the start; notes stay */
void undo_finish(struct vcpu *cpu);      /* memory stays as it is */
void undo_keep_after(struct vcpu *cpu);  /* the pages' contents now, into `after` */
bool undo_code_written(struct vcpu *cpu);/* decoded code was among what was written */

/* From the soft TLB. ENTRY is about to be used for LINEAR; false: refused. */
bool undo_access(struct vcpu *cpu, struct tlb_entry *entry, u64 linear, bool write);
bool undo_may_publish(struct vcpu *cpu, const u8 *host);
/* A page walk set BITS of the SIZE bytes at HOST. */
void undo_walk_set(struct vcpu *cpu, const u8 *host, unsigned size, u64 bits);

#endif
