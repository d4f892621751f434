/*
 * System control port A at 92h: fast A20 gate and fast reset.
 * Specification: IBM PS/2 Hardware Interface Technical Reference.
 * The last writer of A20 wins, here or in the keyboard controller. Not modelled: the password lock
 * and activity light bits, which are remembered only.
 */
#include "machine/device.h"

enum { PORT92_RESET = 0x01, PORT92_A20 = 0x02 };

#define PORT92_STATE(SCALAR, ARRAY, GROUP, BLOB) SCALAR(u8, control)

struct port92 {
    struct device dev;
    STATE_MEMBERS(PORT92_STATE)
    struct region region;
};

#define STATE_OWNER struct port92
STATE_TABLE(port92, PORT92_STATE)
#undef STATE_OWNER

static u64 port92_read(struct device *device, u64 offset, unsigned size)
{
    (void)offset, (void)size;
    return container_of(device, struct port92, dev)->control;
}

static void port92_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct port92 *s = container_of(device, struct port92, dev);
    struct machine_services *services = device->services;
    u8 rose = value & ~s->control;
    (void)offset, (void)size;
    s->control = value;
    if (!services) return;
    services->set_a20(services, value & PORT92_A20);
    if (rose & PORT92_RESET) services->shutdown(services, SHUTDOWN_GUEST_RESET, 0);
}

static const struct region_ops port92_ops = {"port92", port92_read, port92_write, 1, 1};

static bool port92_init(struct device *device, struct error *error)
{
    struct port92 *s = container_of(device, struct port92, dev);
    (void)error;
    region_init(&s->region, device, &port92_ops, 1);
    bus_map(device->bus, BUS_PORT, &s->region, 0x92, LAYER_DEVICE);
    return true;
}

/* The keyboard controller's reset sets A20 itself. */
static void port92_reset(struct device *device)
{
    container_of(device, struct port92, dev)->control = PORT92_A20;
}

static void port92_restored(struct device *device)
{
    (void)device; /* A20 itself is the machine's state */
}

const struct device_class port92_class = {
    .name = "port92",
    .title = "fast A20 and reset port",
    .version = 1,
    .size = sizeof(struct port92),
    .fields = port92_fields,
    .init = port92_init,
    .reset = port92_reset,
    .restored = port92_restored,
};
