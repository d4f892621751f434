/* The 82540EM on a fake bus: EEPROM, PHY, both rings, offloads, filters, interrupts, hostile
 * rings. */
#include "tests/dev/fixture.h"

#include "devices/pci.h"
#include "net/net.h"
#include "net/offload.h"

#define BAR 0xe0000000u
#define IO 0xc000
#define TX_RING MIB(1)
#define RX_RING MIB(2)
#define TX_BUFFER MIB(3)
#define RX_BUFFER MIB(4)
#define ENTRIES 16

extern const struct device_class e1000_class;

struct card_test {
    struct fixture f;
    struct pci_bus *pci;
    struct device *device;
    struct net_port port;
    u8 got[70000];
    u32 length, frames;
    u32 tail;
};

static bool backend_receive(void *opaque, const u8 *frame, u32 length)
{
    struct card_test *t = opaque;

    memcpy(t->got, frame, length);
    t->length = length;
    t->frames++;
    return true;
}

static u32 rd(struct card_test *t, u32 at) { return (u32)bus_memory_read(t->f.bus, BAR + at, 4); }
static void wr(struct card_test *t, u32 at, u32 v) { bus_memory_write(t->f.bus, BAR + at, v, 4); }

static void begin(struct card_test *t)
{
    struct wire pirq[4];
    struct error error;
    unsigned i;

    memset(t, 0, sizeof *t);
    fixture_init(&t->f);
    t->pci = pci_bus_new(t->f.bus, &t->f.log);
    for (i = 0; i < 4; i++) pirq[i] = fixture_wire(&t->f, 0);
    pci_bus_set_pirq(t->pci, pirq);
    t->port.backend.opaque = t;
    t->port.backend.receive = backend_receive;
    t->device = fixture_device(&t->f, &e1000_class);
    assert_true(device_set_property(t->device, "mac", "52:54:00:aa:bb:cc", &error));
    device_set_pointer(t->device, "netdev", &t->port);
    assert_true(device_init(t->device, &error));
    assert_true(pci_bus_add(t->pci, (struct pci_device *)t->device, 3 << 3, &error));
    device_reset(t->device);
    pci_config_write(t->pci, 0, 3 << 3, 0x10, BAR, 4);
    pci_config_write(t->pci, 0, 3 << 3, 0x14, IO, 4);
    pci_config_write(t->pci, 0, 3 << 3, 0x04, 7, 2);
}

static void end(struct card_test *t)
{
    device_free(t->device);
    pci_bus_free(t->pci);
    fixture_free(&t->f);
}

static void start_rings(struct card_test *t, u32 rctl)
{
    unsigned i;

    wr(t, 0x3800, TX_RING);
    wr(t, 0x3808, ENTRIES * 16);
    wr(t, 0x400, 0x1fa);
    wr(t, 0x2800, RX_RING);
    wr(t, 0x2808, ENTRIES * 16);
    for (i = 0; i < ENTRIES; i++) {
        memset(t->f.ram + RX_RING + 16 * i, 0, 16);
        st64(t->f.ram + RX_RING + 16 * i, RX_BUFFER + 0x1000 * i);
    }
    wr(t, 0x100, rctl | 2);
    wr(t, 0x2818, ENTRIES - 1);
}

static void put(struct card_test *t, u64 address, u32 command, u32 rest)
{
    u8 *d = t->f.ram + TX_RING + 16 * t->tail;

    st64(d, address);
    st32(d + 8, command);
    st32(d + 12, rest);
    t->tail = (t->tail + 1) % ENTRIES;
}

static void kick(struct card_test *t) { wr(t, 0x3818, t->tail); }

static void make_frame(u8 *frame, u32 length)
{
    static const u8 head[14] = {0x52, 0x54, 0, 0xaa, 0xbb, 0xcc, 0x52,
                                0x55, 10,   0, 2,    2,    0x12, 0x34};
    u32 i;

    memcpy(frame, head, sizeof head);
    for (i = sizeof head; i < length; i++) frame[i] = (u8)i;
}

static void make_tcp(u8 *frame, u32 length)
{
    make_frame(frame, length);
    frame[12] = 0x08;
    frame[13] = 0x00;
    memset(frame + 14, 0, 40);
    frame[14] = 0x45;
    frame[16] = (u8)((length - 14) >> 8);
    frame[17] = (u8)(length - 14);
    frame[22] = 64;
    frame[23] = 6;
    memcpy(frame + 26, "\x0a\x00\x02\x0f\x0a\x00\x02\x02", 8);
    frame[46] = 0x50;
    frame[47] = 0x18;
}

/* --- --- */

static void test_identity_and_eeprom(void **state)
{
    struct card_test t;
    u16 sum = 0, words[64];
    unsigned i;

    (void)state;
    begin(&t);
    assert_int_equal(pci_config_read(t.pci, 0, 3 << 3, 0, 4), 0x100e8086);
    for (i = 0; i < 64; i++) {
        wr(&t, 0x14, i << 8 | 1);
        assert_true(rd(&t, 0x14) & 0x10);
        words[i] = (u16)(rd(&t, 0x14) >> 16);
        sum = (u16)(sum + words[i]);
    }
    assert_int_equal(sum, 0xbaba);
    assert_int_equal(words[0], 0x5452);
    assert_int_equal(words[2], 0xccbb);
    assert_int_equal(rd(&t, 0x5400), 0xaa005452);
    assert_int_equal(rd(&t, 0x5404), 0x8000ccbb);
    out32(&t.f, IO, 8); /* the same through ports */
    assert_int_equal(in32(&t.f, IO + 4), rd(&t, 8));
    end(&t);
}

static void clock_out(struct card_test *t, u32 bits, unsigned count)
{
    while (count--) {
        u32 base = 0x42 | (bits >> count & 1) << 2;
        wr(t, 0x10, base);
        wr(t, 0x10, base | 1);
        wr(t, 0x10, base);
    }
}

static void test_microwire(void **state)
{
    struct card_test t;
    unsigned i, pass;
    u32 word = 0;

    (void)state;
    begin(&t);
    wr(&t, 0x10, 0x40);
    assert_true(rd(&t, 0x10) & 0x80); /* granted */
    for (pass = 0; pass < 2; pass++) {
        wr(&t, 0x10, 0x42);
        clock_out(&t, 6, 3);
        clock_out(&t, 1 + pass, 6);
        for (i = 0, word = 0; i < 16; i++) {
            wr(&t, 0x10, 0x43);
            word = word << 1 | (rd(&t, 0x10) >> 3 & 1);
            wr(&t, 0x10, 0x42);
        }
        wr(&t, 0x10, 0x40);
        assert_int_equal(word, pass ? 0xccbb : 0xaa00);
    }
    end(&t);
}

static u16 phy_read(struct card_test *t, unsigned number)
{
    wr(t, 0x20, 2u << 26 | 1u << 21 | number << 16);
    assert_true(rd(t, 0x20) & 1u << 28);
    return (u16)rd(t, 0x20);
}

static void test_phy(void **state)
{
    struct card_test t;

    (void)state;
    begin(&t);
    assert_int_equal(phy_read(&t, 2), 0x0141);
    assert_int_equal(phy_read(&t, 3), 0x0c20);
    assert_int_equal(phy_read(&t, 1) & 0x24, 0x24);
    wr(&t, 0xd0, 4);
    rd(&t, 0xc0);
    wr(&t, 0x20, 1u << 26 | 1u << 21 | 0x1340); /* negotiate again */
    assert_int_equal(phy_read(&t, 1) & 0x24, 0);
    assert_false(rd(&t, 8) & 2);
    rd(&t, 0xc0);
    clock_advance(t.f.clock, 1000000000);
    assert_int_equal(phy_read(&t, 1) & 0x24, 0x24);
    assert_true(rd(&t, 8) & 2);
    assert_true(t.f.line[0]);
    assert_int_equal(rd(&t, 0xc0), 4);
    assert_false(t.f.line[0]);
    t.port.card.link(t.port.card.opaque, false);
    assert_false(rd(&t, 8) & 2);
    end(&t);
}

static void test_transmit(void **state)
{
    struct card_test t;

    (void)state;
    begin(&t);
    start_rings(&t, 0);
    wr(&t, 0xd0, 3);
    make_frame(t.f.ram + TX_BUFFER, 200);
    put(&t, TX_BUFFER, 100, 0);                       /* in two parts */
    put(&t, TX_BUFFER + 100, 100 | 0x0b000000u, 0);   /* EOP IFCS RS */
    kick(&t);
    assert_int_equal(t.frames, 1);
    assert_int_equal(t.length, 200);
    assert_memory_equal(t.got, t.f.ram + TX_BUFFER, 200);
    assert_int_equal(t.f.ram[TX_RING + 12] & 1, 0);
    assert_int_equal(t.f.ram[TX_RING + 16 + 12] & 1, 1);
    assert_int_equal(rd(&t, 0x3810), 2);
    assert_true(t.f.line[0]);
    assert_int_equal(rd(&t, 0xc0) & 3, 3);
    assert_int_equal(rd(&t, 0x4080), 1);
    assert_int_equal(rd(&t, 0x4080), 0);
    put(&t, TX_BUFFER, 20 | 0x09000000u, 0); /* padded */
    kick(&t);
    assert_int_equal(t.length, 60);
    end(&t);
}

static void test_checksum_and_tag(void **state)
{
    struct card_test t;
    u8 *frame;
    u16 pseudo;

    (void)state;
    begin(&t);
    start_rings(&t, 0);
    wr(&t, 0, rd(&t, 0) | 1u << 30); /* VME */
    frame = t.f.ram + TX_BUFFER;
    make_tcp(frame, 101);
    pseudo = net_sum_fold(net_sum(frame + 26, 8) + 6 + 101 - 34);
    frame[50] = (u8)(pseudo >> 8);
    frame[51] = (u8)pseudo;
    /* context: IP 14..33 at 24, TCP from 34 at 50 */
    put(&t, 14 | 24 << 8 | 33u << 16 | (u64)(34 | 50 << 8) << 32, 0x23000000u, 0);
    put(&t, TX_BUFFER, 101 | 0x6b100000u, 0x00070300); /* data, VLE, tag 7, both sums */
    kick(&t);
    assert_int_equal(t.length, 105);
    assert_int_equal(t.got[12] << 8 | t.got[13], 0x8100);
    assert_int_equal(t.got[15], 7);
    assert_int_equal(net_check_frame(t.got, 105).ip, NET_GOOD);
    assert_int_equal(net_check_frame(t.got, 105).l4, NET_GOOD);
    end(&t);
}

static void test_segmentation(void **state)
{
    struct card_test t;

    (void)state;
    begin(&t);
    start_rings(&t, 0);
    make_tcp(t.f.ram + TX_BUFFER, 54 + 3000);
    put(&t, 14 | 24 << 8 | 33u << 16 | (u64)(34 | 50 << 8) << 32, 0x27000000u | 3000,
        54 << 8 | 1400u << 16);
    put(&t, TX_BUFFER, 54 | 0x26100000u, 0x300);
    put(&t, TX_BUFFER + 54, 3000 | 0x2f100000u, 0x300);
    kick(&t);
    assert_int_equal(t.frames, 3);
    assert_int_equal(t.length, 54 + 200);
    assert_int_equal(net_check_frame(t.got, t.length).ip, NET_GOOD);
    assert_int_equal(net_check_frame(t.got, t.length).l4, NET_GOOD);
    assert_memory_equal(t.got + 54, t.f.ram + TX_BUFFER + 54 + 2800, 200);
    end(&t);
}

static void test_receive(void **state)
{
    struct card_test t;
    u8 frame[1514];
    u8 *d;

    (void)state;
    begin(&t);
    make_frame(frame, sizeof frame);
    assert_true(net_send_to_card(&t.port, frame, 100)); /* off: lost */
    start_rings(&t, 1 << 26);
    wr(&t, 0xd0, 0x80);
    d = t.f.ram + RX_RING;
    assert_true(net_send_to_card(&t.port, frame, 100));
    assert_int_equal(ld16(d + 8), 100);
    assert_int_equal(d[12], 7); /* DD EOP IXSM */
    assert_memory_equal(t.f.ram + RX_BUFFER, frame, 100);
    assert_true(t.f.line[0]);
    assert_int_equal(rd(&t, 0xc0), 0x80);
    assert_false(t.f.line[0]);
    assert_int_equal(rd(&t, 0x2810), 1);
    frame[5] ^= 1; /* not ours */
    assert_true(net_send_to_card(&t.port, frame, 100));
    assert_int_equal(rd(&t, 0x2810), 1);
    wr(&t, 0x100, rd(&t, 0x100) | 8);
    assert_true(net_send_to_card(&t.port, frame, 40));
    assert_int_equal(ld16(d + 16 + 8), 60);
    wr(&t, 0x100, (1 << 15 | 3 << 16 | 2) & ~(1u << 26)); /* 256-byte buffers, with FCS */
    memset(frame, 0xff, 6);
    assert_true(net_send_to_card(&t.port, frame, 600));
    assert_int_equal(ld16(d + 32 + 8), 256);
    assert_int_equal(d[32 + 12], 1);
    assert_int_equal(ld16(d + 64 + 8), 604 - 512);
    assert_int_equal(d[64 + 12] & 3, 3);
    end(&t);
}

static void test_receive_full(void **state)
{
    struct card_test t;
    u8 frame[100];
    unsigned i;

    (void)state;
    begin(&t);
    start_rings(&t, 0);
    make_frame(frame, sizeof frame);
    for (i = 0; i < ENTRIES - 1; i++) assert_true(net_send_to_card(&t.port, frame, 100));
    assert_true(rd(&t, 0xc0) & 0x10); /* few left */
    assert_false(net_send_to_card(&t.port, frame, 100));
    wr(&t, 0x2818, 3);
    assert_true(net_send_to_card(&t.port, frame, 100));
    end(&t);
}

static void test_receive_offloads(void **state)
{
    struct card_test t;
    u8 frame[104];
    u8 *d;

    (void)state;
    begin(&t);
    start_rings(&t, 1 << 26);
    wr(&t, 0x5000, 0x300);
    wr(&t, 0, rd(&t, 0) | 1u << 30);
    d = t.f.ram + RX_RING;
    make_tcp(frame, 100);
    net_checksum_put(frame, 100, 14, 34, 24);
    assert_true(net_send_to_card(&t.port, frame, 100));
    assert_int_equal(d[12], 0x63);
    assert_int_equal(d[13], 0x20); /* TCP sum is wrong */
    make_frame(frame, 104);
    memcpy(frame + 12, "\x81\x00\x20\x05", 4);
    assert_true(net_send_to_card(&t.port, frame, 104));
    assert_int_equal(ld16(d + 16 + 8), 100);
    assert_int_equal(d[16 + 12], 0x0f); /* DD EOP IXSM VP */
    assert_int_equal(ld16(d + 16 + 14), 0x2005);
    wr(&t, 0x100, rd(&t, 0x100) | 1 << 18); /* VLAN filter, empty */
    assert_true(net_send_to_card(&t.port, frame, 104));
    assert_int_equal(rd(&t, 0x2810), 2);
    wr(&t, 0x5600, 1 << 5);
    assert_true(net_send_to_card(&t.port, frame, 104));
    assert_int_equal(rd(&t, 0x2810), 3);
    end(&t);
}

static void test_multicast(void **state)
{
    struct card_test t;
    u8 frame[60];
    u32 hash;

    (void)state;
    begin(&t);
    start_rings(&t, 0);
    make_frame(frame, 60);
    memcpy(frame, "\x01\x00\x5e\x00\x00\xfb", 6);
    assert_true(net_send_to_card(&t.port, frame, 60));
    assert_int_equal(rd(&t, 0x2810), 0);
    hash = (0xfb00 >> 4) & 0xfff;
    wr(&t, 0x5200 + 4 * (hash >> 5), 1u << (hash & 31));
    assert_true(net_send_to_card(&t.port, frame, 60));
    assert_int_equal(rd(&t, 0x2810), 1);
    end(&t);
}

/* ITR keeps the line low until its time has come. */
static void test_throttle(void **state)
{
    struct card_test t;

    (void)state;
    begin(&t);
    wr(&t, 0xc4, 1000); /* 256 us */
    wr(&t, 0xd0, 4);
    wr(&t, 0xc8, 4);
    assert_true(t.f.line[0]);
    rd(&t, 0xc0);
    wr(&t, 0xc8, 4);
    assert_false(t.f.line[0]);
    clock_advance(t.f.clock, 300000);
    assert_true(t.f.line[0]);
    wr(&t, 0xd8, 4);
    assert_false(t.f.line[0]);
    end(&t);
}

static void test_hostile(void **state)
{
    struct card_test t;
    u8 frame[1514];
    unsigned i;

    (void)state;
    begin(&t);
    start_rings(&t, 0);
    wr(&t, 0x3818, 0xffff); /* behind the ring */
    assert_int_equal(t.frames, 0);
    wr(&t, 0x3818, 0);
    for (i = 0; i < ENTRIES - 1; i++) put(&t, ~0ull - 5, 0xfffff | 0x26100000u, 0xffff);
    kick(&t);
    put(&t, 0, 0xffffffffu, 0xffffffffu);
    kick(&t);
    for (i = 0; i < ENTRIES; i++) memset(t.f.ram + RX_RING + 16 * i, 0, 16); /* null buffers */
    make_frame(frame, sizeof frame);
    wr(&t, 0x100, 2 | 3 << 16);
    assert_true(net_send_to_card(&t.port, frame, sizeof frame));
    wr(&t, 0x2808, 0xfff80);
    wr(&t, 0x2810, 0xffff);
    wr(&t, 0x2818, 0xfffe);
    net_send_to_card(&t.port, frame, sizeof frame);
    for (i = 0; i < 0x20000; i += 4) { /* every register takes every write */
        rd(&t, i);
        wr(&t, i, 0xffffffff);
    }
    clock_advance(t.f.clock, 1000000000);
    end(&t);
}

static void test_state(void **state)
{
    struct card_test t;
    struct state_buffer buffer = {0};
    struct error error;
    u8 frame[100];

    (void)state;
    begin(&t);
    start_rings(&t, 0);
    make_frame(frame, sizeof frame);
    assert_true(net_send_to_card(&t.port, frame, 100));
    state_save(&buffer, t.device, pci_device_fields);
    state_save(&buffer, t.device, e1000_class.fields);
    device_reset(t.device);
    assert_true(state_load(&buffer, t.device, pci_device_fields, &error));
    assert_true(state_load(&buffer, t.device, e1000_class.fields, &error));
    e1000_class.restored(t.device);
    assert_int_equal(rd(&t, 0x2810), 1);
    assert_true(net_send_to_card(&t.port, frame, 100));
    assert_int_equal(rd(&t, 0x2810), 2);
    state_buffer_free(&buffer);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity_and_eeprom),
        cmocka_unit_test(test_microwire),
        cmocka_unit_test(test_phy),
        cmocka_unit_test(test_transmit),
        cmocka_unit_test(test_checksum_and_tag),
        cmocka_unit_test(test_segmentation),
        cmocka_unit_test(test_receive),
        cmocka_unit_test(test_receive_full),
        cmocka_unit_test(test_receive_offloads),
        cmocka_unit_test(test_multicast),
        cmocka_unit_test(test_throttle),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
