/* The monitor: commands as a person or a script types them. Thread: machine lock held. */
#ifndef MACHINE_MONITOR_H
#define MACHINE_MONITOR_H

#include "machine/types.h"

struct machine;
struct error;
struct chardev;

/* Connects monitors to -monitor and to the console. */
bool monitor_start(struct machine *machine, struct error *error);

#endif
