/* The floppy controller on drives of the test's own: reset, seeks, DMA and PIO, errors, change. */
#include "tests/dev/fixture.h"

#include <errno.h>
#include <stdlib.h>

#include "devices/i8237.h"
#include "devices/i82077.h"
#include "machine/drive.h"

enum { LINE_IRQ = 6 };

#define DISK 1474560

/* --- the drive: every function of machine/drive.h, so that no other is linked in --- */

struct drive {
    u8 bytes[DISK];
    u64 size;
    bool read_only, has_medium;
    int error;
    struct drive_request *waiting;
    void (*changed)(void *opaque);
    void *opaque;
};

void drive_submit(struct drive *drive, struct drive_request *request)
{
    assert_null(drive->waiting);
    assert_true(request->offset + request->length <= drive->size);
    drive->waiting = request;
}

static void drive_finish(struct drive *drive)
{
    struct drive_request *r = drive->waiting;
    if (!r) return;
    drive->waiting = NULL;
    assert_int_equal(r->segment_count, 1);
    if (r->op == DRIVE_READ) memcpy(r->segments[0].base, drive->bytes + r->offset, r->length);
    if (r->op == DRIVE_WRITE) memcpy(drive->bytes + r->offset, r->segments[0].base, r->length);
    r->done(r, drive->error);
}

void drive_drain(struct drive *drive) { drive_finish(drive); }
u64 drive_size(struct drive *drive) { return drive->has_medium ? drive->size : 0; }
bool drive_read_only(struct drive *drive) { return drive->read_only; }
bool drive_has_medium(struct drive *drive) { return drive->has_medium; }
const char *drive_id(struct drive *drive) { return drive->has_medium ? "a" : "b"; }
const char *drive_serial(struct drive *drive) { return drive_id(drive); }
void drive_on_media_change(struct drive *drive, void (*changed)(void *), void *opaque)
{
    drive->changed = changed;
    drive->opaque = opaque;
}
void drive_eject(struct drive *drive) { drive->has_medium = false; }
void drive_lock_tray(struct drive *drive, bool locked) { (void)drive, (void)locked; }

/* --- the board --- */

struct board {
    struct fixture f;
    struct device *fdc, *dma;
    struct drive *drive;
    u8 result[16];
};

static void wait(struct board *b)
{
    drive_finish(b->drive);
    clock_advance(b->f.clock, 5000000);
}

static void send(struct board *b, const u8 *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(in8(&b->f, 0x3f4) & 0xc0, 0x80);
        out8(&b->f, 0x3f5, bytes[i]);
    }
}

#define SEND(b, ...) send(b, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void fetch(struct board *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(in8(&b->f, 0x3f4) & 0xd0, 0xd0);
        b->result[i] = in8(&b->f, 0x3f5);
    }
    assert_int_equal(in8(&b->f, 0x3f4) & 0xd0, 0x80);
}

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->drive = calloc(1, sizeof *b->drive);
    b->drive->size = DISK;
    b->drive->has_medium = true;
    for (unsigned i = 0; i < DISK; i++) b->drive->bytes[i] = i / 512 + i;
    b->dma = fixture_device(&b->f, &i8237_class);
    b->fdc = fixture_device(&b->f, &i82077_class);
    device_set_pointer(b->fdc, "driveA", b->drive);
    i82077_connect_irq(b->fdc, fixture_wire(&b->f, LINE_IRQ));
    i82077_connect_dma(b->fdc, b->dma);
    assert_true(device_init(b->dma, &error));
    assert_true(device_init(b->fdc, &error));
    device_reset(b->dma);
    device_reset(b->fdc);
    out8(&b->f, 0x3f2, 0x1c);
    wait(b);
    assert_true(b->f.line[LINE_IRQ]);
    for (unsigned i = 0; i < 4; i++) {
        SEND(b, 0x08);
        fetch(b, 2);
        assert_int_equal(b->result[0], 0xc0 + i);
    }
    assert_false(b->f.line[LINE_IRQ]);
    out8(&b->f, 0x3f7, 0);
    SEND(b, 0x03, 0xaf, 0x02);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->fdc);
    device_free(b->dma);
    fixture_free(&b->f);
    free(b->drive);
    free(b);
    return 0;
}

static void program_dma(struct board *b, bool to_memory, u16 address, u16 bytes)
{
    out8(&b->f, 0x0c, 0);
    out8(&b->f, 0x0b, to_memory ? 0x46 : 0x4a);
    out8(&b->f, 0x04, address);
    out8(&b->f, 0x04, address >> 8);
    out8(&b->f, 0x81, 0);
    out8(&b->f, 0x05, bytes - 1);
    out8(&b->f, 0x05, (bytes - 1) >> 8);
    out8(&b->f, 0x0a, 0x02);
}

static void seeks(void **state)
{
    struct board *b = *state;
    assert_int_equal(in8(&b->f, 0x3f7) & 0x80, 0x80);
    SEND(b, 0x0f, 0x00, 0x05);
    assert_int_equal(in8(&b->f, 0x3f4) & 0x8f, 0x81);
    wait(b);
    assert_true(b->f.line[LINE_IRQ]);
    SEND(b, 0x08);
    fetch(b, 2);
    assert_int_equal(b->result[0], 0x20);
    assert_int_equal(b->result[1], 5);
    assert_int_equal(in8(&b->f, 0x3f7) & 0x80, 0);
    SEND(b, 0x07, 0x01); /* no such drive: track 0 isn't found */
    wait(b);
    SEND(b, 0x08);
    fetch(b, 2);
    assert_int_equal(b->result[0], 0x71);
    SEND(b, 0x08);
    fetch(b, 1);
    assert_int_equal(b->result[0], 0x80);
    SEND(b, 0x04, 0x00);
    fetch(b, 1);
    assert_int_equal(b->result[0], 0x28);
    SEND(b, 0x0e);
    fetch(b, 10);
    assert_int_equal(b->result[0], 5);
    SEND(b, 0x10);
    fetch(b, 1);
    assert_int_equal(b->result[0], 0x90);
    SEND(b, 0x1f);
    fetch(b, 1);
    assert_int_equal(b->result[0], 0x80);
}

static void reads_by_dma(void **state)
{
    struct board *b = *state;
    program_dma(b, true, 0x4000, 4 * 512); /* 17 and 18 of head 0, 1 and 2 of head 1 */
    SEND(b, 0xe6, 0x00, 3, 0, 17, 2, 18, 0x1b, 0xff);
    assert_int_equal(in8(&b->f, 0x3f4), 0x10);
    wait(b);
    assert_true(b->f.line[LINE_IRQ]);
    fetch(b, 7);
    assert_false(b->f.line[LINE_IRQ]);
    assert_memory_equal(b->result, "\4\0\0\3\1\3\2", 7);
    assert_memory_equal(b->f.ram + 0x4000, b->drive->bytes + (3 * 36 + 16) * 512, 4 * 512);
    program_dma(b, true, 0x4000, 4 * 512);
    SEND(b, 0x66, 0x00, 3, 0, 17, 2, 18, 0x1b, 0xff); /* one side only: the track ends first */
    wait(b);
    fetch(b, 7);
    assert_memory_equal(b->result, "\x40\x80\0\4\0\1\2", 7);
}

static void writes_by_dma(void **state)
{
    struct board *b = *state;
    memset(b->f.ram + 0x4000, 0x77, 700);
    program_dma(b, false, 0x4000, 700);
    SEND(b, 0xc5, 0x04, 79, 1, 17, 2, 18, 0x1b, 0xff);
    wait(b);
    fetch(b, 7);
    assert_memory_equal(b->result, "\4\0\0\x50\0\1\2", 7);
    const u8 *at = b->drive->bytes + DISK - 1024;
    assert_int_equal(at[0], 0x77);
    assert_int_equal(at[699], 0x77);
    assert_int_equal(at[700], 0);
    assert_int_equal(at[1023], 0);
    b->drive->read_only = true;
    program_dma(b, false, 0x4000, 512);
    SEND(b, 0xc5, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    wait(b);
    fetch(b, 7);
    assert_int_equal(b->result[0], 0x40);
    assert_int_equal(b->result[1], 0x02);
}

static void moves_by_host(void **state)
{
    struct board *b = *state;
    u8 sector[512];
    SEND(b, 0x03, 0xaf, 0x03); /* no DMA */
    SEND(b, 0x46, 0x00, 0, 0, 2, 2, 2, 0x1b, 0xff);
    wait(b);
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(in8(&b->f, 0x3f4), 0xf0);
        sector[i] = in8(&b->f, 0x3f5);
    }
    fetch(b, 7);
    assert_memory_equal(b->result, "\x40\x80\0\1\0\1\2", 7);
    assert_memory_equal(sector, b->drive->bytes + 512, 512);
    SEND(b, 0x45, 0x00, 0, 0, 3, 2, 3, 0x1b, 0xff);
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(in8(&b->f, 0x3f4), 0xb0);
        out8(&b->f, 0x3f5, 0x3c);
    }
    wait(b);
    fetch(b, 7);
    assert_int_equal(b->drive->bytes[1024], 0x3c);
    assert_int_equal(b->drive->bytes[1535], 0x3c);
}

static void formats(void **state)
{
    struct board *b = *state;
    SEND(b, 0x0f, 0x00, 2);
    wait(b);
    SEND(b, 0x08);
    fetch(b, 2);
    for (unsigned i = 0; i < 18; i++) {
        memcpy(b->f.ram + 0x4000 + 4 * i, (u8[]){2, 1, i + 1, 2}, 4);
    }
    program_dma(b, false, 0x4000, 72);
    SEND(b, 0x4d, 0x04, 2, 18, 0x54, 0xf6);
    wait(b);
    fetch(b, 7);
    assert_int_equal(b->result[0], 0x04);
    const u8 *at = b->drive->bytes + (2 * 36 + 18) * 512;
    assert_int_equal(at[0], 0xf6);
    assert_int_equal(at[18 * 512 - 1], 0xf6);
    assert_int_not_equal(at[-1], 0xf6);
}

static void refuses(void **state)
{
    struct board *b = *state;
    static const u8 bad[][9] = {
        {0x46, 0x00, 80, 0, 1, 2, 18, 0x1b, 0xff},  {0x46, 0x00, 0, 0, 0, 2, 18, 0x1b, 0xff},
        {0x46, 0x00, 0, 0, 19, 2, 36, 0x1b, 0xff},  {0x46, 0x00, 0, 0, 1, 3, 18, 0x1b, 0xff},
        {0x46, 0x00, 255, 1, 255, 255, 255, 0, 0},  {0x46, 0x01, 0, 0, 1, 2, 18, 0x1b, 0xff},
        {0x45, 0x03, 0, 0, 1, 2, 18, 0x1b, 0xff},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        program_dma(b, bad[i][0] == 0x46, 0x4000, 512);
        send(b, bad[i], 9);
        wait(b);
        fetch(b, 7);
        assert_int_equal(b->result[0] & 0xc0, 0x40);
        assert_true(b->result[1] & 0x05);
    }
    b->drive->error = EIO;
    SEND(b, 0x46, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    wait(b);
    fetch(b, 7);
    assert_int_equal(b->result[1], 0x20);
    b->drive->error = 0;
    out8(&b->f, 0x0a, 0x06); /* the DMA channel is masked */
    SEND(b, 0x46, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    wait(b);
    fetch(b, 7);
    assert_int_equal(b->result[1], 0x10);
}

static void senses_medium(void **state)
{
    struct board *b = *state;
    SEND(b, 0x4a, 0x00);
    wait(b);
    fetch(b, 7);
    assert_int_equal(b->result[0], 0);
    out8(&b->f, 0x3f7, 2); /* not this medium's rate */
    SEND(b, 0x4a, 0x00);
    wait(b);
    fetch(b, 7);
    assert_int_equal(b->result[1], 0x01);
    b->drive->size = 737280;
    SEND(b, 0x4a, 0x00);
    wait(b);
    fetch(b, 7);
    assert_int_equal(b->result[0], 0);
    assert_int_equal(i82077_drive_type(b->fdc, 0), 4);
    assert_int_equal(i82077_drive_type(b->fdc, 1), 0);
    b->drive->has_medium = false;
    SEND(b, 0x4a, 0x00);
    wait(b);
    fetch(b, 7);
    assert_int_equal(b->result[0] & 0xc0, 0x40);
    b->drive->has_medium = true;
    b->drive->changed(b->drive->opaque);
    assert_int_equal(in8(&b->f, 0x3f7), 0x80);
}

/* A reset while the drive is at work: the completion must not be heard. */
static void reset_in_flight(void **state)
{
    struct board *b = *state;
    program_dma(b, true, 0x4000, 512);
    SEND(b, 0x46, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    assert_non_null(b->drive->waiting);
    out8(&b->f, 0x3f2, 0x18);
    assert_null(b->drive->waiting);
    assert_int_equal(in8(&b->f, 0x3f4), 0);
    assert_false(b->f.line[LINE_IRQ]);
    out8(&b->f, 0x3f2, 0x1c);
    wait(b);
    assert_true(b->f.line[LINE_IRQ]);
    assert_int_equal(in8(&b->f, 0x3f4), 0x80);
    assert_int_equal(b->f.ram[0x4001], 0);
}

/* Anything at all on its ports. */
static void noise(void **state)
{
    struct board *b = *state;
    u32 seed = 1;
    for (unsigned i = 0; i < 300000; i++) {
        seed = seed * 1664525 + 1013904223;
        static const u16 ports[] = {0x3f5, 0x3f5, 0x3f5, 0x3f5, 0x3f2, 0x3f4, 0x3f7, 0x3f5};
        u16 port = ports[seed >> 29];
        if (port != 0x3f5 && (seed >> 8 & 15)) continue;
        if (seed >> 12 & 3) out8(&b->f, port, seed >> 16);
        else in8(&b->f, port);
        if (!(i & 15)) wait(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(seeks, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_by_dma, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_by_dma, setup, teardown),
        cmocka_unit_test_setup_teardown(moves_by_host, setup, teardown),
        cmocka_unit_test_setup_teardown(formats, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(senses_medium, setup, teardown),
        cmocka_unit_test_setup_teardown(reset_in_flight, setup, teardown),
        cmocka_unit_test_setup_teardown(noise, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
