/*
 * Vector registers and their elements, the same on hosts of either byte order: 64-bit lanes are
 * kept as native numbers, smaller elements are found by flipping the index.
 */
#ifndef CPU_VEC_H
#define CPU_VEC_H

#include "machine/types.h"

union vec {
    u64 q[8];
    u32 d[16];
    u16 w[32];
    u8 b[64];
} __attribute__((aligned(16))); /* what struct vcpu gives its registers; see cpu_vec */

#define VEC_FLIP(n) (HOST_LITTLE_ENDIAN ? 0 : (n))
#define vec_q(v, i) ((v)->q[i])
#define vec_d(v, i) ((v)->d[(i) ^ VEC_FLIP(1)])
#define vec_w(v, i) ((v)->w[(i) ^ VEC_FLIP(3)])
#define vec_b(v, i) ((v)->b[(i) ^ VEC_FLIP(7)])

#endif
