/* Configuration space, BARs, INTx, MSI-X, the 440FX's hooks and the PIIX3's routing. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/i440fx.h"
#include "devices/pci.h"
#include "devices/piix3.h"

struct probe {
    struct pci_device pci;
    struct region memory, ports;
    u64 last_offset, last_value;
};

static u64 probe_read(struct device *device, u64 offset, unsigned size)
{
    (void)device, (void)size;
    return 0x1000 + offset;
}

static void probe_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct probe *p = (struct probe *)device;
    (void)size;
    p->last_offset = offset;
    p->last_value = value;
}

static const struct region_ops probe_ops = {"probe", probe_read, probe_write, 1, 8};
static const struct state_field probe_fields[] = {{NULL, 0, 0, 0, 0, NULL}};

static bool probe_init(struct device *device, struct error *error)
{
    struct probe *p = (struct probe *)device;
    (void)error;
    pci_set_ids(&p->pci, 0x1234, 0x5678, 7, 0x020000, 0x1af4, 0x1100);
    pci_set_interrupt_pin(&p->pci, 1);
    region_init(&p->memory, device, &probe_ops, 0x2000);
    region_init(&p->ports, device, &probe_ops, 32);
    pci_add_bar(&p->pci, 0, &p->memory, false, true, true);
    pci_add_bar(&p->pci, 2, &p->ports, true, false, false);
    pci_add_msix(&p->pci, 3, 4);
    return true;
}

static void probe_reset(struct device *device) { pci_device_reset((struct pci_device *)device); }

static void probe_restored(struct device *device)
{
    pci_device_restored((struct pci_device *)device);
}

static const struct device_class probe_class = {
    .name = "probe", .title = "test", .version = 1, .size = sizeof(struct probe),
    .fields = probe_fields, .is_pci = true, .init = probe_init, .reset = probe_reset,
    .restored = probe_restored};

struct board {
    struct fixture f;
    struct pci_bus *pci;
    struct device *bridge, *isa, *probe;
    u64 msi_address;
    u32 msi_data;
    unsigned msi_count;
    unsigned pam[13];
    bool smram_open, smram_enabled;
};

static void note_msi(void *opaque, u64 address, u32 data)
{
    struct board *b = opaque;
    b->msi_address = address;
    b->msi_data = data;
    b->msi_count++;
}

static void note_pam(void *opaque, unsigned segment, bool read, bool write)
{
    ((struct board *)opaque)->pam[segment] = (read ? 1 : 0) | (write ? 2 : 0);
}

static void note_smram(void *opaque, bool open, bool enabled)
{
    ((struct board *)opaque)->smram_open = open;
    ((struct board *)opaque)->smram_enabled = enabled;
}

static struct device *add(struct board *b, const struct device_class *class, int devfn)
{
    struct error error;
    struct device *device = fixture_device(&b->f, class);
    assert_true(pci_bus_add(b->pci, (struct pci_device *)device, devfn, &error));
    return device;
}

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    struct wire irq[16], pirq[4];
    fixture_init(&b->f);
    b->pci = pci_bus_new(b->f.bus, &b->f.log);
    b->bridge = add(b, &i440fx_class, 0);
    b->isa = add(b, &piix3_class, 8);
    b->probe = add(b, &probe_class, -1);
    i440fx_set_hooks(b->bridge, &(struct i440fx_hooks){note_pam, note_smram, b});
    i440fx_set_reset_control(b->bridge, piix3_reset_control_read, piix3_reset_control_write,
                             b->isa);
    for (unsigned i = 0; i < 16; i++) irq[i] = fixture_wire(&b->f, i);
    piix3_set_irq_wires(b->isa, irq);
    for (unsigned i = 0; i < 4; i++) pirq[i] = (struct wire){piix3_set_pirq, b->isa, i};
    pci_bus_set_pirq(b->pci, pirq);
    pci_bus_set_msi(b->pci, note_msi, b);
    struct device *all[] = {b->bridge, b->isa, b->probe};
    for (unsigned i = 0; i < 3; i++) assert_true(device_init(all[i], &error));
    for (unsigned i = 0; i < 3; i++) device_reset(all[i]);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->probe);
    device_free(b->isa);
    device_free(b->bridge);
    pci_bus_free(b->pci);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static u32 config_at(unsigned slot, unsigned offset)
{
    return 0x80000000u | slot << 11 | (offset & 0xfc);
}

static u32 cfg_read(struct board *b, unsigned slot, unsigned offset)
{
    out32(&b->f, 0xcf8, config_at(slot, offset));
    return in32(&b->f, 0xcfc);
}

static void cfg_write(struct board *b, unsigned slot, unsigned offset, u32 value)
{
    out32(&b->f, 0xcf8, config_at(slot, offset));
    out32(&b->f, 0xcfc, value);
}

static void test_identity(void **state)
{
    struct board *b = *state;
    assert_int_equal(cfg_read(b, 0, 0), 0x12378086);
    assert_int_equal(cfg_read(b, 1, 0), 0x70008086);
    assert_int_equal(cfg_read(b, 2, 0), 0x56781234);
    assert_int_equal(cfg_read(b, 3, 0), 0xffffffff);
    assert_int_equal(cfg_read(b, 2, 8), 0x02000007);
    out32(&b->f, 0xcf8, config_at(2, 0));
    assert_int_equal(in16(&b->f, 0xcfe), 0x5678);
    assert_int_equal(in8(&b->f, 0xcfd), 0x12);
    cfg_write(b, 2, 0, 0);
    assert_int_equal(cfg_read(b, 2, 0), 0x56781234);
    out32(&b->f, 0xcf8, 0); /* not enabled */
    assert_int_equal(in32(&b->f, 0xcfc), 0xffffffff);
}

static void test_bars(void **state)
{
    struct board *b = *state;
    cfg_write(b, 2, 0x10, 0xffffffff);
    cfg_write(b, 2, 0x14, 0xffffffff);
    assert_int_equal(cfg_read(b, 2, 0x10), 0xffffe00c);
    assert_int_equal(cfg_read(b, 2, 0x14), 0xffffffff);
    cfg_write(b, 2, 0x18, 0xffffffff);
    assert_int_equal(cfg_read(b, 2, 0x18), 0xffffffe1);
    cfg_write(b, 2, 0x10, 0xe0000000);
    cfg_write(b, 2, 0x14, 0x1);
    cfg_write(b, 2, 0x18, 0xc000);
    assert_int_equal(bus_memory_read(b->f.bus, 0x1e0000010, 4), 0xffffffff);
    cfg_write(b, 2, 4, 3);
    assert_int_equal(bus_memory_read(b->f.bus, 0x1e0000010, 4), 0x1010);
    assert_int_equal(in32(&b->f, 0xc004), 0x1004);
    cfg_write(b, 2, 0x18, 0xd000);
    assert_int_equal(in32(&b->f, 0xc004), 0xffffffff);
    out8(&b->f, 0xd003, 0x5a);
    assert_int_equal(((struct probe *)b->probe)->last_value, 0x5a);
    device_reset(b->probe);
    assert_int_equal(in32(&b->f, 0xd004), 0xffffffff);
    assert_int_equal(cfg_read(b, 2, 0x10), 0xc);
}

static void test_intx(void **state)
{
    struct board *b = *state;
    struct pci_device *p = (struct pci_device *)b->probe;
    cfg_write(b, 1, 0x60, 0x80800b80 | 0x00000a00); /* PIRQB on 11 (slot 2 pin A) */
    cfg_write(b, 1, 0x60, 0x80800b80);
    pci_set_interrupt(p, true);
    assert_true(b->f.line[11]);
    assert_int_equal(cfg_read(b, 2, 4) >> 16 & 8, 8);
    cfg_write(b, 2, 4, 1 << 10);
    assert_false(b->f.line[11]);
    cfg_write(b, 2, 4, 0);
    assert_true(b->f.line[11]);
    piix3_set_pirq(b->isa, 0, true);
    cfg_write(b, 1, 0x60, 0x80800b0b); /* two share 11 */
    pci_set_interrupt(p, false);
    assert_true(b->f.line[11]);
    piix3_set_pirq(b->isa, 0, false);
    assert_false(b->f.line[11]);
}

static void test_msix(void **state)
{
    struct board *b = *state;
    struct pci_device *p = (struct pci_device *)b->probe;
    unsigned cap = cfg_read(b, 2, 0x34) & 0xff;
    assert_int_equal(cfg_read(b, 2, cap) & 0x07ff00ff, 0x00030011);
    cfg_write(b, 2, 0x1c, 0xe1000000);
    cfg_write(b, 2, 4, 6);
    bus_memory_write(b->f.bus, 0xe1000010, 0xfee01000, 4);
    bus_memory_write(b->f.bus, 0xe1000018, 0x41, 4);
    pci_msix_send(p, 1);
    assert_int_equal(b->msi_count, 0);
    cfg_write(b, 2, cap, 0x80000000);
    assert_true(pci_msix_enabled(p));
    pci_msix_send(p, 1); /* masked: pending */
    assert_int_equal(b->msi_count, 0);
    assert_int_equal(bus_memory_read(b->f.bus, 0xe1000800, 8), 2);
    bus_memory_write(b->f.bus, 0xe100001c, 0, 4);
    assert_int_equal(b->msi_count, 1);
    assert_int_equal(b->msi_address, 0xfee01000);
    assert_int_equal(b->msi_data, 0x41);
    assert_int_equal(bus_memory_read(b->f.bus, 0xe1000800, 8), 0);
    pci_msix_send(p, 1);
    pci_msix_send(p, 63);
    pci_msix_send(p, 4000);
    assert_int_equal(b->msi_count, 2);
    bus_memory_write(b->f.bus, 0xe10003fc, ~0ull, 4); /* past the last vector */
}

static void test_bridge_hooks(void **state)
{
    struct board *b = *state;
    cfg_write(b, 0, 0x58, 0x00133000); /* F0000h and C0000h both ways, C4000h read */
    assert_int_equal(b->pam[12], 3);
    assert_int_equal(b->pam[0], 3);
    assert_int_equal(b->pam[1], 1);
    assert_int_equal(b->pam[2], 0);
    cfg_write(b, 0, 0x70, 0x004a0000);
    assert_true(b->smram_open && b->smram_enabled);
    cfg_write(b, 0, 0x70, 0x001a0000); /* locked */
    assert_true(!b->smram_open && b->smram_enabled);
    cfg_write(b, 0, 0x70, 0x004a0000);
    assert_false(b->smram_open);
    device_reset(b->bridge);
    assert_int_equal(b->pam[12], 0);
    assert_false(b->smram_enabled);
}

static void test_reset_control(void **state)
{
    struct board *b = *state;
    out8(&b->f, 0xcf9, 0x02);
    assert_int_equal(b->f.last_shutdown, -1);
    assert_int_equal(in8(&b->f, 0xcf9), 0x02);
    out8(&b->f, 0xcf9, 0x06);
    assert_int_equal(b->f.last_shutdown, SHUTDOWN_GUEST_RESET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bars, setup, teardown),
        cmocka_unit_test_setup_teardown(test_intx, setup, teardown),
        cmocka_unit_test_setup_teardown(test_msix, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bridge_hooks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_control, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
