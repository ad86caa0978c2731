// What each policy promises, against softmax attention computed in double over the rows that were given.
#include <algorithm>
#include <functional>
#include <numeric>

#include "cache_harness.h"

using namespace harness;

namespace {

// To the nearest f16, for numbers in its normal range.
float to_half(float x) {
    int exponent;
    const float mantissa = std::frexp(x, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(mantissa, 11)), exponent - 11);
}

struct Reference {
    Shape shape;
    int32_t policy;
    int32_t n_keep = 0, n_sink = 0, n_recent = 0, n_dense_layers = 0;
    int32_t select = KC_SELECT_GROUP;
    bool exact_weights = false;
    float max_tail = 0;
    int32_t n_keep_max = 1 << 30;
    double tail_max = 0, tail_sum = 0;
    uint64_t n_selected = 0, n_missed = 0;

    // One decode step over tokens [n], the last of which asks; out [q_width].
    std::vector<double> attend(const std::vector<uint32_t>& tokens, int32_t layer) {
        const size_t n = tokens.size();
        const int32_t group = shape.n_q_heads / shape.n_kv_heads;
        std::vector<float> k(n * size_t(shape.kv_width())), v(k.size()), q(static_cast<size_t>(shape.q_width()));
        for (size_t t = 0; t < n; ++t) {
            fill_row(0, tokens[t], layer, shape.kv_width(), &k[t * size_t(shape.kv_width())]);
            fill_row(1, tokens[t], layer, shape.kv_width(), &v[t * size_t(shape.kv_width())]);
        }
        fill_row(2, tokens[n - 1], layer, shape.q_width(), q.data());
        for (float& x : k) x = to_half(x);
        for (float& x : v) x = to_half(x);
        std::vector<double> out(static_cast<size_t>(shape.q_width()));
        for (int32_t kv = 0; kv < shape.n_kv_heads; ++kv) {
            std::vector<std::vector<double>> weights;  // of the group's heads
            for (int32_t g = 0; g < group; ++g) {
                weights.push_back(softmax(&q[size_t((kv * group + g) * shape.head_dim)], k, kv, n));
            }
            const std::vector<char> kept = choose(weights, n, layer);
            for (int32_t g = 0; g < group; ++g) {
                double mass = 0;
                for (size_t t = 0; t < n; ++t) mass += kept[t] ? weights[size_t(g)][t] : 0;
                const double divisor = exact_weights && selects(layer) ? 1 : mass;
                for (size_t t = 0; t < n; ++t) {
                    if (!kept[t]) continue;
                    for (int32_t d = 0; d < shape.head_dim; ++d) {
                        out[size_t((kv * group + g) * shape.head_dim + d)] +=
                            weights[size_t(g)][t] / divisor *
                            v[t * size_t(shape.kv_width()) + size_t(kv * shape.head_dim + d)];
                    }
                }
                if (!selects(layer)) continue;
                tail_sum += 1 - mass;
                tail_max = std::max(tail_max, 1 - mass);
            }
        }
        return out;
    }

  private:
    bool selects(int32_t layer) const { return policy == KC_POLICY_KCACHE && layer >= n_dense_layers; }

    std::vector<double> softmax(const float* q, const std::vector<float>& k, int32_t kv, size_t n) const {
        std::vector<double> w(n);
        double max = -1e300, sum = 0;
        for (size_t t = 0; t < n; ++t) {
            double s = 0;
            for (int32_t d = 0; d < shape.head_dim; ++d) {
                s += double(q[d]) * k[t * size_t(shape.kv_width()) + size_t(kv * shape.head_dim + d)];
            }
            w[t] = s / std::sqrt(double(shape.head_dim));
            if (visible(t, n)) max = std::max(max, w[t]);
        }
        for (size_t t = 0; t < n; ++t) sum += w[t] = visible(t, n) ? std::exp(w[t] - max) : 0;
        for (double& x : w) x /= sum;
        return w;
    }

    bool visible(size_t t, size_t n) const {
        return policy != KC_POLICY_WINDOW || t < size_t(n_sink) || t + size_t(n_recent) >= n;
    }

    std::vector<char> choose(const std::vector<std::vector<double>>& weights, size_t n, int32_t layer) {
        std::vector<char> kept(n, !selects(layer));
        if (!selects(layer)) return kept;
        std::vector<double> sum(n);
        for (const auto& w : weights) {
            for (size_t t = 0; t < n; ++t) sum[t] += w[t];
        }
        std::vector<size_t> others;
        for (size_t t = 0; t < n; ++t) {
            kept[t] = t < size_t(n_sink) || t + size_t(n_recent) >= n;
            if (!kept[t]) others.push_back(t);
        }
        const auto best_first = [&](const std::vector<double>& by) {
            std::vector<size_t> order = others;
            std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return by[a] > by[b]; });
            return order;
        };
        const std::vector<size_t> order = best_first(sum);
        size_t n_chosen = 0;
        if (select == KC_SELECT_GROUP) {
            for (; n_chosen < std::min(order.size(), size_t(n_keep)); ++n_chosen) kept[order[n_chosen]] = 1;
        } else {
            for (const auto& w : weights) {
                const std::vector<size_t> own = best_first(w);
                for (size_t i = 0; i < std::min(own.size(), size_t(n_keep)); ++i) {
                    n_chosen += !kept[own[i]];
                    kept[own[i]] = 1;
                }
            }
        }
        const auto worst_tail = [&] {
            double worst = 0;
            for (const auto& w : weights) {
                double tail = 0;
                for (size_t t = 0; t < n; ++t) tail += kept[t] ? 0 : w[t];
                worst = std::max(worst, tail);
            }
            return worst;
        };
        if (max_tail > 0) {
            for (const size_t t : order) {
                if (worst_tail() <= max_tail || n_chosen >= size_t(n_keep_max)) break;
                n_chosen += !kept[t];
                kept[t] = 1;
            }
            n_missed += worst_tail() > max_tail;
        }
        n_selected += n_chosen;
        return kept;
    }
};

// Part of a case's name, from the command line: only such cases run.
const char* only = nullptr;

// Prompt, then decode steps; each against the reference. `change` may set what Variant does not.
void against_reference(const char* name, const Variant& variant, double tolerance,
                       const std::function<void(kc_cache_desc&)>& change = {}) {
    if (only && !std::strstr(name, only)) return;
    const Shape shape;
    Context context;
    kc_cache_desc desc = describe(shape, variant.policy, 512);
    apply(variant, desc);
    if (change) change(desc);
    Cache cache(context, shape, desc);
    Reference reference;
    reference.shape = shape;
    reference.policy = desc.policy;
    reference.n_keep = desc.n_keep;
    reference.n_sink = desc.n_sink;
    reference.n_recent = desc.n_recent;
    reference.n_dense_layers = desc.n_dense_layers;
    reference.select = desc.select;
    reference.exact_weights = desc.mode == KC_MODE_EXACT_WEIGHTS;
    reference.max_tail = desc.max_tail;
    if (desc.n_keep_max) reference.n_keep_max = desc.n_keep_max;

    const int32_t sequence = cache.open();
    std::vector<uint32_t> tokens = text(small_sweep() ? 150 : 300, 11);
    cache.prompt(sequence, tokens);
    double worst = 0, size = 0;
    const int n_steps = small_sweep() ? 4 : 20;
    for (int step = 0; step < n_steps; ++step) {
        tokens.push_back(text(1, uint32_t(100 + step))[0]);
        const std::vector<float> out = cache.run({{sequence, {tokens.back()}, KC_ENTRY_DECODE}});
        for (int32_t l = 0; l < shape.n_layers; ++l) {
            const std::vector<double> expected = reference.attend(tokens, l);
            for (size_t i = 0; i < expected.size(); ++i) {
                worst = std::max(worst, std::abs(double(out[size_t(l) * expected.size() + i]) - expected[i]));
                size = std::max(size, std::abs(expected[i]));
            }
        }
    }
    CHECK(worst <= tolerance * size, name << ": off by " << worst << " of " << size);

    const kc_statistics statistics = cache.statistics();
    const int32_t n_selecting = desc.policy == KC_POLICY_KCACHE ? shape.n_layers - desc.n_dense_layers : 0;
    CHECK(statistics.n_steps == uint64_t(n_steps), name << ": " << statistics.n_steps);
    CHECK(statistics.n_head_steps == uint64_t(n_steps * n_selecting * shape.n_q_heads),
          name << ": " << statistics.n_head_steps);
    CHECK(statistics.n_selections == uint64_t(n_steps * n_selecting * shape.n_kv_heads),
          name << ": " << statistics.n_selections);
    CHECK(statistics.rows_selected == reference.n_selected,
          name << ": " << statistics.rows_selected << ", not " << reference.n_selected);
    CHECK(statistics.bound_missed == reference.n_missed,
          name << ": " << statistics.bound_missed << ", not " << reference.n_missed);
    CHECK(std::abs(statistics.tail_max - reference.tail_max) <= std::max(tolerance, 1e-6),
          name << ": " << statistics.tail_max << ", not " << reference.tail_max);
    CHECK(std::abs(statistics.tail_sum - reference.tail_sum) <=
              std::max(tolerance, 1e-6) * double(statistics.n_head_steps),
          name << ": " << statistics.tail_sum << ", not " << reference.tail_sum);
    CHECK(statistics.n_nonfinite == 0, name);
}

constexpr double kHalf = 1e-5;  // f16 rows, as the reference has them
constexpr double kByte = 2e-2;  // q8 rows

void policies() {
    const auto variant = [](int32_t policy, int32_t k, int32_t v, int32_t n_keep, int32_t n_dense = 0,
                            int32_t select = KC_SELECT_GROUP, int32_t mode = KC_MODE_RENORMALIZED, float max_tail = 0) {
        return Variant{"", policy, k, v, n_keep, n_dense, select, mode, max_tail};
    };
    const int32_t f16 = KC_CODEC_F16, q8 = KC_CODEC_Q8;
    against_reference("full", variant(KC_POLICY_FULL, f16, f16, 0), kHalf);
    against_reference("full q8 keys", variant(KC_POLICY_FULL, q8, f16, 0), kByte);
    against_reference("full q8 values", variant(KC_POLICY_FULL, f16, q8, 0), kByte);
    against_reference("window", variant(KC_POLICY_WINDOW, f16, f16, 0), kHalf);
    against_reference("window of 100, no sinks", variant(KC_POLICY_WINDOW, f16, f16, 0), kHalf,
                      [](kc_cache_desc& desc) {
                          desc.n_recent = 100;
                          desc.n_sink = 0;
                      });
    against_reference("window q8", variant(KC_POLICY_WINDOW, q8, q8, 0), kByte, [](kc_cache_desc& desc) {
        desc.n_recent = 90;
        desc.n_sink = 0;
    });
    against_reference("kcache 16", variant(KC_POLICY_KCACHE, f16, f16, 16), kHalf);
    against_reference("kcache 0", variant(KC_POLICY_KCACHE, f16, f16, 0), kHalf);
    against_reference("kcache 1, 2 dense", variant(KC_POLICY_KCACHE, f16, f16, 1, 2), kHalf);
    against_reference("kcache all", variant(KC_POLICY_KCACHE, f16, f16, 1000), kHalf);
    against_reference("kcache union", variant(KC_POLICY_KCACHE, f16, f16, 9, 0, KC_SELECT_UNION), kHalf);
    against_reference("kcache exact-weights",
                      variant(KC_POLICY_KCACHE, f16, f16, 16, 1, KC_SELECT_GROUP, KC_MODE_EXACT_WEIGHTS), kHalf);
    against_reference("kcache max_tail",
                      variant(KC_POLICY_KCACHE, f16, f16, 4, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0.1f), kHalf);
    against_reference("kcache max_tail that cannot be kept",
                      variant(KC_POLICY_KCACHE, f16, f16, 4, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0.02f), kHalf,
                      [](kc_cache_desc& desc) { desc.n_keep_max = 20; });
    against_reference("kcache q8 values", variant(KC_POLICY_KCACHE, f16, q8, 16), kByte);
}

// exact-weights is off by at most the tail mass times the largest norm of a dropped value.
void error_bound_of_exact_weights() {
    const Shape shape;
    Context context;
    kc_cache_desc desc = describe(shape, KC_POLICY_KCACHE, 512);
    desc.mode = KC_MODE_EXACT_WEIGHTS;
    desc.n_keep = 5;
    kc_cache_desc full = describe(shape, KC_POLICY_FULL, 512);
    Cache some(context, shape, desc), all(context, shape, full);
    const std::vector<uint32_t> tokens = text(400, 5);
    some.prompt(some.open(), tokens);
    all.prompt(all.open(), tokens);
    double norm = 0;
    std::vector<float> row(static_cast<size_t>(shape.kv_width()));
    for (uint32_t token : tokens) {
        for (int32_t l = 0; l < shape.n_layers; ++l) {
            fill_row(1, token, l, shape.kv_width(), row.data());
            for (int32_t h = 0; h < shape.n_kv_heads; ++h) {
                double sum = 0;
                for (int32_t d = 0; d < shape.head_dim; ++d)
                    sum += double(row[size_t(h * shape.head_dim + d)]) * row[size_t(h * shape.head_dim + d)];
                norm = std::max(norm, std::sqrt(sum));
            }
        }
    }
    for (uint32_t step = 0; step < 20; ++step) {
        const std::vector<uint32_t> token = text(1, 900 + step);
        const std::vector<float> a = some.run({{0, token, KC_ENTRY_DECODE}});
        const std::vector<float> b = all.run({{0, token, KC_ENTRY_DECODE}});
        for (size_t h = 0; h < a.size() / size_t(shape.head_dim); ++h) {
            double off = 0;
            for (size_t d = 0; d < size_t(shape.head_dim); ++d) {
                const double difference = double(a[h * size_t(shape.head_dim) + d]) - b[h * size_t(shape.head_dim) + d];
                off += difference * difference;
            }
            CHECK(std::sqrt(off) <= some.statistics().tail_max * norm * 1.001, std::sqrt(off));
        }
    }
    CHECK(some.statistics().tail_max > 0.05, some.statistics().tail_max);
}

// A NaN in k or v, and scores that overflow, are counted, and the other heads go on.
void nonfinite_is_reported() {
    for (const int32_t policy : {KC_POLICY_FULL, KC_POLICY_KCACHE}) {
        Shape shape;
        shape.n_layers = 1;
        Context context;
        kc_cache_desc desc = describe(shape, policy, 128);
        desc.n_keep = 10;
        Cache cache(context, shape, desc);
        cache.prompt(cache.open(), text(70, 1));
        std::vector<float> k(size_t(shape.kv_width()), 0.5f), v(k), q(size_t(shape.q_width()), 0.5f);
        const auto decode = [&](uint32_t token) {
            const Rows device_k(context, k), device_v(context, v), device_q(context, q),
                device_out(context, std::vector<float>(q.size(), NAN));
            must(cache.begin({{0, {token}, KC_ENTRY_DECODE}}), "begin");
            must(kc_cache_append(cache.handle, 0, device_k.data(), device_v.data()), "append");
            must(kc_cache_attend(cache.handle, 0, device_q.data(), device_out.data()), "attend");
            must(kc_cache_commit(cache.handle), "commit");
            std::vector<float> out(q.size());
            device_out.read(out);
            return out;
        };
        k[0] = NAN;  // head 0
        std::vector<float> out = decode(1);
        CHECK(cache.statistics().n_nonfinite > 0, cache.statistics().n_nonfinite);
        CHECK(all_finite(out), "what is not a number weighs nothing");
        k[0] = 0.5f;
        q[0] = INFINITY;
        const uint64_t before = cache.statistics().n_nonfinite;
        out = decode(2);
        CHECK(cache.statistics().n_nonfinite >= before + 70, cache.statistics().n_nonfinite << " after " << before);
        const std::vector<float> others(out.begin() + shape.head_dim, out.end());
        CHECK(all_finite(others), "other heads go on");
    }
}

// Every row exact: the sketch is not looked at, and what is left of keys at 4 bits is who was scored first.
void sketch_of_everything_is_full() {
    for (const int32_t k_codec : {KC_CODEC_DEFAULT, KC_CODEC_F16, KC_CODEC_Q8, KC_CODEC_Q2}) {
        const Shape shape;
        Context context;
        kc_cache_desc desc = describe(shape, KC_POLICY_SKETCH, 512);
        desc.k_codec = k_codec;
        desc.n_keep = 512;
        Cache all(context, shape, desc), full(context, shape, describe(shape, KC_POLICY_FULL, 512));
        const std::vector<uint32_t> tokens = text(300, 5);
        all.prompt(all.open(), tokens);
        full.prompt(full.open(), tokens);
        double worst = 0, size = 0;
        for (uint32_t step = 0; step < 20; ++step) {
            const std::vector<Work> batch = {{0, text(1, 700 + step), KC_ENTRY_DECODE}};
            const std::vector<float> a = all.run(batch), b = full.run(batch);
            for (size_t i = 0; i < a.size(); ++i) {
                worst = std::max(worst, std::abs(double(a[i]) - b[i]));
                size = std::max(size, std::abs(double(b[i])));
            }
        }
        // Keys at 8 bits are not scored again.
        const double tolerance = k_codec == KC_CODEC_Q8 ? kByte : 1e-5;
        CHECK(worst <= tolerance * size, "k codec " << k_codec << ": off by " << worst << " of " << size);
        CHECK(k_codec == KC_CODEC_Q8 || all.statistics().tail_max < 1e-6, all.statistics().tail_max);
    }
}

// More exact rows, less error; and any number of them is better than dropping the rest.
void sketch_is_better_than_dropping() {
    const Shape shape;
    Context context;
    const std::vector<uint32_t> tokens = text(400, 5);
    const auto error_of = [&](int32_t policy, int32_t n_keep) {
        kc_cache_desc desc = describe(shape, policy, 512);
        desc.n_keep = n_keep;
        Cache some(context, shape, desc), full(context, shape, describe(shape, KC_POLICY_FULL, 512));
        some.prompt(some.open(), tokens);
        full.prompt(full.open(), tokens);
        double sum = 0;
        for (uint32_t step = 0; step < 30; ++step) {
            const std::vector<Work> batch = {{0, text(1, 700 + step), KC_ENTRY_DECODE}};
            const std::vector<float> a = some.run(batch), b = full.run(batch);
            for (size_t i = 0; i < a.size(); ++i) sum += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
        }
        return sum;
    };
    const double none = error_of(KC_POLICY_SKETCH, 0), few = error_of(KC_POLICY_SKETCH, 16),
                 many = error_of(KC_POLICY_SKETCH, 100), dropped = error_of(KC_POLICY_KCACHE, 16);
    CHECK(none > few && few > many, none << ", " << few << ", " << many);
    CHECK(few < dropped / 3, few << ", dropping: " << dropped);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1) only = argv[1];
    policies();
    nonfinite_is_reported();
    if (only || small_sweep()) return kc_test::check_result();
    sketch_of_everything_is_full();
    sketch_is_better_than_dropping();
    error_bound_of_exact_weights();
    return kc_test::check_result();
}
