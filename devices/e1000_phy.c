/*
 * 82540EM: the microwire EEPROM (93C46) behind EECD and EERD, and the M88E1000-class PHY behind
 * MDIC.
 * Manual: Intel 8254x Family Software Developer's Manual, 5 and 13.4.2 to 13.4.4, 13.4.8; Marvell
 * 88E1000 registers as Intel documents them.
 *
 * Not modelled: writing the EEPROM (it is made anew from the mac property), cable diagnostics, the
 * PHY's interrupt, 10 and 100 Mb/s links.
 */
#include "devices/e1000.h"

enum { EECD_SK = 1, EECD_CS = 2, EECD_DI = 4, EECD_DO = 8, EECD_FWE = 0x30, EECD_REQ = 0x40,
       EECD_GNT = 0x80, EECD_PRES = 0x100 };
enum { EERD_START = 1, EERD_DONE = 1 << 4 };
#define MDIC_READ (2u << 26)
#define MDIC_WRITE (1u << 26)
#define MDIC_OPERATION (3u << 26)
#define MDIC_READY (1u << 28)
#define MDIC_INTERRUPT (1u << 29)

enum { PHY_CONTROL = 0, PHY_STATUS = 1, PHY_ID1 = 2, PHY_ID2 = 3, PHY_ADVERTISE = 4,
       PHY_PARTNER = 5,
       PHY_EXPANSION = 6, PHY_GIGABIT_CONTROL = 9, PHY_GIGABIT_STATUS = 10, PHY_EXTENDED = 15,
       PHY_SPECIFIC_CONTROL = 16, PHY_SPECIFIC_STATUS = 17, PHY_INTERRUPT_STATUS = 19,
       PHY_EXTENDED_CONTROL = 20, PHY_ERRORS = 21 };

enum { CONTROL_RESTART = 1 << 9, CONTROL_POWER_DOWN = 1 << 11, CONTROL_NEGOTIATE = 1 << 12,
       CONTROL_LOOPBACK = 1 << 14, CONTROL_RESET = 1 << 15 };
enum { PHY_LINK = 1 << 2, PHY_COMPLETE = 1 << 5 };
enum { SPECIFIC_LINK = 1 << 10, SPECIFIC_RESOLVED = 1 << 11 };

/* ns; drivers miss a link that comes up while they still set up */
#define NEGOTIATION_TIME 50000000u

/* --- EEPROM --- */

void e1000_eeprom_init(struct e1000 *e)
{
    u16 *w = e->eeprom, sum = 0;
    unsigned i;

    memset(w, 0, sizeof e->eeprom);
    for (i = 0; i < 3; i++) w[i] = ld16(e->mac + 2 * i);
    w[0x04] = 0xffff;                   /* no LED override */
    w[0x08] = 0x1000;                   /* PBA number */
    w[0x09] = 0x0001;
    w[0x0a] = 0x6403;                   /* control word 1: load ids, 3.3 V */
    w[0x0b] = 0x001e;                   /* subsystem */
    w[0x0c] = 0x8086;
    w[0x0d] = 0x100e;                   /* device */
    w[0x0e] = 0x8086;
    w[0x0f] = 0x3040;                   /* control word 2 */
    w[0x21] = 0x7e14;                   /* circuit control */
    w[0x22] = 0x2700;                   /* power in D0 and D3 */
    w[0x24] = 0x0000;
    w[0x2f] = 0x0602;                   /* LEDs */
    for (i = 0x30; i < 0x3f; i++) w[i] = 0xffff;
    w[0x30] = 0x0000;                   /* no boot agent */
    for (i = 0; i < 0x3f; i++) sum = (u16)(sum + w[i]);
    w[0x3f] = (u16)(0xbaba - sum);
}

/* A rising clock takes DI in or moves the next bit of a word out. */
static void eeprom_clock(struct e1000 *e, bool data)
{
    if (e->eeprom_reading) {
        e->eeprom_out <<= 1;
        if (++e->eeprom_bits == 16) { /* the part goes on with the next word */
            e->eeprom_word = (e->eeprom_word + 1) % E1000_EEPROM_WORDS;
            e->eeprom_out |= e->eeprom[e->eeprom_word];
            e->eeprom_bits = 0;
        }
        return;
    }
    if (!e->eeprom_bits && !data) return; /* waiting for the start bit */
    e->eeprom_in = (u16)(e->eeprom_in << 1 | data);
    if (++e->eeprom_bits < 9) return;
    if ((e->eeprom_in >> 6 & 7) == 6) { /* start, read */
        e->eeprom_reading = 1;
        e->eeprom_word = e->eeprom_in % E1000_EEPROM_WORDS;
        e->eeprom_out = e->eeprom[e->eeprom_word]; /* a zero bit first: bit 16 */
    } else {
        device_unimplemented(&e->pci.dev, "e1000: EEPROM command %03x", e->eeprom_in & 0x1ff);
        e->eeprom_in = 0;
    }
    e->eeprom_bits = 0;
}

void e1000_eecd_write(struct e1000 *e, u32 value)
{
    u32 old = e->eecd;

    e->eecd = value & (EECD_SK | EECD_CS | EECD_DI | EECD_FWE | EECD_REQ);
    if (!(value & EECD_CS) || !(old & EECD_CS)) {
        e->eeprom_bits = e->eeprom_reading = 0;
        e->eeprom_in = 0;
        e->eeprom_out = 0;
        if (!(value & EECD_CS)) return;
    }
    if ((value & EECD_SK) && !(old & EECD_SK)) eeprom_clock(e, value & EECD_DI);
}

u32 e1000_eecd_read(struct e1000 *e)
{
    u32 value = e->eecd | EECD_PRES;

    if (value & EECD_REQ) value |= EECD_GNT;
    /* While not sending, DO says ready. */
    if (!e->eeprom_reading || (e->eeprom_out >> 16 & 1)) value |= EECD_DO;
    return value;
}

void e1000_eerd_write(struct e1000 *e, u32 value)
{
    unsigned word = value >> 8 & 0xff;

    e->eerd = value & 0xff00;
    if (!(value & EERD_START)) return;
    e->eerd |= EERD_DONE;
    if (word < E1000_EEPROM_WORDS) e->eerd |= (u32)e->eeprom[word] << 16;
}

/* --- PHY --- */

bool e1000_phy_loopback(const struct e1000 *e)
{
    return e->phy[PHY_CONTROL] & CONTROL_LOOPBACK;
}

/* Link and everything that follows from it, in PHY and MAC. */
void e1000_link_update(struct e1000 *e)
{
    bool up = (e->link_up || e1000_phy_loopback(e)) && !e->negotiating &&
              !(e->phy[PHY_CONTROL] & CONTROL_POWER_DOWN);
    bool was = e->status & STATUS_LU;

    e->phy[PHY_STATUS] &= (u16)~(PHY_LINK | PHY_COMPLETE);
    e->phy[PHY_SPECIFIC_STATUS] &= (u16)~(SPECIFIC_LINK | SPECIFIC_RESOLVED);
    e->phy[PHY_PARTNER] = e->phy[PHY_GIGABIT_STATUS] = 0;
    if (up) {
        e->phy[PHY_STATUS] |= PHY_LINK | PHY_COMPLETE;
        e->phy[PHY_SPECIFIC_STATUS] |= SPECIFIC_LINK | SPECIFIC_RESOLVED;
        e->phy[PHY_PARTNER] = 0x45e1;        /* everything, acknowledged */
        e->phy[PHY_GIGABIT_STATUS] = 0x7c00; /* gigabit both ways, receivers fine */
    }
    e->status = up ? e->status | STATUS_LU : e->status & ~(u32)STATUS_LU;
    if (up == was) return;
    e1000_interrupt(e, ICR_LSC);
    if (up) net_card_ready(e->port);
}

void e1000_negotiated(void *opaque)
{
    struct e1000 *e = opaque;

    e->negotiating = 0;
    e1000_link_update(e);
}

static void phy_negotiate(struct e1000 *e)
{
    e->negotiating = 1;
    e->negotiated_at = clock_now(e->pci.dev.clock) + NEGOTIATION_TIME;
    timer_set(&e->negotiation, e->negotiated_at);
    e1000_link_update(e);
}

static void phy_defaults(struct e1000 *e)
{
    memset(e->phy, 0, sizeof e->phy);
    e->phy[PHY_CONTROL] = 0x1140;
    e->phy[PHY_STATUS] = 0x7949;
    e->phy[PHY_ID1] = 0x0141;
    e->phy[PHY_ID2] = 0x0c20;
    e->phy[PHY_ADVERTISE] = 0x0de1;
    e->phy[PHY_EXPANSION] = 0x000d;
    e->phy[PHY_GIGABIT_CONTROL] = 0x0e00;
    e->phy[PHY_EXTENDED] = 0x3000;
    e->phy[PHY_SPECIFIC_CONTROL] = 0x0360;
    e->phy[PHY_SPECIFIC_STATUS] = 0xa000; /* 1000 Mb/s, full duplex */
    e->phy[PHY_EXTENDED_CONTROL] = 0x0d60;
}

void e1000_phy_reset(struct e1000 *e)
{
    phy_defaults(e);
    e->negotiating = 0;
    timer_cancel(&e->negotiation);
    e1000_link_update(e);
}

static void phy_control_write(struct e1000 *e, u16 value)
{
    if (value & CONTROL_RESET) {
        phy_defaults(e);
        phy_negotiate(e);
        return;
    }
    e->phy[PHY_CONTROL] = value & 0x7d40 & (u16)~CONTROL_RESTART;
    if ((value & CONTROL_NEGOTIATE) && (value & CONTROL_RESTART)) phy_negotiate(e);
    else e1000_link_update(e);
}

static void phy_write(struct e1000 *e, unsigned number, u16 value)
{
    switch (number) {
    case PHY_CONTROL: phy_control_write(e, value); break;
    case PHY_STATUS: case PHY_ID1: case PHY_ID2: case PHY_PARTNER: case PHY_EXPANSION:
    case PHY_GIGABIT_STATUS: case PHY_EXTENDED: case PHY_SPECIFIC_STATUS:
    case PHY_INTERRUPT_STATUS: case PHY_ERRORS:
        break;
    default: e->phy[number] = value;
    }
}

void e1000_mdic_write(struct e1000 *e, u32 value)
{
    unsigned address = value >> 21 & 31, number = value >> 16 & 31;

    value &= ~MDIC_READY;
    if ((value & MDIC_OPERATION) == MDIC_READ) {
        u16 data = address == 1 ? e->phy[number] : 0xffff; /* nobody pulls the line down */
        value = (value & 0xffff0000) | data;
    } else if ((value & MDIC_OPERATION) == MDIC_WRITE) {
        if (address == 1) phy_write(e, number, (u16)value);
    } else {
        guest_error(&e->pci.dev, "e1000: MDIC operation %u", value >> 26 & 3);
    }
    e->mdic = value | MDIC_READY;
    if (value & MDIC_INTERRUPT) e1000_interrupt(e, ICR_MDAC);
}
