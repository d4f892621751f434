/* See aml.h. */
#include "machine/aml.h"

#include <stdlib.h>

/* --- bytes ------------------------------------------------------------------------------------ */

static void reserve(struct aml *aml, size_t more)
{
    if (aml->length + more <= aml->capacity) return;
    aml->capacity = (aml->length + more) * 2 + 256;
    aml->bytes = realloc(aml->bytes, aml->capacity);
    if (!aml->bytes) abort();
}

void aml_free(struct aml *aml)
{
    free(aml->bytes);
    *aml = (struct aml){0};
}

void aml_bytes(struct aml *aml, const void *bytes, size_t length)
{
    reserve(aml, length);
    if (length) memcpy(aml->bytes + aml->length, bytes, length);
    aml->length += length;
}

void aml_byte(struct aml *aml, u8 value) { aml_bytes(aml, &value, 1); }

void aml_word(struct aml *aml, u16 value)
{
    u8 b[2];
    st16(b, value);
    aml_bytes(aml, b, sizeof b);
}

void aml_dword(struct aml *aml, u32 value)
{
    u8 b[4];
    st32(b, value);
    aml_bytes(aml, b, sizeof b);
}

void aml_qword(struct aml *aml, u64 value)
{
    u8 b[8];
    st64(b, value);
    aml_bytes(aml, b, sizeof b);
}

/* A package length counts itself: TOTAL is what follows it. Returns its size. */
static unsigned encode_length(u8 to[4], size_t total)
{
    if (total + 1 < 64) {
        to[0] = (u8)(total + 1);
        return 1;
    }
    unsigned size = total + 2 < 1u << 12 ? 2 : total + 3 < 1u << 20 ? 3 : 4;
    size_t value = total + size;
    to[0] = (u8)((size - 1) << 6 | (value & 15));
    for (unsigned i = 1; i < size; i++) to[i] = (u8)(value >> (8 * i - 4));
    return size;
}

void aml_end(struct aml *aml, size_t open)
{
    u8 length[4];
    unsigned size = encode_length(length, aml->length - open);
    reserve(aml, size);
    memmove(aml->bytes + open + size, aml->bytes + open, aml->length - open);
    memcpy(aml->bytes + open, length, size);
    aml->length += size;
}

/* --- names and data --------------------------------------------------------------------------- */

static void name_segment(struct aml *aml, const char *from, size_t length)
{
    for (size_t i = 0; i < 4; i++) aml_byte(aml, i < length ? (u8)from[i] : '_');
}

void aml_name(struct aml *aml, const char *name)
{
    unsigned segments = 1;
    while (*name == '\\' || *name == '^') aml_byte(aml, (u8)*name++);
    if (!*name) {
        aml_byte(aml, 0);
        return;
    }
    for (const char *p = name; *p; p++) segments += *p == '.';
    if (segments == 2) aml_byte(aml, 0x2e);
    if (segments > 2) {
        aml_byte(aml, 0x2f);
        aml_byte(aml, (u8)segments);
    }
    for (;;) {
        size_t length = strcspn(name, ".");
        name_segment(aml, name, length);
        if (!name[length]) return;
        name += length + 1;
    }
}

void aml_integer(struct aml *aml, u64 value)
{
    if (value <= 1) {
        aml_byte(aml, (u8)value);
    } else if (value <= 0xff) {
        aml_byte(aml, 0x0a);
        aml_byte(aml, (u8)value);
    } else if (value <= 0xffff) {
        aml_byte(aml, 0x0b);
        aml_word(aml, (u16)value);
    } else if (value <= 0xffffffff) {
        aml_byte(aml, 0x0c);
        aml_dword(aml, (u32)value);
    } else {
        aml_byte(aml, 0x0e);
        aml_qword(aml, value);
    }
}

void aml_string(struct aml *aml, const char *text)
{
    aml_byte(aml, 0x0d);
    aml_bytes(aml, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* Three compressed letters, four hexadecimal digits, most significant byte first. */
void aml_eisa_id(struct aml *aml, const char *id)
{
    u32 value = (u32)(id[0] & 31) << 26 | (u32)(id[1] & 31) << 21 | (u32)(id[2] & 31) << 16;
    for (unsigned i = 0; i < 4; i++) value |= hex_digit(id[3 + i]) << (12 - 4 * i);
    aml_byte(aml, 0x0c);
    aml_dword(aml, __builtin_bswap32(value));
}

void aml_buffer(struct aml *aml, const void *bytes, size_t length)
{
    aml_byte(aml, 0x11);
    size_t open = aml->length;
    aml_integer(aml, length);
    aml_bytes(aml, bytes, length);
    aml_end(aml, open);
}

/* --- declarations ----------------------------------------------------------------------------- */

void aml_declare(struct aml *aml, const char *name)
{
    aml_byte(aml, 0x08);
    aml_name(aml, name);
}

void aml_declare_integer(struct aml *aml, const char *name, u64 value)
{
    aml_declare(aml, name);
    aml_integer(aml, value);
}

void aml_declare_eisa_id(struct aml *aml, const char *name, const char *id)
{
    aml_declare(aml, name);
    aml_eisa_id(aml, id);
}

/* 5B-prefixed when EXTENDED. */
static size_t open_named(struct aml *aml, bool extended, u8 opcode, const char *name)
{
    if (extended) aml_byte(aml, 0x5b);
    aml_byte(aml, opcode);
    size_t open = aml->length;
    aml_name(aml, name);
    return open;
}

size_t aml_scope(struct aml *aml, const char *name) { return open_named(aml, false, 0x10, name); }
size_t aml_device(struct aml *aml, const char *name) { return open_named(aml, true, 0x82, name); }

size_t aml_method(struct aml *aml, const char *name, unsigned arguments, bool serialized)
{
    size_t open = open_named(aml, false, 0x14, name);
    aml_byte(aml, (u8)(arguments | (serialized ? 8 : 0)));
    return open;
}

size_t aml_package(struct aml *aml, u8 count)
{
    aml_byte(aml, 0x12);
    size_t open = aml->length;
    aml_byte(aml, count);
    return open;
}

size_t aml_if(struct aml *aml)
{
    aml_byte(aml, 0xa0);
    return aml->length;
}

void aml_operation_region(struct aml *aml, const char *name, u8 space, u32 offset, u32 length)
{
    aml_byte(aml, 0x5b);
    aml_byte(aml, 0x80);
    aml_name(aml, name);
    aml_byte(aml, space);
    aml_integer(aml, offset);
    aml_integer(aml, length);
}

size_t aml_field(struct aml *aml, const char *region, u8 flags)
{
    size_t open = open_named(aml, true, 0x81, region);
    aml_byte(aml, flags);
    return open;
}

void aml_field_unit(struct aml *aml, const char *name, unsigned bits)
{
    name_segment(aml, name, strlen(name));
    aml_byte(aml, (u8)bits); /* below 64: a package length of one byte that does not count itself */
}

void aml_processor(struct aml *aml, const char *name, u8 id)
{
    size_t open = open_named(aml, true, 0x83, name);
    aml_byte(aml, id);
    aml_dword(aml, 0);
    aml_byte(aml, 0);
    aml_end(aml, open);
}

/* --- resources -------------------------------------------------------------------------------- */

void aml_io(struct aml *r, u16 base, u8 alignment, u8 length)
{
    aml_byte(r, 0x47);
    aml_byte(r, 1);
    aml_word(r, base);
    aml_word(r, base);
    aml_byte(r, alignment);
    aml_byte(r, length);
}

void aml_irq(struct aml *r, unsigned irq)
{
    aml_byte(r, 0x22);
    aml_word(r, (u16)(1u << irq));
}

void aml_dma(struct aml *r, unsigned channel)
{
    aml_byte(r, 0x2a);
    aml_byte(r, (u8)(1u << channel));
    aml_byte(r, 0);
}

void aml_memory32_fixed(struct aml *r, bool writable, u32 base, u32 length)
{
    aml_byte(r, 0x86);
    aml_word(r, 9);
    aml_byte(r, writable);
    aml_dword(r, base);
    aml_dword(r, length);
}

void aml_interrupts(struct aml *r, bool level, bool shared, const u32 *numbers, u8 count)
{
    aml_byte(r, 0x89);
    aml_word(r, (u16)(2 + 4 * count));
    aml_byte(r, (u8)(1 | (level ? 0 : 2) | (shared ? 8 : 0))); /* consumer, active high */
    aml_byte(r, count);
    for (unsigned i = 0; i < count; i++) aml_dword(r, numbers[i]);
}

enum { WINDOW_MEMORY = 0, WINDOW_PORT = 1, WINDOW_BUS = 2,
       WINDOW_FLAGS = 0x0c /* both ends fixed, positive decode */ };

static void window_head(struct aml *r, u8 tag, u16 length, u8 kind, u8 specific)
{
    aml_byte(r, tag);
    aml_word(r, length);
    aml_byte(r, kind);
    aml_byte(r, WINDOW_FLAGS);
    aml_byte(r, specific);
}

static void word_window(struct aml *r, u8 kind, u8 specific, u16 first, u16 last)
{
    window_head(r, 0x88, 13, kind, specific);
    aml_word(r, 0);
    aml_word(r, first);
    aml_word(r, last);
    aml_word(r, 0);
    aml_word(r, (u16)(last - first + 1));
}

void aml_bus_numbers(struct aml *r, u16 first, u16 last)
{
    word_window(r, WINDOW_BUS, 0, first, last);
}

void aml_port_window(struct aml *r, u16 first, u16 last)
{
    word_window(r, WINDOW_PORT, 3, first, last); /* entire range */
}

void aml_memory32_window(struct aml *r, bool cacheable, u32 first, u32 last)
{
    window_head(r, 0x87, 23, WINDOW_MEMORY, cacheable ? 3 : 1);
    aml_dword(r, 0);
    aml_dword(r, first);
    aml_dword(r, last);
    aml_dword(r, 0);
    aml_dword(r, last - first + 1);
}

void aml_memory64_window(struct aml *r, bool cacheable, u64 first, u64 last)
{
    window_head(r, 0x8a, 43, WINDOW_MEMORY, cacheable ? 3 : 1);
    aml_qword(r, 0);
    aml_qword(r, first);
    aml_qword(r, last);
    aml_qword(r, 0);
    aml_qword(r, last - first + 1);
}

void aml_resources(struct aml *aml, struct aml *r)
{
    aml_byte(r, 0x79);
    aml_byte(r, 0); /* checksum not used */
    aml_buffer(aml, r->bytes, r->length);
    aml_free(r);
}
