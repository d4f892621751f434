/* The monitor: commands as a person or a script types them. Thread: machine lock held. */
#ifndef MACHINE_MONITOR_H
#define MACHINE_MONITOR_H

#include "machine/types.h"

struct machine;
struct error;
struct chardev;

/* Connects monitors to -monitor and to the console. */
bool monitor_start(struct machine *machine, struct error *error);

/* Runs one command; what it says goes to SAY. CPU: the processor meant where none is named. */
void monitor_command(struct machine *machine, const char *line, unsigned cpu,
                     void (*say)(void *opaque, const char *text), void *opaque);

#endif
