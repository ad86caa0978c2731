// A context of the CUDA backend: the device, its streams, the frames in flight, scratch of matmul.
//
//   compute   kernels, and copies between the host and the device
//   push      rows on their way to pinned memory: behind the kernels that wrote them, beside those that follow
//   fetch     rows on their way back: behind the kernels that used their place before, beside those that follow
//
// Whoever needs what another stream does says so: `join_push` before fast memory that was pushed is written again,
// `begin_fetch` and `end_fetch` around what the fetch stream does.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "device/layout.h"
#include "frame_ring.h"
#include "replays.h"

namespace kc::cuda {

class Context {
  public:
    Context(int device, int32_t activations);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    // Waits for all work; throws what the device and the kernels have to say.
    void sync();
    // The same without a word, for memory that is about to be freed.
    void drain() noexcept;

    // The push stream, behind all kernels so far; call end_push once its copies are enqueued.
    cudaStream_t begin_push();
    void end_push();
    // Kernels and copies from now on come behind the pushes so far.
    void join_push();
    // The compute stream, for a copy or a fill at once: behind the pushes so far, and in no record.
    cudaStream_t begin_copy();
    // The fetch stream, behind all kernels and pushes so far. What is enqueued between begin and end runs beside it.
    cudaStream_t begin_fetch();
    void fetched();
    void end_fetch();

    // What comes now is nothing that a record of a decode step (replays.h) can hold: what has been recorded so far
    // runs, and is not kept.
    void leave_record();

    // Device memory that only grows, for inputs quantised by matmul.
    void* matmul_scratch(uint64_t n_bytes);

    int device() const { return device_; }
    int32_t activations() const { return activations_; }
    const std::string& name() const { return name_; }
    const std::string& isa() const { return isa_; }
    int n_processors() const { return n_processors_; }
    uint64_t n_allocations() const { return n_allocations_ + frames_->n_allocations(); }
    cudaStream_t stream() const { return stream_; }
    FrameRing& frames() { return *frames_; }
    Replays& replays() { return *replays_; }

    // A word of device memory in which kernels note what they could not do; `sync` turns it into an Error.
    uint32_t* faults() const { return faults_; }

    // Copies between the host's own memory and the device, through a pinned piece, so that the host's memory is free
    // when they return.
    void copy_to_device(void* to, const void* host, uint64_t n_bytes);
    void copy_to_host(void* host, const void* from, uint64_t n_bytes);

  private:
    void create();
    void destroy();
    void wait_for_compute();

    int device_;
    int32_t activations_;
    std::string name_;
    std::string isa_;  // such as sm_90
    int n_processors_ = 0;
    uint64_t n_allocations_ = 0;
    cudaStream_t stream_ = nullptr;
    cudaStream_t push_ = nullptr;
    cudaStream_t fetch_ = nullptr;
    cudaEvent_t computed_ = nullptr;
    cudaEvent_t pushed_ = nullptr;
    cudaEvent_t fetched_ = nullptr;
    bool push_is_open_ = false;  // pushes that compute has not waited for
    bool fetch_is_open_ = false;
    uint8_t* bounce_ = nullptr;  // pinned
    uint32_t* faults_ = nullptr;
    uint32_t* seen_faults_ = nullptr;  // pinned copy
    void* scratch_ = nullptr;
    uint64_t scratch_bytes_ = 0;
    std::unique_ptr<FrameRing> frames_;
    std::unique_ptr<Replays> replays_;
};

}  // namespace kc::cuda
