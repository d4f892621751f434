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

struct vcpu;
struct machine;

struct vcpu_thread {
    struct machine *machine;
    struct vcpu *cpu;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t kicked_cond;
    bool kicked, started;
    u64 nap_ns, napped_at;        /* length of the next nap; instructions done at the last */
    bool held;                    /* stays parked though the machine runs; under run_mutex */
};

enum run_state { RUN_PAUSED, RUN_RUNNING, RUN_QUIT };

struct machine {
    struct options *options;
    struct machine_services services;
    struct log log;
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

    struct smp_group *group;
    struct vcpu_thread vcpu[MAX_VCPUS];
    unsigned vcpu_count;
    pthread_mutex_t run_mutex;
    pthread_cond_t run_changed;   /* run_state or parked */
    enum run_state run_state;     /* under run_mutex */
    unsigned parked;

    struct device *devices[MAX_BOARD_DEVICES]; /* in reset order */
    unsigned device_count;
    struct jit *jit;              /* NULL: interpreted */
    struct icount *icount;        /* NULL: time is the host's, processors have threads */
    _Atomic u64 random;           /* state of the generator that -seed and -icount ask for */
    struct pc *pc;                /* the board's own notes */
    struct drive *drives[MAX_DRIVES];
    const struct drive_option *drive_options[MAX_DRIVES];
    unsigned drive_count;
    struct chardev *chardevs[MAX_SERIAL + 6];
    unsigned chardev_count;
    struct monitor *monitor;
    struct stops *stops;          /* breakpoints and the like (debug/stops.c) */
    struct gdb *gdb;              /* the stub, when asked for */

    /* asked for by chips, done by the I/O thread */
    _Atomic bool wants_reset, wants_off, wants_pause, wants_quit, wants_suspend, wants_wake;
    enum wake_cause wake_cause;
    bool suspended;               /* to RAM: processors parked, time goes on. Under the lock */
    _Atomic bool wants_debug;     /* a processor met what a debugger asked for, and waits */
    int exit_code;
};

struct machine *machine_new(struct options *options, struct error *error);
void machine_free(struct machine *machine);
/* Runs until the guest powers off or somebody leaves; the process's exit status. */
int machine_run(struct machine *machine);

/* I/O thread, lock held. */
void machine_pause(struct machine *machine);
void machine_resume(struct machine *machine);
void machine_go(struct machine *machine, bool clock); /* the processors that aren't held; with or without time */
void machine_reset(struct machine *machine);
/* Any thread. */
void machine_quit(struct machine *machine, int code);
void machine_lock(struct machine *machine);
void machine_unlock(struct machine *machine);
void machine_lock_io(struct machine *machine); /* I/O thread: before the processors */

/* Makes, initialises and enters a chip into the machine's list. NULL with a line. */
struct device *machine_add(struct machine *machine, struct device *device, struct error *error);
struct device *machine_new_device(struct machine *machine, const char *class_name);

/* --- vcpu.c --- */
void vcpu_thread_init(struct vcpu_thread *thread); /* before anything is asked of its processor */
bool vcpus_start(struct machine *machine, struct error *error); /* parked */
void vcpus_stop(struct machine *machine);                       /* ends the threads */
void vcpus_park(struct machine *machine);    /* lock held; drops it while waiting */
void vcpus_unpark(struct machine *machine);
void vcpus_hold(struct machine *machine, unsigned index, bool held); /* while all are parked */
void vcpu_kick(void *vcpu_thread);

/* --- pc.c --- */
bool pc_build(struct machine *machine, struct error *error);
void pc_reset(struct machine *machine);
void pc_free(struct machine *machine);
bool pc_wakes(struct machine *machine, enum wake_cause cause); /* may CAUSE end a suspend? */
void pc_woken(struct machine *machine, enum wake_cause cause); /* behind the reset that begins it */
bool pc_sleeps_on(struct machine *machine, const struct device *device); /* powered while suspended */
void pc_power_button(struct machine *machine);
void pc_nmi(struct machine *machine);

#endif
