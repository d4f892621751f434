/* A virtio driver small enough for tests: modern through BAR 4, legacy through BAR 0. */
#ifndef TESTS_DEV_VIRTIO_DRIVER_H
#define TESTS_DEV_VIRTIO_DRIVER_H

#include "tests/dev/fixture.h"

#include "devices/pci.h"

#define DRIVER_IO 0xc000
#define DRIVER_MODERN 0xe0000000u
#define DRIVER_MSIX 0xe1000000u
#define DRIVER_SIZE 16 /* entries of a queue, modern */

struct driver {
    struct fixture f;
    struct pci_bus *pci;
    struct device *device;
    bool modern;
    unsigned size[4];
    u64 desc[4], avail[4], used[4];
    u16 next_desc[4], seen[4];
};

struct piece {
    u64 address;
    u32 length;
    bool write;
};

static inline void driver_begin(struct driver *d, const struct device_class *class)
{
    unsigned i;
    struct wire pirq[4];

    memset(d, 0, sizeof *d);
    fixture_init(&d->f);
    d->pci = pci_bus_new(d->f.bus, &d->f.log);
    for (i = 0; i < 4; i++) pirq[i] = fixture_wire(&d->f, 0);
    pci_bus_set_pirq(d->pci, pirq);
    d->device = fixture_device(&d->f, class);
}

static inline void driver_plug(struct driver *d)
{
    struct error error;

    if (!device_init(d->device, &error)) fail_msg("%s", error.text);
    assert_true(pci_bus_add(d->pci, (struct pci_device *)d->device, 3 << 3, &error));
    device_reset(d->device);
    pci_config_write(d->pci, 0, 3 << 3, 0x10, DRIVER_IO, 4);
    pci_config_write(d->pci, 0, 3 << 3, 0x14, DRIVER_MSIX, 4);
    pci_config_write(d->pci, 0, 3 << 3, 0x20, DRIVER_MODERN, 4);
    pci_config_write(d->pci, 0, 3 << 3, 0x24, 0, 4);
    pci_config_write(d->pci, 0, 3 << 3, 0x04, 7, 2);
}

static inline void driver_end(struct driver *d)
{
    device_free(d->device);
    pci_bus_free(d->pci);
    fixture_free(&d->f);
}

static inline u64 modern_in(struct driver *d, u32 at, unsigned size)
{
    return bus_memory_read(d->f.bus, DRIVER_MODERN + at, size);
}

static inline void modern_out(struct driver *d, u32 at, u64 value, unsigned size)
{
    bus_memory_write(d->f.bus, DRIVER_MODERN + at, value, size);
}

static inline u64 driver_offered(struct driver *d)
{
    u64 low;

    if (!d->modern) return in32(&d->f, DRIVER_IO);
    modern_out(d, 0, 0, 4);
    low = modern_in(d, 4, 4);
    modern_out(d, 0, 1, 4);
    return low | modern_in(d, 4, 4) << 32;
}

static inline u8 driver_status(struct driver *d)
{
    return d->modern ? (u8)modern_in(d, 0x14, 1) : in8(&d->f, DRIVER_IO + 18);
}

static inline void driver_set_status(struct driver *d, u8 status)
{
    if (d->modern) modern_out(d, 0x14, status, 1);
    else out8(&d->f, DRIVER_IO + 18, status);
}

static inline void driver_negotiate(struct driver *d, bool modern, u64 features)
{
    d->modern = modern;
    driver_set_status(d, 0);
    driver_set_status(d, 3);
    if (modern) {
        modern_out(d, 8, 0, 4);
        modern_out(d, 0xc, (u32)features, 4);
        modern_out(d, 8, 1, 4);
        modern_out(d, 0xc, features >> 32, 4);
        driver_set_status(d, 11);
        assert_true(driver_status(d) & 8);
    } else {
        out32(&d->f, DRIVER_IO + 4, (u32)features);
    }
}

/* Queue Q lives at (Q + 1) MiB. */
static inline void driver_queue(struct driver *d, unsigned q)
{
    u64 base = MIB(q + 1);

    if (d->modern) {
        modern_out(d, 0x16, q, 2);
        d->size[q] = (unsigned)modern_in(d, 0x18, 2);
        if (d->size[q] > DRIVER_SIZE) d->size[q] = DRIVER_SIZE;
        modern_out(d, 0x18, d->size[q], 2);
        d->desc[q] = base;
        d->avail[q] = base + 0x4000;
        d->used[q] = base + 0x8000;
        modern_out(d, 0x20, d->desc[q], 8);
        modern_out(d, 0x28, d->avail[q], 8);
        modern_out(d, 0x30, d->used[q], 8);
        modern_out(d, 0x1c, 1, 2);
    } else {
        out16(&d->f, DRIVER_IO + 14, (u16)q);
        d->size[q] = in16(&d->f, DRIVER_IO + 12);
        d->desc[q] = base;
        d->avail[q] = base + 16 * d->size[q];
        d->used[q] = (d->avail[q] + 6 + 2 * d->size[q] + 4095) & ~4095ull;
        out32(&d->f, DRIVER_IO + 8, (u32)(base >> 12));
    }
}

static inline void driver_go(struct driver *d)
{
    driver_set_status(d, d->modern ? 15 : 7);
}

static inline void put_descriptor(struct driver *d, u64 at, u64 address, u32 length, u16 flags,
                                  u16 next)
{
    st64(d->f.ram + at, address);
    st32(d->f.ram + at + 8, length);
    st16(d->f.ram + at + 12, flags);
    st16(d->f.ram + at + 14, next);
}

static inline void driver_offer(struct driver *d, unsigned q, u16 head)
{
    u8 *avail = d->f.ram + d->avail[q];
    u16 index = ld16(avail + 2);

    st16(avail + 4 + 2 * (index % d->size[q]), head);
    st16(avail + 2, (u16)(index + 1));
}

static inline void driver_kick(struct driver *d, unsigned q)
{
    if (d->modern) modern_out(d, 0x3000 + 4 * q, q, 2);
    else out16(&d->f, DRIVER_IO + 16, (u16)q);
}

/* Offers a chain of N pieces without telling; returns its head. */
static inline u16 driver_add(struct driver *d, unsigned q, const struct piece *piece, unsigned n)
{
    u16 head = d->next_desc[q];
    unsigned i;

    for (i = 0; i < n; i++) {
        u16 at = (u16)((head + i) % d->size[q]), next = (u16)((head + i + 1) % d->size[q]);
        put_descriptor(d, d->desc[q] + 16 * at, piece[i].address, piece[i].length,
                       (piece[i].write ? 2 : 0) | (i + 1 < n ? 1 : 0), next);
    }
    d->next_desc[q] = (u16)((head + n) % d->size[q]);
    driver_offer(d, q, head);
    return head;
}

/* The next used entry's length, or -1. */
static inline i64 driver_used(struct driver *d, unsigned q, u16 *head)
{
    u8 *used = d->f.ram + d->used[q];
    u8 *entry = used + 4 + 8 * (d->seen[q] % d->size[q]);

    if (ld16(used + 2) == d->seen[q]) return -1;
    d->seen[q]++;
    if (head) *head = (u16)ld32(entry);
    return ld32(entry + 4);
}

#endif
