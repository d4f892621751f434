/*
 * Intel 82540EM Gigabit Ethernet controller: registers, receive ring, filters, interrupts.
 * Manual: Intel 8254x Family of Gigabit Ethernet Controllers Software Developer's Manual.
 *
 * Not modelled: the frame check sequence's value (four zero bytes where it is kept), the packet
 * checksum field of receive descriptors, receive delays (told at once, within ITR), flow control,
 * wake-up, management, diagnostic access to the packet buffer, MSI.
 */
#include "devices/e1000.h"

#include <stdlib.h>

#define MEMORY_SIZE KIB(128)
#define PORTS_SIZE 64
#define MITIGATION_MAX 1000000u /* ns: a driver that asks for less than 1000 a second gets that */

#define REG_CTRL 0x0000
#define REG_CTRL_DUP 0x0004
#define REG_STATUS 0x0008
#define REG_EECD 0x0010
#define REG_EERD 0x0014
#define REG_MDIC 0x0020
#define REG_ICR 0x00c0
#define REG_ICS 0x00c8
#define REG_IMS 0x00d0
#define REG_IMC 0x00d8
#define REG_RCTL 0x0100
#define REG_TCTL 0x0400
#define REG_RDT 0x2818
#define REG_TDT 0x3818
#define REG_STATISTICS 0x4000
#define REG_MTA 0x5200
#define REG_RA 0x5400
#define REG_VFTA 0x5600

enum { RCTL_EN = 1 << 1, RCTL_UPE = 1 << 3, RCTL_MPE = 1 << 4, RCTL_LPE = 1 << 5,
       RCTL_BAM = 1 << 15,
       RCTL_VFE = 1 << 18, RCTL_BSEX = 1 << 25, RCTL_SECRC = 1 << 26 };
enum { RXCSUM_IPOFL = 1 << 8, RXCSUM_TUOFL = 1 << 9 };
enum { RX_DD = 1, RX_EOP = 2, RX_IXSM = 4, RX_VP = 8, RX_TCPCS = 0x20, RX_IPCS = 0x40,
       RX_PIF = 0x80 };
enum { RX_ERROR_TCPE = 0x20, RX_ERROR_IPE = 0x40 };

#define AV_BIT 0x80000000u /* a receive address is valid */

#define STATE_OWNER struct e1000_context
STATE_TABLE(e1000_context, E1000_CONTEXT_STATE)
#undef STATE_OWNER
#define STATE_OWNER struct e1000
STATE_TABLE(e1000, E1000_STATE)
#undef STATE_OWNER

/* Registers that are only remembered. */
struct plain {
    u16 address;
    u32 offset, writable;
};

// clang-format off
#define PLAIN(address, name, writable) {address, offsetof(struct e1000, name), writable}
static const struct plain plain_registers[] = {
    PLAIN(0x0018, ctrl_ext, 0xffffffff), PLAIN(0x0028, fcal, 0xffffffff),
    PLAIN(0x002c, fcah, 0xffff),         PLAIN(0x0030, fct, 0xffff),
    PLAIN(0x0038, vet, 0xffff),          PLAIN(0x00c4, itr, 0xffff),
    PLAIN(0x0170, fcttv, 0xffff),        PLAIN(0x0178, txcw, 0xffffffff),
    PLAIN(0x0180, rxcw, 0),              PLAIN(0x0410, tipg, 0x3fffffff),
    PLAIN(0x0458, ait, 0xffff),          PLAIN(0x0e00, ledctl, 0xffffffff),
    PLAIN(0x1000, pba, 0xffff),          PLAIN(0x2160, fcrtl, 0x8000fff8),
    PLAIN(0x2168, fcrth, 0xfff8),        PLAIN(0x2800, rdbal, 0xfffffff0),
    PLAIN(0x2804, rdbah, 0xffffffff),    PLAIN(0x2808, rdlen, 0xfff80),
    PLAIN(0x2810, rdh, 0xffff),          PLAIN(0x2820, rdtr, 0xffff),
    PLAIN(0x2828, rxdctl, 0xffffffff),   PLAIN(0x282c, radv, 0xffff),
    PLAIN(0x2c00, rsrpd, 0xfff),         PLAIN(0x3000, txdmac, 1),
    PLAIN(0x3800, tdbal, 0xfffffff0),    PLAIN(0x3804, tdbah, 0xffffffff),
    PLAIN(0x3808, tdlen, 0xfff80),       PLAIN(0x3810, tdh, 0xffff),
    PLAIN(0x3820, tidv, 0xffff),         PLAIN(0x3828, txdctl, 0xffffffff),
    PLAIN(0x382c, tadv, 0xffff),         PLAIN(0x3830, tspmt, 0xffffffff),
    PLAIN(0x5000, rxcsum, 0x7ff),        PLAIN(0x5800, wuc, 0xf),
    PLAIN(0x5808, wufc, 0xf00ff),        PLAIN(0x5810, wus, 0),
    PLAIN(0x5820, manc, 0xffffffff),     PLAIN(0x5838, ipav, 0x1000f),
};
// clang-format on

/* --- statistics --- */

void e1000_count(struct e1000 *e, unsigned statistic, u32 by)
{
    u32 *count = &e->statistics[statistic];
    *count = *count + by < *count ? 0xffffffff : *count + by;
}

void e1000_count64(struct e1000 *e, unsigned statistic, u64 by)
{
    u64 count = (u64)e->statistics[statistic + 1] << 32 | e->statistics[statistic];

    count = count + by < count ? ~0ull : count + by;
    e->statistics[statistic] = (u32)count;
    e->statistics[statistic + 1] = (u32)(count >> 32);
}

unsigned e1000_size_class(u32 length)
{
    if (length <= 64) return 0;
    if (length <= 127) return 1;
    if (length <= 255) return 2;
    if (length <= 511) return 3;
    return length <= 1023 ? 4 : 5;
}

/* --- interrupts --- */

/* The line follows ICR & IMS, but rises no oftener than ITR allows. */
static void interrupt_update(struct e1000 *e)
{
    u64 now = clock_now(e->pci.dev.clock), interval = (u64)e->itr * 256;
    bool wanted = e->icr & e->ims;

    if (!wanted) {
        e->line = 0;
        timer_cancel(&e->mitigation);
    } else if (!e->line && now < e->quiet_until) {
        if (!timer_pending(&e->mitigation)) timer_set(&e->mitigation, e->quiet_until);
    } else if (!e->line) {
        e->line = 1;
        e->quiet_until = now + (interval < MITIGATION_MAX ? interval : MITIGATION_MAX);
    }
    pci_set_interrupt(&e->pci, e->line);
}

static void interrupt_due(void *opaque)
{
    struct e1000 *e = opaque;

    e->quiet_until = 0;
    interrupt_update(e);
}

void e1000_interrupt(struct e1000 *e, u32 causes)
{
    e->icr |= causes;
    interrupt_update(e);
}

static u32 icr_read(struct e1000 *e)
{
    u32 icr = e->icr;

    e->icr = 0;
    interrupt_update(e);
    return icr;
}

/* --- receive --- */

static u32 rx_entries(const struct e1000 *e)
{
    return e->rdlen / 16;
}

static u32 rx_buffer_size(const struct e1000 *e)
{
    u32 size = 2048u >> (e->rctl >> 16 & 3);
    return (e->rctl & RCTL_BSEX) && size < 2048 ? size * 16 : size;
}

static u32 rx_free(const struct e1000 *e)
{
    u32 entries = rx_entries(e);

    if (!entries || e->rdh >= entries || e->rdt >= entries) return 0;
    return e->rdt >= e->rdh ? e->rdt - e->rdh : entries - e->rdh + e->rdt;
}

static bool is_tagged(const struct e1000 *e, const u8 *frame, u32 length)
{
    return length >= 18 && ((u32)frame[12] << 8 | frame[13]) == e->vet;
}

static bool multicast_match(const struct e1000 *e, const u8 *address)
{
    static const u8 shifts[4] = {4, 3, 2, 0};
    u32 hash = ((u32)address[5] << 8 | address[4]) >> shifts[e->rctl >> 12 & 3] & 0xfff;

    return e->multicast[hash >> 5] >> (hash & 31) & 1;
}

/* *INEXACT: let in by the hash or promiscuously. */
static bool rx_passes(const struct e1000 *e, const u8 *frame, u32 length, bool *inexact)
{
    static const u8 broadcast[6] = {255, 255, 255, 255, 255, 255};
    unsigned i;

    *inexact = false;
    if ((e->rctl & RCTL_VFE) && is_tagged(e, frame, length)) {
        u32 vlan = ((u32)frame[14] << 8 | frame[15]) & 0xfff;
        if (!(e->vlan_filter[vlan >> 5] >> (vlan & 31) & 1)) return false;
    }
    if (!memcmp(frame, broadcast, 6) && (e->rctl & RCTL_BAM)) return true;
    for (i = 0; i < 32; i += 2)
        if ((e->receive_address[i + 1] & AV_BIT) && ld32(frame) == e->receive_address[i] &&
            ld16(frame + 4) == (e->receive_address[i + 1] & 0xffff))
            return true;
    *inexact = true;
    if (!(frame[0] & 1)) return e->rctl & RCTL_UPE;
    return (e->rctl & RCTL_MPE) || multicast_match(e, frame);
}

static void rx_count(struct e1000 *e, const u8 *frame, u32 wire)
{
    e1000_count(e, STAT_TPR, 1);
    e1000_count(e, STAT_GPRC, 1);
    e1000_count64(e, STAT_TORL, wire);
    e1000_count64(e, STAT_GORCL, wire);
    e1000_count(e, STAT_PRC64 + e1000_size_class(wire), 1);
    if (!(frame[0] & 1)) return;
    if (frame[0] == 0xff && frame[5] == 0xff) e1000_count(e, STAT_BPRC, 1);
    else e1000_count(e, STAT_MPRC, 1);
}

/* What the last descriptor of a frame says: status in the low byte, errors above. */
static u32 rx_verdict(const struct e1000 *e, const u8 *frame, u32 length)
{
    struct net_checked checked;
    u32 verdict = 0;

    if (!(e->rxcsum & (RXCSUM_IPOFL | RXCSUM_TUOFL))) return RX_IXSM;
    checked = net_check_frame(frame, length);
    if (checked.ip == NET_UNCHECKED && checked.l4 == NET_UNCHECKED) return RX_IXSM;
    if ((e->rxcsum & RXCSUM_IPOFL) && checked.ip != NET_UNCHECKED) {
        verdict |= RX_IPCS;
        if (checked.ip == NET_BAD) verdict |= RX_ERROR_IPE << 8;
    }
    if ((e->rxcsum & RXCSUM_TUOFL) && checked.l4 != NET_UNCHECKED) {
        verdict |= RX_TCPCS;
        if (checked.l4 == NET_BAD) verdict |= RX_ERROR_TCPE << 8;
    }
    return verdict;
}

/* LENGTH bytes of FRAME, then zeroes up to TOTAL, over as many buffers as it takes. */
static void rx_store(struct e1000 *e, const u8 *frame, u32 length, u32 total, u32 verdict, u16 tag)
{
    static const u8 check[4];
    struct bus *bus = e->pci.dev.bus;
    u32 size = rx_buffer_size(e), done = 0;

    while (done < total) {
        u64 at = ((u64)e->rdbah << 32 | e->rdbal) + 16 * (u64)e->rdh, buffer;
        u32 part = total - done < size ? total - done : size, bytes;
        u8 raw[16];
        dma_read(bus, at, raw, sizeof raw);
        buffer = ld64(raw);
        bytes = done >= length ? 0 : length - done < part ? length - done : part;
        if (buffer) { /* a null descriptor uses up its share and stores nothing */
            dma_write(bus, buffer, frame + done, bytes);
            if (bytes < part) dma_write(bus, buffer + bytes, check, part - bytes);
        }
        done += part;
        st16(raw + 8, (u16)part);
        st16(raw + 10, 0);
        raw[12] = (u8)(RX_DD | (done == total ? RX_EOP | (verdict & 0xff) : 0));
        raw[13] = done == total ? (u8)(verdict >> 8) : 0;
        st16(raw + 14, done == total ? tag : 0);
        dma_write(bus, at + 8, raw + 8, 8);
        if (++e->rdh >= rx_entries(e)) e->rdh = 0;
    }
}

static bool rx_accept(struct e1000 *e, const u8 *frame, u32 length, bool inexact)
{
    u8 untagged[1600];
    u32 verdict = rx_verdict(e, frame, length), total, needed, causes = ICR_RXT0;
    u16 tag = 0;

    rx_count(e, frame, length + 4);
    if ((e->ctrl & CTRL_VME) && is_tagged(e, frame, length) && length <= sizeof untagged) {
        tag = (u16)(frame[14] << 8 | frame[15]);
        memcpy(untagged, frame, 12);
        memcpy(untagged + 12, frame + 16, length - 16);
        frame = untagged;
        length -= 4;
        verdict |= RX_VP;
    }
    if (inexact && (frame[0] & 1)) verdict |= RX_PIF;
    total = length + (e->rctl & RCTL_SECRC ? 0 : 4);
    needed = (total + rx_buffer_size(e) - 1) / rx_buffer_size(e);
    if (needed > rx_free(e)) return false;
    rx_store(e, frame, length, total, verdict, tag);
    if (rx_free(e) <= rx_entries(e) >> (1 + (e->rctl >> 8 & 3))) causes |= ICR_RXDMT0;
    e1000_interrupt(e, causes);
    return true;
}

bool e1000_receive(void *opaque, const u8 *frame, u32 length)
{
    struct e1000 *e = opaque;
    u8 padded[60];
    u32 worst;
    bool inexact;

    if (!(e->status & STATUS_LU) || !(e->rctl & RCTL_EN) || !pci_is_master(&e->pci)) return true;
    if (length < 14 || length > NET_FRAME_MAX) return true;
    if (length < sizeof padded) {
        memcpy(padded, frame, length);
        memset(padded + length, 0, sizeof padded - length);
        frame = padded;
        length = sizeof padded;
    }
    if (length > (is_tagged(e, frame, length) ? 1518u : 1514u) &&
        (!(e->rctl & RCTL_LPE) || length > 16384 - 4)) {
        e1000_count(e, STAT_ROC, 1);
        return true;
    }
    if (!rx_passes(e, frame, length, &inexact)) return true;
    /* Asked before anything is counted: a frame that waits comes again. */
    worst = (length + 4 + rx_buffer_size(e) - 1) / rx_buffer_size(e);
    if (worst > rx_free(e)) {
        if (worst < rx_entries(e)) return false;
        e1000_count(e, STAT_MPC, 1); /* never, in such a ring */
        e1000_interrupt(e, ICR_RXO);
        return true;
    }
    return rx_accept(e, frame, length, inexact);
}

static void transmission_due(void *opaque)
{
    e1000_transmit(opaque);
}

static void e1000_link(void *opaque, bool up)
{
    struct e1000 *e = opaque;

    e->link_up = up;
    e1000_link_update(e);
}

/* --- registers --- */

/* The MAC's power-on values; the PHY and the link stay. */
static void mac_reset(struct e1000 *e)
{
    u32 link = e->status & STATUS_LU;
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(plain_registers); i++)
        *(u32 *)((char *)e + plain_registers[i].offset) = 0;
    e->ctrl = 0x00140241;   /* full duplex, SLU, 1000 Mb/s, pins 0 and 2 */
    e->status = 0x00000681 | link;
    e->eecd = e->eerd = e->mdic = 0;
    e->mdic = 1u << 28;
    e->icr = e->ims = e->rctl = e->tctl = 0;
    e->rdt = e->tdt = 0;
    e->vet = 0x8100;
    e->pba = 0x00100030;
    e->ledctl = 0x07068302;
    e->manc = 0x00002000;
    e->io_address = 0;
    memset(e->statistics, 0, sizeof e->statistics);
    memset(e->multicast, 0, sizeof e->multicast);
    memset(e->vlan_filter, 0, sizeof e->vlan_filter);
    memset(e->receive_address, 0, sizeof e->receive_address);
    e->receive_address[0] = ld32(e->mac);
    e->receive_address[1] = ld16(e->mac + 4) | AV_BIT;
    memset(e->context, 0, sizeof e->context);
    e->tx_size = 0;
    e->tx_skip = e->tx_options = e->tx_segment = e->tx_tag = 0;
    e->quiet_until = 0;
    timer_cancel(&e->transmission);
    interrupt_update(e);
}

static void ctrl_write(struct e1000 *e, u32 value)
{
    if (value & CTRL_RST) {
        mac_reset(e);
        return;
    }
    if ((value & CTRL_PHY_RST) && !(e->ctrl & CTRL_PHY_RST)) e1000_phy_reset(e);
    e->ctrl = value;
}

static const struct plain *plain_find(u32 address)
{
    unsigned low = 0, high = ARRAY_SIZE(plain_registers);

    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (plain_registers[middle].address < address) low = middle + 1;
        else high = middle;
    }
    if (low < ARRAY_SIZE(plain_registers) && plain_registers[low].address == address)
        return &plain_registers[low];
    return NULL;
}

/* The tables: RA, MTA, VFTA. */
static u32 *table_entry(struct e1000 *e, u32 address)
{
    if (address >= REG_MTA && address < REG_MTA + 512)
        return &e->multicast[(address - REG_MTA) / 4];
    if (address >= REG_RA && address < REG_RA + 128)
        return &e->receive_address[(address - REG_RA) / 4];
    if (address >= REG_VFTA && address < REG_VFTA + 512)
        return &e->vlan_filter[(address - REG_VFTA) / 4];
    return NULL;
}

static bool is_wide_statistic(unsigned n)
{
    return n == STAT_GORCL || n == STAT_GOTCL || n == STAT_TORL || n == STAT_TOTL;
}

/* Cleared as read; the 64-bit ones when the upper half is. */
static u32 statistic_read(struct e1000 *e, u32 address)
{
    unsigned n = (address - REG_STATISTICS) / 4;
    u32 value = e->statistics[n];

    if (is_wide_statistic(n)) return value;
    e->statistics[n] = 0;
    if (n && is_wide_statistic(n - 1)) e->statistics[n - 1] = 0;
    return value;
}

static u32 register_read(struct e1000 *e, u32 address)
{
    const struct plain *plain;
    const u32 *entry;

    switch (address) {
    case REG_CTRL: case REG_CTRL_DUP: return e->ctrl;
    case REG_STATUS: return e->status;
    case REG_EECD: return e1000_eecd_read(e);
    case REG_EERD: return e->eerd;
    case REG_MDIC: return e->mdic;
    case REG_ICR: return icr_read(e);
    case REG_IMS: return e->ims;
    case REG_RCTL: return e->rctl;
    case REG_TCTL: return e->tctl;
    case REG_RDT: return e->rdt;
    case REG_TDT: return e->tdt;
    case REG_ICS: case REG_IMC: return 0; /* write only */
    }
    if (address >= REG_STATISTICS && address < REG_STATISTICS + 4 * E1000_STATISTICS)
        return statistic_read(e, address);
    if ((entry = table_entry(e, address))) return *entry;
    if ((plain = plain_find(address))) return *(const u32 *)((const char *)e + plain->offset);
    device_unimplemented(&e->pci.dev, "e1000: read of register %05x", address);
    return 0;
}

static void plain_write(struct e1000 *e, u32 address, u32 value)
{
    const struct plain *plain = plain_find(address);
    u32 *entry = table_entry(e, address);

    if (entry) {
        *entry = value;
    } else if (plain) {
        u32 *to = (u32 *)((char *)e + plain->offset);
        *to = (*to & ~plain->writable) | (value & plain->writable);
    } else if (address < REG_STATISTICS || address >= REG_STATISTICS + 4 * E1000_STATISTICS) {
        device_unimplemented(&e->pci.dev, "e1000: write of %08x to register %05x", value, address);
    }
}

static void register_write(struct e1000 *e, u32 address, u32 value)
{
    switch (address) {
    case REG_CTRL: case REG_CTRL_DUP: ctrl_write(e, value); break;
    case REG_STATUS: break;
    case REG_EECD: e1000_eecd_write(e, value); break;
    case REG_EERD: e1000_eerd_write(e, value); break;
    case REG_MDIC: e1000_mdic_write(e, value); break;
    case REG_ICR:
        e->icr &= ~value;
        interrupt_update(e);
        break;
    case REG_ICS: e1000_interrupt(e, value); break;
    case REG_IMS:
        e->ims |= value;
        interrupt_update(e);
        break;
    case REG_IMC:
        e->ims &= ~value;
        interrupt_update(e);
        break;
    case REG_RCTL:
        e->rctl = value;
        net_card_ready(e->port);
        break;
    case REG_RDT:
        e->rdt = value & 0xffff;
        net_card_ready(e->port);
        break;
    case REG_TCTL:
        e->tctl = value;
        e1000_transmit(e);
        break;
    case REG_TDT:
        e->tdt = value & 0xffff;
        e1000_transmit(e);
        break;
    default: plain_write(e, address, value);
    }
}

static u64 memory_read(struct device *device, u64 offset, unsigned size)
{
    (void)size;
    return register_read((struct e1000 *)device, (u32)offset & ~3u);
}

static void memory_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)size;
    register_write((struct e1000 *)device, (u32)offset & ~3u, (u32)value);
}

static const struct region_ops e1000_memory_ops = {
    .name = "e1000", .read = memory_read, .write = memory_write, .min_size = 4, .max_size = 4};

/* IOADDR and IODATA: the registers for those who cannot reach memory. */
static u64 ports_read(struct device *device, u64 offset, unsigned size)
{
    struct e1000 *e = (struct e1000 *)device;

    (void)size;
    if (offset == 0) return e->io_address;
    if (offset == 4 && e->io_address < MEMORY_SIZE) return register_read(e, e->io_address & ~3u);
    return 0;
}

static void ports_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct e1000 *e = (struct e1000 *)device;

    (void)size;
    if (offset == 0) e->io_address = (u32)value;
    else if (offset == 4 && e->io_address < MEMORY_SIZE)
        register_write(e, e->io_address & ~3u, (u32)value);
}

static const struct region_ops e1000_ports_ops = {
    .name = "e1000", .read = ports_read, .write = ports_write, .min_size = 4, .max_size = 4};

/* --- life --- */

static bool e1000_init(struct device *device, struct error *error)
{
    struct e1000 *e = (struct e1000 *)device;
    struct pci_device *pci = &e->pci;

    if (e->port && e->port->card.receive)
        return error_set(error, "e1000: netdev %s is in use already", e->port->id);
    e->frame = calloc(1, E1000_VLAN_ROOM + NET_SEGMENT_MAX);
    e->segment = calloc(1, E1000_VLAN_ROOM + NET_FRAME_MAX);
    if (!e->frame || !e->segment) return error_set(error, "e1000: out of memory");
    pci_set_ids(pci, 0x8086, 0x100e, 3, 0x020000, 0x8086, 0x001e);
    pci_set_interrupt_pin(pci, 1);
    region_init(&e->memory, device, &e1000_memory_ops, MEMORY_SIZE);
    region_init(&e->ports, device, &e1000_ports_ops, PORTS_SIZE);
    pci_add_bar(pci, 0, &e->memory, false, false, false);
    pci_add_bar(pci, 1, &e->ports, true, false, false);
    if (pci->romfile && pci->romfile[0] && !pci_load_rom(pci, pci->romfile, error)) return false;
    timer_init(&e->mitigation, device->clock, interrupt_due, e);
    timer_init(&e->negotiation, device->clock, e1000_negotiated, e);
    timer_init(&e->transmission, device->clock, transmission_due, e);
    e1000_eeprom_init(e);
    e->link_up = 1;
    if (e->port) e->port->card = (struct net_end){e, e1000_receive, NULL, e1000_link};
    return true;
}

static void e1000_reset(struct device *device)
{
    struct e1000 *e = (struct e1000 *)device;

    pci_device_reset(&e->pci);
    e->line = 0;
    e->eeprom_bits = e->eeprom_reading = e->eeprom_word = 0;
    e->eeprom_in = 0;
    e->eeprom_out = 0;
    mac_reset(e);
    e1000_phy_reset(e);
    e->icr = 0;
    interrupt_update(e);
}

static void e1000_restored(struct device *device)
{
    struct e1000 *e = (struct e1000 *)device;
    u64 now = clock_now(device->clock);

    pci_device_restored(&e->pci);
    if (e->tx_size) e->tx_skip = 1; /* what was gathered is not saved: drop the rest */
    e->tx_size = 0;
    e->eeprom_word %= E1000_EEPROM_WORDS;
    if (e->negotiating) timer_set(&e->negotiation, e->negotiated_at);
    timer_set(&e->transmission, now);
    if (e->quiet_until > now + MITIGATION_MAX) e->quiet_until = now + MITIGATION_MAX;
    interrupt_update(e);
}

static void e1000_release(struct device *device)
{
    struct e1000 *e = (struct e1000 *)device;

    if (e->port && e->port->card.opaque == e) e->port->card = (struct net_end){0};
    if (e->mitigation.clock) timer_cancel(&e->mitigation);
    if (e->negotiation.clock) timer_cancel(&e->negotiation);
    if (e->transmission.clock) timer_cancel(&e->transmission);
    free(e->frame);
    free(e->segment);
}

static const struct property e1000_properties[] = {
    PCI_PROPERTIES,
    {"netdev", PROPERTY_NETDEV, offsetof(struct e1000, port), NULL, "what it is plugged into"},
    {"mac", PROPERTY_MAC, offsetof(struct e1000, mac), "52:54:00:12:34:56", "Ethernet address"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class e1000_class = {
    .name = "e1000",
    .title = "Intel 82540EM Gigabit Ethernet",
    .version = 1,
    .size = sizeof(struct e1000),
    .fields = e1000_fields,
    .properties = e1000_properties,
    .is_pci = true,
    .user_creatable = true,
    .init = e1000_init,
    .reset = e1000_reset,
    .restored = e1000_restored,
    .release = e1000_release,
};
