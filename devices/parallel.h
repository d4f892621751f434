/* What the board needs of a parallel port. Thread: machine lock held. */
#ifndef DEVICES_PARALLEL_H
#define DEVICES_PARALLEL_H

#include "machine/device.h"

extern const struct device_class parallel_class;

void parallel_connect_irq(struct device *parallel, struct wire irq); /* IRQ7 */

#endif
