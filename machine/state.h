/*
 * Declared state: one list makes a chip's fields, the save format, the monitor's dump and the diff.
 *
 *     #define MC146818_STATE(SCALAR, ARRAY, GROUP, BLOB)  \
 *         SCALAR(u8, index)                               \
 *         ARRAY(u8, cmos, 128)
 *
 *     struct mc146818 {
 *         struct device dev;
 *         STATE_MEMBERS(MC146818_STATE)
 *         struct timer second;             // not saved: rebuilt by mc146818_restored
 *     };
 *     STATE_TABLE(mc146818, MC146818_STATE)     // struct name; defines mc146818_fields[]
 *
 * SCALAR(type, name)         one u8/u16/u32/u64/i8..i64 (no bool, enum, pointer, host time)
 * ARRAY(type, name, count)   a fixed array of the same
 * GROUP(name_, member, count) count copies of `struct name_`, itself made with
 * STATE_MEMBERS/STATE_TABLE BLOB(member, size_member) `u8 *member`, allocated by init, of `u32
 * size_member` bytes
 *
 * In a file a field is {name, element size, count, little-endian elements}: order does not matter,
 * a field the file lacks keeps its reset value, a field the chip lacks is refused by name.
 */
#ifndef MACHINE_STATE_H
#define MACHINE_STATE_H

#include "machine/types.h"

struct error;

enum state_kind { STATE_NUMBER, STATE_GROUP, STATE_BLOB };

struct state_field {
    const char *name;
    u32 offset;                       /* in the struct */
    u32 count;                        /* elements; for a blob the offset of its u32 size */
    u16 size;                         /* of an element: 1, 2, 4, 8, or of the group's struct */
    u8 kind;                          /* enum state_kind */
    const struct state_field *fields; /* of a group; a table ends with name NULL */
};

#define STATE_M_SCALAR(type, name) type name;
#define STATE_M_ARRAY(type, name, count) type name[count];
#define STATE_M_GROUP(group, name, count) struct group name[count];
#define STATE_M_BLOB(name, size_member) u8 *name; u32 size_member;
#define STATE_MEMBERS(LIST) LIST(STATE_M_SCALAR, STATE_M_ARRAY, STATE_M_GROUP, STATE_M_BLOB)

#define STATE_F_SCALAR(type, name)                                                                 \
    {#name, offsetof(STATE_OWNER, name), 1, sizeof(type), STATE_NUMBER, NULL},
#define STATE_F_ARRAY(type, name, count)                                                           \
    {#name, offsetof(STATE_OWNER, name), count, sizeof(type), STATE_NUMBER, NULL},
#define STATE_F_GROUP(group, name, count)                                                          \
    {#name, offsetof(STATE_OWNER, name), count, sizeof(struct group), STATE_GROUP, group##_fields},
#define STATE_F_BLOB(name, size_member)                                                            \
    {#name, offsetof(STATE_OWNER, name), offsetof(STATE_OWNER, size_member), 1, STATE_BLOB, NULL},

/*
 * STATE_OWNER must be a macro that names the struct where the table is made:
 *     #define STATE_OWNER struct mc146818
 *     STATE_TABLE(mc146818, MC146818_STATE)
 *     #undef STATE_OWNER
 */
#define STATE_TABLE(owner, LIST)                                                                   \
    static const struct state_field owner##_fields[] = {                                           \
        LIST(STATE_F_SCALAR, STATE_F_ARRAY, STATE_F_GROUP, STATE_F_BLOB){NULL, 0, 0, 0, 0, NULL}};

/* A growing byte buffer that a save fills and a load reads. */
struct state_buffer {
    u8 *bytes;
    size_t length, capacity, position;
};

/* Appends OBJECT's fields. Any thread, machine stopped. */
void state_save(struct state_buffer *out, const void *object, const struct state_field *fields);

/* Reads them back over a freshly reset object. The file is hostile; says what and where. */
bool state_load(struct state_buffer *in, void *object, const struct state_field *fields,
                struct error *error);

/* Prints "name=value" lines into OUT (a FILE *), each behind PREFIX. */
void state_dump(void *out, const char *prefix, const void *object,
                const struct state_field *fields);

/* Element INDEX of the number NAME, for who shows a chip; 0 when there is none. */
u64 state_number(const void *object, const struct state_field *fields, const char *name,
                 unsigned index);

void state_buffer_free(struct state_buffer *buffer);

#endif
