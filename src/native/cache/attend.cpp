// Append and attend: the straight line of one layer.
#include <algorithm>

#include "cache/cache.h"
#include "cache/wave.h"
#include "core/error.h"

namespace kc {

void Cache::check_layer(const char* call, int32_t layer, bool appended) const {
    if (!in_forward_) fail(KC_ERR_STATE, "%s without a forward under way; call kc_cache_begin first", call);
    if (layer < 0 || layer >= shape_.n_layers) {
        fail(KC_ERR_ARGUMENT, "layer is %d, but this cache has layers 0 to %d", layer, shape_.n_layers - 1);
    }
    if (layer == next_layer_ && appended == appended_) return;
    if (next_layer_ == shape_.n_layers) {
        fail(KC_ERR_STATE, "%s of layer %d, but all %d layers are done; commit or roll back", call, layer,
             shape_.n_layers);
    }
    fail(KC_ERR_STATE,
         "%s of layer %d, but next is %s of layer %d: layers come in order, each appended and then attended once", call,
         layer, appended_ ? "kc_cache_attend" : "kc_cache_append", next_layer_);
}

// A layer of prompts may do without attend: its k and v were computed elsewhere.
void Cache::leave_unattended() {
    if (!appended_ || n_waves_ > 0) return;
    appended_ = false;
    ++next_layer_;
}

void Cache::append(int32_t layer, const float* k, const float* v) {
    if (layer == next_layer_ + 1) leave_unattended();
    check_layer("kc_cache_append", layer, false);
    kc_kv_append_params params = {};
    params.size = sizeof params;
    params.n_sequences = n_entries_;
    params.layer = &layout_.layers[layer].view;
    params.sequences = layout_.views;
    params.k = k;
    params.v = v;
    params.n_nonfinite = layout_.n_odd_rows;
    context_.backend.kv_append(context_.backend.self, params);
    appended_ = true;
}

void Cache::attend(int32_t layer, const float* q, float* out) {
    check_layer("kc_cache_attend", layer, true);
    const LayerPlan& plan = layout_.layers[layer];
    kc_statistics statistics = layout_.pending[layer];
    if (n_prompts_ > 0) attend_prompts(plan, q, out);
    if (n_waves_ > 0)
        attend_waves(plan, q, out, statistics);
    else
        see_counts();
    statistics.n_nonfinite += *layout_.seen_odd_rows - n_odd_rows_;
    n_odd_rows_ = *layout_.seen_odd_rows;
    layout_.pending[layer] = statistics;
    appended_ = false;
    ++next_layer_;
}

void Cache::attend_prompts(const LayerPlan& plan, const float* q, float* out) {
    const Backend& backend = context_.backend;
    kc_attention_full_params params = {};
    params.size = sizeof params;
    params.layer = &plan.view;
    params.n_sink = shape_.n_sink;
    params.n_recent = shape_.row->forgets ? shape_.n_recent : -1;
    params.q = q;
    params.scratch = layout_.stem_scratch;
    params.out = out;
    // Neighbours without spilled pages go together; a sequence that has some goes alone, behind the reading of them.
    for (int32_t begin = 0, end; begin < n_prompts_; begin = end) {
        end = begin + 1;
        const bool spilled = plan.selects && layout_.view_spilled[begin] > 0;
        while (!spilled && end < n_prompts_ && !(plan.selects && layout_.view_spilled[end] > 0)) ++end;
        params.sequences = layout_.views + begin;
        params.n_sequences = end - begin;
        if (!spilled) {
            backend.attention_full(backend.self, params);
            continue;
        }
        // Head by head: memory for the rows of one is enough.
        const uint8_t* const* pages = layout_.prompt_pages;
        params.staged = &pages;
        for (int32_t head = 0; head < shape_.n_kv_heads; ++head) {
            read_prompt_rows(plan, layout_.views[begin], head);
            params.kv_head_begin = head;
            params.kv_head_end = head + 1;
            backend.attention_full(backend.self, params);
        }
        params.staged = nullptr;
        params.kv_head_begin = params.kv_head_end = 0;
    }
}

// Exact rows of this layer and head of all spilled pages of a sequence.
void Cache::read_prompt_rows(const LayerPlan& plan, const kc_sequence_view& view, int32_t head) {
    const kc_exact_store& exact = plan.view.exact;
    const int64_t head_bytes = kPageTokens * exact.row_bytes;
    int64_t n_moves = 0;
    for (int32_t p = 0; p < view.n_pages; ++p) {
        layout_.prompt_pages[p] = nullptr;
        if (!pool_->is_spilled(view.pages[p].page)) continue;
        uint8_t* rows = layout_.prompt_rows + p * head_bytes;
        layout_.prompt_pages[p] = rows;
        const int64_t offset_bytes =
            exact.spill_offset_bytes + ~view.pages[p].exact * exact.spill_stride_bytes + head * head_bytes;
        layout_.moves[n_moves++] = {rows, static_cast<uint64_t>(offset_bytes), static_cast<uint64_t>(head_bytes)};
    }
    context_.backend.spill_read(spill_, layout_.moves, n_moves);
}

void Cache::attend_waves(const LayerPlan& plan, const float* q, float* out, kc_statistics& statistics) {
    WaveCall call = {context_.backend, shape_, layout_, plan, {}, out};
    call.wave.layer = &plan.view;
    call.wave.sequences = layout_.views;
    call.wave.n_sink = shape_.n_sink;
    call.wave.n_recent = shape_.n_recent;
    call.wave.kv_head_begin = 0;
    call.wave.kv_head_end = shape_.n_kv_heads;
    call.wave.q = q;
    call.wave.token_stride = token_stride_;
    for (int32_t w = 0; w < n_waves_; ++w) {
        const int32_t begin = layout_.wave_begin[w];
        call.wave.queries = layout_.queries + begin;
        call.wave.n_queries = layout_.wave_begin[w + 1] - begin;
        bool spilled = false;
        for (int32_t i = 0; i < call.wave.n_queries; ++i) {
            spilled |= layout_.view_spilled[call.wave.queries[i].sequence] > 0;
        }
        const StepList& list = spilled ? plan.spilled : plan.resident;
        for (int32_t s = 0; s < list.n; ++s) list.steps[s](call);
        see_counts();
        count_wave(call, statistics);
    }
}

// Brings what the kernels counted to where the host can read it.
void Cache::see_counts() {
    const Backend& backend = context_.backend;
    if (backend.host_sees_fast) return;
    backend.copy_to_host(backend.self, layout_.seen_counts, layout_.counts, layout_.counts_bytes);
}

}  // namespace kc
