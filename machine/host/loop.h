/*
 * The I/O thread's poll loop: host descriptors in, callbacks out, with the machine lock held.
 * Thread: everything on the I/O thread with the lock held; loop_wake from any.
 */
#ifndef MACHINE_HOST_LOOP_H
#define MACHINE_HOST_LOOP_H

#include "machine/types.h"

struct loop;
struct loop_fd;

enum { LOOP_IN = 1, LOOP_OUT = 2, LOOP_ERROR = 4 };

struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* The machine lock, let go while asleep. */
void loop_set_lock(struct loop *loop, void (*lock)(void *), void (*unlock)(void *), void *opaque);

struct loop_fd *loop_add(struct loop *loop, int fd, unsigned events,
                         void (*ready)(void *opaque, unsigned events), void *opaque);
void loop_change(struct loop_fd *watch, unsigned events);
void loop_remove(struct loop_fd *watch);

/* Somebody (the NAT) who adds his own descriptors before each sleep. */
struct loop_guest {
    void *opaque;
    void (*fill)(void *opaque, u32 *timeout_ms);
    void (*process)(void *opaque, bool failed);
};
void loop_set_guest(struct loop *loop, const struct loop_guest *guest);
int loop_guest_add(struct loop *loop, int fd, int poll_events); /* in fill */
int loop_guest_revents(struct loop *loop, int index);           /* in process */

/* What is written is taken in full, waiting for the reader: a guest that is to repeat must not see
 * him. */
void loop_set_steady(struct loop *loop, bool steady);
bool loop_is_steady(const struct loop *loop);

void loop_wake(struct loop *loop);
/* Sleeps until something is ready, somebody wakes us, or TIMEOUT_NS passed; runs what is ready. */
void loop_turn(struct loop *loop, u64 timeout_ns);

#endif
