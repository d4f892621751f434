/* What the board needs of the AT's port B (61h). Thread: machine lock held. */
#ifndef DEVICES_PCSPK_H
#define DEVICES_PCSPK_H

#include "machine/device.h"

extern const struct device_class pcspk_class;

/* The 8254 whose channel 2 drives the speaker. */
void pcspk_connect_pit(struct device *pcspk, struct device *pit);

#endif
