/*
 * Log channels (`-d guest_errors,int -D file`). One `struct log` a machine; safe from any thread.
 * A guest mistake is logged here and answered as hardware would; it is never an assert.
 */
#ifndef MACHINE_LOG_H
#define MACHINE_LOG_H

#include "machine/types.h"

enum log_channel {
#define LOG(id, name, help) LOG_##id,
#include "machine/log.def"
#undef LOG
    LOG_CHANNELS
};
extern const struct log_channel_name { const char *name, *help; } log_channels[LOG_CHANNELS];

struct log_range { u64 first, last; };
#define LOG_RANGES 32

struct log {
    u32 mask;     /* one bit a channel */
    void *stream; /* FILE *; NULL is stderr */
    struct log_range ranges[LOG_RANGES]; /* -dfilter: code that in_asm, op, out_asm, exec, cpu are
                                            about */
    unsigned range_count;                /* 0: all */
};

/* What -d asks for: channels, and chips (by class or id, as the shell matches names) that are to
 * tell all. */
#define LOG_PATTERNS 16
struct log_items {
    u32 mask;
    char patterns[LOG_PATTERNS][32];
    unsigned pattern_count;
};
/* What a chip of a pattern tells of. */
#define LOG_OF_CHIP (1u << LOG_DEVICE | 1u << LOG_PORT | 1u << LOG_MMIO | 1u << LOG_GUEST_ERROR | \
                     1u << LOG_UNIMPLEMENTED | 1u << LOG_DISK)

struct error;
/* "int,guest_errors,trace:e1000*"; "none" clears. Names what is unknown. */
bool log_parse(const char *text, struct log_items *items, struct error *error);
/* "first..last,start+length,start-length", as -dfilter has it. */
bool log_parse_ranges(const char *text, struct log_range *ranges, unsigned *count,
                      struct error *error);

void log_write(struct log *log, enum log_channel channel, const char *format, ...) PRINTF(3, 4);

/* True when somebody listens; LOG may be NULL (then nobody does). */
static inline bool log_on(const struct log *log, enum log_channel channel)
{
    return log && (log->mask >> channel & 1);
}

static inline bool log_in_ranges(const struct log_range *ranges, unsigned count, u64 address)
{
    for (unsigned i = 0; i < count; i++)
        if (address >= ranges[i].first && address <= ranges[i].last) return true;
    return !count;
}

#define log_to(log, channel, ...)                                                                  \
    do {                                                                                           \
        if (unlikely(log_on(log, channel))) log_write(log, channel, __VA_ARGS__);                  \
    } while (0)

#endif
