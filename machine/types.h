/*
 * Fixed-width names, byte order and small helpers that every room uses.
 *
 * Guest memory and every file format we write are little-endian; hosts may be either.
 */
#ifndef MACHINE_TYPES_H
#define MACHINE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
typedef unsigned __int128 u128;

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#define KIB(n) ((u64)(n) << 10)
#define MIB(n) ((u64)(n) << 20)
#define GIB(n) ((u64)(n) << 30)

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HOST_LITTLE_ENDIAN 1
#else
#define HOST_LITTLE_ENDIAN 0
#endif

/* Whether this host's processors keep loads and stores in order as x86's do: only a load may pass
 * earlier stores. */
#if defined(__x86_64__) || defined(__s390x__)
#define HOST_X86_ORDER 1
#else
#define HOST_X86_ORDER 0
#endif

static ALWAYS_INLINE u16 le16(u16 v) { return HOST_LITTLE_ENDIAN ? v : __builtin_bswap16(v); }
static ALWAYS_INLINE u32 le32(u32 v) { return HOST_LITTLE_ENDIAN ? v : __builtin_bswap32(v); }
static ALWAYS_INLINE u64 le64(u64 v) { return HOST_LITTLE_ENDIAN ? v : __builtin_bswap64(v); }
static ALWAYS_INLINE u16 be16(u16 v) { return HOST_LITTLE_ENDIAN ? __builtin_bswap16(v) : v; }
static ALWAYS_INLINE u32 be32(u32 v) { return HOST_LITTLE_ENDIAN ? __builtin_bswap32(v) : v; }
static ALWAYS_INLINE u64 be64(u64 v) { return HOST_LITTLE_ENDIAN ? __builtin_bswap64(v) : v; }

/* Little-endian loads and stores at any alignment. */
static ALWAYS_INLINE u16 ld16(const void *p) { u16 v; memcpy(&v, p, 2); return le16(v); }
static ALWAYS_INLINE u32 ld32(const void *p) { u32 v; memcpy(&v, p, 4); return le32(v); }
static ALWAYS_INLINE u64 ld64(const void *p) { u64 v; memcpy(&v, p, 8); return le64(v); }
static ALWAYS_INLINE void st16(void *p, u16 v) { v = le16(v); memcpy(p, &v, 2); }
static ALWAYS_INLINE void st32(void *p, u32 v) { v = le32(v); memcpy(p, &v, 4); }
static ALWAYS_INLINE void st64(void *p, u64 v) { v = le64(v); memcpy(p, &v, 8); }

/*
 * Guest memory. Guests may race on it, as they may on a real machine, so ThreadSanitizer is kept
 * out of the functions that touch it and looks everywhere else.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GUEST_RACES_HIDDEN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(GUEST_RACES_HIDDEN)
#define GUEST_RACES __attribute__((noinline, unused, no_sanitize("thread")))
#define GUEST_ACCESS GUEST_RACES
#else
#define GUEST_RACES
#define GUEST_ACCESS ALWAYS_INLINE
#endif

/*
 * In x86's order, which guests rely on and so do drivers against a device that works on a thread of
 * its own: where the host's is weaker an aligned load acquires and an aligned store releases
 * (compilers make that LDAR and STLR of AArch64; LDAPR is enough and taken when -march has it);
 * beside others stands a fence.
 * One access each, so that nobody sees half of an aligned number.
 */
static GUEST_ACCESS u8 guest_ld8(const void *p)
{
    return HOST_X86_ORDER ? *(const u8 *)p : __atomic_load_n((const u8 *)p, __ATOMIC_ACQUIRE);
}
static GUEST_ACCESS void guest_st8(void *p, u8 v)
{
    if (HOST_X86_ORDER) *(u8 *)p = v;
    else __atomic_store_n((u8 *)p, v, __ATOMIC_RELEASE);
}
#define GUEST_LOAD_STORE(bits)                                                                     \
    static GUEST_ACCESS u##bits guest_ld##bits(const void *p)                                      \
    {                                                                                              \
        if (HOST_X86_ORDER) return ld##bits(p);                                                    \
        if (likely(!((uintptr_t)p & (bits / 8 - 1))))                                              \
            return le##bits(__atomic_load_n((const u##bits *)p, __ATOMIC_ACQUIRE));                \
        u##bits v = ld##bits(p);                                                                   \
        __atomic_thread_fence(__ATOMIC_ACQUIRE);                                                   \
        return v;                                                                                  \
    }                                                                                              \
    static GUEST_ACCESS void guest_st##bits(void *p, u##bits v)                                    \
    {                                                                                              \
        if (!HOST_X86_ORDER && likely(!((uintptr_t)p & (bits / 8 - 1)))) {                         \
            __atomic_store_n((u##bits *)p, le##bits(v), __ATOMIC_RELEASE);                         \
        } else {                                                                                   \
            if (!HOST_X86_ORDER) __atomic_thread_fence(__ATOMIC_RELEASE);                          \
            st##bits(p, v);                                                                        \
        }                                                                                          \
    }
GUEST_LOAD_STORE(16)
GUEST_LOAD_STORE(32)
GUEST_LOAD_STORE(64)
#undef GUEST_LOAD_STORE

/* As memcpy, and as memmove when TO lies below FROM; in order with what is before and behind it. */
static GUEST_ACCESS void guest_copy(void *to, const void *from, size_t length)
{
    switch (length) { /* the library's may move bytes */
    case 1: guest_st8(to, guest_ld8(from)); return;
    case 2: guest_st16(to, guest_ld16(from)); return;
    case 4: guest_st32(to, guest_ld32(from)); return;
    case 8: guest_st64(to, guest_ld64(from)); return;
    }
    if (!HOST_X86_ORDER) __atomic_thread_fence(__ATOMIC_RELEASE);
#if defined(__SANITIZE_THREAD__) || defined(GUEST_RACES_HIDDEN)
    for (size_t i = 0, n; i < length; i += n) { /* the library's are watched */
        n = length - i >= 8 ? 8 : 1;
        if (n == 8) st64((u8 *)to + i, ld64((const u8 *)from + i));
        else ((u8 *)to)[i] = ((const u8 *)from)[i];
        __asm__ volatile("" ::: "memory");
    }
#else
    memmove(to, from, length);
#endif
    if (!HOST_X86_ORDER) __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

static GUEST_ACCESS void guest_fill(void *to, u8 byte, size_t length)
{
    if (!HOST_X86_ORDER) __atomic_thread_fence(__ATOMIC_RELEASE);
#if defined(__SANITIZE_THREAD__) || defined(GUEST_RACES_HIDDEN)
    for (size_t i = 0; i < length; i++) ((volatile u8 *)to)[i] = byte;
#else
    memset(to, byte, length);
#endif
}

/* The low SIZE (1, 2, 4 or 8) bytes set. */
static ALWAYS_INLINE u64 size_mask(unsigned size)
{
    return size >= 8 ? ~(u64)0 : ((u64)1 << (size * 8)) - 1;
}

/* VALUE's low SIZE bytes as a signed number. */
static ALWAYS_INLINE i64 sign_extend(u64 value, unsigned size)
{
    unsigned shift = 64 - size * 8;
    return (i64)(value << shift) >> shift;
}

#endif
