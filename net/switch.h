/*
 * A learning Ethernet switch joining ports (`-netdev hubport,id=,hubid=[,netdev=]`).
 * Frames for a member without room are lost, as on a real one. Thread: machine lock held.
 */
#ifndef NET_SWITCH_H
#define NET_SWITCH_H

#include "net/net.h"

#define SWITCH_MEMBERS 32

struct error;
struct net_switch;

struct net_switch *switch_new(void);
void switch_free(struct net_switch *hub); /* its ports stay and swallow; NULL is allowed */

/* A new port to plug a card into; NULL when the switch is full. */
struct net_port *switch_new_port(struct net_switch *hub, const char *id, struct error *error);

/* Takes the card's end of PORT, which a backend (a NAT) has the other end of. */
bool switch_attach(struct net_switch *hub, struct net_port *port, struct error *error);

#endif
