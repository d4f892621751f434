/*
 * Intel 82371SB (PIIX3), function 0: PCI to ISA bridge, PIRQ routing and the reset control
 * register.
 * Datasheet: Intel 290550. Its 8259s, 8254 and 8237s are chips of their own.
 * Not modelled: ISA clock and decode control (registers hold what is written), motherboard DMA/IRQ
 * steering, the part's own SMI generation.
 */
#include "devices/piix3.h"

enum { REG_PIRQA = 0x60, PIRQ_DISABLED = 0x80 };
enum { RESET_HARD = 0x02, RESET_CPU = 0x04 };
/* Only these may be chosen: the others belong to ISA parts and the route reads as disabled. */
enum { ROUTABLE = 0xdef8 };

#define PIIX3_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                    \
    SCALAR(u8, pirq_levels)                                                                        \
    SCALAR(u8, reset_control)

struct piix3 {
    struct pci_device pci;
    STATE_MEMBERS(PIIX3_STATE)
    u16 driven; /* lines now high; not saved: rebuilt by piix3_drive */
    struct wire irq[16];
};

#define STATE_OWNER struct piix3
STATE_TABLE(piix3, PIIX3_STATE)
#undef STATE_OWNER

void piix3_set_irq_wires(struct device *device, const struct wire irq[16])
{
    memcpy(((struct piix3 *)device)->irq, irq, 16 * sizeof *irq);
}

/* `again`: drives every line, not only those that change. */
static void piix3_drive(struct piix3 *s, bool again)
{
    u16 now = 0;
    for (unsigned i = 0; i < 4; i++) {
        u8 route = s->pci.config[REG_PIRQA + i];
        if ((s->pirq_levels >> i & 1) && !(route & PIRQ_DISABLED)) now |= 1u << (route & 15);
    }
    now &= ROUTABLE;
    u16 changed = again ? 0xffff : now ^ s->driven;
    s->driven = now;
    for (unsigned i = 0; i < 16; i++)
        if (changed >> i & 1) wire_set(&s->irq[i], now >> i & 1);
}

static void piix3_update(struct piix3 *s)
{
    piix3_drive(s, false);
}

void piix3_set_pirq(void *piix3, unsigned line, bool level)
{
    struct piix3 *s = piix3;
    u8 bit = (u8)(1u << (line & 3));
    s->pirq_levels = level ? s->pirq_levels | bit : s->pirq_levels & ~bit;
    piix3_update(s);
}

u8 piix3_reset_control_read(void *piix3)
{
    return ((struct piix3 *)piix3)->reset_control;
}

void piix3_reset_control_write(void *piix3, u8 value)
{
    struct piix3 *s = piix3;
    struct machine_services *services = s->pci.dev.services;
    bool trigger = (value & RESET_CPU) && !(s->reset_control & RESET_CPU);
    s->reset_control = value & RESET_HARD;
    if (trigger && services && services->shutdown)
        services->shutdown(services, SHUTDOWN_GUEST_RESET, 0);
}

static void piix3_config_written(struct pci_device *pci, u16 offset, u32 value, unsigned size)
{
    (void)value;
    if (offset < REG_PIRQA + 4 && offset + size > REG_PIRQA) piix3_update((struct piix3 *)pci);
}

static bool piix3_init(struct device *device, struct error *error)
{
    struct piix3 *s = (struct piix3 *)device;
    (void)error;
    pci_set_ids(&s->pci, 0x8086, 0x7000, 0, 0x060100, 0x1af4, 0x1100);
    s->pci.config[0x0e] = 0x80;
    memset(s->pci.writable + 0x40, 0xff, 0xb0 - 0x40);
    memset(s->pci.writable + REG_PIRQA, 0x8f, 4);
    s->pci.config_written = piix3_config_written;
    return true;
}

static void piix3_reset(struct device *device)
{
    static const u8 initial[][2] = {{0x4c, 0x4d}, {0x4e, 0x03}, {0x60, 0x80}, {0x61, 0x80},
                                    {0x62, 0x80}, {0x63, 0x80}, {0x69, 0x02}, {0x70, 0x80},
                                    {0x76, 0x0c}, {0x77, 0x0c}, {0x78, 0x02}, {0xa0, 0x08},
                                    {0xa8, 0x0f}};
    struct piix3 *s = (struct piix3 *)device;
    pci_device_reset(&s->pci);
    s->pci.config[4] = 0x07;
    st16(s->pci.config + 6, 0x0200);
    memset(s->pci.config + 0x40, 0, 0xb0 - 0x40);
    for (unsigned i = 0; i < ARRAY_SIZE(initial); i++) s->pci.config[initial[i][0]] = initial[i][1];
    s->reset_control = 0;
    s->pirq_levels = 0;
    piix3_update(s);
}

static void piix3_restored(struct device *device)
{
    struct piix3 *s = (struct piix3 *)device;
    pci_device_restored(&s->pci);
    piix3_drive(s, true);
}

const struct device_class piix3_class = {
    .name = "piix3",
    .title = "Intel PIIX3 PCI to ISA bridge",
    .version = 1,
    .size = sizeof(struct piix3),
    .fields = piix3_fields,
    .is_pci = true,
    .init = piix3_init,
    .reset = piix3_reset,
    .restored = piix3_restored,
};
