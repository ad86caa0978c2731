// One block of threads. Every thread is a fiber with a stack of its own; a fiber runs until it waits (barrier, warp
// operation) or returns, then the next one runs. So threads of a warp are together only where the program says so, and
// the order of threads and of blocks comes from the seed.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "machine.h"
#include "mma.h"

#if !defined(__x86_64__)
#error "the software machine switches fibers in x86-64 assembly; build it on an x86-64 machine"
#endif

alignas(128) unsigned char shared_window[simt::kSharedWindowBytes];

// simt_switch(from, to): saves the callee's registers on the running stack, its top in *from, and goes on where `to`
// stopped.
extern "C" void simt_switch(void** from, void* to);
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch,@function
simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size simt_switch,.-simt_switch
)");

namespace simt {

enum class State : uint8_t { ready, at_barrier, at_warp, done };

struct Site {
    const char* file = nullptr;
    int line = 0;
    bool operator==(const Site& other) const { return line == other.line && std::strcmp(file, other.file) == 0; }
};

struct Fiber {
    void* top;
    uint3 index;
    uint32_t linear;
    State state;
    Site site;
};

namespace {

constexpr uint32_t kMaxThreads = 1024;
constexpr size_t kStackBytes = 64 * 1024;  // the lowest page of each catches an overflow

struct Warp {
    uint32_t n_lanes;
    uint32_t n_returned;
    uint32_t n_arrived;
    uint32_t epoch;       // grows with every __syncwarp
    uint32_t generation;  // grows with every warp operation
    uint32_t era;
    Site site;
    uint64_t values[2][32];  // by parity of the generation: the next operation cannot end before all have read this one
    uint32_t ballots[2];
};

struct Block {
    uint3 index;
    dim3 size, grid;
    uint32_t linear, serial, n_threads, n_live, n_arrived, epoch;
    Site site;
    Vote vote;
    int n_true, vote_result;
    size_t shared_bytes;
    Invoke invoke;
    void* kernel;
    void** arguments;
    void* scheduler;  // stack of run_block
};

}  // namespace

Fiber* current = nullptr;
uint32_t block_era = 0, warp_era = 0;

namespace {

Block block;
Warp warps[kMaxThreads / 32];
Fiber fibers[kMaxThreads];
unsigned char* stacks = nullptr;
uint32_t n_blocks_run = 0, n_eras = 0;

unsigned char* stack_of(uint32_t thread) { return stacks + thread * kStackBytes; }
Warp& own_warp() { return warps[current->linear / 32]; }

std::string at(const Site& site) { return std::string(site.file) + ":" + std::to_string(site.line); }

uint32_t next_era() {
    if (++n_eras == 0) defect("a program of more than 2^32 barriers: run it in parts");
    return n_eras;
}
// All threads of the block have met.
void begin_block_era() {
    block_era = next_era();
    for (uint32_t w = 0; w * 32 < block.n_threads; ++w) warps[w].era = next_era();
}
void begin_warp_era(Warp& warp) { warp.era = warp_era = next_era(); }

void back_to_scheduler() {
    Fiber* self = current;
    simt_switch(&self->top, block.scheduler);
}

void fiber_main() {
    block.invoke(block.kernel, block.arguments);
    Fiber* self = current;
    self->state = State::done;
    --block.n_live;
    if (block.n_arrived > 0) {
        defect("divergent barrier: thread %u returned while others wait at %s", self->linear, at(block.site).c_str());
    }
    Warp& warp = own_warp();
    ++warp.n_returned;
    if (warp.n_arrived > 0) {
        defect("divergent warp: thread %u returned while others of its warp wait at %s", self->linear,
               at(warp.site).c_str());
    }
    back_to_scheduler();
    std::abort();  // a finished fiber is never resumed
}

void prepare(Fiber& fiber, uint32_t linear) {
    fiber.linear = linear;
    fiber.index = {linear % block.size.x, linear / block.size.x % block.size.y, linear / (block.size.x * block.size.y)};
    fiber.state = State::ready;
    auto* top = reinterpret_cast<void**>(stack_of(linear) + kStackBytes);
    *--top = nullptr;  // keeps the stack aligned as behind a call
    *--top = reinterpret_cast<void*>(&fiber_main);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    fiber.top = top;
}

[[noreturn]] void deadlock() {
    std::string text;
    int listed = 0;
    for (uint32_t i = 0; i < block.n_threads && listed < 4; ++i) {
        if (fibers[i].state == State::done || (listed && fibers[i].site == fibers[i - 1].site)) continue;
        text += (listed++ ? "; " : "") + std::string("thread ") + std::to_string(i) + " waits at " + at(fibers[i].site);
    }
    defect("divergent barrier: no thread can go on: %s", text.c_str());
}

void run_block() {
    static std::vector<uint32_t> order;
    order.resize(block.n_threads);
    std::iota(order.begin(), order.end(), 0u);
    for (uint32_t i = block.n_threads; seed() && i > 1; --i) std::swap(order[i - 1], order[choose(i)]);
    for (uint32_t i = 0; i < block.n_threads; ++i) prepare(fibers[i], i);
    for (uint32_t w = 0; w * 32 < block.n_threads; ++w) {
        warps[w] = {};
        warps[w].n_lanes = block.n_threads - w * 32 < 32 ? block.n_threads - w * 32 : 32;
    }
    begin_block_era();
    while (block.n_live > 0) {
        bool progressed = false;
        for (uint32_t i : order) {
            if (fibers[i].state != State::ready) continue;
            progressed = true;
            current = &fibers[i];
            warp_era = warps[i / 32].era;
            simt_switch(&block.scheduler, fibers[i].top);
            current = nullptr;
        }
        if (!progressed) {
            current = &fibers[order[0]];
            deadlock();
        }
    }
}

// Arrives at an operation of the warp; returns its generation once all lanes have come.
uint32_t arrive_warp(unsigned mask, const Site& site, bool orders_memory) {
    Warp& warp = own_warp();
    const unsigned all = warp.n_lanes == 32 ? 0xffffffffu : (1u << warp.n_lanes) - 1;
    if ((mask & all) != all)
        defect("warp operation at %s with mask %08x: only whole warps are supported", at(site).c_str(), mask);
    if (warp.n_arrived == 0) {
        warp.site = site;
    } else if (!(warp.site == site)) {
        defect("divergent warp: thread %u is at %s while others of its warp wait at %s", current->linear,
               at(site).c_str(), at(warp.site).c_str());
    }
    const uint32_t generation = warp.generation;
    if (++warp.n_arrived < warp.n_lanes) {
        if (warp.n_returned > 0) {
            defect("divergent warp: thread %u waits at %s, but other threads of its warp have returned",
                   current->linear, at(site).c_str());
        }
        current->state = State::at_warp;
        current->site = site;
        back_to_scheduler();
    } else {
        warp.n_arrived = 0;
        ++warp.generation;
        warp.ballots[warp.generation % 2] = 0;
        if (orders_memory) ++warp.epoch, begin_warp_era(warp);
        for (uint32_t i = current->linear / 32 * 32; i < current->linear / 32 * 32 + warp.n_lanes; ++i)
            fibers[i].state = State::ready;
    }
    return generation;
}

}  // namespace

uint3 thread_index() { return current ? current->index : uint3{0, 0, 0}; }
uint3 block_index() { return block.index; }
dim3 block_size() { return block.size; }
dim3 grid_size() { return block.grid; }
int lane() { return static_cast<int>(current->linear % 32); }

int block_barrier(Vote vote, int predicate, const char* file, int line) {
    const Site site{file, line};
    if (block.n_live < block.n_threads) {
        defect("divergent barrier: thread %u waits at %s, but other threads of its block have returned",
               current->linear, at(site).c_str());
    }
    if (block.n_arrived == 0) {
        block.site = site;
        block.vote = vote;
        block.n_true = 0;
    } else if (!(block.site == site) || block.vote != vote) {
        defect("divergent barrier: thread %u is at %s while others wait at %s", current->linear, at(site).c_str(),
               at(block.site).c_str());
    }
    if (predicate) ++block.n_true;
    if (++block.n_arrived < block.n_threads) {
        current->state = State::at_barrier;
        current->site = site;
        back_to_scheduler();
    } else {
        block.n_arrived = 0;
        ++block.epoch;
        begin_block_era();
        warp_era = own_warp().era;
        const int n = static_cast<int>(block.n_threads);
        block.vote_result = vote == Vote::any ? block.n_true > 0 : vote == Vote::all ? block.n_true == n : block.n_true;
        for (uint32_t i = 0; i < block.n_threads; ++i) fibers[i].state = State::ready;
    }
    return block.vote_result;
}

void warp_barrier(unsigned mask, const char* file, int line) { arrive_warp(mask, {file, line}, true); }

uint64_t warp_exchange(unsigned mask, uint64_t bits, int source, const char* file, int line) {
    Warp& warp = own_warp();
    warp.values[warp.generation % 2][lane()] = bits;
    if (source < 0 || static_cast<uint32_t>(source) >= warp.n_lanes) {
        defect("shuffle at %s:%d reads lane %d of a warp of %u threads", file, line, source, warp.n_lanes);
    }
    const uint32_t generation = arrive_warp(mask, {file, line}, false);
    return warp.values[generation % 2][source];
}

unsigned warp_ballot(unsigned mask, bool predicate, const char* file, int line) {
    Warp& warp = own_warp();
    if (predicate) warp.ballots[warp.generation % 2] |= 1u << lane();
    const uint32_t generation = arrive_warp(mask, {file, line}, false);
    return warp.ballots[generation % 2];
}

void warp_meet(const char* file, int line) { arrive_warp(0xffffffffu, {file, line}, false); }

void misaligned(const char* what, const void* tile, unsigned stride, const char* file, int line) {
    defect(
        "%s at %s:%d: a tile at %p with stride %u: tiles lie on multiples of 32 bytes, their rows on multiples of 16",
        what, file, line, tile, stride);
}

void warp_multiply(const uint16_t* left, const uint16_t* right, bool right_by_column, float* sums, const char* file,
                   int line) {
    // By parity of the generation, as values of exchanges are.
    static float factors[kMaxThreads / 32][2][2][16][16];
    auto& own = factors[current->linear / 32][own_warp().generation % 2];
    const int major = lane() / 2, minor = lane() % 2 * 8;
    for (int i = 0; i < 8; ++i) {
        own[0][major][minor + i] = __half2float({left[i]});
        (right_by_column ? own[1][minor + i][major] : own[1][major][minor + i]) = __half2float({right[i]});
    }
    arrive_warp(0xffffffffu, {file, line}, false);
    for (int k = 0; k < 16; ++k) {
        for (int i = 0; i < 8; ++i) sums[i] += own[0][major][k] * own[1][k][minor + i];
    }
}

bool in_own_stack(uintptr_t address, size_t n_bytes) {
    const auto begin = reinterpret_cast<uintptr_t>(stack_of(current->linear));
    return address >= begin && address + n_bytes <= begin + kStackBytes;
}

bool in_any_stack(uintptr_t address) {
    return stacks && address - reinterpret_cast<uintptr_t>(stacks) < kMaxThreads * kStackBytes;
}

uint32_t shared_bytes() { return static_cast<uint32_t>(block.shared_bytes); }

Place place() { return {block.linear, current->linear, block.epoch, warps[current->linear / 32].epoch, block.serial}; }

std::string describe_place() {
    if (!current) return "";
    char text[160];
    std::snprintf(text, sizeof text, ", block (%u, %u, %u), thread (%u, %u, %u)", block.index.x, block.index.y,
                  block.index.z, current->index.x, current->index.y, current->index.z);
    return text;
}

void run_grid(dim3 grid, dim3 size, size_t n_shared_bytes, Invoke invoke, void* kernel, void** arguments) {
    if (!stacks) {
        void* room = mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED) std::abort();
        stacks = static_cast<unsigned char*>(room);
        for (uint32_t i = 0; i < kMaxThreads; ++i) mprotect(stack_of(i), 4096, PROT_NONE);
    }
    static std::vector<uint32_t> order;
    order.resize(static_cast<size_t>(grid.x) * grid.y * grid.z);
    std::iota(order.begin(), order.end(), 0u);
    for (size_t i = order.size(); seed() && i > 1; --i)
        std::swap(order[i - 1], order[choose(static_cast<uint32_t>(i))]);
    for (const uint32_t linear : order) {
        block = {};
        block.index = {linear % grid.x, linear / grid.x % grid.y, linear / (grid.x * grid.y)};
        block.size = size;
        block.grid = grid;
        block.linear = linear;
        block.serial = ++n_blocks_run;
        block.n_threads = block.n_live = size.x * size.y * size.z;
        block.shared_bytes = n_shared_bytes;
        block.invoke = invoke;
        block.kernel = kernel;
        block.arguments = arguments;
        run_block();
    }
}

}  // namespace simt
