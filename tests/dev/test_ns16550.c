/* The UART: FIFOs, interrupt priorities, timeout, loopback, a host that is full. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/ns16550.h"
#include "machine/chardev_host.h"

enum { LINE_IRQ = 4, BASE = 0x3f8 };

struct board {
    struct fixture f;
    struct device *uart;
    struct chardev host;
    u8 sent[256];
    unsigned count, limit;
};

static unsigned host_write(struct chardev *chardev, const u8 *bytes, unsigned n)
{
    struct board *b = container_of(chardev, struct board, host);
    unsigned taken = 0;
    while (taken < n && b->count < b->limit) b->sent[b->count++] = bytes[taken++];
    return taken;
}

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->host.write = host_write;
    b->limit = sizeof b->sent;
    b->uart = fixture_device(&b->f, &ns16550_class);
    device_set_pointer(b->uart, "chardev", &b->host);
    ns16550_connect_irq(b->uart, fixture_wire(&b->f, LINE_IRQ));
    assert_true(device_init(b->uart, &error));
    device_reset(b->uart);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->uart);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static void put(struct board *b, unsigned reg, u8 value) { out8(&b->f, BASE + reg, value); }
static u8 get(struct board *b, unsigned reg) { return in8(&b->f, BASE + reg); }

static void sends(void **state)
{
    struct board *b = *state;
    assert_int_equal(get(b, 5), 0x60);
    put(b, 0, 'h');
    put(b, 0, 'i');
    assert_int_equal(b->count, 2);
    assert_memory_equal(b->sent, "hi", 2);
    put(b, 1, 2);
    assert_true(b->f.line[LINE_IRQ]);
    assert_int_equal(get(b, 2), 0x02);
    assert_false(b->f.line[LINE_IRQ]);
    assert_int_equal(get(b, 2), 0x01);
    unsigned rises = b->f.rises[LINE_IRQ];
    put(b, 0, '!');
    assert_int_equal(b->f.rises[LINE_IRQ], rises + 1);
    put(b, 0, '!');
    assert_int_equal(b->f.rises[LINE_IRQ], rises + 2);
}

static void divisor(void **state)
{
    struct board *b = *state;
    put(b, 3, 0x83);
    put(b, 0, 0x34);
    put(b, 1, 0x12);
    assert_int_equal(get(b, 0), 0x34);
    assert_int_equal(get(b, 1), 0x12);
    put(b, 3, 0x03);
    assert_int_equal(get(b, 1), 0x00);
    put(b, 7, 0x5a);
    assert_int_equal(get(b, 7), 0x5a);
}

static void receives(void **state)
{
    struct board *b = *state;
    put(b, 1, 1);
    assert_int_equal(chardev_arrived(&b->host, (const u8 *)"ab", 2), 1); /* no FIFO: one byte */
    assert_int_equal(get(b, 2), 0x04);
    assert_int_equal(get(b, 5) & 1, 1);
    assert_int_equal(get(b, 0), 'a');
    assert_false(b->f.line[LINE_IRQ]);
    put(b, 2, 0xc7); /* FIFOs, trigger at 14 */
    assert_int_equal(chardev_arrived(&b->host, (const u8 *)"0123456789abcdefgh", 18), 16);
    assert_int_equal(get(b, 2), 0xc4);
    for (unsigned i = 0; i < 3; i++) get(b, 0);
    assert_int_equal(get(b, 2), 0xc1);
    clock_advance(b->f.clock, NS_PER_SECOND);
    assert_int_equal(get(b, 2), 0xcc);
    assert_int_equal(get(b, 0), '3');
    assert_int_equal(get(b, 2), 0xc1);
    put(b, 2, 0xc3);
    assert_int_equal(get(b, 5) & 1, 0);
}

static void line_status_first(void **state)
{
    struct board *b = *state;
    put(b, 2, 0x01);
    put(b, 1, 0x07);
    chardev_break(&b->host);
    assert_int_equal(get(b, 2), 0xc6);
    assert_int_equal(get(b, 5) & 0x91, 0x91);
    assert_int_equal(get(b, 2), 0xc4);
    assert_int_equal(get(b, 0), 0);
    assert_int_equal(get(b, 2), 0xc2);
    assert_int_equal(get(b, 2), 0xc1);
}

static void loopback(void **state)
{
    struct board *b = *state;
    assert_int_equal(get(b, 6) & 0xb0, 0xb0);
    put(b, 4, 0x1a);
    assert_int_equal(get(b, 6) & 0xf0, 0x90);
    put(b, 0, 'x');
    assert_int_equal(get(b, 0), 'x');
    assert_int_equal(b->count, 0);
    put(b, 0, '1');
    put(b, 0, '2');
    assert_int_equal(get(b, 5) & 2, 2); /* overrun */
    assert_int_equal(get(b, 0), '2');
    put(b, 1, 8);
    put(b, 4, 0x10);
    assert_int_equal(get(b, 2), 0x00);
    assert_int_equal(get(b, 6) & 0x0f, 0x09);
    assert_int_equal(get(b, 2), 0x01);
}

static void full_host(void **state)
{
    struct board *b = *state;
    put(b, 2, 0x01);
    b->limit = 3;
    for (unsigned i = 0; i < 10; i++) put(b, 0, 'a' + i);
    assert_int_equal(b->count, 3);
    assert_int_equal(get(b, 5) & 0x60, 0);
    b->limit = 256;
    put(b, 1, 2);
    assert_false(b->f.line[LINE_IRQ]);
    clock_advance(b->f.clock, NS_PER_SECOND / 100);
    assert_int_equal(b->count, 10);
    assert_memory_equal(b->sent, "abcdefghij", 10);
    assert_true(b->f.line[LINE_IRQ]);
    assert_int_equal(get(b, 5) & 0x60, 0x60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sends, setup, teardown),
        cmocka_unit_test_setup_teardown(divisor, setup, teardown),
        cmocka_unit_test_setup_teardown(receives, setup, teardown),
        cmocka_unit_test_setup_teardown(line_status_first, setup, teardown),
        cmocka_unit_test_setup_teardown(loopback, setup, teardown),
        cmocka_unit_test_setup_teardown(full_host, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
