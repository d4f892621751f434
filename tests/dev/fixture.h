/* A bus, a manual clock and one chip, without a processor: what a chip's test stands on. */
#ifndef TESTS_DEV_FIXTURE_H
#define TESTS_DEV_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h> /* wants the four above */

#include "machine/device.h"
#include "machine/clock_host.h"

struct fixture {
    struct bus *bus; /* 16 MiB of RAM at 0 */
    struct clock *clock;
    struct log log;
    struct machine_services services;
    int last_shutdown, last_code; /* -1: none */
    u8 *ram;
    struct region ram_region;
    bool line[64];   /* as driven by wires from fixture_wire */
    unsigned rises[64];
};

void fixture_init(struct fixture *f);
void fixture_free(struct fixture *f);
/* new, not init */
struct device *fixture_device(struct fixture *f, const struct device_class *class);
struct wire fixture_wire(struct fixture *f, unsigned line);
static inline u8 in8(struct fixture *f, u16 p) { return bus_port_read(f->bus, p, 1); }
static inline u16 in16(struct fixture *f, u16 p) { return bus_port_read(f->bus, p, 2); }
static inline u32 in32(struct fixture *f, u16 p) { return bus_port_read(f->bus, p, 4); }
static inline void out8(struct fixture *f, u16 p, u8 v) { bus_port_write(f->bus, p, v, 1); }
static inline void out16(struct fixture *f, u16 p, u16 v) { bus_port_write(f->bus, p, v, 2); }
static inline void out32(struct fixture *f, u16 p, u32 v) { bus_port_write(f->bus, p, v, 4); }

#endif
