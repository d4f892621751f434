/* Pictures of the screen as PNG, by libpng. */
#include "machine/display_host.h"
#include "machine/error.h"

#include "config.h"

#if CONFIG_PNG
#include <png.h>
#include <stdlib.h>

bool png_write(const char *path, const u32 *pixels, unsigned width, unsigned height,
               unsigned stride, struct error *error)
{
    png_image image = {.version = PNG_IMAGE_VERSION, .width = width, .height = height,
                       .format = HOST_LITTLE_ENDIAN ? PNG_FORMAT_BGRA : PNG_FORMAT_ARGB};
    /* The unused byte is not opacity: force it. */
    u32 *copy = malloc((size_t)width * height * 4);
    if (!copy) return error_set(error, "%s: out of memory", path);
    for (unsigned y = 0; y < height; y++)
        for (unsigned x = 0; x < width; x++)
            copy[(size_t)y * width + x] =
                ((const u32 *)((const u8 *)pixels + (size_t)y * stride))[x] | 0xff000000u;
    bool ok = png_image_write_to_file(&image, path, 0, copy, (png_int_32)(width * 4), NULL);
    free(copy);
    return ok || error_set(error, "%s: %s", path, image.message);
}
#else
bool png_write(const char *path, const u32 *pixels, unsigned width, unsigned height,
               unsigned stride, struct error *error)
{
    (void)pixels, (void)width, (void)height, (void)stride;
    return error_set(error, "%s: built without libpng", path);
}
#endif
