// The one way in which a kernel is started, and the one way in which a failed CUDA call becomes an Error. A kernel
// takes plain structs by value. No <<< >>>, so that these files are C++ for every compiler.
#pragma once

#include <cuda_runtime.h>

#include "core/error.h"

namespace kc::cuda {

inline void check(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    cudaGetLastError();
    fail(error == cudaErrorMemoryAllocation ? KC_ERR_MEMORY : KC_ERR_INTERNAL, "CUDA: %s failed: %s (%s)", what,
         cudaGetErrorString(error), cudaGetErrorName(error));
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            const A&... arguments) {
    static_assert(sizeof...(P) == sizeof...(A), "one argument for every parameter");
    if (shared_bytes > 48 * 1024) {
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
              "asking for shared memory above 48 KiB");
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    check(cudaLaunchKernelEx(&config, kernel, arguments...), "launching a kernel");
}

}  // namespace kc::cuda
