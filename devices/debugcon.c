/*
 * The debug console port of Bochs and QEMU: every byte written to it goes to a character device.
 * Reading gives E9h, by which guests recognise it.
 */
#include "machine/chardev.h"
#include "machine/device.h"

#define DEBUGCON_STATE(SCALAR, ARRAY, GROUP, BLOB) /* none */

struct debugcon {
    struct device dev;
    u32 iobase, readback;    /* properties */
    struct chardev *chardev; /* property */
    struct region region;
};

#define STATE_OWNER struct debugcon
STATE_TABLE(debugcon, DEBUGCON_STATE)
#undef STATE_OWNER

static u64 debugcon_read(struct device *device, u64 offset, unsigned size)
{
    (void)offset, (void)size;
    return container_of(device, struct debugcon, dev)->readback;
}

static void debugcon_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct debugcon *s = container_of(device, struct debugcon, dev);
    u8 byte = value;
    (void)offset, (void)size;
    /* No flow control in this interface: what the host side can't take is lost. */
    chardev_write(s->chardev, &byte, 1);
}

static const struct region_ops debugcon_ops = {"debugcon", debugcon_read, debugcon_write, 1, 1};

static bool debugcon_init(struct device *device, struct error *error)
{
    struct debugcon *s = container_of(device, struct debugcon, dev);
    if (s->iobase > 0xffff) return error_set(error, "isa-debugcon: no port 0x%x", s->iobase);
    region_init(&s->region, device, &debugcon_ops, 1);
    bus_map(device->bus, BUS_PORT, &s->region, s->iobase, LAYER_DEVICE);
    return true;
}

static const struct property debugcon_properties[] = {
    {"iobase", PROPERTY_U32, offsetof(struct debugcon, iobase), "0xe9", "port"},
    {"readback", PROPERTY_U32, offsetof(struct debugcon, readback), "0xe9", "what reading gives"},
    {"chardev", PROPERTY_CHARDEV, offsetof(struct debugcon, chardev), NULL, "where it goes"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class debugcon_class = {
    .name = "isa-debugcon",
    .title = "debug console port",
    .version = 1,
    .size = sizeof(struct debugcon),
    .fields = debugcon_fields,
    .properties = debugcon_properties,
    .user_creatable = true,
    .init = debugcon_init,
};
