/* Instructions as text, by Capstone. */
#ifndef MACHINE_DEBUG_DISASM_H
#define MACHINE_DEBUG_DISASM_H

#include "machine/types.h"

struct disasm;

struct disasm *disasm_open(unsigned bits); /* 16, 32 or 64; NULL: not to be had */
void disasm_close(struct disasm *disasm);
/* The instruction that BYTES begin with, into TEXT; its length, 0 when there is none. */
unsigned disasm_one(struct disasm *disasm, const u8 *bytes, size_t length, u64 address, char *text,
                    size_t size);

#endif
