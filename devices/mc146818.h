/* What the board needs of the clock chip and its CMOS RAM. Thread: machine lock held. */
#ifndef DEVICES_MC146818_H
#define DEVICES_MC146818_H

#include "machine/device.h"

extern const struct device_class mc146818_class;

/* IRQ8. */
void mc146818_connect_irq(struct device *rtc, struct wire irq);

/* CMOS bytes 0-127, and the extended bank as 128-255. */
void mc146818_set_cmos(struct device *rtc, u8 index, u8 value);
u8 mc146818_get_cmos(struct device *rtc, u8 index);

/* Bit 7 of port 70h: the guest wants no NMIs. */
bool mc146818_nmi_masked(struct device *rtc);

#endif
