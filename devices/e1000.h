/*
 * Intel 82540EM, shared by its three files: e1000.c (registers, receive, interrupts), e1000_tx.c
 * (transmit) and e1000_phy.c (EEPROM and PHY). Nobody else includes this.
 */
#ifndef DEVICES_E1000_H
#define DEVICES_E1000_H

#include "devices/pci.h"
#include "net/net.h"
#include "net/offload.h"

#define E1000_EEPROM_WORDS 64
#define E1000_STATISTICS 64 /* words from 4000h on */
#define E1000_VLAN_ROOM 4   /* in front of a frame in the transmit buffers */

enum { CTRL_VME = 1 << 30, CTRL_RST = 1 << 26 };
#define CTRL_PHY_RST (1u << 31)
enum { STATUS_LU = 1 << 1 };
enum { TCTL_EN = 1 << 1, TCTL_PSP = 1 << 3 };

enum { ICR_TXDW = 1 << 0, ICR_TXQE = 1 << 1, ICR_LSC = 1 << 2, ICR_RXDMT0 = 1 << 4,
       ICR_RXO = 1 << 6,
       ICR_RXT0 = 1 << 7, ICR_MDAC = 1 << 9, ICR_TXD_LOW = 1 << 15 };

/* Statistics, as words from 4000h on */
enum { STAT_MPC = 4, STAT_ROC = 43, STAT_PRC64 = 23, STAT_GPRC = 29, STAT_BPRC = 30, STAT_MPRC = 31,
       STAT_GPTC = 32, STAT_GORCL = 34, STAT_GOTCL = 36, STAT_TORL = 48, STAT_TOTL = 50,
       STAT_TPR = 52, STAT_TPT = 53, STAT_PTC64 = 54, STAT_MPTC = 60, STAT_BPTC = 61,
       STAT_TSCTC = 62 };

/* A transmit context: where headers are and how to cut. */
#define E1000_CONTEXT_STATE(SCALAR, ARRAY, GROUP, BLOB)                                            \
    SCALAR(u8, ipcss)                                                                              \
    SCALAR(u8, ipcso)                                                                              \
    SCALAR(u16, ipcse)                                                                             \
    SCALAR(u8, tucss)                                                                              \
    SCALAR(u8, tucso)                                                                              \
    SCALAR(u16, tucse)                                                                             \
    SCALAR(u32, paylen)                                                                            \
    SCALAR(u8, hdrlen)                                                                             \
    SCALAR(u16, mss)                                                                               \
    SCALAR(u8, ip)                                                                                 \
    SCALAR(u8, tcp)

#define E1000_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                    \
    SCALAR(u32, ctrl) SCALAR(u32, status) SCALAR(u32, eecd) SCALAR(u32, eerd)                      \
    SCALAR(u32, ctrl_ext) SCALAR(u32, mdic) SCALAR(u32, fcal) SCALAR(u32, fcah) SCALAR(u32, fct)   \
    SCALAR(u32, vet) SCALAR(u32, icr) SCALAR(u32, itr) SCALAR(u32, ims) SCALAR(u32, rctl)          \
    SCALAR(u32, fcttv) SCALAR(u32, txcw) SCALAR(u32, rxcw) SCALAR(u32, tctl) SCALAR(u32, tipg)     \
    SCALAR(u32, ait) SCALAR(u32, ledctl) SCALAR(u32, pba) SCALAR(u32, fcrtl) SCALAR(u32, fcrth)    \
    SCALAR(u32, rdbal) SCALAR(u32, rdbah) SCALAR(u32, rdlen) SCALAR(u32, rdh) SCALAR(u32, rdt)     \
    SCALAR(u32, rdtr) SCALAR(u32, rxdctl) SCALAR(u32, radv) SCALAR(u32, rsrpd)                     \
    SCALAR(u32, tdbal) SCALAR(u32, tdbah) SCALAR(u32, tdlen) SCALAR(u32, tdh) SCALAR(u32, tdt)     \
    SCALAR(u32, tidv) SCALAR(u32, txdctl) SCALAR(u32, tadv) SCALAR(u32, tspmt) SCALAR(u32, txdmac) \
    SCALAR(u32, rxcsum) SCALAR(u32, wuc) SCALAR(u32, wufc) SCALAR(u32, wus) SCALAR(u32, manc)      \
    SCALAR(u32, ipav) SCALAR(u32, io_address)                                                      \
    ARRAY(u32, statistics, E1000_STATISTICS)                                                       \
    ARRAY(u32, multicast, 128)                                                                     \
    ARRAY(u32, receive_address, 32)                                                                \
    ARRAY(u32, vlan_filter, 128)                                                                   \
    ARRAY(u16, phy, 32)                                                                            \
    SCALAR(u8, negotiating)                                                                        \
    SCALAR(u64, negotiated_at)                                                                     \
    SCALAR(u8, link_up)        /* the cable's */                                                   \
    SCALAR(u8, eeprom_bits)    /* clocked in since chip select */                                  \
    SCALAR(u16, eeprom_in)                                                                         \
    SCALAR(u32, eeprom_out)    /* bits that still go out, from bit 15 down */                      \
    SCALAR(u8, eeprom_reading)                                                                     \
    SCALAR(u8, eeprom_word)                                                                        \
    SCALAR(u64, quiet_until)   /* no interrupt before that time */                                 \
    SCALAR(u8, line)                                                                               \
    GROUP(e1000_context, context, 2) /* [1]: segmentation */                                       \
    SCALAR(u8, tx_skip)        /* the packet is dropped until its end */                           \
    SCALAR(u32, tx_size)       /* bytes of a packet gathered so far; lost in a snapshot */         \
    SCALAR(u8, tx_options)     /* POPTS of its first descriptor */                                 \
    SCALAR(u8, tx_segment)                                                                         \
    SCALAR(u8, tx_tag)                                                                             \
    SCALAR(u16, tx_vlan)

struct e1000_context {
    STATE_MEMBERS(E1000_CONTEXT_STATE)
};

struct e1000 {
    struct pci_device pci;
    STATE_MEMBERS(E1000_STATE)
    struct region memory, ports;
    u8 mac[6];
    struct net_port *port;
    u16 eeprom[E1000_EEPROM_WORDS]; /* made from mac */
    struct timer mitigation, negotiation, transmission; /* not saved: e1000_restored */
    bool sending;
    u8 *frame, *segment; /* E1000_VLAN_ROOM + NET_SEGMENT_MAX, + NET_FRAME_MAX */
};

/* e1000.c */
void e1000_interrupt(struct e1000 *e, u32 causes);
void e1000_count(struct e1000 *e, unsigned statistic, u32 by);
void e1000_count64(struct e1000 *e, unsigned statistic, u64 by);
unsigned e1000_size_class(u32 length); /* 0 to 5, for the length histograms */
bool e1000_receive(void *opaque, const u8 *frame, u32 length);

/* e1000_tx.c */
void e1000_transmit(struct e1000 *e);

/* e1000_phy.c */
void e1000_eeprom_init(struct e1000 *e);
void e1000_eecd_write(struct e1000 *e, u32 value);
u32 e1000_eecd_read(struct e1000 *e);
void e1000_eerd_write(struct e1000 *e, u32 value);
void e1000_mdic_write(struct e1000 *e, u32 value);
void e1000_phy_reset(struct e1000 *e);
void e1000_negotiated(void *opaque); /* timer */
void e1000_link_update(struct e1000 *e);
bool e1000_phy_loopback(const struct e1000 *e);

#endif
