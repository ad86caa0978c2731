#include "bandwidth.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "device/launch.h"

namespace bench {
namespace {

using kc::cuda::check;
using kc::cuda::launch;

constexpr int kThreads = 256;
constexpr int kBlocks = 132 * 16;
constexpr int kRowBytes = 256;
constexpr int kRowPieces = kRowBytes / 16;

// The sums keep the loads from being left out.
__global__ void __launch_bounds__(kThreads) read_all(const int4* from, size_t n, int* sums) {
    const size_t begin = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
    const size_t step = static_cast<size_t>(gridDim.x) * kThreads;
    int sum = 0;
    for (size_t i = begin; i < n; i += step) {
        const int4 x = from[i];
        sum += x.x ^ x.y ^ x.z ^ x.w;
    }
    sums[begin] = sum;
}

// Sixteen lanes a row, 16 bytes a lane; rows by a multiplication that visits each of 2^k rows once.
__global__ void __launch_bounds__(kThreads) read_rows(const int4* from, size_t n_rows, int* sums) {
    const size_t begin = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
    const size_t step = static_cast<size_t>(gridDim.x) * (kThreads / kRowPieces);
    int sum = 0;
    for (size_t i = begin / kRowPieces; i < n_rows; i += step) {
        const size_t row = i * 0x9e3779b1u & (n_rows - 1);
        const int4 x = from[row * kRowPieces + begin % kRowPieces];
        sum += x.x ^ x.y ^ x.z ^ x.w;
    }
    sums[begin] = sum;
}

template <class F>
double best_rate(cudaStream_t stream, size_t n_bytes, int n_rounds, F&& enqueue) {
    double best = 0;
    for (int round = 0; round < n_rounds; ++round) {
        check(cudaStreamSynchronize(stream), "waiting");
        const auto begin = std::chrono::steady_clock::now();
        enqueue();
        check(cudaStreamSynchronize(stream), "measuring");
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        best = std::max(best, static_cast<double>(n_bytes) / seconds);
    }
    return best;
}

}  // namespace

Floors measure_floors(size_t wanted_bytes, int n_rounds) {
    size_t n_rows = 1;
    while (n_rows * 2 * kRowBytes <= wanted_bytes) n_rows *= 2;
    const size_t n_bytes = n_rows * kRowBytes;
    const int n_blocks = static_cast<int>(std::min<size_t>(kBlocks, (n_bytes / 16 + kThreads - 1) / kThreads));
    cudaStream_t stream = nullptr;
    void *device = nullptr, *pinned = nullptr, *mapped = nullptr, *sums = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    check(cudaMalloc(&device, n_bytes), "allocating device memory");
    check(cudaMalloc(&sums, static_cast<size_t>(n_blocks) * kThreads * sizeof(int)), "allocating device memory");
    check(cudaHostAlloc(&pinned, n_bytes, cudaHostAllocMapped), "pinning memory");
    check(cudaHostGetDevicePointer(&mapped, pinned, 0), "mapping pinned memory");
    std::fill_n(static_cast<int*>(pinned), n_bytes / sizeof(int), 1);
    check(cudaMemsetAsync(device, 0, n_bytes, stream), "filling device memory");

    Floors floors;
    floors.device_read = best_rate(stream, n_bytes, n_rounds, [&] {
        launch(read_all, dim3(static_cast<unsigned>(n_blocks)), dim3(kThreads), 0, stream,
               static_cast<const int4*>(device), n_bytes / 16, static_cast<int*>(sums));
    });
    floors.pinned_rows = best_rate(stream, n_bytes, n_rounds, [&] {
        launch(read_rows, dim3(static_cast<unsigned>(n_blocks)), dim3(kThreads), 0, stream,
               static_cast<const int4*>(mapped), n_rows, static_cast<int*>(sums));
    });
    floors.pinned_copy = best_rate(stream, n_bytes, n_rounds, [&] {
        check(cudaMemcpyAsync(device, pinned, n_bytes, cudaMemcpyHostToDevice, stream), "copying pinned memory");
    });
    check(cudaFree(sums), "freeing");
    check(cudaFree(device), "freeing");
    check(cudaFreeHost(pinned), "freeing");
    check(cudaStreamDestroy(stream), "freeing");
    return floors;
}

void copy_on_device(void* to, const void* from, size_t n_bytes) {
    check(cudaMemcpy(to, from, n_bytes, cudaMemcpyDeviceToDevice), "copying in device memory");
}

}  // namespace bench
