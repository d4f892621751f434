/*
 * Saving and restoring the x87, SSE and AVX state: FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC,
 * XSAVES, XRSTOR, XRSTORS.
 *
 * Specification: Intel SDM vol. 1 chapters 10.5 and 13. XINUSE is exact: a component counts as
 * unused when its registers hold their initial values. Not modelled: XSAVEOPT's and XSAVES'
 * modified optimisation (allowed), components of AVX-512 (in the table, not yet available).
 */
#include "cpu/xsave.h"
#include "cpu/simd.h"

#define EFER_FFXSR (1u << 14)
#define MXCSR_OFFSET 24u
#define XMM_OFFSET 160u
#define HEADER_OFFSET XSAVE_LEGACY_SIZE
#define EXTENDED_OFFSET (XSAVE_LEGACY_SIZE + XSAVE_HEADER_SIZE)
#define AREA_MAX 2688u /* the standard format with every component of the table */

// clang-format off
const struct xsave_component xsave_component[XSAVE_COMPONENTS] = {
    /*                   size  offset aligned supervisor available feature */
    [XSAVE_X87]      = { 160,     0,  false,  false,     true,     FEATURE_FPU },
    [XSAVE_SSE]      = { 256,   160,  false,  false,     true,     FEATURE_SSE },
    [XSAVE_AVX]      = { 256,   576,  false,  false,     true,     FEATURE_AVX },
    [XSAVE_OPMASK]   = {  64,  1088,  false,  false,     false,    FEATURE_NONE },
    [XSAVE_ZMM_HIGH] = { 512,  1152,  false,  false,     false,    FEATURE_NONE },
    [XSAVE_HIGH_ZMM] = { 1024, 1664,  false,  false,     false,    FEATURE_NONE },
};
// clang-format on

static u64 components_of(const struct feature_set *features, bool supervisor)
{
    u64 mask = 0;
    for (unsigned i = 0; i < XSAVE_COMPONENTS; i++) {
        const struct xsave_component *c = &xsave_component[i];
        if (c->size && c->available && c->supervisor == supervisor &&
            feature_on(features, c->feature))
            mask |= XSAVE_BIT(i);
    }
    return mask;
}
u64 xsave_user_components(const struct feature_set *features)
{
    return components_of(features, false) | XSAVE_BIT(XSAVE_X87);
}
u64 xsave_supervisor_components(const struct feature_set *features)
{
    return components_of(features, true);
}

/* Where component N lies in an area whose XCOMP_BV is LAYOUT, or in the standard format. */
static u32 component_offset(unsigned n, u64 layout, bool compacted)
{
    if (!compacted || n < 2) return xsave_component[n].offset;
    u32 at = EXTENDED_OFFSET;
    for (unsigned i = 2;; i++) {
        if (i < n && !(layout & XSAVE_BIT(i))) continue;
        if (xsave_component[i].aligned) at = (at + 63) & ~63u;
        if (i == n) return at;
        at += xsave_component[i].size;
    }
}

u32 xsave_area_size(u64 components, bool compacted)
{
    u32 size = EXTENDED_OFFSET;
    for (unsigned i = 2; i < XSAVE_COMPONENTS; i++)
        if (components & XSAVE_BIT(i)) {
            u32 end = component_offset(i, components, compacted) + xsave_component[i].size;
            if (end > size) size = end;
        }
    return size;
}

/* --- images, in guest byte order --- */
static unsigned vector_count(const struct vcpu *cpu) { return cpu_code64(cpu) ? 16 : 8; }

/* Bytes 0 to 23 and 32 to 159. WIDE: 64-bit pointers. */
static void x87_to_image(const struct vcpu *cpu, u8 *image, bool wide)
{
    st16(image, cpu->fcw);
    st16(image + 2, cpu->fsw);
    image[4] = cpu->ftw;
    image[5] = 0;
    st16(image + 6, cpu->fop & 0x7ff);
    if (wide) {
        st64(image + 8, cpu->fip);
        st64(image + 16, cpu->fdp);
    } else {
        st64(image + 8, (u32)cpu->fip | (u64)cpu->fcs << 32);
        st64(image + 16, (u32)cpu->fdp | (u64)cpu->fds << 32);
    }
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = (i + (cpu->fsw >> 11)) & 7;
        st64(image + 32 + i * 16, cpu->fpu_mantissa[n]);
        st64(image + 40 + i * 16, cpu->fpu_exponent[n]);
    }
}

static void x87_from_image(struct vcpu *cpu, const u8 *image, bool wide)
{
    cpu->fcw = (ld16(image) & 0x1f3f) | 0x40;
    u16 fsw = ld16(image + 2) & 0x7f7f;
    if (fsw & ~cpu->fcw & 0x3f) fsw |= 0x8080; /* ES and B follow from the rest */
    cpu->fsw = fsw;
    cpu->ftw = image[4];
    cpu->fop = ld16(image + 6) & 0x7ff;
    cpu->fip = wide ? ld64(image + 8) : ld32(image + 8);
    cpu->fdp = wide ? ld64(image + 16) : ld32(image + 16);
    cpu->fcs = wide ? 0 : ld16(image + 12);
    cpu->fds = wide ? 0 : ld16(image + 20);
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = (i + (fsw >> 11)) & 7;
        cpu->fpu_mantissa[n] = ld64(image + 32 + i * 16);
        cpu->fpu_exponent[n] = ld16(image + 40 + i * 16);
    }
}

static void x87_initialise(struct vcpu *cpu)
{
    cpu->fcw = 0x37f;
    cpu->fsw = 0;
    cpu->ftw = 0;
    cpu->fop = cpu->fcs = cpu->fds = 0;
    cpu->fip = cpu->fdp = 0;
    memset(cpu->fpu_mantissa, 0, sizeof(cpu->fpu_mantissa));
    memset(cpu->fpu_exponent, 0, sizeof(cpu->fpu_exponent));
}

/* Quadwords FROM and FROM + 1 of each vector register; image NULL: zeroes. */
static void vectors_to_image(struct vcpu *cpu, u8 *image, unsigned from)
{
    for (unsigned n = 0; n < vector_count(cpu); n++)
        for (unsigned i = 0; i < 2; i++) st64(image + n * 16 + i * 8, cpu_vec(cpu, n)->q[from + i]);
}
static void vectors_from_image(struct vcpu *cpu, const u8 *image, unsigned from)
{
    for (unsigned n = 0; n < vector_count(cpu); n++)
        for (unsigned i = 0; i < 2; i++)
            cpu_vec(cpu, n)->q[from + i] = image ? ld64(image + n * 16 + i * 8) : 0;
}

static void component_to_image(struct vcpu *cpu, unsigned n, u8 *image, bool wide)
{
    switch (n) {
    case XSAVE_X87: x87_to_image(cpu, image, wide); break;
    case XSAVE_SSE: vectors_to_image(cpu, image, 0); break;
    case XSAVE_AVX: vectors_to_image(cpu, image, 2); break;
    }
}
/* IMAGE NULL: the initial configuration. */
static void component_from_image(struct vcpu *cpu, unsigned n, const u8 *image, bool wide)
{
    switch (n) {
    case XSAVE_X87:
        if (image) x87_from_image(cpu, image, wide);
        else x87_initialise(cpu);
        break;
    case XSAVE_SSE: vectors_from_image(cpu, image, 0); break;
    case XSAVE_AVX: vectors_from_image(cpu, image, 2); break;
    }
}

/* --- XINUSE --- */
static bool x87_in_use(const struct vcpu *cpu)
{
    if (cpu->fcw != 0x37f || cpu->fsw || cpu->ftw || cpu->fop || cpu->fip || cpu->fdp || cpu->fcs ||
        cpu->fds)
        return true;
    for (unsigned i = 0; i < 8; i++)
        if (cpu->fpu_mantissa[i] || cpu->fpu_exponent[i]) return true;
    return false;
}
static bool vectors_in_use(const struct vcpu *cpu, unsigned from)
{
    u64 any = 0;
    for (unsigned n = 0; n < vector_count(cpu); n++)
        any |= cpu->zmm[n * 8 + from] | cpu->zmm[n * 8 + from + 1];
    return any;
}
u64 xsave_components_in_use(const struct vcpu *cpu)
{
    return (x87_in_use(cpu) ? XSAVE_BIT(XSAVE_X87) : 0) |
           (vectors_in_use(cpu, 0) ? XSAVE_BIT(XSAVE_SSE) : 0) |
           (vectors_in_use(cpu, 2) ? XSAVE_BIT(XSAVE_AVX) : 0);
}

/* --- pieces of an area that are written together or not at all --- */
struct pieces {
    u8 image[AREA_MAX];
    struct { u32 from, length; } piece[XSAVE_COMPONENTS + 4];
    unsigned count;
};
static u8 *pieces_add(struct pieces *p, u32 from, u32 length)
{
    p->piece[p->count].from = from;
    p->piece[p->count++].length = length;
    return p->image + from;
}

static bool pieces_write(struct vcpu *cpu, u64 linear, const struct pieces *p)
{
    for (unsigned k = 0; k < p->count; k++) { /* none is as long as a page */
        u64 first = linear + p->piece[k].from;
        TRY(lin_probe_write(cpu, first, 1));
        TRY(lin_probe_write(cpu, first + p->piece[k].length - 1, 1));
    }
    for (unsigned k = 0; k < p->count; k++)
        TRY(lin_write_bytes(cpu, linear + p->piece[k].from, p->image + p->piece[k].from,
                            p->piece[k].length));
    return true;
}

/* The area's linear address; SIZE bytes from it must lie in the segment. */
static bool area_linear(struct vcpu *cpu, const struct insn *insn, unsigned size, unsigned align,
                        bool write, u64 *linear)
{
    TRY(mem_linear(cpu, insn, size, write, linear));
    return *linear & (align - 1) ? cpu_gp0(cpu) : true;
}

/* --- FXSAVE, FXRSTOR --- */
/* Whether the XMM registers take part, and MXCSR. */
static bool fxsave_has_mxcsr(const struct vcpu *cpu) { return cpu->cr4 & CR4_OSFXSR; }
static bool fxsave_has_xmm(const struct vcpu *cpu)
{
    bool fast = (cpu->efer & EFER_FFXSR) && cpu_code64(cpu) && cpu->cpl == 0;
    return (cpu->cr4 & CR4_OSFXSR) && !fast;
}
static bool insn_is_wide(const struct insn *insn) { return insn->flags & INSN_W; }

static bool fxsave_check(struct vcpu *cpu)
{
    return cpu->cr0 & (CR0_EM | CR0_TS) ? cpu_fault(cpu, VECTOR_NM) : true;
}

bool sem_FXSAVE(struct vcpu *cpu, const struct insn *insn)
{
    u64 linear;
    struct pieces p;
    p.count = 0;
    TRY(fxsave_check(cpu));
    TRY(area_linear(cpu, insn, XSAVE_LEGACY_SIZE, 16, true, &linear));
    x87_to_image(cpu, p.image, insn_is_wide(insn));
    st32(p.image + MXCSR_OFFSET, fxsave_has_mxcsr(cpu) ? cpu->mxcsr : 0);
    st32(p.image + MXCSR_OFFSET + 4, fxsave_has_mxcsr(cpu) ? MXCSR_WRITABLE : 0);
    pieces_add(&p, 0, XMM_OFFSET);
    if (fxsave_has_xmm(cpu))
        vectors_to_image(cpu, pieces_add(&p, XMM_OFFSET, vector_count(cpu) * 16), 0);
    return pieces_write(cpu, linear, &p);
}

bool sem_FXRSTOR(struct vcpu *cpu, const struct insn *insn)
{
    u64 linear;
    u8 image[XSAVE_LEGACY_SIZE];
    TRY(fxsave_check(cpu));
    TRY(area_linear(cpu, insn, XSAVE_LEGACY_SIZE, 16, false, &linear));
    TRY(lin_read_bytes(cpu, linear, image, sizeof(image)));
    u32 mxcsr = ld32(image + MXCSR_OFFSET);
    if (fxsave_has_mxcsr(cpu)) {
        if (mxcsr & ~MXCSR_WRITABLE) return cpu_gp0(cpu);
        cpu->mxcsr = mxcsr;
    }
    x87_from_image(cpu, image, insn_is_wide(insn));
    if (fxsave_has_xmm(cpu)) vectors_from_image(cpu, image + XMM_OFFSET, 0);
    return true;
}

/* --- XSAVE and its kin --- */
static bool xsave_check(struct vcpu *cpu, bool supervisor)
{
    if (!(cpu->cr4 & CR4_OSXSAVE)) return cpu_ud(cpu);
    if (cpu->cr0 & CR0_TS) return cpu_fault(cpu, VECTOR_NM);
    return supervisor && cpu->cpl ? cpu_gp0(cpu) : true;
}
static u64 requested_components(const struct vcpu *cpu, bool supervisor)
{
    u64 mask = (u32)cpu->regs[RAX] | cpu->regs[RDX] << 32;
    return mask & (cpu->xcr0 | (supervisor ? cpu->xss : 0)) & (XSAVE_BIT(XSAVE_COMPONENTS) - 1);
}

static void add_mxcsr(struct vcpu *cpu, struct pieces *p)
{
    u8 *image = pieces_add(p, MXCSR_OFFSET, 8);
    st32(image, cpu->mxcsr);
    st32(image + 4, MXCSR_WRITABLE);
}

/* Adds COMPONENTS as they are laid out when XCOMP_BV is LAYOUT. */
static void add_components(struct vcpu *cpu, struct pieces *p, u64 components, u64 layout,
                           bool compacted, bool wide)
{
    for (unsigned n = 0; n < XSAVE_COMPONENTS; n++) {
        if (!(components & XSAVE_BIT(n))) continue;
        u32 at = component_offset(n, layout, compacted), size = xsave_component[n].size;
        /* outside 64-bit mode the upper eight registers' room is left alone */
        if (n == XSAVE_SSE || n == XSAVE_AVX) size = vector_count(cpu) * 16;
        component_to_image(cpu, n, p->image + at, wide);
        if (n == XSAVE_X87) {
            pieces_add(p, 0, MXCSR_OFFSET);
            pieces_add(p, 32, size - 32);
        } else {
            pieces_add(p, at, size);
        }
    }
}

static bool xsave_standard(struct vcpu *cpu, const struct insn *insn, bool optimised)
{
    u64 linear, header;
    struct pieces p;
    p.count = 0;
    TRY(xsave_check(cpu, false));
    u64 request = requested_components(cpu, false), in_use = xsave_components_in_use(cpu);
    TRY(area_linear(cpu, insn, xsave_area_size(request, false), 64, true, &linear));
    TRY(lin_read(cpu, linear + HEADER_OFFSET, 8, &header));
    add_components(cpu, &p, optimised ? request & in_use : request, 0, false, insn_is_wide(insn));
    if (request & (XSAVE_BIT(XSAVE_SSE) | XSAVE_BIT(XSAVE_AVX))) add_mxcsr(cpu, &p);
    st64(pieces_add(&p, HEADER_OFFSET, 8), (header & ~request) | (in_use & request));
    return pieces_write(cpu, linear, &p);
}

static bool xsave_compacted(struct vcpu *cpu, const struct insn *insn, bool supervisor)
{
    u64 linear;
    struct pieces p;
    p.count = 0;
    TRY(xsave_check(cpu, supervisor));
    u64 request = requested_components(cpu, supervisor), in_use = xsave_components_in_use(cpu);
    if (cpu->mxcsr != MXCSR_INIT) in_use |= XSAVE_BIT(XSAVE_SSE);
    u64 saved = request & in_use;
    TRY(area_linear(cpu, insn, xsave_area_size(request, true), 64, true, &linear));
    add_components(cpu, &p, saved, request, true, insn_is_wide(insn));
    if (saved & XSAVE_BIT(XSAVE_SSE)) add_mxcsr(cpu, &p);
    u8 *header = pieces_add(&p, HEADER_OFFSET, 16);
    st64(header, saved);
    st64(header + 8, request | XSAVE_COMPACTED);
    return pieces_write(cpu, linear, &p);
}

// clang-format off
SIMD_SEM(XSAVE, xsave_standard, false)
SIMD_SEM(XSAVEOPT, xsave_standard, true)
SIMD_SEM(XSAVEC, xsave_compacted, false)
SIMD_SEM(XSAVES, xsave_compacted, true)
// clang-format on

/* What the 64 bytes of header must be for ENABLED components. */
static bool header_is_valid(const u8 *header, u64 enabled, bool compacted)
{
    u64 state = ld64(header), layout = ld64(header + 8);
    unsigned reserved_end = compacted ? XSAVE_HEADER_SIZE : 24;
    for (unsigned i = 16; i < reserved_end; i++)
        if (header[i]) return false;
    if (!compacted) return !layout && !(state & ~enabled);
    layout &= ~XSAVE_COMPACTED;
    return !(layout & ~enabled) && !(state & ~layout);
}

static bool xrstor(struct vcpu *cpu, const struct insn *insn, bool supervisor)
{
    u64 linear;
    u8 image[AREA_MAX];
    u8 *header = image + HEADER_OFFSET;
    TRY(xsave_check(cpu, supervisor));
    u64 request = requested_components(cpu, supervisor);
    u64 enabled = cpu->xcr0 | (supervisor ? cpu->xss : 0);
    TRY(area_linear(cpu, insn, EXTENDED_OFFSET, 64, false, &linear));
    TRY(lin_read_bytes(cpu, linear + HEADER_OFFSET, header, XSAVE_HEADER_SIZE));
    u64 state = ld64(header), layout = ld64(header + 8);
    bool compacted = layout & XSAVE_COMPACTED;
    if (compacted ? !feature_on(&cpu->features, FEATURE_XSAVEC) : supervisor) return cpu_gp0(cpu);
    if (!header_is_valid(header, enabled, compacted)) return cpu_gp0(cpu);

    /* Read all that is wanted before anything changes. */
    u64 loaded = request & state, mxcsr_from = XSAVE_BIT(XSAVE_SSE) | XSAVE_BIT(XSAVE_AVX);
    bool load_mxcsr = compacted ? loaded & XSAVE_BIT(XSAVE_SSE) : request & mxcsr_from;
    TRY(area_linear(cpu, insn, xsave_area_size(loaded, compacted), 64, false, &linear));
    if ((loaded & 3) || load_mxcsr) TRY(lin_read_bytes(cpu, linear, image, XSAVE_LEGACY_SIZE));
    for (unsigned n = 2; n < XSAVE_COMPONENTS; n++)
        if (loaded & XSAVE_BIT(n)) {
            u32 at = component_offset(n, layout, compacted);
            TRY(lin_read_bytes(cpu, linear + at, image + at, xsave_component[n].size));
        }
    u32 mxcsr = load_mxcsr ? ld32(image + MXCSR_OFFSET) : MXCSR_INIT;
    if (load_mxcsr && (mxcsr & ~MXCSR_WRITABLE)) return cpu_gp0(cpu);

    for (unsigned n = 0; n < XSAVE_COMPONENTS; n++)
        if (request & XSAVE_BIT(n)) {
            const u8 *from = image + component_offset(n, layout, compacted);
            component_from_image(cpu, n, state & XSAVE_BIT(n) ? from : NULL, insn_is_wide(insn));
        }
    if (load_mxcsr || (compacted && (request & XSAVE_BIT(XSAVE_SSE)))) cpu->mxcsr = mxcsr;
    return true;
}
// clang-format off
SIMD_SEM(XRSTOR, xrstor, false)
SIMD_SEM(XRSTORS, xrstor, true)
// clang-format on
