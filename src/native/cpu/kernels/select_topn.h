// Purpose:  which tokens count exactly: sinks, recent ones, the n_keep best, and further ones until bounds hold.
// Shapes:   weights [query, q_head, token] and their mass; per query and KV head an ascending list of tokens.
// Mapping:  piece = (query, KV head); maxima of 16 tokens tell which chunks can hold one of the best at all.
// Traffic:  per query and KV head, tokens * (8 * group + 9) bytes, mostly in cache.
// Numerics: exact choice, ties to the lower token, NaN last; tail and error are sums over the tokens outside.
#pragma once

#include <stdint.h>

#include "kcache_ops.h"

namespace kc {

struct SelectTopnBodies {
    // sums[i] = sum over h of weights[h, i] * factors[h], -1 where that is NaN; n a multiple of 64.
    // maxima[c] = the largest of chunk c of 16 sums.
    void (*group_sums)(const float* weights, int64_t weight_stride, const float* factors, int64_t n_heads, int64_t n,
                       float* sums, float* maxima);
};

}  // namespace kc
