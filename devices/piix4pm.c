/*
 * Intel 82371AB (PIIX4), function 3: ACPI power management, PM timer, SMI command ports, SMBus
 * host.
 * Datasheet: Intel 290562; ACPI 2.0 chapter 4. The GPE block sits at AFE0h, where guests of this
 * board expect it, and not inside the PM block.
 * Not modelled: device idle timers and traps, clock throttling, GPI/GPO pins, SMBus slaves (every
 * transfer ends in "no device"), S1 and S2. S3 is the board's: see machine/machine.c.
 */
#include "devices/piix4pm.h"

#define PM_TIMER_FREQUENCY 3579545
#define PM_TIMER_HALF 0x800000u /* ticks between changes of bit 23 */

enum { REG_PMBA = 0x40, REG_APMC_EN = 0x5b, REG_PMREGMISC = 0x80, REG_SMBBA = 0x90,
       REG_SMBHSTCFG = 0xd2 };
enum { APMC_EN = 0x02 };
enum { PM1_STS = 0x00, PM1_EN = 0x02, PM1_CNT = 0x04, PM_TMR = 0x08, PM_SIZE = 64 };
enum { PM1_TMR = 1 << 0, PM1_GBL = 1 << 5, PM1_PWRBTN = 1 << 8, PM1_RTC = 1 << 10,
       PM1_WAK = 1 << 15, PM1_EVENTS = PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_RTC,
       PM1_STS_CLEARABLE = PM1_EVENTS | 1 << 4 | PM1_WAK };
enum { CNT_SCI_EN = 1 << 0, CNT_SLP_EN = 1 << 13, CNT_WRITABLE = 0x1c07 };
enum { SMB_STATUS = 0, SMB_CONTROL = 2, SMB_SIZE = 16, SMB_START = 0x40, SMB_DEVICE_ERROR = 0x04 };

#define PIIX4PM_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                  \
    SCALAR(u16, pm1_status)                                                                        \
    SCALAR(u16, pm1_enable)                                                                        \
    SCALAR(u16, pm1_control)                                                                       \
    SCALAR(u64, timer_overflow) /* tick at which TMR_STS comes up next */                          \
    SCALAR(u16, gpe_status)                                                                        \
    SCALAR(u16, gpe_enable)                                                                        \
    SCALAR(u8, apm_control)                                                                        \
    SCALAR(u8, apm_status)                                                                         \
    ARRAY(u8, smbus, SMB_SIZE)

struct piix4pm {
    struct pci_device pci;
    STATE_MEMBERS(PIIX4PM_STATE)
    bool smm; /* property */
    struct region pm, gpe, apm, smb; /* pm, smb not saved: piix4pm_update_mappings */
    struct timer overflow;           /* not saved: piix4pm_update */
    struct wire sci, smi;
    void (*moved)(void *opaque, u16 base);
    void *moved_opaque;
};

#define STATE_OWNER struct piix4pm
STATE_TABLE(piix4pm, PIIX4PM_STATE)
#undef STATE_OWNER

void piix4pm_set_wires(struct device *device, const struct wire *sci, const struct wire *smi)
{
    struct piix4pm *s = (struct piix4pm *)device;
    if (sci) s->sci = *sci;
    if (smi) s->smi = *smi;
}

void piix4pm_on_pm_base(struct device *device, void (*moved)(void *opaque, u16 base), void *opaque)
{
    struct piix4pm *s = (struct piix4pm *)device;
    s->moved = moved;
    s->moved_opaque = opaque;
}

/* --- PM1 events and the timer -------------------------------------------------------------- */

static u64 pm_ticks(const struct piix4pm *s)
{
    return ns_to_ticks(clock_now(s->pci.dev.clock), PM_TIMER_FREQUENCY);
}

/* One exit for side effects: brings TMR_STS, the timer and the SCI up to date. */
static void piix4pm_update(struct piix4pm *s)
{
    if (pm_ticks(s) >= s->timer_overflow) s->pm1_status |= PM1_TMR;
    if ((s->pm1_enable & PM1_TMR) && !(s->pm1_status & PM1_TMR))
        timer_set(&s->overflow, ticks_to_ns(s->timer_overflow, PM_TIMER_FREQUENCY) + 1);
    else
        timer_cancel(&s->overflow);
    bool event = (s->pm1_status & s->pm1_enable & PM1_EVENTS) || (s->gpe_status & s->gpe_enable);
    wire_set(&s->sci, event && (s->pm1_control & CNT_SCI_EN));
}

static void piix4pm_overflow(void *opaque)
{
    piix4pm_update(opaque);
}

static void piix4pm_sleep(struct piix4pm *s)
{
    struct machine_services *services = s->pci.dev.services;
    unsigned type = s->pm1_control >> 10 & 7;
    if (!services || !services->shutdown) return;
    switch (type) {
    case 0: /* S5 */
    case 2: /* S4: the guest has saved itself */
        services->shutdown(services, SHUTDOWN_GUEST_OFF, 0);
        break;
    case 1: /* S3 */
        services->shutdown(services, SHUTDOWN_SUSPEND, 0);
        break;
    default:
        device_unimplemented(&s->pci.dev, "piix4pm: sleep type %u", type);
        break;
    }
}

void piix4pm_power_button(struct device *device)
{
    struct piix4pm *s = (struct piix4pm *)device;
    s->pm1_status |= PM1_PWRBTN;
    piix4pm_update(s);
    device_wake(device, WAKE_BUTTON);
}

bool piix4pm_rtc_enabled(struct device *device)
{
    return ((struct piix4pm *)device)->pm1_enable & PM1_RTC;
}

void piix4pm_woken(struct device *device, bool by_rtc, bool by_button)
{
    struct piix4pm *s = (struct piix4pm *)device;
    s->pm1_status |= PM1_WAK | (by_rtc ? PM1_RTC : 0) | (by_button ? PM1_PWRBTN : 0);
    piix4pm_update(s);
}

static u64 pm_read(struct device *device, u64 offset, unsigned size)
{
    struct piix4pm *s = (struct piix4pm *)device;
    u8 image[16] = {0};
    piix4pm_update(s);
    st16(image + PM1_STS, s->pm1_status);
    st16(image + PM1_EN, s->pm1_enable);
    st16(image + PM1_CNT, s->pm1_control);
    st32(image + PM_TMR, (u32)pm_ticks(s) & 0xffffff);
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        if (offset + i < sizeof image) value |= (u64)image[offset + i] << 8 * i;
    return value;
}

static void pm_write_status(struct piix4pm *s, u16 clear)
{
    piix4pm_update(s);
    if (clear & s->pm1_status & PM1_TMR) {
        u64 ticks = pm_ticks(s);
        s->timer_overflow = (ticks + PM_TIMER_HALF) & ~(u64)(PM_TIMER_HALF - 1);
    }
    s->pm1_status &= (u16)~(clear & PM1_STS_CLEARABLE);
}

/* MASK says which of the register's bytes are written. */
static void pm_write16(struct piix4pm *s, unsigned reg, u16 value, u16 mask)
{
    switch (reg) {
    case PM1_STS:
        pm_write_status(s, value & mask);
        break;
    case PM1_EN:
        s->pm1_enable = (u16)((s->pm1_enable & ~mask) | (value & mask)) & PM1_EVENTS;
        break;
    case PM1_CNT:
        s->pm1_control = (u16)((s->pm1_control & ~mask) | (value & mask)) & CNT_WRITABLE;
        if (value & mask & CNT_SLP_EN) piix4pm_sleep(s);
        break;
    }
}

static void pm_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct piix4pm *s = (struct piix4pm *)device;
    for (unsigned reg = 0; reg <= PM1_CNT; reg += 2) {
        u16 mask = 0, bits = 0;
        for (unsigned i = 0; i < size; i++)
            if ((offset + i) / 2 * 2 == reg) {
                unsigned shift = (offset + i) % 2 * 8;
                mask |= 0xff << shift;
                bits |= (u16)((value >> 8 * i & 0xff) << shift);
            }
        if (mask) pm_write16(s, reg, bits, mask);
    }
    piix4pm_update(s);
}

static const struct region_ops pm_ops = {
    .name = "acpi-pm", .read = pm_read, .write = pm_write, .min_size = 1, .max_size = 4};

/* --- GPE0: status in the low half, enable in the high half ---------------------------------- */

static u64 gpe_read(struct device *device, u64 offset, unsigned size)
{
    struct piix4pm *s = (struct piix4pm *)device;
    (void)size;
    return (offset < 2 ? s->gpe_status : s->gpe_enable) >> offset % 2 * 8 & 0xff;
}

static void gpe_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct piix4pm *s = (struct piix4pm *)device;
    unsigned shift = offset % 2 * 8;
    (void)size;
    if (offset < 2)
        s->gpe_status &= (u16)~((value & 0xff) << shift);
    else
        s->gpe_enable = (u16)((s->gpe_enable & ~(0xff << shift)) | (value & 0xff) << shift);
    piix4pm_update(s);
}

static const struct region_ops gpe_ops = {
    .name = "acpi-gpe0", .read = gpe_read, .write = gpe_write, .min_size = 1, .max_size = 1};

/* --- SMI command and status ports ----------------------------------------------------------- */

static u64 apm_read(struct device *device, u64 offset, unsigned size)
{
    struct piix4pm *s = (struct piix4pm *)device;
    (void)size;
    return offset ? s->apm_status : s->apm_control;
}

static void apm_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct piix4pm *s = (struct piix4pm *)device;
    (void)size;
    if (offset) {
        s->apm_status = (u8)value;
        return;
    }
    s->apm_control = (u8)value;
    /* On a real board SMM firmware turns ACPI on and off; this one's firmware leaves it to us. */
    if (s->apm_control == PIIX4PM_ACPI_ENABLE)
        s->pm1_control |= CNT_SCI_EN;
    else if (s->apm_control == PIIX4PM_ACPI_DISABLE)
        s->pm1_control &= ~CNT_SCI_EN;
    else if (s->smm && (s->pci.config[REG_APMC_EN] & APMC_EN))
        wire_pulse(&s->smi);
    piix4pm_update(s);
}

static const struct region_ops apm_ops = {
    .name = "apm", .read = apm_read, .write = apm_write, .min_size = 1, .max_size = 1};

/* --- SMBus host controller with nobody on the bus ------------------------------------------- */

static u64 smb_read(struct device *device, u64 offset, unsigned size)
{
    (void)size;
    return ((struct piix4pm *)device)->smbus[offset];
}

static void smb_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct piix4pm *s = (struct piix4pm *)device;
    (void)size;
    if (offset == SMB_STATUS) {
        s->smbus[SMB_STATUS] &= (u8)~value;
        return;
    }
    s->smbus[offset] = offset == SMB_CONTROL ? (u8)value & ~SMB_START : (u8)value;
    if (offset == SMB_CONTROL && (value & SMB_START)) s->smbus[SMB_STATUS] |= SMB_DEVICE_ERROR;
}

static const struct region_ops smb_ops = {
    .name = "smbus", .read = smb_read, .write = smb_write, .min_size = 1, .max_size = 1};

/* --- verbs ---------------------------------------------------------------------------------- */

static void place(struct piix4pm *s, struct region *region, bool enabled, u16 base)
{
    struct bus *bus = s->pci.dev.bus;
    if (region->mapped && enabled && region->base == base) return;
    if (region->mapped) bus_unmap(bus, region);
    if (enabled) bus_map(bus, BUS_PORT, region, base, LAYER_DEVICE);
}

static void piix4pm_update_mappings(struct piix4pm *s)
{
    const u8 *config = s->pci.config;
    u16 base = ld16(config + REG_PMBA) & 0xffc0;
    bool enabled = (config[REG_PMREGMISC] & 1) && base;
    bool moves = enabled && !(s->pm.mapped && s->pm.base == base);
    u16 smb_base = ld16(config + REG_SMBBA) & 0xfff0;
    place(s, &s->pm, enabled, base);
    place(s, &s->smb, (config[REG_SMBHSTCFG] & 1) && smb_base, smb_base);
    if (moves && s->moved) s->moved(s->moved_opaque, base);
}

static void piix4pm_config_written(struct pci_device *pci, u16 offset, u32 value, unsigned size)
{
    (void)offset, (void)value, (void)size;
    piix4pm_update_mappings((struct piix4pm *)pci);
}

static bool piix4pm_init(struct device *device, struct error *error)
{
    struct piix4pm *s = (struct piix4pm *)device;
    (void)error;
    pci_set_ids(&s->pci, 0x8086, 0x7113, 3, 0x068000, 0x1af4, 0x1100);
    pci_set_interrupt_pin(&s->pci, 1);
    memset(s->pci.writable + 0x44, 0xff, 0xd8 - 0x44);
    st32(s->pci.writable + REG_PMBA, 0xffc0);
    s->pci.writable[REG_PMREGMISC] = 1;
    st32(s->pci.writable + REG_SMBBA, 0xfff0);
    s->pci.config_written = piix4pm_config_written;
    region_init(&s->pm, device, &pm_ops, PM_SIZE);
    region_init(&s->gpe, device, &gpe_ops, PIIX4PM_GPE0_LENGTH);
    region_init(&s->apm, device, &apm_ops, 2);
    region_init(&s->smb, device, &smb_ops, SMB_SIZE);
    bus_map(device->bus, BUS_PORT, &s->gpe, PIIX4PM_GPE0_PORT, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->apm, PIIX4PM_SMI_PORT, LAYER_DEVICE);
    timer_init(&s->overflow, device->clock, piix4pm_overflow, s);
    return true;
}

static void piix4pm_reset(struct device *device)
{
    struct piix4pm *s = (struct piix4pm *)device;
    u8 *config = s->pci.config;
    pci_device_reset(&s->pci);
    st16(config + 6, 0x0280);
    memset(config + 0x40, 0, 0xd8 - 0x40);
    config[REG_PMBA] = 1;
    config[REG_SMBBA] = 1;
    config[0x63] = 0x60;
    if (!s->smm) config[REG_APMC_EN] = APMC_EN; /* tells firmware that SMM is already seen to */
    s->pm1_status = s->pm1_enable = s->pm1_control = 0;
    s->gpe_status = s->gpe_enable = 0;
    s->apm_control = s->apm_status = 0;
    memset(s->smbus, 0, sizeof s->smbus);
    s->timer_overflow = (pm_ticks(s) + PM_TIMER_HALF) & ~(u64)(PM_TIMER_HALF - 1);
    piix4pm_update_mappings(s);
    piix4pm_update(s);
}

static void piix4pm_restored(struct device *device)
{
    struct piix4pm *s = (struct piix4pm *)device;
    pci_device_restored(&s->pci);
    piix4pm_update_mappings(s);
    piix4pm_update(s);
}

static void piix4pm_release(struct device *device)
{
    timer_cancel(&((struct piix4pm *)device)->overflow);
}

static const struct property piix4pm_properties[] = {
    {"smm", PROPERTY_BOOL, offsetof(struct piix4pm, smm), "on", "port B2h raises SMI"},
    {NULL, 0, 0, NULL, NULL}};

const struct device_class piix4pm_class = {
    .name = "piix4pm",
    .title = "Intel PIIX4 power management",
    .version = 1,
    .size = sizeof(struct piix4pm),
    .fields = piix4pm_fields,
    .properties = piix4pm_properties,
    .is_pci = true,
    .init = piix4pm_init,
    .reset = piix4pm_reset,
    .restored = piix4pm_restored,
    .release = piix4pm_release,
};
