/*
 * Prints what -trace-insns wrote: lyrebird-trace [-r] [-a] [-c CPU] [-n COUNT] FILE. -r: with the
 * registers each instruction changed; -a: only addresses. The file's form is
 * machine/debug/insn_trace.h's; it is not trusted.
 */
#include "machine/debug/disasm.h"
#include "machine/debug/insn_trace.h"
#include "machine/types.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CPUS 256

struct reader {
    FILE *file;
    struct disasm *disasm[3];
    unsigned cpu;
    u64 next[CPUS];
    bool registers, addresses;
    int only;              /* a processor's number; -1: all */
    u64 left;
};

static void complain(const char *what)
{
    fprintf(stderr, "lyrebird-trace: %s\n", what);
    exit(1);
}

static bool get(struct reader *r, void *to, size_t n) { return fread(to, 1, n, r->file) == n; }

static void must_get(struct reader *r, void *to, size_t n)
{
    if (!get(r, to, n)) complain("the file ends within a record");
}

/* What the instruction before did. */
static void put_registers(struct reader *r, bool shown)
{
    static const char *const names[] = INSN_TRACE_NAMES;
    u8 count, number, bytes[8];
    must_get(r, &count, 1);
    for (unsigned i = 0; i < count; i++) {
        must_get(r, &number, 1);
        must_get(r, bytes, 8);
        if (number >= INSN_TRACE_REGISTER_COUNT) complain("an unknown register");
        if (shown && r->registers)
            printf("%s%s=%" PRIx64, i ? " " : "    ", names[number], (u64)ld64(bytes));
    }
    if (shown && r->registers && count) printf("\n");
}

static void put_insn(struct reader *r, u64 address, const u8 *bytes, unsigned length, unsigned mode)
{
    char text[160] = "(bad)";
    if (r->addresses) {
        printf("%016" PRIx64 "\n", address);
        return;
    }
    disasm_one(r->disasm[mode], bytes, length, address, text, sizeof text);
    printf("%u %016" PRIx64 " ", r->cpu, address);
    for (unsigned i = 0; i < length; i++) printf(" %02x", bytes[i]);
    printf("%*s %s\n", length < 8 ? (int)(8 - length) * 3 : 0, "", text);
}

static void one_insn(struct reader *r, u8 head)
{
    u8 bytes[15], number[8];
    unsigned length = head & INSN_TRACE_LENGTH, mode = head >> INSN_TRACE_MODE_SHIFT & 3;
    bool shown = r->only < 0 || (unsigned)r->only == r->cpu;
    if (mode == 3) complain("an unknown kind of record");
    if (head & INSN_TRACE_ADDRESS) must_get(r, number, 8), r->next[r->cpu] = ld64(number);
    must_get(r, bytes, length);
    if (head & INSN_TRACE_REGISTERS) put_registers(r, shown);
    if (shown) put_insn(r, r->next[r->cpu], bytes, length, mode), r->left--;
    r->next[r->cpu] += length;
}

static void read_all(struct reader *r)
{
    u8 header[INSN_TRACE_HEADER], head;
    if (!get(r, header, sizeof header) || memcmp(header, INSN_TRACE_MAGIC, 8))
        complain("not an instruction trace");
    if (ld32(header + 8) != INSN_TRACE_VERSION) complain("a trace of another version");
    while (r->left && get(r, &head, 1)) {
        if (head & INSN_TRACE_LENGTH) {
            one_insn(r, head);
            continue;
        }
        must_get(r, &head, 1);
        r->cpu = head;
    }
}

static void usage(void)
{
    fprintf(stderr, "usage: lyrebird-trace [-r] [-a] [-c CPU] [-n COUNT] FILE\n");
    exit(1);
}

int main(int argc, char **argv)
{
    static struct reader r = {.only = -1, .left = ~(u64)0};
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "-r")) r.registers = true;
        else if (!strcmp(argv[i], "-a")) r.addresses = true;
        else if (!strcmp(argv[i], "-c") && i + 1 < argc) r.only = atoi(argv[++i]);
        else if (!strcmp(argv[i], "-n") && i + 1 < argc) r.left = strtoull(argv[++i], NULL, 0);
        else usage();
    }
    if (i + 1 != argc) usage();
    if (!(r.file = fopen(argv[i], "rb"))) complain("the file cannot be opened");
    for (unsigned mode = 0; mode < 3; mode++) r.disasm[mode] = disasm_open(16u << mode);
    read_all(&r);
    if (fflush(stdout)) complain("standard output cannot be written");
    return 0;
}
