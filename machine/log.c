/* Log channels: who listens and where it goes. */
#define _GNU_SOURCE /* strchrnul */
#include "machine/log.h"
#include "machine/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const struct log_channel_name log_channels[LOG_CHANNELS] = {
#define LOG(id, name, help) {name, help},
#include "machine/log.def"
#undef LOG
};

static bool parse_pattern(const char *text, size_t n, struct log_items *items, struct error *error)
{
    if (items->pattern_count == LOG_PATTERNS)
        return error_set(error, "at most %d patterns", LOG_PATTERNS);
    if (!n || n >= sizeof items->patterns[0])
        return error_set(error, "trace:%.*s: 1 to 31 characters", (int)n, text);
    memcpy(items->patterns[items->pattern_count], text, n);
    items->patterns[items->pattern_count++][n] = 0;
    return true;
}

bool log_parse(const char *text, struct log_items *items, struct error *error)
{
    for (const char *p = text; *p;) {
        const char *end = strchrnul(p, ',');
        size_t n = (size_t)(end - p);
        unsigned i = 0;
        while (i < LOG_CHANNELS && (strncmp(log_channels[i].name, p, n) || log_channels[i].name[n]))
            i++;
        if (!strncmp(p, "trace:", 6)) {
            if (!parse_pattern(p + 6, n - 6, items, error)) return false;
        } else if (n == 4 && !strncmp(p, "none", 4)) {
            *items = (struct log_items){0};
        } else if (i == LOG_CHANNELS) {
            return error_set(error, "%.*s: no such log channel (-d help)", (int)n, p);
        } else {
            items->mask |= 1u << i;
        }
        p = *end ? end + 1 : end;
    }
    return true;
}

static bool parse_range(const char *text, struct log_range *range)
{
    char *end;
    u64 start = strtoull(text, &end, 0), other;
    if (end == text) return false;
    bool span = end[0] == '.' && end[1] == '.', plus = *end == '+', minus = *end == '-';
    if (!span && !plus && !minus) return false;
    const char *at = end + 1 + span;
    other = strtoull(at, &end, 0);
    if (end == at || (*end && *end != ',') || (!span && !other)) return false;
    *range = span ? (struct log_range){start, other} :
             plus ? (struct log_range){start, start + other - 1} :
             (struct log_range){start - (other - 1), start};
    return range->first <= range->last;
}

bool log_parse_ranges(const char *text, struct log_range *ranges, unsigned *count,
                      struct error *error)
{
    for (const char *p = text; *p;) {
        const char *end = strchrnul(p, ',');
        if (*count == LOG_RANGES) return error_set(error, "at most %d ranges", LOG_RANGES);
        if (!parse_range(p, &ranges[*count]))
            return error_set(error, "%.*s: FIRST..LAST, START+LENGTH or START-LENGTH expected",
                             (int)(end - p), p);
        ++*count;
        p = *end ? end + 1 : end;
    }
    return *count || error_set(error, "an address range is expected");
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
