/*
 * VGA: the processor's window on video memory at A0000h: planes, latches, write and read modes.
 * Manual: IBM PS/2 Video Subsystem technical reference; deviations: see vga.c.
 *
 * Byte N of plane P is byte 4N+P of linear memory. Where chain-4 or a linear mode's bank means no
 * more than a plain copy, the window is mapped to memory and nothing here runs.
 */
#include "devices/vga.h"

#include "machine/memory.h"

/* Four bits to four bytes of ones. */
static u32 spread(unsigned planes)
{
    return (planes & 1 ? 0xffu : 0) | (planes & 2 ? 0xff00u : 0) | (planes & 4 ? 0xff0000u : 0) |
           (planes & 8 ? 0xff000000u : 0);
}

void vga_touch(struct vga *s, u32 offset, u32 length)
{
    memory_code_written(bus_memory(s->pci.dev.bus), s->vram + offset, length);
}

static bool is_linear(const struct vga *s)
{
    return (s->dispi[DISPI_ENABLE] & DISPI_ENABLED) && s->dispi[DISPI_BPP] != 4;
}

static u32 bank_offset(const struct vga *s)
{
    if (!(s->dispi[DISPI_ENABLE] & DISPI_ENABLED)) return 0;
    return (u32)s->dispi[DISPI_BANK] << 16;
}

/* Start and size of what the miscellaneous register shows, as offsets in the window. */
static void shown(const struct vga *s, u32 *start, u32 *size)
{
    static const u32 starts[4] = {0, 0, 0x10000, 0x18000};
    static const u32 sizes[4] = {0x20000, 0x10000, 0x8000, 0x8000};
    unsigned map = s->gr[GR_MISC] >> 2 & 3;
    *start = starts[map];
    *size = sizes[map];
}

/* OFFSET in the window → ADDRESS behind the memory map; false where nothing is shown. */
static bool window_address(const struct vga *s, u64 offset, u32 *address)
{
    u32 start, size;
    shown(s, &start, &size);
    if (!(s->misc & MISC_RAM) || offset < start || offset - start >= size) return false;
    *address = (u32)(offset - start);
    return true;
}

/* Chain-4 with nothing in the data path that would change a byte. */
static bool is_plain_chain_4(const struct vga *s)
{
    return (s->sr[SR_MEMORY] & MEMORY_CHAIN_4) && s->sr[SR_MAP_MASK] == 15 &&
           !(s->gr[GR_MODE] & 0x0b) && !(s->gr[GR_FUNCTION]) && !s->gr[GR_ENABLE_SET_RESET] &&
           s->gr[GR_BIT_MASK] == 0xff;
}

void vga_map_window(struct vga *s)
{
    struct bus *bus = s->pci.dev.bus;
    u32 start, size, offset = bank_offset(s);
    shown(s, &start, &size);
    bool direct = (s->misc & MISC_RAM) && (is_linear(s) || (!offset && is_plain_chain_4(s))) &&
                  offset <= s->vram_size - size;
    if (s->linear.mapped && direct && s->linear.base == VGA_WINDOW + start &&
        s->linear.size == size && s->linear_offset == offset)
        return;
    if (s->linear.mapped) bus_unmap(bus, &s->linear);
    if (!direct) return;
    s->linear_offset = offset;
    region_init_memory(&s->linear, s->vram + offset, size, false, "vga-linear");
    bus_map(bus, BUS_MEMORY, &s->linear, VGA_WINDOW + start, LAYER_DEVICE);
}

/* --- the data path --- */

static u32 planes_load(const struct vga *s, u32 cell)
{
    return cell * 4 < s->vram_size ? ld32(s->vram + cell * 4) : ~0u;
}

static void planes_store(struct vga *s, u32 cell, unsigned planes, u32 value)
{
    u32 at = cell * 4;
    if (at >= s->vram_size) return;
    if (memory_is_code(bus_memory(s->pci.dev.bus), s->vram + at)) vga_touch(s, at, 4);
    for (unsigned p = 0; p < 4; p++)
        if (planes >> p & 1) s->vram[at + p] = (u8)(value >> p * 8);
}

/*
 * Which cell (byte address within the planes) ADDRESS means, and which planes it can reach.
 * ODD_EVEN is the sequencer's bit for writes and the graphics controller's for reads.
 */
static u32 cell_of(const struct vga *s, u32 address, bool odd_even, unsigned *planes)
{
    u32 bank = bank_offset(s);
    *planes = 15;
    if (s->sr[SR_MEMORY] & MEMORY_CHAIN_4) {
        *planes = 1u << (address & 3);
        return (address + bank) / 4;
    }
    if (!bank) address &= 0xffff;
    if (odd_even) {
        *planes = address & 1 ? 0xa : 5;
        if (s->gr[GR_MISC] & GR_MISC_CHAIN) address >>= 1;
    }
    return address + bank;
}

static u32 combine(const struct vga *s, u32 value, u32 mask)
{
    switch (s->gr[GR_FUNCTION] >> 3) {
    case 1: value &= s->latch; break;
    case 2: value |= s->latch; break;
    case 3: value ^= s->latch; break;
    }
    return (value & mask) | (s->latch & ~mask);
}

static u8 rotate(const struct vga *s, u8 value)
{
    unsigned by = s->gr[GR_FUNCTION] & 7;
    return (u8)(value >> by | value << (8 - by));
}

static u32 write_value(const struct vga *s, u8 byte)
{
    u32 mask = s->gr[GR_BIT_MASK] * 0x01010101u;
    u32 set = spread(s->gr[GR_SET_RESET]), enable = spread(s->gr[GR_ENABLE_SET_RESET]);
    switch (s->gr[GR_MODE] & 3) {
    case 0: return combine(s, (rotate(s, byte) * 0x01010101u & ~enable) | (set & enable), mask);
    case 1: return s->latch;
    case 2: return combine(s, spread(byte), mask);
    default: return combine(s, set, rotate(s, byte) * 0x01010101u & mask);
    }
}

static void window_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct vga *s = (struct vga *)device;
    u32 address;
    unsigned planes;
    (void)size;
    if (!window_address(s, offset, &address)) return;
    if (is_linear(s)) { /* a bank at the end of memory, in part */
        u32 at = bank_offset(s) + address;
        if (at >= s->vram_size) return;
        vga_touch(s, at, 1);
        s->vram[at] = (u8)value;
        return;
    }
    u32 cell = cell_of(s, address, !(s->sr[SR_MEMORY] & MEMORY_NO_ODD_EVEN), &planes);
    planes_store(s, cell, planes & s->sr[SR_MAP_MASK], write_value(s, (u8)value));
}

/* Read mode 1: a one for each pixel that has the colour compared with. */
static u8 compare(const struct vga *s)
{
    u32 differ = (s->latch ^ spread(s->gr[GR_COMPARE])) & spread(s->gr[GR_DONT_CARE]);
    return (u8)~(differ | differ >> 8 | differ >> 16 | differ >> 24);
}

static u64 window_read(struct device *device, u64 offset, unsigned size)
{
    struct vga *s = (struct vga *)device;
    u32 address;
    unsigned planes, plane = s->gr[GR_READ_MAP];
    (void)size;
    if (!window_address(s, offset, &address)) return 0xff;
    if (is_linear(s)) {
        u32 at = bank_offset(s) + address;
        return at < s->vram_size ? s->vram[at] : 0xff;
    }
    bool odd_even = s->gr[GR_MODE] & GR_MODE_ODD_EVEN;
    s->latch = planes_load(s, cell_of(s, address, odd_even, &planes));
    if (s->gr[GR_MODE] & 8) return compare(s);
    if (s->sr[SR_MEMORY] & MEMORY_CHAIN_4) plane = address & 3;
    else if (odd_even) plane = (plane & 2) | (address & 1);
    return s->latch >> plane * 8 & 0xff;
}

const struct region_ops vga_window_ops = {"vga-window", window_read, window_write, 1, 1};
