// Purpose:  what stands between the products: rms_norm, rope, swiglu, add, embed, softmax, argmax.
// Shapes:   as kcache_ops.h says; x [rows, n].
// Mapping:  rms_norm, softmax, argmax: a block per row; the others: a thread per element or pair.
// Traffic:  every input read once (softmax: twice), every output written once.
// Numerics: float; rope tables in double; sums over a row in a fixed order that depends on the row's length only.
#include "kernels/elementwise.h"

#include "device/half.h"
#include "device/launch.h"
#include "device/warp.h"
#include "kernels/weight_types.h"
#include "memory.h"

namespace kc::cuda {
namespace {

constexpr int kThreads = 256;

unsigned blocks_for(int64_t n) { return static_cast<unsigned>(ceil_div(n, kThreads)); }
__device__ __forceinline__ int64_t element() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

__global__ void __launch_bounds__(kThreads)
    rms_norm_rows(const float* x, const float* weight, int64_t dim, float eps, float* out) {
    x += blockIdx.x * dim;
    out += blockIdx.x * dim;
    float squares = 0.f;
    for (int64_t i = threadIdx.x; i < dim; i += kThreads) squares = fmaf(x[i], x[i], squares);
    squares = block_sum(squares, shared_memory<float>());
    const float scale = 1.f / sqrtf(squares / static_cast<float>(dim) + eps);
    for (int64_t i = threadIdx.x; i < dim; i += kThreads) out[i] = x[i] * scale * weight[i];
}

__global__ void rope_angles(const int32_t* positions, const float* inv_freq, int64_t n, int64_t n_pairs,
                            float magnitude, float* out) {
    const int64_t i = element();
    if (i >= n) return;
    const double angle = static_cast<double>(positions[i / n_pairs]) * static_cast<double>(inv_freq[i % n_pairs]);
    out[2 * i] = static_cast<float>(magnitude * cos(angle));
    out[2 * i + 1] = static_cast<float>(magnitude * sin(angle));
}

__global__ void rotate_pairs(const float* table, int64_t n, int64_t n_heads, int64_t head_dim, int64_t n_pairs,
                             int32_t pairing, float* x) {
    const int64_t i = element();
    if (i >= n) return;
    const int64_t pair = i % n_pairs, row = i / n_pairs;
    const float* angle = table + (row / n_heads * n_pairs + pair) * 2;
    float* head = x + row * head_dim;
    float* first = head + (pairing == KC_ROPE_INTERLEAVED ? 2 * pair : pair);
    float* second = pairing == KC_ROPE_INTERLEAVED ? first + 1 : first + n_pairs;
    const float a = *first, b = *second;
    *first = a * angle[0] - b * angle[1];
    *second = a * angle[1] + b * angle[0];
}

__global__ void gate_and_multiply(const float* gate, const float* up, int64_t n, float* out) {
    const int64_t i = element();
    if (i < n) out[i] = gate[i] / (1.f + expf(-gate[i])) * up[i];
}

__global__ void add_elements(const float* a, const float* b, int64_t n, float* out) {
    const int64_t i = element();
    if (i < n) out[i] = a[i] + b[i];
}

template <int kType>
__global__ void embed_rows(const uint8_t* table, int64_t n_rows, int64_t n_cols, const int32_t* ids, int64_t n,
                           uint32_t* faults, float* out) {
    const int64_t i = element();
    if (i >= n) return;
    const int32_t id = ids[i / n_cols];
    // An id outside the table cannot be refused any more: it is noted, and shows as NaN.
    if ((id < 0 || id >= n_rows) && i % n_cols == 0) atomicOr(faults, kFaultEmbedding);
    out[i] = id < 0 || id >= n_rows ? __int_as_float(0x7fffffff)
                                    : weight_at<kType>(table + id * row_bytes<kType>(n_cols), i % n_cols);
}

__global__ void __launch_bounds__(kThreads) softmax_rows(const float* x, int64_t n, float* out) {
    x += blockIdx.x * n;
    out += blockIdx.x * n;
    float largest = -INFINITY;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) largest = x[i] > largest ? x[i] : largest;
    largest = block_max(largest, shared_memory<float>());
    float sum = 0.f;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) sum += expf(x[i] - largest);
    sum = block_sum(sum, shared_memory<float>());
    const float scale = 1.f / sum;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) out[i] = expf(x[i] - largest) * scale;
}

__global__ void __launch_bounds__(kThreads) argmax_rows(const float* x, int64_t n, int32_t* out) {
    x += blockIdx.x * n;
    // Packed so that the larger wins: the number's rank above, the index, turned round, below. NaN ranks last.
    unsigned long long best = 0;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) {
        const unsigned bits = __float_as_uint(x[i] == 0.f ? 0.f : x[i]);
        const unsigned rank = isnan(x[i]) ? 0u : bits >> 31 ? ~bits : bits | 0x80000000u;
        const unsigned long long packed =
            static_cast<unsigned long long>(rank) << 32 | (0xffffffffu - static_cast<unsigned>(i));
        best = packed > best ? packed : best;
    }
    for (int i = kWarp / 2; i > 0; i /= 2) {
        const unsigned long long other = __shfl_xor_sync(kAllLanes, best, i);
        best = other > best ? other : best;
    }
    unsigned long long* warps = shared_memory<unsigned long long>();
    if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = best;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < kThreads / kWarp; ++w) best = warps[w] > best ? warps[w] : best;
    out[blockIdx.x] = static_cast<int32_t>(0xffffffffu - static_cast<unsigned>(best));
}

constexpr size_t kReduceBytes = 32 * sizeof(unsigned long long);

}  // namespace

void rms_norm(Context& context, const float* x, const float* weight, int64_t n_tokens, int64_t dim, float eps,
              float* out) {
    launch(rms_norm_rows, static_cast<unsigned>(n_tokens), kThreads, kReduceBytes, context.stream(), x, weight, dim,
           eps, out);
}
void rope_table(Context& context, const int32_t* positions, const float* inv_freq, int64_t n_tokens, int64_t n_pairs,
                float magnitude, float* out) {
    const int64_t n = n_tokens * n_pairs;
    launch(rope_angles, blocks_for(n), kThreads, 0, context.stream(), positions, inv_freq, n, n_pairs, magnitude, out);
}
void rope(Context& context, const float* table, int64_t n_tokens, int64_t n_heads, int64_t head_dim, int64_t n_pairs,
          int32_t pairing, float* x) {
    const int64_t n = n_tokens * n_heads * n_pairs;
    launch(rotate_pairs, blocks_for(n), kThreads, 0, context.stream(), table, n, n_heads, head_dim, n_pairs, pairing,
           x);
}
void swiglu(Context& context, const float* gate, const float* up, int64_t n, float* out) {
    launch(gate_and_multiply, blocks_for(n), kThreads, 0, context.stream(), gate, up, n, out);
}
void add(Context& context, const float* a, const float* b, int64_t n, float* out) {
    launch(add_elements, blocks_for(n), kThreads, 0, context.stream(), a, b, n, out);
}
void embed(Context& context, const kc_matrix& table, const int32_t* ids, int64_t n_tokens, float* out) {
    const int64_t n = n_tokens * table.n_cols;
    for_weight_type(table.type, [&](auto type) {
        launch(embed_rows<decltype(type)::value>, blocks_for(n), kThreads, 0, context.stream(),
               static_cast<const uint8_t*>(table.data), table.n_rows, table.n_cols, ids, n, context.faults(), out);
    });
}
void softmax(Context& context, const float* x, int64_t n_rows, int64_t n_cols, float* out) {
    launch(softmax_rows, static_cast<unsigned>(n_rows), kThreads, kReduceBytes, context.stream(), x, n_cols, out);
}
void argmax(Context& context, const float* x, int64_t n_rows, int64_t n_cols, int32_t* out) {
    launch(argmax_rows, static_cast<unsigned>(n_rows), kThreads, kReduceBytes, context.stream(), x, n_cols, out);
}

}  // namespace kc::cuda
