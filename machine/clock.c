/*
 * Virtual time and the timer heap.
 *
 * A clock follows a source of nanoseconds while it runs and stands still while it is stopped; a
 * manual clock has no source and moves by clock_advance. Timers sit in a binary heap by deadline.
 * clock_now is called from any thread: its base and offset change only while the machine is
 * stopped.
 */
#include "machine/clock_host.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

struct clock {
    u64 (*source)(void *opaque);
    void *source_opaque;
    _Atomic u64 offset;  /* running: now = source + offset */
    _Atomic u64 stopped; /* time shown while it stands */
    _Atomic bool running;
    u64 wall_offset;     /* wall = now + this */
    struct timer **heap;
    int count, capacity;
    void (*nearer)(void *opaque);
    void *nearer_opaque;
};

struct clock *clock_new(u64 (*source)(void *), void *opaque)
{
    struct clock *clock = calloc(1, sizeof *clock);
    clock->source = source;
    clock->source_opaque = opaque;
    return clock;
}

struct clock *clock_new_manual(void) { return clock_new(NULL, NULL); }

void clock_free(struct clock *clock)
{
    free(clock->heap);
    free(clock);
}

u64 clock_now(struct clock *clock)
{
    if (!atomic_load_explicit(&clock->running, memory_order_acquire)) return clock->stopped;
    return clock->source(clock->source_opaque) + clock->offset;
}

u64 clock_wall(struct clock *clock) { return clock_now(clock) + clock->wall_offset; }

u64 clock_wall_start(struct clock *clock) { return clock->wall_offset; }

void clock_set_wall(struct clock *clock, u64 wall) { clock->wall_offset = wall - clock_now(clock); }

void clock_stop(struct clock *clock)
{
    if (!clock->running) return;
    clock->stopped = clock_now(clock);
    atomic_store_explicit(&clock->running, false, memory_order_release);
}

void clock_start(struct clock *clock)
{
    if (clock->running || !clock->source) return;
    clock->offset = clock->stopped - clock->source(clock->source_opaque);
    atomic_store_explicit(&clock->running, true, memory_order_release);
}

bool clock_runs(struct clock *clock) { return clock->running; }

void clock_on_nearer(struct clock *clock, void (*nearer)(void *), void *opaque)
{
    clock->nearer = nearer;
    clock->nearer_opaque = opaque;
}

/* --- heap --- */

static void place(struct clock *clock, int slot, struct timer *timer)
{
    clock->heap[slot] = timer;
    timer->slot = slot;
}

static void sift_up(struct clock *clock, int slot, struct timer *timer)
{
    while (slot > 0 && timer->deadline < clock->heap[(slot - 1) / 2]->deadline) {
        place(clock, slot, clock->heap[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    place(clock, slot, timer);
}

static void sift_down(struct clock *clock, int slot, struct timer *timer)
{
    for (;;) {
        int child = slot * 2 + 1;
        if (child >= clock->count) break;
        if (child + 1 < clock->count &&
            clock->heap[child + 1]->deadline < clock->heap[child]->deadline)
            child++;
        if (timer->deadline <= clock->heap[child]->deadline) break;
        place(clock, slot, clock->heap[child]);
        slot = child;
    }
    place(clock, slot, timer);
}

void timer_init(struct timer *timer, struct clock *clock, void (*fire)(void *), void *opaque)
{
    *timer = (struct timer){clock, fire, opaque, 0, -1};
}

void timer_cancel(struct timer *timer)
{
    struct clock *clock = timer->clock;
    int slot = timer->slot;
    if (slot < 0) return;
    timer->slot = -1;
    struct timer *last = clock->heap[--clock->count];
    if (last == timer) return;
    sift_up(clock, slot, last);
    sift_down(clock, last->slot, last);
}

void timer_set(struct timer *timer, u64 deadline)
{
    struct clock *clock = timer->clock;
    timer_cancel(timer);
    if (clock->count == clock->capacity) {
        clock->capacity = clock->capacity ? clock->capacity * 2 : 32;
        clock->heap = realloc(clock->heap, clock->capacity * sizeof *clock->heap);
        if (!clock->heap) abort();
    }
    timer->deadline = deadline;
    sift_up(clock, clock->count++, timer);
    if (timer->slot == 0 && clock->nearer) clock->nearer(clock->nearer_opaque);
}

u64 clock_next_deadline(struct clock *clock)
{
    return clock->count ? clock->heap[0]->deadline : ~(u64)0;
}

void clock_run_timers(struct clock *clock)
{
    /* A timer that sets itself into the past must not keep us here: one look at the clock a
     * call. */
    u64 now = clock_now(clock);
    for (int limit = 1000; limit && clock->count && clock->heap[0]->deadline <= now; limit--) {
        struct timer *timer = clock->heap[0];
        timer_cancel(timer);
        timer->fire(timer->opaque);
    }
}

void clock_advance(struct clock *clock, u64 ns)
{
    assert(!clock->running);
    u64 end = clock->stopped + ns;
    while (clock->count && clock->heap[0]->deadline <= end) {
        struct timer *timer = clock->heap[0];
        if (timer->deadline > clock->stopped) clock->stopped = timer->deadline;
        timer_cancel(timer);
        timer->fire(timer->opaque);
    }
    clock->stopped = end;
}
