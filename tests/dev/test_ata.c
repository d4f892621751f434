/* Disks and a CD-ROM behind the PIIX3's ports: PIO, DMA, LBA48, errors, packets, saved state. */
#include "tests/dev/fixture.h"

#include <errno.h>
#include <stdlib.h>

#include "devices/piix3_ide.h"
#include "machine/disk/image.h"
#include "machine/drive_host.h"
#include "machine/host/loop.h"

#define DISK_SIZE (3ull << 40) /* beyond 2 TiB */
#define CD_SECTORS 1000u
#define WINDOW 0x100000u /* what of a disk is kept; the rest reads as a pattern */
#define DEVFN 9
#define BMBA 0xc000

struct memory_image {
    struct image image;
    u8 window[WINDOW];
    u64 last_offset;
    int fail;
};

static u8 pattern(u64 at) { return (u8)(at >> 9 ^ at * 7); }

static int image_read(struct image *image, u64 offset, void *to, u64 length)
{
    struct memory_image *m = (struct memory_image *)image;
    u8 *bytes = to;
    m->last_offset = offset;
    for (u64 i = 0; i < length; i++)
        bytes[i] = offset + i < WINDOW ? m->window[offset + i] : pattern(offset + i);
    return m->fail;
}

static int image_write(struct image *image, u64 offset, const void *from, u64 length)
{
    struct memory_image *m = (struct memory_image *)image;
    m->last_offset = offset;
    for (u64 i = 0; i < length; i++)
        if (offset + i < WINDOW) m->window[offset + i] = ((const u8 *)from)[i];
    return m->fail;
}

static int image_flush(struct image *image) { return ((struct memory_image *)image)->fail; }
static void image_close(struct image *image) { free(image); }

struct board {
    struct fixture f;
    struct pci_bus *pci;
    struct device *ide;
    struct loop *loop;
    struct drive *disk, *cd;
    struct memory_image *disk_image, *cd_image;
};

static struct memory_image *new_image(u64 size, bool read_only)
{
    struct memory_image *m = calloc(1, sizeof *m);
    m->image = (struct image){.size = size, .read_only = read_only, .read = image_read,
                              .write = image_write, .flush = image_flush, .close = image_close};
    for (u64 i = 0; i < WINDOW; i++) m->window[i] = pattern(i);
    return m;
}

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->loop = loop_new();
    b->disk_image = new_image(DISK_SIZE, false);
    b->cd_image = new_image(CD_SECTORS * 2048ull, true);
    b->disk = drive_new(&b->disk_image->image,
                        &(struct drive_settings){.id = "disk", .serial = "S1"}, b->loop);
    b->cd = drive_new(&b->cd_image->image, &(struct drive_settings){.id = "cd"}, b->loop);
    b->pci = pci_bus_new(b->f.bus, &b->f.log);
    b->ide = fixture_device(&b->f, &piix3_ide_class);
    assert_true(pci_bus_add(b->pci, (struct pci_device *)b->ide, DEVFN, &error));
    struct wire irq[2] = {fixture_wire(&b->f, 14), fixture_wire(&b->f, 15)};
    piix3_ide_set_wires(b->ide, irq);
    assert_true(device_init(b->ide, &error));
    assert_true(piix3_ide_attach(b->ide, 0, 0, b->disk, false));
    assert_false(piix3_ide_attach(b->ide, 0, 0, b->disk, false));
    assert_true(piix3_ide_attach(b->ide, 1, 0, b->cd, true));
    device_reset(b->ide);
    pci_config_write(b->pci, 0, DEVFN, 0x20, BMBA, 4);
    pci_config_write(b->pci, 0, DEVFN, 4, 5, 2);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->ide);
    drive_free(b->disk);
    drive_free(b->cd);
    loop_free(b->loop);
    pci_bus_free(b->pci);
    fixture_free(&b->f);
    free(b);
    return 0;
}

/* Runs the drives until the channel is not busy any more. */
static u8 settle(struct board *b, u16 base)
{
    for (unsigned i = 0; i < 1000 && (in8(&b->f, base + 0x206) & 0x80); i++) {
        drive_drain(b->disk);
        drive_drain(b->cd);
    }
    return in8(&b->f, base + 7);
}

static void command28(struct board *b, u32 lba, u8 count, u8 command)
{
    out8(&b->f, 0x1f6, 0xe0 | lba >> 24);
    out8(&b->f, 0x1f2, count);
    out8(&b->f, 0x1f3, (u8)lba);
    out8(&b->f, 0x1f4, (u8)(lba >> 8));
    out8(&b->f, 0x1f5, (u8)(lba >> 16));
    out8(&b->f, 0x1f7, command);
}

static void command48(struct board *b, u64 lba, u16 count, u8 command)
{
    out8(&b->f, 0x1f6, 0xe0);
    out8(&b->f, 0x1f2, (u8)(count >> 8));
    out8(&b->f, 0x1f3, (u8)(lba >> 24));
    out8(&b->f, 0x1f4, (u8)(lba >> 32));
    out8(&b->f, 0x1f5, (u8)(lba >> 40));
    out8(&b->f, 0x1f2, (u8)count);
    out8(&b->f, 0x1f3, (u8)lba);
    out8(&b->f, 0x1f4, (u8)(lba >> 8));
    out8(&b->f, 0x1f5, (u8)(lba >> 16));
    out8(&b->f, 0x1f7, command);
}

static void read_words(struct board *b, u16 base, u8 *to, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i += 2) st16(to + i, in16(&b->f, base));
}

static void test_presence(void **state)
{
    struct board *b = *state;
    assert_int_equal(pci_config_read(b->pci, 0, DEVFN, 0, 4), 0x70108086);
    assert_int_equal(pci_config_read(b->pci, 0, DEVFN, 8, 4), 0x01018000);
    assert_int_equal(in8(&b->f, 0x1f7), 0x50);
    assert_int_equal(in8(&b->f, 0x1f2), 1);
    assert_int_equal(in8(&b->f, 0x1f4), 0);
    out8(&b->f, 0x1f6, 0xb0); /* nobody */
    assert_int_equal(in8(&b->f, 0x1f6), 0xb0);
    assert_int_equal(in8(&b->f, 0x1f7), 0);
    out8(&b->f, 0x1f7, 0xec);
    assert_false(b->f.line[14]);
    assert_int_equal(in8(&b->f, 0x174), 0x14);
    assert_int_equal(in8(&b->f, 0x175), 0xeb);
    out8(&b->f, 0x3f6, 4);
    assert_int_equal(in8(&b->f, 0x1f7), 0x80);
    out8(&b->f, 0x3f6, 0);
    assert_int_equal(in8(&b->f, 0x1f7), 0x50);
}

static void test_identify(void **state)
{
    struct board *b = *state;
    u8 data[512];
    command28(b, 0, 0, 0xec);
    assert_true(b->f.line[14]);
    assert_int_equal(settle(b, 0x1f0), 0x58);
    assert_false(b->f.line[14]);
    read_words(b, 0x1f0, data, 512);
    assert_int_equal(in8(&b->f, 0x1f7), 0x50);
    assert_int_equal(ld64(data + 200), DISK_SIZE / 512);
    assert_int_equal(ld32(data + 120), 0x0fffffff);
    assert_int_equal(ld16(data + 20), 'S' << 8 | '1');
    u8 sum = 0;
    for (unsigned i = 0; i < 512; i++) sum += data[i];
    assert_int_equal(sum, 0);
}

static void test_pio(void **state)
{
    struct board *b = *state;
    u8 data[512 * 100];
    command28(b, 10, 100, 0x20);
    for (unsigned s = 0; s < 100; s++) {
        assert_int_equal(settle(b, 0x1f0), 0x58);
        read_words(b, 0x1f0, data + 512 * s, 512);
    }
    assert_int_equal(settle(b, 0x1f0), 0x50);
    for (unsigned i = 0; i < sizeof data; i++) assert_int_equal(data[i], pattern(5120 + i));
    command28(b, 0, 8, 0xc6);
    assert_int_equal(in8(&b->f, 0x1f7), 0x50);
    command28(b, 4, 12, 0xc5); /* 8 sectors, then 4 */
    assert_int_equal(in8(&b->f, 0x1f7), 0x58);
    assert_false(b->f.line[14]); /* the first block needs no interrupt */
    for (unsigned i = 0; i < 8 * 128; i++) out32(&b->f, 0x1f0, i);
    assert_true(b->f.line[14]);
    assert_int_equal(settle(b, 0x1f0), 0x58);
    for (unsigned i = 0; i < 4 * 128; i++) out32(&b->f, 0x1f0, ~i);
    assert_int_equal(settle(b, 0x1f0), 0x50);
    assert_int_equal(ld32(b->disk_image->window + 4 * 512 + 4), 1);
    assert_int_equal(ld32(b->disk_image->window + 12 * 512 + 4), ~1u);
}

static void test_lba48(void **state)
{
    struct board *b = *state;
    u8 data[512];
    u64 lba = DISK_SIZE / 512 - 1;
    command48(b, lba, 1, 0x24);
    assert_int_equal(settle(b, 0x1f0), 0x58);
    read_words(b, 0x1f0, data, 512);
    assert_int_equal(b->disk_image->last_offset, lba * 512);
    assert_int_equal(data[3], pattern(lba * 512 + 3));
    command48(b, lba, 2, 0x24);
    assert_int_equal(settle(b, 0x1f0), 0x51);
    assert_int_equal(in8(&b->f, 0x1f1), 0x10);
    command48(b, 0, 0, 0x27);
    assert_int_equal(in8(&b->f, 0x1f3), (u8)lba);
    out8(&b->f, 0x3f6, 0x80);
    assert_int_equal(in8(&b->f, 0x1f3), (u8)(lba >> 24));
    assert_int_equal(in8(&b->f, 0x1f4), (u8)(lba >> 32));
    out8(&b->f, 0x3f6, 0);
}

static void test_chs(void **state)
{
    struct board *b = *state;
    u8 data[512];
    out8(&b->f, 0x1f2, 1);
    out8(&b->f, 0x1f3, 2); /* sector 2, head 3, cylinder 1 of 16 x 63 */
    out8(&b->f, 0x1f4, 1);
    out8(&b->f, 0x1f5, 0);
    out8(&b->f, 0x1f6, 0xa3);
    out8(&b->f, 0x1f7, 0x20);
    assert_int_equal(settle(b, 0x1f0), 0x58);
    read_words(b, 0x1f0, data, 512);
    assert_int_equal(b->disk_image->last_offset, ((16 + 3) * 63 + 1) * 512);
    out8(&b->f, 0x1f3, 0); /* there is no sector 0 */
    out8(&b->f, 0x1f7, 0x20);
    assert_int_equal(settle(b, 0x1f0), 0x51);
}

static void prd(struct board *b, unsigned index, u32 address, u32 length_and_end)
{
    st32(b->f.ram + 0x1000 + 8 * index, address);
    st32(b->f.ram + 0x1004 + 8 * index, length_and_end);
}

static void test_dma_read(void **state)
{
    struct board *b = *state;
    prd(b, 0, 0x20000, 100); /* sectors that straddle entries */
    prd(b, 1, 0x30000, 1000);
    prd(b, 2, 0x40000, 0x80000000 | (8 * 512 - 1100));
    out32(&b->f, BMBA + 4, 0x1000);
    out8(&b->f, BMBA + 2, 6);
    command48(b, 20, 8, 0x25);
    assert_int_equal(in8(&b->f, 0x3f6) & 0x80, 0x80);
    out8(&b->f, BMBA, 9);
    assert_int_equal(settle(b, 0x1f0), 0x50);
    assert_int_equal(in8(&b->f, BMBA + 2) & 7, 4);
    for (unsigned i = 0; i < 8 * 512; i++) {
        u32 at = i < 100 ? 0x20000 + i : i < 1100 ? 0x30000 + i - 100 : 0x40000 + i - 1100;
        assert_int_equal(b->f.ram[at], pattern(20 * 512 + i));
    }
    out8(&b->f, BMBA, 0);
    out8(&b->f, BMBA + 2, 4);
    assert_int_equal(in8(&b->f, BMBA + 2) & 7, 0);
}

static void test_dma_write_long(void **state)
{
    struct board *b = *state;
    for (u32 i = 0; i < 0x80000; i++) b->f.ram[0x100000 + i] = (u8)(i * 13 + (i >> 8));
    for (unsigned i = 0; i < 128; i++)
        prd(b, i, 0x100000 + i * 4096, 4096 | (i == 127 ? 0x80000000 : 0));
    out32(&b->f, BMBA + 4, 0x1000);
    command48(b, 0, 1024, 0x35);
    out8(&b->f, BMBA, 1);
    assert_int_equal(settle(b, 0x1f0), 0x50);
    assert_memory_equal(b->disk_image->window, b->f.ram + 0x100000, 0x80000);
    out8(&b->f, BMBA, 0);
}

static void test_dma_errors(void **state)
{
    struct board *b = *state;
    prd(b, 0, 0xfe000000, 0x80000200); /* no memory there */
    out32(&b->f, BMBA + 4, 0x1000);
    command28(b, 0, 1, 0xc8);
    out8(&b->f, BMBA, 9);
    assert_int_equal(settle(b, 0x1f0), 0x51);
    assert_int_equal(in8(&b->f, BMBA + 2) & 7, 6);
    out8(&b->f, BMBA, 0);
    prd(b, 0, 0x20000, 0x80000200); /* too short for two sectors */
    command28(b, 0, 2, 0xc8);
    out8(&b->f, BMBA, 9);
    settle(b, 0x1f0);
    assert_int_equal(in8(&b->f, BMBA + 2) & 1, 0);
    out8(&b->f, BMBA, 0);
    b->disk_image->fail = EIO;
    command28(b, 0, 1, 0xc8);
    out8(&b->f, BMBA, 9);
    assert_int_equal(settle(b, 0x1f0), 0x51);
    assert_int_equal(in8(&b->f, 0x1f1), 0x40);
    out8(&b->f, BMBA, 0);
    command28(b, 0, 0, 0xe7);
    assert_int_equal(settle(b, 0x1f0), 0x71);
    b->disk_image->fail = 0;
    command28(b, 0, 1, 0xc8);
    out8(&b->f, BMBA, 9);
    out8(&b->f, BMBA, 0); /* stopped on the way */
    assert_int_equal(in8(&b->f, 0x1f7) & 0x88, 0);
    pci_config_write(b->pci, 0, DEVFN, 4, 1, 2); /* no bus master */
    command28(b, 0, 1, 0xc8);
    out8(&b->f, BMBA, 9);
    assert_int_equal(settle(b, 0x1f0), 0x51);
}

static void test_odd_commands(void **state)
{
    struct board *b = *state;
    static const u8 aborted[] = {0x00, 0xa0, 0xa1, 0xf1, 0xf6, 0x45, 0xf9, 0x08, 0xff};
    for (unsigned i = 0; i < sizeof aborted; i++) {
        command28(b, 0, 1, aborted[i]);
        assert_int_equal(settle(b, 0x1f0), 0x51);
        assert_int_equal(in8(&b->f, 0x1f1), 4);
    }
    out8(&b->f, 0x3f6, 2); /* nIEN */
    command28(b, 0, 1, 0x40);
    assert_false(b->f.line[14]);
    assert_int_equal(settle(b, 0x1f0), 0x50);
    out8(&b->f, 0x3f6, 0);
    out8(&b->f, 0x1f1, 0xda);
    command28(b, 0xc24f00, 1, 0xb0);
    assert_int_equal(settle(b, 0x1f0), 0x50);
    assert_int_equal(in8(&b->f, 0x1f4), 0x4f);
    out8(&b->f, 0x1f7, 0x90);
    assert_int_equal(in8(&b->f, 0x1f1), 1);
    command28(b, 0, 0, 0xe5);
    assert_int_equal(in8(&b->f, 0x1f2), 0xff);
}

/* --- CD-ROM --- */

static u8 packet(struct board *b, const u8 *bytes, u16 limit, bool dma)
{
    u8 whole[12] = {0};
    memcpy(whole, bytes, 12);
    out8(&b->f, 0x176, 0xa0);
    out8(&b->f, 0x171, dma);
    out8(&b->f, 0x174, (u8)limit);
    out8(&b->f, 0x175, (u8)(limit >> 8));
    out8(&b->f, 0x177, 0xa0);
    assert_int_equal(in8(&b->f, 0x172) & 3, 1);
    for (unsigned i = 0; i < 12; i += 2) out16(&b->f, 0x170, ld16(whole + i));
    return settle(b, 0x170);
}

static unsigned receive(struct board *b, u8 *to)
{
    unsigned total = 0;
    while (settle(b, 0x170) & 8) {
        unsigned n = in8(&b->f, 0x174) | in8(&b->f, 0x175) << 8;
        assert_int_equal(in8(&b->f, 0x172), 2);
        read_words(b, 0x170, to + total, n);
        total += n;
    }
    assert_int_equal(in8(&b->f, 0x172), 3);
    return total;
}

static void test_cd_pio(void **state)
{
    struct board *b = *state;
    static u8 data[40 * 2352];
    packet(b, (const u8[12]){0x12, 0, 0, 0, 36}, 0xfffe, false);
    assert_int_equal(receive(b, data), 36);
    assert_memory_equal(data + 8, "LYREBIRD", 8);
    packet(b, (const u8[12]){0x25}, 8, false);
    assert_int_equal(receive(b, data), 8);
    assert_int_equal(data[2] << 8 | data[3], CD_SECTORS - 1);
    packet(b, (const u8[12]){0x28, 0, 0, 0, 0, 16, 0, 0, 40}, 2048, false);
    assert_int_equal(receive(b, data), 40 * 2048);
    for (unsigned i = 0; i < 40 * 2048; i++) assert_int_equal(data[i], pattern(16 * 2048 + i));
    packet(b, (const u8[12]){0xbe, 0, 0, 0, 0, 16, 0, 0, 20, 0xf8}, 0xfffe, false);
    assert_int_equal(receive(b, data), 20 * 2352);
    assert_int_equal(data[2352 * 19 + 16 + 5], pattern((16 + 19) * 2048 + 5));
    assert_int_equal(data[2352 * 19 + 15], 1);
    packet(b, (const u8[12]){0x43, 2, 0, 0, 0, 0, 0, 0, 20}, 20, false);
    assert_int_equal(receive(b, data), 20);
    assert_int_equal(data[3], 1);
    assert_int_equal(data[14], 0xaa);
}

static void test_cd_dma(void **state)
{
    struct board *b = *state;
    prd(b, 0, 0x20000, 0x8000);
    prd(b, 1, 0x50000, 0x80008000);
    out32(&b->f, BMBA + 12, 0x1000);
    out8(&b->f, BMBA + 10, 6);
    out8(&b->f, 0x176, 0xa0);
    out8(&b->f, BMBA + 8, 8);
    packet(b, (const u8[12]){0xa8, 0, 0, 0, 0, 8, 0, 0, 0, 32}, 0, true);
    out8(&b->f, BMBA + 8, 9);
    assert_int_equal(settle(b, 0x170), 0x50);
    assert_int_equal(in8(&b->f, BMBA + 10) & 7, 4);
    for (unsigned i = 0; i < 0x8000; i++) {
        assert_int_equal(b->f.ram[0x20000 + i], pattern(8 * 2048 + i));
        assert_int_equal(b->f.ram[0x50000 + i], pattern(8 * 2048 + 0x8000 + i));
    }
    out8(&b->f, BMBA + 8, 0);
}

static void test_cd_errors(void **state)
{
    struct board *b = *state;
    u8 data[64];
    assert_int_equal(packet(b, (const u8[12]){0x28, 0, 0, 0, 3, 0xe8, 0, 0, 1}, 2048, false), 0x51);
    packet(b, (const u8[12]){0x03, 0, 0, 0, 18}, 18, false);
    assert_int_equal(receive(b, data), 18);
    assert_int_equal(data[2], 5);
    assert_int_equal(data[12], 0x21);
    static const u8 far[12] = {0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff};
    assert_int_equal(packet(b, far, 1, false), 0x51);
    assert_int_equal(packet(b, (const u8[12]){0xee}, 2048, false), 0x51);
    assert_int_equal(in8(&b->f, 0x171) >> 4, 5);
    out8(&b->f, 0x177, 0xec);
    assert_int_equal(settle(b, 0x170), 0x51);
    assert_int_equal(in8(&b->f, 0x174), 0x14);
    out8(&b->f, 0x177, 0x08);
    assert_int_equal(in8(&b->f, 0x177), 0);
}

static void test_cd_media_change(void **state)
{
    struct board *b = *state;
    u8 data[64];
    packet(b, (const u8[12]){0x1e, 0, 0, 0, 1}, 0, false);
    assert_true(drive_tray_locked(b->cd));
    assert_int_equal(packet(b, (const u8[12]){0x1b, 0, 0, 0, 2}, 0, false), 0x51);
    packet(b, (const u8[12]){0x1e}, 0, false);
    assert_int_equal(packet(b, (const u8[12]){0x1b, 0, 0, 0, 2}, 0, false), 0x50);
    assert_false(drive_has_medium(b->cd));
    assert_int_equal(packet(b, (const u8[12]){0x00}, 0, false), 0x51);
    assert_int_equal(in8(&b->f, 0x171) >> 4, 2);
    drive_set_medium(b->cd, &new_image(100 * 2048, true)->image);
    packet(b, (const u8[12]){0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8}, 8, false);
    assert_int_equal(receive(b, data), 8);
    assert_int_equal(data[4], 2);
    assert_int_equal(packet(b, (const u8[12]){0x00}, 0, false), 0x51);
    assert_int_equal(in8(&b->f, 0x171) >> 4, 6);
    packet(b, (const u8[12]){0x03, 0, 0, 0, 18}, 18, false);
    receive(b, data);
    assert_int_equal(data[12], 0x28);
    assert_int_equal(packet(b, (const u8[12]){0x00}, 0, false), 0x50);
}

/* Every packet command with every reply cut short or not: nothing may break. */
static void test_cd_all_commands(void **state)
{
    struct board *b = *state;
    for (unsigned command = 0; command < 256; command++)
        for (unsigned variant = 0; variant < 16; variant++) {
            u8 p[12] = {(u8)command};
            for (unsigned i = 1; i < 12; i++) p[i] = (u8)(variant * 37 * i + (variant >> 2) * 0x55);
            if (command == 0x1b) p[4] = 0;
            packet(b, p, (u16)(variant * 777), false);
            for (unsigned i = 0; i < 400 && (settle(b, 0x170) & 8); i++)
                for (unsigned k = 0; k < 2048; k++) in16(&b->f, 0x170);
            out8(&b->f, 0x177, 0x08);
        }
    assert_int_equal(packet(b, (const u8[12]){0x00}, 0, false) & 0x80, 0);
}

static void test_state(void **state)
{
    struct board *b = *state;
    struct state_buffer out = {0};
    struct error error;
    u8 first[256], second[256], data[512];
    command28(b, 3, 2, 0x20);
    settle(b, 0x1f0);
    read_words(b, 0x1f0, first, 256);
    state_save(&out, b->ide, pci_device_fields);
    state_save(&out, b->ide, piix3_ide_class.fields);
    device_reset(b->ide);
    assert_int_equal(in8(&b->f, 0x1f7), 0x50);
    assert_true(state_load(&out, b->ide, pci_device_fields, &error));
    assert_true(state_load(&out, b->ide, piix3_ide_class.fields, &error));
    piix3_ide_class.restored(b->ide);
    assert_int_equal(in8(&b->f, 0x1f7), 0x58);
    read_words(b, 0x1f0, second, 256);
    for (unsigned i = 0; i < 256; i++) assert_int_equal(second[i], pattern(3 * 512 + 256 + i));
    assert_int_equal(settle(b, 0x1f0), 0x58);
    read_words(b, 0x1f0, data, 512);
    assert_int_equal(data[9], pattern(4 * 512 + 9));
    assert_int_equal(in8(&b->f, 0x1f7), 0x50);
    state_buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_presence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_identify, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pio, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lba48, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dma_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dma_write_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dma_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_odd_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cd_pio, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cd_dma, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cd_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cd_media_change, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cd_all_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
