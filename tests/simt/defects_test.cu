// Planted defects: each runs in a child process, which must die with the sentence that names it. Beside every defect
// stands its sound twin, which must live: a machine that condemns everything would prove nothing.
#include <cstring>
#include <string>

#include "child.h"
#include "device/tensor.h"
#include "device/warp.h"
#include "expect.h"
#include "machine.h"

using kc::cuda::launch;
using kc::cuda::shared_memory;

namespace {

cudaStream_t stream;

__global__ void fill(int* out, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) out[i] = i;
}

// Reads one past the last element.
__global__ void sum_up_to(const int* x, int n, int* out) {
    int sum = 0;
    for (int i = 0; i < n; ++i) sum += x[i];
    *out = sum;
}
void out_of_bounds(bool planted) {
    int *x = on_device<int>(10), *out = on_device<int>(1);
    launch(fill, 1, 32, 0, stream, x, 10);
    launch(sum_up_to, 1, 1, 0, stream, x, planted ? 11 : 10, out);
    cudaStreamSynchronize(stream);
}
void unwritten(bool planted) {
    int *x = on_device<int>(10), *out = on_device<int>(1);
    launch(fill, 1, 32, 0, stream, x, planted ? 9 : 10);
    launch(sum_up_to, 1, 1, 0, stream, x, 10, out);
    cudaStreamSynchronize(stream);
}
void used_after_free(bool planted) {
    int *x = on_device<int>(10), *out = on_device<int>(1);
    launch(fill, 1, 32, 0, stream, x, 10);
    launch(sum_up_to, 1, 1, 0, stream, x, 10, out);
    if (!planted) cudaStreamSynchronize(stream);
    cudaFree(x);
    cudaStreamSynchronize(stream);
}
void host_memory_in_kernel(bool planted) {
    int on_host[10] = {}, *out = on_device<int>(1), *x = pinned<int>(10);
    std::memset(x, 0, 40);
    launch(sum_up_to, 1, 1, 0, stream, planted ? on_host : x, 10, out);
    cudaStreamSynchronize(stream);
}

void host_reads_device(bool planted) {
    int *x = on_device<int>(10), copy[10];
    launch(fill, 1, 32, 0, stream, x, 10);
    cudaStreamSynchronize(stream);
    cudaMemcpy(copy, x, sizeof copy, cudaMemcpyDeviceToHost);
    EXPECT((planted ? *static_cast<volatile int*>(x + 3) : copy[3]) == 3);
}

__global__ void reverse(int* x, int barrier) {
    int* shared = shared_memory<int>();
    const unsigned i = threadIdx.x, n = blockDim.x;
    shared[n - 1 - i] = 0;  // so that the missing barrier is the only defect
    __syncthreads();
    shared[i] = x[i];
    if (barrier) __syncthreads();
    x[i] = shared[n - 1 - i];
}
void missing_barrier(bool planted) {
    int* x = on_device<int>(64);
    launch(fill, 1, 64, 0, stream, x, 64);
    launch(reverse, 1, 64, 64 * sizeof(int), stream, x, planted ? 0 : 1);
    cudaStreamSynchronize(stream);
}
void shared_window_overrun(bool planted) {
    int* x = on_device<int>(64);
    launch(fill, 1, 64, 0, stream, x, 64);
    launch(reverse, 1, 64, (planted ? 63 : 64) * sizeof(int), stream, x, 1);
    cudaStreamSynchronize(stream);
}
__global__ void read_shared(int* x, int write) {
    int* shared = shared_memory<int>();
    if (write) shared[threadIdx.x] = 1;
    x[blockIdx.x * blockDim.x + threadIdx.x] = shared[threadIdx.x];
}
void unwritten_shared(bool planted) {
    int* x = on_device<int>(64);
    launch(read_shared, 2, 32, 32 * sizeof(int), stream, x, 1);
    launch(read_shared, 1, 32, 32 * sizeof(int), stream, x, planted ? 0 : 1);
    cudaStreamSynchronize(stream);
}

__global__ void neighbours(int* x, int sync) {
    int* shared = shared_memory<int>();
    shared[threadIdx.x] = 0;
    __syncwarp();
    shared[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (sync) __syncwarp();
    x[threadIdx.x] = shared[threadIdx.x ^ 1];
}
void missing_syncwarp(bool planted) {
    int* x = on_device<int>(32);
    launch(neighbours, 1, 32, 32 * sizeof(int), stream, x, planted ? 0 : 1);
    cudaStreamSynchronize(stream);
}

__global__ void half_synchronises(int* x, int n) {
    if (static_cast<int>(threadIdx.x) < n) __syncthreads();
    if (n < static_cast<int>(blockDim.x)) __syncthreads();
    x[threadIdx.x] = 1;
}
void divergent_barrier(bool planted) {
    int* x = on_device<int>(64);
    launch(half_synchronises, 1, 64, 0, stream, x, planted ? 32 : 64);
    cudaStreamSynchronize(stream);
}
__global__ void returns_early(int* x, int n) {
    if (static_cast<int>(threadIdx.x) >= n) return;
    __syncthreads();
    x[threadIdx.x] = 1;
}
void barrier_after_return(bool planted) {
    int* x = on_device<int>(64);
    launch(returns_early, 1, 64, 0, stream, x, planted ? 32 : 64);
    cudaStreamSynchronize(stream);
}
__global__ void part_of_a_warp_shuffles(int* x, int n) {
    int value = 0;
    if (static_cast<int>(threadIdx.x) < n) value = __shfl_xor_sync(0xffffffff, 1, 1);
    x[threadIdx.x] = value;
}
void divergent_shuffle(bool planted) {
    int* x = on_device<int>(32);
    launch(part_of_a_warp_shuffles, 1, 32, 0, stream, x, planted ? 16 : 32);
    cudaStreamSynchronize(stream);
}

__global__ void multiply_tile(float* out, int n_lanes, int shift, int n_written) {
    auto* halves = shared_memory<uint16_t>();
    for (int i = threadIdx.x; i < n_written; i += 32) halves[i] = 0;
    __syncwarp();
    const kc::cuda::SplitRows left = {halves + shift, halves + 256 + shift, 16};
    if (static_cast<int>(threadIdx.x) < n_lanes)
        kc::cuda::tensor_product<kc::cuda::ByRow>(left, 0, 16, halves + 512, 16, out, 16);
}
void part_of_a_warp_multiplies(bool planted) {
    launch(multiply_tile, 1, 32, 2048, stream, on_device<float>(256), planted ? 31 : 32, 0, 1024);
    cudaStreamSynchronize(stream);
}
void unwritten_tile(bool planted) {
    launch(multiply_tile, 1, 32, 2048, stream, on_device<float>(256), 32, 0, planted ? 767 : 1024);
    cudaStreamSynchronize(stream);
}
__global__ void sum_of_tile(const float* tile, float* out) {
    if (threadIdx.x == 0) *out = tile[0] + tile[255];
}
// What store_matrix_sync wrote counts as written.
void tile_read_back(bool planted) {
    float *tile = on_device<float>(257), *out = on_device<float>(1);
    launch(multiply_tile, 1, 32, 2048, stream, tile, 32, 0, 1024);
    launch(sum_of_tile, 1, 32, 0, stream, static_cast<const float*>(planted ? tile + 1 : tile), out);
    cudaStreamSynchronize(stream);
}
void misaligned_tile(bool planted) {
    launch(multiply_tile, 1, 32, 2048, stream, on_device<float>(256), 32, planted ? 8 : 0, 1024);
    cudaStreamSynchronize(stream);
}

__global__ void pass_through_memory(int* x, int shift) {
    if (threadIdx.x == 0) x[blockIdx.x] = 1;
    if (threadIdx.x == 0) x[gridDim.x + blockIdx.x] = x[(blockIdx.x + static_cast<unsigned>(shift)) % gridDim.x];
}
void blocks_exchange(bool planted) {
    int* x = on_device<int>(8);
    launch(fill, 1, 32, 0, stream, x, 8);
    launch(pass_through_memory, 4, 32, 0, stream, x, planted ? 1 : 0);
    cudaStreamSynchronize(stream);
}
__global__ void tally(int* x, int atomically) {
    if (threadIdx.x != 0) return;
    if (atomically)
        atomicAdd(x, 1);
    else
        *x += 1;
}
void plain_counter(bool planted) {
    int* x = on_device<int>(1);
    launch(fill, 1, 32, 0, stream, x, 1);
    launch(tally, 4, 32, 0, stream, x, planted ? 0 : 1);
    cudaStreamSynchronize(stream);
}
__global__ void lend_local(int** slot, int* out, int lend) {
    int mine = static_cast<int>(threadIdx.x);
    if (threadIdx.x == 0) *slot = lend ? &mine : out;
    __syncthreads();
    if (threadIdx.x == 1) **slot = 7;
    __syncthreads();
    if (threadIdx.x == 0) out[1] = mine;
}
void foreign_local_memory(bool planted) {
    int** slot = on_device<int*>(1);
    launch(lend_local, 1, 32, 0, stream, slot, on_device<int>(2), planted ? 1 : 0);
    cudaStreamSynchronize(stream);
}

// One stream pushes rows to pinned memory, another fetches them from there.
void missing_event(bool planted) {
    const cudaStream_t push = new_stream(), fetch = new_stream();
    const cudaEvent_t pushed = new_event();
    int *rows = on_device<int>(64), *home = pinned<int>(64), *sum = on_device<int>(1);
    launch(fill, 2, 32, 0, push, rows, 64);
    cudaMemcpyAsync(home, rows, 256, cudaMemcpyDeviceToHost, push);
    cudaEventRecord(pushed, push);
    if (!planted) cudaStreamWaitEvent(fetch, pushed, 0);
    launch(sum_up_to, 1, 1, 0, fetch, home, 64, sum);
    cudaStreamSynchronize(fetch);
    cudaStreamSynchronize(push);
}
// A buffer is filled anew while the last reader's kernel may still run.
void reused_in_flight(bool planted) {
    const cudaStream_t compute = new_stream(), copies = new_stream();
    const cudaEvent_t read = new_event(), filled = new_event();
    int *x = on_device<int>(64), *home = pinned<int>(64), *sum = on_device<int>(1);
    for (int round = 0; round < 2; ++round) {
        if (round == 1 && !planted) cudaStreamWaitEvent(copies, read, 0);
        cudaMemcpyAsync(x, home, 256, cudaMemcpyHostToDevice, copies);
        cudaEventRecord(filled, copies);
        cudaStreamWaitEvent(compute, filled, 0);
        launch(sum_up_to, 1, 1, 0, compute, x, 64, sum);
        cudaEventRecord(read, compute);
    }
    cudaStreamSynchronize(compute);
}
void freed_in_flight(bool planted) {
    int *x = on_device<int>(64), *home = pinned<int>(64);
    launch(fill, 2, 32, 0, stream, x, 64);
    cudaMemcpyAsync(home, x, 256, cudaMemcpyDeviceToHost, stream);
    if (!planted) cudaStreamSynchronize(stream);
    cudaFreeHost(home);
    cudaStreamSynchronize(stream);
}
void host_reads_too_early(bool planted) {
    int *x = on_device<int>(64), *home = pinned<int>(64);
    launch(fill, 2, 32, 0, stream, x, 64);
    cudaMemcpyAsync(home, x, 256, cudaMemcpyDeviceToHost, stream);
    if (!planted) cudaStreamSynchronize(stream);
    EXPECT(home[5] == 5);
}
void host_overwrites_in_flight(bool planted) {
    int *x = on_device<int>(64), *home = pinned<int>(1024);
    cudaMemcpyAsync(x, home, 256, cudaMemcpyHostToDevice, stream);
    home[64] = 1;  // the same page, but not the same bytes: allowed
    if (!planted) cudaStreamSynchronize(stream);
    home[5] = 1;
    cudaStreamSynchronize(stream);
}
void host_overwrites_held_page(bool planted) {
    int *x = on_device<int>(64), *home = pinned<int>(1024);
    cudaMemcpyAsync(x, home, 256, cudaMemcpyHostToDevice, stream);
    if (!planted) cudaStreamSynchronize(stream);
    home[5] = 1;
    cudaStreamSynchronize(stream);
}

struct Case {
    const char* name;
    void (*run)(bool planted);
    const char* sentence;
};
const Case cases[] = {
    {"read out of bounds", out_of_bounds, "40 bytes into allocation 1 of 40 bytes"},
    {"read of unwritten memory", unwritten, "nothing was ever written there"},
    {"kernel after free", used_after_free, "was freed"},
    {"host memory in a kernel", host_memory_in_kernel, "memory of the host"},
    {"host read of device memory", host_reads_device, "the host touches device memory"},
    {"missing barrier", missing_barrier, "and no barrier lies between"},
    {"shared window overrun", shared_window_overrun, "byte 252 of a shared window of 252 bytes"},
    {"read of unwritten shared memory", unwritten_shared, "nothing was ever written there"},
    {"missing __syncwarp", missing_syncwarp, "and no barrier lies between"},
    {"divergent barrier", divergent_barrier, "divergent barrier"},
    {"barrier after a return", barrier_after_return, "divergent barrier"},
    {"divergent shuffle", divergent_shuffle, "divergent"},
    {"divergent product of tiles", part_of_a_warp_multiplies, "divergent"},
    {"tile that nothing wrote", unwritten_tile, "nothing was ever written there"},
    {"read behind a stored tile", tile_read_back, "nothing was ever written there"},
    {"misaligned tile", misaligned_tile, "tiles lie on multiples of 32 bytes"},
    {"blocks that exchange data", blocks_exchange, "blocks have no order"},
    {"plain shared counter", plain_counter, "blocks have no order"},
    {"another thread's local memory", foreign_local_memory, "local memory of another thread"},
    {"missing event between push and fetch", missing_event, "and nothing orders the two"},
    {"buffer filled anew in flight", reused_in_flight, "and nothing orders the two"},
    {"buffer freed in flight", freed_in_flight, "is freed while a copy that uses it is pending"},
    {"host read before the copy's end", host_reads_too_early, "a pending copy has yet to fill it"},
    {"host write during a copy", host_overwrites_held_page, "a pending copy still reads it"},
};

// Runs one case in a child; returns what it said and how it ended.
std::string run(const Case& c, bool planted, uint64_t seed, int* status) {
    return run_in_child(
        [&] {
            simt::set_seed(seed);
            stream = new_stream();
            c.run(planted);
        },
        status);
}

}  // namespace

int main() {
    int n_failed = 0;
    for (const Case& c : cases) {
        for (const bool planted : {false, true}) {
            for (const uint64_t seed : {0, 1, 2, 3}) {
                int status;
                const std::string said = run(c, planted, seed, &status);
                const bool died = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
                const bool named = said.find(c.sentence) != std::string::npos &&
                                   said.find("KCACHE_SIMT_SEED=" + std::to_string(seed)) != std::string::npos;
                if (planted ? died && named : status == 0 && said.empty()) continue;
                ++n_failed;
                std::printf("%s (%s, seed %llu): status %x, said:\n%s\n", c.name, planted ? "planted" : "sound",
                            static_cast<unsigned long long>(seed), static_cast<unsigned>(status), said.c_str());
            }
        }
    }
    int status;
    const Case neighbour = {"host write beside a copy", host_overwrites_in_flight, ""};
    if (run(neighbour, false, 1, &status); status != 0)
        ++n_failed, std::puts("a write beside a held range was condemned");
    std::printf("defects: %zu kinds, %d failures\n", sizeof cases / sizeof *cases, n_failed);
    return n_failed != 0;
}
