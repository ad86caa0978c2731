// The plan of a layer: which steps its decode steps take, decided once.
#pragma once

#include "cache/policy.h"

namespace kc {

struct WaveCall;
using Step = void (*)(WaveCall& call);

struct StepList {
    int32_t n;
    Step steps[4];
};

struct LayerPlan {
    kc_layer_view view;
    kc_hot_store hot;
    bool selects;
    StepList resident;  // no page of the wave's sequences is in the slow home
    StepList spilled;
};

// Fills in the steps of a layer whose view is there.
void choose_steps(const CacheShape& shape, LayerPlan& plan);

}  // namespace kc
