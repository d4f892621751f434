/* The control protocol's commands that do something. */
#include "machine/debug/qmp_int.h"

#include "machine/debug/control.h"
#include "machine/display_host.h"
#include "machine/drive_host.h"
#include "machine/monitor.h"

#include <stdlib.h>

static json_t *done(bool good) { return good ? qmp_nothing() : NULL; }

json_t *qmp_capabilities(struct qmp *q, json_t *arguments, struct error *error)
{
    (void)arguments, (void)error;
    q->negotiated = true;
    return qmp_nothing();
}

/* --- running --- */

#define ACTION(monitors, name, what) \
    json_t *name(struct qmp *q, json_t *arguments, struct error *error) \
    { \
        struct machine *machine = q->machine; \
        (void)arguments, (void)error; \
        what; \
        return qmp_nothing(); \
    }
#define ATTEMPT(monitors, name, what) \
    json_t *name(struct qmp *q, json_t *arguments, struct error *error) \
    { \
        struct machine *machine = q->machine; \
        (void)arguments; \
        return done(what); \
    }
#include "machine/debug/control.def"
#undef ACTION
#undef ATTEMPT

json_t *qmp_set_action(struct qmp *q, json_t *arguments, struct error *error)
{
    struct options *o = q->machine->options;
    const char *reboot = qmp_str(arguments, "reboot"), *shutdown = qmp_str(arguments, "shutdown"),
               *panic = qmp_str(arguments, "panic");
    (void)error;
    if (reboot) o->no_reboot = !strcmp(reboot, "shutdown");
    if (shutdown) o->no_shutdown = !strcmp(shutdown, "pause");
    if (panic) o->panic_pauses = !strcmp(panic, "pause");
    return qmp_nothing();
}

static bool cpu_index(struct qmp *q, json_t *arguments, unsigned *index, struct error *error)
{
    json_t *value = json_object_get(arguments, "cpu-index");
    json_int_t n = value ? json_integer_value(value) : 0;
    *index = (unsigned)n;
    return (n >= 0 && n < q->machine->vcpu_count) ||
           error_set(error, "Parameter 'cpu-index' expects a CPU number");
}

json_t *human_monitor_command(struct qmp *q, json_t *arguments, struct error *error)
{
    unsigned cpu;
    if (!cpu_index(q, arguments, &cpu, error)) return NULL;
    char *text = monitor_execute(q->machine, qmp_str(arguments, "command-line"), cpu);
    json_t *result = qmp_text(text ? text : "");
    free(text);
    return result;
}

/* --- input --- */

/* A KeyValue as a scancode. */
static bool key_code(json_t *key, u32 *code, struct error *error)
{
    json_t *data = json_object_get(key, "data");
    if (json_is_integer(data)) {
        json_int_t n = json_integer_value(data);
        if (n < 1 || n > 0xff)
            return error_set(error, "Parameter 'data' expects a scancode, 1 to 255");
        /* QEMU's numbers: bit 7 is the E0h prefix */
        *code = n & 0x80 ? 0xe000u | (u32)(n & 0x7f) : (u32)n;
        return true;
    }
    for (unsigned i = 0; display_key_name(i); i++)
        if (!strcmp(display_key_name(i), json_string_value(data))) *code = display_key_code(i);
    return true;
}

json_t *qmp_send_key(struct qmp *q, json_t *arguments, struct error *error)
{
    json_t *keys = json_object_get(arguments, "keys"), *key,
           *hold = json_object_get(arguments, "hold-time");
    u32 codes[16] = {0};
    size_t i;
    if (json_array_size(keys) > ARRAY_SIZE(codes))
        return error_set(error, "too many keys at once"), NULL;
    json_array_foreach(keys, i, key)
        if (!key_code(key, &codes[i], error)) return NULL;
    json_int_t ms = hold ? json_integer_value(hold) : KEY_HOLD_MS;
    if (ms < 0 || ms > 60000)
        return error_set(error, "Parameter 'hold-time' expects 0 to 60000 ms"), NULL;
    if (!json_array_size(keys)) return qmp_nothing();
    return done(control_send_keys(q->machine, codes, (unsigned)json_array_size(keys), (u32)ms,
                                  error));
}

static bool send_button(struct machine *m, json_t *data)
{
    static const struct { const char *name; unsigned bit; int wheel; } buttons[] = {
        {"left", 1, 0}, {"right", 2, 0}, {"middle", 4, 0}, {"wheel-up", 0, -1},
        {"wheel-down", 0, 1}};
    const char *name = qmp_str(data, "button");
    bool down = qmp_true(data, "down");
    unsigned *held = &m->monitors->mouse_buttons;
    for (unsigned i = 0; i < ARRAY_SIZE(buttons); i++) {
        if (strcmp(buttons[i].name, name)) continue;
        *held = down ? *held | buttons[i].bit : *held & ~buttons[i].bit;
        display_mouse(m->display, 0, 0, down ? buttons[i].wheel : 0, *held);
    }
    return true;
}

static int clamp(json_int_t n) { return n < -32768 ? -32768 : n > 32767 ? 32767 : (int)n; }

static bool send_event(struct machine *m, json_t *event, struct error *error)
{
    const char *type = qmp_str(event, "type");
    json_t *data = json_object_get(event, "data");
    if (!strcmp(type, "btn")) return send_button(m, data);
    if (!strcmp(type, "rel")) {
        int value = clamp(json_integer_value(json_object_get(data, "value")));
        bool x = !strcmp(qmp_str(data, "axis"), "x");
        display_mouse(m->display, x ? value : 0, x ? 0 : value, 0, m->monitors->mouse_buttons);
        return true;
    }
    u32 code = 0;
    if (!key_code(json_object_get(data, "key"), &code, error)) return false;
    display_key(m->display, code, qmp_true(data, "down"));
    return true;
}

json_t *qmp_input_send_event(struct qmp *q, json_t *arguments, struct error *error)
{
    size_t i;
    json_t *event;
    json_array_foreach(json_object_get(arguments, "events"), i, event)
        if (!send_event(q->machine, event, error)) return NULL;
    return qmp_nothing();
}

json_t *qmp_screendump(struct qmp *q, json_t *arguments, struct error *error)
{
    const char *format = qmp_str(arguments, "format");
    if (qmp_str(arguments, "device") || json_object_get(arguments, "head"))
        return error_set(error, "there is one screen: device and head are not supported"), NULL;
    return done(display_screenshot(q->machine->display, qmp_str(arguments, "filename"),
                                   format ? format : "ppm", error));
}

/* --- memory --- */

static json_t *save(struct qmp *q, json_t *arguments, struct vcpu *cpu, struct error *error)
{
    u64 address = (u64)json_integer_value(json_object_get(arguments, "val"));
    json_int_t size = json_integer_value(json_object_get(arguments, "size"));
    if (size < 0) return error_set(error, "Parameter 'size' expects a size"), NULL;
    return done(control_memsave(q->machine, cpu, address, (u64)size, qmp_str(arguments, "filename"),
                                error));
}

json_t *qmp_memsave(struct qmp *q, json_t *arguments, struct error *error)
{
    unsigned cpu;
    if (!cpu_index(q, arguments, &cpu, error)) return NULL;
    return save(q, arguments, q->machine->vcpu[cpu].cpu, error);
}

json_t *qmp_pmemsave(struct qmp *q, json_t *arguments, struct error *error)
{
    return save(q, arguments, NULL, error);
}

json_t *qmp_balloon(struct qmp *q, json_t *arguments, struct error *error)
{
    json_int_t bytes = json_integer_value(json_object_get(arguments, "value"));
    if (bytes <= 0) return error_set(error, "Parameter 'target' expects a size"), NULL;
    return done(control_balloon(q->machine, (u64)bytes, error));
}

/* --- drives and cables --- */

/* Drives go by one name here: "device" and "id" mean the same. */
static const char *drive_name(json_t *arguments, struct error *error)
{
    const char *device = qmp_str(arguments, "device"), *id = qmp_str(arguments, "id");
    if (device && id) return error_set(error, "Need exactly one of 'device' and 'id'"), NULL;
    if (!device && !id) return error_set(error, "Parameter 'id' is missing"), NULL;
    return device ? device : id;
}

json_t *qmp_eject(struct qmp *q, json_t *arguments, struct error *error)
{
    const char *name = drive_name(arguments, error);
    return done(name && control_eject(q->machine, name, qmp_true(arguments, "force"), error));
}

static json_t *move_tray(struct qmp *q, json_t *arguments, bool open, struct error *error)
{
    const char *name = drive_name(arguments, error);
    struct drive *drive = name ? control_drive(q->machine, name, error) : NULL;
    if (!drive) return NULL;
    if (!control_drive_removable(q->machine, (unsigned)control_drive_index(q->machine, name)))
        return error_set(error, "Device '%s' is not removable", name), NULL;
    if (open && drive_tray_locked(drive) && !qmp_true(arguments, "force"))
        return error_set(error, "Device '%s' is locked and force was not specified, wait for tray "
                         "to open and try again", name), NULL;
    drive_open_tray(drive, open);
    return qmp_nothing();
}

json_t *qmp_open_tray(struct qmp *q, json_t *arguments, struct error *error)
{
    return move_tray(q, arguments, true, error);
}
json_t *qmp_close_tray(struct qmp *q, json_t *arguments, struct error *error)
{
    return move_tray(q, arguments, false, error);
}

json_t *qmp_change_medium(struct qmp *q, json_t *arguments, struct error *error)
{
    const char *name = drive_name(arguments, error);
    return done(name && control_change(q->machine, name, qmp_str(arguments, "filename"),
                                       qmp_str(arguments, "format"),
                                       qmp_str(arguments, "read-only-mode"),
                                       qmp_true(arguments, "force"), error));
}

json_t *qmp_set_link(struct qmp *q, json_t *arguments, struct error *error)
{
    return done(control_set_link(q->machine, qmp_str(arguments, "name"), qmp_true(arguments, "up"),
                                 error));
}
