/*
 * 82093AA I/O APIC, as version 20h (with the EOI register of the ICH).
 * Datasheet: Intel 290566; ICH9 316972 for the EOI register.
 * Not modelled: pin polarity. A pin is fed "asserted or not", and the polarity bit is only
 * remembered.
 */
#include "devices/apic_bus.h"

enum { PINS = 24, VERSION = 0x20, BASE_ADDRESS_SIZE = 0x1000 };
#define IOAPIC_BASE 0xfec00000ull

enum { ENTRY_LOGICAL = 1 << 11, ENTRY_PENDING = 1 << 12, ENTRY_REMOTE_IRR = 1 << 14,
       ENTRY_LEVEL = 1 << 15, ENTRY_MASKED = 1 << 16,
       ENTRY_WRITABLE = 0x1afff };

#define IOAPIC_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                   \
    SCALAR(u8, index)                                                                              \
    SCALAR(u8, id)                                                                                 \
    SCALAR(u32, levels) /* as the pins are now */                                                  \
    SCALAR(u32, irr)    /* wants service */                                                        \
    ARRAY(u64, entry, PINS)

struct ioapic {
    struct device dev;
    STATE_MEMBERS(IOAPIC_STATE)
    struct region region;
    struct apic_bus *bus; /* not saved: wired by the board */
};

#define STATE_OWNER struct ioapic
STATE_TABLE(ioapic, IOAPIC_STATE)
#undef STATE_OWNER

/* Sends what a pin wants and its entry allows. */
static void ioapic_service(struct ioapic *s, unsigned pin)
{
    u64 entry = s->entry[pin];
    bool level = entry & ENTRY_LEVEL;
    if (!(s->irr >> pin & 1) || (entry & ENTRY_MASKED) || !s->bus) return;
    struct apic_message m = {.destination = (u32)(entry >> 56), .mode = entry >> 8 & 7,
                             .logical = entry & ENTRY_LOGICAL, .vector = (u8)entry};
    if (m.mode != APIC_FIXED && m.mode != APIC_LOWEST) level = false; /* the others are edges */
    if (level) {
        if (entry & ENTRY_REMOTE_IRR) return;
        s->entry[pin] |= ENTRY_REMOTE_IRR;
    } else {
        s->irr &= ~(1u << pin);
    }
    m.level = level;
    log_to(s->dev.log, LOG_INTERRUPT, "ioapic: pin %u, vector %02x, mode %u, to %02x", pin,
           m.vector, m.mode, m.destination);
    apic_bus_send(s->bus, &m);
}

void ioapic_set_pin(void *ioapic, unsigned pin, bool level)
{
    struct ioapic *s = ioapic;
    if (pin >= PINS) return;
    u32 bit = 1u << pin;
    bool rose = level && !(s->levels & bit);
    s->levels = level ? s->levels | bit : s->levels & ~bit;
    if (s->entry[pin] & ENTRY_LEVEL)
        s->irr = level ? s->irr | bit : s->irr & ~bit;
    else if (rose && !(s->entry[pin] & ENTRY_MASKED)) /* a masked edge is lost, not kept */
        s->irr |= bit;
    ioapic_service(s, pin);
}

bool ioapic_pin_waits(struct device *ioapic, unsigned pin)
{
    struct ioapic *s = (struct ioapic *)ioapic;
    return pin < PINS && !(s->entry[pin] & ENTRY_MASKED) && s->bus &&
           apic_bus_waits(s->bus, (u8)s->entry[pin]);
}

static void ioapic_eoi(void *opaque, u8 vector)
{
    struct ioapic *s = opaque;
    for (unsigned pin = 0; pin < PINS; pin++) {
        u64 *entry = &s->entry[pin];
        if ((u8)*entry != vector || !(*entry & ENTRY_LEVEL)) continue;
        *entry &= ~(u64)ENTRY_REMOTE_IRR;
        ioapic_service(s, pin);
    }
}

static u32 ioapic_read_reg(struct ioapic *s)
{
    switch (s->index) {
    case 0: case 2: return (u32)s->id << 24;
    case 1: return VERSION | (PINS - 1) << 16;
    default: {
        unsigned pin = (s->index - 0x10u) / 2;
        if (s->index < 0x10 || pin >= PINS) return 0xffffffff;
        return (u32)(s->entry[pin] >> (s->index & 1 ? 32 : 0));
    }
    }
}

static void ioapic_write_entry(struct ioapic *s, unsigned pin, bool high, u32 value)
{
    u64 *entry = &s->entry[pin];
    u32 bit = 1u << pin;
    if (high) {
        *entry = (u32)*entry | (u64)(value & 0xff000000) << 32;
        return;
    }
    bool was_level = *entry & ENTRY_LEVEL, is_level = value & ENTRY_LEVEL;
    *entry = (*entry & ~(u64)ENTRY_WRITABLE) | (value & ENTRY_WRITABLE);
    if (!is_level) {
        *entry &= ~(u64)ENTRY_REMOTE_IRR; /* switching to edge and back is how old guests say EOI */
        if (was_level) s->irr &= ~bit;
    } else {
        s->irr = (s->irr & ~bit) | (s->levels & bit);
    }
    ioapic_service(s, pin);
}

static void ioapic_write_reg(struct ioapic *s, u32 value)
{
    unsigned pin = (s->index - 0x10u) / 2;
    if (s->index == 0)
        s->id = value >> 24 & 15;
    else if (s->index >= 0x10 && pin < PINS)
        ioapic_write_entry(s, pin, s->index & 1, value);
    else
        guest_error(&s->dev, "ioapic: write to register %02x", s->index);
}

static u64 ioapic_read(struct device *device, u64 offset, unsigned size)
{
    struct ioapic *s = (struct ioapic *)device;
    (void)size;
    switch (offset & 0xff) {
    case 0x00: return s->index;
    case 0x10: return ioapic_read_reg(s);
    default: return 0;
    }
}

static void ioapic_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct ioapic *s = (struct ioapic *)device;
    (void)size;
    switch (offset & 0xff) {
    case 0x00: s->index = (u8)value; break;
    case 0x10: ioapic_write_reg(s, (u32)value); break;
    case 0x40: ioapic_eoi(s, (u8)value); break;
    }
}

/* Guests write the index as a byte too. */
static const struct region_ops ioapic_ops = {
    .name = "ioapic", .read = ioapic_read, .write = ioapic_write, .min_size = 1, .max_size = 4};

void ioapic_connect(struct device *device, struct apic_bus *bus)
{
    struct ioapic *s = (struct ioapic *)device;
    s->bus = bus;
    apic_bus_on_eoi(bus, ioapic_eoi, s);
}

static bool ioapic_init(struct device *device, struct error *error)
{
    struct ioapic *s = (struct ioapic *)device;
    (void)error;
    region_init(&s->region, device, &ioapic_ops, BASE_ADDRESS_SIZE);
    bus_map(device->bus, BUS_MEMORY, &s->region, IOAPIC_BASE, LAYER_DEVICE);
    return true;
}

/* The pins keep their levels: whoever drives them resets by itself. */
static void ioapic_reset(struct device *device)
{
    struct ioapic *s = (struct ioapic *)device;
    s->index = s->id = 0;
    s->irr = 0;
    for (unsigned i = 0; i < PINS; i++) s->entry[i] = ENTRY_MASKED;
}

static void ioapic_restored(struct device *device)
{
    (void)device; /* what was sent is in the local APICs' state */
}

const struct device_class ioapic_class = {
    .name = "ioapic",
    .title = "I/O APIC",
    .version = 1,
    .size = sizeof(struct ioapic),
    .fields = ioapic_fields,
    .init = ioapic_init,
    .reset = ioapic_reset,
    .restored = ioapic_restored,
};
