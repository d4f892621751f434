/*
 * The machine as a whole: made, run, paused, reset, left.
 *
 * A chip that wants the machine off, reset or stopped says so through machine_services; the I/O
 * thread does it, with every processor parked.
 */
#include "machine/machine.h"

#include "cpu/cpu.h"             /* cpu_reset */
#include "jit/jit.h"
#include "machine/bus_host.h"
#include "machine/chardev_host.h"/* chardev_close, terminal_restore */
#include "machine/clock_host.h"
#include "machine/debug/gdb.h"
#include "machine/debug/stops.h"
#include "machine/debug/trace.h"
#include "machine/display_host.h"
#include "machine/drive_host.h"
#include "machine/host/loop.h"
#include "machine/host/os.h"
#include "machine/icount.h"
#include "machine/monitor.h"
#include "net/options.h"         /* net_set_* */

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DISPLAY_INTERVAL_NS 33000000u

/* --- the machine lock: the I/O thread goes before processors that hammer it --- */

void machine_lock(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    while (atomic_load_explicit(&m->io_waiting, memory_order_relaxed))
        pthread_cond_wait(&m->lock_free, &m->lock);
}

bool machine_try_lock(struct machine *m) { return !pthread_mutex_trylock(&m->lock); }

static bool work_on_drives(struct machine *m)
{
    bool done = false;
    for (unsigned i = 0; i < m->drive_count; i++) done |= drive_work(m->drives[i]);
    return done;
}

/* Who is woken wants the lock at once. The guest's disks are served by the thread that asked them,
 * where that takes no longer than waking another one; completions may ask for more. */
void machine_unlock(struct machine *m)
{
    for (;;) {
        bool io = m->kick_io, drives = m->kick_drives;
        m->kick_io = m->kick_drives = false;
        pthread_mutex_unlock(&m->lock);
        if (atomic_load(&m->kicks)) vcpus_wake(m, atomic_exchange(&m->kicks, 0));
        if (io) loop_wake(m->loop);
        if (likely(!drives) || !work_on_drives(m)) return;
        machine_lock(m);
        for (unsigned i = 0; i < m->drive_count; i++) drive_finish(m->drives[i]);
    }
}

static void lock_any(void *opaque) { machine_lock(opaque); }
static void unlock_any(void *opaque) { machine_unlock(opaque); }

void machine_lock_io(struct machine *m)
{
    atomic_fetch_add(&m->io_waiting, 1);
    pthread_mutex_lock(&m->lock);
    if (atomic_fetch_sub(&m->io_waiting, 1) == 1) pthread_cond_broadcast(&m->lock_free);
    m->io_wakes_at = 0;
}

static void lock_io(void *opaque) { machine_lock_io(opaque); }

/* --- what chips ask for --- */

static struct machine *of(struct machine_services *services)
{
    return container_of(services, struct machine, services);
}

/* The processor whose write it was does not run its next instruction. */
static void ask(struct machine *m, _Atomic(const char *) *what, const char *why)
{
    int self = os_thread_id();
    atomic_store(what, why);
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        cpu_request(m->vcpu[i].cpu, REQUEST_STOP);
        if (self && m->vcpu[i].host_id == self) m->vcpu[i].cpu->leave_block = true;
    }
    loop_wake(m->loop);
}

bool machine_asked(const struct machine *m)
{
    return atomic_load(&m->wants_off) || atomic_load(&m->wants_reset) || atomic_load(&m->wants_quit) ||
           atomic_load(&m->wants_suspend) || atomic_load(&m->wants_pause);
}

static void services_shutdown(struct machine_services *services, enum shutdown_cause cause,
                              int code)
{
    struct machine *m = of(services);
    switch (cause) {
    case SHUTDOWN_GUEST_RESET:
    case SHUTDOWN_TRIPLE_FAULT:
        ask(m, m->options->no_reboot ? &m->wants_off : &m->wants_reset, "guest-reset");
        break;
    case SHUTDOWN_EXIT_DEVICE:
        m->exit_code = code;
        ask(m, &m->wants_quit, "guest-shutdown");
        break;
    case SHUTDOWN_PANIC:
        atomic_store(&m->panicked, true);
        if (m->options->panic_pauses) ask(m, &m->wants_pause, "guest-panicked");
        else ask(m, &m->wants_off, "guest-panic");
        break;
    case SHUTDOWN_SUSPEND:
        m->suspended = true; /* from here on a wake is one */
        ask(m, &m->wants_suspend, "guest");
        break;
    default: ask(m, &m->wants_off, "guest-shutdown"); break;
    }
}

static void services_wake(struct machine_services *services, enum wake_cause cause)
{
    struct machine *m = of(services);
    if (!m->suspended || atomic_load(&m->wants_wake) || !pc_wakes(m, cause)) return;
    m->wake_cause = cause;
    atomic_store(&m->wants_wake, true);
    loop_wake(m->loop);
}

static void services_set_a20(struct machine_services *services, bool enabled)
{
    struct machine *m = of(services);
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        m->vcpu[i].cpu->a20_mask = enabled ? ~(u64)0 : ~(u64)(1 << 20);
        cpu_request(m->vcpu[i].cpu, REQUEST_A20 | REQUEST_TLB_FLUSH);
    }
}

/* SplitMix64: for guests that are to see the same numbers again. */
static void repeated_random(struct machine *m, u8 *to, size_t length)
{
    while (length) {
        u8 bytes[8];
        u64 x = atomic_fetch_add(&m->random, 0x9e3779b97f4a7c15ull) + 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        size_t n = length < sizeof bytes ? length : sizeof bytes;
        st64(bytes, x ^ x >> 31);
        memcpy(to, bytes, n);
        to += n;
        length -= n;
    }
}

static void services_random(struct machine_services *services, void *to, size_t length)
{
    struct machine *m = of(services);
    if (m->options->has_seed || m->options->icount) repeated_random(m, to, length);
    else if (!os_random(to, length)) memset(to, 0x5a, length);
}

void machine_quit(struct machine *m, int code, const char *reason)
{
    m->exit_code = code;
    ask(m, &m->wants_quit, reason);
}

void machine_ask_reset(struct machine *m, const char *reason) { ask(m, &m->wants_reset, reason); }
void machine_ask_pause(struct machine *m, const char *status) { ask(m, &m->wants_pause, status); }

/* --- making --- */

static u64 host_time(void *opaque)
{
    (void)opaque;
    return os_monotonic_ns();
}

/* The nearest timer moved nearer: the I/O thread has to know if it would sleep longer. */
static void wake_loop(void *opaque)
{
    struct machine *m = opaque;
    if (m->icount) {
        icount_nearer(m->icount);
        return;
    }
    if (clock_next_deadline(m->clock) >= m->io_wakes_at) return;
    m->io_wakes_at = 0;
    m->kick_io = true;
}

static void map_changed(void *opaque)
{
    struct machine *m = opaque;
    for (unsigned i = 0; i < m->vcpu_count; i++) cpu_request(m->vcpu[i].cpu, REQUEST_TLB_FLUSH);
}

static void set_wall_clock(struct machine *m)
{
    u64 now = os_wall_ns();
    struct tm tm = {0};
    const char *base = m->options->rtc_base;
    if (!strcmp(base, "localtime")) {
        now += (u64)(os_utc_offset_seconds(now) * (i64)NS_PER_SECOND);
    } else if (strcmp(base, "utc") &&
               sscanf(base, "%d-%d-%dT%d:%d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                      &tm.tm_min, &tm.tm_sec) >= 3) {
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        now = (u64)timegm(&tm) * NS_PER_SECOND;
    }
    clock_set_wall(m->clock, now);
}

struct device *machine_new_device(struct machine *m, const char *class_name)
{
    const struct device_class *class = device_class_find(class_name);
    if (!class) return NULL;
    struct device *device = device_new(class, m->bus, m->clock, &m->log, &m->services);
    for (unsigned i = 0; i < m->options->global_count; i++) {
        const char *text = m->options->globals[i];
        size_t length = strlen(class_name);
        char property[64];
        int at = 0;
        struct error error;
        if (strncmp(text, class_name, length) || text[length] != '.') continue;
        sscanf(text + length + 1, "%63[^=]=%n", property, &at);
        /* options.c has tried it */
        device_set_property(device, property, text + length + 1 + at, &error);
    }
    return device;
}

static void give_log(struct machine *m, struct device *device);

/* Chips of one kind are told apart: i8259, i8259.1. */
static void number_device(struct machine *m, struct device *device)
{
    unsigned n = 0;
    if (strcmp(device->id, device->class->name)) return; /* named by the user */
    for (unsigned i = 0; i < m->device_count; i++) n += m->devices[i]->class == device->class;
    if (n) snprintf(device->id, sizeof device->id, "%s.%u", device->class->name, n);
}

struct device *machine_add(struct machine *m, struct device *device, struct error *error)
{
    if (m->device_count == MAX_BOARD_DEVICES) return error_set(error, "too many devices"), NULL;
    number_device(m, device);
    give_log(m, device);
    if (!device_init(device, error)) return NULL;
    m->devices[m->device_count++] = device;
    return device;
}

/* The log's name with "%d" as our number. */
static bool log_name(const char *given, char *to, size_t size, struct error *error)
{
    const char *percent = strchr(given, '%');
    if (percent && (percent[1] != 'd' || strchr(percent + 2, '%')))
        return error_set(error, "-D %s: one %%d at most", given);
    if (percent)
        snprintf(to, size, "%.*s%d%s", (int)(percent - given), given, os_process_id(), percent + 2);
    else snprintf(to, size, "%s", given);
    return true;
}

static bool open_log(struct machine *m, struct error *error)
{
    const struct options *o = m->options;
    char name[4096];
    m->log_items = o->log_items;
    m->log.mask = o->log_items.mask;
    memcpy(m->log.ranges, o->log_ranges, sizeof m->log.ranges);
    m->log.range_count = o->log_range_count;
    if (!o->log_file) return true;
    if (!log_name(o->log_file, name, sizeof name, error)) return false;
    m->log.stream = fopen(name, "w");
    if (!m->log.stream) return error_set(error, "-D %s: cannot be written", o->log_file);
    setvbuf(m->log.stream, NULL, _IOLBF, 0);
    return true;
}

static bool is_wanted(const struct machine *m, const struct device *device)
{
    for (unsigned i = 0; i < m->log_items.pattern_count; i++)
        if (!fnmatch(m->log_items.patterns[i], device->class->name, 0) ||
            !fnmatch(m->log_items.patterns[i], device->id, 0))
            return true;
    return false;
}

/* A chip that is to tell all has a log of its own, to the same place. */
static void give_log(struct machine *m, struct device *device)
{
    m->chip_log = m->log;
    m->chip_log.mask |= LOG_OF_CHIP;
    device->log = is_wanted(m, device) ? &m->chip_log : &m->log;
}

void machine_set_log(struct machine *m, const struct log_items *items)
{
    m->log_items = *items;
    m->log.mask = items->mask;
    for (unsigned i = 0; i < m->device_count; i++) give_log(m, m->devices[i]);
}

struct machine *machine_new(struct options *options, struct error *error)
{
    struct machine *m = calloc(1, sizeof *m);
    if (!m) abort();
    m->options = options;
    m->status = "prelaunch";
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->lock_free, NULL);
    pthread_mutex_init(&m->run_mutex, NULL);
    pthread_cond_init(&m->run_changed, NULL);
    m->services = (struct machine_services){.shutdown = services_shutdown, .wake = services_wake,
                                            .set_a20 = services_set_a20,
                                            .random = services_random, .vcpus = options->smp};
    m->loop = loop_new();
    m->random = options->seed;
    m->icount = options->icount ? icount_new(m) : NULL;
    m->clock = m->icount ? clock_new(icount_time, m->icount) : clock_new(host_time, NULL);
    loop_set_steady(m->loop, options->icount);
    loop_set_lock(m->loop, lock_io, unlock_any, m);
    clock_on_nearer(m->clock, wake_loop, m);
    set_wall_clock(m);
    lock_io(m);
    bool ok = open_log(m, error);
    if (ok) {
        m->bus = bus_new(options->ram, MIB(128), &m->log, error);
        ok = m->bus != NULL;
    }
    if (ok) {
        bus_set_lock(m->bus, lock_any, unlock_any, m);
        bus_on_map_change(m->bus, map_changed, m);
        m->display = display_new();
        /* While the board is built this thread holds the lock; chips are called directly. */
        ok = pc_build(m, error) && trace_start(m, error) && monitor_start(m, error) &&
             gdb_start(m, error) && display_open(m, error);
    }
    machine_unlock(m);
    if (ok) return m;
    machine_free(m);
    return NULL;
}

void machine_free(struct machine *m)
{
    vcpus_stop(m);
    lock_io(m);
    trace_stop(m);
    display_close(m);
    for (unsigned i = 0; i < m->drive_count; i++) drive_drain(m->drives[i]);
    for (unsigned i = 0; i < m->drive_count; i++) drive_free(m->drives[i]), free(m->drive_files[i]);
    for (unsigned i = 0; i < m->chardev_count; i++) chardev_close(m->chardevs[i]);
    if (m->net) net_set_free(m->net);
    for (unsigned i = 0; i < m->vcpu_count; i++)
        if (m->vcpu[i].cpu) jit_detach(m->vcpu[i].cpu);
    jit_free(m->jit); /* a dump wants to be ended */
    terminal_restore();
    machine_unlock(m);
    if (m->log.stream) fclose(m->log.stream);
    /* The rest goes with the process: chips hold pointers into each other's wires. */
}

/* --- running --- */

static void tell(struct machine *m, enum machine_event_kind kind)
{
    machine_tell(m, &(struct machine_event){.kind = kind});
}

static void tell_why(struct machine *m, enum machine_event_kind kind, const char *reason)
{
    machine_tell(m, &(struct machine_event){
                        .kind = kind, .reason = reason, .guest = !strncmp(reason, "guest", 5)});
}

static bool needs_reset(const struct machine *m)
{
    return !strcmp(m->status, "shutdown") || !strcmp(m->status, "guest-panicked");
}

/* Do processors run, or time for those that are suspended? */
static bool is_going(struct machine *m)
{
    return m->run_state == RUN_RUNNING || clock_runs(m->clock);
}

void machine_pause_as(struct machine *m, const char *status)
{
    bool ran = is_going(m);
    if (m->run_state == RUN_RUNNING) vcpus_park(m);
    clock_stop(m->clock);
    if (ran || strcmp(status, "paused")) m->status = status;
    if (!ran) return;
    tell(m, EVENT_STOP);
    gdb_paused(m);
}

void machine_pause(struct machine *m) { machine_pause_as(m, "paused"); }

bool machine_resume(struct machine *m, struct error *error)
{
    if (is_going(m)) return true;
    if (!needs_reset(m)) stops_release(m);
    return machine_go(m, true, error);
}

bool machine_go(struct machine *m, bool clock, struct error *error)
{
    if (needs_reset(m)) return error_set(error, "Resetting the Virtual Machine is required");
    m->status = m->suspended ? "suspended" : "running";
    tell(m, EVENT_RESUME);
    stops_apply(m);
    if (clock) clock_start(m->clock);
    for (unsigned i = 0; i < m->drive_count; i++) drive_retry(m->drives[i]);
    if (!m->suspended) vcpus_unpark(m);
    return true;
}

/* Of processors and chips, parked; with WAKING, but for those that suspend left their power. */
static void reset_parts(struct machine *m, bool waking)
{
    for (unsigned i = 0; i < m->drive_count; i++) drive_drain(m->drives[i]);
    for (unsigned i = 0; i < m->device_count; i++)
        if (!waking || !pc_sleeps_on(m, m->devices[i])) device_reset(m->devices[i]);
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        if (log_on(&m->log, LOG_RESET)) trace_log_registers(&m->log, m->vcpu[i].cpu, "CPU Reset");
        cpu_reset(m->vcpu[i].cpu);
    }
    pc_reset(m);
}

void machine_reset(struct machine *m)
{
    bool running = m->run_state == RUN_RUNNING || (m->suspended && clock_runs(m->clock));
    if (m->run_state == RUN_RUNNING) vcpus_park(m);
    m->suspended = false;
    atomic_store(&m->wants_suspend, NULL);
    atomic_store(&m->wants_wake, false);
    reset_parts(m, false);
    if (running) vcpus_unpark(m);
}

static void machine_suspend(struct machine *m)
{
    if (m->run_state == RUN_RUNNING) m->status = "suspended";
    vcpus_park(m);
    tell(m, EVENT_SUSPEND);
}

/* The end of a suspend: firmware finds a reset processor and what the guest left in memory. */
static void machine_wake(struct machine *m)
{
    m->suspended = false;
    reset_parts(m, true);
    pc_woken(m, m->wake_cause);
    tell(m, EVENT_WAKEUP);
    if (!clock_runs(m->clock)) return;
    m->status = "running";
    vcpus_unpark(m);
}

static void reset_for(struct machine *m, const char *reason)
{
    machine_reset(m);
    if (needs_reset(m)) m->status = "paused";
    if (m->run_state == RUN_RUNNING) m->status = "running";
    tell_why(m, EVENT_RESET, reason);
}

/* True while the machine goes on. */
static bool serve_requests(struct machine *m)
{
    const char *why;
    if (atomic_exchange(&m->panicked, false))
        machine_tell(m, &(struct machine_event){
            .kind = EVENT_GUEST_PANICKED,
            .action = m->options->panic_pauses ? "pause" : "poweroff"});
    if ((why = atomic_exchange(&m->wants_quit, NULL))) {
        tell_why(m, EVENT_SHUTDOWN, why);
        return false;
    }
    if ((why = atomic_exchange(&m->wants_off, NULL))) {
        tell_why(m, EVENT_SHUTDOWN, why);
        if (!m->options->no_shutdown) return false;
        machine_pause_as(m, "shutdown");
    }
    if ((why = atomic_exchange(&m->wants_pause, NULL))) machine_pause_as(m, why);
    if (atomic_exchange(&m->wants_debug, false)) stops_stopped(m);
    if ((why = atomic_exchange(&m->wants_reset, NULL))) reset_for(m, why);
    if (atomic_exchange(&m->wants_suspend, NULL)) machine_suspend(m);
    if (atomic_exchange(&m->wants_wake, false)) machine_wake(m);
    return true;
}

static u64 time_to_sleep(struct machine *m, u64 next_frame)
{
    u64 sleep = ~(u64)0, deadline = clock_next_deadline(m->clock), now = clock_now(m->clock);
    if (clock_runs(m->clock) && deadline != ~(u64)0) sleep = deadline > now ? deadline - now : 0;
    if (!display_is_shown(m)) return sleep;
    u64 host = os_monotonic_ns(), frame = next_frame > host ? next_frame - host : 0;
    return frame < sleep ? frame : sleep;
}

static void turn(struct machine *m, u64 next_frame)
{
    if (m->icount && clock_runs(m->clock)) {
        icount_turn(m->icount);
        return;
    }
    m->io_wakes_at = clock_next_deadline(m->clock);
    loop_turn(m->loop, time_to_sleep(m, next_frame));
    for (unsigned i = 0; i < m->drive_count; i++) drive_complete(m->drives[i]);
    if (clock_runs(m->clock)) clock_run_timers(m->clock);
}

int machine_run(struct machine *m)
{
    struct error error;
    u64 next_frame = 0;
    lock_io(m);
    if (!vcpus_start(m, &error)) {
        fprintf(stderr, "lyrebird: %s\n", error.text);
        machine_unlock(m);
        return 1;
    }
    machine_reset(m);
    if (!m->options->paused) machine_resume(m, &error);
    while (serve_requests(m)) {
        turn(m, next_frame);
        if (display_is_shown(m) && os_monotonic_ns() >= next_frame) {
            display_refresh(m);
            next_frame = os_monotonic_ns() + DISPLAY_INTERVAL_NS;
        }
        monitors_turn(m);
    }
    gdb_leaving(m, m->exit_code);
    if (m->run_state == RUN_RUNNING) {
        vcpus_park(m);
        clock_stop(m->clock);
    }
    machine_unlock(m);
    return m->exit_code;
}
