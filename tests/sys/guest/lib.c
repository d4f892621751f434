/* The test guests' library: serial port, TAP, descriptor tables, traps, page tables, APIC, SMP. */
#include "guest.h"

extern const u8 trampoline[], trampoline_end[], image_end[];
extern u8 stacks[];
extern volatile u32 ap_tickets;
word catch_sp, run_result;
void run_call(const void *fn, word a, word b);
void run_call_user(const void *fn, word a, word b);
void trap_entry(struct frame *frame);
void guest_start(unsigned cpu);

/* --- C library --- */

void *memset(void *to, int value, size_t n)
{
    void *p = to;
    asm volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(value) : "memory");
    return to;
}
void *memcpy(void *to, const void *from, size_t n)
{
    void *p = to;
    asm volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(n)::"memory");
    return to;
}
int memcmp(const void *a, const void *b, size_t n)
{
    for (const u8 *p = a, *q = b; n--; p++, q++)
        if (*p != *q) return *p - *q;
    return 0;
}

/* --- output --- */

#define COM1 0x3f8
static void put(char c)
{
    while (!(inb(COM1 + 5) & 0x20)) pause();
    outb(COM1, (u8)c);
}
static void put_string(const char *s) { while (*s) put(*s++); }

static char *put_number(char *to, char *end, u64 value, unsigned base, int width)
{
    char digits[24];
    int n = 0;
    /* No 64-bit division on 32-bit guests: by hand, shift and subtract for base 10. */
    do {
        u64 quotient = 0, remainder = value;
        if (base == 16) {
            quotient = value >> 4;
            remainder = value & 15;
        } else {
            for (int bit = 60; bit >= 0; bit--)
                if (remainder >> bit >= 10) remainder -= 10ull << bit, quotient |= 1ull << bit;
        }
        digits[n++] = "0123456789abcdef"[remainder];
        value = quotient;
    } while (value);
    while (n < width && n < 20) digits[n++] = '0';
    while (n && to < end) *to++ = digits[--n];
    return to;
}

/* %s %c %u %d %x %llx %lx %% and a width with leading zeros. */
void print_format(char *to, size_t size, const char *f, va_list list)
{
    char *end = to + size - 1;
    for (; *f && to < end; f++) {
        if (*f != '%') {
            *to++ = *f;
            continue;
        }
        int width = 0, longs = 0;
        for (f++; *f >= '0' && *f <= '9'; f++) width = width * 10 + *f - '0';
        for (; *f == 'l'; f++) longs++;
        if (*f == 's') {
            for (const char *s = va_arg(list, const char *); *s && to < end;) *to++ = *s++;
        } else if (*f == 'c') {
            *to++ = (char)va_arg(list, int);
        } else if (*f == 'd') {
            i64 v = longs > 1 ? va_arg(list, i64) : longs ? va_arg(list, long) : va_arg(list, int);
            if (v < 0) *to++ = '-', v = -v;
            to = put_number(to, end, (u64)v, 10, width);
        } else if (*f == 'u' || *f == 'x') {
            u64 v = longs > 1 ? va_arg(list, u64) : longs ? va_arg(list, word) : va_arg(list, u32);
            to = put_number(to, end, v, *f == 'u' ? 10 : 16, width);
        } else {
            *to++ = *f;
        }
    }
    *to = 0;
}

static unsigned tests;

static void result(bool good, const char *format, va_list list, const char *more)
{
    char text[200];
    print_format(text, sizeof text, format, list);
    put_string(good ? "ok - " : "not ok - ");
    put_string(text);
    put_string(more);
    put('\n');
    tests++;
}

void note(const char *format, ...)
{
    char text[200];
    va_list list;
    va_start(list, format);
    print_format(text, sizeof text, format, list);
    va_end(list);
    put_string("# ");
    put_string(text);
    put('\n');
}

bool ok(bool good, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    result(good, format, list, "");
    va_end(list);
    return good;
}

bool is(u64 got, u64 want, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    result(got == want, format, list, "");
    va_end(list);
    if (got != want) note("got %llx, expected %llx", got, want);
    return got == want;
}

void skip(const char *why, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    result(true, format, list, " # SKIP ");
    va_end(list);
    note("skipped: %s", why);
}

void finish(void)
{
    char text[32], *p = put_number(text, text + 30, tests, 10, 1);
    *p = 0;
    put_string("1..");
    put_string(text);
    put('\n');
    while (!(inb(COM1 + 5) & 0x40)) pause();
    for (;;) {
        outb(0xf4, 0x10);
        asm volatile("cli; hlt");
    }
}

/* --- descriptor tables --- */

struct gate ALIGNED(16) idt[256];
struct tss ALIGNED(128) tss;
static u8 ALIGNED(16) trap_stack[STACK_SIZE], user_stack[STACK_SIZE];
#ifndef GUEST32
static u8 ALIGNED(16) ist_stacks[3][4096];
#endif

u64 descriptor(u32 base, u32 limit, u32 attr)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attr & 0xf0ff) << 40 |
           (u64)(limit >> 16 & 15) << 48 | (u64)(base >> 24) << 56;
}

void set_gate(unsigned vector, const void *to, u16 selector, u8 type, u8 ist)
{
    word address = (word)to;
    struct gate *g = &idt[vector];
    *g = (struct gate){.low = (u16)address, .selector = selector, .ist = ist, .type = type,
                       .high = (u16)(address >> 16)};
#ifndef GUEST32
    g->upper = (u32)(address >> 32);
#endif
}

void restore_gate(unsigned vector)
{
    bool user = vector == BP || vector == OF || vector == RETURN_VECTOR;
    unsigned ist = 0;
#ifndef GUEST32
    ist = vector == DF ? 1 : vector == NMI ? 2 : 0;
#endif
    set_gate(vector, stubs + vector * 16, KERNEL_CS, user ? 0xee : 0x8e, (u8)ist);
}

void load_gdt(u16 limit)
{
    struct table_pointer p = {limit, (word)gdt};
    asm volatile("lgdt %0" ::"m"(p));
}
void load_idt(u16 limit)
{
    struct table_pointer p = {limit, (word)idt};
    asm volatile("lidt %0" ::"m"(p));
}
void load_tss(void)
{
    gdt[TSS_SELECTOR / 8] = descriptor((u32)(word)&tss, sizeof tss - 1, 0x89);
#ifndef GUEST32
    gdt[TSS_SELECTOR / 8 + 1] = (word)&tss >> 32;
#endif
    asm volatile("ltr %w0" ::"r"(TSS_SELECTOR));
}

static void tables_init(void)
{
    for (unsigned i = 0; i < 256; i++) restore_gate(i);
    memset(tss.bitmap, 0xff, sizeof tss.bitmap);
    tss.io_map = offsetof(struct tss, bitmap);
#ifdef GUEST32
    tss.sp0 = (word)trap_stack + sizeof trap_stack;
    tss.ss0 = KERNEL_DS;
#else
    tss.rsp[0] = (word)trap_stack + sizeof trap_stack;
    for (unsigned i = 0; i < 3; i++) tss.ist[i] = (word)ist_stacks[i] + sizeof ist_stacks[i];
#endif
    load_gdt(sizeof gdt - 1);
    load_idt(sizeof idt - 1);
    load_tss();
}

/* --- traps --- */

struct trap trap;
handler *handlers[256];
word user_flags = 2, user_sp;
static bool catching;

static void record(const struct frame *f)
{
    trap.error = f->error;
    trap.ip = f->ip;
    trap.cs = f->cs;
    trap.flags = f->flags;
    trap.sp = f->sp;
    trap.ss = f->ss;
    trap.cr2 = read_cr2();
    trap.dr6 = read_dr6();
    trap.ax = f->ax, trap.bx = f->bx, trap.cx = f->cx, trap.dx = f->dx;
    trap.si = f->si, trap.di = f->di, trap.bp = f->bp;
    trap.handler_sp = (word)&f->error;
#ifdef GUEST32
    trap.frame_ds = (u16)f->ds, trap.frame_es = (u16)f->es;
    trap.frame_fs = (u16)f->fs, trap.frame_gs = (u16)f->gs;
#endif
}

void trap_leave(struct frame *f)
{
    f->ip = (word)run_recover;
    f->cs = KERNEL_CS;
    f->flags = 2;
#ifndef GUEST32
    f->sp = catch_sp;
    f->ss = KERNEL_DS;
#else
    f->ds = f->es = f->fs = f->gs = KERNEL_DS;
#endif
}

void trap_entry(struct frame *f)
{
    unsigned vector = f->vector & 0xff;
    if (handlers[vector]) {
        handlers[vector](f);
        return;
    }
    if (catching) {
        record(f);
        trap.vector = (int)vector;
        if (vector == RETURN_VECTOR) {
            trap.vector = NONE;
            run_result = f->ax;
        }
        trap_leave(f);
        return;
    }
    note("unexpected vector %u error %lx at %lx:%lx flags %lx cr2 %lx sp %lx", vector, f->error,
         f->cs, f->ip, f->flags, read_cr2(), (word)f);
    ok(false, "no unexpected exception");
    finish();
}

static int run_with(void (*how)(const void *, word, word), const void *fn, word a, word b)
{
    memset(&trap, 0, sizeof trap);
    trap.vector = NONE;
    user_sp = ((word)user_stack + sizeof user_stack - 64) & ~(word)15;
    catching = true;
    BARRIER();
    how(fn, a, b);
    BARRIER();
    catching = false;
    trap.result = run_result;
    return trap.vector;
}
int run(const void *fn, word a, word b) { return run_with(run_call, fn, a, b); }
int run_user(const void *fn, word a, word b) { return run_with(run_call_user, fn, a, b); }

static bool judge(const char *name, int vector, u64 error, const void *at)
{
    bool good = trap.vector == vector && (vector == NONE || trap.error == error);
    if (good && at) good = trap.ip == (word)at;
    ok(good, "%s", name);
    if (good) return true;
    note("got vector %d error %llx at %llx cr2 %llx, expected vector %d error %llx at %lx",
         trap.vector, trap.error, trap.ip, trap.cr2, vector, error, (word)at);
    return false;
}
bool traps(const char *name, int vector, u64 error, const void *fn, word a, word b)
{
    run(fn, a, b);
    return judge(name, vector, error, NULL);
}
bool traps_user(const char *name, int vector, u64 error, const void *fn, word a, word b)
{
    run_user(fn, a, b);
    return judge(name, vector, error, NULL);
}
bool traps_at(const char *name, int vector, u64 error, const void *at, const void *fn, word a,
              word b)
{
    run(fn, a, b);
    return judge(name, vector, error, at);
}

/* --- memory --- */

static word next_page = 16 << 20;

void *alloc_pages(unsigned n)
{
    word at = __atomic_fetch_add(&next_page, n * 4096, __ATOMIC_SEQ_CST);
    for (u32 *p = (u32 *)at; p < (u32 *)(at + n * 4096); p++) *p = 0;
    return (void *)at;
}

#ifndef GUEST32
u64 *entry(u64 address, unsigned level)
{
    u64 *table = (u64 *)(read_cr3() & ~0xfffull);
    for (unsigned at = 4;; at--) {
        u64 *e = &table[address >> (12 + 9 * (at - 1)) & 511];
        if (at == level) return e;
        if (!(*e & PTE_P) || (*e & PTE_PS))
            *e = (word)alloc_pages(1) | PTE_P | PTE_W | PTE_U | PTE_A;
        table = (u64 *)(*e & 0xffffffffff000);
    }
}

u64 *map(u64 address, u64 value, unsigned level)
{
    u64 *e = entry(address, level);
    *(volatile u64 *)e = value;
    invlpg(address);
    return e;
}
#endif

/* --- time --- */

/* Counts the TSC over 10 ms of PIT channel 2. */
u64 tsc_per_millisecond(void)
{
    static u64 rate;
    if (rate) return rate;
    u8 old = inb(0x61);
    outb(0x61, (u8)((old & ~2) | 1));
    outb(0x43, 0xb0);
    outb(0x42, 11932 & 0xff);
    outb(0x42, 11932 >> 8);
    u64 begin = rdtsc();
    while (!(inb(0x61) & 0x20)) pause();
    u32 ticks = (u32)(rdtsc() - begin);
    outb(0x61, old);
    rate = ticks / 10;
    return rate;
}

void delay(u64 microseconds)
{
    u64 begin = rdtsc(), ticks = tsc_per_millisecond();
    ticks = (u64)(u32)ticks * (u32)microseconds >> 10; /* near enough, and no division */
    while (rdtsc() - begin < ticks) pause();
}

/* --- local APIC, processors --- */

#define APIC 0xfee00000ul
u32 apic_read(u32 reg) { return *(volatile u32 *)(APIC + reg); }
void apic_write(u32 reg, u32 value) { *(volatile u32 *)(APIC + reg) = value; }
void apic_eoi(void) { apic_write(0xb0, 0); }
u32 apic_id(void) { return apic_read(0x20) >> 24; }
static void spurious(struct frame *f) { (void)f; }
void apic_enable(void)
{
    handlers[0xff] = spurious;
    apic_write(0x350, 0x10000); /* no 8259 */
    apic_write(0xf0, 0x1ff);
    apic_write(0x80, 0);
}
void apic_send(u32 to, u32 command)
{
    while (apic_read(0x300) & 0x1000) pause();
    apic_write(0x310, to << 24);
    apic_write(0x300, command);
    while (apic_read(0x300) & 0x1000) pause();
}

#define WAKE_VECTOR 0xf1
static struct job {
    void (*volatile fn)(void *);
    void *arg;
    volatile bool ready;
    volatile u32 apic;
} ALIGNED(64) jobs[MAX_CPUS];

static void wake(struct frame *f)
{
    (void)f;
    apic_eoi();
}

/* A processor's own TSS: stacks for NMI and double fault. */
static void ap_tables(unsigned cpu)
{
    static struct tss others[MAX_CPUS] ALIGNED(64);
    unsigned slot = GDT_ENTRIES - 16 + 2 * cpu;
    struct tss *t = &others[cpu];
    u8 *stack = alloc_pages(1);
    stack += 4096;
#ifdef GUEST32
    t->sp0 = (word)stack, t->ss0 = KERNEL_DS;
#else
    t->rsp[0] = (word)stack - 2048;
    for (unsigned i = 0; i < 3; i++) t->ist[i] = (word)stack;
    gdt[slot + 1] = (word)t >> 32;
#endif
    gdt[slot] = descriptor((u32)(word)t, 0x67, 0x89);
    load_gdt(sizeof gdt - 1);
    load_idt(sizeof idt - 1);
    asm volatile("ltr %w0" ::"r"(slot * 8));
}

static void __attribute__((noreturn)) serve(unsigned cpu)
{
    struct job *job = &jobs[cpu];
    ap_tables(cpu);
    apic_enable();
    job->apic = apic_id();
    job->ready = true;
    for (;;) {
        cli();
        if (job->fn) {
            job->fn(job->arg);
            BARRIER();
            job->fn = NULL;
        } else {
            asm volatile("sti; hlt" ::: "memory");
        }
    }
}

unsigned start_cpus(unsigned most)
{
    static unsigned running;
    if (running) return running;
    handlers[WAKE_VECTOR] = wake;
    apic_enable();
    memcpy((void *)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
    jobs[0].apic = apic_id();
    apic_write(0x310, 0);
    apic_write(0x300, 0xc4500); /* INIT to all but self */
    delay(10000);
    apic_write(0x300, 0xc4600 | TRAMPOLINE >> 12);
    delay(1000);
    apic_write(0x300, 0xc4600 | TRAMPOLINE >> 12); /* a second SIPI is ignored by who runs */
    delay(50000);
    running = ap_tickets < most ? ap_tickets : most;
    for (unsigned i = 1; i < running; i++)
        while (!jobs[i].ready) pause();
    return running;
}

u32 cpu_apic_id(unsigned n) { return jobs[n].apic; }

void on_cpu(unsigned n, void (*fn)(void *), void *arg)
{
    wait_cpu(n);
    jobs[n].arg = arg;
    BARRIER();
    jobs[n].fn = fn;
    apic_send(jobs[n].apic, 0x4000 | WAKE_VECTOR);
}
void wait_cpu(unsigned n) { while (jobs[n].fn) pause(); }

/* --- start --- */

void guest_start(unsigned cpu)
{
    if (cpu) serve(cpu);
    outb(COM1 + 1, 0);
    outb(COM1 + 3, 0x80);
    outb(COM1, 1);
    outb(COM1 + 1, 0);
    outb(COM1 + 3, 3);
    outb(COM1 + 2, 7);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    tables_init();
    guest_main();
    finish();
}
