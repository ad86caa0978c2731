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

// Lists that are worked on at one time, per thread: enough to share them out evenly.
constexpr int64_t kListsPerThread = 4;

// The scratch of one list, carved. A bit of a page's word is a token.
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

    // The weights by which the heads [head, head + n_heads) choose among the tokens of pages [begin, end), and the sums
    // of all their weights.
    void rank(int64_t head, int64_t n_heads, int64_t begin, int64_t end) {
        const int64_t stride = params.wave->token_stride;
        kernels.select_topn.group_sums(weights + head * stride + begin * kPageTokens, stride, scratch.factors + head,
                                       n_heads, end - begin, scratch.sums + begin * kPageTokens,
                                       scratch.maxima + begin * 4, scratch.page_sums + head * n_pages() + begin,
                                       scratch.page_squares + head * n_pages() + begin, n_pages());
        std::fill(scratch.is_stale + begin, scratch.is_stale + end, uint8_t{1});
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

    // The sums outside of pages [begin, end), from what is kept now.
    void refresh(int64_t begin, int64_t end) {
        for (int64_t page = begin; page < end; ++page) {
            if (scratch.is_stale[page] == 0) continue;
            scratch.is_stale[page] = 0;
            if (scratch.kept[page] == 0) continue;
            for (int64_t h = 0; h < group; ++h) {
                kernels.attention_score.sums(weights + h * params.wave->token_stride + page * kPageTokens,
                                             ~scratch.kept[page], scratch.page_sums + h * n_pages() + page,
                                             scratch.page_squares + h * n_pages() + page);
            }
        }
    }

    // Reports tail and error; returns whether every head keeps the bounds.
    bool measure() {
        refresh(0, n_pages());
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
        if (params.select == KC_SELECT_UNION) rank(0, group, 0, n_pages());
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

// The lists of a wave, as many at a time as there is scratch for.
struct Lists {
    CpuContext& context;
    const kc_select_topn_params& params;
    const kc_wave& wave;
    int64_t group;
    int64_t n_heads;
    int64_t scratch_stride;
    int64_t first = 0;  // of those that are worked on

    int64_t place_of(int64_t list) const {
        return list / n_heads * wave.layer->n_kv_heads + wave.kv_head_begin + list % n_heads;
    }
    const kc_query_view& query_of(int64_t list) const { return wave.queries[list / n_heads]; }
    SelectScratch scratch_of(int64_t list) const {
        SelectScratch scratch;
        SelectScratch::carve(group, wave.token_stride,
                             static_cast<uint8_t*>(params.scratch) + (list - first) * scratch_stride, &scratch);
        return scratch;
    }
    Selection selection_of(int64_t list, SelectScratch& scratch) const {
        const kc_query_view& view = query_of(list);
        const int64_t head = place_of(list) * group;
        const int64_t n_sink = std::min(wave.n_sink, view.n_visible);
        return {params,
                *context.kernels,
                scratch,
                group,
                params.weights + head * wave.token_stride,
                params.mass + head,
                int64_t{wave.sequences[view.sequence].n_pages} * kPageTokens,
                n_sink,
                std::max<int64_t>(n_sink, view.n_visible - wave.n_recent),
                params.tail + head,
                params.error + head};
    }
    // work(selection, first page, last page) for every span of lists [first, first + n).
    template <class Work>
    void over_spans(int64_t n, Work&& work) const {
        const int64_t n_spans = ceil_div(wave.token_stride, kSpanTokens);
        context.pool.run(n * n_spans, 1, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) {
                SelectScratch scratch = scratch_of(first + i / n_spans);
                Selection selection = selection_of(first + i / n_spans, scratch);
                const int64_t page = i % n_spans * kSpanPages;
                if (page >= selection.n_pages()) continue;
                work(selection, page, std::min<int64_t>(selection.n_pages(), page + kSpanPages));
            }
        });
    }
    void begin(int64_t list) const;
    void choose(int64_t list) const;
    void finish(int64_t list) const;
};

void Lists::begin(int64_t list) const {
    const SelectScratch scratch = scratch_of(list);
    for (int64_t h = 0; h < group; ++h) {
        const float mass = params.mass[place_of(list) * group + h];
        scratch.factors[h] = mass > 0.f ? 1.f / mass : 0.f;
    }
}

// The n_keep best, sinks and recent ones.
void Lists::choose(int64_t list) const {
    SelectScratch scratch = scratch_of(list);
    Selection selection = selection_of(list, scratch);
    std::fill_n(scratch.kept, selection.n_pages(), uint64_t{0});
    std::fill_n(scratch.chosen, selection.n_pages(), uint64_t{0});
    const bool each = params.select == KC_SELECT_UNION;
    for (int64_t h = 0; h < (each ? group : 1); ++h) {
        // Each head chooses as if it were alone: what another head chose is marked, but still a candidate.
        if (each) selection.rank(h, 1, 0, selection.n_pages());
        const int64_t n = selection.best(params.n_keep);
        for (int64_t i = 0; i < n; ++i) {
            scratch.chosen[scratch.tokens[i] / kPageTokens] |= uint64_t{1} << scratch.tokens[i] % kPageTokens;
        }
    }
    const int64_t n_visible = query_of(list).n_visible;
    for (int64_t page = 0; page < selection.n_pages(); ++page) {
        const int64_t position = page * kPageTokens;
        scratch.kept[page] = scratch.chosen[page] | low_bits(selection.first - position) |
                             (low_bits(n_visible - position) & ~low_bits(selection.last - position));
    }
}

// Further ones until the bounds hold; the list.
void Lists::finish(int64_t list) const {
    SelectScratch scratch = scratch_of(list);
    Selection selection = selection_of(list, scratch);
    int64_t n_chosen = 0;
    for (int64_t page = 0; page < selection.n_pages(); ++page) n_chosen += __builtin_popcountll(scratch.chosen[page]);
    params.missed[place_of(list)] = selection.grow(params.n_keep_max - n_chosen) ? 0 : 1;
    int32_t* kept = params.kept + place_of(list) * params.kept_stride;
    int32_t n_kept = 0;
    for (int64_t page = 0; page < selection.n_pages(); ++page) {
        for (uint64_t left = scratch.kept[page]; left != 0; left &= left - 1) {
            kept[n_kept++] = static_cast<int32_t>(page * kPageTokens + __builtin_ctzll(left));
        }
    }
    params.n_kept[place_of(list)] = n_kept;
    params.n_selected[place_of(list)] =
        n_kept - static_cast<int32_t>(selection.first + query_of(list).n_visible - selection.last);
}

int64_t lists_at_a_time(const CpuContext& context, int64_t n_lists) {
    return std::min<int64_t>(n_lists, context.pool.n_threads() * kListsPerThread);
}

}  // namespace

uint64_t select_topn_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t n_queries,
                                   int64_t token_stride) {
    SelectScratch scratch;
    const int64_t bytes = SelectScratch::carve(layer.n_q_heads / layer.n_kv_heads, token_stride, nullptr, &scratch);
    return static_cast<uint64_t>(lists_at_a_time(context, n_queries * layer.n_kv_heads) * bytes);
}

void select_topn(CpuContext& context, const kc_select_topn_params& params) {
    const kc_wave& wave = *params.wave;
    Lists lists{
        context, params, wave, wave.layer->n_q_heads / wave.layer->n_kv_heads, wave.kv_head_end - wave.kv_head_begin,
        0};
    SelectScratch unused;
    lists.scratch_stride = SelectScratch::carve(lists.group, wave.token_stride, nullptr, &unused);
    const int64_t n_lists = wave.n_queries * lists.n_heads;
    const int64_t n_at_a_time = lists_at_a_time(context, n_lists);
    for (; lists.first < n_lists; lists.first += n_at_a_time) {
        const int64_t n = std::min(n_at_a_time, n_lists - lists.first);
        for (int64_t i = 0; i < n; ++i) lists.begin(lists.first + i);
        if (params.select == KC_SELECT_GROUP) {
            lists.over_spans(n, [&](Selection& s, int64_t begin, int64_t end) { s.rank(0, s.group, begin, end); });
        }
        const auto over_lists = [&](void (Lists::*work)(int64_t) const) {
            context.pool.run(n, 1, [&](int64_t begin, int64_t end, int) {
                for (int64_t i = begin; i < end; ++i) (lists.*work)(lists.first + i);
            });
        };
        over_lists(&Lists::choose);
        lists.over_spans(n, [](Selection& s, int64_t begin, int64_t end) { s.refresh(begin, end); });
        over_lists(&Lists::finish);
    }
}

}  // namespace kc
