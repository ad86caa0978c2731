#include "cache/page_pool.h"

#include "core/error.h"

namespace kc {

PagePool::PagePool(kc_context& context, const CacheShape& shape, Layout& layout, kc_spill* spill)
    : context_(context), shape_(shape), layout_(layout), spill_(spill) {
    const LayerGroup& last = layout.groups[layout.n_groups - 1];
    exact_base_ = last.view.exact.base;
    uses_first_ = false;
    for (int32_t g = 0; g < layout.n_groups; ++g) {
        uses_first_ |= layout.groups[g].view.k.first || layout.groups[g].view.v.first;
    }
    // Lowest numbers are taken first.
    for (int32_t page = shape.n_pool_pages - 1; page >= 0; --page) {
        layout.pages[page].exact = kNoExact;
        layout.free_pages[n_free_pages_++] = page;
        poison_page(page);
    }
    for (int32_t slot = layout.n_slots - 1; slot >= 0; --slot) {
        layout.slot_page[slot] = -1;
        layout.free_slots[n_free_slots_++] = slot;
        poison(slot_rows(slot), static_cast<uint64_t>(layout.slot_bytes));
    }
}

int32_t PagePool::take() {
    if (n_free_pages_ == 0) return -1;
    const int32_t page = layout_.free_pages[--n_free_pages_];
    layout_.pages[page] = {1, kNoExact, ++n_births_};
    return page;
}

void PagePool::release(int32_t page) {
    Page& released = layout_.pages[page];
    if (--released.n_references > 0) return;
    release_exact(released);
    poison_page(page);
    layout_.free_pages[n_free_pages_++] = page;
}

void PagePool::release_exact(Page& page) {
    if (page.exact >= 0) {
        poison(slot_rows(page.exact), static_cast<uint64_t>(layout_.slot_bytes));
        layout_.slot_page[page.exact] = -1;
        layout_.free_slots[n_free_slots_++] = page.exact;
    } else if (page.exact != kNoExact) {
        layout_.free_file_pages[n_free_file_pages_++] = ~page.exact;
    }
    page.exact = kNoExact;
}

void PagePool::give_slot(int32_t page) {
    const int32_t slot = take_slot();
    layout_.slot_page[slot] = page;
    layout_.pages[page].exact = slot;
}

void PagePool::bring_back(int32_t page) {
    const int32_t file_page = ~layout_.pages[page].exact;
    const int32_t slot = take_slot();
    try {
        move_exact(file_page, slot_rows(slot));
    } catch (...) {
        layout_.free_slots[n_free_slots_++] = slot;
        throw;
    }
    layout_.free_file_pages[n_free_file_pages_++] = file_page;
    layout_.slot_page[slot] = page;
    layout_.pages[page].exact = slot;
}

void PagePool::move_exact(int32_t file_page, uint8_t* to) {
    const Backend::Move move = {to, static_cast<uint64_t>(file_page) * static_cast<uint64_t>(layout_.file_page_bytes),
                                static_cast<uint64_t>(layout_.slot_bytes)};
    context_.backend.spill_read(spill_, &move, 1);
    context_.backend.spill_read_end(spill_);
}

int32_t PagePool::take_slot() {
    if (n_free_slots_ == 0) {
        pin();
        int32_t oldest = -1;
        for (int32_t slot = 0; slot < layout_.n_slots; ++slot) {
            if (layout_.slot_pinned[slot] || layout_.slot_page[slot] < 0) continue;
            const uint64_t birth = layout_.pages[layout_.slot_page[slot]].birth;
            if (oldest < 0 || birth < layout_.pages[layout_.slot_page[oldest]].birth) oldest = slot;
        }
        if (oldest < 0 || !spill_) {
            fail(KC_ERR_INTERNAL,
                 "all %d slots of exact rows hold recent tokens, which the plan has room for; please report this",
                 layout_.n_slots);
        }
        push_out(oldest);
    }
    return layout_.free_slots[--n_free_slots_];
}

// Marks the slots whose rows must stay fast: recent and new tokens of every sequence, and first pages.
void PagePool::pin() {
    for (int32_t slot = 0; slot < layout_.n_slots; ++slot) layout_.slot_pinned[slot] = 0;
    for (int32_t s = 0; s < shape_.n_sequences; ++s) {
        const Sequence& sequence = layout_.sequences[s];
        if (!sequence.is_open) continue;
        for (int32_t p = sequence.n_pages - 1; p >= 0; --p) {
            if (!is_recent(sequence, sequence.pages[p])) break;
            const int32_t exact = layout_.pages[sequence.pages[p].page].exact;
            if (exact >= 0) layout_.slot_pinned[exact] = 1;
        }
        if (sequence.n_pages > 0 && sequence.pages[0].position == 0) {
            const int32_t exact = layout_.pages[sequence.pages[0].page].exact;
            if (exact >= 0) layout_.slot_pinned[exact] = 1;
        }
    }
}

void PagePool::push_out(int32_t slot) {
    if (n_free_file_pages_ == 0) {
        context_.reserve(spill_,
                         static_cast<uint64_t>(n_file_pages_ + 1) * static_cast<uint64_t>(layout_.file_page_bytes));
        layout_.free_file_pages[n_free_file_pages_++] = n_file_pages_++;
    }
    const int32_t file_page = layout_.free_file_pages[n_free_file_pages_ - 1];
    const Backend::Move move = {slot_rows(slot),
                                static_cast<uint64_t>(file_page) * static_cast<uint64_t>(layout_.file_page_bytes),
                                static_cast<uint64_t>(layout_.slot_bytes)};
    context_.backend.spill_write(spill_, &move, 1);
    --n_free_file_pages_;
    layout_.pages[layout_.slot_page[slot]].exact = ~file_page;
    layout_.slot_page[slot] = -1;
    layout_.free_slots[n_free_slots_++] = slot;
    poison(slot_rows(slot), static_cast<uint64_t>(layout_.slot_bytes));
}

void PagePool::copy(int32_t from, int32_t to) {
    const Backend& backend = context_.backend;
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) {
        const kc_layer_view& view = layout_.layers[layer].view;
        for (const kc_store* store : {&view.k, &view.v}) {
            if (!store->base) continue;
            backend.copy(backend.self, store->base + to * store->page_stride_bytes,
                         store->base + from * store->page_stride_bytes,
                         static_cast<uint64_t>(store->page_stride_bytes));
        }
        const kc_exact_store& exact = view.exact;
        if (!exact.scales) continue;
        backend.copy(backend.self, exact.scales + to * exact.scale_stride, exact.scales + from * exact.scale_stride,
                     static_cast<uint64_t>(exact.scale_stride) * sizeof(uint16_t));
    }
    const int32_t source = layout_.pages[from].exact;
    const int32_t target = layout_.pages[to].exact;
    if (target < 0 || source == kNoExact) return;
    if (source >= 0) {
        backend.copy(backend.self, slot_rows(target), slot_rows(source), static_cast<uint64_t>(layout_.slot_bytes));
    } else {
        move_exact(~source, slot_rows(target));
    }
}

int32_t PagePool::take_first() {
    // As many slots as sequences, so one is free.
    int32_t slot = 0;
    while (layout_.first_references[slot] > 0) ++slot;
    layout_.first_references[slot] = 1;
    return slot;
}

void PagePool::copy_first(int32_t from, int32_t to) {
    const Backend& backend = context_.backend;
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) {
        const kc_layer_view& view = layout_.layers[layer].view;
        for (const kc_store* store : {&view.k, &view.v}) {
            if (!store->first) continue;
            backend.copy(backend.self, store->first + to * store->first_stride_bytes,
                         store->first + from * store->first_stride_bytes,
                         static_cast<uint64_t>(store->first_stride_bytes));
            backend.copy(backend.self, store->centre + to * store->centre_stride,
                         store->centre + from * store->centre_stride,
                         static_cast<uint64_t>(store->centre_stride) * sizeof(float));
        }
    }
}

#if defined(KCACHE_POISON)
// Bytes of 0xff are NaN in f16 and f32: whoever reads what nobody wrote shows it.
void PagePool::poison(void* memory, uint64_t n_bytes) {
    context_.backend.fill(context_.backend.self, memory, 0xff, n_bytes);
}

void PagePool::poison_page(int32_t page) {
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) {
        const kc_layer_view& view = layout_.layers[layer].view;
        for (const kc_store* store : {&view.k, &view.v}) {
            if (!store->base) continue;
            poison(store->base + page * store->page_stride_bytes, static_cast<uint64_t>(store->page_stride_bytes));
        }
    }
}
#else
void PagePool::poison(void*, uint64_t) {}
void PagePool::poison_page(int32_t) {}
#endif

}  // namespace kc
