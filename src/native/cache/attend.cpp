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
    params.n_nonfinite = of_layer(layout_, layout_.n_odd_rows, layer);
    context_.backend.kv_append(context_.backend.self, params);
    appended_ = true;
}

void Cache::attend(int32_t layer, const float* q, float* out) {
    check_layer("kc_cache_attend", layer, true);
    kc_statistics statistics = layout_.pending[layer];
    if (n_prompts_ > 0) attend_prompts(layout_.layers[layer], q, out);
    for (int32_t w = 0; w < n_waves_; ++w) {
        const WaveCall call = wave_of(layer, w, q, out);
        attend_wave(call);
        if (!context_.backend.host_sees_fast) {
            // The host sees what was counted only when the forward ends, and the last wave's counts wait for that;
            // those of waves before it, which are rare, make way for the next.
            if (w + 1 == n_waves_) break;
            see_counts(layer, 1);
        }
        count_wave(call, of_layer(layout_, layout_.seen, layer), statistics);
    }
    if (context_.backend.host_sees_fast) count_odd_rows(layer, statistics);
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
        // Head by head; where there is memory for the rows of two, those of the next come in meanwhile.
        const bool ahead = layout_.n_prompt_buffers > 1;
        for (int32_t head = 0; head < shape_.n_kv_heads; ++head) {
            if (head == 0 || !ahead) read_prompt_rows(plan, layout_.views[begin], head);
            backend.spill_read_end(spill_);
            if (ahead && head + 1 < shape_.n_kv_heads) read_prompt_rows(plan, layout_.views[begin], head + 1);
            const uint8_t* const* pages = layout_.prompt_pages[head % layout_.n_prompt_buffers];
            params.staged = &pages;
            params.kv_head_begin = head;
            params.kv_head_end = head + 1;
            backend.attention_full(backend.self, params);
        }
        params.staged = nullptr;
        params.kv_head_begin = params.kv_head_end = 0;
    }
}

// Begins to read the exact rows of this layer and head of all spilled pages of a sequence.
void Cache::read_prompt_rows(const LayerPlan& plan, const kc_sequence_view& view, int32_t head) {
    const kc_exact_store& exact = plan.view.exact;
    const int64_t head_bytes = kPageTokens * exact.row_bytes;
    const int32_t buffer = head % layout_.n_prompt_buffers;
    int64_t n_moves = 0;
    for (int32_t p = 0; p < view.n_pages; ++p) {
        layout_.prompt_pages[buffer][p] = nullptr;
        if (!pool_->is_spilled(view.pages[p].page)) continue;
        uint8_t* rows = layout_.prompt_rows[buffer] + p * head_bytes;
        layout_.prompt_pages[buffer][p] = rows;
        const int64_t offset_bytes =
            exact.spill_offset_bytes + ~view.pages[p].exact * exact.spill_stride_bytes + head * head_bytes;
        layout_.moves[n_moves++] = {rows, static_cast<uint64_t>(offset_bytes), static_cast<uint64_t>(head_bytes)};
    }
    context_.backend.spill_read(spill_, layout_.moves, n_moves);
}

WaveCall Cache::wave_of(int32_t layer, int32_t wave, const float* q, float* out) const {
    const LayerPlan& plan = layout_.layers[layer];
    WaveCall call = {context_.backend, shape_, layout_, plan, of_layer(layout_, layout_.wave, layer), {}, out};
    const int32_t begin = layout_.wave_begin[wave];
    call.wave.layer = &plan.view;
    call.wave.sequences = layout_.views;
    call.wave.queries = layout_.queries + begin;
    call.wave.n_queries = layout_.wave_begin[wave + 1] - begin;
    call.wave.n_sink = shape_.n_sink;
    call.wave.n_recent = shape_.n_recent;
    call.wave.kv_head_begin = 0;
    call.wave.kv_head_end = shape_.n_kv_heads;
    call.wave.q = q;
    call.wave.token_stride = token_stride_;
    return call;
}

bool Cache::is_spilled(const kc_wave& wave) const {
    bool spilled = false;
    for (int32_t i = 0; i < wave.n_queries; ++i) spilled |= layout_.view_spilled[wave.queries[i].sequence] > 0;
    return spilled;
}

void Cache::attend_wave(WaveCall call) const {
    const StepList& list = is_spilled(call.wave) ? call.plan.spilled : call.plan.resident;
    for (int32_t s = 0; s < list.n; ++s) list.steps[s](call);
}

// ---- statistics

// Rows of k and v of a layer that were not finite.
void Cache::count_odd_rows(int32_t layer, kc_statistics& statistics) {
    const uint64_t n = *of_layer(layout_, layout_.seen_odd_rows, layer);
    uint64_t& before = layout_.odd_rows_before[layout_.counts_stride_bytes ? layer : 0];
    statistics.n_nonfinite += n - before;
    before = n;
}

// What has waited for the end of the forward. One copy, and the one place where a decode step waits for the device.
void Cache::count_at_end() {
    if (context_.backend.host_sees_fast) return;
    see_counts(0, shape_.n_layers);
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) {
        kc_statistics& statistics = layout_.pending[layer];
        if (n_waves_ > 0) {
            const WaveMemory seen = of_layer(layout_, layout_.seen, layer);
            count_wave(wave_of(layer, n_waves_ - 1, nullptr, nullptr), seen, statistics);
        }
        count_odd_rows(layer, statistics);
    }
}

// A forward that is rolled back counts for nothing.
void Cache::forget_counts() {
    if (!context_.backend.host_sees_fast) see_counts(0, shape_.n_layers);
    kc_statistics forgotten = {};
    for (int32_t layer = 0; layer < shape_.n_layers; ++layer) count_odd_rows(layer, forgotten);
}

// Brings what the kernels counted to where the host can read it.
void Cache::see_counts(int32_t first_layer, int32_t n_layers) {
    const Backend& backend = context_.backend;
    const uint64_t stride = layout_.counts_stride_bytes, begin = static_cast<uint64_t>(first_layer) * stride;
    const uint64_t n_bytes = std::min(static_cast<uint64_t>(n_layers) * stride, layout_.counts_bytes - begin);
    backend.copy_to_host(backend.self, static_cast<uint8_t*>(layout_.seen_counts) + begin,
                         static_cast<uint8_t*>(layout_.counts) + begin, n_bytes);
}

}  // namespace kc
