/* Parses the command line into struct options. The list of options is options.def. */
#include "machine/options.h"

#include "cpu/cpuid.h"          /* -cpu help */
#include "machine/device.h"     /* -device help */
#include "machine/drive_host.h" /* cache and error policies */
#include "machine/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* --- values --- */

bool parse_on_off(const char *text, bool *on)
{
    *on = !strcmp(text, "on") || !strcmp(text, "yes") || !strcmp(text, "true");
    return *on || !strcmp(text, "off") || !strcmp(text, "no") || !strcmp(text, "false");
}

bool parse_size(const char *text, u64 unit, u64 *bytes)
{
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 0);
    switch (toupper((unsigned char)*end)) {
    case 0: break;
    case 'B': unit = 1, end++; break;
    case 'K': unit = KIB(1), end++; break;
    case 'M': unit = MIB(1), end++; break;
    case 'G': unit = GIB(1), end++; break;
    case 'T': unit = GIB(1024), end++; break;
    default: return false;
    }
    if (*end || errno || number > ~(u64)0 / unit) return false;
    *bytes = number * unit;
    return true;
}

static bool parse_unsigned(const char *text, u64 most, u64 *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 0);
    return isdigit((unsigned char)*text) && !*end && !errno && *value <= most;
}

bool keyvals_parse(struct keyvals *kv, const char *text, const char *first, struct error *error)
{
    kv->count = 0;
    const char *p = text;
    for (bool leading = true; *p; leading = false) {
        char *piece = malloc(strlen(p) + 1), *out = piece;
        if (!piece) abort();
        while (*p && (*p != ',' || p[1] == ',')) {
            if (*p == ',') p++;
            *out++ = *p++;
        }
        *out = 0;
        if (*p == ',') p++;
        if (kv->count == ARRAY_SIZE(kv->item))
            return error_set(error, "too many properties in '%s'", text);
        char *equals = strchr(piece, '=');
        if (equals) *equals = 0;
        else if (leading && !first) first = "type";
        kv->item[kv->count].key = equals || !leading ? piece : first;
        kv->item[kv->count].value = equals ? equals + 1 : leading ? piece : "on";
        kv->count++;
    }
    return true;
}

const char *keyvals_get(const struct keyvals *kv, const char *key)
{
    for (unsigned i = kv->count; i-- > 0;)
        if (!strcmp(kv->item[i].key, key)) return kv->item[i].value;
    return NULL;
}

static bool is_word_of(const char *word, const char *list)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n)
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n])) return true;
    return false;
}

bool keyvals_only(const struct keyvals *kv, const char *option, const char *allowed,
                  struct error *error)
{
    for (unsigned i = 0; i < kv->count; i++)
        if (!is_word_of(kv->item[i].key, allowed))
            return error_set(error, "-%s: unknown property '%s'", option, kv->item[i].key);
    return true;
}

static bool append_text(const char **list, unsigned *count, unsigned most, const char *text,
                        const char *option, struct error *error)
{
    if (*count == most) return error_set(error, "-%s: at most %u of them", option, most);
    list[(*count)++] = text;
    return true;
}

/* --- one function an option --- */

static bool option_help(struct options *o, const char *value, struct error *error)
{
    (void)value, (void)error;
    printf("Lyrebird " LYREBIRD_VERSION
           ": a full-system PC emulator with QEMU's options\nUsage: %s [option...] [disk image]\n",
           o->program);
    static const struct { const char *name, *argument, *help; } list[] = {
#define OPTION(name, argument, function, help) {name, argument, help},
#include "machine/options.def"
#undef OPTION
    };
    for (unsigned i = 0; i < ARRAY_SIZE(list); i++) {
        char left[64];
        snprintf(left, sizeof left, "-%s%s%s", list[i].name, list[i].argument ? " " : "",
                 list[i].argument ? list[i].argument : "");
        printf("  %-22s %s\n", left, list[i].help);
    }
    o->exit_now = 0;
    return true;
}

static bool option_version(struct options *o, const char *value, struct error *error)
{
    (void)value, (void)error;
    puts("Lyrebird " LYREBIRD_VERSION);
    o->exit_now = 0;
    return true;
}

/* The translator's properties. Those for tests are told in the man page. */
static bool accel_numbers(struct options *o, const struct keyvals *kv, struct error *error)
{
    const struct { const char *key; unsigned least, most; unsigned *value; } list[] = {
        {"threshold", 1, 200, &o->jit.threshold}, {"hot", 1, 1000000, &o->jit.hot},
        {"tlb-entries", 1, 60, &o->tlb_entries}, {"random-exits", 1, 1000000, &o->random_exits},
        {"lockstep", 1, 1000000000, &o->jit.lockstep}};
    for (unsigned i = 0; i < ARRAY_SIZE(list); i++) {
        const char *text = keyvals_get(kv, list[i].key);
        u64 n;
        if (!text) continue;
        if (!parse_unsigned(text, list[i].most, &n) || n < list[i].least)
            return error_set(error, "-accel %s=%s: %u to %u", list[i].key, text, list[i].least,
                             list[i].most);
        *list[i].value = (unsigned)n;
    }
    return true;
}

static bool accel_switches(struct options *o, const struct keyvals *kv, struct error *error)
{
    const struct { const char *key; bool *on, is_not; } list[] = {
        {"force-cold", &o->jit.force_cold, false}, {"no-link", &o->jit.no_link, false},
        {"no-loops", &o->jit.no_loops, false}, {"no-vectors", &o->jit.no_vectors, false},
        {"fail-groups", &o->jit.fail_groups, false}, {"background", &o->jit.no_background, true}};
    for (unsigned i = 0; i < ARRAY_SIZE(list); i++) {
        const char *text = keyvals_get(kv, list[i].key);
        if (text && !parse_on_off(text, list[i].on))
            return error_set(error, "-accel %s=%s: on or off expected", list[i].key, text);
        if (text) *list[i].on ^= list[i].is_not;
    }
    return true;
}

static bool option_accel(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    if (!keyvals_parse(&kv, value, "accel", error) ||
        !keyvals_only(&kv, "accel", "accel tb-size thread symbols threshold hot tlb-entries "
                      "random-exits lockstep force-cold no-link no-loops no-vectors fail-groups "
                      "background",
                      error) ||
        !accel_numbers(o, &kv, error) || !accel_switches(o, &kv, error))
        return false;
    const char *engine = keyvals_get(&kv, "accel"), *size = keyvals_get(&kv, "tb-size");
    u64 *tb_size = &o->jit.tb_size;
    if (size && (!parse_size(size, MIB(1), tb_size) || *tb_size < KIB(64) || *tb_size > GIB(1)))
        return error_set(error, "-accel tb-size=%s: 64K to 1G", size);
    if (keyvals_get(&kv, "symbols")) o->jit.symbols = keyvals_get(&kv, "symbols");
    if (!engine) return true;
    if (strcmp(engine, "interp") && strcmp(engine, "jit") && strcmp(engine, "tcg"))
        return error_set(error, "-accel %s: not supported (interp, jit)", engine);
    /* "tcg" is QEMU's word for "by software, whichever way is best here". */
    o->accel = !strcmp(engine, "jit") ? ACCEL_JIT :
               !strcmp(engine, "interp") ? ACCEL_INTERP : ACCEL_BEST;
    return true;
}

static bool option_icount(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    u64 shift;
    if (!keyvals_parse(&kv, value, "shift", error) ||
        !keyvals_only(&kv, "icount", "shift sleep align rr rrfile rrsnapshot", error))
        return false;
    const char *text = keyvals_get(&kv, "shift"), *sleep = keyvals_get(&kv, "sleep"),
               *align = keyvals_get(&kv, "align");
    bool aligned = false;
    if (!text) return error_set(error, "-icount %s: shift= is missing", value);
    if (!strcmp(text, "auto"))
        return error_set(error, "-icount shift=auto: not supported (0 to 10)");
    if (!parse_unsigned(text, 10, &shift))
        return error_set(error, "-icount shift=%s: 0 to 10", text);
    o->icount_sleep = true;
    if (sleep && !parse_on_off(sleep, &o->icount_sleep))
        return error_set(error, "-icount sleep=%s: on or off expected", sleep);
    if (align && !parse_on_off(align, &aligned))
        return error_set(error, "-icount align=%s: on or off expected", align);
    if (aligned) return error_set(error, "-icount align=on: not supported");
    if (keyvals_get(&kv, "rr"))
        return error_set(error, "-icount rr=%s: not supported", keyvals_get(&kv, "rr"));
    o->icount = true;
    o->icount_shift = (unsigned)shift;
    return true;
}

static bool option_seed(struct options *o, const char *value, struct error *error)
{
    o->has_seed = parse_unsigned(value, ~(u64)0, &o->seed);
    return o->has_seed || error_set(error, "-seed %s: bad number", value);
}

static bool option_perfmap(struct options *o, const char *value, struct error *error)
{
    (void)value, (void)error;
    return o->jit.perf_map = true;
}

static bool option_jitdump(struct options *o, const char *value, struct error *error)
{
    (void)value, (void)error;
    return o->jit.jit_dump = true;
}

static bool option_machine(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    bool off = false;
    if (!strcmp(value, "help")) {
        puts("pc   i440FX, PIIX3 and PIIX4 (default)");
        o->exit_now = 0;
        return true;
    }
    if (!keyvals_parse(&kv, value, "type", error) ||
        !keyvals_only(&kv, "machine", "type hpet acpi smm accel usb vmport graphics", error))
        return false;
    const char *type = keyvals_get(&kv, "type");
    if (type && strcmp(type, "pc") && strncmp(type, "pc-i440fx", 9))
        return error_set(error, "-machine %s: not supported (pc)", type);
    const struct { const char *key; bool *on; } flags[] = {
        {"hpet", &o->hpet}, {"acpi", &o->acpi}, {"smm", &o->smm}, {"usb", &off}, {"vmport", &off},
        {"graphics", &off}};
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        const char *text = keyvals_get(&kv, flags[i].key);
        if (text && !parse_on_off(text, flags[i].on))
            return error_set(error, "-machine %s=%s: on or off expected", flags[i].key, text);
    }
    if (keyvals_get(&kv, "usb") && off)
        return error_set(error, "-machine usb=on: not supported yet");
    return !keyvals_get(&kv, "accel") || option_accel(o, keyvals_get(&kv, "accel"), error);
}

static bool option_cpu(struct options *o, const char *value, struct error *error)
{
    const struct cpu_model *model;
    (void)error;
    o->cpu = value;
    if (strcmp(value, "help")) return true;
    for (unsigned i = 0; (model = cpu_model_by_index(i)); i++)
        printf("%-14s %s\n", model->name, model->title);
    o->exit_now = 0;
    return true;
}

static bool option_smp(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    u64 n;
    if (!keyvals_parse(&kv, value, "cpus", error) ||
        !keyvals_only(&kv, "smp", "cpus sockets dies cores threads maxcpus", error))
        return false;
    const char *cpus = keyvals_get(&kv, "cpus");
    u64 product = 1;
    static const char *const parts[] = {"sockets", "dies", "cores", "threads"};
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
        const char *text = keyvals_get(&kv, parts[i]);
        if (text && !parse_unsigned(text, 64, &n))
            return error_set(error, "-smp %s=%s: bad number", parts[i], text);
        if (text) product *= n;
    }
    if (cpus && !parse_unsigned(cpus, 1000000, &n))
        return error_set(error, "-smp %s: bad number", cpus);
    if (!cpus) n = product;
    if (n < 1 || n > 64) return error_set(error, "-smp %s: 1 to 64 processors", value);
    u64 most = n;
    const char *maxcpus = keyvals_get(&kv, "maxcpus");
    if (maxcpus && !parse_unsigned(maxcpus, 64, &most))
        return error_set(error, "-smp maxcpus=%s: bad number, or more than 64", maxcpus);
    if (most < n || !product || most % product)
        return error_set(error, "-smp %s: sockets, cores and threads do not make this number of "
                         "processors", value);
    o->smp = (unsigned)n;
    return true;
}

static bool option_memory(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    if (!keyvals_parse(&kv, value, "size", error) ||
        !keyvals_only(&kv, "m", "size slots maxmem", error))
        return false;
    const char *size = keyvals_get(&kv, "size");
    if (!size || !parse_size(size, MIB(1), &o->ram))
        return error_set(error, "-m %s: bad size", value);
    if (o->ram < MIB(1) || o->ram > GIB(512))
        return error_set(error, "-m %s: 1 MiB to 512 GiB", value);
    o->ram = (o->ram + 0xfff) & ~(u64)0xfff;
    return true;
}

static bool option_boot(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    if (!keyvals_parse(&kv, value, "order", error) ||
        !keyvals_only(&kv, "boot", "order once menu strict splash splash-time reboot-timeout",
                      error))
        return false;
    const char *text;
    if ((text = keyvals_get(&kv, "order"))) o->boot_order = text;
    if ((text = keyvals_get(&kv, "once"))) o->boot_once = text;
    const struct { const char *key, *order; } orders[] = {
        {"order", o->boot_order}, {"once", o->boot_once}};
    for (unsigned i = 0; i < ARRAY_SIZE(orders); i++)
        for (const char *p = orders[i].order; p && *p; p++)
            if (!strchr("abcdnop", *p))
                return error_set(error, "-boot %s=%s: unknown drive letter '%c'", orders[i].key,
                                 orders[i].order, *p);
    if ((text = keyvals_get(&kv, "menu")) && !parse_on_off(text, &o->boot_menu))
        return error_set(error, "-boot menu=%s: on or off expected", text);
    return true;
}

static int index_of(const char *text, const char *const *list)
{
    for (int i = 0; list[i]; i++)
        if (!strcmp(text, list[i])) return i;
    return -1;
}

static struct drive_option *new_drive(struct options *o, struct error *error)
{
    if (o->drive_count == MAX_DRIVES)
        return error_set(error, "at most %d drives", MAX_DRIVES), NULL;
    struct drive_option *d = &o->drives[o->drive_count++];
    *d = (struct drive_option){
        .index = -1, .on_write_error = TROUBLE_ENOSPC, .on_read_error = TROUBLE_REPORT};
    return d;
}

static bool drive_choices(struct drive_option *d, const struct keyvals *kv, struct error *error)
{
    static const char *const interfaces[] = {"ide", "floppy", "virtio", "pflash", "none", NULL};
    static const char *const caches[] = {"writeback", "writethrough", "unsafe",
                                         "none",      "directsync",   NULL};
    static const u8 cache_of[] = {CACHE_WRITEBACK, CACHE_WRITETHROUGH, CACHE_UNSAFE,
                                  CACHE_WRITEBACK, CACHE_WRITETHROUGH};
    static const char *const troubles[] = {"report", "ignore", "stop", "enospc", NULL};
    const char *text;
    int n = 0;
    if ((text = keyvals_get(kv, "if"))) {
        if ((n = index_of(text, interfaces)) < 0)
            return error_set(error, "-drive if=%s: not supported", text);
        d->interface = (enum drive_interface)n;
    }
    if ((text = keyvals_get(kv, "cache"))) {
        if ((n = index_of(text, caches)) < 0)
            return error_set(error, "-drive cache=%s: unknown", text);
        d->cache = cache_of[n];
    }
    if ((text = keyvals_get(kv, "werror"))) {
        if ((n = index_of(text, troubles)) < 0)
            return error_set(error, "-drive werror=%s: unknown", text);
        d->on_write_error = (u8)n;
    }
    if ((text = keyvals_get(kv, "rerror"))) {
        if ((n = index_of(text, troubles)) < 0 || n == TROUBLE_ENOSPC)
            return error_set(error, "-drive rerror=%s: unknown", text);
        d->on_read_error = (u8)n;
    }
    if ((text = keyvals_get(kv, "media"))) {
        if (strcmp(text, "disk") && strcmp(text, "cdrom"))
            return error_set(error, "-drive media=%s: disk or cdrom", text);
        d->cdrom = !strcmp(text, "cdrom");
    }
    return true;
}

static bool option_drive(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    struct drive_option *d = new_drive(o, error);
    if (!d || !keyvals_parse(&kv, value, "file", error) ||
        !keyvals_only(&kv, "drive",
                      "file if media format index bus unit id readonly read-only snapshot "
                      "cache werror rerror serial aio discard detect-zeroes", error) ||
        !drive_choices(d, &kv, error))
        return false;
    const char *text;
    d->file = keyvals_get(&kv, "file");
    d->format = keyvals_get(&kv, "format");
    d->id = keyvals_get(&kv, "id");
    d->serial = keyvals_get(&kv, "serial");
    u64 n, bus = 0;
    if ((text = keyvals_get(&kv, "bus"))) {
        if (!parse_unsigned(text, 1, &bus))
            return error_set(error, "-drive bus=%s: bad number", text);
        d->index = (int)bus * 2;
    }
    if ((text = keyvals_get(&kv, "unit"))) {
        if (!parse_unsigned(text, 1, &n))
            return error_set(error, "-drive unit=%s: bad number", text);
        d->index = (int)(bus * 2 + n);
    }
    if ((text = keyvals_get(&kv, "index"))) {
        if (!parse_unsigned(text, 31, &n))
            return error_set(error, "-drive index=%s: bad number", text);
        d->index = (int)n;
    }
    if ((text = keyvals_get(&kv, "readonly")) || (text = keyvals_get(&kv, "read-only"))) {
        if (!parse_on_off(text, &d->read_only))
            return error_set(error, "-drive readonly=%s: on or off expected", text);
    }
    if ((text = keyvals_get(&kv, "snapshot")) && !parse_on_off(text, &d->snapshot))
        return error_set(error, "-drive snapshot=%s: on or off expected", text);
    if (!d->file && !d->cdrom && d->interface != IF_FLOPPY)
        return error_set(error, "-drive %s: file= is missing", value);
    if (d->cdrom) d->read_only = true;
    if (d->id && (!*d->id || strlen(d->id) > 63))
        return error_set(error, "-drive id=%s: 1 to 63 characters", d->id);
    if (d->serial && strlen(d->serial) > 63)
        return error_set(error, "-drive serial=%s: at most 63 characters", d->serial);
    return true;
}

static bool simple_drive(struct options *o, const char *file, enum drive_interface interface,
                         int index, bool cdrom, struct error *error)
{
    struct drive_option *d = new_drive(o, error);
    if (!d) return false;
    d->file = file;
    d->interface = interface;
    d->index = index;
    d->cdrom = d->read_only = cdrom;
    return true;
}

#define SIMPLE_DRIVE(name, interface, index, cdrom)                                                \
    static bool option_##name(struct options *o, const char *value, struct error *error)           \
    {                                                                                              \
        return simple_drive(o, value, interface, index, cdrom, error);                             \
    }
SIMPLE_DRIVE(hda, IF_IDE, 0, false)
SIMPLE_DRIVE(hdb, IF_IDE, 1, false)
SIMPLE_DRIVE(hdc, IF_IDE, 2, false)
SIMPLE_DRIVE(hdd, IF_IDE, 3, false)
SIMPLE_DRIVE(cdrom, IF_IDE, 2, true)
SIMPLE_DRIVE(fda, IF_FLOPPY, 0, false)
SIMPLE_DRIVE(fdb, IF_FLOPPY, 1, false)
SIMPLE_DRIVE(pflash, IF_PFLASH, -1, false)

#define TEXT(name, member)                                                                         \
    static bool option_##name(struct options *o, const char *value, struct error *error)           \
    {                                                                                              \
        (void)error;                                                                               \
        o->member = value;                                                                         \
        return true;                                                                               \
    }
TEXT(name, name)
TEXT(kernel, kernel)
TEXT(initrd, initrd)
TEXT(append, append)
TEXT(bios, bios)
TEXT(rom_path, rom_path)
TEXT(parallel, parallel)
TEXT(debugcon, debugcon)
TEXT(log_file, log_file)
TEXT(gdb, gdb)
TEXT(trace_insns, trace_insns)
TEXT(profile, profile)
TEXT(coverage, coverage)

#define FLAG(name, member, value_)                                                                 \
    static bool option_##name(struct options *o, const char *value, struct error *error)           \
    {                                                                                              \
        (void)value, (void)error;                                                                  \
        o->member = value_;                                                                        \
        return true;                                                                               \
    }
FLAG(snapshot, snapshot, true)
FLAG(nographic, nographic, true)
FLAG(full_screen, full_screen, true)
FLAG(no_reboot, no_reboot, true)
FLAG(no_shutdown, no_shutdown, true)
FLAG(paused, paused, true)
FLAG(s, gdb, "tcp::1234")
FLAG(nodefaults, nodefaults, true)
FLAG(no_acpi, acpi, false)
FLAG(no_hpet, hpet, false)

#define LIST(name, list, count, most)                                                              \
    static bool option_##name(struct options *o, const char *value, struct error *error)           \
    {                                                                                              \
        return append_text(o->list, &o->count, most, value, #name, error);                         \
    }
LIST(netdev, netdevs, netdev_count, MAX_TEXTS)
LIST(nic, nics, nic_count, MAX_TEXTS)
LIST(object, objects, object_count, MAX_TEXTS)
LIST(serial, serial, serial_count, MAX_SERIAL)
LIST(chardev, chardevs, chardev_count, MAX_TEXTS)
LIST(option_rom, option_roms, option_rom_count, MAX_TEXTS)

static bool add_monitor(struct options *o, const struct monitor_option *monitor, const char *option,
                        struct error *error)
{
    if (o->monitor_count == MAX_MONITORS)
        return error_set(error, "-%s: at most %d monitors and control sockets", option,
                         MAX_MONITORS);
    o->monitors[o->monitor_count++] = *monitor;
    return true;
}

static bool option_monitor(struct options *o, const char *value, struct error *error)
{
    return add_monitor(o, &(struct monitor_option){value, false, false}, "monitor", error);
}

static bool option_qmp(struct options *o, const char *value, struct error *error)
{
    return add_monitor(o, &(struct monitor_option){value, true, false}, "qmp", error);
}

static bool option_qmp_pretty(struct options *o, const char *value, struct error *error)
{
    return add_monitor(o, &(struct monitor_option){value, true, true}, "qmp-pretty", error);
}

static bool option_mon(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    struct monitor_option monitor = {0};
    if (!keyvals_parse(&kv, value, "chardev", error) ||
        !keyvals_only(&kv, "mon", "chardev mode pretty id", error))
        return false;
    const char *id = keyvals_get(&kv, "chardev"), *mode = keyvals_get(&kv, "mode"),
               *pretty = keyvals_get(&kv, "pretty");
    if (!id) return error_set(error, "-mon %s: chardev= is missing", value);
    if (mode && strcmp(mode, "readline") && strcmp(mode, "control"))
        return error_set(error, "-mon mode=%s: readline or control", mode);
    if (pretty && !parse_on_off(pretty, &monitor.pretty))
        return error_set(error, "-mon pretty=%s: on or off expected", pretty);
    monitor.control = mode && !strcmp(mode, "control");
    char *device = malloc(strlen(id) + 9);
    if (!device) abort();
    sprintf(device, "chardev:%s", id);
    monitor.device = device;
    return add_monitor(o, &monitor, "mon", error);
}

static bool option_device(struct options *o, const char *value, struct error *error)
{
    if (strcmp(value, "help") && strcmp(value, "?"))
        return append_text(o->devices, &o->device_count, MAX_DEVICES, value, "device", error);
    /* As QEMU writes it: scripts look for the quoted name. */
    for (const struct device_class *const *c = device_classes; *c; c++)
        if ((*c)->user_creatable) printf("name \"%s\", desc \"%s\"\n", (*c)->name, (*c)->title);
    o->exit_now = 0;
    return true;
}

/* A class that is not there is said and left alone, as QEMU does: scripts name what other engines
 * have. */
static bool option_global(struct options *o, const char *value, struct error *error)
{
    char name[64], property[64];
    int at = 0;
    if (sscanf(value, "%63[^.=].%63[^=]=%n", name, property, &at) != 2 || !at)
        return error_set(error, "-global %s: CLASS.PROPERTY=VALUE expected", value);
    const struct device_class *class = device_class_find(name);
    if (!class) {
        fprintf(stderr, "lyrebird: warning: -global %s: no such device\n", value);
        return true;
    }
    struct device *device = device_new(class, NULL, NULL, NULL, NULL);
    bool good = device_set_property(device, property, value + at, error);
    free(device); /* nothing more than its struct yet */
    if (!good) return error_prefix(error, "-global %s", value);
    return append_text(o->globals, &o->global_count, MAX_DEVICES, value, "global", error);
}

static bool option_uuid(struct options *o, const char *value, struct error *error)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    bool good = strlen(value) == strlen(form);
    for (unsigned i = 0; good && form[i]; i++)
        good = form[i] == '-' ? value[i] == '-' : isxdigit((unsigned char)value[i]) != 0;
    if (!good) return error_set(error, "-uuid %s: not a UUID", value);
    o->uuid = value;
    return true;
}

static bool option_display(struct options *o, const char *value, struct error *error)
{
    if (!strcmp(value, "none") || !strncmp(value, "sdl", 3)) {
        o->display = value;
        return true;
    }
    return error_set(error, "-display %s: not supported (sdl, none)", value);
}

static bool option_vga(struct options *o, const char *value, struct error *error)
{
    o->vga_none = !strcmp(value, "none");
    o->vga_std = !strcmp(value, "std");
    if (o->vga_none || o->vga_std) return true;
    return error_set(error, "-vga %s: not supported (std, none)", value);
}

static bool is_date(const char *text)
{
    unsigned year, month, day, hour = 0, minute = 0, second = 0;
    int end = 0, whole = 0;
    int n = sscanf(text, "%4u-%2u-%2u%nT%2u:%2u:%2u%n", &year, &month, &day, &end, &hour, &minute,
                   &second, &whole);
    if (n == 6) end = whole;
    return (n == 3 || n == 6) && !text[end] && year >= 1970 && month >= 1 && month <= 12 &&
           day >= 1 && day <= 31 && hour < 24 && minute < 60 && second < 60;
}

static bool option_rtc(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    if (!keyvals_parse(&kv, value, "base", error) ||
        !keyvals_only(&kv, "rtc", "base clock driftfix", error))
        return false;
    const char *base = keyvals_get(&kv, "base");
    if (base && strcmp(base, "utc") && strcmp(base, "localtime") && !is_date(base))
        return error_set(error, "-rtc base=%s: utc, localtime or a date", base);
    const char *clock = keyvals_get(&kv, "clock");
    if (clock && strcmp(clock, "host") && strcmp(clock, "vm"))
        return error_set(error, "-rtc clock=%s: not supported", clock);
    if (base) o->rtc_base = base;
    return true;
}

static bool option_action(struct options *o, const char *value, struct error *error)
{
    struct keyvals kv;
    if (!keyvals_parse(&kv, value, "reboot", error) ||
        !keyvals_only(&kv, "action", "reboot shutdown panic watchdog", error))
        return false;
    for (unsigned i = 0; i < kv.count; i++) {
        const char *key = kv.item[i].key, *what = kv.item[i].value;
        bool pause = !strcmp(what, "pause"), ok = true;
        if (!strcmp(key, "reboot"))
            o->no_reboot = !strcmp(what, "shutdown"), ok = o->no_reboot || !strcmp(what, "reset");
        else if (!strcmp(key, "shutdown"))
            o->no_shutdown = pause, ok = pause || !strcmp(what, "poweroff");
        else if (!strcmp(key, "panic"))
            o->panic_pauses = pause, ok = pause || !strcmp(what, "shutdown") ||
                                          !strcmp(what, "exit-failure") || !strcmp(what, "none");
        if (!ok) return error_set(error, "-action %s=%s: unknown", key, what);
    }
    return true;
}

static bool option_log(struct options *o, const char *value, struct error *error)
{
    if (strcmp(value, "help"))
        return log_parse(value, &o->log_items, error) || error_prefix(error, "-d %s", value);
    for (unsigned i = 0; i < LOG_CHANNELS; i++)
        printf("%-14s %s\n", log_channels[i].name, log_channels[i].help);
    printf("%-14s %s\n", "trace:PATTERN",
           "all that the chips of this name tell (\"trace:virtio*\"; info qtree has the names)");
    printf("%-14s %s\n", "none", "nothing");
    o->exit_now = 0;
    return true;
}

static bool option_log_filter(struct options *o, const char *value, struct error *error)
{
    return log_parse_ranges(value, o->log_ranges, &o->log_range_count, error) ||
           error_prefix(error, "-dfilter");
}

/* --- the whole line --- */

static const struct {
    const char *name, *argument;
    bool (*parse)(struct options *, const char *, struct error *);
} option_list[] = {
#define OPTION(name, argument, function, help) {name, argument, function},
#include "machine/options.def"
#undef OPTION
};

static bool parse_one(struct options *o, int argc, char **argv, int *at, struct error *error)
{
    const char *given = argv[*at], *name = given + (given[1] == '-' ? 2 : 1);
    for (unsigned i = 0; i < ARRAY_SIZE(option_list); i++) {
        if (strcmp(option_list[i].name, name)) continue;
        const char *value = NULL;
        if (option_list[i].argument) {
            if (*at + 1 >= argc)
                return error_set(error, "%s: %s is missing", given, option_list[i].argument);
            value = argv[++*at];
        }
        return option_list[i].parse(o, value, error);
    }
    return error_set(error, "unknown option '%s' (-help lists them)", given);
}

/* The terminal has one reader; "mon:stdio" is the monitor and a serial port in one. */
static bool stdio_once(const struct options *o, struct error *error)
{
    const char *texts[MAX_SERIAL + 3 + MAX_MONITORS + MAX_TEXTS] = {
        o->parallel, o->debugcon, o->gdb};
    unsigned n = 3, users = o->nographic && !o->serial_count && !o->nodefaults;
    for (unsigned i = 0; i < o->serial_count; i++) texts[n++] = o->serial[i];
    for (unsigned i = 0; i < o->monitor_count; i++) texts[n++] = o->monitors[i].device;
    for (unsigned i = 0; i < o->chardev_count; i++) texts[n++] = o->chardevs[i];
    for (unsigned i = 0; i < n; i++)
        users += texts[i] && (!strcmp(texts[i], "stdio") || !strncmp(texts[i], "stdio,", 6) ||
                              !strcmp(texts[i], "mon:stdio"));
    return users <= 1 || error_set(error, "stdio: %u users of -serial, -parallel, -monitor, -qmp, "
                                   "-chardev, -debugcon, -gdb%s (-serial mon:stdio shares it with "
                                   "the monitor)",
                                   users, o->nographic ? ", -nographic" : "");
}

bool options_parse(struct options *o, int argc, char **argv, struct error *error)
{
    *o = (struct options){.program = argv[0], .smp = 1, .ram = MIB(128), .cpu = "max",
                          .rtc_base = "utc",
                          .acpi = true, .hpet = true, .smm = true, .exit_now = -1};
    for (int i = 1; i < argc && o->exit_now < 0; i++) {
        if (argv[i][0] == '-' && argv[i][1]) {
            if (!parse_one(o, argc, argv, &i, error)) return false;
        } else if (!simple_drive(o, argv[i], IF_IDE, 0, false, error)) {
            return false;
        }
    }
    if (o->append && !o->kernel && o->exit_now < 0)
        return error_set(error, "-append needs -kernel");
    if (o->initrd && !o->kernel && o->exit_now < 0)
        return error_set(error, "-initrd needs -kernel");
    return o->exit_now >= 0 || stdio_once(o, error);
}
