/*
 * The monitor: lines in, commands' answers out. The commands are in monitor.def; here are the
 * sessions (-monitor and the shared console), the dispatcher and completion.
 */
#include "machine/debug/monitor_int.h"

#include "config.h" /* CONFIG_JANSSON */
#include "machine/chardev_host.h"
#include "machine/clock_host.h"
#include "machine/debug/control.h"
#include "machine/debug/line_editor.h"
#include "machine/debug/qmp.h"
#include "machine/debug/stream.h"
#include "machine/display_host.h"
#include "machine/drive_host.h"
#include "machine/monitor.h"
#include "net/options.h" /* names of networks */

#include <stdarg.h>
#include <stdlib.h>

#define PROMPT "(lyrebird) "

struct session {
    struct session *next;
    struct monitor monitor;
    struct client client;
    struct line_editor editor;
    bool greeted, greet;
};

const struct command monitor_commands[] = {
#define COMMAND(names, spec, flags, function, help) {names, spec, flags, function, help},
#define INFO(names, spec, flags, function, help)
#include "machine/debug/monitor.def"
#undef COMMAND
#undef INFO
    {NULL, NULL, 0, NULL, NULL},
};

const struct command monitor_infos[] = {
#define COMMAND(names, spec, flags, function, help)
#define INFO(names, spec, flags, function, help) {names, spec, flags, function, help},
#include "machine/debug/monitor.def"
#undef COMMAND
#undef INFO
    {NULL, NULL, 0, NULL, NULL},
};

/* --- what commands use --- */

void monitor_say(struct monitor *m, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(m->out, format, args);
    va_end(args);
}

void monitor_error(struct monitor *m, const struct error *error)
{
    monitor_say(m, "Error: %s\n", error->text);
}

bool monitor_is_full(struct monitor *m)
{
    if (ftell(m->out) < (long)OUTPUT_MOST) return false;
    monitor_say(m, "… and more\n");
    return true;
}

struct vcpu *monitor_cpu(struct monitor *m)
{
    if (m->cpu >= m->machine->vcpu_count) m->cpu = 0;
    return m->machine->vcpu[m->cpu].cpu;
}

/* --- running a line --- */

static bool has_name(const struct command *command, const char *name, size_t n)
{
    for (const char *p = command->names; *p;) {
        size_t k = strcspn(p, "|");
        if (k == n && !memcmp(p, name, n)) return true;
        p += k + (p[k] == '|');
    }
    return false;
}

static const struct command *find(const struct command *list, const char *name, size_t n)
{
    for (; list->names; list++)
        if (has_name(list, name, n)) return list;
    return NULL;
}

static void run(struct monitor *m, const struct command *command, const char *name, char *text)
{
    struct argument a[ARGUMENTS];
    struct error error;
    bool parked = (command->flags & COMMAND_PARKED) && m->machine->run_state == RUN_RUNNING;
    if (parked) vcpus_park(m->machine);
    if (arguments_parse(m, command->spec, text, a, &error)) command->run(m, a);
    else monitor_say(m, "%s: %s\nTry \"help %s\" for more information\n", name, error.text, name);
    if (parked) vcpus_unpark(m->machine);
}

/* The word LINE begins with. A format may follow a command's name at once: x/10i. */
static size_t word_length(const char *line, bool is_command)
{
    return strcspn(line, is_command ? " \t/" : " \t");
}

void monitor_run(struct monitor *m, const char *line)
{
    char text[LINE_SIZE], name[64], what[80];
    line += strspn(line, " \t");
    size_t n = *line == '/' ? 0 : word_length(line, true);
    if (!*line || *line == '#') return;
    const struct command *command = find(monitor_commands, line, n);
    snprintf(name, sizeof name, "%.*s", (int)(n ? n : strlen(line)), line);
    if (!command) {
        monitor_say(m, "unknown command: '%s'\n", name);
        return;
    }
    line += n + strspn(line + n, " \t");
    if (command->run == monitor_info && *line) {
        n = word_length(line, false);
        command = find(monitor_infos, line, n);
        snprintf(what, sizeof what, "info %.*s", (int)(n < 64 ? n : 64), line);
        if (!command) {
            monitor_say(m, "unknown command: '%s'\n", what);
            return;
        }
        line += n;
        snprintf(text, sizeof text, "%s", line);
        run(m, command, what, text);
        return;
    }
    snprintf(text, sizeof text, "%s", line);
    run(m, command, name, text);
}

char *monitor_execute(struct machine *machine, const char *line, unsigned cpu)
{
    char *text = NULL;
    size_t size = 0;
    struct monitor m = {.machine = machine, .cpu = cpu, .format = {1, 'x', 4}};
    m.out = open_memstream(&text, &size);
    if (!m.out) return NULL;
    monitor_run(&m, line);
    fclose(m.out);
    return text;
}

/* --- help --- */

static void help_one(struct monitor *m, const char *prefix, const struct command *command)
{
    char arguments[128];
    arguments_describe(command->spec, arguments, sizeof arguments);
    monitor_say(m, "%s%s%s -- %s\n", prefix, command->names, arguments, command->help);
}

void monitor_help(struct monitor *m, const struct argument *a)
{
    const struct command *c;
    if (!a[0].given) {
        for (c = monitor_commands; c->names; c++) help_one(m, "", c);
    } else if (!strcmp(a[0].text, "info")) {
        monitor_info(m, a);
    } else if ((c = find(monitor_commands, a[0].text, strlen(a[0].text)))) {
        help_one(m, "", c);
    } else if (!strncmp(a[0].text, "info ", 5) &&
               (c = find(monitor_infos, a[0].text + 5, strlen(a[0].text + 5)))) {
        help_one(m, "info ", c);
    } else {
        monitor_say(m, "unknown command: '%s'\n", a[0].text);
    }
}

void monitor_info(struct monitor *m, const struct argument *a)
{
    (void)a;
    for (const struct command *c = monitor_infos; c->names; c++) help_one(m, "info ", c);
}

void info_history(struct monitor *m, const struct argument *a)
{
    (void)a;
    for (unsigned i = 0; m->editor && i < m->editor->history_count; i++)
        monitor_say(m, "%u: '%s'\n", i, m->editor->history[i]);
}

/* --- completion --- */

static void complete_names(const struct command *list, const char *prefix,
                           struct line_choices *choices)
{
    for (; list->names; list++)
        for (const char *p = list->names; *p;) {
            char name[64];
            size_t k = strcspn(p, "|");
            snprintf(name, sizeof name, "%.*s", (int)k, p);
            line_choice(choices, prefix, name);
            p += k + (p[k] == '|');
        }
}

static void complete_devices(struct machine *machine, const char *prefix,
                             struct line_choices *choices)
{
    for (unsigned i = 0; i < machine->device_count; i++)
        line_choice(choices, prefix, machine->devices[i]->id);
    for (unsigned i = 0; i < machine->vcpu_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "cpu%u", i);
        line_choice(choices, prefix, name);
    }
}

static void complete_keys(const char *prefix, struct line_choices *choices)
{
    const char *dash = strrchr(prefix, '-'), *from = dash ? dash + 1 : prefix;
    for (unsigned i = 0; display_key_name(i); i++) {
        char name[64];
        if (strncmp(from, display_key_name(i), strlen(from))) continue;
        snprintf(name, sizeof name, "%.*s%s", (int)(from - prefix), prefix, display_key_name(i));
        line_choice(choices, prefix, name);
    }
}

static void complete_type(struct machine *machine, char type, const char *prefix,
                          struct line_choices *choices)
{
    switch (type) {
    case 'C': complete_names(monitor_commands, prefix, choices); break;
    case 'I': complete_names(monitor_infos, prefix, choices); break;
    case 'D':
        for (unsigned i = 0; i < machine->drive_count; i++)
            line_choice(choices, prefix, drive_id(machine->drives[i]));
        break;
    case 'N':
        for (unsigned i = 0; machine->net && i < machine->net->port_count; i++)
            line_choice(choices, prefix, machine->net->ports[i]->id);
        break;
    case 'd': complete_devices(machine, prefix, choices); break;
    case 'K': complete_keys(prefix, choices); break;
    case 'b': line_choice(choices, prefix, "on"), line_choice(choices, prefix, "off"); break;
    default: break;
    }
}

void monitor_complete(struct monitor *m, const char *line, struct line_choices *choices)
{
    const struct command *command;
    unsigned index = 0;
    line += strspn(line, " \t");
    size_t n = word_length(line, true);
    if (!line[n]) {
        complete_names(monitor_commands, line, choices);
        return;
    }
    command = find(monitor_commands, line, n);
    if (command && command->run == monitor_info) {
        const char *item = line + n + strspn(line + n, " \t");
        size_t k = word_length(item, false);
        if (item[k]) command = find(monitor_infos, item, k), line = item, n = k;
    }
    if (!command) return;
    for (const char *p = line + n; *p;) {
        p += strspn(p, " \t");
        size_t k = strcspn(p, " \t");
        if (!p[k]) {
            complete_type(m->machine, arguments_type(command->spec, index), p, choices);
            return;
        }
        index += *p != '-' && *p != '/';
        p += k;
    }
}

/* --- sessions --- */

static void editor_write(void *opaque, const char *bytes, size_t n)
{
    struct session *s = opaque;
    stream_write(&s->client.stream, bytes, n);
}

static void editor_complete(void *opaque, const char *line, struct line_choices *choices)
{
    struct session *s = opaque;
    monitor_complete(&s->monitor, line, choices);
}

static void write_lines(struct session *s, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        stream_write(&s->client.stream, text, n);
        text += n;
        if (*text) stream_write(&s->client.stream, "\r\n", 2), text++;
    }
}

static void run_line(struct session *s)
{
    char *text = NULL;
    size_t size = 0;
    line_remember(&s->editor, s->editor.line);
    s->monitor.out = open_memstream(&text, &size);
    if (s->monitor.out) {
        monitor_run(&s->monitor, s->editor.line);
        fclose(s->monitor.out);
        write_lines(s, text);
    }
    free(text);
    s->monitor.out = NULL;
    line_begin(&s->editor);
}

static void greet(struct session *s)
{
    s->greet = false;
    if (s->greeted) {
        line_redraw(&s->editor);
        return;
    }
    s->greeted = true;
    write_lines(s, "Lyrebird " LYREBIRD_VERSION " monitor - type 'help' for more information\n");
    line_begin(&s->editor);
}

static void session_byte(void *opaque, u8 byte)
{
    struct session *s = opaque;
    if (line_byte(&s->editor, byte)) run_line(s);
}

static void session_connected(void *opaque, bool there)
{
    struct session *s = opaque;
    s->greet = there;
    if (!there) s->greeted = false;
}

static void session_turn(struct session *s)
{
    if (s->greet) greet(s);
    client_turn(&s->client);
}

void monitors_turn(struct machine *machine)
{
    if (!machine->monitors) return;
    for (struct session *s = machine->monitors->sessions; s; s = s->next) session_turn(s);
    if (CONFIG_JANSSON) qmp_turn(machine);
}

void machine_tell(struct machine *machine, const struct machine_event *event)
{
    if (CONFIG_JANSSON && machine->monitors) qmp_event(machine, event);
}

static void attach(struct machine *machine, struct chardev *chardev)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s) abort();
    s->monitor = (struct monitor){.machine = machine, .format = {1, 'x', 4}, .editor = &s->editor};
    s->client = (struct client){
        .loop = machine->loop, .opaque = s, .byte = session_byte, .connected = session_connected};
    s->editor = (struct line_editor){
        .prompt = PROMPT, .opaque = s, .write = editor_write, .complete = editor_complete};
    s->next = machine->monitors->sessions;
    machine->monitors->sessions = s;
    client_attach(&s->client, chardev);
}

static bool open_monitor(struct machine *machine, const struct monitor_option *o, unsigned n,
                         struct error *error)
{
    char label[32];
    snprintf(label, sizeof label, "compat_monitor%u", n);
    if (o->control && !CONFIG_JANSSON)
        return error_set(error, "built without jansson: no control sockets");
    struct chardev *chardev = machine_chardev(machine, label, o->device, true, error);
    if (!chardev) return false;
    if (CONFIG_JANSSON && o->control) qmp_attach(machine, chardev, o->pretty);
    else attach(machine, chardev);
    return true;
}

bool monitor_start(struct machine *machine, struct error *error)
{
    const struct options *o = machine->options;
    machine->monitors = calloc(1, sizeof *machine->monitors);
    if (!machine->monitors) abort();
    control_init(machine);
    for (unsigned i = 0; i < o->monitor_count; i++) {
        const struct monitor_option *mon = &o->monitors[i];
        if (strcmp(mon->device, "none") && !open_monitor(machine, mon, i, error))
            return error_prefix(error, "-%s %s", mon->control ? "qmp" : "monitor", mon->device);
    }
    if (machine->console && !console_monitor(machine->console)->has_listener)
        attach(machine, console_monitor(machine->console));
    return true;
}
