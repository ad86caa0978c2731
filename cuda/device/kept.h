// The kept tokens of a query and KV head, ascending, by pages.
#pragma once

#include <cuda_runtime.h>

#include "core/params.h"

namespace kc::cuda {

// First index of kept[0, n) that is not below `token`.
__device__ __forceinline__ int lower_bound(const int32_t* kept, int n, int token) {
    int low = 0;
    while (n > 0) {
        const int half = n / 2;
        if (kept[low + half] < token)
            low += half + 1, n -= half + 1;
        else
            n = half;
    }
    return low;
}

// Which tokens of a page are kept; token i of the page is bit i.
__device__ __forceinline__ unsigned long long kept_in_page(const int32_t* kept, int begin, int end) {
    unsigned long long bits = 0;
    for (int i = begin; i < end; ++i) bits |= 1ull << (kept[i] % kPageTokens);
    return bits;
}

}  // namespace kc::cuda
