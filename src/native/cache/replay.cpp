// Decode steps as records: a backend that can replays all calls of a step from the record of an earlier one.
#include "cache/cache.h"
#include "core/error.h"

namespace kc {

bool Cache::begin_replay(uint64_t key) {
    if (!in_forward_ || next_layer_ > 0 || appended_) {
        fail(KC_ERR_STATE, "kc_cache_replay_begin comes right behind kc_cache_begin, before the first kc_cache_append");
    }
    const Backend& backend = context_.backend;
    // Of two caches that take turns within a step, one can be recorded at most.
    if (!backend.replay_begin || context_.recorder) return false;
    if (n_prompts_ > 0 || n_waves_ != 1) return false;
    bool sets_centre = false;
    for (int32_t i = 0; i < n_entries_; ++i) sets_centre |= layout_.views[i].set_centre != 0;
    const kc_wave wave = wave_of(0, 0, nullptr, nullptr).wave;
    if (!backend.replay_begin(backend.self, wave, key, is_spilled(wave), sets_centre)) {
        context_.recorder = this;
        return false;
    }
    next_layer_ = shape_.n_layers;
    return true;
}

void Cache::end_replay() {
    if (!is_recording()) return;
    context_.recorder = nullptr;
    context_.backend.replay_end(context_.backend.self, next_layer_ == shape_.n_layers);
}

void Cache::drop_record() {
    if (!is_recording()) return;
    context_.recorder = nullptr;
    context_.backend.replay_drop(context_.backend.self);
}

}  // namespace kc
