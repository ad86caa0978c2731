#include "cache/cache.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"

namespace kc {
namespace {

// A directory that is named must be there, even where nothing will be written to it.
void check_directory(const char* dir) {
    std::error_code error;
    if (std::filesystem::is_directory(std::filesystem::path(reinterpret_cast<const char8_t*>(dir)), error)) return;
    fail(KC_ERR_IO, "desc->spill_dir is %s, which is not a directory: %s", dir,
         error ? error.message().c_str() : "it is something else");
}

void add(const kc_statistics& from, kc_statistics& to) {
    to.n_head_steps += from.n_head_steps;
    to.tail_sum += from.tail_sum;
    to.tail_max = std::max(to.tail_max, from.tail_max);
    to.error_max = std::max(to.error_max, from.error_max);
    to.n_selections += from.n_selections;
    to.rows_selected += from.rows_selected;
    to.rows_restored += from.rows_restored;
    to.rows_hot += from.rows_hot;
    to.restored_bytes += from.restored_bytes;
    to.read_bytes += from.read_bytes;
    to.bound_missed += from.bound_missed;
    to.n_nonfinite += from.n_nonfinite;
}

}  // namespace

void Cache::plan(const Backend& backend, const kc_cache_desc& desc, kc_memory* out) {
    plan_slots(backend, resolve(backend, desc), out);
}

Cache::Cache(kc_context& context, const kc_cache_desc& desc)
    : context_(context), shape_(resolve(context.backend, desc)) {
    const Backend& backend = context.backend;
    kc_memory memory = {};
    const int32_t n_slots = plan_slots(backend, shape_, &memory);
    if (desc.spill_dir) check_directory(desc.spill_dir);
    try {
        if (n_slots < most_slots(shape_)) {
            spill_ = context.create_spill(desc.spill_dir);
            if (backend.takes_slow_home) context.reserve(spill_, memory.slow_bytes);
        }
        memory_ = context.allocate(memory.fast_bytes);
        Arena arena(memory_);
        if (backend.host_sees_fast) {
            layout_ = lay_out(backend, shape_, n_slots, arena, arena);
        } else {
            Arena measured, host_measured;
            lay_out(backend, shape_, n_slots, measured, host_measured);
            host_memory_ = std::make_unique<uint64_t[]>(host_measured.used() / sizeof(uint64_t) + 1);
            Arena host(host_memory_.get());
            layout_ = lay_out(backend, shape_, n_slots, arena, host);
        }
        layout_.memory = memory;
        for (int32_t layer = 0; layer < shape_.n_layers; ++layer) {
            LayerPlan& plan = layout_.layers[layer];
            plan.view = layer_view(layout_, layer);
            plan.view.exact.spill = plan.view.exact.base ? spill_ : nullptr;
            plan.hot = hot_store(layout_, layer);
            choose_steps(shape_, plan);
        }
        for (int32_t s = 0; s < shape_.n_sequences; ++s) {
            layout_.sequences[s] = {};
            layout_.sequences[s].pages = layout_.page_tables + int64_t(s) * shape_.n_sequence_pages;
            layout_.sequences[s].first_slot = -1;
            drop_hot(s, 0);
        }
        pool_ = std::make_unique<PagePool>(context, shape_, layout_, spill_);
    } catch (...) {
        context.release(memory_, memory.fast_bytes);
        context.destroy(spill_);
        throw;
    }
    ++context.n_live_objects;
}

Cache::~Cache() {
    drop_record();
    if (context_.backend.replay_forget) {
        context_.backend.replay_forget(context_.backend.self, &layout_.layers[0].view);
    }
    context_.release(memory_, layout_.memory.fast_bytes);
    context_.destroy(spill_);
    --context_.n_live_objects;
}

void Cache::usage(kc_memory* out) const {
    *out = layout_.memory;
    out->slow_bytes = spill_ ? spill_->reserved_bytes : 0;
}

void Cache::check_idle(const char* call) const {
    if (in_forward_) fail(KC_ERR_STATE, "%s between begin and commit or rollback; end the forward first", call);
}

Sequence& Cache::open_sequence(int32_t sequence) {
    if (sequence < 0 || sequence >= shape_.n_sequences) {
        fail(KC_ERR_ARGUMENT, "sequence is %d, but this cache numbers them 0 to %d", sequence, shape_.n_sequences - 1);
    }
    Sequence& found = layout_.sequences[sequence];
    if (!found.is_open)
        fail(KC_ERR_ARGUMENT, "sequence %d is not open; kc_sequence_create or kc_sequence_fork opens one", sequence);
    return found;
}

int32_t Cache::closed_sequence() {
    for (int32_t s = 0; s < shape_.n_sequences; ++s) {
        if (!layout_.sequences[s].is_open) return s;
    }
    fail(KC_ERR_CAPACITY,
         "all %d sequences of this cache are open; free one, or create the cache with a larger n_sequences",
         shape_.n_sequences);
}

int32_t Cache::create_sequence() {
    check_idle("kc_sequence_create");
    const int32_t opened = closed_sequence();
    Sequence& sequence = layout_.sequences[opened];
    sequence.is_open = true;
    sequence.n_tokens = 0;
    sequence.n_pages = 0;
    sequence.first_slot = -1;
    drop_hot(opened, 0);
    return opened;
}

// All pages are shared; whoever goes on within a shared one copies it first (own_last_page).
int32_t Cache::fork_sequence(int32_t source) {
    check_idle("kc_sequence_fork");
    const Sequence& from = open_sequence(source);
    const int32_t opened = create_sequence();
    Sequence& sequence = layout_.sequences[opened];
    sequence.n_tokens = from.n_tokens;
    sequence.n_pages = from.n_pages;
    sequence.first_slot = from.first_slot;
    std::copy(from.pages, from.pages + from.n_pages, sequence.pages);
    for (int32_t p = 0; p < sequence.n_pages; ++p) pool_->share(sequence.pages[p].page);
    if (sequence.first_slot >= 0) pool_->share_first(sequence.first_slot);
    return opened;
}

void Cache::truncate_sequence(int32_t number, int32_t n_tokens) {
    check_idle("kc_sequence_truncate");
    Sequence& sequence = open_sequence(number);
    if (n_tokens < 0 || n_tokens > sequence.n_tokens) {
        fail(KC_ERR_ARGUMENT, "n_tokens is %d, but sequence %d has %d tokens and can only be made shorter", n_tokens,
             number, sequence.n_tokens);
    }
    int32_t n_left = 0;
    while (n_left < sequence.n_pages && sequence.pages[n_left].position < n_tokens) ++n_left;
    if (shape_.row->forgets && n_tokens > 0) {
        // Every token that the next one sees must still be there: pages behind its oldest recent token without a gap.
        int32_t expected = std::max(0, n_tokens + 1 - shape_.n_recent) / kPageTokens * kPageTokens;
        for (int32_t p = 0; p < n_left; ++p) {
            if (sequence.pages[p].position == expected) expected += kPageTokens;
        }
        if (expected < n_tokens) {
            fail(KC_ERR_ARGUMENT,
                 "n_tokens is %d, but policy %s has forgotten the tokens at %d of sequence %d (%d tokens) that "
                 "the next one would see; truncate to 0 and run them again",
                 n_tokens, shape_.row->name, expected, number, sequence.n_tokens);
        }
    }
    release_pages(sequence, n_left);
    sequence.n_tokens = n_tokens;
    if (n_tokens == 0 && sequence.first_slot >= 0) {
        pool_->release_first(sequence.first_slot);
        sequence.first_slot = -1;
    }
    drop_hot(number, n_tokens);
}

void Cache::free_sequence(int32_t number) {
    check_idle("kc_sequence_free");
    Sequence& sequence = open_sequence(number);
    release_pages(sequence, 0);
    if (sequence.first_slot >= 0) pool_->release_first(sequence.first_slot);
    sequence.first_slot = -1;
    sequence.n_tokens = 0;
    sequence.is_open = false;
}

int32_t Cache::sequence_length(int32_t sequence) {
    check_idle("kc_sequence_length");
    return open_sequence(sequence).n_tokens;
}

void Cache::release_pages(Sequence& sequence, int32_t n_pages_left) {
    while (sequence.n_pages > n_pages_left) pool_->release(sequence.pages[--sequence.n_pages].page);
}

void Cache::drop_hot(int32_t sequence, int32_t first_token) {
    for (int32_t layer = shape_.n_dense_layers; layer < shape_.n_layers; ++layer) {
        const kc_hot_store& hot = layout_.layers[layer].hot;
        if (!hot.rows) return;
        context_.backend.hot_drop(context_.backend.self, hot, shape_.n_kv_heads, sequence, first_token);
    }
}

void Cache::statistics(int32_t layer, kc_statistics* out) const {
    if (layer < -1 || layer >= shape_.n_layers) {
        fail(KC_ERR_ARGUMENT, "layer is %d, but must be -1 (all) to %d", layer, shape_.n_layers - 1);
    }
    kc_statistics sum = {};
    sum.size = sizeof sum;
    sum.n_steps = n_steps_;
    const int32_t begin = layer < 0 ? 0 : layer;
    const int32_t end = layer < 0 ? shape_.n_layers : layer + 1;
    for (int32_t l = begin; l < end; ++l) add(layout_.totals[l], sum);
    *out = sum;
}

void Cache::reset_statistics() {
    check_idle("kc_cache_statistics_reset");
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) layout_.totals[layer] = {};
    n_steps_ = 0;
}

void Cache::commit() {
    if (!in_forward_) fail(KC_ERR_STATE, "kc_cache_commit without a forward under way; call kc_cache_begin first");
    if (is_recording())
        fail(KC_ERR_STATE, "kc_cache_commit behind kc_cache_replay_begin; call kc_cache_replay_end first");
    leave_unattended();
    if (next_layer_ < shape_.n_layers) {
        fail(KC_ERR_STATE, "kc_cache_commit, but layer %d of %d has not been %s; run it, or roll back", next_layer_,
             shape_.n_layers, appended_ ? "attended" : "appended");
    }
    count_at_end();
    for (int32_t e = 0; e < n_entries_; ++e) {
        const Entry& entry = layout_.entries[e];
        Sequence& sequence = layout_.sequences[entry.sequence];
        sequence.n_tokens += entry.n_tokens;
        if (shape_.row->forgets) forget(sequence);
        if (entry.kind == KC_ENTRY_DECODE) n_steps_ += static_cast<uint64_t>(entry.n_tokens);
    }
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) add(layout_.pending[layer], layout_.totals[layer]);
    in_forward_ = false;
}

void Cache::rollback() {
    if (!in_forward_) return;
    drop_record();
    undo();
    forget_counts();
    in_forward_ = false;
}

}  // namespace kc
