/*
 * What the board tells its firmware: fw_cfg items, CMOS bytes, ACPI and SMBIOS tables, boot order.
 */
#include "machine/pc_parts.h"

#include "devices/fw_cfg.h"
#include "devices/i82077.h"
#include "devices/mc146818.h"
#include "machine/acpi.h"
#include "machine/display_host.h"
#include "machine/smbios.h"

#include <stdio.h>
#include <stdlib.h>

static void add_memory_map(struct pc *pc)
{
    u8 map[2 * 20];
    u32 count = 1;
    st64(map, 0);
    st64(map + 8, pc->ram_below_4g);
    st32(map + 16, 1);
    if (pc->ram_above_4g) {
        st64(map + 20, GIB(4));
        st64(map + 28, pc->ram_above_4g);
        st32(map + 36, 1);
        count++;
    }
    fw_cfg_add_file(pc->fw_cfg, "etc/e820", map, count * 20);
}

static bool add_boot_order(struct pc *pc, struct error *error)
{
    struct options *o = pc->machine->options;
    if (o->kernel) {
        if (!boot_kernel(pc, error)) return false;
        static const char order[] = "/rom@genroms/kernelboot.bin\nHALT";
        fw_cfg_add_file(pc->fw_cfg, "bootorder", order, sizeof order);
    }
    for (unsigned i = 0; i < o->option_rom_count; i++)
        if (!boot_option_rom(pc, o->option_roms[i], error)) return false;
    return true;
}

void pc_add_acpi(struct pc *pc, u16 pm_base)
{
    struct options *o = pc->machine->options;
    if (!o->acpi || !pc->fw_cfg) return;
    struct acpi_config config = {
        .vcpus = o->smp,
        .pm_base = pm_base,
        .pci_hole = (u32)(pc->ram_below_4g > 0x80000000u ? pc->ram_below_4g : 0x80000000u),
        .hpet = pc->hpet != NULL,
        .serial_ports = o->serial_count,
        .parallel_ports = 1,
        .floppy = true,
        .keyboard = true,
        .sleep_s3 = true,
        .sleep_s4 = true,
        .pci_hole64_start = GIB(4) + ((pc->ram_above_4g + GIB(1) - 1) & ~(GIB(1) - 1)),
    };
    config.pci_hole64_end = config.pci_hole64_start + GIB(32) - 1;
    if (config.pci_hole > 0x80000000u && config.pci_hole < 0xc0000000u)
        config.pci_hole = 0xc0000000u;
    acpi_build(pc->fw_cfg, &config);
}

static void add_smbios(struct pc *pc)
{
    struct options *o = pc->machine->options;
    struct smbios_config config = {
        .vcpus = o->smp, .ram_below_4g = pc->ram_below_4g, .ram_above_4g = pc->ram_above_4g};
    for (unsigned i = 0, at = 0; o->uuid && i < 16; at += 2) {
        unsigned byte;
        if (o->uuid[at] == '-') at++;
        if (sscanf(o->uuid + at, "%2x", &byte) != 1) break;
        config.uuid[i++] = (u8)byte;
    }
    smbios_build(pc->fw_cfg, &config);
}

bool pc_describe(struct pc *pc, struct error *error)
{
    struct options *o = pc->machine->options;
    struct device *f = pc->fw_cfg = pc_add_isa(pc, "fw_cfg", error);
    if (!f) return false;
    fw_cfg_add_u64(f, FW_CFG_RAM_SIZE, o->ram);
    fw_cfg_add_u16(f, FW_CFG_NB_CPUS, (u16)o->smp);
    fw_cfg_add_u16(f, FW_CFG_MAX_CPUS, (u16)o->smp);
    fw_cfg_add_u16(f, FW_CFG_NOGRAPHIC, o->nographic);
    fw_cfg_add_u16(f, FW_CFG_BOOT_MENU, o->boot_menu);
    fw_cfg_add_u32(f, FW_CFG_IRQ0_OVERRIDE, 1);
    if (o->boot_menu) fw_cfg_add_file(f, "etc/boot-menu-wait", "\xb8\x0b", 2); /* 3000 ms */
    /* What SLP_TYP is for S0 to S5, with bit 7: the board can. See piix4pm.c. */
    fw_cfg_add_file(f, "etc/system-states", "\x80\x00\x00\x81\x82\x80", 6);
    add_memory_map(pc);
    pc_add_acpi(pc, 0);
    add_smbios(pc);
    return add_boot_order(pc, error);
}

/* --- CMOS: what firmware that does not ask fw_cfg reads there --- */

static u8 boot_code(char letter)
{
    switch (letter) {
    case 'a': return 1;
    case 'c': return 2;
    case 'd': return 3;
    case 'n': return 4;
    default: return 0;
    }
}

static void set_word(struct device *rtc, u8 index, u64 value)
{
    mc146818_set_cmos(rtc, index, (u8)value);
    mc146818_set_cmos(rtc, index + 1, (u8)(value >> 8));
}

static u8 floppy_type(struct pc *pc, unsigned unit)
{
    return pc->floppy ? i82077_drive_type(pc->floppy, unit) : 0;
}

void pc_describe_reset(struct pc *pc)
{
    struct device *rtc = pc->rtc;
    struct options *o = pc->machine->options;
    u64 kib = pc->ram_below_4g >> 10, extended = kib > 1024 ? kib - 1024 : 0;
    set_word(rtc, 0x15, 640);
    set_word(rtc, 0x17, extended > 65535 ? 65535 : extended);
    set_word(rtc, 0x30, extended > 65535 ? 65535 : extended);
    u64 above_16m = kib > 16384 ? (kib - 16384) / 64 : 0;
    set_word(rtc, 0x34, above_16m > 65535 ? 65535 : above_16m);
    u64 high = pc->ram_above_4g >> 16;
    for (unsigned i = 0; i < 3; i++) mc146818_set_cmos(rtc, (u8)(0x5b + i), (u8)(high >> i * 8));
    mc146818_set_cmos(rtc, 0x5f, (u8)(o->smp - 1));
    u8 a = floppy_type(pc, 0), b = floppy_type(pc, 1);
    mc146818_set_cmos(rtc, 0x10, (u8)(a << 4 | b));
    /* Equipment: FPU, PS/2 mouse, floppies. */
    u8 floppies = (u8)((a != 0) + (b != 0));
    mc146818_set_cmos(rtc, 0x14, (u8)(2 | 4 | (floppies ? 1 | (floppies - 1) << 6 : 0)));
    const char *order = pc->booted_once || !o->boot_once ? o->boot_order : o->boot_once;
    if (!order) order = "cad";
    pc->booted_once = true;
    u8 code[3] = {0};
    for (unsigned i = 0; i < 3 && order[i]; i++) code[i] = boot_code(order[i]);
    mc146818_set_cmos(rtc, 0x3d, (u8)(code[0] | code[1] << 4));
    mc146818_set_cmos(rtc, 0x38, (u8)(code[2] << 4));
}
