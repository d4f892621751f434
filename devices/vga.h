/*
 * VGA with the Bochs display extensions, among its own files: vga.c (ports, PCI, life),
 * vga_memory.c (the window at A0000h), vga_bochs.c (dispi registers, MMIO), vga_draw.c (pictures),
 * vga_text.c (the screen as characters). Thread: machine lock held.
 */
#ifndef DEVICES_VGA_H
#define DEVICES_VGA_H

#include "devices/pci.h"
#include "machine/display.h"

#define VGA_SEQUENCER 5
#define VGA_CRTC 25
#define VGA_GRAPHICS 9
#define VGA_ATTRIBUTES 21
#define VGA_DISPI 11
#define VGA_WINDOW 0xa0000u
#define VGA_WINDOW_SIZE 0x20000u
#define VGA_MOST_WIDTH 2560     /* of a dispi mode */
#define VGA_LEGACY_MEMORY 0x40000u /* four planes of 64 KiB */

#define VGA_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                      \
    SCALAR(u8, misc)                                                                               \
    SCALAR(u8, feature)                                                                            \
    SCALAR(u8, sr_index)                                                                           \
    ARRAY(u8, sr, VGA_SEQUENCER)                                                                   \
    SCALAR(u8, cr_index)                                                                           \
    ARRAY(u8, cr, VGA_CRTC)                                                                        \
    SCALAR(u8, gr_index)                                                                           \
    ARRAY(u8, gr, VGA_GRAPHICS)                                                                    \
    SCALAR(u8, ar_index)   /* with the palette address source, 20h */                              \
    SCALAR(u8, ar_is_data) /* the next write to 3C0h is */                                         \
    ARRAY(u8, ar, VGA_ATTRIBUTES)                                                                  \
    SCALAR(u32, latch)     /* plane N is bits 8N.. */                                              \
    SCALAR(u8, dac_mask)                                                                           \
    SCALAR(u8, dac_state)  /* what 3C7h reads: 3 after a read address, else 0 */                   \
    SCALAR(u8, dac_read)                                                                           \
    SCALAR(u8, dac_write)                                                                          \
    SCALAR(u8, dac_step)   /* component of the colour, 0 to 2 */                                   \
    ARRAY(u8, dac_pending, 3)                                                                      \
    ARRAY(u8, palette, 768)                                                                        \
    SCALAR(u16, dispi_index)                                                                       \
    ARRAY(u16, dispi, VGA_DISPI)                                                                   \
    SCALAR(u8, big_endian) /* of linear 16 and 32-bit pixels */                                    \
    BLOB(vram, vram_size)

/* Everything but video memory that the picture depends on. */
struct vga_look {
    u8 sr[VGA_SEQUENCER], cr[VGA_CRTC], gr[VGA_GRAPHICS], ar[VGA_ATTRIBUTES];
    u8 palette[768];
    u8 dac_mask, blanked, big_endian, cursor_on, blink_on;
    u16 dispi[VGA_DISPI];
};

struct vga {
    struct pci_device pci; /* first: config space is the core's */
    STATE_MEMBERS(VGA_STATE)
    /* properties */
    u32 vgamem_mb;
    struct display *display; /* NULL: nobody looks */
    /* not saved: rebuilt by vga_restored, or by the next picture */
    struct region color_ports, mono_ports, dispi_ports, window, linear, frame_buffer, mmio;
    u32 linear_offset; /* in video memory, while `linear` is mapped */
    struct vga_look drawn;
    bool drawn_valid, blink_seen;
    u8 *shadow; /* the video memory the picture was made of */
    u32 shadow_size, shadow_capacity;
    u32 *pixels;
    u32 pixel_capacity;
    unsigned width, height;
};

enum { MISC_COLOR = 1, MISC_RAM = 2 };
enum { SR_CLOCKING = 1, SR_MAP_MASK = 2, SR_FONTS = 3, SR_MEMORY = 4 };
enum { CLOCKING_8_DOTS = 1, CLOCKING_HALF = 8, CLOCKING_OFF = 0x20 };
enum { MEMORY_NO_ODD_EVEN = 4, MEMORY_CHAIN_4 = 8 };
enum { GR_SET_RESET, GR_ENABLE_SET_RESET, GR_COMPARE, GR_FUNCTION, GR_READ_MAP, GR_MODE, GR_MISC,
       GR_DONT_CARE, GR_BIT_MASK };
enum { GR_MODE_ODD_EVEN = 0x10, GR_MODE_INTERLEAVE = 0x20, GR_MODE_256 = 0x40 };
enum { GR_MISC_GRAPHICS = 1, GR_MISC_CHAIN = 2 };
enum { AR_MODE = 0x10, AR_OVERSCAN, AR_PLANES, AR_PAN, AR_COLOR_SELECT };
enum { AR_MODE_LINE_GRAPHICS = 4, AR_MODE_BLINK = 8, AR_MODE_PAN_TOP = 0x20, AR_MODE_P54S = 0x80 };
enum { AR_INDEX_SCREEN_ON = 0x20 };
enum { CR_TOTAL = 0x00, CR_DISPLAYED = 0x01, CR_VTOTAL = 0x06, CR_OVERFLOW = 0x07,
       CR_PRESET = 0x08, CR_MAX_SCAN = 0x09, CR_CURSOR_START = 0x0a, CR_CURSOR_END = 0x0b,
       CR_START_HIGH = 0x0c, CR_CURSOR_HIGH = 0x0e, CR_RETRACE_START = 0x10,
       CR_RETRACE_END = 0x11, CR_VDISPLAYED = 0x12, CR_OFFSET = 0x13, CR_UNDERLINE = 0x14,
       CR_MODE = 0x17, CR_LINE_COMPARE = 0x18 };
enum { CR_PROTECT = 0x80 };

enum { DISPI_ID, DISPI_XRES, DISPI_YRES, DISPI_BPP, DISPI_ENABLE, DISPI_BANK, DISPI_VIRT_WIDTH,
       DISPI_VIRT_HEIGHT, DISPI_X_OFFSET, DISPI_Y_OFFSET, DISPI_MEMORY };
enum { DISPI_ENABLED = 1, DISPI_GET_CAPS = 2, DISPI_8BIT_DAC = 0x20, DISPI_LFB = 0x40,
       DISPI_NO_CLEAR = 0x80 };

/* CRTC geometry. */
static inline unsigned vga_columns(const struct vga *s) { return s->cr[CR_DISPLAYED] + 1u; }
static inline unsigned vga_row_lines(const struct vga *s) { return (s->cr[CR_MAX_SCAN] & 31u) + 1; }
static inline u16 vga_start(const struct vga *s)
{
    return (u16)(s->cr[CR_START_HIGH] << 8 | s->cr[CR_START_HIGH + 1]);
}
static inline unsigned vga_vertical(const struct vga *s, unsigned low, unsigned bit8, unsigned bit9)
{
    u8 overflow = s->cr[CR_OVERFLOW];
    return low | (overflow >> bit8 & 1u) << 8 | (overflow >> bit9 & 1u) << 9;
}
static inline unsigned vga_lines(const struct vga *s)
{
    return vga_vertical(s, s->cr[CR_VDISPLAYED], 1, 6) + 1;
}
static inline bool vga_is_text(const struct vga *s)
{
    return !(s->dispi[DISPI_ENABLE] & DISPI_ENABLED) && !(s->gr[GR_MISC] & GR_MISC_GRAPHICS);
}

/* vga.c */
u8 vga_port_read(struct vga *s, u16 port);
void vga_port_write(struct vga *s, u16 port, u8 value);

/* vga_memory.c */
extern const struct region_ops vga_window_ops;
void vga_map_window(struct vga *s); /* after registers that decide about direct access changed */
/* Bytes of video memory are about to change behind the processors' backs. */
void vga_touch(struct vga *s, u32 offset, u32 length);

/* vga_bochs.c */
extern const struct region_ops vga_dispi_ops, vga_mmio_ops;
void vga_dispi_reset(struct vga *s);
void vga_dispi_settle(struct vga *s); /* makes the registers consistent with each other */
u32 vga_dispi_pitch(const struct vga *s); /* bytes */

/* vga_draw.c, vga_text.c: see struct display_source */
bool vga_draw(void *opaque, bool force, const u32 **pixels, unsigned *width, unsigned *height,
              unsigned *stride);
bool vga_text(void *opaque, char *to, size_t size);

#endif
