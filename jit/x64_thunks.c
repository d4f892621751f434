/*
 * The code every unit shares: entry from C, the way back, calls to C.
 */
#include "jit/x64_int.h"

#include "cpu/mem.h"

static void guest_registers(struct x64 *e, bool load)
{
    for (unsigned r = 0; r < 16; r++) {
        if (home(r) == H_NONE) continue;
        if (load) x64_mov_load(e, 8, home(r), AT_REG(r));
        else x64_mov_store(e, 8, AT_REG(r), home(r));
    }
}

static void guest_vectors(struct x64 *e, bool avx, bool load)
{
    struct x64_rm guest = AT_CPU(mxcsr), host = AT_STATE(host_mxcsr);
    for (unsigned r = 0; r < 16; r++) {
        struct x64_rm at = AT(offsetof(struct vcpu, zmm) + r * 64);
        unsigned opcode = load ? 0x10 : 0x11; /* movups */
        if (avx) x64_vex(e, X64_NP, false, true, X64_0F, opcode, r, 0, &at);
        else x64_op(e, 0, false, false, X64_0F, opcode, r, &at);
    }
    if (!load) x64_op(e, 0, false, false, X64_0F, 0xae, 3, &guest); /* stmxcsr */
    x64_op(e, 0, false, false, X64_0F, 0xae, 2, load ? &guest : &host);
    if (!load && avx) x64_u8(e, 0xc5), x64_u8(e, 0xf8), x64_u8(e, 0x77); /* vzeroupper */
}

static u8 *if_vectors_dead(struct x64 *e)
{
    struct x64_rm at = AT_NEAR(vectors_live);
    x64_op(e, 0, false, false, X64_ONE, 0x80, X64_CMP, &at);
    x64_u8(e, 0);
    return x64_jcc(e, CC_E);
}

static const u8 callee_saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

static void push(struct x64 *e, unsigned reg)
{
    if (reg >= 8) x64_u8(e, 0x41);
    x64_u8(e, 0x50 | (reg & 7));
}
static void pop(struct x64 *e, unsigned reg)
{
    if (reg >= 8) x64_u8(e, 0x41);
    x64_u8(e, 0x58 | (reg & 7));
}

/* Guest registers and vectors are in struct vcpu: back to the caller of `enter`. */
static void emit_return(struct x64 *e)
{
    x64_mov_load(e, 8, H_RSP, AT_STATE(host_rsp));
    pop(e, H_RDI);
    for (unsigned n = ARRAY_SIZE(callee_saved); n-- > 0;) pop(e, callee_saved[n]);
    x64_u8(e, 0xc3);
}

static void emit_spill(struct x64 *e, bool avx)
{
    guest_registers(e, false);
    u8 *dead = if_vectors_dead(e);
    guest_vectors(e, avx, false);
    x64_patch(dead, e->p);
}

static void emit_enter(struct x64 *e)
{
    struct x64_rm resume = AT_STATE(resume);
    for (unsigned n = 0; n < ARRAY_SIZE(callee_saved); n++) push(e, callee_saved[n]);
    x64_lea(e, 8, H_RDI, x64_mem(H_RDI, STATE_POINTER));
    push(e, H_RDI);
    x64_mov_store(e, 8, x64_mem(H_RDI, AT_STATE(host_rsp).disp), H_RSP);
    x64_mov(e, H_RSP, H_RDI);
    x64_mov_store(e, 8, resume, H_RSI);
    guest_registers(e, true);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 4, &resume);
}

/* r9: the site. The state pointer is what lies on top of the C stack. */
static void emit_slow(struct x64 *e, bool avx)
{
    struct x64_rm resume = AT_STATE(resume), rax = x64_reg(H_RAX), at = AT_NEAR(flags);
    emit_spill(e, avx);
    x64_lea(e, 8, H_RDI, AT(0));
    x64_mov_load(e, 4, H_RSI, x64_reg(H_R9));
    x64_mov_load(e, 8, H_RSP, AT_STATE(host_rsp));
    x64_mov_imm64(e, H_RAX, (u64)(uintptr_t)jit_slow);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 2, &rax);
    x64_mov_load(e, 8, H_RSP, x64_mem(H_RSP, 0));
    x64_op(e, 0, true, false, X64_ONE, 0x85, H_RAX, &rax);
    u8 *go_on = x64_jcc(e, CC_NE);
    emit_return(e);
    x64_patch(go_on, e->p);
    x64_mov_store(e, 8, resume, H_RAX);
    u8 *dead = if_vectors_dead(e);
    guest_vectors(e, avx, true);
    x64_patch(dead, e->p);
    x64_op(e, 0, false, false, X64_0F, 0xb7, H_RAX, &at);
    x64_u8(e, 0x04), x64_u8(e, 0x7f); /* add al, 0x7f */
    x64_u8(e, 0x9e);                  /* sahf */
    guest_registers(e, true);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 4, &resume);
}

/* From the state pointer to where C finds a stack, 128 bytes below struct vcpu, and back. */
static void c_stack(struct x64 *e, bool down)
{
    i64 by = STATE_POINTER + 128;
    x64_lea(e, 8, H_RSP, x64_mem(H_RSP, down ? -by : by));
}
_Static_assert(CPU_SHIFT % 16 == 0 && 128 >= sizeof(struct jit_near), "an aligned stack, out of the way");

/*
 * r9: the site. C on the room below struct vcpu, which leaves the other registers alone. When it has no
 * code to go on with, to C the long way.
 */
static void emit_light(struct x64 *e, const u8 *slow)
{
    static const u8 given[] = {RAX, RCX, RDX, RSP, RSI, RDI, R8};
    struct x64_rm resume = AT_STATE(resume), rax = x64_reg(H_RAX);
    for (unsigned n = 0; n < ARRAY_SIZE(given); n++) x64_mov_store(e, 8, AT_REG(given[n]), home(given[n]));
    x64_lea(e, 8, H_RDI, AT(0));
    x64_mov_load(e, 4, H_RSI, x64_reg(H_R9));
    x64_mov_imm64(e, H_RAX, (u64)(uintptr_t)jit_light);
    c_stack(e, true);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 2, &rax);
    c_stack(e, false);
    x64_mov_store(e, 8, resume, H_RAX);
    x64_op(e, 0, true, false, X64_ONE, 0x85, H_RAX, &rax);
    for (unsigned n = 0; n < ARRAY_SIZE(given); n++) x64_mov_load(e, 8, home(given[n]), AT_REG(given[n]));
    u8 *none = x64_jcc(e, CC_E);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 4, &resume);
    x64_patch(none, e->p);
    x64_mov_load(e, 4, H_R9, AT_STATE(slow_site));
    x64_jmp_to(e, slow);
}

static const u8 saved[] = {H_RAX, H_RCX, H_RDX, H_RSI, H_RDI, H_R8, H_R9, H_R10, H_R11};

_Static_assert(ARRAY_SIZE(saved) % 2, "with the return address they keep C's stack aligned");

/* In a function translated code calls, which calls C: rdi is struct vcpu behind it. */
static void c_save(struct x64 *e)
{
    c_stack(e, true);
    for (unsigned n = 0; n < ARRAY_SIZE(saved); n++) push(e, saved[n]);
    x64_lea(e, 8, H_RDI, x64_mem(H_RSP, (i64)(8 * (ARRAY_SIZE(saved) + 1)) + 128));
}

/* FUNCTION, which leaves vectors alone; NE: it said yes. */
static void c_ask(struct x64 *e, uintptr_t function)
{
    struct x64_rm rax = x64_reg(H_RAX);
    x64_mov_imm64(e, H_RAX, (u64)function);
    x64_op(e, 0, false, false, X64_ONE, 0xff, 2, &rax);
    x64_op(e, 0, false, false, X64_ONE, 0x84, H_RAX, &rax); /* test al, al */
    for (unsigned n = ARRAY_SIZE(saved); n-- > 0;) pop(e, saved[n]);
    c_stack(e, false);
}

/*
 * In a function called by a cold stub: r9 the tag that was not met, r10 the slot's place in its array. On the
 * room below struct vcpu, saving what a C function may change of general registers. NE: done.
 */
static void emit_refill_call(struct x64 *e, unsigned how)
{
    c_save(e);
    x64_mov(e, H_RSI, H_R9);
    x64_mov(e, H_RDX, H_R10);
    x64_mov_imm32(e, H_RCX, how);
    c_ask(e, (uintptr_t)tlb_refill);
}

static void emit_refill(struct x64 *e, unsigned how)
{
    emit_refill_call(e, how);
    x64_u8(e, 0xc3);
}

/* The same where the linear address is in scratch[2]: r9 is the access's size << 8 | tlb_refill_at's HOW. */
static void emit_refill_at(struct x64 *e)
{
    struct x64_rm r9 = x64_reg(H_R9);
    c_save(e);
    x64_mov_load(e, 8, H_RSI, x64_mem(H_RDI, AT_STATE(scratch[2]).disp + STATE_POINTER));
    x64_mov(e, H_RDX, H_R10);
    x64_op(e, 0, false, false, X64_0F, 0xb6, H_RCX, &r9);
    x64_mov(e, H_R8, H_R9);
    x64_shift(e, 5, 4, H_R8, 8);
    c_ask(e, (uintptr_t)tlb_refill_at);
    x64_u8(e, 0xc3);
}

/*
 * Called with the address of an access through RSP, xor the stack's page, in r9. Behind it r10 is the page's addend
 * and r9 the offset in the page; or r9 is more than that, and WAY does not find it. A page that may be read and
 * written becomes the stack's.
 */
static void emit_stack_way(struct x64 *e, enum stack_way way)
{
    bool write = way != STACK_READ;
    x64_alu(e, X64_XOR, 8, H_R9, called(AT_CPU(tlb.stack.tag)));
    x64_mov_store(e, 8, called(AT_STATE(stack_at)), H_R9);
    x64_mov(e, H_R10, H_R9);
    emit_slot(e);
    x64_alu_imm(e, X64_AND, 8, x64_reg(H_R9), -(i32)PAGE_SIZE);
    x64_alu(e, X64_CMP, 8, H_R9, called(write ? AT_ENTRY(TLB_USER, tag_write) : AT_ENTRY(TLB_USER, tag_read)));
    u8 *missed = x64_jcc(e, CC_NE);
    const u8 *found = e->p;
    x64_alu(e, X64_CMP, 8, H_R9, called(write ? AT_ENTRY(TLB_USER, tag_read) : AT_ENTRY(TLB_USER, tag_write)));
    x64_mov_load(e, 8, H_R10, called(AT_ENTRY(TLB_USER, addend)));
    u8 *one = x64_jcc(e, CC_NE);
    x64_mov_store(e, 8, called(AT_CPU(tlb.stack.tag)), H_R9);
    x64_mov_store(e, 8, called(AT_CPU(tlb.stack.addend)), H_R10);
    x64_patch(one, e->p);
    x64_mov_load(e, 8, H_R9, called(AT_STATE(stack_at)));
    x64_alu_imm(e, X64_AND, 4, x64_reg(H_R9), PAGE_SIZE - 1);
    x64_u8(e, 0xc3);
    x64_patch(missed, e->p);
    if (way != STACK_WRITE_IF_KNOWN) {
        emit_refill_call(e, TLB_USER * 2 + write);
        x64_patch(x64_jcc(e, CC_NE), found);
    }
    x64_alu_imm(e, X64_OR, 8, x64_reg(H_R9), -1);
    x64_u8(e, 0xc3);
}

/* r9: offset in the page. */
static void emit_leave(struct x64 *e, bool avx)
{
    x64_mov_load(e, 8, H_R10, AT_REG(REG_IP_BASE));
    x64_alu(e, X64_ADD, 8, H_R10, x64_reg(H_R9));
    x64_mov_store(e, 8, AT_CPU(rip), H_R10);
    emit_spill(e, avx);
    emit_return(e);
}

void x64_thunks(struct jit_cpu *j)
{
    struct x64 e = {j->hot, j->hot_end};
    j->enter = code_rx(j, e.p);
    emit_enter(&e);
    j->leave = code_rx(j, e.p);
    emit_leave(&e, j->host.avx);
    j->slow = code_rx(j, e.p);
    const u8 *slow = e.p;
    emit_slow(&e, j->host.avx);
    j->light = code_rx(j, e.p);
    emit_light(&e, slow);
    j->second = code_rx(j, e.p);
    emit_second(&e);
    cross_thunks(j, &e);
    for (unsigned how = 0; how < TLB_MODES * 2; how++) {
        j->refill[how] = code_rx(j, e.p);
        emit_refill(&e, how);
    }
    j->refill_at = code_rx(j, e.p);
    emit_refill_at(&e);
    for (unsigned way = 0; way < STACK_WAYS; way++) {
        j->stack[way] = code_rx(j, e.p);
        emit_stack_way(&e, (enum stack_way)way);
    }
    x87_thunks(j, &e);
    j->hot = e.p;
}
