/* guest: bits=64 smp=1,2 */
/* Local APIC, its timer, IPIs, NMI; I/O APIC, PIT and 8259s as sources. SDM vol. 3 chapter 10. */
#include "guest.h"

static volatile u32 count[256], order[16], ordered;
static void counted(struct frame *f)
{
    unsigned v = f->vector & 0xff;
    count[v]++;
    if (ordered < 16) order[ordered++] = v;
    apic_eoi();
}
static void counted_pic(struct frame *f)
{
    count[f->vector & 0xff]++;
    outb(0x20, 0x20);
}
static void no_eoi(struct frame *f) { count[f->vector & 0xff]++; }
static void nmi(struct frame *f)
{
    (void)f;
    count[NMI]++;
}

/* Waits for COUNT[v] to reach WANT with interrupts on, or 2 s. */
static bool wait_count(unsigned v, u32 want)
{
    u64 begin = rdtsc(), limit = tsc_per_millisecond() * 2000;
    sti();
    while (count[v] < want && rdtsc() - begin < limit) pause();
    cli();
    return count[v] >= want;
}
static void window(void) { asm volatile("sti; nop; nop; nop; cli" ::: "memory"); }

static void registers(void)
{
    apic_enable();
    is(rdmsr(0x1b) & ~0x100ull, 0xfee00800 | (rdmsr(0x1b) & 0x600), "APIC base and enable");
    is(rdmsr(0x1b) >> 8 & 1, 1, "BSP bit");
    u32 version = apic_read(0x30);
    ok((version & 0xff) >= 0x10 && (version & 0xff) <= 0x15, "version %x", version & 0xff);
    ok((version >> 16 & 0xff) >= 4, "at least 5 LVT entries");
    apic_write(0x80, 0x5a);
    is(apic_read(0x80), 0x5a, "TPR");
    is(apic_read(0xa0) & 0xf0, 0x50, "PPR follows it");
    u64 cr8;
    asm volatile("mov %%cr8, %0" : "=r"(cr8));
    is(cr8, 5, "CR8 is its upper half");
    asm volatile("mov %0, %%cr8" ::"r"(9ull));
    is(apic_read(0x80), 0x90, "CR8 sets it");
    apic_write(0x80, 0);
    apic_write(0x320, 0x10000 | 0x31);
    is(apic_read(0x320), 0x10031, "LVT timer");
    apic_write(0x3e0, 0xb);
    is(apic_read(0x3e0), 0xb, "divide configuration");
    apic_write(0xf0, 0xff);
    apic_write(0x320, 0x31);
    is(apic_read(0x320) & 0x10000, 0x10000,
       "LVT entries are masked while the APIC is disabled by software");
    apic_enable();
}

static void self(void)
{
    handlers[0x0f] = counted; /* where a vector below 16 is delivered all the same */
    handlers[0x61] = handlers[0x71] = handlers[0x72] = handlers[0x91] = counted;
    apic_write(0x300, 0x40000 | 0x61);
    is(apic_read(0x200 + 0x30) >> 1 & 1, 1, "IRR of a self IPI");
    window();
    is(count[0x61], 1, "self IPI");
    is(apic_read(0x200 + 0x30) >> 1 & 1, 0, "IRR is clear again");
    is(apic_read(0x100 + 0x30), 0, "ISR is clear after EOI");
    ordered = 0;
    apic_write(0x300, 0x40000 | 0x61);
    apic_write(0x300, 0x40000 | 0x91);
    apic_write(0x300, 0x40000 | 0x71);
    window();
    ok(order[0] == 0x91 && order[1] == 0x71 && order[2] == 0x61, "the highest vector first");
    apic_write(0x80, 0x70);
    apic_write(0x300, 0x40000 | 0x71);
    apic_write(0x300, 0x40000 | 0x91);
    u32 before = count[0x71], high = count[0x91];
    window();
    is(count[0x71], before, "TPR holds its own class back");
    is(count[0x91], high + 1, "and lets a higher one through");
    apic_write(0x80, 0x6f);
    window();
    is(count[0x71], before + 1, "lowering TPR lets it through");
    apic_write(0x80, 0);
    handlers[0x81] = no_eoi;
    apic_write(0x300, 0x40000 | 0x81);
    window();
    is(apic_read(0x100 + 0x40) >> 1 & 1, 1, "ISR before EOI");
    is(apic_read(0xa0) & 0xf0, 0x80, "PPR shows the class in service");
    before = count[0x72];
    apic_write(0x300, 0x40000 | 0x72);
    window();
    is(count[0x72], before, "a lower class waits for EOI");
    apic_eoi();
    window();
    is(count[0x72], before + 1, "and comes then");
    apic_write(0x300, 0x40000 | 0x61);
    apic_write(0x300, 0x40000 | 0x61);
    before = count[0x61];
    window();
    is(count[0x61], before + 1, "the same vector twice is one interrupt");
    u32 errors = (apic_write(0x280, 0), apic_read(0x280));
    apic_write(0x300, 0x40000 | 0x0f);
    apic_write(0x280, 0);
    errors = apic_read(0x280);
    ok(errors & 0x20 || errors & 0x40, "vector below 16: send or receive illegal vector (%x)",
       errors);
    apic_write(0x280, 0);
}

static u32 nested;
static void nmi_nested(struct frame *f)
{
    (void)f;
    count[NMI]++;
    nested++;
    if (nested == 1) {
        apic_write(0x300, 0x4400);
        for (unsigned i = 0; i < 100; i++) pause();
        if (nested != 1) nested = 100;
    }
}
static void nmis(void)
{
    handlers[NMI] = nmi;
    u32 before = count[NMI];
    apic_write(0x310, apic_id() << 24);
    apic_write(0x300, 0x4400);
    for (unsigned i = 0; i < 1000 && count[NMI] == before; i++) pause();
    is(count[NMI], before + 1, "NMI to itself, with IF clear");
    handlers[NMI] = nmi_nested;
    nested = 0;
    apic_write(0x300, 0x4400);
    for (unsigned i = 0; i < 1000 && nested < 2; i++) pause();
    is(nested, 2, "an NMI within an NMI waits for IRET");
    handlers[NMI] = nmi;
}

static void timer(void)
{
    handlers[0x51] = counted;
    apic_write(0x3e0, 0xb);
    apic_write(0x320, 0x51);
    apic_write(0x380, 200000000);
    u32 first = apic_read(0x390);
    ok(first <= 200000000 && first > 0, "one-shot: counts down from the initial count");
    ok(wait_count(0x51, 1), "one-shot timer"); /* 0.2 s at the usual 1 GHz */
    is(apic_read(0x390), 0, "and stays at 0");
    delay(3000);
    window();
    is(count[0x51], 1, "and comes once");
    apic_write(0x320, 0x20051);
    apic_write(0x380, 200000);
    ok(wait_count(0x51, 6), "periodic timer");
    apic_write(0x380, 0);
    window();
    u32 before = count[0x51];
    delay(3000);
    window();
    is(count[0x51], before, "initial count 0 stops it");
    apic_write(0x320, 0x10051);
    apic_write(0x380, 1000);
    delay(3000);
    window();
    is(count[0x51], before, "masked");
    apic_write(0x380, 0);
    /* Halted until it comes. */
    apic_write(0x320, 0x51);
    apic_write(0x380, 1000000);
    asm volatile("sti; hlt; cli" ::: "memory");
    is(count[0x51], before + 1, "HLT ends with the timer");
    /* The count goes down with bus clocks / divider: counts per TSC tick, by 1 and by 16. */
    apic_write(0x320, 0x10051);
    static u64 counts[2], ticks[2];
    for (unsigned i = 0; i < 2; i++) {
        apic_write(0x3e0, i ? 0x3 : 0xb);
        apic_write(0x380, 0xffffffff);
        u64 begin = rdtsc();
        u32 first_count = apic_read(0x390);
        delay(2000);
        counts[i] = first_count - apic_read(0x390);
        ticks[i] = rdtsc() - begin;
    }
    u64 fast = counts[0] * ticks[1], slow = counts[1] * ticks[0] * 16;
    ok(fast < slow * 2 && slow < fast * 2, "divide by 16 is 16 times slower");
    apic_write(0x380, 0);
    if (has_ecx(24)) {
        before = count[0x51];
        apic_write(0x320, 0x40051);
        asm volatile("mfence");
        wrmsr(0x6e0, rdtsc() + 100000 * tsc_per_millisecond());
        ok(rdmsr(0x6e0) != 0, "deadline is armed"); /* far away: the host may be busy meanwhile */
        wrmsr(0x6e0, rdtsc() + tsc_per_millisecond());
        ok(wait_count(0x51, before + 1), "TSC deadline");
        is(rdmsr(0x6e0), 0, "deadline reads 0 after it came");
        wrmsr(0x6e0, rdtsc() + tsc_per_millisecond() * 5);
        wrmsr(0x6e0, 0);
        delay(10000);
        window();
        is(count[0x51], before + 1, "writing 0 disarms it");
        wrmsr(0x6e0, 1);
        ok(wait_count(0x51, before + 2), "a deadline in the past comes at once");
        apic_write(0x320, 0x10051);
    } else {
        skip("no TSC deadline", "TSC deadline");
    }
}

#define IOAPIC 0xfec00000ul
static u32 io_read(u32 reg)
{
    *(volatile u32 *)IOAPIC = reg;
    return *(volatile u32 *)(IOAPIC + 0x10);
}
static void io_write(u32 reg, u32 v)
{
    *(volatile u32 *)IOAPIC = reg;
    *(volatile u32 *)(IOAPIC + 0x10) = v;
}
static void pit(u16 divisor, u8 mode)
{
    outb(0x43, mode);
    outb(0x40, divisor & 0xff);
    outb(0x40, divisor >> 8);
}

static void io_apic(void)
{
    handlers[0x52] = counted;
    is(io_read(1) >> 16 & 0xff, 23, "24 redirection entries");
    io_write(0x10 + 2 * 2 + 1, apic_id() << 24);
    io_write(0x10 + 2 * 2, 0x52);
    is(io_read(0x10 + 4) & 0x1ffff, 0x52, "redirection entry reads back");
    pit(1193, 0x34); /* 1 kHz, mode 2 */
    ok(wait_count(0x52, 5), "PIT by the I/O APIC (pin 2), periodic");
    io_write(0x10 + 2 * 2, 0x10052);
    delay(3000);
    window();
    u32 before = count[0x52];
    delay(5000);
    window();
    is(count[0x52], before, "masked in the I/O APIC");
    pit(1193, 0x30); /* mode 0: once */
    io_write(0x10 + 2 * 2, 0x52);
    delay(10000);
    window();
    before = count[0x52];
    pit(1193, 0x30);
    ok(wait_count(0x52, before + 1), "PIT mode 0");
    delay(5000);
    window();
    is(count[0x52], before + 1, "comes once");
    io_write(0x10 + 2 * 2, 0x10052);
}

static void pics(void)
{
    outb(0x20, 0x11), outb(0x21, 0x20), outb(0x21, 4), outb(0x21, 1);
    outb(0xa0, 0x11), outb(0xa1, 0x28), outb(0xa1, 2), outb(0xa1, 1);
    outb(0x21, 0xfe), outb(0xa1, 0xff);
    handlers[0x20] = counted_pic;
    apic_write(0x350, 0x700); /* LINT0 ExtINT */
    pit(1193, 0x34);
    ok(wait_count(0x20, 3), "PIT by the 8259 and LINT0");
    outb(0x21, 0xff);
    apic_write(0x350, 0x10700);
}

SNIPPET(write_eoi, "mov $0x80b, %ecx\n mov %edi, %eax\n xor %edx, %edx\n wrmsr");
SNIPPET(read_reserved, "mov $0x80e, %ecx\n rdmsr");
SNIPPET(write_base, "mov $0x1b, %ecx\n mov %edi, %eax\n xor %edx, %edx\n wrmsr");
static void x2apic(void)
{
    if (!has_ecx(21)) {
        skip("no x2APIC", "x2APIC");
        return;
    }
    u32 id = apic_id();
    wrmsr(0x1b, rdmsr(0x1b) | 0x400);
    is(rdmsr(0x802), id, "x2APIC id");
    handlers[0x61] = no_eoi;
    u32 before = count[0x61];
    wrmsr(0x83f, 0x61);
    window();
    is(count[0x61], before + 1, "SELF IPI register");
    is(rdmsr(0x813), 2, "ISR");
    traps("EOI must be 0: #GP", GP, 0, write_eoi, 1, 0);
    traps("EOI", NONE, 0, write_eoi, 0, 0);
    is(rdmsr(0x813), 0, "ISR after EOI");
    traps("reserved register: #GP", GP, 0, read_reserved, 0, 0);
    traps("back to xAPIC without disabling: #GP", GP, 0, write_base,
          (word)(rdmsr(0x1b) & ~0x400ull), 0);
    wrmsr(0x1b, rdmsr(0x1b) & ~0xc00ull);
    wrmsr(0x1b, rdmsr(0x1b) | 0x800);
    apic_enable();
}

/* --- to another processor --- */
static volatile u32 there;
static void remote(struct frame *f)
{
    (void)f;
    there = apic_id() + 1;
    count[0x62]++;
    apic_eoi();
}
static void idle(void *arg)
{
    sti();
    while (*(volatile u32 *)arg == 0) pause();
    cli();
}
static void ipis(void)
{
    if (start_cpus(2) < 2) {
        skip("one processor", "IPI to another");
        return;
    }
    static volatile u32 stop;
    handlers[0x62] = remote;
    on_cpu(1, idle, (void *)&stop);
    delay(1000);
    u32 before = count[0x62];
    there = 0;
    apic_send(cpu_apic_id(1), 0x4000 | 0x62);
    for (unsigned i = 0; i < 100000000 && !there; i++) pause();
    is(there, cpu_apic_id(1) + 1, "fixed IPI by physical destination");
    there = 0;
    apic_write(0x300, 0xc4000 | 0x62);
    for (unsigned i = 0; i < 100000000 && !there; i++) pause();
    is(there, cpu_apic_id(1) + 1, "all but self");
    is(count[0x62], before + 2, "not to self");
    u32 nmis = count[NMI];
    apic_send(cpu_apic_id(1), 0x4400);
    for (unsigned i = 0; i < 100000000 && count[NMI] == nmis; i++) pause();
    is(count[NMI], nmis + 1, "NMI to another");
    apic_write(0xe0, 0xffffffff);
    apic_write(0xd0, 1 << 24);
    stop = 1;
    wait_cpu(1);
    stop = 0;
    is(apic_read(0xd0), 1 << 24, "logical destination register");
}

void guest_main(void)
{
    tsc_per_millisecond();
    registers();
    self();
    nmis();
    timer();
    io_apic();
    pics();
    ipis();
    x2apic();
}
