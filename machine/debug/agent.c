/*
 * Conditions of breakpoints, worked out where the breakpoint is met: gdb's agent expressions.
 * Specification: "Debugging with GDB", appendix "The GDB Agent Expression Mechanism".
 *
 * The bytecode is a client's and so hostile: every operand, stack slot and jump is checked and the
 * number of steps is bounded. What can't be worked out counts as true: the user sees the stop.
 *
 * Not there: floating point, tracing, printf, trace variables. Memory is RAM and ROM only.
 */
#include "machine/debug/gdb_int.h"
#include "machine/debug/guest_memory.h"

#include <stdlib.h>

#define STACK 64u
#define STEPS 10000u
#define EXPRESSIONS_MAX 32u

struct agent {
    unsigned count;
    struct { unsigned from, length; } expression[EXPRESSIONS_MAX];
    u8 code[];
};

struct run {
    struct vcpu *cpu;
    const u8 *code;
    unsigned length, pc;
    u64 stack[STACK];
    unsigned depth;
};

enum {
    OP_ADD_ = 0x02, OP_SUB_, OP_MUL_, OP_DIV_SIGNED, OP_DIV_UNSIGNED, OP_REM_SIGNED,
    OP_REM_UNSIGNED, OP_LSH,
    OP_RSH_SIGNED, OP_RSH_UNSIGNED, OP_LOG_NOT = 0x0e, OP_BIT_AND, OP_BIT_OR, OP_BIT_XOR,
    OP_BIT_NOT,
    OP_EQUAL, OP_LESS_SIGNED, OP_LESS_UNSIGNED, OP_EXT, OP_REF8, OP_REF16, OP_REF32, OP_REF64,
    OP_IF_GOTO = 0x20, OP_GOTO, OP_CONST8, OP_CONST16, OP_CONST32, OP_CONST64, OP_REG, OP_END,
    OP_DUP, OP_POP_,
    OP_ZERO_EXT, OP_SWAP, OP_PICK = 0x32, OP_ROT,
};

/* --- pieces --- */

static bool push(struct run *r, u64 value)
{
    if (r->depth == STACK) return false;
    r->stack[r->depth++] = value;
    return true;
}

/* N bytes, most significant first. */
static bool operand(struct run *r, unsigned n, u64 *value)
{
    if (r->length - r->pc < n) return false;
    *value = 0;
    while (n--) *value = *value << 8 | r->code[r->pc++];
    return true;
}

static bool jump(struct run *r, u64 to)
{
    if (to >= r->length) return false;
    r->pc = (unsigned)to;
    return true;
}

static bool divide(u64 a, u64 b, unsigned op, u64 *value)
{
    if (!b) return false;
    bool overflow = (i64)b == -1; /* of the least number, too */
    switch (op) {
    case OP_DIV_SIGNED: *value = overflow ? -a : (u64)((i64)a / (i64)b); return true;
    case OP_DIV_UNSIGNED: *value = a / b; return true;
    case OP_REM_SIGNED: *value = overflow ? 0 : (u64)((i64)a % (i64)b); return true;
    default: *value = a % b; return true;
    }
}

/* The operations with two values. */
static bool binary(u64 a, u64 b, unsigned op, u64 *value)
{
    switch (op) {
    case OP_ADD_: *value = a + b; return true;
    case OP_SUB_: *value = a - b; return true;
    case OP_MUL_: *value = a * b; return true;
    case OP_LSH: *value = b < 64 ? a << b : 0; return true;
    case OP_RSH_SIGNED: *value = (u64)((i64)a >> (b < 63 ? b : 63)); return true;
    case OP_RSH_UNSIGNED: *value = b < 64 ? a >> b : 0; return true;
    case OP_BIT_AND: *value = a & b; return true;
    case OP_BIT_OR: *value = a | b; return true;
    case OP_BIT_XOR: *value = a ^ b; return true;
    case OP_EQUAL: *value = a == b; return true;
    case OP_LESS_SIGNED: *value = (i64)a < (i64)b; return true;
    case OP_LESS_UNSIGNED: *value = a < b; return true;
    default: return divide(a, b, op, value);
    }
}

static bool is_binary(unsigned op)
{
    return (op >= OP_ADD_ && op <= OP_RSH_UNSIGNED) || (op >= OP_BIT_AND && op <= OP_BIT_XOR) ||
           (op >= OP_EQUAL && op <= OP_LESS_UNSIGNED);
}

static bool extend(struct run *r, bool sign)
{
    u64 bits, *top = &r->stack[r->depth - 1];
    if (!operand(r, 1, &bits) || !bits) return false;
    if (bits >= 64) return true;
    unsigned shift = 64 - (unsigned)bits;
    *top = sign ? (u64)((i64)(*top << shift) >> shift) : *top << shift >> shift;
    return true;
}

static bool load(struct run *r, unsigned size)
{
    u8 bytes[8] = {0};
    u64 *top = &r->stack[r->depth - 1];
    if (guest_read(r->cpu, *top, bytes, size) != size) return false;
    *top = ld64(bytes);
    return true;
}

static bool push_register(struct run *r)
{
    u8 bytes[GDB_REG_BYTES] = {0};
    u64 n;
    return operand(r, 2, &n) && gdb_reg_get(r->cpu, (unsigned)n, bytes) && push(r, ld64(bytes));
}

static bool rotate(struct run *r)
{
    u64 *s = &r->stack[r->depth - 3], a = s[0];
    s[0] = s[2], s[2] = s[1], s[1] = a;
    return true;
}

static unsigned values_needed(unsigned op)
{
    if (is_binary(op) || op == OP_SWAP) return 2;
    if (op == OP_ROT) return 3;
    return (op >= OP_LOG_NOT && op <= OP_IF_GOTO) || (op >= OP_END && op <= OP_ZERO_EXT);
}

/* One operation; false: can't be worked out. */
static bool step(struct run *r, unsigned op)
{
    u64 value, *top = r->depth ? &r->stack[r->depth - 1] : NULL;
    if (r->depth < values_needed(op)) return false;
    if (is_binary(op)) {
        r->depth--;
        return binary(top[-1], top[0], op, &top[-1]);
    }
    switch (op) {
    case OP_LOG_NOT: *top = !*top; return true;
    case OP_BIT_NOT: *top = ~*top; return true;
    case OP_EXT: return extend(r, true);
    case OP_ZERO_EXT: return extend(r, false);
    case OP_REF8: return load(r, 1);
    case OP_REF16: return load(r, 2);
    case OP_REF32: return load(r, 4);
    case OP_REF64: return load(r, 8);
    case OP_IF_GOTO: return operand(r, 2, &value) && (!r->stack[--r->depth] || jump(r, value));
    case OP_GOTO: return operand(r, 2, &value) && jump(r, value);
    case OP_CONST8: return operand(r, 1, &value) && push(r, value);
    case OP_CONST16: return operand(r, 2, &value) && push(r, value);
    case OP_CONST32: return operand(r, 4, &value) && push(r, value);
    case OP_CONST64: return operand(r, 8, &value) && push(r, value);
    case OP_REG: return push_register(r);
    case OP_DUP: return push(r, *top);
    case OP_POP_: r->depth--; return true;
    case OP_SWAP: value = top[0], top[0] = top[-1], top[-1] = value; return true;
    case OP_PICK: return operand(r, 1, &value) && value < r->depth && push(r, top[-(i64)value]);
    case OP_ROT: return rotate(r);
    default: return false;
    }
}

static bool is_true(const struct agent *agent, unsigned n, struct vcpu *cpu)
{
    struct run r = {.cpu = cpu, .code = agent->code + agent->expression[n].from,
                    .length = agent->expression[n].length};
    for (unsigned steps = 0; steps < STEPS && r.pc < r.length; steps++) {
        unsigned op = r.code[r.pc++];
        if (op == OP_END) return !r.depth || r.stack[r.depth - 1];
        if (!step(&r, op)) return true;
    }
    return true;
}

bool agent_true(void *opaque, struct vcpu *cpu)
{
    const struct agent *agent = opaque;
    for (unsigned n = 0; n < agent->count; n++)
        if (is_true(agent, n, cpu)) return true;
    return false;
}

/* --- from a packet --- */

void *agent_parse(const char **at)
{
    struct agent *agent = calloc(1, sizeof *agent + strlen(*at) / 2);
    unsigned used = 0;
    if (!agent) return NULL;
    while (gdb_skip(at, 'X')) {
        u64 length;
        if (agent->count == EXPRESSIONS_MAX || !gdb_number(at, &length) || !gdb_skip(at, ',') ||
            !length || length > PACKET_MAX ||
            gdb_unhex(*at, agent->code + used, (unsigned)length) != (int)length) {
            free(agent);
            return NULL;
        }
        agent->expression[agent->count].from = used;
        agent->expression[agent->count++].length = (unsigned)length;
        used += (unsigned)length;
        *at += length * 2;
        gdb_skip(at, ';'); /* gdb writes one in between, or not */
    }
    return agent;
}
