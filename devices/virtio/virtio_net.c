/*
 * Virtio network device: one pair of queues and a control queue.
 * Specification: Virtual I/O Device 1.1, 5.1.
 *
 * Checksums are completed and TCP segments cut here, so that what reaches the port are whole
 * frames.
 * Not modelled: several queue pairs, receive segmentation offload, UFO, guest announce, RSS.
 */
#include "devices/virtio/virtio_pci.h"
#include "net/net.h"
#include "net/offload.h"

#include <stdlib.h>

enum { QUEUE_RX, QUEUE_TX, QUEUE_CONTROL };

enum { NET_CSUM = 0, NET_GUEST_CSUM = 1, NET_MTU = 3, NET_MAC = 5, NET_HOST_TSO4 = 11,
       NET_HOST_TSO6 = 12, NET_HOST_ECN = 13, NET_MRG_RXBUF = 15, NET_STATUS = 16, NET_CTRL_VQ = 17,
       NET_CTRL_RX = 18, NET_CTRL_VLAN = 19, NET_CTRL_RX_EXTRA = 20, NET_CTRL_MAC_ADDR = 23 };

/* struct virtio_net_hdr */
enum { HEADER_FLAGS = 0, HEADER_GSO = 1, HEADER_LENGTH = 2, HEADER_GSO_SIZE = 4, HEADER_START = 6,
       HEADER_OFFSET = 8, HEADER_BUFFERS = 10 };
enum { FLAG_NEEDS_CSUM = 1, FLAG_DATA_VALID = 2 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80 };

/* Control commands: class << 8 | command */
enum { CONTROL_PROMISC = 0x000, CONTROL_ALLMULTI, CONTROL_ALLUNI, CONTROL_NOMULTI, CONTROL_NOUNI,
       CONTROL_NOBCAST, CONTROL_MAC_TABLE = 0x100, CONTROL_MAC_ADDR = 0x101,
       CONTROL_VLAN_ADD = 0x200, CONTROL_VLAN_DEL = 0x201 };

enum { CONFIG_MAC = 0, CONFIG_STATUS = 6, CONFIG_PAIRS = 8, CONFIG_SIZE = 12 };
enum { STATUS_LINK_UP = 1 };

#define FILTERS 64u            /* unicast and multicast addresses together */
#define HEADER_MAX 12u

#define VIRTIO_NET_STATE(SCALAR, ARRAY, GROUP, BLOB)                                               \
    ARRAY(u8, mac, 6)                                                                              \
    SCALAR(u8, link_up)                                                                            \
    ARRAY(u8, mode, 6)            /* by CONTROL_PROMISC to CONTROL_NOBCAST */                      \
    SCALAR(u8, unicast_count)                                                                      \
    SCALAR(u8, multicast_count)                                                                    \
    SCALAR(u8, unicast_overflow)                                                                   \
    SCALAR(u8, multicast_overflow)                                                                 \
    ARRAY(u8, filters, FILTERS * 6)  /* unicast first */                                           \
    ARRAY(u32, vlans, 128)

struct virtio_net {
    struct virtio_pci proxy;
    STATE_MEMBERS(VIRTIO_NET_STATE)
    u8 own_mac[6];        /* as configured; the driver may change the other */
    struct net_port *port;
    u32 rx_queue_size, tx_queue_size;
    bool sending, refused; /* within tx; the backend had no room */
    u8 *frame, *segment;   /* NET_FRAME_MAX bytes each */
};

#define STATE_OWNER struct virtio_net
VIRTIO_PCI_TABLE(virtio_net, VIRTIO_NET_STATE)
#undef STATE_OWNER

static struct virtio_net *net_of(struct virtio *virtio)
{
    return (struct virtio_net *)virtio_pci_of(virtio);
}

static u32 header_size(struct virtio *virtio)
{
    return virtio_has(virtio, VIRTIO_BIT(NET_MRG_RXBUF) | VIRTIO_F_VERSION_1) ? 12 : 10;
}

/* --- to the guest --- */

static bool is_listed(const struct virtio_net *net, const u8 *address, unsigned from,
                      unsigned count)
{
    for (; count; count--, from++)
        if (!memcmp(net->filters + 6 * from, address, 6)) return true;
    return false;
}

static bool passes(struct virtio_net *net, const u8 *frame, u32 length)
{
    static const u8 broadcast[6] = {255, 255, 255, 255, 255, 255};
    struct virtio *virtio = net->proxy.core;

    if (net->mode[CONTROL_PROMISC]) return true;
    if (virtio_has(virtio, VIRTIO_BIT(NET_CTRL_VLAN)) && length >= 16 && frame[12] == 0x81 &&
        frame[13] == 0) {
        unsigned vlan = (frame[14] & 15u) << 8 | frame[15];
        if (!(net->vlans[vlan / 32] >> vlan % 32 & 1)) return false;
    }
    if (frame[0] & 1) {
        if (!memcmp(frame, broadcast, 6)) return !net->mode[CONTROL_NOBCAST];
        if (net->mode[CONTROL_NOMULTI]) return false;
        return net->mode[CONTROL_ALLMULTI] || net->multicast_overflow ||
               is_listed(net, frame, net->unicast_count, net->multicast_count);
    }
    if (net->mode[CONTROL_NOUNI]) return false;
    return net->mode[CONTROL_ALLUNI] || net->unicast_overflow || !memcmp(frame, net->mac, 6) ||
           is_listed(net, frame, 0, net->unicast_count);
}

/* Spreads header and frame over as many chains as the driver allows. False: not enough of them. */
static bool deliver(struct virtio *virtio, const u8 *frame, u32 length)
{
    struct virtio_queue *queue = &virtio->queues[QUEUE_RX];
    u32 header = header_size(virtio), done = 0, chains = 0;
    bool merge = virtio_has(virtio, VIRTIO_BIT(NET_MRG_RXBUF));
    u64 header_at = 0;
    u8 raw[HEADER_MAX] = {0};

    if (virtio_has(virtio, VIRTIO_BIT(NET_GUEST_CSUM))) raw[HEADER_FLAGS] = FLAG_DATA_VALID;
    st16(raw + HEADER_BUFFERS, 1);
    do {
        struct virtio_chain *chain = virtqueue_pop(virtio, queue);
        u32 skip = chains ? 0 : header, part;
        if (!chain) {
            virtqueue_unpop(queue, chains);
            virtqueue_unfill(queue, chains);
            return virtio->broken;
        }
        if (!merge && chain->in_length < (u64)header + length) {
            virtqueue_unpop(queue, 1);
            guest_error(virtio->device, "virtio-net: no room for a frame of %u bytes", length);
            return true;
        }
        if (chain->in_length <= skip ||
            (merge && !chains && chain->segments[chain->out_count].length < header)) {
            virtio_break(virtio, "a receive buffer of %llu bytes",
                         (unsigned long long)chain->in_length);
            return true;
        }
        if (!chains) {
            virtio_scatter(virtio, chain, 0, raw, header);
            header_at = chain->segments[chain->out_count].address;
        }
        part = (u32)virtio_scatter(virtio, chain, skip, frame + done, length - done);
        done += part;
        virtqueue_fill(virtio, queue, chain->head, skip + part);
        chains++;
    } while (done < length);
    if (chains > 1)
        dma_st16(virtio->device->bus, header_at + HEADER_BUFFERS, (u16)chains);
    virtqueue_publish(virtio, queue);
    return true;
}

static bool net_receive(void *opaque, const u8 *frame, u32 length)
{
    struct virtio_net *net = opaque;
    struct virtio *virtio = net->proxy.core;
    u8 padded[60];

    if (!virtio_running(virtio) || !net->link_up || length < 14 || length > NET_FRAME_MAX)
        return true;
    if (!virtio->queues[QUEUE_RX].enabled || !passes(net, frame, length)) return true;
    if (length < sizeof padded) {
        memcpy(padded, frame, length);
        memset(padded + length, 0, sizeof padded - length);
        frame = padded;
        length = sizeof padded;
    }
    return deliver(virtio, frame, length);
}

/* --- from the guest --- */

static void send_frame(void *opaque, const u8 *frame, u32 length)
{
    struct virtio_net *net = opaque;

    if (net->link_up && !net_send_from_card(net->port, frame, length)) net->refused = true;
}

/* Finds the headers of a frame to be cut; the driver's hdr_len is a hint that may be wrong. */
static bool plan_segments(const u8 *header, const u8 *frame, u32 length,
                          struct net_segment_plan *plan)
{
    u32 l3 = 14, type;

    plan->ipv6 = (header[HEADER_GSO] & ~GSO_ECN) == GSO_TCPV6;
    plan->udp = false;
    plan->mss = ld16(header + HEADER_GSO_SIZE);
    plan->l4 = ld16(header + HEADER_START);
    if (length < 54) return false;
    type = (u32)frame[12] << 8 | frame[13];
    if (type == 0x8100) {
        type = (u32)frame[16] << 8 | frame[17];
        l3 = 18;
    }
    if (type != (plan->ipv6 ? 0x86dd : 0x0800)) return false;
    plan->l3 = l3;
    if (plan->l4 + 20 > length) return false;
    plan->header = plan->l4 + (frame[plan->l4 + 12] >> 4) * 4u;
    return true;
}

static void transmit(struct virtio_net *net, const u8 *header, u32 length)
{
    struct device *device = &net->proxy.pci.dev;
    u8 gso = header[HEADER_GSO] & (u8)~GSO_ECN;
    struct net_segment_plan plan;

    if (gso == GSO_TCPV4 || gso == GSO_TCPV6) {
        if (!plan_segments(header, net->frame, length, &plan) ||
            !net_segment(net->frame, length, &plan, net->segment, NET_FRAME_MAX, send_frame, net))
            guest_error(device, "virtio-net: a segmentation request that does not fit its frame");
        net->refused = false; /* parts are gone already: what is lost, TCP sends again */
        return;
    }
    if (gso != GSO_NONE) {
        guest_error(device, "virtio-net: segmentation type %u was not offered", gso);
        return;
    }
    if (header[HEADER_FLAGS] & FLAG_NEEDS_CSUM) {
        u32 start = ld16(header + HEADER_START);
        if (!net_checksum_put(net->frame, length, start, length,
                              start + ld16(header + HEADER_OFFSET)))
            guest_error(device, "virtio-net: checksum at %u+%u of %u bytes", start,
                        ld16(header + HEADER_OFFSET), length);
    }
    send_frame(net, net->frame, length);
}

/* False when the backend has no room: the chain goes back and is sent again when it has. */
static bool send_chain(struct virtio_net *net, struct virtio_queue *queue,
                       const struct virtio_chain *chain)
{
    struct virtio *virtio = net->proxy.core;
    u32 size = header_size(virtio), length;
    u8 header[HEADER_MAX];

    if (virtio_gather(virtio, chain, 0, header, size) != size) {
        virtio_break(virtio, "a frame without a header");
        return false;
    }
    if (chain->out_length - size > NET_FRAME_MAX || chain->out_length - size < 14) {
        guest_error(virtio->device, "virtio-net: a frame of %llu bytes",
                    (unsigned long long)(chain->out_length - size));
    } else {
        u16 head = chain->head; /* an answer to the frame may come before transmit returns */
        length = (u32)virtio_gather(virtio, chain, size, net->frame, chain->out_length - size);
        net->refused = false;
        transmit(net, header, length);
        if (net->refused) {
            virtqueue_unpop(queue, 1);
            return false;
        }
        virtqueue_fill(virtio, queue, head, 0);
        return true;
    }
    virtqueue_fill(virtio, queue, chain->head, 0);
    return true;
}

static void net_transmit_queue(struct virtio_net *net)
{
    struct virtio *virtio = net->proxy.core;
    struct virtio_queue *queue = &virtio->queues[QUEUE_TX];
    struct virtio_chain *chain;
    unsigned served = 0;

    if (net->sending) return; /* a backend that became ready while being sent to */
    net->sending = true;
    while (served < queue->maximum && (chain = virtqueue_pop(virtio, queue))) {
        if (!send_chain(net, queue, chain)) break;
        served++;
    }
    net->sending = false;
    if (served) virtqueue_publish(virtio, queue);
    if (served == queue->maximum) virtio_serve_later(virtio, QUEUE_TX);
}

static void net_ready(void *opaque)
{
    struct virtio_net *net = opaque;

    if (virtio_running(net->proxy.core) && net->proxy.core->queues[QUEUE_TX].enabled)
        net_transmit_queue(net);
}

/* --- the control queue --- */

static bool control_mac_table(struct virtio_net *net, const struct virtio_chain *chain)
{
    struct virtio *virtio = net->proxy.core;
    u8 *counts[2] = {&net->unicast_count, &net->multicast_count};
    u8 *overflows[2] = {&net->unicast_overflow, &net->multicast_overflow};
    u64 offset = 2;
    unsigned used = 0, i;

    net->unicast_count = net->multicast_count = 0;
    net->unicast_overflow = net->multicast_overflow = 0;
    for (i = 0; i < 2; i++) {
        u8 raw[4];
        u32 count;
        if (virtio_gather(virtio, chain, offset, raw, 4) != 4) return false;
        count = ld32(raw);
        offset += 4;
        if (offset + 6 * (u64)count > chain->out_length) return false;
        if (count > FILTERS - used) {
            *overflows[i] = 1;
        } else {
            virtio_gather(virtio, chain, offset, net->filters + 6 * used, 6 * count);
            *counts[i] = (u8)count;
            used += count;
        }
        offset += 6 * (u64)count;
    }
    return true;
}

static bool control_vlan(struct virtio_net *net, const u8 *data, u64 length, bool add)
{
    unsigned vlan = ld16(data);

    if (length < 2 || vlan >= 4096) return false;
    if (add) net->vlans[vlan / 32] |= 1u << vlan % 32;
    else net->vlans[vlan / 32] &= ~(1u << vlan % 32);
    return true;
}

static bool control(struct virtio_net *net, const struct virtio_chain *chain)
{
    struct virtio *virtio = net->proxy.core;
    u8 data[8] = {0};
    u64 length = virtio_gather(virtio, chain, 0, data, sizeof data);
    unsigned command;

    if (length < 3) return false;
    command = (unsigned)data[0] << 8 | data[1];
    switch (command) {
    case CONTROL_PROMISC: case CONTROL_ALLMULTI: case CONTROL_ALLUNI:
    case CONTROL_NOMULTI: case CONTROL_NOUNI: case CONTROL_NOBCAST:
        net->mode[command] = data[2] != 0;
        return true;
    case CONTROL_MAC_TABLE: return control_mac_table(net, chain);
    case CONTROL_MAC_ADDR:
        if (length < 8) return false;
        memcpy(net->mac, data + 2, 6);
        return true;
    case CONTROL_VLAN_ADD: return control_vlan(net, data + 2, length - 2, true);
    case CONTROL_VLAN_DEL: return control_vlan(net, data + 2, length - 2, false);
    }
    device_unimplemented(virtio->device, "virtio-net: control command %u.%u", data[0], data[1]);
    return false;
}

static void net_control_queue(struct virtio_net *net)
{
    struct virtio *virtio = net->proxy.core;
    struct virtio_queue *queue = &virtio->queues[QUEUE_CONTROL];
    struct virtio_chain *chain;
    unsigned served = 0;

    while (served < queue->maximum && (chain = virtqueue_pop(virtio, queue))) {
        u8 ack = control(net, chain) ? 0 : 1;
        if (virtio_scatter(virtio, chain, 0, &ack, 1) != 1) {
            virtio_break(virtio, "a control command without room for the answer");
            return;
        }
        virtqueue_fill(virtio, queue, chain->head, 1);
        served++;
    }
    if (served) virtqueue_publish(virtio, queue);
    if (served == queue->maximum) virtio_serve_later(virtio, QUEUE_CONTROL);
}

/* --- the function --- */

static u64 net_features(struct virtio *virtio)
{
    (void)virtio;
    return VIRTIO_BIT(NET_CSUM) | VIRTIO_BIT(NET_GUEST_CSUM) | VIRTIO_BIT(NET_MAC) |
           VIRTIO_BIT(NET_HOST_TSO4) | VIRTIO_BIT(NET_HOST_TSO6) | VIRTIO_BIT(NET_HOST_ECN) |
           VIRTIO_BIT(NET_MRG_RXBUF) | VIRTIO_BIT(NET_STATUS) | VIRTIO_BIT(NET_CTRL_VQ) |
           VIRTIO_BIT(NET_CTRL_RX) | VIRTIO_BIT(NET_CTRL_VLAN) | VIRTIO_BIT(NET_CTRL_RX_EXTRA) |
           VIRTIO_BIT(NET_CTRL_MAC_ADDR);
}

static void net_read_config(struct virtio *virtio, u8 *config)
{
    struct virtio_net *net = net_of(virtio);

    memcpy(config + CONFIG_MAC, net->mac, 6);
    st16(config + CONFIG_STATUS, net->link_up ? STATUS_LINK_UP : 0);
    st16(config + CONFIG_PAIRS, 1);
}

/* Only legacy drivers may set the address here. */
static void net_write_config(struct virtio *virtio, const u8 *config, unsigned offset,
                             unsigned size)
{
    (void)size;
    if (!virtio_has(virtio, VIRTIO_F_VERSION_1) && offset < CONFIG_STATUS)
        memcpy(net_of(virtio)->mac, config + CONFIG_MAC, 6);
}

static void net_notify(struct virtio *virtio, unsigned queue)
{
    struct virtio_net *net = net_of(virtio);

    switch (queue) {
    case QUEUE_RX: net_card_ready(net->port); break;
    case QUEUE_TX: net_transmit_queue(net); break;
    case QUEUE_CONTROL: net_control_queue(net); break;
    }
}

static void net_driver_ok(struct virtio *virtio)
{
    net_card_ready(net_of(virtio)->port);
}

static void net_reset(struct virtio *virtio)
{
    struct virtio_net *net = net_of(virtio);

    memcpy(net->mac, net->own_mac, 6);
    memset(net->mode, 0, sizeof net->mode);
    net->mode[CONTROL_PROMISC] = 1; /* until a driver that knows filters says otherwise */
    net->unicast_count = net->multicast_count = 0;
    net->unicast_overflow = net->multicast_overflow = 0;
    memset(net->filters, 0, sizeof net->filters);
    memset(net->vlans, 0, sizeof net->vlans);
}

static const struct virtio_function net_function = {
    .name = "virtio-net",
    .id = VIRTIO_ID_NET,
    .pci_class = 0x020000,
    .config_size = CONFIG_SIZE,
    .features = net_features,
    .read_config = net_read_config,
    .write_config = net_write_config,
    .notify = net_notify,
    .driver_ok = net_driver_ok,
    .reset = net_reset,
};

static void net_link(void *opaque, bool up)
{
    struct virtio_net *net = opaque;

    if (net->link_up == up) return;
    net->link_up = up;
    virtio_config_changed(net->proxy.core);
}

static bool virtio_net_init(struct device *device, struct error *error)
{
    struct virtio_net *net = (struct virtio_net *)device;
    struct virtio *virtio = net->proxy.core;

    if (net->port && net->port->card.receive)
        return error_set(error, "virtio-net-pci: netdev %s is in use already", net->port->id);
    net->frame = malloc(NET_FRAME_MAX);
    net->segment = malloc(NET_FRAME_MAX);
    if (!net->frame || !net->segment) return error_set(error, "virtio-net-pci: out of memory");
    net->link_up = 1;
    if (!virtio_pci_init(&net->proxy, &net_function, error) ||
        !virtio_add_queue(virtio, QUEUE_RX, (u16)net->rx_queue_size, error) ||
        !virtio_add_queue(virtio, QUEUE_TX, (u16)net->tx_queue_size, error) ||
        !virtio_add_queue(virtio, QUEUE_CONTROL, 64, error) ||
        !virtio_pci_start(&net->proxy, error))
        return false;
    net_reset(virtio);
    if (net->port) net->port->card = (struct net_end){net, net_receive, net_ready, net_link};
    return true;
}

static void virtio_net_restored(struct device *device)
{
    struct virtio_net *net = (struct virtio_net *)device;

    if (net->unicast_count > FILTERS) net->unicast_count = FILTERS;
    if (net->multicast_count > FILTERS - net->unicast_count)
        net->multicast_count = (u8)(FILTERS - net->unicast_count);
    virtio_pci_restored(device);
}

static void virtio_net_release(struct device *device)
{
    struct virtio_net *net = (struct virtio_net *)device;

    if (net->port && net->port->card.opaque == net) net->port->card = (struct net_end){0};
    free(net->frame);
    free(net->segment);
    virtio_pci_release(&net->proxy);
}

static const struct property virtio_net_properties[] = {
    VIRTIO_PCI_PROPERTIES,
    {"netdev", PROPERTY_NETDEV, offsetof(struct virtio_net, port), NULL, "what it is plugged into"},
    {"mac", PROPERTY_MAC, offsetof(struct virtio_net, own_mac), "52:54:00:12:34:56",
     "Ethernet address"},
    {"rx_queue_size", PROPERTY_U32, offsetof(struct virtio_net, rx_queue_size), "256",
     "entries of the receive queue"},
    {"tx_queue_size", PROPERTY_U32, offsetof(struct virtio_net, tx_queue_size), "256",
     "entries of the transmit queue"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class virtio_net_class = {
    .name = "virtio-net-pci",
    .title = "virtio network card",
    .version = 1,
    .size = sizeof(struct virtio_net),
    .fields = virtio_net_fields,
    .properties = virtio_net_properties,
    .is_pci = true,
    .user_creatable = true,
    .init = virtio_net_init,
    .reset = virtio_pci_reset,
    .restored = virtio_net_restored,
    .release = virtio_net_release,
};
