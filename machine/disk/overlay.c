/*
 * A disk whose writes are kept aside and forgotten (-snapshot): 64 KiB clusters in an unlinked
 * temporary file, found through a flat table.
 */
#include "machine/disk/image.h"
#include "machine/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLUSTER KIB(64)

struct overlay {
    struct image image;
    struct image *base;
    int fd;
    u32 *where; /* cluster in the file + 1; 0: still the base's */
    u32 used;
};

static int move_all(int fd, void *bytes, u64 length, u64 offset, bool write)
{
    u8 *p = bytes;
    while (length) {
        ssize_t n = write ? pwrite(fd, p, length, (off_t)offset) :
                    pread(fd, p, length, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) return write ? ENOSPC : EIO;
        p += n;
        offset += (u64)n;
        length -= (u64)n;
    }
    return 0;
}

static int overlay_read(struct image *image, u64 offset, void *to, u64 length)
{
    struct overlay *o = container_of(image, struct overlay, image);
    u8 *p = to;
    while (length) {
        u64 within = offset % CLUSTER, n = CLUSTER - within < length ? CLUSTER - within : length;
        u32 at = o->where[offset / CLUSTER];
        int error = at ? move_all(o->fd, p, n, (u64)(at - 1) * CLUSTER + within, false)
                       : o->base->read(o->base, offset, p, n);
        if (error) return error;
        p += n;
        offset += n;
        length -= n;
    }
    return 0;
}

static int copy_up(struct overlay *o, u64 cluster)
{
    u8 *bytes = calloc(1, CLUSTER);
    if (!bytes) return ENOMEM;
    u64 left = o->image.size - cluster * CLUSTER;
    int error = o->base->read(o->base, cluster * CLUSTER, bytes, left < CLUSTER ? left : CLUSTER);
    if (!error) error = move_all(o->fd, bytes, CLUSTER, (u64)o->used * CLUSTER, true);
    if (!error) o->where[cluster] = ++o->used;
    free(bytes);
    return error;
}

static int overlay_write(struct image *image, u64 offset, const void *from, u64 length)
{
    struct overlay *o = container_of(image, struct overlay, image);
    const u8 *p = from;
    while (length) {
        u64 within = offset % CLUSTER, n = CLUSTER - within < length ? CLUSTER - within : length;
        int error = o->where[offset / CLUSTER] ? 0 : copy_up(o, offset / CLUSTER);
        if (!error)
            error = move_all(o->fd, (void *)(uintptr_t)p, n,
                             (u64)(o->where[offset / CLUSTER] - 1) * CLUSTER + within, true);
        if (error) return error;
        p += n;
        offset += n;
        length -= n;
    }
    return 0;
}

static int overlay_flush(struct image *image)
{
    (void)image; /* nothing here outlives the process */
    return 0;
}

static void overlay_close(struct image *image)
{
    struct overlay *o = container_of(image, struct overlay, image);
    o->base->close(o->base);
    close(o->fd);
    free(o->where);
    free(o);
}

struct image *overlay_open(struct image *base, struct error *error)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/lyrebird-XXXXXX", folder && *folder ? folder : "/var/tmp");
    int fd = mkstemp(path);
    if (fd < 0) return error_set(error, "%s: %s", path, strerror(errno)), NULL;
    unlink(path);
    struct overlay *o = calloc(1, sizeof *o);
    u32 *where = calloc(base->size / CLUSTER + 1, sizeof *where);
    if (!o || !where) abort();
    *o = (struct overlay){.base = base, .fd = fd, .where = where};
    o->image = (struct image){base->format, base->size, false, overlay_read, overlay_write,
                              overlay_flush, NULL, overlay_close, NULL};
    return &o->image;
}
