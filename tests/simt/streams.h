// Work, streams, events and graphs as streams.cpp and runtime.cpp know them.
#pragma once

#include <deque>
#include <map>
#include <thread>

#include "machine.h"

namespace simt {

enum class WorkKind : uint8_t { record, wait, kernel, copy, fill };

struct Work {
    WorkKind kind = WorkKind::record;
    uint32_t number = 0, sequence = 0;
    Clock clock;
    // kernel
    void* kernel = nullptr;
    Invoke invoke = nullptr;
    std::vector<unsigned char> arguments;
    std::vector<size_t> argument_offsets;
    std::vector<void*> pointers;  // to each argument, once the kernel runs
    dim3 grid, block;
    size_t shared_bytes = 0;
    // copy, fill
    void* to = nullptr;
    const void* from = nullptr;
    size_t n_bytes = 0;
    int value = 0;
    // wait
    uint32_t wait_stream = 0, wait_sequence = 0;
};

struct Event {
    bool recorded = false;
    uint32_t stream = 0, sequence = 0;
    Clock clock;
    Graph* graph = nullptr;  // recorded while a capture was under way: the event of that capture
    size_t graph_event = 0;
};

// What a capture noted, in the order of the calls. Lane 0 is the stream that the capture began on.
struct GraphNode {
    int lane;
    Work work;
    size_t event;  // record, wait: number of the capture's event
};
struct Graph {
    std::vector<GraphNode> nodes;
    std::map<Stream*, int> lanes;
    size_t n_events = 0;
    std::vector<int> event_lane;
    std::thread::id owner;               // the thread that began it
    std::vector<size_t> event_position;  // index of its record in nodes
};
struct GraphExec {
    std::vector<GraphNode> nodes;
    std::vector<Stream*> lanes;  // NULL in place of lane 0: the stream of the launch
    std::vector<Event> events;
    Event last;  // the previous launch: two launches of one graph never overlap
};

struct Stream {
    uint32_t number = 0;
    std::deque<Work> queue;
    Clock clock;
    Graph* capture = nullptr;
};

Stream* create_stream();
void destroy_stream(Stream* stream);
bool is_stream(const Stream* stream);

void enqueue(Stream& stream, Work work);
void record(Stream& stream, Event& event);
void wait(Stream& stream, const Event& event);
bool is_done(const Event& event);
bool is_idle(const Stream& stream);

// Run what must be run, and let the host know that it has ended.
void finish(const Stream& stream);
void finish(const Event& event);
void finish_all();
void nudge();
void saw(const Event& event);
void saw(const Stream& stream);

}  // namespace simt
