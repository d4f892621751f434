/* The test suites' device: ports and memory that keep what is written, lines that follow their
 * ports. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

extern const struct device_class pc_testdev_class;

struct board {
    struct fixture f;
    struct device *device;
};

static struct wire line_wire(void *board, unsigned n)
{
    return fixture_wire(&((struct board *)board)->f, n);
}

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->device = fixture_device(&b->f, &pc_testdev_class);
    pc_testdev_class.connect(b->device, line_wire, b);
    assert_true(device_init(b->device, &error));
    device_reset(b->device);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->device);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static void ports_keep(void **state)
{
    struct board *b = *state;
    out32(&b->f, 0xe0, 0x87654321);
    assert_int_equal(in32(&b->f, 0xe0), 0x87654321);
    assert_int_equal(in8(&b->f, 0xe2), 0x65);
    out16(&b->f, 0xe1, 0xabcd);
    assert_int_equal(in32(&b->f, 0xe0), 0x87abcd21);
    out32(&b->f, 0xe8, 0x11223344);
    assert_int_equal(in8(&b->f, 0xe9), 0x33);
    out32(&b->f, 0xe4, 0xfeed0000); /* nothing to be seen */
    assert_int_equal(in32(&b->f, 0xe0), 0x87abcd21);
}

static void lines_follow(void **state)
{
    struct board *b = *state;
    out8(&b->f, 0x2000 + 14, 1);
    assert_true(b->f.line[14]);
    out8(&b->f, 0x2000 + 23, 255);
    assert_true(b->f.line[23]);
    out8(&b->f, 0x2000 + 14, 0);
    assert_false(b->f.line[14]);
    device_reset(b->device);
    assert_false(b->f.line[23]);
    out8(&b->f, 0x2000 + 24, 1); /* nobody's */
    assert_false(b->f.line[24]);
}

static void memory_keeps(void **state)
{
    struct board *b = *state;
    bus_memory_write(b->f.bus, 0xff00fff8, 0x1122334455667788, 8);
    assert_int_equal(bus_memory_read(b->f.bus, 0xff00fffa, 2), 0x5566);
    bus_memory_write(b->f.bus, 0xff00fff9, 0, 1);
    assert_int_equal(bus_memory_read(b->f.bus, 0xff00fff8, 4), 0x55660088);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ports_keep, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_follow, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_keeps, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
