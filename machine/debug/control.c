/* What is done to the machine from outside; see control.h. */
#include "machine/debug/control.h"

#include "cpu/cpu.h"
#include "devices/virtio/virtio_balloon.h"
#include "machine/bus_host.h"
#include "machine/debug/guest_memory.h"
#include "machine/disk/image.h"
#include "machine/display_host.h"
#include "machine/drive_host.h"
#include "net/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* --- drives --- */

int control_drive_index(struct machine *m, const char *id)
{
    for (unsigned i = 0; i < m->drive_count; i++)
        if (!strcmp(drive_id(m->drives[i]), id)) return (int)i;
    return -1;
}

struct drive *control_drive(struct machine *m, const char *id, struct error *error)
{
    int index = control_drive_index(m, id);
    if (index < 0) return error_set(error, "Device '%s' not found", id), NULL;
    return m->drives[index];
}

bool control_drive_removable(const struct machine *m, unsigned index)
{
    const struct drive_option *o = m->drive_options[index];
    return o->cdrom || o->interface == IF_FLOPPY;
}

static struct drive *removable(struct machine *m, const char *id, bool force, struct error *error)
{
    struct drive *drive = control_drive(m, id, error);
    if (!drive) return NULL;
    if (!control_drive_removable(m, (unsigned)control_drive_index(m, id)))
        return error_set(error, "Device '%s' is not removable", id), NULL;
    if (drive_tray_locked(drive) && !drive_tray_open(drive) && !force)
        return error_set(error, "Device '%s' is locked and force was not specified", id), NULL;
    return drive;
}

static void note_file(struct machine *m, const char *id, const char *file)
{
    char **of_drive = &m->drive_files[control_drive_index(m, id)];
    free(*of_drive);
    *of_drive = file ? strdup(file) : NULL;
}

bool control_eject(struct machine *m, const char *id, bool force, struct error *error)
{
    struct drive *drive = removable(m, id, force, error);
    if (!drive) return false;
    drive_set_medium(drive, NULL);
    note_file(m, id, NULL);
    return true;
}

bool control_change(struct machine *m, const char *id, const char *file, const char *format,
                    const char *mode, bool force, struct error *error)
{
    struct drive *drive = removable(m, id, force, error);
    if (!drive) return false;
    const struct drive_option *o = m->drive_options[control_drive_index(m, id)];
    bool read_only = o->cdrom || o->read_only;
    if (mode && !strcmp(mode, "read-only")) read_only = true;
    else if (mode && !strcmp(mode, "read-write")) read_only = o->cdrom;
    else if (mode && strcmp(mode, "retain"))
        return error_set(error, "Invalid parameter '%s'", mode);
    struct image *image = image_open(file, format, read_only, o->snapshot, error);
    if (!image) return false;
    if (drive_has_medium(drive)) drive_set_medium(drive, NULL);
    drive_set_medium(drive, image);
    note_file(m, id, file);
    return true;
}

/* --- network --- */

static struct net_port *port_of_device(struct machine *m, const char *id)
{
    for (unsigned i = 0; i < m->device_count; i++)
        for (const struct property *p = m->devices[i]->class->properties; p && p->name; p++)
            if (p->kind == PROPERTY_NETDEV && !strcmp(m->devices[i]->id, id))
                return *(struct net_port **)((char *)m->devices[i] + p->offset);
    return NULL;
}

struct net_port *control_port(struct machine *m, const char *name)
{
    struct net_port *port = m->net ? net_set_find(m->net, name) : NULL;
    return port ? port : port_of_device(m, name);
}

bool control_set_link(struct machine *m, const char *name, bool up, struct error *error)
{
    struct net_port *port = control_port(m, name);
    if (!port) return error_set(error, "Device '%s' not found", name);
    if (port->card.link) port->card.link(port->card.opaque, up);
    return true;
}

/* --- keys --- */

static void keys_fire(void *opaque)
{
    struct machine *machine = opaque;
    struct monitors *m = machine->monitors;
    if (!m->key_count) return;
    display_key(machine->display, m->keys[0].code, m->keys[0].down);
    u64 hold = m->keys[0].hold_ms * 1000000ull;
    memmove(m->keys, m->keys + 1, --m->key_count * sizeof m->keys[0]);
    if (m->key_count) timer_set(&m->key_timer, clock_now(machine->clock) + hold);
}

bool control_send_keys(struct machine *machine, const u32 *codes, unsigned count, u32 hold_ms,
                       struct error *error)
{
    struct monitors *m = machine->monitors;
    if (m->key_count + 2 * count > KEY_QUEUE) return error_set(error, "too many keys at once");
    for (unsigned i = 0; i < 2 * count; i++) {
        bool down = i < count;
        /* Keys of a combination follow one another at once; it is held when all are down. */
        u32 hold = i + 1 == count ? hold_ms : i + 1 == 2 * count ? KEY_HOLD_MS / 5 : 1;
        m->keys[m->key_count].code = codes[down ? i : 2 * count - 1 - i];
        m->keys[m->key_count].down = down;
        m->keys[m->key_count++].hold_ms = hold;
    }
    if (!timer_pending(&m->key_timer)) timer_set(&m->key_timer, clock_now(machine->clock));
    return true;
}

void control_init(struct machine *m)
{
    timer_init(&m->monitors->key_timer, m->clock, keys_fire, m);
}

/* --- memory --- */

bool control_memsave(struct machine *m, struct vcpu *cpu, u64 address, u64 size, const char *name,
                     struct error *error)
{
    u8 page[PAGE_SIZE];
    bool good = true;
    if (size > MEMSAVE_MOST)
        return error_set(error, "at most %u GiB", (unsigned)(MEMSAVE_MOST >> 30));
    FILE *file = fopen(name, "wb");
    if (!file) return error_set(error, "Could not open '%s': %s", name, strerror(errno));
    while (size && good) {
        size_t n = size < sizeof page ? (size_t)size : sizeof page;
        if (cpu) {
            good = guest_read(cpu, address, page, n) == n;
            if (!good)
                error_set(error, "Invalid addr 0x%016llx/size %llu specified",
                          (unsigned long long)address, (unsigned long long)size);
        } else {
            dma_read(m->bus, address, page, n); /* what is no memory reads as ones */
        }
        if (good && fwrite(page, 1, n, file) != n)
            good = error_set(error, "%s: writing failed", name);
        address += n;
        size -= n;
    }
    if (fclose(file) && good) return error_set(error, "%s: writing failed", name);
    return good;
}

/* --- the balloon --- */

struct device *control_balloon_device(struct machine *m)
{
    for (unsigned i = 0; i < m->device_count; i++)
        if (!strcmp(m->devices[i]->class->name, "virtio-balloon-pci")) return m->devices[i];
    return NULL;
}

bool control_balloon(struct machine *m, u64 bytes, struct error *error)
{
    struct device *balloon = control_balloon_device(m);
    if (!balloon) return error_set(error, "No balloon device has been activated");
    if (!bytes) return error_set(error, "Parameter 'target' expects a size");
    virtio_balloon_set_target(balloon, bytes);
    return true;
}

bool control_balloon_actual(struct machine *m, u64 *bytes, struct error *error)
{
    struct device *balloon = control_balloon_device(m);
    if (!balloon) return error_set(error, "No balloon device has been activated");
    *bytes = virtio_balloon_actual(balloon);
    return true;
}

/* --- power --- */

void control_powerdown(struct machine *m)
{
    pc_power_button(m);
    machine_tell(m, &(struct machine_event){.kind = EVENT_POWERDOWN});
}

bool control_wakeup(struct machine *m, struct error *error)
{
    if (!m->suspended)
        return error_set(error, "Unable to wake up: guest is not in suspended state");
    m->services.wake(&m->services, WAKE_USER);
    return true;
}
