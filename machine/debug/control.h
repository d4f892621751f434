/*
 * What both the monitor and the control sockets do to the machine.
 * Failures are a line, in QEMU's words where clients look at them. Thread: I/O thread, machine lock
 * held.
 */
#ifndef MACHINE_DEBUG_CONTROL_H
#define MACHINE_DEBUG_CONTROL_H

#include "machine/clock.h"
#include "machine/machine.h"

#define KEY_QUEUE 256u
#define KEY_HOLD_MS 100u /* QEMU's */
#define MEMSAVE_MOST GIB(16)

struct session;
struct qmp;
struct net_port;

/* machine->monitors */
struct monitors {
    struct session *sessions;
    struct qmp *qmps;
    /* still to be pressed and released */
    struct { u32 code; bool down; u32 hold_ms; } keys[KEY_QUEUE];
    unsigned key_count;
    struct timer key_timer;
    unsigned mouse_buttons;
};

void control_init(struct machine *machine);

struct drive *control_drive(struct machine *machine, const char *id, struct error *error);
int control_drive_index(struct machine *machine, const char *id); /* -1: none */
bool control_drive_removable(const struct machine *machine, unsigned index);
bool control_eject(struct machine *machine, const char *id, bool force, struct error *error);
/* FORMAT and MODE ("retain", "read-only", "read-write") may be NULL. */
bool control_change(struct machine *machine, const char *id, const char *file, const char *format,
                    const char *mode, bool force, struct error *error);

/* a network's or a card's; NULL */
struct net_port *control_port(struct machine *machine, const char *name);
bool control_set_link(struct machine *machine, const char *name, bool up, struct error *error);

bool control_send_keys(struct machine *machine, const u32 *codes, unsigned count, u32 hold_ms,
                       struct error *error);
/* Linear addresses of CPU's, or physical ones when CPU is NULL. Processors parked. */
bool control_memsave(struct machine *machine, struct vcpu *cpu, u64 address, u64 size,
                     const char *file, struct error *error);

struct device *control_balloon_device(struct machine *machine);
bool control_balloon(struct machine *machine, u64 bytes, struct error *error);
bool control_balloon_actual(struct machine *machine, u64 *bytes, struct error *error);

void control_powerdown(struct machine *machine);
bool control_wakeup(struct machine *machine, struct error *error);

#endif
