/*
 * What a test guest is built with: 64-bit guests in long mode, 32-bit guests (GUEST32) in protected
 * mode. A guest is one file with `void guest_main(void)`; its first lines say how it is run:
 *   guest: bits=64 smp=1 (or smp=1,2,4)
 * It prints TAP on the first serial port and leaves through the debug exit port F4h.
 */
#ifndef GUEST_H
#define GUEST_H

#define KERNEL_CS32 0x08
#define KERNEL_DS32 0x10
#define KERNEL_CS64 0x18
#define KERNEL_DS64 0x20
#define USER_CS32 0x2b
#define USER_DS32 0x33
#define USER_CS64 0x3b
#define CODE16 0x48
#define DATA16 0x50
#define TSS_SELECTOR 0x58
#define FREE_SELECTOR 0x68 /* and up: for the tests */
#define GDT_ENTRIES 80 /* the last 16: the other processors' TSS */
#define RETURN_VECTOR 0x80 /* what CPL 3 comes back by */
#define STACK_SIZE 16384
#define MAX_CPUS 8
#define TRAMPOLINE 0x7000

#ifdef __x86_64__
#define KERNEL_CS KERNEL_CS64
#define KERNEL_DS KERNEL_DS64
#define USER_CS USER_CS64
#else
#define GUEST32 1
#define KERNEL_CS KERNEL_CS32
#define KERNEL_DS KERNEL_DS32
#define USER_CS USER_CS32
#endif
#define USER_DS USER_DS32

#ifndef __ASSEMBLER__

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;
typedef unsigned long word; /* a register */

#define ARRAY_SIZE(a) (sizeof(a) / sizeof *(a))
#define ALIGNED(n) __attribute__((aligned(n)))

/* --- TAP --- */
bool ok(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool is(u64 got, u64 want, const char *format, ...) __attribute__((format(printf, 3, 4)));
void skip(const char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void finish(void) __attribute__((noreturn));
void print_format(char *to, size_t size, const char *format, va_list list);

/* --- traps --- */
struct frame {
#ifdef GUEST32
    u32 gs, fs, es, ds, di, si, bp, unused_sp, bx, dx, cx, ax;
#else
    u64 r15, r14, r13, r12, r11, r10, r9, r8, bp, di, si, dx, cx, bx, ax;
#endif
    word vector, error, ip, cs, flags, sp, ss; /* 32-bit: sp and ss only from another level */
    word vm_es, vm_ds, vm_fs, vm_gs;           /* 32-bit: only from virtual-8086 mode */
};

#define NONE (-1)
struct trap {
    int vector; /* NONE: the call returned */
    u64 error, ip, cs, flags, sp, ss, cr2, dr6;
    u64 result; /* of the call */
    u64 ax, bx, cx, dx, si, di, bp;
    u64 handler_sp; /* address of the frame's error code */
    u16 frame_ds, frame_es, frame_fs, frame_gs;
};
extern struct trap trap; /* of the last run or run_user */

typedef void handler(struct frame *);
extern handler *handlers[256]; /* called instead of recording; returns to the frame */
void trap_leave(struct frame *frame); /* a handler ends the run */

/* Calls FN(a, b) at CPL 0 or 3 and says which vector it ended with. */
int run(const void *fn, word a, word b);
int run_user(const void *fn, word a, word b);
extern word user_flags, user_sp;
/* The usual test: VECTOR (or NONE) with ERROR. */
bool traps(const char *name, int vector, u64 error, const void *fn, word a, word b);
bool traps_user(const char *name, int vector, u64 error, const void *fn, word a, word b);
/* Also where: the address behind the trap must be AT. */
bool traps_at(const char *name, int vector, u64 error, const void *at, const void *fn, word a,
              word b);

/* A piece of code in assembler, called with its arguments as a C function gets them (64-bit: RDI,
 * RSI; 32-bit: EAX, EDX). NAME_at marks the instruction of interest, if the text has the label. */
#define SNIPPET(name, text)                                                                        \
    asm(".pushsection .text\n.globl " #name "\n" #name ":\n" text "\nret\n.popsection");           \
    extern const u8 name[]
#define AT(name) #name "_at:\n.globl " #name "_at\n"

enum { DE = 0, DB = 1, NMI = 2, BP = 3, OF = 4, BR = 5, UD = 6, NM = 7, DF = 8, TS = 10, NP = 11,
       SS = 12, GP = 13, PF = 14, MF = 16, AC = 17, XM = 19 };

/* --- descriptors --- */
#ifdef GUEST32
struct gate { u16 low, selector; u8 ist, type; u16 high; };
struct tss {
    u16 link, r0; u32 sp0; u16 ss0, r1; u32 sp1; u16 ss1, r2; u32 sp2; u16 ss2, r3;
    u32 cr3, ip, flags, ax, cx, dx, bx, sp, bp, si, di;
    u16 es, r4, cs, r5, ss, r6, ds, r7, fs, r8, gs, r9, ldt, r10, t, io_map;
    u8 bitmap[8192 + 1];
} __attribute__((packed));
#else
struct gate { u16 low, selector; u8 ist, type; u16 high; u32 upper, zero; };
struct tss {
    u32 r0; u64 rsp[3]; u64 r1, ist[7], r2; u16 r3, io_map;
    u8 bitmap[8192 + 1];
} __attribute__((packed));
#endif
struct table_pointer { u16 limit; word base; } __attribute__((packed));

extern u64 gdt[GDT_ENTRIES];
extern struct gate idt[256];
extern struct tss tss;
extern const u8 stubs[], frame_return[], frame_enter[], run_recover[], user_entry[];

/* ATTR: type, S, DPL, P in bits 0-7; AVL, L, DB, G in bits 12-15 (as the descriptor has them). */
u64 descriptor(u32 base, u32 limit, u32 attr);
enum { D_DATA = 0x93, D_DATA_RO = 0x91, D_DOWN = 0x97, D_CODE = 0x9b, D_CODE_XO = 0x99,
       D_CONFORMING = 0x9f, D_DPL3 = 0x60, D_DB = 0x4000, D_L = 0x2000, D_G = 0x8000 };
#define FLAT32 (D_G | D_DB), 0xfffff
void set_gate(unsigned vector, const void *to, u16 selector, u8 type, u8 ist);
void restore_gate(unsigned vector);
void load_gdt(u16 limit);
void load_idt(u16 limit);
void load_tss(void); /* fresh, not busy */

/* --- instructions --- */
#define REG_READ(name, reg)                                                                        \
    static inline word name(void) { word v; asm volatile("mov %%" reg ", %0" : "=r"(v)); return v; }
#define REG_WRITE(name, reg)                                                                       \
    static inline void name(word v) { asm volatile("mov %0, %%" reg ::"r"(v) : "memory"); }
REG_READ(read_cr0, "cr0") REG_READ(read_cr2, "cr2") REG_READ(read_cr3, "cr3")
REG_READ(read_cr4, "cr4")
REG_WRITE(write_cr0, "cr0") REG_WRITE(write_cr2, "cr2") REG_WRITE(write_cr3, "cr3")
REG_WRITE(write_cr4, "cr4")
REG_READ(read_dr6, "dr6") REG_READ(read_dr7, "dr7") REG_READ(read_dr0, "dr0")
REG_WRITE(write_dr0, "dr0") REG_WRITE(write_dr1, "dr1") REG_WRITE(write_dr2, "dr2")
REG_WRITE(write_dr3, "dr3") REG_WRITE(write_dr6, "dr6") REG_WRITE(write_dr7, "dr7")
static inline void outb(u16 port, u8 v) { asm volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static inline u8 inb(u16 port)
{
    u8 v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline u64 rdmsr(u32 n)
{
    u32 a, d;
    asm volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(n));
    return (u64)d << 32 | a;
}
static inline void wrmsr(u32 n, u64 v)
{
    asm volatile("wrmsr" ::"c"(n), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
static inline u64 rdtsc(void)
{
    u32 a, d;
    asm volatile("rdtsc" : "=a"(a), "=d"(d));
    return (u64)d << 32 | a;
}
static inline void invlpg(word v) { asm volatile("invlpg (%0)" ::"r"(v) : "memory"); }
static inline void pause(void) { asm volatile("pause" ::: "memory"); }
static inline void cli(void) { asm volatile("cli" ::: "memory"); }
static inline void sti(void) { asm volatile("sti" ::: "memory"); }
static inline word read_flags(void) { word v; asm volatile("pushf; pop %0" : "=r"(v)); return v; }
#define BARRIER() asm volatile("" ::: "memory")
struct cpuid { u32 a, b, c, d; };
static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid r;
    asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(subleaf));
    return r;
}
static inline bool has_ecx(unsigned bit) { return cpuid(1, 0).c >> bit & 1; }
static inline bool has_edx(unsigned bit) { return cpuid(1, 0).d >> bit & 1; }
static inline bool has_7b(unsigned bit) { return cpuid(0, 0).a >= 7 && (cpuid(7, 0).b >> bit & 1); }
static inline bool has_amd_edx(unsigned bit) { return cpuid(0x80000001, 0).d >> bit & 1; }
static inline bool is_intel(void) { return cpuid(0, 0).b == 0x756e6547; }
static inline unsigned physical_bits(void)
{
    return cpuid(0x80000000, 0).a >= 0x80000008 ? cpuid(0x80000008, 0).a & 0xff : 36;
}

void *memset(void *to, int value, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* --- memory --- */
void *alloc_pages(unsigned n); /* zeroed, from 16 MiB up */
#ifndef GUEST32
/* Page tables above WINDOW are made on demand; every level present, writable, user, accessed. */
#define WINDOW 0x8000000000ull
#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_PS 0x80ull
#define PTE_G 0x100ull
#define PTE_NX (1ull << 63)
extern u64 boot_pml4[512];
u64 *entry(u64 address, unsigned level);             /* 1: PTE … 4: PML4E, of the current tables */
u64 *map(u64 address, u64 value, unsigned level);    /* sets the entry, INVLPGs, returns it */
#endif

/* --- local APIC and the other processors --- */
u32 apic_read(u32 reg);
void apic_write(u32 reg, u32 value);
void apic_enable(void);
void apic_eoi(void);
void apic_send(u32 to, u32 command);
u32 apic_id(void);
void delay(u64 microseconds);
u64 tsc_per_millisecond(void);
unsigned start_cpus(unsigned most); /* number running, this one included */
void on_cpu(unsigned n, void (*fn)(void *), void *arg); /* starts it there; wait_cpu ends */
void wait_cpu(unsigned n);
u32 cpu_apic_id(unsigned n);

void guest_main(void);
extern const char guest_name[];
#endif
#endif
