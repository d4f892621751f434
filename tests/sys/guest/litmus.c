/* guest: bits=64 smp=2,4 quick=0 engines=jit,interp */
/*
 * Memory ordering between processors as x86-TSO has it (SDM vol. 3 8.2.3), in hot loops over
 * arrays: each processor runs its part for many slots without waiting for the others, so that
 * translated loops with shared address checks are what is tested. Outcomes that TSO forbids fail;
 * those it allows are told.
 */
#include "guest.h"

#define SLOTS 4096u
#define CHUNK 16u /* slots between two meetings */
#define RUNS 2u

struct slot { volatile u32 x, pad0[15], y, pad1[15], z, pad2[15]; volatile u64 wide; u64 pad3[7]; };
static struct slot s[SLOTS] ALIGNED(4096);
static u32 r[4][SLOTS];
static volatile u32 arrived;
static unsigned cpus;

#define MFENCE asm volatile("mfence" ::: "memory")
#define LOCKED asm volatile("lock orl $0, (%%rsp)" ::: "memory", "cc")
#define CPUID asm volatile("cpuid" : "=a"(no), "=b"(no), "=c"(no), "=d"(no) : "0"(0), "2"(0) : "memory")
#define NEW_CR3 asm volatile("movq %%cr3, %0; movq %0, %%cr3" : "=r"(wide)::"memory")
#define INVLPG asm volatile("invlpg (%%rsp)" ::: "memory")
#define IRET                                                                                       \
    asm volatile("movq %%rsp, %0; movl %%ss, %k1; pushq %1; pushq %0; pushfq; movl %%cs, %k1; pushq %1\n" \
                 "leaq 1f(%%rip), %0; pushq %0; iretq; 1:" : "=&r"(wide), "=&r"(other)::"memory")
static inline u32 exchange(volatile u32 *at, u32 v)
{
    asm volatile("xchgl %0, %1" : "+r"(v), "+m"(*at)::"memory");
    return v;
}

static inline void copy(volatile void *to, const volatile void *from, word bytes)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
}

typedef void part(unsigned from);
struct test {
    const char *name;
    unsigned parts;
    part *part[4];
    bool (*seen)(unsigned i); /* the outcome in question */
    bool allowed;
};

/* --- parts --- */
#define PART(name, body)                                                                           \
    static void name(unsigned from)                                                                \
    {                                                                                              \
        for (unsigned i = from; i < from + CHUNK; i++) {                                           \
            struct slot *t = &s[i];                                                                \
            body                                                                                   \
        }                                                                                          \
    }
PART(w_x, t->x = 1;)
PART(w_y, t->y = 1;)
PART(sb0, t->x = 1; r[0][i] = t->y;)
PART(sb1, t->y = 1; r[1][i] = t->x;)
PART(sbf0, t->x = 1; MFENCE; r[0][i] = t->y;)
PART(sbf1, t->y = 1; MFENCE; r[1][i] = t->x;)
PART(sbl0, t->x = 1; LOCKED; r[0][i] = t->y;)
PART(sbl1, t->y = 1; LOCKED; r[1][i] = t->x;)
PART(sbx0, exchange(&t->x, 1); r[0][i] = t->y;)
PART(sbx1, exchange(&t->y, 1); r[1][i] = t->x;)
PART(sbc0, u32 no; t->x = 1; CPUID; r[0][i] = t->y;)
PART(sbc1, u32 no; t->y = 1; CPUID; r[1][i] = t->x;)
PART(sbp0, u64 wide; t->x = 1; NEW_CR3; r[0][i] = t->y;)
PART(sbp1, u64 wide; t->y = 1; NEW_CR3; r[1][i] = t->x;)
PART(sbt0, t->x = 1; INVLPG; r[0][i] = t->y;)
PART(sbt1, t->y = 1; INVLPG; r[1][i] = t->x;)
PART(sbi0, u64 wide; u64 other; t->x = 1; IRET; r[0][i] = t->y;)
PART(sbi1, u64 wide; u64 other; t->y = 1; IRET; r[1][i] = t->x;)
/* Words that cross a boundary of eight bytes: hosts order those in another way. */
#define ACROSS(at) (*(volatile u32 *)((volatile u8 *)(at) + 6))
PART(mpu0, ACROSS(&t->pad0[1]) = 1; t->y = 1;)
PART(mpu1, r[0][i] = t->y; r[1][i] = ACROSS(&t->pad0[1]);)
PART(mpv0, t->x = 1; ACROSS(&t->pad1[1]) = 1;)
PART(mpv1, r[0][i] = ACROSS(&t->pad1[1]); r[1][i] = t->x;)
PART(sbu0, ACROSS(&t->pad0[1]) = 1; LOCKED; r[0][i] = ACROSS(&t->pad1[1]);)
PART(sbu1, ACROSS(&t->pad1[1]) = 1; LOCKED; r[1][i] = ACROSS(&t->pad0[1]);)
/* Data by a string operation. */
PART(mpm0, u32 one = 1; copy(&t->x, &one, 4); t->y = 1;)
PART(mpm1, u32 v; r[0][i] = t->y; copy(&v, &t->x, 4); r[1][i] = v;)
PART(mp0, t->x = 1; t->y = 1;)
PART(mp1, r[0][i] = t->y; r[1][i] = t->x;)
PART(mps0, *(volatile u8 *)&t->x = 1; *(volatile u16 *)&t->y = 1;)
PART(mps1, r[0][i] = *(volatile u8 *)&t->y; r[1][i] = *(volatile u16 *)&t->x;)
PART(mpx0, t->x = 1; exchange(&t->y, 1);)
PART(mpr1, r[0][i] = t->y; r[1][i] = t->x; r[2][i] = t->z; r[3][i] = t->y;)
PART(lb0, r[0][i] = t->x; t->y = 1;)
PART(lb1, r[1][i] = t->y; t->x = 1;)
PART(s0, t->x = 2; t->y = 1;)
PART(s1, r[0][i] = t->y; t->x = 1;)
PART(rf0, t->x = 1; MFENCE; t->y = 1;)
PART(rf1, t->y = 2; MFENCE; r[0][i] = t->x;)
PART(w20, t->x = 1; t->y = 2;)
PART(w21, t->y = 1; t->x = 2;)
PART(corr1, r[0][i] = t->x; r[1][i] = t->x;)
PART(wide0, t->wide = ~0ull;)
PART(wide1, u64 v = t->wide; r[0][i] = (u32)v; r[1][i] = (u32)(v >> 32);)
PART(iriw2, r[0][i] = t->x; r[1][i] = t->y;)
PART(iriw3, r[2][i] = t->y; r[3][i] = t->x;)
PART(wrc1, r[0][i] = t->x; t->y = 1;)
PART(wrc2, r[1][i] = t->y; r[2][i] = t->x;)
/* A processor sees its own store first, whatever the others see. */
PART(own0, t->x = 1; r[0][i] = t->x; r[1][i] = t->y;)
PART(own1, t->y = 1; r[2][i] = t->y; r[3][i] = t->x;)

/* --- outcomes --- */
#define SEEN(name, condition) static bool name(unsigned i) { struct slot *t = &s[i]; (void)t; return condition; }
SEEN(both_zero, !r[0][i] && !r[1][i])
SEEN(flag_only, r[0][i] && !r[1][i])
SEEN(flag_late, r[0][i] && (!r[1][i] || !r[3][i]))
SEEN(both_one, r[0][i] && r[1][i])
SEEN(s_seen, r[0][i] == 1 && t->x == 2)
SEEN(r_seen, t->y == 2 && !r[0][i])
SEEN(w2_seen, t->x == 1 && t->y == 1)
SEEN(torn, r[0][i] != r[1][i])
SEEN(iriw_seen, r[0][i] && !r[1][i] && r[2][i] && !r[3][i])
SEEN(wrc_seen, r[0][i] && r[1][i] && !r[2][i])
SEEN(own_seen, !r[0][i] || !r[2][i])
SEEN(own_sb, r[0][i] && !r[1][i] && r[2][i] && !r[3][i])

static const struct test tests[] = {
    {"SB: both loads before both stores", 2, {sb0, sb1}, both_zero, true},
    {"SB with MFENCE", 2, {sbf0, sbf1}, both_zero, false},
    {"SB with a locked operation elsewhere", 2, {sbl0, sbl1}, both_zero, false},
    {"SB with XCHG", 2, {sbx0, sbx1}, both_zero, false},
    {"SB with CPUID", 2, {sbc0, sbc1}, both_zero, false},
    {"SB with a write of CR3", 2, {sbp0, sbp1}, both_zero, false},
    {"SB with INVLPG", 2, {sbt0, sbt1}, both_zero, false},
    {"SB with IRET", 2, {sbi0, sbi1}, both_zero, false},
    {"SB of unaligned words with a locked operation", 2, {sbu0, sbu1}, both_zero, false},
    {"MP of an unaligned word", 2, {mpu0, mpu1}, flag_only, false},
    {"MP by an unaligned flag", 2, {mpv0, mpv1}, flag_only, false},
    {"MP of data by REP MOVSB", 2, {mpm0, mpm1}, flag_only, false},
    {"MP: the flag without the data", 2, {mp0, mp1}, flag_only, false},
    {"MP in bytes and words", 2, {mps0, mps1}, flag_only, false},
    {"MP, flag by XCHG", 2, {mpx0, mp1}, flag_only, false},
    {"MP, a third load between", 2, {mp0, mpr1}, flag_late, false},
    {"LB: both loads see the other's store", 2, {lb0, lb1}, both_one, false},
    {"S", 2, {s0, s1}, s_seen, false},
    {"R with MFENCE", 2, {rf0, rf1}, r_seen, false},
    {"2+2W", 2, {w20, w21}, w2_seen, false},
    {"CoRR: a second load sees less", 2, {w_x, corr1}, flag_only, false},
    {"an aligned quadword in halves", 2, {wide0, wide1}, torn, false},
    {"own store not seen", 2, {own0, own1}, own_seen, false},
    {"own store seen first, as SB", 2, {own0, own1}, own_sb, true},
    {"WRC", 3, {w_x, wrc1, wrc2}, wrc_seen, false},
    {"IRIW: two readers in two orders", 4, {w_x, w_y, iriw2, iriw3}, iriw_seen, false},
};

/* --- running --- */
static const struct test *volatile now;

static void run_part(void *arg)
{
    unsigned me = (unsigned)(word)arg;
    part *mine = now->part[me];
    for (unsigned from = 0, met = 1; from < SLOTS; from += CHUNK, met++) {
        __atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
        while (arrived < now->parts * met) pause();
        mine(from);
    }
}

static unsigned count(const struct test *t)
{
    unsigned seen = 0;
    for (unsigned run = 0; run < RUNS; run++) {
        memset(s, 0, sizeof s);
        memset(r, 0, sizeof r);
        arrived = 0;
        now = t;
        for (unsigned i = 1; i < t->parts; i++) on_cpu(i, run_part, (void *)(word)i);
        run_part(NULL);
        for (unsigned i = 1; i < t->parts; i++) wait_cpu(i);
        for (unsigned i = 0; i < SLOTS; i++) seen += t->seen(i);
    }
    return seen;
}

void guest_main(void)
{
    cpus = start_cpus(MAX_CPUS);
    for (unsigned n = 0; n < ARRAY_SIZE(tests); n++) {
        const struct test *t = &tests[n];
        if (t->parts > cpus) continue;
        unsigned seen = count(t);
        if (t->allowed) note("%s: %u times in %u (allowed)", t->name, seen, RUNS * SLOTS);
        else is(seen, 0, "never %s", t->name);
    }
}
