/*
 * Between the local APICs, the I/O APIC and the bus that joins them; the board sees
 * devices/lapic.h.
 * Thread: machine lock held.
 */
#ifndef DEVICES_APIC_BUS_H
#define DEVICES_APIC_BUS_H

#include "devices/lapic.h"

/* Delivery modes as in the ICR, LVTs and redirection entries. */
enum apic_mode { APIC_FIXED = 0, APIC_LOWEST = 1, APIC_SMI = 2, APIC_NMI = 4, APIC_INIT = 5,
                 APIC_SIPI = 6, APIC_EXTINT = 7 };

struct apic_message {
    u32 destination;
    bool logical, level;
    u8 mode, vector;
};

/* VECTOR waits in some local APIC. */
bool apic_bus_waits(const struct apic_bus *bus, u8 vector);
/* A message with an 8-bit destination (FFh: everybody), from the I/O APIC or MSI. */
void apic_bus_send(struct apic_bus *bus, const struct apic_message *message);

#endif
