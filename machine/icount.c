/*
 * See icount.h.
 *
 * Time is the instructions of all processors, 2^shift ns each, plus what was passed over while all
 * were idle. A processor runs until the nearest timer's instruction exactly; a chip that sets a
 * nearer one, or raises an interrupt, while it is being talked to ends the slice behind that
 * instruction.
 * Several processors take turns.
 *
 * sleep=on waits for the host's clock while the guest idles; sleep=off passes the time over at
 * once.
 * Not supported: shift=auto and align=on, which let the host's clock decide; record and replay.
 */
#include "machine/icount.h"

#include "cpu/cpu.h"
#include "machine/clock_host.h"
#include "machine/drive_host.h"
#include "machine/host/loop.h"
#include "machine/host/os.h"

#include <stdlib.h>

#define TURN_MOST 8192u        /* instructions of one of several processors, */
/* of changing length: loops that wait for each other must not fall into step */
#define TURN_LEAST 512u
#define SLICE_MOST 1000000000u /* of the only one, without a timer */
#define OUTSIDE_EVERY 5000000u /* host ns between looks at descriptors */

struct icount {
    struct machine *machine;
    unsigned shift, next;      /* next: processor */
    bool sleep;
    u64 done;                  /* instructions of slices that ended */
    u64 passed;                /* ns passed over */
    struct vcpu *running;
    u64 running_from;          /* its icount when the slice began */
    u64 looked;                /* host time of the last look outside */
    u64 random;
    unsigned naps;             /* slices in a row that ended in MWAIT */
};

struct icount *icount_new(struct machine *machine)
{
    struct icount *ic = calloc(1, sizeof *ic);
    if (!ic) abort();
    ic->machine = machine;
    ic->shift = machine->options->icount_shift;
    ic->sleep = machine->options->icount_sleep;
    return ic;
}

void icount_free(struct icount *icount) { free(icount); }

static u64 instructions(const struct icount *ic)
{
    return ic->done + (ic->running ? cpu_icount_now(ic->running) - ic->running_from : 0);
}

u64 icount_time(void *icount)
{
    const struct icount *ic = icount;
    return (instructions(ic) << ic->shift) + ic->passed;
}

/* Instructions, of all, at which virtual time reaches NS. */
static u64 instruction_of(const struct icount *ic, u64 ns)
{
    if (ns <= ic->passed) return 0;
    u64 ns_run = ns - ic->passed, step = (u64)1 << ic->shift;
    return ns_run / step + (ns_run % step != 0);
}

void icount_nearer(struct icount *ic)
{
    if (!ic->running) return;
    u64 at = instruction_of(ic, clock_next_deadline(ic->machine->clock));
    cpu_limit(ic->running, at > ic->done ? ic->running_from + (at - ic->done) : ic->running_from);
}

/* The outside world: descriptors that are ready, for at most TIMEOUT host ns. */
static void look_outside(struct icount *ic, u64 timeout)
{
    loop_turn(ic->machine->loop, timeout);
    ic->looked = os_monotonic_ns();
}

static struct vcpu *next_processor(struct icount *ic)
{
    struct machine *m = ic->machine;
    for (unsigned i = 0; m->run_state == RUN_RUNNING && i < m->vcpu_count; i++) {
        struct vcpu *cpu = m->vcpu[(ic->next + i) % m->vcpu_count].cpu;
        if (!cpu_may_run(cpu)) continue;
        ic->next = (cpu->index + 1) % m->vcpu_count;
        return cpu;
    }
    return NULL;
}

static void run_slice(struct icount *ic, struct vcpu *cpu, u64 most)
{
    struct machine *m = ic->machine;
    ic->running = cpu;
    ic->running_from = cpu->icount;
    cpu->budget = (i64)most;
    machine_unlock(m);
    enum cpu_exit exit = cpu_run(cpu);
    machine_lock_io(m);
    ic->done += cpu->icount - ic->running_from;
    ic->running = NULL;
    ic->naps = exit == CPU_EXIT_NAP ? ic->naps + 1 : 0;
    if (exit == CPU_EXIT_TRIPLE_FAULT) m->services.shutdown(&m->services, SHUTDOWN_TRIPLE_FAULT, 0);
}

/* Nobody has anything to do before DEADLINE. */
static void idle(struct icount *ic, u64 deadline)
{
    u64 now = icount_time(ic), host = os_monotonic_ns();
    if (deadline == ~(u64)0) {
        look_outside(ic, ~(u64)0);
        return;
    }
    if (!ic->sleep) {
        ic->passed += deadline - now;
        return;
    }
    look_outside(ic, deadline - now);
    u64 slept = os_monotonic_ns() - host;
    ic->passed += slept < deadline - now ? slept : deadline - now;
}

void icount_turn(struct icount *ic)
{
    struct machine *m = ic->machine;
    clock_run_timers(m->clock);
    u64 now = icount_time(ic), deadline = clock_next_deadline(m->clock);
    if (deadline <= now) return;
    struct vcpu *cpu = ic->naps < m->vcpu_count ? next_processor(ic) : NULL;
    if (!cpu) {
        ic->naps = 0;
        idle(ic, deadline);
    } else {
        u64 most = deadline == ~(u64)0 ? SLICE_MOST : instruction_of(ic, deadline) - ic->done;
        if (most > SLICE_MOST) most = SLICE_MOST;
        u64 turn = TURN_LEAST + (ic->random >> 33) % (TURN_MOST - TURN_LEAST);
        ic->random = ic->random * 6364136223846793005ull + 1442695040888963407ull;
        if (m->vcpu_count > 1 && most > turn) most = turn;
        run_slice(ic, cpu, most);
    }
    if (os_monotonic_ns() - ic->looked > OUTSIDE_EVERY) look_outside(ic, 0);
}
