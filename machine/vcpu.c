/*
 * vCPU threads: run while the machine runs, sleep while the processor is halted, park when asked.
 */
#include "machine/machine.h"

#include "cpu/cpu.h" /* cpu_run, cpu_request */
#include "machine/host/loop.h"
#include "machine/host/os.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WATCH_YIELD_NS 5000u
#define WATCH_LEAST_NS 20000u
#define WATCH_MOST_NS 200000u
#define NAP_LEAST_NS 50000u
#define NAP_MOST_NS 1000000u
#define NAP_WORK 20000u /* instructions between two MWAITs that are more than a look around */

void vcpu_kick(void *opaque)
{
    struct vcpu_thread *thread = opaque;
    if (atomic_exchange(&thread->kicked, true) || !atomic_load(&thread->asleep)) return;
    atomic_fetch_or(&thread->machine->kicks, (u64)1 << thread->cpu->index);
}

void vcpus_wake(struct machine *m, u64 kicks)
{
    for (; kicks; kicks &= kicks - 1) {
        struct vcpu_thread *thread = &m->vcpu[__builtin_ctzll(kicks)];
        pthread_mutex_lock(&thread->mutex); /* past its look at `kicked`, or waiting */
        pthread_mutex_unlock(&thread->mutex);
        pthread_cond_signal(&thread->kicked_cond); /* here it finds the mutex free */
    }
}

void vcpu_relax(void *opaque)
{
    (void)opaque;
    os_yield();
}

/* A processor that runs may be about to kick this one, and nobody else wants the host's. */
static bool may_watch(struct machine *m)
{
    u32 running = atomic_load_explicit(&m->running, memory_order_relaxed);
    return running &&
           running + atomic_load_explicit(&m->watching, memory_order_relaxed) <= m->host_processors;
}

static bool is_kicked(struct vcpu_thread *thread)
{
    return atomic_load_explicit(&thread->kicked, memory_order_relaxed);
}

/* Looks out for a kick instead of sleeping at once: being woken takes the host longer than much of
 * what processors wait for one another. Who is to kick it may be queued behind it for the same
 * processor of the host, so that goes to others first, and again now and then. */
static void watch(struct vcpu_thread *thread, u64 until)
{
    struct machine *m = thread->machine;
    u64 yielded = 0;
    atomic_fetch_add(&m->watching, 1);
    while (!is_kicked(thread) && may_watch(m)) {
        u64 now = os_monotonic_ns();
        if (now >= until) break;
        if (now - yielded > WATCH_YIELD_NS) {
            os_yield();
            yielded = now;
        }
        for (unsigned i = 0; i < 8 && !is_kicked(thread); i++) os_spin();
    }
    atomic_fetch_sub(&m->watching, 1);
}

/* Longer the next time if that would have met the kick that came SLEPT ns on; not at all behind a
 * long sleep. */
static void learn_to_watch(struct vcpu_thread *thread, u64 slept)
{
    if (slept > WATCH_MOST_NS) thread->watch_ns = 0;
    else if (slept > thread->watch_ns)
        thread->watch_ns = thread->watch_ns ? thread->watch_ns * 2 : WATCH_LEAST_NS;
    if (thread->watch_ns > WATCH_MOST_NS) thread->watch_ns = WATCH_MOST_NS;
}

static void sleep_until_kicked(struct vcpu_thread *thread)
{
    u64 began = os_monotonic_ns();
    if (thread->watch_ns) watch(thread, began + thread->watch_ns);
    pthread_mutex_lock(&thread->mutex);
    atomic_store(&thread->asleep, true);
    while (!atomic_load(&thread->kicked)) pthread_cond_wait(&thread->kicked_cond, &thread->mutex);
    atomic_store(&thread->asleep, false);
    atomic_store(&thread->kicked, false);
    pthread_mutex_unlock(&thread->mutex);
    learn_to_watch(thread, os_monotonic_ns() - began);
}

/* MWAIT: naps grow while nothing else is done between them, so that an idle processor costs
 * little. */
static void nap(struct vcpu_thread *thread)
{
    u64 instructions = thread->cpu->icount;
    bool worked = instructions - thread->napped_at > NAP_WORK;
    thread->napped_at = instructions;
    thread->nap_ns = worked || !thread->nap_ns ? NAP_LEAST_NS : thread->nap_ns * 2;
    if (thread->nap_ns > NAP_MOST_NS) thread->nap_ns = NAP_MOST_NS;
    u64 end = os_monotonic_ns() + thread->nap_ns;
    struct timespec until = {(time_t)(end / NS_PER_SECOND), (long)(end % NS_PER_SECOND)};
    pthread_mutex_lock(&thread->mutex);
    atomic_store(&thread->asleep, true);
    while (!atomic_load(&thread->kicked) &&
           !pthread_cond_timedwait(&thread->kicked_cond, &thread->mutex, &until)) {}
    atomic_store(&thread->asleep, false);
    if (atomic_exchange(&thread->kicked, false)) thread->nap_ns = 0;
    pthread_mutex_unlock(&thread->mutex);
}

static bool must_wait(const struct vcpu_thread *thread)
{
    enum run_state state = thread->machine->run_state;
    return state == RUN_PAUSED || (state == RUN_RUNNING && (thread->held || machine_asked(thread->machine)));
}

/* Waits here while the machine is paused or the processor held; false when the thread is to end. */
static bool wait_for_go(struct vcpu_thread *thread)
{
    struct machine *m = thread->machine;
    if (likely(atomic_load(&m->run_state) == RUN_RUNNING && !must_wait(thread))) return true;
    pthread_mutex_lock(&m->run_mutex);
    if (must_wait(thread)) {
        m->parked++;
        pthread_cond_broadcast(&m->run_changed);
        while (must_wait(thread)) pthread_cond_wait(&m->run_changed, &m->run_mutex);
        m->parked--;
        cpu_clear_request(thread->cpu, REQUEST_STOP);
    }
    bool go = m->run_state == RUN_RUNNING;
    pthread_mutex_unlock(&m->run_mutex);
    return go;
}

/* What a debugger asked for: stays where it is until the I/O thread has told him. */
static void wait_for_debugger(struct vcpu_thread *thread)
{
    struct machine *m = thread->machine;
    pthread_mutex_lock(&m->run_mutex);
    thread->held = true;
    pthread_mutex_unlock(&m->run_mutex);
    atomic_store(&m->wants_debug, true);
    loop_wake(m->loop);
}

static void *vcpu_main(void *opaque)
{
    struct vcpu_thread *thread = opaque;
    struct machine *m = thread->machine;
    thread->host_id = os_thread_id();
    while (wait_for_go(thread)) {
        atomic_fetch_add(&m->running, 1);
        enum cpu_exit exit = cpu_run(thread->cpu);
        atomic_fetch_sub(&m->running, 1);
        switch (exit) {
        case CPU_EXIT_IDLE: sleep_until_kicked(thread); break;
        case CPU_EXIT_NAP: nap(thread); break;
        case CPU_EXIT_TRIPLE_FAULT:
            machine_lock(m);
            m->services.shutdown(&m->services, SHUTDOWN_TRIPLE_FAULT, 0);
            machine_unlock(m);
            break;
        case CPU_EXIT_DEBUG: wait_for_debugger(thread); break;
        default: break;
        }
    }
    return NULL;
}

void vcpu_thread_init(struct vcpu_thread *thread)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&thread->mutex, NULL);
    pthread_cond_init(&thread->kicked_cond, &monotonic);
}

static unsigned threads(const struct machine *m) { return m->icount ? 0 : m->vcpu_count; }

bool vcpus_start(struct machine *m, struct error *error)
{
    m->host_processors = os_processors();
    for (unsigned i = 0; !m->icount && i < m->vcpu_count; i++) {
        struct vcpu_thread *thread = &m->vcpu[i];
        thread->machine = m;
        if (pthread_create(&thread->thread, NULL, vcpu_main, thread))
            return error_set(error, "cannot start a thread for processor %u", i);
        thread->started = true;
    }
    pthread_mutex_lock(&m->run_mutex);
    while (m->parked < threads(m)) pthread_cond_wait(&m->run_changed, &m->run_mutex);
    pthread_mutex_unlock(&m->run_mutex);
    return true;
}

static void set_run_state(struct machine *m, enum run_state state)
{
    pthread_mutex_lock(&m->run_mutex);
    m->run_state = state;
    pthread_cond_broadcast(&m->run_changed);
    pthread_mutex_unlock(&m->run_mutex);
    if (state != RUN_RUNNING)
        for (unsigned i = 0; i < threads(m); i++) cpu_request(m->vcpu[i].cpu, REQUEST_STOP);
}

void vcpus_park(struct machine *m)
{
    set_run_state(m, RUN_PAUSED);
    machine_unlock(m); /* a processor may be waiting for it inside a port access */
    pthread_mutex_lock(&m->run_mutex);
    while (m->parked < threads(m)) pthread_cond_wait(&m->run_changed, &m->run_mutex);
    pthread_mutex_unlock(&m->run_mutex);
    machine_lock(m);
}

void vcpus_unpark(struct machine *m) { set_run_state(m, RUN_RUNNING); }

void vcpus_hold(struct machine *m, unsigned index, bool held)
{
    pthread_mutex_lock(&m->run_mutex);
    m->vcpu[index].held = held;
    pthread_mutex_unlock(&m->run_mutex);
}

void vcpus_stop(struct machine *m)
{
    set_run_state(m, RUN_QUIT);
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        if (!m->vcpu[i].started) continue;
        vcpu_kick(&m->vcpu[i]);
        vcpus_wake(m, atomic_exchange(&m->kicks, 0));
        pthread_join(m->vcpu[i].thread, NULL);
        m->vcpu[i].started = false;
    }
}
