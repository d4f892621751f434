/* The PIIX3's ISA bridge as the board wires it. Thread: machine lock held. */
#ifndef DEVICES_PIIX3_H
#define DEVICES_PIIX3_H

#include "devices/pci.h"

extern const struct device_class piix3_class;

/* The sixteen ISA interrupt lines a PIRQ can be routed to. A line shared with an ISA part or the
 * SCI must be or'ed by the board: this end drives only what the PIRQs ask for. */
void piix3_set_irq_wires(struct device *piix3, const struct wire irq[16]);

/* A wire listener: PIRQA-PIRQD as LINE 0-3. */
void piix3_set_pirq(void *piix3, unsigned line, bool level);

/* Reset control register, port CF9h; for i440fx_set_reset_control. */
u8 piix3_reset_control_read(void *piix3);
void piix3_reset_control_write(void *piix3, u8 value);

#endif
