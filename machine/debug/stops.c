/*
 * The set of breakpoints, watchpoints and events, what happens when a processor meets one, and the
 * monitor's commands for those that gdb's protocol has no words for.
 *
 * Points are changed while every processor is parked; what hangs on them (which pages, which keys)
 * is worked out when the processors go again, so that a debugger who takes all his breakpoints out
 * at each stop and puts them back costs nothing.
 */
#include "machine/debug/stops.h"

#include "cpu/mem.h" /* mmu_entries */
#include "machine/debug/gdb.h"
#include "machine/machine.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_POINTS 4096u
#define KEYS (STOPS_KEY >> STOPS_KEY_SHIFT)

struct stops {
    struct stop_point *point; /* MAX_POINTS at most */
    unsigned count, capacity;
    struct stop_set set;
    u64 key_offsets[64];      /* what blocks with the key heed */
    unsigned key;
    bool dirty;
    u32 next_id;
    u64 shut_down;            /* processors whose triple fault was told: the reset comes when they
                                 go */
};

void stops_new(struct machine *m)
{
    m->stops = calloc(1, sizeof *m->stops);
    if (!m->stops) abort();
    m->stops->next_id = 1;
}

/* --- the set --- */

static bool same(const struct stop_point *a, const struct stop_point *b)
{
    return a->kind == b->kind && a->address == b->address && a->length == b->length &&
           a->id == b->id && a->bound == b->bound && a->cr3 == b->cr3 && !strcmp(a->chip, b->chip);
}

static void drop(struct stops *s, unsigned i)
{
    free(s->point[i].opaque);
    s->point[i] = s->point[--s->count];
    s->dirty = true;
}

bool stops_add(struct machine *m, const struct stop_point *point)
{
    struct stops *s = m->stops;
    for (unsigned i = 0; i < s->count; i++)
        if (same(&s->point[i], point)) {
            drop(s, i);
            break;
        }
    if (s->count == s->capacity) {
        unsigned capacity = s->capacity ? s->capacity * 2 : 16;
        struct stop_point *more =
            capacity <= MAX_POINTS ? realloc(s->point, capacity * sizeof *more) : NULL;
        if (!more) return false;
        s->point = more;
        s->capacity = capacity;
    }
    s->point[s->count++] = *point;
    s->dirty = true;
    return true;
}

bool stops_remove(struct machine *m, enum stop_kind kind, u64 address, u64 length)
{
    struct stops *s = m->stops;
    for (unsigned i = 0; i < s->count; i++) {
        const struct stop_point *p = &s->point[i];
        if (p->id || p->kind != kind || p->address != address || p->length != length) continue;
        drop(s, i);
        return true;
    }
    return false;
}

void stops_remove_all(struct machine *m, u32 id)
{
    struct stops *s = m->stops;
    for (unsigned i = s->count; i-- > 0;)
        if (s->point[i].id == id) drop(s, i);
}

static void describe_set(const struct stops *s, struct stop_set *set)
{
    *set = (struct stop_set){.point = s->point, .count = s->count};
    for (unsigned i = 0; i < s->count; i++) {
        const struct stop_point *p = &s->point[i];
        set->kinds |= 1u << p->kind;
        if (p->kind != STOP_BREAK) continue;
        set->pages[p->address >> 18 & 63] |= 1ull << (p->address >> 12 & 63);
        set->offsets[p->address >> 6 & 63] |= 1ull << (p->address & 63);
    }
}

/* Blocks that were made for the same breakpoints' places are good again. */
void stops_apply(struct machine *m)
{
    struct stops *s = m->stops;
    struct stop_set set;
    bool forget = false;
    if (!s->dirty) return;
    s->dirty = false;
    describe_set(s, &set);
    if ((set.kinds >> STOP_BREAK & 1) && memcmp(set.offsets, s->key_offsets, sizeof set.offsets)) {
        forget = ++s->key > KEYS;
        if (forget) s->key = 1;
        memcpy(s->key_offsets, set.offsets, sizeof set.offsets);
    }
    set.key = (u16)(s->key << STOPS_KEY_SHIFT);
    s->set = set;
    for (unsigned i = 0; i < m->vcpu_count; i++) stops_install(m->vcpu[i].cpu, &s->set, forget);
}

/* --- stopping and going on --- */

struct vcpu *stops_next(struct machine *m)
{
    for (unsigned i = 0; i < m->vcpu_count; i++)
        if (m->vcpu[i].cpu->stop.kind) return m->vcpu[i].cpu;
    return NULL;
}

void stops_told(struct machine *m, struct vcpu *cpu)
{
    if (cpu->stop.kind == STOP_BREAK) {
        cpu->stop_passed = true;
        cpu->stop_passed_rip = cpu->rip;
        cpu->stop_passed_icount = cpu->icount;
    }
    if (cpu->stop.kind == STOP_TRIPLE_FAULT) m->stops->shut_down |= 1ull << cpu->index;
    cpu->stop.kind = STOP_NONE;
}

void stops_stopped(struct machine *m)
{
    struct vcpu *cpu;
    char text[256];
    machine_pause_as(m, "debug"); /* a debugger who waits takes what there is to tell */
    if (gdb_attached(m)) return;
    while ((cpu = stops_next(m))) {
        stops_describe(cpu, text, sizeof text);
        fprintf(stderr, "lyrebird: CPU#%u stopped: %s\n", cpu->index, text);
        stops_told(m, cpu);
    }
}

void stops_release(struct machine *m)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        struct vcpu *cpu = m->vcpu[i].cpu;
        vcpus_hold(m, i, false);
        cpu->stop.kind = STOP_NONE;
        if (!cpu->debug_step) continue;
        cpu->debug_step = cpu->debug_masked = false;
        cpu_update_mode(cpu);
    }
    stops_shut_down(m);
}

void stops_shut_down(struct machine *m)
{
    if (!m->stops->shut_down) return;
    m->stops->shut_down = 0;
    m->services.shutdown(&m->services, SHUTDOWN_TRIPLE_FAULT, 0);
}

/* --- words --- */

static void describe_access(const struct vcpu *cpu, const struct stop_point *p, char *text,
                            size_t size)
{
    const struct stop *stop = &cpu->stop;
    const char *did = stop->write ? "wrote" : "read";
    if (stop->kind == STOP_PORT)
        snprintf(text, size, "%s %" PRIx64 " %s port %" PRIx64, did, stop->value,
                 stop->write ? "to" : "from", stop->address);
    else if (stop->kind == STOP_MMIO)
        snprintf(text, size, "%s %" PRIx64 " %s %s register %" PRIx64, did, stop->value,
                 stop->write ? "to" : "from", p ? p->chip : "a", stop->address);
    else
        snprintf(text, size, "%s at %" PRIx64, did, stop->address);
}

static void describe_exception(const struct vcpu *cpu, char *text, size_t size)
{
    const struct stop *stop = &cpu->stop;
    int n = snprintf(text, size, "vector %" PRIu64 ", error code %" PRIx64 ", from %" PRIx64,
                     stop->address, stop->value, stop->ip);
    if (stop->address == VECTOR_PF && n > 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, ", CR2 %" PRIx64, cpu->cr2);
}

void stops_describe(const struct vcpu *cpu, char *text, size_t size)
{
    const struct stop *stop = &cpu->stop;
    const struct stop_point *p =
        cpu->stops && stop->point < cpu->stops->count ? &cpu->stops->point[stop->point] : NULL;
    switch (stop->kind) {
    case STOP_BREAK: snprintf(text, size, "breakpoint at %" PRIx64, stop->address); break;
    case STOP_MSR:
        snprintf(text, size, "wrote %" PRIx64 " to MSR %" PRIx64, stop->value, stop->address);
        break;
    case STOP_EXCEPTION: describe_exception(cpu, text, size); break;
    case STOP_TABLE:
        snprintf(text, size,
                 "page-table entry at physical %" PRIx64 ": %" PRIx64 " became %" PRIx64,
                 stop->address, stop->before, stop->value);
        break;
    case STOP_MODE:
        snprintf(text, size, "%s mode became %s", stops_mode_name((unsigned)stop->before),
                 stops_mode_name((unsigned)stop->value));
        break;
    case STOP_TRIPLE_FAULT: snprintf(text, size, "triple fault"); break;
    case STOP_STEP: snprintf(text, size, "step"); break;
    default: describe_access(cpu, p, text, size);
    }
}

/* --- the monitor's commands --- */

struct command {
    struct machine *machine;
    struct vcpu *cpu;
    const struct stops_listener *to;
    const char *at; /* what is left of the line */
};

static void say(const struct command *c, const char *format, ...) PRINTF(2, 3);
static void say(const struct command *c, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->to->say(c->to->opaque, text);
}

static bool word(struct command *c, char *to, size_t size)
{
    c->at += strspn(c->at, " \t");
    size_t n = strcspn(c->at, " \t");
    if (!n || n >= size) return false;
    memcpy(to, c->at, n);
    to[n] = 0;
    c->at += n;
    return true;
}

static bool parse_number(const char *text, u64 *value)
{
    char *end;
    if (!isxdigit((unsigned char)*text)) return false;
    *value = strtoull(text, &end, 0);
    return !*end;
}

static bool number(struct command *c, u64 *value)
{
    char text[32];
    return word(c, text, sizeof text) && parse_number(text, value);
}

/* [LENGTH] [cr3=VALUE|current], in that order. */
static bool rest(struct command *c, struct stop_point *p, u64 most)
{
    char text[64];
    while (word(c, text, sizeof text)) {
        if (!strcmp(text, "cr3=current")) p->bound = true, p->cr3 = c->cpu->cr3;
        else if (!strncmp(text, "cr3=", 4)) p->bound = parse_number(text + 4, &p->cr3);
        else if (!parse_number(text, &p->length) || !p->length || p->length > most) return false;
        if (!strncmp(text, "cr3=", 4) && !p->bound) return false;
    }
    return true;
}

static void add(struct command *c, struct stop_point *p)
{
    struct machine *m = c->machine;
    p->id = m->stops->next_id++;
    if (stops_add(m, p)) say(c, "%u\n", p->id);
    else say(c, "there are %u already\n", MAX_POINTS);
}

/* The entries on the way to a linear address: each is a point. */
static bool add_table(struct command *c)
{
    struct vcpu *cpu = c->cpu;
    u64 linear, place[4];
    unsigned size;
    if (!number(c, &linear)) return false;
    machine_unlock(c->machine); /* tables may lie behind the bus */
    unsigned n = mmu_entries(cpu, linear, place, &size);
    u64 value[4];
    for (unsigned i = 0; i < n; i++) value[i] = bus_memory_read(cpu->bus, place[i], size);
    machine_lock(c->machine);
    if (!n) say(c, "paging is off, or nothing leads there\n");
    u32 id = c->machine->stops->next_id;
    for (unsigned i = 0; i < n; i++) {
        struct stop_point p = {
            .kind = STOP_TABLE, .address = place[i], .length = size, .id = id, .value = value[i]};
        if (!stops_add(c->machine, &p)) break;
    }
    if (n) say(c, "%u\n", c->machine->stops->next_id++);
    return true;
}

static bool stop_on(struct command *c)
{
    static const struct { const char *name; u8 kind; u64 last; u64 most; } events[] = {
        {"port", STOP_PORT, 0xffff, 0x10000}, {"exception", STOP_EXCEPTION, 255, 256},
        {"msr", STOP_MSR, 0xffffffff, 0x100000000}};
    struct stop_point p = {.length = 1};
    char what[32];
    if (!word(c, what, sizeof what)) return false;
    if (!strcmp(what, "pte")) return add_table(c);
    if (!strcmp(what, "mode")) p.kind = STOP_MODE;
    if (!strcmp(what, "triple-fault")) p.kind = STOP_TRIPLE_FAULT;
    if (!strcmp(what, "mmio")) {
        p.kind = STOP_MMIO;
        if (!word(c, p.chip, sizeof p.chip) || !number(c, &p.address)) return false;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
        if (strcmp(events[i].name, what)) continue;
        p.kind = events[i].kind;
        if (!number(c, &p.address) || p.address > events[i].last) return false;
    }
    if (!p.kind || !rest(c, &p, 0x10000)) return false;
    add(c, &p);
    return true;
}

static bool set_break(struct command *c)
{
    struct stop_point p = {.kind = STOP_BREAK, .length = 1};
    if (!number(c, &p.address) || !rest(c, &p, 1)) return false;
    add(c, &p);
    return true;
}

static bool set_watch(struct command *c)
{
    struct stop_point p = {.kind = STOP_WRITE, .length = 1};
    char text[32];
    if (!word(c, text, sizeof text)) return false;
    if (!strcmp(text, "r") || !strcmp(text, "rw") || !strcmp(text, "w")) {
        p.kind = text[1] ? STOP_ACCESS : *text == 'r' ? STOP_READ : STOP_WRITE;
        if (!word(c, text, sizeof text)) return false;
    }
    if (!parse_number(text, &p.address) || !rest(c, &p, MIB(1))) return false;
    add(c, &p);
    return true;
}

static bool list(struct command *c)
{
    static const char *const names[] = {"", "step", "break", "watch w", "watch r", "watch rw",
                                        "pte entry", "port", "mmio", "msr", "exception", "mode",
                                        "triple-fault"};
    const struct stops *s = c->machine->stops;
    for (unsigned i = 0; i < s->count; i++) {
        const struct stop_point *p = &s->point[i];
        char bound[40] = "", owner[16] = "gdb";
        if (p->bound) snprintf(bound, sizeof bound, " cr3=%" PRIx64, p->cr3);
        if (p->id) snprintf(owner, sizeof owner, "%u", p->id);
        say(c, "%-4s %s%s%s %" PRIx64 " length %" PRIu64 "%s%s\n", owner, names[p->kind],
            *p->chip ? " " : "",
            p->chip, p->address, p->length, bound, p->condition ? " with a condition" : "");
    }
    if (!s->count) say(c, "none\n");
    return true;
}

static bool delete_points(struct command *c)
{
    struct stops *s = c->machine->stops;
    char text[32];
    u64 id = 0;
    if (!word(c, text, sizeof text) || (strcmp(text, "all") && (!parse_number(text, &id) || !id)))
        return false;
    unsigned before = s->count;
    for (unsigned i = s->count; i-- > 0;)
        if (s->point[i].id && (!id || s->point[i].id == id)) drop(s, i);
    if (id && s->count == before) say(c, "no such number (stops lists them)\n");
    return true;
}

bool stops_command(struct machine *m, const char *name, const char *args,
                   const struct stops_listener *to)
{
    static const struct {
        const char *name;
        bool (*run)(struct command *);
        const char *usage;
    } commands[] = {
        {"break", set_break, "break ADDRESS [cr3=VALUE|current]"},
        {"watch", set_watch, "watch [r|w|rw] ADDRESS [LENGTH] [cr3=VALUE|current]"},
        {"stop-on", stop_on,
         "stop-on port|exception|msr NUMBER [COUNT], mmio CHIP OFFSET [COUNT], pte ADDRESS, mode, "
         "triple-fault"},
        {"stops", list, "stops"},
        {"delete", delete_points, "delete NUMBER|all"},
    };
    struct command c = {m, m->vcpu[to->cpu < m->vcpu_count ? to->cpu : 0].cpu, to, args};
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(commands[i].name, name)) continue;
        bool running = m->run_state == RUN_RUNNING;
        if (running) vcpus_park(m);
        if (!commands[i].run(&c)) say(&c, "usage: %s\n", commands[i].usage);
        if (running) {
            stops_apply(m);
            vcpus_unpark(m);
        }
        return true;
    }
    return false;
}
