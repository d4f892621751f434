/* What the files of tracing share. */
#ifndef MACHINE_DEBUG_TRACE_INT_H
#define MACHINE_DEBUG_TRACE_INT_H

#include "machine/machine.h"

#include "cpu/cpu.h"

#include <stdio.h>

/* One who looks at code. Called on the processor's thread. */
struct watcher {
    void (*before)(struct watcher *watcher, struct vcpu *cpu, u64 linear, const struct insn *insn);
    struct log_range ranges[LOG_RANGES]; /* none: everywhere */
    unsigned range_count;
    bool each_insn;
};

/* range=…, which may come several times. */
bool watcher_ranges(struct watcher *watcher, const struct keyvals *kv, struct error *error);

/* --- trace_insns.c: -trace-insns --- */
struct watcher *insns_open(struct machine *machine, const char *spec, struct error *error);
bool insns_close(struct watcher *watcher, struct error *error);

/* --- coverage.c: -coverage --- */
struct watcher *coverage_open(struct machine *machine, const char *spec, struct error *error);
bool coverage_close(struct watcher *watcher, struct error *error);

/* --- profile.c: -profile --- */
struct profile;
struct profile *profile_open(struct machine *machine, const char *spec, struct error *error);
bool profile_close(struct profile *profile, struct error *error);

#endif
