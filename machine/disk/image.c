/* Image formats: the list, guessing, and opening with an overlay when asked. */
#include "machine/disk/image.h"
#include "machine/error.h"

#include <stddef.h>

const struct image_format *const image_formats[] = {&raw_format, NULL};

/* Formats that must not be taken for raw disks: we would show the guest their headers. */
static const struct { const char *name; unsigned offset, length; const char *magic; } refused[] = {
    {"qcow2", 0, 4, "QFI\xfb"}, {"VMDK", 0, 4, "KDMV"}, {"VHDX", 0, 8, "vhdxfile"},
    {"VDI", 0x40, 4, "\x7f\x10\xda\xbe"}, {"QED", 0, 4, "QED"},
};

static bool looks_foreign(struct image *image, const char *path, struct error *error)
{
    u8 head[512] = {0};
    if (image->size < sizeof head || image->read(image, 0, head, sizeof head)) return false;
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
        if (!memcmp(head + refused[i].offset, refused[i].magic, refused[i].length)) {
            error_set(error, "%s: %s images are not supported yet "
                      "(format=raw to use its bytes as they are)", path, refused[i].name);
            return true;
        }
    return false;
}

struct image *image_open(const char *path, const char *name, bool read_only, bool snapshot,
                         struct error *error)
{
    const struct image_format *format = NULL;
    for (unsigned i = 0; name && image_formats[i]; i++)
        if (!strcmp(image_formats[i]->name, name)) format = image_formats[i];
    if (name && !format)
        return error_set(error, "%s: unknown or unsupported image format '%s'", path, name), NULL;
    struct image *image = (format ? format : &raw_format)->open(path, read_only || snapshot, error);
    if (!image) return NULL;
    if (!name && looks_foreign(image, path, error)) {
        image->close(image);
        return NULL;
    }
    if (!snapshot) return image;
    struct image *overlay = overlay_open(image, error);
    if (!overlay) image->close(image);
    return overlay;
}
