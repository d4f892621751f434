/*
 * VGA: makes a picture of video memory, a scan line at a time as the CRTC would fetch it.
 * Manual: IBM PS/2 Video Subsystem technical reference; deviations: see vga.c.
 *
 * A picture is made of a copy of video memory, taken when that or a register has changed, so that
 * what processors write meanwhile is seen next time. Planar and text screens are then drawn whole;
 * in linear modes only the lines that differ are.
 */
#include "devices/vga.h"

#include <stdlib.h>

/* One character more than is shown, for pixel panning; 256 of 9 dots are fewer. */
#define LINE_ROOM (VGA_MOST_WIDTH + 9)
#define CURSOR_HALF_NS 266666667ull /* 16 frames at 60 Hz */

struct view {
    struct vga *s;
    u32 color[256];    /* by DAC index */
    u8 attribute[16];  /* DAC index by colour number */
    const u8 *memory;
    u32 cells;         /* in memory */
    u32 mask;          /* of cell addresses */
    u32 scan_shift;    /* where row-scan bits go in an address; 0: nowhere */
    unsigned columns, dots, scale; /* dots of a character, pixels of a dot */
    u32 cursor;        /* cell; ~0: none */
    u32 font[2];       /* first cell, by attribute bit 3 */
    bool text;
    u8 line[LINE_ROOM];
};

/* --- colours --- */

static void load_colors(struct view *v)
{
    const struct vga *s = v->s;
    bool wide = s->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC;
    for (unsigned i = 0; i < 256; i++) {
        const u8 *rgb = &s->palette[(i & s->dac_mask) * 3];
        u32 color = 0;
        for (unsigned c = 0; c < 3; c++)
            color = color << 8 | (wide ? rgb[c] : (u32)(rgb[c] << 2 | rgb[c] >> 4) & 0xff);
        v->color[i] = color;
    }
    for (unsigned i = 0; i < 16; i++) {
        u8 entry = s->ar[i & s->ar[AR_PLANES]];
        u8 select = s->ar[AR_COLOR_SELECT];
        if (s->ar[AR_MODE] & AR_MODE_P54S) entry = (u8)((entry & 15) | (select & 3) << 4);
        v->attribute[i] = (u8)((entry & 0x3f) | (select & 12) << 4);
    }
}

/* --- what the attribute controller gets from a row of cells --- */

static u32 cell_at(const struct view *v, u32 cell)
{
    cell &= v->mask;
    return cell < v->cells ? ld32(v->memory + cell * 4) : 0;
}

/* The row-scan counter's bits in place of address bits, as in CGA modes. */
static u32 substitute(const struct view *v, u32 cell, unsigned row_scan)
{
    u8 mode = v->s->cr[CR_MODE];
    u32 bit = 1u << v->scan_shift;
    if (!v->scan_shift) return cell;
    if (!(mode & 1)) cell = (cell & ~bit) | (row_scan & 1 ? bit : 0);
    if (!(mode & 2)) cell = (cell & ~(bit << 1)) | (row_scan & 2 ? bit << 1 : 0);
    return cell;
}

static void planar_line(struct view *v, u32 row, unsigned row_scan)
{
    u8 *out = v->line;
    for (unsigned column = 0; column <= v->columns; column++, out += 8) {
        u32 four = cell_at(v, substitute(v, row + column, row_scan));
        for (unsigned i = 0; i < 8; i++) {
            u32 bits = four >> (7 - i) & 0x01010101;
            out[i] = v->attribute[(bits | bits >> 7 | bits >> 14 | bits >> 21) & 15];
        }
    }
}

static void interleaved_line(struct view *v, u32 row, unsigned row_scan)
{
    u8 *out = v->line;
    for (unsigned column = 0; column <= v->columns; column++, out += 8) {
        u32 four = cell_at(v, substitute(v, row + column, row_scan));
        for (unsigned i = 0; i < 8; i++) {
            u32 low = four >> (i < 4 ? 0 : 8), shift = 6 - (i & 3) * 2;
            out[i] = v->attribute[(low >> shift & 3) | (low >> (16 + shift) & 3) << 2];
        }
    }
}

static void byte_line(struct view *v, u32 row, unsigned row_scan)
{
    u8 *out = v->line;
    for (unsigned column = 0; column <= v->columns; column++, out += 4) {
        u32 four = cell_at(v, substitute(v, row + column, row_scan));
        for (unsigned i = 0; i < 4; i++) out[i] = (u8)(four >> i * 8);
    }
}

static bool cursor_covers(const struct vga *s, unsigned row_scan)
{
    return row_scan >= (s->cr[CR_CURSOR_START] & 31u) && row_scan <= (s->cr[CR_CURSOR_END] & 31u);
}

static void text_line(struct view *v, u32 row, unsigned row_scan)
{
    struct vga *s = v->s;
    u8 mode = s->ar[AR_MODE], *out = v->line;
    for (unsigned column = 0; column <= v->columns; column++, out += v->dots) {
        u32 cell = substitute(v, row + column, row_scan), pair = cell_at(v, cell);
        u8 code = (u8)pair, attribute = (u8)(pair >> 8);
        u8 glyph = (u8)(cell_at(v, v->font[attribute >> 3 & 1] + code * 32 + row_scan) >> 16);
        u8 front = v->attribute[attribute & 15], back = v->attribute[attribute >> 4];
        if (mode & AR_MODE_BLINK) {
            back = v->attribute[attribute >> 4 & 7];
            if (attribute & 0x80) {
                s->blink_seen = true;
                if (!s->drawn.blink_on) front = back;
            }
        }
        bool underlined = row_scan == (s->cr[CR_UNDERLINE] & 31u) && (attribute & 0x77) == 1;
        bool cursor = (cell & v->mask) == v->cursor && cursor_covers(s, row_scan);
        if (underlined || cursor) glyph = 0xff;
        for (unsigned i = 0; i < 8; i++) out[i] = glyph >> (7 - i) & 1 ? front : back;
        if (v->dots == 8) continue;
        bool joined = (mode & AR_MODE_LINE_GRAPHICS) && (code & 0xe0) == 0xc0;
        out[8] = underlined || cursor || (joined && glyph & 1) ? front : back;
    }
}

static void fetch_line(struct view *v, u32 row, unsigned row_scan)
{
    u8 mode = v->s->gr[GR_MODE];
    if (v->text) text_line(v, row, row_scan);
    else if (mode & GR_MODE_256) byte_line(v, row, row_scan);
    else if (mode & GR_MODE_INTERLEAVE) interleaved_line(v, row, row_scan);
    else planar_line(v, row, row_scan);
}

/* --- what the CRTC makes of it --- */

static unsigned panning(const struct view *v)
{
    unsigned pan = v->s->ar[AR_PAN];
    if (v->dots == 9) return pan >= 8 ? 0 : pan + 1;
    if (v->dots == 4) return pan >> 1 & 3;
    return pan & 7;
}

static void emit_line(const struct view *v, unsigned pan, u32 *to)
{
    const u8 *from = v->line + pan;
    unsigned count = v->columns * v->dots;
    if (v->scale == 1) {
        for (unsigned i = 0; i < count; i++) to[i] = v->color[from[i]];
        return;
    }
    for (unsigned i = 0; i < count; i++)
        for (unsigned n = 0; n < v->scale; n++) *to++ = v->color[from[i]];
}

static void draw_lines(struct view *v)
{
    struct vga *s = v->s;
    unsigned row_lines = vga_row_lines(s), row_scan = s->cr[CR_PRESET] & 31, pan = panning(v);
    bool doubled = s->cr[CR_MAX_SCAN] & 0x80, second = false;
    u32 row = vga_start(s) + (s->cr[CR_PRESET] >> 5 & 3), drawn_row = ~0u, drawn_scan = ~0u;
    unsigned split = s->cr[CR_LINE_COMPARE] | (s->cr[CR_OVERFLOW] & 0x10u) << 4 |
                     (s->cr[CR_MAX_SCAN] & 0x40u) << 3;
    for (unsigned y = 0; y < s->height; y++) {
        u32 *to = s->pixels + (size_t)y * s->width;
        if (row == drawn_row && row_scan == drawn_scan) {
            memcpy(to, to - s->width, s->width * sizeof *to);
        } else {
            fetch_line(v, row, row_scan);
            emit_line(v, pan, to);
            drawn_row = row;
            drawn_scan = row_scan;
        }
        if (y == split) {
            row = row_scan = second = 0;
            drawn_row = ~0u;
            if (s->ar[AR_MODE] & AR_MODE_PAN_TOP) pan = 0;
        } else if (doubled && !second) {
            second = true;
        } else {
            second = false;
            if (++row_scan >= row_lines) {
                row_scan = 0;
                row += s->cr[CR_OFFSET] * 2u;
            }
        }
    }
}

/* --- dispi with four planes: a planar line from a wider memory --- */

static void draw_dispi_planar(struct view *v)
{
    struct vga *s = v->s;
    const u16 *r = s->dispi;
    u32 row = (r[DISPI_Y_OFFSET] * (u32)r[DISPI_VIRT_WIDTH] + r[DISPI_X_OFFSET]) / 8;
    for (unsigned y = 0; y < s->height; y++, row += r[DISPI_VIRT_WIDTH] / 8) {
        planar_line(v, row, 0);
        emit_line(v, r[DISPI_X_OFFSET] & 7, s->pixels + (size_t)y * s->width);
    }
}

/* --- linear lines --- */

static u32 widen(u32 value, unsigned bits)
{
    return bits == 5 ? value << 3 | value >> 2 : value << 2 | value >> 4;
}

static u32 pixel_16(u32 p, bool six_green)
{
    if (six_green)
        return widen(p >> 11, 5) << 16 | widen(p >> 5 & 63, 6) << 8 | widen(p & 31, 5);
    return widen(p >> 10 & 31, 5) << 16 | widen(p >> 5 & 31, 5) << 8 | widen(p & 31, 5);
}

static void linear_line(const struct view *v, const u8 *from, u32 *to)
{
    const struct vga *s = v->s;
    unsigned bpp = s->dispi[DISPI_BPP];
    for (unsigned x = 0; x < s->width; x++) {
        u16 half;
        switch (bpp) {
        case 8: to[x] = v->color[from[x]]; break;
        case 15:
        case 16:
            half = ld16(from + x * 2);
            if (s->big_endian) half = __builtin_bswap16(half);
            to[x] = pixel_16(half, bpp == 16);
            break;
        case 24: to[x] = from[x * 3] | from[x * 3 + 1] << 8 | (u32)from[x * 3 + 2] << 16; break;
        default:
            to[x] = ld32(from + x * 4);
            if (s->big_endian) to[x] = __builtin_bswap32(to[x]);
            to[x] &= 0xffffff;
        }
    }
}

static bool draw_linear(struct view *v, bool all)
{
    struct vga *s = v->s;
    const u16 *r = s->dispi;
    u32 pitch = vga_dispi_pitch(s), unit = pitch / r[DISPI_VIRT_WIDTH];
    u32 length = s->width * unit;
    u64 at = (u64)r[DISPI_Y_OFFSET] * pitch + r[DISPI_X_OFFSET] * unit;
    bool changed = all;
    for (unsigned y = 0; y < s->height; y++, at += pitch) {
        u8 *shadow = s->shadow + (size_t)y * length;
        if (at + length > s->vram_size) break;
        if (!all && !memcmp(shadow, s->vram + at, length)) continue;
        memcpy(shadow, s->vram + at, length);
        linear_line(v, shadow, s->pixels + (size_t)y * s->width);
        changed = true;
    }
    return changed;
}

/* --- a picture --- */

static void look_at(const struct vga *s, struct vga_look *look)
{
    u64 half = clock_now(s->pci.dev.clock) / CURSOR_HALF_NS;
    memset(look, 0, sizeof *look);
    memcpy(look->sr, s->sr, sizeof look->sr);
    memcpy(look->cr, s->cr, sizeof look->cr);
    memcpy(look->gr, s->gr, sizeof look->gr);
    memcpy(look->ar, s->ar, sizeof look->ar);
    memcpy(look->palette, s->palette, sizeof look->palette);
    memcpy(look->dispi, s->dispi, sizeof look->dispi);
    look->sr[SR_MAP_MASK] = 0; /* these are about access, not about the picture */
    look->gr[GR_SET_RESET] = look->gr[GR_ENABLE_SET_RESET] = look->gr[GR_COMPARE] = 0;
    look->gr[GR_FUNCTION] = look->gr[GR_READ_MAP] = look->gr[GR_BIT_MASK] = 0;
    look->gr[GR_DONT_CARE] = 0;
    look->gr[GR_MODE] &= GR_MODE_256 | GR_MODE_INTERLEAVE;
    look->dispi[DISPI_BANK] = look->dispi[DISPI_ID] = 0;
    look->dac_mask = s->dac_mask;
    look->big_endian = s->big_endian;
    look->blanked =
        !(s->ar_index & AR_INDEX_SCREEN_ON) || (s->sr[SR_CLOCKING] & CLOCKING_OFF) != 0;
    if (!vga_is_text(s) || look->blanked) return;
    look->cursor_on = !(s->cr[CR_CURSOR_START] & 0x20) && !(half & 1);
    look->blink_on = !s->blink_seen || !(half & 2);
}

static void view_init(struct view *v, struct vga *s)
{
    static const u8 eighth[8] = {0, 2, 4, 6, 1, 3, 5, 7}; /* font number → 8 KiB block */
    u8 fonts = s->sr[SR_FONTS], clocking = s->sr[SR_CLOCKING];
    bool dispi = s->dispi[DISPI_ENABLE] & DISPI_ENABLED;
    v->s = s;
    v->text = vga_is_text(s);
    v->mask = 0xffff;
    v->scan_shift = s->cr[CR_MODE] & 0x40 ? 13 : 12;
    v->columns = vga_columns(s);
    v->dots = 8;
    v->scale = clocking & CLOCKING_HALF ? 2 : 1;
    if (v->text && !(clocking & CLOCKING_8_DOTS)) v->dots = 9;
    if (!v->text && s->gr[GR_MODE] & GR_MODE_256) {
        v->dots = 4;
        v->scale *= 2;
    }
    if (dispi) {
        v->columns = s->dispi[DISPI_XRES] / 8;
        v->dots = 8;
        v->scale = 1;
        v->mask = ~0u;
        v->scan_shift = 0;
    }
    v->cursor = ~0u;
    if (s->drawn.cursor_on)
        v->cursor = (u32)s->cr[CR_CURSOR_HIGH] << 8 | s->cr[CR_CURSOR_HIGH + 1];
    v->font[1] = eighth[(fonts >> 2 & 3) | (fonts >> 3 & 4)] * 0x2000u;
    v->font[0] = eighth[(fonts & 3) | (fonts >> 2 & 4)] * 0x2000u;
    load_colors(v);
}

static void make_room(struct vga *s, unsigned width, unsigned height, u32 shadow)
{
    u32 count = width * height;
    if (count > s->pixel_capacity) {
        free(s->pixels);
        s->pixels = calloc(count, sizeof *s->pixels);
        if (!s->pixels) abort();
        s->pixel_capacity = count;
    }
    if (shadow > s->shadow_capacity) {
        free(s->shadow);
        s->shadow = calloc(1, shadow);
        if (!s->shadow) abort();
        s->shadow_capacity = shadow;
    }
    s->width = width;
    s->height = height;
    s->shadow_size = shadow;
}

static bool refresh(struct vga *s, bool all)
{
    bool dispi = s->dispi[DISPI_ENABLE] & DISPI_ENABLED;
    bool linear = dispi && s->dispi[DISPI_BPP] != 4;
    struct view v;
    view_init(&v, s);
    if (all) {
        unsigned width = v.columns * v.dots * v.scale;
        unsigned height = dispi ? s->dispi[DISPI_YRES] : vga_lines(s);
        u32 shadow = VGA_LEGACY_MEMORY;
        if (linear) shadow = width * height * 4;
        else if (dispi) shadow = (s->dispi[DISPI_Y_OFFSET] + height) * vga_dispi_pitch(s);
        make_room(s, width, height, shadow);
    }
    if (s->drawn.blanked) {
        if (all) memset(s->pixels, 0, (size_t)s->width * s->height * sizeof *s->pixels);
        return all;
    }
    if (linear) return draw_linear(&v, all);
    if (!all && !memcmp(s->shadow, s->vram, s->shadow_size)) return false;
    memcpy(s->shadow, s->vram, s->shadow_size);
    v.memory = s->shadow;
    v.cells = s->shadow_size / 4;
    s->blink_seen = false;
    if (dispi) draw_dispi_planar(&v);
    else draw_lines(&v);
    return true;
}

bool vga_draw(void *opaque, bool force, const u32 **pixels, unsigned *width, unsigned *height,
              unsigned *stride)
{
    struct vga *s = opaque;
    struct vga_look look;
    look_at(s, &look);
    bool all = force || !s->drawn_valid || memcmp(&look, &s->drawn, sizeof look);
    s->drawn = look;
    s->drawn_valid = true;
    bool changed = refresh(s, all);
    *pixels = s->pixels;
    *width = s->width;
    *height = s->height;
    *stride = s->width * 4;
    return changed;
}
