/* -trace-insns: every instruction to a file. The form is insn_trace.h's. */
#include "machine/debug/trace_int.h"

#include "cpu/flags.h"
#include "machine/debug/guest_memory.h"
#include "machine/debug/insn_trace.h"

#include <errno.h>
#include <stdlib.h>

#define BUFFER 65536u
#define RECORD_MOST (1 + 8 + 15 + 1 + INSN_TRACE_REGISTER_COUNT * 9)

struct cpu_insns {
    u64 next;   /* address behind the last record */
    bool known; /* NEXT is */
    u64 registers[INSN_TRACE_REGISTER_COUNT];
    size_t length;
    u8 buffer[BUFFER];
};

struct insns {
    struct watcher base;
    struct machine *machine;
    FILE *file;
    char *name;
    pthread_mutex_t mutex; /* of the file and `failed` */
    bool failed, with_registers;
    u64 start, count;      /* in instructions of the processor */
    struct cpu_insns *cpus;
};

static void flush(struct insns *t, struct cpu_insns *c, unsigned index)
{
    u8 head[2] = {0, (u8)index};
    pthread_mutex_lock(&t->mutex);
    if (c->length &&
        (fwrite(head, 1, 2, t->file) != 2 || fwrite(c->buffer, 1, c->length, t->file) != c->length))
        t->failed = true;
    pthread_mutex_unlock(&t->mutex);
    c->length = 0;
}

static void read_registers(struct vcpu *cpu, u64 *to)
{
    memcpy(to, cpu->regs, 16 * sizeof *to);
    to[INSN_TRACE_FLAGS] = cpu_eflags(cpu);
    to[INSN_TRACE_CR3] = cpu->cr3;
    to[INSN_TRACE_CS] = cpu->seg[CS].selector;
    to[INSN_TRACE_CPL] = cpu->cpl;
    to[INSN_TRACE_COUNT] = 0; /* only at a piece's start: it grows by one a record */
}

/* The registers that changed; all of them with the first record. */
static u8 *put_registers(struct cpu_insns *c, struct vcpu *cpu, u8 *p)
{
    u64 now[INSN_TRACE_REGISTER_COUNT];
    u8 *count = p++;
    *count = 0;
    read_registers(cpu, now);
    if (!c->known) now[INSN_TRACE_COUNT] = cpu->icount;
    for (unsigned i = 0; i < INSN_TRACE_REGISTER_COUNT; i++) {
        bool wanted = i == INSN_TRACE_COUNT ? !c->known : now[i] != c->registers[i] || !c->known;
        if (!wanted) continue;
        *p++ = (u8)i;
        st64(p, now[i]);
        p += 8;
        ++*count;
    }
    memcpy(c->registers, now, sizeof now);
    return *count ? p : count;
}

static void record(struct insns *t, struct cpu_insns *c, struct vcpu *cpu, u64 linear,
                   unsigned length)
{
    u8 *start = c->buffer + c->length, *p = start + 1;
    unsigned mode = cpu->code_size == CODE64 ? 2 : cpu->code_size == CODE32 ? 1 : 0;
    *start = (u8)(length | mode << INSN_TRACE_MODE_SHIFT);
    if (!c->known || linear != c->next) {
        *start |= INSN_TRACE_ADDRESS;
        st64(p, linear);
        p += 8;
    }
    memset(p, 0, length);
    guest_read(cpu, linear, p, length);
    p += length;
    if (t->with_registers) {
        u8 *behind = put_registers(c, cpu, p);
        if (behind != p) *start |= INSN_TRACE_REGISTERS;
        p = behind;
    }
    c->length = (size_t)(p - c->buffer);
    c->next = linear + length;
    c->known = true;
}

static void insns_before(struct watcher *base, struct vcpu *cpu, u64 linear,
                         const struct insn *insn)
{
    struct insns *t = (struct insns *)base;
    struct cpu_insns *c = &t->cpus[cpu->index];
    if (!insn || cpu->icount < t->start || cpu->icount - t->start >= t->count) return;
    if (c->length + RECORD_MOST > BUFFER) {
        flush(t, c, cpu->index);
        c->known = false; /* each piece can be read by itself */
    }
    record(t, c, cpu, linear, insn->length);
}

static bool number_of(const struct keyvals *kv, const char *key, u64 *value, struct error *error)
{
    const char *text = keyvals_get(kv, key);
    return !text || parse_size(text, 1, value) || error_set(error, "%s=%s: bad number", key, text);
}

struct watcher *insns_open(struct machine *m, const char *spec, struct error *error)
{
    struct keyvals kv;
    struct insns *t = calloc(1, sizeof *t);
    u8 header[INSN_TRACE_HEADER] = INSN_TRACE_MAGIC;
    if (!t || !(t->cpus = calloc(m->vcpu_count, sizeof *t->cpus))) abort();
    t->base.before = insns_before;
    t->base.each_insn = true;
    t->machine = m;
    t->count = ~(u64)0;
    pthread_mutex_init(&t->mutex, NULL);
    if (!keyvals_parse(&kv, spec, "file", error) ||
        !keyvals_only(&kv, "trace-insns", "file start count range registers", error) ||
        !number_of(&kv, "start", &t->start, error) || !number_of(&kv, "count", &t->count, error) ||
        !watcher_ranges(&t->base, &kv, error))
        return NULL;
    const char *name = keyvals_get(&kv, "file"), *registers = keyvals_get(&kv, "registers");
    t->with_registers = true;
    if (registers && !parse_on_off(registers, &t->with_registers))
        return error_set(error, "registers=%s: on or off expected", registers), NULL;
    if (!name) return error_set(error, "file= is missing"), NULL;
    t->file = fopen(name, "wb");
    if (!t->file) return error_set(error, "%s: %s", name, strerror(errno)), NULL;
    t->name = strdup(name);
    st32(header + 8, INSN_TRACE_VERSION);
    st32(header + 12, m->vcpu_count);
    t->failed = fwrite(header, 1, sizeof header, t->file) != sizeof header;
    return &t->base;
}

bool insns_close(struct watcher *base, struct error *error)
{
    struct insns *t = (struct insns *)base;
    for (unsigned i = 0; i < t->machine->vcpu_count; i++) flush(t, &t->cpus[i], i);
    bool failed = t->failed;
    if (fclose(t->file)) failed = true;
    return !failed || error_set(error, "%s: could not be written whole", t->name);
}
