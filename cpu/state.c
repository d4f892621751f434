/* The processor's declared state as a table: for hashing, comparing and saving. */
#include "cpu/cpu.h"

#define STATE_OWNER struct segment
STATE_TABLE(segment, SEGMENT_STATE)
#undef STATE_OWNER
#define STATE_OWNER struct vcpu
STATE_TABLE(vcpu, VCPU_STATE)
#undef STATE_OWNER

const struct state_field *cpu_state_fields(void) { return vcpu_fields; }
