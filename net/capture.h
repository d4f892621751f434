/*
 * Writes what passes a port into a pcap file (`-object filter-dump,id=,netdev=,file=`).
 * Thread: machine lock held.
 */
#ifndef NET_CAPTURE_H
#define NET_CAPTURE_H

#include "net/net.h"

struct capture;
struct clock;
struct error;

/* Listens on PORT until capture_close. The times are CLOCK's wall time. MAXLEN 0: 65,535. NULL with
 * a line in ERROR when the file cannot be made or PORT is being captured already. */
struct capture *capture_open(struct net_port *port, const char *path, u32 maxlen,
                             struct clock *clock, struct error *error);

/* False when some of it could not be written. NULL is allowed. */
bool capture_close(struct capture *capture);

#endif
