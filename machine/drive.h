/*
 * A drive as a disk controller sees it: sectors in, sectors out, whatever the image format is.
 * Requests complete with the machine lock held, on any thread and never inside drive_submit.
 * A flush completes after every earlier completed write is on stable storage, as far as cache=
 * says.
 */
#ifndef MACHINE_DRIVE_H
#define MACHINE_DRIVE_H

#include "machine/types.h"

struct drive;

enum drive_op { DRIVE_READ, DRIVE_WRITE, DRIVE_FLUSH, DRIVE_DISCARD };

struct drive_segment { void *base; u64 length; };

struct drive_request {
    enum drive_op op;
    u64 offset, length;                     /* bytes; the controller has checked them */
    struct drive_segment *segments;         /* host memory (dma_map'ed or the controller's own) */
    unsigned segment_count;
    void (*done)(struct drive_request *request, int error); /* 0, or an errno */
    void *opaque;
    void *internal[4];                      /* the drive's own */
};

void drive_submit(struct drive *drive, struct drive_request *request);

/* Waits until nothing submitted by OWNER (the request's opaque) is under way; for reset. */
void drive_drain(struct drive *drive);

u64 drive_size(struct drive *drive);        /* bytes; 0 with no medium */
bool drive_read_only(struct drive *drive);
bool drive_has_medium(struct drive *drive);
const char *drive_id(struct drive *drive);
const char *drive_serial(struct drive *drive); /* serial= of -drive/-device; "" if none */

/* Called (machine lock held) when the medium is changed or ejected from the monitor. */
void drive_on_media_change(struct drive *drive, void (*changed)(void *opaque), void *opaque);
void drive_eject(struct drive *drive);      /* the guest opened the tray */
void drive_lock_tray(struct drive *drive, bool locked);

#endif
