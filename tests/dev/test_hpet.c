/* The HPET's counter, one-shot, periodic, level and legacy outputs. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/hpet.h"

enum { LINE_IRQ0 = 30, LINE_IRQ8 = 31, LINE_LEGACY = 32 };

struct board {
    struct fixture f;
    struct device *hpet;
};

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    struct hpet_wires wires = {0};
    fixture_init(&b->f);
    b->hpet = fixture_device(&b->f, &hpet_class);
    for (unsigned i = 0; i < 24; i++) wires.pin[i] = fixture_wire(&b->f, i);
    wires.irq0 = fixture_wire(&b->f, LINE_IRQ0);
    wires.irq8 = fixture_wire(&b->f, LINE_IRQ8);
    wires.legacy = fixture_wire(&b->f, LINE_LEGACY);
    hpet_set_wires(b->hpet, &wires);
    assert_true(device_init(b->hpet, &error));
    device_reset(b->hpet);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->hpet);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static u64 rd(struct board *b, unsigned at, unsigned size)
{
    return bus_memory_read(b->f.bus, HPET_BASE + at, size);
}

static void wr(struct board *b, unsigned at, u64 value, unsigned size)
{
    bus_memory_write(b->f.bus, HPET_BASE + at, value, size);
}

static void test_counter(void **state)
{
    struct board *b = *state;
    assert_int_equal(rd(b, 0, 8), 0x009896808086a201ull);
    assert_int_equal(rd(b, 4, 4), 10000000);
    assert_int_equal(rd(b, 0x104, 4), 0x00ff0104);
    clock_advance(b->f.clock, 1000);
    assert_int_equal(rd(b, 0xf0, 8), 0);
    wr(b, 0x10, 1, 4);
    clock_advance(b->f.clock, 1000);
    assert_int_equal(rd(b, 0xf0, 8), 100);
    wr(b, 0x10, 0, 4);
    clock_advance(b->f.clock, 1000);
    assert_int_equal(rd(b, 0xf0, 4), 100);
}

static void test_one_shot(void **state)
{
    struct board *b = *state;
    wr(b, 0x10, 1, 4);
    wr(b, 0x100, 4 | 20 << 9, 4);
    wr(b, 0x108, 5000, 8);
    clock_advance(b->f.clock, 49000);
    assert_int_equal(b->f.rises[20], 0);
    clock_advance(b->f.clock, 2000);
    assert_int_equal(b->f.rises[20], 1);
    wr(b, 0x120, 0, 4); /* arming another again must not fire this one */
    clock_advance(b->f.clock, NS_PER_SECOND);
    assert_int_equal(b->f.rises[20], 1);
}

static void test_periodic(void **state)
{
    struct board *b = *state;
    wr(b, 0x10, 1, 4);
    wr(b, 0x120, 4 | 8 | 0x40 | 0x100 | 16 << 9, 4);
    wr(b, 0x128, 10000, 4);
    wr(b, 0x128, 20000, 4);
    clock_advance(b->f.clock, 101000);
    assert_int_equal(b->f.rises[16], 1);
    for (unsigned i = 0; i < 5; i++) clock_advance(b->f.clock, 200000);
    assert_int_equal(b->f.rises[16], 6);
    assert_int_equal(rd(b, 0x128, 4), 10000 + 6 * 20000);
}

static void test_tiny_period_is_bounded(void **state)
{
    struct board *b = *state;
    wr(b, 0x10, 1, 4);
    wr(b, 0x100, 4 | 8 | 0x40 | 16 << 9, 4);
    wr(b, 0x108, 1, 8);
    clock_advance(b->f.clock, 10000000);
    assert_true(b->f.rises[16] >= 2 && b->f.rises[16] <= 501);
}

static void test_level_and_legacy(void **state)
{
    struct board *b = *state;
    wr(b, 0x10, 3, 4);
    assert_true(b->f.line[LINE_LEGACY]);
    wr(b, 0x100, 4 | 2, 4);
    wr(b, 0x108, 100, 8);
    clock_advance(b->f.clock, 2000);
    assert_true(b->f.line[LINE_IRQ0]);
    assert_int_equal(rd(b, 0x20, 4), 1);
    wr(b, 0x20, 1, 4);
    assert_false(b->f.line[LINE_IRQ0]);
    device_reset(b->hpet);
    assert_false(b->f.line[LINE_LEGACY]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_shot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tiny_period_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_level_and_legacy, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
