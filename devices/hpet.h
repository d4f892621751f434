/* The HPET as the board wires it. Thread: machine lock held. */
#ifndef DEVICES_HPET_H
#define DEVICES_HPET_H

#include "machine/device.h"

#define HPET_BASE 0xfed00000ull

extern const struct device_class hpet_class;

struct hpet_wires {
    struct wire pin[24];    /* I/O APIC inputs; only 2, 8 and 16-23 are ever driven */
    struct wire irq0, irq8; /* legacy replacement: where the 8254's and the RTC's outputs go */
    bool (*irq0_waits)(void *opaque); /* the last edge on irq0 has not been taken; may be NULL */
    void *irq0_opaque;
    struct wire legacy;     /* high: 8254 and RTC must be cut off from IRQ 0 and 8 */
};

void hpet_set_wires(struct device *hpet, const struct hpet_wires *wires);

#endif
