/*
 * The PC board: Intel 440FX and PIIX3 with PIIX4's power management, as QEMU's "pc" is wired.
 *
 * Not modelled: USB, the ISA bus's memory cycles, the second parallel port.
 */
#include "machine/pc.h"

#include "cpu/cpu.h"
#include "cpu/smp.h"
#include "devices/ferr.h"
#include "devices/hpet.h"
#include "devices/i440fx.h"
#include "devices/i8042.h"
#include "devices/i8237.h"
#include "devices/i8254.h"
#include "devices/i8259.h"
#include "devices/lapic.h"
#include "devices/mc146818.h"
#include "devices/ns16550.h"
#include "devices/parallel.h"
#include "devices/pcspk.h"
#include "devices/piix3.h"
#include "devices/piix3_ide.h"
#include "devices/piix4pm.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "machine/bus_host.h"
#include "jit/jit.h"
#include "machine/clock_host.h"
#include "machine/display_host.h"
#include "machine/drive_host.h"
#include "machine/host/os.h"
#include "machine/pc_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* --- interrupt lines --- */

#define SOURCE_SHIFT 8

static void line_changed(struct pc *pc, unsigned n)
{
    bool level = pc->line[n].sources != 0;
    pc->line[n].rises += level;
    if (n != 2) i8259_set_irq(pc->pic[n >> 3], n & 7, level);
    if (pc->ioapic) ioapic_set_pin(pc->ioapic, n == 0 ? 2 : n, level);
}

static void irq_set(void *opaque, unsigned line, bool level)
{
    struct pc *pc = opaque;
    unsigned n = line & 15;
    u32 bit = 1u << (line >> SOURCE_SHIFT);
    u32 before = pc->line[n].sources;
    pc->line[n].sources = level ? before | bit : before & ~bit;
    if (!before != !pc->line[n].sources) line_changed(pc, n);
}

struct wire pc_irq(struct pc *pc, unsigned n)
{
    unsigned source = pc->line[n].source_count++;
    if (source >= 32) abort();
    return (struct wire){irq_set, pc, n | source << SOURCE_SHIFT};
}

/*
 * The 8254 and the RTC reach IRQ 0 and 8 only while the HPET has not taken them over. OUT0 rests
 * high, so it must be let go of at that moment: an 8254 that is not counting would hide the HPET's
 * edges.
 */
static void timer_irq_set(void *opaque, unsigned line, bool level)
{
    struct pc *pc = opaque;
    unsigned timer = (line & 15) == 8;
    pc->timer_line[timer] = line;
    pc->timer_level[timer] = level;
    irq_set(pc, line, level && !pc->hpet_legacy);
}

static struct wire timer_irq(struct pc *pc, unsigned n)
{
    struct wire wire = pc_irq(pc, n);
    wire.set = timer_irq_set;
    return wire;
}

static void hpet_legacy_set(void *opaque, unsigned line, bool level)
{
    struct pc *pc = opaque;
    (void)line;
    if (pc->hpet_legacy == level) return;
    pc->hpet_legacy = level;
    for (unsigned i = 0; i < 2; i++)
        if (pc->timer_level[i]) irq_set(pc, pc->timer_line[i], !level);
}

static void smi_set(void *opaque, unsigned line, bool level)
{
    struct pc *pc = opaque;
    (void)line;
    if (level) cpu_request(pc->machine->vcpu[0].cpu, REQUEST_SMI);
}

static void pic_intr_set(void *opaque, unsigned line, bool level)
{
    struct pc *pc = opaque;
    (void)line;
    if (pc->lapic[0]) lapic_set_lint0(pc->lapic[0], level);
    else cpu_pins(pc->machine->vcpu[0].cpu).intr(pc->machine->vcpu[0].cpu, level);
}

static int pic_inta(void *opaque) { return i8259_inta(((struct pc *)opaque)->pic[0]); }

/* What firmware reads to learn that the reset it runs behind is the end of a suspend. */
enum { CMOS_SHUTDOWN_STATUS = 0x0f, CMOS_RESUME = 0xfe };

/* --- processors --- */

/* 1 GHz: one tick a nanosecond */
static u64 machine_tsc(void *opaque) { return clock_now(opaque); }

static u64 machine_wall_start(void *opaque) { return clock_wall_start(opaque); }

static void random_bytes(void *opaque, void *to, size_t length)
{
    struct machine *m = opaque;
    m->services.random(&m->services, to, length);
}

static void lock_machine(void *opaque) { machine_lock(opaque); }
static void unlock_machine(void *opaque) { machine_unlock(opaque); }

static bool add_processor(struct pc *pc, unsigned index, struct error *error)
{
    struct machine *m = pc->machine;
    struct vcpu *cpu = cpu_new(index, m->bus, &m->log);
    if (!cpu) return error_set(error, "no memory for processor %u", index);
    cpu->count = m->options->smp;
    cpu->group = m->group;
    cpu->tsc_now = machine_tsc;
    cpu->wall_start = machine_wall_start;
    cpu->tsc_opaque = m->clock;
    cpu->tsc_frequency = NS_PER_SECOND;
    cpu->random = random_bytes;
    cpu->random_opaque = m;
    cpu->relax = vcpu_relax;
    cpu->relax_opaque = &m->vcpu[index];
    cpu->wake = vcpu_kick;
    cpu->wake_opaque = &m->vcpu[index];
    cpu->lock = lock_machine;
    cpu->unlock = unlock_machine;
    cpu->lock_opaque = m;
    cpu->a20_mask = ~(u64)0;
    cpu->exact = m->icount != NULL;
    cpu->stress = (struct cpu_stress){.tlb_entries = m->options->tlb_entries,
                                      .exits = m->options->random_exits};
    m->vcpu[index].cpu = cpu;
    m->vcpu[index].machine = m;
    vcpu_thread_init(&m->vcpu[index]);
    m->vcpu_count = index + 1;
    smp_group_add(m->group, cpu);
    if (!cpu_set_model(cpu, m->options->cpu, error))
        return error_prefix(error, "-cpu %s", m->options->cpu);
    cpu->inta = pic_inta;
    cpu->inta_opaque = pc;
    if (!feature_on(&cpu->features, FEATURE_APIC)) return true;
    struct device *lapic = machine_new_device(m, "lapic");
    struct cpu_pins pins = cpu_pins(cpu);
    lapic_connect(lapic, pc->apic_bus, index, index == 0, &pins);
    if (index == 0) lapic_set_extint(lapic, pic_inta, pc);
    if (!machine_add(m, lapic, error)) return false;
    lapic_port(lapic, &cpu->apic);
    pc->lapic[index] = lapic;
    return true;
}

/* For comparing engines: nobody else touches guest memory. */
static void hold_machine(void *opaque, bool hold)
{
    struct machine *m = opaque;
    if (!hold) {
        machine_unlock(m);
        return;
    }
    machine_lock(m);
    for (unsigned i = 0; i < m->drive_count; i++) drive_settle(m->drives[i]);
}

static void quit_failed(void *opaque) { machine_quit(opaque, 1, "host-error"); }

/* Nobody asked for it by name: a host without a translator interprets, and that is no news. */
static bool add_translator(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    struct error why;
    struct jit_options options = m->options->jit;
    if (m->options->accel == ACCEL_INTERP) return true;
    if (options.lockstep && m->vcpu_count > 1)
        return error_set(error, "-accel lockstep=: with -smp 1 only");
    /* When a unit is there must not depend on the host; and a host with one processor has none to spare. */
    options.no_background |= m->options->icount || os_processors() < 2;
    options.no_budget = !m->options->icount && !m->options->random_exits && !options.lockstep;
    options.hold = hold_machine;
    options.failed = quit_failed;
    options.opaque = m;
    m->jit = jit_new(&options, &m->log, error);
    if (!m->jit) return false;
    for (unsigned i = 0; i < m->vcpu_count; i++)
        if (!jit_attach(m->vcpu[i].cpu, m->jit, &why)) {
            if (m->options->accel == ACCEL_JIT)
                fprintf(stderr, "lyrebird: -accel jit: %s\n", why.text);
            break;
        }
    return true;
}

static bool add_processors(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    m->group = smp_group_new();
    pc->apic_bus = apic_bus_new();
    for (unsigned i = 0; i < m->options->smp; i++)
        if (!add_processor(pc, i, error)) return false;
    if (m->options->smp > 1 && !pc->lapic[0])
        return error_set(error, "-smp %u: -cpu %s has no local APIC", m->options->smp,
                         m->options->cpu);
    if (!add_translator(pc, error)) return false;
    /* Few processors that interpret may keep more of their code than many: the whole stays the
     * same. */
    for (unsigned i = 0; i < m->options->smp; i++)
        if (!m->vcpu[i].cpu->jit) cpu_keep_code(m->vcpu[i].cpu, MIB(8) / m->options->smp);
    return true;
}

/* --- chips --- */

static struct device *add(struct pc *pc, const char *class_name, struct error *error)
{
    struct device *device = machine_new_device(pc->machine, class_name);
    if (!device) return error_set(error, "this build has no %s", class_name), NULL;
    return machine_add(pc->machine, device, error);
}

static bool add_interrupts(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    static const char *const base[] = {"0x20", "0xa0"}, *const elcr[] = {"0x4d0", "0x4d1"},
                      *const mask[] = {"0xf8", "0xde"};
    for (unsigned i = 0; i < 2; i++) {
        pc->pic[i] = machine_new_device(m, "i8259");
        if (!device_set_property(pc->pic[i], "iobase", base[i], error) ||
            !device_set_property(pc->pic[i], "elcr", elcr[i], error) ||
            !device_set_property(pc->pic[i], "elcr-mask", mask[i], error) ||
            !machine_add(m, pc->pic[i], error))
            return false;
    }
    i8259_cascade(pc->pic[0], pc->pic[1]);
    i8259_connect_intr(pc->pic[0], (struct wire){pic_intr_set, pc, 0});
    if (!pc->lapic[0]) return true;
    struct device *ioapic = machine_new_device(m, "ioapic");
    ioapic_connect(ioapic, pc->apic_bus);
    if (!machine_add(m, ioapic, error)) return false;
    pc->ioapic = ioapic;
    return true;
}

static bool irq0_waits(void *opaque)
{
    struct pc *pc = opaque;
    return ioapic_pin_waits(pc->ioapic, 2) || i8259_waits(pc->pic[0], 0);
}

static bool add_hpet(struct pc *pc, struct error *error)
{
    struct hpet_wires wires = {0};
    if (!pc->machine->options->hpet || !pc->ioapic) return true;
    for (unsigned n = 16; n < 24; n++) wires.pin[n] = (struct wire){ioapic_set_pin, pc->ioapic, n};
    wires.pin[2] = pc_irq(pc, 0); /* I/O APIC input 2 is ISA interrupt 0 */
    wires.pin[8] = pc_irq(pc, 8);
    wires.irq0 = pc_irq(pc, 0);
    wires.irq0_waits = irq0_waits;
    wires.irq0_opaque = pc;
    wires.irq8 = pc_irq(pc, 8);
    wires.legacy = (struct wire){hpet_legacy_set, pc, 0};
    pc->hpet = machine_new_device(pc->machine, "hpet");
    hpet_set_wires(pc->hpet, &wires);
    return machine_add(pc->machine, pc->hpet, error);
}

static bool add_timers(struct pc *pc, struct error *error)
{
    if (!(pc->pit = add(pc, "i8254", error))) return false;
    i8254_connect_out0(pc->pit, timer_irq(pc, 0));
    struct device *speaker = add(pc, "isa-pcspk", error);
    if (!speaker) return false;
    pcspk_connect_pit(speaker, pc->pit);
    if (!(pc->rtc = add(pc, "mc146818rtc", error))) return false;
    mc146818_connect_irq(pc->rtc, timer_irq(pc, 8));
    if (!(pc->dma = add(pc, "i8237", error))) return false;
    return add_hpet(pc, error);
}

static void ferr_raised(void *opaque)
{
    struct pc *pc = opaque;
    machine_lock(pc->machine);
    ferr_assert(pc->ferr);
    machine_unlock(pc->machine);
}

static bool add_ferr(struct pc *pc, struct error *error)
{
    if (!(pc->ferr = add(pc, "ferr", error))) return false;
    ferr_connect_irq(pc->ferr, pc_irq(pc, 13));
    for (unsigned i = 0; i < pc->machine->vcpu_count; i++) {
        pc->machine->vcpu[i].cpu->ferr = ferr_raised;
        pc->machine->vcpu[i].cpu->ferr_opaque = pc;
    }
    return true;
}

static bool add_input(struct pc *pc, struct error *error)
{
    struct device *controller = add(pc, "i8042", error);
    struct device *keyboard = controller ? add(pc, "ps2-kbd", error) : NULL;
    struct device *mouse = keyboard ? add(pc, "ps2-mouse", error) : NULL;
    if (!mouse) return false;
    i8042_connect(controller, I8042_KEYBOARD, ps2_keyboard_port(keyboard));
    i8042_connect(controller, I8042_MOUSE, ps2_mouse_port(mouse));
    ps2_keyboard_connect_data(keyboard, (struct wire){i8042_set_data, controller, I8042_KEYBOARD});
    ps2_mouse_connect_data(mouse, (struct wire){i8042_set_data, controller, I8042_MOUSE});
    i8042_connect_irq(controller, I8042_KEYBOARD, pc_irq(pc, 1));
    i8042_connect_irq(controller, I8042_MOUSE, pc_irq(pc, 12));
    struct input_listener keys = ps2_keyboard_listener(keyboard), moves = ps2_mouse_listener(mouse);
    display_listen(pc->machine->display, &keys);
    display_listen(pc->machine->display, &moves);
    return true;
}

static bool add_pci_function(struct pc *pc, struct device *device, int devfn, struct error *error)
{
    return pci_bus_add(pc->pci, (struct pci_device *)device, devfn, error) &&
           machine_add(pc->machine, device, error);
}

static void send_msi(void *opaque, u64 address, u32 data) { apic_bus_msi(opaque, address, data); }

/* Firmware chooses where the PM ports are; the FADT it is about to install must say the same. */
static void pm_base_moved(void *opaque, u16 base) { pc_add_acpi(opaque, base); }

static bool add_chipset(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    struct wire irq[16], pirq[4];
    for (unsigned n = 0; n < 16; n++) irq[n] = pc_irq(pc, n);
    pc->pci = pci_bus_new(m->bus, &m->log);
    pci_bus_set_msi(pc->pci, send_msi, pc->apic_bus);

    pc->host_bridge = machine_new_device(m, "i440fx");
    pc_memory_hooks(pc);
    if (!add_pci_function(pc, pc->host_bridge, 0, error)) return false;
    pc->isa_bridge = machine_new_device(m, "piix3");
    piix3_set_irq_wires(pc->isa_bridge, irq);
    if (!add_pci_function(pc, pc->isa_bridge, 1 << 3, error)) return false;
    i440fx_set_reset_control(pc->host_bridge, piix3_reset_control_read, piix3_reset_control_write,
                             pc->isa_bridge);
    for (unsigned n = 0; n < 4; n++) pirq[n] = (struct wire){piix3_set_pirq, pc->isa_bridge, n};
    pci_bus_set_pirq(pc->pci, pirq);

    pc->pm = machine_new_device(m, "piix4pm");
    struct wire sci = pc_irq(pc, 9), smi = {smi_set, pc, 0};
    piix4pm_set_wires(pc->pm, &sci, &smi);
    piix4pm_on_pm_base(pc->pm, pm_base_moved, pc);
    if (!device_set_property(pc->pm, "smm", m->options->smm ? "on" : "off", error)) return false;
    return add_pci_function(pc, pc->pm, 1 << 3 | 3, error);
}


bool pc_build(struct machine *m, struct error *error)
{
    struct pc *pc = calloc(1, sizeof *pc);
    if (!pc) abort();
    m->pc = pc;
    pc->machine = m;
    /* Flash needs its drives, so these come before memory. */
    return pc_open_drives(pc, error) && pc_build_memory(pc, error) && add_processors(pc, error) &&
           add_interrupts(pc, error) && add_chipset(pc, error) && add_timers(pc, error) &&
           add_ferr(pc, error) && add_input(pc, error) && pc_add_ports(pc, error) &&
           pc_add_disks(pc, error) && pc_add_display(pc, error) && pc_add_network(pc, error) &&
           pc_add_user_devices(pc, error) && pc_describe(pc, error);
}

bool pc_add_pci(struct pc *pc, struct device *device, struct error *error)
{
    return add_pci_function(pc, device, -1, error);
}

struct device *pc_add_isa(struct pc *pc, const char *class_name, struct error *error)
{
    return add(pc, class_name, error);
}

void pc_reset(struct machine *m)
{
    m->services.set_a20(&m->services, true);
    pc_describe_reset(m->pc);
}

/* The power button, the keyboard and the user always may; the clock when the guest has said so. */
bool pc_wakes(struct machine *m, enum wake_cause cause)
{
    return cause != WAKE_RTC || piix4pm_rtc_enabled(m->pc->pm);
}

/* The memory controller keeps the memory, and what is mapped where. */
bool pc_sleeps_on(struct machine *m, const struct device *device)
{
    return device == m->pc->host_bridge;
}

void pc_woken(struct machine *m, enum wake_cause cause)
{
    mc146818_set_cmos(m->pc->rtc, CMOS_SHUTDOWN_STATUS, CMOS_RESUME);
    piix4pm_woken(m->pc->pm, cause == WAKE_RTC, cause == WAKE_BUTTON);
}

void pc_power_button(struct machine *m) { piix4pm_power_button(m->pc->pm); }

void pc_nmi(struct machine *m)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) cpu_nmi(m->vcpu[i].cpu);
}
