/*
 * One machine: everything that is wired together, and who runs it.
 *
 * Threads: one a vCPU, and the I/O thread (the one that called machine_run) for descriptors, timers
 * and completions. Chips run under the machine lock, whoever calls them.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include "machine/device.h"
#include "machine/options.h"

#include <pthread.h>
#include <stdatomic.h>

#define MAX_VCPUS 64
#define MAX_BOARD_DEVICES 128
#define MAX_CHARDEVS 64

struct vcpu;
struct machine;

struct vcpu_thread {
    struct machine *machine;
    struct vcpu *cpu;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t kicked_cond;
    _Atomic bool kicked, asleep;  /* asleep, or about to be */
    bool started;
    u64 nap_ns, napped_at;        /* length of the next nap; instructions done at the last */
    u64 watch_ns;                 /* how long it looks out for a kick before it sleeps */
    bool held;                    /* stays parked though the machine runs; under run_mutex */
    int host_id; /* os_thread_id */
};

enum run_state { RUN_PAUSED, RUN_RUNNING, RUN_QUIT };

/* Something that happened, for who listens on a control socket. Members as the event's row says. */
enum machine_event_kind {
#define EVENT(name, members) EVENT_##name,
#include "machine/debug/events.def"
#undef EVENT
    MACHINE_EVENTS
};
struct machine_event {
    enum machine_event_kind kind;
    bool guest, tray_open, nospace;
    const char *reason, *action, *device, *id, *operation;
};

struct machine {
    struct options *options;
    struct machine_services services;
    struct log log, chip_log;     /* the second: of chips that are to tell all */
    struct log_items log_items;
    struct clock *clock;
    struct bus *bus;
    struct loop *loop;
    struct display *display;
    struct console *console;
    struct net_set *net;

    pthread_mutex_t lock;
    pthread_cond_t lock_free;
    _Atomic u32 io_waiting;       /* the I/O thread wants the lock next */
    u64 io_wakes_at;              /* virtual time it sleeps until; 0: awake. Under the lock */
    _Atomic u64 kicks;            /* sleeping processors to be woken once the lock is free, a bit
                                     each */
    bool kick_io;                 /* the I/O thread too. Under the lock */
    bool kick_drives;             /* requests wait for who drops the lock. Under the lock */

    struct smp_group *group;
    struct vcpu_thread vcpu[MAX_VCPUS];
    unsigned vcpu_count;
    unsigned host_processors;
    _Atomic u32 running, watching; /* processors in the guest; looking out for a kick */
    pthread_mutex_t run_mutex;
    pthread_cond_t run_changed;   /* run_state or parked */
    _Atomic(enum run_state) run_state; /* written under run_mutex */
    unsigned parked;

    struct device *devices[MAX_BOARD_DEVICES]; /* in reset order */
    unsigned device_count;
    struct jit *jit;              /* NULL: interpreted */
    struct icount *icount;        /* NULL: time is the host's, processors have threads */
    _Atomic u64 random;           /* state of the generator that -seed and -icount ask for */
    struct pc *pc;                /* the board's own notes */
    struct drive *drives[MAX_DRIVES];
    const struct drive_option *drive_options[MAX_DRIVES];
    char *drive_files[MAX_DRIVES]; /* of the media in them; NULL: none */
    unsigned drive_count;
    struct chardev *chardevs[MAX_CHARDEVS];
    unsigned chardev_count;
    struct monitors *monitors;
    struct stops *stops;          /* breakpoints and the like (debug/stops.c) */
    struct gdb *gdb;              /* the stub, when asked for */
    struct trace *trace;          /* debug/trace.c */
    const char *status;           /* as query-status says it: "running", "paused", "shutdown", … */

    /* Asked for by chips and others, done by the I/O thread: NULL, or why (enum ShutdownCause of
     * qmp.def; of wants_pause the status to be in). */
    _Atomic(const char *) wants_reset, wants_off, wants_pause, wants_quit, wants_suspend;
    _Atomic bool wants_wake;
    enum wake_cause wake_cause;
    bool suspended;               /* to RAM: processors parked, time goes on. Under the lock */
    _Atomic bool panicked;        /* to be told */
    _Atomic bool wants_debug;     /* a processor met what a debugger asked for, and waits */
    int exit_code;
};

struct machine *machine_new(struct options *options, struct error *error);
void machine_free(struct machine *machine);
/* Runs until the guest powers off or somebody leaves; the process's exit status. */
int machine_run(struct machine *machine);

/* I/O thread, lock held. */
void machine_pause(struct machine *machine);   /* because somebody wants it */
void machine_pause_as(struct machine *machine, const char *status);
/* not behind a power-off or a panic */
bool machine_resume(struct machine *machine, struct error *error);
/* The processors that are not held go, with or without time; fails as machine_resume. */
bool machine_go(struct machine *machine, bool clock, struct error *error);
void machine_reset(struct machine *machine);
/* Any thread. REASON: a constant, see wants_quit. */
void machine_quit(struct machine *machine, int code, const char *reason);
void machine_ask_reset(struct machine *machine, const char *reason);
void machine_ask_pause(struct machine *machine, const char *status);
void machine_lock(struct machine *machine);
void machine_unlock(struct machine *machine);
bool machine_try_lock(struct machine *machine);
void machine_lock_io(struct machine *machine); /* I/O thread: before the processors */

/* Makes, initialises and enters a chip into the machine's list. NULL with a line. */
struct device *machine_add(struct machine *machine, struct device *device, struct error *error);
/* Processors parked. The traces' owner has to be told (trace_update). */
void machine_set_log(struct machine *machine, const struct log_items *items);
struct device *machine_new_device(struct machine *machine, const char *class_name);

/* --- chardevs.c --- */
bool machine_open_chardevs(struct machine *machine, struct error *error); /* -chardev */
/* What TEXT asks for: a new character device named LABEL, or "chardev:ID", one there is; on a
 * shared terminal the serial port's end or the monitor's. NULL with a line. */
struct chardev *machine_chardev(struct machine *machine, const char *label, const char *text,
                                bool for_monitor, struct error *error);

/* --- vcpu.c --- */
void vcpu_thread_init(struct vcpu_thread *thread); /* before anything is asked of its processor */
bool vcpus_start(struct machine *machine, struct error *error); /* parked */
void vcpus_stop(struct machine *machine);                       /* ends the threads */
/* Somebody asked for what ends or interrupts this: processors wait until it is done. Any thread. */
bool machine_asked(const struct machine *machine);
void vcpus_park(struct machine *machine);    /* lock held; drops it while waiting */
void vcpus_unpark(struct machine *machine);
void vcpus_hold(struct machine *machine, unsigned index, bool held); /* while all are parked */
/* Wakes it when the machine lock is dropped: woken sooner, it would only wait for that. Lock
 * held. */
void vcpu_kick(void *vcpu_thread);
void vcpus_wake(struct machine *machine, u64 kicks); /* now: a bit for each */
void vcpu_relax(void *vcpu_thread); /* its own thread: spins, for want of somebody else's
                                       progress */

/* --- pc.c --- */
bool pc_build(struct machine *machine, struct error *error);
void pc_reset(struct machine *machine);
void pc_free(struct machine *machine);
bool pc_wakes(struct machine *machine, enum wake_cause cause); /* may CAUSE end a suspend? */
void pc_woken(struct machine *machine, enum wake_cause cause); /* behind the reset that begins it */
/* powered while suspended */
bool pc_sleeps_on(struct machine *machine, const struct device *device);
void pc_power_button(struct machine *machine);
void pc_nmi(struct machine *machine);

/* --- debug/monitor.c: tells the listeners. Lock held --- */
void machine_tell(struct machine *machine, const struct machine_event *event);

#endif
