/* The firmware configuration device: items, files, DMA, and addresses that aren't RAM. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/fw_cfg.h"

struct board {
    struct fixture f;
    struct device *fw_cfg;
    unsigned told;
};

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->fw_cfg = fixture_device(&b->f, &fw_cfg_class);
    assert_true(device_init(b->fw_cfg, &error));
    device_reset(b->fw_cfg);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    device_free(b->fw_cfg);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static u64 item(struct board *b, u16 key, unsigned bytes)
{
    u64 value = 0;
    out16(&b->f, 0x510, key);
    for (unsigned i = 0; i < bytes; i++) value |= (u64)in8(&b->f, 0x511) << 8 * i;
    return value;
}

static void put32(struct board *b, u32 at, u32 value)
{
    value = be32(value);
    memcpy(b->f.ram + at, &value, 4);
}

/* One DMA command at 1000h; returns the control word after it. */
static u32 dma(struct board *b, u32 control, u32 length, u64 address)
{
    u32 result;
    put32(b, 0x1000, control);
    put32(b, 0x1004, length);
    put32(b, 0x1008, address >> 32);
    put32(b, 0x100c, address);
    out32(&b->f, 0x514, 0);
    out32(&b->f, 0x518, __builtin_bswap32(0x1000));
    memcpy(&result, b->f.ram + 0x1000, 4);
    return be32(result);
}

static void items(void **state)
{
    struct board *b = *state;
    assert_int_equal(item(b, FW_CFG_SIGNATURE, 4), 0x554d4551);
    assert_int_equal(in8(&b->f, 0x511), 0); /* past the end */
    assert_int_equal(item(b, FW_CFG_ID, 4), 3);
    assert_int_equal(item(b, FW_CFG_RAM_SIZE, 8), MIB(16));
    assert_int_equal(item(b, FW_CFG_NB_CPUS, 2), 1);
    fw_cfg_add_string(b->fw_cfg, FW_CFG_CMDLINE_DATA, "quiet");
    assert_int_equal(item(b, FW_CFG_CMDLINE_DATA, 6), 0x7465697571);
    assert_int_equal(item(b, 0x1234, 2), 0);
    assert_int_equal(item(b, 0xffff, 2), 0);
    assert_int_equal(in32(&b->f, 0x514), 0x554d4551); /* "QEMU CFG" */
    assert_int_equal(in32(&b->f, 0x518), 0x47464320);
}

/* Lent and copied bytes take each other's place, and only the copies are freed. */
static void lent_bytes(void **state)
{
    struct board *b = *state;
    u8 data[] = {1, 2, 3, 4};
    fw_cfg_add_bytes(b->fw_cfg, FW_CFG_KERNEL_DATA, "abcdef", 6);
    fw_cfg_lend_bytes(b->fw_cfg, FW_CFG_KERNEL_DATA, data, sizeof data);
    fw_cfg_lend_bytes(b->fw_cfg, FW_CFG_INITRD_DATA, data + 1, 2);
    assert_int_equal(item(b, FW_CFG_KERNEL_DATA, 5), 0x04030201);
    assert_int_equal(item(b, FW_CFG_INITRD_DATA, 3), 0x0302);
    device_reset(b->fw_cfg);
    assert_int_equal(item(b, FW_CFG_KERNEL_DATA, 4), 0x04030201);
    fw_cfg_add_bytes(b->fw_cfg, FW_CFG_KERNEL_DATA, "x", 1);
    assert_int_equal(item(b, FW_CFG_KERNEL_DATA, 2), 'x');
}

static void files_are_sorted(void **state)
{
    struct board *b = *state;
    assert_true(fw_cfg_add_file(b->fw_cfg, "etc/system-states", "123456", 6));
    assert_true(fw_cfg_add_file(b->fw_cfg, "bootorder", "x", 1));
    assert_true(fw_cfg_add_file(b->fw_cfg, "etc/acpi/rsdp", "abc", 3));
    assert_true(fw_cfg_add_file(b->fw_cfg, "bootorder", "xyz", 4));
    assert_false(fw_cfg_add_file(
        b->fw_cfg, "a/name/that/is/longer/than/the/directory/has/room/for/it", "", 0));
    assert_int_equal(dma(b, 0x0019000a, 4 + 3 * 64, 0x2000), 0);
    assert_memory_equal(b->f.ram + 0x2000, "\0\0\0\3\0\0\0\4\0\x20\0\0bootorder", 22);
    assert_memory_equal(b->f.ram + 0x2044, "\0\0\0\3\0\x21\0\0etc/acpi/rsdp", 22);
    assert_memory_equal(b->f.ram + 0x2084, "\0\0\0\6\0\x22\0\0etc/system-states", 26);
    assert_int_equal(item(b, 0x21, 3), 0x636261);
}

static void dma_reads(void **state)
{
    struct board *b = *state;
    u8 data[100];
    for (unsigned i = 0; i < 100; i++) data[i] = i + 1;
    fw_cfg_add_bytes(b->fw_cfg, FW_CFG_KERNEL_DATA, data, 100);
    memset(b->f.ram + 0x2000, 0xee, 200);
    assert_int_equal(dma(b, FW_CFG_KERNEL_DATA << 16 | 8, 0, 0), 0);
    assert_int_equal(dma(b, 4, 90, 0), 0);
    assert_int_equal(dma(b, 2, 20, 0x2000), 0);
    assert_memory_equal(b->f.ram + 0x2000, data + 90, 10);
    assert_int_equal(b->f.ram[0x200a], 0);
    assert_int_equal(b->f.ram[0x2013], 0);
    assert_int_equal(b->f.ram[0x2014], 0xee);
}

static void hostile(void **state)
{
    struct board *b = *state;
    assert_int_equal(dma(b, 0x0000000a, 4, MIB(16)), 1);
    assert_int_equal(dma(b, 0x0000000a, 0xffffffff, 0x2000), 1);
    assert_int_equal(dma(b, 0x0000000a, 0x1000, ~0ull - 10), 1);
    assert_int_equal(dma(b, 0x00000018, 4, 0x2000), 1); /* not writable */
    out32(&b->f, 0x514, 0xffffffff);
    out32(&b->f, 0x518, 0xffffffff); /* no command there */
    assert_int_equal(item(b, FW_CFG_SIGNATURE, 4), 0x554d4551);
}

static void note(void *opaque, u32 offset, u32 length)
{
    *(unsigned *)opaque = offset << 8 | length;
}

static void writes(void **state)
{
    struct board *b = *state;
    struct state_buffer buffer = {0};
    struct error error;
    u32 length;
    assert_true(fw_cfg_add_writable_file(b->fw_cfg, "etc/guid", "\0\0\0\0\0\0\0\0", 8, note,
                                         &b->told));
    memcpy(b->f.ram + 0x2000, "abcd", 4);
    assert_int_equal(dma(b, FW_CFG_FILE_FIRST << 16 | 12, 2, 0), 0);
    assert_int_equal(dma(b, 16, 4, 0x2000), 0);
    assert_int_equal(b->told, 0x204);
    assert_memory_equal(fw_cfg_file(b->fw_cfg, "etc/guid", &length), "\0\0abcd\0\0", 8);
    assert_int_equal(length, 8);
    assert_int_equal(dma(b, 16, 4, 0x2000), 1); /* past the end */
    state_save(&buffer, b->fw_cfg, fw_cfg_class.fields);
    assert_int_equal(dma(b, FW_CFG_FILE_FIRST << 16 | 24, 4, 0x2000), 0);
    assert_true(state_load(&buffer, b->fw_cfg, fw_cfg_class.fields, &error));
    state_buffer_free(&buffer);
    assert_memory_equal(fw_cfg_file(b->fw_cfg, "etc/guid", &length), "\0\0abcd\0\0", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(items, setup, teardown),
        cmocka_unit_test_setup_teardown(lent_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(files_are_sorted, setup, teardown),
        cmocka_unit_test_setup_teardown(dma_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile, setup, teardown),
        cmocka_unit_test_setup_teardown(writes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
