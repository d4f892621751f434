/*
 * Character devices between a chip and a backend, and the terminal that a serial port and the
 * monitor share (Ctrl-A keys as QEMU's).
 */
#include "machine/chardev_host.h"

#include <stdlib.h>

void chardev_listen(struct chardev *chardev, const struct chardev_listener *listener)
{
    if (!chardev) return;
    chardev->listener = *listener;
    chardev->has_listener = true;
    if (chardev->connected) chardev_connected(chardev, true);
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

void chardev_ready(struct chardev *chardev)
{
    if (chardev->has_listener && chardev->listener.ready)
        chardev->listener.ready(chardev->listener.opaque);
}

void chardev_connected(struct chardev *chardev, bool there)
{
    chardev->connected = there;
    if (chardev->has_listener && chardev->listener.connected)
        chardev->listener.connected(chardev->listener.opaque, there);
}

void chardev_hang_up(struct chardev *chardev)
{
    if (chardev->hang_up) chardev->hang_up(chardev);
}

void chardev_close(struct chardev *chardev)
{
    if (!chardev) return;
    free(chardev->text);
    if (chardev->release) chardev->release(chardev);
}

/* --- the shared terminal --- */

#define PREFIX 1 /* Ctrl-A */

struct console {
    struct chardev *terminal;
    struct chardev port[2]; /* serial, monitor */
    /* While a port has no room: Ctrl-A must still be heard, and what was typed for one port is not
     * the other's. */
    struct { u8 bytes[256]; unsigned count; } held[2];
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

static void flush_held(struct console *c, unsigned port)
{
    __typeof__(&c->held[0]) held = &c->held[port];
    unsigned taken = chardev_arrived(&c->port[port], held->bytes, held->count);
    held->count -= taken;
    memmove(held->bytes, held->bytes + taken, held->count);
}

static void console_resume(struct console *c, unsigned port)
{
    flush_held(c, port);
    chardev_room(c->terminal);
}

static void serial_resume(struct chardev *port) { console_resume(of_port(port, 0), 0); }
static void monitor_resume(struct chardev *port) { console_resume(of_port(port, 1), 1); }

static void pass_on(struct console *c, u8 byte)
{
    __typeof__(&c->held[0]) held = &c->held[c->shown];
    if (held->count < sizeof held->bytes) held->bytes[held->count++] = byte;
    flush_held(c, c->shown);
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
        say(c, "\r\n");
        if (c->shown) chardev_connected(&c->port[1], true);
        break;
    case 'b': chardev_break(&c->port[0]); break;
    case PREFIX: pass_on(c, key); break;
    case 'h':
    case '?':
        say(c,
            "\r\nCtrl-A x  leave the emulator\r\nCtrl-A c  switch between console and monitor\r\n"
            "Ctrl-A b  send a break\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n");
        break;
    default: break;
    }
}

static unsigned console_room(void *opaque)
{
    struct console *c = opaque;
    unsigned most = c->held[0].count > c->held[1].count ? c->held[0].count : c->held[1].count;
    return (unsigned)sizeof c->held[0].bytes - most;
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

static void console_ready(void *opaque)
{
    struct console *c = opaque;
    for (unsigned i = 0; i < 2; i++) chardev_ready(&c->port[i]);
}

struct console *console_new(struct chardev *terminal, const struct console_hooks *hooks)
{
    struct console *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->terminal = terminal;
    c->hooks = *hooks;
    c->port[0] = (struct chardev){.write = serial_write, .resume = serial_resume};
    c->port[1] = (struct chardev){.write = monitor_write, .resume = monitor_resume};
    struct chardev_listener listener = {
        .opaque = c, .room = console_room, .receive = console_receive, .ready = console_ready};
    chardev_listen(terminal, &listener);
    return c;
}

struct chardev *console_serial(struct console *console) { return &console->port[0]; }
struct chardev *console_monitor(struct console *console) { return &console->port[1]; }
