/* The clock chip: time in both codes, setting it, UIP, the three interrupts, CMOS. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/mc146818.h"

enum { LINE_IRQ = 8 };

#define START 1709210096ull /* Thursday 2024-02-29 12:34:56 UTC */

struct board {
    struct fixture f;
    struct device *rtc;
};

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    clock_set_wall(b->f.clock, START * NS_PER_SECOND);
    b->rtc = fixture_device(&b->f, &mc146818_class);
    mc146818_connect_irq(b->rtc, fixture_wire(&b->f, LINE_IRQ));
    assert_true(device_init(b->rtc, &error));
    device_reset(b->rtc);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->rtc);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static u8 get(struct board *b, u8 index)
{
    out8(&b->f, 0x70, index);
    return in8(&b->f, 0x71);
}

static void put(struct board *b, u8 index, u8 value)
{
    out8(&b->f, 0x70, index);
    out8(&b->f, 0x71, value);
}

static void shows_time(void **state)
{
    struct board *b = *state;
    assert_int_equal(get(b, 0), 0x56);
    assert_int_equal(get(b, 2), 0x34);
    assert_int_equal(get(b, 4), 0x12);
    assert_int_equal(get(b, 6), 5);
    assert_int_equal(get(b, 7), 0x29);
    assert_int_equal(get(b, 8), 0x02);
    assert_int_equal(get(b, 9), 0x24);
    assert_int_equal(get(b, 0x32), 0x20);
    clock_advance(b->f.clock, 3600ull * 12 * NS_PER_SECOND);
    assert_int_equal(get(b, 8), 0x03);
    assert_int_equal(get(b, 7), 0x01);
    put(b, 11, 0x04); /* binary, 12 hours */
    assert_int_equal(get(b, 4), 12);
    assert_int_equal(get(b, 9), 24);
    clock_advance(b->f.clock, 3600ull * 13 * NS_PER_SECOND);
    assert_int_equal(get(b, 4), 0x81);
    assert_int_equal(get(b, 13), 0x80);
}

static void sets_time(void **state)
{
    struct board *b = *state;
    put(b, 11, 0x82);
    put(b, 0, 0x59);
    put(b, 2, 0x59);
    put(b, 4, 0x23);
    put(b, 6, 3); /* not the calendar's idea of the weekday */
    put(b, 7, 0x31);
    put(b, 8, 0x12);
    put(b, 9, 0x99);
    put(b, 0x32, 0x19);
    clock_advance(b->f.clock, 10 * NS_PER_SECOND);
    assert_int_equal(get(b, 0), 0x59); /* stands still while SET */
    put(b, 11, 0x02);
    clock_advance(b->f.clock, NS_PER_SECOND);
    assert_int_equal(get(b, 0), 0);
    assert_int_equal(get(b, 4), 0);
    assert_int_equal(get(b, 6), 4);
    assert_int_equal(get(b, 7), 1);
    assert_int_equal(get(b, 9), 0);
    assert_int_equal(get(b, 0x32), 0x20);
}

static void update_in_progress(void **state)
{
    struct board *b = *state;
    assert_int_equal(get(b, 10), 0x26);
    clock_advance(b->f.clock, NS_PER_SECOND - 1000000);
    assert_int_equal(get(b, 10), 0xa6);
    assert_int_equal(get(b, 0), 0x56);
    clock_advance(b->f.clock, 1000000);
    assert_int_equal(get(b, 10), 0x26);
    assert_int_equal(get(b, 0), 0x57);
    put(b, 10, 0x76); /* divider held in reset: an update comes half a second after its release */
    clock_advance(b->f.clock, 7 * NS_PER_SECOND);
    put(b, 10, 0x26);
    assert_int_equal(get(b, 0), 0x57);
    clock_advance(b->f.clock, NS_PER_SECOND / 2 + 1000);
    assert_int_equal(get(b, 0), 0x58);
}

static void periodic(void **state)
{
    struct board *b = *state;
    put(b, 11, 0x42);
    unsigned seen = 0;
    for (unsigned i = 0; i < 2048; i++) {
        clock_advance(b->f.clock, NS_PER_SECOND / 2048);
        if (!b->f.line[LINE_IRQ]) continue;
        assert_int_equal(get(b, 12) & 0xc0, 0xc0);
        assert_false(b->f.line[LINE_IRQ]);
        seen++;
    }
    assert_in_range(seen, 1023, 1024);
    clock_advance(b->f.clock, NS_PER_SECOND);
    assert_int_equal(b->f.rises[LINE_IRQ], seen + 1); /* not served: one */
}

static void update_and_alarm(void **state)
{
    struct board *b = *state;
    put(b, 11, 0x12);
    clock_advance(b->f.clock, NS_PER_SECOND + 10000);
    assert_true(b->f.line[LINE_IRQ]);
    assert_int_equal(get(b, 12) & 0xb0, 0x90);
    put(b, 1, 0x10);
    put(b, 3, 0xff);
    put(b, 5, 0xff);
    put(b, 11, 0x22);
    get(b, 12);
    clock_advance(b->f.clock, 12 * NS_PER_SECOND);
    assert_false(b->f.line[LINE_IRQ]);
    clock_advance(b->f.clock, NS_PER_SECOND);
    assert_true(b->f.line[LINE_IRQ]);
    assert_int_equal(get(b, 0), 0x10);
    assert_int_equal(get(b, 12) & 0xa0, 0xa0);
    put(b, 11, 0x02); /* polled, without an interrupt */
    clock_advance(b->f.clock, 60 * NS_PER_SECOND);
    assert_int_equal(get(b, 12) & 0xb0, 0x30);
    assert_int_equal(get(b, 12), 0);
}

static void alarm_at_hour(void **state)
{
    struct board *b = *state;
    put(b, 1, 0x00);
    put(b, 3, 0x30);
    put(b, 5, 0x07);
    put(b, 11, 0x22);
    clock_advance(b->f.clock, 24 * 3600ull * NS_PER_SECOND);
    assert_int_equal(b->f.rises[LINE_IRQ], 1);
    put(b, 5, 0x99); /* never */
    get(b, 12);
    clock_advance(b->f.clock, 24 * 3600ull * NS_PER_SECOND);
    assert_int_equal(b->f.rises[LINE_IRQ], 1);
}

static void cmos(void **state)
{
    struct board *b = *state;
    mc146818_set_cmos(b->rtc, 0x34, 0xaa);
    mc146818_set_cmos(b->rtc, 0x85, 0x55);
    assert_int_equal(get(b, 0x34), 0xaa);
    put(b, 0x8f, 0x05);
    assert_true(mc146818_nmi_masked(b->rtc));
    out8(&b->f, 0x72, 0x05);
    assert_int_equal(in8(&b->f, 0x73), 0x55);
    device_reset(b->rtc);
    assert_int_equal(mc146818_get_cmos(b->rtc, 0x0f), 0x05); /* the battery holds */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shows_time, setup, teardown),
        cmocka_unit_test_setup_teardown(sets_time, setup, teardown),
        cmocka_unit_test_setup_teardown(update_in_progress, setup, teardown),
        cmocka_unit_test_setup_teardown(periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(update_and_alarm, setup, teardown),
        cmocka_unit_test_setup_teardown(alarm_at_hour, setup, teardown),
        cmocka_unit_test_setup_teardown(cmos, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
