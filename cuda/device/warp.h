// What a warp knows: lanes, reductions in a fixed order, and the block's shared window.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// The dynamic shared memory of a block. Kernels lay a struct or arrays over it; there are no static shared arrays.
extern __shared__ __align__(128) unsigned char shared_window[];

namespace kc::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
__device__ __forceinline__ T* shared_memory(size_t offset_bytes = 0) {
    return reinterpret_cast<T*>(shared_window + offset_bytes);
}

// Sum or maximum over `width` adjacent lanes (a power of two); every lane gets it. The order of the additions is fixed.
template <class T>
__device__ __forceinline__ T lanes_sum(T x, int width = kWarp) {
    for (int i = width / 2; i > 0; i /= 2) x += __shfl_xor_sync(kAllLanes, x, i);
    return x;
}
__device__ __forceinline__ float lanes_max(float x, int width = kWarp) {
    for (int i = width / 2; i > 0; i /= 2) {
        const float other = __shfl_xor_sync(kAllLanes, x, i);
        x = other > x ? other : x;
    }
    return x;
}

// Sum over all threads of a block, in a fixed order; every thread gets it. `shared` holds 32 values of T.
template <class T>
__device__ T block_sum(T x, T* shared) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp,
              n_warps = (static_cast<int>(blockDim.x) + kWarp - 1) / kWarp;
    x = lanes_sum(x);
    __syncthreads();
    if (threadIdx.x % kWarp == 0) shared[warp] = x;
    __syncthreads();
    T sum = shared[0];
    for (int i = 1; i < n_warps; ++i) sum += shared[i];
    return sum;
}
__device__ inline float block_max(float x, float* shared) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp,
              n_warps = (static_cast<int>(blockDim.x) + kWarp - 1) / kWarp;
    x = lanes_max(x);
    __syncthreads();
    if (threadIdx.x % kWarp == 0) shared[warp] = x;
    __syncthreads();
    float largest = shared[0];
    for (int i = 1; i < n_warps; ++i) largest = shared[i] > largest ? shared[i] : largest;
    return largest;
}

}  // namespace kc::cuda
