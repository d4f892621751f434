/* The control sockets' insides: what qmp*.c share. Thread: machine lock held. */
#ifndef MACHINE_DEBUG_QMP_INT_H
#define MACHINE_DEBUG_QMP_INT_H

#include "machine/debug/qmp.h"
#include "machine/debug/stream.h"

#include <jansson.h>

struct qmp {
    struct qmp *next;
    struct machine *machine;
    struct client client;
    bool pretty, greet, negotiated;
    /* the value that is coming in */
    char *text;
    size_t length, capacity;
    unsigned depth;
    bool in_string, escaped;
};

/* What a command answers: a new reference, or NULL with a line. ARGUMENTS are as the row says. */
typedef json_t *qmp_function(struct qmp *q, json_t *arguments, struct error *error);

struct qmp_command {
    const char *name, *arguments, *returns; /* as in qmp.def */
    qmp_function *run;
    bool parked;
};
extern const struct qmp_command qmp_commands[]; /* ends with name NULL */

#define QMP_COMMAND(name, arguments, returns, parked, function) qmp_function function;
#define QMP_STRUCT(name, members)
#define QMP_ENUM(name, values)
#define QMP_UNION(name, members, tag, variants)
#include "machine/debug/qmp.def"
#undef QMP_COMMAND
#undef QMP_STRUCT
#undef QMP_ENUM
#undef QMP_UNION

/* --- qmp_schema.c --- */
/* One member at *SPEC, which is moved on; false behind the last. */
struct qmp_member { char name[48], type[64]; bool optional; };
bool qmp_next_member(const char **spec, struct qmp_member *member);
/* Is VALUE what TYPE says? NAME is what the line calls it. */
bool qmp_check(const char *type, json_t *value, const char *name, struct error *error);
bool qmp_check_members(const char *spec, json_t *object, struct error *error);
json_t *qmp_schema(void);

/* --- small things --- */
json_t *qmp_text(const char *text); /* what is not UTF-8 as question marks */
static inline json_t *qmp_nothing(void) { return json_object(); }
static inline const char *qmp_str(json_t *arguments, const char *name)
{
    return json_string_value(json_object_get(arguments, name));
}
static inline bool qmp_true(json_t *arguments, const char *name)
{
    return json_is_true(json_object_get(arguments, name));
}
static inline json_t *qmp_int(u64 value) { return json_integer((json_int_t)value); }

#endif
