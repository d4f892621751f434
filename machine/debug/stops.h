/*
 * What the machine is stopped for: the gdb stub's breakpoints and those set in the monitor, in one
 * set that the processors share (cpu/stops.h).
 * Thread: I/O thread, lock held.
 */
#ifndef MACHINE_DEBUG_STOPS_H
#define MACHINE_DEBUG_STOPS_H

#include "cpu/stops.h"

struct machine;
struct vcpu;

void stops_new(struct machine *machine);

/* Adding and removing take effect when the processors next go. RELEASE frees point->opaque. The
 * same kind, address, length and owner replaces what was there; false when there are too many. */
bool stops_add(struct machine *machine, const struct stop_point *point);
/* The debugger's (id 0) points. */
bool stops_remove(struct machine *machine, enum stop_kind kind, u64 address, u64 length);
void stops_remove_all(struct machine *machine, u32 id);
void stops_apply(struct machine *machine);

/* A processor waits for us: pauses the machine, and says why when no debugger does. */
void stops_stopped(struct machine *machine);
/* The next processor that has stopped for something not told yet, or NULL. */
struct vcpu *stops_next(struct machine *machine);
/* CPU's stop has been told; it will not be met again where it stands. */
void stops_told(struct machine *machine, struct vcpu *cpu);
/* Nobody is held, nothing is left to be told: before everybody goes. */
void stops_release(struct machine *machine);
/* The reset that a told triple fault owes; part of stops_release. */
void stops_shut_down(struct machine *machine);
/* One line without its end. */
void stops_describe(const struct vcpu *cpu, char *text, size_t size);

/* A monitor command, NAME being break, watch, stop-on, stops or delete; false when it is
 * another's. */
struct stops_listener {
    void *opaque;
    unsigned cpu; /* the processor meant */
    void (*say)(void *opaque, const char *text);
};
bool stops_command(struct machine *machine, const char *name, const char *args,
                   const struct stops_listener *to);

#endif
