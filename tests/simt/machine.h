// The inside of the machine: what its own files share. Programs see include/ only; tests of the machine see this too.
//
//   memory.cpp   arenas, allocations, page protection      shadow.cpp   what every byte went through; the judge
//   block.cpp    one block of threads as fibers            hooks.cpp    loads and stores report here
//   streams.cpp  work, order, events, graphs               runtime.cpp  CUDA's API
//   report.cpp   the last sentence
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda_runtime.h"

// The shared window of the block that runs. Kernels declare it as `extern __shared__ ... shared_window[]`.
extern unsigned char shared_window[];

namespace simt {

// ---- report.cpp

// Prints "simt: SENTENCE", where it happened, and the seed; ends the process (SIGABRT).
[[noreturn]] __attribute__((format(printf, 1, 2))) void defect(const char* format, ...);
// "function (file:line)" of an address in code, as far as addr2line knows it.
std::string describe_code(const void* address);

// The seed of all adversarial choices: KCACHE_SIMT_SEED, else 1. 0: everything in the order it was written.
uint64_t seed();
void set_seed(uint64_t seed);
// A number below n (n > 0), from the seed.
uint32_t choose(uint32_t n);

// ---- memory.cpp

enum class Space { device, pinned };

struct Allocation {
    uintptr_t base;
    size_t n_bytes;
    Space space;
    bool freed;
};

constexpr size_t kArenaBytes = size_t{1} << 38;  // of each space; address room, not memory
constexpr size_t kGranuleBytes = 65536;          // allocations start on one

// Both arenas lie in one reservation: device first, pinned behind it.
extern uintptr_t arena_base;
inline bool in_arenas(uintptr_t address) { return address - arena_base < 2 * kArenaBytes; }

void* allocate(Space space, size_t n_bytes);  // NULL: the limit is reached
bool release(Space space, void* memory);      // false: not an allocation of this space
// The allocation whose granules hold the address; NULL: none. The address may lie behind its end.
const Allocation* find_allocation(uintptr_t address);
uint32_t allocation_number(const Allocation* allocation);
size_t used_bytes(Space space);
size_t limit_bytes(Space space);
// How much of a space there is: 8 GiB each unless a test says otherwise.
void set_limit_bytes(Space space, size_t n_bytes);

// Outside of these the host cannot touch device memory, nor pinned memory that a pending copy uses.
void open_memory();
void close_memory();
// A pending copy uses this pinned range; host_reads: the host may still read it.
void hold_pinned(const void* memory, size_t n_bytes, bool host_reads, uint32_t stream, uint32_t sequence);
// Gives back what work that the host has waited for held.
void release_pinned();

// ---- streams.cpp

// One piece of work and when it may run.
using Clock = std::vector<uint32_t>;  // per stream: the last sequence number that has surely happened before

struct Work;
extern const Work* running;  // NULL while the host runs
// True where work number `op` surely ended before the running work began.
bool happened_before(uint32_t op);
uint32_t running_number();
std::string describe_work(uint32_t op);
// The bytes of the running kernel's parameters.
bool in_parameters(uintptr_t address, size_t n_bytes);
bool host_has_waited_for(uint32_t stream, uint32_t sequence);

// ---- runtime.cpp

extern uint64_t n_graph_launches;
// What a program has made of what CUDA takes memory for: allocations, streams, events, executable graphs.
extern uint64_t n_made;
// Whether this thread is within a call of the API: what it allocates now is the machine's, not the program's.
bool is_inside();
// From now on one stream does not wait for events of another: a program that needed such a wait is to be caught.
void drop_waits(uint32_t waiting_stream, uint32_t awaited_stream);

// ---- block.cpp

struct Fiber;
extern Fiber* current;  // the running thread; NULL on the host and in copies
bool in_own_stack(uintptr_t address, size_t n_bytes);
bool in_any_stack(uintptr_t address);
// Where the running thread stands, for shadow records.
struct Place {
    uint32_t block;   // linear
    uint32_t thread;  // linear
    uint32_t block_epoch;
    uint32_t warp_epoch;
    uint32_t block_serial;  // another number for every block that was ever run
};
Place place();
std::string describe_place();
// Runs a grid, block by block, in an order of the seed.
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, Invoke invoke, void* kernel, void** arguments);
constexpr size_t kSharedWindowBytes = 228 * 1024;
inline uintptr_t shared_base() { return reinterpret_cast<uintptr_t>(shared_window); }
inline bool in_shared(uintptr_t address) { return address - shared_base() < kSharedWindowBytes; }
uint32_t shared_bytes();

// ---- shadow.cpp

// Most reads repeat others: a word that all threads of a block, or of a warp, may read until their next barrier bears
// the number of that era, and needs no judge until then. Eras are numbered by block.cpp, words marked by shadow.cpp.
extern uint32_t block_era, warp_era;  // of the running thread
extern uint32_t* free_reads;          // by word: the arenas, then the shared window
constexpr size_t kArenaWords = 2 * kArenaBytes / 4;
inline bool may_read_freely(uintptr_t address, size_t n_bytes) {
    if (!free_reads) return false;
    const uint32_t* word;
    if (in_arenas(address)) {
        word = free_reads + (address - arena_base) / 4;
    } else if (in_shared(address)) {
        word = free_reads + kArenaWords + (address - shared_base()) / 4;
    } else {
        return false;
    }
    for (size_t i = 0; i < (address % 4 + n_bytes + 3) / 4; ++i) {
        if (word[i] != block_era && word[i] != warp_era) return false;
    }
    return true;
}

enum class Access { read, write, atomic };
// Judges one access of the running thread (or copy); ends the process if it is wrong.
void check_access(uintptr_t address, size_t n_bytes, Access access, const void* code);
// Copies what is known about bytes along with them.
void shadow_copy(uintptr_t to, uintptr_t from, size_t n_bytes);
void shadow_forget(uintptr_t address, size_t n_bytes);

}  // namespace simt
