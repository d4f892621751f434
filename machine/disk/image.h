/*
 * An image format behind a drive: bytes of a disk kept in a file. One file a format in
 * machine/disk/.
 * Thread: whoever does a drive's work, one call at a time; open and close on the I/O thread.
 */
#ifndef MACHINE_DISK_IMAGE_H
#define MACHINE_DISK_IMAGE_H

#include "machine/drive.h" /* struct drive_segment */

struct error;
struct image;

struct image_format {
    const char *name;                    /* as format= takes it */
    /* Does a file that begins with HEAD look like this format? NULL: never guessed. */
    bool (*probe)(const u8 *head, size_t length);
    struct image *(*open)(const char *path, bool read_only, struct error *error);
};

enum image_how { IMAGE_READ = 0, IMAGE_WRITE = 1, IMAGE_NOW = 2 };

struct image {
    const struct image_format *format;
    u64 size;                            /* bytes of the disk */
    bool read_only;
    /* All of [offset, offset+length) or an errno. */
    int (*read)(struct image *, u64 offset, void *to, u64 length);
    int (*write)(struct image *, u64 offset, const void *from, u64 length);
    int (*flush)(struct image *);        /* written data survives a power failure */
    int (*discard)(struct image *, u64 offset, u64 length); /* may be NULL */
    void (*close)(struct image *);
    /* The same for what lies in COUNT parts, which are no less than LENGTH in all. IMAGE_NOW: EAGAIN,
     * with any of it moved or none, rather than wait for a device. NULL: part by part through read
     * and write, which wait. */
    int (*move)(struct image *, u64 offset, const struct drive_segment *parts, unsigned count,
                u64 length, unsigned how);
};

extern const struct image_format *const image_formats[]; /* ends with NULL */

/* FORMAT NULL: by probing. SNAPSHOT: writes go to a temporary overlay and are forgotten. */
struct image *image_open(const char *path, const char *format, bool read_only, bool snapshot,
                         struct error *error);

extern const struct image_format raw_format;

/* Keeps what is written over BASE in anonymous memory or a temporary file (-snapshot). */
struct image *overlay_open(struct image *base, struct error *error);

#endif
