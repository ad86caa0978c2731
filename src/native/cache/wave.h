// One wave of decode steps through one layer: what the steps of a plan are called with.
#pragma once

#include "cache/layout.h"

namespace kc {

struct WaveCall {
    const Backend& backend;
    const CacheShape& shape;
    const Layout& layout;
    const LayerPlan& plan;
    kc_wave wave;
    float* out;
};

// Adds what a wave of a layer did, once its steps are done.
void count_wave(const WaveCall& call, kc_statistics& statistics);

}  // namespace kc
