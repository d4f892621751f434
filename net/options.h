/*
 * The machine's networks: what -netdev, -nic and -object filter-dump say, made into ports.
 * Option names and forms are QEMU's. Thread: machine lock held, or before the machine runs.
 */
#ifndef NET_OPTIONS_H
#define NET_OPTIONS_H

#include "net/nat.h"
#include "net/net.h"

#define NET_PORTS 32
#define NET_HUBS 8

struct capture;
struct net_switch;

/* All zero but CLOCK and LOG to begin with. */
struct net_set {
    struct clock *clock;
    struct log *log;
    struct net_port *ports[NET_PORTS];
    unsigned port_count;
    struct {
        u32 id;
        struct net_switch *hub;
    } hubs[NET_HUBS];
    unsigned hub_count;
    struct capture *captures[NET_PORTS];
    unsigned capture_count;
    unsigned nic_count;
};

struct net_nic {
    bool none;           /* -nic none */
    char model[32];      /* a device class; "" where the user did not say */
    u8 mac[6];           /* always filled in: 52:54:00:12:34:56 and up */
    bool mac_given;
    struct net_port *port;
};

/* `-netdev TEXT`: "user,id=n0,hostfwd=..." or "hubport,id=h0,hubid=0". NULL with a line in
 * ERROR. */
struct net_port *net_set_netdev(struct net_set *set, const char *text, struct error *error);

/* `-nic TEXT`: "none" or "user,model=e1000,mac=...,hostfwd=...". */
bool net_set_nic(struct net_set *set, const char *text, struct net_nic *nic, struct error *error);

/* `-object TEXT` when TEXT begins with "filter-dump,". */
bool net_set_filter_dump(struct net_set *set, const char *text, struct error *error);

struct net_port *net_set_find(struct net_set *set, const char *id);

/* The NUMBERth default address. */
void net_default_mac(u8 mac[6], unsigned number);
bool net_parse_mac(const char *text, u8 mac[6]);

/* For the I/O thread: every NAT of the set. */
void net_set_poll(struct net_set *set, const struct nat_poll *poll);
void net_set_poll_fill(struct net_set *set, u32 *timeout_ms);
void net_set_poll_process(struct net_set *set, bool poll_failed);

/* Cards must be gone or unplugged. False when a capture could not be written whole. */
bool net_set_free(struct net_set *set);

#endif
