/*
 * Control sockets: values in, answers and events out.
 * Specification: QEMU Machine Protocol (docs/interop/qmp-spec), without out-of-band execution.
 *
 * A client is hostile: what it sends is cut into values here, with bounds on length and depth,
 * before the JSON library sees it; a client that does not read is let go (stream.h). Nothing it
 * does holds the guest up.
 */
#include "machine/debug/qmp_int.h"

#include "machine/debug/control.h"
#include "machine/host/os.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXT_MOST MIB(1)
#define DEPTH_MOST 512u

const struct qmp_command qmp_commands[] = {
#define QMP_COMMAND(name, arguments, returns, parked, function) \
    {name, arguments, returns, function, parked},
#define QMP_STRUCT(name, members)
#define QMP_ENUM(name, values)
#define QMP_UNION(name, members, tag, variants)
#include "machine/debug/qmp.def"
    {NULL, NULL, NULL, NULL, false},
};

/* --- out --- */

json_t *qmp_text(const char *text)
{
    json_t *string = json_string(text);
    if (string) return string;
    char *copy = strdup(text);
    if (!copy) return json_string("");
    for (char *p = copy; *p; p++)
        if ((u8)*p >= 0x80) *p = '?';
    string = json_string(copy);
    free(copy);
    return string;
}

static void put(struct qmp *q, json_t *value)
{
    char *text = json_dumps(value, q->pretty ? JSON_INDENT(4) : 0);
    if (text) {
        stream_write(&q->client.stream, text, strlen(text));
        stream_write(&q->client.stream, "\r\n", 2);
    }
    free(text);
    json_decref(value);
}

/* Clients look at the class, here and there; it goes by what is said. */
static const char *class_of(const char *text)
{
    size_t n = strlen(text);
    if (!strncmp(text, "Device '", 8) && n > 10 && !strcmp(text + n - 10, " not found"))
        return "DeviceNotFound";
    if (!strncmp(text, "No balloon device", 17)) return "DeviceNotActive";
    return "GenericError";
}

static void refuse_as(struct qmp *q, json_t *id, const char *class, const struct error *error)
{
    json_t *reply = json_pack("{s:{s:s,s:o}}", "error", "class", class, "desc",
                              qmp_text(error->text));
    if (id) json_object_set(reply, "id", id);
    put(q, reply);
}

static void refuse(struct qmp *q, json_t *id, const struct error *error)
{
    refuse_as(q, id, class_of(error->text), error);
}

static json_t *event_member(const struct machine_event *e, const char *name)
{
    const struct { const char *name; json_t *value; } members[] = {
        {"guest", json_boolean(e->guest)}, {"tray-open", json_boolean(e->tray_open)},
        {"nospace", json_boolean(e->nospace)}};
    const struct { const char *name, *text; } texts[] = {{"reason", e->reason},
                                                         {"action", e->action},
                                                         {"device", e->device},
                                                         {"id", e->id},
                                                         {"operation", e->operation}};
    for (unsigned i = 0; i < ARRAY_SIZE(members); i++)
        if (!strcmp(members[i].name, name)) return members[i].value;
    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++)
        if (!strcmp(texts[i].name, name)) return texts[i].text ? qmp_text(texts[i].text) : NULL;
    return NULL;
}

void qmp_event(struct machine *machine, const struct machine_event *event)
{
    static const struct { const char *name, *members; } rows[] = {
#define EVENT(name, members) {#name, members},
#include "machine/debug/events.def"
#undef EVENT
    };
    const char *spec = rows[event->kind].members;
    struct qmp_member m;
    u64 now = os_wall_ns() / 1000;
    json_t *data = json_object();
    while (qmp_next_member(&spec, &m)) {
        json_t *value = event_member(event, m.name);
        if (value) json_object_set_new(data, m.name, value);
    }
    json_t *message = json_pack("{s:{s:I,s:I},s:s}", "timestamp", "seconds",
                                (json_int_t)(now / 1000000), "microseconds",
                                (json_int_t)(now % 1000000), "event", rows[event->kind].name);
    if (json_object_size(data)) json_object_set(message, "data", data);
    for (struct qmp *q = machine->monitors->qmps; q; q = q->next)
        if (q->negotiated) put(q, json_incref(message));
    json_decref(message);
    json_decref(data);
}

/* --- one message --- */

static void run(struct qmp *q, const struct qmp_command *command, json_t *arguments, json_t *id)
{
    struct machine *m = q->machine;
    struct error error;
    json_t *empty = json_object(), *result = NULL;
    if (!arguments) arguments = empty;
    if (qmp_check_members(command->arguments, arguments, &error)) {
        bool parked = command->parked && m->run_state == RUN_RUNNING;
        if (parked) vcpus_park(m);
        result = command->run(q, arguments, &error);
        if (parked) vcpus_unpark(m);
    }
    json_decref(empty);
    if (!result) {
        refuse(q, id, &error);
        return;
    }
    json_t *reply = json_object();
    json_object_set_new(reply, "return", result);
    if (id) json_object_set(reply, "id", id);
    put(q, reply);
}

static bool well_formed(json_t *message, struct error *error)
{
    const char *key;
    json_t *value;
    if (!json_is_object(message)) return error_set(error, "QMP input must be a JSON object");
    json_object_foreach(message, key, value) {
        if (!strcmp(key, "execute")) {
            if (!json_is_string(value))
                return error_set(error, "QMP input member 'execute' must be a string");
        } else if (!strcmp(key, "arguments")) {
            if (!json_is_object(value))
                return error_set(error, "QMP input member 'arguments' must be an object");
        } else if (strcmp(key, "id")) {
            return error_set(error, "QMP input member '%.100s' is unexpected", key);
        }
    }
    return json_object_get(message, "execute") ||
           error_set(error, "QMP input lacks member 'execute'");
}

static void obey(struct qmp *q, json_t *message)
{
    struct error error;
    json_t *id = json_object_get(message, "id");
    if (!well_formed(message, &error)) {
        refuse(q, json_is_object(message) ? id : NULL, &error);
        return;
    }
    const char *name = json_string_value(json_object_get(message, "execute"));
    bool negotiates = !strcmp(name, "qmp_capabilities");
    const struct qmp_command *command = qmp_commands;
    while (command->name && strcmp(command->name, name)) command++;
    if (!command->name) error_set(&error, "The command %.200s has not been found", name);
    else if (!q->negotiated && !negotiates)
        error_set(&error, "Expecting capabilities negotiation with 'qmp_capabilities'");
    else if (q->negotiated && negotiates)
        error_set(&error, "Capabilities negotiation is already complete, command ignored");
    else {
        run(q, command, json_object_get(message, "arguments"), id);
        return;
    }
    refuse_as(q, id, "CommandNotFound", &error);
}

static void take_value(struct qmp *q)
{
    json_error_t problem;
    json_t *message = json_loadb(q->text, q->length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
                                 &problem);
    q->length = 0;
    q->depth = 0;
    q->in_string = q->escaped = false;
    if (message) {
        obey(q, message);
        json_decref(message);
        return;
    }
    struct error error;
    error_set(&error, "JSON parse error, %.200s", problem.text);
    refuse(q, NULL, &error);
}

/* --- values out of bytes --- */

static void give_up(struct qmp *q, const char *why)
{
    struct error error;
    error_set(&error, "%s", why);
    refuse(q, NULL, &error);
    chardev_hang_up(q->client.stream.chardev);
}

static bool keep(struct qmp *q, char c)
{
    if (q->length == q->capacity) {
        size_t capacity = q->capacity ? q->capacity * 2 : 256;
        char *text = q->length < TEXT_MOST ? realloc(q->text, capacity) : NULL;
        if (!text) return give_up(q, "JSON token size limit exceeded"), false;
        q->text = text;
        q->capacity = capacity;
    }
    q->text[q->length++] = c;
    return true;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* Takes a byte; a value that is complete with it (or was in front of it) is obeyed. */
static void take_byte(struct qmp *q, char c)
{
    bool bare = q->length && !q->depth && !q->in_string;
    if (bare && (is_blank(c) || c == '{' || c == '[' || c == '"')) take_value(q);
    if (!q->length && is_blank(c)) return;
    if (!keep(q, c)) return;
    if (q->in_string) {
        if (q->escaped) q->escaped = false;
        else if (c == '\\') q->escaped = true;
        else if (c == '"') q->in_string = false;
        if (q->in_string || q->depth) return;
        take_value(q);
    } else if (c == '"') {
        q->in_string = true;
    } else if (c == '{' || c == '[') {
        if (++q->depth > DEPTH_MOST) give_up(q, "JSON nesting depth limit exceeded");
    } else if (c == '}' || c == ']') {
        if (q->depth) q->depth--;
        if (!q->depth) take_value(q);
    }
}

/* --- sessions --- */

static void qmp_byte(void *opaque, u8 byte) { take_byte(opaque, (char)byte); }

static void qmp_connected(void *opaque, bool there)
{
    struct qmp *q = opaque;
    free(q->text);
    q->text = NULL;
    q->length = q->capacity = 0;
    q->depth = 0;
    q->in_string = q->escaped = q->negotiated = false;
    q->greet = there;
}

static void greet(struct qmp *q)
{
    struct error error;
    q->greet = false;
    put(q, json_pack("{s:{s:o,s:[]}}", "QMP", "version", query_version(q, NULL, &error),
                     "capabilities"));
}

static void turn(struct qmp *q)
{
    if (q->greet) greet(q);
    client_turn(&q->client);
}

void qmp_turn(struct machine *machine)
{
    for (struct qmp *q = machine->monitors->qmps; q; q = q->next) turn(q);
}

void qmp_attach(struct machine *machine, struct chardev *chardev, bool pretty)
{
    struct qmp *q = calloc(1, sizeof *q);
    if (!q) abort();
    q->machine = machine;
    q->client = (struct client){
        .loop = machine->loop, .opaque = q, .byte = qmp_byte, .connected = qmp_connected};
    q->pretty = pretty;
    q->next = machine->monitors->qmps;
    machine->monitors->qmps = q;
    client_attach(&q->client, chardev);
}
