/* What the board needs of a serial port. Thread: machine lock held. */
#ifndef DEVICES_NS16550_H
#define DEVICES_NS16550_H

#include "machine/device.h"

extern const struct device_class ns16550_class;

void ns16550_connect_irq(struct device *uart, struct wire irq);

#endif
