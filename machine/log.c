/* Log channels: who listens and where it goes. */
#include "machine/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_write(struct log *log, enum log_channel channel, const char *format, ...)
{
    if (!log_on(log, channel)) return;
    FILE *stream = log->stream ? log->stream : stderr;
    va_list args;
    va_start(args, format);
    flockfile(stream);
    vfprintf(stream, format, args);
    size_t length = strlen(format);
    if (!length || format[length - 1] != '\n') fputc('\n', stream);
    funlockfile(stream);
    va_end(args);
}
