/* guest: bits=64 smp=1,2,4 quick=0 engines=jit,interp */
/*
 * Programs that know their result, on all processors at once: what any wrong flag, address or byte
 * in between would change. Known from number theory, from FIPS 180-4 and from ISO 3309; or two ways
 * to one end.
 */
#include "guest.h"

#define BUFFER 262144u
#define SIEVE 1000000u
#define LIMBS 41u
#define SORTED 20000u

struct room {
    u8 bytes[SIEVE];
    u32 a[SORTED], b[SORTED];
    u64 results[16];
};

/* --- checksums --- */
static u32 crc_bits(u32 crc, const u8 *p, u32 n)
{
    for (crc = ~crc; n--; p++) {
        crc ^= *p;
        for (unsigned k = 0; k < 8; k++) crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
    }
    return ~crc;
}

static u32 crc_table(u32 crc, const u8 *p, u32 n, u32 *table)
{
    for (unsigned i = 0; i < 256; i++) {
        u8 byte = (u8)i;
        table[i] = ~crc_bits(~0u, &byte, 1);
    }
    for (crc = ~crc; n--; p++) crc = crc >> 8 ^ table[(crc ^ *p) & 255];
    return ~crc;
}

static u64 checksum(struct room *r)
{
    u32 table[256], s = 1;
    for (u32 i = 0; i < BUFFER; i++) r->bytes[i] = (u8)((s = s * 1103515245 + 12345) >> 16);
    bool same = crc_bits(0, r->bytes, BUFFER) == crc_table(0, r->bytes, BUFFER, table);
    return same ? crc_bits(0, (const u8 *)"123456789", 9) : 0;
}

static u32 rotate(u32 v, unsigned by) { return v >> by | v << (32 - by); }

/* The first 32 bits of the fractional part of P's square or cube root, by bisection in integers. */
static u32 root(u32 p, bool cube)
{
    u64 low = 0, high = 8ull << 32;
    while (high - low > 1) {
        u64 mid = (low + high) / 2;
        unsigned __int128 square = (unsigned __int128)mid * mid;
        bool above = cube ? (square >> 32) * mid + (((unsigned __int128)(u32)square * mid) >> 32) >=
                                (unsigned __int128)p << 64
                          : square >= (unsigned __int128)p << 64;
        if (above) high = mid;
        else low = mid;
    }
    return (u32)low;
}

static void sha_block(u32 *h, const u32 *k, const u8 *p)
{
    u32 w[64], v[8];
    for (unsigned i = 0; i < 16; i++)
        w[i] =
            (u32)p[i * 4] << 24 | (u32)p[i * 4 + 1] << 16 | (u32)p[i * 4 + 2] << 8 | p[i * 4 + 3];
    for (unsigned i = 16; i < 64; i++) {
        u32 a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof v);
    for (unsigned i = 0; i < 64; i++) {
        u32 e = v[4], a = v[0];
        u32 t = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & v[5]) ^ (~e & v[6])) +
                k[i] + w[i];
        u32 u = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
                ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        for (unsigned n = 7; n; n--) v[n] = v[n - 1];
        v[4] += t;
        v[0] = t + u;
    }
    for (unsigned i = 0; i < 8; i++) h[i] += v[i];
}

/* SHA-256 of a million times "a": its first quadword. The constants are worked out, not listed. */
static u64 sha256(struct room *r)
{
    u32 k[64], h[8];
    unsigned n = 0;
    for (u32 p = 2; n < 64; p++) {
        bool prime = true;
        for (u32 d = 2; d * d <= p; d++) prime &= p % d != 0;
        if (!prime) continue;
        if (n < 8) h[n] = root(p, false);
        k[n++] = root(p, true);
    }
    memset(r->bytes, 'a', 64);
    for (unsigned i = 0; i < 1000000 / 64; i++) sha_block(h, k, r->bytes);
    memset(r->bytes, 0, 64);
    r->bytes[0] = 0x80;
    for (unsigned i = 0; i < 8; i++) r->bytes[56 + i] = (u8)(8000000ull >> (56 - i * 8));
    sha_block(h, k, r->bytes);
    return (u64)h[0] << 32 | h[1];
}

/* --- numbers --- */
static u64 primes(struct room *r)
{
    u32 count = 0;
    memset(r->bytes, 1, SIEVE);
    for (u32 i = 2; i < SIEVE; i++) {
        if (!r->bytes[i]) continue;
        count++;
        for (u64 k = (u64)i * i; k < SIEVE; k += i) r->bytes[k] = 0;
    }
    return count;
}

static u64 divisors(struct room *r)
{
    u64 sum = 0;
    volatile u32 n = 1000000;
    (void)r;
    for (u32 k = 1; k <= 1000000; k++) sum += n / k;
    return sum;
}

static u64 collatz(struct room *r)
{
    u32 longest = 0, from = 0;
    (void)r;
    for (u32 n = 1; n < 100000; n++) {
        u32 steps = 1;
        for (u64 v = n; v != 1; v = v & 1 ? v * 3 + 1 : v >> 1) steps++;
        if (steps > longest) longest = steps, from = n;
    }
    return (u64)from << 32 | longest;
}

static u64 partitions(struct room *r)
{
    u64 ways[101] = {1};
    (void)r;
    for (unsigned part = 1; part <= 100; part++)
        for (unsigned n = part; n <= 100; n++) ways[n] += ways[n - part];
    return ways[100];
}

/* V = V * V - 2 modulo 2^P - 1, in limbs of 32 bits. */
static void lucas_step(u32 *v, unsigned p)
{
    u32 wide[2 * LIMBS + 1] = {0};
    for (unsigned i = 0; i < LIMBS; i++) {
        u64 carry = 0;
        for (unsigned k = 0; k < LIMBS; k++) {
            carry += (u64)v[i] * v[k] + wide[i + k];
            wide[i + k] = (u32)carry;
            carry >>= 32;
        }
        wide[i + LIMBS] = (u32)carry;
    }
    u64 carry = 0;
    u32 high[LIMBS];
    for (unsigned i = 0; i < LIMBS; i++) {
        unsigned at = (p >> 5) + i, by = p & 31;
        high[i] = at < 2 * LIMBS ? (u32)((wide[at] | (u64)wide[at + 1] << 32) >> by) : 0;
    }
    wide[p >> 5] &= (1u << (p & 31)) - 1;
    for (unsigned i = (p >> 5) + 1; i < LIMBS; i++) wide[i] = 0;
    for (unsigned i = 0; i < LIMBS; i++, carry >>= 32)
        v[i] = (u32)(carry += (u64)wide[i] + high[i]);
    /* what is above bit P comes in below; - 2 is + (2^P - 3) */
    for (unsigned fold = 0; fold < 2; fold++) {
        u32 more = v[p >> 5] >> (p & 31);
        v[p >> 5] &= (1u << (p & 31)) - 1;
        carry = more;
        for (unsigned i = 0; i < LIMBS; i++, carry >>= 32) v[i] = (u32)(carry += v[i]);
        if (fold) break;
        carry = 0;
        for (unsigned i = 0; i <= p >> 5; i++, carry >>= 32)
            v[i] = (u32)(carry += (u64)v[i] + (i ? i == p >> 5 ? (1u << (p & 31)) - 1 : ~0u : ~2u));
    }
}

/* Lucas and Lehmer: is 2^P - 1 prime? */
static bool mersenne(unsigned p)
{
    u32 v[LIMBS] = {4};
    bool zero = true, ones = true;
    for (unsigned i = 2; i < p; i++) lucas_step(v, p);
    for (unsigned i = 0; i <= p >> 5; i++) {
        zero &= !v[i];
        ones &= v[i] == (i == p >> 5 ? (1u << (p & 31)) - 1 : ~0u);
    }
    return zero || ones;
}

static u64 exponents(struct room *r)
{
    static const u16 candidates[] = {61, 67, 89, 101, 107, 109, 127, 257, 521, 523, 607, 613, 1279};
    u64 found = 0;
    (void)r;
    for (unsigned n = 0; n < ARRAY_SIZE(candidates); n++)
        found |= (u64)mersenne(candidates[n]) << n;
    return found;
}

/* --- searching, calling, sorting --- */
static u32 queens(u32 n, u32 columns, u32 left, u32 right)
{
    u32 all = (1u << n) - 1, count = 0;
    if (columns == all) return 1;
    for (u32 free = all & ~(columns | left | right); free; free &= free - 1) {
        u32 bit = free & -free;
        count += queens(n, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return count;
}
static u64 boards(struct room *r)
{
    return (void)r, queens(8, 0, 0, 0) + 1000 * queens(9, 0, 0, 0);
}

static __attribute__((noinline)) u32 fibonacci(u32 n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}
static u64 calls(struct room *r) { return (void)r, fibonacci(25); }

static void sift(u32 *a, u32 root_at, u32 n)
{
    for (u32 child; (child = 2 * root_at + 1) < n; root_at = child) {
        if (child + 1 < n && a[child + 1] > a[child]) child++;
        if (a[root_at] >= a[child]) return;
        u32 t = a[root_at];
        a[root_at] = a[child];
        a[child] = t;
    }
}

static void quick(u32 *a, i32 from, i32 to)
{
    while (from < to) {
        u32 pivot = a[(from + to) / 2];
        i32 i = from, k = to;
        while (i <= k) {
            while (a[i] < pivot) i++;
            while (a[k] > pivot) k--;
            if (i > k) break;
            u32 t = a[i];
            a[i++] = a[k];
            a[k--] = t;
        }
        quick(a, from, k);
        from = i;
    }
}

static u64 sorts(struct room *r)
{
    u32 s = 7, good = 0;
    for (u32 i = 0; i < SORTED; i++) r->a[i] = r->b[i] = s = s * 1664525 + 1013904223;
    for (u32 i = SORTED / 2; i--;) sift(r->a, i, SORTED);
    for (u32 n = SORTED; --n;) {
        u32 t = r->a[0];
        r->a[0] = r->a[n];
        r->a[n] = t;
        sift(r->a, 0, n);
    }
    quick(r->b, 0, SORTED - 1);
    for (u32 i = 0; i < SORTED; i++) good += r->a[i] == r->b[i] && (!i || r->a[i - 1] <= r->a[i]);
    return good;
}

/* --- running --- */
static const struct program {
    const char *name;
    u64 (*run)(struct room *);
    u64 result;
} programs[] = {
    {"CRC-32, two ways", checksum, 0xcbf43926},
    {"SHA-256 of a million letters", sha256, 0xcdc76e5c9914fb92},
    {"primes below a million", primes, 78498},
    {"sum of the numbers of divisors up to a million", divisors, 13970034},
    {"the longest Collatz chain below 100000", collatz, 77031ull << 32 | 351},
    {"partitions of 100", partitions, 190569292},
    {"exponents of Mersenne primes", exponents, 0x1555},
    {"queens on boards of 8 and 9", boards, 92 + 1000 * 352},
    {"a Fibonacci number by calls", calls, 75025},
    {"two sorts agree", sorts, SORTED},
};

static void run_all(void *room)
{
    struct room *r = room;
    for (unsigned n = 0; n < ARRAY_SIZE(programs); n++) r->results[n] = programs[n].run(r);
}

void guest_main(void)
{
    struct room *rooms[MAX_CPUS];
    unsigned cpus = start_cpus(MAX_CPUS);
    for (unsigned i = 0; i < cpus; i++) rooms[i] = alloc_pages((sizeof(struct room) + 4095) / 4096);
    for (unsigned i = 1; i < cpus; i++) on_cpu(i, run_all, rooms[i]);
    run_all(rooms[0]);
    for (unsigned i = 1; i < cpus; i++) wait_cpu(i);
    for (unsigned i = 0; i < cpus; i++)
        for (unsigned n = 0; n < ARRAY_SIZE(programs); n++)
            is(rooms[i]->results[n], programs[n].result, "%s, processor %u", programs[n].name, i);
}
