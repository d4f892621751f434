/* Local APICs: priorities, IPIs, destinations, timer modes, x2APIC, the 8259's way in. */
#include "tests/dev/fixture.h"

#include <stdlib.h>

#include "devices/lapic.h"

extern const struct device_class lapic_class;

#define CPUS 3

struct processor {
    struct board *board;
    bool intr;
    unsigned nmi, smi, init, sipi;
    u8 sipi_vector;
    u64 base;
};

struct board {
    struct fixture f;
    struct apic_bus *bus;
    struct device *lapic[CPUS];
    struct local_apic_port port[CPUS];
    struct processor cpu[CPUS];
    unsigned eois;
    u8 eoi_vector;
};

static void pin_intr(void *cpu, bool level) { ((struct processor *)cpu)->intr = level; }
static void pin_nmi(void *cpu) { ((struct processor *)cpu)->nmi++; }
static void pin_smi(void *cpu) { ((struct processor *)cpu)->smi++; }
static void pin_init(void *cpu) { ((struct processor *)cpu)->init++; }
static void pin_base(void *cpu, u64 base) { ((struct processor *)cpu)->base = base; }
static u64 pin_tsc(void *cpu) { return clock_now(((struct processor *)cpu)->board->f.clock) * 2; }

static void pin_sipi(void *cpu, u8 vector)
{
    ((struct processor *)cpu)->sipi++;
    ((struct processor *)cpu)->sipi_vector = vector;
}

static int inta(void *pic)
{
    (void)pic;
    return 0x08;
}

static void note_eoi(void *opaque, u8 vector)
{
    ((struct board *)opaque)->eois++;
    ((struct board *)opaque)->eoi_vector = vector;
}

static int setup(void **state)
{
    struct board *b = calloc(1, sizeof *b);
    struct error error;
    fixture_init(&b->f);
    b->bus = apic_bus_new();
    apic_bus_on_eoi(b->bus, note_eoi, b);
    for (unsigned i = 0; i < CPUS; i++) {
        b->cpu[i].board = b;
        struct cpu_pins pins = {.cpu = &b->cpu[i], .intr = pin_intr, .nmi = pin_nmi, .smi = pin_smi,
                                .init = pin_init, .sipi = pin_sipi, .apic_base = pin_base,
                                .tsc = pin_tsc, .tsc_frequency = 2 * NS_PER_SECOND};
        b->lapic[i] = fixture_device(&b->f, &lapic_class);
        lapic_connect(b->lapic[i], b->bus, i, i == 0, &pins);
        lapic_set_extint(b->lapic[i], inta, NULL);
        assert_true(device_init(b->lapic[i], &error));
        device_reset(b->lapic[i]);
        lapic_port(b->lapic[i], &b->port[i]);
    }
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct board *b = *state;
    for (unsigned i = 0; i < CPUS; i++) device_free(b->lapic[i]);
    apic_bus_free(b->bus);
    fixture_free(&b->f);
    free(b);
    return 0;
}

static u32 rd(struct board *b, unsigned cpu, unsigned at)
{
    return b->port[cpu].mmio_read(b->port[cpu].apic, at);
}

static void wr(struct board *b, unsigned cpu, unsigned at, u32 value)
{
    b->port[cpu].mmio_write(b->port[cpu].apic, at, value);
}

static int ack(struct board *b, unsigned cpu)
{
    return b->port[cpu].acknowledge(b->port[cpu].apic);
}

static void enable(struct board *b, unsigned cpu) { wr(b, cpu, 0xf0, 0x1ff); }

static bool wrmsr(struct board *b, unsigned cpu, u32 msr, u64 value)
{
    return b->port[cpu].msr_write(b->port[cpu].apic, msr, value);
}

static u64 rdmsr(struct board *b, unsigned cpu, u32 msr)
{
    u64 value = 0;
    assert_true(b->port[cpu].msr_read(b->port[cpu].apic, msr, &value));
    return value;
}

static void test_reset_values(void **state)
{
    struct board *b = *state;
    assert_int_equal(b->cpu[0].base, 0xfee00900);
    assert_int_equal(b->cpu[1].base, 0xfee00800);
    assert_int_equal(rd(b, 1, 0x20), 0x01000000);
    assert_int_equal(rd(b, 0, 0x30) & 0xff, 0x14);
    assert_int_equal(rd(b, 0, 0xf0), 0xff);
    assert_int_equal(rd(b, 1, 0x350), 0x10000);
}

static void test_virtual_wire(void **state)
{
    struct board *b = *state;
    lapic_set_lint0(b->lapic[0], true);
    assert_true(b->cpu[0].intr);
    assert_int_equal(ack(b, 0), 8);
    lapic_set_lint0(b->lapic[0], false);
    assert_false(b->cpu[0].intr);
    assert_int_equal(ack(b, 0), -1);
    wr(b, 0, 0x350, 0x10700);
    lapic_set_lint0(b->lapic[0], true);
    assert_false(b->cpu[0].intr);
    assert_true(wrmsr(b, 0, 0x1b, 0xfee00000)); /* off: straight through */
    assert_true(b->cpu[0].intr);
}

static void test_priorities(void **state)
{
    struct board *b = *state;
    enable(b, 0);
    apic_bus_msi(b->bus, 0xfee00000, 0x31);
    apic_bus_msi(b->bus, 0xfee00000, 0x52);
    assert_true(b->cpu[0].intr);
    assert_int_equal(ack(b, 0), 0x52);
    assert_false(b->cpu[0].intr); /* 31h waits behind 52h in service */
    assert_int_equal(rd(b, 0, 0xa0), 0x50);
    apic_bus_msi(b->bus, 0xfee00000, 0x61);
    assert_int_equal(ack(b, 0), 0x61);
    wr(b, 0, 0xb0, 0);
    wr(b, 0, 0xb0, 0);
    assert_true(b->cpu[0].intr);
    wr(b, 0, 0x80, 0x30);
    assert_false(b->cpu[0].intr);
    b->port[0].set_cr8(b->port[0].apic, 2);
    assert_int_equal(rd(b, 0, 0x80), 0x20);
    assert_int_equal(ack(b, 0), 0x31);
    assert_int_equal(b->eois, 0);
    wr(b, 0, 0xb0, 0);
    apic_bus_msi(b->bus, 0xfee00000, 0xc031); /* level */
    assert_int_equal(ack(b, 0), 0x31);
    wr(b, 0, 0xb0, 0);
    assert_int_equal(b->eois, 1);
    assert_int_equal(b->eoi_vector, 0x31);
}

static void test_startup(void **state)
{
    struct board *b = *state;
    wr(b, 0, 0x300, 0xc4500);
    assert_int_equal(b->cpu[0].init, 0);
    assert_int_equal(b->cpu[1].init, 1);
    assert_int_equal(b->cpu[2].init, 1);
    wr(b, 0, 0x310, 2 << 24);
    wr(b, 0, 0x300, 0x04610);
    assert_int_equal(b->cpu[1].sipi, 0);
    assert_int_equal(b->cpu[2].sipi, 1);
    assert_int_equal(b->cpu[2].sipi_vector, 0x10);
    wr(b, 0, 0x310, 1 << 24);
    wr(b, 0, 0x300, 0x00400);
    assert_int_equal(b->cpu[1].nmi, 1);
    wr(b, 0, 0x300, 0x88500); /* de-assert */
    assert_int_equal(b->cpu[1].init, 1);
}

static void test_destinations(void **state)
{
    struct board *b = *state;
    for (unsigned i = 0; i < CPUS; i++) {
        enable(b, i);
        wr(b, i, 0xd0, 1u << (24 + i));
    }
    apic_bus_msi(b->bus, 0xfee06004, 0x40); /* logical flat: 1 and 2 */
    assert_false(b->cpu[0].intr);
    assert_true(b->cpu[1].intr && b->cpu[2].intr);
    ack(b, 1), ack(b, 2);
    wr(b, 1, 0xb0, 0), wr(b, 2, 0xb0, 0);
    wr(b, 1, 0x80, 0x20);
    apic_bus_msi(b->bus, 0xfee06004, 0x141); /* lowest priority: not the one with TPR up */
    assert_false(b->cpu[1].intr);
    assert_int_equal(ack(b, 2), 0x41);
    for (unsigned i = 0; i < CPUS; i++) {
        wr(b, i, 0xe0, 0x0fffffff);
        wr(b, i, 0xd0, 0x10000000u * (i + 1) | 0x01000000);
    }
    apic_bus_msi(b->bus, 0xfee21004, 0x50); /* cluster 2, member 1 */
    assert_false(b->cpu[0].intr);
    assert_true(b->cpu[1].intr);
    apic_bus_msi(b->bus, 0xfeeff000, 0x60);
    assert_int_equal(ack(b, 0), 0x60);
}

static void test_errors(void **state)
{
    struct board *b = *state;
    enable(b, 0);
    wr(b, 0, 0x370, 0xfe);
    wr(b, 0, 0x300, 0x40005);
    assert_int_equal(ack(b, 0), 0xfe);
    wr(b, 0, 0x280, 0);
    assert_int_equal(rd(b, 0, 0x280), 0x20);
    wr(b, 0, 0x280, 0);
    assert_int_equal(rd(b, 0, 0x280), 0);
    wr(b, 0, 0x370, 0x05); /* an illegal vector for the error interrupt itself */
    wr(b, 0, 0x300, 0x40005);
    wr(b, 0, 0x280, 0);
    assert_int_equal(rd(b, 0, 0x280), 0x60);
}

static void test_timer(void **state)
{
    struct board *b = *state;
    enable(b, 0);
    wr(b, 0, 0x3e0, 3); /* by 16 */
    wr(b, 0, 0x320, 0x40);
    wr(b, 0, 0x380, 1000);
    clock_advance(b->f.clock, 8000);
    assert_int_equal(rd(b, 0, 0x390), 500);
    assert_false(b->cpu[0].intr);
    clock_advance(b->f.clock, 8000);
    assert_int_equal(ack(b, 0), 0x40);
    assert_int_equal(rd(b, 0, 0x390), 0);
    clock_advance(b->f.clock, NS_PER_SECOND);
    assert_false(b->cpu[0].intr);
    wr(b, 0, 0xb0, 0);
    wr(b, 0, 0x320, 0x20041);
    wr(b, 0, 0x380, 10000);
    for (unsigned i = 0; i < 5; i++) {
        clock_advance(b->f.clock, 160000);
        assert_int_equal(ack(b, 0), 0x41);
        wr(b, 0, 0xb0, 0);
    }
    wr(b, 0, 0x320, 0x30041);
    clock_advance(b->f.clock, NS_PER_SECOND);
    assert_false(b->cpu[0].intr);
}

static void test_tsc_deadline(void **state)
{
    struct board *b = *state;
    enable(b, 0);
    assert_true(wrmsr(b, 0, 0x6e0, 12345));
    assert_int_equal(rdmsr(b, 0, 0x6e0), 0);
    wr(b, 0, 0x320, 0x40050);
    assert_true(wrmsr(b, 0, 0x6e0, 20000)); /* at 10 us */
    assert_int_equal(rdmsr(b, 0, 0x6e0), 20000);
    clock_advance(b->f.clock, 9000);
    assert_false(b->cpu[0].intr);
    clock_advance(b->f.clock, 2000);
    assert_int_equal(ack(b, 0), 0x50);
    assert_int_equal(rdmsr(b, 0, 0x6e0), 0);
    assert_true(wrmsr(b, 0, 0x6e0, ~0ull)); /* centuries away */
    clock_advance(b->f.clock, NS_PER_SECOND);
    assert_false(b->cpu[0].intr);
}

static void test_x2apic(void **state)
{
    struct board *b = *state;
    u64 value;
    assert_false(b->port[1].msr_read(b->port[1].apic, 0x802, &value));
    assert_false(wrmsr(b, 1, 0x1b, 0xfee00400));
    assert_false(wrmsr(b, 1, 0x1b, 0xfee00801));
    assert_true(wrmsr(b, 1, 0x1b, 0xfee00c00));
    assert_false(wrmsr(b, 1, 0x1b, 0xfee00800)); /* back to xAPIC: never directly */
    assert_int_equal(rdmsr(b, 1, 0x802), 1);
    assert_int_equal(rdmsr(b, 1, 0x80d), 2);
    assert_true(wrmsr(b, 1, 0x80f, 0x1ff));
    assert_false(wrmsr(b, 1, 0x80b, 1));
    assert_false(wrmsr(b, 1, 0x80e, 0));
    assert_false(wrmsr(b, 1, 0x808, 0x100));
    assert_true(wrmsr(b, 1, 0x83f, 0x77));
    assert_int_equal(ack(b, 1), 0x77);
    assert_true(wrmsr(b, 1, 0x80b, 0));
    enable(b, 0);
    assert_true(wrmsr(b, 1, 0x830, 0x0000000000000033ull));
    assert_int_equal(ack(b, 0), 0x33);
    assert_true(wrmsr(b, 1, 0x830, 0xffffffff00000434ull)); /* NMI to everybody */
    assert_int_equal(b->cpu[0].nmi + b->cpu[1].nmi + b->cpu[2].nmi, 3);
    assert_true(wrmsr(b, 1, 0x1b, 0xfee00000));
    assert_false(wrmsr(b, 1, 0x1b, 0xfee00c00)); /* from off straight to x2APIC */
    assert_true(wrmsr(b, 1, 0x1b, 0xfee00800));
    assert_int_equal(rd(b, 1, 0xf0), 0xff);
}

static void test_state(void **state)
{
    struct board *b = *state;
    struct state_buffer out = {0};
    struct error error;
    enable(b, 0);
    apic_bus_msi(b->bus, 0xfee00000, 0x52);
    wr(b, 0, 0x320, 0x40);
    wr(b, 0, 0x380, 1000);
    state_save(&out, b->lapic[0], lapic_class.fields);
    device_reset(b->lapic[0]);
    assert_false(b->cpu[0].intr);
    assert_true(state_load(&out, b->lapic[0], lapic_class.fields, &error));
    lapic_class.restored(b->lapic[0]);
    assert_int_equal(ack(b, 0), 0x52);
    wr(b, 0, 0xb0, 0);
    clock_advance(b->f.clock, 5000);
    assert_int_equal(ack(b, 0), 0x40);
    state_buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reset_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_virtual_wire, setup, teardown),
        cmocka_unit_test_setup_teardown(test_priorities, setup, teardown),
        cmocka_unit_test_setup_teardown(test_startup, setup, teardown),
        cmocka_unit_test_setup_teardown(test_destinations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tsc_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_x2apic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
