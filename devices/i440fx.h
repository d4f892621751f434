/* The 82441FX as the board wires it. Thread: machine lock held. */
#ifndef DEVICES_I440FX_H
#define DEVICES_I440FX_H

#include "devices/pci.h"

/* What the north bridge steers. Segments 0-11 are the 16 KiB pieces of C0000h-EFFFFh in order,
 * segment 12 is F0000h-FFFFFh. SMRAM is A0000h-BFFFFh: `open` shows it outside SMM too, `enabled`
 * lets SMM see it. Called for every segment at reset, then on change. */
struct i440fx_hooks {
    void (*set_pam)(void *opaque, unsigned segment, bool read_ram, bool write_ram);
    void (*set_smram)(void *opaque, bool open, bool enabled);
    void *opaque;
};

extern const struct device_class i440fx_class;

/* Before init; `hooks` is copied. */
void i440fx_set_hooks(struct device *i440fx, const struct i440fx_hooks *hooks);

/* Byte accesses to port CF9h lie inside CONFIG_ADDRESS's dword and are passed on (see piix3.h). */
void i440fx_set_reset_control(struct device *i440fx, u8 (*read)(void *opaque),
                              void (*write)(void *opaque, u8 value), void *opaque);

#endif
