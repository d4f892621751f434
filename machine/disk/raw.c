/*
 * Raw images: the disk's bytes are the file's. Block devices too.
 * One emulator at a time may write an image: an advisory lock on the file says so.
 */
#define _GNU_SOURCE /* fallocate, F_OFD_SETLK, preadv2 */
#include "machine/disk/image.h"
#include "machine/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/fs.h> /* BLKGETSIZE64 */
#include <sys/vfs.h>  /* fstatfs */
#endif

#define PARTS 64 /* of memory in one system call */

#define TMPFS_TYPE 0x01021994u
#define RAMFS_TYPE 0x858458f6u

struct raw {
    struct image base;
    int fd;
    bool in_memory;     /* no device to wait for */
    unsigned never_now; /* 1: for reads, 2: for writes nobody can tell whether they would wait */
};

/* How far a request has come: LEFT bytes are missing, from SKIP bytes into PARTS on. */
struct progress {
    const struct drive_segment *parts;
    unsigned count;
    u64 skip, left;
};

static unsigned next_parts(const struct progress *p, struct iovec *vector)
{
    u64 skip = p->skip, left = p->left;
    unsigned used = 0;
    for (unsigned i = 0; i < p->count && left && used < PARTS; i++) {
        u64 n = p->parts[i].length - skip;
        if (n > left) n = left;
        if (n) vector[used++] = (struct iovec){(u8 *)p->parts[i].base + skip, n};
        left -= n;
        skip = 0;
    }
    return used;
}

static void advance(struct progress *p, u64 n)
{
    p->left -= n;
    for (n += p->skip; p->count && n >= p->parts->length; p->count--) n -= p->parts++->length;
    p->skip = n;
}

static ssize_t move_some(struct raw *raw, u64 offset, const struct iovec *vector, unsigned count,
                         unsigned how)
{
#ifdef RWF_NOWAIT
    int flags = (how & IMAGE_NOW) && !raw->in_memory ? RWF_NOWAIT : 0;
    if (flags)
        return how & IMAGE_WRITE ? pwritev2(raw->fd, vector, (int)count, (off_t)offset, flags)
                                 : preadv2(raw->fd, vector, (int)count, (off_t)offset, flags);
#endif
    return how & IMAGE_WRITE ? pwritev(raw->fd, vector, (int)count, (off_t)offset)
                             : preadv(raw->fd, vector, (int)count, (off_t)offset);
}

/* Some file systems take no flags, or none for writes; they are not asked a second time. */
static int not_now(struct raw *raw, unsigned how, int error)
{
    if (!(how & IMAGE_NOW) || (error != EOPNOTSUPP && error != EINVAL)) return error;
    raw->never_now |= how & IMAGE_WRITE ? 2 : 1;
    return EAGAIN;
}

static int raw_move(struct image *image, u64 offset, const struct drive_segment *parts,
                    unsigned count, u64 length, unsigned how)
{
    struct raw *raw = container_of(image, struct raw, base);
    struct progress p = {parts, count, 0, length};
    struct iovec vector[PARTS];
    if ((how & IMAGE_NOW) && raw->never_now & (how & IMAGE_WRITE ? 2 : 1)) return EAGAIN;
    while (p.left) {
        unsigned used = next_parts(&p, vector);
        ssize_t n = used ? move_some(raw, offset, vector, used, how) : 0;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return not_now(raw, how, errno);
        if (n == 0 && (how & IMAGE_WRITE)) return ENOSPC;
        if (n == 0 && !used) return EINVAL;
        if (n == 0) { /* the last sector of a file that is not a multiple of 512 */
            for (unsigned i = 0; i < used; n += (ssize_t)vector[i++].iov_len)
                memset(vector[i].iov_base, 0, vector[i].iov_len);
        }
        advance(&p, (u64)n);
        offset += (u64)n;
    }
    return 0;
}

static int raw_read(struct image *image, u64 offset, void *to, u64 length)
{
    return raw_move(image, offset, &(struct drive_segment){to, length}, 1, length, IMAGE_READ);
}

static int raw_write(struct image *image, u64 offset, const void *from, u64 length)
{
    struct drive_segment part = {(void *)(uintptr_t)from, length};
    return raw_move(image, offset, &part, 1, length, IMAGE_WRITE);
}

static int raw_flush(struct image *image)
{
    struct raw *raw = container_of(image, struct raw, base);
    return fdatasync(raw->fd) ? errno : 0;
}

static int raw_discard(struct image *image, u64 offset, u64 length)
{
#ifdef FALLOC_FL_PUNCH_HOLE
    struct raw *raw = container_of(image, struct raw, base);
    if (fallocate(raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)length))
        return errno == EOPNOTSUPP ? 0 : errno; /* a discard is only advice */
#else
    (void)image, (void)offset, (void)length;
#endif
    return 0;
}

static void raw_close(struct image *image)
{
    struct raw *raw = container_of(image, struct raw, base);
    close(raw->fd);
    free(raw);
}

static bool raw_size(int fd, const char *path, u64 *size, struct error *error)
{
    struct stat st;
    if (fstat(fd, &st)) return error_set(error, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return error_set(error, "%s: is a directory", path);
    *size = (u64)st.st_size;
#ifdef BLKGETSIZE64
    if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, size))
        return error_set(error, "%s: %s", path, strerror(errno));
#endif
    if (!*size) return error_set(error, "%s: image is empty", path);
    return true;
}

static bool lies_in_memory(int fd)
{
#ifdef __linux__
    struct statfs fs;
    struct stat st;
    /* A block device's node may lie in one that does. */
    return !fstat(fd, &st) && S_ISREG(st.st_mode) && !fstatfs(fd, &fs) &&
           ((u32)fs.f_type == TMPFS_TYPE || (u32)fs.f_type == RAMFS_TYPE);
#else
    (void)fd;
    return false;
#endif
}

static bool raw_lock(int fd, const char *path, bool read_only, struct error *error)
{
#ifdef F_OFD_SETLK
    struct flock lock = {.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) && (errno == EAGAIN || errno == EACCES))
        return error_set(error, "%s: in use by another process (read-only access: readonly=on)",
                         path);
#else
    (void)fd, (void)path, (void)read_only, (void)error;
#endif
    return true;
}

static struct image *raw_open(const char *path, bool read_only, struct error *error)
{
    u64 size;
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0) return error_set(error, "%s: %s", path, strerror(errno)), NULL;
    if (!raw_size(fd, path, &size, error) || !raw_lock(fd, path, read_only, error)) {
        close(fd);
        return NULL;
    }
    struct raw *raw = calloc(1, sizeof *raw);
    if (!raw) abort();
    raw->fd = fd;
    raw->in_memory = lies_in_memory(fd);
#ifndef RWF_NOWAIT
    if (!raw->in_memory) raw->never_now = 3;
#endif
    raw->base = (struct image){&raw_format, (size + 511) & ~(u64)511, read_only,
                               raw_read,    raw_write, raw_flush, raw_discard, raw_close,
                               raw_move};
    return &raw->base;
}

const struct image_format raw_format = {"raw", NULL, raw_open};
