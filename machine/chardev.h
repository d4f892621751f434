/*
 * A character device's host side: what is behind a serial port, parallel port, debug console.
 * Thread: machine lock held, both ways.
 */
#ifndef MACHINE_CHARDEV_H
#define MACHINE_CHARDEV_H

#include "machine/types.h"

struct chardev;

struct chardev_listener {
    void *opaque;
    unsigned (*room)(void *opaque);                             /* bytes it can take now */
    void (*receive)(void *opaque, const u8 *bytes, unsigned n); /* n <= room */
    void (*broke)(void *opaque);                                /* break condition; may be NULL */
    void (*ready)(void *opaque);                 /* the host side takes bytes again; may be NULL */
    void (*connected)(void *opaque, bool there); /* somebody came or left; may be NULL */
};

/* Tells `connected` at once when somebody is there already. */
void chardev_listen(struct chardev *chardev, const struct chardev_listener *listener);
void chardev_room(struct chardev *chardev);  /* the listener has room again */

/* Bytes taken, 0 when the host side is full now (call again later, chardev_writable tells). A NULL
 * chardev swallows everything. */
unsigned chardev_write(struct chardev *chardev, const u8 *bytes, unsigned n);
bool chardev_writable(struct chardev *chardev);

#endif
