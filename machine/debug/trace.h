/*
 * What looks at the guest's code while it runs: the log's exec, cpu and in_asm, the instruction
 * trace, coverage, the profile. Thread: machine lock held; what looks is called on the processors'
 * threads.
 */
#ifndef MACHINE_DEBUG_TRACE_H
#define MACHINE_DEBUG_TRACE_H

#include "machine/types.h"

struct error;
struct log;
struct machine;
struct vcpu;

/* the processors are made, none has run */
bool trace_start(struct machine *machine, struct error *error);
void trace_update(struct machine *machine); /* the log's channels are others now; processors
                                               parked */
void trace_stop(struct machine *machine);   /* writes what is to be written; the processors' threads
                                               are gone */

/* The processor's registers into the log, behind a line. */
void trace_log_registers(struct log *log, struct vcpu *cpu, const char *title);

#endif
