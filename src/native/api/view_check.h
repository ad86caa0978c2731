// Checks of the views that attention kernels are called with. What they cannot know, the number of pages and slots
// behind a base pointer, is the caller's word.
#pragma once

#include "core/context.h"

namespace kc {

void check_layer(const Backend& backend, const kc_layer_view* layer, const char* name);
void check_sequences(const kc_layer_view& layer, const kc_sequence_view* sequences, int64_t n_sequences);
void check_wave(const Backend& backend, const kc_wave* wave);
void check_hot(const kc_layer_view& layer, const kc_hot_store& hot);

}  // namespace kc
