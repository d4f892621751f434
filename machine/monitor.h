/* The monitor: commands as a person or a script types them. Thread: machine lock held. */
#ifndef MACHINE_MONITOR_H
#define MACHINE_MONITOR_H

#include "machine/types.h"

struct machine;
struct error;
struct chardev;

/* Connects monitors to -monitor and to the console. */
bool monitor_start(struct machine *machine, struct error *error);

/* Runs LINE as if typed; what it says, to be freed. CPU: the processor meant where none is named. NULL: no memory. */
char *monitor_execute(struct machine *machine, const char *line, unsigned cpu);

#endif
