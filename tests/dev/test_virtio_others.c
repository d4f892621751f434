/* The small virtio functions: entropy, console, balloon. */
#include "tests/dev/virtio_driver.h"

#include "devices/virtio/virtio_balloon.h"
#include "machine/chardev.h"

extern const struct device_class virtio_rng_class, virtio_console_class, virtio_balloon_class;

#define BUFFER MIB(8)

/* --- a character device: every function of machine/chardev.h --- */

struct chardev {
    struct chardev_listener listener;
    char written[256];
    unsigned length, limit;
};

void chardev_listen(struct chardev *c, const struct chardev_listener *l) { c->listener = *l; }
void chardev_room(struct chardev *c) { (void)c; }
bool chardev_writable(struct chardev *c) { return c->length < c->limit; }

unsigned chardev_write(struct chardev *c, const u8 *bytes, unsigned n)
{
    if (n > c->limit - c->length) n = c->limit - c->length;
    memcpy(c->written + c->length, bytes, n);
    c->length += n;
    return n;
}

static void begin(struct driver *d, const struct device_class *class, bool modern, unsigned queues)
{
    unsigned q;

    if (!d->device) driver_begin(d, class);
    driver_plug(d);
    driver_negotiate(d, modern, modern ? 1ull << 32 : 0);
    for (q = 0; q < queues; q++) driver_queue(d, q);
    driver_go(d);
}

static void test_rng(void **state)
{
    struct driver d = {0};
    const struct piece piece = {BUFFER, 600, true};
    const struct piece huge = {BUFFER, 0xffffffff, true};

    (void)state;
    begin(&d, &virtio_rng_class, false, 1);
    driver_add(&d, 0, &piece, 1);
    driver_kick(&d, 0);
    assert_int_equal(driver_used(&d, 0, NULL), 600);
    assert_int_equal(d.f.ram[BUFFER + 255], 255);
    assert_int_equal(d.f.ram[BUFFER + 599], (600 - 512 - 1));
    driver_add(&d, 0, &huge, 1);
    driver_kick(&d, 0);
    assert_int_equal(driver_used(&d, 0, NULL), 65536);
    driver_end(&d);
}

static void test_msix(void **state)
{
    struct driver d = {0};
    const struct piece piece = {BUFFER, 16, true};
    u8 at;

    (void)state;
    begin(&d, &virtio_rng_class, true, 1);
    at = (u8)pci_config_read(d.pci, 0, 3 << 3, 0x34, 1);
    while (at && pci_config_read(d.pci, 0, 3 << 3, at, 1) != 0x11)
        at = (u8)pci_config_read(d.pci, 0, 3 << 3, at + 1, 1);
    assert_int_equal(pci_config_read(d.pci, 0, 3 << 3, at + 2, 2), 1); /* two vectors */
    pci_config_write(d.pci, 0, 3 << 3, at + 2, 0x8000, 2);
    modern_out(&d, 0x16, 0, 2);
    modern_out(&d, 0x1a, 2, 2);
    assert_int_equal(modern_in(&d, 0x1a, 2), 0xffff); /* there is no such vector */
    modern_out(&d, 0x1a, 1, 2);
    assert_int_equal(modern_in(&d, 0x1a, 2), 1);
    driver_add(&d, 0, &piece, 1);
    driver_kick(&d, 0);
    assert_int_equal(d.f.rises[0], 0);
    assert_int_equal(bus_memory_read(d.f.bus, DRIVER_MSIX + 2048, 4), 2); /* masked: pending */
    driver_end(&d);
}

static void test_console(void **state)
{
    struct driver d = {0};
    struct chardev c = {.limit = 5};
    const struct piece out = {BUFFER, 11, false};
    const struct piece in = {BUFFER + 0x1000, 3, true};

    (void)state;
    driver_begin(&d, &virtio_console_class);
    device_set_pointer(d.device, "chardev", &c);
    begin(&d, &virtio_console_class, true, 2);
    memcpy(d.f.ram + BUFFER, "hello world", 11);
    driver_add(&d, 1, &out, 1);
    driver_kick(&d, 1);
    assert_int_equal(c.length, 5);
    assert_int_equal(driver_used(&d, 1, NULL), -1);
    c.limit = 100; /* the host side has room again */
    clock_advance(d.f.clock, 10000000);
    assert_int_equal(driver_used(&d, 1, NULL), 0);
    assert_memory_equal(c.written, "hello world", 11);

    assert_true(c.listener.room(c.listener.opaque) >= 5);
    c.listener.receive(c.listener.opaque, (const u8 *)"abcde", 5);
    driver_add(&d, 0, &in, 1);
    driver_kick(&d, 0);
    assert_int_equal(driver_used(&d, 0, NULL), 3);
    driver_add(&d, 0, &in, 1);
    driver_kick(&d, 0);
    assert_int_equal(driver_used(&d, 0, NULL), 2);
    assert_memory_equal(d.f.ram + BUFFER + 0x1000, "dec", 3);
    driver_end(&d);
}

static void note_page(void *opaque, u64 address, u64 length)
{
    u64 *pages = opaque;

    pages[0] = address;
    pages[1] += length;
}

static void test_balloon(void **state)
{
    struct driver d = {0};
    const struct piece piece = {BUFFER, 12, false};
    u64 pages[2] = {0, 0};

    (void)state;
    begin(&d, &virtio_balloon_class, true, 2);
    virtio_balloon_on_discard(d.device, note_page, pages);
    virtio_balloon_set_target(d.device, MIB(12));
    assert_int_equal(modern_in(&d, 0x1000, 1), 2);
    assert_int_equal(modern_in(&d, 0x2000, 4), 1024);
    st32(d.f.ram + BUFFER, 0x500);
    st32(d.f.ram + BUFFER + 4, 0xffffffff); /* no memory there */
    st32(d.f.ram + BUFFER + 8, 0);          /* nor may it have that */
    driver_add(&d, 0, &piece, 1);
    driver_kick(&d, 0);
    assert_int_equal(driver_used(&d, 0, NULL), 0);
    assert_int_equal(pages[0], 0x500000);
    assert_int_equal(pages[1], 4096);
    modern_out(&d, 0x2004, 1, 4);
    assert_int_equal(virtio_balloon_actual(d.device), MIB(16) - 4096);
    driver_end(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rng),
        cmocka_unit_test(test_msix),
        cmocka_unit_test(test_console),
        cmocka_unit_test(test_balloon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
