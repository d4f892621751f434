/* The VGA on a fake bus: text, planes, 256 colours, split screen, dispi modes, hostile writes. */
#include "tests/dev/fixture.h"

#include "devices/vga.h"

#include <stdlib.h>

#define DEVFN (2 << 3)
#define FRAME_BUFFER 0xe0000000u
#define MMIO 0xf0000000u

extern const struct device_class vga_class;

struct screen {
    struct fixture f;
    struct pci_bus *pci;
    struct vga *vga;
    const u32 *pixels;
    unsigned width, height, stride;
};

/* A mode's registers, as the BIOS sets them. */
struct mode {
    u8 misc, sr[5], cr[25], gr[9], mode, pan;
};

// clang-format off
static const struct mode text_80x25 = {
    0x67, {3, 0x00, 0x03, 0, 0x02},
    {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0,
     0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff},
    {0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff}, 0x0c, 8};
static const struct mode planar_640x480 = {
    0xe3, {3, 0x01, 0x0f, 0, 0x06},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0, 0x40, 0, 0, 0, 0, 0, 0,
     0xea, 0x8c, 0xdf, 0x28, 0, 0xe7, 0x04, 0xe3, 0xff},
    {0, 0, 0, 0, 0, 0, 0x05, 0x0f, 0xff}, 0x01, 0};
static const struct mode mode_13h = {
    0x63, {3, 0x01, 0x0f, 0, 0x0e},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0x41, 0, 0, 0, 0, 0, 0,
     0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
    {0, 0, 0, 0, 0, 0x40, 0x05, 0x0f, 0xff}, 0x41, 0};
static const struct mode cga_320x200 = {
    0x63, {3, 0x09, 0x03, 0, 0x02},
    {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0,
     0x9c, 0x8e, 0x8f, 0x14, 0, 0x96, 0xb9, 0xa2, 0xff},
    {0, 0, 0, 0, 0, 0x30, 0x0f, 0x0f, 0xff}, 0x01, 0};
// clang-format on

static void indexed(struct screen *t, u16 port, u8 index, u8 value)
{
    out8(&t->f, port, index);
    out8(&t->f, port + 1, value);
}

static void attribute(struct screen *t, u8 index, u8 value)
{
    in8(&t->f, 0x3da);
    out8(&t->f, 0x3c0, index);
    out8(&t->f, 0x3c0, value);
    out8(&t->f, 0x3c0, 0x20);
}

static void color(struct screen *t, u8 index, u8 r, u8 g, u8 b)
{
    out8(&t->f, 0x3c8, index);
    out8(&t->f, 0x3c9, r);
    out8(&t->f, 0x3c9, g);
    out8(&t->f, 0x3c9, b);
}

static void set_mode(struct screen *t, const struct mode *m)
{
    out8(&t->f, 0x3c2, m->misc);
    for (unsigned i = 0; i < 5; i++) indexed(t, 0x3c4, i, m->sr[i]);
    indexed(t, 0x3d4, 0x11, 0);
    for (unsigned i = 0; i < 25; i++) indexed(t, 0x3d4, i, m->cr[i]);
    for (unsigned i = 0; i < 9; i++) indexed(t, 0x3ce, i, m->gr[i]);
    for (unsigned i = 0; i < 16; i++) {
        attribute(t, i, i);
        color(t, i, i, i * 2, i * 4);
    }
    attribute(t, 0x10, m->mode);
    attribute(t, 0x12, 15);
    attribute(t, 0x13, m->pan);
    attribute(t, 0x14, 0);
}

static bool draw(struct screen *t, bool force)
{
    return vga_draw(t->vga, force, &t->pixels, &t->width, &t->height, &t->stride);
}

static u32 at(struct screen *t, unsigned x, unsigned y) { return t->pixels[y * t->stride / 4 + x]; }

static u32 wide(u8 v) { return (u8)(v << 2 | v >> 4); }

/* The colour set_mode gives DAC entry I. */
static u32 rgb(unsigned i) { return wide(i) << 16 | wide(i * 2) << 8 | wide(i * 4); }

static void poke(struct screen *t, u32 a, u8 v) { bus_memory_write(t->f.bus, a, v, 1); }
static u8 peek(struct screen *t, u32 a) { return bus_memory_read(t->f.bus, a, 1); }

static int setup(void **state)
{
    struct screen *t = calloc(1, sizeof *t);
    struct error error;
    fixture_init(&t->f);
    t->pci = pci_bus_new(t->f.bus, &t->f.log);
    struct device *device = fixture_device(&t->f, &vga_class);
    t->vga = (struct vga *)device;
    assert_true(device_init(device, &error));
    assert_true(pci_bus_add(t->pci, &t->vga->pci, DEVFN, &error));
    device_reset(device);
    pci_config_write(t->pci, 0, DEVFN, 0x10, FRAME_BUFFER, 4);
    pci_config_write(t->pci, 0, DEVFN, 0x18, MMIO, 4);
    pci_config_write(t->pci, 0, DEVFN, 4, 3, 2);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct screen *t = *state;
    device_free(&t->vga->pci.dev);
    pci_bus_free(t->pci);
    fixture_free(&t->f);
    free(t);
    return 0;
}

/* Character CODE's glyph: every line BITS. */
static void load_glyph(struct screen *t, u8 code, u8 bits)
{
    indexed(t, 0x3c4, 2, 4);
    indexed(t, 0x3c4, 4, 7);
    indexed(t, 0x3ce, 5, 0);
    indexed(t, 0x3ce, 6, 4);
    for (unsigned i = 0; i < 16; i++) poke(t, 0xa0000 + code * 32u + i, bits);
    indexed(t, 0x3c4, 2, 3);
    indexed(t, 0x3c4, 4, 2);
    indexed(t, 0x3ce, 5, 0x10);
    indexed(t, 0x3ce, 6, 0x0e);
}

static void test_text(void **state)
{
    struct screen *t = *state;
    char text[8192];
    set_mode(t, &text_80x25);
    load_glyph(t, 0xc4, 0x81);
    for (unsigned i = 0; i < 2000; i++) bus_memory_write(t->f.bus, 0xb8000 + i * 2, 0x0720, 2);
    bus_memory_write(t->f.bus, 0xb8000, 0x1ec4, 2);
    bus_memory_write(t->f.bus, 0xb8000 + 162, 0x0741, 2);
    assert_int_equal(peek(t, 0xb8000 + 162), 'A');
    assert_int_equal(peek(t, 0xb8000 + 163), 7);
    assert_int_equal(peek(t, 0xa0000), 0xff);
    assert_true(vga_text(t->vga, text, sizeof text));
    assert_memory_equal(text, "\xe2\x94\x80\n A\n\n", 8);
    assert_int_equal(strlen(text), 3 + 2 + 25);
    assert_true(vga_text(t->vga, text, 3)); /* no room for half a character */
    assert_int_equal(text[0], 0);
    indexed(t, 0x3d4, 0x0f, 5);
    assert_true(draw(t, false));
    assert_int_equal(t->width, 720);
    assert_int_equal(t->height, 400);
    assert_int_equal(at(t, 0, 0), rgb(14));
    assert_int_equal(at(t, 1, 0), rgb(1));
    assert_int_equal(at(t, 8, 15), rgb(14)); /* line graphics join */
    assert_int_equal(at(t, 9, 0), rgb(0));
    assert_int_equal(at(t, 45, 13), rgb(7)); /* cursor */
    assert_int_equal(at(t, 45, 12), rgb(0));
    assert_false(draw(t, false));
    clock_advance(t->f.clock, 300000000);
    assert_true(draw(t, false));
    assert_int_equal(at(t, 45, 13), rgb(0));
    assert_true(draw(t, true));
    in8(&t->f, 0x3da);
    out8(&t->f, 0x3c0, 0); /* palette address source: off */
    assert_true(draw(t, false));
    assert_int_equal(at(t, 0, 0), 0);
}

static void test_split_screen(void **state)
{
    struct screen *t = *state;
    char text[8192];
    set_mode(t, &text_80x25);
    load_glyph(t, 'X', 0xff);
    bus_memory_write(t->f.bus, 0xb8000, 0x0258, 2);
    bus_memory_write(t->f.bus, 0xb8000 + 4000, 0x0358, 2);
    indexed(t, 0x3d4, 0x0c, 2000 >> 8);
    indexed(t, 0x3d4, 0x0d, 2000 & 255);
    indexed(t, 0x3d4, 0x0a, 0x20);
    indexed(t, 0x3d4, 0x07, 0x0f);
    indexed(t, 0x3d4, 0x09, 0x0f);
    indexed(t, 0x3d4, 0x18, 99);
    draw(t, false);
    assert_int_equal(at(t, 0, 0), rgb(3));
    assert_int_equal(at(t, 0, 99), rgb(0));
    assert_int_equal(at(t, 0, 100), rgb(2));
    vga_text(t->vga, text, sizeof text);
    assert_int_equal(text[0], 'X');
    attribute(t, 0x13, 2); /* pan by three dots */
    draw(t, false);
    assert_int_equal(at(t, 4, 0), rgb(3));
    assert_int_equal(at(t, 5, 0), rgb(0));
}

static u32 planes(struct screen *t, u32 cell) { return ld32(t->vga->vram + cell * 4); }

static void test_write_modes(void **state)
{
    struct screen *t = *state;
    set_mode(t, &planar_640x480);
    indexed(t, 0x3c4, 2, 5);
    poke(t, 0xa0000, 0xa5);
    assert_int_equal(planes(t, 0), 0x00a500a5);
    indexed(t, 0x3c4, 2, 15);
    indexed(t, 0x3ce, 0, 0x3);
    indexed(t, 0x3ce, 1, 0x6);
    poke(t, 0xa0001, 0xf0);
    assert_int_equal(planes(t, 1), 0xf000fff0);
    indexed(t, 0x3ce, 1, 0);
    indexed(t, 0x3ce, 8, 0x0f); /* bit mask: the rest from the latches */
    peek(t, 0xa0000);
    poke(t, 0xa0002, 0x3c);
    assert_int_equal(planes(t, 2), 0x0cac0cac);
    indexed(t, 0x3ce, 8, 0xff);
    indexed(t, 0x3ce, 3, 0x18 | 4); /* exclusive or, rotated */
    poke(t, 0xa0003, 0xf1);
    assert_int_equal(planes(t, 3), 0x1fba1fba);
    indexed(t, 0x3ce, 3, 0);
    indexed(t, 0x3ce, 5, 1);
    poke(t, 0xa0004, 0);
    assert_int_equal(planes(t, 4), 0x00a500a5);
    indexed(t, 0x3ce, 5, 2);
    poke(t, 0xa0005, 0x9);
    assert_int_equal(planes(t, 5), 0xff0000ff);
    indexed(t, 0x3ce, 5, 3);
    indexed(t, 0x3ce, 8, 0x3f);
    poke(t, 0xa0006, 0xfc); /* set/reset is 3, the mask FC and 3F */
    assert_int_equal(planes(t, 6), 0x0081 << 16 | 0x3cbd);
    draw(t, false);
    assert_int_equal(t->width, 640);
    assert_int_equal(t->height, 480);
    assert_int_equal(at(t, 0, 0), rgb(5));
    assert_int_equal(at(t, 1, 0), rgb(0));
    assert_int_equal(at(t, 40, 0), rgb(9));
}

static void test_read_modes(void **state)
{
    struct screen *t = *state;
    set_mode(t, &planar_640x480);
    st32(t->vga->vram + 40, 0x0f3355aa);
    for (u8 plane = 0; plane < 4; plane++) {
        indexed(t, 0x3ce, 4, plane);
        assert_int_equal(peek(t, 0xa000a), (0x0f3355aau >> plane * 8) & 0xff);
    }
    indexed(t, 0x3ce, 5, 8);
    indexed(t, 0x3ce, 2, 5); /* planes 0 and 2 set */
    assert_int_equal(peek(t, 0xa000a), 0xaa & (u8)~0x55 & 0x33 & (u8)~0x0f);
    indexed(t, 0x3ce, 7, 4);
    assert_int_equal(peek(t, 0xa000a), 0x33);
    indexed(t, 0x3ce, 7, 0);
    assert_int_equal(peek(t, 0xa000a), 0xff);
}

static void test_mode_13h(void **state)
{
    struct screen *t = *state;
    u64 length = 4;
    set_mode(t, &mode_13h);
    color(t, 200, 63, 0, 21);
    assert_non_null(dma_map(t->f.bus, 0xa0000, &length, true)); /* plain memory */
    poke(t, 0xa0000 + 320 * 10 + 7, 200);
    assert_true(draw(t, false));
    assert_int_equal(t->width, 640);
    assert_int_equal(t->height, 400);
    assert_int_equal(at(t, 14, 20), 0xff0055);
    assert_int_equal(at(t, 15, 21), 0xff0055);
    assert_int_equal(at(t, 16, 21), 0);
    assert_int_equal(at(t, 14, 22), 0);
    indexed(t, 0x3c4, 4, 6); /* unchained, 16 colours a cell */
    indexed(t, 0x3c4, 2, 2);
    assert_null(dma_map(t->f.bus, 0xa0000, &length, true));
    poke(t, 0xa0000 + 80 * 20, 200);
    assert_true(draw(t, false));
    assert_int_equal(at(t, 2, 40), 0xff0055);
    assert_false(draw(t, false));
    attribute(t, 0x13, 2);
    draw(t, false);
    assert_int_equal(at(t, 0, 40), 0xff0055);
}

static void test_cga(void **state)
{
    struct screen *t = *state;
    set_mode(t, &cga_320x200);
    poke(t, 0xb8000, 0xe4);
    poke(t, 0xb8001, 0x40);
    poke(t, 0xba000, 0x80); /* the odd lines */
    draw(t, false);
    assert_int_equal(t->width, 640);
    assert_int_equal(t->height, 400);
    for (unsigned i = 0; i < 4; i++) assert_int_equal(at(t, i * 2, 0), rgb(3 - i));
    assert_int_equal(at(t, 8, 1), rgb(1));
    assert_int_equal(at(t, 0, 2), rgb(2));
    assert_int_equal(at(t, 0, 3), rgb(2));
    assert_int_equal(at(t, 0, 4), rgb(0));
}

static void dispi(struct screen *t, u16 index, u16 value)
{
    out16(&t->f, 0x1ce, index);
    out16(&t->f, 0x1cf, value);
}

static u16 dispi_get(struct screen *t, u16 index)
{
    out16(&t->f, 0x1ce, index);
    assert_int_equal(in16(&t->f, 0x1cf), in16(&t->f, 0x1d0));
    return in16(&t->f, 0x1d0);
}

static void dispi_mode(struct screen *t, u16 width, u16 height, u16 bpp)
{
    dispi(t, 4, 0);
    dispi(t, 1, width);
    dispi(t, 2, height);
    dispi(t, 3, bpp);
    dispi(t, 4, 0x41);
    in8(&t->f, 0x3da);
    out8(&t->f, 0x3c0, 0x20);
}

static void test_dispi(void **state)
{
    struct screen *t = *state;
    char text[64];
    out8(&t->f, 0x3c2, 3);
    assert_int_equal(dispi_get(t, 0), 0xb0c5);
    dispi(t, 0, 0xb0c0);
    assert_int_equal(dispi_get(t, 0), 0xb0c0);
    assert_int_equal(dispi_get(t, 10), 256);
    dispi(t, 4, 2);
    assert_true(dispi_get(t, 1) >= 1920 && dispi_get(t, 2) >= 1200 && dispi_get(t, 3) == 32);
    dispi_mode(t, 1024, 768, 32);
    assert_int_equal(dispi_get(t, 6), 1024);
    assert_int_equal(dispi_get(t, 7), 4096);
    bus_memory_write(t->f.bus, FRAME_BUFFER + 4096 * 5 + 12, 0x00123456, 4);
    assert_true(draw(t, false));
    assert_int_equal(t->width, 1024);
    assert_int_equal(t->height, 768);
    assert_int_equal(at(t, 3, 5), 0x123456);
    assert_false(draw(t, false));
    bus_memory_write(t->f.bus, FRAME_BUFFER + 4096 * 700, 0xffabcdef, 4);
    assert_true(draw(t, false));
    assert_int_equal(at(t, 0, 700), 0xabcdef);
    dispi(t, 9, 5);
    assert_true(draw(t, false));
    assert_int_equal(at(t, 3, 0), 0x123456);
    dispi(t, 8, 40); /* no wider than what is shown: no room */
    assert_int_equal(dispi_get(t, 8), 0);
    dispi(t, 6, 2048);
    dispi(t, 8, 40);
    assert_int_equal(dispi_get(t, 8), 40);
    assert_int_equal(dispi_get(t, 7), 2048);
    assert_false(vga_text(t->vga, text, sizeof text));
    dispi(t, 5, 1); /* the second bank in the window */
    indexed(t, 0x3ce, 6, 5);
    poke(t, 0xa0004, 0x77);
    assert_int_equal(peek(t, FRAME_BUFFER + 0x10004), 0x77);
}

static void test_dispi_depths(void **state)
{
    struct screen *t = *state;
    out8(&t->f, 0x3c2, 3);
    dispi_mode(t, 640, 480, 16);
    bus_memory_write(t->f.bus, FRAME_BUFFER, 0xf81f, 2);
    draw(t, false);
    assert_int_equal(at(t, 0, 0), 0xff00ff);
    dispi_mode(t, 640, 480, 15);
    assert_int_equal(peek(t, FRAME_BUFFER), 0); /* cleared */
    bus_memory_write(t->f.bus, FRAME_BUFFER, 0x03e0, 2);
    draw(t, false);
    assert_int_equal(at(t, 0, 0), 0x00ff00);
    dispi_mode(t, 640, 480, 24);
    bus_memory_write(t->f.bus, FRAME_BUFFER + 3, 0x112233, 4);
    draw(t, false);
    assert_int_equal(at(t, 1, 0), 0x112233);
    dispi_mode(t, 640, 480, 8);
    dispi(t, 4, 0x61);
    color(t, 9, 0xfe, 0x80, 0x01);
    poke(t, FRAME_BUFFER + 640, 9);
    draw(t, false);
    assert_int_equal(at(t, 0, 1), 0xfe8001);
    dispi_mode(t, 800, 600, 4);
    attribute(t, 0x12, 15);
    attribute(t, 6, 9);
    dispi(t, 4, 0x61);
    st32(t->vga->vram + 100 * 4, 0x0080ff00);
    draw(t, false);
    assert_int_equal(t->width, 800);
    assert_int_equal(at(t, 0, 1), 0xfe8001);
    dispi(t, 3, 5); /* no such depth */
    assert_int_equal(dispi_get(t, 3), 4);
}

static void test_mmio(void **state)
{
    struct screen *t = *state;
    bus_memory_write(t->f.bus, MMIO + 0x402, 3, 1);
    assert_int_equal(in8(&t->f, 0x3cc), 3);
    bus_memory_write(t->f.bus, MMIO + 0x404, 0x0502, 2);
    assert_int_equal(bus_memory_read(t->f.bus, MMIO + 0x405, 1), 5);
    bus_memory_write(t->f.bus, MMIO + 0x502, 800, 2);
    assert_int_equal(dispi_get(t, 1), 800);
    assert_int_equal(bus_memory_read(t->f.bus, MMIO + 0x500, 2), 0xb0c5);
    assert_int_equal(bus_memory_read(t->f.bus, MMIO + 0x514, 2), 256);
    assert_int_equal(bus_memory_read(t->f.bus, MMIO + 0x600, 4), 8);
    assert_int_equal(bus_memory_read(t->f.bus, MMIO + 0x604, 4), 0x1e1e1e1e);
    bus_memory_write(t->f.bus, MMIO + 0x604, 0xbebebebe, 4);
    assert_int_equal(bus_memory_read(t->f.bus, MMIO + 0x604, 4), 0xbebebebe);
    dispi_mode(t, 640, 480, 32);
    bus_memory_write(t->f.bus, FRAME_BUFFER, 0x56341200, 4);
    draw(t, false);
    assert_int_equal(at(t, 0, 0), 0x123456);
    assert_int_equal(bus_memory_read(t->f.bus, MMIO, 8), 0);
}

static void test_ports(void **state)
{
    struct screen *t = *state;
    out8(&t->f, 0x3c2, 2); /* monochrome addresses */
    out16(&t->f, 0x3b4, 0x340e);
    assert_int_equal(in8(&t->f, 0x3b5), 0x34);
    assert_int_equal(in8(&t->f, 0x3d5), 0xff);
    assert_int_equal(in8(&t->f, 0x3bc), 0xff); /* left to a printer */
    set_mode(t, &text_80x25);
    assert_int_equal(in8(&t->f, 0x3b5), 0xff);
    indexed(t, 0x3d4, 0, 0x12); /* 11h has the protect bit */
    out8(&t->f, 0x3d4, 0);
    assert_int_equal(in8(&t->f, 0x3d5), 0x5f);
    out8(&t->f, 0x3c7, 5);
    assert_int_equal(in8(&t->f, 0x3c7), 3);
    assert_int_equal(in8(&t->f, 0x3c9), 5);
    assert_int_equal(in8(&t->f, 0x3c9), 10);
    u8 seen = 0, unseen = 0;
    for (unsigned i = 0; i < 20000; i++) {
        u8 status = in8(&t->f, 0x3da);
        seen |= status;
        unseen |= (u8)~status;
        clock_advance(t->f.clock, 1000);
    }
    assert_int_equal(seen & 9, 9);
    assert_int_equal(unseen & 9, 9);
}

static void test_reset_clears(void **state)
{
    struct screen *t = *state;
    static const u32 places[] = {0, 4096 * 5 + 12, 0x123457, 0xfffffc};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        bus_memory_write(t->f.bus, FRAME_BUFFER + places[i], 0x12345678, 4);
    assert_int_equal(t->vga->vram[places[3]], 0x78);
    device_reset((struct device *)t->vga);
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        assert_memory_equal(t->vga->vram + places[i], "\0\0\0", 4);
    /* A part of it that begins and ends within pages. */
    memset(t->vga->vram, 0x55, 0x30000);
    bus_clear_memory(t->f.bus, t->vga->vram + 0x123, 0x20000);
    assert_int_equal(t->vga->vram[0x122], 0x55);
    assert_int_equal(t->vga->vram[0x20123], 0x55);
    for (u32 i = 0x123; i < 0x20123; i++) assert_int_equal(t->vga->vram[i], 0);
}

/* Whatever a guest writes wherever: nothing but pictures comes of it. */
static void test_hostile(void **state)
{
    struct screen *t = *state;
    u32 seed = 1;
    char text[100];
    for (unsigned i = 0; i < 30000; i++) {
        seed = seed * 1664525 + 1013904223;
        u32 r = seed >> 8, window = 0xa0000 + (r >> 3 & 0x1ffff);
        switch (r & 7) {
        case 0: dispi(t, r >> 3 & 15, r >> 7); break;
        case 1: indexed(t, 0x3d4, r >> 3 & 31, r >> 8); break;
        case 2: indexed(t, 0x3ce, r >> 3 & 15, r >> 8); break;
        case 3: indexed(t, 0x3c4, r >> 3 & 7, r >> 8); break;
        case 4: attribute(t, r >> 3 & 31, r >> 8); break;
        case 5: bus_memory_write(t->f.bus, window, seed, 1u << (r >> 20 & 3)); break;
        case 6: bus_memory_read(t->f.bus, window, 1u << (r >> 20 & 3)); break;
        default: out8(&t->f, 0x3c0 + (r >> 3 & 31), r >> 8); break;
        }
        if (i % 300) continue;
        draw(t, false);
        vga_text(t->vga, text, sizeof text);
        in8(&t->f, 0x3da);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_text), TEST(test_split_screen), TEST(test_write_modes), TEST(test_read_modes),
        TEST(test_mode_13h), TEST(test_cga), TEST(test_dispi), TEST(test_dispi_depths),
        TEST(test_mmio), TEST(test_ports), TEST(test_reset_clears), TEST(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
