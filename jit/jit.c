/*
 * The translator seen from the main loop, and what translated code calls.
 *
 * A block is translated at its third entry; until then the interpreter runs it. Whatever translated
 * code can't do itself it leaves to jit_slow with the guest's registers in struct vcpu: the
 * interpreter's function for the instruction runs there, so that devices, page crossings, faults and
 * rare instructions are the interpreter's.
 */
#include "jit/flag_way.h"
#include "jit/jit_int.h"

#include "cpu/mem.h"
#include "cpu/smp.h"
#include "cpu/undo.h"

#include <stdlib.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define HOST_CAN_TRANSLATE 1
#else
#define HOST_CAN_TRANSLATE 0
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef HOST_CAN_TRANSLATE
#define HOST_CAN_TRANSLATE 0
#endif
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define TB_SIZE_DEFAULT MIB(64)
#define TB_SIZE_MIN KIB(64)
#define THRESHOLD_DEFAULT 3u
#define HOT_DEFAULT 1000u
#define THRESHOLD_MODIFIED 200u /* for pages whose code keeps being written */
#define MODIFIED_WRITES 16u
#define MODIFIED_PERIOD 20000u /* instructions a write must be apart */

_Static_assert(sizeof(struct jit_state) + CPU_ALIGNED <= CPU_ROOM_BEHIND, "room behind struct vcpu");

/* --- finding blocks --- */

static bool mode_possible(const struct vcpu *cpu)
{
    return !(cpu->mode_key & MODE_STEP);
}

/* Its code is written so often that translating it doesn't pay. Forgiven when that stops. */
static bool often_modified(struct jit_cpu *j, u64 number, const struct code_page *page)
{
    u32 writes = atomic_load_explicit(&page->writes, memory_order_relaxed);
    if (likely(writes < MODIFIED_WRITES)) return false;
    u64 now = j->cpu->icount;
    __typeof__(&j->modified[0]) m = &j->modified[number % ARRAY_SIZE(j->modified)];
    u32 more = writes - m->writes;
    if (m->page == number && more >= MODIFIED_WRITES && now - m->icount < (u64)more * MODIFIED_PERIOD) return true;
    if (m->page != number || more >= MODIFIED_WRITES) {
        m->page = number;
        m->writes = writes;
        m->icount = now;
    }
    return false;
}

static bool hot_enough(struct jit_cpu *j, u64 key, u64 number)
{
    unsigned wanted = j->jit->options.threshold;
    if (often_modified(j, number, &j->cpu->memory->code_pages[number])) wanted = THRESHOLD_MODIFIED;
    else if (wanted > 1) wanted <<= j->pressure;
    if (wanted > THRESHOLD_MODIFIED) wanted = THRESHOLD_MODIFIED;
    u8 *counter = cache_counter(j, key);
    if (++*counter < wanted) return false;
    *counter = 0;
    return true;
}

/* The block at rip, or NULL: the interpreter's turn. */
static struct jblock *block_as(struct jit_cpu *j, unsigned plain)
{
    struct vcpu *cpu = j->cpu;
    bool faulted;
    u64 physical, linear;
    struct code_place place;
    if (unlikely(!mode_possible(cpu)) || unlikely(!code_place(cpu, &linear, &place))) return NULL;
    if (unlikely(cpu->trace != NULL) && trace_covers(cpu->trace, linear)) return NULL;
    const u8 *host = tlb_fetch(cpu, linear, &faulted, &physical);
    if (faulted || !host) return NULL;
    unsigned pos = linear & (PAGE_SIZE - 1);
    const struct stop_set *stops = stops_in_page(cpu->stops, linear);
    if (unlikely(stops_at(stops, pos))) return NULL;
    u64 number = arena_page(cpu->memory, host);
    u64 key = number << 28 | (u64)pos << 16 | (cpu->mode_key & ~(unsigned)MODE_NO_FPU) | plain;
    if (unlikely(stops != NULL)) key |= stops->key;
    struct jblock *block = cache_find(j, key, place);
    if (!block && (plain || hot_enough(j, key, number)))
        block = block_make(j, key, place, host - pos);
    if (block) cpu->regs[REG_IP_BASE] = cpu->rip - pos;
    return block;
}

static struct jblock *block_at(struct jit_cpu *j) { return block_as(j, 0); }

/* --- what translated code calls --- */

static bool must_leave(const struct vcpu *cpu)
{
    return cpu->leave_block ||
           atomic_load_explicit(&cpu->memory->map_generation, memory_order_relaxed) !=
               cpu->map_generation;
}

static bool hurried(const struct vcpu *cpu)
{
    return cpu->icount >= atomic_load_explicit(&cpu->run_until, memory_order_relaxed);
}

/* Back to the main loop, which takes the flags from where translated code leaves them. */
static const u8 *stop(struct jit_cpu *j, enum engine_result result)
{
    flags_to_native(j->cpu);
    j->result = result;
    return NULL;
}

static const u8 *go_on(struct jit_cpu *j, struct jsite *site);

/* An interrupt that is masked waits for what unmasks it: all that may set IF ends its block. */
static bool request_due(const struct vcpu *cpu)
{
    u32 requests = atomic_load_explicit(&cpu->requests, memory_order_relaxed);
    return requests & ~(cpu->eflags & FLAG_IF ? 0u : (u32)REQUEST_INTR);
}

/* At a boundary: something else than the block at rip may be due. */
static bool boundary_busy(const struct vcpu *cpu)
{
    return cpu->shadow || cpu->pending_db || cpu->activity != CPU_RUNNING ||
           (unlikely(cpu->stops != NULL) && stops_pending(cpu)) ||
           request_due(cpu) || !mode_possible(cpu);
}

/* The exception of SITE's instruction, and on to its handler. */
static const u8 *fault(struct jit_cpu *j, const struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    cpu->current_insn = &j->insns[site->insn];
    cpu->icount += site->index;
    if (cpu->exception.vector < 0 || cpu->exception.is_trap || unlikely(cpu->undo)) return stop(j, ENGINE_FAULT);
    if (!cpu_deliver_stopped(cpu)) return stop(j, ENGINE_SHUTDOWN);
    if (boundary_busy(cpu)) return stop(j, ENGINE_RAN);
    cpu->leave_block = false; /* left */
    jit_near(j->cpu)->vectors_live = 0;
    return go_on(j, NULL);
}

/* CR0 changed. */
static void x87_forbidden(struct jit_cpu *j)
{
    if (unlikely(j->cpu->mode_key & MODE_NO_FPU)) x87_spill(j);
}

/* Many PAUSEs: who is waited for may be waiting for the host's processor. */
static void spun(struct jit_cpu *j)
{
    struct vcpu *cpu = j->cpu;
    j->state->pauses = PAUSES;
    if (cpu->relax) cpu->relax(cpu->relax_opaque);
}

static const u8 *run_and_resume(struct jit_cpu *j, const struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    const struct insn *insn = &j->insns[site->insn];
    cpu->current_insn = insn;
    if (unlikely(cpu->undo) && lockstep_refuses(cpu, insn)) return fault(j, site);
    if (unlikely(insn->op == OP_PAUSE)) spun(j);
    bool x87 = jit_near(j->cpu)->x87_live && x87_concerns(insn);
    if (x87) x87_spill(j);
    if (unlikely((site->kind == SITE_HELPER && !insn_allowed(cpu, insn)) ||
                 !sem_table[insn->op](cpu, insn)))
        return fault(j, site);
    if (site->kind == SITE_HELPER) jit_near(j->cpu)->vectors_live = 0;
    x87_forbidden(j);
    if (unlikely(insn->flags & INSN_ENDS_BLOCK)) jumps_mode(j); /* a segment register */
    bool lost = x87 && site->kind == SITE_ACCESS && !x87_load(j); /* the block goes on with it */
    if (unlikely(must_leave(cpu) || lost)) {
        cpu->rip = cpu_next_ip(cpu, insn);
        cpu->icount += site->index + 1u;
        return stop(j, ENGINE_RAN);
    }
    flags_to_native(cpu);
    return site->resume;
}

/* Somebody watches: the instruction as a whole, and what is noted is dealt with behind it. */
static const u8 *run_and_leave(struct jit_cpu *j, const struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    const struct insn *insn = &j->insns[site->insn];
    cpu->current_insn = insn;
    if (unlikely(!sem_table[insn->op](cpu, insn))) return fault(j, site);
    cpu->rip = cpu_next_ip(cpu, insn);
    cpu->icount += site->index + 1u;
    return stop(j, ENGINE_RAN);
}

static const u8 *load_and_resume(struct jit_cpu *j, const struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    const struct insn *insn = &j->insns[site->insn];
    unsigned memory = insn->operand[0].kind != OPERAND_MEMORY;
    if (unlikely(cpu->watch_pages || cpu->stops)) return run_and_leave(j, site);
    cpu->current_insn = insn;
    if (unlikely(!mem_read(cpu, insn, insn->operand[memory].size, &jit_near(cpu)->flag_operand[memory]))) return fault(j, site);
    flags_to_native(cpu);
    return site->resume;
}

/* The page must still be what it was when the branch was made. */
static void within_page(struct jit_cpu *j, const struct jsite *site, u64 from, const struct jblock *block)
{
    const struct jblock *own = &j->blocks[site->block];
    if (from != j->cpu->regs[REG_IP_BASE] || own->generation != block->generation ||
        own->key >> 28 != block->key >> 28 || site->mode != (u16)block->key || !link_may(j, site))
        return;
    bool ahead = block->pos > own->pos && !own->loops; /* so that such links in a row come to an end */
    const u8 *to = !ahead ? block->checked : j->jit->options.no_budget ? block->inner : block->entry;
    link_make(j, site, block, to);
    j->stats.linked++;
}

/* On to rip; SITE may be linked to what is found. */
static const u8 *go_on(struct jit_cpu *j, struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    tlb_boundary(cpu);
    if (unlikely(hurried(cpu)) || must_leave(cpu)) return stop(j, ENGINE_RAN);
    u32 evictions = j->evictions;
    u64 from = cpu->regs[REG_IP_BASE];
    const struct jblock *block = block_at(j);
    if (!block) return stop(j, ENGINE_RAN);
    if (evictions != j->evictions) site = NULL;
    if (site && site->kind == SITE_LINK) within_page(j, site, from, block);
    else if (!j->jit->options.no_link && jumps_add(j, code_linear(cpu), block->checked) && site &&
             site->kind == SITE_CROSS)
        cross_link(j, site, block);
    jumps_mode(j);
    flags_to_native(cpu);
    return block->checked;
}

static const u8 *run_and_end(struct jit_cpu *j, struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    const struct insn *insn = &j->insns[site->insn];
    cpu->current_insn = insn;
    if (unlikely(cpu->undo) && lockstep_refuses(cpu, insn)) return fault(j, site);
    cpu->rip = cpu_next_ip(cpu, insn);
    if (x87_concerns(insn)) x87_spill(j);
    if (unlikely(!insn_allowed(cpu, insn) || !sem_table[insn->op](cpu, insn))) return fault(j, site);
    cpu->icount += site->index + 1u;
    if (boundary_busy(cpu)) return stop(j, ENGINE_RAN);
    cpu->leave_block = false; /* it ended here anyway, and what may have come with IF is in `requests` */
    jit_near(j->cpu)->vectors_live = 0;
    x87_forbidden(j);
    return go_on(j, site);
}

/* The instruction at site->target is the interpreter's this time; icount is behind by site->index. */
static const u8 *refuse(struct jit_cpu *j, const struct jsite *site)
{
    j->cpu->rip = j->cpu->regs[REG_IP_BASE] + site->target;
    j->cpu->icount += site->index;
    j->refused = true; /* not now: the budget may end within a block */
    return stop(j, ENGINE_RAN);
}

/* Not canonical: a branch's own #GP, so it is taken back; else the #GP of fetching there, the main loop's. */
static const u8 *lookup(struct jit_cpu *j, struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    if (likely(cpu_is_canonical(cpu->rip))) return go_on(j, site);
    if (site->kind != SITE_CROSS || site->want == CROSS_FALL) return stop(j, ENGINE_RAN);
    cpu->icount -= site->index + 1u;
    if (site->want == CROSS_CALL) cpu->regs[RSP] += 8;
    return refuse(j, site);
}

static const u8 *load_vectors(struct jit_cpu *j, const struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    bool sse = !(cpu->cr0 & (CR0_EM | CR0_TS)) && (cpu->cr4 & CR4_OSFXSR) &&
               (cpu->mxcsr & 0x1f80) == 0x1f80;
    bool avx = (cpu->cr4 & CR4_OSXSAVE) && (cpu->xcr0 & 6) == 6 && cpu_protected(cpu) && j->host.avx;
    if (sse && (avx || site->want == 1)) {
        /* No more than is wanted: who first uses AVX must come here for its XINUSE bit. */
        jit_near(j->cpu)->vectors_live |= site->want;
        cpu->xsave_in_use |= site->want == 3 ? 6 : 2;
        flags_to_native(cpu);
        return site->resume;
    }
    jit_near(j->cpu)->vectors_live = 0;
    return refuse(j, site);
}

static const u8 *load_x87(struct jit_cpu *j, const struct jsite *site)
{
    if (!x87_load(j)) return refuse(j, site);
    flags_to_native(j->cpu);
    return site->resume;
}

/* The second page of a straddling instruction moved or was written. */
static const u8 *second_page(struct jit_cpu *j, const struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    struct jblock *block = &j->blocks[site->block];
    struct code_straddle now, *known = block->straddle;
    struct insn insn;
    u64 base = cpu->regs[REG_IP_BASE], next = base + PAGE_SIZE + (cpu_segmented(cpu) ? cpu->seg[CS].base : 0);
    if (cpu->code_size != CODE64) next = (u32)next;
    const u8 *host = cpu->memory->arena + (block->key >> 28) * PAGE_SIZE;
    if (!code_decode_straddle(cpu, &insn, host, site->target, next, &now)) return refuse(j, site);
    if (!memcmp(now.bytes, known->bytes, site->want)) {
        *known = now;
        flags_to_native(cpu);
        return site->resume;
    }
    block->generation--; /* void, for those who look it up */
    cpu->rip = base + site->target;
    return go_on(j, NULL);
}

/* On from rip without shared checks. */
static const u8 *go_plain(struct jit_cpu *j, struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    u32 evictions = j->evictions;
    j->cpu->rip = cpu->regs[REG_IP_BASE] + site->target;
    if (unlikely(hurried(cpu)) || must_leave(cpu)) return stop(j, ENGINE_RAN);
    const struct jblock *block = block_as(j, KEY_PLAIN);
    if (!block) {
        j->refused = true; /* another unit here would only come back */
        return stop(j, ENGINE_RAN);
    }
    if (evictions == j->evictions && link_may(j, site)) link_make(j, site, block, block->checked);
    jumps_mode(j);
    flags_to_native(cpu);
    return block->checked;
}

/* A straight unit has gone back to site->target often. It goes there once more: what is found there
 * then leads to the loop's unit, when there is one. */
static const u8 *warm(struct jit_cpu *j, struct jsite *site)
{
    struct vcpu *cpu = j->cpu;
    struct code_place place = j->blocks[site->block].place;
    u64 key = (j->blocks[site->block].key & ~(u64)0xfff0000) | (u64)site->target << 16, linear;
    u32 evictions = j->evictions;
    bool faulted;
    u64 physical;
    cpu->rip = cpu->regs[REG_IP_BASE] + site->target;
    linear = code_linear(cpu);
    const u8 *host = tlb_fetch(cpu, linear, &faulted, &physical);
    flags_to_native(cpu);
    j->state->heat[site->block % HEAT_SLOTS] = (i32)j->jit->options.hot;
    const struct jblock *there = cache_find(j, key, place);
    enum loops_answer answer = LOOPS_NEVER;
    if (!faulted && host && arena_page(cpu->memory, host) == key >> 28 && !(there && there->loops))
        answer = loops_make(j, key, place, host - site->target, site);
    j->stats.loop_failed += answer == LOOPS_NEVER;
    if (evictions != j->evictions) return go_on(j, NULL); /* where it came from may be gone */
    if (answer == LOOPS_NEVER) x64_cool(j, site);
    return site->resume;
}

const u8 *jit_slow(struct vcpu *cpu, u32 number)
{
    struct jit_cpu *j = cpu->jit;
    struct jsite *site = &j->sites[number];
    struct jit_stats *stats = &j->stats;
    flags_from_native(cpu);
    if (jit_near(j->cpu)->x87_live) x87_settle(j);
    switch (site->kind) {
    case SITE_ACCESS: stats->accesses++; return run_and_resume(j, site);
    case SITE_LOAD: stats->accesses++; return load_and_resume(j, site);
    case SITE_HELPER:
        stats->helpers++;
        j->ops[j->insns[site->insn].op]++;
        return run_and_resume(j, site);
    case SITE_END:
    case SITE_LIGHT:
        stats->ends++;
        j->ops[j->insns[site->insn].op]++;
        return run_and_end(j, site);
    case SITE_LINK:
        stats->links++;
        cpu->rip = cpu->regs[REG_IP_BASE] + site->target;
        return go_on(j, site);
    case SITE_CROSS:
    case SITE_LOOKUP: stats->lookups++; return lookup(j, site);
    case SITE_PLAIN: stats->plain++; return go_plain(j, site);
    case SITE_HOT: return warm(j, site);
    case SITE_FLAGS:
        flags_to_native(cpu);
        return site->resume;
    case SITE_STRADDLE: return second_page(j, site);
    case SITE_X87: stats->x87++; return load_x87(j, site);
    default: stats->vectors++; return load_vectors(j, site);
    }
}

/* --- what the main loop calls --- */

static void jit_forget(struct vcpu *cpu)
{
    struct jit_cpu *j = cpu->jit;
    background_drop(j);
    cache_reset(j);
    j->stats.flushes++;
}

static enum engine_result jit_engine(struct vcpu *cpu)
{
    struct jit_cpu *j = cpu->jit;
    if (j->background) background_look(j);
    if (!mode_possible(cpu)) return ENGINE_DECLINED;
    const struct jblock *block = j->refused ? NULL : block_at(j);
    j->refused = false;
    if (!block || hurried(cpu)) {
        j->stats.refused++;
        return ENGINE_ONE_BLOCK;
    }
    return unlikely(j->lockstep) ? lockstep_run(j, block) : jit_enter(j, block);
}

enum engine_result jit_enter(struct jit_cpu *j, const struct jblock *block)
{
    struct vcpu *cpu = j->cpu;
    j->stats.entries++;
    jumps_mode(j);
    if (!j->jit->options.no_link) jumps_add(j, code_linear(cpu), block->checked); /* a void one may be there */
    flags_to_native(cpu);
    jit_near(j->cpu)->vectors_live = 0;
    j->result = ENGINE_RAN;
    ((x64_enter_fn)(uintptr_t)j->enter)(cpu, block->checked);
    flags_from_native(cpu);
    jit_near(j->cpu)->vectors_live = 0;
    x87_spill(j);
    return j->result;
}

/* --- making --- */

#if defined(__x86_64__)
static void host_look(struct host_features *host)
{
#if defined(__x86_64__)
    static const struct { u32 leaf, subleaf; u8 reg, bit; } where[] = {
        [FEATURE_NONE] = {0, 0, 0, 0},
#define EAX 0
#define EBX 1
#define ECX 2
#define EDX 3
#define FEATURE(id, name, leaf, subleaf, reg, bit) {leaf, subleaf, reg, bit},
#include "cpu/features.def"
#undef FEATURE
    };
    for (unsigned f = 1; f < ARRAY_SIZE(where); f++) {
        unsigned r[4] = {0};
        if (!__get_cpuid_count(where[f].leaf, where[f].subleaf, &r[0], &r[1], &r[2], &r[3])) continue;
        if (r[where[f].reg] >> where[f].bit & 1) host->set.bits[f >> 6] |= 1ull << (f & 63);
    }
    host->avx = __builtin_cpu_supports("avx");
#else
    (void)host;
#endif
}
#else
static void host_look(struct host_features *host) { (void)host; }
#endif

struct jit *jit_new(const struct jit_options *options, struct log *log, struct error *error)
{
    struct jit *jit = calloc(1, sizeof(*jit));
    if (!jit) return error_set(error, "no memory for the translator"), NULL;
    if (options) jit->options = *options;
    if (!jit->options.tb_size) jit->options.tb_size = TB_SIZE_DEFAULT;
    if (jit->options.tb_size < TB_SIZE_MIN) jit->options.tb_size = TB_SIZE_MIN;
    if (jit->options.tb_size > GIB(1)) jit->options.tb_size = GIB(1);
    if (!jit->options.threshold) jit->options.threshold = THRESHOLD_DEFAULT;
    if (!jit->options.hot) jit->options.hot = HOT_DEFAULT;
    if (jit->options.threshold > THRESHOLD_MODIFIED) jit->options.threshold = THRESHOLD_MODIFIED;
    jit->log = log;
    if (jit->options.symbols) jit->symbols = symbols_load(jit->options.symbols, error);
    if (jit->options.perf_map || jit->options.jit_dump) jit->perf = perf_new(&jit->options, error);
    bool ok = (jit->symbols || !jit->options.symbols) &&
              (jit->perf || !(jit->options.perf_map || jit->options.jit_dump));
    if (ok) return jit;
    jit_free(jit);
    return NULL;
}

void jit_free(struct jit *jit)
{
    if (!jit) return;
    perf_free(jit->perf);
    symbols_free(jit->symbols);
    free(jit);
}

static void *reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool make_memory(struct jit_cpu *j, struct error *error)
{
    size_t size = (size_t)j->jit->options.tb_size & ~(size_t)4095;
    j->block_limit = (u32)(size / 128);
    j->site_limit = (u32)(size / 32);
    if (!code_memory_new(&j->code, size))
        return error_set(error, "no executable memory on this host; interpreting");
    j->blocks = reserve(j->block_limit * sizeof(*j->blocks));
    j->sites = reserve(j->site_limit * sizeof(*j->sites));
    j->links = reserve(j->site_limit * sizeof(*j->links));
    j->insns = reserve(j->site_limit * sizeof(*j->insns));
    if (!j->blocks || !j->sites || !j->links || !j->insns) return error_set(error, "no memory for the translator; interpreting");
    j->hot = j->code.rw; /* for the thunks; then see areas_make */
    j->hot_end = j->code.rw + size;
    return true;
}

bool jit_attach(struct vcpu *cpu, struct jit *jit, struct error *error)
{
    if (!HOST_CAN_TRANSLATE)
        return error_set(error, "this build or host has no translator; interpreting");
    struct jit_cpu *j = calloc(1, sizeof(*j));
    if (!j) return error_set(error, "no memory for the translator; interpreting");
    j->jit = jit;
    j->cpu = cpu;
    j->state = jit_state_of(cpu);
    host_look(&j->host);
    cpu->jit = j;
    if (!lockstep_new(j) || !make_memory(j, error)) {
        jit_detach(cpu);
        return false;
    }
    j->state->host_mxcsr = 0x1f80;
    j->state->x87_note = (struct x87_note){X87_NOTHING, X87_NOTHING};
    if (!x64_start(j)) {
        jit_detach(cpu);
        return error_set(error, "no memory for the translator; interpreting");
    }
    signs_start(j);
    if (jit->perf) perf_code(jit->perf, j->enter, (size_t)(j->hot - j->code.rw), "lyrebird thunks");
    areas_make(j);
    cache_reset(j);
    for (unsigned i = 0; i < JIT_CPUS; i++)
        if (!jit->cpus[i]) {
            jit->cpus[i] = j;
            break;
        }
    cpu->engine = jit_engine;
    cpu->engine_unmapped = jumps_unmapped;
    cpu->engine_forget = jit_forget;
    return true;
}

void jit_detach(struct vcpu *cpu)
{
    struct jit_cpu *j = cpu->jit;
    if (!j) return;
    cpu->engine = NULL;
    cpu->engine_unmapped = NULL;
    cpu->engine_forget = NULL;
    background_stop(j);
    for (unsigned i = 0; i < JIT_CPUS; i++)
        if (j->jit->cpus[i] == j) j->jit->cpus[i] = NULL;
    code_memory_free(&j->code);
    lockstep_free(j);
    if (j->blocks) munmap(j->blocks, j->block_limit * sizeof(*j->blocks));
    if (j->sites) munmap(j->sites, j->site_limit * sizeof(*j->sites));
    if (j->links) munmap(j->links, j->site_limit * sizeof(*j->links));
    if (j->insns) munmap(j->insns, j->site_limit * sizeof(*j->insns));
    x64_stop(j);
    free(j);
    cpu->jit = NULL;
}
