/*
 * Random sequences on every engine, each against the interpreter running one instruction at a time,
 * from the same state: registers, flags, vectors, x87, memory, faults and the number of
 * instructions. A failing one is made smaller before it is shown.
 */
#ifndef TESTS_INSN_CAMPAIGN_H
#define TESTS_INSN_CAMPAIGN_H

#include "tests/insn/flat.h"
#include "tests/insn/sequence.h"

#define FIELD_DATA_PAGES 8u /* at FLAT_DATA; the fifth is absent, the sixth read-only */
#define FIELD_PAGE_TABLE 0x4000u /* of 2 to 4 MiB */
#define FIELD_POINTERS32 0x5000u /* 32-bit code's PDPT */

/* A processor for each engine and one to compare with, made by MAKE (flat_new). LAY_OUT, or NULL,
 * is called in front of each run, behind all else. */
struct field;
struct field *field_new(struct flat *(*make)(void),
                        void (*lay_out)(struct flat *flat, u64 seed, bool code64));
void field_free(struct field *f);
struct sequence_place *field_place(struct field *f);
/* What is being run, for who is told by a signal. */
void field_tell(const struct field *f, u64 *seed, const char **engine);
/* The number of runs that differ (it gives up after a few). */
unsigned campaign(struct field *f, u64 seed, unsigned programs, bool code64);

#endif
