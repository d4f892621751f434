/* The DMA controllers: programming, wrap, terminal count, directions, words, page registers. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/i8237.h"

struct board {
    struct fixture f;
    struct device *dma;
};

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->dma = fixture_device(&b->f, &i8237_class);
    assert_true(device_init(b->dma, &error));
    device_reset(b->dma);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->dma);
    fixture_free(&b->f);
    free(b);
    return 0;
}

/* Channel 2 as floppy drivers program it. */
static void program(struct board *b, u8 mode, u32 address, u16 bytes)
{
    out8(&b->f, 0x0a, 0x06);
    out8(&b->f, 0x0c, 0);
    out8(&b->f, 0x0b, mode);
    out8(&b->f, 0x04, address);
    out8(&b->f, 0x04, address >> 8);
    out8(&b->f, 0x81, address >> 16);
    out8(&b->f, 0x05, bytes - 1);
    out8(&b->f, 0x05, (bytes - 1) >> 8);
    out8(&b->f, 0x0a, 0x02);
}

static void to_memory(void **state)
{
    struct board *b = *state;
    u8 data[1024];
    bool ended;
    for (unsigned i = 0; i < sizeof data; i++) data[i] = i * 7;
    assert_int_equal(i8237_transfer(b->dma, 2, data, 512, true, &ended), 0); /* masked */
    program(b, 0x46, 0x23000, 1000);
    assert_int_equal(i8237_transfer(b->dma, 2, data, 512, true, &ended), 512);
    assert_false(ended);
    assert_int_equal(in8(&b->f, 0x05), 0xe7); /* 487 left to move, less one */
    assert_int_equal(in8(&b->f, 0x05), 0x01);
    assert_int_equal(i8237_transfer(b->dma, 2, data + 512, 512, true, &ended), 488);
    assert_true(ended);
    assert_memory_equal(b->f.ram + 0x23000, data, 1000);
    assert_int_equal(b->f.ram[0x23000 + 1000], 0);
    assert_int_equal(in8(&b->f, 0x08), 0x04);
    assert_int_equal(in8(&b->f, 0x08), 0x00);
    assert_int_equal(i8237_transfer(b->dma, 2, data, 512, true, &ended), 0);
}

static void from_memory(void **state)
{
    struct board *b = *state;
    u8 data[16] = {0};
    bool ended;
    memcpy(b->f.ram + 0x1fffe, "yz", 2);
    memcpy(b->f.ram + 0x10000, "ab", 2);
    program(b, 0x4a, 0x1fffe, 4); /* wraps within 64 KiB */
    assert_int_equal(i8237_transfer(b->dma, 2, data, 16, false, &ended), 4);
    assert_memory_equal(data, "yzab", 5);
    program(b, 0x4a, 0x1fffe, 4);
    assert_int_equal(i8237_transfer(b->dma, 2, data, 16, true, &ended), 0); /* wrong way */
    program(b, 0x6a, 0x10001, 2);                                          /* downwards */
    assert_int_equal(i8237_transfer(b->dma, 2, data, 2, false, &ended), 2);
    assert_memory_equal(data, "ba", 2);
}

static void auto_init_and_verify(void **state)
{
    struct board *b = *state;
    u8 data[8] = "12345678";
    bool ended;
    program(b, 0x56, 0x3000, 4);
    assert_int_equal(i8237_transfer(b->dma, 2, data, 8, true, &ended), 4);
    assert_true(ended);
    assert_int_equal(i8237_transfer(b->dma, 2, data + 4, 4, true, &ended), 4);
    assert_memory_equal(b->f.ram + 0x3000, "5678", 4);
    program(b, 0x42, 0x3000, 4);
    assert_int_equal(i8237_transfer(b->dma, 2, data, 8, true, &ended), 4);
    assert_memory_equal(b->f.ram + 0x3000, "5678", 4);
}

static void words(void **state)
{
    struct board *b = *state;
    u8 data[8] = "ABCDEFGH";
    bool ended;
    out8(&b->f, 0xd8, 0);
    out8(&b->f, 0xd6, 0x45); /* channel 5 to memory */
    out8(&b->f, 0xc4, 0xff); /* word address FFFFh: 1FFFEh of page 2's 128 KiB */
    out8(&b->f, 0xc4, 0xff);
    out8(&b->f, 0x8b, 0x03);
    out8(&b->f, 0xc6, 0x01);
    out8(&b->f, 0xc6, 0x00);
    out8(&b->f, 0xd4, 0x01);
    assert_int_equal(i8237_transfer(b->dma, 5, data, 7, true, &ended), 4);
    assert_true(ended);
    assert_memory_equal(b->f.ram + 0x3fffe, "AB", 2);
    assert_memory_equal(b->f.ram + 0x20000, "CD", 2);
    assert_int_equal(i8237_transfer(b->dma, 4, data, 4, true, &ended), 0);
    assert_int_equal(i8237_transfer(b->dma, 99, data, 4, true, &ended), 0);
}

static void registers(void **state)
{
    struct board *b = *state;
    assert_int_equal(in8(&b->f, 0x0f), 0xff);
    out8(&b->f, 0x0e, 0);
    assert_int_equal(in8(&b->f, 0x0f), 0xf0);
    out8(&b->f, 0x0d, 0);
    assert_int_equal(in8(&b->f, 0x0f), 0xff);
    for (unsigned i = 0; i < 16; i++) out8(&b->f, 0x80 + i, 0x30 + i);
    for (unsigned i = 0; i < 16; i++) assert_int_equal(in8(&b->f, 0x80 + i), 0x30 + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(to_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(from_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(auto_init_and_verify, setup, teardown),
        cmocka_unit_test_setup_teardown(words, setup, teardown),
        cmocka_unit_test_setup_teardown(registers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
