/* guest: bits=64 smp=1 */
/* CPUID, MSRs, time-stamp counter, FXSAVE and XSAVE. SDM vol. 1 ch. 13, vol. 2 CPUID, vol. 4. */
#include "guest.h"

SNIPPET(rdmsr_insn, "mov %edi, %ecx\n rdmsr\n shl $32, %rdx\n or %rdx, %rax");
SNIPPET(wrmsr_insn, "mov %edi, %ecx\n mov %esi, %eax\n mov %rsi, %rdx\n shr $32, %rdx\n wrmsr");
SNIPPET(fxsave_insn, "fxsave64 (%rdi)");
SNIPPET(fxrstor_insn, "fxrstor64 (%rdi)");
SNIPPET(xsave_insn, "mov %esi, %eax\n xor %edx, %edx\n xsave64 (%rdi)");
SNIPPET(xrstor_insn, "mov %esi, %eax\n xor %edx, %edx\n xrstor64 (%rdi)");
SNIPPET(xsaveopt_insn, "mov %esi, %eax\n xor %edx, %edx\n xsaveopt64 (%rdi)");
SNIPPET(xsavec_insn, "mov %esi, %eax\n xor %edx, %edx\n xsavec64 (%rdi)");
SNIPPET(xgetbv_insn, "mov %edi, %ecx\n xgetbv");
SNIPPET(xsetbv_insn, "mov %edi, %ecx\n mov %esi, %eax\n xor %edx, %edx\n xsetbv");
SNIPPET(avx_insn, "vxorps %ymm0, %ymm0, %ymm0");
SNIPPET(rdtscp_insn, "rdtscp");
SNIPPET(monitor_insn, "mov %rdi, %rax\n xor %ecx, %ecx\n xor %edx, %edx\n monitor");

static void identification(void)
{
    struct cpuid z = cpuid(0, 0), one = cpuid(1, 0);
    ok(z.a >= 7 && z.a < 0x100, "highest leaf %u", z.a);
    ok(cpuid(0x80000000, 0).a >= 0x80000008, "highest extended leaf");
    struct cpuid beyond = cpuid(z.a + 0x100, 0);
    note("a leaf beyond: %x %x %x %x", beyond.a, beyond.b, beyond.c, beyond.d);
    u32 wanted = 0x0780a379; /* FPU PSE TSC MSR PAE CX8 APIC PGE CMOV MMX FXSR SSE SSE2 */
    is(one.d & wanted, wanted, "what every 64-bit processor has");
    is(one.b >> 8 & 0xff, 8, "CLFLUSH line of 64 bytes");
    is(one.b >> 24, apic_id(), "initial APIC id");
    ok(has_amd_edx(29), "long mode");
    ok(has_amd_edx(11), "SYSCALL in 64-bit mode");
    ok(physical_bits() >= 36 && physical_bits() <= 52, "%u physical address bits", physical_bits());
    is(cpuid(0x80000008, 0).a >> 8 & 0xff, 48, "48 linear address bits");
    bool osxsave = one.c >> 27 & 1;
    is(osxsave, read_cr4() >> 18 & 1, "OSXSAVE shows CR4");
    write_cr4(read_cr4() & ~(1ul << 18));
    is(cpuid(1, 0).c >> 27 & 1, 0, "OSXSAVE is clear without CR4.OSXSAVE");
    if (has_ecx(26)) {
        write_cr4(read_cr4() | 1 << 18);
        is(cpuid(1, 0).c >> 27 & 1, 1, "OSXSAVE is set with it");
    }
    u64 base = rdmsr(0x1b);
    wrmsr(0x1b, base & ~0x800ull);
    is(has_edx(9), 0, "the APIC bit goes with APIC_BASE.EN");
    wrmsr(0x1b, base);
    is(has_edx(9), 1, "and comes back");
    word flags = read_flags();
    u64 changed;
    asm volatile("pushfq\n xorl $0x200000, (%%rsp)\n popfq\n pushfq\n pop %0" : "=r"(changed));
    is((changed ^ flags) & 0x200000, 0x200000, "EFLAGS.ID can be changed");
    char brand[49] = "";
    for (u32 i = 0; i < 3; i++) {
        struct cpuid c = cpuid(0x80000002 + i, 0);
        memcpy(brand + i * 16, &c, 16);
    }
    note("%s", brand);
    ok(brand[0], "brand string");
}

static void msrs(void)
{
    static const u32 unknown[] = {0x12345678, 0x3ff00000, 0xc0001234, 0xdeadbeef, 0x40000200};
    for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++) {
        char name[40] = "RDMSR of an unknown number: #GP";
        traps(name, GP, 0, rdmsr_insn, unknown[i], 0);
        traps("WRMSR of an unknown number: #GP", GP, 0, wrmsr_insn, unknown[i], 0);
    }
    traps_user("RDMSR at CPL 3: #GP", GP, 0, rdmsr_insn, 0x1b, 0);
    traps("PAT with a reserved type: #GP", GP, 0, wrmsr_insn, 0x277, 0x0007040600070402);
    traps("PAT", NONE, 0, wrmsr_insn, 0x277, 0x0007040600070406);
    is(rdmsr(0x277), 0x0007040600070406, "PAT reads back");
    static const u32 numbers[] = {0xc0000081, 0xc0000082, 0xc0000083, 0xc0000102, 0x175, 0x176};
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        u64 old = rdmsr(numbers[i]);
        wrmsr(numbers[i], 0xffff812345678000);
        is(rdmsr(numbers[i]), 0xffff812345678000, "MSR %x keeps 64 bits", numbers[i]);
        wrmsr(numbers[i], old);
    }
    wrmsr(0xc0000084, 0x47700);
    is(rdmsr(0xc0000084), 0x47700, "SFMASK");
    u64 t = rdtsc();
    wrmsr(0x10, 0x123456789a00);
    ok(rdtsc() - 0x123456789a00 < 100000000000, "TSC can be set");
    wrmsr(0x10, t);
    if (has_7b(1)) {
        wrmsr(0x3b, 0);
        t = rdtsc();
        wrmsr(0x3b, 1ull << 40);
        ok(rdtsc() - t >= 1ull << 40, "TSC_ADJUST moves the TSC");
        wrmsr(0x10, t);
        ok((i64)rdmsr(0x3b) < 1ll << 40, "writing the TSC moves TSC_ADJUST");
        wrmsr(0x3b, 0);
    }
    u64 a = rdtsc(), b = rdtsc();
    ok(b >= a, "the TSC does not go back");
    if (has_amd_edx(27)) {
        wrmsr(0xc0000103, 0x77);
        u32 aux;
        asm volatile("rdtscp" : "=c"(aux)::"eax", "edx");
        is(aux, 0x77, "RDTSCP gives TSC_AUX");
    }
    is(rdmsr(0xfe) & 0x100, 0x100, "fixed-range MTRRs");
    traps("MTRR_CAP is read-only: #GP", GP, 0, wrmsr_insn, 0xfe, 0);
    traps("MTRR type 2 is reserved: #GP", GP, 0, wrmsr_insn, 0x250, 2);
    if (has_edx(14)) {
        traps("MC0_CTL takes all or nothing: #GP", GP, 0, wrmsr_insn, 0x400, 0xaaaa);
        traps("MC0_STATUS takes 0", NONE, 0, wrmsr_insn, 0x401, 0);
        traps("MC0_STATUS takes nothing else: #GP", GP, 0, wrmsr_insn, 0x401, 1);
    }
    if (!(cpuid(1, 0).c >> 3 & 1))
        traps("MONITOR without the feature: #UD", UD, 0, monitor_insn, (word)stubs, 0);
}

static u8 area[4096] ALIGNED(64);

static void fxsave(void)
{
    u32 *mxcsr_mask = (u32 *)(void *)(area + 28);
    memset(area, 0xee, sizeof area);
    asm volatile("fninit; fldpi; fld1");
    traps("FXSAVE", NONE, 0, fxsave_insn, (word)area, 0);
    is(*(u16 *)area, 0x37f, "FCW");
    is(*(u16 *)(area + 2), 0x3000, "FSW with TOP 6");
    is(area[4], 0xc0, "abridged tag word");
    is(*(u64 *)(area + 32), 1ull << 63, "ST0");
    is(*(u16 *)(area + 40), 0x3fff, "ST0's exponent");
    is(*(u32 *)(area + 24), 0x1f80, "MXCSR");
    ok(*mxcsr_mask & 0xffbf, "MXCSR_MASK");
    is(area[464], 0xee, "bytes 464-511 are the system's");
    is(area[512], 0xee, "and no more than 512");
    traps("FXSAVE misaligned: #GP(0)", GP, 0, fxsave_insn, (word)area + 8, 0);
    *(u32 *)(area + 24) = 0x80000000;
    traps("FXRSTOR with a reserved bit of MXCSR: #GP(0)", GP, 0, fxrstor_insn, (word)area, 0);
    *(u32 *)(area + 24) = 0x1fa0;
    *(u64 *)(area + 160) = 0x1122334455667788;
    traps("FXRSTOR", NONE, 0, fxrstor_insn, (word)area, 0);
    u64 x;
    u32 m;
    asm volatile("movq %%xmm0, %0\n stmxcsr %1" : "=r"(x), "=m"(m));
    is(x, 0x1122334455667788, "XMM0");
    is(m, 0x1fa0, "MXCSR");
    m = 0x1f80;
    asm volatile("ldmxcsr %0; fninit" ::"m"(m));
    write_cr0(read_cr0() | 8);
    traps("FXSAVE with CR0.TS: #NM", NM, 0, fxsave_insn, (word)area, 0);
    write_cr0(read_cr0() & ~8ul);
}

static void xsave(void)
{
    if (!has_ecx(26)) {
        skip("no XSAVE", "XSAVE");
        return;
    }
    write_cr4(read_cr4() & ~(1ul << 18));
    traps("XGETBV without OSXSAVE: #UD", UD, 0, xgetbv_insn, 0, 0);
    traps("XSAVE without OSXSAVE: #UD", UD, 0, xsave_insn, (word)area, 7);
    write_cr4(read_cr4() | 1 << 18);
    traps("XGETBV", NONE, 0, xgetbv_insn, 0, 0);
    u32 supported = cpuid(0xd, 0).a;
    is(supported & 3, 3, "x87 and SSE state");
    traps("XSETBV without x87: #GP", GP, 0, xsetbv_insn, 0, 2);
    traps("XSETBV of AVX without SSE: #GP", GP, 0, xsetbv_insn, 0, 5);
    traps("XSETBV of what is not there: #GP", GP, 0, xsetbv_insn, 0, supported | 1 << 30);
    traps("XSETBV of XCR1: #GP", GP, 0, xsetbv_insn, 1, 3);
    traps("XGETBV of XCR9: #GP", GP, 0, xgetbv_insn, 9, 0);
    traps_user("XSETBV at CPL 3: #GP", GP, 0, xsetbv_insn, 0, 3);
    run(xsetbv_insn, 0, 3);
    is(cpuid(0xd, 0).b, 576, "area for x87 and SSE");
    traps("AVX without XCR0.AVX: #UD", UD, 0, avx_insn, 0, 0);
    if (!(supported & 4)) {
        skip("no AVX", "AVX state");
        return;
    }
    traps("XSETBV of x87, SSE and AVX", NONE, 0, xsetbv_insn, 0, 7);
    is(cpuid(0xd, 0).b, 832, "area with AVX");
    is(cpuid(0xd, 2).a, 256, "size of the AVX component");
    is(cpuid(0xd, 2).b, 576, "its offset");
    traps("AVX", NONE, 0, avx_insn, 0, 0);
    memset(area, 0, sizeof area);
    asm volatile("vpcmpeqd %xmm1, %xmm1, %xmm1\n vinsertf128 $1, %xmm1, %ymm1, %ymm1");
    traps("XSAVE", NONE, 0, xsave_insn, (word)area, 7);
    is(*(u64 *)(area + 512) & 6, 6, "XSTATE_BV");
    is(*(u64 *)(area + 576 + 16), ~0ull, "upper half of YMM1");
    traps("XSAVE misaligned by 16: #GP", GP, 0, xsave_insn, (word)area + 16, 7);
    asm volatile("vzeroall");
    traps("XRSTOR", NONE, 0, xrstor_insn, (word)area, 7);
    u64 back[4];
    asm volatile("vmovdqu %%ymm1, %0" : "=m"(back));
    is(back[0] & back[3], ~0ull, "YMM1 is back");
    *(u64 *)(area + 512) &= ~4ull;
    traps("XRSTOR with a component not in XSTATE_BV", NONE, 0, xrstor_insn, (word)area, 7);
    asm volatile("vmovdqu %%ymm1, %0" : "=m"(back));
    is(back[3], 0, "initialises it");
    is(back[0], ~0ull, "and only it");
    *(u64 *)(area + 512) |= 1 << 20;
    traps("XRSTOR with a component not in XCR0: #GP", GP, 0, xrstor_insn, (word)area, 7);
    *(u64 *)(area + 512) = 3;
    *(u64 *)(area + 528) = 1;
    traps("XRSTOR with a reserved header bit: #GP", GP, 0, xrstor_insn, (word)area, 7);
    *(u64 *)(area + 528) = 0;
    u32 more = cpuid(0xd, 1).a;
    if (more & 2) {
        asm volatile("vzeroall; fninit");
        memset(area, 0, sizeof area);
        traps("XSAVEC", NONE, 0, xsavec_insn, (word)area, 7);
        is(*(u64 *)(area + 512) & 4, 0, "XSAVEC leaves out what is in its initial state");
        is(*(u64 *)(area + 520), 1ull << 63 | 7, "XCOMP_BV");
        traps("XRSTOR of the compact form", NONE, 0, xrstor_insn, (word)area, 7);
    }
    if (more & 1) traps("XSAVEOPT", NONE, 0, xsaveopt_insn, (word)area, 7);
    asm volatile("fninit");
}

void guest_main(void)
{
    (void)rdtscp_insn;
    identification();
    msrs();
    fxsave();
    xsave();
}
