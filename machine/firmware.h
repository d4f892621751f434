/* Firmware images: where they are and what is in them. */
#ifndef MACHINE_FIRMWARE_H
#define MACHINE_FIRMWARE_H

#include "machine/error.h"
#include "machine/types.h"

struct options;

/* NAME as it is when it names a readable file with a slash in it, else looked for in -L, the
 * folders configure was told, and our own roms/. Writes the path; false with a line. */
bool firmware_find(const struct options *options, const char *name, char *path, size_t size,
                   struct error *error);

/* The whole file, malloc'ed. MOST: refuse more bytes than that. What is a word for messages. */
u8 *file_load(const char *path, u64 most, u64 *size, const char *what, struct error *error);

#endif
