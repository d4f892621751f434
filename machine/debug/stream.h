/*
 * Bytes on their way to a client that may be slow: what a character device does not take at once
 * waits here.
 * And a client that talks: what it sends is kept until the I/O thread's loop comes by, since a byte
 * may be handed on by a processor's thread, which could not wait for itself to stop.
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
static inline bool stream_is_calm(const struct stream *stream)
{
    return stream->length <= STREAM_CALM;
}

#define CLIENT_INPUT 4096u

struct loop;

struct client {
    struct stream stream;
    struct loop *loop;
    u8 input[CLIENT_INPUT];
    unsigned count;
    void *opaque;
    void (*byte)(void *opaque, u8 byte);         /* from client_turn */
    void (*connected)(void *opaque, bool there); /* what it had sent and was to be sent is forgotten
                                                    when it left */
};

/* Listens; loop and hooks are set already. */
void client_attach(struct client *client, struct chardev *chardev);
/* Hands on what has come, as long as the answers are taken. */
void client_turn(struct client *client);

#endif
