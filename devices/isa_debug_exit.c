/* QEMU's isa-debug-exit: writing VALUE ends the emulator with exit status VALUE * 2 + 1. */
#include "machine/device.h"

#define ISA_DEBUG_EXIT_STATE(SCALAR, ARRAY, GROUP, BLOB) /* none */

struct isa_debug_exit {
    struct device dev;
    u32 iobase, iosize; /* properties */
    struct region region;
};

#define STATE_OWNER struct isa_debug_exit
STATE_TABLE(isa_debug_exit, ISA_DEBUG_EXIT_STATE)
#undef STATE_OWNER

static u64 isa_debug_exit_read(struct device *device, u64 offset, unsigned size)
{
    (void)device, (void)offset, (void)size;
    return 0;
}

static void isa_debug_exit_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct machine_services *services = device->services;
    (void)offset, (void)size;
    if (services) services->shutdown(services, SHUTDOWN_EXIT_DEVICE, (int)((u32)value << 1 | 1));
}

static const struct region_ops isa_debug_exit_ops = {"isa-debug-exit", isa_debug_exit_read,
                                                     isa_debug_exit_write, 1, 4};

static bool isa_debug_exit_init(struct device *device, struct error *error)
{
    struct isa_debug_exit *s = container_of(device, struct isa_debug_exit, dev);
    if (!s->iosize || s->iosize > 8 || s->iobase > 0x10000 - s->iosize) {
        return error_set(error, "isa-debug-exit: no %u ports at 0x%x", s->iosize, s->iobase);
    }
    region_init(&s->region, device, &isa_debug_exit_ops, s->iosize);
    bus_map(device->bus, BUS_PORT, &s->region, s->iobase, LAYER_DEVICE);
    return true;
}

static const struct property isa_debug_exit_properties[] = {
    {"iobase", PROPERTY_U32, offsetof(struct isa_debug_exit, iobase), "0x501", "first port"},
    {"iosize", PROPERTY_U32, offsetof(struct isa_debug_exit, iosize), "2", "number of ports"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class isa_debug_exit_class = {
    .name = "isa-debug-exit",
    .title = "port that ends the emulator",
    .version = 1,
    .size = sizeof(struct isa_debug_exit),
    .fields = isa_debug_exit_fields,
    .properties = isa_debug_exit_properties,
    .user_creatable = true,
    .init = isa_debug_exit_init,
};
