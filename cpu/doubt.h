/*
 * Following the flags that instructions leave undefined, for who compares engines or processors
 * that differ in them: bits in doubt behind an instruction, and whether any of them was looked at.
 */
#ifndef CPU_DOUBT_H
#define CPU_DOUBT_H

#include "cpu/cpu.h"

struct doubt {
    unsigned undefined; /* EFLAGS bits */
    bool used;          /* something was computed from them: registers and memory are in doubt
                           too */
};

/* INSN is about to be run. */
static inline void doubt_insn(struct doubt *d, const struct insn *insn)
{
    const struct insn_row *row = insn_row(insn->row);
    bool shift = (insn->op >= OP_ROL && insn->op <= OP_SAR) || insn->op == OP_SHLD ||
                 insn->op == OP_SHRD;
    bool all = insn->op == OP_PUSHF || insn->op == OP_INT || insn->op == OP_SYSCALL;
    if ((all ? FLAGS_ARITHMETIC : row->flags_read) & d->undefined) d->used = true;
    /* a count of zero leaves all as it was */
    if (shift) d->undefined |= row->flags_undefined | FLAG_OF;
    else d->undefined = (d->undefined & ~(unsigned)row->flags_written) | row->flags_undefined;
}

#endif
