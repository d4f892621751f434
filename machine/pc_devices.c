/*
 * What the options put on the board: drives, ports, disks, display, network, -device.
 */
#define _GNU_SOURCE
#include "machine/pc_parts.h"

#include "devices/i82077.h"
#include "devices/lapic.h"
#include "devices/ns16550.h"
#include "devices/parallel.h"
#include "devices/piix3_ide.h"
#include "machine/chardev_host.h"
#include "machine/clock_host.h"
#include "machine/disk/image.h"
#include "machine/display_host.h"
#include "machine/drive_host.h"
#include "machine/firmware.h"
#include "machine/host/loop.h"
#include "net/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- drives --- */

static void drive_stopped(void *opaque, struct drive *drive, int error, bool is_write)
{
    struct machine *m = opaque;
    fprintf(stderr,
            "lyrebird: drive '%s': %s: %s; the machine is paused (monitor: cont tries again)\n",
            drive_id(drive), is_write ? "write" : "read", strerror(error));
    machine_ask_pause(m, "io-error");
}

static void drive_trouble(void *opaque, struct drive *drive, int error, bool is_write,
                          enum drive_trouble what)
{
    static const char *const actions[] = {"report", "ignore", "stop", "report"};
    machine_tell(opaque, &(struct machine_event){.kind = EVENT_BLOCK_IO_ERROR,
                                                 .device = drive_id(drive),
                                                 .operation = is_write ? "write" : "read",
                                                 .action = actions[what],
                                                 .nospace = error == ENOSPC,
                                                 .reason = strerror(error)});
}

static void drive_tray(void *opaque, struct drive *drive, bool open)
{
    machine_tell(opaque, &(struct machine_event){.kind = EVENT_DEVICE_TRAY_MOVED,
                                                 .device = drive_id(drive),
                                                 .id = drive_id(drive), .tray_open = open});
}

static void drives_waiting(void *opaque) { ((struct machine *)opaque)->kick_drives = true; }
static bool enter_machine(void *opaque) { return machine_try_lock(opaque); }
static void leave_machine(void *opaque) { machine_unlock(opaque); }

static struct drive_settings settings_for(struct machine *m, const char *id)
{
    return (struct drive_settings){.id = id, .stop = drive_stopped, .trouble = drive_trouble,
                                   .tray = drive_tray, .waiting = drives_waiting,
                                   .enter = enter_machine, .leave = leave_machine, .opaque = m,
                                   .clock = m->icount ? m->clock : NULL};
}

/* Drives without an index= take the first free place, behind those that have one. */
static bool place_drives(struct options *o, enum drive_interface interface, unsigned places,
                         struct error *error)
{
    u32 taken = 0;
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < o->drive_count; i++) {
            struct drive_option *d = &o->drives[i];
            const char *what = d->file ? d->file : d->cdrom ? "CD-ROM" : "drive";
            if (d->interface != interface || (pass == 0 && d->index < 0)) continue;
            if (pass == 1 && d->index >= 0) continue;
            if (pass == 1) for (d->index = 0; taken >> d->index & 1;) d->index++;
            if (d->index >= (int)places)
                return error_set(error, "%s: %s index %d; 0 to %u exist", what,
                                 interface == IF_IDE ? "IDE" : "floppy", d->index, places - 1);
            if (taken >> d->index & 1)
                return error_set(error, "%s: %s index %d is taken", what,
                                 interface == IF_IDE ? "IDE" : "floppy", d->index);
            taken |= 1u << d->index;
        }
    return true;
}

/* QEMU's names: ide0-hd0, ide1-cd0, floppy0, virtio0. */
static void default_id(struct machine *m, const struct drive_option *o, char *id, size_t size)
{
    static const char *const prefix[] = {"ide", "floppy", "virtio", "pflash", "none"};
    unsigned n = 0;
    if (o->interface == IF_IDE) {
        snprintf(id, size, "ide%d-%s%d", o->index >> 1, o->cdrom ? "cd" : "hd", o->index & 1);
        return;
    }
    for (unsigned i = 0; i < m->drive_count; i++)
        n += m->drive_options[i]->interface == o->interface;
    if (o->interface == IF_FLOPPY) n = (unsigned)o->index;
    snprintf(id, size, "%s%u", prefix[o->interface], n);
}

static bool open_drive(struct pc *pc, const struct drive_option *o, struct error *error)
{
    struct machine *m = pc->machine;
    char id[32];
    struct image *image = NULL;
    default_id(m, o, id, sizeof id);
    if (o->file && *o->file) {
        bool snapshot = o->snapshot || (m->options->snapshot && !o->cdrom &&
                                        o->interface != IF_PFLASH);
        image = image_open(o->file, o->format, o->read_only, snapshot, error);
        if (!image) return false;
    }
    struct drive_settings settings = settings_for(m, o->id ? o->id : id);
    settings.serial = o->serial;
    settings.cache = o->cache;
    settings.on_read_error = o->on_read_error;
    settings.on_write_error = o->on_write_error;
    for (unsigned i = 0; i < m->drive_count; i++)
        if (!strcmp(drive_id(m->drives[i]), settings.id)) {
            if (image) image->close(image);
            return error_set(error, "-drive id=%s: taken", settings.id);
        }
    m->drive_options[m->drive_count] = o;
    m->drive_files[m->drive_count] = image ? strdup(o->file) : NULL;
    m->drives[m->drive_count++] = drive_new(image, &settings, m->loop);
    return true;
}

bool pc_open_drives(struct pc *pc, struct error *error)
{
    struct options *o = pc->machine->options;
    if (!place_drives(o, IF_IDE, 4, error) || !place_drives(o, IF_FLOPPY, 2, error)) return false;
    for (unsigned i = 0; i < pc->machine->options->drive_count; i++)
        if (!open_drive(pc, &pc->machine->options->drives[i], error)) return false;
    return true;
}

static bool add_floppy(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    static const char *const place[] = {"driveA", "driveB"};
    struct device *floppy = machine_new_device(m, "isa-fdc");
    if (!floppy) return error_set(error, "this build has no i82077");
    for (unsigned i = 0; i < m->drive_count; i++) {
        const struct drive_option *o = m->drive_options[i];
        if (o->interface == IF_FLOPPY) device_set_pointer(floppy, place[o->index], m->drives[i]);
    }
    i82077_connect_irq(floppy, pc_irq(pc, 6));
    i82077_connect_dma(floppy, pc->dma);
    pc->floppy = floppy;
    return machine_add(m, floppy, error);
}

static bool add_ide(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    struct device *ide = machine_new_device(m, "piix3-ide");
    struct wire irq[2] = {pc_irq(pc, 14), pc_irq(pc, 15)};
    bool taken[4] = {false};
    piix3_ide_set_wires(ide, irq);
    if (!pci_bus_add(pc->pci, (struct pci_device *)ide, 1 << 3 | 1, error) ||
        !machine_add(m, ide, error))
        return false;
    for (unsigned i = 0; i < m->drive_count; i++) {
        const struct drive_option *o = m->drive_options[i];
        if (o->interface != IF_IDE) continue;
        taken[o->index] = true;
        piix3_ide_attach(ide, (unsigned)o->index >> 1, o->index & 1, m->drives[i], o->cdrom);
    }
    struct drive_settings empty = settings_for(m, "ide1-cd0");
    if (!taken[2] && !m->options->nodefaults && m->drive_count < MAX_DRIVES) {
        static const struct drive_option no_option = {
            .interface = IF_IDE, .cdrom = true, .index = 2};
        m->drive_options[m->drive_count] = &no_option;
        m->drives[m->drive_count] = drive_new(NULL, &empty, m->loop);
        piix3_ide_attach(ide, 1, 0, m->drives[m->drive_count++], true);
    }
    return true;
}

static bool add_virtio_disks(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    for (unsigned i = 0; i < m->drive_count; i++) {
        if (m->drive_options[i]->interface != IF_VIRTIO) continue;
        struct device *disk = machine_new_device(m, "virtio-blk-pci");
        device_set_pointer(disk, "drive", m->drives[i]);
        if (!pc_add_pci(pc, disk, error)) return false;
    }
    return true;
}

bool pc_add_disks(struct pc *pc, struct error *error)
{
    return add_ide(pc, error) && add_floppy(pc, error) && add_virtio_disks(pc, error);
}

/* --- ports --- */

/* TEXT as -serial takes it; "mon:" and -nographic share the terminal with the monitor. */
static bool open_port(struct machine *m, const char *label, const char *text, struct chardev **out,
                      struct error *error)
{
    *out = NULL;
    if (!strcmp(text, "none")) return true;
    return (*out = machine_chardev(m, label, text, false, error)) != NULL;
}

static bool add_serial(struct pc *pc, struct error *error)
{
    struct options *o = pc->machine->options;
    static const char *const base[] = {"0x3f8", "0x2f8", "0x3e8", "0x2e8"};
    static const u8 irq[] = {4, 3, 4, 3};
    if (!o->serial_count && !o->nodefaults)
        o->serial[o->serial_count++] = o->nographic ? "mon:stdio" : "null";
    for (unsigned i = 0; i < o->serial_count; i++) {
        struct chardev *chardev;
        char label[24];
        snprintf(label, sizeof label, "serial%u", i);
        if (!strcmp(o->serial[i], "none")) continue;
        if (!open_port(pc->machine, label, o->serial[i], &chardev, error))
            return error_prefix(error, "-serial %s", o->serial[i]);
        struct device *uart = machine_new_device(pc->machine, "isa-serial");
        device_set_pointer(uart, "chardev", chardev);
        if (!device_set_property(uart, "iobase", base[i], error)) return false;
        ns16550_connect_irq(uart, pc_irq(pc, irq[i]));
        if (!machine_add(pc->machine, uart, error)) return false;
    }
    return true;
}

static bool add_parallel(struct pc *pc, struct error *error)
{
    const char *text = pc->machine->options->parallel;
    struct chardev *chardev = NULL;
    if (text && !strcmp(text, "none")) return true;
    if (text && !open_port(pc->machine, "parallel0", text, &chardev, error))
        return error_prefix(error, "-parallel %s", text);
    if (!text && pc->machine->options->nodefaults) return true;
    struct device *port = machine_new_device(pc->machine, "isa-parallel");
    device_set_pointer(port, "chardev", chardev);
    parallel_connect_irq(port, pc_irq(pc, 7));
    return machine_add(pc->machine, port, error);
}

bool pc_add_ports(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    if (!machine_open_chardevs(m, error) || !add_serial(pc, error) || !add_parallel(pc, error) ||
        !pc_add_isa(pc, "port92", error))
        return false;
    if (m->options->debugcon) {
        struct chardev *chardev;
        if (!open_port(m, "debugcon", m->options->debugcon, &chardev, error))
            return error_prefix(error, "-debugcon %s", m->options->debugcon);
        struct device *port = machine_new_device(m, "isa-debugcon");
        device_set_pointer(port, "chardev", chardev);
        if (!machine_add(m, port, error)) return false;
    }
    return true;
}

/* --- display --- */

bool pc_add_display(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    if (m->options->vga_none || (m->options->nodefaults && !m->options->vga_std)) return true;
    struct device *vga = machine_new_device(m, "VGA");
    if (!vga) return true;
    char path[4096];
    if (!firmware_find(m->options, "vgabios-stdvga.bin", path, sizeof path, error)) return false;
    device_set_pointer(vga, "display", m->display);
    if (!device_set_property(vga, "romfile", strdup(path), error)) return false;
    return pc_add_pci(pc, vga, error);
}

/* --- network --- */

static bool add_card(struct pc *pc, const struct net_nic *nic, struct error *error)
{
    struct machine *m = pc->machine;
    const char *model = *nic->model ? nic->model : "e1000";
    if (!strcmp(model, "virtio")) model = "virtio-net-pci";
    char mac[32], path[4096];
    bool known = !strcmp(model, "e1000") || !strcmp(model, "virtio-net-pci");
    struct device *card = known ? machine_new_device(m, model) : NULL;
    if (!card)
        return error_set(error, "-nic model=%s: not supported (e1000, virtio-net-pci)", model);
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", nic->mac[0], nic->mac[1],
             nic->mac[2], nic->mac[3], nic->mac[4], nic->mac[5]);
    device_set_pointer(card, "netdev", nic->port);
    if (!device_set_property(card, "mac", mac, error)) return false;
    /* A missing option ROM only means that this card cannot boot from the network. */
    if (firmware_find(m->options, !strcmp(model, "e1000") ? "pxe-e1000.rom" : "pxe-virtio.rom",
                      path, sizeof path, error) &&
        !device_set_property(card, "romfile", strdup(path), error))
        return false;
    return pc_add_pci(pc, card, error);
}

static int poll_add(void *opaque, int fd, int events) { return loop_guest_add(opaque, fd, events); }
static int poll_revents(void *opaque, int index) { return loop_guest_revents(opaque, index); }
static void poll_wake(void *opaque) { loop_wake(opaque); }
static void poll_fill(void *opaque, u32 *timeout_ms) { net_set_poll_fill(opaque, timeout_ms); }
static void poll_process(void *opaque, bool failed) { net_set_poll_process(opaque, failed); }

bool pc_add_network(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    struct options *o = m->options;
    m->net = calloc(1, sizeof *m->net);
    if (!m->net) abort();
    m->net->clock = m->clock;
    m->net->log = &m->log;
    for (unsigned i = 0; i < o->netdev_count; i++)
        if (!net_set_netdev(m->net, o->netdevs[i], error)) return false;
    if (!o->nic_count && !o->nodefaults && !o->netdev_count) o->nics[o->nic_count++] = "user";
    for (unsigned i = 0; i < o->nic_count; i++) {
        struct net_nic nic = {0};
        if (!net_set_nic(m->net, o->nics[i], &nic, error)) return false;
        if (!nic.none && !add_card(pc, &nic, error)) return false;
    }
    for (unsigned i = 0; i < o->object_count; i++) {
        if (strncmp(o->objects[i], "filter-dump,", 12))
            return error_set(error, "-object %s: not supported (filter-dump)", o->objects[i]);
        if (!net_set_filter_dump(m->net, o->objects[i], error)) return false;
    }
    pc->poll = (struct nat_poll){m->loop, poll_add, poll_revents, poll_wake};
    net_set_poll(m->net, &pc->poll);
    struct loop_guest guest = {m->net, poll_fill, poll_process};
    loop_set_guest(m->loop, &guest);
    return true;
}

/* --- -device --- */

static struct drive *find_drive(struct machine *m, const char *id)
{
    for (unsigned i = 0; i < m->drive_count; i++)
        if (!strcmp(drive_id(m->drives[i]), id)) return m->drives[i];
    return NULL;
}

static const struct property *find_property(const struct device_class *class, const char *name)
{
    for (const struct property *p = class->properties; p && p->name; p++)
        if (!strcmp(p->name, name)) return p;
    return NULL;
}

/* Does a chip have DRIVE already? */
static bool drive_used(struct machine *m, const struct drive *drive)
{
    for (unsigned i = 0; i < m->drive_count; i++)
        if (m->drives[i] == drive && m->drive_options[i]->interface != IF_NONE) return true;
    for (unsigned i = 0; i < m->device_count; i++)
        for (const struct property *p = m->devices[i]->class->properties; p && p->name; p++)
            if (p->kind == PROPERTY_DRIVE &&
                *(struct drive **)((char *)m->devices[i] + p->offset) == drive)
                return true;
    return false;
}

/* A -chardev's id, or what -serial takes. */
static struct chardev *find_chardev(struct machine *m, const struct device *device,
                                    const char *value, struct error *error)
{
    char text[64], label[48];
    for (unsigned i = 0; i < m->chardev_count; i++)
        if (!strcmp(m->chardevs[i]->id, value)) {
            snprintf(text, sizeof text, "chardev:%s", value);
            return machine_chardev(m, "", text, false, error);
        }
    snprintf(label, sizeof label, "%.20s-chardev%u", device->class->name, m->chardev_count);
    return machine_chardev(m, label, value, false, error);
}

static bool set_user_property(struct machine *m, struct device *device, const char *key,
                              const char *value, struct error *error)
{
    const struct property *p = find_property(device->class, key);
    void *pointer = NULL;
    if (!strcmp(key, "id")) {
        snprintf(device->id, sizeof device->id, "%s", value);
        return true;
    }
    if (!p || p->kind == PROPERTY_BOOL || p->kind == PROPERTY_U32 || p->kind == PROPERTY_U64 ||
        p->kind == PROPERTY_STRING || p->kind == PROPERTY_MAC)
        return device_set_property(device, key, value, error);
    if (p->kind == PROPERTY_DRIVE) pointer = find_drive(m, value);
    else if (p->kind == PROPERTY_NETDEV) pointer = net_set_find(m->net, value);
    else if (p->kind == PROPERTY_CHARDEV && !(pointer = find_chardev(m, device, value, error)))
        return false;
    if (!pointer)
        return error_set(error, "-device %s: no such %s '%s'", device->class->name, key, value);
    if (p->kind == PROPERTY_DRIVE && drive_used(m, pointer))
        return error_set(error,
                         "-device %s: drive '%s' has its place already (if=none leaves it free)",
                         device->class->name, value);
    device_set_pointer(device, key, pointer);
    return true;
}

/* Inputs 16 and up are the I/O APIC's own. */
static struct wire input_wire(void *board, unsigned n)
{
    struct pc *pc = board;
    if (n < 16) return pc_irq(pc, n);
    return pc->ioapic ? (struct wire){ioapic_set_pin, pc->ioapic, n} : (struct wire){0};
}

static bool add_user_device(struct pc *pc, const char *text, struct error *error)
{
    struct machine *m = pc->machine;
    struct keyvals kv;
    int devfn = -1;
    if (!keyvals_parse(&kv, text, "driver", error)) return false;
    const char *driver = keyvals_get(&kv, "driver");
    const struct device_class *class = driver ? device_class_find(driver) : NULL;
    if (!class || !class->user_creatable)
        return error_set(error, "-device %s: no such device (-device help lists them)",
                         driver ? driver : text);
    struct device *device = machine_new_device(m, driver);
    bool has_mac = false, wants_mac = find_property(class, "mac") != NULL;
    for (unsigned i = 0; i < kv.count; i++) {
        const char *key = kv.item[i].key, *value = kv.item[i].value;
        if (!strcmp(key, "driver") || !strcmp(key, "bus") || !strcmp(key, "bootindex")) continue;
        if (!strcmp(key, "addr") && class->is_pci) {
            char *end;
            unsigned long slot = strtoul(value, &end, 16),
                          function = *end == '.' ? strtoul(end + 1, &end, 16) : 0;
            if (*end || slot > 31 || function > 7)
                return error_set(error, "-device %s: bad addr '%s'", driver, value);
            devfn = (int)(slot << 3 | function);
            continue;
        }
        has_mac |= !strcmp(key, "mac");
        if (!set_user_property(m, device, key, value, error)) return false;
    }
    if (wants_mac && !has_mac) {
        u8 mac[6];
        char text_mac[32];
        net_default_mac(mac, m->net->nic_count++);
        snprintf(text_mac, sizeof text_mac, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                 mac[3], mac[4], mac[5]);
        if (!device_set_property(device, "mac", text_mac, error)) return false;
    }
    if (class->connect) class->connect(device, input_wire, pc);
    if (!class->is_pci) return machine_add(m, device, error);
    return pci_bus_add(pc->pci, (struct pci_device *)device, devfn, error) &&
           machine_add(m, device, error);
}

bool pc_add_user_devices(struct pc *pc, struct error *error)
{
    for (unsigned i = 0; i < pc->machine->options->device_count; i++)
        if (!add_user_device(pc, pc->machine->options->devices[i], error)) return false;
    return true;
}
