#include "cpu/kernels/select_list.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace kc {
namespace {

// Below every weight and below NaN, which ranks as -1: not a candidate, or taken already.
constexpr float kNoCandidate = -2.f;
constexpr float kLowest = -1.f;
constexpr uint64_t kWholePage = ~uint64_t{0};

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
Bound bisect(const SelectTopnBodies& bodies, const float* values, int64_t n_values, int64_t n, int64_t slack,
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

}  // namespace

uint64_t Selection::candidates_of(int64_t page) const {
    const int64_t position = page * kPageTokens;
    return low_bits(last - position) & ~low_bits(first - position);
}

uint64_t Selection::forced_of(int64_t page) const {
    const int64_t position = page * kPageTokens;
    return low_bits(first - position) | (low_bits(n_visible - position) & ~low_bits(last - position));
}

void Selection::rank(int64_t head, int64_t n_heads, int64_t begin, int64_t end, const uint64_t* taken) {
    const int64_t stride = params.wave->token_stride;
    kernels.select_topn.group_sums(weights + head * stride + begin * kPageTokens, stride, scratch.factors + head,
                                   n_heads, end - begin, scratch.sums + begin * kPageTokens,
                                   scratch.maxima + begin * 4);
    for (int64_t page = begin; page < end; ++page) {
        const uint64_t candidates = candidates_of(page) & ~(taken == nullptr ? 0 : taken[page]);
        if (candidates == kWholePage) continue;
        kernels.select_topn.maxima(scratch.sums + page * kPageTokens, candidates, scratch.maxima + page * 4);
        for (uint64_t others = ~candidates; others != 0; others &= others - 1) {
            scratch.sums[page * kPageTokens + __builtin_ctzll(others)] = kNoCandidate;
        }
    }
}

float Selection::find_bound(int64_t begin, int64_t end, int64_t n) {
    if (n <= 0) return __builtin_inff();
    // n maxima that reach a bound are n candidates that do: what does not reach it is not among the best.
    const float* maxima = scratch.maxima + begin * 4;
    const int64_t n_maxima = round_up((end - begin) * 4, 16);
    std::fill(scratch.maxima + end * 4, scratch.maxima + begin * 4 + n_maxima, kNoCandidate);
    // Where there are few of them beside n they tell little, and so few tokens are quickly counted themselves.
    const bool few = kernels.select_topn.count_at_least(maxima, n_maxima, kLowest) <= 2 * n;
    const float* values = few ? scratch.sums + begin * kPageTokens : maxima;
    const int64_t n_values = few ? (end - begin) * kPageTokens : n_maxima;
    if (few && kernels.select_topn.count_at_least(values, n_values, kLowest) <= n) return kLowest;
    return bisect(kernels.select_topn, values, n_values, n, n / 4 + 4, kLowest).value;
}

int64_t Selection::collect(int64_t begin, int64_t end, float bound, int64_t at) {
    return kernels.select_topn.collect(scratch.sums + begin * kPageTokens, end - begin, bound,
                                       static_cast<int32_t>(begin * kPageTokens), scratch.tokens + at,
                                       scratch.weights + at);
}

int64_t Selection::keep_best(int64_t n, int64_t n_found, float bound) {
    if (n_found <= n) return n_found;
    std::fill(scratch.weights + n_found, scratch.weights + round_up(n_found, 16), kNoCandidate);
    const Bound exact = bisect(kernels.select_topn, scratch.weights, round_up(n_found, 16), n, 0, bound);
    int64_t n_equal = exact.n_reach == n ? n : n - exact.n_exceed;
    int64_t n_best = 0;
    // Without a branch, as which ones are best follows no pattern.
    for (int64_t i = 0; i < n_found; ++i) {
        const float weight = scratch.weights[i];
        const bool equal = weight == exact.value, taken = (weight > exact.value) | (equal & (n_equal > 0));
        n_equal -= equal;
        scratch.tokens[n_best] = scratch.tokens[i];
        n_best += taken;
    }
    return n_best;
}

int64_t Selection::best(int64_t head, int64_t n_heads, int64_t n, const uint64_t* taken) {
    rank(head, n_heads, 0, n_pages(), taken);
    const float bound = find_bound(0, n_pages(), n);
    return keep_best(n, collect(0, n_pages(), bound, 0), bound);
}

void Selection::find(const SpanPart& part, int64_t n) {
    const auto pages_before = [&](int64_t span) { return std::min(n_pages(), span * kSpanPages); };
    const auto leave = [&](int64_t begin, int64_t end, float bound, Found& found) {
        found.begin = begin * kPageTokens;
        found.n = collect(begin, end, bound, found.begin);
        found.bound = bound;
    };
    const int64_t begin = pages_before(part.begin), end = pages_before(part.end);
    float bound = kLowest;
    if (begin < end) {
        rank(0, group, begin, end, nullptr);
        bound = find_bound(begin, end, n);
    }
    leave(begin, end, bound, scratch.found[part.number]);
    if (!part.has_last()) return;
    const int64_t last_page = pages_before(part.last);
    if (last_page < n_pages()) {
        rank(0, group, last_page, n_pages(), nullptr);
        if (begin == end) bound = find_bound(last_page, n_pages(), n);
    }
    leave(last_page, n_pages(), bound, scratch.found[part.n]);
}

int64_t Selection::keep_found(int64_t n_parts, int64_t n) {
    float bound = kLowest;
    for (int64_t i = 0; i <= n_parts; ++i) bound = std::max(bound, scratch.found[i].bound);
    int64_t n_found = 0;
    for (int64_t i = 0; i <= n_parts; ++i) {
        const Found& found = scratch.found[i];
        for (int64_t at = found.begin; at < found.begin + found.n; ++at) {
            scratch.tokens[n_found] = scratch.tokens[at];
            scratch.weights[n_found] = scratch.weights[at];
            n_found += scratch.weights[n_found] >= bound;
        }
    }
    const int64_t n_best = keep_best(n, n_found, bound);
    if (tail == nullptr) return n_best;
    for (int64_t page = 0; page < n_pages(); ++page) scratch.kept[page] = forced_of(page);
    for (int64_t i = 0; i < n_best; ++i) {
        scratch.kept[scratch.tokens[i] / kPageTokens] |= uint64_t{1} << scratch.tokens[i] % kPageTokens;
    }
    return n_best;
}

void Selection::sum_outside(int64_t span) {
    const int64_t begin = span * kSpanPages, n = std::min<int64_t>(n_pages() - begin, kSpanPages);
    SpanRest& rest = rest_of(span);
    rest.is_stale = 0;
    for (int64_t h = 0; h < group; ++h) {
        float sum, squares;
        kernels.select_topn.outside(weights + h * params.wave->token_stride + begin * kPageTokens, scratch.kept + begin,
                                    n, &sum, &squares);
        rest.sums()[h] = sum;
        rest.squares(group)[h] = squares;
    }
}

bool Selection::measure() {
    for (int64_t span = 0; span < n_spans(); ++span) {
        if (rest_of(span).is_stale != 0) sum_outside(span);
    }
    bool kept = true;
    for (int64_t h = 0; h < group; ++h) {
        double sum = 0., squares = 0.;
        for (int64_t span = 0; span < n_spans(); ++span) {
            sum += rest_of(span).sums()[h];
            squares += rest_of(span).squares(group)[h];
        }
        scratch.rest[h] = sum * scratch.factors[h];
        scratch.rest_squares[h] = squares * scratch.factors[h] * scratch.factors[h];
        scratch.rest_then[h] = scratch.rest[h];
        scratch.squares_then[h] = scratch.rest_squares[h];
        tail[h] = static_cast<float>(scratch.rest[h]);
        error[h] = static_cast<float>(std::sqrt(scratch.rest_squares[h]));
        if (params.max_tail > 0.f && !(tail[h] <= params.max_tail)) kept = false;
        if (params.max_error > 0.f && !(error[h] <= params.max_error)) kept = false;
    }
    return kept;
}

bool Selection::near_bounds() const {
    // What was measured is sums of floats: where little of it is left the error is no longer little beside it.
    constexpr double kSlack = 1. + 1e-4, kLittle = 1e-3;
    for (int64_t h = 0; h < group; ++h) {
        if (params.max_tail > 0.f && scratch.rest[h] < kLittle * scratch.rest_then[h]) return true;
        if (params.max_error > 0.f && scratch.rest_squares[h] < kLittle * scratch.squares_then[h]) return true;
    }
    for (int64_t h = 0; h < group; ++h) {
        if (params.max_tail > 0.f && scratch.rest[h] > params.max_tail * kSlack) return false;
        if (params.max_error > 0.f && scratch.rest_squares[h] > kSlack * params.max_error * params.max_error) {
            return false;
        }
    }
    return true;
}

bool Selection::grow(int64_t n_more) {
    if (tail == nullptr || measure()) return true;
    for (int64_t batch = 64; n_more > 0; batch *= 2) {
        const int64_t n = best(0, group, std::min(batch, n_more), scratch.kept);
        if (n == 0) break;
        std::sort(scratch.tokens, scratch.tokens + n, [&](int32_t a, int32_t b) {
            return scratch.sums[a] != scratch.sums[b] ? scratch.sums[a] > scratch.sums[b] : a < b;
        });
        for (int64_t i = 0; i < n; ++i) {
            const int32_t token = scratch.tokens[i];
            scratch.kept[token / kPageTokens] |= uint64_t{1} << token % kPageTokens;
            rest_of(token / kSpanTokens).is_stale = 1;
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

}  // namespace kc
