/* Log channels: who listens and where it goes. */
#define _GNU_SOURCE /* strchrnul */
#include "machine/log.h"
#include "machine/error.h"

#include <stdarg.h>
#include <stdio.h>

const struct log_channel_name log_channels[LOG_CHANNELS] = {
#define LOG(id, name, help) {name, help},
#include "machine/log.def"
#undef LOG
};

bool log_parse(const char *items, u32 *mask, struct error *error)
{
    for (const char *p = items; *p;) {
        const char *end = strchrnul(p, ',');
        size_t n = (size_t)(end - p);
        unsigned i = 0;
        while (i < LOG_CHANNELS && (strncmp(log_channels[i].name, p, n) || log_channels[i].name[n])) i++;
        if (i == LOG_CHANNELS) return error_set(error, "%.*s: no such log channel (-d help)", (int)n, p);
        *mask |= 1u << i;
        p = *end ? end + 1 : end;
    }
    return true;
}

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
