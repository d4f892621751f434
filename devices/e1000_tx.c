/*
 * 82540EM: the transmit ring, from descriptors to frames. Manual: 3.3 to 3.6.
 *
 * Not modelled: transmit delays (TIDV, TADV; completion is told at once, within ITR), descriptor
 * prefetch and write-back thresholds, half duplex. A frame the backend has no room for is lost, as
 * on a real wire.
 */
#include "devices/e1000.h"

#define DESCRIPTORS_AT_ONCE 1024 /* then other work gets its turn */
#define LATER 10000u             /* ns */

/* Command bits in a descriptor's third word */
#define CMD_EOP (1u << 24)
#define CMD_IC (1u << 26)  /* legacy: insert checksum */
#define CMD_TSE (1u << 26) /* extended: segment */
#define CMD_RS (1u << 27)
#define CMD_RPS (1u << 28)
#define CMD_DEXT (1u << 29)
#define CMD_VLE (1u << 30)
#define TUCMD_TCP (1u << 24)
#define TUCMD_IP (1u << 25)
enum { POPTS_IXSM = 1, POPTS_TXSM = 2 };
enum { TX_DD = 1 };

static u8 *tx_frame(struct e1000 *e)
{
    return e->frame + E1000_VLAN_ROOM;
}

static void tx_count(struct e1000 *e, const u8 *frame, u32 length)
{
    u32 wire = length + 4; /* with its FCS */

    e1000_count(e, STAT_TPT, 1);
    e1000_count(e, STAT_GPTC, 1);
    e1000_count64(e, STAT_TOTL, wire);
    e1000_count64(e, STAT_GOTCL, wire);
    e1000_count(e, STAT_PTC64 + e1000_size_class(wire), 1);
    if (!(frame[0] & 1)) return;
    if (frame[0] == 0xff && frame[5] == 0xff) e1000_count(e, STAT_BPTC, 1);
    else e1000_count(e, STAT_MPTC, 1);
}

/* FRAME has E1000_VLAN_ROOM bytes of ours in front of it. */
static void tx_wire(void *opaque, const u8 *frame, u32 length)
{
    struct e1000 *e = opaque;
    u8 *start = (u8 *)frame;

    if (e->tx_tag && (e->ctrl & CTRL_VME) && length >= 14) {
        start -= 4;
        memmove(start, frame, 12);
        start[12] = (u8)(e->vet >> 8);
        start[13] = (u8)e->vet;
        start[14] = (u8)(e->tx_vlan >> 8);
        start[15] = (u8)e->tx_vlan;
        length += 4;
    }
    if (length < 60 && (e->tctl & TCTL_PSP)) {
        memset(start + length, 0, 60 - length);
        length = 60;
    }
    if (length < 14) return;
    tx_count(e, start, length);
    if (e1000_phy_loopback(e) || (e->rctl >> 6 & 3)) e1000_receive(e, start, length);
    else if ((e->status & STATUS_LU) && length <= NET_FRAME_MAX)
        net_send_from_card(e->port, start, length);
}

static void tx_checksum(struct e1000 *e, u32 start, u32 end, u32 at)
{
    u32 length = e->tx_size;

    end = end && end < length ? end + 1 : length; /* CSE is the last byte; 0: to the end */
    if (!net_checksum_put(tx_frame(e), length, start, end, at))
        guest_error(&e->pci.dev, "e1000: checksum of %u to %u at %u in a frame of %u", start, end,
                    at, length);
}

static void tx_segmented(struct e1000 *e)
{
    const struct e1000_context *c = &e->context[1];
    const struct net_segment_plan plan = {.l3 = c->ipcss, .l4 = c->tucss, .header = c->hdrlen,
                                          .mss = c->mss, .ipv6 = !c->ip, .udp = !c->tcp};

    if (net_segment(tx_frame(e), e->tx_size, &plan, e->segment + E1000_VLAN_ROOM, NET_FRAME_MAX,
                    tx_wire, e))
        e1000_count(e, STAT_TSCTC, 1);
    else
        guest_error(&e->pci.dev, "e1000: segmentation that does not fit a frame of %u", e->tx_size);
}

static void tx_packet(struct e1000 *e)
{
    const struct e1000_context *c = &e->context[0];

    if (e->tx_skip) {
        guest_error(&e->pci.dev, "e1000: a packet of more than %u bytes", NET_SEGMENT_MAX);
    } else if (e->tx_segment) {
        tx_segmented(e);
    } else {
        if (e->tx_options & POPTS_TXSM) tx_checksum(e, c->tucss, c->tucse, c->tucso);
        if (e->tx_options & POPTS_IXSM) tx_checksum(e, c->ipcss, c->ipcse, c->ipcso);
        tx_wire(e, tx_frame(e), e->tx_size);
    }
    e->tx_size = 0;
    e->tx_skip = e->tx_options = e->tx_segment = e->tx_tag = 0;
}

static void tx_context(struct e1000 *e, const u8 *raw)
{
    u32 command = ld32(raw + 8);
    struct e1000_context *c = &e->context[(command & CMD_TSE) != 0];

    c->ipcss = raw[0];
    c->ipcso = raw[1];
    c->ipcse = ld16(raw + 2);
    c->tucss = raw[4];
    c->tucso = raw[5];
    c->tucse = ld16(raw + 6);
    c->paylen = command & 0xfffff;
    c->hdrlen = raw[13];
    c->mss = ld16(raw + 14);
    c->ip = (command & TUCMD_IP) != 0;
    c->tcp = (command & TUCMD_TCP) != 0;
}

static void tx_gather(struct e1000 *e, u64 address, u32 length)
{
    if (length > NET_SEGMENT_MAX - e->tx_size) {
        e->tx_skip = 1;
        return;
    }
    if (!dma_read(e->pci.dev.bus, address, tx_frame(e) + e->tx_size, length))
        guest_error(&e->pci.dev, "e1000: transmit buffer outside memory");
    e->tx_size += length;
}

static void tx_data(struct e1000 *e, const u8 *raw)
{
    u32 command = ld32(raw + 8);
    bool extended = command & CMD_DEXT;
    u32 length = extended ? command & 0xfffff : command & 0xffff;

    if (extended && e->tx_size == 0) {
        e->tx_options = raw[13];
        e->tx_segment = (command & CMD_TSE) != 0;
    }
    tx_gather(e, ld64(raw), length);
    if (!(command & CMD_EOP)) return;
    e->tx_tag = (command & CMD_VLE) != 0;
    e->tx_vlan = ld16(raw + 14);
    if (!extended && (command & CMD_IC) && !e->tx_skip) tx_checksum(e, raw[13], 0, raw[10]);
    tx_packet(e);
}

static u32 tx_entries(const struct e1000 *e)
{
    return e->tdlen / 16;
}

/* One descriptor; tells whether the driver wants to know of it. */
static bool tx_descriptor(struct e1000 *e)
{
    u64 at = ((u64)e->tdbah << 32 | e->tdbal) + 16 * (u64)e->tdh;
    u8 raw[16];
    u32 command;

    if (!dma_read(e->pci.dev.bus, at, raw, sizeof raw)) {
        guest_error(&e->pci.dev, "e1000: transmit ring outside memory");
        return false;
    }
    command = ld32(raw + 8);
    if ((command & CMD_DEXT) && (command >> 20 & 15) == 0) tx_context(e, raw);
    else tx_data(e, raw);
    if (!(command & (CMD_RS | CMD_RPS))) return false;
    dma_st32(e->pci.dev.bus, at + 12, ld32(raw + 12) | TX_DD);
    return true;
}

void e1000_transmit(struct e1000 *e)
{
    u32 causes = 0;
    unsigned served = 0;

    if (e->sending || !(e->tctl & TCTL_EN) || !pci_is_master(&e->pci)) return;
    if (e->tdh == e->tdt) return;
    if (!tx_entries(e) || e->tdt >= tx_entries(e)) {
        guest_error(&e->pci.dev, "e1000: TDT %u in a ring of %u", e->tdt, tx_entries(e));
        return;
    }
    e->sending = true;
    while (e->tdh != e->tdt && served++ < DESCRIPTORS_AT_ONCE) {
        if (tx_descriptor(e)) causes |= ICR_TXDW;
        if (++e->tdh >= tx_entries(e)) e->tdh = 0;
    }
    e->sending = false;
    if (e->tdh == e->tdt) causes |= ICR_TXQE;
    else timer_set(&e->transmission, clock_now(e->pci.dev.clock) + LATER);
    e1000_interrupt(e, causes);
}
