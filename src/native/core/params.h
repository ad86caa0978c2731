// What kernels are called with: one plain struct per stem, a shape after every pointer. They are the structs of the
// public header, so that a test, a benchmark and the cache call a kernel with the very same thing.
#pragma once

#include "kcache_ops.h"

namespace kc {

constexpr int kPageTokens = KC_PAGE_TOKENS;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace kc
