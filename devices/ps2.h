/*
 * The PS/2 connector: what the 8042 needs of whatever is plugged into it, and the other way round.
 * Thread: machine lock held.
 */
#ifndef DEVICES_PS2_H
#define DEVICES_PS2_H

#include "machine/wire.h"

struct ps2_port {
    void *opaque;
    void (*write)(void *opaque, u8 value); /* a byte from the host */
    int (*read)(void *opaque);             /* the next byte for the host; -1: none */
};

#endif
