// Work and its order. Calls that CUDA may carry out later only queue work here; it runs when the host waits for
// something, one piece at a time, taken from any stream whose first piece may run: which one is up to the seed. So work
// that nothing orders really does run in both orders, and as late as the program allows.
//
// Order is tracked with vector clocks: a piece of work knows, for every stream, the last piece that surely ended before
// it (the same stream before it, events waited for, all that the host has waited for). The shadow memory asks
// happened_before.
#include "streams.h"

#include <algorithm>
#include <cstring>

#include "machine.h"

namespace simt {

const Work* running = nullptr;

namespace {

std::vector<Stream*> slots;           // by stream number; NULL: free, its clock goes on with the next owner
std::vector<uint32_t> issued, ended;  // by stream number
Clock host_clock;
struct Stamp {
    uint32_t stream, sequence;
    void* kernel;
    WorkKind kind;
};
std::vector<Stamp> stamps = {{0, 0, nullptr, WorkKind::record}};  // by work number; number 0 is nobody

uint32_t at(const Clock& clock, uint32_t stream) { return stream < clock.size() ? clock[stream] : 0; }

void merge(Clock& into, const Clock& from) {
    if (into.size() < from.size()) into.resize(from.size());
    for (size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

bool may_run(const Work& work) { return work.kind != WorkKind::wait || ended[work.wait_stream] >= work.wait_sequence; }

void copy_bytes(const Work& work) {
    const auto to = reinterpret_cast<uintptr_t>(work.to), from = reinterpret_cast<uintptr_t>(work.from);
    check_access(from, work.n_bytes, Access::read, nullptr);
    check_access(to, work.n_bytes, Access::write, nullptr);
    std::memcpy(work.to, work.from, work.n_bytes);
    shadow_copy(to, from, work.n_bytes);
}

void execute(Stream& stream) {
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    running = &work;
    switch (work.kind) {
        case WorkKind::kernel: {
            for (const size_t offset : work.argument_offsets) work.pointers.push_back(work.arguments.data() + offset);
            run_grid(work.grid, work.block, work.shared_bytes, work.invoke, work.kernel, work.pointers.data());
            break;
        }
        case WorkKind::copy:
            copy_bytes(work);
            break;
        case WorkKind::fill:
            check_access(reinterpret_cast<uintptr_t>(work.to), work.n_bytes, Access::write, nullptr);
            std::memset(work.to, work.value, work.n_bytes);
            break;
        case WorkKind::record:
        case WorkKind::wait:
            break;
    }
    running = nullptr;
    ended[stream.number] = work.sequence;
}

// Runs one piece of work that `stream` needs to come forward.
void advance(Stream& stream) {
    Stream* next = &stream;
    for (size_t hops = 0; !may_run(next->queue.front()); ++hops) {
        next = slots[next->queue.front().wait_stream];
        if (!next || next->queue.empty() || hops > slots.size())
            defect("a stream waits for an event that will never be recorded");
    }
    execute(*next);
}

bool run_any() {
    std::vector<Stream*> candidates;
    for (Stream* s : slots) {
        if (s && !s->queue.empty() && may_run(s->queue.front())) candidates.push_back(s);
    }
    if (candidates.empty()) return false;
    execute(*candidates[choose(static_cast<uint32_t>(candidates.size()))]);
    return true;
}

}  // namespace

bool happened_before(uint32_t op) { return at(running->clock, stamps[op].stream) >= stamps[op].sequence; }
uint32_t running_number() { return running ? running->number : 0; }
bool host_has_waited_for(uint32_t stream, uint32_t sequence) { return at(host_clock, stream) >= sequence; }

bool in_parameters(uintptr_t address, size_t n_bytes) {
    const auto within = [&](const auto& list) {
        const auto begin = reinterpret_cast<uintptr_t>(list.data());
        return address >= begin && address + n_bytes <= begin + list.size() * sizeof(list[0]);
    };
    return within(running->arguments) || within(running->pointers);
}

std::string describe_work(uint32_t op) {
    const Stamp& stamp = stamps[op];
    const std::string place = " (work " + std::to_string(op) + ", stream " + std::to_string(stamp.stream) + ")";
    switch (stamp.kind) {
        case WorkKind::kernel:
            return "kernel " + describe_code(stamp.kernel) + place;
        case WorkKind::copy:
            return "a copy" + place;
        case WorkKind::fill:
            return "a memset" + place;
        default:
            return "an event" + place;
    }
}

Stream* create_stream() {
    auto* stream = new Stream;
    stream->number = static_cast<uint32_t>(std::find(slots.begin(), slots.end(), nullptr) - slots.begin());
    if (stream->number == slots.size()) {
        slots.push_back(nullptr);
        issued.push_back(0);
        ended.push_back(0);
    }
    slots[stream->number] = stream;
    return stream;
}

void destroy_stream(Stream* stream) {
    finish(*stream);
    slots[stream->number] = nullptr;
    delete stream;
}

bool is_stream(const Stream* stream) { return stream && std::find(slots.begin(), slots.end(), stream) != slots.end(); }

void enqueue(Stream& stream, Work work) {
    merge(stream.clock, host_clock);
    if (work.kind == WorkKind::wait) merge(stream.clock, work.clock);
    if (stream.clock.size() <= stream.number) stream.clock.resize(stream.number + 1);
    work.sequence = stream.clock[stream.number] = ++issued[stream.number];
    work.clock = stream.clock;
    work.number = static_cast<uint32_t>(stamps.size());
    stamps.push_back({stream.number, work.sequence, work.kernel, work.kind});
    if (work.kind == WorkKind::copy) {
        const Allocation *to = find_allocation(reinterpret_cast<uintptr_t>(work.to)),
                         *from = find_allocation(reinterpret_cast<uintptr_t>(work.from));
        if (to && to->space == Space::pinned) hold_pinned(work.to, work.n_bytes, false, stream.number, work.sequence);
        if (from && from->space == Space::pinned)
            hold_pinned(work.from, work.n_bytes, true, stream.number, work.sequence);
    }
    stream.queue.push_back(std::move(work));
}

void record(Stream& stream, Event& event) {
    enqueue(stream, Work{});
    event.recorded = true;
    event.stream = stream.number;
    event.sequence = issued[stream.number];
    event.clock = stream.clock;
}

void wait(Stream& stream, const Event& event) {
    if (!event.recorded) return;
    Work work;
    work.kind = WorkKind::wait;
    work.wait_stream = event.stream;
    work.wait_sequence = event.sequence;
    work.clock = event.clock;
    enqueue(stream, std::move(work));
}

bool is_done(const Event& event) { return !event.recorded || ended[event.stream] >= event.sequence; }
bool is_idle(const Stream& stream) { return stream.queue.empty(); }

namespace {

void run_until(uint32_t stream, uint32_t sequence) {
    if (ended[stream] >= sequence) return;
    // Once only what is asked for, once other streams too: both are orders that a GPU may choose.
    const bool only_needed = choose(2) == 0;
    open_memory();
    while (ended[stream] < sequence) {
        if (only_needed || !run_any()) advance(*slots[stream]);
    }
    close_memory();
}

}  // namespace

void finish(const Stream& stream) {
    run_until(stream.number, issued[stream.number]);
    merge(host_clock, stream.clock);
    release_pinned();
}

void finish(const Event& event) {
    if (!event.recorded) return;
    run_until(event.stream, event.sequence);
    merge(host_clock, event.clock);
    release_pinned();
}

void finish_all() {
    open_memory();
    while (run_any()) {
    }
    close_memory();
    for (const Stream* s : slots) {
        if (s) merge(host_clock, s->clock);
    }
    release_pinned();
}

// A stream or event is asked whether it has ended: as long as the seed says, no.
void nudge() {
    open_memory();
    if (choose(2) == 0) run_any();
    close_memory();
}

void saw(const Event& event) {
    merge(host_clock, event.clock);
    release_pinned();
}

void saw(const Stream& stream) {
    merge(host_clock, stream.clock);
    release_pinned();
}

}  // namespace simt
