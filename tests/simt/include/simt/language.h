// The device language as plain C++: what nvcc knows by itself, answered by the machine. Everything that must not be
// watched by the shadow memory (indices, barriers, exchanges) is a call into the machine, which is compiled without
// instrumentation. Source lines travel as default arguments, so that a report can name the barrier.
//
// Deliberately missing, because kernels here do without: static __shared__ arrays (a kernel declares one dynamic
// window), partial warp masks, __activemask, textures, dynamic parallelism, cooperative grids.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __align__(n) __attribute__((aligned(n)))
#define __forceinline__ inline
#define __launch_bounds__(...)
// Only `extern __shared__ ... name[]` is understood: the name is the machine's shared window. On anything else the
// attribute is an error (-Werror=attributes), for a block-local array would silently become one per thread.
#define __shared__ __attribute__((visibility("default")))

#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

namespace simt {

// Where the running thread stands. Constant for a thread's whole life, so the compiler may call once.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) dim3 block_size();
__attribute__((const)) dim3 grid_size();
__attribute__((const)) int lane();

enum class Vote { none, any, all, count };
int block_barrier(Vote vote, int predicate, const char* file, int line);
void warp_barrier(unsigned mask, const char* file, int line);
// What lane `source` put in; every lane of the warp must come, to the same line.
uint64_t warp_exchange(unsigned mask, uint64_t bits, int source, const char* file, int line);
unsigned warp_ballot(unsigned mask, bool predicate, const char* file, int line);

// Tells the shadow memory of an atomic access; throws nothing, ends the process if it is wrong.
void atomic_access(const void* address, size_t n_bytes, void* caller);

template <class T>
T exchange(unsigned mask, T value, int source, const char* file, int line) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    bits = warp_exchange(mask, bits, source, file, line);
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}

}  // namespace simt

// Objects without a value of their own: a component asks the machine when it is used.
namespace simt {

template <auto Where, auto Component>
struct Index {
    operator unsigned() const { return Where().*Component; }
};
template <auto Where, class Triple>
struct Indices {
    Index<Where, &Triple::x> x;
    Index<Where, &Triple::y> y;
    Index<Where, &Triple::z> z;
};

}  // namespace simt

inline const simt::Indices<&simt::thread_index, uint3> threadIdx = {};
inline const simt::Indices<&simt::block_index, uint3> blockIdx = {};
inline const simt::Indices<&simt::block_size, dim3> blockDim = {};
inline const simt::Indices<&simt::grid_size, dim3> gridDim = {};
constexpr int warpSize = 32;

inline void __syncthreads(SIMT_SITE) { simt::block_barrier(simt::Vote::none, 0, file, line); }
inline int __syncthreads_or(int p, SIMT_SITE) { return simt::block_barrier(simt::Vote::any, p, file, line); }
inline int __syncthreads_and(int p, SIMT_SITE) { return simt::block_barrier(simt::Vote::all, p, file, line); }
inline int __syncthreads_count(int p, SIMT_SITE) { return simt::block_barrier(simt::Vote::count, p, file, line); }
inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_SITE) { simt::warp_barrier(mask, file, line); }
inline void __threadfence() {}
inline void __threadfence_block() {}

inline unsigned __ballot_sync(unsigned mask, int p, SIMT_SITE) { return simt::warp_ballot(mask, p != 0, file, line); }
inline int __any_sync(unsigned mask, int p, SIMT_SITE) { return simt::warp_ballot(mask, p != 0, file, line) != 0; }
inline int __all_sync(unsigned mask, int p, SIMT_SITE) { return simt::warp_ballot(mask, p == 0, file, line) == 0; }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_SITE) {
    const int base = simt::lane() & ~(width - 1);
    return simt::exchange(mask, value, base | (source & (width - 1)), file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_SITE) {
    const int lane = simt::lane(), source = lane - static_cast<int>(delta);
    return simt::exchange(mask, value, source < (lane & ~(width - 1)) ? lane : source, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_SITE) {
    const int lane = simt::lane(), source = lane + static_cast<int>(delta);
    return simt::exchange(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SIMT_SITE) {
    const int lane = simt::lane(), source = lane ^ lane_mask;
    return simt::exchange(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}

// Atomics: one operation at a time is all there is on this machine, so the arithmetic is plain; only the shadow memory
// must know that it was atomic.
#define SIMT_ATOMIC(NAME, EXPRESSION)                                                \
    template <class T, class U>                                                      \
    __attribute__((noinline, no_sanitize("thread"))) T NAME(T* address, U operand) { \
        simt::atomic_access(address, sizeof(T), __builtin_return_address(0));        \
        const T old = *address, value = static_cast<T>(operand);                     \
        *address = EXPRESSION;                                                       \
        return old;                                                                  \
    }
SIMT_ATOMIC(atomicAdd, old + value)
SIMT_ATOMIC(atomicMax, value > old ? value : old)
SIMT_ATOMIC(atomicMin, value < old ? value : old)
SIMT_ATOMIC(atomicOr, old | value)
SIMT_ATOMIC(atomicAnd, old& value)
SIMT_ATOMIC(atomicExch, (static_cast<void>(old), value))
#undef SIMT_ATOMIC
template <class T>
__attribute__((noinline, no_sanitize("thread"))) T atomicCAS(T* address, T expected, T desired) {
    simt::atomic_access(address, sizeof(T), __builtin_return_address(0));
    const T old = *address;
    if (old == expected) *address = desired;
    return old;
}

// Arithmetic that CUDA has as functions.
template <class T>
inline T __ldg(const T* p) {
    return *p;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline float __uint_as_float(unsigned x) {
    float f;
    __builtin_memcpy(&f, &x, 4);
    return f;
}
inline unsigned __float_as_uint(float x) {
    unsigned u;
    __builtin_memcpy(&u, &x, 4);
    return u;
}
inline float __int_as_float(int x) { return __uint_as_float(static_cast<unsigned>(x)); }
inline int __float_as_int(float x) { return static_cast<int>(__float_as_uint(x)); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline int __float2int_rn(float a) { return static_cast<int>(std::nearbyint(a)); }
// Four products of signed bytes, added to c.
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 32; i += 8) c += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
    return c;
}
// Four bytes picked out of the eight of b:a, by the low three bits of each nibble of `selector`.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; ++i) out |= static_cast<unsigned>(bytes >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
    return out;
}
inline float rsqrtf(float a) { return 1.f / std::sqrt(a); }
using std::fma;
using std::isfinite;
using std::isnan;
template <class T>
inline T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
inline T max(T a, T b) {
    return a < b ? b : a;
}
