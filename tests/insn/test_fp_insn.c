/*
 * Floating-point instructions, SSE, AVX, FMA, F16C and x87: bytes are decoded and run by the
 * semantics functions, and on an x86-64 host by the host itself, with random and corner operands;
 * registers, status and memory must agree. Unmasked exceptions, stack images and memory faults by
 * known answers.
 */
#include "cpu/sem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PAGE 0x5000u

struct fixture {
    struct vcpu *cpu;
    u8 *page;
    u64 seed;
    struct memory memory;
    struct code_page code_page;
};

__attribute__((unused)) /* on hosts to which there is nothing to compare */
static u64 next(u64 *seed)
{
    u64 z = (*seed += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static int make(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vcpu *cpu = f->cpu = aligned_alloc(64, (sizeof(struct vcpu) + 63) & ~63ull);
    memset(cpu, 0, sizeof(*cpu));
    f->page = aligned_alloc(4096, 4096);
    memset(f->page, 0, 4096);
    f->memory =
        (struct memory){ .arena = f->page, .arena_size = 4096, .code_pages = &f->code_page };
    cpu->memory = &f->memory;
    for (unsigned i = 0; i < TLB_ENTRIES; i++) {
        cpu->tlb.entry[TLB_USER][i].tag_read = TLB_INVALID_TAG;
        cpu->tlb.entry[TLB_USER][i].tag_write = TLB_INVALID_TAG;
    }
    struct tlb_entry *e = &cpu->tlb.entry[TLB_USER][PAGE >> 12];
    e->tag_read = e->tag_write = PAGE;
    e->addend = (u64)(uintptr_t)f->page - PAGE;
    e->slow = PAGE | TLB_PRESENT | TLB_WRITABLE | TLB_EXECUTABLE;
    cpu->tlb.slow_tag[TLB_USER][PAGE >> 12] = PAGE;
    cpu->tlb_now = cpu->tlb.entry[TLB_USER];
    cpu->tlb_mode = TLB_USER;
    cpu->code_size = CODE64;
    cpu->cpl = 3;
    cpu->cr0 = CR0_PE | CR0_NE;
    cpu->efer = EFER_LME | EFER_LMA;
    cpu->cr4 = CR4_OSFXSR | CR4_OSXSAVE | CR4_OSXMMEXCPT;
    cpu->xcr0 = 7;
    cpu->mode_key = MODE_CODE64 | MODE_FLAT;
    cpu->mxcsr = 0x1f80;
    cpu->fcw = 0x37f;
    cpu->features.bits[0] = cpu->features.bits[1] = ~0ull;
    cpu->regs[RBX] = PAGE;
    cpu->regs[REG_IP_BASE] = PAGE + 0x800;
    *state = f;
    return 0;
}

static int unmake(void **state)
{
    struct fixture *f = *state;
    free(f->cpu);
    free(f->page);
    free(f);
    return 0;
}

static bool decode(struct vcpu *cpu, struct insn *insn, const u8 *bytes, unsigned length)
{
    return decode_insn(insn, bytes, length, CODE64, 0, &cpu->features) == DECODE_OK &&
           insn->length == length;
}
static bool run(struct fixture *f, const void *bytes, unsigned length)
{
    struct insn insn;
    if (!decode(f->cpu, &insn, bytes, length)) fail_msg("not decoded: %02x", *(const u8 *)bytes);
    memcpy(f->page + 0x800, bytes, length);
    return sem_table[insn.op](f->cpu, &insn);
}
#define RUN(text) run(f, text, sizeof(text) - 1)

/* --- known answers --- */

static void unmasked_sse(void **state)
{
    struct fixture *f = *state;
    union vec *x = cpu_vec(f->cpu, 1), *y = cpu_vec(f->cpu, 2);
    x->q[0] = x->q[1] = 0x3ff0000000000000;
    y->q[0] = 0;                      /* 1 / 0 */
    y->q[1] = 0x4008000000000000;     /* 1 / 3 */
    f->cpu->mxcsr = 0x1f80 & ~0x200u; /* ZM clear */
    assert_false(RUN("\x66\x0f\x5e\xca"));
    assert_int_equal(f->cpu->exception.vector, VECTOR_XM);
    assert_int_equal(f->cpu->mxcsr, (0x1f80 & ~0x200u) | 4); /* found first: no PE */
    assert_int_equal(x->q[0], 0x3ff0000000000000);
    f->cpu->cr4 &= ~(u64)CR4_OSXMMEXCPT;
    assert_false(RUN("\xf2\x0f\x5e\xca"));
    assert_int_equal(f->cpu->exception.vector, VECTOR_UD);
    f->cpu->mxcsr = 0x1f80 & ~0x1000u; /* PM clear */
    y->q[0] = 0x4000000000000000;
    assert_true(RUN("\xf2\x0f\x5e\xca")); /* 1 / 2 is exact */
    assert_int_equal(x->q[0], 0x3fe0000000000000);
    assert_int_equal(f->cpu->mxcsr, 0xf80);
    f->cpu->mxcsr = 0x1f80 & ~0x800u; /* UM clear: exact tiny results count */
    f->cpu->cr4 |= CR4_OSXMMEXCPT;
    x->q[0] = 0x0010000000000000;
    assert_false(RUN("\xf2\x0f\x5e\xca"));
    assert_int_equal(f->cpu->mxcsr, 0x1780 | 16);
}

static void mxcsr_words(void **state)
{
    struct fixture *f = *state;
    st32(f->page, 0x9fc0);
    assert_true(RUN("\x0f\xae\x13")); /* ldmxcsr [rbx] */
    assert_int_equal(f->cpu->mxcsr, 0x9fc0);
    st32(f->page, 0x10000);
    assert_false(RUN("\x0f\xae\x13"));
    assert_int_equal(f->cpu->exception.vector, VECTOR_GP);
    assert_int_equal(f->cpu->mxcsr, 0x9fc0);
    assert_true(RUN("\x0f\xae\x5b\x04")); /* stmxcsr [rbx+4] */
    assert_int_equal(ld32(f->page + 4), 0x9fc0);
}

static void x87_images(void **state)
{
    struct fixture *f = *state;
    f->cpu->cr0 |= CR0_NE;
    assert_true(RUN("\xdb\xe3"));                         /* fninit */
    assert_true(RUN("\xd9\xe8") && RUN("\xd9\xee"));      /* fld1, fldz */
    assert_true(RUN("\xd9\x73\x00"));                     /* fnstenv [rbx] */
    assert_int_equal(ld32(f->page), 0xffff037f);
    assert_int_equal(ld32(f->page + 4) & 0xffff, 6 << 11);
    assert_int_equal(ld32(f->page + 8), 0xffff1fff);      /* ST0 zero, ST1 valid, others empty */
    u8 before[28];
    memcpy(before, f->page, 28);
    assert_true(RUN("\xdd\x73\x40"));                     /* fnsave [rbx+0x40] */
    assert_int_equal(f->cpu->ftw, 0);
    assert_int_equal(f->cpu->fcw, 0x37f);
    assert_int_equal(ld64(f->page + 0x40 + 28 + 10), 1ull << 63);
    assert_true(RUN("\xdd\x63\x40"));                     /* frstor */
    assert_int_equal(f->cpu->ftw, 0xc0);
    assert_true(RUN("\xd9\x73\x00"));
    assert_memory_equal(before, f->page, 28);
    /* 16-bit images */
    assert_true(RUN("\x66\xdd\xb3\x00\x01\x00\x00"));
    assert_int_equal(ld16(f->page + 0x100 + 4), 0x1fff);
    assert_int_equal(ld64(f->page + 0x100 + 14 + 10), 1ull << 63);
}

static void unmasked_x87(void **state)
{
    struct fixture *f = *state;
    assert_true(RUN("\xdb\xe3"));
    f->cpu->fcw = 0x37f & ~4; /* ZM clear */
    assert_true(RUN("\xd9\xee") && RUN("\xd9\xe8"));       /* fldz, fld1: ST0 = 1, ST1 = 0 */
    assert_true(RUN("\xd8\xf1"));                          /* fdiv st, st1 */
    assert_int_equal(f->cpu->fsw, 6 << 11 | 0x8084);       /* ES, B, ZE */
    assert_int_equal(f->cpu->fpu_exponent[6], 0x3fff);     /* nothing written */
    assert_int_equal(f->cpu->fop, 0x0f1);
    assert_int_equal(f->cpu->fip, PAGE + 0x800);
    struct insn insn;
    assert_true(decode(f->cpu, &insn, (const u8 *)"\xd8\xc1", 2));
    assert_false(fpu_check(f->cpu, &insn));
    assert_int_equal(f->cpu->exception.vector, VECTOR_MF);
    assert_true(RUN("\xdb\xe2"));                          /* fnclex */
    assert_int_equal(f->cpu->fsw, 6 << 11);
    assert_true(fpu_check(f->cpu, &insn));
    f->cpu->fcw = 0x37f & ~1; /* IM clear: pop of nothing moves nothing */
    f->cpu->ftw = 0;
    memset(f->page, 0x55, 16);
    assert_true(RUN("\xdd\x1b"));                          /* fstp qword [rbx] */
    assert_int_equal(f->cpu->fsw, 6 << 11 | 0x80c1);
    assert_int_equal(ld64(f->page), 0x5555555555555555);
}

static void faults_change_nothing(void **state)
{
    struct fixture *f = *state;
    assert_true(RUN("\xdb\xe3") && RUN("\xd9\xe8"));
    struct vcpu *cpu = f->cpu;
    cpu->regs[RBX] = 0x800000000000; /* not canonical */
    u16 fsw = cpu->fsw;
    assert_false(RUN("\xdd\x1b")); /* fstp qword */
    assert_false(RUN("\xdb\x1b")); /* fistp dword */
    assert_false(RUN("\xd8\x03")); /* fadd dword */
    assert_false(RUN("\xdd\x33")); /* fnsave */
    assert_false(RUN("\xd9\x23")); /* fldenv */
    assert_int_equal(cpu->fsw, fsw);
    assert_int_equal(cpu->ftw, 0x80);
    assert_false(RUN("\xf2\x0f\x58\x0b")); /* addsd */
    assert_false(RUN("\x0f\x58\x0b"));     /* addps */
    assert_int_equal(cpu->mxcsr, 0x1f80);
}

#ifdef __x86_64__
#include <sys/mman.h>

/* With -DPORTABLE_FP: what is the host's own otherwise is only nearly the same. */
#ifdef PORTABLE_FP
#define ONLY_NEAR 1
#else
#define ONLY_NEAR 0
#endif

/* --- the host's turn --- */

struct host_state {
    u8 fx[512];
    u8 ymm[8][32];
    u64 rax, rcx, rdx, unused, flags;
    void *memory;
} __attribute__((aligned(64)));
_Static_assert(offsetof(struct host_state, rax) == 768 &&
                   offsetof(struct host_state, memory) == 808,
               "asm");

void host_run(struct host_state *state, void *code);
__asm__(
    ".pushsection .text\nhost_run:\n"
    "push %rbx\npush %rbp\npush %rdi\n"
    "fxrstor64 (%rdi)\n"
    "vmovdqu 512(%rdi), %ymm0\nvmovdqu 544(%rdi), %ymm1\nvmovdqu 576(%rdi), %ymm2\n"
    "vmovdqu 608(%rdi), %ymm3\nvmovdqu 640(%rdi), %ymm4\nvmovdqu 672(%rdi), %ymm5\n"
    "vmovdqu 704(%rdi), %ymm6\nvmovdqu 736(%rdi), %ymm7\n"
    "mov 768(%rdi), %rax\nmov 776(%rdi), %rcx\nmov 784(%rdi), %rdx\nmov 808(%rdi), %rbx\n"
    "pushq 800(%rdi)\npopfq\n"
    "call *%rsi\n"
    "pushfq\npop %rbp\npop %rdi\n"
    "vmovdqu %ymm0, 512(%rdi)\nvmovdqu %ymm1, 544(%rdi)\nvmovdqu %ymm2, 576(%rdi)\n"
    "vmovdqu %ymm3, 608(%rdi)\nvmovdqu %ymm4, 640(%rdi)\nvmovdqu %ymm5, 672(%rdi)\n"
    "vmovdqu %ymm6, 704(%rdi)\nvmovdqu %ymm7, 736(%rdi)\n"
    "fxsave64 (%rdi)\n"
    "mov %rax, 768(%rdi)\nmov %rcx, 776(%rdi)\nmov %rdx, 784(%rdi)\nmov %rbp, 800(%rdi)\n"
    "fnclex\nfninit\nemms\nvzeroupper\npushq $0x1f80\nldmxcsr (%rsp)\npop %rbp\n"
    "pop %rbp\npop %rbx\nret\n.popsection\n");

struct host {
    struct host_state state;
    u8 memory[512];
    u8 *code;
};

static struct host *host_new(void)
{
    struct host *h = aligned_alloc(64, (sizeof(struct host) + 63) & ~63ul);
    memset(h, 0, sizeof(*h));
    h->code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (h->code == MAP_FAILED) abort();
    return h;
}
static void host_free(struct host *h)
{
    munmap(h->code, 4096);
    free(h);
}

static void put_code(struct host *h, const u8 *bytes, unsigned length)
{
    mprotect(h->code, 4096, PROT_READ | PROT_WRITE);
    memcpy(h->code, bytes, length);
    h->code[length] = 0xc3;
    mprotect(h->code, 4096, PROT_READ | PROT_EXEC);
}

static bool host_has_avx(void)
{
    return __builtin_cpu_supports("avx") && __builtin_cpu_supports("fma");
}

static u32 random_f32(u64 *seed)
{
    static const u32 corner[] = { 0,          1,          0x7fffff,   0x800000,   0x800001,
                                  0x3f800000, 0x3f800001, 0x3f7fffff, 0x7f7fffff, 0x7f800000,
                                  0x7f800001, 0x7fc00000, 0x7fffffff, 0x4b000000, 0x4f000000,
                                  0x4effffff, 0x3f000000, 0x3fc00000, 0x5f000000, 0x33800000 };
    u64 r = next(seed);
    switch (r & 7) {
    case 0: case 1: return corner[(r >> 8) % ARRAY_SIZE(corner)] | (u32)(r >> 40 & 1) << 31;
    case 2: return (u32)(r >> 32);
    case 3: return ((u32)(r >> 32) & 0x807fffff) | (u32)(0x3f + (r >> 8 & 0x3f)) << 23;
    default: return ((u32)(r >> 32) & 0x80ffffff) | 0x3f000000;
    }
}
static u64 random_f64(u64 *seed)
{
    static const u64 corner[] = { 0, 1, 0x000fffffffffffff, 0x0010000000000000, 0x0010000000000001,
        0x3ff0000000000000, 0x3ff0000000000001, 0x3fefffffffffffff, 0x7fefffffffffffff,
        0x7ff0000000000000, 0x7ff0000000000001, 0x7ff8000000000000, 0x7fffffffffffffff,
        0x41e0000000000000, 0x43e0000000000000, 0x41dfffffffe00000, 0x3fe0000000000000,
        0x3ff8000000000000, 0x47efffffe0000000, 0x36a0000000000000, 0x380ffffff0000000 };
    u64 r = next(seed), s = next(seed);
    switch (r & 7) {
    case 0: case 1: return corner[(r >> 8) % ARRAY_SIZE(corner)] | (r >> 40 & 1) << 63;
    case 2: return s;
    case 3: return (s & 0x800fffffffffffff) | (0x380 + (r >> 8 & 0xff)) << 52;
    default: return (s & 0x801fffffffffffff) | 0x3fe0000000000000;
    }
}
static void random_lanes(u64 *seed, u8 *to, unsigned bytes, bool wide)
{
    for (unsigned i = 0; i < bytes; i += 8) {
        if (wide) st64(to + i, random_f64(seed));
        else st64(to + i, random_f32(seed) | (u64)random_f32(seed) << 32);
    }
}

/* The same state to both. */
static void set_both(struct fixture *f, struct host *h, bool wide)
{
    struct vcpu *cpu = f->cpu;
    u64 r = next(&f->seed);
    u32 mxcsr = 0x1f80 | (r & 1 ? (u32)r & 0xe040 : 0) | (r & 2 ? 0x20 : (u32)(r >> 16) & 0x3f);
    memset(h->state.fx, 0, 512);
    st16(h->state.fx, 0x37f);
    st32(h->state.fx + 24, mxcsr);
    cpu->mxcsr = mxcsr;
    cpu->fcw = 0x37f;
    cpu->fsw = 0;
    cpu->ftw = 0;
    for (unsigned i = 0; i < 8; i++) {
        union vec *v = cpu_vec(cpu, i);
        random_lanes(&f->seed, h->state.ymm[i], 32, wide);
        memset(v, 0, sizeof(*v));
        memcpy(v, h->state.ymm[i], 32);
        memcpy(h->state.fx + 160 + 16 * i, h->state.ymm[i], 16);
        u64 mm = wide ? next(&f->seed) : random_f32(&f->seed);
        st64(h->state.fx + 32 + 16 * i, mm);
        cpu->fpu_mantissa[i] = mm;
        cpu->fpu_exponent[i] = 0;
    }
    random_lanes(&f->seed, h->memory, 64, wide);
    memcpy(f->page, h->memory, 64);
    u64 a = next(&f->seed) >> (r >> 24 & 63);
    h->state.rax = h->state.rcx = h->state.rdx = a;
    cpu->regs[RAX] = cpu->regs[RCX] = cpu->regs[RDX] = a;
    h->state.flags = (r >> 40 & (FLAGS_ARITHMETIC)) | 0x202;
    flags_put(cpu, (u32)h->state.flags & FLAGS_ARITHMETIC);
    h->state.memory = h->memory;
}

static void print_bytes(char *to, const u8 *bytes, unsigned length)
{
    for (unsigned i = 0; i < length; i++) sprintf(to + 3 * i, "%02x ", bytes[i]);
}

static void check_both(struct fixture *f, struct host *h, const u8 *bytes, unsigned length,
                       u32 mode)
{
    struct vcpu *cpu = f->cpu;
    char code[64];
    print_bytes(code, bytes, length);
    u32 mxcsr = ld32(h->state.fx + 24);
    if (mxcsr != cpu->mxcsr)
        fail_msg("%s mxcsr %04x, the host %04x (was %04x)", code, cpu->mxcsr, mxcsr, mode);
    for (unsigned i = 0; i < 8; i++) {
        union vec theirs = { { 0 } };
        memcpy(&theirs, h->state.ymm[i], 32);
        for (unsigned k = 0; k < 4; k++)
            if (theirs.q[k] != cpu_vec(cpu, i)->q[k])
                fail_msg("%sxmm%u.q%u %016llx, the host %016llx (mxcsr was %04x)", code, i, k,
                         (unsigned long long)cpu_vec(cpu, i)->q[k], (unsigned long long)theirs.q[k],
                         mode);
        if (ld64(h->state.fx + 32 + 16 * i) != cpu->fpu_mantissa[i]) fail_msg("%smm%u", code, i);
    }
    if (h->state.rcx != cpu->regs[RCX])
        fail_msg("%srcx %llx, the host %llx", code, (unsigned long long)cpu->regs[RCX],
                 (unsigned long long)h->state.rcx);
    if ((h->state.flags & FLAGS_ARITHMETIC) != flags_get(cpu))
        fail_msg("%sflags %x, the host %x", code, flags_get(cpu),
                 (u32)h->state.flags & FLAGS_ARITHMETIC);
    if (memcmp(h->memory, f->page, 64)) fail_msg("%smemory", code);
    if (h->state.fx[4] != cpu->ftw)
        fail_msg("%sftw %02x, the host %02x", code, cpu->ftw, h->state.fx[4]);
}

static void try_code(struct fixture *f, struct host *h, const u8 *bytes, unsigned length,
                     unsigned rounds)
{
    struct insn insn;
    char code[64];
    print_bytes(code, bytes, length);
    if (!decode(f->cpu, &insn, bytes, length)) fail_msg("%snot decoded", code);
    put_code(h, bytes, length);
    for (unsigned i = 0; i < rounds; i++) {
        set_both(f, h, i & 1);
        u32 mode = f->cpu->mxcsr;
        host_run(&h->state, h->code);
        if (!sem_table[insn.op](f->cpu, &insn))
            fail_msg("%sfault %d", code, f->cpu->exception.vector);
        check_both(f, h, bytes, length, mode);
    }
}

enum { LEGACY = 1, VEX = 2, VEX256 = 4, BOTH = LEGACY | VEX, ALL = 7, NO_V = 8, IMM = 16, W1 = 32 };
struct form {
    u8 map, opcode;
    u8 prefixes; /* bits: 1 none, 2 66, 4 F3, 8 F2 */
    u8 how;
};
// clang-format off
static const struct form forms[] = {
    { 1, 0x58, 3, ALL }, { 1, 0x58, 12, BOTH }, { 1, 0x59, 3, ALL }, { 1, 0x59, 12, BOTH },
    { 1, 0x5c, 3, ALL }, { 1, 0x5c, 12, BOTH }, { 1, 0x5d, 3, ALL }, { 1, 0x5d, 12, BOTH },
    { 1, 0x5e, 3, ALL }, { 1, 0x5e, 12, BOTH }, { 1, 0x5f, 3, ALL }, { 1, 0x5f, 12, BOTH },
    { 1, 0x51, 3, ALL | NO_V }, { 1, 0x51, 12, BOTH }, { 1, 0x52, 1, ALL | NO_V },
    { 1, 0x52, 4, BOTH }, { 1, 0x53, 1, ALL | NO_V }, { 1, 0x53, 4, BOTH },
    { 1, 0x5a, 3, ALL | NO_V }, { 1, 0x5a, 12, BOTH },
    { 1, 0x5b, 7, ALL | NO_V }, { 1, 0xe6, 14, ALL | NO_V }, { 1, 0xc2, 3, ALL | IMM },
    { 1, 0xc2, 12, BOTH | IMM }, { 1, 0x2e, 3, BOTH | NO_V }, { 1, 0x2f, 3, BOTH | NO_V },
    { 1, 0x2a, 12, BOTH }, { 1, 0x2a, 12, BOTH | W1 }, { 1, 0x2c, 12, BOTH | NO_V },
    { 1, 0x2c, 12, BOTH | NO_V | W1 }, { 1, 0x2d, 12, BOTH | NO_V },
    { 1, 0x2d, 12, BOTH | NO_V | W1 },
    { 1, 0x2a, 3, LEGACY }, { 1, 0x2c, 3, LEGACY }, { 1, 0x2d, 3, LEGACY },
    { 1, 0x7c, 10, ALL }, { 1, 0x7d, 10, ALL }, { 1, 0xd0, 10, ALL },
    { 3, 0x08, 2, ALL | NO_V | IMM }, { 3, 0x09, 2, ALL | NO_V | IMM }, { 3, 0x0a, 2, BOTH | IMM },
    { 3, 0x0b, 2, BOTH | IMM }, { 3, 0x40, 2, ALL | IMM }, { 3, 0x41, 2, BOTH | IMM },
    { 3, 0x1d, 2, VEX | VEX256 | NO_V | IMM }, { 2, 0x13, 2, VEX | VEX256 | NO_V },
};
// clang-format on

static unsigned emit(u8 *to, const struct form *form, unsigned prefix, bool vex, bool wide,
                     bool memory, unsigned imm)
{
    static const u8 mandatory[4] = { 0, 0x66, 0xf3, 0xf2 };
    unsigned n = 0;
    bool w = form->how & W1;
    if (vex) {
        unsigned vvvv = form->how & NO_V ? 15 : ~3u & 15;
        to[n++] = 0xc4;
        to[n++] = 0xe0 | form->map;
        to[n++] = (u8)(w << 7 | vvvv << 3 | wide << 2 | prefix);
    } else {
        if (prefix) to[n++] = mandatory[prefix];
        if (w) to[n++] = 0x48;
        to[n++] = 0x0f;
        if (form->map == 2) to[n++] = 0x38;
        if (form->map == 3) to[n++] = 0x3a;
    }
    to[n++] = form->opcode;
    to[n++] = memory ? 0x0b : 0xca; /* reg 1, [rbx] or register 2 */
    if (form->how & IMM) to[n++] = (u8)imm;
    return n;
}

static void try_form(struct fixture *f, struct host *h, const struct form *form, unsigned rounds)
{
    bool rounds_to_int = form->map == 3 && form->opcode < 0x10;
    unsigned imms = !(form->how & IMM) ? 1 : form->opcode == 0xc2 ? 32 : rounds_to_int ? 16 : 8;
    for (unsigned prefix = 0; prefix < 4; prefix++) {
        if (!(form->prefixes >> prefix & 1)) continue;
        for (unsigned kind = 0; kind < 6; kind++) {
            static const u8 needs[3] = { LEGACY, VEX, VEX256 };
            if (!(form->how & needs[kind % 3])) continue;
            for (unsigned i = 0; i < imms; i++) {
                u8 code[16];
                unsigned imm = imms == 8 ? (unsigned)next(&f->seed) & 0xff : i;
                if (form->opcode == 0x1d) imm &= 7;
                unsigned n = emit(code, form, prefix, kind % 3, kind % 3 == 2, kind >= 3, imm);
                try_code(f, h, code, n, rounds);
            }
        }
    }
}

static void host_sse(void **state)
{
    struct fixture *f = *state;
    if (!host_has_avx()) skip();
    struct host *h = host_new();
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        bool near = forms[i].opcode == 0x52 || forms[i].opcode == 0x53;
        if (!(ONLY_NEAR && near)) try_form(f, h, &forms[i], 300);
    }
    host_free(h);
}

static void host_fma(void **state)
{
    struct fixture *f = *state;
    if (!host_has_avx()) skip();
    struct host *h = host_new();
    for (unsigned group = 0x90; group < 0xc0; group += 0x10)
        for (unsigned low = 6; low < 16; low++) {
            bool scalar = low >= 8 && (low & 1);
            struct form form = { 2, (u8)(group + low), 2, scalar ? VEX : VEX | VEX256 };
            try_form(f, h, &form, 500);
            form.how |= W1;
            try_form(f, h, &form, 500);
        }
    host_free(h);
}

/* --- x87 --- */

static void random_f80(u64 *seed, u8 *to)
{
    u64 r = next(seed), mantissa = next(seed) | 1ull << 63;
    unsigned exponent = 0x3ffe + (r >> 8 & 3);
    switch (r & 15) {
    case 0: exponent = 0; mantissa = 0; break;
    case 1: exponent = 0; mantissa >>= r >> 16 & 63; break;
    case 2: exponent = 0x7fff; mantissa = 1ull << 63; break;
    case 3: exponent = 0x7fff; break;
    case 4: exponent = 0x7fff; mantissa |= 1ull << 62; break;
    case 5: exponent = (r >> 16 & 7) ? 0x7ffe : 1; break;
    case 6: mantissa = 1ull << 63; break;
    case 7: mantissa &= ~0ull << 40; exponent = 0x3ff0 + (r >> 8 & 0x7f); break;
    case 8: exponent = 0x3f80 + (r >> 8 & 0xff); break;
    case 9: exponent = 0x3b00 + (r >> 8 & 0x7ff); break;
    case 10: exponent = r >> 8 & 0x7fff; break;
    case 11: if (!(r >> 8 & 7)) mantissa &= ~(1ull << 63); break;
    default: break;
    }
    st64(to, mantissa);
    st16(to + 8, (u16)(exponent | (r >> 63) << 15));
}

static void set_both_x87(struct fixture *f, struct host *h)
{
    struct vcpu *cpu = f->cpu;
    u64 r = next(&f->seed);
    set_both(f, h, r >> 50 & 1);
    static const u8 pc[4] = { 0, 2, 3, 3 };
    unsigned top = r >> 16 & 7;
    cpu->fcw = (u16)(0x7f | pc[r & 3] << 8 | (r & 4 ? r >> 3 & 3 : 0) << 10);
    cpu->fsw = (u16)(top << 11 | (r >> 20 & 0x3f) | (r >> 26 & 0x4740));
    cpu->ftw = r >> 48 & 1 ? 0xff : (u8)(r >> 40);
    if (r >> 49 & 1) cpu->ftw &= (u8)~(1u << ((top + 7) & 7));
    st16(h->state.fx, cpu->fcw);
    st16(h->state.fx + 2, cpu->fsw);
    h->state.fx[4] = cpu->ftw;
    for (unsigned i = 0; i < 8; i++) {
        u8 *st = h->state.fx + 32 + 16 * i;
        random_f80(&f->seed, st);
        cpu->fpu_mantissa[(top + i) & 7] = ld64(st);
        cpu->fpu_exponent[(top + i) & 7] = ld16(st + 8);
    }
    if (r >> 51 & 1) random_f80(&f->seed, h->memory);
    memcpy(f->page, h->memory, 64);
}

/* CODES: which condition codes count. APPROXIMATE: nothing. */
static void try_x87(struct fixture *f, struct host *h, const u8 *bytes, unsigned length, u16 codes,
                    unsigned rounds)
{
    struct insn insn;
    struct vcpu *cpu = f->cpu;
    char code[64];
    print_bytes(code, bytes, length);
    if (!decode(cpu, &insn, bytes, length)) fail_msg("%snot decoded", code);
    put_code(h, bytes, length);
    for (unsigned n = 0; n < rounds; n++) {
        set_both_x87(f, h);
        u16 before = cpu->fsw, control = cpu->fcw;
        u8 tags = cpu->ftw;
        struct host_state was = h->state;
        host_run(&h->state, h->code);
        if (!sem_table[insn.op](cpu, &insn)) fail_msg("%sfault", code);
        u16 status = ld16(h->state.fx + 2), mask = (u16)(0xb8ff | 0x200 | codes);
        char context[128];
        const u8 *st = was.fx + 32;
        snprintf(context, sizeof(context),
                 "before %04x %02x control %04x, %04x %016llx, %04x %016llx", before, tags, control,
                 ld16(st + 8), (unsigned long long)ld64(st), ld16(st + 24),
                 (unsigned long long)ld64(st + 16));
        if ((status & mask) != (cpu->fsw & mask) || h->state.fx[4] != cpu->ftw)
            fail_msg("%sstatus %04x tags %02x, the host %04x %02x; %s", code, cpu->fsw, cpu->ftw,
                     status, h->state.fx[4], context);
        for (unsigned i = 0; i < 8; i++) {
            unsigned p = ((status >> 11) + i) & 7;
            u8 *theirs = h->state.fx + 32 + 16 * i;
            if (ld64(theirs) != cpu->fpu_mantissa[p] || ld16(theirs + 8) != cpu->fpu_exponent[p])
                fail_msg("%sst%u %04x %016llx, the host %04x %016llx; %s", code, i,
                         cpu->fpu_exponent[p], (unsigned long long)cpu->fpu_mantissa[p],
                         ld16(theirs + 8), (unsigned long long)ld64(theirs), context);
        }
        if (memcmp(h->memory, f->page, 64)) fail_msg("%smemory; status before %04x", code, before);
        if ((h->state.flags & FLAGS_ARITHMETIC) != flags_get(cpu)) fail_msg("%sflags", code);
        if (h->state.rax != cpu->regs[RAX]) fail_msg("%srax", code);
    }
}

static void host_x87_registers(void **state)
{
    struct fixture *f = *state;
    if (!host_has_avx()) skip();
    struct host *h = host_new();
    for (unsigned escape = 0; escape < 8; escape++)
        for (unsigned modrm = 0xc0; modrm < 0x100; modrm++) {
            u8 bytes[2] = { (u8)(0xd8 + escape), (u8)modrm };
            struct insn insn;
            if (!decode(f->cpu, &insn, bytes, 2)) continue;
            bool codes = false;
            switch (insn.op) {
            case OP_FCOM: case OP_FCOMP: case OP_FCOMPP: case OP_FUCOM: case OP_FUCOMP:
            case OP_FUCOMPP: case OP_FTST: case OP_FXAM:
                codes = true;
                break;
            default:
                break;
            }
            bool near = escape == 1 && ((modrm >= 0xf0 && modrm < 0xf4) || modrm == 0xf9 ||
                                        modrm == 0xfb || modrm >= 0xfe);
            if (ONLY_NEAR && near) continue;
            /* The remainders' condition codes: test_softfloat.c. */
            if (insn.op == OP_NOP || insn.op == OP_FPREM || insn.op == OP_FPREM1) continue;
            try_x87(f, h, bytes, 2, codes ? 0x4500 : 0, 400);
        }
    host_free(h);
}

static void host_x87_memory(void **state)
{
    struct fixture *f = *state;
    if (!host_has_avx()) skip();
    struct host *h = host_new();
    for (unsigned escape = 0; escape < 8; escape++)
        for (unsigned reg = 0; reg < 8; reg++) {
            u8 bytes[2] = { (u8)(0xd8 + escape), (u8)(reg << 3 | RBX) };
            struct insn insn;
            if (!decode(f->cpu, &insn, bytes, 2)) continue;
            switch (insn.op) {
            case OP_FLDENV: case OP_FNSTENV: case OP_FRSTOR: case OP_FNSAVE: case OP_FLDCW:
            case OP_FBLD:
                continue;
            default:
                break;
            }
            bool codes = !(escape & 1) && (reg == 2 || reg == 3) && escape != 7;
            try_x87(f, h, bytes, 2, codes ? 0x4500 : 0, 3000);
        }
    host_free(h);
}
#endif

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)
    const struct CMUnitTest tests[] = {
        T(unmasked_sse), T(mxcsr_words), T(x87_images), T(unmasked_x87), T(faults_change_nothing),
#ifdef __x86_64__
        T(host_sse), T(host_fma), T(host_x87_registers), T(host_x87_memory),
#endif
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
