/*
 * The instruction trace's file: written by -trace-insns, read by lyrebird-trace. Little-endian.
 *
 * Header: "LYRTRACE", u32 version, u32 processors.
 * Record: u8 head, then what it says:
 *   bits 0-3  length of the instruction, 1 to 15, or 0: from here on this is processor number u8
 *   bits 4-5  0, 1, 2: code of 16, 32, 64 bits
 *   bit 6     a u64 linear address follows; else it is the one behind this processor's record
 *             before
 *   bit 7     behind the instruction's bytes: u8 count and as many {u8 number, u64 value}:
 *             registers that are not as they were before this processor's record before
 * An instruction is recorded in front of it; one that faults is recorded too. A repeated string
 * instruction is one record or, when something came between, several. Processors' records come in
 * pieces: their order among processors is rough.
 */
#ifndef MACHINE_DEBUG_INSN_TRACE_H
#define MACHINE_DEBUG_INSN_TRACE_H

#define INSN_TRACE_MAGIC "LYRTRACE"
#define INSN_TRACE_VERSION 1u
#define INSN_TRACE_HEADER 16u

enum { INSN_TRACE_LENGTH = 0x0f, INSN_TRACE_MODE_SHIFT = 4, INSN_TRACE_ADDRESS = 0x40,
      INSN_TRACE_REGISTERS = 0x80 };

/* Register numbers: the sixteen general ones as instructions number them, then these. */
enum { INSN_TRACE_FLAGS = 16, INSN_TRACE_CR3, INSN_TRACE_CS, INSN_TRACE_CPL, INSN_TRACE_COUNT,
      INSN_TRACE_REGISTER_COUNT };
#define INSN_TRACE_NAMES {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", \
                          "r10", "r11", "r12", "r13", "r14", "r15", "rflags", "cr3", "cs", "cpl", \
                          "icount"}

#endif
