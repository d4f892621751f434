/*
 * The monitor (commands as a person or a script types them) and the control sockets (QMP).
 * Thread: I/O thread, machine lock held.
 */
#ifndef MACHINE_MONITOR_H
#define MACHINE_MONITOR_H

#include "machine/types.h"

struct machine;
struct error;

/* Opens what -monitor, -qmp and -mon ask for, and the console's monitor. */
bool monitor_start(struct machine *machine, struct error *error);
/* Each turn of the I/O thread's loop: runs the commands that have arrived. */
void monitors_turn(struct machine *machine);
/* Runs LINE as if typed; what it says, to be freed. CPU is what `cpu` would have chosen. NULL: no
 * memory. */
char *monitor_execute(struct machine *machine, const char *line, unsigned cpu);

#endif
