/*
 * High Precision Event Timers: one block of three comparators, 100 MHz, 64 bits.
 * Specification: IA-PC HPET 1.0a.
 * Not modelled: FSB (MSI) delivery. A comparator set a little into the past fires at once instead
 * of after the counter has wrapped, since a guest that runs slowly would otherwise lose its tick.
 */
#include "devices/hpet.h"

#define TIMERS 3
#define NS_PER_TICK 10
#define PERIOD_LEAST 2000 /* ticks, 20 us: what is shorter coalesces, or would starve us */
#define HPET_SIZE 1024
#define ROUTES 0x00ff0104u /* pins 2, 8, 16-23 */
#define LATE_WINDOW (1ull << 31)
#define OWED_RETRY (250000 / NS_PER_TICK)

enum { REG_CAPABILITIES = 0x00, REG_CONFIG = 0x10, REG_STATUS = 0x20, REG_COUNTER = 0xf0,
       REG_TIMER0 = 0x100, TIMER_STRIDE = 0x20, TIMER_CONFIG = 0x00, TIMER_COMPARE = 0x08 };
enum { CONFIG_ENABLE = 1, CONFIG_LEGACY = 2 };
enum { T_LEVEL = 1 << 1, T_ENABLE = 1 << 2, T_PERIODIC = 1 << 3, T_SET = 1 << 6, T_32BIT = 1 << 8,
       T_ROUTE = 0x3e00, T_WRITABLE = T_LEVEL | T_ENABLE | T_PERIODIC | T_SET | T_32BIT | T_ROUTE };
#define T_CAPABILITIES (1u << 4 | 1u << 5) /* periodic, 64-bit */
#define CAPABILITIES                                                                               \
    (0x8086a001ull | (TIMERS - 1) << 8 | (u64)(NS_PER_TICK * 1000000u) << 32)

#define HPET_TIMER_STATE(SCALAR, ARRAY, GROUP, BLOB)                                               \
    SCALAR(u64, config)                                                                            \
    SCALAR(u64, compare)                                                                           \
    SCALAR(u64, period)                                                                            \
    SCALAR(u8, done) /* one-shot: has fired since the comparator was set */

struct hpet_timer {
    STATE_MEMBERS(HPET_TIMER_STATE)
    struct hpet *hpet;
    struct timer timer; /* not saved: hpet_arm */
    u32 owed;           /* not saved: ticks on irq0 that nobody could have seen */
    unsigned index;
};

#define STATE_OWNER struct hpet_timer
STATE_TABLE(hpet_timer, HPET_TIMER_STATE)
#undef STATE_OWNER

#define HPET_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                     \
    SCALAR(u64, config)                                                                            \
    SCALAR(u64, status)                                                                            \
    SCALAR(u64, counter) /* at the time `started`; the value itself while disabled */              \
    SCALAR(u64, started)                                                                           \
    GROUP(hpet_timer, timers, TIMERS)

struct hpet {
    struct device dev;
    STATE_MEMBERS(HPET_STATE)
    struct region region;
    struct hpet_wires wires;
    u32 driven; /* not saved: pins and legacy lines held high (bits 24, 25) */
};

#define STATE_OWNER struct hpet
STATE_TABLE(hpet, HPET_STATE)
#undef STATE_OWNER

void hpet_set_wires(struct device *device, const struct hpet_wires *wires)
{
    ((struct hpet *)device)->wires = *wires;
}

/* --- counter and deadlines -------------------------------------------------------------------- */

static u64 hpet_counter(const struct hpet *s)
{
    if (!(s->config & CONFIG_ENABLE)) return s->counter;
    return s->counter + (clock_now(s->dev.clock) - s->started) / NS_PER_TICK;
}

static u64 timer_mask(const struct hpet_timer *t)
{
    return t->config & T_32BIT ? UINT32_MAX : UINT64_MAX;
}

/* Ticks until the comparator matches, 0 for now or just missed. */
static u64 ticks_left(const struct hpet_timer *t, u64 counter)
{
    u64 mask = timer_mask(t), ahead = (t->compare - counter) & mask;
    u64 behind = (counter - t->compare) & mask;
    return behind < LATE_WINDOW && behind < ahead ? 0 : ahead;
}

static void hpet_arm(struct hpet_timer *t)
{
    struct hpet *s = t->hpet;
    u64 left = ticks_left(t, hpet_counter(s));
    bool idle = !(s->config & CONFIG_ENABLE) || !(t->config & T_ENABLE) ||
                (!(t->config & T_PERIODIC) && t->done) || left > UINT64_MAX / 2 / NS_PER_TICK;
    if (idle) {
        timer_cancel(&t->timer);
        return;
    }
    if ((t->config & T_PERIODIC) && t->done && t->period < PERIOD_LEAST && left < PERIOD_LEAST)
        left = PERIOD_LEAST;
    if (t->owed && left > OWED_RETRY) left = OWED_RETRY;
    timer_set(&t->timer, clock_now(s->dev.clock) + left * NS_PER_TICK);
}

static void hpet_arm_all(struct hpet *s)
{
    for (unsigned i = 0; i < TIMERS; i++) hpet_arm(&s->timers[i]);
}

/* --- outputs ---------------------------------------------------------------------------------- */

/* The line a timer drives: 0-23 an I/O APIC pin, 24 and 25 the legacy pair, -1 none. */
static int timer_line(const struct hpet_timer *t)
{
    if ((t->hpet->config & CONFIG_LEGACY) && t->index < 2) return 24 + (int)t->index;
    unsigned route = t->config >> 9 & 31;
    return route < 24 && (ROUTES >> route & 1) ? (int)route : -1;
}

static void drive_line(struct hpet *s, int line, bool level)
{
    if (line < 0) return;
    wire_set(line == 24   ? &s->wires.irq0
             : line == 25 ? &s->wires.irq8
                          : &s->wires.pin[line],
             level);
}

/* One exit: level-triggered lines from the status register, and the legacy switch. */
static void hpet_update(struct hpet *s)
{
    u32 now = 0;
    for (unsigned i = 0; i < TIMERS; i++) {
        const struct hpet_timer *t = &s->timers[i];
        int line = timer_line(t);
        if (line >= 0 && (s->status >> i & 1) && (t->config & T_ENABLE) && (t->config & T_LEVEL))
            now |= 1u << line;
    }
    u32 changed = now ^ s->driven;
    s->driven = now;
    for (int line = 0; line < 26; line++)
        if (changed >> line & 1) drive_line(s, line, now >> line & 1);
    wire_set(&s->wires.legacy, (s->config & CONFIG_LEGACY) && (s->config & CONFIG_ENABLE));
}

/*
 * Ticks of IRQ 0 that come while the last one still waits, or that the host slept over, are given
 * later one by one: guests that count ticks keep time on a busy host. Bounded: what a second holds.
 * True when there is to be an edge now; DUE of them are.
 */
static bool hpet_owes(struct hpet_timer *t, u64 due)
{
    const struct hpet_wires *w = &t->hpet->wires;
    u64 most = NS_PER_SECOND / NS_PER_TICK / t->period, owed = t->owed + due;
    bool now = owed && !w->irq0_waits(w->irq0_opaque);
    if (owed > most) owed = now ? 1 : 0; /* hopeless: nobody listens */
    t->owed = (u32)(now ? owed - 1 : owed);
    return now;
}

static void hpet_fire(void *opaque)
{
    struct hpet_timer *t = opaque;
    struct hpet *s = t->hpet;
    int line = timer_line(t);
    u64 counter = hpet_counter(s), mask = timer_mask(t);
    bool edge = true;
    if ((t->config & T_PERIODIC) && t->period) {
        u64 behind = (counter - t->compare) & mask, due = behind / t->period + 1;
        /* 0: for what is owed */
        if (behind > mask / 2) behind = 0, due = t->done && t->owed ? 0 : 1;
        t->compare = (t->compare + due * t->period) & mask;
        if (line == 24 && !(t->config & T_LEVEL) && s->wires.irq0_waits) edge = hpet_owes(t, due);
        else t->owed = 0;
    }
    t->done = 1;
    if (t->config & T_LEVEL)
        s->status |= 1u << t->index;
    else if (edge && line >= 0 && !(s->driven >> line & 1)) {
        drive_line(s, line, true);
        drive_line(s, line, false);
    }
    hpet_update(s);
    if (!(t->config & T_PERIODIC) || t->period) hpet_arm(t);
}

/* --- registers -------------------------------------------------------------------------------- */

static u64 timer_read(const struct hpet_timer *t, unsigned reg)
{
    switch (reg) {
    case TIMER_CONFIG: return t->config | T_CAPABILITIES | (u64)ROUTES << 32;
    case TIMER_COMPARE: return t->compare & timer_mask(t);
    default: return 0;
    }
}

static u64 hpet_read(struct device *device, u64 offset, unsigned size)
{
    struct hpet *s = (struct hpet *)device;
    unsigned reg = (unsigned)offset & ~7u, shift = (offset & 7) * 8;
    u64 value = 0;
    (void)size;
    switch (reg) {
    case REG_CAPABILITIES: value = CAPABILITIES | 1u << 13 | 1u << 15; break;
    case REG_CONFIG: value = s->config; break;
    case REG_STATUS: value = s->status; break;
    case REG_COUNTER: value = hpet_counter(s); break;
    default:
        if (reg >= REG_TIMER0 && reg < REG_TIMER0 + TIMERS * TIMER_STRIDE)
            value = timer_read(&s->timers[(reg - REG_TIMER0) / TIMER_STRIDE],
                               (reg - REG_TIMER0) % TIMER_STRIDE);
        break;
    }
    return value >> shift;
}

static void timer_write(struct hpet_timer *t, unsigned reg, u64 value, u64 mask)
{
    switch (reg) {
    case TIMER_CONFIG:
        t->config = ((t->config & ~mask) | (value & mask)) & T_WRITABLE;
        if (t->config & T_32BIT) {
            t->compare = (u32)t->compare;
            t->period = (u32)t->period;
        }
        break;
    case TIMER_COMPARE:
        /* Periodic: every write sets the period, the one after T_SET the accumulator too. */
        if (!(t->config & T_PERIODIC) || (t->config & T_SET))
            t->compare = ((t->compare & ~mask) | (value & mask)) & timer_mask(t);
        if (t->config & T_PERIODIC)
            t->period = ((t->period & ~mask) | (value & mask)) & timer_mask(t);
        t->config &= ~(u64)T_SET;
        t->done = 0;
        t->owed = 0;
        break;
    }
}

static void hpet_write_config(struct hpet *s, u64 config)
{
    bool was = s->config & CONFIG_ENABLE, is = config & CONFIG_ENABLE;
    if (was && !is) s->counter = hpet_counter(s);
    if (!was && is) s->started = clock_now(s->dev.clock);
    s->config = config & (CONFIG_ENABLE | CONFIG_LEGACY);
}

static void hpet_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct hpet *s = (struct hpet *)device;
    unsigned reg = (unsigned)offset & ~7u, shift = (offset & 7) * 8;
    u64 mask = size_mask(size) << shift;
    value <<= shift;
    switch (reg) {
    case REG_CONFIG: hpet_write_config(s, (s->config & ~mask) | (value & mask)); break;
    case REG_STATUS: s->status &= ~(value & mask); break;
    case REG_COUNTER:
        if (s->config & CONFIG_ENABLE) guest_error(device, "hpet: counter set while it runs");
        s->counter = (hpet_counter(s) & ~mask) | (value & mask);
        s->started = clock_now(device->clock);
        for (unsigned i = 0; i < TIMERS; i++) s->timers[i].done = 0;
        break;
    default:
        if (reg >= REG_TIMER0 && reg < REG_TIMER0 + TIMERS * TIMER_STRIDE)
            timer_write(&s->timers[(reg - REG_TIMER0) / TIMER_STRIDE],
                        (reg - REG_TIMER0) % TIMER_STRIDE, value, mask);
        break;
    }
    hpet_arm_all(s);
    hpet_update(s);
}

static const struct region_ops hpet_ops = {
    .name = "hpet", .read = hpet_read, .write = hpet_write, .min_size = 4, .max_size = 8};

/* --- verbs ------------------------------------------------------------------------------------ */

static bool hpet_init(struct device *device, struct error *error)
{
    struct hpet *s = (struct hpet *)device;
    (void)error;
    for (unsigned i = 0; i < TIMERS; i++) {
        s->timers[i].hpet = s;
        s->timers[i].index = i;
        timer_init(&s->timers[i].timer, device->clock, hpet_fire, &s->timers[i]);
    }
    region_init(&s->region, device, &hpet_ops, HPET_SIZE);
    bus_map(device->bus, BUS_MEMORY, &s->region, HPET_BASE, LAYER_DEVICE);
    return true;
}

static void hpet_reset(struct device *device)
{
    struct hpet *s = (struct hpet *)device;
    s->config = s->status = s->counter = s->started = 0;
    for (unsigned i = 0; i < TIMERS; i++) {
        struct hpet_timer *t = &s->timers[i];
        t->config = t->period = 0;
        t->compare = UINT64_MAX;
        t->done = 0;
        t->owed = 0;
    }
    hpet_arm_all(s);
    hpet_update(s);
}

static void hpet_restored(struct device *device)
{
    struct hpet *s = (struct hpet *)device;
    s->driven = 0;
    hpet_arm_all(s);
    hpet_update(s);
}

static void hpet_release(struct device *device)
{
    for (unsigned i = 0; i < TIMERS; i++) timer_cancel(&((struct hpet *)device)->timers[i].timer);
}

const struct device_class hpet_class = {
    .name = "hpet",
    .title = "high precision event timers",
    .version = 1,
    .size = sizeof(struct hpet),
    .fields = hpet_fields,
    .init = hpet_init,
    .reset = hpet_reset,
    .restored = hpet_restored,
    .release = hpet_release,
};
