/*
 * What the board needs of the 8259 interrupt controllers.
 * Thread: machine lock held.
 */
#ifndef DEVICES_I8259_H
#define DEVICES_I8259_H

#include "machine/device.h"

extern const struct device_class i8259_class;

/* A wire listener: input IR0..IR7 of one chip. */
void i8259_set_irq(void *chip, unsigned line, bool level);

/* Where INT goes: a processor or LINT0 for the master. */
void i8259_connect_intr(struct device *chip, struct wire intr);

/* Puts SLAVE's INT on MASTER's IR2 and has MASTER ask it for the vector. */
void i8259_cascade(struct device *master, struct device *slave);

/* The interrupt acknowledge cycle of the pair: always a vector, IR7's when nothing is pending. */
int i8259_inta(struct device *master);

/* LINE asks, unmasked, and has not been taken. */
bool i8259_waits(struct device *chip, unsigned line);

/* INT as it is driven now. */
bool i8259_output(struct device *chip);

#endif
