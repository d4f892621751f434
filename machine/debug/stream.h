/*
 * Bytes on their way to a client that may be slow: what a character device does not take at once waits here.
 * Thread: machine lock held.
 */
#ifndef MACHINE_DEBUG_STREAM_H
#define MACHINE_DEBUG_STREAM_H

#include "machine/chardev_host.h"

/* A client that lets more than this wait is let go. */
#define STREAM_LIMIT MIB(16)
/* Nothing more is read from a client that lets more than this wait. */
#define STREAM_CALM KIB(64)

struct stream {
    struct chardev *chardev;
    u8 *bytes;
    size_t start, length, capacity;
};

void stream_write(struct stream *stream, const void *bytes, size_t n);
void stream_flush(struct stream *stream); /* the device takes bytes again */
void stream_clear(struct stream *stream); /* nobody is there any more */
static inline bool stream_is_calm(const struct stream *stream) { return stream->length <= STREAM_CALM; }

#endif
