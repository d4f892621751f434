/*
 * The guest's way to say that it has panicked.
 * Specification: QEMU's docs/specs/pvpanic, ISA variant.
 * A crash the guest goes on from (crash loaded) is only logged.
 */
#include "machine/device.h"

enum { PVPANIC_PANICKED = 1, PVPANIC_CRASH_LOADED = 2 };

#define PVPANIC_STATE(SCALAR, ARRAY, GROUP, BLOB) /* none */

struct pvpanic {
    struct device dev;
    u32 iobase; /* property */
    struct region region;
};

#define STATE_OWNER struct pvpanic
STATE_TABLE(pvpanic, PVPANIC_STATE)
#undef STATE_OWNER

static u64 pvpanic_read(struct device *device, u64 offset, unsigned size)
{
    (void)device, (void)offset, (void)size;
    return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct machine_services *services = device->services;
    (void)offset, (void)size;
    if (value & ~(u64)(PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)) {
        guest_error(device, "pvpanic: unknown event %02xh", (unsigned)value);
    }
    if (value & PVPANIC_CRASH_LOADED) log_to(device->log, LOG_DEVICE, "pvpanic: crash loaded");
    if ((value & PVPANIC_PANICKED) && services) services->shutdown(services, SHUTDOWN_PANIC, 1);
}

static const struct region_ops pvpanic_ops = {"pvpanic", pvpanic_read, pvpanic_write, 1, 1};

static bool pvpanic_init(struct device *device, struct error *error)
{
    struct pvpanic *s = container_of(device, struct pvpanic, dev);
    if (s->iobase > 0xffff) return error_set(error, "pvpanic: no port 0x%x", s->iobase);
    region_init(&s->region, device, &pvpanic_ops, 1);
    bus_map(device->bus, BUS_PORT, &s->region, s->iobase, LAYER_DEVICE);
    return true;
}

static const struct property pvpanic_properties[] = {
    {"ioport", PROPERTY_U32, offsetof(struct pvpanic, iobase), "0x505", "port"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class pvpanic_class = {
    .name = "pvpanic",
    .title = "guest panic notifier",
    .version = 1,
    .size = sizeof(struct pvpanic),
    .fields = pvpanic_fields,
    .properties = pvpanic_properties,
    .user_creatable = true,
    .init = pvpanic_init,
};
