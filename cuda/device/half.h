// Half precision: storage only. All arithmetic is done in float.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace kc::cuda {

__device__ __forceinline__ float from_half(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ __forceinline__ uint16_t to_half(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ __forceinline__ float from_bfloat(uint16_t bits) {
    return __uint_as_float(static_cast<unsigned>(bits) << 16);
}

// Eight halves as they lie in 16 bytes of memory.
struct Halves8 {
    float x[8];
};
__device__ __forceinline__ Halves8 load_halves8(const void* p) {
    const uint4 raw = *static_cast<const uint4*>(p);
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
    Halves8 out;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        out.x[2 * i] = from_half(static_cast<uint16_t>(words[i] & 0xffff));
        out.x[2 * i + 1] = from_half(static_cast<uint16_t>(words[i] >> 16));
    }
    return out;
}

}  // namespace kc::cuda
