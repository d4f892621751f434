/*
 * PCI functions and the one bus they sit on: configuration space, base address registers, INTx,
 * capabilities and MSI-X.
 * Specification: PCI Local Bus 3.0.
 * Not modelled: bridges (bus numbers above 0 are empty), 66 MHz, parity, MSI (only MSI-X), PCIe.
 */
#include <stdio.h>
#include <stdlib.h>

#include "devices/pci.h"

#define PCI_FUNCTIONS 256
#define PCI_ROM PCI_BARS /* the expansion ROM's place in bars[] */
#define MSIX_REGION_SIZE 4096
#define MSIX_PENDING_OFFSET 2048
#define MSIX_MAX_VECTORS 64
#define ROM_MAX_SIZE MIB(16)

enum {
    CONFIG_VENDOR = 0x00, CONFIG_DEVICE = 0x02, CONFIG_COMMAND = 0x04, CONFIG_STATUS = 0x06,
    CONFIG_REVISION = 0x08, CONFIG_CLASS = 0x09, CONFIG_CACHE_LINE = 0x0c, CONFIG_LATENCY = 0x0d,
    CONFIG_BAR0 = 0x10, CONFIG_SUBSYSTEM_VENDOR = 0x2c, CONFIG_SUBSYSTEM = 0x2e, CONFIG_ROM = 0x30,
    CONFIG_CAPABILITIES = 0x34, CONFIG_INTERRUPT_LINE = 0x3c, CONFIG_INTERRUPT_PIN = 0x3d,
    CONFIG_HEADER_END = 0x40,
};

enum { COMMAND_IO = 1, COMMAND_MEMORY = 2, COMMAND_INTX_DISABLE = 1 << 10,
       COMMAND_WRITABLE = 0x547 };
enum { STATUS_INTERRUPT = 1 << 3, STATUS_CAPABILITIES = 1 << 4, STATUS_ERRORS = 0xf900 };
enum { CAPABILITY_MSIX = 0x11, MSIX_ENABLE = 0x8000, MSIX_FUNCTION_MASK = 0x4000 };

struct pci_bus {
    struct bus *bus;
    struct log *log;
    struct pci_device *function[PCI_FUNCTIONS];
    u64 asserted[4][PCI_FUNCTIONS / 64]; /* per PIRQ, a bit for each function that drives it */
    struct wire pirq[4];
    void (*msi)(void *opaque, u64 address, u32 data);
    void *msi_opaque;
};

const struct state_field pci_device_fields[] = {
#define STATE_OWNER struct pci_device
    PCI_STATE(STATE_F_SCALAR, STATE_F_ARRAY, STATE_F_GROUP, STATE_F_BLOB)
#undef STATE_OWNER
    {NULL, 0, 0, 0, 0, NULL}};

/* --- identity ------------------------------------------------------------------------------ */

void pci_set_ids(struct pci_device *d, u16 vendor, u16 id, u8 revision, u32 class_code,
                 u16 subsystem_vendor, u16 subsystem_id)
{
    st16(d->config + CONFIG_VENDOR, vendor);
    st16(d->config + CONFIG_DEVICE, id);
    d->config[CONFIG_REVISION] = revision;
    d->config[CONFIG_CLASS] = (u8)class_code;
    st16(d->config + CONFIG_CLASS + 1, (u16)(class_code >> 8));
    st16(d->config + CONFIG_SUBSYSTEM_VENDOR, subsystem_vendor);
    st16(d->config + CONFIG_SUBSYSTEM, subsystem_id);
    st16(d->writable + CONFIG_COMMAND, COMMAND_WRITABLE);
    st16(d->clear_on_write + CONFIG_STATUS, STATUS_ERRORS);
    d->writable[CONFIG_CACHE_LINE] = 0xff;
    d->writable[CONFIG_LATENCY] = 0xff;
    d->writable[CONFIG_INTERRUPT_LINE] = 0xff;
}

void pci_set_interrupt_pin(struct pci_device *d, u8 interrupt_pin)
{
    d->config[CONFIG_INTERRUPT_PIN] = interrupt_pin;
}

u16 pci_add_capability(struct pci_device *d, u8 id, unsigned length)
{
    unsigned at = d->capabilities_end ? d->capabilities_end : CONFIG_HEADER_END;
    if (at + length > PCI_CONFIG_SIZE) return 0;
    d->config[at] = id;
    d->config[at + 1] = d->config[CONFIG_CAPABILITIES];
    d->config[CONFIG_CAPABILITIES] = (u8)at;
    d->config[CONFIG_STATUS] |= STATUS_CAPABILITIES;
    d->capabilities_end = (u16)((at + length + 3) & ~3u);
    return (u16)at;
}

/* --- base address registers ---------------------------------------------------------------- */

static unsigned bar_offset(unsigned index)
{
    return index == PCI_ROM ? CONFIG_ROM : CONFIG_BAR0 + 4 * index;
}

void pci_add_bar(struct pci_device *d, unsigned index, struct region *region, bool is_port,
                 bool is_64bit, bool prefetchable)
{
    struct pci_bar *bar = &d->bars[index];
    u8 *config = d->config + bar_offset(index), *writable = d->writable + bar_offset(index);
    u64 least = index == PCI_ROM ? 2048 : is_port ? 4 : 16, size = least;
    while (size < region->size) size <<= 1;
    *bar = (struct pci_bar){.region = region, .size = size, .is_port = is_port,
                            .is_64bit = is_64bit, .prefetchable = prefetchable};
    st32(writable, (u32)~(size - 1));
    if (is_64bit) st32(writable + 4, (u32)(~(size - 1) >> 32));
    if (index == PCI_ROM)
        writable[0] |= 1;
    else
        config[0] = is_port ? 1 : (is_64bit ? 4 : 0) | (prefetchable ? 8 : 0);
}

/* Where the guest has put a BAR now; false when it is not decoded at all. */
static bool bar_decoded(const struct pci_device *d, unsigned index, u64 *address)
{
    const struct pci_bar *bar = &d->bars[index];
    const u8 *config = d->config + bar_offset(index);
    u16 command = ld16(d->config + CONFIG_COMMAND);
    if (!bar->region || !(command & (bar->is_port ? COMMAND_IO : COMMAND_MEMORY))) return false;
    if (index == PCI_ROM && !(config[0] & 1)) return false;
    u64 base = ld32(config);
    if (bar->is_64bit) base |= (u64)ld32(config + 4) << 32;
    base &= ~(bar->size - 1);
    u64 last = base + bar->size - 1;
    /* Zero is "not assigned"; ending at the very top is a BAR being sized. */
    if (base == 0 || last < base || last == UINT32_MAX || last == UINT64_MAX) return false;
    if (last > (bar->is_port ? UINT16_MAX : bar->is_64bit ? UINT64_MAX : UINT32_MAX)) return false;
    *address = base;
    return true;
}

static void pci_update_mappings(struct pci_device *d)
{
    for (unsigned i = 0; i <= PCI_ROM; i++) {
        struct pci_bar *bar = &d->bars[i];
        u64 address = 0;
        bool decoded = bar_decoded(d, i, &address);
        if (decoded == bar->mapped && (!decoded || address == bar->address)) continue;
        if (bar->mapped) bus_unmap(d->dev.bus, bar->region);
        bar->mapped = decoded;
        bar->address = address;
        if (decoded)
            bus_map(d->dev.bus, bar->is_port ? BUS_PORT : BUS_MEMORY, bar->region, address,
                    LAYER_DEVICE);
    }
}

/*
 * Firmware starts a ROM only when it names the card's own number. A card that goes by two of them
 * (virtio, transitional and modern) has one ROM file: it gets the card's number here. Byte 6, free
 * in the headers of network ROMs, keeps the sum of the image as it was.
 */
static void adopt_rom(const struct pci_device *d, u8 *memory, u64 size)
{
    u32 at = ld16(memory + 0x18);
    if (at + 8u > size || memcmp(memory + at, "PCIR", 4) ||
        ld16(memory + at + 4) != ld16(d->config + CONFIG_VENDOR))
        return;
    u16 now = ld16(d->config + CONFIG_DEVICE), then = ld16(memory + at + 6);
    st16(memory + at + 6, now);
    memory[6] = (u8)(memory[6] + (then & 0xff) + (then >> 8) - (now & 0xff) - (now >> 8));
}

bool pci_load_rom(struct pci_device *d, const char *path, struct error *error)
{
    FILE *file = fopen(path, "rb");
    if (!file) return error_set(error, "%s: cannot open option ROM", path);
    fseek(file, 0, SEEK_END);
    long length = ftell(file);
    rewind(file);
    if (length < 512 || (u64)length > ROM_MAX_SIZE) {
        fclose(file);
        return error_set(error, "%s: option ROM of %ld bytes", path, length);
    }
    u64 size = 2048;
    while (size < (u64)length) size <<= 1;
    u8 *memory = bus_alloc_memory(d->dev.bus, size, "option ROM");
    bool ok = memory && fread(memory, 1, (size_t)length, file) == (size_t)length;
    fclose(file);
    if (!memory) return error_set(error, "%s: no memory left for the option ROM", path);
    if (!ok) return error_set(error, "%s: cannot read option ROM", path);
    if (memory[0] != 0x55 || memory[1] != 0xaa)
        return error_set(error, "%s: not an option ROM (no 55 AA signature)", path);
    adopt_rom(d, memory, size);
    region_init_memory(&d->rom_region, memory, size, true, "option ROM");
    pci_add_bar(d, PCI_ROM, &d->rom_region, false, false, false);
    return true;
}

/* --- interrupts ---------------------------------------------------------------------------- */

/* Brings the status bit and the PIRQ up to date with level, disable bit and pin. */
static void pci_update_interrupt(struct pci_device *d)
{
    struct pci_bus *pci = d->pci;
    u8 pin = d->config[CONFIG_INTERRUPT_PIN];
    d->config[CONFIG_STATUS] &= (u8)~STATUS_INTERRUPT;
    if (d->intx_level) d->config[CONFIG_STATUS] |= STATUS_INTERRUPT;
    if (!pci || pin < 1 || pin > 4) return;
    /* INTA# of slot 1 is PIRQA: the swizzle this family's firmware has built in. */
    unsigned line = ((d->devfn >> 3) + pin - 2u) & 3;
    u64 *word = &pci->asserted[line][d->devfn / 64], bit = 1ull << d->devfn % 64;
    if (d->intx_level && !(ld16(d->config + CONFIG_COMMAND) & COMMAND_INTX_DISABLE))
        *word |= bit;
    else
        *word &= ~bit;
    const u64 *all = pci->asserted[line];
    wire_set(&pci->pirq[line], (all[0] | all[1] | all[2] | all[3]) != 0);
}

void pci_set_interrupt(struct pci_device *d, bool level)
{
    if (d->intx_level == level) return;
    d->intx_level = level;
    pci_update_interrupt(d);
}

static u64 msix_read(struct device *device, u64 offset, unsigned size)
{
    struct pci_device *d = (struct pci_device *)device;
    (void)size;
    if (offset + 4 <= 16u * d->msix_vectors) return ld32(d->msix_table + offset);
    u64 pending = offset - MSIX_PENDING_OFFSET;
    if (offset >= MSIX_PENDING_OFFSET && pending + 4 <= sizeof d->msix_pending)
        return ld32(d->msix_pending + pending);
    return 0;
}

/* Sends what waited behind a mask that is gone now. */
static void msix_flush(struct pci_device *d)
{
    for (unsigned v = 0; v < d->msix_vectors; v++)
        if (d->msix_pending[v / 8] >> v % 8 & 1) {
            d->msix_pending[v / 8] &= (u8)~(1u << v % 8);
            pci_msix_send(d, v); /* sets the bit again if still masked */
        }
}

static void msix_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct pci_device *d = (struct pci_device *)device;
    (void)size;
    if (offset + 4 > 16u * d->msix_vectors) return;
    u32 mask = offset % 16 == 12 ? 1 : offset % 16 == 0 ? ~3u : ~0u;
    st32(d->msix_table + offset, (u32)value & mask);
    if (offset % 16 == 12 && pci_msix_enabled(d)) msix_flush(d);
}

static const struct region_ops msix_ops = {
    .name = "msix", .read = msix_read, .write = msix_write, .min_size = 4, .max_size = 4};

void pci_add_msix(struct pci_device *d, unsigned index, unsigned vectors)
{
    u16 at = pci_add_capability(d, CAPABILITY_MSIX, 12);
    if (!at || vectors < 1 || vectors > MSIX_MAX_VECTORS) return;
    d->msix_capability = at;
    d->msix_vectors = (u16)vectors;
    d->msix_bar = (u8)index;
    d->msix_table_offset = 0;
    d->msix_pending_offset = MSIX_PENDING_OFFSET;
    st16(d->config + at + 2, (u16)(vectors - 1));
    st16(d->writable + at + 2, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    st32(d->config + at + 4, d->msix_table_offset | index);
    st32(d->config + at + 8, d->msix_pending_offset | index);
    region_init(&d->msix_region, &d->dev, &msix_ops, MSIX_REGION_SIZE);
    pci_add_bar(d, index, &d->msix_region, false, false, false);
}

static u16 msix_control(const struct pci_device *d)
{
    return d->msix_capability ? ld16(d->config + d->msix_capability + 2) : 0;
}

bool pci_msix_enabled(struct pci_device *d)
{
    return (msix_control(d) & MSIX_ENABLE) != 0;
}

void pci_msix_send(struct pci_device *d, unsigned vector)
{
    if (vector >= d->msix_vectors || !pci_msix_enabled(d)) return;
    const u8 *entry = d->msix_table + 16 * vector;
    if ((msix_control(d) & MSIX_FUNCTION_MASK) || (entry[12] & 1)) {
        d->msix_pending[vector / 8] |= (u8)(1u << vector % 8);
        return;
    }
    if (!pci_is_master(d)) {
        guest_error(&d->dev, "%s: MSI-X message with bus mastering off", d->dev.id);
        return;
    }
    if (d->pci && d->pci->msi) d->pci->msi(d->pci->msi_opaque, ld64(entry), ld32(entry + 8));
}

/* --- verbs that a chip's own call ---------------------------------------------------------- */

void pci_device_reset(struct pci_device *d)
{
    for (unsigned i = 0; i < CONFIG_HEADER_END; i++)
        d->config[i] &= (u8)~(d->writable[i] | d->clear_on_write[i]);
    if (d->msix_capability) {
        u8 *control = d->config + d->msix_capability + 2;
        st16(control, ld16(control) & ~(MSIX_ENABLE | MSIX_FUNCTION_MASK));
    }
    memset(d->msix_table, 0, sizeof d->msix_table);
    memset(d->msix_pending, 0, sizeof d->msix_pending);
    for (unsigned v = 0; v < d->msix_vectors; v++) d->msix_table[16 * v + 12] = 1;
    d->intx_level = 0;
    pci_update_interrupt(d);
    pci_update_mappings(d);
}

void pci_device_restored(struct pci_device *d)
{
    if (d->msix_vectors > MSIX_MAX_VECTORS) d->msix_vectors = MSIX_MAX_VECTORS;
    pci_update_interrupt(d);
    pci_update_mappings(d);
}

/* --- the bus ------------------------------------------------------------------------------- */

struct pci_bus *pci_bus_new(struct bus *bus, struct log *log)
{
    struct pci_bus *pci = calloc(1, sizeof *pci);
    if (!pci) return NULL;
    pci->bus = bus;
    pci->log = log;
    return pci;
}

void pci_bus_free(struct pci_bus *pci)
{
    free(pci);
}

bool pci_bus_add(struct pci_bus *pci, struct pci_device *d, int devfn, struct error *error)
{
    if (devfn < 0) {
        /* A slot with any function in it is taken: only the board places multifunction parts. */
        for (devfn = 0; devfn < PCI_FUNCTIONS; devfn += 8) {
            bool used = false;
            for (int f = 0; f < 8; f++) used |= pci->function[devfn + f] != NULL;
            if (!used) break;
        }
        if (devfn >= PCI_FUNCTIONS)
            return error_set(error, "%s: no free PCI slot", d->dev.class->name);
    }
    if (devfn >= PCI_FUNCTIONS || pci->function[devfn])
        return error_set(error, "%s: PCI address %02x.%x is %s", d->dev.class->name, devfn >> 3,
                         devfn & 7, devfn >= PCI_FUNCTIONS ? "not on the bus" : "taken");
    pci->function[devfn] = d;
    d->pci = pci;
    d->devfn = (u8)devfn;
    return true;
}

struct pci_device *pci_bus_at(struct pci_bus *pci, u8 devfn)
{
    return pci->function[devfn];
}

void pci_bus_set_pirq(struct pci_bus *pci, const struct wire pirq[4])
{
    memcpy(pci->pirq, pirq, sizeof pci->pirq);
}

void pci_bus_set_msi(struct pci_bus *pci, void (*send)(void *opaque, u64 address, u32 data),
                     void *opaque)
{
    pci->msi = send;
    pci->msi_opaque = opaque;
}

u32 pci_config_read(struct pci_bus *pci, u8 bus_number, u8 devfn, u16 offset, unsigned size)
{
    struct pci_device *d = bus_number == 0 ? pci->function[devfn] : NULL;
    u32 value = 0;
    if (!d || offset + size > PCI_CONFIG_SIZE) return (u32)size_mask(size);
    if (d->config_reading) d->config_reading(d, offset, size);
    for (unsigned i = 0; i < size; i++) value |= (u32)d->config[offset + i] << 8 * i;
    return value;
}

static bool overlaps(u16 offset, unsigned size, unsigned start, unsigned length)
{
    return offset < start + length && start < offset + size;
}

void pci_config_write(struct pci_bus *pci, u8 bus_number, u8 devfn, u16 offset, u32 value,
                      unsigned size)
{
    struct pci_device *d = bus_number == 0 ? pci->function[devfn] : NULL;
    if (!d || offset + size > PCI_CONFIG_SIZE) return;
    for (unsigned i = 0; i < size; i++) {
        u8 byte = (u8)(value >> 8 * i), mask = d->writable[offset + i];
        u8 *at = &d->config[offset + i];
        *at = (u8)((*at & ~mask) | (byte & mask));
        *at &= (u8)~(byte & d->clear_on_write[offset + i]);
    }
    if (overlaps(offset, size, CONFIG_COMMAND, 2)) pci_update_interrupt(d);
    if (overlaps(offset, size, CONFIG_COMMAND, 2) || overlaps(offset, size, CONFIG_BAR0, 24) ||
        overlaps(offset, size, CONFIG_ROM, 4))
        pci_update_mappings(d);
    if (d->msix_capability && overlaps(offset, size, d->msix_capability + 2u, 2) &&
        pci_msix_enabled(d))
        msix_flush(d);
    if (d->config_written) d->config_written(d, offset, value, size);
}
