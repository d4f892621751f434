/* PM1 events, the timer, sleep, the SMI port and the SMBus stub. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/piix4pm.h"

struct board {
    struct fixture f;
    struct pci_bus *pci;
    struct device *pm;
    u16 base;
};

static void note_base(void *opaque, u16 base) { ((struct board *)opaque)->base = base; }

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->pci = pci_bus_new(b->f.bus, &b->f.log);
    b->pm = fixture_device(&b->f, &piix4pm_class);
    assert_true(pci_bus_add(b->pci, (struct pci_device *)b->pm, 11, &error));
    struct wire sci = fixture_wire(&b->f, 9), smi = fixture_wire(&b->f, 20);
    piix4pm_set_wires(b->pm, &sci, &smi);
    piix4pm_on_pm_base(b->pm, note_base, b);
    assert_true(device_init(b->pm, &error));
    device_reset(b->pm);
    pci_config_write(b->pci, 0, 11, 0x40, 0x601, 4);
    pci_config_write(b->pci, 0, 11, 0x80, 1, 1);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->pm);
    pci_bus_free(b->pci);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static void test_mapping(void **state)
{
    struct board *b = *state;
    assert_int_equal(b->base, 0x600);
    assert_int_equal(in16(&b->f, 0x604), 0);
    pci_config_write(b->pci, 0, 11, 0x40, 0xb001, 4);
    assert_int_equal(b->base, 0xb000);
    assert_int_equal(in16(&b->f, 0x604), 0xffff);
    assert_int_equal(in16(&b->f, 0xb004), 0);
}

static void test_timer(void **state)
{
    struct board *b = *state;
    out8(&b->f, 0xb2, PIIX4PM_ACPI_ENABLE);
    assert_int_equal(in16(&b->f, 0x604), 1);
    clock_advance(b->f.clock, NS_PER_SECOND);
    assert_int_equal(in32(&b->f, 0x608), 3579545);
    out16(&b->f, 0x602, 1);
    assert_false(b->f.line[9]);
    clock_advance(b->f.clock, 2 * NS_PER_SECOND); /* bit 23 changes after 2.34 s */
    assert_true(b->f.line[9]);
    assert_int_equal(in16(&b->f, 0x600) & 1, 1);
    out16(&b->f, 0x600, 1);
    assert_false(b->f.line[9]);
    clock_advance(b->f.clock, 2 * NS_PER_SECOND);
    assert_true(b->f.line[9]);
}

static void test_power_button(void **state)
{
    struct board *b = *state;
    out8(&b->f, 0xb2, PIIX4PM_ACPI_ENABLE);
    piix4pm_power_button(b->pm);
    assert_false(b->f.line[9]);
    out16(&b->f, 0x602, 0x100);
    assert_true(b->f.line[9]);
    assert_int_equal(in32(&b->f, 0x600), 0x01000100);
    out8(&b->f, 0x601, 0x01); /* by bytes too */
    assert_false(b->f.line[9]);
    assert_int_equal(in16(&b->f, 0x600), 0);
}

static void test_sleep(void **state)
{
    struct board *b = *state;
    out16(&b->f, 0x604, 0x0001);
    assert_int_equal(b->f.last_shutdown, -1);
    out16(&b->f, 0x604, 0x2400);
    assert_int_equal(b->f.last_shutdown, SHUTDOWN_SUSPEND);
    out16(&b->f, 0x604, 0x2000);
    assert_int_equal(b->f.last_shutdown, SHUTDOWN_GUEST_OFF);
    assert_int_equal(in16(&b->f, 0x604), 0);
}

static void test_smi_and_gpe(void **state)
{
    struct board *b = *state;
    out8(&b->f, 0xb3, 0x12);
    out8(&b->f, 0xb2, 0x55);
    assert_int_equal(b->f.rises[20], 0);
    pci_config_write(b->pci, 0, 11, 0x58, 1 << 25, 4);
    out8(&b->f, 0xb2, 0x55);
    assert_int_equal(b->f.rises[20], 1);
    assert_int_equal(in16(&b->f, 0xb2), 0x1255);
    out16(&b->f, 0xafe2, 0xbeef);
    assert_int_equal(in32(&b->f, 0xafe0), 0xbeef0000);
}

static void test_smbus(void **state)
{
    struct board *b = *state;
    pci_config_write(b->pci, 0, 11, 0x90, 0x701, 4);
    pci_config_write(b->pci, 0, 11, 0xd2, 9, 1);
    out8(&b->f, 0x702, 0x48);
    assert_int_equal(in8(&b->f, 0x700), 0x04);
    assert_int_equal(in8(&b->f, 0x702), 0x08);
    out8(&b->f, 0x700, 0xff);
    assert_int_equal(in8(&b->f, 0x700), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mapping, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_power_button, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_smi_and_gpe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_smbus, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
