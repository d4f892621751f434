/*
 * What a processor's TLB asks of the machine: where a physical page really is; and the per-page
 * notes through which everybody who writes guest memory tells everybody who has decoded it.
 *
 * All guest-visible memory (RAM, ROM, flash, video memory, SMRAM) lies in one host reservation, the
 * arena. An arena page number names a page of memory whatever physical address shows it, so code is
 * found by arena page, and no address outside the arena is ever handed out.
 */
#ifndef MACHINE_MEMORY_H
#define MACHINE_MEMORY_H

#include "machine/bus.h"
#include "machine/types.h"

#include <stdatomic.h>

#define PAGE_SIZE 4096u
#define PAGE_MASK (~(u64)(PAGE_SIZE - 1))

/* A page that code was decoded from. Granule g is bytes [64g, 64g+64). */
struct code_page {
    _Atomic u64 granules;   /* decoded bytes lie in these; 0: plain data, writes need no care */
    _Atomic u32 generation; /* moves on when a granule in use is written: all decodes are void */
    _Atomic u32 writes;     /* how often that happened: the self-modifying policy */
};

struct memory {
    u8 *arena;
    u64 arena_size;              /* bytes; multiple of the page size */
    struct code_page *code_pages;/* one an arena page; untouched ones cost nothing */
    _Atomic u32 map_generation;  /* moves on when physical addresses mean something else */
    /* Told when decoded code was written, any thread: loops of translated code look no more often
     * than the processor's budget is spent. NULL: nobody wants to know. */
    void (*code_changed)(void *opaque);
    void *code_changed_opaque;
};

static inline u64 arena_page(const struct memory *memory, const void *host)
{
    return (u64)((const u8 *)host - memory->arena) >> 12;
}

/* Where physical page ADDRESS (page-aligned) leads. */
struct memory_target {
    u8 *host;       /* NULL: a device, or nothing; go through bus_memory_read/write */
    bool read_only; /* memory, but writes go through bus_memory_write (and are dropped) */
};
/* SMM: as a processor in system-management mode sees it. Any thread, no lock needed. */
void memory_resolve(struct bus *bus, u64 address, bool smm, struct memory_target *target);
/* A run of physical addresses, whole pages, that is plain memory: HOST is that of FIRST. */
struct memory_window {
    u64 first, length;
    u8 *host;
};
/* The longest around ADDRESS; false when the page is not plain memory. */
bool memory_window(struct bus *bus, u64 address, bool smm, struct memory_window *window);
struct memory *bus_memory(struct bus *bus);
/* As bus_memory_read/write, for a processor in SMM when `smm`. */
u64 bus_memory_read_as(struct bus *bus, u64 address, unsigned size, bool smm);
void bus_memory_write_as(struct bus *bus, u64 address, u64 value, unsigned size, bool smm);

/*
 * Must be called by whoever changes bytes [host, host+length) of the arena, when the page has
 * granules set (see memory_is_code), behind the change. Voids decodes whose granules are hit and
 * returns true when there were any: a processor must then leave its current block after the
 * instruction.
 */
bool memory_code_written(struct memory *memory, const void *host, u64 length);

static inline bool memory_is_code(struct memory *memory, const void *host)
{
    return atomic_load_explicit(&memory->code_pages[arena_page(memory, host)].granules,
                                memory_order_acquire) != 0;
}

#endif
