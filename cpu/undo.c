/* See undo.h. */
#include "cpu/undo.h"

#include "cpu/mem.h"

static struct undo_page *find(struct cpu_undo *undo, const u8 *host)
{
    const u8 *page = (const u8 *)((uintptr_t)host & ~(uintptr_t)(PAGE_SIZE - 1));
    for (unsigned i = undo->pages; i-- > 0;)
        if (undo->page[i].host == page) return &undo->page[i];
    return NULL;
}

static struct code_page *code_page(struct vcpu *cpu, const u8 *host)
{
    return &cpu->memory->code_pages[arena_page(cpu->memory, host)];
}

static bool note_page(struct vcpu *cpu, u8 *host)
{
    struct cpu_undo *undo = cpu->undo;
    if (find(undo, host)) return true;
    if (undo->pages == UNDO_PAGES) return false;
    struct undo_page *page = &undo->page[undo->pages++];
    page->host = (u8 *)((uintptr_t)host & ~(uintptr_t)(PAGE_SIZE - 1));
    page->generation = atomic_load(&code_page(cpu, host)->generation);
    memcpy(page->before, page->host, PAGE_SIZE);
    return true;
}

static void note_entry(struct cpu_undo *undo, struct tlb_entry *entry, u64 page)
{
    for (unsigned i = undo->entries; i-- > 0;)
        if (undo->entry[i].entry == entry && undo->entry[i].page == page) return;
    if (undo->entries == UNDO_ENTRIES) return; /* then its stores go the slow way */
    undo->entry[undo->entries].entry = entry;
    undo->entry[undo->entries++].page = page;
}

bool undo_access(struct vcpu *cpu, struct tlb_entry *entry, u64 linear, bool write)
{
    struct cpu_undo *undo = cpu->undo;
    bool device = entry->slow & (write ? TLB_IO | TLB_ROM : TLB_IO);
    if (likely(!device) && !write) return true;
    if (device || !note_page(cpu, (u8 *)(uintptr_t)(linear + entry->addend))) {
        undo->refused = true;
        return cpu_restart(cpu);
    }
    note_entry(undo, entry, linear & PAGE_MASK);
    return true;
}

bool undo_may_publish(struct vcpu *cpu, const u8 *host)
{
    return cpu->undo->publish && find(cpu->undo, host);
}

void undo_walk_set(struct vcpu *cpu, const u8 *host, unsigned size, u64 bits)
{
    struct undo_page *page = find(cpu->undo, host);
    if (!page) return;
    u8 *copies[] = {page->before, page->after};
    for (unsigned i = 0; i < ARRAY_SIZE(copies); i++) {
        u8 *at = copies[i] + (host - page->host);
        mem_store_host(at, mem_load_host(at, size) | bits, size);
    }
}

void undo_start(struct vcpu *cpu, struct cpu_undo *undo)
{
    undo->publish = undo->refused = undo->refused_op = false;
    undo->pages = undo->entries = 0;
    tlb_drop_write_tags(cpu);
    cpu->undo = undo;
}

bool undo_code_written(struct vcpu *cpu)
{
    for (unsigned i = 0; i < cpu->undo->pages; i++) {
        const struct undo_page *page = &cpu->undo->page[i];
        if (atomic_load(&code_page(cpu, page->host)->generation) != page->generation) return true;
    }
    return false;
}

void undo_rollback(struct vcpu *cpu)
{
    for (unsigned i = 0; i < cpu->undo->pages; i++) {
        struct undo_page *page = &cpu->undo->page[i];
        bool code = atomic_load(&code_page(cpu, page->host)->generation) != page->generation;
        memcpy(page->host, page->before, PAGE_SIZE);
        if (!code) continue;
        /* what was decoded since is void */
        memory_code_written(cpu->memory, page->host, PAGE_SIZE);
        page->generation = atomic_load(&code_page(cpu, page->host)->generation);
    }
    tlb_publish_noted(cpu, false);
}

void undo_keep_after(struct vcpu *cpu)
{
    for (unsigned i = 0; i < cpu->undo->pages; i++)
        memcpy(cpu->undo->page[i].after, cpu->undo->page[i].host, PAGE_SIZE);
}

void undo_finish(struct vcpu *cpu)
{
    cpu->undo->publish = false;
    tlb_publish_noted(cpu, false);
    cpu->undo = NULL;
}
