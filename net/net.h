/*
 * What a network card is plugged into: a port, two ends, Ethernet frames without FCS.
 * A backend (nat, capture, switch) and a card each fill one end in. Thread: machine lock held.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include "machine/types.h"

struct net_end {
    void *opaque;
    /* Takes one frame (at most 65,550 bytes). Returns false when it has no room now: the sender
     * keeps the frame and sends again after net_ready. NULL: nobody there. */
    bool (*receive)(void *opaque, const u8 *frame, u32 length);
    void (*ready)(void *opaque); /* the other end has room again; may be NULL */
    void (*link)(void *opaque, bool up); /* may be NULL */
};

struct net_port {
    char id[32];
    struct net_end card, backend;
    /* capture; may be NULL */
    void (*tap)(void *opaque, const u8 *frame, u32 length, bool from_card);
    void *tap_opaque;
    void (*release)(struct net_port *port);
};

/* Card to backend and back. A NULL port swallows frames. */
bool net_send_from_card(struct net_port *port, const u8 *frame, u32 length);
bool net_send_to_card(struct net_port *port, const u8 *frame, u32 length);
void net_card_ready(struct net_port *port);    /* the card has room: wakes the backend */
void net_backend_ready(struct net_port *port);

#endif
