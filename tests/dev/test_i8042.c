/* The keyboard controller with a keyboard and a mouse in it. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/i8042.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"

enum { LINE_IRQ1 = 1, LINE_IRQ12 = 12 };

struct board {
    struct fixture f;
    struct device *controller, *keyboard, *mouse;
    struct input_listener keys, moves;
};

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->controller = fixture_device(&b->f, &i8042_class);
    b->keyboard = fixture_device(&b->f, &ps2_keyboard_class);
    b->mouse = fixture_device(&b->f, &ps2_mouse_class);
    i8042_connect_irq(b->controller, I8042_KEYBOARD, fixture_wire(&b->f, LINE_IRQ1));
    i8042_connect_irq(b->controller, I8042_MOUSE, fixture_wire(&b->f, LINE_IRQ12));
    i8042_connect(b->controller, I8042_KEYBOARD, ps2_keyboard_port(b->keyboard));
    i8042_connect(b->controller, I8042_MOUSE, ps2_mouse_port(b->mouse));
    ps2_keyboard_connect_data(b->keyboard,
                              (struct wire){i8042_set_data, b->controller, I8042_KEYBOARD});
    ps2_mouse_connect_data(b->mouse, (struct wire){i8042_set_data, b->controller, I8042_MOUSE});
    assert_true(device_init(b->controller, &error));
    assert_true(device_init(b->keyboard, &error));
    assert_true(device_init(b->mouse, &error));
    device_reset(b->controller);
    device_reset(b->keyboard);
    device_reset(b->mouse);
    b->keys = ps2_keyboard_listener(b->keyboard);
    b->moves = ps2_mouse_listener(b->mouse);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->controller);
    device_free(b->keyboard);
    device_free(b->mouse);
    fixture_free(&b->f);
    free(b);
    return 0;
}

/* The next byte, or -1 when none comes within a millisecond. */
static int next(struct board *b)
{
    for (unsigned i = 0; i < 10 && !(in8(&b->f, 0x64) & 1); i++) {
        clock_advance(b->f.clock, 100000);
    }
    return in8(&b->f, 0x64) & 1 ? in8(&b->f, 0x60) : -1;
}

static void expect(struct board *b, const char *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) assert_int_equal(next(b), (u8)bytes[i]);
    assert_int_equal(next(b), -1);
}

#define EXPECT(b, text) expect(b, text, sizeof(text) - 1)

static void command(struct board *b, u8 value)
{
    out8(&b->f, 0x64, value);
}

static void set_mode(struct board *b, u8 mode)
{
    command(b, 0x60);
    out8(&b->f, 0x60, mode);
}

static void to_mouse(struct board *b, u8 value)
{
    command(b, 0xd4);
    out8(&b->f, 0x60, value);
}

static void controller(void **state)
{
    struct board *b = *state;
    command(b, 0xaa);
    EXPECT(b, "\x55");
    assert_true(in8(&b->f, 0x64) & 4);
    command(b, 0xab);
    EXPECT(b, "\x00");
    set_mode(b, 0x65);
    command(b, 0x20);
    EXPECT(b, "\x65");
    command(b, 0x71);
    out8(&b->f, 0x60, 0x99);
    command(b, 0x31);
    EXPECT(b, "\x99");
    command(b, 0xa7);
    command(b, 0x20);
    EXPECT(b, "\x65");
    command(b, 0xa8);
    command(b, 0x20);
    EXPECT(b, "\x45");
    command(b, 0xd3); /* loopback: comes back as the mouse's */
    out8(&b->f, 0x60, 0x5a);
    assert_int_equal(in8(&b->f, 0x64) & 0x21, 0x21);
    EXPECT(b, "\x5a");
    command(b, 0xd0);
    assert_true(next(b) & 2);
}

static void resets(void **state)
{
    struct board *b = *state;
    command(b, 0xff);
    assert_int_equal(b->f.last_shutdown, -1);
    command(b, 0xfe);
    assert_int_equal(b->f.last_shutdown, SHUTDOWN_GUEST_RESET);
}

static void keyboard_commands(void **state)
{
    struct board *b = *state;
    set_mode(b, 0x41);
    out8(&b->f, 0x60, 0xff);
    assert_true(b->f.line[LINE_IRQ1]);
    EXPECT(b, "\xfa\xaa");
    assert_false(b->f.line[LINE_IRQ1]);
    out8(&b->f, 0x60, 0xf2);
    EXPECT(b, "\xfa\xab\x41"); /* 83h, translated */
    out8(&b->f, 0x60, 0xed);
    EXPECT(b, "\xfa");
    out8(&b->f, 0x60, 0x02);
    EXPECT(b, "\xfa");
    assert_int_equal(ps2_keyboard_leds(b->keyboard), 2);
    out8(&b->f, 0x60, 0xee);
    EXPECT(b, "\xee");
    out8(&b->f, 0x60, 0x12);
    EXPECT(b, "\xfe");
}

static void scan_codes(void **state)
{
    struct board *b = *state;
    set_mode(b, 0x41);
    b->keys.key(b->keys.opaque, 0x1e, true);
    assert_true(b->f.line[LINE_IRQ1]);
    b->keys.key(b->keys.opaque, 0x1e, false);
    b->keys.key(b->keys.opaque, 0xe048, true);
    EXPECT(b, "\x1e\x9e\xe0\x48");
    b->keys.key(b->keys.opaque, 0xe11d45, true);
    EXPECT(b, "\xe1\x1d\x45\xe1\x9d\xc5");
    b->keys.key(b->keys.opaque, 0xe037, true);
    b->keys.key(b->keys.opaque, 0xe037, false);
    EXPECT(b, "\xe0\x2a\xe0\x37\xe0\xb7\xe0\xaa");
    set_mode(b, 0x01); /* set 2 as it is */
    b->keys.key(b->keys.opaque, 0x41, true);
    b->keys.key(b->keys.opaque, 0x41, false);
    EXPECT(b, "\x83\xf0\x83");
    out8(&b->f, 0x60, 0xf0);
    EXPECT(b, "\xfa");
    out8(&b->f, 0x60, 0x03);
    EXPECT(b, "\xfa");
    b->keys.key(b->keys.opaque, 0x1d, true);
    b->keys.key(b->keys.opaque, 0x1d, false);
    b->keys.key(b->keys.opaque, 0x1e, true);
    b->keys.key(b->keys.opaque, 0x1e, false);
    EXPECT(b, "\x11\xf0\x11\x1c");
    out8(&b->f, 0x60, 0xf5);
    EXPECT(b, "\xfa");
    b->keys.key(b->keys.opaque, 0x1e, true);
    EXPECT(b, "");
}

/* What is read twice is the same byte; the next one comes a little later. */
static void byte_stays(void **state)
{
    struct board *b = *state;
    set_mode(b, 0x41);
    b->keys.key(b->keys.opaque, 0x1e, true);
    b->keys.key(b->keys.opaque, 0x1e, false);
    assert_int_equal(in8(&b->f, 0x60), 0x1e);
    assert_int_equal(in8(&b->f, 0x60), 0x1e);
    EXPECT(b, "\x9e");
    assert_int_equal(b->f.rises[LINE_IRQ1], 2);
}

static void queue_is_bounded(void **state)
{
    struct board *b = *state;
    unsigned count = 0;
    set_mode(b, 0x51); /* the keyboard is held off */
    for (unsigned i = 0; i < 1000; i++) b->keys.key(b->keys.opaque, 0xe048, i & 1);
    set_mode(b, 0x41);
    while (next(b) >= 0) count++;
    assert_in_range(count, 8, 17);
}

static void mouse_commands(void **state)
{
    struct board *b = *state;
    set_mode(b, 0x43);
    to_mouse(b, 0xff);
    assert_true(b->f.line[LINE_IRQ12]);
    assert_false(b->f.line[LINE_IRQ1]);
    EXPECT(b, "\xfa\xaa\x00");
    to_mouse(b, 0xf2);
    EXPECT(b, "\xfa\x00");
    static const u8 wheel[] = {200, 100, 80}, explorer[] = {200, 200, 80};
    for (unsigned i = 0; i < 3; i++) {
        to_mouse(b, 0xf3);
        EXPECT(b, "\xfa");
        to_mouse(b, wheel[i]);
        EXPECT(b, "\xfa");
    }
    to_mouse(b, 0xf2);
    EXPECT(b, "\xfa\x03");
    for (unsigned i = 0; i < 3; i++) {
        to_mouse(b, 0xf3);
        EXPECT(b, "\xfa");
        to_mouse(b, explorer[i]);
        EXPECT(b, "\xfa");
    }
    to_mouse(b, 0xf2);
    EXPECT(b, "\xfa\x04");
    to_mouse(b, 0xe9);
    EXPECT(b, "\xfa\x00\x02\x50");
    to_mouse(b, 0xee);
    EXPECT(b, "\xfa");
    to_mouse(b, 0xf2);
    EXPECT(b, "\xf2");
    to_mouse(b, 0xec);
    EXPECT(b, "\xfa");
}

static void mouse_packets(void **state)
{
    struct board *b = *state;
    set_mode(b, 0x43);
    b->moves.mouse(b->moves.opaque, 5, 5, 0, 0);
    EXPECT(b, ""); /* not enabled */
    to_mouse(b, 0xf4);
    EXPECT(b, "\xfa");
    b->moves.mouse(b->moves.opaque, 5, 3, 0, 1);
    EXPECT(b, "\x29\x05\xfd");
    b->moves.mouse(b->moves.opaque, 300, 0, 0, 0);
    EXPECT(b, "\x08\xff\x00\x08\x2d\x00");
    for (unsigned i = 0; i < 100; i++) b->moves.mouse(b->moves.opaque, 1, 0, 0, 0);
    int total = 0, first;
    while ((first = next(b)) >= 0) {
        assert_int_equal(first, 0x08);
        total += next(b);
        assert_int_equal(next(b), 0);
    }
    assert_int_equal(total, 100); /* what didn't fit was added up */
    to_mouse(b, 0xf0);
    EXPECT(b, "\xfa");
    b->moves.mouse(b->moves.opaque, -1, 0, 0, 4);
    EXPECT(b, "");
    to_mouse(b, 0xeb);
    EXPECT(b, "\xfa\x1c\xff\x00");
}

static void both_share(void **state)
{
    struct board *b = *state;
    set_mode(b, 0x43);
    to_mouse(b, 0xf4);
    EXPECT(b, "\xfa");
    b->moves.mouse(b->moves.opaque, 1, 0, 0, 0);
    b->keys.key(b->keys.opaque, 0x1e, true);
    assert_int_equal(in8(&b->f, 0x64) & 0x21, 0x21);
    EXPECT(b, "\x08\x1e\x01\x00");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(controller, setup, teardown),
        cmocka_unit_test_setup_teardown(resets, setup, teardown),
        cmocka_unit_test_setup_teardown(keyboard_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(scan_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(byte_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(mouse_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(mouse_packets, setup, teardown),
        cmocka_unit_test_setup_teardown(both_share, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
