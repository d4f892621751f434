/*
 * Raw images: the disk's bytes are the file's. Block devices too.
 * One emulator at a time may write an image: an advisory lock on the file says so.
 */
#define _GNU_SOURCE /* fallocate, F_OFD_SETLK */
#include "machine/disk/image.h"
#include "machine/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/fs.h> /* BLKGETSIZE64 */
#endif

struct raw {
    struct image base;
    int fd;
};

static int raw_read(struct image *image, u64 offset, void *to, u64 length)
{
    struct raw *raw = container_of(image, struct raw, base);
    u8 *p = to;
    while (length) {
        ssize_t n = pread(raw->fd, p, length, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) { /* the last sector of a file that is not a multiple of 512 */
            memset(p, 0, length);
            return 0;
        }
        p += n;
        offset += (u64)n;
        length -= (u64)n;
    }
    return 0;
}

static int raw_write(struct image *image, u64 offset, const void *from, u64 length)
{
    struct raw *raw = container_of(image, struct raw, base);
    const u8 *p = from;
    while (length) {
        ssize_t n = pwrite(raw->fd, p, length, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) return ENOSPC;
        p += n;
        offset += (u64)n;
        length -= (u64)n;
    }
    return 0;
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
    raw->base = (struct image){&raw_format, (size + 511) & ~(u64)511, read_only,
                               raw_read,    raw_write, raw_flush, raw_discard, raw_close};
    return &raw->base;
}

const struct image_format raw_format = {"raw", NULL, raw_open};
