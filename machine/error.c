/* One-line errors about what the user gave us. */
#include "machine/error.h"

#include <stdarg.h>
#include <stdio.h>

bool error_set(struct error *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return false;
}

bool error_prefix(struct error *error, const char *format, ...)
{
    char line[sizeof error->text], prefix[256];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    memcpy(line, error->text, sizeof line);
    int n = snprintf(error->text, sizeof error->text, "%s: ", prefix);
    snprintf(error->text + n, sizeof error->text - n, "%s", line);
    return false;
}
