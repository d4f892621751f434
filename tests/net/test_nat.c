/* The user network as a guest and the host's programs see it, and the options that make it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine/clock_host.h"
#include "machine/error.h"
#include "machine/log.h"
#include "net/options.h"
#include "net/switch.h"

#define QUEUE 64

struct guest {
    struct net_set set;
    struct log log;
    struct net_port *port;
    u8 frames[QUEUE][2048];
    u32 lengths[QUEUE];
    unsigned first, last;
    bool full;
    struct pollfd fds[64];
    unsigned fd_count;
    struct nat_poll poll;
};

static const u8 guest_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
static const u8 gateway_mac[6] = {0x52, 0x55, 10, 0, 2, 2};

static bool guest_receive(void *opaque, const u8 *frame, u32 length)
{
    struct guest *g = opaque;

    if (g->full) return false;
    assert_true(length <= 2048 && g->last - g->first < QUEUE);
    memcpy(g->frames[g->last % QUEUE], frame, length);
    g->lengths[g->last++ % QUEUE] = length;
    return true;
}

static int poll_add(void *opaque, int fd, int events)
{
    struct guest *g = opaque;

    assert_true(g->fd_count < 64);
    g->fds[g->fd_count] = (struct pollfd){.fd = fd, .events = (short)events};
    return (int)g->fd_count++;
}

static int poll_revents(void *opaque, int index)
{
    return ((struct guest *)opaque)->fds[index].revents;
}

static void begin_bare(struct guest *g)
{
    memset(g, 0, sizeof *g);
    g->set.clock = clock_new_manual();
    g->set.log = &g->log;
    g->poll = (struct nat_poll){g, poll_add, poll_revents, NULL};
}

static void begin(struct guest *g, const char *options)
{
    struct error error;

    begin_bare(g);
    g->port = net_set_netdev(&g->set, options, &error);
    if (!g->port) fail_msg("%s", error.text);
    g->port->card = (struct net_end){g, guest_receive, NULL, NULL};
    net_set_poll(&g->set, &g->poll);
}

static void end(struct guest *g)
{
    struct clock *clock = g->set.clock;

    net_set_free(&g->set);
    clock_free(clock);
}

/* One turn of what the I/O thread does. */
static void turn(struct guest *g)
{
    u32 timeout = 10;

    g->fd_count = 0;
    net_set_poll_fill(&g->set, &timeout);
    if (timeout > 10) timeout = 10;
    net_set_poll_process(&g->set, poll(g->fds, g->fd_count, (int)timeout) < 0);
    clock_advance(g->set.clock, 10000000);
}

static u8 *next_frame(struct guest *g, u32 *length)
{
    if (g->first == g->last) return NULL;
    *length = g->lengths[g->first % QUEUE];
    return g->frames[g->first++ % QUEUE];
}

static void put16(u8 *p, u32 v)
{
    p[0] = (u8)(v >> 8);
    p[1] = (u8)v;
}

static u32 get32(const u8 *p)
{
    return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
}

static u16 sum(const u8 *bytes, u32 length, u32 start)
{
    u32 i;

    for (i = 0; i < length; i++) start += i & 1 ? bytes[i] : (u32)bytes[i] << 8;
    while (start >> 16) start = (start & 0xffff) + (start >> 16);
    return (u16)~start;
}

static void ethernet(u8 *frame, const u8 *to, u16 type)
{
    memcpy(frame, to, 6);
    memcpy(frame + 6, guest_mac, 6);
    put16(frame + 12, type);
}

static void ip(u8 *frame, u8 protocol, const char *from, const char *to, u32 payload)
{
    u8 *p = frame + 14;

    memset(p, 0, 20);
    p[0] = 0x45;
    put16(p + 2, 20 + payload);
    p[8] = 64;
    p[9] = protocol;
    inet_pton(AF_INET, from, p + 12);
    inet_pton(AF_INET, to, p + 16);
    put16(p + 10, sum(p, 20, 0));
}

/* --- ARP and DHCP --- */

static void send_arp(struct guest *g, u8 operation, const u8 *to, const u8 *target)
{
    u8 frame[60] = {0};

    ethernet(frame, operation == 1 ? (const u8 *)"\xff\xff\xff\xff\xff\xff" : to, 0x0806);
    memcpy(frame + 14, "\0\1\x08\0\6\4\0", 7);
    frame[21] = operation;
    memcpy(frame + 22, guest_mac, 6);
    memcpy(frame + 28, "\x0a\0\2\x0f", 4);
    memcpy(frame + 32, to, 6);
    memcpy(frame + 38, target, 4);
    net_send_from_card(g->port, frame, sizeof frame);
}

static void test_arp(void **state)
{
    struct guest g;
    u32 length;
    u8 *frame;

    (void)state;
    begin(&g, "user,id=n0");
    send_arp(&g, 1, (const u8 *)"\0\0\0\0\0\0", (const u8 *)"\x0a\0\2\2");
    frame = next_frame(&g, &length);
    assert_non_null(frame);
    assert_memory_equal(frame, guest_mac, 6);
    assert_int_equal(frame[21], 2);
    assert_memory_equal(frame + 22, gateway_mac, 6);
    assert_memory_equal(frame + 28, "\x0a\0\2\2", 4);
    end(&g);
}

static u32 discover(u8 *frame)
{
    u8 *udp = frame + 34, *bootp = udp + 8;

    memset(frame, 0, 600);
    ethernet(frame, (const u8 *)"\xff\xff\xff\xff\xff\xff", 0x0800);
    ip(frame, 17, "0.0.0.0", "255.255.255.255", 8 + 300);
    put16(udp, 68);
    put16(udp + 2, 67);
    put16(udp + 4, 8 + 300);
    memcpy(bootp, "\1\1\6\0\x12\x34\x56\x78", 8);
    memcpy(bootp + 28, guest_mac, 6);
    memcpy(bootp + 236, "\x63\x82\x53\x63\x35\1\1\xff", 8);
    return 34 + 8 + 300;
}

static const u8 *dhcp_option(const u8 *bootp, u8 code)
{
    const u8 *p = bootp + 240;

    while (*p != 0xff && p < bootp + 500) {
        if (*p == code) return p + 2;
        p += *p ? p[1] + 2 : 1;
    }
    return NULL;
}

static void offer(const char *options, const char *address, const char *router, const char *dns)
{
    struct guest g;
    u8 request[600], expected[4];
    const u8 *frame, *bootp;
    u32 length;

    begin(&g, options);
    net_send_from_card(g.port, request, discover(request));
    frame = next_frame(&g, &length);
    assert_non_null(frame);
    bootp = frame + 42;
    assert_int_equal(bootp[0], 2);
    assert_int_equal(dhcp_option(bootp, 53)[0], 2);
    inet_pton(AF_INET, address, expected);
    assert_memory_equal(bootp + 16, expected, 4);
    inet_pton(AF_INET, router, expected);
    assert_memory_equal(dhcp_option(bootp, 3), expected, 4);
    inet_pton(AF_INET, dns, expected);
    assert_memory_equal(dhcp_option(bootp, 6), expected, 4);
    end(&g);
}

static void test_dhcp(void **state)
{
    (void)state;
    offer("user,id=n0", "10.0.2.15", "10.0.2.2", "10.0.2.3");
    offer("user,id=n0,net=192.168.76.0/24,dhcpstart=192.168.76.9", "192.168.76.9", "192.168.76.2",
          "192.168.76.3");
    offer("user,id=n0,net=10.9.0.0/255.255.0.0,host=10.9.1.1,dns=10.9.1.2", "10.9.0.15", "10.9.1.1",
          "10.9.1.2");
}

/* --- a port forward, with a TCP of two states --- */

static void send_tcp(struct guest *g, const u8 *in, u8 flags, const u8 *data, u32 length)
{
    static const char *const guest_address = "10.0.2.15", *const host_address = "10.0.2.2";
    const u8 *from = in + 34;
    u32 in_length = ((u32)in[16] << 8 | in[17]) - 20 - (from[12] >> 4) * 4u;
    u32 acknowledge = get32(from + 4) + in_length +
                      ((from[13] & 3) != 0), seq;
    u8 frame[1514] = {0}, *tcp = frame + 34, pseudo[12];

    memcpy(&seq, from + 8, 4); /* what they wait for */
    ethernet(frame, in + 6, 0x0800);
    ip(frame, 6, guest_address, host_address, 20 + length);
    memcpy(tcp, from + 2, 2);
    memcpy(tcp + 2, from, 2);
    if (!(flags & 2)) memcpy(tcp + 4, &seq, 4);
    acknowledge = htonl(acknowledge);
    memcpy(tcp + 8, &acknowledge, 4);
    tcp[12] = 0x50;
    tcp[13] = flags;
    put16(tcp + 14, 8192);
    memcpy(tcp + 20, data, length);
    memcpy(pseudo, frame + 26, 8);
    put16(pseudo + 8, 6);
    put16(pseudo + 10, 20 + length);
    put16(tcp + 16, sum(tcp, 20 + length, (u16)~sum(pseudo, 12, 0)));
    net_send_from_card(g->port, frame, 34 + 20 + length);
}

/* Answers ARP for 10.0.2.15, opens what is opened, sends back what comes. */
static void serve(struct guest *g)
{
    u32 length;
    u8 *f;

    while ((f = next_frame(g, &length))) {
        u32 header;
        if (f[12] == 8 && f[13] == 6 && f[21] == 1 && !memcmp(f + 38, "\x0a\0\2\x0f", 4)) {
            u8 to[6], address[4];
            memcpy(to, f + 22, 6);
            memcpy(address, f + 28, 4);
            send_arp(g, 2, to, address);
        }
        if (f[12] != 8 || f[13] != 0 || f[23] != 6) continue;
        header = (f[46] >> 4) * 4u;
        length = ((u32)f[16] << 8 | f[17]) - 20 - header;
        if (f[47] & 2) send_tcp(g, f, 0x12, f, 0);
        else if (length) send_tcp(g, f, 0x18, f + 34 + header, length);
        else if (f[47] & 1) send_tcp(g, f, 0x11, f, 0);
    }
}

/* Listens on a port of the kernel's choice. */
static int free_port(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t size = sizeof *address;

    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    assert_int_equal(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)address, &size);
    return fd;
}

static void test_forward(void **state)
{
    struct guest g;
    struct sockaddr_in address;
    char options[100], answer[16] = "";
    int fd = free_port(&address), turns;

    (void)state;
    close(fd);
    snprintf(options, sizeof options, "user,id=n0,hostfwd=tcp:127.0.0.1:%u-:7",
             ntohs(address.sin_port));
    begin(&g, options);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, "hello", 5, 0), 5);
    for (turns = 0; turns < 1000 && answer[0] == 0; turns++) {
        turn(&g);
        serve(&g);
        if (recv(fd, answer, sizeof answer, MSG_DONTWAIT) < 0) answer[0] = 0;
    }
    assert_string_equal(answer, "hello");
    close(fd);
    end(&g);
}

static void test_forward_taken(void **state)
{
    struct guest g;
    struct sockaddr_in address;
    struct error error;
    char options[100], expected[100];
    int fd = free_port(&address);

    (void)state;
    begin_bare(&g);
    snprintf(options, sizeof options, "user,id=n0,hostfwd=tcp:127.0.0.1:%u-:22",
             ntohs(address.sin_port));
    assert_null(net_set_netdev(&g.set, options, &error));
    snprintf(expected, sizeof expected, "hostfwd port %u on 127.0.0.1: Address already in use",
             ntohs(address.sin_port));
    assert_non_null(strstr(error.text, expected));
    close(fd);
    end(&g);
}

/* A card without room: frames wait, in order, until it has. */
static void test_waiting(void **state)
{
    struct guest g;
    u32 length;

    (void)state;
    begin(&g, "user,id=n0");
    g.full = true;
    send_arp(&g, 1, (const u8 *)"\0\0\0\0\0\0", (const u8 *)"\x0a\0\2\2");
    send_arp(&g, 1, (const u8 *)"\0\0\0\0\0\0", (const u8 *)"\x0a\0\2\3");
    assert_null(next_frame(&g, &length));
    g.full = false;
    net_card_ready(g.port);
    assert_int_equal(next_frame(&g, &length)[31], 2);
    assert_int_equal(next_frame(&g, &length)[31], 3);
    end(&g);
}

/* --- options --- */

static void refuse(const char *text, const char *why)
{
    struct guest g;
    struct error error;

    begin_bare(&g);
    assert_null(net_set_netdev(&g.set, text, &error));
    if (!strstr(error.text, why)) fail_msg("'%s' is refused with '%s'", text, error.text);
    end(&g);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("user", "id= is missing");
    refuse("", "not a network backend");
    refuse("tap,id=n0", "'tap' is not supported");
    refuse("nosuch,id=n0", "'nosuch' is not a network backend");
    refuse("user,id=n0,colour=red", "unknown option 'colour'");
    refuse("user,id=n0,net=10.0.2", "not an IPv4 address");
    refuse("user,id=n0,net=10.0.2.0/99", "neither a mask");
    refuse("user,id=n0,net=10.0.2.0/32", "host bits");
    refuse("user,id=n0,host=1.2.3.4", "not in the guest's network");
    refuse("user,id=n0,hostfwd=tcp::22", "not of the form");
    refuse("user,id=n0,hostfwd=tcp::99999-:22", "not of the form");
    refuse("user,id=n0,hostfwd=icmp::1-:22", "not of the form");
    refuse("user,id=n0,hostfwd", "needs a value");
    refuse("user,id=n0,restrict=maybe", "neither on nor off");
    refuse("user,id=n0,guestfwd=tcp:10.0.2.100:1-udp:1", "only cmd: and unix:");
    refuse("hubport,id=h0", "hubid= is missing");
    refuse("hubport,id=h0,hubid=x", "not a number");
    refuse("hubport,id=h0,hubid=0,netdev=n9", "no netdev 'n9'");
}

static void test_nic(void **state)
{
    struct guest g;
    struct net_nic nic;
    struct error error;

    (void)state;
    begin_bare(&g);
    assert_true(net_set_nic(&g.set, "none", &nic, &error));
    assert_true(nic.none);
    assert_true(net_set_nic(&g.set, "user,model=virtio-net-pci,mac=52:54:00:00:00:AA,restrict=on",
                            &nic, &error));
    assert_false(nic.none);
    assert_string_equal(nic.model, "virtio-net-pci");
    assert_int_equal(nic.mac[5], 0xaa);
    assert_non_null(nic.port);
    assert_true(net_set_nic(&g.set, "user", &nic, &error));
    assert_string_equal(nic.model, "");
    assert_int_equal(nic.mac[5], 0x57);
    assert_false(net_set_nic(&g.set, "user,mac=01:00:00:00:00:00", &nic, &error));
    assert_false(net_set_nic(&g.set, "user,mac=12:34", &nic, &error));
    assert_int_equal(g.set.port_count, 4);
    end(&g);
}

static void test_commas(void **state)
{
    struct guest g;

    (void)state;
    begin(&g, "user,id=a,,b,hostname=x,,y");
    assert_non_null(net_set_find(&g.set, "a,b"));
    end(&g);
}

/* Two cards and a NAT on one hub. */
static void test_hub(void **state)
{
    struct guest g;
    struct net_port *second;
    struct error error;
    u32 length;

    (void)state;
    begin(&g, "hubport,id=h0,hubid=3");
    second = net_set_netdev(&g.set, "hubport,id=h1,hubid=3", &error);
    assert_non_null(second);
    assert_non_null(net_set_netdev(&g.set, "user,id=n0", &error));
    assert_non_null(net_set_netdev(&g.set, "hubport,id=h2,hubid=3,netdev=n0", &error));
    assert_null(net_set_netdev(&g.set, "hubport,id=h3,hubid=3,netdev=n0", &error));
    send_arp(&g, 1, (const u8 *)"\0\0\0\0\0\0", (const u8 *)"\x0a\0\2\2");
    assert_int_equal(next_frame(&g, &length)[21], 2);
    end(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arp),
        cmocka_unit_test(test_dhcp),
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_forward_taken),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_nic),
        cmocka_unit_test(test_commas),
        cmocka_unit_test(test_hub),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
