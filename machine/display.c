/*
 * The display hub: one graphics adapter, any number of input listeners, perhaps a window.
 */
#include "machine/display_host.h"

#include "config.h" /* CONFIG_SDL2, CONFIG_PNG */
#include "machine/error.h"
#include "machine/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_LISTENERS 4

struct display {
    struct display_source source;
    bool has_source;
    struct input_listener listeners[MAX_LISTENERS];
    unsigned listener_count;
    struct window *window;
};

struct display *display_new(void)
{
    struct display *display = calloc(1, sizeof *display);
    if (!display) abort();
    return display;
}

void display_attach(struct display *display, const struct display_source *source)
{
    display->source = *source;
    display->has_source = true;
}

void display_listen(struct display *display, const struct input_listener *listener)
{
    if (display->listener_count == MAX_LISTENERS) abort();
    display->listeners[display->listener_count++] = *listener;
}

void display_key(struct display *display, u32 scancode, bool down)
{
    for (unsigned i = 0; i < display->listener_count; i++)
        if (display->listeners[i].key)
            display->listeners[i].key(display->listeners[i].opaque, scancode, down);
}

void display_mouse(struct display *display, int dx, int dy, int dz, unsigned buttons)
{
    for (unsigned i = 0; i < display->listener_count; i++)
        if (display->listeners[i].mouse)
            display->listeners[i].mouse(display->listeners[i].opaque, dx, dy, dz, buttons);
}

/* Portable pixmap, as netpbm describes it. */
static bool ppm_write(const char *path, const u32 *pixels, unsigned width, unsigned height,
                      unsigned stride, struct error *error)
{
    FILE *file = fopen(path, "wb");
    if (!file) return error_set(error, "%s: %s", path, strerror(errno));
    fprintf(file, "P6\n%u %u\n255\n", width, height);
    for (unsigned y = 0; y < height; y++) {
        const u32 *row = (const u32 *)(const void *)((const u8 *)pixels + (size_t)y * stride);
        for (unsigned x = 0; x < width; x++) {
            u8 rgb[3] = {(u8)(row[x] >> 16), (u8)(row[x] >> 8), (u8)row[x]};
            fwrite(rgb, 1, sizeof rgb, file);
        }
    }
    bool good = !ferror(file);
    if (fclose(file)) good = false;
    return good || error_set(error, "%s: cannot be written whole", path);
}

bool display_screenshot(struct display *display, const char *path, const char *format,
                        struct error *error)
{
    const u32 *pixels;
    unsigned width, height, stride;
    if (!display->has_source) return error_set(error, "there is no display to take a picture of");
    display->source.draw(display->source.opaque, true, &pixels, &width, &height, &stride);
    if (!format) {
        const char *dot = strrchr(path, '.');
        format = dot && !strcmp(dot, ".ppm") ? "ppm" : "png";
    }
    if (!strcmp(format, "ppm")) return ppm_write(path, pixels, width, height, stride, error);
    if (strcmp(format, "png"))
        return error_set(error, "picture format '%s' is not supported (png, ppm)", format);
    if (!CONFIG_PNG) return error_set(error, "screenshots: built without libpng");
    return png_write(path, pixels, width, height, stride, error);
}

bool display_text(struct display *display, char *to, size_t size)
{
    return display->has_source && display->source.text &&
           display->source.text(display->source.opaque, to, size);
}

bool display_open(struct machine *m, struct error *error)
{
    const char *kind = m->options->display;
    bool asked = kind && !strncmp(kind, "sdl", 3);
    if (m->options->nographic || (kind && !strcmp(kind, "none")) || !m->display->has_source)
        return true;
    if (!CONFIG_SDL2) return !asked || error_set(error, "-display sdl: built without SDL2");
    m->display->window = window_open_sdl2(m, error);
    if (m->display->window || asked) return m->display->window != NULL;
    /* Nobody asked for a window and there is no screen to put one on: go on without. */
    fprintf(stderr, "lyrebird: no window: %s\n", error->text);
    return true;
}

void display_close(struct machine *m)
{
    if (m->display && m->display->window) m->display->window->close(m->display->window);
    if (m->display) m->display->window = NULL;
}

bool display_is_shown(struct machine *m) { return m->display->window != NULL; }

void display_refresh(struct machine *m)
{
    struct display *display = m->display;
    const u32 *pixels;
    unsigned width, height, stride;
    if (display->source.draw(display->source.opaque, false, &pixels, &width, &height, &stride))
        display->window->show(display->window, pixels, width, height, stride);
    display->window->events(display->window);
}
