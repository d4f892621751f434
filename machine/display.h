/*
 * Between a graphics adapter and whatever shows it, and between whatever hears keys and the chips
 * that deliver them. Thread: machine lock held.
 */
#ifndef MACHINE_DISPLAY_H
#define MACHINE_DISPLAY_H

#include "machine/types.h"

struct display; /* the machine's one display hub */

/* A graphics adapter registers how to draw itself. */
struct display_source {
    void *opaque;
    /* Brings the picture up to date: sets *PIXELS (xRGB 32-bit, native byte order, owned by the
     * adapter, valid until the next call), *WIDTH, *HEIGHT, *STRIDE (bytes); returns false when
     * nothing changed since the last call (unless FORCE). */
    bool (*draw)(void *opaque, bool force, const u32 **pixels, unsigned *width, unsigned *height,
                 unsigned *stride);
    /* Text of the screen in a text mode (rows of WIDTH characters, CP437 → UTF-8), for tests and
     * the monitor; returns false in graphics modes. */
    bool (*text)(void *opaque, char *to, size_t size);
};
void display_attach(struct display *display, const struct display_source *source);

/* A keyboard or mouse registers how to be told. */
struct input_listener {
    void *opaque;
    /* QEMU's "qcode" keys by their set-1 scancode; 0xe0xx for extended, 0xe11d45 is Pause. */
    void (*key)(void *opaque, u32 scancode, bool down);
    /* 1 left 2 right 4 middle */
    void (*mouse)(void *opaque, int dx, int dy, int dz, unsigned buttons);
};
void display_listen(struct display *display, const struct input_listener *listener);

/* From the window, the monitor's sendkey or a test. */
void display_key(struct display *display, u32 scancode, bool down);
void display_mouse(struct display *display, int dx, int dy, int dz, unsigned buttons);

/* Writes the screen as FORMAT says, "png" or "ppm" (NULL: by the name of the file, else PNG); false
 * with a line on failure. */
struct error;
bool display_screenshot(struct display *display, const char *path, const char *format,
                        struct error *error);

#endif
