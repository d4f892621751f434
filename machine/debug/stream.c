/* Bytes that wait for a client; see stream.h. */
#include "machine/debug/stream.h"

#include <stdlib.h>

void stream_clear(struct stream *s)
{
    free(s->bytes);
    *s = (struct stream){.chardev = s->chardev};
}

void stream_flush(struct stream *s)
{
    while (s->length) {
        unsigned n = chardev_write(s->chardev, s->bytes + s->start, s->length < 65536 ? (unsigned)s->length : 65536);
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
