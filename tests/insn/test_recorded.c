/*
 * The semantics and the interpreter's handlers against what a processor has answered: recorded.def has a digest of
 * each operation's results (registers, defined flags, vector and x87 state, memory, faults) over cases that are the
 * same on every host. For hosts that are no x86-64 and so can't run test_native.
 *
 * With the argument "record", on an x86-64 host, prints recorded.def's lines from that host's processor; operations
 * whose results we don't share there are left out and named, for test_native to look into.
 */
#include "tests/insn/cases.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 12u /* an encoding */

enum runner { RUN_SEM, RUN_HANDLER, RUN_HOST };

static const struct { const char *name; u64 digest; } recorded[] = {
#define RECORDED(name, digest) {#name, digest},
#include "tests/insn/recorded.def"
#undef RECORDED
};

static u8 pristine[NATIVE_DATA_SIZE];

static void mix(u64 *digest, u64 value)
{
    for (unsigned i = 0; i < 8; i++, value >>= 8) *digest = (*digest ^ (value & 0xff)) * 0x100000001b3ull;
}
static void mix_bytes(u64 *digest, const u8 *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) *digest = (*digest ^ bytes[i]) * 0x100000001b3ull;
}

static void mix_fault(u64 *digest, const struct native_fault *fault)
{
    bool either = fault->vector == GP_OR_SS || fault->vector == VECTOR_SS;
    mix(digest, (u64)(i64)(either ? VECTOR_GP : fault->vector));
    if (fault->vector != VECTOR_PF) return;
    mix(digest, fault->error);
    mix(digest, fault->address >> 12);
}

static void mix_state(u64 *digest, const struct insn *insn, const struct native_state *in,
                      const struct native_state *out, bool faulted)
{
    bool gather = insn->op >= OP_VGATHERDPS && insn->op <= OP_VPGATHERQQ;
    for (unsigned i = 0; i < 16; i++) mix(digest, out->gpr[i]);
    mix(digest, out->rip);
    mix(digest, out->flags & ~case_undefined(insn, in));
    if (!(gather && faulted)) {
        mix_bytes(digest, out->xmm[0], sizeof out->xmm);
        mix_bytes(digest, out->ymm[0], sizeof out->ymm);
    }
    mix(digest, out->mxcsr);
    mix(digest, (u64)out->fcw << 32 | (u64)out->fsw << 8 | out->ftw);
    for (unsigned i = 0; i < 8; i++) mix_bytes(digest, out->st[i], 10);
}

static void host_run(const struct cases *b, const struct encoded *code, const struct insn *insn,
                     struct native_state *state, struct native_fault *fault)
{
    native_code(code->bytes, insn->length, POS);
    memcpy((void *)(uintptr_t)NATIVE_DATA, b->guest_data, NATIVE_RW_PAGES * 4096);
    *fault = native_run(state);
    memcpy(b->guest_data, (void *)(uintptr_t)NATIVE_DATA, NATIVE_DATA_SIZE);
}

static bool one(struct cases *b, const struct encoding *e, enum runner runner, u64 *digest)
{
    struct encoded code;
    struct insn insn = {0};
    struct native_state in, out;
    struct native_fault fault;
    memcpy(b->guest_data, pristine, NATIVE_DATA_SIZE);
    if (!case_make(b, e, &code, &insn, &in)) return false;
    if (case_result_undefined(&insn, &in)) return false;
    out = in;
    if (runner == RUN_HOST) {
        host_run(b, &code, &insn, &out, &fault);
    } else {
        case_load(b->cpu, &in);
        fault = case_run(b, &insn, runner == RUN_HANDLER);
        case_save(b->cpu, &out);
    }
    mix_fault(digest, &fault);
    mix_state(digest, &insn, &in, &out, fault.vector >= 0);
    mix_bytes(digest, b->guest_data, NATIVE_DATA_SIZE);
    return true;
}

/* Of operation OP's cases; 0: it has none. */
static u64 digest_of(struct cases *b, unsigned op, enum runner runner)
{
    u64 digest = 0xcbf29ce484222325ull, first = digest;
    const char *name = op_name(op);
    mix_bytes(&digest, (const u8 *)name, (unsigned)strlen(name));
    b->rng.state = digest;
    for (unsigned i = 0; i < encodings_count; i++) {
        const struct insn_row *row = insn_row(encodings[i].row);
        if (row->op != op || case_excluded(&encodings[i]) || (row->attributes & ATTR_NO64)) continue;
        for (unsigned done = 0, tried = 0; done < ROUNDS && tried < ROUNDS * 8; tried++)
            if (one(b, &encodings[i], runner, &digest)) done++, first = 0;
    }
    return first ? 0 : digest;
}

static int record(struct cases *b)
{
    if (!native_open()) {
        fprintf(stderr, "test_recorded: no x86-64 processor here\n");
        return 1;
    }
    memcpy((void *)(uintptr_t)NATIVE_DATA, pristine, NATIVE_DATA_SIZE);
    native_data_ready();
    for (unsigned op = 0; op < OP_COUNT; op++) {
        if (case_approximate(op) || case_transcendental(op)) continue;
        u64 host = digest_of(b, op, RUN_HOST);
        if (!host) continue;
        bool same = host == digest_of(b, op, RUN_SEM) && host == digest_of(b, op, RUN_HANDLER);
        if (same) printf("RECORDED(%s, 0x%016llxull)\n", op_name(op), (unsigned long long)host);
        else fprintf(stderr, "not recorded: %s\n", op_name(op));
    }
    native_close();
    return 0;
}

static unsigned op_by_name(const char *name)
{
    unsigned op = 0;
    while (op < OP_COUNT && strcmp(op_name(op), name)) op++;
    return op;
}

int main(int argc, char **argv)
{
    static struct cases b;
    static const struct feature_set all = {{~0ull, ~0ull}};
    unsigned failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!cases_open(&b, &all)) abort();
    cases_fill(&b);
    memcpy(pristine, b.guest_data, NATIVE_DATA_SIZE);
    if (argc > 1 && !strcmp(argv[1], "record")) return record(&b);
    printf("1..1\n");
    for (unsigned i = 0; i < ARRAY_SIZE(recorded); i++) {
        unsigned op = op_by_name(recorded[i].name);
        bool sem = op < OP_COUNT && digest_of(&b, op, RUN_SEM) == recorded[i].digest;
        bool handler = op < OP_COUNT && digest_of(&b, op, RUN_HANDLER) == recorded[i].digest;
        if (sem && handler) continue;
        failed++;
        printf("# %s: %s%s not as recorded\n", recorded[i].name, sem ? "" : "sem", handler ? "" : " handler");
    }
    printf("# %u operations, %u differ\n", (unsigned)ARRAY_SIZE(recorded), failed);
    printf("%sok 1 - as a processor has answered\n", failed ? "not " : "");
    return failed != 0;
}
