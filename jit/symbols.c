/*
 * Names of guest code from a file of `address type name` lines: System.map, /proc/kallsyms, nm's output.
 * Lines that are something else, data symbols among them, are passed over.
 */
#include "jit/jit_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SYMBOLS_MAX 4000000u
#define REACH MIB(1) /* code further behind a symbol isn't its */

struct symbol { u64 address; char *name; };

struct symbols {
    struct symbol *list;
    size_t count, capacity;
};

static int by_address(const void *a, const void *b)
{
    u64 x = ((const struct symbol *)a)->address, y = ((const struct symbol *)b)->address;
    return x < y ? -1 : x > y;
}

static bool add(struct symbols *s, u64 address, const char *name)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 1024;
        struct symbol *list = realloc(s->list, capacity * sizeof(*list));
        if (!list) return false;
        s->list = list;
        s->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy) return false;
    s->list[s->count++] = (struct symbol){address, copy};
    return true;
}

struct symbols *symbols_load(const char *path, struct error *error)
{
    FILE *file = fopen(path, "r");
    if (!file) return error_set(error, "symbols=%s: cannot be read", path), NULL;
    struct symbols *s = calloc(1, sizeof(*s));
    char line[512], name[256], type;
    u64 address;
    bool ok = s != NULL;
    while (ok && s->count < SYMBOLS_MAX && fgets(line, sizeof line, file))
        if (sscanf(line, "%" SCNx64 " %c %255s", &address, &type, name) == 3 && strchr("tTwWiV", type))
            ok = add(s, address, name);
    fclose(file);
    if (ok && s->count) {
        qsort(s->list, s->count, sizeof(*s->list), by_address);
        return s;
    }
    symbols_free(s);
    return error_set(error, "symbols=%s: %s", path, ok ? "no lines of the form 'address type name'" : "no memory"), NULL;
}

void symbols_free(struct symbols *symbols)
{
    if (!symbols) return;
    for (size_t i = 0; i < symbols->count; i++) free(symbols->list[i].name);
    free(symbols->list);
    free(symbols);
}

void symbols_name(const struct symbols *symbols, u64 address, char *name, size_t size)
{
    size_t low = 0, high = symbols ? symbols->count : 0;
    while (low < high) { /* the last one not behind it */
        size_t middle = low + (high - low) / 2;
        if (symbols->list[middle].address <= address) low = middle + 1;
        else high = middle;
    }
    const struct symbol *found = low ? &symbols->list[low - 1] : NULL;
    if (found && address - found->address < REACH)
        snprintf(name, size, "%s+0x%" PRIx64, found->name, address - found->address);
    else
        snprintf(name, size, "0x%" PRIx64, address);
}
