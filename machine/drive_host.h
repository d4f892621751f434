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
    /* Told, lock held, when a request fails and the machine is to stop; the request is kept and tried
     * again by drive_retry. */
    void (*stop)(void *opaque, struct drive *drive, int error, bool is_write);
    void *opaque;
    struct clock *clock; /* by this clock requests are done, all after the same time, on its thread; NULL: as
                            fast as they can be, on a thread of their own */
};

/* IMAGE may be NULL: an empty drive. Takes the image. Completions run from LOOP. */
struct drive *drive_new(struct image *image, const struct drive_settings *settings,
                        struct loop *loop);
void drive_retry(struct drive *drive);
void drive_set_medium(struct drive *drive, struct image *image); /* NULL: none; frees the old one */
bool drive_tray_locked(struct drive *drive);
/* Finishes what is under way, flushes, closes. */
void drive_free(struct drive *drive);
/* Waits for the worker; completions stay to be run. */
void drive_settle(struct drive *drive);
/* Runs completions that are ready; I/O thread, lock held. */
void drive_complete(struct drive *drive);

#endif
