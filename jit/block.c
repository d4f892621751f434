/*
 * One block: decoding its instructions under the rules for code pages (cpu/smp.h), then uops, then host
 * code. Straight-line code of one page up to the first unconditional transfer; conditional branches are
 * side exits. An instruction that straddles pages is not translated: the block ends in front of it.
 */
#include "jit/jit_int.h"

#include "cpu/smp.h"

static bool ends(const struct insn *insn)
{
    return (insn->flags & INSN_ENDS_BLOCK) && insn->op != OP_Jcc && insn->op != OP_CLI && insn->op != OP_STI;
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
    if (!t->count) return false;
    uops_select(t, page, &j->host, j->jit->options.no_vectors);
    uops_flags(t);
    if (!x64_lower(j, block, t)) return false;
    struct jit_stats *stats = &j->jit->stats;
    stats->blocks++;
    stats->insns += t->count;
    stats->host_bytes += block->code_bytes + block->cold_bytes;
    jit_dump(j, block, t, page);
    return true;
}
