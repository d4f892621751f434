/* Uops of system instructions: what 64-bit systems execute all the time. Others are helpers. */
#include "jit/jit_int.h"

static bool supervisor64(const struct translation *t)
{
    unsigned key = t->mode_key;
    return (key & (MODE_CODE_MASK | MODE_PROTECTED | MODE_USER | MODE_RING12)) == (MODE_CODE64 | MODE_PROTECTED);
}

/* A mode whose twin with or without AC has a fixed place in the jump cache. */
static bool usual(const struct translation *t)
{
    return (t->mode_key & ~(unsigned)(MODE_NO_FPU | MODE_AC)) == SPACE_KEY;
}

bool pick_system(const struct translation *t, struct uop *u, const struct insn *i)
{
    switch (i->op) {
    case OP_SWAPGS: u->op = UOP_SWAPGS; return supervisor64(t);
    case OP_PAUSE: u->op = t->alone ? UOP_NOP : UOP_PAUSE; return true;
    case OP_CLD:
    case OP_STD: u->op = UOP_DF; return true;
    case OP_STAC:
    case OP_CLAC: u->op = UOP_AC; return usual(t);
    case OP_SYSCALL:
    case OP_SYSRET: u->op = UOP_TRANSFER; return t->code_size == CODE64;
    case OP_IRET: u->op = UOP_TRANSFER; return supervisor64(t);
    case OP_MOV_CR:
        u->op = UOP_READ_CR;
        return supervisor64(t) && i->operand[0].kind == OPERAND_GPR && i->operand[1].reg <= 4 && i->operand[1].reg != 1;
    default: return false;
    }
}
