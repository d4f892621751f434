/* The clock as the machine makes and drives it; chips see machine/clock.h only. */
#ifndef MACHINE_CLOCK_HOST_H
#define MACHINE_CLOCK_HOST_H

#include "machine/clock.h"

/* A clock that stands still until clock_advance; tests and deterministic mode. */
struct clock *clock_new_manual(void);
/* A clock that follows SOURCE (monotonic ns; the host's) while running. */
struct clock *clock_new(u64 (*source)(void *opaque), void *opaque);
void clock_free(struct clock *clock);

void clock_advance(struct clock *clock, u64 ns); /* manual: moves and fires what is due, in order */
void clock_run_timers(struct clock *clock);      /* fires what is due now */
u64 clock_next_deadline(struct clock *clock);    /* ~0 when none */
void clock_stop(struct clock *clock);
void clock_start(struct clock *clock);
bool clock_runs(struct clock *clock);
void clock_set_wall(struct clock *clock, u64 wall_ns_now);
/* Called whenever the nearest deadline moves nearer, so that a sleeping thread can wake. */
void clock_on_nearer(struct clock *clock, void (*nearer)(void *opaque), void *opaque);

#endif
