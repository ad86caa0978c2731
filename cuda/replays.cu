#include "replays.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "device/launch.h"

namespace kc::cuda {

bool Replays::Key::operator==(const Key& other) const {
    return layer == other.layer && sequences == other.sequences && queries == other.queries && q == other.q &&
           out == other.out && token_stride == other.token_stride && n_queries == other.n_queries &&
           spilled == other.spilled;
}

Replays::Replays(cudaStream_t stream) : stream_(stream) {
    const char* wanted = std::getenv("KCACHE_CUDA_GRAPHS");
    on_ = wanted == nullptr || std::strcmp(wanted, "0") != 0;
}

bool Replays::begin(const kc_wave& wave, const Frame& frame, bool spilled, const float* out) {
    if (!on_) return false;
    const Key key = {wave.layer, frame.sequences,   frame.queries,  wave.q,
                     out,        wave.token_stride, wave.n_queries, spilled};
    const auto found =
        std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
    if (found == entries_.end()) {
        if (entries_.size() == kMost) forget();
        entries_.push_back({key, nullptr});
        return false;
    }
    if (found->graph) {
        check(cudaGraphLaunch(found->graph, stream_), "launching a graph");
        return true;
    }
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "beginning a capture");
    captured_ = static_cast<size_t>(found - entries_.begin());
    capturing_ = true;
    return false;
}

void Replays::end(bool complete) {
    if (!capturing_) return;
    capturing_ = false;
    cudaGraph_t graph = nullptr;
    const cudaError_t error = cudaStreamEndCapture(stream_, &graph);
    if (!complete) {
        // The caller has an error of its own to tell.
        if (graph) cudaGraphDestroy(graph);
        cudaGetLastError();
        return;
    }
    check(error, "ending a capture");
    cudaGraphExec_t exec = nullptr;
    const cudaError_t instantiated = cudaGraphInstantiateWithFlags(&exec, graph, 0);
    cudaGraphDestroy(graph);
    check(instantiated, "instantiating a graph");
    entries_[captured_].graph = exec;
    check(cudaGraphLaunch(exec, stream_), "launching a graph");
}

void Replays::forget() {
    if (entries_.empty()) return;
    cudaStreamSynchronize(stream_);
    for (const Entry& entry : entries_) {
        if (entry.graph) cudaGraphExecDestroy(entry.graph);
    }
    entries_.clear();
    cudaGetLastError();
}

}  // namespace kc::cuda
