/* The PIIX4's power management function as the board wires it. Thread: machine lock held. */
#ifndef DEVICES_PIIX4PM_H
#define DEVICES_PIIX4PM_H

#include "devices/pci.h"

#define PIIX4PM_GPE0_PORT 0xafe0
#define PIIX4PM_GPE0_LENGTH 4
#define PIIX4PM_SMI_PORT 0xb2
#define PIIX4PM_ACPI_ENABLE 0xf1
#define PIIX4PM_ACPI_DISABLE 0xf0

extern const struct device_class piix4pm_class;

/* SCI: the level of interrupt 9. SMI: a pulse to the processors' SMI pins; leave it unconnected,
 * and set property smm=off, when there is no SMM. */
void piix4pm_set_wires(struct device *piix4pm, const struct wire *sci, const struct wire *smi);

/* Told when firmware moves the power management ports, so that the FADT can follow. */
void piix4pm_on_pm_base(struct device *piix4pm, void (*moved)(void *opaque, u16 base),
                        void *opaque);

/* The user pushed the power button; it ends a suspend, too. */
void piix4pm_power_button(struct device *piix4pm);

/* May the real-time clock end a suspend? */
bool piix4pm_rtc_enabled(struct device *piix4pm);
/* After the reset that ends a suspend: says so, and what ended it. */
void piix4pm_woken(struct device *piix4pm, bool by_rtc, bool by_button);

#endif
