#include "cache/plan.h"

#include "cache/wave.h"

namespace kc {
namespace {

void score(WaveCall& call) {
    const WaveMemory& memory = call.memory;
    kc_attention_score_params params = {};
    params.size = sizeof params;
    params.wave = &call.wave;
    params.scratch = call.layout.stem_scratch;
    params.weights = memory.weights;
    params.reference = memory.reference;
    params.mass = memory.mass;
    params.n_nonfinite = memory.n_nonfinite;
    call.backend.attention_score(call.backend.self, params);
}

void select(WaveCall& call) {
    const CacheShape& shape = call.shape;
    const WaveMemory& memory = call.memory;
    kc_select_topn_params params = {};
    params.size = sizeof params;
    params.select = shape.select;
    params.wave = &call.wave;
    params.weights = memory.weights;
    params.mass = memory.mass;
    params.n_keep = shape.n_keep;
    params.n_keep_max = shape.n_keep_max;
    params.max_tail = shape.max_tail;
    params.max_error = shape.max_error;
    params.kept_stride = shape.n_kept;
    params.scratch = call.layout.stem_scratch;
    params.kept = memory.kept;
    params.n_kept = memory.n_kept;
    params.n_selected = memory.n_selected;
    // Without a bound attention_mix tells both, which has the weights at hand.
    params.tail = shape.grows ? memory.tail : nullptr;
    params.error = shape.grows ? memory.error : nullptr;
    params.missed = memory.missed;
    call.backend.select_topn(call.backend.self, params);
}

kc_row_restore_params restore_params(const WaveCall& call) {
    const WaveMemory& memory = call.memory;
    kc_row_restore_params params = {};
    params.size = sizeof params;
    params.wave = &call.wave;
    params.hot = call.plan.hot.rows ? &call.plan.hot : nullptr;
    params.kept = memory.kept;
    params.n_kept = memory.n_kept;
    params.kept_stride = call.shape.n_kept;
    params.staging = memory.staging;
    params.scratch = call.layout.restore_scratch;
    params.rows = memory.rows;
    params.n_restored = memory.n_restored;
    params.n_hot = memory.n_hot;
    return params;
}

void restore(WaveCall& call) {
    const kc_row_restore_params params = restore_params(call);
    call.backend.row_restore_begin(call.backend.self, params);
    call.backend.row_restore_end(call.backend.self, params);
}

// Score, select and restore head by head: the reads of one head are in flight while the next is scored.
void choose_head_by_head(WaveCall& call) {
    const int32_t n_heads = call.shape.n_kv_heads;
    const auto params_of = [&](int32_t head) {
        call.wave.kv_head_begin = head;
        call.wave.kv_head_end = head + 1;
        kc_row_restore_params params = restore_params(call);
        params.scratch = call.layout.restore_scratch + static_cast<uint64_t>(head) * call.layout.restore_head_bytes;
        return params;
    };
    int32_t n_begun = 0;
    int32_t n_ended = 0;
    try {
        for (int32_t head = 0; head < n_heads; ++head) {
            const kc_row_restore_params params = params_of(head);
            score(call);
            select(call);
            call.backend.row_restore_begin(call.backend.self, params);
            ++n_begun;
        }
        while (n_ended < n_heads) call.backend.row_restore_end(call.backend.self, params_of(n_ended++));
    } catch (...) {
        // Reads in flight write into memory that the next call uses: wait for all of them.
        while (n_ended < n_begun) {
            try {
                call.backend.row_restore_end(call.backend.self, params_of(n_ended++));
            } catch (...) {
            }
        }
        throw;
    }
    call.wave.kv_head_begin = 0;
    call.wave.kv_head_end = n_heads;
}

void mix(WaveCall& call, int32_t mode, bool kept) {
    const WaveMemory& memory = call.memory;
    kc_attention_mix_params params = {};
    params.size = sizeof params;
    params.mode = mode;
    params.wave = &call.wave;
    params.weights = memory.weights;
    params.reference = memory.reference;
    params.mass = memory.mass;
    params.scratch = call.layout.stem_scratch;
    params.out = call.out;
    if (kept) {
        params.kept = memory.kept;
        params.n_kept = memory.n_kept;
        params.rows = memory.rows;
        params.kept_stride = call.shape.n_kept;
        // Where a bound was asked for the choice has told them already; but those of sketched keys, which are scored
        // again, are the better ones after that.
        const bool tells = !call.shape.grows || mode == KC_MIX_SKETCHED;
        params.tail = tells ? memory.tail : nullptr;
        params.error = tells ? memory.error : nullptr;
    }
    call.backend.attention_mix(call.backend.self, params);
}

void mix_all(WaveCall& call) { mix(call, KC_MIX_RENORMALIZED, false); }
void mix_kept(WaveCall& call) { mix(call, call.shape.mix_mode, true); }

}  // namespace

void choose_steps(const CacheShape& shape, LayerPlan& plan) {
    plan.selects = plan.view.exact.base != nullptr;
    plan.resident = plan.selects ? StepList{4, {score, select, restore, mix_kept}} : StepList{2, {score, mix_all}};
    plan.spilled = plan.resident;
    if (plan.selects && shape.n_kv_heads > 1) plan.spilled = {2, {choose_head_by_head, mix_kept}};
}

}  // namespace kc
