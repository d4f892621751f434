/*
 * The way into a block whose instruction lies in two pages: the second must still be the one it was
 * decoded from, by the TLB and by its generation. Where it is not C decodes anew.
 */
#include "jit/x64_int.h"

#define AT_TLB(member, index) AT_INDEX(offsetof(struct vcpu, tlb) + offsetof(struct tlb, member), index, 0)

/* r9 and r10 are free, the flags saved. */
void straddle_guard(struct lower *l, const struct code_straddle *s)
{
    struct x64 *e = &l->hot;
    const struct vcpu *cpu = l->j->cpu;
    enum tlb_mode mode = tlb_fetch_mode(cpu);
    u32 site = site_new(l, SITE_STRADDLE, &l->t->uops[0]);
    l->j->sites[site].want = l->t->insns[0].length;
    x64_mov_load(e, 8, H_R10, AT_REG(REG_IP_BASE));
    if (l->t->segmented) x64_alu(e, X64_ADD, 4, H_R10, AT_SEG(CS, base));
    x64_lea(e, l->t->code_size == CODE64 ? 8 : 4, H_R10, x64_mem(H_R10, PAGE_SIZE));
    x64_mov(e, H_R9, H_R10);
    x64_shift(e, 5, 8, H_R9, 12 - 3);
    x64_alu_imm(e, X64_AND, 4, x64_reg(H_R9), (TLB_ENTRIES - 1) * 8);
    x64_alu(e, X64_CMP, 8, H_R10, AT_TLB(slow_tag[mode][0], H_R9));
    cold_call(l, x64_jcc(e, CC_NE), site);
    x64_shift(e, 4, 4, H_R9, 2);
    x64_mov_load(e, 8, H_R10, AT_TLB(entry[mode][0].slow, H_R9));
    x64_mov_imm64(e, H_R9, CODE_SLOW_MASK);
    x64_alu(e, X64_AND, 8, H_R10, x64_reg(H_R9));
    x64_mov_imm64(e, H_R9, (u64)(uintptr_t)s);
    x64_alu(e, X64_CMP, 8, H_R10, x64_mem(H_R9, offsetof(struct code_straddle, slow)));
    cold_call(l, x64_jcc(e, CC_NE), site);
    x64_mov_load(e, 8, H_R10, x64_mem(H_R9, offsetof(struct code_straddle, page)));
    x64_mov_load(e, 4, H_R10, x64_mem(H_R10, offsetof(struct code_page, generation)));
    x64_alu(e, X64_CMP, 4, H_R10, x64_mem(H_R9, offsetof(struct code_straddle, generation)));
    cold_call(l, x64_jcc(e, CC_NE), site);
    site_resume(l, site);
}
_Static_assert(sizeof(struct tlb_entry) == 32, "straddle_guard's slots");
