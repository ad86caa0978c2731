// One wave of decode steps through one layer: what the steps of a plan are called with.
#pragma once

#include "cache/layout.h"

namespace kc {

struct WaveCall {
    const Backend& backend;
    const CacheShape& shape;
    const Layout& layout;
    const LayerPlan& plan;
    WaveMemory memory;
    kc_wave wave;
    float* out;
};

// Adds what a wave of a layer did, once its steps are done and `seen` shows what they counted.
void count_wave(const WaveCall& call, const WaveMemory& seen, kc_statistics& statistics);

}  // namespace kc
