/*
 * What we ask of the operating system, and nobody else does: memory, time, randomness.
 * Everything is thread-safe.
 */
#ifndef MACHINE_HOST_OS_H
#define MACHINE_HOST_OS_H

#include "machine/types.h"

/* SIZE bytes of zeroed address space that costs nothing until touched; NULL when there is none. */
void *os_reserve(u64 size);
void os_release(void *address, u64 size);
/* That memory may come in large pages: fewer of the host's page faults and TLB misses. Advice. */
void os_large_pages(void *address, u64 size);
/* Makes zeros of what os_reserve gave; whole pages of the host's are given back. */
void os_clear(void *address, u64 size);

void os_yield(void);       /* others may run first */
u64 os_monotonic_ns(void); /* never goes back */
u64 os_wall_ns(void);      /* since 1970, UTC */
i64 os_utc_offset_seconds(u64 wall_ns); /* local time minus UTC */
bool os_random(void *to, size_t length);
u64 os_physical_memory(void); /* bytes the host has */
int os_thread_id(void);       /* the calling thread's, as the host's tools show it; 0 where there is
                                 none */
int os_process_id(void);
unsigned os_processors(void); /* the calling thread may run on */

/* In a loop that waits for another thread. */
static inline void os_spin(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
