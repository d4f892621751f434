/* The display hub as the machine makes it; chips see machine/display.h. Thread: I/O thread, lock
 * held. */
#ifndef MACHINE_DISPLAY_HOST_H
#define MACHINE_DISPLAY_HOST_H

#include "machine/display.h"

struct machine;
struct error;

/* What shows the screen and hears keys: a window. One file a kind in machine/host/. */
struct window {
    void (*show)(struct window *, const u32 *pixels, unsigned width, unsigned height,
                 unsigned stride);
    void (*events)(struct window *); /* takes what the user did */
    void (*close)(struct window *);
};

struct display *display_new(void);
/* -display: opens a window when one is wanted. */
bool display_open(struct machine *machine, struct error *error);
void display_close(struct machine *machine);
bool display_is_shown(struct machine *machine);
void display_refresh(struct machine *machine); /* draws and takes events */

/* The screen's text in a text mode; false in graphics. */
bool display_text(struct display *display, char *to, size_t size);

/* Key names as sendkey takes them ("ret", "ctrl-alt-delete", "a"): set-1 scancodes of the
 * combination. */
const char *display_key_name(unsigned index); /* of one key; NULL behind the last */
u32 display_key_code(unsigned index);
unsigned display_key_codes(const char *names, u32 *codes, unsigned most);

/* machine/host/display_sdl2.c */
struct window *window_open_sdl2(struct machine *machine, struct error *error);
/* machine/host/png.c */
bool png_write(const char *path, const u32 *pixels, unsigned width, unsigned height,
               unsigned stride, struct error *error);

#endif
