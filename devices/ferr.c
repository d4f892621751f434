/*
 * Numeric errors the PC/AT way: FERR# raises IRQ13, a write to port F0h takes it down.
 *
 * Specification: Intel SDM vol. 1, 8.7 and the PIIX3 datasheet (coprocessor error). IGNNE# is not
 * modelled beyond what the processor does itself: it goes on after raising FERR#. Port F1h resets a
 * real 80287; later parts ignore it, and so do we.
 */
#include "devices/ferr.h"

#define FERR_STATE(SCALAR, ARRAY, GROUP, BLOB) SCALAR(u8, raised)

struct ferr {
    struct device dev;
    STATE_MEMBERS(FERR_STATE)
    struct region region;
    struct wire irq;
};

#define STATE_OWNER struct ferr
STATE_TABLE(ferr, FERR_STATE)
#undef STATE_OWNER

static void ferr_update(struct ferr *s, bool raised)
{
    s->raised = raised;
    wire_set(&s->irq, raised);
}

void ferr_connect_irq(struct device *device, struct wire irq)
{
    container_of(device, struct ferr, dev)->irq = irq;
}

void ferr_assert(struct device *device)
{
    ferr_update(container_of(device, struct ferr, dev), true);
}

static void ferr_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)value, (void)size;
    if (offset == 0) ferr_update(container_of(device, struct ferr, dev), false);
}

static const struct region_ops ferr_ops = {"ferr", NULL, ferr_write, 1, 1};

static bool ferr_init(struct device *device, struct error *error)
{
    struct ferr *s = container_of(device, struct ferr, dev);
    (void)error;
    region_init(&s->region, device, &ferr_ops, 2);
    bus_map(device->bus, BUS_PORT, &s->region, 0xf0, LAYER_DEVICE);
    return true;
}

static void ferr_reset(struct device *device)
{
    ferr_update(container_of(device, struct ferr, dev), false);
}

static void ferr_restored(struct device *device)
{
    struct ferr *s = container_of(device, struct ferr, dev);
    ferr_update(s, s->raised);
}

const struct device_class ferr_class = {
    .name = "ferr",
    .title = "numeric error logic (port F0h, IRQ13)",
    .version = 1,
    .size = sizeof(struct ferr),
    .fields = ferr_fields,
    .init = ferr_init,
    .reset = ferr_reset,
    .restored = ferr_restored,
};
