#include "context.h"

#include <algorithm>
#include <cstring>

#include "device/launch.h"
#include "memory.h"

namespace kc::cuda {
namespace {

constexpr uint64_t kBounceBytes = 4 * 1024 * 1024;

}  // namespace

Context::Context(int device, int32_t activations) : device_(device), activations_(activations) {
    try {
        create();
    } catch (...) {
        destroy();
        throw;
    }
}

void Context::create() {
    check(cudaSetDevice(device_), "choosing the device");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device_), "asking for the device's properties");
    name_ = properties.name;
    isa_ = "sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
    n_processors_ = properties.multiProcessorCount;
    for (cudaStream_t* stream : {&stream_, &push_, &fetch_})
        check(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "creating a stream");
    for (cudaEvent_t* event : {&computed_, &pushed_, &fetched_})
        check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
    check(cudaHostAlloc(reinterpret_cast<void**>(&bounce_), kBounceBytes + 64, cudaHostAllocDefault),
          "pinning memory for copies");
    seen_faults_ = reinterpret_cast<uint32_t*>(bounce_ + kBounceBytes);
    faults_ = static_cast<uint32_t*>(device_allocate(*this, sizeof *faults_));
    frames_ = std::make_unique<FrameRing>(*this);
    replays_ = std::make_unique<Replays>(stream_);
}

Context::~Context() { destroy(); }

void Context::destroy() {
    cudaSetDevice(device_);
    drain();
    replays_.reset();
    frames_.reset();
    cudaFree(scratch_);
    cudaFree(faults_);
    cudaFreeHost(bounce_);
    for (cudaEvent_t event : {computed_, pushed_, fetched_}) {
        if (event) cudaEventDestroy(event);
    }
    for (cudaStream_t stream : {stream_, push_, fetch_}) {
        if (stream) cudaStreamDestroy(stream);
    }
    cudaGetLastError();
}

void Context::drain() noexcept {
    try {
        leave_record();
    } catch (const Error&) {
    }
    for (cudaStream_t stream : {stream_, push_, fetch_}) {
        if (stream) cudaStreamSynchronize(stream);
    }
}

void Context::leave_record() {
    if (!replays_ || !replays_->is_capturing()) return;
    end_fetch();  // a capture ends where it began
    replays_->end(false);
}

cudaStream_t Context::begin_push() {
    leave_record();
    check(cudaEventRecord(computed_, stream_), "recording an event");
    check(cudaStreamWaitEvent(push_, computed_, 0), "waiting for an event");
    return push_;
}

void Context::end_push() {
    check(cudaEventRecord(pushed_, push_), "recording an event");
    push_is_open_ = true;
}

void Context::join_push() {
    if (!push_is_open_) return;
    check(cudaStreamWaitEvent(stream_, pushed_, 0), "waiting for an event");
    push_is_open_ = false;
}

cudaStream_t Context::begin_copy() {
    leave_record();
    join_push();
    return stream_;
}

cudaStream_t Context::begin_fetch() {
    // Rows may have been pushed that are wanted back: compute waits for them, and this stream for compute.
    join_push();
    check(cudaEventRecord(computed_, stream_), "recording an event");
    check(cudaStreamWaitEvent(fetch_, computed_, 0), "waiting for an event");
    fetch_is_open_ = true;
    return fetch_;
}

void Context::fetched() { check(cudaEventRecord(fetched_, fetch_), "recording an event"); }

void Context::end_fetch() {
    if (!fetch_is_open_) return;
    check(cudaStreamWaitEvent(stream_, fetched_, 0), "waiting for an event");
    fetch_is_open_ = false;
}

void Context::sync() {
    leave_record();
    for (cudaStream_t stream : {push_, fetch_}) check(cudaStreamSynchronize(stream), "waiting for the device");
    wait_for_compute();
}

void Context::wait_for_compute() {
    check(cudaMemcpyAsync(seen_faults_, faults_, sizeof *faults_, cudaMemcpyDeviceToHost, stream_),
          "copying from the device");
    check(cudaStreamSynchronize(stream_), "waiting for the device");
    const uint32_t seen = *seen_faults_;
    if (seen == 0) return;
    check(cudaMemsetAsync(faults_, 0, sizeof *faults_, stream_), "filling device memory");
    if (seen & kFaultNoRoom) {
        fail(KC_ERR_ARGUMENT, "row_restore: a kept row is spilled and hot has no room for it, but staging is NULL");
    }
    fail(KC_ERR_ARGUMENT, "ids holds a number outside the table that embed was given");
}

void* Context::matmul_scratch(uint64_t n_bytes) {
    if (n_bytes <= scratch_bytes_) return scratch_;
    const uint64_t grown = std::max(n_bytes, 2 * scratch_bytes_);
    sync();
    cudaFree(scratch_);
    scratch_ = nullptr;
    scratch_bytes_ = 0;
    replays_->forget(nullptr);  // they know its address
    scratch_ = device_allocate(*this, grown);
    scratch_bytes_ = grown;
    ++n_allocations_;
    return scratch_;
}

void Context::copy_to_device(void* to, const void* host, uint64_t n_bytes) {
    const cudaStream_t stream = begin_copy();
    for (uint64_t at = 0; at < n_bytes; at += kBounceBytes) {
        const uint64_t n = std::min(kBounceBytes, n_bytes - at);
        std::memcpy(bounce_, static_cast<const uint8_t*>(host) + at, n);
        check(cudaMemcpyAsync(static_cast<uint8_t*>(to) + at, bounce_, n, cudaMemcpyHostToDevice, stream),
              "copying to the device");
        check(cudaStreamSynchronize(stream), "waiting for the device");
    }
}

void Context::copy_to_host(void* host, const void* from, uint64_t n_bytes) {
    leave_record();
    for (uint64_t at = 0; at < n_bytes; at += kBounceBytes) {
        const uint64_t n = std::min(kBounceBytes, n_bytes - at);
        check(cudaMemcpyAsync(bounce_, static_cast<const uint8_t*>(from) + at, n, cudaMemcpyDeviceToHost, stream_),
              "copying from the device");
        wait_for_compute();
        std::memcpy(static_cast<uint8_t*>(host) + at, bounce_, n);
    }
}

}  // namespace kc::cuda
