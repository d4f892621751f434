/* virtio-blk-pci on a drive of the test's own: both interfaces, both ring formats, broken rings. */
#include "tests/dev/virtio_driver.h"

#include "machine/drive.h"

#include <stdlib.h>

#define SECTORS 2048u

extern const struct device_class virtio_blk_class;

/* --- the drive: every function of machine/drive.h, so that no other is linked in --- */

struct drive {
    u8 bytes[SECTORS * 512];
    bool read_only;
    struct drive_request *waiting[64];
    unsigned count, flushes, discards;
};

void drive_submit(struct drive *drive, struct drive_request *request)
{
    assert_true(drive->count < 64);
    drive->waiting[drive->count++] = request;
}

static void drive_finish_one(struct drive *drive, int error)
{
    struct drive_request *r = drive->waiting[0];
    u64 at = r->offset;

    drive->count--;
    memmove(drive->waiting, drive->waiting + 1, drive->count * sizeof *drive->waiting);
    assert_true(r->offset + r->length <= sizeof drive->bytes);
    for (unsigned i = 0; i < r->segment_count && !error; i++) {
        if (r->op == DRIVE_READ)
            memcpy(r->segments[i].base, drive->bytes + at, r->segments[i].length);
        if (r->op == DRIVE_WRITE)
            memcpy(drive->bytes + at, r->segments[i].base, r->segments[i].length);
        at += r->segments[i].length;
    }
    if (r->op == DRIVE_FLUSH) drive->flushes++;
    if (r->op == DRIVE_DISCARD) drive->discards++;
    r->done(r, error);
}

void drive_drain(struct drive *drive)
{
    while (drive->count) drive_finish_one(drive, 0);
}

u64 drive_size(struct drive *drive) { return sizeof drive->bytes; }
bool drive_read_only(struct drive *drive) { return drive->read_only; }
bool drive_has_medium(struct drive *drive) { (void)drive; return true; }
const char *drive_id(struct drive *drive) { (void)drive; return "d0"; }
const char *drive_serial(struct drive *drive) { (void)drive; return "SERIAL"; }
void drive_on_media_change(struct drive *drive, void (*changed)(void *), void *opaque)
{
    (void)drive, (void)changed, (void)opaque;
}
void drive_eject(struct drive *drive) { (void)drive; }
void drive_lock_tray(struct drive *drive, bool locked) { (void)drive, (void)locked; }

/* --- --- */

#define HEADER 0x100000u * 8
#define DATA (HEADER + 0x1000)
#define STATUS (HEADER + 0x800)

struct blk_test {
    struct driver d;
    struct drive *drive;
};

static void begin(struct blk_test *t, bool modern, u64 features)
{
    unsigned i;

    driver_begin(&t->d, &virtio_blk_class);
    t->drive = calloc(1, sizeof *t->drive);
    for (i = 0; i < sizeof t->drive->bytes; i++) t->drive->bytes[i] = (u8)(i >> 9 ^ i);
    device_set_pointer(t->d.device, "drive", t->drive);
    driver_plug(&t->d);
    driver_negotiate(&t->d, modern, features | (modern ? 1ull << 32 : 0));
    driver_queue(&t->d, 0);
    driver_go(&t->d);
}

static void end(struct blk_test *t)
{
    driver_end(&t->d);
    free(t->drive);
}

static u16 request(struct blk_test *t, u32 type, u64 sector, u32 length, bool write)
{
    u8 *header = t->d.f.ram + HEADER;
    const struct piece pieces[] = {{HEADER, 16, false}, {DATA, length, write}, {STATUS, 1, true}};
    const struct piece bare[] = {{HEADER, 16, false}, {STATUS, 1, true}};
    u16 head;

    st32(header, type);
    st32(header + 4, 0);
    st64(header + 8, sector);
    t->d.f.ram[STATUS] = 0xee;
    head = length ? driver_add(&t->d, 0, pieces, 3) : driver_add(&t->d, 0, bare, 2);
    driver_kick(&t->d, 0);
    return head;
}

static void expect_done(struct blk_test *t, u16 head, i64 length, u8 status)
{
    u16 got;

    assert_int_equal(driver_used(&t->d, 0, &got), length);
    assert_int_equal(got, head);
    assert_int_equal(t->d.f.ram[STATUS], status);
}

static void read_and_write(bool modern, u64 features)
{
    struct blk_test t;
    u16 head;

    begin(&t, modern, features);
    head = request(&t, 0, 5, 1024, true);
    assert_int_equal(t.drive->count, 1);
    assert_int_equal(driver_used(&t.d, 0, NULL), -1);
    drive_drain(t.drive);
    expect_done(&t, head, 1025, 0);
    assert_true(t.d.f.line[0]);
    assert_memory_equal(t.d.f.ram + DATA, t.drive->bytes + 5 * 512, 1024);
    assert_int_equal(modern ? modern_in(&t.d, 0x1000, 1) : in8(&t.d.f, DRIVER_IO + 19), 1);
    assert_false(t.d.f.line[0]);

    memset(t.d.f.ram + DATA, 0x5a, 512);
    head = request(&t, 1, 7, 512, false);
    drive_drain(t.drive);
    expect_done(&t, head, 1, 0);
    assert_int_equal(t.drive->bytes[7 * 512], 0x5a);
    assert_int_equal(t.drive->bytes[8 * 512 - 1], 0x5a);

    head = request(&t, 4, 0, 0, false);
    drive_drain(t.drive);
    expect_done(&t, head, 1, 0);
    head = request(&t, 8, 0, 20, true);
    expect_done(&t, head, 21, 0);
    assert_string_equal((char *)t.d.f.ram + DATA, "SERIAL");
    end(&t);
}

static void test_modern(void **state)
{
    (void)state;
    read_and_write(true, 1ull << 9);
}

static void test_modern_event_index(void **state)
{
    (void)state;
    read_and_write(true, 1ull << 9 | 1ull << 28);
}

static void test_legacy(void **state)
{
    (void)state;
    read_and_write(false, 1ull << 9);
}

static void test_identity(void **state)
{
    struct blk_test t;

    (void)state;
    begin(&t, true, 0);
    assert_int_equal(pci_config_read(t.d.pci, 0, 3 << 3, 0, 4), 0x10011af4);
    assert_int_equal(modern_in(&t.d, 0x2000, 8), SECTORS);
    assert_int_equal(in32(&t.d.f, DRIVER_IO + 20), SECTORS);
    assert_true(driver_offered(&t.d) >> 32 & 1);
    end(&t);
}

static void test_window(void **state)
{
    struct blk_test t;
    u8 at;

    (void)state;
    begin(&t, true, 0);
    at = (u8)pci_config_read(t.d.pci, 0, 3 << 3, 0x34, 1);
    while (at && (pci_config_read(t.d.pci, 0, 3 << 3, at, 1) != 9 ||
                  pci_config_read(t.d.pci, 0, 3 << 3, at + 3, 1) != 5))
        at = (u8)pci_config_read(t.d.pci, 0, 3 << 3, at + 1, 1);
    assert_int_not_equal(at, 0);
    pci_config_write(t.d.pci, 0, 3 << 3, at + 4, 4, 1);
    pci_config_write(t.d.pci, 0, 3 << 3, at + 8, 0x2000, 4);
    pci_config_write(t.d.pci, 0, 3 << 3, at + 12, 4, 4);
    assert_int_equal(pci_config_read(t.d.pci, 0, 3 << 3, at + 16, 4), SECTORS);
    pci_config_write(t.d.pci, 0, 3 << 3, at + 8, 0x14, 4);
    pci_config_write(t.d.pci, 0, 3 << 3, at + 12, 1, 4);
    pci_config_write(t.d.pci, 0, 3 << 3, at + 16, 0, 4);
    assert_int_equal(driver_status(&t.d), 0);
    end(&t);
}

static void test_features_refused(void **state)
{
    struct blk_test t;

    (void)state;
    begin(&t, true, 0);
    driver_set_status(&t.d, 0);
    modern_out(&t.d, 8, 0, 4);
    modern_out(&t.d, 0xc, 1u << 7, 4); /* not offered */
    modern_out(&t.d, 8, 1, 4);
    modern_out(&t.d, 0xc, 1, 4);
    driver_set_status(&t.d, 11);
    assert_false(driver_status(&t.d) & 8);
    end(&t);
}

static void test_errors(void **state)
{
    struct blk_test t;
    u16 head;

    (void)state;
    begin(&t, true, 1 << 9);
    head = request(&t, 0, SECTORS, 512, true);
    expect_done(&t, head, 1, 1);
    head = request(&t, 0, ~0ull, 512, true);
    expect_done(&t, head, 1, 1);
    head = request(&t, 0, 0, 100, true);
    expect_done(&t, head, 1, 1);
    head = request(&t, 99, 0, 0, true);
    expect_done(&t, head, 1, 2);
    head = request(&t, 0, 0, 512, true);
    drive_finish_one(t.drive, 5);
    expect_done(&t, head, 1, 1);
    t.drive->read_only = true;
    head = request(&t, 1, 0, 512, false);
    expect_done(&t, head, 1, 1);
    end(&t);
}

static void test_zeroes_and_discard(void **state)
{
    struct blk_test t;
    u16 head;

    (void)state;
    begin(&t, true, 1 << 9);
    st64(t.d.f.ram + DATA, 300);
    st32(t.d.f.ram + DATA + 8, 200);
    st32(t.d.f.ram + DATA + 12, 0);
    head = request(&t, 13, 0, 16, false);
    drive_drain(t.drive);
    expect_done(&t, head, 1, 0);
    for (unsigned i = 300 * 512; i < 500 * 512; i++) assert_int_equal(t.drive->bytes[i], 0);
    assert_int_not_equal(t.drive->bytes[500 * 512 + 1], 0);
    head = request(&t, 11, 0, 16, false);
    drive_drain(t.drive);
    expect_done(&t, head, 1, 0);
    assert_int_equal(t.drive->discards, 1);
    st32(t.d.f.ram + DATA + 8, SECTORS);
    head = request(&t, 11, 0, 16, false);
    expect_done(&t, head, 1, 1);
    end(&t);
}

/* A write-through disk is flushed behind every write. */
static void test_write_through(void **state)
{
    struct blk_test t;
    u16 head;

    (void)state;
    begin(&t, true, 1 << 9 | 1 << 11);
    modern_out(&t.d, 0x2000 + 32, 0, 1);
    head = request(&t, 1, 0, 512, false);
    drive_finish_one(t.drive, 0);
    assert_int_equal(driver_used(&t.d, 0, NULL), -1);
    drive_drain(t.drive);
    expect_done(&t, head, 1, 0);
    assert_int_equal(t.drive->flushes, 1);
    end(&t);
}

/* Data that ends outside RAM goes through a buffer and reaches what there is. */
static void test_bounce(void **state)
{
    struct blk_test t;
    struct piece pieces[] = {{HEADER, 16, false}, {MIB(16) - 512, 1024, true}, {STATUS, 1, true}};

    (void)state;
    begin(&t, true, 1 << 9);
    memset(t.d.f.ram + HEADER, 0, 16);
    driver_add(&t.d, 0, pieces, 3);
    driver_kick(&t.d, 0);
    drive_drain(t.drive);
    assert_int_equal(driver_used(&t.d, 0, NULL), 1025);
    assert_memory_equal(t.d.f.ram + MIB(16) - 512, t.drive->bytes, 512);
    end(&t);
}

static void test_indirect(void **state)
{
    struct blk_test t;
    u64 table = HEADER + 0x400;

    (void)state;
    begin(&t, true, 1 << 9 | 1 << 28);
    memset(t.d.f.ram + HEADER, 0, 16);
    put_descriptor(&t.d, table, HEADER, 16, 1, 1);
    put_descriptor(&t.d, table + 16, DATA, 4096, 3, 2);
    put_descriptor(&t.d, table + 32, STATUS, 1, 2, 0);
    put_descriptor(&t.d, t.d.desc[0], table, 48, 4, 0);
    driver_offer(&t.d, 0, 0);
    driver_kick(&t.d, 0);
    drive_drain(t.drive);
    assert_int_equal(driver_used(&t.d, 0, NULL), 4097);
    assert_memory_equal(t.d.f.ram + DATA, t.drive->bytes, 4096);
    end(&t);
}

/* Each of these must break the device, and a reset must mend it. */
static void broken_ring(void (*spoil)(struct blk_test *t))
{
    struct blk_test t;
    u16 head;

    begin(&t, true, 1 << 9 | 1 << 28);
    spoil(&t);
    driver_kick(&t.d, 0);
    assert_int_equal(driver_used(&t.d, 0, NULL), -1);
    assert_true(driver_status(&t.d) & 0x40);
    memset(t.d.f.ram + MIB(1), 0, 0x10000);
    t.d.next_desc[0] = t.d.seen[0] = 0;
    driver_negotiate(&t.d, true, 1ull << 32 | 1 << 9);
    driver_queue(&t.d, 0);
    driver_go(&t.d);
    assert_false(driver_status(&t.d) & 0x40);
    head = request(&t, 0, 0, 512, true);
    drive_drain(t.drive);
    expect_done(&t, head, 513, 0);
    end(&t);
}

static void spoil_loop(struct blk_test *t)
{
    put_descriptor(&t->d, t->d.desc[0], HEADER, 16, 1, 1);
    put_descriptor(&t->d, t->d.desc[0] + 16, HEADER, 16, 1, 0);
    driver_offer(&t->d, 0, 0);
}

static void spoil_head(struct blk_test *t)
{
    driver_offer(&t->d, 0, DRIVER_SIZE);
}

static void spoil_next(struct blk_test *t)
{
    put_descriptor(&t->d, t->d.desc[0], HEADER, 16, 1, 0xffff);
    driver_offer(&t->d, 0, 0);
}

static void spoil_index(struct blk_test *t)
{
    st16(t->d.f.ram + t->d.avail[0] + 2, DRIVER_SIZE + 1);
}

static void spoil_order(struct blk_test *t)
{
    put_descriptor(&t->d, t->d.desc[0], STATUS, 1, 3, 1);
    put_descriptor(&t->d, t->d.desc[0] + 16, HEADER, 16, 0, 0);
    driver_offer(&t->d, 0, 0);
}

static void spoil_wrap(struct blk_test *t)
{
    put_descriptor(&t->d, t->d.desc[0], ~0ull - 4, 16, 0, 0);
    driver_offer(&t->d, 0, 0);
}

static void spoil_indirect(struct blk_test *t)
{
    put_descriptor(&t->d, t->d.desc[0], DATA, 16, 4, 0);
    put_descriptor(&t->d, DATA, DATA, 16, 4, 0); /* of itself */
    driver_offer(&t->d, 0, 0);
}

static void spoil_indirect_length(struct blk_test *t)
{
    put_descriptor(&t->d, t->d.desc[0], DATA, 0xfffffff0, 4, 0);
    driver_offer(&t->d, 0, 0);
}

static void spoil_no_status(struct blk_test *t)
{
    put_descriptor(&t->d, t->d.desc[0], HEADER, 16, 0, 0);
    driver_offer(&t->d, 0, 0);
}

static void test_broken_rings(void **state)
{
    (void)state;
    broken_ring(spoil_loop);
    broken_ring(spoil_head);
    broken_ring(spoil_next);
    broken_ring(spoil_index);
    broken_ring(spoil_order);
    broken_ring(spoil_wrap);
    broken_ring(spoil_indirect);
    broken_ring(spoil_indirect_length);
    broken_ring(spoil_no_status);
}

/* What is under way at a reset ends before it, and the new driver's ring is not touched. */
static void test_reset_in_flight(void **state)
{
    struct blk_test t;

    (void)state;
    begin(&t, true, 1 << 9);
    request(&t, 0, 0, 512, true);
    driver_set_status(&t.d, 0);
    assert_int_equal(t.drive->count, 0);
    assert_int_equal(driver_used(&t.d, 0, NULL), -1);
    end(&t);
}

static void test_no_interrupt_flag(void **state)
{
    struct blk_test t;

    (void)state;
    begin(&t, true, 1 << 9);
    st16(t.d.f.ram + t.d.avail[0], 1);
    request(&t, 8, 0, 20, true);
    assert_int_equal(driver_used(&t.d, 0, NULL), 21);
    assert_false(t.d.f.line[0]);
    end(&t);
}

/* With event indices an interrupt comes when used_event is passed, and only then. */
static void test_event_index(void **state)
{
    struct blk_test t;

    (void)state;
    begin(&t, true, 1 << 9 | 1 << 29);
    request(&t, 8, 0, 20, true); /* the first is always told */
    assert_int_equal(t.d.f.rises[0], 1);
    modern_in(&t.d, 0x1000, 1);
    st16(t.d.f.ram + t.d.avail[0] + 4 + 2 * DRIVER_SIZE, 2);
    request(&t, 8, 0, 20, true);
    assert_int_equal(t.d.f.rises[0], 1);
    request(&t, 8, 0, 20, true);
    assert_int_equal(t.d.f.rises[0], 2);
    assert_int_equal(ld16(t.d.f.ram + t.d.used[0] + 4 + 8 * DRIVER_SIZE), 3); /* avail_event */
    end(&t);
}

static void test_state(void **state)
{
    struct blk_test t;
    struct state_buffer buffer = {0};
    struct error error;
    u16 head;

    (void)state;
    begin(&t, true, 1 << 9);
    head = request(&t, 8, 0, 20, true);
    expect_done(&t, head, 21, 0);
    state_save(&buffer, t.d.device, pci_device_fields);
    state_save(&buffer, t.d.device, virtio_blk_class.fields);
    device_reset(t.d.device);
    assert_int_equal(bus_memory_read(t.d.f.bus, DRIVER_MODERN, 4), 0xffffffff);
    assert_true(state_load(&buffer, t.d.device, pci_device_fields, &error));
    assert_true(state_load(&buffer, t.d.device, virtio_blk_class.fields, &error));
    virtio_blk_class.restored(t.d.device);
    head = request(&t, 0, 0, 512, true);
    drive_drain(t.drive);
    expect_done(&t, head, 513, 0);
    state_buffer_free(&buffer);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_modern),
        cmocka_unit_test(test_modern_event_index),
        cmocka_unit_test(test_legacy),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_features_refused),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_zeroes_and_discard),
        cmocka_unit_test(test_write_through),
        cmocka_unit_test(test_bounce),
        cmocka_unit_test(test_indirect),
        cmocka_unit_test(test_broken_rings),
        cmocka_unit_test(test_reset_in_flight),
        cmocka_unit_test(test_no_interrupt_flag),
        cmocka_unit_test(test_event_index),
        cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
