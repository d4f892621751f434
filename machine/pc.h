/* The board's own notes, for the files that build it. */
#ifndef MACHINE_PC_H
#define MACHINE_PC_H

#include "machine/device.h"
#include "machine/machine.h"
#include "net/nat.h" /* struct nat_poll */

/* One interrupt line of the ISA bus: any of its sources pulls it up. */
struct pc_line {
    u32 sources; /* one bit a source that drives it */
    unsigned source_count;
    u64 rises; /* for info irq */
};

struct pc {
    struct machine *machine;
    struct device *pic[2], *ioapic, *pit, *rtc, *fw_cfg, *host_bridge, *isa_bridge, *pm, *hpet,
        *dma, *floppy, *ferr;
    struct device *lapic[MAX_VCPUS];
    struct apic_bus *apic_bus;
    struct pci_bus *pci;
    struct pc_line line[16];
    bool hpet_legacy; /* the HPET has taken IRQ 0 and 8 over */
    u32 timer_line[2]; /* the 8254's and the RTC's inputs of these, and their levels */
    bool timer_level[2];
    u8 *ram;
    u64 ram_below_4g, ram_above_4g;
    struct region ram_low, ram_high, ram_alias[13], hole, smram, bios_high, bios_low;
    u8 *bios;
    u64 bios_size;
    bool has_flash, booted_once;
    struct nat_poll poll;
};

/* A wire onto ISA interrupt N (8259 and I/O APIC), shared with whoever else drives it. */
struct wire pc_irq(struct pc *pc, unsigned n);

/* --- pc_memory.c: RAM, shadow RAM, SMRAM, firmware ROM or flash --- */
bool pc_build_memory(struct pc *pc, struct error *error);
void pc_memory_hooks(struct pc *pc); /* after the host bridge exists, before its init */

/* --- pc_firmware.c: what fw_cfg and CMOS tell --- */
bool pc_describe(struct pc *pc, struct error *error);

/* --- boot.c: -kernel --- */
bool boot_kernel(struct pc *pc, struct error *error);
/* Adds an option ROM file for the firmware to run, first in boot order when `first`. */
bool boot_option_rom(struct pc *pc, const char *name, struct error *error);

#endif
