/*
 * The guest's x87 and MMX registers in the host's.
 *
 * They go there when a block wants them (x87_load) and stay, across calls to C as well: C code never
 * touches the x87, an instruction's semantics that do are found by x87_concerns. They come back
 * (x87_spill) in front of those, and before the main loop goes on. While they are there x87_live
 * is set, CR0.EM and CR0.TS are clear, every exception is masked and none is pending: nothing but a
 * memory operand keeps an instruction from completing. Under other control words blocks that want
 * the x87 are the interpreter's.
 *
 * Translated code leaves FIP, FCS, FDP and FDS in state->x87_*, as offset and segment register;
 * x87_settle makes what they mean of that before C code could change segments. FOP changes with
 * unmasked exceptions only, as in the interpreter. What processors differ in (C1 after FCOMI,
 * transcendental functions) is the host's.
 */
#include "jit/jit_int.h"

#define FCW_MASKS 0x3fu
#define FSW_ES 0x80u
#define ENVIRONMENT 28u /* bytes of an image in front of the registers */
#define IMAGE (ENVIRONMENT + 80u)

typedef void (*x87_image_fn)(u8 *image);

static void image_from_state(const struct vcpu *cpu, u8 *image)
{
    u32 tags = 0;
    for (unsigned i = 0; i < 8; i++) tags |= cpu->ftw >> i & 1 ? 0 : 3u << (i * 2);
    memset(image, 0, ENVIRONMENT);
    st32(image, cpu->fcw);
    st32(image + 4, cpu->fsw);
    st32(image + 8, tags);
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = ((cpu->fsw >> 11) + i) & 7;
        st64(image + ENVIRONMENT + i * 10, cpu->fpu_mantissa[n]);
        st16(image + ENVIRONMENT + i * 10 + 8, cpu->fpu_exponent[n]);
    }
}

static void state_from_image(struct vcpu *cpu, const u8 *image)
{
    u16 tags = ld16(image + 8);
    cpu->fcw = ld16(image);
    cpu->fsw = ld16(image + 4);
    cpu->ftw = 0;
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = ((cpu->fsw >> 11) + i) & 7;
        cpu->fpu_mantissa[n] = ld64(image + ENVIRONMENT + i * 10);
        cpu->fpu_exponent[n] = ld16(image + ENVIRONMENT + i * 10 + 8);
        if ((tags >> (i * 2) & 3) != 3) cpu->ftw |= (u8)(1u << i);
    }
}

bool x87_load(struct jit_cpu *j)
{
    const struct vcpu *cpu = j->cpu;
    u8 image[IMAGE];
    if ((cpu->mode_key & MODE_NO_FPU) || (cpu->fcw & FCW_MASKS) != FCW_MASKS || (cpu->fsw & FSW_ES))
        return false;
    image_from_state(cpu, image);
    ((x87_image_fn)(uintptr_t)j->x87_restore)(image);
    jit_near(j->cpu)->x87_live = 1;
    j->state->x87_note = (struct x87_note){X87_NOTHING, X87_NOTHING};
    return true;
}

void x87_settle(struct jit_cpu *j)
{
    struct vcpu *cpu = j->cpu;
    struct jit_state *s = j->state;
    if (s->x87_note.pos != X87_NOTHING) {
        cpu->fip = s->x87_page + s->x87_note.pos;
        cpu->fcs = cpu->seg[CS].selector;
    }
    if (s->x87_note.seg != X87_NOTHING) {
        cpu->fdp = s->x87_fdp;
        cpu->fds = cpu->seg[s->x87_note.seg].selector;
    }
    s->x87_note = (struct x87_note){X87_NOTHING, X87_NOTHING};
}

/* The host's are as C code expects them behind it: empty, in its modes. */
void x87_spill(struct jit_cpu *j)
{
    u8 image[IMAGE];
    if (!jit_near(j->cpu)->x87_live) return;
    x87_settle(j);
    ((x87_image_fn)(uintptr_t)j->x87_save)(image);
    state_from_image(j->cpu, image);
    jit_near(j->cpu)->x87_live = 0;
}

/* INSN's semantics look at the x87's registers or change them. */
bool x87_concerns(const struct insn *insn)
{
    switch (insn->op) {
    case OP_FXSAVE: case OP_FXRSTOR: case OP_XSAVE: case OP_XSAVEOPT: case OP_XSAVEC:
    case OP_XSAVES: case OP_XRSTOR: case OP_XRSTORS: return true;
    default: return insn_row(insn->row)->attributes & (ATTR_X87 | ATTR_MMX);
    }
}
