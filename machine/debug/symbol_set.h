/*
 * Names for guest addresses, from System.map files and ELF files of the host. Files are read once,
 * by their first bytes told apart, and not trusted.
 */
#ifndef MACHINE_DEBUG_SYMBOL_SET_H
#define MACHINE_DEBUG_SYMBOL_SET_H

#include "machine/types.h"

struct error;
struct symbol_set;

struct symbol_set *symbol_set_new(void);
void symbol_set_free(struct symbol_set *symbols);
/* FILE or FILE@BASE: loaded BASE above what it says. */
bool symbol_set_load(struct symbol_set *symbols, const char *spec, struct error *error);
/* The kernel says where a symbol of its really is: all of that file moves by as much (KASLR). */
void symbol_set_place(struct symbol_set *symbols, const char *name, u64 address);
/* The function ADDRESS is in, or NULL. */
const char *symbol_set_find(struct symbol_set *symbols, u64 address);

#endif
