/* virtio-net-pci against a port whose backend is the test. */
#include "tests/dev/virtio_driver.h"

#include "net/net.h"
#include "net/offload.h"

#define TX_BUFFER (MIB(8))
#define RX_BUFFER (MIB(9))

extern const struct device_class virtio_net_class;

struct net_test {
    struct driver d;
    struct net_port port;
    u8 got[70000];
    u32 length, frames;
    bool full;
};

static bool backend_receive(void *opaque, const u8 *frame, u32 length)
{
    struct net_test *t = opaque;

    if (t->full) return false;
    memcpy(t->got, frame, length);
    t->length = length;
    t->frames++;
    return true;
}

static void begin(struct net_test *t, bool modern, u64 features)
{
    unsigned q;

    memset(t, 0, sizeof *t);
    t->port.backend.opaque = t;
    t->port.backend.receive = backend_receive;
    driver_begin(&t->d, &virtio_net_class);
    device_set_pointer(t->d.device, "netdev", &t->port);
    driver_plug(&t->d);
    driver_negotiate(&t->d, modern, features | (modern ? 1ull << 32 : 0));
    for (q = 0; q < 3; q++) driver_queue(&t->d, q);
    driver_go(&t->d);
}

static void make_frame(u8 *frame, u32 length)
{
    static const u8 head[14] = {0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x52,
                                0x55, 10,   0, 2,    2,    0x12, 0x34};
    u32 i;

    memcpy(frame, head, sizeof head);
    for (i = sizeof head; i < length; i++) frame[i] = (u8)i;
}

static void send(struct net_test *t, u32 header, u32 length)
{
    const struct piece pieces[] = {{TX_BUFFER, header, false}, {TX_BUFFER + header, length, false}};

    driver_add(&t->d, 1, pieces, 2);
    driver_kick(&t->d, 1);
}

static void offer_buffer(struct net_test *t, u64 at, u32 length)
{
    const struct piece piece = {at, length, true};

    driver_add(&t->d, 0, &piece, 1);
    driver_kick(&t->d, 0);
}

static void both_ways(bool modern, u64 features, u32 header)
{
    struct net_test t;
    u8 frame[200];

    begin(&t, modern, features);
    memset(t.d.f.ram + TX_BUFFER, 0, header);
    make_frame(t.d.f.ram + TX_BUFFER + header, 100);
    send(&t, header, 100);
    assert_int_equal(t.length, 100);
    assert_memory_equal(t.got, t.d.f.ram + TX_BUFFER + header, 100);
    assert_int_equal(driver_used(&t.d, 1, NULL), 0);

    make_frame(frame, sizeof frame);
    assert_false(net_send_to_card(&t.port, frame, sizeof frame)); /* no buffers yet */
    offer_buffer(&t, RX_BUFFER, 1526);
    assert_true(net_send_to_card(&t.port, frame, sizeof frame));
    assert_int_equal(driver_used(&t.d, 0, NULL), header + 200);
    assert_memory_equal(t.d.f.ram + RX_BUFFER + header, frame, 200);
    assert_true(t.d.f.line[0]);
    driver_end(&t.d);
}

static void test_legacy(void **state)
{
    (void)state;
    both_ways(false, 1 << 5, 10);
}

static void test_legacy_merged(void **state)
{
    (void)state;
    both_ways(false, 1 << 5 | 1 << 15, 12);
}

static void test_modern(void **state)
{
    (void)state;
    both_ways(true, 1 << 5, 12);
}

static void test_merged_buffers(void **state)
{
    struct net_test t;
    u8 frame[1000];
    unsigned i;

    (void)state;
    begin(&t, true, 1 << 15);
    make_frame(frame, sizeof frame);
    offer_buffer(&t, RX_BUFFER, 400);
    offer_buffer(&t, RX_BUFFER + 0x1000, 400);
    assert_false(net_send_to_card(&t.port, frame, sizeof frame)); /* 212 bytes short */
    assert_int_equal(driver_used(&t.d, 0, NULL), -1);
    offer_buffer(&t, RX_BUFFER + 0x2000, 400);
    assert_true(net_send_to_card(&t.port, frame, sizeof frame));
    for (i = 0; i < 3; i++) assert_int_equal(driver_used(&t.d, 0, NULL), i < 2 ? 400 : 212);
    assert_int_equal(ld16(t.d.f.ram + RX_BUFFER + 10), 3);
    assert_memory_equal(t.d.f.ram + RX_BUFFER + 12, frame, 388);
    assert_memory_equal(t.d.f.ram + RX_BUFFER + 0x1000, frame + 388, 400);
    assert_memory_equal(t.d.f.ram + RX_BUFFER + 0x2000, frame + 788, 212);
    driver_end(&t.d);
}

/* An IPv4 TCP frame of LENGTH bytes with everything but checksums and lengths. */
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
    frame[41] = 1;
    frame[46] = 0x50;
    frame[47] = 0x19; /* FIN, PSH, ACK */
}

static void test_checksum(void **state)
{
    struct net_test t;
    u8 *header, *frame;
    u16 pseudo;

    (void)state;
    begin(&t, true, 1);
    header = t.d.f.ram + TX_BUFFER;
    frame = header + 12;
    memset(header, 0, 12);
    make_tcp(frame, 101);
    net_checksum_put(frame, 101, 14, 34, 24);
    pseudo = net_sum_fold(net_sum(frame + 26, 8) + 6 + 101 - 34);
    frame[50] = (u8)(pseudo >> 8);
    frame[51] = (u8)pseudo;
    header[0] = 1;
    st16(header + 6, 34);
    st16(header + 8, 16);
    send(&t, 12, 101);
    assert_int_equal(t.length, 101);
    assert_int_equal(net_check_frame(t.got, 101).ip, NET_GOOD);
    assert_int_equal(net_check_frame(t.got, 101).l4, NET_GOOD);
    st16(header + 6, 0xfff0); /* outside: sent as it is, nothing breaks */
    send(&t, 12, 101);
    assert_int_equal(t.frames, 2);
    driver_end(&t.d);
}

static void test_segmentation(void **state)
{
    struct net_test t;
    u8 *header, *frame;

    (void)state;
    begin(&t, true, 1 | 1 << 11);
    header = t.d.f.ram + TX_BUFFER;
    frame = header + 12;
    memset(header, 0, 12);
    make_tcp(frame, 54 + 2500);
    header[0] = 1;
    header[1] = 1;
    st16(header + 2, 54);
    st16(header + 4, 1000);
    st16(header + 6, 34);
    st16(header + 8, 16);
    send(&t, 12, 54 + 2500);
    assert_int_equal(t.frames, 3);
    assert_int_equal(t.length, 54 + 500);
    assert_int_equal(net_check_frame(t.got, t.length).ip, NET_GOOD);
    assert_int_equal(net_check_frame(t.got, t.length).l4, NET_GOOD);
    assert_int_equal(t.got[40] << 8 | t.got[41], 1 + 2000); /* sequence number */
    assert_int_equal(t.got[47], 0x19);
    assert_memory_equal(t.got + 54, frame + 54 + 2000, 500);
    st16(header + 4, 0); /* no segment size */
    send(&t, 12, 54 + 2500);
    assert_int_equal(t.frames, 3);
    driver_end(&t.d);
}

/* A backend without room stalls the queue; nothing is lost. */
static void test_backpressure(void **state)
{
    struct net_test t;

    (void)state;
    begin(&t, true, 0);
    memset(t.d.f.ram + TX_BUFFER, 0, 12);
    make_frame(t.d.f.ram + TX_BUFFER + 12, 100);
    t.full = true;
    send(&t, 12, 100);
    assert_int_equal(driver_used(&t.d, 1, NULL), -1);
    t.full = false;
    net_backend_ready(&t.port);
    assert_int_equal(t.frames, 1);
    assert_int_equal(driver_used(&t.d, 1, NULL), 0);
    driver_end(&t.d);
}

static u8 command(struct net_test *t, const u8 *bytes, u32 length)
{
    u64 at = MIB(10);
    const struct piece pieces[] = {{at, length, false}, {at + 0x1000, 1, true}};

    memcpy(t->d.f.ram + at, bytes, length);
    t->d.f.ram[at + 0x1000] = 0xee;
    driver_add(&t->d, 2, pieces, 2);
    driver_kick(&t->d, 2);
    assert_int_equal(driver_used(&t->d, 2, NULL), 1);
    return t->d.f.ram[at + 0x1000];
}

static void test_filters(void **state)
{
    static const u8 not_promiscuous[3] = {0, 0, 0};
    static const u8 table[2 + 4 + 4 + 6] = {1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1};
    static const u8 too_long[6] = {1, 0, 0xff, 0xff, 0xff, 0xff};
    struct net_test t;
    u8 frame[100];
    unsigned i;

    (void)state;
    begin(&t, true, 1 << 17 | 1 << 18);
    for (i = 0; i < 4; i++) offer_buffer(&t, RX_BUFFER + 0x1000 * i, 1526);
    make_frame(frame, sizeof frame);
    frame[5] = 0x99;
    assert_true(net_send_to_card(&t.port, frame, sizeof frame));
    assert_int_equal(driver_used(&t.d, 0, NULL), 112); /* promiscuous until told */
    assert_int_equal(command(&t, not_promiscuous, 3), 0);
    assert_true(net_send_to_card(&t.port, frame, sizeof frame));
    assert_int_equal(driver_used(&t.d, 0, NULL), -1);
    assert_int_equal(command(&t, table, sizeof table), 0);
    memcpy(frame, table + 10, 6);
    assert_true(net_send_to_card(&t.port, frame, sizeof frame));
    assert_int_equal(driver_used(&t.d, 0, NULL), 112);
    assert_int_equal(command(&t, too_long, sizeof too_long), 1);
    driver_end(&t.d);
}

static void test_link(void **state)
{
    struct net_test t;

    (void)state;
    begin(&t, true, 1 << 16);
    assert_int_equal(modern_in(&t.d, 0x2006, 2), 1);
    t.port.card.link(t.port.card.opaque, false);
    assert_int_equal(modern_in(&t.d, 0x2006, 2), 0);
    assert_int_equal(modern_in(&t.d, 0x1000, 1), 2);
    driver_end(&t.d);
}

static void test_bad_frames(void **state)
{
    struct net_test t;
    const struct piece shortest = {TX_BUFFER, 5, false};
    const struct piece huge[] = {{TX_BUFFER, 12, false}, {0, 0x7fffffff, false}};

    (void)state;
    begin(&t, true, 0);
    driver_add(&t.d, 1, huge, 2);
    driver_kick(&t.d, 1);
    assert_int_equal(driver_used(&t.d, 1, NULL), 0);
    assert_int_equal(t.frames, 0);
    driver_add(&t.d, 1, &shortest, 1);
    driver_kick(&t.d, 1);
    assert_true(driver_status(&t.d) & 0x40);
    driver_end(&t.d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_legacy),
        cmocka_unit_test(test_legacy_merged),
        cmocka_unit_test(test_modern),
        cmocka_unit_test(test_merged_buffers),
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_segmentation),
        cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_bad_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
