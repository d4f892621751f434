/* See native.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/insn/native.h"

#if defined(__x86_64__) && defined(__linux__)

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define EFLAGS_TF 0x100u
#define XSAVE_HEADER 512
#define XSAVE_YMM 576
#define XSAVE_SIZE (XSAVE_YMM + 256)
#define MAGIC1 0x46505853u /* in the frame's software bytes when it is an XSAVE image */
#define STEPS_MAX 100000   /* iterations of one REP */

static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static const int gregs_by_encoding[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                          REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                          REG_R12, REG_R13, REG_R14, REG_R15};

static struct {
    volatile sig_atomic_t running;
    struct native_state *state;
    struct native_fault fault;
    unsigned steps;
    u64 start;
    gregset_t home;
    u8 home_fp[XSAVE_SIZE];
    struct sigaction old[sizeof(signals) / sizeof(signals[0])];
    stack_t old_stack;
    void *stack;
    u8 *code, *code_writable, *data;
} native;

static bool has_ymm(const u8 *fp) { return ld32(fp + 464) == MAGIC1 && (ld64(fp + 472) & 4); }

void native_put(void *frame, const struct native_state *s, bool step)
{
    ucontext_t *uc = frame;
    greg_t *g = uc->uc_mcontext.gregs;
    u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
    for (unsigned i = 0; i < 16; i++) g[gregs_by_encoding[i]] = (greg_t)s->gpr[i];
    g[REG_RIP] = (greg_t)s->rip;
    g[REG_EFL] = (greg_t)(((u32)g[REG_EFL] & ~NATIVE_FLAGS) | (s->flags & NATIVE_FLAGS) |
                          (step ? EFLAGS_TF : 0));
    st16(fp, s->fcw);
    st16(fp + 2, s->fsw);
    fp[4] = s->ftw;
    memset(fp + 6, 0, 18);
    st32(fp + 24, s->mxcsr);
    for (unsigned i = 0; i < 8; i++) memcpy(fp + 32 + i * 16, s->st[i], 10);
    memcpy(fp + 160, s->xmm, 256);
    if (has_ymm(fp)) {
        st64(fp + XSAVE_HEADER, ld64(fp + XSAVE_HEADER) | 7);
        memcpy(fp + XSAVE_YMM, s->ymm, 256);
    }
}

void native_get(const void *frame, struct native_state *s)
{
    const ucontext_t *uc = frame;
    const greg_t *g = uc->uc_mcontext.gregs;
    const u8 *fp = (const u8 *)uc->uc_mcontext.fpregs;
    for (unsigned i = 0; i < 16; i++) s->gpr[i] = (u64)g[gregs_by_encoding[i]];
    s->rip = (u64)g[REG_RIP];
    s->flags = (u32)g[REG_EFL] & NATIVE_FLAGS;
    s->fcw = ld16(fp);
    s->fsw = ld16(fp + 2);
    s->ftw = fp[4];
    s->mxcsr = ld32(fp + 24);
    for (unsigned i = 0; i < 8; i++) memcpy(s->st[i], fp + 32 + i * 16, 10);
    memcpy(s->xmm, fp + 160, 256);
    memset(s->ymm, 0, sizeof(s->ymm));
    if (has_ymm(fp) && (ld64(fp + XSAVE_HEADER) & 4)) memcpy(s->ymm, fp + XSAVE_YMM, 256);
}

static void door(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    size_t fp_size = has_ymm((const u8 *)uc->uc_mcontext.fpregs) ? XSAVE_SIZE : 512;
    (void)signal;
    (void)info;
    if (!native.running) { /* the INT3 of native_run */
        memcpy(native.home, g, sizeof(native.home));
        memcpy(native.home_fp, uc->uc_mcontext.fpregs, fp_size);
        native_put(uc, native.state, true);
        native.running = 1;
        return;
    }
    int vector = (int)g[REG_TRAPNO];
    if (vector == 1 && (u64)g[REG_RIP] == native.start && native.steps++ < STEPS_MAX) {
        g[REG_EFL] |= EFLAGS_TF;
        return; /* a REP goes on */
    }
    native.fault = (struct native_fault){.vector = -1};
    if (vector != 1)
        native.fault = (struct native_fault){
            .vector = vector, .error = (u32)g[REG_ERR], .address = (u64)g[REG_CR2]};
    native_get(uc, native.state);
    memcpy(g, native.home, sizeof(native.home));
    memcpy(uc->uc_mcontext.fpregs, native.home_fp, fp_size);
    native.running = 0;
}

struct native_fault native_run(struct native_state *state)
{
    native.state = state;
    native.start = state->rip;
    native.steps = 0;
    __asm__ volatile("int3" ::: "memory", "cc");
    return native.fault;
}

void native_code(const u8 *bytes, unsigned length, unsigned pos)
{
    memset(native.code_writable + pos, 0xcc, 16);
    memcpy(native.code_writable + pos, bytes, length);
}

void native_code_end(const u8 *bytes, unsigned length)
{
    memcpy(native.code_writable + 4096 - length, bytes, length);
}

static u8 *map_at(u64 address, u64 size, int rights, int flags, int fd)
{
    void *got = mmap((void *)(uintptr_t)address, size, rights, flags | MAP_FIXED_NOREPLACE, fd, 0);
    if (got == MAP_FAILED) return NULL;
    if (got == (void *)(uintptr_t)address) return got;
    munmap(got, size);
    return NULL;
}

static bool map_all(void)
{
    int fd = memfd_create("native", 0);
    if (fd < 0 || ftruncate(fd, 4096)) return false;
    native.code_writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    native.code = map_at(NATIVE_CODE, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd);
    close(fd);
    /* The page before and behind stay empty. */
    native.data = map_at(NATIVE_DATA - 4096, NATIVE_DATA_SIZE + 8192, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (native.code_writable == MAP_FAILED || !native.code || !native.data) return false;
    memset(native.code_writable, 0xcc, 4096);
    return !mprotect((void *)NATIVE_DATA, NATIVE_DATA_SIZE, PROT_READ | PROT_WRITE);
}

bool native_open(void)
{
    if (!map_all()) return false;
    native.stack = malloc(1 << 18);
    stack_t stack = {.ss_sp = native.stack, .ss_size = 1 << 18};
    if (!native.stack || sigaltstack(&stack, &native.old_stack)) return false;
    struct sigaction action = {.sa_sigaction = door,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
        if (sigaction(signals[i], &action, &native.old[i])) return false;
    return true;
}

void native_data_ready(void) { mprotect((void *)NATIVE_RO, 4096, PROT_READ); }

void native_close(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) sigaction(signals[i], &native.old[i], NULL);
    sigaltstack(&native.old_stack, NULL);
    free(native.stack);
    munmap(native.code, 4096);
    munmap(native.code_writable, 4096);
    munmap(native.data, NATIVE_DATA_SIZE + 8192);
}

#else

bool native_open(void) { return false; }
void native_close(void) {}
void native_data_ready(void) {}
void native_put(void *frame, const struct native_state *state, bool step)
{
    (void)frame, (void)state, (void)step;
}
void native_get(const void *frame, struct native_state *state) { (void)frame, (void)state; }
void native_code(const u8 *bytes, unsigned length, unsigned pos)
{
    (void)bytes;
    (void)length;
    (void)pos;
}
void native_code_end(const u8 *bytes, unsigned length) { native_code(bytes, length, 0); }
struct native_fault native_run(struct native_state *state)
{
    (void)state;
    return (struct native_fault){.vector = -1};
}

#endif
