/*
 * One instruction on the host's own processor: registers in, registers or a fault out.
 *
 * A signal handler is the door: it loads the wanted registers into the frame it returns through,
 * with the trap flag set, and the next signal brings the registers back, whatever the instruction
 * was. One user at a time in a process (signal handlers can't be told whose they are). x86-64 Linux
 * only.
 */
#ifndef TESTS_INSN_NATIVE_H
#define TESTS_INSN_NATIVE_H

#include "machine/types.h"

/* Where everything lies, for the host and for the guest; below 2 GiB so that disp32 reaches it. */
#define NATIVE_CODE 0x10000000ull /* a page of code, the rest of it INT3 */
#define NATIVE_DATA 0x10100000ull /* two pages to write, a page to read, around them nothing */
#define NATIVE_RW_PAGES 2
#define NATIVE_RO (NATIVE_DATA + NATIVE_RW_PAGES * 4096)
#define NATIVE_DATA_SIZE ((NATIVE_RW_PAGES + 1) * 4096)

struct native_state {
    u64 gpr[16]; /* by encoding: RAX RCX RDX RBX RSP RBP RSI RDI R8.. */
    u64 rip;
    u32 flags; /* CF PF AF ZF SF DF OF */
    u16 fcw, fsw;
    u8 ftw; /* a bit a physical register: 1 not empty */
    u32 mxcsr;
    u8 st[8][16];                /* ST0..ST7, 10 bytes of each */
    u8 xmm[16][16], ymm[16][16]; /* low and high halves */
};
struct native_fault { /* vector -1: none */
    int vector;
    u32 error;
    u64 address;
};

#define NATIVE_FLAGS 0xcd5u /* without IF and TF, which are the harness's */

bool native_open(void); /* false: this host can't */
void native_close(void);
void native_data_ready(void); /* after the data pages were filled: the last becomes read-only */
/* LENGTH bytes at NATIVE_CODE + pos; everything behind is INT3. */
void native_code(const u8 *bytes, unsigned length, unsigned pos);
/* LENGTH bytes at the end of the page; behind it there is nothing. */
void native_code_end(const u8 *bytes, unsigned length);
/* A signal's frame (ucontext_t) with STATE's registers, trapping behind the instruction when STEP;
 * and back. */
void native_put(void *frame, const struct native_state *state, bool step);
void native_get(const void *frame, struct native_state *state);
/* Runs the instruction at state->rip to its end (all of a REP), and gives back what it left. */
struct native_fault native_run(struct native_state *state);

#endif
