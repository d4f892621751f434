/* The monitor's insides: what its files share. Thread: I/O thread, machine lock held. */
#ifndef MACHINE_DEBUG_MONITOR_INT_H
#define MACHINE_DEBUG_MONITOR_INT_H

#include "machine/machine.h"

#include <stdio.h>

#define ARGUMENTS 8u
#define OUTPUT_MOST MIB(8) /* of one command that lists what the guest made */

struct line_editor;
struct line_choices;

struct format {
    u32 count;
    char letter; /* x d u o c i */
    u8 size;     /* 1, 2, 4, 8 */
};

struct argument {
    bool given;
    const char *text;
    u64 number;
    struct format format;
};

/* Whoever types: a terminal, a script, human-monitor-command, gdb's `monitor`. */
struct monitor {
    struct machine *machine;
    FILE *out;                  /* what the command being run says */
    unsigned cpu;               /* that x, p and info registers are about */
    struct format format;       /* x and p without one take the last */
    struct line_editor *editor; /* NULL: no terminal */
};

enum { COMMAND_PARKED = 1 }; /* the processors stand still while it runs */

struct command {
    const char *names;  /* "q|quit" */
    const char *spec;   /* arguments: see monitor.def */
    unsigned flags;
    void (*run)(struct monitor *m, const struct argument *a);
    const char *help;
};
extern const struct command monitor_commands[], monitor_infos[]; /* end with names NULL */

#define COMMAND(names, spec, flags, function, help) \
    void function(struct monitor *m, const struct argument *a);
#define INFO(names, spec, flags, function, help) \
    void function(struct monitor *m, const struct argument *a);
#include "machine/debug/monitor.def"
#undef COMMAND
#undef INFO

/* Runs one line; what it says goes to m->out. */
void monitor_run(struct monitor *m, const char *line);
void monitor_complete(struct monitor *m, const char *line, struct line_choices *choices);
void monitor_error(struct monitor *m, const struct error *error);
void monitor_say(struct monitor *m, const char *format, ...) PRINTF(2, 3);
/* True when a list has become longer than anybody wants; says so. */
bool monitor_is_full(struct monitor *m);
struct vcpu *monitor_cpu(struct monitor *m);

/* --- monitor_args.c --- */
/* TEXT as SPEC wants it, pieces cut out of BUFFER (a copy of the line, writable). */
bool arguments_parse(struct monitor *m, const char *spec, char *text, struct argument *a,
                     struct error *error);
/* What SPEC looks like to a person: "[-f] device [value]". */
void arguments_describe(const char *spec, char *to, size_t size);
/* The type of argument INDEX in SPEC, not counting flags; 0 behind the last. */
char arguments_type(const char *spec, unsigned index);
/* A number, register, sum of them… at *TEXT, which is moved on. */
bool expression_parse(struct monitor *m, const char **text, u64 *value, struct error *error);

#endif
