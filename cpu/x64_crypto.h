/*
 * The host's AES and PCLMULQDQ instructions, where the host is x86-64 and has them. Elsewhere
 * X64_CRYPTO is 0 and the functions are never called.
 */
#ifndef CPU_X64_CRYPTO_H
#define CPU_X64_CRYPTO_H

#include "machine/types.h"

#ifdef __x86_64__
#define X64_CRYPTO 1
#include <immintrin.h>

static inline bool x64_has_aes(void) { return __builtin_cpu_supports("aes"); }
static inline bool x64_has_clmul(void) { return __builtin_cpu_supports("pclmul"); }

/* STEP as enum aes_step: encrypt, encrypt last, decrypt, decrypt last. */
__attribute__((target("aes"))) static inline void x64_aes(u64 *r, const u64 *x, const u64 *key,
                                                           unsigned step)
{
    __m128i a = _mm_loadu_si128((const __m128i *)x), k = _mm_loadu_si128((const __m128i *)key);
    switch (step) {
    case 0: a = _mm_aesenc_si128(a, k); break;
    case 1: a = _mm_aesenclast_si128(a, k); break;
    case 2: a = _mm_aesdec_si128(a, k); break;
    default: a = _mm_aesdeclast_si128(a, k); break;
    }
    _mm_storeu_si128((__m128i *)r, a);
}

__attribute__((target("pclmul"))) static inline void x64_clmul(u64 *r, u64 a, u64 b)
{
    __m128i v = _mm_clmulepi64_si128(_mm_cvtsi64_si128((i64)a), _mm_cvtsi64_si128((i64)b), 0);
    _mm_storeu_si128((__m128i *)r, v);
}
#else
#define X64_CRYPTO 0
static inline bool x64_has_aes(void) { return false; }
static inline bool x64_has_clmul(void) { return false; }
static inline void x64_aes(u64 *r, const u64 *x, const u64 *key, unsigned step)
{
    (void)r, (void)x, (void)key, (void)step;
}
static inline void x64_clmul(u64 *r, u64 a, u64 b) { (void)r, (void)a, (void)b; }
#endif

#endif
