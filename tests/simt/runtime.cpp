// CUDA's runtime API on the machine: arguments are checked here, then handed to memory.cpp and streams.cpp.
#include "cuda_runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>

#include "streams.h"

using namespace simt;

uint64_t simt::n_graph_launches = 0, simt::n_made = 0;

namespace {

std::recursive_mutex mutex;  // the machine does one thing at a time, whoever asks
thread_local int depth = 0;  // of calls of the API in one another
struct Call {
    std::lock_guard<std::recursive_mutex> lock{mutex};
    Call() { ++depth; }
    ~Call() { --depth; }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
};
thread_local cudaError_t last_error = cudaSuccess;
std::set<const Event*> events;
std::map<void*, size_t> shared_allowed;
// By thread: how many captures that it began are under way. It may not allocate, free or wait for the device meanwhile:
// CUDA would let it where the capture is a relaxed one, but those are calls that a graph lacks when it is replayed.
std::map<std::thread::id, int> n_captures;
bool is_capturing() { return n_captures[std::this_thread::get_id()] > 0; }

#define LOCK const Call call

cudaError_t done(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

// KCACHE_SIMT_REPORT=1: what a process did is said when it ends, for those who only see it from outside.
struct LastWord {
    ~LastWord() {
        const char* wanted = std::getenv("KCACHE_SIMT_REPORT");
        if (!wanted || *wanted != '1') return;
        std::fprintf(stderr, "simt: %llu graphs launched\n", static_cast<unsigned long long>(n_graph_launches));
    }
} last_word;

std::set<std::pair<uint32_t, uint32_t>> dropped_waits;

bool is_event(const Event* event) { return events.count(event) != 0; }

// Puts work on a stream, or notes it in the capture that the stream is part of.
void issue(Stream& stream, Work work) {
    if (stream.capture) {
        stream.capture->nodes.push_back({stream.capture->lanes[&stream], std::move(work), 0});
    } else {
        enqueue(stream, std::move(work));
    }
}

bool is_pinned_or_device(const void* p) { return find_allocation(reinterpret_cast<uintptr_t>(p)) != nullptr; }

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "cudaSuccess";
        case cudaErrorInvalidValue:
            return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation:
            return "cudaErrorMemoryAllocation";
        case cudaErrorInsufficientDriver:
            return "cudaErrorInsufficientDriver";
        case cudaErrorNoDevice:
            return "cudaErrorNoDevice";
        case cudaErrorInvalidDevice:
            return "cudaErrorInvalidDevice";
        case cudaErrorNotReady:
            return "cudaErrorNotReady";
        case cudaErrorLaunchOutOfResources:
            return "cudaErrorLaunchOutOfResources";
        case cudaErrorStreamCaptureUnsupported:
            return "cudaErrorStreamCaptureUnsupported";
        case cudaErrorStreamCaptureUnjoined:
            return "cudaErrorStreamCaptureUnjoined";
    }
    return "unknown error";
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaGetLastError() {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaDriverGetVersion(int* version) { return *version = 12000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 11080, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return done(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    LOCK;
    if (device != 0) return done(cudaErrorInvalidDevice);
    *p = {};
    std::snprintf(p->name, sizeof p->name, "simulated");
    p->totalGlobalMem = limit_bytes(Space::device);
    p->sharedMemPerBlock = 48 * 1024;
    p->sharedMemPerBlockOptin = 163 * 1024;
    p->major = 8;
    p->multiProcessorCount = 4;
    p->warpSize = 32;
    p->canMapHostMemory = p->unifiedAddressing = 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp p;
    const cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (error != cudaSuccess) return error;
    *value = attribute == cudaDevAttrMultiProcessorCount ? p.multiProcessorCount
                                                         : static_cast<int>(p.sharedMemPerBlockOptin);
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
    LOCK;
    if (is_capturing()) return done(cudaErrorStreamCaptureUnsupported);
    finish_all();
    return cudaSuccess;
}

static cudaError_t allocate_in(Space space, void** memory, size_t n_bytes) {
    LOCK;
    if (is_capturing()) return done(cudaErrorStreamCaptureUnsupported);
    *memory = n_bytes ? allocate(space, n_bytes) : nullptr;
    ++n_made;
    return done(*memory || !n_bytes ? cudaSuccess : cudaErrorMemoryAllocation);
}
static cudaError_t release_in(Space space, void* memory) {
    LOCK;
    if (is_capturing()) return done(cudaErrorStreamCaptureUnsupported);
    return done(!memory || release(space, memory) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaMalloc(void** memory, size_t n_bytes) { return allocate_in(Space::device, memory, n_bytes); }
cudaError_t cudaFree(void* memory) { return release_in(Space::device, memory); }
cudaError_t cudaHostAlloc(void** memory, size_t n_bytes, unsigned) {
    return allocate_in(Space::pinned, memory, n_bytes);
}
cudaError_t cudaFreeHost(void* memory) { return release_in(Space::pinned, memory); }
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
    LOCK;
    const Allocation* allocation = find_allocation(reinterpret_cast<uintptr_t>(host));
    if (!allocation || allocation->space != Space::pinned) return done(cudaErrorInvalidValue);
    *device = host;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* n_free, size_t* n_total) {
    LOCK;
    *n_total = limit_bytes(Space::device);
    *n_free = *n_total - std::min(*n_total, used_bytes(Space::device));
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n_bytes, cudaMemcpyKind, cudaStream_t stream) {
    LOCK;
    if (!is_stream(stream)) return done(cudaErrorInvalidValue);
    if (n_bytes == 0) return cudaSuccess;
    if (!is_pinned_or_device(from) || !is_pinned_or_device(to)) {
        // Memory that is not pinned: CUDA stages it, and returns when the host's side of the copy is free again.
        if (stream->capture) return done(cudaErrorStreamCaptureUnsupported);
    }
    Work work;
    work.kind = WorkKind::copy;
    work.to = to;
    work.from = from;
    work.n_bytes = n_bytes;
    issue(*stream, std::move(work));
    if (!is_pinned_or_device(from) || !is_pinned_or_device(to)) finish(*stream);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t n_bytes, cudaMemcpyKind kind) {
    LOCK;
    if (is_capturing()) return done(cudaErrorStreamCaptureUnsupported);
    finish_all();
    Stream* stream = create_stream();
    const cudaError_t error = cudaMemcpyAsync(to, from, n_bytes, kind, stream);
    destroy_stream(stream);
    return error;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t n_bytes, cudaStream_t stream) {
    LOCK;
    if (!is_stream(stream)) return done(cudaErrorInvalidValue);
    if (n_bytes == 0) return cudaSuccess;
    Work work;
    work.kind = WorkKind::fill;
    work.to = memory;
    work.value = value;
    work.n_bytes = n_bytes;
    issue(*stream, std::move(work));
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    LOCK;
    *stream = create_stream();
    ++n_made;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    LOCK;
    if (!is_stream(stream)) return done(cudaErrorInvalidValue);
    destroy_stream(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    LOCK;
    if (!is_stream(stream)) return done(cudaErrorInvalidValue);
    if (stream->capture) return done(cudaErrorStreamCaptureUnsupported);
    finish(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    LOCK;
    if (!is_stream(stream)) return done(cudaErrorInvalidValue);
    nudge();
    if (!is_idle(*stream)) return cudaErrorNotReady;
    saw(*stream);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    LOCK;
    *event = new Event;
    ++n_made;
    events.insert(*event);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    LOCK;
    if (!is_event(event)) return done(cudaErrorInvalidValue);
    events.erase(event);
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    LOCK;
    if (!is_event(event) || !is_stream(stream)) return done(cudaErrorInvalidValue);
    event->graph = stream->capture;
    if (!stream->capture) {
        record(*stream, *event);
        return cudaSuccess;
    }
    Graph& graph = *stream->capture;
    event->graph_event = graph.n_events++;
    graph.event_lane.push_back(graph.lanes[stream]);
    graph.event_position.push_back(graph.nodes.size());
    graph.nodes.push_back({graph.lanes[stream], Work{}, event->graph_event});
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    LOCK;
    if (!is_event(event) || !is_stream(stream)) return done(cudaErrorInvalidValue);
    if (!event->graph) {
        if (stream->capture) return done(cudaErrorStreamCaptureUnsupported);
        if (dropped_waits.count({stream->number, event->stream})) return cudaSuccess;
        simt::wait(*stream, *event);
        return cudaSuccess;
    }
    if (!stream->capture) {  // joins the capture that the event belongs to
        stream->capture = event->graph;
        event->graph->lanes.emplace(stream, static_cast<int>(event->graph->lanes.size()));
    }
    if (stream->capture != event->graph) return done(cudaErrorStreamCaptureUnsupported);
    Work work;
    work.kind = WorkKind::wait;
    event->graph->nodes.push_back({event->graph->lanes[stream], std::move(work), event->graph_event});
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    LOCK;
    if (!is_event(event)) return done(cudaErrorInvalidValue);
    if (event->graph) return done(cudaErrorStreamCaptureUnsupported);
    finish(*event);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    LOCK;
    if (!is_event(event)) return done(cudaErrorInvalidValue);
    nudge();
    if (!is_done(*event)) return cudaErrorNotReady;
    saw(*event);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    LOCK;
    if (!is_stream(stream) || stream->capture) return done(cudaErrorInvalidValue);
    stream->capture = new Graph;
    stream->capture->lanes.emplace(stream, 0);
    stream->capture->owner = std::this_thread::get_id();
    ++n_captures[stream->capture->owner];
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out) {
    LOCK;
    if (!is_stream(stream) || !stream->capture || stream->capture->lanes[stream] != 0)
        return done(cudaErrorInvalidValue);
    Graph* graph = stream->capture;
    for (const auto& [member, lane] : graph->lanes) member->capture = nullptr;
    --n_captures[graph->owner];
    // Every other lane must end in something that lane 0, directly or by way of others, has waited for.
    std::vector<size_t> known(graph->lanes.size(), 0);  // by lane: nodes before this index are joined
    known[0] = graph->nodes.size();
    for (size_t i = graph->nodes.size(); i-- > 0;) {
        const GraphNode& node = graph->nodes[i];
        if (node.work.kind != WorkKind::wait || i >= known[static_cast<size_t>(node.lane)]) continue;
        size_t& other = known[static_cast<size_t>(graph->event_lane[node.event])];
        other = std::max(other, graph->event_position[node.event] + 1);
    }
    for (size_t i = 0; i < graph->nodes.size(); ++i) {
        if (i >= known[static_cast<size_t>(graph->nodes[i].lane)]) {
            delete graph;
            *out = nullptr;
            return done(cudaErrorStreamCaptureUnjoined);
        }
    }
    *out = graph;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    LOCK;
    *exec = new GraphExec;
    ++n_made;
    (*exec)->nodes = graph->nodes;
    (*exec)->events.resize(graph->n_events);
    (*exec)->lanes.assign(graph->lanes.size(), nullptr);
    for (size_t i = 1; i < graph->lanes.size(); ++i) (*exec)->lanes[i] = create_stream();
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    LOCK;
    if (!exec || !is_stream(stream) || stream->capture) return done(cudaErrorInvalidValue);
    ++n_graph_launches;
    simt::wait(*stream, exec->last);
    for (const GraphNode& node : exec->nodes) {
        Stream& lane = node.lane == 0 ? *stream : *exec->lanes[static_cast<size_t>(node.lane)];
        if (node.work.kind == WorkKind::record) {
            record(lane, exec->events[node.event]);
        } else if (node.work.kind == WorkKind::wait) {
            simt::wait(lane, exec->events[node.event]);
        } else {
            enqueue(lane, node.work);
        }
    }
    record(*stream, exec->last);
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    LOCK;
    for (Stream* lane : exec->lanes) {
        if (lane) destroy_stream(lane);
    }
    delete exec;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    LOCK;
    delete graph;
    return cudaSuccess;
}

bool simt::is_inside() { return depth > 0; }

void simt::drop_waits(uint32_t waiting_stream, uint32_t awaited_stream) {
    LOCK;
    dropped_waits.insert({waiting_stream, awaited_stream});
}

cudaError_t simt::allow_shared(void* kernel, size_t n_bytes) {
    LOCK;
    if (n_bytes > 163 * 1024) return done(cudaErrorInvalidValue);
    shared_allowed[kernel] = n_bytes;
    return cudaSuccess;
}

cudaError_t simt::launch(void* kernel, Invoke invoke, void** arguments, const size_t* argument_bytes, int n_arguments,
                         dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream) {
    LOCK;
    if (!is_stream(stream)) return done(cudaErrorInvalidValue);
    const uint64_t n_threads = uint64_t{block.x} * block.y * block.z;
    if (n_threads == 0 || n_threads > 1024 || !grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535) {
        return done(cudaErrorInvalidValue);
    }
    const auto allowed = shared_allowed.find(kernel);
    if (shared_bytes > (allowed == shared_allowed.end() ? 48 * 1024 : allowed->second))
        return done(cudaErrorInvalidValue);
    Work work;
    work.kind = WorkKind::kernel;
    work.kernel = kernel;
    work.invoke = invoke;
    work.grid = grid;
    work.block = block;
    work.shared_bytes = shared_bytes;
    for (int i = 0; i < n_arguments; ++i) {
        work.argument_offsets.push_back(work.arguments.size());
        const auto* bytes = static_cast<const unsigned char*>(arguments[i]);
        work.arguments.insert(work.arguments.end(), bytes, bytes + argument_bytes[i]);
        work.arguments.resize((work.arguments.size() + 15) / 16 * 16);
    }
    issue(*stream, std::move(work));
    return cudaSuccess;
}
