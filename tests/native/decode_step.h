// A decode step through attention_score, select_topn, row_restore and attention_mix with memory of its own, every array
// as large as the contract says and no larger.
#pragma once

#include <vector>

#include "cache_case.h"

namespace kc_test {

struct StepOptions {
    int n_sink = 4;
    int n_recent = 32;
    int n_keep = -1;  // -1: no selection, every visible token from the stores
    int n_keep_max = -1;
    float max_tail = 0.f;
    float max_error = 0.f;
    int32_t select = KC_SELECT_GROUP;
    int32_t mode = KC_MIX_RENORMALIZED;
    int n_hot = 0;
    int visible_from = 0;
    bool staging = true;
    bool measured = true;  // select reports tail and error
};

class DecodeStep {
  public:
    CacheCase& cache;
    StepOptions options;
    kc_wave wave = {};
    std::vector<kc_query_view> queries;
    std::vector<float> q, weights, reference, mass, tail, error, mixed_tail, mixed_error, out;
    std::vector<int32_t> nonfinite, kept, n_kept, n_selected, missed, n_restored, n_hot;
    std::vector<const uint8_t*> rows;
    int64_t kept_stride = 0;

    // One query for each sequence of the cache, row s of q being that of sequence s, at its last token.
    DecodeStep(CacheCase& with, const std::vector<float>& with_q, const StepOptions& with_options)
        : cache(with), options(with_options), q(with_q) {
        int n_pages = 1;
        for (size_t s = 0; s < cache.sequences.size(); ++s) {
            if (cache.sequences[s].n_pages == 0) continue;
            queries.push_back({static_cast<int32_t>(s), static_cast<int32_t>(s), cache.n_tokens(static_cast<int>(s)),
                               options.visible_from});
            n_pages = std::max(n_pages, cache.sequences[s].n_pages);
        }
        wave.layer = &cache.layer;
        wave.sequences = cache.sequences.data();
        wave.queries = queries.data();
        wave.n_queries = static_cast<int32_t>(queries.size());
        wave.n_sink = options.n_sink;
        wave.n_recent = options.n_recent;
        wave.kv_head_end = cache.shape.n_kv_heads;
        wave.q = q.data();
        wave.token_stride = n_pages * 64;
        const size_t q_lists = queries.size() * static_cast<size_t>(cache.shape.n_q_heads);
        const size_t kv_lists = queries.size() * static_cast<size_t>(cache.shape.n_kv_heads);
        weights.assign(q_lists * static_cast<size_t>(wave.token_stride), NAN);
        for (auto* x : {&reference, &mass, &tail, &error, &mixed_tail, &mixed_error}) x->assign(q_lists, NAN);
        nonfinite.assign(q_lists, -1);
        out.assign(q.size(), NAN);
        for (auto* x : {&n_kept, &n_selected, &missed, &n_restored, &n_hot}) x->assign(kv_lists, -1);
        const int64_t most = options.n_keep_max >= 0 ? options.n_keep_max : wave.token_stride;
        kept_stride =
            std::min<int64_t>(wave.token_stride, options.n_sink + options.n_recent +
                                                     std::max<int64_t>(most, cache.shape.group() * options.n_keep));
        kept.assign(kv_lists * static_cast<size_t>(kept_stride), -1);
        rows.assign(kept.size(), nullptr);
        if (options.n_hot > 0) make_hot();
    }

    void score(kc::CpuContext& context) {
        kc_attention_score_params params = {};
        params.wave = &wave;
        params.scratch =
            scratch(0, kc::attention_score_scratch_bytes(context, cache.layer, wave.n_queries, wave.token_stride));
        params.weights = weights.data();
        params.reference = reference.data();
        params.mass = mass.data();
        params.n_nonfinite = nonfinite.data();
        kc::attention_score(context, params);
    }

    void select(kc::CpuContext& context) {
        kc_select_topn_params params = {};
        params.select = options.select;
        params.wave = &wave;
        params.weights = weights.data();
        params.mass = mass.data();
        params.n_keep = options.n_keep;
        params.n_keep_max = options.n_keep_max >= 0 ? options.n_keep_max : static_cast<int32_t>(wave.token_stride);
        params.max_tail = options.max_tail;
        params.max_error = options.max_error;
        params.kept_stride = kept_stride;
        params.scratch =
            scratch(1, kc::select_topn_scratch_bytes(context, cache.layer, wave.n_queries, wave.token_stride));
        params.kept = kept.data();
        params.n_kept = n_kept.data();
        params.n_selected = n_selected.data();
        params.tail = options.measured ? tail.data() : nullptr;
        params.error = options.measured ? error.data() : nullptr;
        params.missed = missed.data();
        kc::select_topn(context, params);
    }

    kc_row_restore_params restore_params(kc::CpuContext& context) {
        kc_row_restore_params params = {};
        params.wave = &wave;
        params.hot = options.n_hot > 0 ? &hot : nullptr;
        params.kept = kept.data();
        params.n_kept = n_kept.data();
        params.kept_stride = kept_stride;
        if (options.staging && options.n_hot > 0) {
            staging.assign(kept.size() * static_cast<size_t>(cache.layer.exact.row_bytes), 0xff);
            params.staging = staging.data();
        }
        params.scratch = scratch(2, kc::row_restore_scratch_bytes(context, cache.layer, wave.n_queries, kept_stride));
        params.rows = rows.data();
        params.n_restored = n_restored.data();
        params.n_hot = n_hot.data();
        return params;
    }
    void restore(kc::CpuContext& context) {
        const kc_row_restore_params params = restore_params(context);
        kc::row_restore_begin(context, params);
        kc::row_restore_end(context, params);
    }

    void mix(kc::CpuContext& context) {
        kc_attention_mix_params params = {};
        params.mode = options.mode;
        params.wave = &wave;
        params.weights = weights.data();
        params.reference = reference.data();
        params.mass = mass.data();
        if (options.n_keep >= 0) {
            params.kept = kept.data();
            params.n_kept = n_kept.data();
            params.rows = rows.data();
            params.kept_stride = kept_stride;
        }
        params.scratch =
            scratch(3, kc::attention_mix_scratch_bytes(context, cache.layer, wave.n_queries, wave.token_stride));
        params.out = out.data();
        params.tail = mixed_tail.data();
        params.error = mixed_error.data();
        kc::attention_mix(context, params);
    }

    const std::vector<float>& run(kc::CpuContext& context) {
        score(context);
        if (options.n_keep >= 0) {
            select(context);
            restore(context);
        }
        mix(context);
        return out;
    }

    const float* weights_of(size_t query, int q_head) const {
        return weights.data() + (query * static_cast<size_t>(cache.shape.n_q_heads) + static_cast<size_t>(q_head)) *
                                    static_cast<size_t>(wave.token_stride);
    }
    const int32_t* kept_of(size_t query, int kv_head) const {
        return kept.data() + (query * static_cast<size_t>(cache.shape.n_kv_heads) + static_cast<size_t>(kv_head)) *
                                 static_cast<size_t>(kept_stride);
    }

    kc_hot_store hot = {};
    // Another step's hot rows go on to be used by this one.
    void share_hot(DecodeStep& other) {
        hot = other.hot;
        options.n_hot = other.options.n_hot;
    }

  private:
    void make_hot() {
        const int64_t heads = cache.shape.n_kv_heads;
        hot.n_slots = options.n_hot;
        hot.hot_stride_bytes = heads * options.n_hot * cache.layer.exact.row_bytes;
        hot.state_stride_bytes = heads * static_cast<int64_t>(kc::hot_state_bytes(options.n_hot));
        hot_rows_.assign(static_cast<size_t>(hot.hot_stride_bytes) * cache.sequences.size(), 0xff);
        hot_state_.assign(static_cast<size_t>(hot.state_stride_bytes) * cache.sequences.size() + 8, 0xff);
        hot.rows = hot_rows_.data();
        hot.state = hot_state_.data();
        TestContext context(kc::find_kernels(kc::Isa::scalar), 1);
        for (size_t s = 0; s < cache.sequences.size(); ++s) {
            kc::hot_drop(context.cpu, hot, cache.shape.n_kv_heads, static_cast<int32_t>(s), 0);
        }
    }
    void* scratch(int which, uint64_t n_bytes) {
        scratch_[which].assign(n_bytes, 0xff);
        return scratch_[which].data();
    }

    std::vector<uint8_t> staging, hot_rows_, hot_state_, scratch_[4];
};

// Softmax attention in double over given tokens: out [head_dim] of one query head.
struct Reference {
    std::vector<double> score, weight;
    double max = -INFINITY, mass = 0;

    // Weights that are made against another number than the maximum.
    void make_against(double reference) {
        for (double& w : weight) w *= std::exp(max - reference);
        mass *= std::exp(max - reference);
    }
};
inline Reference reference_weights(const CacheCase& cache, int s, const float* q, int kv_head,
                                   const std::vector<int>& tokens) {
    Reference r;
    for (const int t : tokens) {
        double dot = 0;
        const float* key = cache.key(s, t, kv_head);
        for (int d = 0; d < cache.shape.head_dim; ++d) dot += static_cast<double>(q[d]) * key[d];
        r.score.push_back(dot * cache.layer.scale);
        r.max = std::max(r.max, r.score.back());
    }
    for (const double score : r.score) {
        r.weight.push_back(std::exp(score - r.max));
        r.mass += r.weight.back();
    }
    return r;
}
inline std::vector<double> reference_attention(const CacheCase& cache, int s, const float* q, int kv_head,
                                               const std::vector<int>& tokens) {
    const Reference r = reference_weights(cache, s, q, kv_head, tokens);
    std::vector<double> out(static_cast<size_t>(cache.shape.head_dim));
    for (size_t i = 0; i < tokens.size(); ++i) {
        const float* value = cache.value(s, tokens[i], kv_head);
        for (size_t d = 0; d < out.size(); ++d) out[d] += r.weight[i] / r.mass * value[d];
    }
    return out;
}
inline std::vector<int> all_tokens(int n) {
    std::vector<int> tokens(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) tokens[static_cast<size_t>(i)] = i;
    return tokens;
}

}  // namespace kc_test
