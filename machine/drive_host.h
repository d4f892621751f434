/* Drives as the machine makes them; controllers see machine/drive.h. */
#ifndef MACHINE_DRIVE_HOST_H
#define MACHINE_DRIVE_HOST_H

#include "machine/drive.h"

struct error;
struct image;
struct loop;

enum drive_cache { CACHE_WRITEBACK, CACHE_WRITETHROUGH, CACHE_UNSAFE };
enum drive_trouble { TROUBLE_REPORT, TROUBLE_IGNORE, TROUBLE_STOP, TROUBLE_ENOSPC };

struct drive_settings {
    const char *id, *serial;
    enum drive_cache cache;
    enum drive_trouble on_read_error, on_write_error; /* rerror=, werror= */
    /* Told, lock held, when a request fails and the machine is to stop; the request is kept and
     * tried again by drive_retry. */
    void (*stop)(void *opaque, struct drive *drive, int error, bool is_write);
    /* Told, lock held, of every request that failed (TROUBLE_ENOSPC never comes here), and when the
     * tray moves. */
    void (*trouble)(void *opaque, struct drive *drive, int error, bool is_write,
                    enum drive_trouble what);
    void (*tray)(void *opaque, struct drive *drive, bool open);
    /* Told, lock held, of requests that drive_work may be able to do as soon as the lock is
     * dropped. NULL: there is nobody who would, and the worker does all. */
    void (*waiting)(void *opaque);
    /* The lock, for the worker to run completions itself: false when somebody else has it, who may
     * be waiting for the worker. NULL: it leaves them to the I/O thread. */
    bool (*enter)(void *opaque);
    void (*leave)(void *opaque);
    void *opaque;
    struct clock *clock; /* by this clock requests are done, all after the same time, on its
                            thread; NULL: as fast as they can be, on a thread of their own */
};

/* IMAGE may be NULL: an empty drive. Takes the image. Completions run from LOOP. */
struct drive *drive_new(struct image *image, const struct drive_settings *settings,
                        struct loop *loop);
void drive_retry(struct drive *drive);
void drive_set_medium(struct drive *drive, struct image *image); /* NULL: none; frees the old one */
const char *drive_format(const struct drive *drive); /* of its medium; "": none */
bool drive_tray_locked(struct drive *drive);
bool drive_tray_open(struct drive *drive);
void drive_open_tray(struct drive *drive, bool open); /* the medium stays in it */

/* What has been asked of a drive, by enum drive_op; failed requests are counted apart. */
struct drive_counts {
    u64 bytes[4], operations[4], failed[4], ns[4];
};
const struct drive_counts *drive_counts(const struct drive *drive);
/* Finishes what is under way, flushes, closes. */
void drive_free(struct drive *drive);
/* Waits until all is performed; completions stay to be run. */
void drive_settle(struct drive *drive);
/* Any thread, without the lock: does what asks for little and for no device, leaves the rest to the
 * worker. True when there are completions to run. */
bool drive_work(struct drive *drive);
/* Runs completions that are ready; I/O thread, lock held. */
void drive_complete(struct drive *drive);
/* The same for any thread: what failed is left to the I/O thread, as many others are told. */
void drive_finish(struct drive *drive);

#endif
