/*
 * A learning switch: remembers which member a source address was last heard on.
 * Not modelled: ageing of addresses, spanning tree, VLANs of its own.
 */
#include "net/switch.h"

#include <stdio.h>
#include <stdlib.h>

#include "machine/error.h"

#define ADDRESSES 256 /* direct mapped; a clash forgets the older one, its frames are flooded */

struct member {
    struct net_switch *hub;
    struct net_port *port;
    bool to_backend; /* we sit on the card's side of PORT */
};

struct net_switch {
    struct member members[SWITCH_MEMBERS];
    struct {
        u8 address[6];
        i8 member; /* -1: empty */
    } learned[ADDRESSES];
};

struct switch_port {
    struct net_port port;
    struct member *member;
};

static unsigned address_slot(const u8 *address)
{
    return (address[0] ^ address[1] ^ address[2] ^ (address[3] * 5) ^ (address[4] * 3) ^
            address[5]) %
           ADDRESSES;
}

static void member_send(struct member *member, const u8 *frame, u32 length)
{
    if (!member->port) return;
    if (member->to_backend) net_send_from_card(member->port, frame, length);
    else net_send_to_card(member->port, frame, length);
}

static bool switch_receive(void *opaque, const u8 *frame, u32 length)
{
    struct member *from = opaque;
    struct net_switch *hub = from->hub;
    unsigned slot, i;

    if (length < 14) return true;
    if (!(frame[6] & 1)) {
        slot = address_slot(frame + 6);
        memcpy(hub->learned[slot].address, frame + 6, 6);
        hub->learned[slot].member = (i8)(from - hub->members);
    }
    slot = address_slot(frame);
    if (!(frame[0] & 1) && hub->learned[slot].member >= 0 &&
        !memcmp(hub->learned[slot].address, frame, 6)) {
        struct member *to = &hub->members[hub->learned[slot].member];
        if (to != from) member_send(to, frame, length);
        return true;
    }
    for (i = 0; i < SWITCH_MEMBERS; i++)
        if (&hub->members[i] != from) member_send(&hub->members[i], frame, length);
    return true;
}

struct net_switch *switch_new(void)
{
    struct net_switch *hub = calloc(1, sizeof *hub);
    unsigned i;

    if (!hub) return NULL;
    for (i = 0; i < SWITCH_MEMBERS; i++) hub->members[i].hub = hub;
    for (i = 0; i < ADDRESSES; i++) hub->learned[i].member = -1;
    return hub;
}

void switch_free(struct net_switch *hub)
{
    unsigned i;

    if (!hub) return;
    for (i = 0; i < SWITCH_MEMBERS; i++) {
        struct member *member = &hub->members[i];
        if (!member->port) continue;
        if (member->to_backend) {
            member->port->card = (struct net_end){0};
        } else {
            member->port->backend = (struct net_end){0};
            container_of(member->port, struct switch_port, port)->member = NULL;
        }
    }
    free(hub);
}

static struct member *switch_free_member(struct net_switch *hub, const char *id,
                                         struct error *error)
{
    unsigned i;

    for (i = 0; i < SWITCH_MEMBERS; i++)
        if (!hub->members[i].port) return &hub->members[i];
    error_set(error, "netdev %s: the hub has %u ports and all are taken", id, SWITCH_MEMBERS);
    return NULL;
}

static void switch_release(struct net_port *port)
{
    struct switch_port *p = container_of(port, struct switch_port, port);

    if (p->member) p->member->port = NULL;
    free(p);
}

struct net_port *switch_new_port(struct net_switch *hub, const char *id, struct error *error)
{
    struct member *member = switch_free_member(hub, id, error);
    struct switch_port *p;

    if (!member) return NULL;
    p = calloc(1, sizeof *p);
    if (!p) {
        error_set(error, "netdev %s: out of memory", id);
        return NULL;
    }
    snprintf(p->port.id, sizeof p->port.id, "%s", id);
    p->port.backend.opaque = member;
    p->port.backend.receive = switch_receive;
    p->port.release = switch_release;
    p->member = member;
    member->port = &p->port;
    member->to_backend = false;
    return &p->port;
}

bool switch_attach(struct net_switch *hub, struct net_port *port, struct error *error)
{
    struct member *member;

    if (port->card.receive) return error_set(error, "netdev %s is in use already", port->id);
    member = switch_free_member(hub, port->id, error);
    if (!member) return false;
    member->port = port;
    member->to_backend = true;
    port->card.opaque = member;
    port->card.receive = switch_receive;
    return true;
}
