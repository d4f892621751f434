/*
 * Names and code of translated blocks for Linux perf.
 * Specification: tools/perf/Documentation/jit-interface.txt and jitdump-specification.txt of Linux.
 *
 * The dump file is mapped executable once, which is how `perf record` learns of it; then
 * `perf record -k 1` (its clock is ours, CLOCK_MONOTONIC) and `perf inject -j`. Not written: debug info
 * and unwinding records, and the closing of code that is forgotten: a later block at the same place
 * takes over.
 */
#define _GNU_SOURCE
#include "jit/jit_int.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#define DUMP_MAGIC 0x4a695444u /* "JiTD" in the writer's byte order */
#define ELF_MACHINE_X86_64 62u

enum { RECORD_LOAD = 0, RECORD_CLOSE = 3 };

struct dump_header { u32 magic, version, size, elf_machine, pad, pid; u64 time, flags; };
struct dump_record { u32 id, size; u64 time; };
struct dump_load { struct dump_record head; u32 pid, tid; u64 vma, address, size, index; };
_Static_assert(sizeof(struct dump_header) == 40 && sizeof(struct dump_load) == 56, "the file's layout");

struct jit_perf {
    pthread_mutex_t mutex; /* every processor's thread writes */
    FILE *map, *dump;
    void *marker;
    u64 index;
};

static u32 thread_id(void)
{
#if defined(__linux__)
    return (u32)syscall(SYS_gettid);
#else
    return (u32)getpid();
#endif
}

static bool open_dump(struct jit_perf *perf)
{
    char path[64];
    snprintf(path, sizeof path, "jit-%u.dump", (unsigned)getpid());
    perf->dump = fopen(path, "w+b");
    if (!perf->dump) return false;
    struct dump_header head = {DUMP_MAGIC, 1, sizeof head, ELF_MACHINE_X86_64, 0, (u32)getpid(), jit_time(), 0};
    if (fwrite(&head, sizeof head, 1, perf->dump) != 1 || fflush(perf->dump)) return false;
    void *p = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(perf->dump), 0);
    perf->marker = p == MAP_FAILED ? NULL : p;
    return perf->marker != NULL;
}

static bool open_map(struct jit_perf *perf)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%u.map", (unsigned)getpid()); /* where perf looks */
    perf->map = fopen(path, "w");
    if (perf->map) setvbuf(perf->map, NULL, _IOLBF, 0); /* perf top reads it as it grows */
    return perf->map != NULL;
}

struct jit_perf *perf_new(const struct jit_options *options, struct error *error)
{
    struct jit_perf *perf = calloc(1, sizeof(*perf));
    if (!perf) return error_set(error, "no memory"), NULL;
    pthread_mutex_init(&perf->mutex, NULL);
    bool map = !options->perf_map || open_map(perf), dump = !options->jit_dump || open_dump(perf);
    if (map && dump) return perf;
    perf_free(perf);
    return error_set(error, map ? "-jitdump: jit-%u.dump cannot be written here, or not be mapped executable"
                                : "-perfmap: /tmp/perf-%u.map cannot be written", (unsigned)getpid()), NULL;
}

void perf_free(struct jit_perf *perf)
{
    if (!perf) return;
    if (perf->dump) {
        struct dump_record end = {RECORD_CLOSE, sizeof end, jit_time()};
        fwrite(&end, sizeof end, 1, perf->dump);
        fclose(perf->dump);
    }
    if (perf->map) fclose(perf->map);
    if (perf->marker) munmap(perf->marker, (size_t)sysconf(_SC_PAGESIZE));
    pthread_mutex_destroy(&perf->mutex);
    free(perf);
}

void perf_code(struct jit_perf *perf, const u8 *code, size_t length, const char *name)
{
    size_t named = strlen(name) + 1;
    u64 at = (u64)(uintptr_t)code;
    pthread_mutex_lock(&perf->mutex);
    if (perf->map) fprintf(perf->map, "%llx %zx %s\n", (unsigned long long)at, length, name);
    if (perf->dump) {
        struct dump_load load = {{RECORD_LOAD, (u32)(sizeof load + named + length), jit_time()},
                                 (u32)getpid(), thread_id(), at, at, length, perf->index++};
        fwrite(&load, sizeof load, 1, perf->dump);
        fwrite(name, named, 1, perf->dump);
        fwrite(code, length, 1, perf->dump);
    }
    pthread_mutex_unlock(&perf->mutex);
}

/* The hot part under the guest code's name, the cold part with " cold" behind it. */
void perf_block(struct jit_cpu *j, const struct jblock *block, const struct making *m)
{
    char name[320], cold[336];
    symbols_name(j->jit->symbols, m->rip_base + m->t.pos, name, sizeof name);
    snprintf(cold, sizeof cold, "%s cold", name);
    perf_code(j->jit->perf, block->checked, block->code_bytes, name);
    if (block->cold_bytes) perf_code(j->jit->perf, code_rx(j, m->at.cold - block->cold_bytes), block->cold_bytes, cold);
}
