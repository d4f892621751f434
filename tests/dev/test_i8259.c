/* The 8259 pair: initialisation, priorities, EOI kinds, cascade, spurious vectors, ELCR, poll. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/i8259.h"

enum { LINE_INTR = 0 };

struct board {
    struct fixture f;
    struct device *master, *slave;
};

static void start(struct fixture *f, u16 port, u8 base, u8 icw3, u8 icw4)
{
    out8(f, port, 0x11);
    out8(f, port + 1, base);
    out8(f, port + 1, icw3);
    out8(f, port + 1, icw4);
    out8(f, port + 1, 0x00);
}

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->master = fixture_device(&b->f, &i8259_class);
    b->slave = fixture_device(&b->f, &i8259_class);
    assert_true(device_set_property(b->slave, "iobase", "0xa0", &error));
    assert_true(device_set_property(b->slave, "elcr", "0x4d1", &error));
    assert_true(device_set_property(b->slave, "elcr-mask", "0xde", &error));
    i8259_connect_intr(b->master, fixture_wire(&b->f, LINE_INTR));
    i8259_cascade(b->master, b->slave);
    assert_true(device_init(b->master, &error));
    assert_true(device_init(b->slave, &error));
    device_reset(b->slave);
    device_reset(b->master);
    start(&b->f, 0x20, 0x08, 0x04, 0x01);
    start(&b->f, 0xa0, 0x70, 0x02, 0x01);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->master);
    device_free(b->slave);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static void irq(struct board *b, unsigned line, bool level)
{
    if (line < 8) i8259_set_irq(b->master, line, level);
    else i8259_set_irq(b->slave, line - 8, level);
}

static void edge_and_eoi(void **state)
{
    struct board *b = *state;
    irq(b, 1, true);
    assert_true(b->f.line[LINE_INTR]);
    assert_int_equal(i8259_inta(b->master), 0x09);
    assert_false(b->f.line[LINE_INTR]);
    out8(&b->f, 0x20, 0x20);
    assert_false(b->f.line[LINE_INTR]); /* still high, but no new edge */
    irq(b, 1, false);
    irq(b, 1, true);
    assert_true(b->f.line[LINE_INTR]);
    out8(&b->f, 0x21, 0x02);
    assert_false(b->f.line[LINE_INTR]);
    assert_int_equal(in8(&b->f, 0x21), 0x02);
    assert_int_equal(in8(&b->f, 0x20), 0x02); /* IRR */
}

static void priorities(void **state)
{
    struct board *b = *state;
    irq(b, 5, true);
    assert_int_equal(i8259_inta(b->master), 0x0d);
    irq(b, 6, true);
    assert_false(b->f.line[LINE_INTR]); /* lower than what is in service */
    irq(b, 0, true);
    assert_int_equal(i8259_inta(b->master), 0x08);
    out8(&b->f, 0x20, 0x0b);
    assert_int_equal(in8(&b->f, 0x20), 0x21); /* ISR */
    out8(&b->f, 0x20, 0x20);
    assert_int_equal(in8(&b->f, 0x20), 0x20);
    out8(&b->f, 0x20, 0x65); /* specific EOI of 5 */
    assert_int_equal(i8259_inta(b->master), 0x0e);
}

static void rotation(void **state)
{
    struct board *b = *state;
    irq(b, 3, true);
    assert_int_equal(i8259_inta(b->master), 0x0b);
    out8(&b->f, 0x20, 0xa0); /* rotate on EOI: 3 becomes the lowest */
    irq(b, 3, false);
    irq(b, 3, true);
    irq(b, 4, true);
    irq(b, 7, true);
    assert_int_equal(i8259_inta(b->master), 0x0c);
    out8(&b->f, 0x20, 0x64);
    assert_int_equal(i8259_inta(b->master), 0x0f);
    out8(&b->f, 0x20, 0x67);
    assert_int_equal(i8259_inta(b->master), 0x0b);
}

static void cascade(void **state)
{
    struct board *b = *state;
    irq(b, 12, true);
    assert_true(b->f.line[LINE_INTR]);
    assert_int_equal(i8259_inta(b->master), 0x74);
    irq(b, 14, true);
    assert_false(b->f.line[LINE_INTR]);
    out8(&b->f, 0xa0, 0x20);
    out8(&b->f, 0x20, 0x20);
    assert_true(b->f.line[LINE_INTR]);
    assert_int_equal(i8259_inta(b->master), 0x76);
    out8(&b->f, 0xa0, 0x20);
    out8(&b->f, 0x20, 0x20);
    assert_false(b->f.line[LINE_INTR]);
}

static void spurious(void **state)
{
    struct board *b = *state;
    assert_int_equal(i8259_inta(b->master), 0x0f);
    out8(&b->f, 0x20, 0x0b);
    assert_int_equal(in8(&b->f, 0x20), 0); /* no EOI wanted */
    out8(&b->f, 0x4d1, 0x02);              /* IRQ9 by level: it may go away */
    irq(b, 9, true);
    out8(&b->f, 0x20, 0x0a);
    assert_int_equal(in8(&b->f, 0x20), 0x04);
    irq(b, 9, false);
    assert_int_equal(i8259_inta(b->master), 0x77); /* the master's request was latched */
    out8(&b->f, 0x20, 0x0b);
    assert_int_equal(in8(&b->f, 0x20), 0x04);
}

static void level(void **state)
{
    struct board *b = *state;
    out8(&b->f, 0x4d0, 0xff);
    assert_int_equal(in8(&b->f, 0x4d0), 0xf8);
    irq(b, 5, true);
    assert_int_equal(i8259_inta(b->master), 0x0d);
    out8(&b->f, 0x20, 0x20);
    assert_true(b->f.line[LINE_INTR]); /* still asserted */
    irq(b, 5, false);
    assert_false(b->f.line[LINE_INTR]);
}

static void automatic_and_special(void **state)
{
    struct board *b = *state;
    start(&b->f, 0x20, 0x08, 0x04, 0x03);
    irq(b, 4, true);
    assert_int_equal(i8259_inta(b->master), 0x0c);
    out8(&b->f, 0x20, 0x0b);
    assert_int_equal(in8(&b->f, 0x20), 0);
    start(&b->f, 0x20, 0x08, 0x04, 0x01);
    irq(b, 1, true);
    assert_int_equal(i8259_inta(b->master), 0x09);
    irq(b, 6, true);
    assert_false(b->f.line[LINE_INTR]);
    out8(&b->f, 0x21, 0x02);
    out8(&b->f, 0x20, 0x68); /* special mask mode: 1 is masked and blocks no more */
    assert_true(b->f.line[LINE_INTR]);
    assert_int_equal(i8259_inta(b->master), 0x0e);
}

static void poll(void **state)
{
    struct board *b = *state;
    out8(&b->f, 0x20, 0x0c);
    assert_int_equal(in8(&b->f, 0x20), 0);
    irq(b, 6, true);
    out8(&b->f, 0x20, 0x0c);
    assert_int_equal(in8(&b->f, 0x20), 0x86);
    out8(&b->f, 0x20, 0x0b);
    assert_int_equal(in8(&b->f, 0x20), 0x40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(edge_and_eoi, setup, teardown),
        cmocka_unit_test_setup_teardown(priorities, setup, teardown),
        cmocka_unit_test_setup_teardown(rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(cascade, setup, teardown),
        cmocka_unit_test_setup_teardown(spurious, setup, teardown),
        cmocka_unit_test_setup_teardown(level, setup, teardown),
        cmocka_unit_test_setup_teardown(automatic_and_special, setup, teardown),
        cmocka_unit_test_setup_teardown(poll, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
