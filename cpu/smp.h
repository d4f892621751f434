/*
 * What the processors of one machine share.
 *
 * Protecting code pages: who first decodes from an arena page sets its granules, drops every
 * processor's write tags for it, and may trust what it decodes only after every other processor
 * that was in the guest has passed a block boundary (it may have been between its tag check and its
 * store).
 * Until then it runs the page's instructions one at a time without keeping their decodes.
 */
#ifndef CPU_SMP_H
#define CPU_SMP_H

#include "cpu/cpu.h"

#include <pthread.h>

struct smp_group {
    pthread_mutex_t split_lock;     /* locked operations that can't be one host atomic */
    pthread_mutex_t protect_lock;   /* one protection at a time */
    _Atomic u64 protect_epoch;
    _Atomic(struct vcpu *) cpus[64];
    _Atomic u32 count;
};

struct smp_group *smp_group_new(void);
void smp_group_free(struct smp_group *group);
void smp_group_add(struct smp_group *group, struct vcpu *cpu);

/* Marks [host, host+length) as decoded and starts dropping write tags. Returns the epoch to wait
 * for. */
u64 smp_protect(struct vcpu *cpu, const u8 *host, u32 length);
/* True when every other processor has acknowledged EPOCH (or is outside the guest). */
bool smp_protected(struct vcpu *cpu, u64 epoch);
/* Decodes the instruction at POS of the page at HOST into INSN once its bytes are protected, so
 * that the decode may be kept (interp.c). False: not yet, or it does not end in the page. */
bool code_decode(struct vcpu *cpu, struct insn *insn, const u8 *host, unsigned pos);
/* What the interpreter has decoded from POS of the page at HOST on and is still good: *count instructions, or NULL.
 * For what runs with the processor's mode now; STOPS_KEY with its stops in MODE. Belongs to the interpreter; good
 * until it runs. */
const struct insn *code_decoded(struct vcpu *cpu, const u8 *host, unsigned pos, unsigned mode, unsigned *count);
/* A copy of one of these is as code_decode would have made it. */
void code_decoded_copy(struct insn *insn, const struct insn *from);
/* What an instruction that goes on in the next page was decoded from. */
struct code_straddle {
    u8 bytes[15];
    u64 slow;                /* of the TLB's entry for that page, as far as CODE_SLOW_MASK */
    struct code_page *page;  /* its */
    u32 generation;
};
#define CODE_SLOW_MASK (0x000ffffffffff000ull | TLB_EXECUTABLE)
/* The same for an instruction that goes on in the page at linear address NEXT; MODE_FLAT. */
bool code_decode_straddle(struct vcpu *cpu, struct insn *insn, const u8 *host, unsigned pos,
                          u64 next, struct code_straddle *straddle);
/* At a block boundary, when REQUEST_QUIESCE is set. */
void smp_acknowledge(struct vcpu *cpu);

#endif
