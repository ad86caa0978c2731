// Decode steps by CUDA graphs: all that a step enqueues, from the embedding to the logits, is captured when its shape
// comes for the second time, and replayed from then on. What changes from step to step (lengths, page tables,
// positions, tokens) lies in device memory at addresses that stay; what a kernel is told by value is in the key.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

namespace kc::cuda {

class Replays {
  public:
    struct Key {
        const void* layers;     // of the cache
        const void* sequences;  // of the frame
        const void* queries;
        uint64_t caller;  // what the caller does beside the cache, and at which addresses
        int64_t token_stride;
        int32_t n_queries;
        bool spilled;
        bool sets_centre;
        bool operator==(const Key& other) const;
    };

    explicit Replays(cudaStream_t stream);
    ~Replays() { forget(nullptr); }
    Replays(const Replays&) = delete;
    Replays& operator=(const Replays&) = delete;

    bool is_on() const { return on_; }
    bool is_capturing() const { return capturing_; }
    // True: all of it has been enqueued. False: the caller enqueues it on the stream, and calls end or drop.
    bool begin(const Key& key);
    // Runs what was captured, if anything is. keep: it is a whole step, to be replayed; else its shape is never
    // captured again.
    void end(bool keep);
    // Nothing of what was captured will run.
    void drop();
    // Destroys the graphs of a cache, by its layers; NULL: of all. None may be under way.
    void forget(const void* layers);

  private:
    static constexpr size_t kMost = 64;

    struct Entry {
        Key key;
        cudaGraphExec_t graph;  // NULL: none yet
        bool refused;           // something came between that no graph can hold
        uint64_t used;          // when
    };

    Entry& enter(const Key& key);

    cudaStream_t stream_;
    bool on_;
    bool capturing_ = false;
    std::vector<Entry> entries_;
    size_t captured_ = 0;  // the entry that is being captured
    uint64_t clock_ = 0;
};

}  // namespace kc::cuda
