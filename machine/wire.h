/*
 * A wire: a level driven by one end and heard by the other. Whoever wires the board fills it in;
 * a chip that drives one knows neither number nor listener. An unconnected wire is all zero.
 * Thread: machine lock held.
 */
#ifndef MACHINE_WIRE_H
#define MACHINE_WIRE_H

#include "machine/types.h"

struct wire {
    void (*set)(void *listener, unsigned line, bool level);
    void *listener;
    unsigned line;
};

static inline void wire_set(const struct wire *wire, bool level)
{
    if (wire->set) wire->set(wire->listener, wire->line, level);
}

static inline void wire_pulse(const struct wire *wire)
{
    wire_set(wire, true);
    wire_set(wire, false);
}

#endif
