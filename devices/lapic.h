/*
 * What the board needs of the local APIC and the I/O APIC beyond the device verbs.
 * Thread: machine lock held.
 */
#ifndef DEVICES_LAPIC_H
#define DEVICES_LAPIC_H

#include "machine/device.h"
#include "machine/pins.h"

struct apic_bus; /* joins the local APICs, the I/O APIC and MSI */

struct apic_bus *apic_bus_new(void);
void apic_bus_free(struct apic_bus *bus);

/* One local APIC a processor, id = index unless set. `pins` is copied. */
void lapic_connect(struct device *lapic, struct apic_bus *bus, u32 apic_id, bool bootstrap,
                   const struct cpu_pins *pins);
void lapic_port(struct device *lapic, struct local_apic_port *port);

/* LINT0's source: the 8259 pair. `inta` gives the 8259's vector; the wire is its INT output. */
void lapic_set_extint(struct device *lapic, int (*inta)(void *pic), void *pic);
void lapic_set_lint0(struct device *lapic, bool level); /* 8259 INT */
void lapic_set_lint1(struct device *lapic, bool level); /* NMI */

/* A message-signalled interrupt, from PCI or the I/O APIC: address FEExxxxxh. */
void apic_bus_msi(struct apic_bus *bus, u64 address, u32 data);

/* I/O APIC hears EOIs of level interrupts. */
void apic_bus_on_eoi(struct apic_bus *bus, void (*eoi)(void *opaque, u8 vector), void *opaque);
void ioapic_connect(struct device *ioapic, struct apic_bus *bus);
/* A wire listener: input pins 0..23. */
void ioapic_set_pin(void *ioapic, unsigned pin, bool level);
/* The processors have not yet taken what PIN sent last. */
bool ioapic_pin_waits(struct device *ioapic, unsigned pin);

#endif
