/*
 * Vector semantics: against the host's own instructions on x86-64, and portable checks of the MMX
 * file, masked accesses, gathers, FXSAVE and XSAVE on a page of guest memory.
 */
#include "cpu/sem.h"
#include "cpu/xsave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PAGE 0x5000u
#define HIGH_PAGE 0x7ffffffff000ull /* the same memory; behind it addresses are not canonical */
#define ROUNDS 300

static u64 next_random(u64 *seed)
{
    u64 z = (*seed += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* Bytes that like the borders, every other time. */
static void random_vector(u64 *seed, union vec *v)
{
    static const u8 borders[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x0f, 0x10};
    bool edgy = next_random(seed) & 1;
    for (unsigned i = 0; i < 64; i++) {
        u64 r = next_random(seed);
        v->b[i] = edgy ? borders[r & 7] : (u8)r;
    }
}

/* A processor with one page of memory at PAGE, 64-bit mode. */
struct fixture {
    struct vcpu *cpu;
    u8 *page;
    struct memory memory;
};

static void map_page(struct vcpu *cpu, u64 linear, const u8 *host)
{
    unsigned slot = linear >> 12 & (TLB_ENTRIES - 1);
    struct tlb_entry *e = &cpu->tlb.entry[TLB_USER][slot];
    e->tag_read = e->tag_write = linear;
    e->addend = (u64)(uintptr_t)host - linear;
    e->slow = PAGE | TLB_PRESENT | TLB_WRITABLE;
    cpu->tlb.slow_tag[TLB_USER][slot] = linear;
}

static int make(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vcpu *cpu = f->cpu = aligned_alloc(64, (sizeof(struct vcpu) + 63) & ~63ull);
    memset(cpu, 0, sizeof(*cpu));
    f->page = aligned_alloc(4096, 4096);
    memset(f->page, 0, 4096);
    for (unsigned i = 0; i < TLB_ENTRIES; i++) {
        cpu->tlb.entry[TLB_USER][i].tag_read = TLB_INVALID_TAG;
        cpu->tlb.entry[TLB_USER][i].tag_write = TLB_INVALID_TAG;
    }
    map_page(cpu, PAGE, f->page);
    map_page(cpu, HIGH_PAGE, f->page);
    cpu->memory = &f->memory;
    cpu->tlb_now = cpu->tlb.entry[TLB_USER];
    cpu->tlb_mode = TLB_USER;
    cpu->code_size = CODE64;
    cpu->efer = EFER_LME | EFER_LMA;
    cpu->cr0 = CR0_PE;
    cpu->cr4 = CR4_OSFXSR | CR4_OSXSAVE;
    cpu->xcr0 = 7;
    cpu->mode_key = MODE_CODE64 | MODE_FLAT;
    cpu->mxcsr = MXCSR_INIT;
    cpu->fcw = 0x37f;
    cpu->features.bits[0] = cpu->features.bits[1] = ~0ull;
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

/* operand 0 = register 1, operands 1 and 2 = registers 2 and 3, imm. */
static struct insn register_insn(unsigned vl, bool vex, unsigned imm)
{
    struct insn insn = {.vl = (u8)vl, .imm = imm, .flags = vex ? INSN_VEX : 0, .address_size = 8,
                        .base = REG_ZERO, .index = REG_ZERO, .seg = DS};
    for (unsigned i = 0; i < 3; i++)
        insn.operand[i] =
            (struct operand){vl == 8 ? OPERAND_MMX : OPERAND_VECTOR, (u8)(i + 1), (u8)vl, 0};
    return insn;
}
static void memory_operand(struct insn *insn, unsigned n, u32 offset, unsigned size)
{
    insn->operand[n] = (struct operand){OPERAND_MEMORY, 0, (u8)size, 0};
    insn->disp = (i32)(PAGE + offset);
}

#ifdef __x86_64__
typedef void (*host_fn)(void *r, const void *x, const void *y);
struct host_case {
    const char *name;
    sem_fn sem;
    host_fn mmx, sse, avx;
    int imm; /* -1: none */
    bool unary;
};

/* clang-format off */
#define HOST_MMX(id, code)                                                                         \
    static void mmx_##id(void *r, const void *x, const void *y)                                    \
    { asm volatile("movq (%1),%%mm1; movq (%2),%%mm2;" code "movq %%mm1,(%0); emms"                \
                   :: "r"(r), "r"(x), "r"(y) : "memory", "mm1", "mm2"); }
#define HOST_SSE(id, code)                                                                         \
    static void sse_##id(void *r, const void *x, const void *y)                                    \
    { asm volatile("movdqu (%1),%%xmm1; movdqu (%2),%%xmm2;" code "movdqu %%xmm1,(%0)"             \
                   :: "r"(r), "r"(x), "r"(y) : "memory", "xmm1", "xmm2"); }
#define HOST_AVX(id, code)                                                                         \
    __attribute__((target("avx2"))) static void avx_##id(void *r, const void *x, const void *y)    \
    { asm volatile("vmovdqu (%1),%%ymm1; vmovdqu (%2),%%ymm2;" code "vmovdqu %%ymm1,(%0); vzeroupper" \
                   :: "r"(r), "r"(x), "r"(y) : "memory", "xmm1", "xmm2"); }

/* X(NAME, mnemonic): two sources; MMX, SSE and AVX2 forms */
#define ALL_FORMS(X)                                                                               \
    X(PADDB, "paddb") X(PADDW, "paddw") X(PADDD, "paddd") X(PADDQ, "paddq") X(PSUBB, "psubb")      \
    X(PSUBW, "psubw") X(PSUBD, "psubd") X(PSUBQ, "psubq") X(PADDSB, "paddsb") X(PADDSW, "paddsw")  \
    X(PADDUSB, "paddusb") X(PADDUSW, "paddusw") X(PSUBSB, "psubsb") X(PSUBSW, "psubsw")            \
    X(PSUBUSB, "psubusb") X(PSUBUSW, "psubusw") X(PAVGB, "pavgb") X(PAVGW, "pavgw")                \
    X(PMULLW, "pmullw") X(PMULHW, "pmulhw") X(PMULHUW, "pmulhuw") X(PMULHRSW, "pmulhrsw")          \
    X(PMULUDQ, "pmuludq") X(PMADDWD, "pmaddwd") X(PMADDUBSW, "pmaddubsw") X(PSADBW, "psadbw")      \
    X(PMINUB, "pminub") X(PMINSW, "pminsw") X(PMAXUB, "pmaxub") X(PMAXSW, "pmaxsw")                \
    X(PSIGNB, "psignb") X(PSIGNW, "psignw") X(PSIGND, "psignd") X(PHADDW, "phaddw")                \
    X(PHADDD, "phaddd") X(PHADDSW, "phaddsw") X(PHSUBW, "phsubw") X(PHSUBD, "phsubd")              \
    X(PHSUBSW, "phsubsw") X(PCMPEQB, "pcmpeqb") X(PCMPEQW, "pcmpeqw") X(PCMPEQD, "pcmpeqd")        \
    X(PCMPGTB, "pcmpgtb") X(PCMPGTW, "pcmpgtw") X(PCMPGTD, "pcmpgtd") X(PAND, "pand")              \
    X(PANDN, "pandn") X(POR, "por") X(PXOR, "pxor") X(PUNPCKLBW, "punpcklbw")                      \
    X(PUNPCKLWD, "punpcklwd") X(PUNPCKLDQ, "punpckldq") X(PUNPCKHBW, "punpckhbw")                  \
    X(PUNPCKHWD, "punpckhwd") X(PUNPCKHDQ, "punpckhdq") X(PACKSSWB, "packsswb")                    \
    X(PACKSSDW, "packssdw") X(PACKUSWB, "packuswb") X(PSHUFB, "pshufb")
/* SSE and AVX2 */
#define WIDE_FORMS(X)                                                                              \
    X(PMULDQ, "pmuldq") X(PMULLD, "pmulld") X(PMINSB, "pminsb") X(PMINUW, "pminuw")                \
    X(PMINUD, "pminud") X(PMINSD, "pminsd") X(PMAXSB, "pmaxsb") X(PMAXUW, "pmaxuw")                \
    X(PMAXUD, "pmaxud") X(PMAXSD, "pmaxsd") X(PCMPEQQ, "pcmpeqq") X(PCMPGTQ, "pcmpgtq")            \
    X(PACKUSDW, "packusdw") X(PUNPCKLQDQ, "punpcklqdq") X(PUNPCKHQDQ, "punpckhqdq")                \
    X(UNPCKLPS, "unpcklps") X(UNPCKHPD, "unpckhpd") X(ANDNPS, "andnps") X(XORPD, "xorpd")
/* with imm8, SSE and AVX2 */
#define IMM_FORMS(X, n)                                                                            \
    X(PALIGNR, "palignr", n) X(SHUFPS, "shufps", n) X(SHUFPD, "shufpd", n) X(MPSADBW, "mpsadbw", n)\
    X(BLENDPS, "blendps", n) X(BLENDPD, "blendpd", n) X(PBLENDW, "pblendw", n)
/* one source and imm8 */
#define UNARY_IMM_FORMS(X, n)                                                                      \
    X(PSHUFD, "pshufd", n) X(PSHUFLW, "pshuflw", n) X(PSHUFHW, "pshufhw", n)
#define UNARY_FORMS(X)                                                                             \
    X(PABSB, "pabsb") X(PABSW, "pabsw") X(PABSD, "pabsd") X(PMOVSXBW, "pmovsxbw")                  \
    X(PMOVSXBQ, "pmovsxbq") X(PMOVSXWD, "pmovsxwd") X(PMOVSXDQ, "pmovsxdq") X(PMOVZXBD, "pmovzxbd")\
    X(PMOVZXWQ, "pmovzxwq") X(PMOVZXDQ, "pmovzxdq") X(MOVSLDUP, "movsldup")                        \
    X(MOVSHDUP, "movshdup") X(MOVDDUP, "movddup") X(PHMINPOSUW, "phminposuw")
/* one source: the whole register, and its lower half or lowest element */
#define VEX_UNARY_FORMS(X)                                                                         \
    X(PABSB, "vpabsb %%ymm1,%%ymm1;") X(PABSD, "vpabsd %%ymm1,%%ymm1;")                            \
    X(MOVSLDUP, "vmovsldup %%ymm1,%%ymm1;") X(MOVDDUP, "vmovddup %%ymm1,%%ymm1;")                  \
    X(PMOVSXBW, "vpmovsxbw %%xmm1,%%ymm1;") X(PMOVSXBD, "vpmovsxbd %%xmm1,%%ymm1;")                \
    X(PMOVSXWQ, "vpmovsxwq %%xmm1,%%ymm1;") X(PMOVZXBW, "vpmovzxbw %%xmm1,%%ymm1;")                \
    X(PMOVZXBQ, "vpmovzxbq %%xmm1,%%ymm1;") X(PMOVZXWD, "vpmovzxwd %%xmm1,%%ymm1;")                \
    X(VPBROADCASTB, "vpbroadcastb %%xmm1,%%ymm1;") X(VPBROADCASTW, "vpbroadcastw %%xmm1,%%ymm1;")  \
    X(VPBROADCASTD, "vpbroadcastd %%xmm1,%%ymm1;") X(VPBROADCASTQ, "vpbroadcastq %%xmm1,%%ymm1;")
#define VEX_IMM_FORMS(X, n)                                                                        \
    X(VPERM2F128, "perm2f128", n) X(VPERM2I128, "perm2i128", n) X(VPBLENDD, "pblendd", n)
#define VEX_UNARY_IMM_FORMS(X, n)                                                                  \
    X(VPERMQ, "permq", n) X(VPERMPD, "permpd", n) X(VPERMILPS, "permilps", n) \
    X(VPERMILPD, "permilpd", n)
#define BLENDV_FORMS(X) X(BLENDVPS, "blendvps") X(BLENDVPD, "blendvpd") X(PBLENDVB, "pblendvb")
#define VEX_FORMS(X)                                                                               \
    X(VPSLLVD, "vpsllvd") X(VPSLLVQ, "vpsllvq") X(VPSRLVD, "vpsrlvd") X(VPSRLVQ, "vpsrlvq")        \
    X(VPSRAVD, "vpsravd") X(VPERMD, "vpermd") X(VPERMPS, "vpermps") X(VPERMILPS, "vpermilps")      \
    X(VPERMILPD, "vpermilpd")

#define H_MMX(NAME, m) HOST_MMX(NAME, m " %%mm2,%%mm1;")
#define H_SSE(NAME, m) HOST_SSE(NAME, m " %%xmm2,%%xmm1;")
#define H_AVX(NAME, m) HOST_AVX(NAME, "v" m " %%ymm2,%%ymm1,%%ymm1;")
#define H_VEX(NAME, m) HOST_AVX(NAME, m " %%ymm2,%%ymm1,%%ymm1;")
#define H_SSE1(NAME, m) HOST_SSE(NAME, m " %%xmm1,%%xmm1;")
#define H_SSEI(NAME, m, n) HOST_SSE(NAME##_##n, m " $" #n ",%%xmm2,%%xmm1;")
#define H_AVXI(NAME, m, n) HOST_AVX(NAME##_##n, "v" m " $" #n ",%%ymm2,%%ymm1,%%ymm1;")
#define H_SSE1I(NAME, m, n) HOST_SSE(NAME##_##n, m " $" #n ",%%xmm1,%%xmm1;")
#define H_AVX1I(NAME, m, n) HOST_AVX(NAME##_##n, "v" m " $" #n ",%%ymm1,%%ymm1;")
#define IMMS(Y) Y(0x00) Y(0x05) Y(0x1b) Y(0x4e) Y(0x87) Y(0xd2) Y(0xff)
ALL_FORMS(H_MMX) ALL_FORMS(H_SSE) ALL_FORMS(H_AVX)
WIDE_FORMS(H_SSE) WIDE_FORMS(H_AVX) VEX_FORMS(H_VEX) UNARY_FORMS(H_SSE1)
#define H_UNARY_AVX(NAME, code) HOST_AVX(NAME, code)
VEX_UNARY_FORMS(H_UNARY_AVX)
#define H_BLENDV(NAME, m)                                                                          \
    static void sse_##NAME(void *r, const void *x, const void *y)                                  \
    { asm volatile("movdqu (%1),%%xmm1; movdqu (%2),%%xmm2; movdqa %%xmm2,%%xmm0;" m               \
                   " %%xmm0,%%xmm2,%%xmm1; movdqu %%xmm1,(%0)"                                     \
                   :: "r"(r), "r"(x), "r"(y) : "memory", "xmm0", "xmm1", "xmm2"); }
BLENDV_FORMS(H_BLENDV)
#define H_VEX_IMMS(n)                                                                              \
    VEX_IMM_FORMS(H_AVXI, n) VEX_UNARY_IMM_FORMS(H_AVX1I, n) H_SSEI(INSERTPS, "insertps", n)       \
    HOST_AVX(VINSERTI128_##n, "vinserti128 $" #n ",%%xmm2,%%ymm1,%%ymm1;")                         \
    H_SSE1I2(PSLLDQ, "pslldq", n) H_SSE1I2(PSRLDQ, "psrldq", n)
#define H_SSE1I2(NAME, m, n)                                                                       \
    HOST_SSE(NAME##_##n, m " $" #n ",%%xmm1;") HOST_AVX(NAME##_##n, "v" m " $" #n ",%%ymm1,%%ymm1;")
IMMS(H_VEX_IMMS)
#define H_IMMS(n) IMM_FORMS(H_SSEI, n) IMM_FORMS(H_AVXI, n) UNARY_IMM_FORMS(H_SSE1I, n) UNARY_IMM_FORMS(H_AVX1I, n)
IMMS(H_IMMS)
#define SHIFTS(X)                                                                                  \
    X(PSLLW, "psllw") X(PSLLD, "pslld") X(PSLLQ, "psllq") X(PSRLW, "psrlw") X(PSRLD, "psrld")      \
    X(PSRLQ, "psrlq") X(PSRAW, "psraw") X(PSRAD, "psrad")
#define H_SHIFT_AVX(NAME, m) HOST_AVX(NAME, "v" m " %%xmm2,%%ymm1,%%ymm1;")
SHIFTS(H_MMX) SHIFTS(H_SSE) SHIFTS(H_SHIFT_AVX)

#define C_ALL(NAME, m) {#NAME, sem_##NAME, mmx_##NAME, sse_##NAME, avx_##NAME, -1, false},
#define C_WIDE(NAME, m) {#NAME, sem_##NAME, NULL, sse_##NAME, avx_##NAME, -1, false},
#define C_VEX(NAME, m) {#NAME, sem_##NAME, NULL, NULL, avx_##NAME, -1, false},
#define C_UNARY(NAME, m) {#NAME, sem_##NAME, NULL, sse_##NAME, NULL, -1, true},
#define C_IMM(NAME, m, n) {#NAME " " #n, sem_##NAME, NULL, sse_##NAME##_##n, avx_##NAME##_##n, n, false},
#define C_UNARY_IMM(NAME, m, n) {#NAME " " #n, sem_##NAME, NULL, sse_##NAME##_##n, avx_##NAME##_##n, n, true},
#define C_IMMS(n) IMM_FORMS(C_IMM, n) UNARY_IMM_FORMS(C_UNARY_IMM, n)
#define C_SSE(NAME, m) {#NAME, sem_##NAME, NULL, sse_##NAME, NULL, -1, false},
#define C_VEX_UNARY(NAME, m) {#NAME, sem_##NAME, NULL, NULL, avx_##NAME, -1, true},
#define C_VEX_IMM(NAME, m, n) {#NAME " " #n, sem_##NAME, NULL, NULL, avx_##NAME##_##n, n, false},
#define C_VEX_UNARY_IMM(NAME, m, n) {#NAME " " #n, sem_##NAME, NULL, NULL, avx_##NAME##_##n, n, true},
#define C_VEX_IMMS(n)                                                                              \
    VEX_IMM_FORMS(C_VEX_IMM, n) VEX_UNARY_IMM_FORMS(C_VEX_UNARY_IMM, n)                            \
    {"INSERTPS " #n, sem_INSERTPS, NULL, sse_INSERTPS_##n, NULL, n, false},                        \
    C_VEX_IMM(VINSERTI128, "", n) C_UNARY_IMM(PSLLDQ, "", n) C_UNARY_IMM(PSRLDQ, "", n)
static const struct host_case cases[] = {
    VEX_UNARY_FORMS(C_VEX_UNARY) BLENDV_FORMS(C_SSE) IMMS(C_VEX_IMMS)
    ALL_FORMS(C_ALL) WIDE_FORMS(C_WIDE) VEX_FORMS(C_VEX) UNARY_FORMS(C_UNARY) IMMS(C_IMMS)
};
static const struct host_case shifts[] = { SHIFTS(C_ALL) };

#define AES_FORMS(X)                                                                               \
    X(AESENC, "aesenc") X(AESENCLAST, "aesenclast") X(AESDEC, "aesdec") X(AESDECLAST, "aesdeclast")
AES_FORMS(H_SSE) H_SSE1(AESIMC, "aesimc") H_SSE1I(AESKEYGENASSIST, "aeskeygenassist", 0x1b)
#define CLMUL_FORMS(X) X(PCLMULQDQ, "pclmulqdq", 0x00) X(PCLMULQDQ, "pclmulqdq", 0x01) X(PCLMULQDQ, "pclmulqdq", 0x10) X(PCLMULQDQ, "pclmulqdq", 0x11)
CLMUL_FORMS(H_SSEI)
#define C_SSEI(NAME, m, n) {#NAME " " #n, sem_##NAME, NULL, sse_##NAME##_##n, NULL, n, false},
static const struct host_case aes_cases[] = {
    AES_FORMS(C_SSE) C_UNARY(AESIMC, "")
    {"AESKEYGENASSIST", sem_AESKEYGENASSIST, NULL, sse_AESKEYGENASSIST_0x1b, NULL, 0x1b, true},
};
#define H_VAES(NAME, m) HOST_AVX(NAME, "v" m " %%ymm2,%%ymm1,%%ymm1;")
AES_FORMS(H_VAES)
static const struct host_case vaes_cases[] = { AES_FORMS(C_VEX) };
static const struct host_case clmul_cases[] = { CLMUL_FORMS(C_SSEI) };

#define SHA_FORMS(X)                                                                               \
    X(SHA1NEXTE, "sha1nexte") X(SHA1MSG1, "sha1msg1") X(SHA1MSG2, "sha1msg2")                      \
    X(SHA256MSG1, "sha256msg1") X(SHA256MSG2, "sha256msg2")
#define SHA1_FORMS(X) X(SHA1RNDS4, "sha1rnds4", 0x00) X(SHA1RNDS4, "sha1rnds4", 0x01) X(SHA1RNDS4, "sha1rnds4", 0x02) X(SHA1RNDS4, "sha1rnds4", 0x03)
SHA_FORMS(H_SSE) SHA1_FORMS(H_SSEI)
static void sse_SHA256RNDS2(void *r, const void *x, const void *y)
{
    asm volatile("movdqu (%1),%%xmm1; movdqu (%2),%%xmm2; movdqa %%xmm2,%%xmm0; sha256rnds2 %%xmm0,%%xmm2,%%xmm1;"
                 "movdqu %%xmm1,(%0)" :: "r"(r), "r"(x), "r"(y) : "memory", "xmm0", "xmm1", "xmm2");
}
static const struct host_case sha_cases[] = {
    SHA_FORMS(C_SSE) SHA1_FORMS(C_SSEI) C_SSE(SHA256RNDS2, "")
};
#define GF_FORMS(X, n) X(GF2P8AFFINEQB, "gf2p8affineqb", n) X(GF2P8AFFINEINVQB, "gf2p8affineinvqb", n)
H_SSE(GF2P8MULB, "gf2p8mulb") GF_FORMS(H_SSEI, 0x63)
static const struct host_case gf_cases[] = { C_SSE(GF2P8MULB, "") GF_FORMS(C_SSEI, 0x63) };
/* clang-format on */

static void compare_form(struct vcpu *cpu, const struct host_case *c, host_fn host, unsigned vl,
                         const union vec *x, const union vec *y)
{
    union vec r = {{0}};
    const u8 *got;
    u64 low;
    host(&r, x, y);
    struct insn insn = register_insn(vl, vl == 32, c->imm < 0 ? 0 : (unsigned)c->imm);
    if (c->unary && c->imm >= 0) insn.operand[2].kind = OPERAND_IMMEDIATE;
    for (unsigned i = 0; i < 8; i++) cpu_vec(cpu, 1)->q[i] = 0xdeadbeefdeadbeefull;
    if (vl == 16 && !c->unary) *cpu_vec(cpu, 1) = *x; /* legacy: the destination is a source */
    *cpu_vec(cpu, 0) = *cpu_vec(cpu, 3) = *y;
    *cpu_vec(cpu, 2) = *x;
    cpu->fpu_mantissa[2] = x->q[0];
    cpu->fpu_mantissa[3] = y->q[0];
    cpu->fsw = 0x3800;
    cpu->ftw = 0;
    assert_true(c->sem(cpu, &insn));
    low = cpu->fpu_mantissa[1];
    got = vl == 8 ? (const u8 *)&low : cpu_vec(cpu, 1)->b;
    if (memcmp(got, &r, vl)) fail_msg("%s, %u bytes, differs from the host", c->name, vl);
    if (vl == 8) {
        assert_int_equal(cpu->ftw, 0xff);
        assert_int_equal(cpu->fsw, 0);
        assert_int_equal(cpu->fpu_exponent[1], 0xffff);
    } else if (vl == 32) {
        assert_int_equal(cpu_vec(cpu, 1)->q[4], 0);
    } else {
        assert_true(cpu_vec(cpu, 1)->q[2] == (c->unary ? 0xdeadbeefdeadbeefull : x->q[2]));
    }
}

static void compare_cases(struct vcpu *cpu, const struct host_case *c, size_t count, bool small_y)
{
    bool avx2 = __builtin_cpu_supports("avx2");
    u64 seed = 1;
    for (size_t k = 0; k < count; k++, c++)
        for (unsigned round = 0; round < ROUNDS; round++) {
            union vec x, y;
            random_vector(&seed, &x);
            random_vector(&seed, &y);
            if (small_y) y.q[0] = round < 290 ? next_random(&seed) % 70 : next_random(&seed);
            if (c->mmx) compare_form(cpu, c, c->mmx, 8, &x, &y);
            if (c->sse) compare_form(cpu, c, c->sse, 16, &x, &y);
            if (c->avx && avx2) compare_form(cpu, c, c->avx, 32, &x, &y);
        }
}

static bool host_has(unsigned leaf, unsigned reg, unsigned bit)
{
    unsigned r[4];
    asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(0));
    return r[reg] >> bit & 1;
}

static void test_host(void **state)
{
    struct fixture *f = *state;
    if (!__builtin_cpu_supports("sse4.2")) skip();
    compare_cases(f->cpu, cases, ARRAY_SIZE(cases), false);
    compare_cases(f->cpu, shifts, ARRAY_SIZE(shifts), true);
}

static void test_host_crypto(void **state)
{
    struct fixture *f = *state;
    if (host_has(1, 2, 25)) compare_cases(f->cpu, aes_cases, ARRAY_SIZE(aes_cases), false);
    if (host_has(7, 2, 9)) compare_cases(f->cpu, vaes_cases, ARRAY_SIZE(vaes_cases), false);
    if (host_has(1, 2, 1)) compare_cases(f->cpu, clmul_cases, ARRAY_SIZE(clmul_cases), false);
    if (host_has(7, 1, 29)) compare_cases(f->cpu, sha_cases, ARRAY_SIZE(sha_cases), false);
    if (host_has(7, 2, 8)) compare_cases(f->cpu, gf_cases, ARRAY_SIZE(gf_cases), false);
}

static void test_host_ptest(void **state)
{
    struct vcpu *cpu = ((struct fixture *)*state)->cpu;
    u64 seed = 11;
    if (!__builtin_cpu_supports("sse4.2")) skip();
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct insn insn = register_insn(16, false, 0);
        union vec *x = cpu_vec(cpu, 1), *y = cpu_vec(cpu, 2);
        random_vector(&seed, x);
        for (unsigned i = 0; i < 8; i++) y->q[i] = round % 3 ? round & 1 ? x->q[i] : ~x->q[i] : 0;
        if (round % 5 == 0) y->q[1] ^= 1ull << round % 64;
        u64 flags;
        asm volatile("movdqu (%1),%%xmm1; movdqu (%2),%%xmm2; ptest %%xmm2,%%xmm1; pushfq; popq %0"
                     : "=r"(flags) : "r"(x), "r"(y) : "memory", "cc", "xmm1", "xmm2");
        assert_true(sem_PTEST(cpu, &insn));
        assert_int_equal(flags_get(cpu), flags & FLAGS_ARITHMETIC);
    }
}

/* --- PCMPESTRI, PCMPESTRM, PCMPISTRI with every meaningful immediate --- */
struct string_result { u64 index, implicit_index, flags, implicit_flags, mask[2]; };

/* clang-format off */
#define STRING_CASE(n)                                                                             \
    case n:                                                                                        \
        asm volatile("movdqu (%2),%%xmm1; movdqu (%3),%%xmm2; pcmpestrm $" #n ",%%xmm2,%%xmm1;"    \
                     "movdqu %%xmm0,32(%4); pcmpestri $" #n ",%%xmm2,%%xmm1; mov %%rcx,0(%4);"     \
                     "pushfq; popq 16(%4); pcmpistri $" #n ",%%xmm2,%%xmm1; mov %%rcx,8(%4);"      \
                     "pushfq; popq 24(%4)"                                                         \
                     :: "a"(la), "d"(lb), "r"(x), "r"(y), "r"(r)                                   \
                     : "rcx", "memory", "cc", "xmm0", "xmm1", "xmm2");                             \
        break;
#define STRING_8(h) STRING_CASE(0x##h##0) STRING_CASE(0x##h##1) STRING_CASE(0x##h##2) STRING_CASE(0x##h##3) \
    STRING_CASE(0x##h##4) STRING_CASE(0x##h##5) STRING_CASE(0x##h##6) STRING_CASE(0x##h##7)                \
    STRING_CASE(0x##h##8) STRING_CASE(0x##h##9) STRING_CASE(0x##h##a) STRING_CASE(0x##h##b)                \
    STRING_CASE(0x##h##c) STRING_CASE(0x##h##d) STRING_CASE(0x##h##e) STRING_CASE(0x##h##f)
static void host_string(struct string_result *r, const void *x, const void *y, u64 la, u64 lb,
                        unsigned imm)
{
    switch (imm) {
    STRING_8(0) STRING_8(1) STRING_8(2) STRING_8(3) STRING_8(4) STRING_8(5) STRING_8(6) STRING_8(7)
    }
}
/* clang-format on */

static void test_strings(void **state)
{
    struct vcpu *cpu = ((struct fixture *)*state)->cpu;
    u64 seed = 7;
    if (!__builtin_cpu_supports("sse4.2")) skip();
    for (unsigned imm = 0; imm < 128; imm++)
        for (unsigned round = 0; round < 200; round++) {
            union vec x, y;
            struct string_result r;
            for (unsigned i = 0; i < 64; i++) { /* few different values, now and then an end */
                x.b[i] = (u8)(next_random(&seed) % 5 + (round & 1 ? 0x7e : 0));
                y.b[i] = (u8)(next_random(&seed) % 5 + (round & 1 ? 0x7e : 0));
            }
            u64 la = next_random(&seed) % 40 - 20, lb = next_random(&seed) % 40 - 20;
            la = (u32)la;
            lb = (u32)lb;
            host_string(&r, &x, &y, la, lb, imm);
            struct insn insn = register_insn(16, false, imm);
            *cpu_vec(cpu, 1) = x;
            *cpu_vec(cpu, 2) = y;
            cpu->regs[RAX] = la;
            cpu->regs[RDX] = lb;
            assert_true(sem_PCMPESTRI(cpu, &insn));
            assert_int_equal(cpu->regs[RCX], r.index);
            assert_int_equal(flags_get(cpu), r.flags & FLAGS_ARITHMETIC);
            assert_true(sem_PCMPISTRI(cpu, &insn));
            assert_int_equal(cpu->regs[RCX], r.implicit_index);
            assert_int_equal(flags_get(cpu), r.implicit_flags & FLAGS_ARITHMETIC);
            assert_true(sem_PCMPESTRM(cpu, &insn));
            assert_memory_equal(cpu_vec(cpu, 0), r.mask, 16);
        }
}
#endif

/* --- on any host --- */
static void test_masked_store(void **state)
{
    struct fixture *f = *state;
    struct insn insn = register_insn(32, true, 0);
    union vec *mask = cpu_vec(f->cpu, 2), *data = cpu_vec(f->cpu, 3);
    memset(f->page, 0x55, 4096);
    for (unsigned i = 0; i < 8; i++) {
        vec_d(mask, i) = i < 4 && (i & 1) ? 0x80000000u : 0x7fffffffu;
        vec_d(data, i) = 0x11111111u * i;
    }
    memory_operand(&insn, 0, 4096 - 16, 32); /* the upper half lies in a page that is not there */
    assert_true(sem_VPMASKMOVD(f->cpu, &insn));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(ld32(f->page + 4096 - 16 + i * 4), i & 1 ? 0x11111111u * i : 0x55555555u);

    insn = register_insn(32, true, 0);
    memory_operand(&insn, 2, 4096 - 16, 32);
    assert_true(sem_VPMASKMOVD(f->cpu, &insn));
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(vec_d(cpu_vec(f->cpu, 1), i), i < 4 && (i & 1) ? 0x11111111u * i : 0);
}

static void test_gather(void **state)
{
    struct fixture *f = *state;
    struct insn insn = register_insn(32, true, 0);
    memory_operand(&insn, 1, 0, 4);
    insn.scale = 2;
    insn.operand[2] = (struct operand){OPERAND_VECTOR, 2, 32, 0};
    insn.operand[3] = (struct operand){OPERAND_VECTOR, 3, 32, 0};
    for (unsigned i = 0; i < 1024; i++) st32(f->page + i * 4, i);
    for (unsigned i = 0; i < 8; i++) {
        vec_d(cpu_vec(f->cpu, 1), i) = 0xaaaaaaaau;
        vec_d(cpu_vec(f->cpu, 2), i) = i == 5 ? 0 : 0x80000000u;
        vec_d(cpu_vec(f->cpu, 3), i) = 100 * i + 3;
    }
    assert_true(sem_VPGATHERDD(f->cpu, &insn));
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(vec_d(cpu_vec(f->cpu, 1), i), i == 5 ? 0xaaaaaaaau : 100 * i + 3);
        assert_int_equal(vec_d(cpu_vec(f->cpu, 2), i), 0);
    }
}

/* The AES S-box is an inverse and an affine map: GFNI against AESENCLAST. */
static void test_galois(void **state)
{
    struct vcpu *cpu = ((struct fixture *)*state)->cpu;
    struct insn affine = register_insn(16, true, 0x63), aes = register_insn(16, true, 0);
    u64 seed = 5;
    aes.operand[0].reg = 4;
    aes.operand[2].reg = 5;
    for (unsigned round = 0; round < ROUNDS; round++) {
        union vec shifted;
        random_vector(&seed, cpu_vec(cpu, 2));
        cpu_vec(cpu, 3)->q[0] = cpu_vec(cpu, 3)->q[1] = 0xf1e3c78f1f3e7cf8ull;
        assert_true(sem_GF2P8AFFINEINVQB(cpu, &affine));
        assert_true(sem_AESENCLAST(cpu, &aes)); /* also shifts rows */
        for (unsigned i = 0; i < 16; i++)
            vec_b(&shifted, i) = vec_b(cpu_vec(cpu, 1), (i + 4 * (i & 3)) & 15);
        assert_memory_equal(&shifted, cpu_vec(cpu, 4), 16);
    }
}

static void test_alignment(void **state)
{
    struct fixture *f = *state;
    struct insn insn = register_insn(16, false, 0);
    memory_operand(&insn, 1, 8, 16);
    assert_false(sem_MOVAPS(f->cpu, &insn));
    assert_int_equal(f->cpu->exception.vector, VECTOR_GP);
    assert_true(sem_MOVUPS(f->cpu, &insn));
}

/* a * inverse(a) is 1, and multiplication distributes over xor. */
static void test_galois_multiply(void **state)
{
    struct vcpu *cpu = ((struct fixture *)*state)->cpu;
    struct insn multiply = register_insn(16, true, 0), inverse = register_insn(16, true, 0);
    inverse.operand[0].reg = 3;
    inverse.operand[2].reg = 4;
    cpu_vec(cpu, 4)->q[0] = cpu_vec(cpu, 4)->q[1] = 0x0102040810204080ull; /* identity */
    for (unsigned first = 0; first < 256; first += 16) {
        for (unsigned i = 0; i < 16; i++) vec_b(cpu_vec(cpu, 2), i) = (u8)(first + i);
        assert_true(sem_GF2P8AFFINEINVQB(cpu, &inverse));
        assert_true(sem_GF2P8MULB(cpu, &multiply));
        for (unsigned i = 0; i < 16; i++)
            assert_int_equal(vec_b(cpu_vec(cpu, 1), i), first + i != 0);
    }
}

/* Elements before the fault are done and out of the mask; the rest is as it was. */
static void test_gather_fault(void **state)
{
    struct fixture *f = *state;
    struct insn insn = register_insn(32, true, 0);
    memory_operand(&insn, 1, 0, 8);
    insn.operand[2] = (struct operand){OPERAND_VECTOR, 2, 32, 0};
    insn.operand[3] = (struct operand){OPERAND_VECTOR, 3, 32, 0};
    for (unsigned i = 0; i < 4; i++) {
        st64(f->page + i * 8, i + 100);
        cpu_vec(f->cpu, 1)->q[i] = 7;
        cpu_vec(f->cpu, 2)->q[i] = ~0ull;
        cpu_vec(f->cpu, 3)->q[i] = i == 2 ? 1ull << 60 : i * 8;
    }
    assert_false(sem_VPGATHERQQ(f->cpu, &insn));
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(cpu_vec(f->cpu, 1)->q[i], i < 2 ? i + 100 : 7);
        assert_int_equal(cpu_vec(f->cpu, 2)->q[i], i < 2 ? 0 : ~0ull);
    }
    cpu_vec(f->cpu, 3)->q[2] = 16;
    assert_true(sem_VPGATHERQQ(f->cpu, &insn));
    for (unsigned i = 0; i < 4; i++) assert_int_equal(cpu_vec(f->cpu, 1)->q[i], i + 100);
}

/* A store that faults in its second page has written nothing in the first. */
static void test_fault_writes_nothing(void **state)
{
    struct fixture *f = *state;
    struct vcpu *cpu = f->cpu;
    struct insn insn = register_insn(32, true, 0);
    insn.operand[0] = (struct operand){OPERAND_MEMORY, 0, 32, 0};
    insn.base = RBX;
    cpu->regs[RBX] = HIGH_PAGE;
    cpu->regs[RAX] = 7;
    for (unsigned i = 0; i < 4; i++) cpu_vec(cpu, 2)->q[i] = cpu_vec(cpu, 3)->q[i] = ~0ull;
    insn.disp = 4096 - 16;
    assert_false(sem_MOVDQU(cpu, &insn));
    vec_d(cpu_vec(cpu, 2), 1) = 0;
    assert_false(sem_VPMASKMOVD(cpu, &insn));
    insn.disp = 4096 - 256;
    assert_false(sem_FXSAVE(cpu, &insn));
    insn.disp = 4096 - 576;
    assert_false(sem_XSAVE(cpu, &insn));
    for (unsigned i = 0; i < 4096; i++) assert_int_equal(f->page[i], 0);
    cpu->regs[RAX] = 3; /* without AVX it fits */
    assert_true(sem_XSAVE(cpu, &insn));
}

static int check(struct vcpu *cpu, const char *bytes, unsigned length)
{
    struct insn insn;
    assert_int_equal(decode_insn(&insn, (const u8 *)bytes, length, CODE64, 0, &cpu->features),
                     DECODE_OK);
    cpu->exception.vector = 99;
    return fpu_check(cpu, &insn) ? 99 : cpu->exception.vector;
}

static void test_availability(void **state)
{
    struct vcpu *cpu = ((struct fixture *)*state)->cpu;
    static const struct {
        const char *bytes;
        unsigned length;
        int em, ts, no_osfxsr, no_osxsave, pending;
    } rows[] = {
        /* clang-format off */
        {"\x0f\x58\xc1", 3, VECTOR_UD, VECTOR_NM, VECTOR_UD, 99, 99},                 /* ADDPS */
        {"\xc5\xf0\x58\xc2", 4, 99, VECTOR_NM, 99, VECTOR_UD, 99},                    /* VADDPS */
        /* PADDB mm */
        {"\x0f\xfc\xc1", 3, VECTOR_UD, VECTOR_NM, 99, 99, VECTOR_MF},
        {"\xd8\xc1", 2, VECTOR_NM, VECTOR_NM, 99, 99, VECTOR_MF},                       /* FADD */
        {"\xdb\xe3", 2, VECTOR_NM, VECTOR_NM, 99, 99, 99},                              /* FNINIT */
        {"\x9b", 1, 99, 99, 99, 99, VECTOR_MF},                                         /* FWAIT */
        /* clang-format on */
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const char *b = rows[i].bytes;
        unsigned n = rows[i].length;
        cpu->cr0 = CR0_PE | CR0_NE;
        assert_int_equal(check(cpu, b, n), 99);
        cpu->cr0 |= CR0_EM;
        assert_int_equal(check(cpu, b, n), rows[i].em);
        cpu->cr0 ^= CR0_EM | CR0_TS;
        assert_int_equal(check(cpu, b, n), rows[i].ts);
        cpu->cr0 ^= CR0_TS;
        cpu->cr4 ^= CR4_OSFXSR;
        assert_int_equal(check(cpu, b, n), rows[i].no_osfxsr);
        cpu->cr4 ^= CR4_OSFXSR | CR4_OSXSAVE;
        assert_int_equal(check(cpu, b, n), rows[i].no_osxsave);
        cpu->cr4 ^= CR4_OSXSAVE;
        cpu->fsw = 0x8081;
        assert_int_equal(check(cpu, b, n), rows[i].pending);
        cpu->fsw = 0;
    }
    cpu->cr0 |= CR0_MP | CR0_TS;
    assert_int_equal(check(cpu, "\x9b", 1), VECTOR_NM);
}

static void fill_state(struct vcpu *cpu)
{
    u64 seed = 3;
    for (unsigned n = 0; n < 16; n++)
        for (unsigned i = 0; i < 4; i++) cpu_vec(cpu, n)->q[i] = next_random(&seed);
    for (unsigned i = 0; i < 8; i++) {
        cpu->fpu_mantissa[i] = next_random(&seed);
        cpu->fpu_exponent[i] = (u16)next_random(&seed);
    }
    cpu->fsw = 3 << 11;
    cpu->ftw = 0xa5;
    cpu->fcw = 0x37e;
    cpu->fop = 0x123;
    cpu->fip = 0x123456789abcull;
    cpu->fdp = 0xffff800012345678ull;
    cpu->mxcsr = 0x1fa0;
}

static void test_fxsave(void **state)
{
    struct fixture *f = *state;
    struct vcpu *cpu = f->cpu, before;
    struct insn insn = register_insn(16, false, 0);
    insn.flags = INSN_W;
    memory_operand(&insn, 0, 16, 0);
    fill_state(cpu);
    memset(f->page, 0xcc, 4096);
    assert_true(sem_FXSAVE(cpu, &insn));
    assert_int_equal(f->page[16 + 416], 0xcc);
    assert_int_equal(ld64(f->page + 16 + 32), cpu->fpu_mantissa[3]);
    before = *cpu;
    memset(cpu->zmm, 0, sizeof(cpu->zmm));
    memset(cpu->fpu_mantissa, 0, sizeof(cpu->fpu_mantissa));
    cpu->fsw = cpu->fcw = cpu->ftw = 0;
    cpu->mxcsr = 0;
    assert_true(sem_FXRSTOR(cpu, &insn));
    assert_memory_equal(cpu->fpu_mantissa, before.fpu_mantissa, sizeof(before.fpu_mantissa));
    assert_memory_equal(cpu->fpu_exponent, before.fpu_exponent, sizeof(before.fpu_exponent));
    assert_true(cpu->fsw == before.fsw && cpu->fcw == before.fcw && cpu->ftw == before.ftw);
    assert_true(cpu->fip == before.fip && cpu->fdp == before.fdp && cpu->mxcsr == before.mxcsr);
    for (unsigned n = 0; n < 16; n++) assert_memory_equal(cpu_vec(cpu, n), &before.zmm[n * 8], 16);
    f->page[16 + 26] = 1; /* a reserved bit of MXCSR */
    assert_false(sem_FXRSTOR(cpu, &insn));
    assert_int_equal(cpu->exception.vector, VECTOR_GP);
}

static void test_xsave(void **state)
{
    struct fixture *f = *state;
    struct vcpu *cpu = f->cpu, before;
    struct insn insn = register_insn(16, false, 0);
    insn.flags = INSN_W;
    memory_operand(&insn, 0, 64, 0);
    for (unsigned compacted = 0; compacted < 2; compacted++) {
        fill_state(cpu);
        cpu->regs[RAX] = 7;
        memset(f->page, 0, 4096);
        assert_true((compacted ? sem_XSAVEC : sem_XSAVE)(cpu, &insn));
        assert_int_equal(ld64(f->page + 64 + 512), 7);
        assert_int_equal(ld64(f->page + 64 + 520), compacted ? XSAVE_COMPACTED | 7 : 0);
        before = *cpu;
        memset(cpu->zmm, 0, sizeof(cpu->zmm));
        cpu->mxcsr = MXCSR_INIT;
        assert_true(sem_XRSTOR(cpu, &insn));
        assert_memory_equal(cpu->zmm, before.zmm, sizeof(before.zmm));
        assert_int_equal(cpu->mxcsr, 0x1fa0);
        /* components without their bit go to the initial configuration */
        st64(f->page + 64 + 512, 2);
        assert_true(sem_XRSTOR(cpu, &insn));
        assert_int_equal(xsave_components_in_use(cpu), XSAVE_BIT(XSAVE_SSE));
        cpu->regs[RAX] = 7;
        assert_true((compacted ? sem_XSAVEC : sem_XSAVEOPT)(cpu, &insn));
        assert_int_equal(ld64(f->page + 64 + 512), 2);
        f->page[64 + 512 + 20] = 1;
        assert_false(sem_XRSTOR(cpu, &insn));
        assert_int_equal(cpu->exception.vector, VECTOR_GP);
    }
    assert_int_equal(xsave_area_size(7, false), 832);
    assert_int_equal(xsave_area_size(3, true), 576);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef __x86_64__
        cmocka_unit_test_setup_teardown(test_host, make, unmake),
        cmocka_unit_test_setup_teardown(test_host_crypto, make, unmake),
        cmocka_unit_test_setup_teardown(test_host_ptest, make, unmake),
        cmocka_unit_test_setup_teardown(test_strings, make, unmake),
#endif
        cmocka_unit_test_setup_teardown(test_masked_store, make, unmake),
        cmocka_unit_test_setup_teardown(test_gather, make, unmake),
        cmocka_unit_test_setup_teardown(test_galois, make, unmake),
        cmocka_unit_test_setup_teardown(test_galois_multiply, make, unmake),
        cmocka_unit_test_setup_teardown(test_gather_fault, make, unmake),
        cmocka_unit_test_setup_teardown(test_fault_writes_nothing, make, unmake),
        cmocka_unit_test_setup_teardown(test_availability, make, unmake),
        cmocka_unit_test_setup_teardown(test_alignment, make, unmake),
        cmocka_unit_test_setup_teardown(test_fxsave, make, unmake),
        cmocka_unit_test_setup_teardown(test_xsave, make, unmake),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
