/* One number for everything a guest could tell apart: processors, chips, memory. */
#ifndef MACHINE_DEBUG_HASH_H
#define MACHINE_DEBUG_HASH_H

#include "machine/types.h"

struct machine;

#define MACHINE_HASH_TEXT 65 /* 64 hexadecimal digits of SHA-256, and the end */

/*
 * TEXT gets the hash of the state declared by processors and chips and of all guest memory; parts,
 * when not NULL, of {processors, chips, memory}. Not in it: disk contents, and what is rebuilt from
 * state.
 * Thread: machine lock held, processors parked.
 */
void machine_hash(struct machine *machine, char text[MACHINE_HASH_TEXT],
                  char parts[3][MACHINE_HASH_TEXT]);

#endif
