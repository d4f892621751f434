/* machine/host/os.h on POSIX systems with mmap and clock_gettime. */
#define _GNU_SOURCE /* syscall, sched_getaffinity */
#include "machine/host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

void *os_reserve(u64 size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void os_large_pages(void *address, u64 size)
{
#ifdef MADV_HUGEPAGE
    madvise(address, size, MADV_HUGEPAGE);
#else
    (void)address, (void)size;
#endif
}

void os_release(void *address, u64 size) { munmap(address, size); }

void os_clear(void *address, u64 size)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)address;
    const uintptr_t first = (at + page - 1) & ~(page - 1), last = (at + size) & ~(page - 1);
    /* MADV_DONTNEED on private anonymous memory gives zero pages back. */
    if (first >= last || madvise((void *)first, last - first, MADV_DONTNEED)) {
        memset(address, 0, size);
        return;
    }
    memset(address, 0, first - at);
    memset((void *)last, 0, at + size - last);
}

static u64 read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

void os_yield(void) { sched_yield(); }

u64 os_monotonic_ns(void) { return read_clock(CLOCK_MONOTONIC); }
u64 os_wall_ns(void) { return read_clock(CLOCK_REALTIME); }

i64 os_utc_offset_seconds(u64 wall_ns)
{
    time_t t = (time_t)(wall_ns / 1000000000u);
    struct tm local;
    return localtime_r(&t, &local) ? local.tm_gmtoff : 0;
}

bool os_random(void *to, size_t length)
{
    static const char path[] = "/dev/urandom";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    u8 *p = to;
    while (length) {
        ssize_t n = read(fd, p, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        p += n;
        length -= (size_t)n;
    }
    close(fd);
    return length == 0;
}

u64 os_physical_memory(void)
{
    return (u64)sysconf(_SC_PHYS_PAGES) * (u64)sysconf(_SC_PAGESIZE);
}

int os_thread_id(void)
{
#ifdef __linux__
    return (int)syscall(SYS_gettid);
#else
    return 0;
#endif
}

int os_process_id(void) { return (int)getpid(); }

unsigned os_processors(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (!sched_getaffinity(0, sizeof set, &set)) return (unsigned)CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 1 ? (unsigned)n : 1;
}
