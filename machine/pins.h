/*
 * The pins between a processor and its interrupt controllers, so that neither includes the other.
 *
 * A processor hands out `struct cpu_pins`; the board connects them to the 8259 (INTR through
 * `extint`) or to a local APIC. The local APIC hands the processor `struct local_apic_port`.
 * Thread: pins may be moved from any thread; the port's functions expect the machine lock held.
 */
#ifndef MACHINE_PINS_H
#define MACHINE_PINS_H

#include "machine/types.h"

struct cpu_pins {
    void *cpu;
    void (*intr)(void *cpu, bool level);   /* maskable interrupt request, level */
    void (*nmi)(void *cpu);                /* edge */
    void (*smi)(void *cpu);                /* edge */
    void (*init)(void *cpu);               /* INIT: as reset but caches, FPU and TSC are kept */
    void (*sipi)(void *cpu, u8 vector);    /* start-up IPI: heard only while waiting for it */
    void (*apic_base)(void *cpu, u64 msr); /* IA32_APIC_BASE changed: page and enable bits */
    u64 (*tsc)(void *cpu);                 /* time-stamp counter now */
    u64 tsc_frequency;                     /* Hz */
};

struct local_apic_port {
    void *apic;
    u64 frequency; /* Hz, of its timer before the divider */
    /* INTA: the vector to deliver, or -1 when there is none after all (spurious). Asks the 8259
     * when the local APIC is disabled or LINT0 is ExtINT. */
    int (*acknowledge)(void *apic);
    u32 (*mmio_read)(void *apic, unsigned offset);               /* aligned 32-bit registers */
    void (*mmio_write)(void *apic, unsigned offset, u32 value);
    bool (*msr_read)(void *apic, u32 msr, u64 *value);   /* 1Bh, 6E0h, 800h-8FFh; false: #GP */
    bool (*msr_write)(void *apic, u32 msr, u64 value);
    u8 (*get_cr8)(void *apic);
    void (*set_cr8)(void *apic, u8 value);
    void (*cpu_init)(void *apic);                        /* the processor took INIT */
};

#endif
