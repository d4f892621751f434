/*
 * Code that is not flat: 16-bit code, and 32-bit code with segments that have a base or a limit.
 *
 * A unit of such code is made for its place in the code segment: the offset of its page there and the
 * last offset the segment has are constants in it, part of what it is found by. Branches and IP wrap
 * as these say. Data accesses add the segment's base and are compared with its reach, which says in one
 * number what limit and rights allow translated code: what is beyond (and all of segments that are null,
 * expand-down, not readable) is the interpreter's.
 */
#include "jit/jit_int.h"

static bool usable(const struct segment *s)
{
    return (s->attr & (SEG_P | SEG_UNUSABLE)) == SEG_P && ((s->attr & SEG_CODE) || !(s->attr & SEG_EXPAND_DOWN));
}

void segments_look(struct jit_cpu *j)
{
    for (unsigned n = ES; n <= GS; n++) {
        const struct segment *s = &j->cpu->seg[n];
        bool code = s->attr & SEG_CODE, use = usable(s);
        u64 all = (u64)s->limit + 1;
        j->state->reach[n].read = use && (!code || (s->attr & SEG_READABLE)) ? all : 0;
        j->state->reach[n].write = use && !code && (s->attr & SEG_WRITABLE) ? all : 0;
    }
}

/* The last offset that code may be at. */
static u32 last_offset(const struct vcpu *cpu)
{
    u32 limit = cpu->seg[CS].limit;
    return cpu->code_size == CODE16 && limit > 0xffff ? 0xffff : limit;
}

u64 segment_key(const struct vcpu *cpu)
{
    return cpu_segmented(cpu) ? (u64)(u32)cpu->seg[CS].base << 32 | last_offset(cpu) : 0;
}

bool code_place(const struct vcpu *cpu, u64 *linear, struct code_place *place)
{
    *linear = cpu->rip;
    *place = (struct code_place){0};
    if (!cpu_segmented(cpu)) return true;
    *linear = (u32)cpu->seg[CS].base + cpu->rip;
    *place = (struct code_place){(u32)(cpu->rip - (*linear & (PAGE_SIZE - 1))), last_offset(cpu)};
    return cpu->rip <= place->last && (*linear | (PAGE_SIZE - 1)) <= 0xffffffffu;
}
