/*
 * What the options put on the board: drives, ports, disks, display, network, -device.
 */
#define _GNU_SOURCE
#include "machine/pc_parts.h"

#include "devices/i82077.h"
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

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- drives --- */

static void drive_stopped(void *opaque, struct drive *drive, int error, bool is_write)
{
    struct machine *m = opaque;
    fprintf(stderr, "lyrebird: drive '%s': %s: %s; the machine is paused (monitor: cont tries again)\n",
            drive_id(drive), is_write ? "write" : "read", strerror(error));
    atomic_store(&m->wants_pause, true);
    loop_wake(m->loop);
}

static bool open_drive(struct pc *pc, const struct drive_option *o, struct error *error)
{
    struct machine *m = pc->machine;
    char id[32];
    struct image *image = NULL;
    static const char *const prefix[] = {"ide", "floppy", "virtio", "pflash", "none"};
    snprintf(id, sizeof id, "%s%u", prefix[o->interface], m->drive_count);
    if (o->file && *o->file) {
        bool snapshot = o->snapshot || (m->options->snapshot && !o->cdrom && o->interface != IF_PFLASH);
        image = image_open(o->file, o->format, o->read_only, snapshot, error);
        if (!image) return false;
    }
    struct drive_settings settings = {o->id ? o->id : id, o->serial, o->cache, o->on_read_error,
                                      o->on_write_error, drive_stopped, m, m->icount ? m->clock : NULL};
    for (unsigned i = 0; i < m->drive_count; i++)
        if (!strcmp(drive_id(m->drives[i]), settings.id)) {
            if (image) image->close(image);
            return error_set(error, "-drive id=%s: taken", settings.id);
        }
    m->drive_options[m->drive_count] = o;
    m->drives[m->drive_count++] = drive_new(image, &settings, m->loop);
    return true;
}

bool pc_open_drives(struct pc *pc, struct error *error)
{
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
    unsigned next = 0;
    bool taken[2] = {false};
    for (unsigned i = 0; i < m->drive_count; i++) {
        const struct drive_option *o = m->drive_options[i];
        if (o->interface != IF_FLOPPY) continue;
        unsigned unit = o->index >= 0 ? (unsigned)o->index : next;
        const char *file = o->file ? o->file : "-drive if=floppy";
        if (unit > 1) return error_set(error, "%s: floppy index %u; 0 and 1 exist", file, unit);
        if (taken[unit]) return error_set(error, "%s: floppy index %u is taken", file, unit);
        taken[unit] = true;
        device_set_pointer(floppy, place[unit], m->drives[i]);
        next = unit + 1;
    }
    i82077_connect_irq(floppy, pc_irq(pc, 6));
    i82077_connect_dma(floppy, pc->dma);
    pc->floppy = floppy;
    return machine_add(m, floppy, error);
}

static bool ide_unit(bool taken[4], const struct drive_option *o, unsigned *unit, struct error *error)
{
    if (o->index >= 0) *unit = (unsigned)o->index;
    else for (*unit = 0; *unit < 4 && taken[*unit];) ++*unit;
    if (*unit > 3) return error_set(error, "%s: IDE index %u; 0 to 3 exist", o->file ? o->file : "CD-ROM", *unit);
    if (taken[*unit]) return error_set(error, "%s: IDE index %u is taken", o->file ? o->file : "CD-ROM", *unit);
    taken[*unit] = true;
    return true;
}

static bool add_ide(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    struct device *ide = machine_new_device(m, "piix3-ide");
    struct wire irq[2] = {pc_irq(pc, 14), pc_irq(pc, 15)};
    bool taken[4] = {false};
    piix3_ide_set_wires(ide, irq);
    if (!pci_bus_add(pc->pci, (struct pci_device *)ide, 1 << 3 | 1, error) || !machine_add(m, ide, error)) return false;
    /* Explicit places first, so that the others can fill in. */
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < m->drive_count; i++) {
            const struct drive_option *o = m->drive_options[i];
            unsigned unit;
            if (o->interface != IF_IDE || (o->index < 0) != (pass == 1)) continue;
            if (!ide_unit(taken, o, &unit, error)) return false;
            piix3_ide_attach(ide, unit >> 1, unit & 1, m->drives[i], o->cdrom);
        }
    struct drive_settings empty = {.id = "ide1-cd0", .clock = m->icount ? m->clock : NULL};
    if (!taken[2] && !m->options->nodefaults && m->drive_count < MAX_DRIVES) {
        static const struct drive_option no_option = {.interface = IF_IDE, .cdrom = true, .index = 2};
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

static struct chardev *open_chardev(struct machine *m, const char *text, struct error *error)
{
    if (m->chardev_count == ARRAY_SIZE(m->chardevs)) return error_set(error, "too many character devices"), NULL;
    bool shared = !strncmp(text, "mon:", 4);
    struct chardev *chardev = chardev_open(m->loop, shared ? text + 4 : text, error);
    if (chardev) m->chardevs[m->chardev_count++] = chardev;
    return chardev;
}

static void console_quit(void *opaque) { machine_quit(opaque, 0); }

/* TEXT as -serial takes it; "mon:" and -nographic share the terminal with the monitor. */
static bool open_port(struct machine *m, const char *text, struct chardev **out, struct error *error)
{
    *out = NULL;
    if (!strcmp(text, "none")) return true;
    *out = open_chardev(m, text, error);
    if (!*out) return false;
    if (strncmp(text, "mon:", 4)) return true;
    struct console_hooks hooks = {m, console_quit};
    m->console = console_new(*out, &hooks);
    *out = console_serial(m->console);
    return true;
}

static bool add_serial(struct pc *pc, struct error *error)
{
    struct options *o = pc->machine->options;
    static const char *const base[] = {"0x3f8", "0x2f8", "0x3e8", "0x2e8"};
    static const u8 irq[] = {4, 3, 4, 3};
    if (!o->serial_count && !o->nodefaults) o->serial[o->serial_count++] = o->nographic ? "mon:stdio" : "null";
    for (unsigned i = 0; i < o->serial_count; i++) {
        struct chardev *chardev;
        if (!strcmp(o->serial[i], "none")) continue;
        if (!open_port(pc->machine, o->serial[i], &chardev, error)) return error_prefix(error, "-serial %s", o->serial[i]);
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
    if (text && !open_port(pc->machine, text, &chardev, error)) return error_prefix(error, "-parallel %s", text);
    if (!text && pc->machine->options->nodefaults) return true;
    struct device *port = machine_new_device(pc->machine, "isa-parallel");
    device_set_pointer(port, "chardev", chardev);
    parallel_connect_irq(port, pc_irq(pc, 7));
    return machine_add(pc->machine, port, error);
}

bool pc_add_ports(struct pc *pc, struct error *error)
{
    struct machine *m = pc->machine;
    if (!add_serial(pc, error) || !add_parallel(pc, error) || !pc_add_isa(pc, "port92", error)) return false;
    if (m->options->debugcon) {
        struct chardev *chardev;
        if (!open_port(m, m->options->debugcon, &chardev, error)) return error_prefix(error, "-debugcon %s", m->options->debugcon);
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
    struct device *card = strcmp(model, "e1000") && strcmp(model, "virtio-net-pci") ? NULL : machine_new_device(m, model);
    if (!card) return error_set(error, "-nic model=%s: not supported (e1000, virtio-net-pci)", model);
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", nic->mac[0], nic->mac[1], nic->mac[2],
             nic->mac[3], nic->mac[4], nic->mac[5]);
    device_set_pointer(card, "netdev", nic->port);
    if (!device_set_property(card, "mac", mac, error)) return false;
    /* A missing option ROM only means that this card cannot boot from the network. */
    if (firmware_find(m->options, !strcmp(model, "e1000") ? "pxe-e1000.rom" : "pxe-virtio.rom", path, sizeof path, error) &&
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
        if (strncmp(o->objects[i], "filter-dump,", 12)) return error_set(error, "-object %s: not supported (filter-dump)", o->objects[i]);
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
            if (p->kind == PROPERTY_DRIVE && *(struct drive **)((char *)m->devices[i] + p->offset) == drive) return true;
    return false;
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
    else if (p->kind == PROPERTY_CHARDEV && !(pointer = open_chardev(m, value, error))) return false;
    if (!pointer) return error_set(error, "-device %s: no such %s '%s'", device->class->name, key, value);
    if (p->kind == PROPERTY_DRIVE && drive_used(m, pointer))
        return error_set(error, "-device %s: drive '%s' has its place already (if=none leaves it free)", device->class->name, value);
    device_set_pointer(device, key, pointer);
    return true;
}

static bool add_user_device(struct pc *pc, const char *text, struct error *error)
{
    struct machine *m = pc->machine;
    struct keyvals kv;
    int devfn = -1;
    if (!keyvals_parse(&kv, text, "driver", error)) return false;
    const char *driver = keyvals_get(&kv, "driver");
    const struct device_class *class = driver ? device_class_find(driver) : NULL;
    if (!class || !class->user_creatable) return error_set(error, "-device %s: no such device (-device help lists them)", driver ? driver : text);
    struct device *device = machine_new_device(m, driver);
    bool has_mac = false, wants_mac = find_property(class, "mac") != NULL;
    for (unsigned i = 0; i < kv.count; i++) {
        const char *key = kv.item[i].key, *value = kv.item[i].value;
        if (!strcmp(key, "driver") || !strcmp(key, "bus") || !strcmp(key, "bootindex")) continue;
        if (!strcmp(key, "addr") && class->is_pci) {
            char *end;
            unsigned long slot = strtoul(value, &end, 16), function = *end == '.' ? strtoul(end + 1, &end, 16) : 0;
            if (*end || slot > 31 || function > 7) return error_set(error, "-device %s: bad addr '%s'", driver, value);
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
        snprintf(text_mac, sizeof text_mac, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
        if (!device_set_property(device, "mac", text_mac, error)) return false;
    }
    if (!class->is_pci) return machine_add(m, device, error);
    return pci_bus_add(pc->pci, (struct pci_device *)device, devfn, error) && machine_add(m, device, error);
}

bool pc_add_user_devices(struct pc *pc, struct error *error)
{
    for (unsigned i = 0; i < pc->machine->options->device_count; i++)
        if (!add_user_device(pc, pc->machine->options->devices[i], error)) return false;
    return true;
}
