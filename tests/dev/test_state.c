/*
 * Declared state of every chip there is: what one saves another of its class loads and saves the
 * same, whatever the registers hold; a chip fresh from reset survives its `restored`; and
 * `restored` takes any state at all, as a snapshot file is hostile.
 */
#include "tests/dev/fixture.h"

#include "devices/i440fx.h"
#include "devices/lapic.h"
#include "devices/pci.h"
#include "machine/disk/image.h"
#include "machine/drive_host.h"
#include "machine/host/loop.h"

#include <stdio.h>
#include <stdlib.h>

#define DISK_SIZE MIB(1)
#define ROUNDS 4

/* One machine with one chip. */
struct bench {
    struct fixture f;
    struct pci_bus *pci;
    struct apic_bus *apic_bus;
    struct loop *loop;
    struct drive *drive;
    struct device *device;
};

/* --- a disk of zeros --- */

static int disk_read(struct image *image, u64 offset, void *to, u64 length)
{
    (void)image, (void)offset;
    memset(to, 0, length);
    return 0;
}

static int disk_write(struct image *image, u64 offset, const void *from, u64 length)
{
    (void)image, (void)offset, (void)from, (void)length;
    return 0;
}

static int disk_flush(struct image *image)
{
    (void)image;
    return 0;
}

static void disk_close(struct image *image) { free(image); }

static struct drive *new_drive(struct loop *loop)
{
    struct image *image = calloc(1, sizeof *image);
    *image = (struct image){.size = DISK_SIZE, .read = disk_read, .write = disk_write,
                            .flush = disk_flush, .close = disk_close};
    return drive_new(image, &(struct drive_settings){.id = "disk"}, loop);
}

/* --- what a chip must have before init --- */

static void pin_level(void *cpu, bool level) { (void)cpu, (void)level; }
static void pin_edge(void *cpu) { (void)cpu; }
static void pin_sipi(void *cpu, u8 vector) { (void)cpu, (void)vector; }
static void pin_base(void *cpu, u64 base) { (void)cpu, (void)base; }
static u64 pin_tsc(void *cpu) { (void)cpu; return 0; }
static void no_pam(void *opaque, unsigned segment, bool read_ram, bool write_ram)
{
    (void)opaque, (void)segment, (void)read_ram, (void)write_ram;
}
static void no_smram(void *opaque, bool open, bool enabled)
{
    (void)opaque, (void)open, (void)enabled;
}

static void connect(struct bench *b)
{
    const struct device_class *class = b->device->class;
    if (!strcmp(class->name, "lapic")) {
        struct cpu_pins pins = {.cpu = b, .intr = pin_level, .nmi = pin_edge, .smi = pin_edge,
                                .init = pin_edge, .sipi = pin_sipi, .apic_base = pin_base,
                                .tsc = pin_tsc, .tsc_frequency = NS_PER_SECOND};
        lapic_connect(b->device, b->apic_bus, 0, true, &pins);
    } else if (!strcmp(class->name, "ioapic")) {
        ioapic_connect(b->device, b->apic_bus);
    } else if (!strcmp(class->name, i440fx_class.name)) {
        i440fx_set_hooks(b->device, &(struct i440fx_hooks){no_pam, no_smram, NULL});
    }
    for (const struct property *p = class->properties; p && p->name; p++)
        if (p->kind == PROPERTY_DRIVE) device_set_pointer(b->device, p->name, b->drive);
}

static bool bench_init(struct bench *b, const struct device_class *class, struct error *error)
{
    memset(b, 0, sizeof *b);
    fixture_init(&b->f);
    b->pci = pci_bus_new(b->f.bus, &b->f.log);
    b->apic_bus = apic_bus_new();
    b->loop = loop_new();
    b->drive = new_drive(b->loop);
    b->device = fixture_device(&b->f, class);
    connect(b);
    if (!device_init(b->device, error)) return false;
    if (class->is_pci && !pci_bus_add(b->pci, (struct pci_device *)b->device, -1, error))
        return false;
    device_reset(b->device);
    return true;
}

static void bench_free(struct bench *b)
{
    drive_drain(b->drive);
    device_free(b->device);
    drive_free(b->drive);
    loop_free(b->loop);
    apic_bus_free(b->apic_bus);
    pci_bus_free(b->pci);
    fixture_free(&b->f);
}

/* --- state --- */

static u8 random_byte(u64 *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (u8)(*seed >> 24);
}

static void fill(void *object, const struct state_field *fields, u64 *seed)
{
    for (const struct state_field *f = fields; f->name; f++) {
        u8 *at = (u8 *)object + f->offset;
        size_t length = (size_t)f->count * f->size;
        if (f->kind == STATE_GROUP) {
            for (u32 i = 0; i < f->count; i++) fill(at + (size_t)i * f->size, f->fields, seed);
            continue;
        }
        if (f->kind == STATE_BLOB) {
            length = *(u32 *)((u8 *)object + f->count);
            at = *(u8 **)at;
        }
        for (size_t i = 0; i < length; i++) at[i] = random_byte(seed);
    }
}

static void save(struct state_buffer *out, struct device *device)
{
    if (device->class->is_pci) state_save(out, device, pci_device_fields);
    state_save(out, device, device->class->fields);
}

static void load(struct state_buffer *in, struct device *device)
{
    struct error error = {""};
    bool ok = (!device->class->is_pci || state_load(in, device, pci_device_fields, &error)) &&
              state_load(in, device, device->class->fields, &error);
    if (!ok) fail_msg("%s: %s", device->class->name, error.text);
}

/* FROM's state into TO, freshly reset; and both then save the same. */
static void copy(struct device *from, struct device *to, bool restore)
{
    struct state_buffer first = {0}, second = {0};
    save(&first, from);
    device_reset(to);
    load(&first, to);
    assert_int_equal(first.position, first.length);
    if (restore && to->class->restored) to->class->restored(to);
    save(&second, to);
    assert_int_equal(first.length, second.length);
    assert_memory_equal(first.bytes, second.bytes, first.length);
    state_buffer_free(&first);
    state_buffer_free(&second);
}

static void test_class(void **state)
{
    const struct device_class *class = *state;
    struct bench one, two;
    struct error error = {""};
    u64 seed = 0x9e3779b97f4a7c15;
    if (!bench_init(&one, class, &error) || !bench_init(&two, class, &error)) {
        print_message("# %s: %s\n", class->name, error.text);
        skip();
    }
    copy(one.device, two.device, true);
    for (unsigned i = 0; i < ROUNDS; i++) {
        fill(one.device, class->fields, &seed);
        if (class->is_pci) fill(one.device, pci_device_fields, &seed);
        copy(one.device, two.device, false);
        if (class->restored) class->restored(two.device);
        clock_advance(two.f.clock, 1000000);
        drive_drain(two.drive);
    }
    bench_free(&one);
    bench_free(&two);
}

int main(void)
{
    struct CMUnitTest tests[256] = {0};
    size_t count = 0;
    while (device_classes[count] && count < ARRAY_SIZE(tests)) {
        const struct device_class *class = device_classes[count];
        tests[count++] = (struct CMUnitTest){
            .name = class->name, .test_func = test_class, .initial_state = (void *)(size_t)class};
    }
    /* The macro wants an array of known size. */
    return _cmocka_run_group_tests("state", tests, count, NULL, NULL);
}
