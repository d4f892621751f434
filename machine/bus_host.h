/* The bus as the board makes it; chips and the processor see machine/bus.h and machine/memory.h. */
#ifndef MACHINE_BUS_HOST_H
#define MACHINE_BUS_HOST_H

#include "machine/bus.h"
#include "machine/memory.h"

struct error;

/* An arena for RAM_SIZE bytes of RAM and EXTRA_SIZE of ROMs and video memory. */
struct bus *bus_new(u64 ram_size, u64 extra_size, struct log *log, struct error *error);
void bus_free(struct bus *bus);

/* The machine lock, taken around what a processor asks of a chip. */
void bus_set_lock(struct bus *bus, void (*lock)(void *), void (*unlock)(void *), void *opaque);
/* Told (lock held) after physical addresses changed meaning. */
void bus_on_map_change(struct bus *bus, void (*changed)(void *opaque), void *opaque);

/* Shown only to processors in system-management mode. */
void bus_map_smm(struct bus *bus, struct region *region, u64 base, enum bus_layer layer);

/* Several map/unmap calls as one change. */
void bus_begin(struct bus *bus);
void bus_commit(struct bus *bus);

/* Text of both maps, for the monitor's "info mtree". */
void bus_dump(struct bus *bus, void *stream);

#endif
