/*
 * Character devices as the machine makes them; chips see machine/chardev.h.
 * A backend hears bytes through `write` and says what arrived with chardev_arrived.
 * Thread: I/O thread or vCPU thread with the machine lock held.
 */
#ifndef MACHINE_CHARDEV_HOST_H
#define MACHINE_CHARDEV_HOST_H

#include "machine/chardev.h"
#include "machine/error.h"

struct console;
struct loop;

struct chardev {
    char id[32];
    struct chardev_listener listener;
    bool has_listener;
    unsigned (*write)(struct chardev *, const u8 *bytes, unsigned n); /* bytes taken */
    bool (*writable)(struct chardev *);   /* NULL: always */
    void (*resume)(struct chardev *);     /* the listener has room again; may be NULL */
    void (*hang_up)(struct chardev *);    /* lets the other side go; NULL: it can't be */
    bool connected;                       /* somebody is at the other end */
    struct console *mux;                  /* shared between a serial port and the monitor; or
                                             NULL */
    char *text;                           /* as it was asked for; its own */
    void (*release)(struct chardev *);
};

/*
 * TEXT as QEMU's -serial takes it: null, stdio, mon:stdio, file:PATH, pty,
 * unix:PATH[,server][,nowait], tcp:HOST:PORT[,server][,nowait], vc. NULL with a line when it can't
 * be had.
 */
struct chardev *chardev_open(struct loop *loop, const char *text, struct error *error);
void chardev_close(struct chardev *chardev);

/* Bytes from the host; returns how many the listener took. */
unsigned chardev_arrived(struct chardev *chardev, const u8 *bytes, unsigned n);
void chardev_break(struct chardev *chardev);
void chardev_ready(struct chardev *chardev); /* the host side takes bytes again */
void chardev_connected(struct chardev *chardev, bool there);
/* Ends a connection. A server waits for the next one; what can't be hung up goes on. */
void chardev_hang_up(struct chardev *chardev);

/*
 * The terminal shared by a serial port and the monitor (mon:stdio, -nographic): Ctrl-A x leaves, c
 * switches, b sends a break, h tells, Ctrl-A twice sends one.
 */
struct console;
struct console_hooks {
    void *opaque;
    void (*quit)(void *opaque);
};
struct console *console_new(struct chardev *terminal, const struct console_hooks *hooks);
struct chardev *console_serial(struct console *console);
struct chardev *console_monitor(struct console *console);

/* Puts the terminal back as it was; async-signal-safe, harmless when nothing was changed. */
void terminal_restore(void);

#endif
