/* Instructions as text; see disasm.h. */
#include "machine/debug/disasm.h"

#include <capstone/capstone.h>
#include <stdio.h>
#include <stdlib.h>

struct disasm {
    csh handle;
};

struct disasm *disasm_open(unsigned bits)
{
    struct disasm *d = calloc(1, sizeof *d);
    if (d && cs_open(CS_ARCH_X86, bits == 64 ? CS_MODE_64 : bits == 32 ? CS_MODE_32 : CS_MODE_16,
                     &d->handle) == CS_ERR_OK)
        return d;
    free(d);
    return NULL;
}

void disasm_close(struct disasm *d)
{
    if (!d) return;
    cs_close(&d->handle);
    free(d);
}

unsigned disasm_one(struct disasm *d, const u8 *bytes, size_t length, u64 address, char *text,
                    size_t size)
{
    cs_insn *insn;
    if (!d || !cs_disasm(d->handle, bytes, length, address, 1, &insn)) return 0;
    unsigned n = insn->size;
    snprintf(text, size, "%-8s %s", insn->mnemonic, insn->op_str);
    cs_free(insn, 1);
    return n;
}
