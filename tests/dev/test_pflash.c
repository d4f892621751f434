/* Flash over a drive: commands, status, queries, write-back, a read-only drive as a ROM. */
#include "tests/dev/fixture.h"

#include "machine/bus_host.h"
#include "machine/disk/image.h"
#include "machine/drive_host.h"
#include "machine/host/loop.h"

#include <stdlib.h>

#define SIZE KIB(256)
#define BASE (GIB(4) - SIZE)

extern const struct device_class pflash_cfi01_class;

struct memory_image {
    struct image image;
    u8 bytes[SIZE];
};

struct board {
    struct fixture f;
    struct loop *loop;
    struct drive *drive;
    struct memory_image *image;
    struct device *flash;
};

static int image_read(struct image *image, u64 offset, void *to, u64 length)
{
    memcpy(to, ((struct memory_image *)image)->bytes + offset, length);
    return 0;
}

static int image_write(struct image *image, u64 offset, const void *from, u64 length)
{
    memcpy(((struct memory_image *)image)->bytes + offset, from, length);
    return 0;
}

static int image_flush(struct image *image)
{
    (void)image;
    return 0;
}

static void image_close(struct image *image) { free(image); }

static struct board *board_new(bool read_only)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->loop = loop_new();
    b->image = calloc(1, sizeof *b->image);
    b->image->image = (struct image){.size = SIZE, .read_only = read_only, .read = image_read,
                                     .write = image_write, .flush = image_flush,
                                     .close = image_close};
    for (u32 i = 0; i < SIZE; i++) b->image->bytes[i] = (u8)(i % 251 | 0x80);
    b->drive = drive_new(&b->image->image, &(struct drive_settings){.id = "flash"}, b->loop);
    b->flash = fixture_device(&b->f, &pflash_cfi01_class);
    assert_false(device_init(b->flash, &error)); /* no drive yet */
    device_set_pointer(b->flash, "drive", b->drive);
    assert_true(device_set_property(b->flash, "base", "0xfffc0000", &error));
    assert_true(device_init(b->flash, &error));
    device_reset(b->flash);
    return b;
}

static int setup(void **state)
{
    *state = board_new(false);
    return 0;
}

static int setup_rom(void **state)
{
    *state = board_new(true);
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->flash);
    drive_free(b->drive);
    loop_free(b->loop);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static u8 rd(struct board *b, u32 at) { return bus_memory_read(b->f.bus, BASE + at, 1); }
static void wr(struct board *b, u32 at, u8 v) { bus_memory_write(b->f.bus, BASE + at, v, 1); }

static void settle(struct board *b)
{
    for (unsigned i = 0; i < 4; i++) drive_drain(b->drive);
}

static void test_array(void **state)
{
    struct board *b = *state;
    struct memory_target target;
    assert_int_equal(rd(b, 1000), b->image->bytes[1000]);
    assert_int_equal(bus_memory_read(b->f.bus, 0xfffff, 1), b->image->bytes[SIZE - 1]);
    assert_int_equal(bus_memory_read(b->f.bus, 0xe0000, 1), b->image->bytes[SIZE - KIB(128)]);
    memory_resolve(b->f.bus, BASE, false, &target);
    assert_non_null(target.host);
    assert_true(target.read_only);
}

/* How firmware tells flash from ROM and RAM. */
static void test_detection(void **state)
{
    struct board *b = *state;
    struct memory_target target;
    u8 before = rd(b, 0);
    wr(b, 0, 0x50);
    assert_int_equal(rd(b, 0), before);
    wr(b, 0, 0x70);
    assert_int_equal(rd(b, 0), 0);
    memory_resolve(b->f.bus, BASE, false, &target);
    assert_null(target.host);
    wr(b, 0, 0xff);
    assert_int_equal(rd(b, 0), before);
    memory_resolve(b->f.bus, BASE, false, &target);
    assert_non_null(target.host);
}

static void test_program(void **state)
{
    struct board *b = *state;
    u8 before = rd(b, 5000);
    wr(b, 5000, 0x10);
    wr(b, 5000, 0x93);
    assert_int_equal(rd(b, 5000) & 0xb0, 0x80);
    wr(b, 5001, 0x40);
    wr(b, 5001, 0x00);
    wr(b, 0, 0xff);
    assert_int_equal(rd(b, 5000), before & 0x93);
    assert_int_equal(rd(b, 5001), 0);
    settle(b);
    assert_int_equal(b->image->bytes[5000], before & 0x93);
    assert_int_equal(b->image->bytes[5001], 0);
}

static void test_erase(void **state)
{
    struct board *b = *state;
    wr(b, 5000, 0x20);
    wr(b, 5000, 0xd0);
    assert_int_equal(rd(b, 0) & 0xb0, 0x80);
    wr(b, 0, 0xff);
    assert_int_equal(rd(b, 4095), b->image->bytes[4095]);
    for (unsigned i = 4096; i < 8192; i++) assert_int_equal(rd(b, i), 0xff);
    settle(b);
    assert_int_equal(b->image->bytes[4096], 0xff);
    assert_int_equal(b->image->bytes[8191], 0xff);
    assert_int_not_equal(b->image->bytes[8192], 0xff);
    wr(b, 0, 0x20); /* not confirmed: nothing but an error */
    wr(b, 0, 0xff);
    assert_int_equal(rd(b, 0), 0xb0);
    wr(b, 0, 0xff);
    assert_int_equal(rd(b, 0), b->image->bytes[0]);
}

static void test_buffered(void **state)
{
    struct board *b = *state;
    wr(b, 0x3000, 0x20);
    wr(b, 0x3000, 0xd0);
    wr(b, 0x3010, 0xe8);
    assert_int_equal(rd(b, 0x3010), 0x80);
    wr(b, 0x3010, 3);
    for (u8 i = 0; i < 4; i++) wr(b, 0x3010 + i, 0x50 + i);
    wr(b, 0x3010, 0xd0);
    assert_int_equal(rd(b, 0x3010), 0x80);
    wr(b, 0, 0xff);
    assert_int_equal(rd(b, 0x300f), 0xff);
    for (u8 i = 0; i < 4; i++) assert_int_equal(rd(b, 0x3010 + i), 0x50 + i);
    assert_int_equal(rd(b, 0x3014), 0xff);
    wr(b, 0x3020, 0xe8); /* leaves the buffer's 256 bytes */
    wr(b, 0x3020, 1);
    wr(b, 0x3020, 1);
    wr(b, 0x3120, 1);
    wr(b, 0x3020, 0xd0);
    assert_int_equal(rd(b, 0x3020), 0x90);
    wr(b, 0, 0xff);
    assert_int_equal(rd(b, 0x3020), 0xff);
}

static void test_query(void **state)
{
    struct board *b = *state;
    wr(b, 0, 0x90);
    assert_int_equal(rd(b, 0), 0x89);
    assert_int_equal(rd(b, 1), 0x18);
    wr(b, 0x55, 0x98);
    assert_int_equal(rd(b, 0x10), 'Q');
    assert_int_equal(rd(b, 0x11), 'R');
    assert_int_equal(rd(b, 0x12), 'Y');
    assert_int_equal(rd(b, 0x27), 18);
    assert_int_equal(rd(b, 0x2d), 63);
    assert_int_equal(rd(b, 0x2f) << 8 | rd(b, 0x30) << 16, 4096);
    device_reset(b->flash);
    assert_int_equal(rd(b, 0x10), b->image->bytes[0x10]);
}

static void test_rom(void **state)
{
    struct board *b = *state;
    u8 before = rd(b, 0);
    wr(b, 0, 0x70);
    assert_int_equal(rd(b, 0), before);
    wr(b, 0, 0x20);
    wr(b, 0, 0xd0);
    assert_int_equal(rd(b, 0), before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_array), TEST(test_detection), TEST(test_program), TEST(test_erase),
        TEST(test_buffered), TEST(test_query),
        cmocka_unit_test_setup_teardown(test_rom, setup_rom, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
