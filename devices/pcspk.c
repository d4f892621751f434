/*
 * The AT's port B at 61h: gate of timer channel 2, speaker enable, refresh toggle, OUT2.
 * Specification: IBM PC/AT technical reference, 290562 (PIIX3, NMI status and control).
 *
 * Not modelled: sound (the speaker stays silent), and sources of the parity and IOCHK# NMIs, whose
 * enables are only remembered.
 */
#include "devices/pcspk.h"

#include "devices/i8254.h"

enum {
    PORTB_GATE2 = 0x01,
    PORTB_WRITABLE = 0x0f,
    PORTB_REFRESH = 0x10,
    PORTB_OUT2 = 0x20,
};

/* Refresh toggles at every request of timer channel 1, which the firmware sets to 18. */
#define REFRESH_TICKS 18

#define PCSPK_STATE(SCALAR, ARRAY, GROUP, BLOB) SCALAR(u8, control)

struct pcspk {
    struct device dev;
    STATE_MEMBERS(PCSPK_STATE)
    u32 iobase; /* property */
    struct region region;
    struct device *pit; /* set by the board */
};

#define STATE_OWNER struct pcspk
STATE_TABLE(pcspk, PCSPK_STATE)
#undef STATE_OWNER

void pcspk_connect_pit(struct device *pcspk, struct device *pit)
{
    container_of(pcspk, struct pcspk, dev)->pit = pit;
}

static u64 pcspk_read(struct device *device, u64 offset, unsigned size)
{
    struct pcspk *s = container_of(device, struct pcspk, dev);
    (void)offset, (void)size;
    u8 value = s->control;
    u64 ticks = ns_to_ticks(clock_now(device->clock), I8254_FREQUENCY);
    if (ticks / REFRESH_TICKS & 1) value |= PORTB_REFRESH;
    if (s->pit && i8254_out(s->pit, 2)) value |= PORTB_OUT2;
    return value;
}

static void pcspk_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct pcspk *s = container_of(device, struct pcspk, dev);
    (void)offset, (void)size;
    s->control = value & PORTB_WRITABLE;
    if (s->pit) i8254_set_gate(s->pit, 2, value & PORTB_GATE2);
}

static const struct region_ops pcspk_ops = {"pcspk", pcspk_read, pcspk_write, 1, 1};

static bool pcspk_init(struct device *device, struct error *error)
{
    struct pcspk *s = container_of(device, struct pcspk, dev);
    (void)error;
    region_init(&s->region, device, &pcspk_ops, 1);
    bus_map(device->bus, BUS_PORT, &s->region, s->iobase, LAYER_DEVICE);
    return true;
}

static void pcspk_reset(struct device *device)
{
    pcspk_write(device, 0, 0, 1);
}

static void pcspk_restored(struct device *device)
{
    /* The gate itself is the timer's state. */
    container_of(device, struct pcspk, dev)->control &= PORTB_WRITABLE;
}

static const struct property pcspk_properties[] = {
    {"iobase", PROPERTY_U32, offsetof(struct pcspk, iobase), "0x61", "port"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class pcspk_class = {
    .name = "isa-pcspk",
    .title = "PC speaker and port B",
    .version = 1,
    .size = sizeof(struct pcspk),
    .fields = pcspk_fields,
    .properties = pcspk_properties,
    .init = pcspk_init,
    .reset = pcspk_reset,
    .restored = pcspk_restored,
};
