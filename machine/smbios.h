/* SMBIOS tables, handed to the firmware through fw_cfg. Thread: machine lock held. */
#ifndef MACHINE_SMBIOS_H
#define MACHINE_SMBIOS_H

#include "machine/device.h"

struct smbios_config {
    unsigned vcpus;                 /* one socket each */
    u64 ram_below_4g, ram_above_4g; /* bytes */
    u8 uuid[16];                    /* as printed, first byte first */
    const char *manufacturer, *product, *version, *serial; /* of the system; NULL: our own */
    u32 cpu_signature, cpu_features; /* CPUID 1: EAX, EDX */
    unsigned cpu_mhz;               /* 0: 2000 */
};

/* (Re)places etc/smbios/smbios-anchor and etc/smbios/smbios-tables. */
void smbios_build(struct device *fw_cfg, const struct smbios_config *config);

#endif
