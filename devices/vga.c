/*
 * VGA display adapter with the Bochs display extensions, as a PCI function: ports, DAC, life.
 * Manuals: IBM PS/2 Video Subsystem technical reference; FreeVGA; Bochs VBE_DISPI interface.
 *
 * Deviations: what the processor sees through chain-4 and odd/even addressing is compacted (byte A
 * of a chain-4 window is byte A of linear memory), as on SVGA chips, so the CRTC's word and
 * doubleword modes only matter to the row-scan address bits. Not modelled: vertical interrupt,
 * count by two and by four, interlace, light pen, cursor and display skew, overscan border, blink
 * in graphics modes, halved vertical counter (CRTC mode bit 2), monitor sensing, EDID.
 */
#include "devices/vga.h"

#include <stdlib.h>

#define MMIO_SIZE 4096
#define COLOR_PORTS 0x3c0
#define MONO_PORTS 0x3b0
#define MONO_PORT_COUNT 12 /* 3BCh is a printer's */
#define DISPI_PORTS 0x1ce
#define VGAMEM_MOST 64 /* MiB */

#define STATE_OWNER struct vga
STATE_TABLE(vga, VGA_STATE)
#undef STATE_OWNER

// clang-format off
/* Bits that exist. */
static const u8 sr_bits[VGA_SEQUENCER] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const u8 gr_bits[VGA_GRAPHICS] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const u8 ar_bits[VGA_ATTRIBUTES] = {
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
    0xef, 0xff, 0x3f, 0x0f, 0x0f};
// clang-format on

/* --- retrace --- */

struct timing {
    u64 line_ns, frame_ns;
    unsigned lines, columns, retrace_start, retrace_lines, total_columns;
};

static void timing_of(const struct vga *s, struct timing *t)
{
    static const u32 clock_khz[4] = {25175, 28322, 32500, 40000};
    unsigned total = vga_vertical(s, s->cr[CR_VTOTAL], 0, 5) + 2;
    unsigned dots = s->sr[SR_CLOCKING] & CLOCKING_8_DOTS ? 8 : 9;
    if (s->sr[SR_CLOCKING] & CLOCKING_HALF) dots *= 2;
    t->total_columns = s->cr[CR_TOTAL] + 5u;
    t->columns = vga_columns(s);
    t->lines = vga_lines(s);
    t->line_ns = (u64)t->total_columns * dots * 1000000 / clock_khz[s->misc >> 2 & 3];
    t->retrace_start = vga_vertical(s, s->cr[CR_RETRACE_START], 2, 7);
    t->retrace_lines = (s->cr[CR_RETRACE_END] - t->retrace_start) & 15;
    bool dispi = s->dispi[DISPI_ENABLE] & DISPI_ENABLED;
    if (dispi || total < 100 || t->total_columns < 20 || t->lines >= total ||
        t->retrace_start >= total) { /* not programmed: 640x480 at 60 Hz */
        *t = (struct timing){.line_ns = 31778, .lines = 480, .columns = 80, .retrace_start = 490,
                             .total_columns = 100};
        total = 525;
    }
    if (t->retrace_lines < 2) t->retrace_lines = 2;
    t->frame_ns = t->line_ns * total;
}

static u8 input_status_1(struct vga *s)
{
    struct timing t;
    timing_of(s, &t);
    u64 at = clock_now(s->pci.dev.clock) % t.frame_ns;
    u64 line = at / t.line_ns, column = at % t.line_ns * t.total_columns / t.line_ns;
    u8 value = 0;
    if (line >= t.lines || column >= t.columns) value |= 1;
    if (line >= t.retrace_start && line < t.retrace_start + t.retrace_lines) value |= 9;
    return value;
}

/* --- registers --- */

static void sequencer_write(struct vga *s, u8 value)
{
    if (s->sr_index >= VGA_SEQUENCER) return;
    s->sr[s->sr_index] = value & sr_bits[s->sr_index];
    if (s->sr_index == SR_MAP_MASK || s->sr_index == SR_MEMORY) vga_map_window(s);
}

static void graphics_write(struct vga *s, u8 value)
{
    if (s->gr_index >= VGA_GRAPHICS) return;
    u8 before = s->gr[s->gr_index];
    s->gr[s->gr_index] = value & gr_bits[s->gr_index];
    if (s->gr[s->gr_index] != before) vga_map_window(s);
}

static void crtc_write(struct vga *s, u8 value)
{
    u8 index = s->cr_index;
    if (index >= VGA_CRTC) return;
    if (index <= CR_OVERFLOW && s->cr[CR_RETRACE_END] & CR_PROTECT) {
        /* Of the protected ones, only line compare's bit 8 may change. */
        if (index == CR_OVERFLOW)
            s->cr[index] = (u8)((s->cr[index] & ~0x10u) | (value & 0x10u));
        return;
    }
    s->cr[index] = value;
}

static void attribute_write(struct vga *s, u8 value)
{
    if (!s->ar_is_data) {
        s->ar_index = value & 0x3f;
    } else {
        unsigned index = s->ar_index & 0x1f;
        if (index < VGA_ATTRIBUTES) s->ar[index] = value & ar_bits[index];
    }
    s->ar_is_data ^= 1;
}

static void dac_data_write(struct vga *s, u8 value)
{
    if (s->dac_step > 2) s->dac_step = 0;
    s->dac_pending[s->dac_step++] = s->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC ? value : value & 0x3f;
    if (s->dac_step < 3) return;
    memcpy(&s->palette[s->dac_write++ * 3], s->dac_pending, 3);
    s->dac_step = 0;
}

static u8 dac_data_read(struct vga *s)
{
    if (s->dac_step > 2) s->dac_step = 0;
    u8 value = s->palette[s->dac_read * 3 + s->dac_step];
    if (++s->dac_step == 3) {
        s->dac_step = 0;
        s->dac_read++;
    }
    return value;
}

/* PORT is one of 3C0h to 3DFh; a monochrome one has been moved there. */
u8 vga_port_read(struct vga *s, u16 port)
{
    unsigned index = s->ar_index & 0x1f;
    switch (port) {
    case 0x3c0: return s->ar_index;
    case 0x3c1: return index < VGA_ATTRIBUTES ? s->ar[index] : 0;
    case 0x3c2: return 0x10; /* a monitor's sense line */
    case 0x3c3: return 1;
    case 0x3c4: return s->sr_index;
    case 0x3c5: return s->sr_index < VGA_SEQUENCER ? s->sr[s->sr_index] : 0;
    case 0x3c6: return s->dac_mask;
    case 0x3c7: return s->dac_state;
    case 0x3c8: return s->dac_write;
    case 0x3c9: return dac_data_read(s);
    case 0x3ca: return s->feature;
    case 0x3cc: return s->misc;
    case 0x3ce: return s->gr_index;
    case 0x3cf: return s->gr_index < VGA_GRAPHICS ? s->gr[s->gr_index] : 0;
    case 0x3d4: return s->cr_index;
    case 0x3d5: return s->cr_index < VGA_CRTC ? s->cr[s->cr_index] : 0;
    case 0x3da: s->ar_is_data = 0; return input_status_1(s);
    default: return 0xff;
    }
}

void vga_port_write(struct vga *s, u16 port, u8 value)
{
    switch (port) {
    case 0x3c0: attribute_write(s, value); break;
    case 0x3c2:
        s->misc = value;
        vga_map_window(s);
        break;
    case 0x3c4: s->sr_index = value; break;
    case 0x3c5: sequencer_write(s, value); break;
    case 0x3c6: s->dac_mask = value; break;
    case 0x3c7:
        s->dac_read = value;
        s->dac_step = 0;
        s->dac_state = 3;
        break;
    case 0x3c8:
        s->dac_write = value;
        s->dac_step = 0;
        s->dac_state = 0;
        break;
    case 0x3c9: dac_data_write(s, value); break;
    case 0x3ce: s->gr_index = value; break;
    case 0x3cf: graphics_write(s, value); break;
    case 0x3d4: s->cr_index = value; break;
    case 0x3d5: crtc_write(s, value); break;
    case 0x3da: s->feature = value & 0x10; break;
    default: break;
    }
}

/* --- ports --- */

static u64 color_read(struct device *device, u64 offset, unsigned size)
{
    struct vga *s = (struct vga *)device;
    (void)size;
    if (offset >= 0x10 && !(s->misc & MISC_COLOR)) return 0xff;
    return vga_port_read(s, (u16)(COLOR_PORTS + offset));
}

static void color_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct vga *s = (struct vga *)device;
    (void)size;
    if (offset >= 0x10 && !(s->misc & MISC_COLOR)) return;
    vga_port_write(s, (u16)(COLOR_PORTS + offset), (u8)value);
}

static u64 mono_read(struct device *device, u64 offset, unsigned size)
{
    struct vga *s = (struct vga *)device;
    (void)size;
    return s->misc & MISC_COLOR ? 0xff : vga_port_read(s, (u16)(MONO_PORTS + 0x20 + offset));
}

static void mono_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct vga *s = (struct vga *)device;
    (void)size;
    if (!(s->misc & MISC_COLOR)) vga_port_write(s, (u16)(MONO_PORTS + 0x20 + offset), (u8)value);
}

static const struct region_ops color_ops = {"vga", color_read, color_write, 1, 1};
static const struct region_ops mono_ops = {"vga-mono", mono_read, mono_write, 1, 1};

/* --- life --- */

static bool vga_init(struct device *device, struct error *error)
{
    struct vga *s = (struct vga *)device;
    struct pci_device *pci = &s->pci;
    u32 mb = s->vgamem_mb;
    if (!mb || mb > VGAMEM_MOST || mb & (mb - 1))
        return error_set(error, "VGA: vgamem_mb=%u is not a power of two up to %u", mb,
                         VGAMEM_MOST);
    s->vram_size = mb << 20;
    s->vram = bus_alloc_memory(device->bus, s->vram_size, "vga");
    if (!s->vram) return error_set(error, "VGA: no room for %u MiB of video memory", mb);
    pci_set_ids(pci, 0x1234, 0x1111, 2, 0x030000, 0x1af4, 0x1100);
    region_init_memory(&s->frame_buffer, s->vram, s->vram_size, false, "vga-frame-buffer");
    region_init(&s->mmio, device, &vga_mmio_ops, MMIO_SIZE);
    pci_add_bar(pci, 0, &s->frame_buffer, false, false, true);
    pci_add_bar(pci, 2, &s->mmio, false, false, false);
    if (pci->romfile && pci->romfile[0] && !pci_load_rom(pci, pci->romfile, error)) return false;
    region_init(&s->color_ports, device, &color_ops, 32);
    region_init(&s->mono_ports, device, &mono_ops, MONO_PORT_COUNT);
    region_init(&s->dispi_ports, device, &vga_dispi_ops, 4);
    region_init(&s->window, device, &vga_window_ops, VGA_WINDOW_SIZE);
    bus_map(device->bus, BUS_PORT, &s->color_ports, COLOR_PORTS, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->mono_ports, MONO_PORTS, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->dispi_ports, DISPI_PORTS, LAYER_DEVICE);
    bus_map(device->bus, BUS_MEMORY, &s->window, VGA_WINDOW, LAYER_DEVICE);
    vga_dispi_reset(s);
    if (s->display)
        display_attach(s->display, &(struct display_source){s, vga_draw, vga_text});
    return true;
}

static void vga_reset(struct device *device)
{
    struct vga *s = (struct vga *)device;
    pci_device_reset(&s->pci);
    s->misc = s->feature = 0;
    s->sr_index = s->cr_index = s->gr_index = s->ar_index = s->ar_is_data = 0;
    memset(s->sr, 0, sizeof s->sr);
    memset(s->cr, 0, sizeof s->cr);
    memset(s->gr, 0, sizeof s->gr);
    memset(s->ar, 0, sizeof s->ar);
    s->latch = 0;
    s->dac_mask = 0xff;
    s->dac_state = s->dac_read = s->dac_write = s->dac_step = 0;
    memset(s->dac_pending, 0, sizeof s->dac_pending);
    memset(s->palette, 0, sizeof s->palette);
    s->big_endian = 0;
    vga_dispi_reset(s);
    vga_touch(s, 0, s->vram_size);
    bus_clear_memory(device->bus, s->vram, s->vram_size);
    vga_map_window(s);
}

static void vga_restored(struct device *device)
{
    struct vga *s = (struct vga *)device;
    pci_device_restored(&s->pci);
    vga_touch(s, 0, s->vram_size);
    s->big_endian &= 1;
    s->ar_is_data &= 1;
    if (s->dac_step > 2) s->dac_step = 0;
    vga_dispi_settle(s);
    vga_map_window(s);
    s->drawn_valid = false;
}

static void vga_release(struct device *device)
{
    struct vga *s = (struct vga *)device;
    free(s->shadow);
    free(s->pixels);
}

static const struct property vga_properties[] = {
    PCI_PROPERTIES,
    {"vgamem_mb", PROPERTY_U32, offsetof(struct vga, vgamem_mb), "16", "video memory, MiB"},
    /* Set by the board; any kind of pointer does. */
    {"display", PROPERTY_CHARDEV, offsetof(struct vga, display), NULL, "who shows it"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class vga_class = {
    .name = "VGA",
    .title = "VGA with Bochs display extensions",
    .version = 1,
    .size = sizeof(struct vga),
    .fields = vga_fields,
    .properties = vga_properties,
    .is_pci = true,
    .user_creatable = true,
    .init = vga_init,
    .reset = vga_reset,
    .restored = vga_restored,
    .release = vga_release,
};
