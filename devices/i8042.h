/* What the board needs of the keyboard controller. Thread: machine lock held. */
#ifndef DEVICES_I8042_H
#define DEVICES_I8042_H

#include "devices/ps2.h"
#include "machine/device.h"

extern const struct device_class i8042_class;

enum { I8042_KEYBOARD, I8042_MOUSE };

/* Plugs a device into port I8042_KEYBOARD or I8042_MOUSE. */
void i8042_connect(struct device *controller, unsigned port, struct ps2_port device);

/* A wire listener for the devices' "I have bytes" wires: the line is the port. */
void i8042_set_data(void *controller, unsigned port, bool level);

void i8042_connect_irq(struct device *controller, unsigned port, struct wire irq); /* IRQ1, IRQ12 */

#endif
