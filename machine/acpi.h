/*
 * ACPI tables, handed to the firmware through fw_cfg's table loader. Thread: machine lock held.
 */
#ifndef MACHINE_ACPI_H
#define MACHINE_ACPI_H

#include "machine/device.h"

struct acpi_config {
    unsigned vcpus;          /* 1 to 255 */
    const u32 *apic_ids;     /* one a processor; NULL: the index */
    u16 pm_base;             /* where the firmware puts the PM ports; 0: 600h */
    u32 pci_hole;            /* first address of the 32-bit PCI window; 0: 80000000h */
    u64 pci_hole64_start, pci_hole64_end; /* last is inclusive; start 0: no such window */
    unsigned serial_ports, parallel_ports; /* 0 to 4, 0 to 1 */
    bool floppy, keyboard, hpet;
    bool sleep_s3, sleep_s4; /* suspend to RAM; power off after a suspend to disk */
    bool acpi1;              /* for guests of that age: no XSDT, no reset register */
};

/* (Re)places etc/acpi/tables, etc/acpi/rsdp and etc/table-loader. Again when pm_base moves. */
void acpi_build(struct device *fw_cfg, const struct acpi_config *config);

#endif
