/*
 * The two address spaces, ports and physical memory, as chips and the processor see them.
 *
 * A region is a run of addresses that one chip answers. The chip sees offsets, never addresses, and
 * only sizes it said it implements: the bus splits larger accesses and widens smaller ones
 * (a read is narrowed, a write below min_size is dropped and logged unless the chip takes bytes).
 * Unclaimed reads give all ones.
 *
 * Thread: mapping and chip callbacks run with the machine lock held; bus_* accesses from the
 * processor take it themselves; dma_* expects it held (chips call it).
 */
#ifndef MACHINE_BUS_H
#define MACHINE_BUS_H

#include "machine/types.h"

struct bus;
struct device;
struct log;

enum bus_space { BUS_PORT, BUS_MEMORY };

struct region_ops {
    const char *name;
    u64 (*read)(struct device *device, u64 offset, unsigned size);
    void (*write)(struct device *device, u64 offset, u64 value, unsigned size);
    u8 min_size, max_size; /* 1, 2, 4 or 8; zero means 1 and 4 */
};

/* In a higher layer wins; equal layers: the one mapped last wins. */
enum bus_layer { LAYER_RAM = 0, LAYER_ROM = 1, LAYER_DEVICE = 2, LAYER_OVERLAY = 3 };

struct region {
    const struct region_ops *ops; /* NULL for memory-backed */
    struct device *device;
    const char *name;
    u64 size;
    u8 *memory;     /* memory-backed: the bytes, from bus_alloc_memory */
    bool read_only; /* memory-backed: guest writes are dropped */
    /* set by the bus */
    bool mapped;
    u8 space, layer;
    u64 base;
    u32 order;
};

void region_init(struct region *region, struct device *device, const struct region_ops *ops,
                 u64 size);

/* SIZE bytes of zeroed, page-aligned guest-visible memory for a ROM, flash or video memory. Lives
 * as long as the machine. NULL when the machine has no more (the arena is sized at start). */
u8 *bus_alloc_memory(struct bus *bus, u64 size, const char *name);
/* Makes zeros of (a part of) it, at little cost where it is large and was never written. */
void bus_clear_memory(struct bus *bus, u8 *memory, u64 size);

void region_init_memory(struct region *region, u8 *memory, u64 size, bool read_only,
                        const char *name);

void bus_map(struct bus *bus, enum bus_space space, struct region *region, u64 base,
             enum bus_layer layer);
void bus_unmap(struct bus *bus, struct region *region);

/* As the processor does them: SIZE 1, 2 or 4 (ports) to 8 (memory), any alignment. */
u64 bus_port_read(struct bus *bus, u16 port, unsigned size);
void bus_port_write(struct bus *bus, u16 port, u64 value, unsigned size);
/* Whose register ADDRESS is, and its offset in the region; NULL for memory and nothing. Any
 * thread. */
const char *bus_region_name(struct bus *bus, u64 address, u64 *offset);
u64 bus_memory_read(struct bus *bus, u64 address, unsigned size);
void bus_memory_write(struct bus *bus, u64 address, u64 value, unsigned size);

/* As a bus master does them. Guest memory and memory-backed regions only; what is not memory reads
 * as ones, is not written, and makes the result false. Writes tell the code-page index. */
bool dma_read(struct bus *bus, u64 address, void *to, u64 length);
bool dma_write(struct bus *bus, u64 address, const void *from, u64 length);
static inline u16 dma_ld16(struct bus *bus, u64 a)
{
    u16 v = 0xffff;
    dma_read(bus, a, &v, 2);
    return le16(v);
}
static inline u32 dma_ld32(struct bus *bus, u64 a)
{
    u32 v = ~0u;
    dma_read(bus, a, &v, 4);
    return le32(v);
}
static inline u64 dma_ld64(struct bus *bus, u64 a)
{
    u64 v = ~0ull;
    dma_read(bus, a, &v, 8);
    return le64(v);
}
static inline void dma_st16(struct bus *bus, u64 a, u16 v)
{
    v = le16(v);
    dma_write(bus, a, &v, 2);
}
static inline void dma_st32(struct bus *bus, u64 a, u32 v)
{
    v = le32(v);
    dma_write(bus, a, &v, 4);
}
static inline void dma_st64(struct bus *bus, u64 a, u64 v)
{
    v = le64(v);
    dma_write(bus, a, &v, 8);
}

/*
 * Direct view of guest RAM for bulk transfers: the host address of ADDRESS, with *LENGTH cut to
 * what is contiguous, or NULL where there is no plain RAM. For WRITE, call dma_wrote() afterwards.
 */
void *dma_map(struct bus *bus, u64 address, u64 *length, bool write);
void dma_wrote(struct bus *bus, u64 address, u64 length);

#endif
