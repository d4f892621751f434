/* The board's parts that depend on options: what pc.c calls in turn. */
#ifndef MACHINE_PC_PARTS_H
#define MACHINE_PC_PARTS_H

#include "machine/pc.h"

/* --- pc_devices.c --- */
bool pc_open_drives(struct pc *pc, struct error *error);
bool pc_add_ports(struct pc *pc, struct error *error);   /* serial, parallel, debug console, … */
bool pc_add_disks(struct pc *pc, struct error *error);   /* IDE, floppy, virtio */
bool pc_add_display(struct pc *pc, struct error *error);
bool pc_add_network(struct pc *pc, struct error *error);
bool pc_add_user_devices(struct pc *pc, struct error *error); /* -device */

/* --- pc.c --- */
bool pc_add_pci(struct pc *pc, struct device *device, struct error *error); /* first free slot */
struct device *pc_add_isa(struct pc *pc, const char *class_name, struct error *error);

/* --- pc_firmware.c --- */
void pc_add_acpi(struct pc *pc, u16 pm_base); /* 0: where SeaBIOS puts it */
void pc_describe_reset(struct pc *pc); /* CMOS again, after a reset */

#endif
