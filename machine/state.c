/*
 * Declared state written to and read from a buffer, and shown.
 *
 * Format, little-endian: per field {u8 name length, name, u8 kind, u16 element size, u32 count,
 * elements}; a group's elements are field lists themselves; a list ends with a zero name length.
 * Reading is of a hostile file: every length is checked against what is left and what is declared.
 */
#include "machine/state.h"
#include "machine/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define GROUP_DEPTH 8

static void put_bytes(struct state_buffer *out, const void *bytes, size_t n)
{
    if (out->length + n > out->capacity) {
        out->capacity = (out->length + n) * 2 + 256;
        out->bytes = realloc(out->bytes, out->capacity);
        if (!out->bytes) abort();
    }
    if (n) memcpy(out->bytes + out->length, bytes, n);
    out->length += n;
}

static void put_number(struct state_buffer *out, u64 value, unsigned size)
{
    u8 bytes[8];
    st64(bytes, value);
    put_bytes(out, bytes, size);
}

static u64 load_element(const void *p, unsigned size)
{
    switch (size) {
    case 1: return *(const u8 *)p;
    case 2: return *(const u16 *)p;
    case 4: return *(const u32 *)p;
    default: return *(const u64 *)p;
    }
}

static void store_element(void *p, u64 value, unsigned size)
{
    switch (size) {
    case 1: *(u8 *)p = (u8)value; break;
    case 2: *(u16 *)p = (u16)value; break;
    case 4: *(u32 *)p = (u32)value; break;
    default: *(u64 *)p = value; break;
    }
}

static u32 blob_size(const void *object, const struct state_field *field)
{
    return *(const u32 *)((const u8 *)object + field->count);
}

void state_save(struct state_buffer *out, const void *object, const struct state_field *fields)
{
    for (const struct state_field *f = fields; f->name; f++) {
        const u8 *at = (const u8 *)object + f->offset;
        u32 count = f->kind == STATE_BLOB ? blob_size(object, f) : f->count;
        size_t length = strlen(f->name);
        put_number(out, length, 1);
        put_bytes(out, f->name, length);
        put_number(out, f->kind, 1);
        put_number(out, f->kind == STATE_GROUP ? 0 : f->size, 2);
        put_number(out, count, 4);
        if (f->kind == STATE_BLOB) put_bytes(out, *(u8 *const *)at, count);
        for (u32 i = 0; f->kind != STATE_BLOB && i < count; i++, at += f->size) {
            if (f->kind == STATE_GROUP) state_save(out, at, f->fields);
            else put_number(out, load_element(at, f->size), f->size);
        }
    }
    put_number(out, 0, 1);
}

static bool get_bytes(struct state_buffer *in, void *to, size_t n, struct error *error)
{
    if (in->length - in->position < n) return error_set(error, "state ends too early");
    memcpy(to, in->bytes + in->position, n);
    in->position += n;
    return true;
}

static bool get_number(struct state_buffer *in, unsigned size, u64 *value, struct error *error)
{
    u8 bytes[8] = {0};
    if (!get_bytes(in, bytes, size, error)) return false;
    *value = ld64(bytes);
    return true;
}

static const struct state_field *find_field(const struct state_field *fields, const char *name)
{
    for (; fields->name; fields++)
        if (!strcmp(fields->name, name)) return fields;
    return NULL;
}

static bool load_fields(struct state_buffer *in, void *object, const struct state_field *fields,
                        unsigned depth, struct error *error);

static bool load_elements(struct state_buffer *in, void *object, const struct state_field *f,
                          unsigned depth, struct error *error)
{
    u8 *at = (u8 *)object + f->offset;
    if (f->kind == STATE_BLOB) return get_bytes(in, *(u8 **)at, blob_size(object, f), error);
    for (u32 i = 0; i < f->count; i++, at += f->size) {
        u64 value;
        if (f->kind == STATE_GROUP) {
            if (!load_fields(in, at, f->fields, depth + 1, error))
                return error_prefix(error, "%s[%u]", f->name, i);
        } else {
            if (!get_number(in, f->size, &value, error)) return false;
            store_element(at, value, f->size);
        }
    }
    return true;
}

static bool load_fields(struct state_buffer *in, void *object, const struct state_field *fields,
                        unsigned depth, struct error *error)
{
    if (depth > GROUP_DEPTH) return error_set(error, "groups too deep");
    for (;;) {
        char name[256];
        u64 length, kind, size, count;
        if (!get_number(in, 1, &length, error)) return false;
        if (!length) return true;
        if (!get_bytes(in, name, length, error)) return false;
        name[length] = 0;
        const struct state_field *f = find_field(fields, name);
        if (!f) return error_set(error, "unknown field '%s'", name);
        if (!get_number(in, 1, &kind, error) || !get_number(in, 2, &size, error) ||
            !get_number(in, 4, &count, error))
            return error_prefix(error, "%s", name);
        u32 expected = f->kind == STATE_BLOB ? blob_size(object, f) : f->count;
        if (kind != f->kind || size != (f->kind == STATE_GROUP ? 0 : f->size) || count != expected)
            return error_set(error, "field '%s' has another shape", name);
        if (!load_elements(in, object, f, depth, error)) return error_prefix(error, "%s", name);
    }
}

bool state_load(struct state_buffer *in, void *object, const struct state_field *fields,
                struct error *error)
{
    return load_fields(in, object, fields, 0, error);
}

void state_dump(void *out, const char *prefix, const void *object, const struct state_field *fields)
{
    for (const struct state_field *f = fields; f->name; f++) {
        const u8 *at = (const u8 *)object + f->offset;
        if (f->kind == STATE_BLOB) {
            fprintf(out, "%s%s=(%u bytes)\n", prefix, f->name, blob_size(object, f));
        } else if (f->kind == STATE_GROUP) {
            for (u32 i = 0; i < f->count; i++) {
                char inner[256];
                snprintf(inner, sizeof inner, "%s%s[%u].", prefix, f->name, i);
                state_dump(out, inner, at + (size_t)i * f->size, f->fields);
            }
        } else {
            fprintf(out, "%s%s=", prefix, f->name);
            for (u32 i = 0; i < f->count; i++)
                fprintf(out, "%s%" PRIx64, i ? " " : "",
                        load_element(at + (size_t)i * f->size, f->size));
            fputc('\n', out);
        }
    }
}

u64 state_number(const void *object, const struct state_field *fields, const char *name,
                 unsigned index)
{
    const struct state_field *f = find_field(fields, name);
    if (!f || f->kind != STATE_NUMBER || index >= f->count) return 0;
    return load_element((const u8 *)object + f->offset + (size_t)index * f->size, f->size);
}

void state_buffer_free(struct state_buffer *buffer)
{
    free(buffer->bytes);
    memset(buffer, 0, sizeof *buffer);
}
