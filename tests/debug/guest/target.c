/* Something to debug: two processors that go round, with every kind of event a debugger can stop
 * for. */
#include "guest.h"

volatile u64 rounds[2], mailbox, quiet, ticks, nothing = 1;
volatile u32 seed = 1;

static void __attribute__((noinline)) post(u64 value) { mailbox = value; }
u64 __attribute__((noinline)) look(void) { return mailbox; }

void __attribute__((noinline)) work(u64 who, u64 n)
{
    asm volatile("" ::"r"(who), "r"(n));
    rounds[who]++;
}

void __attribute__((noinline)) events(u64 n)
{
    outb(0x80, (u8)n);
    wrmsr(0xc0000103, n & 0xffff); /* TSC_AUX */
    apic_write(0x380, 0);          /* initial count */
    asm volatile("1: ud2");
    map(WINDOW, 0x400000 | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | (n >> 12 & 1) << 9, 1);
}

static void skip_ud2(struct frame *frame) { frame->ip += 2; }
static void tick(struct frame *frame)
{
    (void)frame;
    ticks++;
    apic_eoi();
}

/* A comparison with memory in a loop that is worth the translator's while. */
void __attribute__((noinline)) wait_for(volatile u64 *what, u64 value, u64 most)
{
    asm volatile("1: dec %2; js 2f; cmp %1, (%0); jne 1b; 2:" ::"r"(what), "r"(value), "r"(most)
                 : "memory", "cc");
}

static void second(void *arg)
{
    (void)arg;
    for (u64 n = 0;; n++) {
        work(1, n);
        if (!(n & 0xffff)) look();
        if (!(n & 0xff)) wait_for(&quiet, 5, 10000);
    }
}

void guest_main(void)
{
    handlers[UD] = skip_ud2;
    handlers[0x40] = tick;
    apic_enable();
    map(WINDOW, 0x400000 | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D, 1);
    if (start_cpus(2) > 1) on_cpu(1, second, NULL);
    apic_write(0x3e0, 3);
    apic_write(0x320, 0x20040); /* periodic */
    for (u64 n = 0;; n++) {
        work(0, n);
        if (!(n & 0xfff)) {
            post(n);
            events(n);
            apic_write(0x380, 100000);
            sti();
            for (u32 i = 0; i < 200; i++) seed = seed * 1103515245 + 12345;
            cli();
        }
    }
}
