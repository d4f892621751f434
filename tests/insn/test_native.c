/*
 * The semantics against the host's own processor: every row of insns.def that a user program may
 * run in 64-bit mode, random encodings, corner-value states, memory operands on real pages of a
 * paged address space (also across pages, read-only, absent and non-canonical). Compared:
 * registers, defined flags, vector and x87 state, memory, faults. Each is run by every engine: the
 * semantics functions, the interpreter's handlers, the translator's tiers. Then validity and length
 * of random bytes.
 *
 * LENGTH=long runs 50 times as many. Arguments: an operation's name (only that; empty: all), a
 * count of rounds, a seed.
 * Flags that are undefined are compared too, but only told, not failed.
 */
#include "cpu/interp.h"
#include "machine/bus_host.h"
#include "machine/error.h"
#include "tests/insn/cases.h"
#include "tests/insn/native_tier.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>

#define VALIDITY_SHOWN 40
#define FSW_C1 0x200
#define SHOWN 3 /* failures an operation */

/* The engines: a line each. Without options: the interpreter's. */
static const struct engine {
    const char *name;
    bool handler;
    const struct jit_options *options;
} engines[] = {
    {"sem", false, NULL},
    {"handler", true, NULL},
    {"tier 1", false, &(const struct jit_options){.threshold = 1, .no_loops = true}},
    {"tier 2", false, &(const struct jit_options){.threshold = 1, .hot = 1, .no_background = true}},
};
#define ENGINES ARRAY_SIZE(engines)

struct bench {
    struct cases c; /* features: the host's, as far as we know them */
    struct tier tiers[ENGINES];
    bool absent[ENGINES];        /* no translator here */
    u8 before[NATIVE_DATA_SIZE]; /* data in front of the instruction */
    unsigned failures[OP_COUNT], runs[OP_COUNT], undefined[OP_COUNT];
    u32 undefined_flags[OP_COUNT];
};

/* --- the two processors --- */
static void host_features(struct feature_set *set)
{
    static const struct {
        u8 id;
        u32 leaf, subleaf;
        char reg[4];
        u8 bit;
    } known[] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit) {FEATURE_##id, leaf, subleaf, #reg, bit},
#include "cpu/features.def"
#undef FEATURE
    };
    *set = (struct feature_set){{0, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        unsigned r[4] = {0};
        if (!__get_cpuid_count(known[i].leaf, known[i].subleaf, &r[0], &r[1], &r[2], &r[3]))
            continue;
        if (r[known[i].reg[1] - 'A'] >> known[i].bit & 1)
            set->bits[known[i].id >> 6] |= 1ull << (known[i].id & 63);
    }
}

/* When the host's features are all known. */
static void open_tiers(struct bench *b)
{
    for (unsigned i = 0; i < ENGINES; i++) {
        if (!engines[i].options) continue;
        b->absent[i] = !tier_open(&b->tiers[i], b->c.cpu, engines[i].options, b->c.ram + GUEST_CODE,
                                  b->c.ram + GUEST_KERNEL);
        if (b->absent[i]) printf("# no %s in this build or on this host\n", engines[i].name);
    }
}

static void fill_data(struct bench *b)
{
    cases_fill(&b->c);
    memcpy((void *)NATIVE_DATA, b->c.guest_data, NATIVE_DATA_SIZE);
    native_data_ready(); /* read-only from now on */
}

/* --- comparing --- */
static bool flags_agree(struct bench *b, const struct insn *insn, const struct native_state *in, u32 host, u32 ours)
{
    u32 undefined = case_undefined(insn, in), differ = host ^ ours;
    if (differ & undefined) {
        b->undefined[insn->op]++;
        b->undefined_flags[insn->op] |= differ & undefined;
    }
    return !(differ & ~undefined);
}

static bool approximately(const u8 *host, const u8 *ours, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i += 4) {
        float h, o;
        memcpy(&h, host + i, 4);
        memcpy(&o, ours + i, 4);
        if (!memcmp(host + i, ours + i, 4)) continue;
        float error = (h - o) / h;
        if (!(error < 0x1p-10f && error > -0x1p-10f)) return false;
    }
    return true;
}

static bool fault_agrees(const struct native_fault *host, const struct native_fault *ours)
{
    if (ours->vector == GP_OR_SS) return host->vector == VECTOR_GP || host->vector == VECTOR_SS;
    if (host->vector != ours->vector) return false;
    if (host->vector == VECTOR_PF)
        return host->error == ours->error && !((host->address ^ ours->address) >> 12);
    return true;
}

static bool vectors_agree(const struct insn *insn, const struct native_fault *fault,
                          const struct native_state *h, const struct native_state *o)
{
    if (insn->op >= OP_VGATHERDPS && insn->op <= OP_VPGATHERQQ && fault->vector >= 0)
        return true; /* how far it got, and what it did to elements that were not asked for */
    if (case_approximate(insn->op))
        return approximately(h->xmm[0], o->xmm[0], 256) && approximately(h->ymm[0], o->ymm[0], 256);
    return !memcmp(h->xmm, o->xmm, 256) && !memcmp(h->ymm, o->ymm, 256);
}

static bool nearly(const u8 *h, const u8 *o)
{
    u64 h_mantissa = ld64(h), o_mantissa = ld64(o);
    i64 apart = (i64)(h_mantissa - o_mantissa);
    int binades = ld16(h + 8) - ld16(o + 8);
    if (binades == 1) return h_mantissa == 1ull << 63 && o_mantissa == ~0ull;
    if (binades == -1) return o_mantissa == 1ull << 63 && h_mantissa == ~0ull;
    return !binades && apart <= 1 && apart >= -1;
}
/* MXCSR bit 17 is AMD's misaligned mode, which we do not have. */
static bool is_foreign(const struct insn *insn, const struct native_state *host)
{
    return insn->op == OP_LDMXCSR && host->mxcsr >> 17;
}

static const char *disagreement(struct bench *b, const struct insn *insn,
                                const struct native_state *in, const struct native_state *h,
                                const struct native_state *o, const struct native_fault *hf,
                                const struct native_fault *of)
{
    if (is_foreign(insn, h)) return NULL;
    /* A near transfer to a non-canonical address: AMD faults when it fetches there. */
    bool fetch =
        hf->vector == VECTOR_GP && of->vector == -1 && h->rip == o->rip && h->rip != in->rip;
    if (!fetch && !fault_agrees(hf, of)) return "fault";
    if (case_result_undefined(insn, in)) return NULL;
    u16 ignored = 0;
    bool approximate = case_transcendental(insn->op);
    if (approximate && !case_in_range(insn, in)) return NULL;
    if (approximate) ignored = FSW_C1;
    if (memcmp(h->gpr, o->gpr, sizeof(h->gpr))) return "registers";
    if (h->rip != o->rip) return "rip";
    if (!flags_agree(b, insn, in, h->flags, o->flags)) return "flags";
    if (!vectors_agree(insn, hf, h, o)) return "vectors";
    if (h->mxcsr != o->mxcsr) return "mxcsr";
    if (h->fcw != o->fcw || ((h->fsw ^ o->fsw) & ~ignored) || h->ftw != o->ftw)
        return "x87 control";
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(h->st[i], o->st[i], 10) && !(approximate && nearly(h->st[i], o->st[i])))
            return "x87 registers";
    if (memcmp(b->c.guest_data, (void *)NATIVE_DATA, NATIVE_DATA_SIZE)) return "memory";
    return NULL;
}

/* --- telling --- */
static void show_bytes(const char *what, const u8 *bytes, unsigned n)
{
    printf(" %s", what);
    while (n--) printf("%02x", bytes[n]);
}

static void show_differences(struct bench *b, const struct native_state *in,
                             const struct native_state *h, const struct native_state *o)
{
    static const char names[16][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < 16; i++)
        if (h->gpr[i] != o->gpr[i])
            printf("#    %s: %llx, host %llx, ours %llx\n", names[i],
                   (unsigned long long)in->gpr[i], (unsigned long long)h->gpr[i],
                   (unsigned long long)o->gpr[i]);
    if (h->flags != o->flags)
        printf("#    flags: %x, host %x, ours %x\n", in->flags, h->flags, o->flags);
    if (h->rip != o->rip)
        printf("#    rip: host %llx, ours %llx\n", (unsigned long long)h->rip,
               (unsigned long long)o->rip);
    if (h->mxcsr != o->mxcsr)
        printf("#    mxcsr: %x, host %x, ours %x\n", in->mxcsr, h->mxcsr, o->mxcsr);
    if (h->fsw != o->fsw || h->fcw != o->fcw || h->ftw != o->ftw)
        printf("#    fcw fsw ftw: %x %x %x, host %x %x %x, ours %x %x %x\n", in->fcw, in->fsw,
               in->ftw, h->fcw, h->fsw, h->ftw, o->fcw, o->fsw, o->ftw);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned half = 0; half < 2; half++) {
            const u8 *hv = half ? h->ymm[i] : h->xmm[i], *ov = half ? o->ymm[i] : o->xmm[i];
            if (!memcmp(hv, ov, 16)) continue;
            printf("#    %s%u:", half ? "ymm high " : "xmm", i);
            show_bytes("", half ? in->ymm[i] : in->xmm[i], 16);
            show_bytes("host ", hv, 16);
            show_bytes("ours ", ov, 16);
            printf("\n");
        }
    for (unsigned i = 0; i < 8; i++) {
        if (!memcmp(h->st[i], o->st[i], 10)) continue;
        printf("#    st%u:", i);
        show_bytes("", in->st[i], 10);
        show_bytes("host ", h->st[i], 10);
        show_bytes("ours ", o->st[i], 10);
        printf("\n");
    }
    for (unsigned i = 0; i < NATIVE_DATA_SIZE; i += 8) {
        u64 hm = ld64((u8 *)(uintptr_t)NATIVE_DATA + i), om = ld64(b->c.guest_data + i);
        if (hm != om)
            printf("#    memory %llx: host %llx, ours %llx\n", NATIVE_DATA + i,
                   (unsigned long long)hm, (unsigned long long)om);
    }
}

static void show(struct bench *b, const struct insn *insn, const struct encoded *code,
                 const char *engine,
                 const char *what, const struct native_state *in, const struct native_state *h,
                 const struct native_state *o, const struct native_fault *hf,
                 const struct native_fault *of)
{
    printf("# %s (%s):", op_name(insn->op), engine);
    for (unsigned i = 0; i < insn->length; i++) printf(" %02x", code->bytes[i]);
    printf(": %s", what);
    if (hf->vector >= 0 || of->vector != -1)
        printf("; fault host %d(%x) %llx, ours %d(%x) %llx", hf->vector, hf->error,
               (unsigned long long)hf->address, of->vector, of->error,
               (unsigned long long)of->address);
    printf("\n");
    for (unsigned i = 0; i < 4; i++) {
        const struct operand *op = &insn->operand[i];
        if (op->kind == OPERAND_GPR)
            printf("#    [%u] %llx\n", i, (unsigned long long)in->gpr[op->reg]);
        if (op->kind == OPERAND_VECTOR) {
            printf("#    [%u]", i);
            show_bytes("", in->ymm[op->reg], 16);
            show_bytes("", in->xmm[op->reg], 16);
            printf("\n");
        }
        if (op->kind == OPERAND_MEMORY && op->size <= 16 &&
            in->gpr[insn->base < 16 ? insn->base : RAX]) {
            u64 at = insn->base < 16
                         ? in->gpr[insn->base] + (u64)insn->disp +
                               (insn->index < 16 ? in->gpr[insn->index] << insn->scale : 0)
                         : 0;
            if (at >= NATIVE_DATA && at + op->size <= NATIVE_DATA + NATIVE_DATA_SIZE) {
                printf("#    [%u] after:", i);
                show_bytes("", (const u8 *)(uintptr_t)at, op->size);
                printf("\n");
            }
        }
        if (op->kind == OPERAND_X87 || op->kind == OPERAND_MMX) {
            unsigned r = op->kind == OPERAND_X87 ? op->reg : (op->reg - (in->fsw >> 11)) & 7;
            printf("#    [%u]", i);
            show_bytes("", in->st[r], 10);
            printf("\n");
        }
    }
    if (insn_row(insn->row)->attributes & ATTR_X87) {
        printf("#    st0, st1:");
        show_bytes("", in->st[0], 10);
        show_bytes("", in->st[1], 10);
        printf("\n");
    }
    printf("#    in: rax %llx rcx %llx rdx %llx flags %x mxcsr %x fcw %x fsw %x ftw %x\n",
           (unsigned long long)in->gpr[RAX], (unsigned long long)in->gpr[RCX],
           (unsigned long long)in->gpr[RDX], in->flags, in->mxcsr, in->fcw, in->fsw, in->ftw);
    show_differences(b, in, h, o);
}

/* --- one run --- */

static bool run_on(struct bench *b, unsigned engine, const struct insn *insn,
                   const struct encoded *code, const struct native_state *in,
                   struct native_state *out, struct native_fault *fault)
{
    struct tier *tier = &b->tiers[engine];
    struct vcpu *cpu = tier->cpu ? tier->cpu : b->c.cpu;
    if (b->absent[engine]) return false;
    /* A unit of tier 2 goes on at the target, whatever lies there: test_jit has loops for these. */
    bool direct = insn->op == OP_Jcc || insn->op == OP_JMP || insn->op == OP_CALL;
    if (direct && engines[engine].options && !engines[engine].options->no_loops) return false;
    case_load(cpu, in);
    if (!tier->cpu) *fault = case_run(&b->c, insn, engines[engine].handler);
    else if (!tier_run(tier, code->bytes, insn->length, POS, fault)) return false;
    case_save(cpu, out);
    return true;
}

static void compare_on(struct bench *b, unsigned engine, const struct insn *insn,
                       const struct encoded *code, const struct native_state *in,
                       const struct native_state *host, const struct native_fault *hf)
{
    struct native_state ours;
    struct native_fault of;
    memcpy(b->c.guest_data, b->before, NATIVE_DATA_SIZE);
    if (!run_on(b, engine, insn, code, in, &ours, &of)) return;
    b->runs[insn->op]++;
    const char *what = disagreement(b, insn, in, host, &ours, hf, &of);
    if (what && b->failures[insn->op]++ < SHOWN)
        show(b, insn, code, engines[engine].name, what, in, host, &ours, hf, &of);
}

static bool run_one(struct bench *b, const struct encoding *e)
{
    struct encoded code;
    struct insn insn = {0};
    struct native_state in, host;
    if (!case_make(&b->c, e, &code, &insn, &in)) return false;
    native_code(code.bytes, insn.length, POS);
    memcpy((void *)NATIVE_DATA, b->c.guest_data, NATIVE_RW_PAGES * 4096); /* a branch's target */
    host = in;
    memcpy(b->before, b->c.guest_data, NATIVE_DATA_SIZE);
    struct native_fault hf = native_run(&host);
    for (unsigned i = 0; i < ENGINES; i++) compare_on(b, i, &insn, &code, &in, &host, &hf);
    memcpy(b->c.guest_data, (void *)NATIVE_DATA, NATIVE_DATA_SIZE);
    return true;
}

static unsigned test_semantics(struct bench *b, unsigned rounds, const char *only)
{
    unsigned failed = 0, ops = 0;
    for (unsigned i = 0; i < encodings_count; i++) {
        const struct insn_row *row = insn_row(encodings[i].row);
        if (only && strcmp(only, op_name(row->op))) continue;
        if (case_excluded(&encodings[i]) || (row->attributes & ATTR_NO64)) continue;
        if (!feature_on(&b->c.features, row->feature)) continue;
        for (unsigned done = 0, tried = 0; done < rounds && tried < rounds * 8; tried++)
            done += run_one(b, &encodings[i]);
    }
    for (unsigned op = 0; op < OP_COUNT; op++) {
        ops += b->runs[op] != 0;
        if (b->undefined[op])
            printf("# %s: undefined flags %x differ from this host's in %u of %u\n", op_name(op),
                   b->undefined_flags[op], b->undefined[op], b->runs[op]);
        if (!b->failures[op]) continue;
        failed++;
        printf("# %s: %u of %u differ\n", op_name(op), b->failures[op], b->runs[op]);
    }
    printf("# %u operations run, %u differ\n", ops, failed);
    for (unsigned i = 0; i < ENGINES; i++)
        if (b->tiers[i].declined)
            printf("# %s left %u to the interpreter\n", engines[i].name, b->tiers[i].declined);
    return failed;
}

/* --- validity and length of any bytes --- */

/* Never run: they leave, wait, or take the thread pointer away. */
static bool is_dangerous(const struct insn *insn, const u8 *bytes)
{
    switch (insn->op) {
    case OP_SYSCALL:
    case OP_SYSENTER:
    case OP_INT:
    case OP_MOV_SEG:
    case OP_POP_SEG:
    case OP_LFS:
    case OP_LGS:
    case OP_LSS:
    case OP_WRFSBASE:
    case OP_WRGSBASE:
    case OP_IRET:
    case OP_RET_FAR:
    case OP_CALL_FAR:
    case OP_JMP_FAR:
    case OP_POPF:
    case OP_XRSTOR:
    case OP_FXRSTOR:
    case OP_INT3:
    case OP_INT1: return true;
    }
    for (unsigned i = 0; i < 8; i++)
        if (bytes[i] == 0x0f && bytes[i + 1] == 0x01 && bytes[i + 2] >= 0xc0)
            return insn->op == OP_UD;
    return false;
}

/* Where the host fetches beyond the first LENGTH bytes, it says so by a fault behind the page. */
static struct native_fault run_at_page_end(const u8 *bytes, unsigned length)
{
    struct native_state s;
    memset(&s, 0, sizeof(s));
    s.mxcsr = 0x1f80;
    s.fcw = 0x37f;
    for (unsigned i = 0; i < 16; i++) s.gpr[i] = NATIVE_DATA + 0x800;
    s.rip = NATIVE_CODE + 4096 - length;
    native_code_end(bytes, length);
    return native_run(&s);
}
static bool wants_more(const struct native_fault *f)
{
    return f->vector == VECTOR_PF && (f->error & 16) && f->address == NATIVE_CODE + 4096;
}

static const char *validity(const u8 *bytes, const struct insn *insn, enum decode_status status)
{
    if (status != DECODE_OK || insn->op == OP_UD) {
        struct native_fault f = run_at_page_end(bytes, 15);
        if (status == DECODE_TOO_LONG) return f.vector == VECTOR_GP ? NULL : "is not too long";
        return f.vector == VECTOR_UD || wants_more(&f) ? NULL : "is defined";
    }
    struct native_fault whole = run_at_page_end(bytes, insn->length);
    if (whole.vector == VECTOR_UD) return "is undefined";
    if (wants_more(&whole) && !(insn->flags & INSN_ENDS_BLOCK)) return "is longer";
    if (insn->length == 1) return NULL;
    struct native_fault part = run_at_page_end(bytes, insn->length - 1);
    return wants_more(&part) ? NULL : "is shorter";
}

/* Undefined for us, but the host has it; and operations that are #UD above CPL 0. */
static bool is_hosts_own(const struct insn *insn, const u8 *bytes)
{
    switch (insn->op) {
    case OP_CLAC:
    case OP_STAC:
    case OP_MONITOR:
    case OP_MWAIT:
    case OP_RSM:
    case OP_SYSEXIT:
    case OP_SYSRET:
    case OP_MOV_CR:
    case OP_MOV_DR: return true;
    case OP_SGDT:
    case OP_SIDT:
    case OP_SLDT:
    case OP_STR:
    case OP_SMSW: return true; /* the kernel plays them */
    }
    if (bytes[0] == 0xc4 && (bytes[1] & 31) == 3 && bytes[3] <= 1)
        return true; /* VPERMQ, VPERMPD: any W */
    unsigned at = 0;
    while (at < 12 && bytes[at] != 0x0f) at++;
    return bytes[at] == 0x0f &&
           (bytes[at + 1] == 0x2b || bytes[at + 1] == 0x78 || bytes[at + 1] == 0x79); /* SSE4a */
}

/* A hypervisor may hide what the processor does all the same. */
static bool is_hidden(enum decode_status status, const u8 *bytes)
{
    static const struct feature_set all = {{~0ull, ~0ull}};
    struct insn insn;
    return status == DECODE_UNDEFINED &&
           decode_insn(&insn, bytes, 15, CODE64, 0, &all) == DECODE_OK;
}

static unsigned test_validity(struct bench *b, unsigned rounds)
{
    unsigned failed = 0, run = 0;
    for (unsigned i = 0; i < rounds; i++) {
        struct encoded code;
        struct insn insn = {0};
        encode_random(&b->c.rng, &encodings[rng_below(&b->c.rng, encodings_count)], &code);
        if ((i & 3) == 2 && code.bytes[0] == 0xc4) code.bytes[2] ^= 0x80; /* the other W */
        if (i & 1) code.bytes[rng_below(&b->c.rng, 6)] = (u8)rng_next(&b->c.rng);
        if ((i & 7) == 7)
            for (unsigned k = 0; k < 15; k++) code.bytes[k] = (u8)rng_next(&b->c.rng);
        enum decode_status status = decode_insn(&insn, code.bytes, 15, CODE64, 0, &b->c.features);
        if (is_dangerous(&insn, code.bytes) || is_hidden(status, code.bytes)) continue;
        run++;
        const char *what = validity(code.bytes, &insn, status);
        if (!what || is_hosts_own(&insn, code.bytes) || failed++ >= VALIDITY_SHOWN) continue;
        printf("#");
        for (unsigned k = 0; k < 15; k++) printf(" %02x", code.bytes[k]);
        printf(": %s, length %u, but it %s\n", op_name(insn.op), insn.length, what);
    }
    printf("# %u byte sequences run, %u differ\n", run, failed);
    memcpy(b->c.guest_data, (void *)NATIVE_DATA, NATIVE_DATA_SIZE);
    return failed;
}

/* Features that CPUID does not show but the processor has: they are tested too. */
static void probe_hidden(struct bench *b)
{
    static const struct feature_set all = {{~0ull, ~0ull}};
    for (unsigned i = 0; i < encodings_count; i++) {
        const struct insn_row *row = insn_row(encodings[i].row);
        struct encoded code;
        struct insn insn;
        if (feature_on(&b->c.features, row->feature) || case_excluded(&encodings[i])) continue;
        encode_random(&b->c.rng, &encodings[i], &code);
        if (decode_insn(&insn, code.bytes, 15, CODE64, 0, &all) != DECODE_OK) continue;
        if (insn_row(insn.row)->feature != row->feature) continue;
        if (run_at_page_end(code.bytes, insn.length).vector == VECTOR_UD) continue;
        printf("# %s works though CPUID does not say so\n", op_name(row->op));
        b->c.features.bits[row->feature >> 6] |= 1ull << (row->feature & 63);
    }
    b->c.cpu->features = b->c.features;
}

static void tell_excluded(const struct feature_set *features)
{
    for (unsigned op = 0; op < OP_COUNT; op++)
        for (unsigned i = 0; i < encodings_count; i++) {
            const struct insn_row *row = insn_row(encodings[i].row);
            if (row->op != op) continue;
            const char *why = case_excluded(&encodings[i]);
            if (!why && row->attributes & ATTR_NO64) why = "not in 64-bit mode";
            if (!why && !feature_on(features, row->feature)) why = "not on this host";
            if (!why) continue;
            printf("# not run: %s (%s)\n", op_name(op), why);
            break;
        }
}

int main(int argc, char **argv)
{
    static struct bench b;
    const char *length = getenv("LENGTH");
    unsigned rounds = length && !strcmp(length, "long") ? 2000 : 40;
    if (argc > 2) rounds = (unsigned)atoi(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct feature_set features;
    host_features(&features);
    if (!native_open() || !cases_open(&b.c, &features)) {
        printf("1..0 # SKIP the harness does not work on this host\n");
        return 0;
    }
    if (argc > 3) b.c.rng.state = strtoull(argv[3], NULL, 0);
    printf("1..2\n");
    probe_hidden(&b);
    fill_data(&b);
    open_tiers(&b);
    unsigned failed = test_semantics(&b, rounds, argc > 1 && argv[1][0] ? argv[1] : NULL);
    if (argc < 2) tell_excluded(&b.c.features);
    printf("%sok 1 - semantics\n", failed ? "not " : "");
    unsigned wrong = argc > 1 && argv[1][0] ? 0 : test_validity(&b, rounds * 150);
    printf("%sok 2 - validity and length\n", wrong ? "not " : "");
    native_close();
    return failed || wrong;
}

#else
int main(void)
{
    printf("1..0 # SKIP not an x86-64 Linux host\n");
    return 0;
}
#endif
