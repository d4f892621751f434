/* What the board needs of the floppy controller. Thread: machine lock held. */
#ifndef DEVICES_I82077_H
#define DEVICES_I82077_H

#include "machine/device.h"

extern const struct device_class i82077_class;

void i82077_connect_irq(struct device *fdc, struct wire irq); /* IRQ6 */

/* The 8237 whose channel 2 the controller uses. */
void i82077_connect_dma(struct device *fdc, struct device *dma);

/* What CMOS byte 10h says of drive UNIT: 0 none, 2 1.2M, 4 1.44M, 5 2.88M. */
u8 i82077_drive_type(struct device *fdc, unsigned unit);

#endif
