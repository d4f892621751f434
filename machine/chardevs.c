/*
 * The machine's character devices by name: -chardev, and what -serial, -monitor and others ask for
 * in place.
 *
 * Not modelled: -chardev backends that need a library or a second host (spice, udp, tls…), several
 * users of one device but a serial port and a monitor (mux=on).
 */
#include "machine/chardev_host.h"
#include "machine/machine.h"

#include <stdio.h>
#include <stdlib.h>

static struct chardev *find(struct machine *m, const char *id)
{
    for (unsigned i = 0; i < m->chardev_count; i++)
        if (!strcmp(m->chardevs[i]->id, id)) return m->chardevs[i];
    return NULL;
}

static void console_quit(void *opaque) { machine_quit(opaque, 0, "host-ui"); }

static struct chardev *open_one(struct machine *m, const char *id, const char *text, bool mux,
                                struct error *error)
{
    if (m->chardev_count == MAX_CHARDEVS)
        return error_set(error, "too many character devices"), NULL;
    if (strlen(id) >= sizeof((struct chardev *)0)->id)
        return error_set(error, "id=%s is too long", id), NULL;
    if (find(m, id)) return error_set(error, "id=%s is taken", id), NULL;
    struct chardev *chardev = chardev_open(m->loop, text, error);
    if (!chardev) return NULL;
    snprintf(chardev->id, sizeof chardev->id, "%s", id);
    chardev->text = strdup(text);
    struct console_hooks hooks = {m, console_quit};
    if (mux) chardev->mux = console_new(chardev, &hooks);
    m->chardevs[m->chardev_count++] = chardev;
    return chardev;
}

struct chardev *machine_chardev(struct machine *m, const char *label, const char *text,
                                bool for_monitor, struct error *error)
{
    struct chardev *chardev;
    if (!strncmp(text, "chardev:", 8)) {
        chardev = find(m, text + 8);
        if (!chardev) return error_set(error, "there is no -chardev with id=%s", text + 8), NULL;
    } else {
        bool shared = !strncmp(text, "mon:", 4);
        chardev = open_one(m, label, shared ? text + 4 : text, shared, error);
        if (!chardev) return NULL;
        if (shared) m->console = chardev->mux;
    }
    if (chardev->mux)
        chardev = for_monitor ? console_monitor(chardev->mux) : console_serial(chardev->mux);
    if (chardev->has_listener) return error_set(error, "'%s' is in use already", text), NULL;
    return chardev;
}

/* --- -chardev --- */

static bool server_words(const struct keyvals *kv, char *to, size_t size, struct error *error)
{
    bool server = false, wait = true;
    const char *text = keyvals_get(kv, "server"), *waits = keyvals_get(kv, "wait");
    if (keyvals_get(kv, "nowait")) waits = "off";
    if (text && !parse_on_off(text, &server))
        return error_set(error, "server=%s: on or off expected", text);
    if (waits && !parse_on_off(waits, &wait))
        return error_set(error, "wait=%s: on or off expected", waits);
    snprintf(to, size, "%s%s", server ? ",server=on" : "",
             server ? wait ? ",wait=on" : ",wait=off" : "");
    return true;
}

/* KV as -serial would have it. */
static bool describe(const struct keyvals *kv, char *to, size_t size, struct error *error)
{
    const char *kind = keyvals_get(kv, "backend"), *path = keyvals_get(kv, "path");
    const char *host = keyvals_get(kv, "host"), *port = keyvals_get(kv, "port");
    char words[32];
    int n = 0;
    if (!kind) return error_set(error, "the kind is missing");
    if (!server_words(kv, words, sizeof words, error)) return false;
    if (!strcmp(kind, "stdio") || !strcmp(kind, "pty") || !strcmp(kind, "null") ||
        !strcmp(kind, "vc")) {
        n = snprintf(to, size, "%s", kind);
    } else if (!strcmp(kind, "file")) {
        if (!path) return error_set(error, "path= is missing");
        n = snprintf(to, size, "file:%s", path);
    } else if (!strcmp(kind, "socket")) {
        if (!path && !port) return error_set(error, "path= or port= is missing");
        if (path) n = snprintf(to, size, "unix:%s%s", path, words);
        else n = snprintf(to, size, "tcp:%s:%s%s", host ? host : "", port, words);
    } else {
        return error_set(error, "%s is not supported (socket, stdio, pty, file, null)", kind);
    }
    return (n >= 0 && (size_t)n < size) || error_set(error, "too long");
}

static bool open_option(struct machine *m, const char *option, struct error *error)
{
    struct keyvals kv;
    char text[1024];
    bool mux = false;
    if (!keyvals_parse(&kv, option, "backend", error) ||
        !keyvals_only(&kv, "chardev",
                      "backend id path host port server wait nowait mux signal ipv4 ipv6 nodelay",
                      error))
        return false;
    const char *id = keyvals_get(&kv, "id"), *shared = keyvals_get(&kv, "mux");
    if (!id || !*id) return error_set(error, "id= is missing");
    if (shared && !parse_on_off(shared, &mux))
        return error_set(error, "mux=%s: on or off expected", shared);
    return describe(&kv, text, sizeof text, error) && open_one(m, id, text, mux, error);
}

bool machine_open_chardevs(struct machine *m, struct error *error)
{
    for (unsigned i = 0; i < m->options->chardev_count; i++)
        if (!open_option(m, m->options->chardevs[i], error))
            return error_prefix(error, "-chardev %s", m->options->chardevs[i]);
    return true;
}
