/*
 * Local APIC of a processor (xAPIC and x2APIC), and the bus that joins them.
 * Specification: Intel SDM volume 3, chapter 11 (APIC).
 * Not modelled: the APIC bus's arbitration (lowest priority goes to the lowest task priority, then
 * the lowest number), focus processor, LVT delivery status, more than 255 processors.
 * Deviation: the bootstrap processor's LINT0 comes out of reset as ExtINT unmasked, and passes the
 * 8259 on even while the APIC is disabled by software: on a real board firmware sets that up first
 * thing.
 */
#include <stdlib.h>

#include "devices/apic_bus.h"

#define APIC_MAX 256
#define EOI_LISTENERS 4
#define BUS_FREQUENCY 1000000000ull
#define PERIOD_LEAST 20000ull /* ns: shorter ticks coalesce, or they would starve the machine */

enum { REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0a,
       REG_EOI = 0x0b, REG_RRD = 0x0c, REG_LDR = 0x0d, REG_DFR = 0x0e, REG_SVR = 0x0f,
       REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28, REG_CMCI = 0x2f,
       REG_ICR = 0x30, REG_ICR2 = 0x31, REG_LVT = 0x32, REG_INITIAL = 0x38, REG_CURRENT = 0x39,
       REG_DIVIDE = 0x3e, REG_SELF = 0x3f };
/* ORDER LVT: as the registers at 320h-370h lie, CMCI (2F0h) behind them. */
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_CMCI, LVT_COUNT };
enum { LVT_MASKED = 1 << 16, LVT_LEVEL = 1 << 15, LVT_REMOTE_IRR = 1 << 14 };
enum { TIMER_PERIODIC = 1, TIMER_DEADLINE = 2 };
enum { SVR_ENABLE = 1 << 8, SVR_NO_EOI_BROADCAST = 1 << 12 };
enum { ESR_SEND_ILLEGAL = 1 << 5, ESR_RECEIVE_ILLEGAL = 1 << 6, ESR_REGISTER = 1 << 7 };
enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0, MSR_X2APIC = 0x800 };
enum { BASE_BSP = 1 << 8, BASE_X2APIC = 1 << 10, BASE_ENABLE = 1 << 11 };
#define BASE_DEFAULT 0xfee00000ull
#define BASE_RESERVED 0xfff00000000002ffull
#define VERSION (0x14u | (LVT_COUNT - 1) << 16 | 1u << 24)
#define BROADCAST 0xffffffffu

#define LAPIC_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                    \
    SCALAR(u64, base)                                                                              \
    SCALAR(u32, id) /* as guests can change it in xAPIC mode */                                    \
    SCALAR(u8, tpr)                                                                                \
    ARRAY(u32, irr, 8)                                                                             \
    ARRAY(u32, isr, 8)                                                                             \
    ARRAY(u32, tmr, 8)                                                                             \
    SCALAR(u32, ldr)                                                                               \
    SCALAR(u32, dfr)                                                                               \
    SCALAR(u32, svr)                                                                               \
    SCALAR(u32, esr)                                                                               \
    SCALAR(u32, esr_pending)                                                                       \
    SCALAR(u64, icr)                                                                               \
    ARRAY(u32, lvt, LVT_COUNT)                                                                     \
    SCALAR(u32, initial_count)                                                                     \
    SCALAR(u8, divide)                                                                             \
    SCALAR(u64, timer_start)   /* ns at which initial_count began to count down */                 \
    SCALAR(u64, timer_fired)   /* periods of it already seen */                                    \
    SCALAR(u64, tsc_deadline)                                                                      \
    SCALAR(u8, extint)         /* an ExtINT message waits for INTA */                              \
    SCALAR(u8, lint0)                                                                              \
    SCALAR(u8, lint1)

struct lapic {
    struct device dev;
    STATE_MEMBERS(LAPIC_STATE)
    /* not saved: wired by the board */
    struct apic_bus *bus;
    struct cpu_pins pins;
    u32 hardware_id;
    bool bootstrap;
    int (*inta)(void *pic);
    void *pic;
    /* not saved: lapic_restored */
    bool intr;
    struct timer timer;
};

struct eoi_listener {
    void (*eoi)(void *opaque, u8 vector);
    void *opaque;
};

struct apic_bus {
    struct lapic *lapic[APIC_MAX];
    unsigned count;
    struct eoi_listener listener[EOI_LISTENERS];
};

#define STATE_OWNER struct lapic
STATE_TABLE(lapic, LAPIC_STATE)
#undef STATE_OWNER

/* --- bit vectors and priorities --------------------------------------------------------------- */

static bool bit_get(const u32 *bits, u8 vector)
{
    return bits[vector / 32] >> vector % 32 & 1;
}

static void bit_set(u32 *bits, u8 vector)
{
    bits[vector / 32] |= 1u << vector % 32;
}

static void bit_clear(u32 *bits, u8 vector)
{
    bits[vector / 32] &= ~(1u << vector % 32);
}

static int highest(const u32 *bits)
{
    for (int i = 7; i >= 0; i--)
        if (bits[i]) return 32 * i + 31 - __builtin_clz(bits[i]);
    return -1;
}

static bool is_enabled(const struct lapic *s) { return s->base & BASE_ENABLE; }
static bool is_x2apic(const struct lapic *s) { return s->base & BASE_X2APIC; }
static bool is_software_enabled(const struct lapic *s)
{
    return is_enabled(s) && (s->svr & SVR_ENABLE);
}

static u8 lapic_ppr(const struct lapic *s)
{
    int isr = highest(s->isr);
    u8 in_service = isr < 0 ? 0 : (u8)(isr & 0xf0);
    return (s->tpr & 0xf0) >= in_service ? s->tpr : in_service;
}

/* The vector that may be delivered now, or -1. */
static int lapic_deliverable(const struct lapic *s)
{
    int vector = is_software_enabled(s) ? highest(s->irr) : -1;
    return vector >= 0 && (vector & 0xf0) > (lapic_ppr(s) & 0xf0) ? vector : -1;
}

/* Does the 8259's request reach the processor through LINT0? */
static bool lapic_passes_pic(const struct lapic *s)
{
    if (!s->lint0) return false;
    if (!is_enabled(s)) return true;
    return (s->lvt[LVT_LINT0] & (LVT_MASKED | 0x700)) == APIC_EXTINT << 8;
}

/* The one exit for side effects: the INTR pin from the state. */
static void lapic_update(struct lapic *s)
{
    bool level = lapic_deliverable(s) >= 0 || s->extint || lapic_passes_pic(s);
    if (level == s->intr) return;
    s->intr = level;
    if (s->pins.intr) s->pins.intr(s->pins.cpu, level);
}

/* --- taking interrupts in --------------------------------------------------------------------- */

static void lapic_error(struct lapic *s, u32 bit);

static void lapic_accept(struct lapic *s, u8 vector, bool level)
{
    if (!is_software_enabled(s)) return;
    if (vector < 16) {
        lapic_error(s, ESR_RECEIVE_ILLEGAL);
        return;
    }
    bit_set(s->irr, vector);
    if (level)
        bit_set(s->tmr, vector);
    else
        bit_clear(s->tmr, vector);
    lapic_update(s);
}

static void lapic_deliver(struct lapic *s, u8 mode, u8 vector, bool level)
{
    void *cpu = s->pins.cpu;
    if (!is_enabled(s)) return;
    switch (mode) {
    case APIC_FIXED:
    case APIC_LOWEST: lapic_accept(s, vector, level); break;
    case APIC_SMI: if (s->pins.smi) s->pins.smi(cpu); break;
    case APIC_NMI: if (s->pins.nmi) s->pins.nmi(cpu); break;
    case APIC_INIT: if (s->pins.init) s->pins.init(cpu); break;
    case APIC_SIPI: if (s->pins.sipi) s->pins.sipi(cpu, vector); break;
    case APIC_EXTINT:
        s->extint = 1;
        lapic_update(s);
        break;
    }
}

/* An LVT entry's event has happened. */
static void lapic_local(struct lapic *s, unsigned index)
{
    u32 lvt = s->lvt[index];
    if (lvt & LVT_MASKED) return;
    bool is_lint = index == LVT_LINT0 || index == LVT_LINT1;
    u8 mode = index == LVT_TIMER || index == LVT_ERROR ? APIC_FIXED : lvt >> 8 & 7;
    lapic_deliver(s, mode, (u8)lvt, is_lint && mode == APIC_FIXED && (lvt & LVT_LEVEL));
}

static void lapic_error(struct lapic *s, u32 bit)
{
    if (s->esr_pending & bit) return; /* also ends the recursion of an illegal error vector */
    s->esr_pending |= bit;
    lapic_local(s, LVT_ERROR);
}

/* --- destinations ----------------------------------------------------------------------------- */

static bool lapic_matches(const struct lapic *s, u32 destination, bool logical)
{
    if (destination == BROADCAST) return true;
    if (is_x2apic(s)) {
        if (!logical) return destination == s->id;
        return destination >> 16 == s->ldr >> 16 && (destination & s->ldr & 0xffff);
    }
    if (destination > 0xff) return false;
    if (destination == 0xff) return true;
    if (!logical) return destination == s->id;
    u32 mine = s->ldr >> 24;
    if (s->dfr >> 28 == 0xf) return (destination & mine) != 0;
    if (destination >> 4 == 0xf) return (destination & mine & 15) != 0;
    return destination >> 4 == mine >> 4 && (destination & mine & 15);
}

/* Arbitration priority: the busier the higher. */
static u8 lapic_apr(const struct lapic *s)
{
    int isr = highest(s->isr), irr = highest(s->irr);
    int most = isr > irr ? isr : irr;
    u8 class = most < 0 ? 0 : (u8)(most & 0xf0);
    return (s->tpr & 0xf0) >= class ? s->tpr : class;
}

static void bus_deliver(struct apic_bus *bus, const struct apic_message *m)
{
    struct lapic *best = NULL;
    for (unsigned i = 0; i < bus->count; i++) {
        struct lapic *s = bus->lapic[i];
        if (!lapic_matches(s, m->destination, m->logical)) continue;
        if (m->mode != APIC_LOWEST)
            lapic_deliver(s, m->mode, m->vector, m->level);
        else if (is_software_enabled(s) && (!best || lapic_apr(s) < lapic_apr(best)))
            best = s;
    }
    if (best) lapic_deliver(best, APIC_FIXED, m->vector, m->level);
}

void apic_bus_send(struct apic_bus *bus, const struct apic_message *message)
{
    struct apic_message m = *message;
    if (m.destination == 0xff) m.destination = BROADCAST;
    bus_deliver(bus, &m);
}

bool apic_bus_waits(const struct apic_bus *bus, u8 vector)
{
    for (unsigned i = 0; i < bus->count; i++)
        if (bit_get(bus->lapic[i]->irr, vector)) return true;
    return false;
}

void apic_bus_msi(struct apic_bus *bus, u64 address, u32 data)
{
    if ((address & ~0xfffffull) != 0xfee00000) return;
    struct apic_message m = {.destination = address >> 12 & 0xff, .logical = address >> 2 & 1,
                             .level = data >> 15 & 1, .mode = data >> 8 & 7, .vector = (u8)data};
    apic_bus_send(bus, &m);
}

/* --- interprocessor interrupts ---------------------------------------------------------------- */

static void lapic_send(struct lapic *s)
{
    u32 low = (u32)s->icr, high = (u32)(s->icr >> 32);
    struct apic_message m = {.destination = is_x2apic(s) ? high : high >> 24,
                             .logical = low >> 11 & 1, .mode = low >> 8 & 7, .vector = (u8)low};
    unsigned shorthand = low >> 18 & 3;
    bool is_vectored = m.mode == APIC_FIXED || m.mode == APIC_LOWEST;
    if (m.mode == 3 || m.mode == APIC_EXTINT) return; /* reserved */
    if (m.mode == APIC_INIT && (low & LVT_LEVEL) && !(low & 1 << 14)) return; /* de-assert: no-op */
    if (is_vectored && m.vector < 16) {
        lapic_error(s, ESR_SEND_ILLEGAL);
        return;
    }
    if (!is_x2apic(s) && m.destination == 0xff) m.destination = BROADCAST;
    if (shorthand == 1) {
        lapic_deliver(s, m.mode, m.vector, false);
    } else if (!s->bus) {
        return;
    } else if (shorthand == 0) {
        bus_deliver(s->bus, &m);
    } else {
        for (unsigned i = 0; i < s->bus->count; i++)
            if (shorthand == 2 || s->bus->lapic[i] != s)
                lapic_deliver(s->bus->lapic[i], m.mode, m.vector, false);
    }
}

/* --- end of interrupt ------------------------------------------------------------------------- */

/* A level-triggered LINT pin still high asks again. */
static void lapic_sample_lint(struct lapic *s, unsigned index, bool level)
{
    u32 *lvt = &s->lvt[index];
    if (!level || (*lvt & (LVT_MASKED | LVT_LEVEL | LVT_REMOTE_IRR | 0x700)) != LVT_LEVEL) return;
    if (!is_software_enabled(s)) return;
    *lvt |= LVT_REMOTE_IRR;
    lapic_local(s, index);
}

static void lapic_eoi(struct lapic *s)
{
    int vector = highest(s->isr);
    if (vector < 0) return;
    bit_clear(s->isr, (u8)vector);
    if (bit_get(s->tmr, (u8)vector)) {
        for (unsigned i = LVT_LINT0; i <= LVT_LINT1; i++)
            if ((s->lvt[i] & (LVT_LEVEL | 0x7ff)) == (LVT_LEVEL | (u32)vector))
                s->lvt[i] &= ~(u32)LVT_REMOTE_IRR;
        for (unsigned i = 0; s->bus && !(s->svr & SVR_NO_EOI_BROADCAST) && i < EOI_LISTENERS; i++)
            if (s->bus->listener[i].eoi)
                s->bus->listener[i].eoi(s->bus->listener[i].opaque, (u8)vector);
        lapic_sample_lint(s, LVT_LINT0, s->lint0);
        lapic_sample_lint(s, LVT_LINT1, s->lint1);
    }
    lapic_update(s);
}

/* --- timer ------------------------------------------------------------------------------------ */

#define TIMER_ENDED UINT64_MAX /* timer_fired: the count has reached 0 and stays there */

static unsigned timer_mode(const struct lapic *s)
{
    return s->lvt[LVT_TIMER] >> 17 & 3;
}

/* ns for one count. */
static u64 timer_divide(const struct lapic *s)
{
    unsigned code = (s->divide & 3) | (s->divide >> 1 & 4);
    return (code == 7 ? 1 : 2ull << code) * (NS_PER_SECOND / BUS_FREQUENCY);
}

static u64 timer_period(const struct lapic *s)
{
    return s->initial_count * timer_divide(s);
}

static u32 timer_current(const struct lapic *s)
{
    u64 period = timer_period(s), passed = clock_now(s->dev.clock) - s->timer_start;
    if (!period || timer_mode(s) == TIMER_DEADLINE || s->timer_fired == TIMER_ENDED) return 0;
    if (timer_mode(s) == TIMER_PERIODIC)
        passed %= period;
    else if (passed >= period)
        return 0;
    return (u32)(s->initial_count - passed / timer_divide(s));
}

static u64 lapic_tsc(const struct lapic *s)
{
    return s->pins.tsc ? s->pins.tsc(s->pins.cpu) : 0;
}

static void timer_arm_deadline(struct lapic *s)
{
    if (!s->tsc_deadline || !s->pins.tsc || !s->pins.tsc_frequency) {
        timer_cancel(&s->timer);
        return;
    }
    u64 now = clock_now(s->dev.clock), tsc = lapic_tsc(s), ahead = 0;
    if (s->tsc_deadline > tsc) {
        u64 ticks = s->tsc_deadline - tsc;
        u64 seconds = ticks / s->pins.tsc_frequency;
        /* A deadline of centuries is as good as none, and must not overflow. */
        if (seconds > 1ull << 32) seconds = 1ull << 32;
        ahead = seconds * NS_PER_SECOND +
                ticks_to_ns(ticks % s->pins.tsc_frequency, s->pins.tsc_frequency) + 1;
    }
    timer_set(&s->timer, now + ahead);
}

static void timer_arm(struct lapic *s)
{
    u64 period = timer_period(s), now = clock_now(s->dev.clock);
    if (!is_enabled(s)) {
        timer_cancel(&s->timer);
    } else if (timer_mode(s) == TIMER_DEADLINE) {
        timer_arm_deadline(s);
    } else if (!period || s->timer_fired == TIMER_ENDED) {
        timer_cancel(&s->timer);
    } else if (timer_mode(s) == TIMER_PERIODIC) {
        if (s->lvt[LVT_TIMER] & LVT_MASKED) {
            timer_cancel(&s->timer); /* the count goes on by itself: it is computed from the time */
            return;
        }
        /* Always start + n * period, so that nothing drifts; late ticks coalesce into one. */
        s->timer_fired = (now - s->timer_start) / period;
        u64 next = s->timer_start + (s->timer_fired + 1) * period;
        timer_set(&s->timer, next < now + PERIOD_LEAST && period < PERIOD_LEAST
                                 ? now + PERIOD_LEAST : next);
    } else if (!s->timer_fired) {
        timer_set(&s->timer, s->timer_start + period);
    } else {
        timer_cancel(&s->timer);
    }
}

static void timer_fire(void *opaque)
{
    struct lapic *s = opaque;
    switch (timer_mode(s)) {
    case TIMER_DEADLINE:
        if (lapic_tsc(s) < s->tsc_deadline) break; /* the clocks were read apart: again */
        s->tsc_deadline = 0;
        lapic_local(s, LVT_TIMER);
        break;
    case TIMER_PERIODIC: lapic_local(s, LVT_TIMER); break;
    default:
        s->timer_fired = 1;
        lapic_local(s, LVT_TIMER);
        break;
    }
    timer_arm(s);
}

static void timer_start(struct lapic *s, u32 count)
{
    if (timer_mode(s) == TIMER_DEADLINE) return;
    s->initial_count = count;
    s->timer_start = clock_now(s->dev.clock);
    s->timer_fired = 0;
    timer_arm(s);
}

/* A new divide value keeps the count that is left. */
static void timer_set_divide(struct lapic *s, u8 value)
{
    u32 current = timer_current(s);
    bool running = current != 0 && !(timer_mode(s) != TIMER_PERIODIC && s->timer_fired);
    s->divide = value & 0x0b;
    if (running)
        s->timer_start = clock_now(s->dev.clock) -
                         (u64)(s->initial_count - current) * timer_divide(s);
    timer_arm(s);
}

/* From mode WAS to another: the count goes on from where it is, and at 0 it stays. */
static void timer_mode_changed(struct lapic *s, unsigned was)
{
    u64 period = timer_period(s), passed = clock_now(s->dev.clock) - s->timer_start;
    if (!period || s->timer_fired == TIMER_ENDED) return;
    if (was == TIMER_PERIODIC) {
        s->timer_start += passed - passed % period;
        s->timer_fired = 0;
    } else if (passed >= period) {
        s->timer_fired = TIMER_ENDED;
    }
}

/* --- registers, by index (offset / 16, which is also the MSR's low byte) ---------------------- */

static u32 lapic_read_reg(struct lapic *s, unsigned reg)
{
    switch (reg) {
    case REG_ID: return is_x2apic(s) ? s->id : s->id << 24;
    case REG_VERSION: return VERSION;
    case REG_TPR: return s->tpr;
    case REG_APR: return lapic_apr(s);
    case REG_PPR: return lapic_ppr(s);
    case REG_LDR: return s->ldr;
    case REG_DFR: return s->dfr;
    case REG_SVR: return s->svr;
    case REG_ISR ... REG_ISR + 7: return s->isr[reg - REG_ISR];
    case REG_TMR ... REG_TMR + 7: return s->tmr[reg - REG_TMR];
    case REG_IRR ... REG_IRR + 7: return s->irr[reg - REG_IRR];
    case REG_ESR: return s->esr;
    case REG_CMCI: return s->lvt[LVT_CMCI];
    case REG_ICR: return (u32)s->icr;
    case REG_ICR2: return (u32)(s->icr >> 32);
    case REG_LVT ... REG_LVT + LVT_ERROR: return s->lvt[reg - REG_LVT];
    case REG_INITIAL: return timer_mode(s) == TIMER_DEADLINE ? 0 : s->initial_count;
    case REG_CURRENT: return timer_current(s);
    case REG_DIVIDE: return s->divide;
    case REG_EOI: case REG_RRD: return 0;
    default:
        lapic_error(s, ESR_REGISTER);
        return 0;
    }
}

static void lapic_write_lvt(struct lapic *s, unsigned index, u32 value)
{
    static const u32 writable[LVT_COUNT] = {0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff,
                                            0x107ff};
    unsigned mode = timer_mode(s);
    s->lvt[index] = (s->lvt[index] & LVT_REMOTE_IRR) | (value & writable[index]);
    if (!is_software_enabled(s)) s->lvt[index] |= LVT_MASKED;
    if (index == LVT_LINT0 || index == LVT_LINT1) {
        if (!(value & LVT_LEVEL)) s->lvt[index] &= ~(u32)LVT_REMOTE_IRR;
        lapic_sample_lint(s, index, index == LVT_LINT0 ? s->lint0 : s->lint1);
    } else if (index == LVT_TIMER) {
        if ((mode == TIMER_DEADLINE) != (timer_mode(s) == TIMER_DEADLINE)) {
            s->tsc_deadline = 0;
            s->initial_count = 0;
        }
        if (mode != timer_mode(s)) timer_mode_changed(s, mode);
        timer_arm(s);
    }
}

static void lapic_write_svr(struct lapic *s, u32 value)
{
    s->svr = value & (0x1ff | SVR_NO_EOI_BROADCAST);
    if (!(s->svr & SVR_ENABLE)) {
        for (unsigned i = 0; i < LVT_COUNT; i++) s->lvt[i] |= LVT_MASKED;
        timer_arm(s);
    }
}

/* False: no such register to write. */
static bool lapic_write_reg(struct lapic *s, unsigned reg, u32 value)
{
    switch (reg) {
    case REG_ID: s->id = value >> 24; break;
    case REG_TPR: s->tpr = (u8)value; break;
    case REG_EOI: lapic_eoi(s); break;
    case REG_LDR: s->ldr = value & 0xff000000; break;
    case REG_DFR: s->dfr = value | 0x0fffffff; break;
    case REG_SVR: lapic_write_svr(s, value); break;
    case REG_ESR:
        s->esr = s->esr_pending;
        s->esr_pending = 0;
        break;
    case REG_CMCI: lapic_write_lvt(s, LVT_CMCI, value); break;
    case REG_ICR:
        s->icr = (s->icr & ~0xffffffffull) | (value & 0xccfff);
        lapic_send(s);
        break;
    case REG_ICR2: s->icr = (u32)s->icr | (u64)(value & 0xff000000) << 32; break;
    case REG_LVT ... REG_LVT + LVT_ERROR: lapic_write_lvt(s, reg - REG_LVT, value); break;
    case REG_INITIAL: timer_start(s, value); break;
    case REG_DIVIDE: timer_set_divide(s, (u8)value); break;
    default: return false;
    }
    lapic_update(s);
    return true;
}

static u32 lapic_mmio_read(void *apic, unsigned offset)
{
    struct lapic *s = apic;
    if (!is_enabled(s) || is_x2apic(s)) return 0xffffffff;
    if (offset & 15) return 0;
    return lapic_read_reg(s, offset >> 4 & 0xff);
}

static void lapic_mmio_write(void *apic, unsigned offset, u32 value)
{
    struct lapic *s = apic;
    if (!is_enabled(s) || is_x2apic(s) || (offset & 15)) return;
    if (!lapic_write_reg(s, offset >> 4 & 0xff, value)) {
        guest_error(&s->dev, "lapic%u: write to register %03x", s->hardware_id, offset);
        lapic_error(s, ESR_REGISTER);
    }
}

/* --- model-specific registers ----------------------------------------------------------------- */

static bool x2apic_read(struct lapic *s, unsigned reg, u64 *value)
{
    switch (reg) {
    case REG_ICR: *value = s->icr; return true;
    case REG_ID: case REG_VERSION: case REG_TPR: case REG_PPR: case REG_LDR: case REG_SVR:
    case REG_ISR ... REG_ISR + 7: case REG_TMR ... REG_TMR + 7: case REG_IRR ... REG_IRR + 7:
    case REG_ESR: case REG_CMCI: case REG_LVT ... REG_LVT + LVT_ERROR: case REG_INITIAL:
    case REG_CURRENT: case REG_DIVIDE:
        *value = lapic_read_reg(s, reg);
        return true;
    default: return false;
    }
}

static bool x2apic_write(struct lapic *s, unsigned reg, u64 value)
{
    /* What may be set in each register; anything else is #GP. */
    static const struct { u8 reg; u64 allowed; } rule[] = {
        {REG_TPR, 0xff}, {REG_EOI, 0}, {REG_SVR, 0x1ff | SVR_NO_EOI_BROADCAST}, {REG_ESR, 0},
        {REG_CMCI, 0x117ff}, {REG_ICR, 0xffffffff000ccfffull}, {REG_LVT + LVT_TIMER, 0x710ff},
        {REG_LVT + LVT_THERMAL, 0x117ff}, {REG_LVT + LVT_PERF, 0x117ff},
        {REG_LVT + LVT_LINT0, 0x1f7ff}, {REG_LVT + LVT_LINT1, 0x1f7ff},
        {REG_LVT + LVT_ERROR, 0x110ff}, {REG_INITIAL, 0xffffffff}, {REG_DIVIDE, 0x0b},
        {REG_SELF, 0xff}};
    unsigned i = 0;
    while (i < ARRAY_SIZE(rule) && rule[i].reg != reg) i++;
    if (i == ARRAY_SIZE(rule) || (value & ~rule[i].allowed)) return false;
    if (reg == REG_ICR) {
        s->icr = value;
        lapic_send(s);
        lapic_update(s);
    } else if (reg == REG_SELF) {
        lapic_deliver(s, APIC_FIXED, (u8)value, false);
    } else {
        lapic_write_reg(s, reg, (u32)value);
    }
    return true;
}

static void lapic_clear(struct lapic *s);

static u32 x2apic_logical_id(u32 id)
{
    return (id >> 4) << 16 | 1u << (id & 15);
}

static bool lapic_write_base(struct lapic *s, u64 value)
{
    u64 was = s->base & (BASE_ENABLE | BASE_X2APIC), is = value & (BASE_ENABLE | BASE_X2APIC);
    if ((value & BASE_RESERVED) || is == BASE_X2APIC) return false;
    if (is == (BASE_ENABLE | BASE_X2APIC) && was == 0) return false;
    if (is == BASE_ENABLE && was == (BASE_ENABLE | BASE_X2APIC)) return false;
    s->base = (value & ~(u64)BASE_BSP) | (s->base & BASE_BSP);
    if (is == 0 && was) {
        lapic_clear(s);
        s->id = s->hardware_id;
    } else if ((is & BASE_X2APIC) && !(was & BASE_X2APIC)) {
        s->id = s->hardware_id;
        s->ldr = x2apic_logical_id(s->id);
        s->icr = (u32)s->icr;
    }
    if (is != was) timer_arm(s);
    if (s->pins.apic_base) s->pins.apic_base(s->pins.cpu, s->base);
    lapic_update(s);
    return true;
}

static bool lapic_msr_read(void *apic, u32 msr, u64 *value)
{
    struct lapic *s = apic;
    if (msr == MSR_APIC_BASE) {
        *value = s->base;
        return true;
    }
    if (msr == MSR_TSC_DEADLINE) {
        *value = timer_mode(s) == TIMER_DEADLINE ? s->tsc_deadline : 0;
        return true;
    }
    if (msr < MSR_X2APIC || msr > MSR_X2APIC + 0xff || !is_x2apic(s)) return false;
    return x2apic_read(s, msr - MSR_X2APIC, value);
}

static bool lapic_msr_write(void *apic, u32 msr, u64 value)
{
    struct lapic *s = apic;
    if (msr == MSR_APIC_BASE) return lapic_write_base(s, value);
    if (msr == MSR_TSC_DEADLINE) {
        if (timer_mode(s) == TIMER_DEADLINE) {
            s->tsc_deadline = value;
            if (value && is_enabled(s) && s->pins.tsc && lapic_tsc(s) >= value) timer_fire(s);
            else timer_arm(s);
        }
        return true;
    }
    if (msr < MSR_X2APIC || msr > MSR_X2APIC + 0xff || !is_x2apic(s)) return false;
    return x2apic_write(s, msr - MSR_X2APIC, value);
}

/* --- the processor's side --------------------------------------------------------------------- */

static int lapic_acknowledge(void *apic)
{
    struct lapic *s = apic;
    int vector = lapic_deliverable(s);
    if (vector >= 0) {
        bit_clear(s->irr, (u8)vector);
        bit_set(s->isr, (u8)vector);
    } else if (s->extint || lapic_passes_pic(s)) {
        s->extint = 0;
        vector = s->inta ? s->inta(s->pic) : -1;
    }
    lapic_update(s);
    return vector;
}

static u8 lapic_get_cr8(void *apic)
{
    return ((struct lapic *)apic)->tpr >> 4;
}

static void lapic_set_cr8(void *apic, u8 value)
{
    struct lapic *s = apic;
    s->tpr = (u8)(value << 4);
    lapic_update(s);
}

static void lapic_cpu_init(void *apic)
{
    struct lapic *s = apic;
    lapic_clear(s);
    lapic_update(s);
}

void lapic_port(struct device *device, struct local_apic_port *port)
{
    *port = (struct local_apic_port){
        .apic = device, .frequency = BUS_FREQUENCY, .acknowledge = lapic_acknowledge,
        .mmio_read = lapic_mmio_read, .mmio_write = lapic_mmio_write,
        .msr_read = lapic_msr_read, .msr_write = lapic_msr_write,
        .get_cr8 = lapic_get_cr8, .set_cr8 = lapic_set_cr8, .cpu_init = lapic_cpu_init};
}

/* --- the board's side ------------------------------------------------------------------------- */

void lapic_set_extint(struct device *device, int (*inta)(void *pic), void *pic)
{
    struct lapic *s = (struct lapic *)device;
    s->inta = inta;
    s->pic = pic;
}

static void lapic_set_lint(struct lapic *s, unsigned index, u8 *pin, bool level)
{
    bool rose = level && !*pin;
    *pin = level;
    u8 mode = s->lvt[index] >> 8 & 7;
    if (rose && is_enabled(s) && mode != APIC_EXTINT) {
        if (mode == APIC_FIXED && (s->lvt[index] & LVT_LEVEL))
            lapic_sample_lint(s, index, true);
        else
            lapic_local(s, index);
    } else if (rose && !is_enabled(s) && index == LVT_LINT1 && s->pins.nmi) {
        s->pins.nmi(s->pins.cpu); /* the pin is NMI again */
    }
    lapic_update(s);
}

void lapic_set_lint0(struct device *device, bool level)
{
    struct lapic *s = (struct lapic *)device;
    lapic_set_lint(s, LVT_LINT0, &s->lint0, level);
}

void lapic_set_lint1(struct device *device, bool level)
{
    struct lapic *s = (struct lapic *)device;
    lapic_set_lint(s, LVT_LINT1, &s->lint1, level);
}

void lapic_connect(struct device *device, struct apic_bus *bus, u32 apic_id, bool bootstrap,
                   const struct cpu_pins *pins)
{
    struct lapic *s = (struct lapic *)device;
    if (bus->count >= APIC_MAX) return;
    bus->lapic[bus->count++] = s;
    s->bus = bus;
    s->hardware_id = s->id = apic_id;
    s->bootstrap = bootstrap;
    s->pins = *pins;
}

struct apic_bus *apic_bus_new(void)
{
    return calloc(1, sizeof(struct apic_bus));
}

void apic_bus_free(struct apic_bus *bus)
{
    free(bus);
}

void apic_bus_on_eoi(struct apic_bus *bus, void (*eoi)(void *opaque, u8 vector), void *opaque)
{
    for (unsigned i = 0; i < EOI_LISTENERS; i++)
        if (!bus->listener[i].eoi) {
            bus->listener[i] = (struct eoi_listener){eoi, opaque};
            return;
        }
}

/* --- verbs ------------------------------------------------------------------------------------ */

/* What INIT does: everything but the ID and the base register. */
static void lapic_clear(struct lapic *s)
{
    memset(s->irr, 0, sizeof s->irr);
    memset(s->isr, 0, sizeof s->isr);
    memset(s->tmr, 0, sizeof s->tmr);
    s->tpr = 0;
    s->ldr = is_x2apic(s) ? x2apic_logical_id(s->id) : 0;
    s->dfr = 0xffffffff;
    s->svr = 0xff;
    s->esr = s->esr_pending = 0;
    s->icr = 0;
    for (unsigned i = 0; i < LVT_COUNT; i++) s->lvt[i] = LVT_MASKED;
    if (s->bootstrap) s->lvt[LVT_LINT0] = APIC_EXTINT << 8;
    s->initial_count = 0;
    s->divide = 0;
    s->timer_start = s->timer_fired = 0;
    s->tsc_deadline = 0;
    s->extint = 0;
    timer_cancel(&s->timer);
}

static bool lapic_init(struct device *device, struct error *error)
{
    struct lapic *s = (struct lapic *)device;
    (void)error;
    timer_init(&s->timer, device->clock, timer_fire, s);
    return true;
}

static void lapic_reset(struct device *device)
{
    struct lapic *s = (struct lapic *)device;
    s->id = s->hardware_id;
    s->base = BASE_DEFAULT | BASE_ENABLE | (s->bootstrap ? BASE_BSP : 0);
    lapic_clear(s);
    if (s->pins.apic_base) s->pins.apic_base(s->pins.cpu, s->base);
    lapic_update(s);
}

static void lapic_restored(struct device *device)
{
    struct lapic *s = (struct lapic *)device;
    if (s->timer_start > clock_now(device->clock)) s->timer_start = clock_now(device->clock);
    timer_arm(s);
    if (s->pins.apic_base) s->pins.apic_base(s->pins.cpu, s->base);
    s->intr = !(lapic_deliverable(s) >= 0 || s->extint || lapic_passes_pic(s)); /* drive it anew */
    lapic_update(s);
}

static void lapic_release(struct device *device)
{
    struct lapic *s = (struct lapic *)device;
    timer_cancel(&s->timer);
    for (unsigned i = 0; s->bus && i < s->bus->count; i++)
        if (s->bus->lapic[i] == s) {
            s->bus->lapic[i] = s->bus->lapic[--s->bus->count];
            break;
        }
}

const struct device_class lapic_class = {
    .name = "lapic",
    .title = "local APIC",
    .version = 1,
    .size = sizeof(struct lapic),
    .fields = lapic_fields,
    .init = lapic_init,
    .reset = lapic_reset,
    .restored = lapic_restored,
    .release = lapic_release,
};
