/*
 * What went wrong in something the user gave us, as one line naming what and where.
 * Functions that can fail so take a `struct error *` last and return false (or NULL).
 */
#ifndef MACHINE_ERROR_H
#define MACHINE_ERROR_H

#include "machine/types.h"

struct error {
    char text[512];
};

/* Writes the line (no newline) and returns false, so callers can `return error_set(...)`. */
bool error_set(struct error *error, const char *format, ...) PRINTF(2, 3);

/* Puts "PREFIX: " before a line that is already there; returns false. */
bool error_prefix(struct error *error, const char *format, ...) PRINTF(2, 3);

#endif
