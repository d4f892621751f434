/*
 * x86-64 instruction encoder: what x64_emit.h leaves to a call.
 */
#include "jit/x64_emit.h"

void x64_modrm(struct x64 *e, unsigned reg, struct x64_rm rm) { e->p = x64_put_modrm(e->p, reg, rm); }

void x64_emit(struct x64 *e, u32 spec, unsigned reg, struct x64_rm rm) { e->p = x64_put(e->p, spec, reg, rm); }

void x64_emit_imm(struct x64 *e, u32 spec, unsigned digit, struct x64_rm rm, i32 v)
{
    bool small = v == (i8)v;
    u8 *p = x64_put(e->p, spec | (unsigned)small << 1, digit, rm);
    st32(p, (u32)v);
    e->p = p + (small ? 1 : 4);
}
