/* See host.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/insn/host.h"

#if defined(__x86_64__) && defined(__linux__)

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define TIME_US 100000 /* of processor, for one program */

static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGVTALRM};
static struct host_case *running; /* the child's */
static volatile sig_atomic_t inside;

static bool map(u64 at, size_t size, const void *from, int rights)
{
    void *p = mmap((void *)(uintptr_t)at, size, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (p == MAP_FAILED) return false;
    memcpy(p, from, size);
    return !mprotect(p, size, rights);
}

static void bring_back(u8 *to, u64 from, size_t size)
{
    memcpy(to, (const void *)(uintptr_t)from, size);
}

/* The child's own INT3 is the way in; everything else the way out. */
static void door(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    struct host_case *c = running;
    (void)info;
    if (!inside) {
        inside = 1;
        native_put(uc, &c->state, false);
        return;
    }
    native_get(uc, &c->state);
    c->fault = (struct native_fault){.vector = (int)uc->uc_mcontext.gregs[REG_TRAPNO],
                                     .error = (u32)uc->uc_mcontext.gregs[REG_ERR],
                                     .address = (u64)uc->uc_mcontext.gregs[REG_CR2]};
    c->end = signal == SIGSYS ? HOST_SYSCALL : signal == SIGVTALRM ? HOST_LATE : HOST_EXCEPTION;
    bring_back(c->code, HOST_CODE, HOST_CODE_SIZE);
    for (unsigned n = 0; n < HOST_DATA_SIZE / 4096; n++)
        if (n != HOST_ABSENT) bring_back(c->data + n * 4096, HOST_DATA + n * 4096, 4096);
    bring_back(c->stack, HOST_STACK, HOST_STACK_SIZE);
    syscall(SYS_exit_group, 0);
}

/* Nothing but coming back from a signal and leaving; the 32-bit way in not at all. */
static bool forbid_calls(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {ARRAY_SIZE(code), code};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
           !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static bool child_prepare(struct host_case *c)
{
    static u8 stack[1 << 18];
    stack_t on = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = door,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    struct itimerval timer = {.it_value = {0, TIME_US}};
    running = c;
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
        if (sigaction(signals[i], &action, NULL)) return false;
    const int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    bool mapped = map(HOST_CODE, HOST_CODE_SIZE, c->code, all) &&
                  map(HOST_DATA, HOST_DATA_SIZE, c->data, all) &&
                  map(HOST_STACK, HOST_STACK_SIZE, c->stack, all) &&
                  map(HOST_COUNTERS, 4096, c->counters, all) &&
                  !mprotect((void *)(HOST_DATA + HOST_ABSENT * 4096), 4096, PROT_NONE) &&
                  !mprotect((void *)(HOST_DATA + HOST_READ_ONLY * 4096), 4096,
                            PROT_READ | PROT_EXEC);
    return mapped && !sigaltstack(&on, NULL) && !setitimer(ITIMER_VIRTUAL, &timer, NULL) &&
           forbid_calls();
}

void host_run(struct host_case *c)
{
    int status;
    c->end = HOST_LOST;
    c->fault = (struct native_fault){.vector = -2};
    pid_t child = fork();
    if (child < 0) return;
    if (!child) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (!child_prepare(c)) _exit(1);
        __asm__ volatile("int3"); /* SIGTRAP, and from there on the program's registers */
        _exit(2);
    }
    while (waitpid(child, &status, 0) < 0) {}
    if (!WIFEXITED(status) || WEXITSTATUS(status)) c->end = HOST_LOST;
}

/* Works here? A program that does nothing but stop. */
struct host_case *host_open(void)
{
    struct host_case *c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                               -1, 0);
    if (c == MAP_FAILED) return NULL;
    memset(c, 0, sizeof(*c));
    memset(c->code, 0xf4, sizeof(c->code));
    c->state = (struct native_state){.rip = HOST_CODE, .fcw = 0x37f, .mxcsr = 0x1f80};
    host_run(c);
    if (c->end == HOST_EXCEPTION && c->fault.vector == 13 && c->state.rip == HOST_CODE) return c;
    munmap(c, sizeof(*c));
    return NULL;
}

#else

struct host_case *host_open(void) { return NULL; }
void host_run(struct host_case *c) { c->end = HOST_LOST; }

#endif
