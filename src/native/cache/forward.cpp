// Begin, and what takes it back.
#include <algorithm>

#include "cache/cache.h"
#include "core/error.h"

namespace kc {

void Cache::begin(const kc_batch_entry* entries, int32_t n_entries) {
    check_idle("kc_cache_begin");
    check_batch(entries, n_entries);
    n_entries_ = 0;
    try {
        for (int32_t e = 0; e < n_entries; ++e) extend(entries[e]);
    } catch (...) {
        undo();
        throw;
    }
    build_frame();
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) layout_.pending[layer] = {};
    in_forward_ = true;
    appended_ = false;
    next_layer_ = 0;
}

void Cache::check_batch(const kc_batch_entry* entries, int32_t n_entries) {
    if (n_entries < 1 || n_entries > shape_.n_queries) {
        fail(n_entries < 1 ? KC_ERR_ARGUMENT : KC_ERR_CAPACITY,
             "n_entries is %d, but a forward of this cache has 1 to %d", n_entries, shape_.n_queries);
    }
    for (int32_t s = 0; s < shape_.n_sequences; ++s) layout_.sequences[s].in_batch = false;
    int64_t n_tokens = 0;
    for (int32_t e = 0; e < n_entries; ++e) {
        const kc_batch_entry& entry = entries[e];
        Sequence& sequence = open_sequence(entry.sequence);
        if (sequence.in_batch)
            fail(KC_ERR_ARGUMENT, "entries[%d].sequence is %d, which stands in the batch already", e, entry.sequence);
        sequence.in_batch = true;
        if (entry.n_tokens < 1)
            fail(KC_ERR_ARGUMENT, "entries[%d].n_tokens is %d, but must be at least 1", e, entry.n_tokens);
        if (entry.kind != KC_ENTRY_PROMPT && entry.kind != KC_ENTRY_DECODE) {
            fail(KC_ERR_ARGUMENT, "entries[%d].kind is %d, but must be KC_ENTRY_PROMPT (0) or KC_ENTRY_DECODE (1)", e,
                 entry.kind);
        }
        if (entry.n_tokens > shape_.n_context - sequence.n_tokens) {
            fail(KC_ERR_CAPACITY,
                 "entries[%d] adds %d tokens to the %d of sequence %d, but n_context is %d; truncate it, or create "
                 "the cache with a larger n_context",
                 e, entry.n_tokens, sequence.n_tokens, entry.sequence, shape_.n_context);
        }
        n_tokens += entry.n_tokens;
    }
    if (n_tokens > shape_.n_batch_tokens) {
        fail(KC_ERR_CAPACITY, "the batch has %lld tokens, but n_batch_tokens is %d; run it in several forwards",
             static_cast<long long>(n_tokens), shape_.n_batch_tokens);
    }
}

// Pages for the new tokens of an entry: the last one its own, all with fast exact rows, and recent rows brought back.
void Cache::extend(const kc_batch_entry& new_tokens) {
    Sequence& sequence = layout_.sequences[new_tokens.sequence];
    Entry& entry = layout_.entries[n_entries_++];
    entry = {new_tokens.sequence, new_tokens.n_tokens, new_tokens.kind, sequence.n_pages, -1, -1};
    if (sequence.n_tokens % kPageTokens != 0) own_last_page(sequence, entry);
    if (shape_.has_exact()) {
        for (int32_t p = sequence.n_pages - 1; p >= 0 && pool_->is_recent(sequence, sequence.pages[p]); --p) {
            if (pool_->is_spilled(sequence.pages[p].page)) pool_->bring_back(sequence.pages[p].page);
        }
    }
    const int32_t end = sequence.n_tokens + entry.n_tokens;
    for (int32_t position = sequence.n_tokens + (kPageTokens - sequence.n_tokens % kPageTokens) % kPageTokens;
         position < end; position += kPageTokens) {
        add_page(sequence, position);
    }
}

void Cache::add_page(Sequence& sequence, int32_t position) {
    const int32_t page = sequence.n_pages < shape_.n_sequence_pages ? pool_->take() : -1;
    if (page < 0) fail_pool(sequence);
    sequence.pages[sequence.n_pages++] = {position, page, kNoExact};
    if (position == 0 && pool_->uses_first()) sequence.first_slot = pool_->take_first();
    if (pool_->needs_slot(position)) pool_->give_slot(page);
}

// Copy on write.
void Cache::own_last_page(Sequence& sequence, Entry& entry) {
    kc_page_view& last = sequence.pages[sequence.n_pages - 1];
    if (pool_->is_shared(last.page)) {
        const int32_t copy = pool_->take();
        if (copy < 0) fail_pool(sequence);
        entry.copied_page = last.page;
        last.page = copy;
        pool_->release(entry.copied_page);
        if (pool_->needs_slot(last.position)) pool_->give_slot(copy);
        pool_->copy(entry.copied_page, copy);
    }
    if (last.position == 0 && sequence.first_slot >= 0 && pool_->is_first_shared(sequence.first_slot)) {
        entry.copied_slot = sequence.first_slot;
        sequence.first_slot = pool_->take_first();
        pool_->release_first(entry.copied_slot);
        pool_->copy_first(entry.copied_slot, sequence.first_slot);
    }
}

void Cache::fail_pool(const Sequence& sequence) const {
    fail(KC_ERR_CAPACITY,
         "sequence %d has %d pages of %d tokens and needs one more, but all %d pages of the pool are taken; free or "
         "truncate "
         "sequences, or create the cache with a larger n_pool_tokens",
         static_cast<int32_t>(&sequence - layout_.sequences), sequence.n_pages, kPageTokens, shape_.n_pool_pages);
}

// The pages of all entries as before begin.
void Cache::undo() {
    for (; n_entries_ > 0; --n_entries_) {
        const Entry& entry = layout_.entries[n_entries_ - 1];
        Sequence& sequence = layout_.sequences[entry.sequence];
        release_pages(sequence, entry.n_pages_before);
        if (sequence.n_tokens == 0 && sequence.first_slot >= 0) {
            pool_->release_first(sequence.first_slot);
            sequence.first_slot = -1;
        }
        if (entry.copied_slot >= 0) {
            pool_->release_first(sequence.first_slot);
            pool_->share_first(entry.copied_slot);
            sequence.first_slot = entry.copied_slot;
        }
        if (entry.copied_page >= 0) {
            kc_page_view& last = sequence.pages[sequence.n_pages - 1];
            pool_->release(last.page);
            pool_->share(entry.copied_page);
            last.page = entry.copied_page;
        }
        drop_hot(entry.sequence, sequence.n_tokens);
    }
}

// What the kernels of this forward are told. Prompts come first, so that each kind is one range of views; rows stay in
// the order of the entries.
void Cache::build_frame() {
    int32_t n_views = 0;
    token_stride_ = kPageTokens;
    for (const int32_t kind : {KC_ENTRY_PROMPT, KC_ENTRY_DECODE}) {
        int32_t first_row = 0;
        for (int32_t e = 0; e < n_entries_; ++e) {
            const Entry& entry = layout_.entries[e];
            const int32_t row = first_row;
            first_row += entry.n_tokens;
            if (entry.kind != kind) continue;
            const Sequence& sequence = layout_.sequences[entry.sequence];
            int32_t n_spilled = 0;
            for (int32_t p = 0; p < sequence.n_pages; ++p) {
                const int32_t exact = layout_.pages[sequence.pages[p].page].exact;
                sequence.pages[p].exact = exact == kNoExact ? -1 : exact;
                if (exact < 0 && exact != kNoExact) ++n_spilled;
            }
            kc_sequence_view& view = layout_.views[n_views];
            layout_.view_spilled[n_views++] = n_spilled;
            view = {};
            view.first_row = row;
            view.n_rows = entry.n_tokens;
            view.n_past = sequence.n_tokens;
            view.n_pages = sequence.n_pages;
            view.pages = sequence.pages;
            view.first_page = sequence.first_slot;
            view.set_centre = view.n_past < kPageTokens && view.n_past + view.n_rows >= kPageTokens ? 1 : 0;
            view.hot = entry.sequence;
            if (kind == KC_ENTRY_DECODE)
                token_stride_ = std::max<int64_t>(token_stride_, int64_t(view.n_pages) * kPageTokens);
        }
        if (kind == KC_ENTRY_PROMPT) n_prompts_ = n_views;
    }
    token_stride_ = std::min(round_up(token_stride_, context_.backend.token_stride_unit),
                             int64_t(shape_.n_sequence_pages) * kPageTokens);
    build_waves();
}

// Wave w holds the w-th new token of every decode entry that has one.
void Cache::build_waves() {
    int32_t n_queries = 0;
    n_waves_ = 0;
    for (bool any = n_prompts_ < n_entries_; any;) {
        layout_.wave_begin[n_waves_] = n_queries;
        any = false;
        for (int32_t i = n_prompts_; i < n_entries_; ++i) {
            const kc_sequence_view& view = layout_.views[i];
            if (n_waves_ >= view.n_rows) continue;
            const int32_t n_visible = view.n_past + n_waves_ + 1;
            const int32_t from = shape_.row->forgets ? std::max(0, n_visible - shape_.n_recent) : 0;
            layout_.queries[n_queries++] = {view.first_row + n_waves_, i, n_visible, from};
            any |= n_waves_ + 1 < view.n_rows;
        }
        ++n_waves_;
    }
    layout_.wave_begin[n_waves_] = n_queries;
}

// Under `window`: pages whose tokens nobody will see again. They stand in a row behind the sinks.
void Cache::forget(Sequence& sequence) {
    const int32_t oldest = sequence.n_tokens + 1 - shape_.n_recent;
    int32_t begin = 0;
    while (begin < sequence.n_pages && sequence.pages[begin].position < shape_.n_sink) ++begin;
    int32_t end = begin;
    while (end < sequence.n_pages && sequence.pages[end].position + kPageTokens <= oldest) ++end;
    end -= (end - begin) % shape_.n_forget_pages;
    for (int32_t p = begin; p < end; ++p) pool_->release(sequence.pages[p].page);
    std::copy(sequence.pages + end, sequence.pages + sequence.n_pages, sequence.pages + begin);
    sequence.n_pages -= end - begin;
}

}  // namespace kc
