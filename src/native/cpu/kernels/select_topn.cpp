#include "cpu/kernels/select_topn.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/context.h"
#include "cpu/kernels/layout.h"

namespace kc {
namespace {

// Below every weight and below NaN, which ranks as -1: not a candidate, or taken already.
constexpr float kNoCandidate = -2.f;
constexpr float kLowest = -1.f;
constexpr uint64_t kWholePage = ~uint64_t{0};

// The scratch of one thread, carved. A bit of a page's word is a token.
struct SelectScratch {
    float* sums;           // [tokens], the group's weights or those of one head
    float* maxima;         // [pages, 4], of the candidates among 16 tokens each
    float* weights;        // [tokens], of candidates that were found
    int32_t* tokens;       // [tokens], of the same
    uint64_t* kept;        // [pages]
    uint64_t* chosen;      // [pages], among the best of a head
    uint8_t* is_stale;     // [pages]: its sums outside do not know all that is kept
    float* page_sums;      // [group, pages]: of the weights outside
    float* page_squares;   // [group, pages]
    float* factors;        // [group]: 1 / mass
    double* rest;          // [group]: the sum outside, as it shrinks
    double* rest_squares;  // [group]

    static int64_t carve(int64_t group, int64_t n_tokens, uint8_t* base, SelectScratch* s) {
        int64_t at = 0;
        const auto take = [&](int64_t n_bytes) {
            uint8_t* p = base == nullptr ? nullptr : base + at;
            at += round_up(n_bytes, 64);
            return p;
        };
        const int64_t n_pages = n_tokens / kPageTokens;
        s->sums = reinterpret_cast<float*>(take(n_tokens * 4));
        s->maxima = reinterpret_cast<float*>(take(n_pages * 16));
        s->weights = reinterpret_cast<float*>(take(n_tokens * 4));
        s->tokens = reinterpret_cast<int32_t*>(take(n_tokens * 4));
        s->kept = reinterpret_cast<uint64_t*>(take(n_pages * 8));
        s->chosen = reinterpret_cast<uint64_t*>(take(n_pages * 8));
        s->is_stale = take(n_pages);
        s->page_sums = reinterpret_cast<float*>(take(group * n_pages * 4));
        s->page_squares = reinterpret_cast<float*>(take(group * n_pages * 4));
        s->factors = reinterpret_cast<float*>(take(group * 4));
        s->rest = reinterpret_cast<double*>(take(group * 8));
        s->rest_squares = reinterpret_cast<double*>(take(group * 8));
        return at;
    }
};

// Floats and integers in the same order.
int64_t order_of(float f) {
    int32_t bits;
    std::memcpy(&bits, &f, 4);
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}
float at_order(int64_t order) {
    const int32_t bits = static_cast<int32_t>(order < 0 ? order ^ 0x7fffffff : order);
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}

// A bound that at least n of the values reach; no more than n + slack do, or all that is more is equal to the bound.
struct Bound {
    float value;
    int64_t n_reach;
    int64_t n_exceed;  // where n_reach is more than n + slack
};
// At least n of the values [n_values], a multiple of 16, are `lowest` or more.
Bound find_bound(const SelectTopnBodies& bodies, const float* values, int64_t n_values, int64_t n, int64_t slack,
                 float lowest) {
    // Halves what lies between: every step looks at all values, but 16 at a time and without a branch on any.
    int64_t low = order_of(lowest), high = order_of(__builtin_inff()) + 1;
    int64_t n_low = n_values, n_high = 0;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        const int64_t n_reach = bodies.count_at_least(values, n_values, at_order(middle));
        if (n_reach < n) {
            high = middle;
            n_high = n_reach;
            continue;
        }
        low = middle;
        n_low = n_reach;
        if (n_reach <= n + slack) break;
    }
    return {at_order(low), n_low, n_high};
}

// One query and KV head.
struct Selection {
    const kc_select_topn_params& params;
    const Kernels& kernels;
    SelectScratch& scratch;
    int64_t group;
    const float* weights;  // [group, token_stride]
    const float* mass;     // [group]
    int64_t n_tokens;      // of the view, a multiple of 64
    int64_t first;         // candidates are tokens [first, last)
    int64_t last;
    float* tail;   // [group]
    float* error;  // [group]

    int64_t n_pages() const { return n_tokens / kPageTokens; }

    // Tokens of a page that may still be chosen.
    uint64_t candidates_of(int64_t page) const {
        const int64_t position = page * kPageTokens;
        return low_bits(last - position) & ~low_bits(first - position) & ~scratch.kept[page];
    }

    // The weights by which the heads [head, head + n_heads) choose, and the sums of all their weights.
    void rank(int64_t head, int64_t n_heads) {
        kernels.select_topn.group_sums(weights + head * params.wave->token_stride, params.wave->token_stride,
                                       scratch.factors + head, n_heads, n_pages(), scratch.sums, scratch.maxima,
                                       scratch.page_sums + head * n_pages(), scratch.page_squares + head * n_pages());
        std::fill_n(scratch.is_stale, n_pages(), uint8_t{1});
    }

    // The n best candidates to the front of scratch.tokens, ascending; returns how many there were.
    int64_t best(int64_t n) {
        if (n <= 0) return 0;
        const SelectTopnBodies& bodies = kernels.select_topn;
        for (int64_t page = 0; page < n_pages(); ++page) {
            const uint64_t candidates = candidates_of(page);
            if (candidates == kWholePage) continue;
            bodies.maxima(scratch.sums + page * kPageTokens, candidates, scratch.maxima + page * 4);
        }
        // n maxima that reach a bound are n candidates that do: what does not reach it is not among the best.
        const int64_t n_maxima = round_up(n_pages() * 4, 16);
        std::fill(scratch.maxima + n_pages() * 4, scratch.maxima + n_maxima, kNoCandidate);
        float bound = kLowest;
        if (bodies.count_at_least(scratch.maxima, n_maxima, kLowest) > n) {
            bound = find_bound(bodies, scratch.maxima, n_maxima, n, n / 4 + 4, kLowest).value;
        }
        int64_t n_found = 0;
        for (int64_t page = 0; page < n_pages(); ++page) {
            const float* maxima = scratch.maxima + page * 4;
            if (std::max(std::max(maxima[0], maxima[1]), std::max(maxima[2], maxima[3])) < bound) continue;
            uint64_t reach = bodies.at_least(scratch.sums + page * kPageTokens, bound) & candidates_of(page);
            for (; reach != 0; reach &= reach - 1) {
                const int32_t token = static_cast<int32_t>(page * kPageTokens + __builtin_ctzll(reach));
                scratch.tokens[n_found] = token;
                scratch.weights[n_found++] = scratch.sums[token];
            }
        }
        if (n_found <= n) return n_found;
        std::fill(scratch.weights + n_found, scratch.weights + round_up(n_found, 16), kNoCandidate);
        const Bound exact = find_bound(bodies, scratch.weights, round_up(n_found, 16), n, 0, bound);
        int64_t n_equal = exact.n_reach == n ? n : n - exact.n_exceed;
        int64_t n_best = 0;
        for (int64_t i = 0; i < n_found; ++i) {
            if (scratch.weights[i] < exact.value) continue;
            if (scratch.weights[i] == exact.value && n_equal-- <= 0) continue;
            scratch.tokens[n_best++] = scratch.tokens[i];
        }
        return n_best;
    }

    // The sums outside of one page, from what is kept now.
    void refresh_page(int64_t page) {
        scratch.is_stale[page] = 0;
        if (scratch.kept[page] == 0) return;
        for (int64_t h = 0; h < group; ++h) {
            kernels.attention_score.sums(weights + h * params.wave->token_stride + page * kPageTokens,
                                         ~scratch.kept[page], scratch.page_sums + h * n_pages() + page,
                                         scratch.page_squares + h * n_pages() + page);
        }
    }

    // Reports tail and error; returns whether every head keeps the bounds.
    bool measure() {
        for (int64_t page = 0; page < n_pages(); ++page) {
            if (scratch.is_stale[page] != 0) refresh_page(page);
        }
        bool kept = true;
        for (int64_t h = 0; h < group; ++h) {
            double sum = 0., squares = 0.;
            for (int64_t page = 0; page < n_pages(); ++page) {
                sum += scratch.page_sums[h * n_pages() + page];
                squares += scratch.page_squares[h * n_pages() + page];
            }
            scratch.rest[h] = sum * scratch.factors[h];
            scratch.rest_squares[h] = squares * scratch.factors[h] * scratch.factors[h];
            tail[h] = static_cast<float>(scratch.rest[h]);
            error[h] = static_cast<float>(std::sqrt(scratch.rest_squares[h]));
            if (params.max_tail > 0.f && !(tail[h] <= params.max_tail)) kept = false;
            if (params.max_error > 0.f && !(error[h] <= params.max_error)) kept = false;
        }
        return kept;
    }

    // Whether the bounds may hold by the running sums, which are a little off: `measure` decides.
    bool near_bounds() const {
        constexpr double kSlack = 1. + 1e-4;
        for (int64_t h = 0; h < group; ++h) {
            if (params.max_tail > 0.f && scratch.rest[h] > params.max_tail * kSlack) return false;
            if (params.max_error > 0.f && scratch.rest_squares[h] > kSlack * params.max_error * params.max_error) {
                return false;
            }
        }
        return true;
    }

    // Further candidates in the order of the group's weight until the bounds hold; returns whether they do.
    bool grow(int64_t n_more) {
        if (measure()) return true;
        if (params.select == KC_SELECT_UNION) rank(0, group);
        for (int64_t batch = 64; n_more > 0; batch *= 2) {
            const int64_t n = best(std::min(batch, n_more));
            if (n == 0) return false;
            std::sort(scratch.tokens, scratch.tokens + n, [&](int32_t a, int32_t b) {
                return scratch.sums[a] != scratch.sums[b] ? scratch.sums[a] > scratch.sums[b] : a < b;
            });
            for (int64_t i = 0; i < n; ++i) {
                const int32_t token = scratch.tokens[i];
                scratch.kept[token / kPageTokens] |= uint64_t{1} << token % kPageTokens;
                scratch.is_stale[token / kPageTokens] = 1;
                --n_more;
                for (int64_t h = 0; h < group; ++h) {
                    const double w =
                        static_cast<double>(weights[h * params.wave->token_stride + token]) * scratch.factors[h];
                    scratch.rest[h] -= w;
                    scratch.rest_squares[h] -= w * w;
                }
                if (near_bounds() && measure()) return true;
            }
        }
        return measure();
    }
};

void select_one(CpuContext& context, const kc_select_topn_params& params, int64_t query, int64_t kv_head,
                SelectScratch& scratch) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    const kc_query_view& view = wave.queries[query];
    const int64_t group = layer.n_q_heads / layer.n_kv_heads;
    const int64_t head = query * layer.n_q_heads + kv_head * group;
    const int64_t list = query * layer.n_kv_heads + kv_head;
    const int64_t n_sink = std::min(wave.n_sink, view.n_visible);
    const int64_t recent = std::max<int64_t>(n_sink, view.n_visible - wave.n_recent);
    Selection selection{params,
                        *context.kernels,
                        scratch,
                        group,
                        params.weights + head * wave.token_stride,
                        params.mass + head,
                        int64_t{wave.sequences[view.sequence].n_pages} * kPageTokens,
                        n_sink,
                        recent,
                        params.tail + head,
                        params.error + head};
    for (int64_t h = 0; h < group; ++h) {
        scratch.factors[h] = selection.mass[h] > 0.f ? 1.f / selection.mass[h] : 0.f;
    }
    std::fill_n(scratch.kept, selection.n_pages(), uint64_t{0});
    std::fill_n(scratch.chosen, selection.n_pages(), uint64_t{0});
    const bool each = params.select == KC_SELECT_UNION;
    for (int64_t h = 0; h < (each ? group : 1); ++h) {
        // Each head chooses as if it were alone: what another head chose is marked, but still a candidate.
        selection.rank(h, each ? 1 : group);
        const int64_t n = selection.best(params.n_keep);
        for (int64_t i = 0; i < n; ++i) {
            scratch.chosen[scratch.tokens[i] / kPageTokens] |= uint64_t{1} << scratch.tokens[i] % kPageTokens;
        }
    }
    int64_t n_selected = 0;
    for (int64_t page = 0; page < selection.n_pages(); ++page) {
        const int64_t position = page * kPageTokens;
        n_selected += __builtin_popcountll(scratch.chosen[page]);
        scratch.kept[page] = scratch.chosen[page] | low_bits(n_sink - position) |
                             (low_bits(view.n_visible - position) & ~low_bits(recent - position));
    }
    params.missed[list] = selection.grow(params.n_keep_max - n_selected) ? 0 : 1;

    int32_t* kept = params.kept + list * params.kept_stride;
    int32_t n_kept = 0;
    for (int64_t page = 0; page < selection.n_pages(); ++page) {
        for (uint64_t left = scratch.kept[page]; left != 0; left &= left - 1) {
            kept[n_kept++] = static_cast<int32_t>(page * kPageTokens + __builtin_ctzll(left));
        }
    }
    params.n_kept[list] = n_kept;
    params.n_selected[list] = n_kept - static_cast<int32_t>(n_sink + view.n_visible - recent);
}

}  // namespace

uint64_t select_topn_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t, int64_t token_stride) {
    SelectScratch scratch;
    const int64_t bytes = SelectScratch::carve(layer.n_q_heads / layer.n_kv_heads, token_stride, nullptr, &scratch);
    return static_cast<uint64_t>(context.pool.n_threads() * bytes);
}

void select_topn(CpuContext& context, const kc_select_topn_params& params) {
    const kc_wave& wave = *params.wave;
    const int64_t group = wave.layer->n_q_heads / wave.layer->n_kv_heads;
    const int64_t n_heads = wave.kv_head_end - wave.kv_head_begin;
    SelectScratch unused;
    const int64_t stride = SelectScratch::carve(group, wave.token_stride, nullptr, &unused);
    context.pool.run(wave.n_queries * n_heads, 1, [&](int64_t begin, int64_t end, int worker) {
        SelectScratch scratch;
        SelectScratch::carve(group, wave.token_stride, static_cast<uint8_t*>(params.scratch) + worker * stride,
                             &scratch);
        for (int64_t i = begin; i < end; ++i) {
            select_one(context, params, i / n_heads, wave.kv_head_begin + i % n_heads, scratch);
        }
    });
}

}  // namespace kc
