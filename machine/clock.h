/*
 * Virtual time and timers: the only way a chip learns what time it is.
 *
 * Virtual time is nanoseconds since the machine started; it stands still while the machine is
 * stopped. In deterministic mode (-icount) it follows executed instructions instead of the host.
 * Timers fire on the I/O thread, in order of deadline, with the machine lock held.
 * Thread: clock_now from any; everything else with the machine lock held.
 */
#ifndef MACHINE_CLOCK_H
#define MACHINE_CLOCK_H

#include "machine/types.h"

#define NS_PER_SECOND 1000000000ull

struct clock;

struct timer {
    struct clock *clock;
    void (*fire)(void *opaque);
    void *opaque;
    u64 deadline; /* ns of virtual time; meaningful while pending */
    int slot;     /* in the heap; -1: not pending */
};

u64 clock_now(struct clock *clock);

/* Wall-clock time the guest's RTC should show now (ns since 1970 UTC, or local time per -rtc
 * base). */
u64 clock_wall(struct clock *clock);

u64 clock_wall_start(struct clock *clock); /* the same when clock_now was 0 */

void timer_init(struct timer *timer, struct clock *clock, void (*fire)(void *), void *opaque);
void timer_set(struct timer *timer, u64 deadline); /* replaces an earlier deadline */
void timer_cancel(struct timer *timer);
static inline bool timer_pending(const struct timer *timer) { return timer->slot >= 0; }

/* TICKS of FREQUENCY Hz in ns and back, without overflow, rounding down. */
static inline u64 ticks_to_ns(u64 ticks, u64 frequency)
{
    return (u64)((u128)ticks * NS_PER_SECOND / frequency);
}
static inline u64 ns_to_ticks(u64 ns, u64 frequency)
{
    return (u64)((u128)ns * frequency / NS_PER_SECOND);
}

#endif
