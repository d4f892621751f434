/* The control protocol's types: arguments checked by them, and introspection made of them. The
 * types are in qmp.def. */
#include "machine/debug/qmp_int.h"

#include "machine/display_host.h" /* names of keys */

#include <stdio.h>

#define NESTING_MOST 8 /* of types; they are ours */

struct named { const char *name, *spec; };
struct variant_type { const char *name, *members, *tag, *variants; };

static const struct named structs[] = {
#define QMP_COMMAND(name, arguments, returns, parked, function)
#define QMP_STRUCT(name, members) {name, members},
#define QMP_ENUM(name, values)
#define QMP_UNION(name, members, tag, variants)
#include "machine/debug/qmp.def"
#undef QMP_STRUCT
#define QMP_STRUCT(name, members)
};
static const struct named enums[] = {
#undef QMP_ENUM
#define QMP_ENUM(name, values) {name, values},
#include "machine/debug/qmp.def"
#undef QMP_ENUM
#define QMP_ENUM(name, values)
};
static const struct variant_type unions[] = {
#undef QMP_UNION
#define QMP_UNION(name, members, tag, variants) {name, members, tag, variants},
#include "machine/debug/qmp.def"
};
static const struct named events[] = {
#define EVENT(name, members) {#name, members},
#include "machine/debug/events.def"
#undef EVENT
};
static const struct { const char *name, *json, *said; } builtins[] = {
    {"str", "string", "string"}, {"int", "int", "integer"}, {"number", "number", "number"},
    {"bool", "boolean", "boolean"}, {"any", "value", "value"}};

static const struct named *find(const struct named *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i].name, name)) return &list[i];
    return NULL;
}

static const struct variant_type *find_union(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(unions); i++)
        if (!strcmp(unions[i].name, name)) return &unions[i];
    return NULL;
}

bool qmp_next_member(const char **spec, struct qmp_member *m)
{
    const char *p = *spec;
    size_t n = strcspn(p, "?:");
    if (!*p) return false;
    snprintf(m->name, sizeof m->name, "%.*s", (int)n, p);
    p += n;
    m->optional = *p == '?';
    p += 1 + m->optional;
    n = strcspn(p, ",");
    snprintf(m->type, sizeof m->type, "%.*s", (int)n, p);
    *spec = p + n + (p[n] == ',');
    return true;
}

/* The word of LIST (space-separated) at *AT, which is moved on. */
static bool next_word(const char **at, char *word, size_t size)
{
    size_t n = strcspn(*at, " ");
    if (!n) return false;
    snprintf(word, size, "%.*s", (int)n, *at);
    *at += n + ((*at)[n] == ' ');
    return true;
}

/* --- checking --- */

static bool wrong_type(const char *name, const char *expected, struct error *error)
{
    return error_set(error, "Invalid parameter type for '%s', expected: %s", name, expected);
}

static bool check_enum(const struct named *e, const char *value, const char *name,
                       struct error *error)
{
    const char *at = e->spec;
    char word[48];
    while (next_word(&at, word, sizeof word))
        if (!strcmp(word, value)) return true;
    return error_set(error, "Parameter '%s' does not accept value '%.100s'", name, value);
}

static bool check_key(const char *value, const char *name, struct error *error)
{
    for (unsigned i = 0; display_key_name(i); i++)
        if (!strcmp(display_key_name(i), value)) return true;
    return error_set(error, "Parameter '%s' does not accept value '%.100s'", name, value);
}

/* The struct that comes with VALUE of UNION's deciding member. */
static const char *variant_of(const struct variant_type *u, const char *value)
{
    const char *spec = u->variants;
    struct qmp_member m;
    while (qmp_next_member(&spec, &m)) {
        if (strcmp(m.name, value)) continue;
        const struct named *s = find(structs, ARRAY_SIZE(structs), m.type);
        return s ? s->spec : NULL;
    }
    return NULL;
}

static bool is_member(const char *spec, const char *name)
{
    struct qmp_member m;
    while (spec && qmp_next_member(&spec, &m))
        if (!strcmp(m.name, name)) return true;
    return false;
}

static bool check_object(const char *spec, const char *more, json_t *object, struct error *error)
{
    const char *lists[] = {spec, more}, *key;
    struct qmp_member m;
    json_t *value;
    for (unsigned i = 0; i < 2; i++)
        while (lists[i] && qmp_next_member(&lists[i], &m)) {
            value = json_object_get(object, m.name);
            if (!value && !m.optional) return error_set(error, "Parameter '%s' is missing", m.name);
            if (value && !qmp_check(m.type, value, m.name, error)) return false;
        }
    json_object_foreach(object, key, value)
        if (!is_member(spec, key) && !is_member(more, key))
            return error_set(error, "Parameter '%.100s' is unexpected", key);
    return true;
}

bool qmp_check_members(const char *spec, json_t *object, struct error *error)
{
    return check_object(spec, NULL, object, error);
}

static bool check_union(const struct variant_type *u, json_t *value, struct error *error)
{
    const char *tag = json_string_value(json_object_get(value, u->tag));
    if (!tag) return error_set(error, "Parameter '%s' is missing", u->tag);
    return check_object(u->members, variant_of(u, tag), value, error);
}

static bool check_builtin(const char *type, json_t *value, const char *name, struct error *error)
{
    for (unsigned i = 0; i < ARRAY_SIZE(builtins); i++) {
        if (strcmp(builtins[i].name, type)) continue;
        bool good = !strcmp(type, "str") ? json_is_string(value) :
                    !strcmp(type, "int") ? json_is_integer(value) :
                    !strcmp(type, "number") ? json_is_number(value) :
                    !strcmp(type, "bool") ? json_is_boolean(value) : true;
        return good || wrong_type(name, builtins[i].said, error);
    }
    return error_set(error, "'%s': no such type", type); /* a row of ours is wrong */
}

bool qmp_check(const char *type, json_t *value, const char *name, struct error *error)
{
    const struct named *n;
    const struct variant_type *u;
    if (type[0] == '[') {
        char element[64];
        size_t index;
        json_t *each;
        snprintf(element, sizeof element, "%.*s", (int)strlen(type) - 2, type + 1);
        if (!json_is_array(value)) return wrong_type(name, "array", error);
        json_array_foreach(value, index, each)
            if (!qmp_check(element, each, name, error)) return false;
        return true;
    }
    bool is_key = !strcmp(type, "QKeyCode");
    n = find(enums, ARRAY_SIZE(enums), type);
    if (n || is_key) {
        if (!json_is_string(value)) return wrong_type(name, "string", error);
        return is_key ? check_key(json_string_value(value), name, error)
                      : check_enum(n, json_string_value(value), name, error);
    }
    n = find(structs, ARRAY_SIZE(structs), type);
    u = find_union(type);
    if (!n && !u) return check_builtin(type, value, name, error);
    if (!json_is_object(value)) return wrong_type(name, "object", error);
    return u ? check_union(u, value, error) : check_object(n->spec, NULL, value, error);
}

/* --- introspection --- */

static void add_array(json_t *schema, const char *type)
{
    size_t index;
    json_t *each;
    char element[64];
    if (type[0] != '[') return;
    json_array_foreach(schema, index, each)
        if (!strcmp(json_string_value(json_object_get(each, "name")), type)) return;
    snprintf(element, sizeof element, "%.*s", (int)strlen(type) - 2, type + 1);
    json_array_append_new(schema, json_pack("{s:s,s:s,s:s}", "name", type, "meta-type", "array",
                                            "element-type", element));
}

static json_t *members_of(json_t *schema, const char *spec)
{
    json_t *list = json_array();
    struct qmp_member m;
    while (qmp_next_member(&spec, &m)) {
        json_t *member = json_pack("{s:s,s:s}", "name", m.name, "type", m.type);
        if (m.optional) json_object_set_new(member, "default", json_null());
        json_array_append_new(list, member);
        add_array(schema, m.type);
    }
    return list;
}

static json_t *add_object(json_t *schema, const char *name, const char *spec)
{
    json_t *object = json_pack("{s:s,s:s,s:o}", "name", name, "meta-type", "object", "members",
                               members_of(schema, spec));
    json_array_append_new(schema, object);
    return object;
}

static void add_union(json_t *schema, const struct variant_type *u)
{
    json_t *object = add_object(schema, u->name, u->members), *variants = json_array();
    const char *spec = u->variants;
    struct qmp_member m;
    while (qmp_next_member(&spec, &m))
        json_array_append_new(variants, json_pack("{s:s,s:s}", "case", m.name, "type", m.type));
    json_object_set_new(object, "tag", json_string(u->tag));
    json_object_set_new(object, "variants", variants);
}

static void add_enum_value(json_t *members, json_t *values, const char *name)
{
    json_array_append_new(members, json_pack("{s:s}", "name", name));
    json_array_append_new(values, json_string(name));
}

static void add_enum(json_t *schema, const char *name, const char *words)
{
    json_t *members = json_array(), *values = json_array();
    char word[48];
    if (words) while (next_word(&words, word, sizeof word)) add_enum_value(members, values, word);
    else for (unsigned i = 0; display_key_name(i); i++)
        add_enum_value(members, values, display_key_name(i));
    json_array_append_new(schema, json_pack("{s:s,s:s,s:o,s:o}", "name", name, "meta-type", "enum",
                                            "members", members, "values", values));
}

/* The name of the object type with these members, which is made unless it is empty. */
static const char *argument_type(json_t *schema, const char *name, const char *spec, char *to,
                                 size_t size)
{
    if (!*spec) return "q_empty";
    snprintf(to, size, "q_obj_%s-arg", name);
    add_object(schema, to, spec);
    return to;
}

json_t *qmp_schema(void)
{
    json_t *schema = json_array();
    char name[96];
    for (unsigned i = 0; i < ARRAY_SIZE(builtins); i++)
        json_array_append_new(schema,
                              json_pack("{s:s,s:s,s:s}", "name", builtins[i].name, "meta-type",
                                        "builtin", "json-type", builtins[i].json));
    add_object(schema, "q_empty", "");
    for (unsigned i = 0; i < ARRAY_SIZE(enums); i++) add_enum(schema, enums[i].name, enums[i].spec);
    add_enum(schema, "QKeyCode", NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(structs); i++)
        add_object(schema, structs[i].name, structs[i].spec);
    for (unsigned i = 0; i < ARRAY_SIZE(unions); i++) add_union(schema, &unions[i]);
    for (const struct qmp_command *c = qmp_commands; c->name; c++) {
        const char *arguments = argument_type(schema, c->name, c->arguments, name, sizeof name);
        const char *returns = *c->returns ? c->returns : "q_empty";
        add_array(schema, returns);
        json_array_append_new(schema, json_pack("{s:s,s:s,s:s,s:s,s:b}", "name", c->name,
                                                "meta-type", "command", "arg-type", arguments,
                                                "ret-type", returns, "allow-oob", 0));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(events); i++)
        json_array_append_new(schema, json_pack("{s:s,s:s,s:s}", "name", events[i].name,
                                                "meta-type", "event", "arg-type",
                                                argument_type(schema, events[i].name,
                                                              events[i].spec, name, sizeof name)));
    return schema;
}
