/*
 * The stub lets processors go, step and stop, and tells the client why they did.
 *
 * All-stop: whoever meets something stops the machine. A step runs one instruction, of a repeated
 * string instruction one iteration (as the trap flag does), masks interrupts and stands the clock
 * still as qemu.sstep says; a fault is stepped into, and an interrupt when it is not masked.
 */
#include "machine/debug/gdb_int.h"

#include <stdio.h>

/* What a processor is to do. */
struct action {
    enum { HOLD, RUN, STEP } what;
    u64 from, until; /* STEP: goes on while rip is in there */
    bool set;
};

/* --- telling --- */

static void stop_reply(struct gdb *g, unsigned signal, const char *more)
{
    snprintf(g->stop_reply, sizeof g->stop_reply, "T%02xthread:%x;%s", signal, g->thread + 1, more);
    g->waiting = false;
    gdb_reply(g, g->stop_reply);
}

static void tell(struct gdb *g, struct vcpu *cpu)
{
    static const char *const watches[] = {
        [STOP_WRITE] = "watch", [STOP_READ] = "rwatch", [STOP_ACCESS] = "awatch"};
    const struct stop *stop = &cpu->stop;
    char more[64] = "", text[256];
    bool own = !stop->id;
    g->thread = g->run_thread = cpu->index;
    if (own && stop->kind >= STOP_WRITE && stop->kind <= STOP_ACCESS)
        snprintf(more, sizeof more, "%s:%llx;", watches[stop->kind],
                 (unsigned long long)stop->address);
    else if (own && stop->kind == STOP_BREAK && (stop->hardware ? g->hwbreak : g->swbreak))
        snprintf(more, sizeof more, "%s:;", stop->hardware ? "hwbreak" : "swbreak");
    if (!own && stop->kind != STOP_STEP) {
        stops_describe(cpu, text, sizeof text - 1);
        strcat(text, "\n");
        gdb_console(g, text);
    }
    stops_told(g->machine, cpu);
    stop_reply(g, 5, more);
}

static void end_steps(struct machine *m)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        struct vcpu *cpu = m->vcpu[i].cpu;
        if (!cpu->debug_step) continue;
        cpu->debug_step = cpu->debug_masked = false;
        cpu_update_mode(cpu);
    }
}

void gdb_paused(struct machine *m)
{
    struct gdb *g = m->gdb;
    if (!gdb_attached(m)) return;
    end_steps(m);
    if (!g->waiting) return;
    struct vcpu *cpu = stops_next(m);
    if (cpu) tell(g, cpu);
    else stop_reply(g, 2, "");
}

/* --- going --- */

/* What another processor met at the same time. A breakpoint is met again. */
static bool tell_pending(struct gdb *g, const struct action *actions)
{
    struct machine *m = g->machine;
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        struct vcpu *cpu = m->vcpu[i].cpu;
        if (cpu->stop.kind == STOP_BREAK || cpu->stop.kind == STOP_STEP) cpu->stop.kind = STOP_NONE;
        if (!cpu->stop.kind || actions[i].what == HOLD) continue;
        tell(g, cpu);
        return true;
    }
    return false;
}

static void set_step(struct gdb *g, struct vcpu *cpu, const struct action *action)
{
    cpu->debug_step = action->what == STEP && (g->sstep & SSTEP_ENABLE);
    cpu->debug_masked = cpu->debug_step && (g->sstep & SSTEP_NOIRQ);
    cpu->step_from = action->from;
    cpu->step_until = action->until;
    if (cpu->debug_step) { /* a breakpoint on the first instruction is no reason to stay */
        cpu->stop_passed = true;
        cpu->stop_passed_rip = cpu->rip;
        cpu->stop_passed_icount = cpu->icount;
    }
    cpu_update_mode(cpu);
}

static void go(struct gdb *g, const struct action *actions)
{
    struct machine *m = g->machine;
    bool clock = false, any = false;
    struct error error;
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        const struct action *a = &actions[i];
        any |= a->what != HOLD;
        clock |= a->what == RUN || (a->what == STEP && (!(g->sstep & SSTEP_NOTIMER) ||
                                                        !(g->sstep & SSTEP_ENABLE) ||
                                                        m->vcpu[i].cpu->activity != CPU_RUNNING));
    }
    if (!any) {
        gdb_reply(g, "E22");
        return;
    }
    g->goes = true;
    if (tell_pending(g, actions)) return;
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        vcpus_hold(m, i, actions[i].what == HOLD);
        set_step(g, m->vcpu[i].cpu, &actions[i]);
    }
    stops_shut_down(m);
    g->waiting = true;
    if (machine_go(m, clock, &error)) return;
    g->waiting = false;
    gdb_reply(g, "E22"); /* it is off, and must be reset first */
}

void gdb_resume(struct gdb *g, bool step)
{
    struct action actions[MAX_VCPUS] = {0};
    for (unsigned i = 0; i < g->machine->vcpu_count; i++)
        actions[i].what = !step ? RUN : i == g->run_thread ? STEP : HOLD;
    go(g, actions);
}

/* One of vCont's actions, at what is behind the semicolon. */
static bool parse_action(const char **at, struct action *action)
{
    u64 signal;
    *action = (struct action){.set = true};
    char c = *(*at)++;
    switch (c) {
    case 'C':
    case 'c': action->what = RUN; break;
    case 'S':
    case 's': action->what = STEP; break;
    case 'r':
        action->what = STEP;
        if (!gdb_number(at, &action->from) || !gdb_skip(at, ',') || !gdb_number(at, &action->until))
            return false;
        break;
    default: return false;
    }
    /* signals mean nothing to a processor */
    return (c != 'C' && c != 'S') || gdb_number(at, &signal);
}

void gdb_vcont(struct gdb *g, const char *at)
{
    struct action actions[MAX_VCPUS] = {0}, action;
    while (gdb_skip(&at, ';')) {
        unsigned index = GDB_ALL;
        if (!parse_action(&at, &action) || (gdb_skip(&at, ':') && !gdb_thread(g, &at, &index))) {
            gdb_reply(g, "E22");
            return;
        }
        for (unsigned i = 0; i < g->machine->vcpu_count; i++)
            if ((index == GDB_ALL || index == i) && !actions[i].set)
                actions[i] = action; /* the leftmost */
    }
    go(g, actions);
}

/* --- coming and leaving --- */

void gdb_attach(struct gdb *g)
{
    struct machine *m = g->machine;
    g->no_ack = g->swbreak = g->hwbreak = g->waiting = g->physical = false;
    g->sstep = SSTEP_ENABLE | SSTEP_NOIRQ | SSTEP_NOTIMER;
    g->thread = g->run_thread = 0;
    g->goes = m->run_state == RUN_RUNNING;
    g->in_state = IN_IDLE;
    g->held_from = g->held_until = 0;
    g->last_length = 0;
    stream_clear(&g->out);
    g->connected = true;
    snprintf(g->stop_reply, sizeof g->stop_reply, "T05thread:1;");
    if (g->goes) machine_pause(m);
}

void gdb_detach(struct gdb *g, bool leave)
{
    struct machine *m = g->machine;
    struct error error;
    bool running = m->run_state == RUN_RUNNING;
    g->waiting = false;
    if (leave) {
        g->connected = false;
        stream_clear(&g->out);
    }
    if (running) machine_pause(m);
    end_steps(m);
    stops_remove_all(m, 0);
    if (running || g->goes) machine_resume(m, &error);
}

/* --- Z and z --- */

static const u8 kinds[] = {STOP_BREAK, STOP_BREAK, STOP_WRITE, STOP_READ, STOP_ACCESS};

void gdb_break(struct gdb *g, const char *at, unsigned n)
{
    (void)n;
    bool insert = *at++ == 'Z';
    u64 type, address, length;
    if (!gdb_number(&at, &type) || !gdb_skip(&at, ',') || !gdb_number(&at, &address) ||
        !gdb_skip(&at, ',') || !gdb_number(&at, &length)) {
        gdb_reply(g, "E22");
        return;
    }
    if (type >= ARRAY_SIZE(kinds)) {
        gdb_reply(g, ""); /* not known */
        return;
    }
    struct stop_point point = {.kind = kinds[type], .hardware = type == 1, .address = address};
    point.length = point.kind == STOP_BREAK ? 1 : length;
    if (!point.length || point.length > MIB(1)) {
        gdb_reply(g, "E22");
        return;
    }
    if (!insert) {
        stops_remove(g->machine, point.kind, address, point.length);
        gdb_reply(g, "OK");
        return;
    }
    if (point.kind == STOP_BREAK && gdb_skip(&at, ';') && *at == 'X') {
        point.opaque = agent_parse(&at);
        point.condition = agent_true;
        if (!point.opaque) {
            gdb_reply(g, "E22");
            return;
        }
    }
    gdb_reply(g, stops_add(g->machine, &point) ? "OK" : "E28");
}
