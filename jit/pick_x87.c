/*
 * x87 instructions to uops: the guest's own encoding, since host = guest. What saves or loads the
 * environment as an image of this processor's format, and decimal numbers, are helpers.
 */
#include "jit/jit_int.h"

#define NO 0xff

static bool pick_memory(struct uop *u, const struct insn *i, unsigned size, unsigned digit)
{
    switch (i->op) {
    case OP_FLDENV: case OP_FNSTENV: case OP_FRSTOR: case OP_FNSAVE: case OP_FBLD: case OP_FBSTP:
        return false;
    case OP_FST: case OP_FSTP: case OP_FIST: case OP_FISTP: case OP_FISTTP: case OP_FNSTCW:
    case OP_FNSTSW: u->access = UOP_WRITE; break;
    default: u->access = UOP_READ;
    }
    u->msize = (u8)size;
    u->digit = (u8)digit;
    return size == 2 || size == 4 || size == 8 || size == 10;
}

/* B: the instruction's bytes behind its prefixes. */
bool pick_x87(struct uop *u, const struct insn *i, const u8 *b)
{
    u->op = UOP_X87;
    u->opcode = b[0];
    u->digit = NO;
    u->wants_x87 = true;
    if (i->op == OP_FWAIT) return true;
    u->raw_rm = b[1];
    for (unsigned n = 0; n < 2; n++)
        if (i->operand[n].kind == OPERAND_MEMORY)
            return pick_memory(u, i, i->operand[n].size, b[1] >> 3 & 7);
    return true;
}
