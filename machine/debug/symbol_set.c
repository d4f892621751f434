/*
 * Names for addresses. Specification: ELF 1.2 (both classes, little-endian), System.map as Linux's
 * nm writes it.
 *
 * Not modelled: debugging information, local labels, relocatable files.
 */
#include "machine/debug/symbol_set.h"

#include "machine/error.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MOST GIB(2)
#define NAME_MOST 256

struct symbol {
    u64 address, size; /* size 0: to the next one */
    const char *name;
};

struct symbol_file {
    struct symbol_file *next;
    char *bytes;       /* names lie in here */
    size_t length;
    u64 base;
    struct symbol *list;
    size_t count, capacity;
};

struct symbol_set {
    struct symbol_file *files;
};

struct symbol_set *symbol_set_new(void)
{
    struct symbol_set *s = calloc(1, sizeof *s);
    if (!s) abort();
    return s;
}

void symbol_set_free(struct symbol_set *s)
{
    for (struct symbol_file *f = s->files, *next; f; f = next) {
        next = f->next;
        free(f->bytes);
        free(f->list);
        free(f);
    }
    free(s);
}

static bool add(struct symbol_file *f, u64 address, u64 size, const char *name)
{
    if (f->count == f->capacity) {
        size_t capacity = f->capacity ? f->capacity * 2 : 1024;
        struct symbol *list = realloc(f->list, capacity * sizeof *list);
        if (!list) return false;
        f->list = list;
        f->capacity = capacity;
    }
    f->list[f->count++] = (struct symbol){address, size, name};
    return true;
}

/* --- System.map --- */

/* "ffffffff81000000 T startup_64": the line is cut into a zero-ended name in place. */
static bool read_map(struct symbol_file *f)
{
    char *end = f->bytes + f->length;
    for (char *line = f->bytes, *next; line < end; line = next) {
        char *newline = memchr(line, '\n', (size_t)(end - line)), *after;
        next = newline ? newline + 1 : end;
        if (!newline) newline = end; /* there is a byte behind the end */
        *newline = 0;
        u64 address = strtoull(line, &after, 16);
        if (after == line || after[0] != ' ' || !after[1] || after[2] != ' ' || !after[3]) continue;
        if (!strchr("tTwW", after[1])) continue;
        if (!add(f, address, 0, after + 3)) return false;
    }
    return true;
}

/* --- ELF --- */

struct section { u64 type, link, offset, size; };

static bool inside(const struct symbol_file *f, u64 offset, u64 size)
{
    return offset <= f->length && size <= f->length - offset;
}

static u64 word(const struct symbol_file *f, bool wide, u64 offset)
{
    return wide ? ld64(f->bytes + offset) : ld32(f->bytes + offset);
}

static bool get_section(const struct symbol_file *f, bool wide, u64 n, struct section *s)
{
    u64 table = word(f, wide, wide ? 0x28 : 0x20), size = ld16(f->bytes + (wide ? 0x3a : 0x2e)),
        count = ld16(f->bytes + (wide ? 0x3c : 0x30));
    if (n >= count || size < (wide ? 64 : 40) || !inside(f, table, count * size)) return false;
    u64 at = table + n * size;
    s->type = ld32(f->bytes + at + 4);
    s->offset = word(f, wide, at + (wide ? 0x18 : 0x10));
    s->size = word(f, wide, at + (wide ? 0x20 : 0x14));
    s->link = ld32(f->bytes + at + (wide ? 0x28 : 0x18));
    return true;
}

static bool read_table(struct symbol_file *f, bool wide, const struct section *table)
{
    struct section names;
    unsigned size = wide ? 24 : 16;
    if (!get_section(f, wide, table->link, &names) || !inside(f, table->offset, table->size) ||
        !inside(f, names.offset, names.size))
        return true;
    for (u64 at = table->offset; at + size <= table->offset + table->size; at += size) {
        u32 name = ld32(f->bytes + at);
        u8 info = (u8)f->bytes[at + (wide ? 4 : 12)];
        u64 value = word(f, wide, at + (wide ? 8 : 4)),
            length = word(f, wide, at + (wide ? 16 : 8));
        unsigned type = info & 15;
        /* functions, and assembly's labels */
        if ((type != 2 && type != 0 && type != 10) || !value || name >= names.size) continue;
        const char *text = f->bytes + names.offset + name;
        if (!*text || !memchr(text, 0, (size_t)(names.size - name))) continue;
        if (!add(f, value, length, text)) return false;
    }
    return true;
}

static bool read_elf(struct symbol_file *f, const char *path, struct error *error)
{
    bool wide = f->length >= 64 && f->bytes[4] == 2;
    struct section s;
    if (f->length < 64 || f->bytes[5] != 1)
        return error_set(error, "%s: not a little-endian ELF file", path);
    /* .symtab, else .dynsym */
    for (unsigned wanted = 2; wanted && !f->count; wanted = wanted == 2 ? 11 : 0)
        for (u64 n = 0; get_section(f, wide, n, &s); n++)
            if (s.type == wanted && !read_table(f, wide, &s))
                return error_set(error, "%s: no memory", path);
    return true;
}

/* --- loading and looking up --- */

static int by_address(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    return x->address < y->address ? -1 : x->address > y->address;
}

static bool read_file(struct symbol_file *f, const char *path, struct error *error)
{
    FILE *file = fopen(path, "rb");
    if (!file) return error_set(error, "%s: %s", path, strerror(errno));
    long length = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
    rewind(file);
    bool good = length >= 0 && (u64)length <= FILE_MOST && (f->bytes = malloc((size_t)length + 1));
    if (good) {
        f->length = fread(f->bytes, 1, (size_t)length, file);
        f->bytes[f->length] = 0;
    }
    fclose(file);
    return good || error_set(error, "%s: cannot be read", path);
}

bool symbol_set_load(struct symbol_set *s, const char *spec, struct error *error)
{
    char path[4096];
    const char *at = strrchr(spec, '@');
    char *end;
    struct symbol_file *f = calloc(1, sizeof *f);
    if (!f) abort();
    f->next = s->files;
    s->files = f;
    if (at) {
        f->base = strtoull(at + 1, &end, 0);
        if (end == at + 1 || *end)
            return error_set(error, "%s: an address is expected behind '@'", spec);
    }
    snprintf(path, sizeof path, "%.*s", at ? (int)(at - spec) : (int)strlen(spec), spec);
    if (!read_file(f, path, error)) return false;
    bool is_elf = f->length > 4 && !memcmp(f->bytes, "\x7f" "ELF", 4);
    if (is_elf && !read_elf(f, path, error)) return false;
    if (!is_elf && !read_map(f)) return error_set(error, "%s: no memory", path);
    if (!f->count)
        return error_set(error, "%s: no symbols (ELF file or System.map expected)", path);
    qsort(f->list, f->count, sizeof *f->list, by_address);
    return true;
}

void symbol_set_place(struct symbol_set *s, const char *name, u64 address)
{
    for (struct symbol_file *f = s->files; f; f = f->next)
        for (size_t i = 0; i < f->count; i++)
            if (!strcmp(f->list[i].name, name)) {
                f->base = address - f->list[i].address;
                break;
            }
}

static const char *find_in(const struct symbol_file *f, u64 address)
{
    size_t low = 0, high = f->count;
    address -= f->base;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (f->list[middle].address <= address) low = middle + 1;
        else high = middle;
    }
    if (!low) return NULL;
    const struct symbol *symbol = &f->list[low - 1];
    if (low == f->count && !symbol->size) return NULL; /* where the last one ends is not known */
    if (symbol->size && address - symbol->address >= symbol->size) return NULL;
    return address - symbol->address < MIB(1) ? symbol->name : NULL;
}

const char *symbol_set_find(struct symbol_set *s, u64 address)
{
    for (const struct symbol_file *f = s->files; f; f = f->next) {
        const char *name = find_in(f, address);
        if (name) return name;
    }
    return NULL;
}
