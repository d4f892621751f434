/*
 * Character devices between a chip and a backend, and the terminal that a serial port and the monitor
 * share (Ctrl-A keys as QEMU's).
 */
#include "machine/chardev_host.h"

#include <stdlib.h>

void chardev_listen(struct chardev *chardev, const struct chardev_listener *listener)
{
    if (!chardev) return;
    chardev->listener = *listener;
    chardev->has_listener = true;
}

void chardev_room(struct chardev *chardev)
{
    if (chardev && chardev->resume) chardev->resume(chardev);
}

unsigned chardev_write(struct chardev *chardev, const u8 *bytes, unsigned n)
{
    return chardev ? chardev->write(chardev, bytes, n) : n;
}

bool chardev_writable(struct chardev *chardev)
{
    return !chardev || !chardev->writable || chardev->writable(chardev);
}

unsigned chardev_arrived(struct chardev *chardev, const u8 *bytes, unsigned n)
{
    if (!chardev->has_listener) return n;
    unsigned room = chardev->listener.room(chardev->listener.opaque);
    if (n > room) n = room;
    if (n) chardev->listener.receive(chardev->listener.opaque, bytes, n);
    return n;
}

void chardev_break(struct chardev *chardev)
{
    if (chardev->has_listener && chardev->listener.broke)
        chardev->listener.broke(chardev->listener.opaque);
}

void chardev_close(struct chardev *chardev)
{
    if (chardev && chardev->release) chardev->release(chardev);
}

/* --- the shared terminal --- */

#define PREFIX 1 /* Ctrl-A */

struct console {
    struct chardev *terminal;
    struct chardev port[2]; /* serial, monitor */
    u8 held[256];           /* for the shown port, while it has no room: Ctrl-A must still be heard */
    unsigned held_count;
    unsigned shown;
    bool prefixed;
    struct console_hooks hooks;
};

static struct console *of_port(struct chardev *port, unsigned index)
{
    return container_of(port - index, struct console, port);
}

static unsigned serial_write(struct chardev *port, const u8 *bytes, unsigned n)
{
    return chardev_write(of_port(port, 0)->terminal, bytes, n);
}

static unsigned monitor_write(struct chardev *port, const u8 *bytes, unsigned n)
{
    struct console *c = of_port(port, 1);
    return c->shown == 1 ? chardev_write(c->terminal, bytes, n) : n;
}

static void flush_held(struct console *c)
{
    unsigned taken = chardev_arrived(&c->port[c->shown], c->held, c->held_count);
    c->held_count -= taken;
    memmove(c->held, c->held + taken, c->held_count);
}

static void console_resume(struct console *c)
{
    flush_held(c);
    chardev_room(c->terminal);
}

static void serial_resume(struct chardev *port) { console_resume(of_port(port, 0)); }
static void monitor_resume(struct chardev *port) { console_resume(of_port(port, 1)); }

static void pass_on(struct console *c, u8 byte)
{
    if (c->held_count < sizeof c->held) c->held[c->held_count++] = byte;
    flush_held(c);
}

static void say(struct console *c, const char *text)
{
    chardev_write(c->terminal, (const u8 *)text, (unsigned)strlen(text));
}

static void prefix_key(struct console *c, u8 key)
{
    switch (key) {
    case 'x':
        say(c, "\r\nLyrebird: terminated\r\n");
        c->hooks.quit(c->hooks.opaque);
        break;
    case 'c':
        c->shown ^= 1;
        if (c->shown) say(c, "\r\n(lyrebird) ");
        break;
    case 'b': chardev_break(&c->port[0]); break;
    case PREFIX: pass_on(c, key); break;
    case 'h':
    case '?':
        say(c, "\r\nCtrl-A x  leave the emulator\r\nCtrl-A c  switch between console and monitor\r\n"
               "Ctrl-A b  send a break\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n");
        break;
    default: break;
    }
}

static unsigned console_room(void *opaque)
{
    struct console *c = opaque;
    return (unsigned)sizeof c->held - c->held_count;
}

static void console_receive(void *opaque, const u8 *bytes, unsigned n)
{
    struct console *c = opaque;
    for (unsigned i = 0; i < n; i++) {
        if (c->prefixed) {
            c->prefixed = false;
            prefix_key(c, bytes[i]);
        } else if (bytes[i] == PREFIX) {
            c->prefixed = true;
        } else {
            pass_on(c, bytes[i]);
        }
    }
}

struct console *console_new(struct chardev *terminal, const struct console_hooks *hooks)
{
    struct console *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->terminal = terminal;
    c->hooks = *hooks;
    c->port[0] = (struct chardev){.write = serial_write, .resume = serial_resume};
    c->port[1] = (struct chardev){.write = monitor_write, .resume = monitor_resume};
    struct chardev_listener listener = {c, console_room, console_receive, NULL};
    chardev_listen(terminal, &listener);
    return c;
}

struct chardev *console_serial(struct console *console) { return &console->port[0]; }
struct chardev *console_monitor(struct console *console) { return &console->port[1]; }
