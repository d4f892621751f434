/*
 * What the board and the port B logic need of the 8254 interval timer.
 * Thread: machine lock held.
 */
#ifndef DEVICES_I8254_H
#define DEVICES_I8254_H

#include "machine/device.h"

#define I8254_FREQUENCY 1193182

extern const struct device_class i8254_class;

/* OUT0: IRQ0. Always high between the rising edges that count (see i8254.c). */
void i8254_connect_out0(struct device *pit, struct wire out);

/* Gates 0 and 1 are tied high on a PC; gate 2 is bit 0 of port 61h. */
void i8254_set_gate(struct device *pit, unsigned channel, bool level);

/* OUT of CHANNEL now. */
bool i8254_out(struct device *pit, unsigned channel);

#endif
