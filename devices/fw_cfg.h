/*
 * The firmware configuration device: what the board tells the firmware.
 * Items and files are added between device_init and the first instruction; data is copied where
 * nothing else is said. Adding a key or a name again replaces it.
 * Thread: machine lock held.
 */
#ifndef DEVICES_FW_CFG_H
#define DEVICES_FW_CFG_H

#include "machine/device.h"

extern const struct device_class fw_cfg_class;

enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_MACHINE_ID = 0x06,
    FW_CFG_KERNEL_ADDR = 0x07,
    FW_CFG_KERNEL_SIZE = 0x08,
    FW_CFG_KERNEL_CMDLINE = 0x09,
    FW_CFG_INITRD_ADDR = 0x0a,
    FW_CFG_INITRD_SIZE = 0x0b,
    FW_CFG_BOOT_DEVICE = 0x0c,
    FW_CFG_NUMA = 0x0d,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_KERNEL_ENTRY = 0x10,
    FW_CFG_KERNEL_DATA = 0x11,
    FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_ADDR = 0x13,
    FW_CFG_CMDLINE_SIZE = 0x14,
    FW_CFG_CMDLINE_DATA = 0x15,
    FW_CFG_SETUP_ADDR = 0x16,
    FW_CFG_SETUP_SIZE = 0x17,
    FW_CFG_SETUP_DATA = 0x18,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_ACPI_TABLES = 0x8000,
    FW_CFG_SMBIOS_ENTRIES = 0x8001,
    FW_CFG_IRQ0_OVERRIDE = 0x8002,
    FW_CFG_E820_TABLE = 0x8003,
    FW_CFG_HPET = 0x8004,
};

#define FW_CFG_NAME_SIZE 56 /* of a file, with its final zero */

/* KEY below FW_CFG_FILE_FIRST, or from FW_CFG_ACPI_TABLES on. */
void fw_cfg_add_bytes(struct device *fw_cfg, u16 key, const void *data, u32 length);
/* Not copied: DATA lives as long as the device, and stays as it is. */
void fw_cfg_lend_bytes(struct device *fw_cfg, u16 key, u8 *data, u32 length);
/* KEY shows the bytes of OF, which must stay as it is. */
void fw_cfg_add_alias(struct device *fw_cfg, u16 key, u16 of);
void fw_cfg_add_string(struct device *fw_cfg, u16 key, const char *text); /* with its zero */
void fw_cfg_add_u16(struct device *fw_cfg, u16 key, u16 value);           /* little-endian */
void fw_cfg_add_u32(struct device *fw_cfg, u16 key, u32 value);
void fw_cfg_add_u64(struct device *fw_cfg, u16 key, u64 value);

/* Files are listed sorted by name. False when the name is too long or there are too many. */
bool fw_cfg_add_file(struct device *fw_cfg, const char *name, const void *data, u32 length);

/* A file the guest may write through DMA; WRITTEN (may be NULL) is told afterwards. The file's
 * bytes are part of the device's saved state: all such files together hold at most 64 KiB. */
bool fw_cfg_add_writable_file(struct device *fw_cfg, const char *name, const void *data, u32 length,
                              void (*written)(void *opaque, u32 offset, u32 length),
                              void *opaque);

/* A file's bytes as they are now; NULL when there is no such file. */
const void *fw_cfg_file(struct device *fw_cfg, const char *name, u32 *length);

#endif
