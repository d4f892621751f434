/*
 * Memory of the board: RAM below and above 4 GiB, the firmware, shadow RAM and SMRAM.
 *
 * Layout as a 440FX board with QEMU's sizes: RAM up to 3 GiB below the PCI hole when there is more
 * than 3.5 GiB, the firmware under 4 GiB and its last 128 KiB under 1 MiB.
 */
#include "machine/pc.h"

#include "devices/i440fx.h"      /* PAM and SMRAM hooks */
#include "machine/bus_host.h"
#include "machine/drive_host.h"
#include "machine/firmware.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LOW_LIMIT GIB(3)
#define LOW_LIMIT_WHOLE 0xe0000000ull /* RAM that fits below stays in one piece up to here */
#define BIOS_LOW_SIZE KIB(128)
#define SMRAM_BASE 0xa0000u
#define SMRAM_SIZE 0x20000u

/* Where PAM segment N lies. */
static void pam_range(unsigned segment, u64 *base, u64 *size)
{
    *base = segment < 12 ? 0xc0000u + segment * 0x4000u : 0xf0000u;
    *size = segment < 12 ? 0x4000u : 0x10000u;
}

static void set_pam(void *opaque, unsigned segment, bool read_ram, bool write_ram)
{
    struct pc *pc = opaque;
    struct bus *bus = pc->machine->bus;
    struct region *alias = &pc->ram_alias[segment];
    u64 base, size;
    pam_range(segment, &base, &size);
    bus_begin(bus);
    bus_unmap(bus, alias);
    /* "Read ROM, write RAM" shows the ROM and drops writes: no firmware we know copies that way. */
    if (read_ram) {
        region_init_memory(alias, pc->ram + base, size, !write_ram, "shadow-ram");
        bus_map(bus, BUS_MEMORY, alias, base, LAYER_OVERLAY);
    }
    bus_commit(bus);
}

static void set_smram(void *opaque, bool open, bool enabled)
{
    struct pc *pc = opaque;
    struct bus *bus = pc->machine->bus;
    bus_begin(bus);
    bus_unmap(bus, &pc->smram);
    region_init_memory(&pc->smram, pc->ram + SMRAM_BASE, SMRAM_SIZE, false, "smram");
    if (open) bus_map(bus, BUS_MEMORY, &pc->smram, SMRAM_BASE, LAYER_OVERLAY);
    else if (enabled) bus_map_smm(bus, &pc->smram, SMRAM_BASE, LAYER_OVERLAY);
    bus_commit(bus);
}

void pc_memory_hooks(struct pc *pc)
{
    struct i440fx_hooks hooks = {set_pam, set_smram, pc};
    i440fx_set_hooks(pc->host_bridge, &hooks);
}

static bool map_ram(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    u64 ram = m->options->ram;
    pc->ram_below_4g = ram <= LOW_LIMIT_WHOLE ? ram : LOW_LIMIT;
    pc->ram_above_4g = ram - pc->ram_below_4g;
    pc->ram = bus_alloc_memory(m->bus, ram, "ram");
    if (!pc->ram) return error_set(error, "no room for %" PRIu64 " MiB of RAM", ram >> 20);
    region_init_memory(&pc->ram_low, pc->ram, pc->ram_below_4g, false, "ram");
    bus_map(m->bus, BUS_MEMORY, &pc->ram_low, 0, LAYER_RAM);
    if (pc->ram_above_4g) {
        region_init_memory(&pc->ram_high, pc->ram + pc->ram_below_4g, pc->ram_above_4g, false,
                           "ram-high");
        bus_map(m->bus, BUS_MEMORY, &pc->ram_high, GIB(4), LAYER_RAM);
    }
    static const struct region_ops nothing = {.name = "no-ram"};
    region_init(&pc->hole, NULL, &nothing, 0x40000);
    bus_map(m->bus, BUS_MEMORY, &pc->hole, 0xc0000, LAYER_RAM); /* until PAM shows RAM there */
    m->services.ram_below_4g = pc->ram_below_4g;
    m->services.ram_above_4g = pc->ram_above_4g;
    return true;
}

static bool load_bios(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    char path[4096];
    const char *name = m->options->bios ? m->options->bios : "bios-256k.bin";
    if (!firmware_find(m->options, name, path, sizeof path, error)) return false;
    u8 *bytes = file_load(path, MIB(16), &pc->bios_size, "firmware", error);
    if (!bytes) return false;
    if (pc->bios_size & 0xffff) {
        free(bytes);
        return error_set(error, "firmware %s: size %" PRIu64 " is not a multiple of 64 KiB", path,
                         pc->bios_size);
    }
    pc->bios = bus_alloc_memory(m->bus, pc->bios_size, "bios");
    if (pc->bios) memcpy(pc->bios, bytes, pc->bios_size);
    free(bytes);
    return pc->bios || error_set(error, "firmware %s: no room", path);
}

/* The firmware as ROM under 4 GiB and, its tail, under 1 MiB. */
static void map_bios(struct pc *pc)
{
    struct bus *bus = pc->machine->bus;
    u64 low = pc->bios_size < BIOS_LOW_SIZE ? pc->bios_size : BIOS_LOW_SIZE;
    region_init_memory(&pc->bios_high, pc->bios, pc->bios_size, true, "bios");
    bus_map(bus, BUS_MEMORY, &pc->bios_high, GIB(4) - pc->bios_size, LAYER_ROM);
    region_init_memory(&pc->bios_low, pc->bios + pc->bios_size - low, low, true, "bios-low");
    bus_map(bus, BUS_MEMORY, &pc->bios_low, MIB(1) - low, LAYER_ROM);
}

/* Flash chips stack downwards from 4 GiB: the first -pflash is on top. */
static bool map_flash(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    u64 top = GIB(4);
    for (unsigned i = 0; i < m->drive_count; i++) {
        const struct drive_option *option = m->drive_options[i];
        if (option->interface != IF_PFLASH) continue;
        u64 size = drive_size(m->drives[i]);
        if (!size || size & 0xfff || size > MIB(16))
            return error_set(error, "%s: flash of %" PRIu64 " bytes; a multiple of 4 KiB up to "
                             "16 MiB fits", option->file, size);
        struct device *flash = machine_new_device(m, "pflash-cfi01");
        if (!flash) return error_set(error, "-drive if=pflash: not supported by this build");
        char number[32];
        top -= size;
        snprintf(number, sizeof number, "0x%" PRIx64, top);
        device_set_pointer(flash, "drive", m->drives[i]);
        if (!device_set_property(flash, "base", number, error) || !machine_add(m, flash, error))
            return false;
        pc->has_flash = true;
    }
    return true;
}

bool pc_build_memory(struct pc *pc, struct error *error)
{
    if (!map_ram(pc, error) || !map_flash(pc, error)) return false;
    if (pc->has_flash) return true;
    if (!load_bios(pc, error)) return false;
    map_bios(pc);
    return true;
}
