// The device language: what kernels compute on the machine is what CUDA's definitions say.
#include <cuda_fp16.h>

#include <cmath>
#include <vector>

#include "device/tensor.h"
#include "device/warp.h"
#include "expect.h"
#include "machine.h"

using kc::cuda::launch;

namespace {

cudaStream_t stream;

template <class T>
std::vector<T> to_host(const T* device, size_t n) {
    std::vector<T> host(n);
    EXPECT(cudaMemcpy(host.data(), device, n * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return host;
}

__global__ void vector_add(const float* a, const float* b, int n, float* out) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) out[i] = a[i] + b[i];
}

void adds_vectors() {
    constexpr int n = 1000;
    std::vector<float> a(n), b(n);
    for (int i = 0; i < n; ++i) a[i] = static_cast<float>(i), b[i] = 0.5f * static_cast<float>(i);
    float *da = on_device<float>(n), *db = on_device<float>(n), *dout = on_device<float>(n);
    cudaMemcpy(da, a.data(), n * 4, cudaMemcpyHostToDevice);
    cudaMemcpy(db, b.data(), n * 4, cudaMemcpyHostToDevice);
    launch(vector_add, 8, 128, 0, stream, da, db, n, dout);
    const auto out = to_host(dout, n);
    for (int i = 0; i < n; ++i) EXPECT(out[i] == a[i] + b[i]);
}

// A reduction through shared memory and barriers, the block a ragged number of warps.
__global__ void block_sums(const float* x, float* out) {
    float* shared = kc::cuda::shared_memory<float>();
    const float sum = kc::cuda::block_sum(x[blockIdx.x * blockDim.x + threadIdx.x], shared);
    const float largest = kc::cuda::block_max(x[blockIdx.x * blockDim.x + threadIdx.x], shared);
    if (threadIdx.x == 0) out[2 * blockIdx.x] = sum, out[2 * blockIdx.x + 1] = largest;
}

void reduces_blocks() {
    constexpr int n = 5 * 160;
    std::vector<float> x(n);
    for (int i = 0; i < n; ++i) x[i] = static_cast<float>((i * 37) % 101);
    float *dx = on_device<float>(n), *dout = on_device<float>(10);
    cudaMemcpy(dx, x.data(), n * 4, cudaMemcpyHostToDevice);
    launch(block_sums, 5, 160, 32 * sizeof(float), stream, dx, dout);
    const auto out = to_host(dout, 10);
    for (int b = 0; b < 5; ++b) {
        float sum = 0, largest = 0;
        for (int i = 0; i < 160; ++i) sum += x[b * 160 + i], largest = std::fmax(largest, x[b * 160 + i]);
        EXPECT(out[2 * b] == sum && out[2 * b + 1] == largest);
    }
}

__global__ void lanes(int* out) {
    const int t = static_cast<int>(threadIdx.x);
    int* mine = out + t * 8;
    mine[0] = __shfl_sync(0xffffffff, t, 3);
    mine[1] = __shfl_sync(0xffffffff, t, 5, 8);
    mine[2] = __shfl_up_sync(0xffffffff, t, 2);
    mine[3] = __shfl_down_sync(0xffffffff, t, 2);
    mine[4] = __shfl_xor_sync(0xffffffff, t, 16);
    mine[5] = static_cast<int>(__ballot_sync(0xffffffff, t % 3 == 0));
    mine[6] = __any_sync(0xffffffff, t == 40) * 2 + __all_sync(0xffffffff, t < 32);
    mine[7] = __syncthreads_count(t % 2);
}

void moves_between_lanes() {
    int* dout = on_device<int>(64 * 8);
    launch(lanes, 1, 64, 0, stream, dout);
    const auto out = to_host(dout, 64 * 8);
    for (int t = 0; t < 64; ++t) {
        const int lane = t % 32, base = t - lane;
        unsigned ballot = 0;
        for (int i = 0; i < 32; ++i) ballot |= ((base + i) % 3 == 0 ? 1u : 0u) << i;
        const int* o = &out[t * 8];
        EXPECT(o[0] == base + 3);
        EXPECT(o[1] == base + lane / 8 * 8 + 5);
        EXPECT(o[2] == (lane < 2 ? t : t - 2));
        EXPECT(o[3] == (lane > 29 ? t : t + 2));
        EXPECT(o[4] == (t ^ 16));
        EXPECT(o[5] == static_cast<int>(ballot));
        EXPECT(o[6] == (t < 32 ? 1 : 2));
        EXPECT(o[7] == 32);
    }
}

__global__ void count(int* counters, unsigned* highest) {
    atomicAdd(&counters[threadIdx.x % 4], 1);
    atomicMax(highest, blockIdx.x * blockDim.x + threadIdx.x);
}

void counts_atomically() {
    int* counters = on_device<int>(4);
    unsigned* highest = on_device<unsigned>(1);
    cudaMemsetAsync(counters, 0, 16, stream);
    cudaMemsetAsync(highest, 0, 4, stream);
    launch(count, 7, 64, 0, stream, counters, highest);
    for (const int n : to_host(counters, 4)) EXPECT(n == 7 * 16);
    EXPECT(to_host(highest, 1)[0] == 7 * 64 - 1);
}

__global__ void through_half(const float* x, float* out, int n) {
    const int i = static_cast<int>(threadIdx.x);
    if (i < n) out[i] = __half2float(__float2half_rn(x[i]));
}

void rounds_to_half() {
    const std::vector<float> x = {1.f, 1.0004883f, 1.00048828125f, 65504.f, 65520.f, 6e-8f, 2.9e-8f, -0.1f, 6.1e-5f};
    const std::vector<float> expected = {1.f,           1.f, 1.f,           65504.f,     INFINITY,
                                         5.9604645e-8f, 0.f, -0.099975586f, 6.097555e-5f};
    float *dx = on_device<float>(9), *dout = on_device<float>(9);
    cudaMemcpy(dx, x.data(), 36, cudaMemcpyHostToDevice);
    launch(through_half, 1, 32, 0, stream, dx, dout, 9);
    const auto out = to_host(dout, 9);
    for (int i = 0; i < 9; ++i) EXPECT(out[i] == expected[i]);
}

// Left [16, 48] of floats that no half holds, right [48, 16] of halves, lying both ways.
__global__ void multiply_tiles(const float* left, const float* right, float* by_row, float* by_column) {
    auto* halves = kc::cuda::shared_memory<uint16_t>();
    const kc::cuda::SplitRows split = {halves, halves + 16 * 56, 56};
    uint16_t *rows = halves + 2 * 16 * 56, *columns = rows + 48 * 24;
    for (int i = threadIdx.x; i < 16 * 48; i += 32) {
        split.set(i / 48, i % 48, left[i]);
        rows[i / 16 * 24 + i % 16] = columns[i % 16 * 56 + i / 16] = kc::cuda::to_half(right[i]);
    }
    __syncwarp();
    kc::cuda::tensor_product<kc::cuda::ByRow>(split, 0, 48, rows, 24, by_row, 16);
    kc::cuda::tensor_product<kc::cuda::ByColumn>(split, 16, 48, columns, 56, by_column, 20);
}

void multiplies_tiles() {
    std::vector<float> left(16 * 48), right(48 * 16);
    for (int i = 0; i < 16 * 48; ++i)
        left[i] = std::sin(1.7f * static_cast<float>(i)) * 30.f, right[i] = (i * 29 % 127) / 64.f - 1.f;
    float *dl = on_device<float>(16 * 48), *dr = on_device<float>(16 * 48), *rows = on_device<float>(256),
          *columns = on_device<float>(16 * 20);
    cudaMemcpy(dl, left.data(), left.size() * 4, cudaMemcpyHostToDevice);
    cudaMemcpy(dr, right.data(), right.size() * 4, cudaMemcpyHostToDevice);
    launch(multiply_tiles, 1, 32, 2 * (2 * 16 * 56 + 48 * 24 + 16 * 56), stream, dl, dr, rows, columns);
    const auto by_row = to_host(rows, 256), by_column = to_host(columns, 16 * 20);
    for (int r = 0; r < 16; ++r) {
        for (int c = 0; c < 16; ++c) {
            double all = 0, behind = 0, size = 0;
            for (int k = 0; k < 48; ++k) {
                const double product = double(left[r * 48 + k]) * right[k * 16 + c];
                all += product, behind += k < 16 ? 0 : product, size += std::abs(product);
            }
            EXPECT(std::abs(by_row[r * 16 + c] - all) <= 1e-6 * size);
            EXPECT(std::abs(by_column[r * 20 + c] - behind) <= 1e-6 * size);
        }
    }
}

__global__ void note_order(int* next, int* order) {
    if (threadIdx.x == 0) order[atomicAdd(next, 1)] = static_cast<int>(blockIdx.x);
}

// Blocks run in an order that follows from the seed: another one for another seed, the same for the same.
void orders_blocks_by_seed() {
    std::vector<std::vector<int>> orders;
    for (const uint64_t seed : {0, 7, 8, 7}) {
        simt::set_seed(seed);
        int *next = on_device<int>(1), *order = on_device<int>(64);
        cudaMemsetAsync(next, 0, 4, stream);
        launch(note_order, 64, 32, 0, stream, next, order);
        orders.push_back(to_host(order, 64));
    }
    for (int i = 0; i < 64; ++i) EXPECT(orders[0][i] == i);
    EXPECT(orders[1] != orders[0] && orders[1] != orders[2] && orders[1] == orders[3]);
}

}  // namespace

int main() {
    stream = new_stream();
    adds_vectors();
    reduces_blocks();
    moves_between_lanes();
    counts_atomically();
    rounds_to_half();
    multiplies_tiles();
    orders_blocks_by_seed();
    std::puts("language: ok");
}
