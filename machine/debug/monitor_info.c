/* The monitor's `info` and `device`: what the machine is and does. */
#include "machine/debug/monitor_int.h"

#include "cpu/cpu.h"
#include "devices/pci.h"
#include "jit/jit.h"
#include "machine/bus_host.h"
#include "machine/chardev_host.h"
#include "machine/debug/control.h"
#include "machine/debug/guest_memory.h"
#include "machine/debug/hash.h"
#include "machine/debug/registers.h"
#include "machine/drive_host.h"
#include "machine/pc.h"
#include "net/options.h"

#include <inttypes.h>
#include <stdlib.h>

/* --- the machine --- */

void info_status(struct monitor *m, const struct argument *a)
{
    const char *status = m->machine->status;
    (void)a;
    monitor_say(m, "VM status: %s", m->machine->run_state == RUN_RUNNING ? "running" : "paused");
    if (strcmp(status, "running") && strcmp(status, "paused")) monitor_say(m, " (%s)", status);
    monitor_say(m, "\n");
}

void info_name(struct monitor *m, const struct argument *a)
{
    (void)a;
    if (m->machine->options->name) monitor_say(m, "%s\n", m->machine->options->name);
}

void info_uuid(struct monitor *m, const struct argument *a)
{
    const char *uuid = m->machine->options->uuid;
    (void)a;
    monitor_say(m, "%s\n", uuid ? uuid : "00000000-0000-0000-0000-000000000000");
}

void info_version(struct monitor *m, const struct argument *a)
{
    (void)a;
    monitor_say(m, LYREBIRD_VERSION " (Lyrebird)\n");
}

void info_kvm(struct monitor *m, const struct argument *a)
{
    (void)a;
    monitor_say(m, "kvm support: not compiled\n");
}

void info_usb(struct monitor *m, const struct argument *a)
{
    (void)a;
    monitor_say(m, "Error: USB support not enabled\n");
}

void info_memory_size(struct monitor *m, const struct argument *a)
{
    (void)a;
    monitor_say(m, "base memory: %" PRIu64 "\nplugged memory: 0\n", m->machine->options->ram);
}

void info_mice(struct monitor *m, const struct argument *a)
{
    (void)a;
    for (unsigned i = 0, n = 0; i < m->machine->device_count; i++)
        if (!strcmp(m->machine->devices[i]->class->name, "ps2-mouse"))
            monitor_say(m, "%s Mouse #%u: PS/2 Mouse\n", n ? " " : "*", n), n++;
}

void info_chardev(struct monitor *m, const struct argument *a)
{
    (void)a;
    for (unsigned i = 0; i < m->machine->chardev_count; i++) {
        const struct chardev *c = m->machine->chardevs[i];
        monitor_say(m, "%s: filename=%s%s\n", c->id, c->text ? c->text : "",
                    c->connected ? "" : " (nobody connected)");
    }
}

void info_mtree(struct monitor *m, const struct argument *a)
{
    (void)a;
    bus_dump(m->machine->bus, m->out);
}

void info_roms(struct monitor *m, const struct argument *a)
{
    const struct pc *pc = m->machine->pc;
    const char *bios = m->machine->options->bios;
    (void)a;
    monitor_say(m, "size=0x%06" PRIx64 " %s \"%s\"\n", pc->bios_size,
                pc->has_flash ? "flash" : "mem=rom",
                pc->has_flash ? "pflash" : bios ? bios : "bios-256k.bin");
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        const struct pci_device *d = pci_bus_at(pc->pci, (u8)devfn);
        if (d && d->bars[PCI_BARS].region)
            monitor_say(m, "size=0x%06" PRIx64 " %s \"%s\"\n", d->bars[PCI_BARS].size, d->dev.id,
                        d->romfile ? d->romfile : "");
    }
    for (unsigned i = 0; i < m->machine->options->option_rom_count; i++)
        monitor_say(m, "option ROM \"%s\"\n", m->machine->options->option_roms[i]);
}

void info_balloon(struct monitor *m, const struct argument *a)
{
    struct error error;
    u64 bytes;
    (void)a;
    if (control_balloon_actual(m->machine, &bytes, &error))
        monitor_say(m, "balloon: actual=%" PRIu64 "\n", bytes >> 20);
    else monitor_error(m, &error);
}

/* --- processors --- */

void info_cpus(struct monitor *m, const struct argument *a)
{
    static const char *const activities[] = {"", " (halted)", " (waits for SIPI)", " (shut down)",
                                             " (mwait)"};
    (void)a;
    for (unsigned i = 0; i < m->machine->vcpu_count; i++) {
        const struct vcpu *cpu = m->machine->vcpu[i].cpu;
        monitor_say(m, "%c CPU #%u: thread_id=%d%s\n", i == m->cpu ? '*' : ' ', i,
                    m->machine->vcpu[i].host_id, activities[cpu->activity]);
    }
}

void info_registers(struct monitor *m, const struct argument *a)
{
    unsigned first = a[1].given ? (unsigned)a[1].number : m->cpu, last = first;
    if (a[0].given) first = 0, last = m->machine->vcpu_count - 1;
    if (last >= m->machine->vcpu_count) {
        monitor_say(m, "CPU#%u not available\n", last);
        return;
    }
    for (unsigned i = first; i <= last; i++) {
        monitor_say(m, "\nCPU#%u\n", i);
        registers_dump(m->out, m->machine->vcpu[i].cpu, true);
        monitor_say(m, "instructions=%" PRIu64 "\n", m->machine->vcpu[i].cpu->icount);
    }
}

static void say_line(void *monitor, const char *line) { monitor_say(monitor, "%s\n", line); }

void info_hash(struct monitor *m, const struct argument *a)
{
    (void)a;
    char text[MACHINE_HASH_TEXT], parts[3][MACHINE_HASH_TEXT];
    machine_hash(m->machine, text, parts);
    monitor_say(m, "state %s\nprocessors %s\nchips %s\nmemory %s\n", text, parts[0], parts[1],
                parts[2]);
}

void info_jit(struct monitor *m, const struct argument *a)
{
    (void)a;
    if (m->machine->jit) jit_statistics_print(m->machine->jit, say_line, m);
    else monitor_say(m, "interpreting: nothing is translated\n");
}

/* --- page tables --- */

struct ranges {
    struct monitor *m;
    u64 start, end;     /* of the run; equal: none */
    bool write, user;
};

static void end_range(struct ranges *r)
{
    if (r->start == r->end) return;
    monitor_say(r->m, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c\n", r->start, r->end,
                r->end - r->start, r->user ? 'u' : '-', r->write ? 'w' : '-');
    r->start = r->end;
}

static bool range_page(void *opaque, const struct guest_mapping *page)
{
    struct ranges *r = opaque;
    if (r->start == r->end || page->linear != r->end || page->write != r->write ||
        page->user != r->user) {
        end_range(r);
        r->start = r->end = page->linear;
        r->write = page->write;
        r->user = page->user;
    }
    r->end += page->size;
    return !monitor_is_full(r->m);
}

static bool paging(struct monitor *m)
{
    if (monitor_cpu(m)->cr0 & CR0_PG) return true;
    monitor_say(m, "PG disabled\n");
    return false;
}

void info_mem(struct monitor *m, const struct argument *a)
{
    struct ranges r = {.m = m};
    (void)a;
    if (!paging(m)) return;
    bool all = guest_mappings(monitor_cpu(m), range_page, &r);
    end_range(&r);
    if (!all) monitor_say(m, "… there are more page tables than are looked at\n");
}

static bool tlb_line(void *opaque, const struct guest_mapping *page)
{
    static const struct { unsigned bit; char letter; } bits[] = {{8, 'G'}, {7, 'P'}, {6, 'D'},
                                                                 {5, 'A'}, {4, 'C'}, {3, 'T'},
                                                                 {2, 'U'}, {1, 'W'}};
    struct monitor *m = opaque;
    monitor_say(m, "%016" PRIx64 ": %016" PRIx64 " %c", page->linear, page->physical,
                page->entry >> 63 ? 'X' : '-');
    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
        bool on = page->entry >> bits[i].bit & 1 && (bits[i].bit != 7 || page->size > PAGE_SIZE);
        monitor_say(m, "%c", on ? bits[i].letter : '-');
    }
    monitor_say(m, "\n");
    return !monitor_is_full(m);
}

void info_tlb(struct monitor *m, const struct argument *a)
{
    (void)a;
    if (paging(m) && !guest_mappings(monitor_cpu(m), tlb_line, m))
        monitor_say(m, "… there are more page tables than are looked at\n");
}

/* --- PCI --- */

static const char *pci_class_name(u16 class)
{
    static const struct { u16 class; const char *name; } names[] = {
        {0x0100, "SCSI controller"}, {0x0101, "IDE controller"}, {0x0200, "Ethernet controller"},
        {0x0300, "VGA controller"},
        {0x0600, "Host bridge"}, {0x0601, "ISA bridge"}, {0x0680, "Bridge"},
        {0x0780, "Communication controller"},
        {0x0c03, "USB controller"}, {0x00ff, "Class 255"}};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i].class == class) return names[i].name;
    return "Device";
}

static void say_bar(struct monitor *m, unsigned n, const struct pci_bar *bar)
{
    if (!bar->region) return;
    monitor_say(m, "      BAR%u: ", n);
    if (bar->is_port) monitor_say(m, "I/O at ");
    else monitor_say(m, "%u bit %smemory at ", bar->is_64bit ? 64 : 32,
                     bar->prefetchable ? "prefetchable " : "");
    if (bar->mapped)
        monitor_say(m, "0x%0*" PRIx64 " [0x%0*" PRIx64 "].\n", bar->is_port ? 4 : 8, bar->address,
                    bar->is_port ? 4 : 8, bar->address + bar->size - 1);
    else monitor_say(m, "[not mapped, 0x%" PRIx64 " bytes].\n", bar->size);
}

void info_pci(struct monitor *m, const struct argument *a)
{
    (void)a;
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        const struct pci_device *d = pci_bus_at(m->machine->pc->pci, (u8)devfn);
        if (!d) continue;
        monitor_say(m, "  Bus  0, device %3u, function %u:\n    %s: PCI device %04x:%04x\n",
                    devfn >> 3, devfn & 7,
                    pci_class_name(ld16(d->config + 0x0a)), ld16(d->config), ld16(d->config + 2));
        if (ld16(d->config + 0x2c))
            monitor_say(m, "      PCI subsystem %04x:%04x\n", ld16(d->config + 0x2c),
                        ld16(d->config + 0x2e));
        if (d->config[0x3d])
            monitor_say(m, "      IRQ %u, pin %c\n", d->config[0x3c], 'A' + d->config[0x3d] - 1);
        for (unsigned i = 0; i <= PCI_BARS; i++) say_bar(m, i, &d->bars[i]);
        monitor_say(m, "      id \"%s\"\n", d->dev.id);
    }
}

/* --- interrupts --- */

static u64 field(const struct device *device, const char *name, unsigned index)
{
    return state_number(device, device->class->fields, name, index);
}

static void say_pic(struct monitor *m, unsigned n)
{
    const struct device *pic = m->machine->pc->pic[n];
    u8 levels = field(pic, "level_mode", 0) ? 0xff : (u8)field(pic, "elcr", 0);
    u8 irr = (u8)((field(pic, "lines", 0) & levels) | (field(pic, "edges", 0) & (u8)~levels));
    monitor_say(
        m, "pic%u: irr=%02x imr=%02x isr=%02x hprio=%u irq_base=%02x rr_sel=%u elcr=%02x fnm=%u\n",
        n, irr, (unsigned)field(pic, "mask", 0), (unsigned)field(pic, "in_service", 0),
        (unsigned)field(pic, "first_priority", 0), (unsigned)field(pic, "vector_base", 0),
        (unsigned)field(pic, "read_isr", 0), (unsigned)field(pic, "elcr", 0),
        (unsigned)field(pic, "fully_nested", 0));
}

static const char *const delivery[] = {"fixed ", "lowpri", "SMI   ", "...   ",
                                       "NMI   ", "INIT  ", "SIPI  ", "ExtINT"};

static void say_ioapic(struct monitor *m, const struct device *ioapic)
{
    u64 irr = field(ioapic, "irr", 0);
    monitor_say(m, "ioapic0: id=0x%02x sel=0x%02x\n", (unsigned)field(ioapic, "id", 0),
                (unsigned)field(ioapic, "index", 0));
    for (unsigned pin = 0; pin < 24; pin++) {
        u64 e = field(ioapic, "entry", pin);
        monitor_say(m, "  pin %-2u 0x%016" PRIx64 " dest=%u vec=%-3u active-%s %s %s %s %s\n", pin,
                    e, (unsigned)(e >> 56), (u8)e, e >> 13 & 1 ? "lo" : "hi",
                    e >> 15 & 1 ? "level" : "edge ", e >> 16 & 1 ? "masked" : "      ",
                    delivery[e >> 8 & 7], e >> 11 & 1 ? "logical" : "physical");
    }
    monitor_say(m, "  IRR     ");
    for (unsigned pin = 0; pin < 24; pin++)
        if (irr >> pin & 1) monitor_say(m, " %u", pin);
    monitor_say(m, "%s\n", irr ? "" : " (none)");
}

void info_pic(struct monitor *m, const struct argument *a)
{
    (void)a;
    if (m->machine->pc->ioapic) say_ioapic(m, m->machine->pc->ioapic);
    say_pic(m, 1);
    say_pic(m, 0);
}

static void say_vectors(struct monitor *m, const struct device *lapic, const char *name,
                        const char *title)
{
    bool any = false;
    monitor_say(m, "%s\t", title);
    for (unsigned v = 0; v < 256; v++)
        if (field(lapic, name, v / 32) >> v % 32 & 1) monitor_say(m, " %u", v), any = true;
    monitor_say(m, "%s\n", any ? "" : " (none)");
}

void info_lapic(struct monitor *m, const struct argument *a)
{
    static const char *const lvts[] = {"LVTT", "LVTTHMR", "LVTPC",  "LVT0",
                                       "LVT1", "LVTERR",  "LVTCMCI"};
    unsigned index = a[0].given ? (unsigned)a[0].number : m->cpu;
    bool there = index < m->machine->vcpu_count;
    const struct device *lapic = there ? m->machine->pc->lapic[index] : NULL;
    if (!lapic) {
        monitor_say(m, "Local APIC not available\n");
        return;
    }
    monitor_say(m, "dumping local APIC state for CPU %u\n\n", index);
    const struct state_field *f = lapic->class->fields;
    while (f->name && strcmp(f->name, "lvt")) f++;
    for (unsigned i = 0; f->name && i < f->count; i++) {
        u32 v = (u32)field(lapic, "lvt", i);
        monitor_say(m, "%s\t 0x%08x active-%s %s %s %s (vec %u)\n",
                    i < ARRAY_SIZE(lvts) ? lvts[i] : "LVT", v, v >> 13 & 1 ? "lo" : "hi",
                    v >> 15 & 1 ? "level" : "edge ", v >> 16 & 1 ? "masked" : "      ",
                        delivery[v >> 8 & 7], (u8)v);
    }
    monitor_say(m, "Timer\t DCR=0x%x initial_count = %u\n", (unsigned)field(lapic, "divide", 0),
                (unsigned)field(lapic, "initial_count", 0));
    monitor_say(m, "SPIV\t 0x%08x APIC %s, spurious vec %u\n", (u32)field(lapic, "svr", 0),
                field(lapic, "svr", 0) >> 8 & 1 ? "enabled" : "disabled",
                (u8)field(lapic, "svr", 0));
    monitor_say(m, "ICR\t 0x%016" PRIx64 "\nESR\t 0x%08x\n", field(lapic, "icr", 0),
                (u32)field(lapic, "esr", 0));
    say_vectors(m, lapic, "isr", "ISR");
    say_vectors(m, lapic, "irr", "IRR");
    monitor_say(m, "\nID 0x%08x TPR 0x%02x DFR 0x%08x LDR 0x%08x base 0x%" PRIx64 "\n",
                (u32)field(lapic, "id", 0), (unsigned)field(lapic, "tpr", 0),
                (u32)field(lapic, "dfr", 0), (u32)field(lapic, "ldr", 0), field(lapic, "base", 0));
}

void info_irq(struct monitor *m, const struct argument *a)
{
    (void)a;
    monitor_say(m, "IRQ statistics:\n");
    for (unsigned i = 0; i < 16; i++)
        if (m->machine->pc->line[i].rises)
            monitor_say(m, "%2u: %" PRIu64 "\n", i, m->machine->pc->line[i].rises);
}

/* --- drives --- */

static void say_drive(struct monitor *m, unsigned index)
{
    struct drive *d = m->machine->drives[index];
    bool removable = control_drive_removable(m->machine, index);
    const char *file = m->machine->drive_files[index];
    monitor_say(m, "%s%s: ", index ? "\n" : "", drive_id(d));
    if (drive_has_medium(d))
        monitor_say(m, "%s (%s%s)\n", file ? file : "", drive_format(d),
                    drive_read_only(d) ? ", read-only" : "");
    else monitor_say(m, "[not inserted]\n");
    if (removable)
        monitor_say(m, "    Removable device: %slocked, tray %s\n",
                    drive_tray_locked(d) ? "" : "not ", drive_tray_open(d) ? "open" : "closed");
    if (drive_has_medium(d))
        monitor_say(m, "    Size:             %" PRIu64 " bytes\n", drive_size(d));
}

void info_block(struct monitor *m, const struct argument *a)
{
    for (unsigned i = 0; i < m->machine->drive_count; i++)
        if (!a[0].given || !strcmp(a[0].text, drive_id(m->machine->drives[i]))) say_drive(m, i);
    if (a[0].given && control_drive_index(m->machine, a[0].text) < 0)
        monitor_say(m, "Device '%s' not found\n", a[0].text);
}

void info_blockstats(struct monitor *m, const struct argument *a)
{
    (void)a;
    for (unsigned i = 0; i < m->machine->drive_count; i++) {
        const struct drive_counts *c = drive_counts(m->machine->drives[i]);
        monitor_say(
            m,
            "%s: rd_bytes=%" PRIu64 " wr_bytes=%" PRIu64 " rd_operations=%" PRIu64
            " wr_operations=%" PRIu64 " flush_operations=%" PRIu64 " wr_total_time_ns=%" PRIu64
            " rd_total_time_ns=%" PRIu64 " flush_total_time_ns=%" PRIu64 "\n",
            drive_id(m->machine->drives[i]), c->bytes[DRIVE_READ], c->bytes[DRIVE_WRITE],
            c->operations[DRIVE_READ], c->operations[DRIVE_WRITE], c->operations[DRIVE_FLUSH],
            c->ns[DRIVE_WRITE], c->ns[DRIVE_READ], c->ns[DRIVE_FLUSH]);
    }
}

/* --- network --- */

static void say_card(struct monitor *m, const struct device *d, bool *used)
{
    const struct net_port *port = NULL;
    const u8 *mac = NULL;
    for (const struct property *p = d->class->properties; p && p->name; p++) {
        const char *at = (const char *)d + p->offset;
        if (p->kind == PROPERTY_NETDEV) port = *(struct net_port *const *)(const void *)at;
        if (p->kind == PROPERTY_MAC) mac = (const u8 *)at;
    }
    if (!mac) return;
    monitor_say(m, "%s: type=nic,model=%s,macaddr=%02x:%02x:%02x:%02x:%02x:%02x\n", d->id,
                d->class->name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    if (!port) return;
    monitor_say(m, " \\ %s: type=%s\n", port->id, net_port_is_nat(port) ? "user" : "hubport");
    for (unsigned i = 0; i < m->machine->net->port_count; i++)
        used[i] |= m->machine->net->ports[i] == port;
}

void info_network(struct monitor *m, const struct argument *a)
{
    bool used[NET_PORTS] = {false};
    const struct net_set *net = m->machine->net;
    (void)a;
    for (unsigned i = 0; i < m->machine->device_count; i++)
        say_card(m, m->machine->devices[i], used);
    for (unsigned i = 0; net && i < net->port_count; i++)
        if (!used[i])
            monitor_say(m, "%s: type=%s\n", net->ports[i]->id,
                        net_port_is_nat(net->ports[i]) ? "user" : "hubport");
}

void info_usernet(struct monitor *m, const struct argument *a)
{
    const struct net_set *net = m->machine->net;
    (void)a;
    for (unsigned i = 0; net && i < net->port_count; i++) {
        char *text = net_port_is_nat(net->ports[i]) ? nat_connections(net->ports[i]) : NULL;
        if (text) monitor_say(m, "%s:\n%s", net->ports[i]->id, text);
        free(text);
    }
}

/* --- chips --- */

void info_qtree(struct monitor *m, const struct argument *a)
{
    (void)a;
    for (unsigned i = 0; i < m->machine->device_count; i++) {
        const struct device *d = m->machine->devices[i];
        monitor_say(m, "%-18s id=%-16s", d->class->name, d->id);
        if (d->class->is_pci)
            monitor_say(m, " pci=%02x.%x", ((const struct pci_device *)d)->devfn >> 3,
                        ((const struct pci_device *)d)->devfn & 7);
        monitor_say(m, " %s\n", d->class->title ? d->class->title : "");
    }
}

static bool say_processor(struct monitor *m, const char *name)
{
    char *end;
    if (strncmp(name, "cpu", 3) || !name[3]) return false;
    unsigned long n = strtoul(name + 3, &end, 10);
    if (*end || n >= m->machine->vcpu_count) return false;
    state_dump(m->out, "", m->machine->vcpu[n].cpu, vcpu_fields());
    return true;
}

void monitor_device(struct monitor *m, const struct argument *a)
{
    bool found = false;
    if (!a[0].given) {
        info_qtree(m, a);
        return;
    }
    for (unsigned i = 0; i < m->machine->device_count; i++) {
        const struct device *d = m->machine->devices[i];
        if (strcmp(d->id, a[0].text) && strcmp(d->class->name, a[0].text)) continue;
        if (found) monitor_say(m, "\n");
        monitor_say(m, "%s (%s)\n", d->id, d->class->title ? d->class->title : d->class->name);
        if (d->class->is_pci) state_dump(m->out, "pci.", d, pci_device_fields);
        if (d->class->fields) state_dump(m->out, "", d, d->class->fields);
        found = true;
    }
    if (!found && !say_processor(m, a[0].text))
        monitor_say(m, "Error: Device '%s' not found\n", a[0].text);
}
