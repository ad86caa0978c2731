// The one number behind the signs that coded rows are rotated with, the same on every backend: element d is multiplied
// by +1 where the low bit of splitmix64(kSignStart + d) is set, else by -1. The start was chosen among eight by the
// divergence of the 2-bit sketch on two windows of text (docs/sketch.md); any sequence is right, some are luckier.
#pragma once

#include <stdint.h>

namespace kc {

constexpr uint64_t kSignStart = 4000012;

}  // namespace kc
