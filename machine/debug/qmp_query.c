/* The control protocol's questions. */
#include "machine/debug/qmp_int.h"

#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "devices/pci.h"
#include "machine/debug/control.h"
#include "machine/debug/registers.h"
#include "machine/display_host.h"
#include "machine/drive_host.h"
#include "machine/pc.h"

#include <stdio.h>

#define UNUSED (void)q, (void)arguments, (void)error

/* --- the protocol --- */

json_t *query_version(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", LYREBIRD_VERSION_MAJOR, "minor",
                     LYREBIRD_VERSION_MINOR, "micro", 0, "package", "Lyrebird " LYREBIRD_VERSION);
}

json_t *query_commands(struct qmp *q, json_t *arguments, struct error *error)
{
    json_t *list = json_array();
    UNUSED;
    for (const struct qmp_command *c = qmp_commands; c->name; c++)
        json_array_append_new(list, json_pack("{s:s}", "name", c->name));
    return list;
}

json_t *query_events(struct qmp *q, json_t *arguments, struct error *error)
{
    static const char *const names[] = {
#define EVENT(name, members) #name,
#include "machine/debug/events.def"
#undef EVENT
    };
    json_t *list = json_array();
    UNUSED;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        json_array_append_new(list, json_pack("{s:s}", "name", names[i]));
    return list;
}

json_t *query_qmp_schema(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return qmp_schema();
}

/* --- the machine --- */

json_t *query_status(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return json_pack("{s:b,s:b,s:s}", "running", q->machine->run_state == RUN_RUNNING, "singlestep",
                     0, "status", q->machine->status);
}

json_t *query_name(struct qmp *q, json_t *arguments, struct error *error)
{
    json_t *result = json_object();
    UNUSED;
    if (q->machine->options->name)
        json_object_set_new(result, "name", qmp_text(q->machine->options->name));
    return result;
}

json_t *query_uuid(struct qmp *q, json_t *arguments, struct error *error)
{
    const char *uuid = q->machine->options->uuid;
    UNUSED;
    return json_pack("{s:s}", "UUID", uuid ? uuid : "00000000-0000-0000-0000-000000000000");
}

json_t *query_kvm(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return json_pack("{s:b,s:b}", "enabled", 0, "present", 0);
}

json_t *query_target(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return json_pack("{s:s}", "arch", "x86_64");
}

json_t *query_machines(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return json_pack("[{s:s,s:b,s:i,s:b,s:b,s:b,s:s,s:b}]", "name", "pc", "is-default", 1,
                     "cpu-max", MAX_VCPUS, "hotpluggable-cpus", 0, "numa-mem-supported", 0,
                     "deprecated", 0, "default-cpu-type", "max", "acpi", 1);
}

json_t *query_current_machine(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return json_pack("{s:b}", "wakeup-suspend-support", q->machine->options->acpi);
}

json_t *query_display_options(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return json_pack("{s:s}", "type", display_is_shown(q->machine) ? "sdl" : "none");
}

json_t *query_cpus_fast(struct qmp *q, json_t *arguments, struct error *error)
{
    json_t *list = json_array();
    char path[32];
    UNUSED;
    for (unsigned i = 0; i < q->machine->vcpu_count; i++) {
        snprintf(path, sizeof path, "/machine/cpu%u", i);
        json_array_append_new(list, json_pack("{s:i,s:s,s:s,s:i,s:s}", "cpu-index", i, "qom-path",
                                              path, "qom-type", "x86_64-cpu", "thread-id",
                                              q->machine->vcpu[i].host_id, "target", "x86_64"));
    }
    return list;
}

json_t *query_cpu_definitions(struct qmp *q, json_t *arguments, struct error *error)
{
    const struct cpu_model *model;
    json_t *list = json_array();
    UNUSED;
    for (unsigned i = 0; (model = cpu_model_by_index(i)); i++)
        json_array_append_new(list, json_pack("{s:s,s:b,s:s,s:b}", "name", model->name, "static", 1,
                                              "typename", model->name, "deprecated", 0));
    return list;
}

json_t *query_memory_size_summary(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return json_pack("{s:I,s:i}", "base-memory", (json_int_t)q->machine->options->ram,
                     "plugged-memory", 0);
}

json_t *query_mice(struct qmp *q, json_t *arguments, struct error *error)
{
    json_t *list = json_array();
    UNUSED;
    for (unsigned i = 0; i < q->machine->device_count; i++)
        if (!strcmp(q->machine->devices[i]->class->name, "ps2-mouse"))
            json_array_append_new(list, json_pack("{s:s,s:i,s:b,s:b}", "name", "PS/2 Mouse",
                                                  "index", (int)json_array_size(list), "current",
                                                  !json_array_size(list), "absolute", 0));
    return list;
}

json_t *query_iothreads(struct qmp *q, json_t *arguments, struct error *error)
{
    UNUSED;
    return json_array(); /* -object iothread does not exist */
}

json_t *query_balloon(struct qmp *q, json_t *arguments, struct error *error)
{
    u64 bytes;
    (void)arguments;
    if (!control_balloon_actual(q->machine, &bytes, error)) return NULL;
    return json_pack("{s:I}", "actual", (json_int_t)bytes);
}

json_t *query_chardev(struct qmp *q, json_t *arguments, struct error *error)
{
    json_t *list = json_array();
    UNUSED;
    for (unsigned i = 0; i < q->machine->chardev_count; i++) {
        const struct chardev *c = q->machine->chardevs[i];
        json_array_append_new(list, json_pack("{s:s,s:o,s:b}", "label", c->id, "filename",
                                              qmp_text(c->text ? c->text : ""),
                                              "frontend-open", c->has_listener));
    }
    return list;
}

/* --- drives --- */

static json_t *medium(struct machine *m, unsigned index)
{
    struct drive *d = m->drives[index];
    const char *file = m->drive_files[index] ? m->drive_files[index] : "";
    bool unsafe = m->drive_options[index]->cache == CACHE_UNSAFE,
         through = m->drive_options[index]->cache == CACHE_WRITETHROUGH;
    json_t *result = json_pack("{s:o,s:b,s:s,s:i,s:b,s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "file",
                               qmp_text(file), "ro", drive_read_only(d),
                               "drv", drive_format(d), "backing_file_depth", 0, "encrypted", 0,
                               "bps", 0, "bps_rd", 0,
                               "bps_wr", 0, "iops", 0, "iops_rd", 0, "iops_wr", 0,
                                   "write_threshold", 0);
    json_object_set_new(result, "node-name", json_string(drive_id(d)));
    json_object_set_new(result, "detect_zeroes", json_string("off"));
    json_object_set_new(result, "image", json_pack("{s:o,s:s,s:I}", "filename", qmp_text(file),
                                                   "format", drive_format(d),
                                                   "virtual-size", (json_int_t)drive_size(d)));
    json_object_set_new(result, "cache", json_pack("{s:b,s:b,s:b}", "writeback", !through, "direct",
                                                   0, "no-flush", unsafe));
    return result;
}

json_t *query_block(struct qmp *q, json_t *arguments, struct error *error)
{
    struct machine *m = q->machine;
    json_t *list = json_array();
    UNUSED;
    for (unsigned i = 0; i < m->drive_count; i++) {
        bool removable = control_drive_removable(m, i);
        json_t *info = json_pack("{s:s,s:s,s:b,s:b}", "device", drive_id(m->drives[i]), "type",
                                 "unknown", "removable", removable,
                                 "locked", drive_tray_locked(m->drives[i]));
        if (removable)
            json_object_set_new(info, "tray_open", json_boolean(drive_tray_open(m->drives[i])));
        if (drive_has_medium(m->drives[i])) json_object_set_new(info, "inserted", medium(m, i));
        json_array_append_new(list, info);
    }
    return list;
}

json_t *query_named_block_nodes(struct qmp *q, json_t *arguments, struct error *error)
{
    json_t *list = json_array();
    UNUSED;
    for (unsigned i = 0; i < q->machine->drive_count; i++)
        if (drive_has_medium(q->machine->drives[i]))
            json_array_append_new(list, medium(q->machine, i));
    return list;
}

static void add_counts(json_t *stats, const char *format, const u64 counts[4], bool with_flush)
{
    static const struct { enum drive_op op; const char *name; } ops[] = {
        {DRIVE_READ, "rd"}, {DRIVE_WRITE, "wr"}, {DRIVE_DISCARD, "unmap"}, {DRIVE_FLUSH, "flush"}};
    char name[48];
    for (unsigned i = 0; i < (with_flush ? 4u : 3u); i++) {
        snprintf(name, sizeof name, format, ops[i].name);
        json_object_set_new(stats, name, qmp_int(counts[ops[i].op]));
    }
}

json_t *query_blockstats(struct qmp *q, json_t *arguments, struct error *error)
{
    json_t *list = json_array();
    UNUSED;
    for (unsigned i = 0; i < q->machine->drive_count; i++) {
        const struct drive_counts *c = drive_counts(q->machine->drives[i]);
        json_t *stats = json_object();
        add_counts(stats, "%s_bytes", c->bytes, false);
        add_counts(stats, "%s_operations", c->operations, true);
        add_counts(stats, "%s_total_time_ns", c->ns, true);
        add_counts(stats, "failed_%s_operations", c->failed, true);
        json_array_append_new(list, json_pack("{s:s,s:o}", "device",
                                              drive_id(q->machine->drives[i]), "stats", stats));
    }
    return list;
}

/* --- PCI --- */

static json_t *pci_region(unsigned n, const struct pci_bar *bar)
{
    json_t *region = json_pack("{s:i,s:s,s:I,s:I}", "bar", n, "type",
                               bar->is_port ? "io" : "memory", "address",
                               bar->mapped ? (json_int_t)bar->address : (json_int_t)-1, "size",
                                   (json_int_t)bar->size);
    if (bar->is_port) return region;
    json_object_set_new(region, "prefetch", json_boolean(bar->prefetchable));
    json_object_set_new(region, "mem_type_64", json_boolean(bar->is_64bit));
    return region;
}

static json_t *pci_function(const struct pci_device *d)
{
    json_t *regions = json_array();
    for (unsigned i = 0; i <= PCI_BARS; i++)
        if (d->bars[i].region) json_array_append_new(regions, pci_region(i, &d->bars[i]));
    json_t *info = json_pack("{s:i,s:i,s:i,s:{s:i},s:{s:i,s:i,s:i,s:i},s:i,s:o,s:o}", "bus", 0,
                             "slot", d->devfn >> 3, "function",
                             d->devfn & 7, "class_info", "class", ld16(d->config + 0x0a), "id",
                             "device", ld16(d->config + 2),
                             "vendor", ld16(d->config), "subsystem", ld16(d->config + 0x2e),
                             "subsystem-vendor",
                             ld16(d->config + 0x2c), "irq_pin", d->config[0x3d], "qdev_id",
                                 qmp_text(d->dev.id), "regions", regions);
    if (d->config[0x3d]) json_object_set_new(info, "irq", json_integer(d->config[0x3c]));
    return info;
}

json_t *query_pci(struct qmp *q, json_t *arguments, struct error *error)
{
    json_t *functions = json_array();
    UNUSED;
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        const struct pci_device *d = pci_bus_at(q->machine->pc->pci, (u8)devfn);
        if (d) json_array_append_new(functions, pci_function(d));
    }
    return json_pack("[{s:i,s:o}]", "bus", 0, "devices", functions);
}

/* --- objects: /machine/CHIP and /machine/cpuN with their declared fields --- */

struct object {
    const void *base;
    const struct state_field *fields;
};

static bool find_object(struct machine *m, const char *path, struct object *object)
{
    unsigned n;
    char end;
    if (strncmp(path, "/machine/", 9)) return false;
    path += 9;
    for (unsigned i = 0; i < m->device_count; i++)
        if (!strcmp(m->devices[i]->id, path))
            return *object = (struct object){m->devices[i], m->devices[i]->class->fields}, true;
    if (sscanf(path, "cpu%u%c", &n, &end) != 1 || n >= m->vcpu_count) return false;
    *object = (struct object){m->vcpu[n].cpu, vcpu_fields()};
    return true;
}

static void add_property(json_t *list, const char *name, const char *type)
{
    json_array_append_new(list, json_pack("{s:s,s:s}", "name", name, "type", type));
}

static void list_fields(json_t *list, const struct state_field *f)
{
    for (; f && f->name; f++) {
        char type[24];
        if (f->kind != STATE_NUMBER) continue;
        snprintf(type, sizeof type, f->count > 1 ? "[uint%u]" : "uint%u", f->size * 8u);
        add_property(list, f->name, type);
    }
}

json_t *qom_list(struct qmp *q, json_t *arguments, struct error *error)
{
    const char *path = qmp_str(arguments, "path");
    json_t *list = json_array();
    struct machine *m = q->machine;
    struct object object;
    char name[64];
    if (!strcmp(path, "/")) {
        add_property(list, "machine", "child<pc>");
    } else if (!strcmp(path, "/machine")) {
        for (unsigned i = 0; i < m->device_count; i++) {
            snprintf(name, sizeof name, "child<%s>", m->devices[i]->class->name);
            add_property(list, m->devices[i]->id, name);
        }
        for (unsigned i = 0; i < m->vcpu_count; i++)
            snprintf(name, sizeof name, "cpu%u", i), add_property(list, name, "child<cpu>");
    } else if (find_object(m, path, &object)) {
        list_fields(list, object.fields);
    } else {
        json_decref(list);
        error_set(error, "Device '%.200s' not found", path);
        return NULL;
    }
    return list;
}

json_t *qom_get(struct qmp *q, json_t *arguments, struct error *error)
{
    const char *path = qmp_str(arguments, "path"), *name = qmp_str(arguments, "property");
    struct object object;
    if (!find_object(q->machine, path, &object))
        return error_set(error, "Device '%.200s' not found", path), NULL;
    for (const struct state_field *f = object.fields; f && f->name; f++) {
        if (strcmp(f->name, name) || f->kind != STATE_NUMBER) continue;
        if (f->count == 1) return qmp_int(state_number(object.base, object.fields, name, 0));
        json_t *list = json_array();
        for (unsigned i = 0; i < f->count; i++)
            json_array_append_new(list, qmp_int(state_number(object.base, object.fields, name, i)));
        return list;
    }
    error_set(error, "Property '%.100s.%.100s' not found", path, name);
    return NULL;
}

json_t *qom_list_types(struct qmp *q, json_t *arguments, struct error *error)
{
    const char *implements = qmp_str(arguments, "implements");
    json_t *list = json_array();
    UNUSED;
    for (const struct device_class *const *c = device_classes; *c; c++) {
        const char *parent = (*c)->is_pci ? "pci-device" : "device";
        if (!implements || !strcmp(implements, parent) || !strcmp(implements, "device") ||
            !strcmp(implements, (*c)->name))
            json_array_append_new(list,
                                  json_pack("{s:s,s:s}", "name", (*c)->name, "parent", parent));
    }
    return list;
}

json_t *device_list_properties(struct qmp *q, json_t *arguments, struct error *error)
{
    static const char *const types[] = {[PROPERTY_BOOL] = "bool", [PROPERTY_U32] = "uint32",
                                        [PROPERTY_U64] = "uint64",
                                        [PROPERTY_STRING] = "str", [PROPERTY_DRIVE] = "str",
                                        [PROPERTY_CHARDEV] = "str",
                                        [PROPERTY_NETDEV] = "str", [PROPERTY_MAC] = "str"};
    const char *name = qmp_str(arguments, "typename");
    const struct device_class *class = device_class_find(name);
    (void)q;
    if (!class) return error_set(error, "Device '%.200s' not found", name), NULL;
    json_t *list = json_array();
    for (const struct property *p = class->properties; p && p->name; p++) {
        json_t *info = json_pack("{s:s,s:s}", "name", p->name, "type", types[p->kind]);
        if (p->help) json_object_set_new(info, "description", json_string(p->help));
        json_array_append_new(list, info);
    }
    return list;
}
