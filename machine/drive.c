/*
 * Drives: requests are performed in order, by one thread at a time, without the machine lock.
 *
 * That keeps a flush behind the writes before it without more ado. What is small and asks the host
 * for no device is performed by the thread that submitted it, as soon as that has dropped the lock:
 * handing it over and back takes the host longer. The rest goes to a worker thread, one a drive.
 * cache=writethrough flushes after each write, cache=unsafe never.
 */
#include "machine/drive_host.h"
#include "machine/clock.h"
#include "machine/disk/image.h"
#include "machine/host/loop.h" /* loop_wake */
#include "machine/host/os.h"   /* os_monotonic_ns */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUEST_NS 100000u /* by a clock */
#define AT_ONCE KIB(512)   /* most that is moved by a thread with better things to do */

#define NEXT(request) (*(struct drive_request **)&(request)->internal[0])

struct queue {
    struct drive_request *head, *tail;
};

struct drive {
    char id[64], serial[64];
    struct image *image, *outside; /* OUTSIDE: lies in the open tray */
    enum drive_cache cache;
    struct drive_settings settings;
    struct loop *loop;
    pthread_t worker;
    pthread_mutex_t mutex;
    pthread_cond_t work, idle;
    struct queue todo, finished, stopped;
    bool busy, quit, locked, tray_open; /* BUSY: somebody performs the first of todo */
    struct drive_counts counts;
    void (*changed)(void *opaque);
    void *changed_opaque;
    struct timer timer; /* with settings.clock */
};

static void push(struct queue *queue, struct drive_request *request)
{
    NEXT(request) = NULL;
    if (queue->tail) NEXT(queue->tail) = request;
    else queue->head = request;
    queue->tail = request;
}

static struct drive_request *pop(struct queue *queue)
{
    struct drive_request *request = queue->head;
    if (!request) return NULL;
    queue->head = NEXT(request);
    if (!queue->head) queue->tail = NULL;
    return request;
}

static int transfer(struct image *image, struct drive_request *request, unsigned how)
{
    u64 offset = request->offset, left = request->length;
    if (request->op == DRIVE_WRITE) how |= IMAGE_WRITE;
    if (image->move)
        return image->move(image, offset, request->segments, request->segment_count, left, how);
    for (unsigned i = 0; i < request->segment_count && left; i++) {
        u64 n = request->segments[i].length < left ? request->segments[i].length : left;
        int error = how & IMAGE_WRITE ? image->write(image, offset, request->segments[i].base, n)
                                      : image->read(image, offset, request->segments[i].base, n);
        if (error) return error;
        offset += n;
        left -= n;
    }
    return 0;
}

/* Worth a try with IMAGE_NOW. */
static bool may_be_at_once(const struct drive *drive, const struct drive_request *request)
{
    if (!drive->image || !drive->image->move || request->length > AT_ONCE) return false;
    return request->op == DRIVE_READ ||
           (request->op == DRIVE_WRITE && drive->cache != CACHE_WRITETHROUGH);
}

static int perform(struct drive *drive, struct drive_request *request, unsigned how)
{
    struct image *image = drive->image;
    if (!image) return ENOMEDIUM;
    if (request->op != DRIVE_FLUSH &&
        (request->offset > image->size || request->length > image->size - request->offset))
        return EINVAL;
    if (request->op != DRIVE_READ && request->op != DRIVE_FLUSH && image->read_only) return EROFS;
    int error = 0;
    switch (request->op) {
    case DRIVE_READ: return transfer(image, request, how);
    case DRIVE_WRITE:
        error = transfer(image, request, how);
        if (!error && drive->cache == CACHE_WRITETHROUGH) error = image->flush(image);
        return error;
    case DRIVE_FLUSH: return drive->cache == CACHE_UNSAFE ? 0 : image->flush(image);
    case DRIVE_DISCARD:
        return image->discard ? image->discard(image, request->offset, request->length) : 0;
    }
    return EINVAL;
}

/* The first of todo, with the mutex, which is dropped meanwhile. False: it would have to wait. */
static bool perform_first(struct drive *drive, unsigned how)
{
    struct drive_request *request = drive->todo.head;
    drive->busy = true;
    pthread_mutex_unlock(&drive->mutex);
    u64 began = os_monotonic_ns();
    int error = perform(drive, request, how);
    request->internal[1] = (void *)(intptr_t)error;
    request->internal[2] = (void *)(uintptr_t)(os_monotonic_ns() - began);
    pthread_mutex_lock(&drive->mutex);
    drive->busy = false;
    if ((how & IMAGE_NOW) && error == EAGAIN) return false;
    push(&drive->finished, pop(&drive->todo));
    if (!drive->todo.head) pthread_cond_broadcast(&drive->idle);
    return true;
}

static bool has_failed(const struct drive_request *request) { return request->internal[1] != NULL; }

static void *work(void *opaque)
{
    struct drive *drive = opaque;
    const struct drive_settings *settings = &drive->settings;
    pthread_mutex_lock(&drive->mutex);
    for (;;) {
        if (drive->busy || !drive->todo.head) {
            if (drive->quit && !drive->busy) break;
            pthread_cond_wait(&drive->work, &drive->mutex);
            continue;
        }
        perform_first(drive, 0);
        pthread_mutex_unlock(&drive->mutex);
        if (settings->enter && settings->enter(settings->opaque)) {
            drive_finish(drive);
            settings->leave(settings->opaque);
        } else {
            loop_wake(drive->loop);
        }
        pthread_mutex_lock(&drive->mutex);
    }
    pthread_mutex_unlock(&drive->mutex);
    return NULL;
}

bool drive_work(struct drive *drive)
{
    u64 left = AT_ONCE;
    pthread_mutex_lock(&drive->mutex);
    while (!drive->busy && drive->todo.head && may_be_at_once(drive, drive->todo.head)) {
        u64 length = drive->todo.head->length;
        if (length > left || !perform_first(drive, IMAGE_NOW)) break;
        left -= length;
    }
    if (!drive->busy && (drive->todo.head || drive->quit)) pthread_cond_signal(&drive->work);
    bool any = drive->finished.head != NULL;
    pthread_mutex_unlock(&drive->mutex);
    return any;
}

/* On a clock that counts instructions: no thread could tell when it is done. */
static void perform_all(struct drive *drive)
{
    for (struct drive_request *request; (request = pop(&drive->todo));) {
        request->internal[1] = (void *)(intptr_t)perform(drive, request, 0);
        push(&drive->finished, request);
    }
}

static void timer_fired(void *opaque)
{
    perform_all(opaque);
    drive_complete(opaque);
}

struct drive *drive_new(struct image *image, const struct drive_settings *settings,
                        struct loop *loop)
{
    struct drive *drive = calloc(1, sizeof *drive);
    if (!drive) abort();
    drive->image = image;
    drive->settings = *settings;
    drive->cache = settings->cache;
    drive->loop = loop;
    snprintf(drive->id, sizeof drive->id, "%s", settings->id ? settings->id : "");
    snprintf(drive->serial, sizeof drive->serial, "%s", settings->serial ? settings->serial : "");
    pthread_mutex_init(&drive->mutex, NULL);
    pthread_cond_init(&drive->work, NULL);
    pthread_cond_init(&drive->idle, NULL);
    if (settings->clock) timer_init(&drive->timer, settings->clock, timer_fired, drive);
    else if (pthread_create(&drive->worker, NULL, work, drive)) abort();
    return drive;
}

void drive_submit(struct drive *drive, struct drive_request *request)
{
    const struct drive_settings *settings = &drive->settings;
    bool at_once = settings->waiting && !settings->clock && may_be_at_once(drive, request);
    pthread_mutex_lock(&drive->mutex);
    push(&drive->todo, request);
    if (settings->clock && !timer_pending(&drive->timer))
        timer_set(&drive->timer, clock_now(settings->clock) + REQUEST_NS);
    if (!at_once) pthread_cond_signal(&drive->work);
    pthread_mutex_unlock(&drive->mutex);
    if (at_once) settings->waiting(settings->opaque);
}

static enum drive_trouble policy(struct drive *drive, struct drive_request *request, int error)
{
    bool is_read = request->op == DRIVE_READ;
    enum drive_trouble t = is_read ? drive->settings.on_read_error : drive->settings.on_write_error;
    if (t == TROUBLE_ENOSPC) return error == ENOSPC ? TROUBLE_STOP : TROUBLE_REPORT;
    return t;
}

static void count(struct drive *drive, const struct drive_request *request, int error)
{
    struct drive_counts *c = &drive->counts;
    unsigned op = request->op & 3;
    c->ns[op] += (u64)(uintptr_t)request->internal[2];
    if (error) {
        c->failed[op]++;
        return;
    }
    c->operations[op]++;
    if (op != DRIVE_FLUSH) c->bytes[op] += request->length;
}

const struct drive_counts *drive_counts(const struct drive *drive) { return &drive->counts; }

static void complete(struct drive *drive, struct drive_request *request)
{
    int error = (int)(intptr_t)request->internal[1];
    enum drive_trouble trouble = error ? policy(drive, request, error) : TROUBLE_REPORT;
    count(drive, request, error);
    if (error && drive->settings.trouble)
        drive->settings.trouble(drive->settings.opaque, drive, error, request->op != DRIVE_READ,
                                trouble);
    if (error && trouble == TROUBLE_STOP && drive->settings.stop) {
        push(&drive->stopped, request);
        drive->settings.stop(drive->settings.opaque, drive, error, request->op != DRIVE_READ);
        return;
    }
    request->done(request, trouble == TROUBLE_IGNORE ? 0 : error);
}

/* With FAILED or up to the first that has failed; true when that is left. */
static bool complete_all(struct drive *drive, bool failed)
{
    for (;;) {
        struct drive_request *request = NULL;
        pthread_mutex_lock(&drive->mutex);
        bool left = !failed && drive->finished.head && has_failed(drive->finished.head);
        if (!left) request = pop(&drive->finished);
        pthread_mutex_unlock(&drive->mutex);
        if (!request) return left;
        complete(drive, request);
    }
}

void drive_complete(struct drive *drive) { complete_all(drive, true); }

void drive_finish(struct drive *drive)
{
    if (complete_all(drive, false)) loop_wake(drive->loop);
}

void drive_retry(struct drive *drive)
{
    for (struct drive_request *request; (request = pop(&drive->stopped));)
        drive_submit(drive, request);
}

/* True when there are completions to run. */
static bool settle(struct drive *drive)
{
    if (drive->settings.clock) perform_all(drive);
    pthread_mutex_lock(&drive->mutex);
    if (drive->todo.head) pthread_cond_signal(&drive->work); /* nobody may have come to it */
    while (drive->busy || drive->todo.head) pthread_cond_wait(&drive->idle, &drive->mutex);
    bool more = drive->finished.head != NULL;
    pthread_mutex_unlock(&drive->mutex);
    return more;
}

void drive_settle(struct drive *drive) { settle(drive); }

void drive_drain(struct drive *drive)
{
    for (struct drive_request *request; (request = pop(&drive->stopped));)
        request->done(request, EIO);
    /* A completion may submit the next request: a write its flush. */
    while (settle(drive)) drive_complete(drive);
}

u64 drive_size(struct drive *drive) { return drive->image ? drive->image->size : 0; }
bool drive_read_only(struct drive *drive) { return !drive->image || drive->image->read_only; }
bool drive_has_medium(struct drive *drive) { return drive->image != NULL; }
const char *drive_id(struct drive *drive) { return drive->id; }
const char *drive_serial(struct drive *drive) { return drive->serial; }

void drive_on_media_change(struct drive *drive, void (*changed)(void *), void *opaque)
{
    drive->changed = changed;
    drive->changed_opaque = opaque;
}

static void move_tray(struct drive *drive, bool open)
{
    if (drive->tray_open == open) return;
    drive->tray_open = open;
    if (drive->settings.tray) drive->settings.tray(drive->settings.opaque, drive, open);
}

void drive_set_medium(struct drive *drive, struct image *image)
{
    drive_drain(drive);
    if (drive->image) drive->image->close(drive->image);
    if (drive->outside) drive->outside->close(drive->outside);
    drive->outside = NULL;
    drive->image = image;
    if (drive->changed) drive->changed(drive->changed_opaque);
    move_tray(drive, !image);
}

const char *drive_format(const struct drive *drive)
{
    return drive->image && drive->image->format ? drive->image->format->name :
           drive->image ? "raw" : "";
}

bool drive_tray_open(struct drive *drive) { return drive->tray_open; }

void drive_open_tray(struct drive *drive, bool open)
{
    if (drive->tray_open == open) return;
    drive_drain(drive);
    struct image *image = drive->image;
    drive->image = drive->outside;
    drive->outside = image;
    if (drive->changed && (drive->image || image)) drive->changed(drive->changed_opaque);
    move_tray(drive, open);
}

void drive_eject(struct drive *drive) { drive_set_medium(drive, NULL); }
void drive_lock_tray(struct drive *drive, bool locked) { drive->locked = locked; }
bool drive_tray_locked(struct drive *drive) { return drive->locked; }

void drive_free(struct drive *drive)
{
    pthread_mutex_lock(&drive->mutex);
    drive->quit = true;
    pthread_cond_signal(&drive->work);
    pthread_mutex_unlock(&drive->mutex);
    if (!drive->settings.clock) pthread_join(drive->worker, NULL);
    if (drive->image) {
        if (!drive->image->read_only && drive->cache != CACHE_UNSAFE)
            drive->image->flush(drive->image);
        drive->image->close(drive->image);
    }
    if (drive->outside) drive->outside->close(drive->outside);
    free(drive);
}
