/*
 * The monitor: the commands of QEMU's that we share, a line each, in one table.
 */
#define _GNU_SOURCE /* strchrnul */
#include "machine/monitor.h"

#include "cpu/cpu.h"
#include "cpu/flags.h"
#include "machine/bus_host.h"
#include "machine/chardev_host.h"
#include "jit/jit.h"
#include "machine/disk/image.h"
#include "machine/debug/hash.h"
#include "machine/display_host.h"
#include "machine/drive_host.h"
#include "machine/debug/stops.h"
#include "machine/machine.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY_HOLD_NS 20000000u
#define KEY_QUEUE 64

struct monitor {
    struct machine *machine;
    struct chardev *chardev;
    char line[512];
    unsigned length;
    struct { u32 code; bool down; } keys[KEY_QUEUE]; /* still to be pressed and released */
    unsigned key_count;
    struct timer key_timer;
    FILE *sink; /* instead of a chardev */
    unsigned cpu;
};

static void say(struct monitor *m, const char *format, ...) PRINTF(2, 3);
static void say(struct monitor *m, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (m->sink) {
        fputs(text, m->sink);
        return;
    }
    for (char *p = text; *p;) {
        size_t n = strcspn(p, "\n");
        chardev_write(m->chardev, (const u8 *)p, (unsigned)n);
        p += n;
        if (*p) chardev_write(m->chardev, (const u8 *)"\r\n", 2), p++;
    }
}

/* --- commands --- */

static void do_quit(struct monitor *m, char *args)
{
    (void)args;
    machine_quit(m->machine, 0);
}

static void do_stop(struct monitor *m, char *args)
{
    (void)args;
    machine_pause(m->machine);
}

static void do_cont(struct monitor *m, char *args)
{
    (void)args;
    machine_resume(m->machine);
}

static void do_reset(struct monitor *m, char *args)
{
    (void)args;
    machine_reset(m->machine);
}

static void do_wakeup(struct monitor *m, char *args)
{
    (void)args;
    struct machine_services *services = &m->machine->services;
    if (m->machine->suspended) services->wake(services, WAKE_USER);
    else say(m, "system_wakeup: the machine is not suspended\n");
}

static void do_powerdown(struct monitor *m, char *args)
{
    (void)args;
    pc_power_button(m->machine);
}

static void do_nmi(struct monitor *m, char *args)
{
    (void)args;
    pc_nmi(m->machine);
}

static void keys_fire(void *opaque)
{
    struct monitor *m = opaque;
    if (!m->key_count) return;
    display_key(m->machine->display, m->keys[0].code, m->keys[0].down);
    memmove(m->keys, m->keys + 1, --m->key_count * sizeof m->keys[0]);
    if (m->key_count) timer_set(&m->key_timer, clock_now(m->machine->clock) + KEY_HOLD_NS);
    else if (!m->chardev) free(m); /* monitor_execute's */
}

static void do_sendkey(struct monitor *m, char *args)
{
    u32 codes[16];
    unsigned n = display_key_codes(strtok(args, " "), codes, ARRAY_SIZE(codes));
    if (!n) {
        say(m, "sendkey: unknown key in '%s'\n", args);
        return;
    }
    if (m->key_count + 2 * n > KEY_QUEUE) {
        say(m, "sendkey: too many keys at once\n");
        return;
    }
    for (unsigned i = 0; i < n; i++) m->keys[m->key_count].code = codes[i], m->keys[m->key_count++].down = true;
    for (unsigned i = n; i-- > 0;) m->keys[m->key_count].code = codes[i], m->keys[m->key_count++].down = false;
    if (!timer_pending(&m->key_timer)) timer_set(&m->key_timer, clock_now(m->machine->clock));
}

static void do_screendump(struct monitor *m, char *args)
{
    struct error error;
    if (!display_screenshot(m->machine->display, args, &error)) say(m, "screendump: %s\n", error.text);
}

static void do_screentext(struct monitor *m, char *args)
{
    static const size_t size = 65536;
    (void)args;
    char *text = malloc(size);
    if (text && display_text(m->machine->display, text, size)) {
        for (char *p = text; *p;) {
            char *end = strchrnul(p, '\n');
            say(m, "%.*s\n", (int)(end - p), p);
            p = *end ? end + 1 : end;
        }
    } else {
        say(m, "screentext: the screen shows graphics\n");
    }
    free(text);
}

static struct drive *find_drive(struct monitor *m, const char *id)
{
    for (unsigned i = 0; id && i < m->machine->drive_count; i++)
        if (!strcmp(drive_id(m->machine->drives[i]), id)) return m->machine->drives[i];
    say(m, "no drive '%s' (info block lists them)\n", id ? id : "");
    return NULL;
}

static void do_eject(struct monitor *m, char *args)
{
    char *id = strtok(args, " ");
    bool force = id && !strcmp(id, "-f");
    struct drive *drive = find_drive(m, force ? strtok(NULL, " ") : id);
    if (!drive) return;
    if (drive_tray_locked(drive) && !force) say(m, "eject: the guest has locked the tray (eject -f does it anyway)\n");
    else drive_set_medium(drive, NULL);
}

static void do_change(struct monitor *m, char *args)
{
    struct error error;
    struct drive *drive = find_drive(m, strtok(args, " "));
    char *path = strtok(NULL, " ");
    if (!drive) return;
    if (!path) {
        say(m, "change: a file is missing\n");
        return;
    }
    struct image *image = image_open(path, NULL, true, false, &error);
    if (!image) say(m, "change: %s\n", error.text);
    else drive_set_medium(drive, image);
}

static void info_status(struct monitor *m)
{
    bool suspended = m->machine->suspended, running = m->machine->run_state == RUN_RUNNING;
    say(m, "VM status: %s\n", suspended ? "paused (suspended)" : running ? "running" : "paused");
}

static void info_registers(struct monitor *m)
{
    static const char *const names[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                        "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
    static const char *const segments[] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR"};
    bool running = m->machine->run_state == RUN_RUNNING;
    if (running) vcpus_park(m->machine);
    for (unsigned n = 0; n < m->machine->vcpu_count; n++) {
        struct vcpu *cpu = m->machine->vcpu[n].cpu;
        say(m, "CPU#%u\n", n);
        for (unsigned i = 0; i < 16; i++) say(m, "%s=%016" PRIx64 "%s", names[i], cpu->regs[i], i % 4 == 3 ? "\n" : " ");
        say(m, "RIP=%016" PRIx64 " RFL=%08x CPL=%u HLT=%u SMM=%u\n", cpu->rip, cpu_eflags(cpu), cpu->cpl,
            cpu->activity == CPU_HALTED, cpu->in_smm);
        for (unsigned i = 0; i < SEGMENTS; i++)
            say(m, "%-3s=%04x %016" PRIx64 " %08x %05x\n", segments[i], cpu->seg[i].selector, cpu->seg[i].base,
                cpu->seg[i].limit, cpu->seg[i].attr);
        say(m, "GDT=%016" PRIx64 " %04x  IDT=%016" PRIx64 " %04x\n", cpu->gdt_base, cpu->gdt_limit, cpu->idt_base, cpu->idt_limit);
        say(m, "CR0=%08" PRIx64 " CR2=%016" PRIx64 " CR3=%016" PRIx64 " CR4=%08" PRIx64 " EFER=%04" PRIx64 "\n", cpu->cr0,
            cpu->cr2, cpu->cr3, cpu->cr4, cpu->efer);
        say(m, "instructions=%" PRIu64 "\n", cpu->icount);
    }
    if (running) vcpus_unpark(m->machine);
}

static void info_block(struct monitor *m)
{
    for (unsigned i = 0; i < m->machine->drive_count; i++) {
        struct drive *d = m->machine->drives[i];
        const char *file = m->machine->drive_options[i]->file;
        say(m, "%s: %s%s%s, %" PRIu64 " bytes\n", drive_id(d), drive_has_medium(d) ? file ? file : "(changed)" : "[not inserted]",
            drive_read_only(d) ? " (read-only)" : "", drive_tray_locked(d) ? " (locked)" : "", drive_size(d));
    }
}

static void info_mtree(struct monitor *m)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    bus_dump(m->machine->bus, stream);
    fclose(stream);
    for (char *p = text; p && *p;) {
        char *end = strchrnul(p, '\n');
        say(m, "%.*s\n", (int)(end - p), p);
        p = *end ? end + 1 : end;
    }
    free(text);
}

static void say_line(void *monitor, const char *line) { say(monitor, "%s\n", line); }

static void info_jit(struct monitor *m)
{
    if (m->machine->jit) jit_statistics_print(m->machine->jit, say_line, m);
    else say(m, "interpreting: nothing is translated\n");
}

static void info_hash(struct monitor *m)
{
    char text[MACHINE_HASH_TEXT], parts[3][MACHINE_HASH_TEXT];
    bool running = m->machine->run_state == RUN_RUNNING;
    if (running) vcpus_park(m->machine);
    machine_hash(m->machine, text, parts);
    if (running) vcpus_unpark(m->machine);
    say(m, "state %s\nprocessors %s\nchips %s\nmemory %s\n", text, parts[0], parts[1], parts[2]);
}

static void info_qtree(struct monitor *m)
{
    for (unsigned i = 0; i < m->machine->device_count; i++)
        say(m, "%-20s %s\n", m->machine->devices[i]->class->name, m->machine->devices[i]->id);
}

static const struct { const char *name; void (*show)(struct monitor *); const char *help; } infos[] = {
    {"status", info_status, "running or paused"},
    {"registers", info_registers, "every processor's registers"},
    {"block", info_block, "drives"},
    {"mtree", info_mtree, "who answers which address"},
    {"qtree", info_qtree, "chips"},
    {"hash", info_hash, "SHA-256 of processors, chips and memory"},
    {"jit", info_jit, "what the translator did, and where its code stopped for C"},
};

static void do_info(struct monitor *m, char *args)
{
    for (unsigned i = 0; i < ARRAY_SIZE(infos); i++)
        if (!strcmp(infos[i].name, args)) {
            infos[i].show(m);
            return;
        }
    for (unsigned i = 0; i < ARRAY_SIZE(infos); i++) say(m, "info %-12s %s\n", infos[i].name, infos[i].help);
}

static void do_help(struct monitor *m, char *args);

static const struct command {
    const char *name;
    void (*run)(struct monitor *, char *args);
    const char *help;
} commands[] = {
    {"help", do_help, "this list"},
    {"quit", do_quit, "leave the emulator"},
    {"q", do_quit, "the same"},
    {"stop", do_stop, "pause the machine"},
    {"cont", do_cont, "go on"},
    {"c", do_cont, "the same"},
    {"system_reset", do_reset, "push the reset button"},
    {"system_powerdown", do_powerdown, "push the power button"},
    {"system_wakeup", do_wakeup, "end a suspend"},
    {"nmi", do_nmi, "a non-maskable interrupt to every processor"},
    {"sendkey", do_sendkey, "sendkey ctrl-alt-delete: press and release keys"},
    {"screendump", do_screendump, "screendump FILE: a picture of the screen as PNG"},
    {"screentext", do_screentext, "the screen's characters, in a text mode"},
    {"eject", do_eject, "eject [-f] DRIVE: take the medium out"},
    {"change", do_change, "change DRIVE FILE: put another medium in"},
    {"info", do_info, "info WHAT: what the machine is and does"},
    {"break", NULL, "break ADDRESS [cr3=VALUE|current]: stop in front of an instruction"},
    {"watch", NULL, "watch [r|w|rw] ADDRESS [LENGTH]: stop behind an access to a linear address"},
    {"stop-on", NULL, "stop-on port|exception|msr|mmio|pte|mode|triple-fault …: stop behind an event"},
    {"stops", NULL, "what the machine is stopped for"},
    {"delete", NULL, "delete NUMBER|all: no longer stop for it"},
};

static void do_help(struct monitor *m, char *args)
{
    (void)args;
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) say(m, "%-18s %s\n", commands[i].name, commands[i].help);
}

static void stops_say(void *opaque, const char *text) { say(opaque, "%s", text); }

static void run_line(struct monitor *m)
{
    char *name = m->line + strspn(m->line, " \t");
    char *args = name + strcspn(name, " \t");
    if (*args) *args++ = 0;
    args += strspn(args, " \t");
    if (!*name) return;
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        if (!strcmp(commands[i].name, name)) {
            struct stops_listener to = {m, m->cpu, stops_say};
            if (commands[i].run) commands[i].run(m, args);
            else stops_command(m->machine, name, args, &to);
            return;
        }
    say(m, "unknown command: '%s' (help lists them)\n", name);
}

char *monitor_execute(struct machine *machine, const char *line, unsigned cpu)
{
    char *text = NULL;
    size_t size = 0;
    struct monitor *m = calloc(1, sizeof *m);
    if (!m || !(m->sink = open_memstream(&text, &size))) {
        free(m);
        return NULL;
    }
    m->machine = machine;
    m->cpu = cpu;
    timer_init(&m->key_timer, machine->clock, keys_fire, m);
    snprintf(m->line, sizeof m->line, "%s", line);
    run_line(m);
    fclose(m->sink);
    m->sink = NULL;
    if (!timer_pending(&m->key_timer)) free(m); /* else it is still pressing keys */
    return text;
}

static unsigned monitor_room(void *opaque)
{
    (void)opaque;
    return 256;
}

static void monitor_receive(void *opaque, const u8 *bytes, unsigned n)
{
    struct monitor *m = opaque;
    for (unsigned i = 0; i < n; i++) {
        u8 c = bytes[i];
        if (c == '\r' || c == '\n') {
            say(m, "\n");
            m->line[m->length] = 0;
            m->length = 0;
            run_line(m);
            say(m, "(lyrebird) ");
        } else if (c == 8 || c == 127) {
            if (m->length) m->length--, say(m, "\b \b");
        } else if (c >= 32 && m->length < sizeof m->line - 1) {
            m->line[m->length++] = (char)c;
            chardev_write(m->chardev, &c, 1);
        }
    }
}

static void attach(struct machine *machine, struct chardev *chardev)
{
    struct monitor *m = calloc(1, sizeof *m);
    if (!m) abort();
    m->machine = machine;
    m->chardev = chardev;
    timer_init(&m->key_timer, machine->clock, keys_fire, m);
    struct chardev_listener listener = {.opaque = m, .room = monitor_room, .receive = monitor_receive};
    chardev_listen(chardev, &listener);
}

bool monitor_start(struct machine *machine, struct error *error)
{
    const char *text = machine->options->monitor;
    if (machine->console) attach(machine, console_monitor(machine->console));
    if (!text || !strcmp(text, "none")) return true;
    struct chardev *chardev = chardev_open(machine->loop, text, error);
    if (!chardev) return error_prefix(error, "-monitor %s", text);
    machine->chardevs[machine->chardev_count++] = chardev;
    attach(machine, chardev);
    say(&(struct monitor){.chardev = chardev}, "(lyrebird) ");
    return true;
}
