/* The 8254: modes, latches, read-back, gate 2 through port 61h, periods without drift. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/i8254.h"
#include "devices/pcspk.h"

enum { LINE_OUT0 = 0 };

struct board {
    struct fixture f;
    struct device *pit, *speaker;
};

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->pit = fixture_device(&b->f, &i8254_class);
    b->speaker = fixture_device(&b->f, &pcspk_class);
    i8254_connect_out0(b->pit, fixture_wire(&b->f, LINE_OUT0));
    pcspk_connect_pit(b->speaker, b->pit);
    assert_true(device_init(b->pit, &error));
    assert_true(device_init(b->speaker, &error));
    device_reset(b->pit);
    device_reset(b->speaker);
    b->f.rises[LINE_OUT0] = 0;
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->pit);
    device_free(b->speaker);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static void ticks(struct board *b, u64 n)
{
    u64 now = ns_to_ticks(clock_now(b->f.clock), I8254_FREQUENCY);
    clock_advance(b->f.clock,
                  ticks_to_ns(now + n, I8254_FREQUENCY) + 1 - clock_now(b->f.clock));
}

static void set(struct board *b, unsigned channel, u8 control, u16 count)
{
    out8(&b->f, 0x43, channel << 6 | control);
    out8(&b->f, 0x40 + channel, count);
    out8(&b->f, 0x40 + channel, count >> 8);
}

static u16 latched(struct board *b, unsigned channel)
{
    out8(&b->f, 0x43, channel << 6);
    u8 low = in8(&b->f, 0x40 + channel);
    return in8(&b->f, 0x40 + channel) << 8 | low;
}

static void periodic(void **state)
{
    struct board *b = *state;
    set(b, 0, 0x34, 1193);
    clock_advance(b->f.clock, 100 * NS_PER_SECOND / 10);
    assert_int_equal(b->f.rises[LINE_OUT0], 10 * I8254_FREQUENCY / 1193);
    assert_in_range(latched(b, 0), 1, 1193);
    set(b, 0, 0x36, 0); /* mode 3: 18.2 Hz */
    b->f.rises[LINE_OUT0] = 0;
    clock_advance(b->f.clock, 100 * NS_PER_SECOND);
    assert_int_equal(b->f.rises[LINE_OUT0], 1820);
}

static void one_shot(void **state)
{
    struct board *b = *state;
    set(b, 0, 0x30, 1000); /* mode 0 */
    assert_false(b->f.line[LINE_OUT0]);
    ticks(b, 500);
    assert_false(b->f.line[LINE_OUT0]);
    assert_in_range(latched(b, 0), 499, 502);
    ticks(b, 502);
    assert_true(b->f.line[LINE_OUT0]);
    assert_int_equal(b->f.rises[LINE_OUT0], 1);
    ticks(b, 100000);
    assert_int_equal(b->f.rises[LINE_OUT0], 1);
    set(b, 0, 0x38, 100); /* mode 4 */
    b->f.rises[LINE_OUT0] = 0;
    ticks(b, 1000);
    assert_int_equal(b->f.rises[LINE_OUT0], 1);
}

static void read_back(void **state)
{
    struct board *b = *state;
    set(b, 0, 0x34, 5000);
    set(b, 1, 0x30, 300);
    ticks(b, 100);
    out8(&b->f, 0x43, 0xc6); /* status and count of 0 and 1 */
    ticks(b, 1000);
    assert_int_equal(in8(&b->f, 0x40), 0xb4);
    u16 count = in8(&b->f, 0x40);
    count |= in8(&b->f, 0x40) << 8;
    assert_in_range(count, 4899, 4902);
    assert_int_equal(in8(&b->f, 0x41), 0x30); /* OUT1 was still low */
    out8(&b->f, 0x43, 0x76);
    out8(&b->f, 0x43, 0xe4);
    assert_int_equal(in8(&b->f, 0x41), 0xf6); /* no count yet: null, high */
}

static void bcd(void **state)
{
    struct board *b = *state;
    set(b, 2, 0x31, 0x1000); /* gate is low: it doesn't count */
    ticks(b, 50);
    assert_int_equal(latched(b, 2), 0x1000);
    out8(&b->f, 0x61, 1);
    ticks(b, 1);
    assert_in_range(latched(b, 2), 0x0997, 0x0999);
    out8(&b->f, 0x61, 0);
    u16 frozen = latched(b, 2);
    ticks(b, 1000);
    assert_int_equal(latched(b, 2), frozen);
}

static void port_b(void **state)
{
    struct board *b = *state;
    out8(&b->f, 0x61, 1);
    set(b, 2, 0x30, 59659); /* 50 ms, as calibration loops do */
    assert_int_equal(in8(&b->f, 0x61) & 0x2f, 0x01);
    ticks(b, 59000);
    assert_int_equal(in8(&b->f, 0x61) & 0x20, 0);
    ticks(b, 590); /* a look in time: the end is seen as late as it comes */
    assert_int_equal(in8(&b->f, 0x61) & 0x20, 0);
    ticks(b, 100);
    assert_int_equal(in8(&b->f, 0x61) & 0x20, 0x20);
    set(b, 2, 0x30, 59659);
    ticks(b, 20000); /* put aside by the host: the whole count is still to come */
    assert_int_equal(in8(&b->f, 0x61) & 0x20, 0);
    ticks(b, 59000);
    assert_int_equal(in8(&b->f, 0x61) & 0x20, 0);
    ticks(b, 20000); /* and again: the low level is seen once more */
    assert_int_equal(in8(&b->f, 0x61) & 0x20, 0);
    assert_int_equal(in8(&b->f, 0x61) & 0x20, 0x20);
    u8 first = in8(&b->f, 0x61) & 0x10;
    ticks(b, 18);
    assert_int_not_equal(in8(&b->f, 0x61) & 0x10, first);
    set(b, 2, 0xb2 & 0x3f, 100); /* mode 1: triggered by the gate */
    assert_true(i8254_out(b->pit, 2));
    out8(&b->f, 0x61, 0);
    out8(&b->f, 0x61, 1);
    ticks(b, 50);
    assert_false(i8254_out(b->pit, 2));
    ticks(b, 60);
    assert_true(i8254_out(b->pit, 2));
}

/* A period shorter than anybody could serve doesn't drown the host. */
static void tiny_period(void **state)
{
    struct board *b = *state;
    set(b, 0, 0x34, 1);
    clock_advance(b->f.clock, NS_PER_SECOND / 100);
    assert_in_range(b->f.rises[LINE_OUT0], 100, 1000);
}

static void reload_at_end(void **state)
{
    struct board *b = *state;
    set(b, 0, 0x34, 1000);
    ticks(b, 500);
    out8(&b->f, 0x40, 0x10);
    out8(&b->f, 0x40, 0x27); /* 10000 from the next period on */
    ticks(b, 400);
    assert_in_range(latched(b, 0), 95, 105);
    ticks(b, 200);
    assert_in_range(latched(b, 0), 9890, 9910);
}

static void state_survives(void **state)
{
    struct board *b = *state;
    struct state_buffer buffer = {0};
    struct error error;
    set(b, 0, 0x34, 11932);
    ticks(b, 5000);
    u16 before = latched(b, 0);
    in8(&b->f, 0x40);
    state_save(&buffer, b->pit, b->pit->class->fields);
    device_reset(b->pit);
    assert_true(state_load(&buffer, b->pit, b->pit->class->fields, &error));
    b->pit->class->restored(b->pit);
    state_buffer_free(&buffer);
    in8(&b->f, 0x40); /* the byte pointer was saved in the middle */
    assert_int_equal(latched(b, 0), before);
    b->f.rises[LINE_OUT0] = 0;
    ticks(b, 11932);
    assert_int_equal(b->f.rises[LINE_OUT0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(one_shot, setup, teardown),
        cmocka_unit_test_setup_teardown(read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(bcd, setup, teardown),
        cmocka_unit_test_setup_teardown(port_b, setup, teardown),
        cmocka_unit_test_setup_teardown(tiny_period, setup, teardown),
        cmocka_unit_test_setup_teardown(reload_at_end, setup, teardown),
        cmocka_unit_test_setup_teardown(state_survives, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
