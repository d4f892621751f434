/* The command line, parsed. Texts point into argv or live as long as the options do. */
#ifndef MACHINE_OPTIONS_H
#define MACHINE_OPTIONS_H

#include "jit/options.h"
#include "machine/error.h"
#include "machine/log.h"
#include "machine/types.h"

#define MAX_DRIVES 32
#define MAX_DEVICES 64
#define MAX_TEXTS 32
#define MAX_SERIAL 4
#define MAX_MONITORS 8

#define LYREBIRD_VERSION_MAJOR 0
#define LYREBIRD_VERSION_MINOR 1
#define LYREBIRD_VERSION "0.1"

/* key=value,key=value; a comma in a value is written twice. */
struct keyvals {
    struct { const char *key, *value; } item[48];
    unsigned count;
};
/* FIRST: key of a leading value without '='. Allocates; never freed before exit. */
bool keyvals_parse(struct keyvals *kv, const char *text, const char *first, struct error *error);
const char *keyvals_get(const struct keyvals *kv, const char *key); /* the last one; NULL */
/* False, naming it, when there is a key that is not in ALLOWED (space-separated). */
bool keyvals_only(const struct keyvals *kv, const char *option, const char *allowed,
                  struct error *error);
bool parse_on_off(const char *text, bool *on);
/* Bytes, with K, M, G, T suffixes; UNIT is the meaning of no suffix. */
bool parse_size(const char *text, u64 unit, u64 *bytes);

enum drive_interface { IF_IDE, IF_FLOPPY, IF_VIRTIO, IF_PFLASH, IF_NONE };

struct drive_option {
    const char *file, *format, *id, *serial;
    enum drive_interface interface;
    bool cdrom, read_only, snapshot;
    int index; /* -1: next free */
    u8 cache, on_read_error, on_write_error; /* drive_host.h */
};

struct monitor_option {
    const char *device; /* as -serial takes it, or "chardev:ID" */
    bool control, pretty;
};

struct options {
    const char *program;
    enum { ACCEL_BEST, ACCEL_INTERP, ACCEL_JIT } accel; /* BEST: the translator where there is
                                                           one */
    bool icount, icount_sleep; /* time is counted instructions, 2^shift ns each */
    unsigned icount_shift;
    bool has_seed;             /* random numbers are made from it */
    u64 seed;
    struct jit_options jit;
    unsigned tlb_entries, random_exits; /* tests of either engine; 0: as it is */
    const char *cpu;
    unsigned smp;
    u64 ram;
    const char *name, *uuid;
    const char *kernel, *initrd, *append, *bios, *rom_path;
    const char *option_roms[MAX_TEXTS];
    unsigned option_rom_count;
    const char *boot_order, *boot_once;
    bool boot_menu;
    struct drive_option drives[MAX_DRIVES];
    unsigned drive_count;
    bool snapshot;
    const char *devices[MAX_DEVICES];
    const char *globals[MAX_DEVICES]; /* CLASS.PROPERTY=VALUE, of classes and properties there
                                         are */
    unsigned device_count, global_count;
    const char *netdevs[MAX_TEXTS], *nics[MAX_TEXTS], *objects[MAX_TEXTS];
    unsigned netdev_count, nic_count, object_count;
    const char *serial[MAX_SERIAL], *parallel, *debugcon, *gdb;
    unsigned serial_count;
    struct monitor_option monitors[MAX_MONITORS];
    unsigned monitor_count;
    const char *chardevs[MAX_TEXTS];
    unsigned chardev_count;
    bool nographic, full_screen, vga_none, vga_std; /* neither: by default */
    const char *display;
    const char *rtc_base;
    bool no_reboot, no_shutdown, paused, nodefaults, acpi, hpet, smm;
    bool panic_pauses;
    struct log_items log_items;
    struct log_range log_ranges[LOG_RANGES];
    unsigned log_range_count;
    const char *log_file;
    const char *trace_insns, *profile, *coverage;
    int exit_now; /* -1: go on; else leave with this status (-help) */
};

bool options_parse(struct options *options, int argc, char **argv, struct error *error);

#endif
