/*
 * User-mode network address translation: a gateway, DHCP, DNS and TFTP server and port forwards
 * behind a port, by libslirp, without privileges.
 *
 * Thread: machine lock held, also around nat_poll_fill and nat_poll_process; the I/O thread lets go
 * of it only while it sleeps between the two.
 */
#ifndef NET_NAT_H
#define NET_NAT_H

#include "net/net.h"

struct clock;
struct error;
struct log;

#define NAT_FORWARDS 64

/* Texts as the user wrote them; NULL where he did not. They need to live only during nat_new. */
struct nat_options {
    const char *id;
    const char *net, *host, *dns, *dhcpstart; /* a.b.c.d, net with /bits or /mask */
    const char *hostname, *domainname, *dnssearch[8];
    const char *tftp, *tftp_server_name, *bootfile;
    const char *hostfwd[NAT_FORWARDS];  /* tcp|udp:[addr]:port-[addr]:port */
    const char *guestfwd[NAT_FORWARDS]; /* tcp:addr:port-cmd:… or -unix:… */
    unsigned dnssearch_count, hostfwd_count, guestfwd_count;
    bool restricted, ipv4, ipv6;
};

void nat_options_init(struct nat_options *options);

/* NULL with a line in ERROR when an option is wrong or a port is taken. Free with port->release. */
struct net_port *nat_new(const struct nat_options *options, struct clock *clock, struct log *log,
                         struct error *error);

/* How the I/O thread waits on the NAT's sockets. Events are poll(2)'s POLLIN… */
struct nat_poll {
    void *opaque;
    int (*add)(void *opaque, int fd, int events); /* returns an index >= 0 */
    int (*revents)(void *opaque, int index);
    void (*wake)(void *opaque); /* from any vCPU thread: sleep no longer, fill again; may be NULL */
};

bool net_port_is_nat(const struct net_port *port);

/* WAKE of POLL is called as said there until it is set again (or to NULL). POLL must live on. */
void nat_set_poll(struct net_port *port, const struct nat_poll *poll);
void nat_poll_fill(struct net_port *port, u32 *timeout_ms);      /* lowers *TIMEOUT_MS */
void nat_poll_process(struct net_port *port, bool poll_failed);

/* Port forwards while running (monitor's hostfwd_add and hostfwd_remove). */
bool nat_add_forward(struct net_port *port, const char *text, struct error *error);
bool nat_remove_forward(struct net_port *port, const char *text, struct error *error);

/* libslirp's table of connections, to be freed with free(). */
char *nat_connections(struct net_port *port);

#endif
