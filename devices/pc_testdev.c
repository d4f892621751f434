/*
 * QEMU's pc-testdev, which system-level test suites use: ports that keep what is written to them,
 * the board's interrupt lines one port each, and a page of memory that is a device.
 *
 * Ports: E0h-E3h and E8h-EBh keep values (the second pair byte by byte), E4h-E7h ask for a page to
 * be taken out of the emulator's own tables, which a guest must not notice, and is nothing here.
 * 2000h + n drives line n of the I/O APIC. FF000000h: 64 KiB that keep what is written. No
 * specification; after QEMU's behaviour.
 */
#include "machine/device.h"

#include <string.h>

enum { IOMEM_SIZE = 0x10000, LINES = 24 };

#define PC_TESTDEV_STATE(SCALAR, ARRAY, GROUP, BLOB)                                               \
    SCALAR(u32, port)                                                                              \
    ARRAY(u8, bytes, 4)                                                                            \
    ARRAY(u8, line, 24)                                                                            \
    ARRAY(u8, memory, 0x10000)

struct pc_testdev {
    struct device dev;
    STATE_MEMBERS(PC_TESTDEV_STATE)
    struct region port_region, flush_region, byte_region, line_region, memory_region;
    struct wire wire[LINES];
};

#define STATE_OWNER struct pc_testdev
STATE_TABLE(pc_testdev, PC_TESTDEV_STATE)
#undef STATE_OWNER

static struct pc_testdev *of(struct device *device)
{
    return container_of(device, struct pc_testdev, dev);
}

static u64 ones(unsigned size) { return size < 8 ? (1ull << size * 8) - 1 : ~0ull; }

static u64 port_read(struct device *device, u64 offset, unsigned size)
{
    return of(device)->port >> offset * 8 & ones(size);
}

static void port_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct pc_testdev *s = of(device);
    u64 mask = ones(size) << offset * 8;
    s->port = (u32)((s->port & ~mask) | (value << offset * 8 & mask));
}

static u64 byte_read(struct device *device, u64 offset, unsigned size)
{
    (void)size;
    return of(device)->bytes[offset];
}

static void byte_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)size;
    of(device)->bytes[offset] = (u8)value;
}

static void flush_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)device, (void)offset, (void)value, (void)size;
}

static void line_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct pc_testdev *s = of(device);
    (void)size;
    s->line[offset] = value != 0;
    wire_set(&s->wire[offset], s->line[offset]);
}

static u64 memory_read(struct device *device, u64 offset, unsigned size)
{
    u64 value = 0;
    memcpy(&value, of(device)->memory + offset, size);
    return le64(value);
}

static void memory_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    value = le64(value);
    memcpy(of(device)->memory + offset, &value, size);
}

static const struct region_ops port_ops = {"pc-testdev-ioport", port_read, port_write, 1, 4};
static const struct region_ops byte_ops = {"pc-testdev-ioport-byte", byte_read, byte_write, 1, 1};
static const struct region_ops flush_ops = {"pc-testdev-flush-page", NULL, flush_write, 1, 4};
static const struct region_ops line_ops = {"pc-testdev-irq-line", NULL, line_write, 1, 1};
static const struct region_ops memory_ops = {"pc-testdev-iomem", memory_read, memory_write, 1, 8};

static void pc_testdev_connect(struct device *device, struct wire (*irq)(void *board, unsigned n),
                               void *board)
{
    struct pc_testdev *s = of(device);
    for (unsigned n = 0; n < LINES; n++) s->wire[n] = irq(board, n);
}

static bool pc_testdev_init(struct device *device, struct error *error)
{
    struct pc_testdev *s = of(device);
    (void)error;
    region_init(&s->port_region, device, &port_ops, 4);
    region_init(&s->flush_region, device, &flush_ops, 4);
    region_init(&s->byte_region, device, &byte_ops, 4);
    region_init(&s->line_region, device, &line_ops, LINES);
    region_init(&s->memory_region, device, &memory_ops, IOMEM_SIZE);
    bus_map(device->bus, BUS_PORT, &s->port_region, 0xe0, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->flush_region, 0xe4, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->byte_region, 0xe8, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->line_region, 0x2000, LAYER_DEVICE);
    bus_map(device->bus, BUS_MEMORY, &s->memory_region, 0xff000000, LAYER_DEVICE);
    return true;
}

static void pc_testdev_restored(struct device *device)
{
    struct pc_testdev *s = of(device);
    for (unsigned n = 0; n < LINES; n++) wire_set(&s->wire[n], s->line[n]);
}

static void pc_testdev_reset(struct device *device)
{
    struct pc_testdev *s = of(device);
    memset(s->line, 0, sizeof s->line);
    pc_testdev_restored(device);
}

const struct device_class pc_testdev_class = {
    .name = "pc-testdev",
    .title = "what test suites drive: ports, interrupt lines, memory",
    .version = 1,
    .size = sizeof(struct pc_testdev),
    .fields = pc_testdev_fields,
    .user_creatable = true,
    .connect = pc_testdev_connect,
    .init = pc_testdev_init,
    .reset = pc_testdev_reset,
    .restored = pc_testdev_restored,
};
