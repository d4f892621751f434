/*
 * 8254 programmable interval timer.
 * Specification: Intel 231164.
 *
 * Nothing counts: a channel remembers the absolute tick at which its counting element was loaded,
 * and everything visible (count, OUT, the next edge) is worked out from that: periods never drift.
 *
 * Deviations: OUT0's wire is low only as a pulse at its rising edge, except in modes 0 and 1, which
 * halves the events and is enough for interrupt inputs. Edges of channel 0 that are less than 10 us
 * apart, or that the host came too late for, are merged into one. A new count in mode 3 is taken at
 * the end of the whole period, not of the half. OUT2 is kind to processors the host slows down:
 * i8254_look.
 */
#include "devices/i8254.h"

#define CHANNELS 3
#define MIN_EDGE_TICKS 12
#define AWAY_TICKS 600 /* half a millisecond: nobody polls so slowly */

enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

enum {
    STATUS_OUT = 0x80,
    STATUS_NULL = 0x40,
    READ_BACK_NO_COUNT = 0x20,
    READ_BACK_NO_STATUS = 0x10,
};

#define I8254_CHANNEL_STATE(SCALAR, ARRAY, GROUP, BLOB)                                            \
    SCALAR(u8, mode)                                                                               \
    SCALAR(u8, bcd)                                                                                \
    SCALAR(u8, access)                                                                             \
    SCALAR(u8, gate)                                                                               \
    SCALAR(u8, written)        /* a count has been written since the control word */               \
    SCALAR(u8, running)        /* start is valid: loaded, and triggered where that's needed */     \
    SCALAR(u8, frozen)         /* the gate holds the count at `held` */                            \
    SCALAR(u8, null_count)     /* a count waits for its trigger */                                 \
    SCALAR(u8, reload_pending) /* `next` replaces `count` at tick `reload_at` */                   \
    SCALAR(u8, write_low)                                                                          \
    SCALAR(u8, write_second)                                                                       \
    SCALAR(u8, read_second)                                                                        \
    SCALAR(u8, count_latched)                                                                      \
    SCALAR(u8, status_latched)                                                                     \
    SCALAR(u8, status)                                                                             \
    SCALAR(u16, latch)                                                                             \
    SCALAR(u32, count)                                                                             \
    SCALAR(u32, next)                                                                              \
    SCALAR(u64, start)                                                                             \
    SCALAR(u64, held)                                                                              \
    SCALAR(u64, reload_at)

struct i8254_channel {
    STATE_MEMBERS(I8254_CHANNEL_STATE)
};

#define STATE_OWNER struct i8254_channel
STATE_TABLE(i8254_channel, I8254_CHANNEL_STATE)
#undef STATE_OWNER

#define I8254_STATE(SCALAR, ARRAY, GROUP, BLOB) GROUP(i8254_channel, channel, CHANNELS)

struct i8254 {
    struct device dev;
    STATE_MEMBERS(I8254_STATE)
    u32 iobase; /* property */
    struct region region;
    struct wire out0;  /* set by the board */
    struct timer edge; /* not saved: i8254_restored */
    u64 looked;        /* not saved: when OUT2 was read last */
    bool looked_high;  /* not saved: and what was seen */
};

#define STATE_OWNER struct i8254
STATE_TABLE(i8254, I8254_STATE)
#undef STATE_OWNER

static u64 i8254_now(const struct i8254 *s)
{
    return ns_to_ticks(clock_now(s->dev.clock), I8254_FREQUENCY);
}

static u32 bcd_to_binary(u16 value)
{
    return (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 + (value >> 12) * 1000;
}

static u16 binary_to_bcd(u32 value)
{
    return value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 % 10 << 12;
}

static bool i8254_is_periodic(const struct i8254_channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

static bool i8254_is_triggered(const struct i8254_channel *c)
{
    return c->mode == 1 || c->mode == 5;
}

/* Ticks the counting element has counted since it was loaded. */
static u64 i8254_elapsed(const struct i8254_channel *c, u64 now)
{
    if (c->frozen) return c->held;
    return now > c->start ? now - c->start : 0;
}

static void i8254_settle(struct i8254_channel *c, u64 now)
{
    if (!c->reload_pending || c->frozen || now < c->reload_at) return;
    c->count = c->next;
    c->start = c->reload_at;
    c->reload_pending = 0;
}

static u16 i8254_count(struct i8254_channel *c, u64 now)
{
    i8254_settle(c, now);
    u64 elapsed = c->running ? i8254_elapsed(c, now) : 0;
    u32 modulus = c->bcd ? 10000 : 0x10000, value, rest;
    switch (c->mode) {
    case 2:
        value = c->count - elapsed % c->count;
        break;
    case 3: /* counts by two, twice a period */
        rest = elapsed % c->count;
        if (rest >= (c->count + 1) / 2) rest -= (c->count + 1) / 2;
        value = (c->count & ~1u) - 2 * rest;
        break;
    default:
        value = c->count + modulus - elapsed % modulus;
        break;
    }
    value %= modulus;
    return c->bcd ? binary_to_bcd(value) : value;
}

static bool i8254_output(struct i8254_channel *c, u64 now)
{
    i8254_settle(c, now);
    if (!c->running) return c->mode != 0;
    u64 elapsed = i8254_elapsed(c, now);
    switch (c->mode) {
    case 0:
    case 1: return elapsed >= c->count;
    case 2: return c->frozen || c->count == 1 || elapsed % c->count != c->count - 1;
    case 3: return c->frozen || elapsed % c->count < (c->count + 1) / 2;
    default: return elapsed != c->count;
    }
}

/*
 * OUT2 as port 61h shows it. Guests find the frequency of their time stamp counter by polling for
 * the end of a mode 0 count, and keep the least of a few results. A processor that the host had put
 * aside would miss part of the count and come out far too low. So one that first looks late gets
 * its whole count, and one that comes back after the end is shown the low level once more: the
 * errors are on the side that is thrown away. (Telling the frequency instead does not help: guests
 * ask CPUID for it only on Intel's processors, or under a hypervisor whose name they know.)
 */
static bool i8254_look(struct i8254 *s, struct i8254_channel *c, u64 now)
{
    bool out = i8254_output(c, now);
    if (c->mode == 0 && c->running && !c->frozen) {
        bool first = s->looked + 1 < c->start;
        bool away = now > (first ? c->start : s->looked) + AWAY_TICKS;
        if (away && first && !out) c->start = now;
        if (away && !first && !s->looked_high) out = false;
    }
    s->looked = now;
    s->looked_high = out;
    return out;
}

/* The tick of the next rising edge after NOW; false when there is none to come. */
static bool i8254_next_edge(struct i8254_channel *c, u64 now, u64 *edge)
{
    i8254_settle(c, now);
    if (!c->running || c->frozen) return false;
    u64 elapsed = i8254_elapsed(c, now);
    if (!i8254_is_periodic(c)) {
        u32 at = c->mode >= 4 ? c->count + 1 : c->count;
        *edge = c->start + at;
        return elapsed < at;
    }
    if (c->reload_pending) {
        *edge = c->reload_at;
        return true;
    }
    u64 least = c->count < MIN_EDGE_TICKS ? elapsed + MIN_EDGE_TICKS : elapsed;
    *edge = c->start + (least / c->count + 1) * c->count;
    return true;
}

static void i8254_schedule(struct i8254 *s, u64 now)
{
    u64 edge;
    if (i8254_next_edge(&s->channel[0], now, &edge)) {
        timer_set(&s->edge, ticks_to_ns(edge, I8254_FREQUENCY) + 1);
    } else {
        timer_cancel(&s->edge);
    }
}

/* OUT0 after anything but an edge. */
static void i8254_drive(struct i8254 *s, u64 now)
{
    struct i8254_channel *c = &s->channel[0];
    wire_set(&s->out0, c->mode > 1 || i8254_output(c, now));
}

static void i8254_fire(void *opaque)
{
    struct i8254 *s = opaque;
    u64 now = i8254_now(s);
    wire_set(&s->out0, false);
    i8254_drive(s, now);
    i8254_schedule(s, now);
}

static void i8254_load(struct i8254_channel *c, u16 value, u64 now)
{
    u32 count = c->bcd ? bcd_to_binary(value) : value;
    if (!count) count = c->bcd ? 10000 : 0x10000;
    if (i8254_is_triggered(c)) {
        c->next = count;
        c->null_count = 1;
        if (!c->written) c->count = count;
    } else if (i8254_is_periodic(c) && c->running && !c->frozen) {
        i8254_settle(c, now);
        u64 elapsed = i8254_elapsed(c, now);
        c->next = count;
        c->reload_at = c->start + (elapsed / c->count + 1) * c->count;
        c->reload_pending = 1;
    } else {
        c->count = c->next = count;
        c->start = now + 1;
        c->held = 0;
        c->running = 1;
        c->frozen = !c->gate;
        c->reload_pending = 0;
    }
    c->written = 1;
}

static void i8254_write_count(struct i8254_channel *c, u8 value, u64 now)
{
    switch (c->access) {
    case ACCESS_LOW: i8254_load(c, value, now); break;
    case ACCESS_HIGH: i8254_load(c, value << 8, now); break;
    default:
        if (!c->write_second) {
            c->write_low = value;
            if (c->mode == 0) c->running = 0; /* the first byte stops the count and drops OUT */
        } else {
            i8254_load(c, value << 8 | c->write_low, now);
        }
        c->write_second ^= 1;
        break;
    }
}

static void i8254_latch_count(struct i8254_channel *c, u64 now)
{
    if (c->count_latched) return;
    c->latch = i8254_count(c, now);
    c->count_latched = c->access;
}

static void i8254_latch_status(struct i8254_channel *c, u64 now)
{
    if (c->status_latched) return;
    c->status = c->access << 4 | c->mode << 1 | c->bcd;
    if (i8254_output(c, now)) c->status |= STATUS_OUT;
    if (!c->written || c->null_count || c->reload_pending || (!c->frozen && now < c->start)) {
        c->status |= STATUS_NULL;
    }
    c->status_latched = 1;
}

static void i8254_write_control(struct i8254 *s, u8 value, u64 now)
{
    unsigned index = value >> 6;
    if (index == CHANNELS) {
        for (unsigned i = 0; i < CHANNELS; i++) {
            if (!(value >> (i + 1) & 1)) continue;
            if (!(value & READ_BACK_NO_COUNT)) i8254_latch_count(&s->channel[i], now);
            if (!(value & READ_BACK_NO_STATUS)) i8254_latch_status(&s->channel[i], now);
        }
        return;
    }
    struct i8254_channel *c = &s->channel[index];
    if ((value >> 4 & 3) == ACCESS_LATCH) {
        i8254_latch_count(c, now);
        return;
    }
    u8 mode = value >> 1 & 7;
    c->mode = mode > 5 ? mode - 4 : mode;
    c->bcd = value & 1;
    c->access = value >> 4 & 3;
    c->written = c->running = c->frozen = 0;
    c->null_count = c->reload_pending = 0;
    c->write_second = c->read_second = 0;
    c->count_latched = c->status_latched = 0;
}

static void i8254_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct i8254 *s = container_of(device, struct i8254, dev);
    u64 now = i8254_now(s);
    (void)size;
    if (offset == CHANNELS) {
        i8254_write_control(s, value, now);
    } else {
        i8254_write_count(&s->channel[offset], value, now);
    }
    i8254_drive(s, now);
    i8254_schedule(s, now);
}

static u64 i8254_read(struct device *device, u64 offset, unsigned size)
{
    struct i8254 *s = container_of(device, struct i8254, dev);
    (void)size;
    if (offset == CHANNELS) return 0xff; /* the control word can't be read */
    struct i8254_channel *c = &s->channel[offset];
    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    u16 value = c->count_latched ? c->latch : i8254_count(c, i8254_now(s));
    if (c->access != ACCESS_BOTH) {
        c->count_latched = 0;
        return c->access == ACCESS_HIGH ? value >> 8 : value & 0xff;
    }
    c->read_second ^= 1;
    if (c->read_second) return value & 0xff;
    c->count_latched = 0;
    return value >> 8;
}

void i8254_connect_out0(struct device *pit, struct wire out)
{
    container_of(pit, struct i8254, dev)->out0 = out;
}

void i8254_set_gate(struct device *pit, unsigned channel, bool level)
{
    struct i8254 *s = container_of(pit, struct i8254, dev);
    if (channel >= CHANNELS || s->channel[channel].gate == level) return;
    struct i8254_channel *c = &s->channel[channel];
    u64 now = i8254_now(s);
    i8254_settle(c, now);
    c->gate = level;
    if (!level) {
        if (c->running && !i8254_is_triggered(c)) {
            c->held = i8254_elapsed(c, now);
            c->frozen = 1;
        }
    } else if (i8254_is_triggered(c)) {
        if (c->written) {
            if (c->null_count) c->count = c->next;
            c->null_count = 0;
            c->start = now + 1;
            c->running = 1;
        }
    } else if (c->frozen) {
        if (i8254_is_periodic(c)) {
            c->count = c->next;
            c->reload_pending = 0;
            c->held = 0;
            c->start = now + 1;
        } else {
            c->start = now - c->held;
        }
        c->frozen = 0;
    }
    if (channel == 0) {
        i8254_drive(s, now);
        i8254_schedule(s, now);
    }
}

bool i8254_out(struct device *pit, unsigned channel)
{
    struct i8254 *s = container_of(pit, struct i8254, dev);
    if (channel == 2) return i8254_look(s, &s->channel[channel], i8254_now(s));
    return channel < CHANNELS && i8254_output(&s->channel[channel], i8254_now(s));
}

static const struct region_ops i8254_ops = {"i8254", i8254_read, i8254_write, 1, 1};

static bool i8254_init(struct device *device, struct error *error)
{
    struct i8254 *s = container_of(device, struct i8254, dev);
    (void)error;
    timer_init(&s->edge, device->clock, i8254_fire, s);
    region_init(&s->region, device, &i8254_ops, 4);
    bus_map(device->bus, BUS_PORT, &s->region, s->iobase, LAYER_DEVICE);
    return true;
}

static void i8254_reset(struct device *device)
{
    struct i8254 *s = container_of(device, struct i8254, dev);
    memset(s->channel, 0, sizeof s->channel);
    for (unsigned i = 0; i < CHANNELS; i++) {
        s->channel[i].mode = 3;
        s->channel[i].access = ACCESS_BOTH;
        s->channel[i].count = s->channel[i].next = 0x10000;
        s->channel[i].gate = i != 2;
    }
    timer_cancel(&s->edge);
    wire_set(&s->out0, true);
}

static void i8254_restored(struct device *device)
{
    struct i8254 *s = container_of(device, struct i8254, dev);
    u64 now = i8254_now(s), latest = now + 0x20000;
    s->looked = now;
    for (unsigned i = 0; i < CHANNELS; i++) {
        struct i8254_channel *c = &s->channel[i];
        if (c->start > latest) c->start = now;
        if (c->reload_at > latest) c->reload_at = now;
        if (c->held > now) c->held = now;
        if (c->mode > 5) c->mode = 3;
        if (!(c->access &= 3)) c->access = ACCESS_BOTH;
        if (!c->count || c->count > 0x10000) c->count = 0x10000;
        if (!c->next || c->next > 0x10000) c->next = 0x10000;
        c->bcd &= 1, c->gate &= 1, c->write_second &= 1, c->read_second &= 1;
    }
    i8254_drive(s, now);
    i8254_schedule(s, now);
}

static void i8254_release(struct device *device)
{
    timer_cancel(&container_of(device, struct i8254, dev)->edge);
}

static const struct property i8254_properties[] = {
    {"iobase", PROPERTY_U32, offsetof(struct i8254, iobase), "0x40", "first port"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class i8254_class = {
    .name = "i8254",
    .title = "8254 interval timer",
    .version = 1,
    .size = sizeof(struct i8254),
    .fields = i8254_fields,
    .properties = i8254_properties,
    .init = i8254_init,
    .reset = i8254_reset,
    .restored = i8254_restored,
    .release = i8254_release,
};
