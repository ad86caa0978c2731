// The runtime: work runs late and in every order that the program allows, graphs replay what was captured, memory has
// limits.
#include <set>
#include <vector>

#include "expect.h"
#include "machine.h"

using kc::cuda::launch;

namespace {

__global__ void append(int* list, int* n, int value) {
    if (threadIdx.x == 0) list[atomicAdd(n, 1)] = value;
}
__global__ void times_ten_plus(int* x, int digit) {
    if (threadIdx.x == 0) *x = *x * 10 + digit;
}
__global__ void add_from(const int* from, int* x) {
    if (threadIdx.x == 0) *x += *from;
}

int read_int(const int* device) {
    int value;
    EXPECT(cudaMemcpy(&value, device, sizeof value, cudaMemcpyDeviceToHost) == cudaSuccess);
    return value;
}

// Two streams without an order between them: over some seeds both orders are seen; one stream keeps its own order
// always.
void mixes_streams() {
    std::set<std::vector<int>> orders;
    for (uint64_t seed = 1; seed <= 40; ++seed) {
        simt::set_seed(seed);
        const cudaStream_t a = new_stream(), b = new_stream(), first = new_stream();
        int *list = on_device<int>(4), *n = on_device<int>(1), host[4];
        cudaMemsetAsync(n, 0, 4, first);
        cudaStreamSynchronize(first);
        launch(append, 1, 32, 0, a, list, n, 1);
        launch(append, 1, 32, 0, b, list, n, 3);
        launch(append, 1, 32, 0, a, list, n, 2);
        launch(append, 1, 32, 0, b, list, n, 4);
        cudaMemcpy(host, list, sizeof host, cudaMemcpyDeviceToHost);
        std::vector<int> order(host, host + 4);
        size_t at[5];
        for (size_t i = 0; i < 4; ++i) at[order[i]] = i;
        EXPECT(at[1] < at[2] && at[3] < at[4]);
        orders.insert(order);
        cudaStreamDestroy(a), cudaStreamDestroy(b), cudaStreamDestroy(first);
    }
    EXPECT(orders.size() == 6);  // all interleavings of two and two
}

// Nothing runs before somebody waits.
void runs_late() {
    simt::set_seed(1);
    const cudaStream_t stream = new_stream();
    const cudaEvent_t event = new_event();
    int* x = on_device<int>(1);
    cudaMemsetAsync(x, 0, 4, stream);
    cudaEventRecord(event, stream);
    launch(times_ten_plus, 1, 32, 0, stream, x, 7);
    EXPECT(cudaEventSynchronize(event) == cudaSuccess);
    EXPECT(cudaEventQuery(event) == cudaSuccess);
    int n_asked = 0;
    while (cudaStreamQuery(stream) == cudaErrorNotReady) EXPECT(++n_asked < 1000);
    EXPECT(read_int(x) == 7);
}

void waits_for_events() {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        simt::set_seed(seed);
        const cudaStream_t a = new_stream(), b = new_stream();
        const cudaEvent_t one = new_event(), two = new_event();
        int* x = on_device<int>(1);
        cudaMemsetAsync(x, 0, 4, a);
        launch(times_ten_plus, 1, 32, 0, a, x, 1);
        cudaEventRecord(one, a);
        cudaStreamWaitEvent(b, one, 0);
        launch(times_ten_plus, 1, 32, 0, b, x, 2);
        cudaEventRecord(two, b);
        cudaStreamWaitEvent(a, two, 0);
        launch(times_ten_plus, 1, 32, 0, a, x, 3);
        EXPECT(read_int(x) == 123);
    }
}

// A capture with a second stream that forks off and joins; replayed, it computes the same again, on other data in
// between.
void replays_graphs() {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        simt::set_seed(seed);
        const cudaStream_t main = new_stream(), side = new_stream();
        const cudaEvent_t forked = new_event(), joined = new_event();
        int *x = on_device<int>(1), *y = on_device<int>(1);
        EXPECT(cudaStreamBeginCapture(main, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
        cudaMemsetAsync(y, 0, 4, main);
        cudaEventRecord(forked, main);
        cudaStreamWaitEvent(side, forked, 0);
        launch(times_ten_plus, 1, 32, 0, side, y, 4);
        launch(times_ten_plus, 1, 32, 0, side, y, 2);
        cudaEventRecord(joined, side);
        launch(times_ten_plus, 1, 32, 0, main, x, 1);
        EXPECT(cudaStreamSynchronize(main) == cudaErrorStreamCaptureUnsupported);
        cudaStreamWaitEvent(main, joined, 0);
        launch(add_from, 1, 32, 0, main, y, x);
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        EXPECT(cudaStreamEndCapture(main, &graph) == cudaSuccess);
        EXPECT(cudaGraphInstantiateWithFlags(&exec, graph, 0) == cudaSuccess);
        cudaMemsetAsync(x, 0, 4, main);
        for (int i = 0; i < 3; ++i) EXPECT(cudaGraphLaunch(exec, main) == cudaSuccess);
        EXPECT(cudaStreamSynchronize(main) == cudaSuccess);
        EXPECT(read_int(x) == (((1 + 42) * 10 + 1) + 42) * 10 + 1 + 42);
        cudaGraphExecDestroy(exec), cudaGraphDestroy(graph);
    }
}

void refuses_unjoined_captures() {
    const cudaStream_t main = new_stream(), side = new_stream();
    const cudaEvent_t forked = new_event();
    int* x = on_device<int>(1);
    cudaStreamBeginCapture(main, cudaStreamCaptureModeThreadLocal);
    cudaEventRecord(forked, main);
    cudaStreamWaitEvent(side, forked, 0);
    cudaMemsetAsync(x, 0, 4, side);
    cudaGraph_t graph;
    EXPECT(cudaStreamEndCapture(main, &graph) == cudaErrorStreamCaptureUnjoined);
}

void has_limits() {
    simt::set_limit_bytes(simt::Space::pinned, 1 << 20);
    void *a, *b;
    EXPECT(cudaHostAlloc(&a, 800 << 10, cudaHostAllocDefault) == cudaSuccess);
    EXPECT(cudaHostAlloc(&b, 800 << 10, cudaHostAllocDefault) == cudaErrorMemoryAllocation);
    EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess);
    EXPECT(cudaFreeHost(a) == cudaSuccess && cudaFreeHost(a) == cudaErrorInvalidValue);
    EXPECT(cudaHostAlloc(&b, 800 << 10, cudaHostAllocDefault) == cudaSuccess);
    cudaGetLastError();
    int* x = on_device<int>(1);
    const cudaStream_t stream = new_stream();
    launch(times_ten_plus, 1, 32, 0, stream, x, 1);  // never waited for
    try {
        launch(times_ten_plus, 1, 2048, 0, stream, x, 1);
        EXPECT(!"a block of 2048 threads was launched");
    } catch (const kc::Error& error) {
        EXPECT(std::string(error.what()).find("cudaErrorInvalidValue") != std::string::npos);
    }
}

}  // namespace

int main() {
    mixes_streams();
    runs_late();
    waits_for_events();
    replays_graphs();
    refuses_unjoined_captures();
    has_limits();
    std::puts("runtime: ok");
}
