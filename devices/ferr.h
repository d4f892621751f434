/* The AT's numeric-error logic as the board wires it. Thread: machine lock held. */
#ifndef DEVICES_FERR_H
#define DEVICES_FERR_H

#include "machine/device.h"

extern const struct device_class ferr_class;

void ferr_connect_irq(struct device *ferr, struct wire irq); /* IRQ13 */

/* The processor drove FERR#: an unmasked x87 exception while CR0.NE is clear. */
void ferr_assert(struct device *ferr);

#endif
