/*
 * One instruction through a tier of the translator, in the address space of test_native: user code
 * that faults into a kernel which is there for nothing else.
 */
#ifndef TESTS_INSN_NATIVE_TIER_H
#define TESTS_INSN_NATIVE_TIER_H

#include "cpu/cpu.h"
#include "jit/jit.h"
#include "tests/insn/native.h"

/* The kernel's pages, to be mapped writable: linear, and how many. */
#define TIER_KERNEL (NATIVE_DATA + 0x40000)
#define TIER_KERNEL_PAGES 3u

struct tier {
    struct vcpu *cpu;
    struct jit *jit;
    u8 *code;        /* host address of the page at NATIVE_CODE */
    u8 *kernel;      /* of the pages at TIER_KERNEL */
    unsigned declined; /* instructions it left to the interpreter */
};

/* A processor set up as LIKE is, with a translator. False: there is none here. */
bool tier_open(struct tier *tier, const struct vcpu *like, const struct jit_options *options,
               u8 *code, u8 *kernel);
/*
 * Runs the instruction BYTES at NATIVE_CODE + pos, where cpu->rip is; registers are loaded. False:
 * declined.
 * The registers are those behind it, or those of the fault.
 */
bool tier_run(struct tier *tier, const u8 *bytes, unsigned length, unsigned pos,
              struct native_fault *fault);

#endif
