/* The PIIX3's IDE function as the board wires it. Thread: machine lock held. */
#ifndef DEVICES_PIIX3_IDE_H
#define DEVICES_PIIX3_IDE_H

#include "devices/pci.h"
#include "machine/drive.h"

extern const struct device_class piix3_ide_class;

/* Interrupts 14 and 15. */
void piix3_ide_set_wires(struct device *ide, const struct wire irq[2]);

/* After init, before the first reset. CHANNEL and UNIT are 0 or 1; false when it is taken. */
bool piix3_ide_attach(struct device *ide, unsigned channel, unsigned unit, struct drive *drive,
                      bool cdrom);

#endif
