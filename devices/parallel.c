/*
 * Standard parallel port with a printer that is always ready and puts its bytes into a character
 * device.
 * Specification: IBM PC/AT Technical Reference, parallel adapter; IEEE 1284 compatibility mode.
 * The printer is busy while the character device is full. Not modelled: PS/2 bidirectional data,
 * EPP and ECP.
 */
#include "devices/parallel.h"

#include "machine/chardev.h"

enum { REG_DATA, REG_STATUS, REG_CONTROL };

enum {
    STATUS_NOT_ERROR = 0x08,
    STATUS_SELECTED = 0x10,
    STATUS_NOT_ACK = 0x40,
    STATUS_NOT_BUSY = 0x80,
    CONTROL_STROBE = 0x01,
    CONTROL_NOT_INIT = 0x04,
    CONTROL_IRQ = 0x10,
};

#define RETRY_NS 1000000

#define PARALLEL_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                 \
    SCALAR(u8, data)                                                                               \
    SCALAR(u8, control)                                                                            \
    SCALAR(u8, printing) /* waits for the character device */                                      \
    SCALAR(u8, busy)

struct parallel {
    struct device dev;
    STATE_MEMBERS(PARALLEL_STATE)
    u32 iobase;              /* property */
    struct chardev *chardev; /* property */
    struct region region;
    struct wire irq;    /* set by the board */
    struct timer retry; /* not saved: parallel_restored */
};

#define STATE_OWNER struct parallel
STATE_TABLE(parallel, PARALLEL_STATE)
#undef STATE_OWNER

/* Sends the byte that was strobed in; a taken one is acknowledged with a pulse of nACK, IRQ7. */
static void parallel_print(void *opaque)
{
    struct parallel *s = opaque;
    if (!chardev_write(s->chardev, &s->printing, 1)) {
        s->busy = 1;
        timer_set(&s->retry, clock_now(s->dev.clock) + RETRY_NS);
        return;
    }
    s->busy = 0;
    if (s->control & CONTROL_IRQ) wire_pulse(&s->irq);
}

static u64 parallel_read(struct device *device, u64 offset, unsigned size)
{
    struct parallel *s = container_of(device, struct parallel, dev);
    (void)size;
    switch (offset) {
    case REG_DATA: return s->data;
    case REG_STATUS:
        return STATUS_NOT_ERROR | STATUS_SELECTED | STATUS_NOT_ACK | 0x07 |
               (s->busy ? 0 : STATUS_NOT_BUSY);
    default: return s->control | 0xe0;
    }
}

static void parallel_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct parallel *s = container_of(device, struct parallel, dev);
    (void)size;
    if (offset == REG_DATA) {
        s->data = value;
    } else if (offset == REG_CONTROL) {
        u8 rose = value & ~s->control;
        s->control = value & 0x1f;
        if (!(value & CONTROL_NOT_INIT)) { /* the printer is reset */
            s->busy = 0;
            timer_cancel(&s->retry);
        } else if ((rose & CONTROL_STROBE) && !s->busy) {
            s->printing = s->data;
            parallel_print(s);
        }
    }
}

void parallel_connect_irq(struct device *parallel, struct wire irq)
{
    container_of(parallel, struct parallel, dev)->irq = irq;
}

static const struct region_ops parallel_ops = {"parallel", parallel_read, parallel_write, 1, 1};

static bool parallel_init(struct device *device, struct error *error)
{
    struct parallel *s = container_of(device, struct parallel, dev);
    (void)error;
    timer_init(&s->retry, device->clock, parallel_print, s);
    region_init(&s->region, device, &parallel_ops, 3);
    bus_map(device->bus, BUS_PORT, &s->region, s->iobase, LAYER_DEVICE);
    return true;
}

static void parallel_reset(struct device *device)
{
    struct parallel *s = container_of(device, struct parallel, dev);
    s->data = s->printing = s->busy = 0;
    s->control = CONTROL_NOT_INIT;
    timer_cancel(&s->retry);
    wire_set(&s->irq, false);
}

static void parallel_restored(struct device *device)
{
    struct parallel *s = container_of(device, struct parallel, dev);
    timer_cancel(&s->retry);
    if (s->busy) timer_set(&s->retry, clock_now(device->clock) + RETRY_NS);
}

static void parallel_release(struct device *device)
{
    timer_cancel(&container_of(device, struct parallel, dev)->retry);
}

static const struct property parallel_properties[] = {
    {"iobase", PROPERTY_U32, offsetof(struct parallel, iobase), "0x378", "first of three ports"},
    {"chardev", PROPERTY_CHARDEV, offsetof(struct parallel, chardev), NULL, "the printer"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class parallel_class = {
    .name = "isa-parallel",
    .title = "parallel port with a printer",
    .version = 1,
    .size = sizeof(struct parallel),
    .fields = parallel_fields,
    .properties = parallel_properties,
    .init = parallel_init,
    .reset = parallel_reset,
    .restored = parallel_restored,
    .release = parallel_release,
};
