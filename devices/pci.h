/*
 * PCI functions and the bus they sit on, to devices that are PCI functions.
 * Specification: PCI Local Bus 3.0, capabilities MSI-X. Config mechanism #1 lives in i440fx.c.
 *
 * A PCI chip's struct begins with struct pci_device; its init calls pci_set_ids and pci_add_bar;
 * the core maps BARs as the guest moves them, keeps command/status, and routes INTA#.
 */
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include "machine/device.h"

#define PCI_BARS 6
#define PCI_CONFIG_SIZE 256

struct pci_bus;

struct pci_bar {
    struct region *region; /* NULL: not implemented */
    u64 size;              /* power of two, >= 16 (memory) or 4 (ports) */
    bool is_port, is_64bit, prefetchable;
    bool mapped;
    u64 address;
};

#define PCI_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                      \
    ARRAY(u8, config, PCI_CONFIG_SIZE)                                                             \
    SCALAR(u8, intx_level)                                                                         \
    SCALAR(u16, msix_vectors)                                                                      \
    ARRAY(u8, msix_table, 16 * 64)                                                                 \
    ARRAY(u8, msix_pending, 8)

struct pci_device {
    struct device dev;
    struct pci_bus *pci;
    u8 devfn;
    STATE_MEMBERS(PCI_STATE)
    u8 writable[PCI_CONFIG_SIZE];  /* bits of config the guest may change */
    u8 clear_on_write[PCI_CONFIG_SIZE];
    struct pci_bar bars[PCI_BARS + 1]; /* the last is the expansion ROM */
    struct region rom_region, msix_region;
    u8 msix_bar;
    u32 msix_table_offset, msix_pending_offset;
    u16 msix_capability;           /* config offset; 0: none */
    u16 capabilities_end;          /* first config byte free for a capability; 0: none added yet */
    /* Optional: told after the core has handled a config write (chips with registers of their
     * own). */
    void (*config_written)(struct pci_device *, u16 offset, u32 value, unsigned size);
    /* Optional: told before a config read, to bring config[] up to date (windows onto a BAR). */
    void (*config_reading)(struct pci_device *, u16 offset, unsigned size);
    const char *romfile;           /* property: option ROM path, "" for none */
};

/* Put this in a PCI chip's property table. */
#define PCI_PROPERTIES                                                                             \
    {"romfile", PROPERTY_STRING, offsetof(struct pci_device, romfile), NULL, "option ROM image"}

/* The pci_device part's declared state, put as GROUP-like first entries by the core; a chip's own
 * fields table lists only its own registers. */
extern const struct state_field pci_device_fields[];

void pci_set_ids(struct pci_device *device, u16 vendor, u16 id, u8 revision, u32 class_code,
                 u16 subsystem_vendor, u16 subsystem_id);
/* INTERRUPT_PIN: 0 none, 1 INTA#. */
void pci_set_interrupt_pin(struct pci_device *device, u8 interrupt_pin);

/* BAR number INDEX answers with REGION (region_init'ed by the chip). */
void pci_add_bar(struct pci_device *device, unsigned index, struct region *region, bool is_port,
                 bool is_64bit, bool prefetchable);

/* Appends a capability of LENGTH bytes; returns its config offset. The chip fills config[] and
 * writable[]. */
u16 pci_add_capability(struct pci_device *device, u8 id, unsigned length);

/* MSI-X with VECTORS entries (<= 64), table and PBA in BAR INDEX, a 4 KiB memory BAR of its own. */
void pci_add_msix(struct pci_device *device, unsigned index, unsigned vectors);
bool pci_msix_enabled(struct pci_device *device);
void pci_msix_send(struct pci_device *device, unsigned vector); /* honours masks, sets pending */

/* Drives INTA#. The status register's interrupt bit and the disable bit are the core's affair. */
void pci_set_interrupt(struct pci_device *device, bool level);

/* Loads an option ROM into the ROM BAR. */
bool pci_load_rom(struct pci_device *device, const char *path, struct error *error);

/* Bus mastering enabled? A chip must not DMA when it isn't. */
static inline bool pci_is_master(const struct pci_device *d) { return d->config[4] & 4; }

/* Resets the pci_device part (command, BARs, MSI-X); a chip's reset calls it first. */
void pci_device_reset(struct pci_device *device);
/* Rebuilds mappings after a load; a chip's restored calls it. */
void pci_device_restored(struct pci_device *device);

/* --- for the host bridge and the board --- */
struct pci_bus *pci_bus_new(struct bus *bus, struct log *log);
/* DEVFN -1: the first free slot. False when it is taken. */
bool pci_bus_add(struct pci_bus *pci, struct pci_device *device, int devfn, struct error *error);
struct pci_device *pci_bus_at(struct pci_bus *pci, u8 devfn);
u32 pci_config_read(struct pci_bus *pci, u8 bus_number, u8 devfn, u16 offset, unsigned size);
void pci_config_write(struct pci_bus *pci, u8 bus_number, u8 devfn, u16 offset, u32 value,
                      unsigned size);
/* INTx: PIRQ[(slot + pin - 1) & 3] changes as any function on it drives it (wired-or). */
void pci_bus_set_pirq(struct pci_bus *pci, const struct wire pirq[4]);
/* Message-signalled interrupts leave here: a 32-bit write to ADDRESS (FEExxxxxh). */
void pci_bus_set_msi(struct pci_bus *pci, void (*send)(void *opaque, u64 address, u32 data),
                     void *opaque);
void pci_bus_free(struct pci_bus *pci);

#endif
