/* Plays firmware: carries out the table loader's script and checks what comes of it. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/fw_cfg.h"
#include "machine/acpi.h"
#include "machine/smbios.h"

#define TABLES_AT 0x7ff00000ull
#define RSDP_AT 0xf5a00ull

struct board {
    struct fixture f;
    struct device *fw_cfg;
    u8 *tables, *rsdp;
    u32 tables_length, rsdp_length;
};

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->fw_cfg = fixture_device(&b->f, &fw_cfg_class);
    assert_true(device_init(b->fw_cfg, &error));
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->fw_cfg);
    fixture_free(&b->f);
    free(b->tables);
    free(b->rsdp);
    free(b);
    return 0;
}

static u8 *copy_file(struct board *b, const char *name, u32 *length)
{
    const void *bytes = fw_cfg_file(b->fw_cfg, name, length);
    assert_non_null(bytes);
    return memcpy(malloc(*length), bytes, *length);
}

static u8 *file_named(struct board *b, const void *name, u32 *length)
{
    bool is_rsdp = !strcmp(name, "etc/acpi/rsdp");
    if (!is_rsdp) assert_string_equal(name, "etc/acpi/tables");
    *length = is_rsdp ? b->rsdp_length : b->tables_length;
    return is_rsdp ? b->rsdp : b->tables;
}

static void run_command(struct board *b, const u8 *c)
{
    u32 length, at, n;
    u8 *file = file_named(b, c + 4, &length);
    switch (ld32(c)) {
    case 1: assert_true(c[64] == 1 || c[64] == 2); break;
    case 2:
        at = ld32(c + 116);
        assert_string_equal(c + 60, "etc/acpi/tables");
        assert_true(at + c[120] <= length);
        if (c[120] == 8) st64(file + at, ld64(file + at) + TABLES_AT);
        else st32(file + at, ld32(file + at) + (u32)TABLES_AT);
        break;
    case 3:
        at = ld32(c + 60), n = ld32(c + 64) + ld32(c + 68);
        assert_true(at < length && n <= length);
        assert_int_equal(file[at], 0);
        for (u32 i = ld32(c + 64); i < n; i++)
            if (i != at) file[at] -= file[i];
        break;
    default: fail();
    }
}

static void install(struct board *b, const struct acpi_config *config)
{
    u32 length;
    acpi_build(b->fw_cfg, config);
    free(b->tables);
    free(b->rsdp);
    b->tables = copy_file(b, "etc/acpi/tables", &b->tables_length);
    b->rsdp = copy_file(b, "etc/acpi/rsdp", &b->rsdp_length);
    u8 *script = copy_file(b, "etc/table-loader", &length);
    assert_int_equal(length % 128, 0);
    for (u32 i = 0; i < length; i += 128) run_command(b, script + i);
    free(script);
}

static u8 sum(const u8 *bytes, u32 length)
{
    u8 total = 0;
    while (length--) total += *bytes++;
    return total;
}

/* The table at ADDRESS, checked. */
static const u8 *table_at(struct board *b, u64 address, const char *signature)
{
    assert_true(address >= TABLES_AT && address - TABLES_AT + 36 <= b->tables_length);
    const u8 *t = b->tables + (address - TABLES_AT);
    assert_true(address - TABLES_AT + ld32(t + 4) <= b->tables_length);
    if (signature) assert_memory_equal(t, signature, 4);
    if (memcmp(t, "FACS", 4)) assert_int_equal(sum(t, ld32(t + 4)), 0);
    return t;
}

static void test_acpi2(void **state)
{
    struct board *b = *state;
    struct acpi_config config = {.vcpus = 3, .serial_ports = 2, .keyboard = true, .hpet = true,
                                 .pm_base = 0xb000, .pci_hole64_start = GIB(8),
                                 .pci_hole64_end = GIB(16) - 1};
    install(b, &config);
    assert_int_equal(sum(b->rsdp, 20), 0);
    assert_int_equal(sum(b->rsdp, 36), 0);
    const u8 *rsdt = table_at(b, ld32(b->rsdp + 16), "RSDT");
    const u8 *xsdt = table_at(b, ld64(b->rsdp + 24), "XSDT");
    assert_int_equal(ld32(rsdt + 4), 36 + 4 * 4);
    for (unsigned i = 0; i < 4; i++) {
        table_at(b, ld32(rsdt + 36 + 4 * i), NULL);
        assert_int_equal(ld64(xsdt + 36 + 8 * i), ld32(rsdt + 36 + 4 * i));
    }
    const u8 *fadt = table_at(b, ld32(rsdt + 36), "FACP");
    assert_int_equal(ld32(fadt + 76), 0xb008);
    assert_int_equal(ld64(fadt + 148 + 4), 0xb000);
    table_at(b, ld32(fadt + 40), "DSDT");
    assert_int_equal(ld64(fadt + 140), ld32(fadt + 40));
    assert_int_equal(ld32(fadt + 36) % 64, 0);
    table_at(b, ld32(fadt + 36), "FACS");
    const u8 *madt = table_at(b, ld32(rsdt + 40), "APIC");
    assert_int_equal(ld32(madt + 4), 44 + 3 * 8 + 12 + 5 * 10 + 6);
}

static void test_acpi1(void **state)
{
    struct board *b = *state;
    struct acpi_config config = {.vcpus = 1, .acpi1 = true};
    install(b, &config);
    assert_int_equal(b->rsdp_length, 20);
    assert_int_equal(sum(b->rsdp, 20), 0);
    const u8 *rsdt = table_at(b, ld32(b->rsdp + 16), "RSDT");
    const u8 *fadt = table_at(b, ld32(rsdt + 36), "FACP");
    assert_int_equal(ld32(fadt + 4), 116);
    assert_int_equal(ld32(fadt + 56), 0x600);
    config.vcpus = 255; /* again, and bigger */
    install(b, &config);
    rsdt = table_at(b, ld32(b->rsdp + 16), "RSDT");
    table_at(b, ld32(rsdt + 40), "APIC");
}

static void test_smbios(void **state)
{
    struct board *b = *state;
    struct smbios_config config = {.vcpus = 2, .ram_below_4g = GIB(3), .ram_above_4g = GIB(29)};
    u32 length, anchor_length, count = 0, at = 0;
    smbios_build(b->fw_cfg, &config);
    const u8 *anchor = fw_cfg_file(b->fw_cfg, "etc/smbios/smbios-anchor", &anchor_length);
    const u8 *t = fw_cfg_file(b->fw_cfg, "etc/smbios/smbios-tables", &length);
    assert_int_equal(anchor_length, 31);
    assert_int_equal(sum(anchor, 31), 0);
    assert_int_equal(ld16(anchor + 22), length);
    while (at < length) {
        assert_true(at + 4 <= length && t[at + 1] >= 4);
        count++;
        for (at += t[at + 1]; t[at] || t[at + 1]; at++) assert_true(at + 2 < length);
        at += 2;
    }
    assert_int_equal(at, length);
    assert_int_equal(count, ld16(anchor + 28));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_acpi2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_acpi1, setup, teardown),
        cmocka_unit_test_setup_teardown(test_smbios, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
