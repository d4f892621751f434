/* The I/O APIC's pins, edge and level, remote IRR, masks and EOI, against a local APIC. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/lapic.h"

extern const struct device_class lapic_class, ioapic_class;

#define BASE 0xfec00000ull

struct board {
    struct fixture f;
    struct apic_bus *bus;
    struct device *lapic, *ioapic;
    struct local_apic_port port;
    bool intr;
    unsigned nmi;
};

static void pin_intr(void *cpu, bool level) { ((struct board *)cpu)->intr = level; }
static void pin_nmi(void *cpu) { ((struct board *)cpu)->nmi++; }

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->bus = apic_bus_new();
    b->lapic = fixture_device(&b->f, &lapic_class);
    struct cpu_pins pins = {.cpu = b, .intr = pin_intr, .nmi = pin_nmi};
    lapic_connect(b->lapic, b->bus, 0, true, &pins);
    assert_true(device_init(b->lapic, &error));
    device_reset(b->lapic);
    lapic_port(b->lapic, &b->port);
    b->port.mmio_write(b->port.apic, 0xf0, 0x1ff);
    b->ioapic = fixture_device(&b->f, &ioapic_class);
    ioapic_connect(b->ioapic, b->bus);
    assert_true(device_init(b->ioapic, &error));
    device_reset(b->ioapic);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->ioapic);
    device_free(b->lapic);
    apic_bus_free(b->bus);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static u32 rd(struct board *b, u8 index)
{
    bus_memory_write(b->f.bus, BASE, index, 4);
    return (u32)bus_memory_read(b->f.bus, BASE + 0x10, 4);
}

static void wr(struct board *b, u8 index, u32 value)
{
    bus_memory_write(b->f.bus, BASE, index, 4);
    bus_memory_write(b->f.bus, BASE + 0x10, value, 4);
}

static int ack(struct board *b) { return b->port.acknowledge(b->port.apic); }
static void eoi(struct board *b) { b->port.mmio_write(b->port.apic, 0xb0, 0); }

static void test_registers(void **state)
{
    struct board *b = *state;
    assert_int_equal(rd(b, 1), 0x00170020);
    assert_int_equal(rd(b, 0x10), 0x10000);
    wr(b, 0, 0x0f000000);
    assert_int_equal(rd(b, 0), 0x0f000000);
    wr(b, 0x3f, 0xffffffff);
    wr(b, 0x3e, 0xffffffff);
    assert_int_equal(rd(b, 0x3f), 0xff000000);
    assert_int_equal(rd(b, 0x3e), 0x0001afff);
    wr(b, 0xff, 1);
    assert_int_equal(rd(b, 0x40), 0xffffffff);
}

static void test_edge(void **state)
{
    struct board *b = *state;
    wr(b, 0x12, 0x10031); /* pin 1, masked */
    ioapic_set_pin(b->ioapic, 1, true);
    wr(b, 0x12, 0x00031);
    assert_false(b->intr); /* a masked edge is lost */
    ioapic_set_pin(b->ioapic, 1, false);
    ioapic_set_pin(b->ioapic, 1, true);
    assert_int_equal(ack(b), 0x31);
    eoi(b);
    assert_false(b->intr);
    ioapic_set_pin(b->ioapic, 77, true);
}

static void test_level(void **state)
{
    struct board *b = *state;
    wr(b, 0x24, 0x08041); /* pin 10 */
    ioapic_set_pin(b->ioapic, 10, true);
    assert_int_equal(rd(b, 0x24), 0x0c041);
    assert_int_equal(ack(b), 0x41);
    assert_false(b->intr);
    eoi(b); /* still high: again */
    assert_int_equal(ack(b), 0x41);
    ioapic_set_pin(b->ioapic, 10, false);
    eoi(b);
    assert_false(b->intr);
    assert_int_equal(rd(b, 0x24), 0x08041);
}

static void test_eoi_register(void **state)
{
    struct board *b = *state;
    b->port.mmio_write(b->port.apic, 0xf0, 0x11ff); /* no broadcast */
    wr(b, 0x24, 0x08041);
    ioapic_set_pin(b->ioapic, 10, true);
    ack(b);
    eoi(b);
    assert_false(b->intr);
    assert_int_equal(rd(b, 0x24), 0x0c041);
    bus_memory_write(b->f.bus, BASE + 0x40, 0x41, 4);
    assert_true(b->intr);
    wr(b, 0x24, 0x10041); /* to edge: remote IRR falls */
    assert_int_equal(rd(b, 0x24), 0x10041);
}

static void test_nmi(void **state)
{
    struct board *b = *state;
    wr(b, 0x14, 0x00400);
    ioapic_set_pin(b->ioapic, 2, true);
    ioapic_set_pin(b->ioapic, 2, true);
    assert_int_equal(b->nmi, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_level, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eoi_register, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nmi, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
