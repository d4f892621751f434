/*
 * Control sockets: the QEMU Machine Protocol. Built only with jansson (CONFIG_JANSSON).
 * Thread: machine lock held; qmp_turn on the I/O thread, qmp_event on any.
 */
#ifndef MACHINE_DEBUG_QMP_H
#define MACHINE_DEBUG_QMP_H

#include "machine/chardev_host.h"
#include "machine/machine.h"

void qmp_attach(struct machine *machine, struct chardev *chardev, bool pretty);
void qmp_turn(struct machine *machine); /* runs the commands that have arrived */
void qmp_event(struct machine *machine, const struct machine_event *event);

#endif
