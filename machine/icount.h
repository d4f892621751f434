/*
 * Deterministic mode (-icount): guest time is counted instructions, and one thread runs everything.
 * What comes from outside (keys, packets, the monitor) enters between slices and is the only input
 * that is not repeated. Thread: the one that runs the machine, lock held unless said otherwise.
 */
#ifndef MACHINE_ICOUNT_H
#define MACHINE_ICOUNT_H

#include "machine/machine.h"

struct icount;

/* NULL options->icount_shift: not asked for, then NULL. The machine's clock must follow
 * icount_time. */
struct icount *icount_new(struct machine *machine);
void icount_free(struct icount *icount);
/* ns of virtual time: exact within an instruction that asks. */
u64 icount_time(void *icount);
/* The nearest timer moved nearer: the running processor stops in time for it. */
void icount_nearer(struct icount *icount);
/* One turn of the machine: timers that are due, a processor's slice, now and then the outside. */
void icount_turn(struct icount *icount);

#endif
