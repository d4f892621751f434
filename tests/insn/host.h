/*
 * A whole program on the host's processor, in a child that may not call the system: fixed pages of
 * code, data and stack, registers in; registers, memory and the exception that ended it out. x86-64
 * Linux only.
 */
#ifndef TESTS_INSN_HOST_H
#define TESTS_INSN_HOST_H

#include "tests/insn/native.h"

#define HOST_CODE NATIVE_CODE
#define HOST_CODE_SIZE 16384u
#define HOST_DATA NATIVE_DATA
#define HOST_DATA_SIZE (8u * 4096)
#define HOST_ABSENT 4u              /* this page of the data is not there, */
#define HOST_READ_ONLY 5u           /* this may not be written */
#define HOST_COUNTERS 0x10180000ull /* a page */
#define HOST_STACK 0x101a0000ull    /* four pages, rSP in the middle */
#define HOST_STACK_SIZE 16384u

enum host_end {
    HOST_EXCEPTION, /* fault says which */
    HOST_SYSCALL,   /* it called the system: not its own doing any more */
    HOST_LATE,      /* still running after a while */
    HOST_LOST,      /* the child died */
};

struct host_case {
    /* in and out */
    u8 code[HOST_CODE_SIZE], data[HOST_DATA_SIZE], stack[HOST_STACK_SIZE], counters[4096];
    struct native_state state; /* in and out */
    struct native_fault fault;
    enum host_end end;
};

/* Shared with the children; NULL when this host can't. */
struct host_case *host_open(void);
void host_run(struct host_case *c);

#endif
