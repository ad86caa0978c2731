// select_topn against a sort in double precision: forced tokens, ties, NaN, zeros, unions, bounds, threads.
#include <numeric>
#include <set>

#include "check.h"
#include "decode_step.h"

namespace {

using namespace kc_test;

// A wave over given weights [n_q_heads, n]; nothing of the cache is read but its page tables.
struct Selected {
    DecodeStep step;
    Selected(kc::CpuContext& context, CacheCase& cache, const std::vector<std::vector<float>>& weights,
             const StepOptions& options)
        : step(cache, std::vector<float>(static_cast<size_t>(cache.shape.n_q_heads * cache.shape.head_dim)), options) {
        for (size_t h = 0; h < weights.size(); ++h) {
            float* row = step.weights.data() + h * static_cast<size_t>(step.wave.token_stride);
            std::fill_n(row, step.wave.token_stride, 0.f);
            std::copy(weights[h].begin(), weights[h].end(), row);
            double mass = 0;
            for (const float w : weights[h]) mass += std::isnan(w) ? 0 : w;
            step.mass[h] = static_cast<float>(mass);
        }
        if (options.max_tail == 0.f && options.max_error == 0.f) {
            step.options.measured = false;
            step.select(context);
            CHECK(std::isnan(step.tail[0]) && std::isnan(step.error[0]), "nothing was asked for");
        }
        const std::vector<int32_t> kept_unmeasured = step.kept;
        step.options.measured = true;
        step.select(context);
        CHECK(step.options.max_tail != 0.f || step.options.max_error != 0.f || step.kept == kept_unmeasured,
              "the choice depends on what is reported of it");
    }
    std::set<int> kept(int kv_head) const {
        const int32_t* list = step.kept_of(0, kv_head);
        const int n = step.n_kept[static_cast<size_t>(kv_head)];
        CHECK(std::is_sorted(list, list + n), "kept must ascend");
        const std::set<int> result(list, list + n);
        CHECK(static_cast<int>(result.size()) == n, "no token twice");
        return result;
    }
};

CacheCase view_of(int n_q_heads, int n_kv_heads, int n_tokens) {
    CacheCase cache({n_q_heads, n_kv_heads, 16}, 1, (n_tokens + 63) / 64);
    // Only lengths are looked at.
    cache.k[0].resize(static_cast<size_t>(n_tokens * n_kv_heads * 16));
    cache.sequences[0].n_pages = (n_tokens + 63) / 64;
    return cache;
}

// Candidates best first: by weight, ties to the lower token, NaN last.
std::vector<int> ranking(const std::vector<float>& weights, int first, int last) {
    std::vector<int> order;
    for (int i = first; i < last; ++i) order.push_back(i);
    const auto value = [&](int i) {
        return std::isnan(weights[static_cast<size_t>(i)]) ? -1.f : weights[static_cast<size_t>(i)];
    };
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return value(a) > value(b); });
    return order;
}

std::set<int> forced(int n, const StepOptions& options) {
    std::set<int> tokens;
    for (int i = 0; i < n; ++i) {
        if (i < options.n_sink || i >= n - options.n_recent) tokens.insert(i);
    }
    return tokens;
}

enum class Kind {
    random,
    few_values,
    all_equal,
    zeros,
    with_nan,
    ascending,
    descending,
    one_page,    // all that is large stands in one page
    one_lane,    // all that is large stands 16 tokens apart
    neighbours,  // floats next to each other
    steep,       // few are large, and those that count beside a low bound lie far below them
};

std::vector<float> make_weights(std::mt19937& random, int n, Kind kind) {
    std::vector<float> w(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) {
        float& x = w[static_cast<size_t>(i)];
        const float u = std::uniform_real_distribution<float>(0.f, 1.f)(random);
        switch (kind) {
            case Kind::random:
                x = std::exp(-20.f * u);
                break;
            case Kind::few_values:
                x = static_cast<float>(static_cast<int>(u * 4)) * 0.25f;
                break;
            case Kind::all_equal:
                x = 0.5f;
                break;
            case Kind::zeros:
                x = u < 0.01f ? 1.f : 0.f;
                break;
            case Kind::with_nan:
                x = u < 0.3f ? NAN : u < 0.6f ? 0.f : u;
                break;
            case Kind::ascending:
                x = static_cast<float>(i) / static_cast<float>(n);
                break;
            case Kind::descending:
                x = static_cast<float>(n - i) / static_cast<float>(n);
                break;
            case Kind::one_page:
                x = i / 64 == n / 128 ? 1.f + u : u * 1e-3f;
                break;
            case Kind::one_lane:
                x = i % 16 == 5 ? 1.f + u : u * 1e-3f;
                break;
            case Kind::neighbours:
                x = 1.f + static_cast<float>(static_cast<int>(u * 300)) * 0x1p-23f;
                break;
            case Kind::steep:
                x = u < 0.01f ? 1.f + u : 1e-5f * std::exp(-3.f * u);
                break;
        }
    }
    return w;
}

void one_head(const kc::Kernels* kernels) {
    TestContext context(kernels, 1);
    std::mt19937 random(3);
    for (const int n : {1, 2, 36, 37, 63, 64, 65, 127, 128, 129, 1000, 3000}) {
        for (const int n_keep : {0, 1, 2, 17, 64, 300, n - 38, n - 37, n - 36, n - 1, 5000}) {
            if (n_keep < 0) continue;
            for (const Kind kind :
                 {Kind::random, Kind::few_values, Kind::all_equal, Kind::zeros, Kind::with_nan, Kind::ascending,
                  Kind::descending, Kind::one_page, Kind::one_lane, Kind::neighbours}) {
                const std::vector<float> weights = make_weights(random, n, kind);
                StepOptions options;
                options.n_keep = options.n_keep_max = n_keep;
                CacheCase cache = view_of(1, 1, n);
                const Selected selected(context.cpu, cache, {weights}, options);
                std::set<int> expected = forced(n, options);
                const size_t n_forced = expected.size();
                const std::vector<int> order = ranking(weights, options.n_sink, n - options.n_recent);
                for (int i = 0; i < n_keep && i < static_cast<int>(order.size()); ++i)
                    expected.insert(order[static_cast<size_t>(i)]);
                CHECK(selected.kept(0) == expected,
                      kernels->name << ": " << n << " tokens, keep " << n_keep << ", kind " << static_cast<int>(kind));
                CHECK(selected.step.n_selected[0] == static_cast<int>(expected.size() - n_forced),
                      selected.step.n_selected[0]);
                CHECK(selected.step.missed[0] == 0, "no bound was asked for");
                double tail = 0, squares = 0;
                for (int i = 0; i < n; ++i) {
                    const float w = weights[static_cast<size_t>(i)];
                    if (expected.count(i) != 0) continue;
                    tail += w;
                    squares += static_cast<double>(w) * w;
                }
                if (kind == Kind::with_nan) continue;
                const double mass = selected.step.mass[0];
                const double expected_tail = mass > 0 ? tail / mass : 0,
                             expected_error = mass > 0 ? std::sqrt(squares) / mass : 0;
                CHECK(std::abs(selected.step.tail[0] - expected_tail) <= 1e-6 * expected_tail,
                      selected.step.tail[0] << " not " << expected_tail);
                CHECK(std::abs(selected.step.error[0] - expected_error) <= 1e-6 * expected_error,
                      selected.step.error[0] << " not " << expected_error);
            }
        }
    }
}

void groups_and_unions(const kc::Kernels* kernels) {
    std::mt19937 random(5);
    for (const int group : {2, 3, 7}) {
        for (const int n : {40, 129, 2000, 2047, 5200}) {
            for (const auto& [select, kind] :
                 {std::pair{KC_SELECT_GROUP, Kind::random}, std::pair{KC_SELECT_GROUP, Kind::with_nan},
                  std::pair{KC_SELECT_GROUP, Kind::one_page}, std::pair{KC_SELECT_UNION, Kind::random}}) {
                std::vector<std::vector<float>> weights;
                // Where one head of a group has a number and another NaN, the sum is NaN.
                for (int h = 0; h < 2 * group; ++h) {
                    weights.push_back(make_weights(random, n, h % group == 1 ? Kind::random : kind));
                }
                StepOptions options;
                options.n_keep = options.n_keep_max = 25;
                options.select = select;
                CacheCase cache = view_of(2 * group, 2, n);
                for (const int n_threads : {1, 2, 3, 7}) {
                    TestContext context(kernels, n_threads);
                    const Selected selected(context.cpu, cache, weights, options);
                    for (int kv = 0; kv < 2; ++kv) {
                        std::set<int> expected = forced(n, options);
                        std::vector<double> sums(static_cast<size_t>(n));
                        for (int h = kv * group; h < (kv + 1) * group; ++h) {
                            const std::vector<float>& w = weights[static_cast<size_t>(h)];
                            for (int i = 0; i < n; ++i)
                                sums[static_cast<size_t>(i)] +=
                                    w[static_cast<size_t>(i)] /
                                    static_cast<double>(selected.step.mass[static_cast<size_t>(h)]);
                            const std::vector<int> order = ranking(w, options.n_sink, n - options.n_recent);
                            for (size_t i = 0; select == KC_SELECT_UNION && i < 25 && i < order.size(); ++i)
                                expected.insert(order[i]);
                        }
                        std::vector<int> order;
                        for (int i = options.n_sink; i < n - options.n_recent; ++i) order.push_back(i);
                        const auto value = [&](int i) {
                            return std::isnan(sums[static_cast<size_t>(i)]) ? -1. : sums[static_cast<size_t>(i)];
                        };
                        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return value(a) > value(b); });
                        for (size_t i = 0; select == KC_SELECT_GROUP && i < 25 && i < order.size(); ++i)
                            expected.insert(order[i]);
                        CHECK(selected.kept(kv) == expected,
                              kernels->name << ": group " << group << ", " << n << " tokens, select " << select);
                    }
                }
            }
        }
    }
}

// The fewest rows for which every head keeps the bound, in the order of the group's weight.
void bounds(const kc::Kernels* kernels) {
    TestContext context(kernels, 1);
    std::mt19937 random(7);
    struct Weights {
        int n;
        Kind kind;
    };
    for (const Weights& of : {Weights{200, Kind::random}, Weights{3000, Kind::random}, Weights{1000, Kind::steep},
                              Weights{3000, Kind::steep}}) {
        const int n = of.n;
        for (const bool squares : {false, true}) {
            for (const float bound : {0.5f, 0.1f, 0.01f, 1e-4f, 3e-6f}) {
                for (const int select : {KC_SELECT_GROUP, KC_SELECT_UNION}) {
                    std::vector<std::vector<float>> weights;
                    for (int h = 0; h < 3; ++h) weights.push_back(make_weights(random, n, of.kind));
                    CacheCase cache = view_of(3, 1, n);
                    StepOptions options;
                    options.n_keep = 5;
                    options.select = select;
                    (squares ? options.max_error : options.max_tail) = bound;
                    const Selected selected(context.cpu, cache, weights, options);
                    const std::set<int> kept = selected.kept(0);
                    std::vector<double> sums(static_cast<size_t>(n));
                    const auto measure = [&](const std::set<int>& inside, int h) {
                        double tail = 0;
                        for (int i = 0; i < n; ++i) {
                            const double w = weights[static_cast<size_t>(h)][static_cast<size_t>(i)] /
                                             static_cast<double>(selected.step.mass[static_cast<size_t>(h)]);
                            if (h == 0) sums[static_cast<size_t>(i)] = 0;
                            if (inside.count(i) == 0) tail += squares ? w * w : w;
                        }
                        return squares ? std::sqrt(tail) : tail;
                    };
                    CHECK(selected.step.missed[0] == 0, "the bound can be kept");
                    for (int h = 0; h < 3; ++h) {
                        const float reported =
                            (squares ? selected.step.error : selected.step.tail)[static_cast<size_t>(h)];
                        const double tail = measure(kept, h);
                        CHECK(reported <= bound, reported << " exceeds " << bound);
                        CHECK(std::abs(reported - tail) <= 2e-6 * tail + 1e-12, reported << " not " << tail);
                    }
                    for (int h = 0; h < 3; ++h) {
                        for (int i = 0; i < n; ++i)
                            sums[static_cast<size_t>(i)] +=
                                weights[static_cast<size_t>(h)][static_cast<size_t>(i)] /
                                static_cast<double>(selected.step.mass[static_cast<size_t>(h)]);
                    }
                    // Without the least of what was added, some head breaks the bound.
                    StepOptions plain = options;
                    plain.max_tail = plain.max_error = 0.f;
                    plain.n_keep_max = plain.n_keep;
                    const std::set<int> base = Selected(context.cpu, cache, weights, plain).kept(0);
                    int least = -1;
                    for (const int i : kept) {
                        if (base.count(i) == 0 &&
                            (least < 0 || sums[static_cast<size_t>(i)] <= sums[static_cast<size_t>(least)]))
                            least = i;
                    }
                    for (int i = options.n_sink; least >= 0 && i < n - options.n_recent; ++i) {
                        if (kept.count(i) == 0)
                            CHECK(sums[static_cast<size_t>(i)] <= sums[static_cast<size_t>(least)] * (1 + 1e-6),
                                  "a better token was left out");
                    }
                    if (least < 0) continue;
                    std::set<int> fewer = kept;
                    fewer.erase(least);
                    bool broken = false;
                    for (int h = 0; h < 3; ++h) broken = broken || measure(fewer, h) > bound * (1 - 1e-6);
                    CHECK(broken, kernels->name << ": " << kept.size() << " tokens are more than the bound " << bound
                                                << " needs");
                }
            }
        }
    }
    // A cap that is too low is reported, and used up.
    StepOptions options;
    options.n_keep = 5;
    options.n_keep_max = 9;
    options.max_tail = 1e-5f;
    CacheCase cache = view_of(1, 1, 500);
    const Selected selected(context.cpu, cache, {make_weights(random, 500, Kind::all_equal)}, options);
    CHECK(selected.step.missed[0] == 1 && selected.step.n_selected[0] == 9, selected.step.n_selected[0]);
    CHECK(selected.step.tail[0] > 0.8f, selected.step.tail[0]);
}

}  // namespace

int main() {
    for (const kc::Kernels* kernels : all_kernels()) {
        one_head(kernels);
        groups_and_unions(kernels);
        bounds(kernels);
    }
    return check_result();
}
