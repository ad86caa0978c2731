// What kernels are called with: one plain struct per stem, a shape after every pointer. They are the structs of the
// public header, so that a test, a benchmark and the cache call a kernel with the very same thing.
#pragma once

#include "kcache_ops.h"

namespace kc {

constexpr int kPageTokens = KC_PAGE_TOKENS;
// Sums over tokens: blocks of a page are merged in ascending order into the sum of a span of a view's pages, spans in
// ascending order into the total. A span is what one piece of work covers, whatever the threads.
constexpr int kSpanPages = 16;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace kc
