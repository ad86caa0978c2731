// Decode attends by CUDA graphs: the kernels that one wave of one layer takes are captured when their shape comes for
// the second time, and replayed from then on. What changes from step to step (lengths, page tables, positions) lies in
// device memory, in the frame; what a kernel is told by value is in the key.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "core/params.h"
#include "device/layout.h"

namespace kc::cuda {

class Replays {
  public:
    explicit Replays(cudaStream_t stream);
    ~Replays() { forget(); }
    Replays(const Replays&) = delete;
    Replays& operator=(const Replays&) = delete;

    // True: all of it has been enqueued. False: the caller enqueues it on the stream, and calls end.
    bool begin(const kc_wave& wave, const Frame& frame, bool spilled, const float* out);
    // complete: false where the caller had to stop; nothing of it will run then, if it was being captured.
    void end(bool complete);
    // Layers, whose addresses are part of the keys, are about to go.
    void forget();

  private:
    static constexpr size_t kMost = 1024;

    struct Key {
        const void* layer;
        const void* sequences;
        const void* queries;
        const float* q;
        const float* out;
        int64_t token_stride;
        int32_t n_queries;
        bool spilled;
        bool operator==(const Key& other) const;
    };
    struct Entry {
        Key key;
        cudaGraphExec_t graph;  // NULL: seen once
    };

    cudaStream_t stream_;
    bool on_;
    bool capturing_ = false;
    std::vector<Entry> entries_;
    size_t captured_ = 0;  // the entry that is being captured
};

}  // namespace kc::cuda
