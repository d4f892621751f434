/*
 * User-mode NAT on libslirp. Options are QEMU's of `-netdev user`.
 *
 * Not modelled: smb=, guestfwd to a character device, saving connections in a snapshot (they are
 * reset by their peers after a load).
 */
#include "net/nat.h"

#include <errno.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine/clock.h"
#include "machine/error.h"
#include "machine/log.h"

#define NAT_QUEUE 512 /* frames kept for a card without room; more are dropped, TCP sends again */

struct nat_frame {
    struct nat_frame *next;
    u32 length;
    u8 bytes[];
};

struct nat {
    struct net_port port;
    struct clock *clock;
    struct log *log;
    Slirp *slirp;
    const struct nat_poll *poll;
    struct nat_frame *first, **last;
    unsigned queued;
    bool flushing;
    u32 network, mask, guest; /* host byte order; GUEST is the default of a forward */
};

static struct nat *nat_of(const struct net_port *port)
{
    return container_of(port, struct nat, port);
}

/* --- frames to the guest --- */

static void nat_enqueue(struct nat *nat, const u8 *frame, u32 length)
{
    struct nat_frame *entry;

    if (nat->queued >= NAT_QUEUE || !(entry = malloc(sizeof *entry + length))) {
        log_to(nat->log, LOG_NET, "%s: card has no room, frame of %u bytes dropped", nat->port.id,
               length);
        return;
    }
    entry->next = NULL;
    entry->length = length;
    memcpy(entry->bytes, frame, length);
    *nat->last = entry;
    nat->last = &entry->next;
    nat->queued++;
}

static void nat_drop_first(struct nat *nat)
{
    struct nat_frame *entry = nat->first;

    nat->first = entry->next;
    if (!nat->first) nat->last = &nat->first;
    nat->queued--;
    free(entry);
}

static void nat_card_ready(void *opaque)
{
    struct nat *nat = opaque;

    if (nat->flushing) return;
    nat->flushing = true;
    while (nat->first && net_send_to_card(&nat->port, nat->first->bytes, nat->first->length))
        nat_drop_first(nat);
    nat->flushing = false;
}

static ssize_t nat_send_packet(const void *frame, size_t length, void *opaque)
{
    struct nat *nat = opaque;

    if (nat->first || !net_send_to_card(&nat->port, frame, (u32)length))
        nat_enqueue(nat, frame, (u32)length);
    return (ssize_t)length;
}

static void nat_wake(void *opaque)
{
    struct nat *nat = opaque;
    if (nat->poll && nat->poll->wake) nat->poll->wake(nat->poll->opaque);
}

static bool nat_receive(void *opaque, const u8 *frame, u32 length)
{
    struct nat *nat = opaque;

    if (length < 14) return true;
    slirp_input(nat->slirp, frame, (int)length);
    nat_wake(nat); /* a socket may have appeared */
    return true;
}

/* --- what libslirp asks of its host --- */

static void nat_guest_error(const char *message, void *opaque)
{
    struct nat *nat = opaque;
    log_to(nat->log, LOG_NET, "%s: %s", nat->port.id, message);
}

static int64_t nat_clock(void *opaque)
{
    struct nat *nat = opaque;
    return (int64_t)clock_now(nat->clock);
}

static void *nat_timer_new(SlirpTimerCb callback, void *callback_opaque, void *opaque)
{
    struct nat *nat = opaque;
    struct timer *timer = calloc(1, sizeof *timer);

    if (timer) timer_init(timer, nat->clock, callback, callback_opaque);
    return timer;
}

static void nat_timer_free(void *timer, void *opaque)
{
    (void)opaque;
    if (!timer) return;
    timer_cancel(timer);
    free(timer);
}

static void nat_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    (void)opaque;
    if (timer) timer_set(timer, expire_ms > 0 ? (u64)expire_ms * 1000000u : 0);
}

static void nat_poll_fd(int fd, void *opaque)
{
    (void)fd;
    nat_wake(opaque);
}

static const SlirpCb nat_callbacks = {
    .send_packet = nat_send_packet,
    .guest_error = nat_guest_error,
    .clock_get_ns = nat_clock,
    .timer_new = nat_timer_new,
    .timer_free = nat_timer_free,
    .timer_mod = nat_timer_mod,
    .register_poll_fd = nat_poll_fd,
    .unregister_poll_fd = nat_poll_fd,
    .notify = nat_wake,
};

/* --- waiting --- */

static int poll_add(int fd, int events, void *opaque)
{
    const struct nat_poll *poll = opaque;
    int wanted = 0;

    if (events & SLIRP_POLL_IN) wanted |= POLLIN;
    if (events & SLIRP_POLL_OUT) wanted |= POLLOUT;
    if (events & SLIRP_POLL_PRI) wanted |= POLLPRI;
    if (events & SLIRP_POLL_ERR) wanted |= POLLERR;
    if (events & SLIRP_POLL_HUP) wanted |= POLLHUP;
    return poll->add(poll->opaque, fd, wanted);
}

static int poll_revents(int index, void *opaque)
{
    const struct nat_poll *poll = opaque;
    int events = poll->revents(poll->opaque, index), result = 0;

    if (events & POLLIN) result |= SLIRP_POLL_IN;
    if (events & POLLOUT) result |= SLIRP_POLL_OUT;
    if (events & POLLPRI) result |= SLIRP_POLL_PRI;
    if (events & POLLERR) result |= SLIRP_POLL_ERR;
    if (events & POLLHUP) result |= SLIRP_POLL_HUP;
    return result;
}

bool net_port_is_nat(const struct net_port *port)
{
    return port && port->backend.receive == nat_receive;
}

void nat_set_poll(struct net_port *port, const struct nat_poll *poll)
{
    nat_of(port)->poll = poll;
}

void nat_poll_fill(struct net_port *port, u32 *timeout_ms)
{
    struct nat *nat = nat_of(port);
    if (nat->poll) slirp_pollfds_fill(nat->slirp, timeout_ms, poll_add, (void *)nat->poll);
}

void nat_poll_process(struct net_port *port, bool poll_failed)
{
    struct nat *nat = nat_of(port);
    if (nat->poll) slirp_pollfds_poll(nat->slirp, poll_failed, poll_revents, (void *)nat->poll);
}

/* --- options --- */

static bool parse_address(const char *what, const char *text, u32 *address, struct error *error)
{
    struct in_addr in;

    if (inet_pton(AF_INET, text, &in) != 1)
        return error_set(error, "%s=%s: not an IPv4 address", what, text);
    *address = ntohl(in.s_addr);
    return true;
}

static bool parse_network(struct nat *nat, const char *text, struct error *error)
{
    const char *slash = strchr(text, '/');
    char buffer[32];
    char *end;
    unsigned long bits;

    if (!slash) slash = text + strlen(text);
    if ((size_t)(slash - text) >= sizeof buffer) return error_set(error, "net=%s: too long", text);
    memcpy(buffer, text, (size_t)(slash - text));
    buffer[slash - text] = 0;
    if (!parse_address("net", buffer, &nat->network, error)) return false;
    if (!*slash) return true;
    if (strchr(slash + 1, '.')) {
        if (!parse_address("net", slash + 1, &nat->mask, error)) return false;
    } else {
        bits = strtoul(slash + 1, &end, 10);
        if (end == slash + 1 || *end || bits > 32)
            return error_set(error, "net=%s: the part after / is neither a mask nor 1 to 29", text);
        nat->mask = bits ? ~0u << (32 - bits) : 0;
    }
    if ((~nat->mask & (~nat->mask + 1)) || ~nat->mask < 7 || !nat->mask)
        return error_set(error, "net=%s: the mask must leave 3 to 31 host bits", text);
    return true;
}

static bool parse_member(struct nat *nat, const char *what, const char *text, u32 *address,
                         struct error *error)
{
    if (!text) return true;
    if (!parse_address(what, text, address, error)) return false;
    if ((*address & nat->mask) != nat->network)
        return error_set(error, "%s=%s: not in the guest's network", what, text);
    return true;
}

/* One ADDRESS:PORT up to STOP (0: the end), advancing *TEXT behind it. */
static bool parse_endpoint(const char **text, char stop, u32 *address, unsigned *port)
{
    const char *colon = strchr(*text, ':');
    char buffer[32];
    struct in_addr in;
    char *end;
    unsigned long number;

    if (!colon || (size_t)(colon - *text) >= sizeof buffer) return false;
    memcpy(buffer, *text, (size_t)(colon - *text));
    buffer[colon - *text] = 0;
    if (buffer[0]) {
        if (inet_pton(AF_INET, buffer, &in) != 1) return false;
        *address = ntohl(in.s_addr);
    }
    if (colon[1] < '0' || colon[1] > '9') return false;
    number = strtoul(colon + 1, &end, 10);
    if (*end != stop || number > 65535) return false;
    *port = (unsigned)number;
    *text = *end ? end + 1 : end;
    return true;
}

struct nat_forward {
    bool udp;
    u32 host, guest;
    unsigned host_port, guest_port;
};

static bool parse_protocol(const char **text, bool *udp)
{
    if (!strncmp(*text, "tcp:", 4)) *udp = false, *text += 4;
    else if (!strncmp(*text, "udp:", 4)) *udp = true, *text += 4;
    else if (**text == ':') *udp = false, *text += 1;
    else return false;
    return true;
}

bool nat_add_forward(struct net_port *port, const char *text, struct error *error)
{
    struct nat *nat = nat_of(port);
    struct nat_forward f = {.guest = nat->guest};
    const char *p = text;
    struct in_addr host, guest;

    if (!parse_protocol(&p, &f.udp) || !parse_endpoint(&p, '-', &f.host, &f.host_port) ||
        !parse_endpoint(&p, 0, &f.guest, &f.guest_port) || !f.guest_port)
        return error_set(error, "hostfwd=%s: not of the form tcp|udp:[addr]:port-[addr]:port",
                         text);
    host.s_addr = htonl(f.host);
    guest.s_addr = htonl(f.guest);
    errno = 0;
    if (slirp_add_hostfwd(nat->slirp, f.udp, host, (int)f.host_port, guest,
                          (int)f.guest_port) < 0) {
        char name[INET_ADDRSTRLEN];
        int why = errno;
        inet_ntop(AF_INET, &host, name, sizeof name);
        return error_set(error, "hostfwd port %u on %s: %s", f.host_port, name,
                         why ? strerror(why) : "refused");
    }
    nat_wake(nat);
    return true;
}

bool nat_remove_forward(struct net_port *port, const char *text, struct error *error)
{
    struct nat *nat = nat_of(port);
    struct nat_forward f = {0};
    const char *p = text;
    struct in_addr host;

    if (!parse_protocol(&p, &f.udp) || !parse_endpoint(&p, 0, &f.host, &f.host_port))
        return error_set(error, "hostfwd_remove %s: not of the form tcp|udp:[addr]:port", text);
    host.s_addr = htonl(f.host);
    if (slirp_remove_hostfwd(nat->slirp, f.udp, host, (int)f.host_port) < 0)
        return error_set(error, "hostfwd_remove %s: no such forward", text);
    return true;
}

static bool nat_add_guestfwd(struct nat *nat, const char *text, struct error *error)
{
    const char *p = text;
    bool udp = false;
    u32 address = 0;
    unsigned port = 0;
    struct in_addr in;
    int result;

    if (!parse_protocol(&p, &udp) || udp || !parse_endpoint(&p, '-', &address, &port) || !port)
        return error_set(error, "guestfwd=%s: not of the form tcp:addr:port-cmd:command", text);
    in.s_addr = htonl(address);
    if (!strncmp(p, "cmd:", 4)) result = slirp_add_exec(nat->slirp, p + 4, &in, (int)port);
    else if (!strncmp(p, "unix:", 5)) result = slirp_add_unix(nat->slirp, p + 5, &in, (int)port);
    else return error_set(error, "guestfwd=%s: only cmd: and unix: targets are supported", text);
    if (result < 0)
        return error_set(error, "guestfwd=%s: the address is not a free one of the guest's network",
                         text);
    return true;
}

void nat_options_init(struct nat_options *options)
{
    *options = (struct nat_options){.ipv4 = true};
}

static void nat_release(struct net_port *port)
{
    struct nat *nat = nat_of(port);

    nat->poll = NULL;
    nat->port.card = (struct net_end){0};
    if (nat->slirp) slirp_cleanup(nat->slirp);
    while (nat->first) nat_drop_first(nat);
    free(nat);
}

static bool nat_start(struct nat *nat, const struct nat_options *o, struct error *error)
{
    u32 host, dns, dhcp;
    const char *search[ARRAY_SIZE(o->dnssearch) + 1] = {NULL};
    SlirpConfig config = {.version = 1};

    nat->network = 0x0a000200; /* 10.0.2.0 */
    nat->mask = 0xffffff00;
    if (o->net && !parse_network(nat, o->net, error)) return false;
    nat->network &= nat->mask;
    host = nat->network | 2;
    dns = nat->network | 3;
    nat->guest = nat->network | (~nat->mask > 15 ? 15 : 4);
    if (!parse_member(nat, "host", o->host, &host, error)) return false;
    if (!parse_member(nat, "dns", o->dns, &dns, error)) return false;
    if (!parse_member(nat, "dhcpstart", o->dhcpstart, &nat->guest, error)) return false;
    if (host == dns) return error_set(error, "host= and dns= are the same address");
    dhcp = nat->guest;
    if (dhcp == host || dhcp == dns)
        return error_set(error, "dhcpstart= is the address of the gateway or the name server");

    memcpy(search, o->dnssearch, o->dnssearch_count * sizeof *search);
    config.restricted = o->restricted;
    config.in_enabled = o->ipv4;
    config.vnetwork.s_addr = htonl(nat->network);
    config.vnetmask.s_addr = htonl(nat->mask);
    config.vhost.s_addr = htonl(host);
    config.vnameserver.s_addr = htonl(dns);
    config.vdhcp_start.s_addr = htonl(dhcp);
    config.in6_enabled = o->ipv6;
    inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &config.vhost6);
    inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
    config.vprefix_len = 64;
    config.vhostname = o->hostname;
    config.vdomainname = o->domainname;
    config.vdnssearch = o->dnssearch_count ? search : NULL;
    config.tftp_path = o->tftp;
    config.tftp_server_name = o->tftp_server_name;
    config.bootfile = o->bootfile;
    nat->slirp = slirp_new(&config, &nat_callbacks, nat);
    return nat->slirp || error_set(error, "the user network does not start with these options");
}

struct net_port *nat_new(const struct nat_options *o, struct clock *clock, struct log *log,
                         struct error *error)
{
    struct nat *nat = calloc(1, sizeof *nat);
    unsigned i;
    bool ok;

    if (!nat) {
        error_set(error, "netdev %s: out of memory", o->id ? o->id : "");
        return NULL;
    }
    snprintf(nat->port.id, sizeof nat->port.id, "%s", o->id ? o->id : "");
    nat->clock = clock;
    nat->log = log;
    nat->last = &nat->first;
    nat->port.backend.opaque = nat;
    nat->port.backend.receive = nat_receive;
    nat->port.backend.ready = nat_card_ready;
    nat->port.release = nat_release;
    ok = nat_start(nat, o, error);
    for (i = 0; ok && i < o->hostfwd_count; i++)
        ok = nat_add_forward(&nat->port, o->hostfwd[i], error);
    for (i = 0; ok && i < o->guestfwd_count; i++) ok = nat_add_guestfwd(nat, o->guestfwd[i], error);
    if (ok) return &nat->port;
    if (nat->port.id[0]) error_prefix(error, "netdev %s", nat->port.id);
    nat_release(&nat->port);
    return NULL;
}

char *nat_connections(struct net_port *port)
{
    char *table = slirp_connection_info(nat_of(port)->slirp);
    return table; /* GLib's allocator is malloc since 2.46 */
}
