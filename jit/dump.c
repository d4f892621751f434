/*
 * What was translated, side by side: `-d in_asm` the guest's instructions, `op` the uops, `out_asm` the host's.
 */
#include "jit/jit_int.h"

#include <capstone/capstone.h>

static void disassemble(struct log *log, enum log_channel channel, cs_mode mode, const u8 *bytes,
                        size_t length, u64 address)
{
    csh handle;
    cs_insn *insn;
    if (cs_open(CS_ARCH_X86, mode, &handle) != CS_ERR_OK) return;
    cs_option(handle, CS_OPT_SKIPDATA, CS_OPT_ON);
    size_t count = cs_disasm(handle, bytes, length, address, 0, &insn);
    for (size_t i = 0; i < count; i++)
        log_write(log, channel, "  %012llx  %-8s %s", (unsigned long long)insn[i].address,
                  insn[i].mnemonic, insn[i].op_str);
    if (count) cs_free(insn, count);
    cs_close(&handle);
}

static void dump_uops(struct log *log, const struct translation *t)
{
    for (unsigned n = 0; n < t->uop_count; n++) {
        const struct uop *u = &t->uops[n];
        log_write(log, LOG_OP, "  %03x %-10s %-10s size %u access %u flags def %03x use %03x live %03x",
                  u->insn->pos, uop_name(u->op), u->op == UOP_FALL ? "" : op_name(u->insn->op),
                  u->insn->size, u->access, u->fdef, u->fuse, u->flive);
    }
}

void jit_dump(struct jit_cpu *j, const struct jblock *block, const struct translation *t,
              const u8 *page)
{
    struct log *log = j->jit->log;
    if (likely(!log) || likely(!(log->mask & (1u << LOG_IN_ASM | 1u << LOG_OP | 1u << LOG_OUT_ASM)))) return;
    u64 base = j->cpu->rip & PAGE_MASK;
    if (log_on(log, LOG_IN_ASM)) {
        log_write(log, LOG_IN_ASM, "block %llx, %u instructions", (unsigned long long)(base + t->pos), t->count);
        for (unsigned n = 0; n < t->count; n++)
            disassemble(log, LOG_IN_ASM, t->code_size == CODE64 ? CS_MODE_64 : CS_MODE_32, page + t->insns[n].pos,
                        t->insns[n].length, base + t->insns[n].pos);
    }
    if (log_on(log, LOG_OP)) dump_uops(log, t);
    if (log_on(log, LOG_OUT_ASM)) {
        log_write(log, LOG_OUT_ASM, "block %llx, %u bytes and %u cold", (unsigned long long)(base + t->pos),
                  block->code_bytes, block->cold_bytes);
        disassemble(log, LOG_OUT_ASM, CS_MODE_64, block->checked, block->code_bytes,
                    (u64)(uintptr_t)block->checked);
    }
}
