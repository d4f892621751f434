/*
 * VGA: the Bochs display interface (dispi) and the PCI function's memory-mapped registers.
 * Facts: Bochs vbe_dispi interface, ids B0C0h to B0C5h; layout of the registers in BAR 2.
 *
 * Not modelled: bank granularity of 32 KiB, separate read and write banks, DDC, the EDID area
 * (reads as zeros). Mode registers written while a mode is on take effect at once.
 */
#include "devices/vga.h"

#define ID_FIRST 0xb0c0
#define ID_LAST 0xb0c5
#define MOST_HEIGHT 1600
#define VRAM_UNIT KIB(64)

#define MMIO_PORTS 0x400
#define MMIO_DISPI 0x500
#define MMIO_EXTENSIONS 0x600
#define EXTENSIONS_SIZE 8
#define BYTE_ORDER_LITTLE 0x1e1e1e1eu
#define BYTE_ORDER_BIG 0xbebebebeu

u32 vga_dispi_pitch(const struct vga *s)
{
    u32 width = s->dispi[DISPI_VIRT_WIDTH];
    switch (s->dispi[DISPI_BPP]) {
    case 4: return width / 2;
    case 8: return width;
    case 15:
    case 16: return width * 2;
    case 24: return width * 3;
    default: return width * 4;
    }
}

static bool is_depth(u16 bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

static u16 within(u32 value, u32 least, u32 most)
{
    return (u16)(value < least ? least : value > most ? most : value);
}

void vga_dispi_settle(struct vga *s)
{
    u16 *r = s->dispi;
    if (r[DISPI_ID] < ID_FIRST || r[DISPI_ID] > ID_LAST) r[DISPI_ID] = ID_LAST;
    if (!is_depth(r[DISPI_BPP])) r[DISPI_BPP] = 8;
    r[DISPI_XRES] = within(r[DISPI_XRES] & ~7u, 8, VGA_MOST_WIDTH);
    r[DISPI_VIRT_WIDTH] = within(r[DISPI_VIRT_WIDTH] & ~7u, r[DISPI_XRES], 0xfff8);
    /* The least memory, 1 MiB, holds several of the longest lines: height is never zero. */
    u32 lines = s->vram_size / vga_dispi_pitch(s);
    r[DISPI_VIRT_HEIGHT] = within(lines, 1, 0xffff);
    r[DISPI_YRES] = within(r[DISPI_YRES], 1, MOST_HEIGHT < lines ? MOST_HEIGHT : lines);
    r[DISPI_X_OFFSET] = within(r[DISPI_X_OFFSET], 0, r[DISPI_VIRT_WIDTH] - r[DISPI_XRES]);
    r[DISPI_Y_OFFSET] = within(r[DISPI_Y_OFFSET], 0, r[DISPI_VIRT_HEIGHT] - r[DISPI_YRES]);
    r[DISPI_BANK] &= (u16)(s->vram_size / VRAM_UNIT / (r[DISPI_BPP] == 4 ? 4 : 1) - 1);
    r[DISPI_MEMORY] = (u16)(s->vram_size / VRAM_UNIT);
}

void vga_dispi_reset(struct vga *s)
{
    memset(s->dispi, 0, sizeof s->dispi);
    s->dispi_index = 0;
    vga_dispi_settle(s);
}

static void enable_write(struct vga *s, u16 value)
{
    u16 *r = s->dispi;
    u16 before = r[DISPI_ENABLE];
    r[DISPI_ENABLE] = value & (DISPI_ENABLED | DISPI_GET_CAPS | DISPI_8BIT_DAC | DISPI_LFB |
                               DISPI_NO_CLEAR);
    if (value & 0x10)
        device_unimplemented(&s->pci.dev, "VGA: dispi bank granularity of 32 KiB");
    if (!(value & DISPI_ENABLED)) {
        r[DISPI_BANK] = 0;
    } else if (!(before & DISPI_ENABLED)) {
        r[DISPI_VIRT_WIDTH] = r[DISPI_X_OFFSET] = r[DISPI_Y_OFFSET] = 0;
        vga_dispi_settle(s);
        if (!(value & DISPI_NO_CLEAR)) {
            u32 length = vga_dispi_pitch(s) * r[DISPI_YRES];
            vga_touch(s, 0, length);
            memset(s->vram, 0, length);
        }
    }
}

static void dispi_write(struct vga *s, unsigned index, u16 value)
{
    switch (index) {
    case DISPI_ID:
        if (value >= ID_FIRST && value <= ID_LAST) s->dispi[index] = value;
        return;
    case DISPI_BPP:
        if (value == 0) value = 8;
        if (!is_depth(value)) {
            guest_error(&s->pci.dev, "VGA: dispi depth of %u bits", value);
            return;
        }
        break;
    case DISPI_ENABLE: enable_write(s, value); break;
    case DISPI_VIRT_HEIGHT:
    case DISPI_MEMORY: return; /* read only */
    default:
        if (index >= VGA_DISPI) {
            guest_error(&s->pci.dev, "VGA: write of %04x to dispi register %x", value, index);
            return;
        }
    }
    if (index != DISPI_ENABLE) s->dispi[index] = value;
    /* Set one after the other, and meant together: nothing is clipped until the mode is on. */
    if (s->dispi[DISPI_ENABLE] & DISPI_ENABLED) vga_dispi_settle(s);
    vga_map_window(s);
}

static u16 dispi_read(const struct vga *s, unsigned index)
{
    if (index >= VGA_DISPI) return 0;
    if (s->dispi[DISPI_ENABLE] & DISPI_GET_CAPS) {
        if (index == DISPI_XRES) return VGA_MOST_WIDTH;
        if (index == DISPI_YRES) return MOST_HEIGHT;
        if (index == DISPI_BPP) return 32;
    }
    return s->dispi[index];
}

/* --- ports: the index at 0, the data at 1, and aligned for other hosts at 2 --- */

static u64 dispi_port_read(struct device *device, u64 offset, unsigned size)
{
    struct vga *s = (struct vga *)device;
    (void)size;
    if (offset == 0) return s->dispi_index;
    return offset <= 2 ? dispi_read(s, s->dispi_index) : 0xff;
}

static void dispi_port_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct vga *s = (struct vga *)device;
    if (offset == 0) s->dispi_index = (u16)value;
    else if (offset <= 2 && size == 2) dispi_write(s, s->dispi_index, (u16)value);
    else guest_error(device, "VGA: byte write to a dispi data port");
}

const struct region_ops vga_dispi_ops = {"vga-dispi", dispi_port_read, dispi_port_write, 1, 2};

/* --- memory-mapped --- */

static u32 extension_read(const struct vga *s, u64 offset)
{
    if (offset < 4) return EXTENSIONS_SIZE;
    return s->big_endian ? BYTE_ORDER_BIG : BYTE_ORDER_LITTLE;
}

static u64 mmio_read(struct device *device, u64 offset, unsigned size)
{
    struct vga *s = (struct vga *)device;
    u64 value = 0;
    if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20) {
        for (unsigned i = 0; i < size && offset + i < MMIO_PORTS + 0x20; i++)
            value |= (u64)vga_port_read(s, (u16)(0x3c0 + offset - MMIO_PORTS + i)) << i * 8;
    } else if (offset >= MMIO_DISPI && offset < MMIO_DISPI + 2 * VGA_DISPI) {
        unsigned index = (unsigned)(offset - MMIO_DISPI) / 2;
        value = dispi_read(s, index) | (u32)dispi_read(s, index + 1) << 16;
        value >>= (offset & 1) * 8;
    } else if (offset >= MMIO_EXTENSIONS && offset < MMIO_EXTENSIONS + EXTENSIONS_SIZE) {
        value = extension_read(s, offset - MMIO_EXTENSIONS) >> (offset & 3) * 8;
    }
    return value;
}

static void mmio_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct vga *s = (struct vga *)device;
    if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20) {
        for (unsigned i = 0; i < size && offset + i < MMIO_PORTS + 0x20; i++)
            vga_port_write(s, (u16)(0x3c0 + offset - MMIO_PORTS + i), (u8)(value >> i * 8));
    } else if (offset >= MMIO_DISPI && offset < MMIO_DISPI + 2 * VGA_DISPI) {
        unsigned index = (unsigned)(offset - MMIO_DISPI) / 2;
        if (offset & 1 || size < 2) {
            guest_error(device, "VGA: %u-byte write at %03x of dispi", size, (unsigned)offset);
            return;
        }
        dispi_write(s, index, (u16)value);
        if (size == 4) dispi_write(s, index + 1, (u16)(value >> 16));
    } else if (offset == MMIO_EXTENSIONS + 4 && size == 4) {
        if (value == BYTE_ORDER_BIG || value == BYTE_ORDER_LITTLE)
            s->big_endian = value == BYTE_ORDER_BIG;
    } else {
        guest_error(device, "VGA: write at %03x of its memory-mapped registers", (unsigned)offset);
    }
}

const struct region_ops vga_mmio_ops = {"vga-mmio", mmio_read, mmio_write, 1, 4};
