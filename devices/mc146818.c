/*
 * MC146818A real-time clock with 128 bytes of CMOS RAM at 70h, and the chipset's extended bank of
 * 128 more at 72h.
 * Specification: Motorola MC146818A; 290562 (PIIX3) for the NMI mask and the extended bank; century
 * at 32h (also seen at 37h) as the ACPI tables say.
 *
 * The time registers are worked out from the wall clock when they are looked at; the guest's
 * setting is an offset to it. A second changes at the end of the update cycle, for whose length
 * (and the 244 us before it) UIP is set. Flags of interrupts that are not enabled are worked out
 * when C is read.
 *
 * Deviation: several periodic interrupts that come before C is read count as one, as on the part.
 * Not modelled: daylight saving (B.DSE), the square wave output, time bases other than 32 kHz.
 */
#include "devices/mc146818.h"

enum {
    RTC_SECONDS = 0,
    RTC_SECONDS_ALARM = 1,
    RTC_MINUTES = 2,
    RTC_MINUTES_ALARM = 3,
    RTC_HOURS = 4,
    RTC_HOURS_ALARM = 5,
    RTC_WEEKDAY = 6,
    RTC_DAY = 7,
    RTC_MONTH = 8,
    RTC_YEAR = 9,
    RTC_A = 10,
    RTC_B = 11,
    RTC_C = 12,
    RTC_D = 13,
    RTC_CENTURY = 0x32,
    RTC_CENTURY_PS2 = 0x37,
};

enum {
    A_UIP = 0x80,
    A_DIVIDER_RESET = 0x60,
    A_RATE = 0x0f,
    B_SET = 0x80,
    B_PIE = 0x40, /* ORDER: B's enables and C's flags are the same bits */
    B_AIE = 0x20,
    B_UIE = 0x10,
    B_SQWE = 0x08,
    B_BINARY = 0x04,
    B_24H = 0x02,
    C_IRQF = 0x80,
    C_FLAGS = 0x70,
    D_VRT = 0x80,
    INDEX_NMI_MASK = 0x80,
    HOUR_PM = 0x80,
    ALARM_ANY = 0xc0,
};

#define UPDATE_NS 2228000 /* UIP: 244 us of warning and 1984 us of update */
#define BASE_FREQUENCY 32768
#define SECONDS_A_DAY 86400
#define NEVER (~(u64)0)

#define MC146818_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                 \
    SCALAR(u8, index)         /* with the NMI mask */                                              \
    SCALAR(u8, extended_index)                                                                     \
    SCALAR(u8, flags)         /* register C */                                                     \
    SCALAR(u8, restart_half)  /* the divider was reset: the first second is half a second long */  \
    SCALAR(u8, weekday_shift) /* how far the guest's weekday is from the calendar's */             \
    SCALAR(i64, offset)       /* ns from the wall clock to the guest's */                          \
    SCALAR(u64, last_second)  /* guest second up to which flags have been worked out */            \
    SCALAR(u64, last_period)  /* the same in periods since the machine started */                  \
    ARRAY(u8, cmos, 128)      /* time registers are meaningful while the clock is halted */        \
    ARRAY(u8, extended, 128)

struct mc146818 {
    struct device dev;
    STATE_MEMBERS(MC146818_STATE)
    u32 iobase; /* property */
    struct region region;
    struct wire irq;   /* set by the board */
    struct timer next; /* not saved: mc146818_restored */
};

#define STATE_OWNER struct mc146818
STATE_TABLE(mc146818, MC146818_STATE)
#undef STATE_OWNER

static bool mc146818_running(const struct mc146818 *s)
{
    return !(s->cmos[RTC_B] & B_SET) && (s->cmos[RTC_A] & A_DIVIDER_RESET) != A_DIVIDER_RESET;
}

/* The guest's time in ns since 1970, as its clock counts it. */
static u64 mc146818_now(const struct mc146818 *s)
{
    return clock_wall(s->dev.clock) + (u64)s->offset;
}

static u8 mc146818_encode(const struct mc146818 *s, unsigned value)
{
    return s->cmos[RTC_B] & B_BINARY ? value : (value / 10 % 10) << 4 | value % 10;
}

static unsigned mc146818_decode(const struct mc146818 *s, u8 value)
{
    return s->cmos[RTC_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static u8 mc146818_encode_hour(const struct mc146818 *s, unsigned hour)
{
    if (s->cmos[RTC_B] & B_24H) return mc146818_encode(s, hour);
    return mc146818_encode(s, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned mc146818_decode_hour(const struct mc146818 *s, u8 value)
{
    if (s->cmos[RTC_B] & B_24H) return mc146818_decode(s, value);
    return mc146818_decode(s, value & ~HOUR_PM) % 12 + (value & HOUR_PM ? 12 : 0);
}

/* Days since 1970-01-01 of a Gregorian date. Years count from March, so that leap days end them. */
static i64 days_from_date(i64 year, unsigned month, unsigned day)
{
    if (month <= 2) year--;
    i64 era_years = year + 4800;
    unsigned from_march = (month + 9) % 12;
    i64 leap_days = era_years / 4 - era_years / 100 + era_years / 400;
    return era_years * 365 + leap_days + (153 * from_march + 2) / 5 + day - 1 - 2472632;
}

static void date_from_days(i64 days, unsigned *year, unsigned *month, unsigned *day)
{
    i64 guess = 1970 + days / 366;
    while (days_from_date(guess + 1, 1, 1) <= days) guess++;
    *year = guess;
    *month = 12;
    while (days_from_date(guess, *month, 1) > days) (*month)--;
    *day = days - days_from_date(guess, *month, 1) + 1;
}

/* Writes SECONDS since 1970 into the registers. */
static void mc146818_fill(struct mc146818 *s, u64 seconds)
{
    u64 days = seconds / SECONDS_A_DAY;
    unsigned in_day = seconds % SECONDS_A_DAY, year, month, day;
    date_from_days(days, &year, &month, &day);
    s->cmos[RTC_SECONDS] = mc146818_encode(s, in_day % 60);
    s->cmos[RTC_MINUTES] = mc146818_encode(s, in_day / 60 % 60);
    s->cmos[RTC_HOURS] = mc146818_encode_hour(s, in_day / 3600);
    s->cmos[RTC_WEEKDAY] = (days + 4 + s->weekday_shift) % 7 + 1;
    s->cmos[RTC_DAY] = mc146818_encode(s, day);
    s->cmos[RTC_MONTH] = mc146818_encode(s, month);
    s->cmos[RTC_YEAR] = mc146818_encode(s, year % 100);
    s->cmos[RTC_CENTURY] = mc146818_encode(s, year / 100);
}

/* Seconds since 1970 that the registers say, whatever the guest put there. */
static u64 mc146818_parse(struct mc146818 *s)
{
    unsigned century = mc146818_decode(s, s->cmos[RTC_CENTURY]);
    unsigned year = century * 100 + mc146818_decode(s, s->cmos[RTC_YEAR]);
    unsigned month = mc146818_decode(s, s->cmos[RTC_MONTH]);
    unsigned day = mc146818_decode(s, s->cmos[RTC_DAY]);
    unsigned hour = mc146818_decode_hour(s, s->cmos[RTC_HOURS]);
    unsigned weekday = s->cmos[RTC_WEEKDAY] & 7;
    if (year < 1970) year = year % 100 + (year % 100 < 70 ? 2000 : 1900);
    if (year > 2500) year = 2500; /* what a u64 of nanoseconds holds, with room */
    if (month < 1 || month > 12) month = 1;
    u64 days = days_from_date(year, month, day ? day : 1);
    s->weekday_shift = weekday ? (weekday - 1 + 7 - (days + 4) % 7) % 7 : 0;
    return days * SECONDS_A_DAY + hour * 3600ull + mc146818_decode(s, s->cmos[RTC_MINUTES]) * 60 +
           mc146818_decode(s, s->cmos[RTC_SECONDS]);
}

/* The first second after AFTER at which the alarm goes off. */
static u64 mc146818_next_alarm(const struct mc146818 *s, u64 after)
{
    const u8 *cmos = s->cmos;
    bool any_hour = cmos[RTC_HOURS_ALARM] >= ALARM_ANY;
    bool any_minute = cmos[RTC_MINUTES_ALARM] >= ALARM_ANY;
    bool any_second = cmos[RTC_SECONDS_ALARM] >= ALARM_ANY;
    unsigned hour = any_hour ? 0 : mc146818_decode_hour(s, cmos[RTC_HOURS_ALARM]);
    unsigned minute = any_minute ? 0 : mc146818_decode(s, cmos[RTC_MINUTES_ALARM]);
    unsigned second = any_second ? 0 : mc146818_decode(s, cmos[RTC_SECONDS_ALARM]);
    if (hour > 23 || minute > 59 || second > 59) return NEVER;
    u64 at = after + 1;
    /* Every step goes to the next hour, minute or second: 24 + 60 + 60 of them, twice at most. */
    for (unsigned step = 0; step < 300; step++) {
        unsigned in_day = at % SECONDS_A_DAY;
        if (!any_hour && in_day / 3600 != hour) {
            at += 3600 - in_day % 3600;
        } else if (!any_minute && in_day / 60 % 60 != minute) {
            at += 60 - in_day % 60;
        } else if (!any_second && in_day % 60 != second) {
            at++;
        } else {
            return at;
        }
    }
    return NEVER;
}

/* Length of the periodic interrupt in ticks of the time base, 0 when it's off. */
static u32 mc146818_period(const struct mc146818 *s)
{
    unsigned rate = s->cmos[RTC_A] & A_RATE;
    if (!rate || (s->cmos[RTC_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET) return 0;
    if (rate <= 2) rate += 7; /* datasheet, table 5: 256 and 128 Hz with a 32 kHz base */
    return 1u << (rate - 1);
}

static u64 mc146818_periods(const struct mc146818 *s, u32 period)
{
    return ns_to_ticks(clock_now(s->dev.clock), BASE_FREQUENCY) / period;
}

/* Works out what has happened since the last time. */
static void mc146818_catch_up(struct mc146818 *s)
{
    u32 period = mc146818_period(s);
    if (period) {
        u64 periods = mc146818_periods(s, period);
        if (periods != s->last_period) s->flags |= B_PIE;
        s->last_period = periods;
    }
    if (!mc146818_running(s)) return;
    u64 second = mc146818_now(s) / NS_PER_SECOND;
    if (second > s->last_second) {
        s->flags |= B_UIE;
        if (mc146818_next_alarm(s, s->last_second) <= second) s->flags |= B_AIE;
    }
    s->last_second = second;
}

static void mc146818_schedule(struct mc146818 *s)
{
    u8 wanted = s->cmos[RTC_B] & C_FLAGS & ~s->flags;
    u64 now = clock_now(s->dev.clock), deadline = NEVER;
    u32 period = mc146818_period(s);
    if ((wanted & B_PIE) && period) {
        deadline = ticks_to_ns((s->last_period + 1) * period, BASE_FREQUENCY) + 1;
    }
    if ((wanted & (B_UIE | B_AIE)) && mc146818_running(s)) {
        u64 at = s->last_second + 1;
        if (!(wanted & B_UIE)) at = mc146818_next_alarm(s, s->last_second);
        u64 guest_now = mc146818_now(s);
        if (at != NEVER && at * NS_PER_SECOND > guest_now) {
            u64 wait = at * NS_PER_SECOND - guest_now;
            if (wait < 1000) wait = 1000;
            if (now + wait < deadline) deadline = now + wait;
        }
    }
    if (deadline == NEVER) {
        timer_cancel(&s->next);
    } else {
        timer_set(&s->next, deadline);
    }
}

static void mc146818_update(struct mc146818 *s)
{
    mc146818_catch_up(s);
    s->flags &= C_FLAGS;
    if (s->flags & s->cmos[RTC_B]) s->flags |= C_IRQF;
    if (s->flags & s->cmos[RTC_B] & B_AIE) device_wake(&s->dev, WAKE_RTC);
    wire_set(&s->irq, s->flags & C_IRQF);
    mc146818_schedule(s);
}

static void mc146818_fire(void *opaque)
{
    mc146818_update(opaque);
}

/* Sets the guest's clock to what the registers say, FRACTION ns into that second. */
static void mc146818_set_time(struct mc146818 *s, u64 fraction)
{
    u64 seconds = mc146818_parse(s);
    s->offset = (i64)(seconds * NS_PER_SECOND + fraction - clock_wall(s->dev.clock));
    s->last_second = seconds;
}

/* Writes to A and B may stop and start the clock. */
static void mc146818_write_control(struct mc146818 *s, unsigned index, u8 value)
{
    mc146818_catch_up(s);
    bool was_running = mc146818_running(s);
    u64 now = mc146818_now(s);
    u32 old_period = mc146818_period(s);
    if (was_running) mc146818_fill(s, now / NS_PER_SECOND);
    if (index == RTC_A) {
        s->cmos[RTC_A] = value & ~A_UIP;
        if ((value & A_DIVIDER_RESET) == A_DIVIDER_RESET) s->restart_half = 1;
    } else {
        if (value & B_SET) value &= ~B_UIE;
        s->cmos[RTC_B] = value;
    }
    if (!was_running && mc146818_running(s)) {
        mc146818_set_time(s, s->restart_half ? NS_PER_SECOND / 2 : now % NS_PER_SECOND);
        s->restart_half = 0;
    }
    u32 period = mc146818_period(s);
    if (period && period != old_period) s->last_period = mc146818_periods(s, period);
    mc146818_update(s);
}

static void mc146818_write_time(struct mc146818 *s, unsigned index, u8 value)
{
    if (!mc146818_running(s)) {
        s->cmos[index] = value;
        return;
    }
    mc146818_catch_up(s);
    u64 now = mc146818_now(s);
    mc146818_fill(s, now / NS_PER_SECOND);
    s->cmos[index] = value;
    mc146818_set_time(s, now % NS_PER_SECOND);
    mc146818_update(s);
}

static void mc146818_write_register(struct mc146818 *s, unsigned index, u8 value)
{
    switch (index) {
    case RTC_SECONDS_ALARM:
    case RTC_MINUTES_ALARM:
    case RTC_HOURS_ALARM:
        mc146818_catch_up(s);
        s->cmos[index] = value;
        mc146818_update(s);
        break;
    case RTC_A:
    case RTC_B: mc146818_write_control(s, index, value); break;
    case RTC_C:
    case RTC_D: break; /* read only */
    case RTC_CENTURY_PS2: mc146818_write_time(s, RTC_CENTURY, value); break;
    case RTC_SECONDS:
    case RTC_MINUTES:
    case RTC_HOURS:
    case RTC_WEEKDAY:
    case RTC_DAY:
    case RTC_MONTH:
    case RTC_YEAR:
    case RTC_CENTURY: mc146818_write_time(s, index, value); break;
    default: s->cmos[index] = value; break;
    }
}

static u8 mc146818_read_register(struct mc146818 *s, unsigned index)
{
    bool running = mc146818_running(s);
    u8 value;
    switch (index) {
    case RTC_SECONDS:
    case RTC_MINUTES:
    case RTC_HOURS:
    case RTC_WEEKDAY:
    case RTC_DAY:
    case RTC_MONTH:
    case RTC_YEAR:
    case RTC_CENTURY:
    case RTC_CENTURY_PS2:
        if (running) mc146818_fill(s, mc146818_now(s) / NS_PER_SECOND);
        return s->cmos[index == RTC_CENTURY_PS2 ? RTC_CENTURY : index];
    case RTC_A:
        value = s->cmos[RTC_A] & ~A_UIP;
        if (running && mc146818_now(s) % NS_PER_SECOND >= NS_PER_SECOND - UPDATE_NS) {
            value |= A_UIP;
        }
        return value;
    case RTC_C:
        mc146818_catch_up(s);
        value = s->flags & C_FLAGS;
        if (value & s->cmos[RTC_B]) value |= C_IRQF;
        s->flags = 0;
        mc146818_update(s);
        return value;
    case RTC_D: return D_VRT;
    default: return s->cmos[index];
    }
}

static u64 mc146818_read(struct device *device, u64 offset, unsigned size)
{
    struct mc146818 *s = container_of(device, struct mc146818, dev);
    (void)size;
    switch (offset) {
    case 1: return mc146818_read_register(s, s->index & 0x7f);
    case 2: return s->extended_index;
    case 3: return s->extended[s->extended_index & 0x7f];
    default: return 0xff; /* the index is write-only */
    }
}

static void mc146818_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct mc146818 *s = container_of(device, struct mc146818, dev);
    (void)size;
    switch (offset) {
    case 0: s->index = value; break;
    case 1: mc146818_write_register(s, s->index & 0x7f, value); break;
    case 2: s->extended_index = value & 0x7f; break;
    case 3: s->extended[s->extended_index & 0x7f] = value; break;
    }
}

void mc146818_connect_irq(struct device *rtc, struct wire irq)
{
    container_of(rtc, struct mc146818, dev)->irq = irq;
}

void mc146818_set_cmos(struct device *rtc, u8 index, u8 value)
{
    struct mc146818 *s = container_of(rtc, struct mc146818, dev);
    if (index < 128) {
        s->cmos[index] = value;
    } else {
        s->extended[index - 128] = value;
    }
}

u8 mc146818_get_cmos(struct device *rtc, u8 index)
{
    struct mc146818 *s = container_of(rtc, struct mc146818, dev);
    return index < 128 ? s->cmos[index] : s->extended[index - 128];
}

bool mc146818_nmi_masked(struct device *rtc)
{
    return container_of(rtc, struct mc146818, dev)->index & INDEX_NMI_MASK;
}

static const struct region_ops mc146818_ops = {"mc146818", mc146818_read, mc146818_write, 1, 1};

static bool mc146818_init(struct device *device, struct error *error)
{
    struct mc146818 *s = container_of(device, struct mc146818, dev);
    (void)error;
    s->cmos[RTC_A] = 0x26;
    s->cmos[RTC_B] = B_24H;
    timer_init(&s->next, device->clock, mc146818_fire, s);
    region_init(&s->region, device, &mc146818_ops, 4);
    bus_map(device->bus, BUS_PORT, &s->region, s->iobase, LAYER_DEVICE);
    return true;
}

/* The battery keeps time and CMOS: the reset pin clears enables and flags only. */
static void mc146818_reset(struct device *device)
{
    struct mc146818 *s = container_of(device, struct mc146818, dev);
    u32 period = mc146818_period(s);
    s->cmos[RTC_B] &= ~(B_PIE | B_AIE | B_UIE | B_SQWE);
    s->index = s->extended_index = 0;
    s->last_second = mc146818_now(s) / NS_PER_SECOND;
    if (period) s->last_period = mc146818_periods(s, period);
    s->flags = 0;
    mc146818_update(s);
}

static void mc146818_restored(struct device *device)
{
    struct mc146818 *s = container_of(device, struct mc146818, dev);
    u32 period = mc146818_period(s);
    u64 second = mc146818_now(s) / NS_PER_SECOND;
    s->weekday_shift %= 7;
    s->extended_index &= 0x7f;
    /* The wall clock went on while the machine was in the file; the guest hears of it once. */
    if (s->last_second > second) s->last_second = second;
    if (period && s->last_period > mc146818_periods(s, period)) {
        s->last_period = mc146818_periods(s, period);
    }
    mc146818_update(s);
}

static void mc146818_release(struct device *device)
{
    timer_cancel(&container_of(device, struct mc146818, dev)->next);
}

static const struct property mc146818_properties[] = {
    {"iobase", PROPERTY_U32, offsetof(struct mc146818, iobase), "0x70", "first of four ports"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class mc146818_class = {
    .name = "mc146818rtc",
    .title = "MC146818A real-time clock and CMOS",
    .version = 1,
    .size = sizeof(struct mc146818),
    .fields = mc146818_fields,
    .properties = mc146818_properties,
    .init = mc146818_init,
    .reset = mc146818_reset,
    .restored = mc146818_restored,
    .release = mc146818_release,
};
