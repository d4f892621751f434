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

struct log {
    u32 mask;     /* one bit a channel */
    void *stream; /* FILE *; NULL is stderr */
};

struct error;

/* "int,guest_errors" to bits; names what is unknown. */
bool log_parse(const char *items, u32 *mask, struct error *error);
void log_write(struct log *log, enum log_channel channel, const char *format, ...) PRINTF(3, 4);

/* True when somebody listens; LOG may be NULL (then nobody does). */
static inline bool log_on(const struct log *log, enum log_channel channel)
{
    return log && (log->mask >> channel & 1);
}

#define log_to(log, channel, ...)                                                                  \
    do {                                                                                           \
        if (unlikely(log_on(log, channel))) log_write(log, channel, __VA_ARGS__);                  \
    } while (0)

#endif
