/* Descriptors and segment registers, for the rooms that transfer control (seg.c, far.c, intr.c,
 * task.c). */
#ifndef CPU_SEG_H
#define CPU_SEG_H

#include "cpu/cpu.h"

struct descriptor {
    u64 linear;  /* of its first byte */
    u64 raw;     /* first eight bytes */
    u64 base;    /* with the upper half of a 16-byte system descriptor */
    u32 limit;   /* in bytes */
    u32 attr;    /* as struct segment's */
};

/* System descriptor types. */
enum {
    TYPE_TSS16 = 1, TYPE_LDT = 2, TYPE_TSS16_BUSY = 3, TYPE_CALL16 = 4, TYPE_TASK_GATE = 5,
    TYPE_INT16 = 6, TYPE_TRAP16 = 7, TYPE_TSS32 = 9, TYPE_TSS32_BUSY = 11, TYPE_CALL32 = 12,
    TYPE_INT32 = 14, TYPE_TRAP32 = 15,
};

static inline bool selector_is_null(u16 selector) { return !(selector & 0xfffc); }
static inline unsigned desc_dpl(const struct descriptor *d) { return d->attr >> SEG_DPL_SHIFT & 3; }
static inline unsigned desc_type(const struct descriptor *d) { return d->attr & SEG_TYPE; }
static inline bool desc_is_system(const struct descriptor *d) { return !(d->attr & SEG_S); }
static inline bool desc_is_code(const struct descriptor *d)
{
    return (d->attr & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}
static inline bool desc_is_conforming(const struct descriptor *d)
{
    return desc_is_code(d) && (d->attr & SEG_CONFORMING);
}
static inline bool desc_is_writable_data(const struct descriptor *d)
{
    return (d->attr & (SEG_S | SEG_CODE | SEG_WRITABLE)) == (SEG_S | SEG_WRITABLE);
}
static inline bool desc_present(const struct descriptor *d) { return d->attr & SEG_P; }

/* Gates: fields of the first eight bytes. */
static inline u16 gate_selector(const struct descriptor *d) { return (u16)(d->raw >> 16); }
static inline u32 gate_offset(const struct descriptor *d)
{
    return (u32)(d->raw & 0xffff) | (u32)(d->raw >> 32 & 0xffff0000u);
}

/* False when SELECTOR's eight bytes are outside its table (no exception). */
bool desc_locate(const struct vcpu *cpu, u16 selector, u64 *linear);
/* Reads it; outside the table: exception VECTOR(ERROR). */
bool desc_read(struct vcpu *cpu, u16 selector, struct descriptor *d, int vector, u32 error);
/* Upper half of a 16-byte system descriptor (long mode): completes d->base. */
bool desc_read_high(struct vcpu *cpu, u16 selector, struct descriptor *d, int vector, u32 error);
/* Sets type bits in memory when they are not set yet (accessed, busy). */
bool desc_set_type_bits(struct vcpu *cpu, struct descriptor *d, u32 bits);

/* No checks; call cpu_update_mode afterwards. */
void seg_put(struct vcpu *cpu, unsigned seg, u16 selector, const struct descriptor *d);
void seg_put_null(struct vcpu *cpu, unsigned seg, u16 selector);
void seg_put_real(struct vcpu *cpu, unsigned seg, u16 selector); /* real or virtual-8086 mode */
/* CS with RPL := CPL. */
void cs_put(struct vcpu *cpu, u16 selector, const struct descriptor *d, unsigned cpl);

/* MOV, POP, LxS to DS ES FS GS SS in any mode, with all checks. */
bool seg_load(struct vcpu *cpu, unsigned seg, u16 selector);
/* SS for privilege NEW_CPL; faults VECTOR(selector | EXT), not present #SS(selector | EXT). Reads
 * only. */
bool ss_check(struct vcpu *cpu, u16 selector, unsigned new_cpl, int vector, u32 ext,
              struct descriptor *d);
/* Is IP a place code of segment D could be at? Else #GP(EXT). */
bool ip_check(struct vcpu *cpu, const struct descriptor *d, u64 ip, u32 ext);
/* After a return to an outer level: DS ES FS GS that are too privileged become null. */
void seg_drop_inner(struct vcpu *cpu);

/*
 * A stack that is written before it becomes the current one: far calls and interrupts. Pushes move
 * only frame.sp; a push that does not fit raises #SS(error).
 */
struct frame {
    u64 base, sp, mask;     /* mask: width of the stack pointer */
    u32 limit, attr;
    u32 error;
    u8 size;                /* of a push */
    bool flat;              /* 64-bit mode: no segment */
    u8 mode;                /* enum tlb_mode */
};
void frame_current(struct vcpu *cpu, struct frame *f, unsigned size, u32 error);
/* On segment D at SP for privilege CPL; FLAT in long mode (D may be NULL). */
void frame_new(struct vcpu *cpu, struct frame *f, const struct descriptor *d, u64 sp, unsigned cpl,
               unsigned size, u32 error);
bool frame_push(struct vcpu *cpu, struct frame *f, u64 value);
/* rSP := f->sp, by its width. */
void frame_commit(struct vcpu *cpu, const struct frame *f);

/* Stack pointers for privilege LEVEL from the TSS (task.c); #TS(TR | EXT) when it is too short. */
bool tss_stack(struct vcpu *cpu, unsigned level, u32 ext, u16 *ss, u64 *sp);
bool tss_stack64(struct vcpu *cpu, unsigned level, u32 ext, u64 *sp);
bool tss_ist(struct vcpu *cpu, unsigned n, u32 ext, u64 *sp);

/* Hardware task switch (task.c). D is the TSS descriptor of SELECTOR, already checked for the
 * reason's rights but not for busy and present. NEXT_IP is saved in the outgoing task. FLAG_RF in
 * EXT (an exception through a task gate) goes into the outgoing task's EFLAGS. */
enum task_reason { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_INTERRUPT };
bool task_switch(struct vcpu *cpu, u16 selector, struct descriptor *d, enum task_reason reason,
                 u64 next_ip, u32 ext);
/* Through a task gate. */
bool task_gate(struct vcpu *cpu, u16 selector, enum task_reason reason, u64 next_ip, u32 ext);
/* IRET with NT: back to the TSS's link. */
bool task_return(struct vcpu *cpu, u64 next_ip);
/* Whether the TSS's bitmap lets SIZE ports from PORT be used; false with #GP(0). */
bool io_bitmap_allows(struct vcpu *cpu, u16 port, unsigned size);
/* INT n in virtual-8086 mode with CR4.VME: *REDIRECT says whether it goes to the 8086 handler. */
bool vme_redirects(struct vcpu *cpu, u8 vector, bool *redirect);

#endif
