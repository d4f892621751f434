/*
 * One block: decoding its instructions under the rules for code pages (cpu/smp.h), then uops, then host
 * code. Straight-line code of one page up to the first unconditional transfer; conditional branches are
 * side exits. An instruction that straddles pages is a block of its own.
 */
#include "jit/jit_int.h"

#include "cpu/smp.h"

static bool ends(const struct insn *insn)
{
    return (insn->flags & INSN_ENDS_BLOCK) && insn->op != OP_Jcc && insn->op != OP_CLI && insn->op != OP_STI;
}

/* The instruction at t->pos, which goes on in the next page. */
static bool straddle_decode(struct jit_cpu *j, struct translation *t, const u8 *page)
{
    if (j->straddle_count == STRADDLE_LIMIT) return false;
    struct code_straddle *s = &j->straddles[j->straddle_count];
    u64 next = (j->cpu->rip & PAGE_MASK) + PAGE_SIZE;
    if (j->cpu->code_size != CODE64) next = (u32)next;
    if (!code_decode_straddle(j->cpu, t->insns, page, t->pos, next, s) ||
        t->pos + t->insns[0].length <= PAGE_SIZE)
        return false;
    memcpy(t->bytes + t->pos, s->bytes, sizeof(s->bytes));
    t->straddle = s;
    t->count = 1;
    return true;
}

/* BLOCK's generation was read before; the page's bytes are at PAGE. */
bool jit_translate(struct jit_cpu *j, struct jblock *block, const u8 *page, unsigned pos)
{
    struct vcpu *cpu = j->cpu;
    struct translation *t = &j->work;
    t->pos = pos;
    t->count = 0;
    t->code_size = cpu->code_size;
    t->stack_size = cpu->stack_size;
    t->mode_key = cpu->mode_key;
    t->vectors = t->avx = t->x87 = false;
    while (t->count < BLOCK_MAX && pos < PAGE_SIZE) {
        struct insn *insn = &t->insns[t->count];
        if (!code_decode(cpu, insn, page, pos)) break;
        pos += insn->length;
        t->count++;
        if (ends(insn)) break;
    }
    t->straddle = NULL;
    if (!t->count) {
        if (!straddle_decode(j, t, page)) return false;
        page = t->bytes;
    }
    uops_select(t, page, &j->host, j->jit->options.no_vectors);
    uops_flags(t);
    if (!x64_lower(j, block, t)) return false;
    if ((block->straddle = t->straddle)) j->straddle_count++;
    struct jit_stats *stats = &j->jit->stats;
    stats->blocks++;
    stats->insns += t->count;
    stats->host_bytes += block->code_bytes + block->cold_bytes;
    jit_dump(j, block, t, page);
    return true;
}
