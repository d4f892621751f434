/*
 * Intel 82441FX (440FX PMC) host bridge: configuration mechanism #1, PAM and SMRAM.
 * Datasheet: Intel 290549.
 * Not modelled: DRAM timing and row registers (they hold what is written), ECC, error reporting.
 */
#include "devices/i440fx.h"

enum { REG_PAM0 = 0x59, REG_PAM6 = 0x5f, REG_SMRAM = 0x72 };
enum { SMRAM_OPEN = 0x40, SMRAM_CLOSED = 0x20, SMRAM_LOCK = 0x10, SMRAM_ENABLE = 0x08,
       SMRAM_BASE = 0x02 };
enum { PAM_SEGMENTS = 13, ADDRESS_ENABLE = 1u << 31 };

#define I440FX_STATE(SCALAR, ARRAY, GROUP, BLOB) SCALAR(u32, config_address)

struct i440fx {
    struct pci_device pci;
    STATE_MEMBERS(I440FX_STATE)
    struct region ports; /* CF8h-CFFh; mapped for good by init */
    u8 pam[PAM_SEGMENTS]; /* as last told; not saved: i440fx_restored */
    struct i440fx_hooks hooks;
    u8 (*reset_read)(void *opaque);
    void (*reset_write)(void *opaque, u8 value);
    void *reset_opaque;
};

#define STATE_OWNER struct i440fx
STATE_TABLE(i440fx, I440FX_STATE)
#undef STATE_OWNER

void i440fx_set_hooks(struct device *device, const struct i440fx_hooks *hooks)
{
    ((struct i440fx *)device)->hooks = *hooks;
}

void i440fx_set_reset_control(struct device *device, u8 (*read)(void *opaque),
                              void (*write)(void *opaque, u8 value), void *opaque)
{
    struct i440fx *s = (struct i440fx *)device;
    s->reset_read = read;
    s->reset_write = write;
    s->reset_opaque = opaque;
}

static u64 i440fx_read(struct device *device, u64 offset, unsigned size)
{
    struct i440fx *s = (struct i440fx *)device;
    if (offset == 1 && size == 1)
        return s->reset_read ? s->reset_read(s->reset_opaque) : 0xff;
    if (offset < 4) return s->config_address >> 8 * offset & size_mask(size);
    if (!(s->config_address & ADDRESS_ENABLE) || !s->pci.pci) return size_mask(size);
    return pci_config_read(s->pci.pci, (u8)(s->config_address >> 16), (u8)(s->config_address >> 8),
                           (u16)((s->config_address & 0xfc) + (offset - 4)), size);
}

static void i440fx_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct i440fx *s = (struct i440fx *)device;
    if (offset == 0 && size == 4)
        s->config_address = (u32)value & 0x80fffffc;
    else if (offset == 1 && size == 1 && s->reset_write)
        s->reset_write(s->reset_opaque, (u8)value);
    else if (offset >= 4 && (s->config_address & ADDRESS_ENABLE) && s->pci.pci)
        pci_config_write(s->pci.pci, (u8)(s->config_address >> 16), (u8)(s->config_address >> 8),
                         (u16)((s->config_address & 0xfc) + (offset - 4)), (u32)value, size);
}

static const struct region_ops i440fx_ops = {
    .name = "pci-config", .read = i440fx_read, .write = i440fx_write, .min_size = 1, .max_size = 4};

/* Tells the board about the segments that changed, or, AGAIN, about all. */
static void i440fx_apply_pam(struct i440fx *s, bool again)
{
    if (!s->hooks.set_pam) return;
    for (unsigned segment = 0; segment < PAM_SEGMENTS; segment++) {
        bool is_bios = segment == PAM_SEGMENTS - 1;
        unsigned reg = is_bios ? REG_PAM0 : REG_PAM0 + 1 + segment / 2;
        unsigned attribute = s->pci.config[reg] >> (is_bios || segment % 2 ? 4 : 0);
        if (!again && s->pam[segment] == (attribute & 3)) continue;
        s->pam[segment] = attribute & 3;
        s->hooks.set_pam(s->hooks.opaque, segment, attribute & 1, attribute & 2);
    }
}

static void i440fx_apply_smram(struct i440fx *s)
{
    u8 smram = s->pci.config[REG_SMRAM];
    bool enabled = smram & SMRAM_ENABLE, open = enabled && (smram & SMRAM_OPEN);
    if (s->hooks.set_smram) s->hooks.set_smram(s->hooks.opaque, open, enabled);
}

static void i440fx_update_lock(struct i440fx *s)
{
    u8 *smram = &s->pci.config[REG_SMRAM];
    if (*smram & SMRAM_LOCK) {
        *smram &= (u8)~SMRAM_OPEN;
        s->pci.writable[REG_SMRAM] = SMRAM_CLOSED;
    } else {
        s->pci.writable[REG_SMRAM] = SMRAM_OPEN | SMRAM_CLOSED | SMRAM_LOCK | SMRAM_ENABLE;
    }
}

static void i440fx_config_written(struct pci_device *pci, u16 offset, u32 value, unsigned size)
{
    struct i440fx *s = (struct i440fx *)pci;
    (void)value;
    if (offset <= REG_PAM6 && offset + size > REG_PAM0) i440fx_apply_pam(s, false);
    if (offset <= REG_SMRAM && offset + size > REG_SMRAM) {
        i440fx_update_lock(s);
        i440fx_apply_smram(s);
    }
}

static bool i440fx_init(struct device *device, struct error *error)
{
    struct i440fx *s = (struct i440fx *)device;
    (void)error;
    pci_set_ids(&s->pci, 0x8086, 0x1237, 2, 0x060000, 0x1af4, 0x1100);
    memset(s->pci.writable + 0x50, 0xff, 0x94 - 0x50);
    s->pci.config_written = i440fx_config_written;
    region_init(&s->ports, device, &i440fx_ops, 8);
    bus_map(device->bus, BUS_PORT, &s->ports, 0xcf8, LAYER_DEVICE);
    return true;
}

static void i440fx_reset(struct device *device)
{
    struct i440fx *s = (struct i440fx *)device;
    pci_device_reset(&s->pci);
    memset(s->pci.config + 0x50, 0, 0x94 - 0x50);
    s->pci.config[4] = 0x06;
    st16(s->pci.config + 6, 0x0280);
    s->pci.config[REG_SMRAM] = SMRAM_BASE;
    s->config_address = 0;
    i440fx_update_lock(s);
    i440fx_apply_pam(s, true);
    i440fx_apply_smram(s);
}

static void i440fx_restored(struct device *device)
{
    struct i440fx *s = (struct i440fx *)device;
    pci_device_restored(&s->pci);
    i440fx_update_lock(s);
    i440fx_apply_pam(s, true);
    i440fx_apply_smram(s);
}

const struct device_class i440fx_class = {
    .name = "i440fx",
    .title = "Intel 440FX host bridge",
    .version = 1,
    .size = sizeof(struct i440fx),
    .fields = i440fx_fields,
    .is_pci = true,
    .init = i440fx_init,
    .reset = i440fx_reset,
    .restored = i440fx_restored,
};
