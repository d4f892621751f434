/* What the translator is told when it is made: plain values, so that who parses options need know no more. */
#ifndef JIT_OPTIONS_H
#define JIT_OPTIONS_H

#include "machine/types.h"

struct jit_options {
    u64 tb_size;       /* bytes of code memory for each processor; 0: 64 MiB */
    unsigned threshold;/* entries after which a block is translated; 0: 3 */
    bool force_cold;   /* tests: every memory access takes the slow path */
    bool no_link;      /* tests: no block leads straight to another */
    bool no_vectors;   /* tests: vector and x87 instructions through the interpreter's functions */
    bool fail_groups;  /* tests: checks shared by several accesses always fail */
    unsigned hot;      /* entries after which a unit goes to tier 2; 0: 1000 */
    bool no_loops;     /* no tier 2 */
    bool no_background;/* it is made by the processor's own thread, so that runs repeat */
    bool await_background; /* tests: who asks for a unit of tier 2 waits until it is made */
    bool no_budget;    /* no processor is ever given one: units ahead in the page need not look at the time */
    bool all_loops;    /* tests: tier 2 takes what has no loop, too */
    bool perf_map;     /* names of blocks for Linux perf, /tmp/perf-PID.map */
    bool jit_dump;     /* and with their code, jit-PID.dump */
    unsigned lockstep; /* compare one block in so many with the interpreter; 0: none */
    void (*hold)(void *opaque, bool hold); /* keeps others off guest memory during a comparison; or NULL */
    void (*failed)(void *opaque);          /* a comparison found a difference, told on stderr; or NULL */
    void (*background_begins)(void *opaque); /* tests: by the background thread in front of each unit; or NULL */
    void *opaque;
    const char *symbols; /* file of `address type name` lines (System.map) to name guest code with; or NULL */
};

#endif
