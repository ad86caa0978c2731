#include "replays.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "device/launch.h"

namespace kc::cuda {

bool Replays::Key::operator==(const Key& other) const {
    return layers == other.layers && sequences == other.sequences && queries == other.queries &&
           caller == other.caller && token_stride == other.token_stride && n_queries == other.n_queries &&
           spilled == other.spilled && sets_centre == other.sets_centre;
}

Replays::Replays(cudaStream_t stream) : stream_(stream) {
    const char* wanted = std::getenv("KCACHE_CUDA_GRAPHS");
    on_ = wanted == nullptr || std::strcmp(wanted, "0") != 0;
    entries_.reserve(kMost);  // a step of a new shape allocates nothing here
}

// A new entry; where there is no room, in place of the one that was used longest ago.
Replays::Entry& Replays::enter(const Key& key) {
    if (entries_.size() < kMost) {
        entries_.push_back({key, nullptr, false, 0});
        return entries_.back();
    }
    Entry& oldest = *std::min_element(entries_.begin(), entries_.end(),
                                      [](const Entry& a, const Entry& b) { return a.used < b.used; });
    if (oldest.graph) {
        check(cudaStreamSynchronize(stream_), "waiting for a graph");
        cudaGraphExecDestroy(oldest.graph);
    }
    oldest = {key, nullptr, false, 0};
    return oldest;
}

bool Replays::begin(const Key& key) {
    if (!on_) return false;
    const auto found =
        std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
    const bool is_new = found == entries_.end();
    Entry& entry = is_new ? enter(key) : *found;
    entry.used = ++clock_;
    if (is_new || entry.refused) return false;
    if (entry.graph) {
        check(cudaGraphLaunch(entry.graph, stream_), "launching a graph");
        return true;
    }
    // Relaxed: the calls of a step may come from several threads, and those of other contexts in between.
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "beginning a capture");
    captured_ = static_cast<size_t>(&entry - entries_.data());
    capturing_ = true;
    return false;
}

void Replays::end(bool keep) {
    if (!capturing_) return;
    capturing_ = false;
    Entry& entry = entries_[captured_];
    entry.refused = true;  // unless all goes well
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream_, &graph), "ending a capture");
    cudaGraphExec_t exec = nullptr;
    const cudaError_t instantiated = cudaGraphInstantiateWithFlags(&exec, graph, 0);
    cudaGraphDestroy(graph);
    check(instantiated, "instantiating a graph");
    const cudaError_t launched = cudaGraphLaunch(exec, stream_);
    if (keep && launched == cudaSuccess) {
        entry.graph = exec;
        entry.refused = false;
        return;
    }
    cudaStreamSynchronize(stream_);
    cudaGraphExecDestroy(exec);
    check(launched, "launching a graph");
}

void Replays::drop() {
    if (!capturing_) return;
    capturing_ = false;
    // The caller may have an error of its own to tell, and a capture that failed is dropped too.
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(stream_, &graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
}

void Replays::forget(const void* layers) {
    if (entries_.empty()) return;
    cudaStreamSynchronize(stream_);
    const auto kept = std::remove_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
        if (layers && entry.key.layers != layers) return false;
        if (entry.graph) cudaGraphExecDestroy(entry.graph);
        return true;
    });
    entries_.erase(kept, entries_.end());
    cudaGetLastError();
}

}  // namespace kc::cuda
