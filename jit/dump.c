/*
 * What was translated, side by side: `-d in_asm` the guest's instructions, `op` the uops made of each,
 * `out_asm` the host's instructions for these.
 */
#include "jit/jit_int.h"

#include <capstone/capstone.h>

struct listing {
    struct log *log;
    csh guest, host;
    bool has_guest, has_host;
    const struct symbols *symbols;
};

static bool open_capstone(cs_mode mode, csh *handle)
{
    if (cs_open(CS_ARCH_X86, mode, handle) != CS_ERR_OK) return false;
    cs_option(*handle, CS_OPT_SKIPDATA, CS_OPT_ON);
    return true;
}

static void disassemble(const struct listing *l, enum log_channel channel, csh handle, const char *prefix,
                        const u8 *bytes, size_t length, u64 address)
{
    cs_insn *insn;
    size_t count = length ? cs_disasm(handle, bytes, length, address, 0, &insn) : 0;
    for (size_t i = 0; i < count; i++)
        log_write(l->log, channel, "%s%llx  %-8s %s", prefix, (unsigned long long)insn[i].address,
                  insn[i].mnemonic, insn[i].op_str);
    if (count) cs_free(insn, count);
}

static cs_mode mode_of(unsigned code_size)
{
    return code_size == CODE64 ? CS_MODE_64 : code_size == CODE32 ? CS_MODE_32 : CS_MODE_16;
}

void jit_list(unsigned code_size, const u8 *bytes, size_t length, u64 address)
{
    struct log to_stderr = {.mask = LISTING_CHANNELS};
    struct listing l = {.log = &to_stderr};
    if (!open_capstone(mode_of(code_size), &l.guest)) return;
    disassemble(&l, LOG_IN_ASM, l.guest, "    ", bytes, length, address);
    cs_close(&l.guest);
}

static const char *flag_letters(unsigned flags, char *text)
{
    static const struct { unsigned flag; char letter; } letters[] = {
        {FLAG_OF, 'O'}, {FLAG_SF, 'S'}, {FLAG_ZF, 'Z'}, {FLAG_AF, 'A'}, {FLAG_PF, 'P'}, {FLAG_CF, 'C'}};
    for (unsigned n = 0; n < ARRAY_SIZE(letters); n++)
        text[n] = flags & letters[n].flag ? letters[n].letter : '-';
    text[ARRAY_SIZE(letters)] = 0;
    return text;
}

static void dump_uop(struct log *log, const struct uop *u)
{
    static const char *const access[] = {"", " read", " write", " read write"};
    char def[8], use[8], live[8];
    log_write(log, LOG_OP, "    %-10s %-12s size %u%s, flags defined %s used %s live %s", uop_name(u->op),
              u->op == UOP_FALL ? "" : op_name(u->insn->op), u->insn->size, access[u->access & 3],
              flag_letters(u->fdef, def), flag_letters(u->fuse, use), flag_letters(u->flive, live));
}

static void dump_host(const struct listing *l, const u8 *code, u32 from, u32 to)
{
    if (l->has_host && to > from)
        disassemble(l, LOG_OUT_ASM, l->host, "        ", code + from, to - from, (u64)(uintptr_t)code + from);
}

/* Tier 2 emits a uop once for each context: it is listed wherever its code is. */
static void dump_body(const struct listing *l, const struct code_marks *marks, const struct jblock *block,
                      const struct translation *t, u64 base)
{
    dump_host(l, block->checked, 0, marks->count ? marks->mark[0].at : block->code_bytes);
    for (unsigned n = 0; n < marks->count; n++) {
        const struct uop *u = &t->uops[marks->mark[n].uop];
        u32 end = n + 1 < marks->count ? marks->mark[n + 1].at : block->code_bytes;
        if (l->has_guest && u->op != UOP_FALL)
            disassemble(l, LOG_IN_ASM, l->guest, "  ", t->bytes + u->insn->pos, u->insn->length, base + u->insn->pos);
        if (log_on(l->log, LOG_OP)) dump_uop(l->log, u);
        dump_host(l, block->checked, marks->mark[n].at, end);
    }
}

void jit_dump(struct jit_cpu *j, const struct jblock *block, const struct making *m)
{
    struct log *log = j->jit->log;
    const struct translation *t = &m->t;
    if (likely(!log) || likely(!(log->mask & LISTING_CHANNELS))) return;
    struct listing l = {.log = log, .symbols = j->jit->symbols};
    u64 base = m->rip_base;
    if (!log_in_ranges(log->ranges, log->range_count, base + t->pos)) return;
    char name[320];
    enum log_channel first = log_on(log, LOG_IN_ASM) ? LOG_IN_ASM : log_on(log, LOG_OP) ? LOG_OP : LOG_OUT_ASM;
    l.has_guest = log_on(log, LOG_IN_ASM) &&
                  open_capstone(mode_of(t->code_size), &l.guest);
    l.has_host = log_on(log, LOG_OUT_ASM) && open_capstone(CS_MODE_64, &l.host);
    symbols_name(l.symbols, base + t->pos, name, sizeof name);
    log_write(log, first, "cpu%u %s %s at %llx: %u instructions, %u host bytes and %u cold",
              j->cpu->index, t->loops ? "loops" : "block", name, (unsigned long long)(base + t->pos), t->count,
              block->code_bytes, block->cold_bytes);
    dump_body(&l, &m->marks, block, t, base);
    if (l.has_host && block->cold_bytes) {
        const u8 *cold = code_rx(j, m->at.cold - block->cold_bytes);
        log_write(log, LOG_OUT_ASM, "    cold:");
        dump_host(&l, cold, 0, block->cold_bytes);
    }
    if (l.has_guest) cs_close(&l.guest);
    if (l.has_host) cs_close(&l.host);
}
