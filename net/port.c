/*
 * A port: hands frames from one end to the other and shows each to the capture, once.
 *
 * Frames from the card are shown before they are delivered, because a backend may answer from
 * within its receive; a frame the backend refuses is shown again when it is offered again.
 */
#include "net/net.h"

bool net_send_from_card(struct net_port *port, const u8 *frame, u32 length)
{
    if (!port) return true;
    if (port->tap) port->tap(port->tap_opaque, frame, length, true);
    if (!port->backend.receive) return true;
    return port->backend.receive(port->backend.opaque, frame, length);
}

bool net_send_to_card(struct net_port *port, const u8 *frame, u32 length)
{
    if (!port) return true;
    if (port->card.receive && !port->card.receive(port->card.opaque, frame, length)) return false;
    if (port->tap) port->tap(port->tap_opaque, frame, length, false);
    return true;
}

void net_card_ready(struct net_port *port)
{
    if (port && port->backend.ready) port->backend.ready(port->backend.opaque);
}

void net_backend_ready(struct net_port *port)
{
    if (port && port->card.ready) port->card.ready(port->card.opaque);
}
