/* The semantics functions by operation. */
#include "cpu/sem.h"

const sem_fn sem_table[OP_COUNT] = {
#define OP(name) [OP_##name] = sem_##name,
#include "cpu/ops.def"
#undef OP
};
