/* guest: bits=64 smp=1,2 engines=jit,interp */
/*
 * What guests of KVM find: CPUID leaves, the clock in guest memory, hypercalls. Linux,
 * Documentation/virt/kvm/x86: cpuid.rst, msr.rst, hypercalls.rst.
 */
#include "guest.h"

enum { WALL_CLOCK = 0x4b564d00, SYSTEM_TIME = 0x4b564d01, OLD_WALL_CLOCK = 0x11,
       OLD_SYSTEM_TIME = 0x12 };
enum { TSC_ADJUST = 0x3b, STABLE = 1 };
#define KHZ 1000000ull        /* of the counter */
#define RAM_END 0x8000000ull /* of guests.pl's -m */

struct time_info {
    volatile u32 version, pad;
    volatile u64 tsc, system;
    volatile u32 mul;
    volatile signed char shift;
    volatile u8 flags, rest[2];
};
struct wall_info { volatile u32 version, seconds, ns; };

SNIPPET(vmcall_insn, "mov %rdi, %rax\n .byte 0x0f, 0x01, 0xc1");
SNIPPET(vmmcall_insn, "mov %rdi, %rax\n .byte 0x0f, 0x01, 0xd9");

static struct { struct time_info time ALIGNED(64); u64 behind; } page[MAX_CPUS] ALIGNED(4096);

static u64 ns_at(const struct time_info *t, u64 tsc)
{
    u64 ticks = tsc - t->tsc;
    ticks = t->shift < 0 ? ticks >> -t->shift : ticks << t->shift;
    return t->system + (u64)((unsigned __int128)ticks * t->mul >> 32);
}

static u64 now(const struct time_info *t) { return ns_at(t, rdtsc()); }

static void leaves(void)
{
    struct cpuid top = cpuid(0x40000000, 0), features = cpuid(0x40000001, 0);
    ok(has_ecx(31), "the hypervisor bit");
    is(top.a, 0x40000010, "highest leaf");
    is(top.b, 0x4b4d564b, "KVMK");
    is(top.c, 0x564b4d56, "VMKV");
    is(top.d, 0x4d, "M");
    is(features.a, 0x100000b, "both clocks, no I/O delay, stable; nothing that is not there");
    is(features.b | features.c | features.d, 0, "and no hints");
    is(cpuid(0x40000002, 0).a, 0, "a leaf between");
    is(cpuid(0x40000010, 0).a, KHZ, "the counter's kHz");
    is(cpuid(0x40000010, 0).b, 1000000, "the local APIC's kHz");
    ok(cpuid(0x80000007, 0).d >> 8 & 1, "invariant TSC");
}

static void clock_at(u32 msr)
{
    struct time_info *t = &page[0].time;
    page[0].behind = 0x5555555555555555;
    memset(t, 0, sizeof *t);
    wrmsr(msr, (word)t | 1);
    is(rdmsr(msr), (word)t | 1, "MSR %x reads back", msr);
    is(t->version, 2, "version");
    is(t->flags, STABLE, "flags");
    is(t->pad | t->rest[0] | t->rest[1], 0, "padding");
    is(page[0].behind, 0x5555555555555555, "32 bytes");
    u64 tsc = rdtsc();
    is(ns_at(t, tsc + KHZ * 3600000) - ns_at(t, tsc), 3600000000000, "an hour by the counter");
    u64 before = now(t), first = rdtsc();
    wrmsr(msr, (word)t | 1);
    is(t->version, 4, "another version");
    u64 second = rdtsc(), after = now(t);
    ok(after - before >= second - first, "goes on, and forward");
    wrmsr(msr, 0);
    wrmsr(TSC_ADJUST, 4096);
    is(t->version, 4, "turned off, it is left alone");
    wrmsr(TSC_ADJUST, 0);
}

/* The counter moves, the clock does not. */
static void adjusted(void)
{
    static const u64 by[] = {1ull << 40, -(1ull << 40), 1ull << 63, 12345, 0};
    struct time_info *t = &page[0].time;
    wrmsr(SYSTEM_TIME, (word)t | 1);
    for (unsigned i = 0; i < ARRAY_SIZE(by); i++) {
        u32 version = t->version;
        u64 before = now(t);
        wrmsr(TSC_ADJUST, by[i]);
        u64 past = now(t) - before;
        ok(past < 60000000000, "TSC_ADJUST %llx: %llu ns on", by[i], past);
        is(t->version, version + 2, "a new version");
    }
    u64 before = now(t), moved = rdtsc() + (1ull << 50);
    wrmsr(0x10, moved);
    u64 past = now(t) - before;
    ok(past < 60000000000, "the counter written: %llu ns on", past);
    wrmsr(TSC_ADJUST, 0);
    wrmsr(SYSTEM_TIME, 0);
}

static u8 bcd(u8 v) { return (u8)((v >> 4) * 10 + (v & 15)); }
static u8 chip_second(void)
{
    outb(0x70, 0);
    return bcd(inb(0x71));
}

/* As the clock chip. */
static void wall(u32 msr)
{
    struct time_info *t = &page[0].time;
    static struct wall_info w ALIGNED(16);
    memset((void *)(word)&w, 0, sizeof w);
    wrmsr(SYSTEM_TIME, (word)t | 1);
    wrmsr(msr, (word)&w);
    is(rdmsr(msr), (word)&w, "MSR %x reads back", msr);
    is(w.version, 2, "version");
    ok(w.seconds > 1600000000 && w.ns < 1000000000, "%u.%09u s", w.seconds, w.ns);
    u64 start = w.seconds * 1000000000ull + w.ns, before, after;
    u8 chip;
    do {
        before = (start + now(t)) / 1000000000;
        chip = chip_second();
        after = (start + now(t)) / 1000000000;
    } while (before != after);
    is(before % 60, chip, "the clock chip's second");
    wrmsr(SYSTEM_TIME, 0);
}

/* What is no memory is not written, and nobody is hurt. */
static void bad_addresses(void)
{
    static const u64 bad[] = {~0ull, 1ull << 63 | 1, 0xfee00001, 0xfec00001, 0xfffffff1, 0xffff0001,
                              0x4000000001,
        RAM_END + 1, RAM_END - 8 + 1, RAM_END - 4 + 1, 0xe0000001, 0xfffffffffffff001};
    const volatile u64 *last = (u64 *)(RAM_END - 8);
    u64 was = *last;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        wrmsr(SYSTEM_TIME, bad[i]);
        is(rdmsr(SYSTEM_TIME), bad[i], "system time at %llx", bad[i]);
        wrmsr(WALL_CLOCK, bad[i] & ~1ull);
        wrmsr(TSC_ADJUST, i + 1);
    }
    is(*last, was, "memory's last bytes are left alone");
    memset(page, 0, sizeof page);
    wrmsr(SYSTEM_TIME, (word)page + 3);
    wrmsr(SYSTEM_TIME, (word)page + 2);
    is(page[0].time.version | page[0].time.mul, 0, "misaligned");
    wrmsr(SYSTEM_TIME, 0);
    wrmsr(TSC_ADJUST, 0);
}

/*
 * The structure lands on code that has run: MOV EAX, imm32 in the version's last byte and the
 * padding, which is cleared, RET in the counter's first.
 */
static void on_code(void)
{
    static u8 code[64] ALIGNED(64) = {0, 0, 0, 0xb8, 0x44, 0x33, 0x22, 0x11, 0xc3};
    u32 (*fn)(void) = (u32 (*)(void))(word)(code + 3);
    bool all = true;
    wrmsr(TSC_ADJUST, 0xc3);
    for (u32 i = 1; i <= 2000; i++) {
        memcpy(code + 4, &i, 4);
        BARRIER();
        all &= fn() == i;
        if (i % 20) continue;
        wrmsr(SYSTEM_TIME, (word)code | 1);
        all &= fn() == 0;
    }
    ok(all, "code under the clock is noticed");
    wrmsr(SYSTEM_TIME, 0);
    wrmsr(TSC_ADJUST, 0);
}

static void hypercalls(void)
{
    traps("VMCALL", NONE, 0, vmcall_insn, 9, 0);
    is(trap.result, (u64)-1000, "is not there");
    traps("VMMCALL", NONE, 0, vmmcall_insn, 1, 0);
    is(trap.result, (u64)-1000, "is not there");
    traps_user("VMCALL at CPL 3", NONE, 0, vmcall_insn, 9, 0);
    is(trap.result, (u64)-1, "is not allowed");
}

/* --- two processors --- */

static void start_clock(void *arg)
{
    struct time_info *t = arg;
    wrmsr(SYSTEM_TIME, (word)t | 1);
}

static bool comes(const struct time_info *t, u8 flags)
{
    for (u64 end = rdtsc() + KHZ * 20000; rdtsc() < end; pause())
        if (!(t->version & 1) && t->flags == flags) return true;
    return false;
}

static void together(void)
{
    struct time_info *mine = &page[0].time, *other = &page[1].time;
    memset(page, 0, sizeof page);
    start_clock(mine);
    on_cpu(1, start_clock, other);
    wait_cpu(1);
    is(other->flags, STABLE, "the counters agree");
    u64 tsc = rdtsc();
    is(ns_at(other, tsc), ns_at(mine, tsc), "and the clocks do");
    wrmsr(TSC_ADJUST, 1ull << 33);
    is(mine->flags, 0, "one counter is moved: not stable");
    ok(comes(other, 0), "the other hears of it");
    is(ns_at(other, tsc), ns_at(mine, tsc + (1ull << 33)),
       "the clocks still agree, each by its own counter");
    wrmsr(TSC_ADJUST, 0);
    is(mine->flags, STABLE, "it is put back: stable");
    ok(comes(other, STABLE), "the other hears of it");
    wrmsr(SYSTEM_TIME, 0);
}

void guest_main(void)
{
    unsigned cpus = start_cpus(MAX_CPUS);
    if (cpus > 1) {
        together();
        return;
    }
    leaves();
    clock_at(SYSTEM_TIME);
    clock_at(OLD_SYSTEM_TIME);
    adjusted();
    wall(WALL_CLOCK);
    wall(OLD_WALL_CLOCK);
    bad_addresses();
    on_code();
    hypercalls();
}
