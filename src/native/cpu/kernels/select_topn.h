// Purpose:  which tokens count exactly: sinks, recent ones, the n_keep best, and further ones until bounds hold.
// Shapes:   weights [query, q_head, token] and their mass; per query and KV head an ascending list of tokens.
// Mapping:  piece = (query, KV head, part of the spans) to find the best of a part, cut so that weights stay with the
//           core that made them: maxima of 16 tokens give a bound that few tokens reach; piece = (query, KV head) to
//           choose among what was found; piece = (query, KV head, span) for sums of what is left, where asked for.
// Traffic:  per query and KV head, tokens * (4 * group + 8) bytes, mostly in cache; sums read the weights once more.
// Numerics: exact choice, ties to the lower token, NaN last; tail and error are sums over the tokens outside.
#pragma once

#include <stdint.h>

#include "kcache_ops.h"

namespace kc {

// A page is 64 tokens, bit i of its word the i-th.
struct SelectTopnBodies {
    // sums[i] = sum over h of weights[h, i] * factors[h], -1 where that is NaN; sums [n_pages, 64].
    // maxima[page, c] = the largest of its sums congruent to c modulo 4.
    void (*group_sums)(const float* weights, int64_t weight_stride, const float* factors, int64_t n_heads,
                       int64_t n_pages, float* sums, float* maxima);
    // maxima[c] of one page as above, of the tokens in `candidates` alone; -2 where there are none.
    void (*maxima)(const float* sums, uint64_t candidates, float* maxima);
    // How many values [n] are at least `bound`; n a multiple of 16.
    int64_t (*count_at_least)(const float* values, int64_t n, float bound);
    // Those of sums [n_pages, 64] that are, in their order; tokens are numbered from `first`. Returns how many. What
    // lies behind them in tokens and weights [n_pages, 64] is not kept.
    int64_t (*collect)(const float* sums, int64_t n_pages, float bound, int32_t first, int32_t* tokens, float* weights);
    // The sum of the weights [n_pages, 64] of one head without a bit in kept [n_pages], and of their squares.
    void (*outside)(const float* weights, const uint64_t* kept, int64_t n_pages, float* sum, float* squares);
};

}  // namespace kc
