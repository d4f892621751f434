/* The poll loop on poll(2) and a pipe to wake it. Timeouts are rounded up to ppoll's
 * nanoseconds. */
#define _GNU_SOURCE /* ppoll */
#include "machine/host/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 512

struct loop_fd {
    struct loop *loop;
    int fd;
    unsigned events;
    void (*ready)(void *opaque, unsigned events);
    void *opaque;
    bool removed;
    int slot; /* in polled[] this turn, or -1 */
    struct loop_fd *next;
};

struct loop {
    int pipe[2];
    struct loop_fd *watches;
    struct pollfd polled[MAX_FDS];
    int count, guest_base;
    struct loop_guest guest;
    void (*lock)(void *), (*unlock)(void *);
    void *lock_opaque;
    bool steady;
};

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop || pipe2(loop->pipe, O_NONBLOCK | O_CLOEXEC)) abort();
    return loop;
}

void loop_free(struct loop *loop)
{
    while (loop->watches) {
        struct loop_fd *next = loop->watches->next;
        free(loop->watches);
        loop->watches = next;
    }
    close(loop->pipe[0]);
    close(loop->pipe[1]);
    free(loop);
}

void loop_set_lock(struct loop *loop, void (*lock)(void *), void (*unlock)(void *), void *opaque)
{
    loop->lock = lock;
    loop->unlock = unlock;
    loop->lock_opaque = opaque;
}

void loop_set_guest(struct loop *loop, const struct loop_guest *guest) { loop->guest = *guest; }

struct loop_fd *loop_add(struct loop *loop, int fd, unsigned events,
                         void (*ready)(void *, unsigned), void *opaque)
{
    struct loop_fd *watch = calloc(1, sizeof *watch);
    if (!watch) abort();
    *watch = (struct loop_fd){loop, fd, events, ready, opaque, false, -1, loop->watches};
    loop->watches = watch;
    return watch;
}

void loop_change(struct loop_fd *watch, unsigned events) { watch->events = events; }

void loop_remove(struct loop_fd *watch) { watch->removed = true; }

void loop_wake(struct loop *loop)
{
    ssize_t n = write(loop->pipe[1], "", 1); /* a full pipe wakes as well */
    (void)n;
}

void loop_set_steady(struct loop *loop, bool steady) { loop->steady = steady; }
bool loop_is_steady(const struct loop *loop) { return loop->steady; }

int loop_guest_add(struct loop *loop, int fd, int events)
{
    if (loop->count == MAX_FDS) return -1;
    loop->polled[loop->count] = (struct pollfd){fd, (short)events, 0};
    return loop->count++ - loop->guest_base;
}

int loop_guest_revents(struct loop *loop, int index)
{
    int slot = loop->guest_base + index;
    return index < 0 || slot >= loop->count ? 0 : loop->polled[slot].revents;
}

static void sweep(struct loop *loop)
{
    for (struct loop_fd **at = &loop->watches; *at;) {
        struct loop_fd *watch = *at;
        if (watch->removed) {
            *at = watch->next;
            free(watch);
        } else {
            at = &watch->next;
        }
    }
}

static void fill(struct loop *loop, u64 *timeout_ns)
{
    loop->count = 0;
    loop->polled[loop->count++] = (struct pollfd){loop->pipe[0], POLLIN, 0};
    for (struct loop_fd *w = loop->watches; w; w = w->next) {
        w->slot = -1;
        if (!w->events || loop->count == MAX_FDS) continue;
        short events = (w->events & LOOP_IN ? POLLIN : 0) | (w->events & LOOP_OUT ? POLLOUT : 0);
        w->slot = loop->count;
        loop->polled[loop->count++] = (struct pollfd){w->fd, events, 0};
    }
    loop->guest_base = loop->count;
    if (!loop->guest.fill) return;
    u32 ms = ~0u;
    loop->guest.fill(loop->guest.opaque, &ms);
    if (ms != ~0u && (u64)ms * 1000000 < *timeout_ns) *timeout_ns = (u64)ms * 1000000;
}

static void dispatch(struct loop *loop, bool failed)
{
    char drain[64];
    while (!failed && loop->polled[0].revents && read(loop->pipe[0], drain, sizeof drain) > 0) {}
    if (loop->guest.process) loop->guest.process(loop->guest.opaque, failed);
    for (struct loop_fd *w = loop->watches; w && !failed; w = w->next) {
        short got = w->removed || w->slot < 0 ? 0 : loop->polled[w->slot].revents;
        unsigned events = (got & POLLIN ? LOOP_IN : 0) | (got & POLLOUT ? LOOP_OUT : 0) |
                          (got & (POLLERR | POLLHUP | POLLNVAL) ? LOOP_ERROR : 0);
        if (events) w->ready(w->opaque, events);
    }
    sweep(loop);
}

void loop_turn(struct loop *loop, u64 timeout_ns)
{
    fill(loop, &timeout_ns);
    struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    loop->unlock(loop->lock_opaque);
    int n = ppoll(loop->polled, (nfds_t)loop->count, timeout_ns == ~(u64)0 ? NULL : &t, NULL);
    int saved = errno;
    loop->lock(loop->lock_opaque);
    dispatch(loop, n < 0 && saved != EINTR);
}
