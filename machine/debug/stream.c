/* Bytes that wait for a client, and from one; see stream.h. */
#include "machine/debug/stream.h"

#include "machine/host/loop.h"

#include <stdlib.h>

void stream_clear(struct stream *s)
{
    free(s->bytes);
    *s = (struct stream){.chardev = s->chardev};
}

void stream_flush(struct stream *s)
{
    while (s->length) {
        unsigned n = chardev_write(s->chardev, s->bytes + s->start,
                                   s->length < 65536 ? (unsigned)s->length : 65536);
        if (!n) return;
        s->start += n;
        s->length -= n;
    }
    stream_clear(s);
}

static bool make_room(struct stream *s, size_t n)
{
    if (s->start + s->length + n <= s->capacity) return true;
    if (s->start) memmove(s->bytes, s->bytes + s->start, s->length);
    s->start = 0;
    if (s->length + n <= s->capacity) return true;
    size_t capacity = (s->length + n) * 2;
    u8 *bytes = realloc(s->bytes, capacity);
    if (!bytes) return false;
    s->bytes = bytes;
    s->capacity = capacity;
    return true;
}

void stream_write(struct stream *s, const void *bytes, size_t n)
{
    if (!s->chardev->connected || !n) return;
    if (s->length + n > STREAM_LIMIT || !make_room(s, n)) {
        stream_clear(s);
        chardev_hang_up(s->chardev);
        return;
    }
    memcpy(s->bytes + s->start + s->length, bytes, n);
    s->length += n;
    stream_flush(s);
}

/* --- clients --- */

static unsigned client_room(void *opaque)
{
    const struct client *c = opaque;
    return stream_is_calm(&c->stream) ? CLIENT_INPUT - c->count : 0;
}

static void client_receive(void *opaque, const u8 *bytes, unsigned n)
{
    struct client *c = opaque;
    memcpy(c->input + c->count, bytes, n);
    c->count += n;
    loop_wake(c->loop);
}

static void client_ready(void *opaque)
{
    struct client *c = opaque;
    stream_flush(&c->stream);
    if (stream_is_calm(&c->stream)) loop_wake(c->loop);
}

static void client_connected(void *opaque, bool there)
{
    struct client *c = opaque;
    if (!there) stream_clear(&c->stream), c->count = 0;
    c->connected(c->opaque, there);
    loop_wake(c->loop);
}

void client_attach(struct client *c, struct chardev *chardev)
{
    c->stream.chardev = chardev;
    struct chardev_listener listener = {.opaque = c, .room = client_room, .receive = client_receive,
                                        .ready = client_ready, .connected = client_connected};
    chardev_listen(chardev, &listener);
}

void client_turn(struct client *c)
{
    unsigned i = 0;
    while (i < c->count && stream_is_calm(&c->stream)) c->byte(c->opaque, c->input[i++]);
    if (i > c->count) i = c->count; /* it went meanwhile */
    c->count -= i;
    memmove(c->input, c->input + i, c->count);
    if (c->stream.chardev->connected && stream_is_calm(&c->stream)) chardev_room(c->stream.chardev);
}
