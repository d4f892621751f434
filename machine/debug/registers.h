/* A processor's registers as text, in the form QEMU's users know. Thread: the processor parked, or
 * its own. */
#ifndef MACHINE_DEBUG_REGISTERS_H
#define MACHINE_DEBUG_REGISTERS_H

#include "machine/types.h"

#include <stdio.h>

struct state_field;
struct vcpu;

/* The declared registers (cpu.h), for state_dump. */
const struct state_field *vcpu_fields(void);

void registers_dump(FILE *out, struct vcpu *cpu, bool with_fpu);

#endif
