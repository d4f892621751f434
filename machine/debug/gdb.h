/*
 * The gdb stub: -gdb and -s. Thread: I/O thread, lock held.
 */
#ifndef MACHINE_DEBUG_GDB_H
#define MACHINE_DEBUG_GDB_H

#include "machine/types.h"

struct machine;
struct error;

bool gdb_start(struct machine *machine, struct error *error);
/* A client is there and will say when the machine is to go on. */
bool gdb_attached(const struct machine *machine);
/* Every processor is parked: whoever waits for a stop is told. */
void gdb_paused(struct machine *machine);
/* The process is about to end with status CODE. */
void gdb_leaving(struct machine *machine, int code);

#endif
