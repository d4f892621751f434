/* One-line errors about what the user gave us. */
#define _GNU_SOURCE /* vasprintf */
#include "machine/error.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* One line, whatever names are in it; of a line that is too long the middle goes. */
static void put(struct error *error, const char *text)
{
    size_t length = strlen(text), half = sizeof error->text / 2 - 2;
    if (length < sizeof error->text) memcpy(error->text, text, length + 1);
    else
        snprintf(error->text, sizeof error->text, "%.*s…%s", (int)half, text, text + length - half);
    for (char *p = error->text; *p; p++)
        if (iscntrl((unsigned char)*p)) *p = '?';
}

bool error_set(struct error *error, const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) abort();
    va_end(args);
    put(error, text);
    free(text);
    return false;
}

bool error_prefix(struct error *error, const char *format, ...)
{
    char *prefix, *text;
    va_list args;
    va_start(args, format);
    if (vasprintf(&prefix, format, args) < 0 || asprintf(&text, "%s: %s", prefix, error->text) < 0)
        abort();
    va_end(args);
    put(error, text);
    free(prefix);
    free(text);
    return false;
}
