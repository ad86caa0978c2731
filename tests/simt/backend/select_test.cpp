// select_topn on both backends, the same weights put in: the same tokens, counts and misses come out.
#include <cmath>
#include <random>

#include "cache_harness.h"

using namespace harness;

namespace {

struct Case {
    int32_t n_tokens, n_q_heads, n_kv_heads, select, n_keep, n_keep_max;
    float max_tail, max_error;
};

enum class Kind { random, few_values, equal, zeros, with_nan };

std::vector<float> make_weights(std::mt19937& random, const Case& c, int64_t stride, Kind kind) {
    std::vector<float> weights(static_cast<size_t>(c.n_q_heads * stride), 0.f);
    for (int32_t h = 0; h < c.n_q_heads; ++h) {
        for (int32_t i = 0; i < c.n_tokens; ++i) {
            const float u = std::uniform_real_distribution<float>(0.f, 1.f)(random);
            float& w = weights[static_cast<size_t>(h * stride + i)];
            switch (kind) {
                case Kind::random:
                    w = std::exp(-20.f * u);
                    break;
                case Kind::few_values:
                    w = static_cast<float>(static_cast<int>(u * 4)) * 0.25f;
                    break;
                case Kind::equal:
                    w = 0.5f;
                    break;
                case Kind::zeros:
                    w = u < 0.01f ? 1.f : 0.f;
                    break;
                case Kind::with_nan:
                    w = u < 0.3f ? NAN : u < 0.6f ? 0.f : u;
                    break;
            }
        }
    }
    return weights;
}

struct Selected {
    std::vector<int32_t> kept, n_kept, n_selected, missed;
    std::vector<float> tail, error;
};

// measured: tail and error are asked for.
Selected select(int32_t backend, const Case& c, int64_t stride, const std::vector<float>& weights,
                const std::vector<float>& mass, bool measured = true) {
    const Context context(1, backend);
    const int32_t n_pages = (c.n_tokens + KC_PAGE_TOKENS - 1) / KC_PAGE_TOKENS;
    std::vector<kc_page_view> pages;
    for (int32_t p = 0; p < n_pages; ++p) pages.push_back({p * KC_PAGE_TOKENS, p, p});
    kc_sequence_view sequence = {};
    sequence.n_past = c.n_tokens - 1;
    sequence.n_rows = 1;
    sequence.n_pages = n_pages;
    sequence.pages = pages.data();
    sequence.first_page = -1;
    const kc_query_view query = {0, 0, c.n_tokens, 0};
    kc_layer_view layer = {};
    layer.n_q_heads = c.n_q_heads;
    layer.n_kv_heads = c.n_kv_heads;
    layer.head_dim = 16;
    layer.scale = 1.f;
    const std::vector<uint8_t> none(static_cast<size_t>(n_pages * c.n_kv_heads) * kc_block_bytes(KC_CODEC_F16, 16));
    const Array<uint8_t> keys(context, none);
    layer.k.codec = KC_CODEC_F16;
    layer.k.base = keys.data();
    layer.k.page_stride_bytes = c.n_kv_heads * static_cast<int64_t>(kc_block_bytes(KC_CODEC_F16, 16));
    layer.v = layer.k;
    const Rows q(context, std::vector<float>(static_cast<size_t>(c.n_q_heads * 16)));
    kc_wave wave = {};
    wave.layer = &layer;
    wave.sequences = &sequence;
    wave.queries = &query;
    wave.n_queries = 1;
    wave.n_sink = 3;
    wave.n_recent = 5;
    wave.kv_head_end = c.n_kv_heads;
    wave.q = q.data();
    wave.token_stride = stride;

    const auto heads = static_cast<size_t>(c.n_q_heads), kv_heads = static_cast<size_t>(c.n_kv_heads);
    Selected out = {std::vector<int32_t>(kv_heads * static_cast<size_t>(stride), -1),
                    std::vector<int32_t>(kv_heads, -1),
                    std::vector<int32_t>(kv_heads, -1),
                    std::vector<int32_t>(kv_heads, -1),
                    std::vector<float>(heads, NAN),
                    std::vector<float>(heads, NAN)};
    const Array<float> d_weights(context, weights), d_mass(context, mass), tail(context, out.tail),
        error(context, out.error);
    const Array<int32_t> kept(context, out.kept), n_kept(context, out.n_kept), n_selected(context, out.n_selected),
        missed(context, out.missed);
    const Array<uint8_t> scratch(context,
                                 std::vector<uint8_t>(kc_select_topn_scratch_bytes(context.handle, &layer, 1, stride)));
    kc_select_topn_params params = {};
    params.size = sizeof params;
    params.select = c.select;
    params.wave = &wave;
    params.weights = d_weights.data();
    params.mass = d_mass.data();
    params.n_keep = c.n_keep;
    params.n_keep_max = c.n_keep_max;
    params.max_tail = c.max_tail;
    params.max_error = c.max_error;
    params.kept_stride = stride;
    params.scratch = scratch.data();
    params.kept = kept.data();
    params.n_kept = n_kept.data();
    params.n_selected = n_selected.data();
    params.tail = tail.data();
    params.error = error.data();
    params.missed = missed.data();
    if (!measured) {
        params.tail = nullptr;
        CHECK(kc_select_topn(context.handle, &params) == KC_ERR_ARGUMENT, "an error without a tail");
        params.error = nullptr;
        params.max_tail = 0.1f;
        CHECK(kc_select_topn(context.handle, &params) == KC_ERR_ARGUMENT, "a bound without a tail");
        params.max_tail = 0.f;
    }
    must(kc_select_topn(context.handle, &params), "kc_select_topn");
    kept.read(out.kept);
    n_kept.read(out.n_kept);
    n_selected.read(out.n_selected);
    missed.read(out.missed);
    tail.read(out.tail);
    error.read(out.error);
    return out;
}

void compare(std::mt19937& random, const Case& c, Kind kind) {
    const int64_t stride = (c.n_tokens + KC_PAGE_TOKENS - 1) / KC_PAGE_TOKENS * KC_PAGE_TOKENS + KC_PAGE_TOKENS;
    const std::vector<float> weights = make_weights(random, c, stride, kind);
    std::vector<float> mass;
    for (int32_t h = 0; h < c.n_q_heads; ++h) {
        double sum = 0;
        for (int64_t i = 0; i < stride; ++i) {
            const float w = weights[static_cast<size_t>(h * stride + i)];
            sum += std::isnan(w) ? 0 : w;
        }
        mass.push_back(static_cast<float>(sum));
    }
    const Selected a = select(KC_BACKEND_CPU, c, stride, weights, mass),
                   b = select(KC_BACKEND_CUDA, c, stride, weights, mass);
    const std::string name = std::to_string(c.n_tokens) + " tokens, select " + std::to_string(c.select) + ", keep " +
                             std::to_string(c.n_keep) + ", kind " + std::to_string(static_cast<int>(kind)) + ", tail " +
                             std::to_string(c.max_tail);
    CHECK(a.n_kept == b.n_kept && a.n_selected == b.n_selected, name << ": " << a.n_kept[0] << " and " << b.n_kept[0]);
    CHECK(a.kept == b.kept, name);
    CHECK(a.missed == b.missed, name);
    for (const int32_t backend : {KC_BACKEND_CPU, KC_BACKEND_CUDA}) {
        if (c.max_tail > 0.f || c.max_error > 0.f) break;
        const Selected unmeasured = select(backend, c, stride, weights, mass, false);
        CHECK(unmeasured.kept == a.kept && unmeasured.missed == a.missed, name << ", not measured");
        CHECK(std::isnan(unmeasured.tail[0]) && std::isnan(unmeasured.error[0]), name << ", not measured");
    }
    if (kind == Kind::with_nan) return;
    for (size_t h = 0; h < a.tail.size(); ++h) {
        CHECK(std::abs(a.tail[h] - b.tail[h]) <= 1e-5f, name << ": tail " << a.tail[h] << " and " << b.tail[h]);
        CHECK(std::abs(a.error[h] - b.error[h]) <= 1e-5f, name << ": error " << a.error[h] << " and " << b.error[h]);
    }
}

}  // namespace

int main() {
    std::mt19937 random(11);
    for (const int32_t n : {1, 5, 63, 64, 65, 321, 1300}) {
        for (const Kind kind : {Kind::random, Kind::few_values, Kind::equal, Kind::zeros, Kind::with_nan}) {
            for (const int32_t n_keep : {0, 1, 9, 300}) {
                compare(random, {n, 2, 2, KC_SELECT_GROUP, n_keep, n_keep, 0, 0}, kind);
                compare(random, {n, 6, 2, KC_SELECT_GROUP, n_keep, n_keep, 0, 0}, kind);
                compare(random, {n, 6, 2, KC_SELECT_UNION, n_keep, 3 * n_keep, 0, 0}, kind);
            }
            if (kind == Kind::with_nan) continue;
            compare(random, {n, 6, 2, KC_SELECT_GROUP, 2, n + 2, 0.1f, 0}, kind);
            compare(random, {n, 6, 2, KC_SELECT_UNION, 1, 20, 0.05f, 0}, kind);
            compare(random, {n, 6, 2, KC_SELECT_GROUP, 2, n + 2, 0, 0.02f}, kind);
        }
    }
    // Where more than one block looks for the best.
    for (const int32_t n : {4096, 4097, 9001}) {
        for (const Kind kind : {Kind::random, Kind::few_values, Kind::equal, Kind::with_nan}) {
            for (const int32_t n_keep : {0, 64, 4096, 5000}) {
                compare(random, {n, 3, 1, KC_SELECT_GROUP, n_keep, n_keep, 0, 0}, kind);
            }
        }
    }
    return kc_test::check_result();
}
