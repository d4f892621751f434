/*
 * Cases of instructions in 64-bit mode: random encodings of the rows of insns.def with corner-value states and memory
 * operands on real pages of a paged address space, and the semantics functions or the interpreter's handlers to run
 * them. For comparison with the host's processor (test_native.c) and with what one has answered (test_recorded.c).
 */
#ifndef TESTS_INSN_CASES_H
#define TESTS_INSN_CASES_H

#include "cpu/sem.h"
#include "machine/bus_host.h"
#include "tests/insn/encode.h"
#include "tests/insn/native.h"

#define POS 0x100 /* of the instruction in its page */
#define GP_OR_SS 100 /* vector of a non-canonical address: who delivers it looks at the segment */

/* Guest physical addresses of what is mapped where native.h says. */
enum { GUEST_CODE = 0x10000, GUEST_DATA = 0x20000, GUEST_KERNEL = 0x30000 };

struct cases {
    struct vcpu *cpu;
    struct bus *bus;
    struct log log;
    struct region region;
    u8 *ram, *guest_data;
    struct feature_set features;
    struct rng rng;
};

bool cases_open(struct cases *b, const struct feature_set *features);
void cases_fill(struct cases *b); /* the data pages, at random */

const char *case_excluded(const struct encoding *e); /* why no program can run it like this; NULL: it can */
bool case_approximate(unsigned op);   /* makers' results differ */
bool case_transcendental(unsigned op);
/* An encoding of E's and what it finds, such that every access lies where it can do no harm; false: not this time. */
bool case_make(struct cases *b, const struct encoding *e, struct encoded *code, struct insn *insn,
               struct native_state *in);

void case_load(struct vcpu *cpu, const struct native_state *s);
void case_save(struct vcpu *cpu, struct native_state *s);
struct native_fault case_run(struct cases *b, const struct insn *decoded, bool handler);

/* What the manuals leave open for these operands: flags, the whole result, x87 arguments out of range. */
u32 case_undefined(const struct insn *insn, const struct native_state *in);
bool case_result_undefined(const struct insn *insn, const struct native_state *in);
bool case_in_range(const struct insn *insn, const struct native_state *in);

#endif
