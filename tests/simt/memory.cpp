// Device and pinned memory: two arenas of address room, handed out once and never again, so that a stale pointer is
// always recognised. Pages of the device arena cannot be touched while the host runs; pages of pinned memory cannot
// while a copy that uses them is pending. Both are enforced by the MMU, and a fault handler says what happened.
#include "machine.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace simt {

uintptr_t arena_base = 0;

namespace {

constexpr size_t kPage = 4096;

struct Arena {
    uintptr_t base = 0;
    size_t top = 0;   // bytes handed out, granules
    size_t used = 0;  // bytes live
    size_t limit = size_t{8} << 30;
};
Arena arenas[2];

std::vector<Allocation> allocations;  // number = index + 1
uint32_t* granules = nullptr;         // allocation number by granule of both arenas

struct Hold {
    uintptr_t begin, end;
    bool host_reads;
    uint32_t stream, sequence;
};
std::vector<Hold> holds;
std::vector<uintptr_t> given_up;  // pages whose neighbours the host needed while a copy held a part of them
int open_depth = 0;

struct sigaction previous_handler;

Arena& arena(Space space) { return arenas[space == Space::device ? 0 : 1]; }

void protect(uintptr_t begin, uintptr_t end, int protection) {
    begin &= ~(kPage - 1);
    end = (end + kPage - 1) & ~(kPage - 1);
    if (begin < end && mprotect(reinterpret_cast<void*>(begin), end - begin, protection) != 0) {
        std::perror("simt: mprotect");
        std::abort();
    }
}

void on_fault(int signal, siginfo_t* info, void* context) {
    const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
    if (in_arenas(address)) {
        if (running) defect("a kernel or copy touched %p, which is no live allocation", info->si_addr);
        for (const Hold& hold : holds) {
            if (address >= hold.begin && address < hold.end) {
                defect("the host touches pinned memory %p while %s", info->si_addr,
                       hold.host_reads ? "a pending copy still reads it (write)" : "a pending copy has yet to fill it");
            }
        }
        const Allocation* allocation = find_allocation(address);
        if (allocation && allocation->space == Space::pinned && !allocation->freed) {
            // Another part of a held page: let the host pass, and watch this page no longer.
            const uintptr_t page = address & ~(kPage - 1);
            given_up.push_back(page);
            protect(page, page + 1, PROT_READ | PROT_WRITE);
            return;
        }
        if (!allocation) defect("the host touches %p, which was never allocated", info->si_addr);
        defect("the host touches %s memory %p (allocation %u of %zu bytes at %p%s)",
               allocation->space == Space::device ? "device" : "pinned", info->si_addr, allocation_number(allocation),
               allocation->n_bytes, reinterpret_cast<void*>(allocation->base), allocation->freed ? ", freed" : "");
    }
    if (previous_handler.sa_flags & SA_SIGINFO) {
        previous_handler.sa_sigaction(signal, info, context);
    } else if (previous_handler.sa_handler != SIG_DFL && previous_handler.sa_handler != SIG_IGN) {
        previous_handler.sa_handler(signal);
    } else {
        sigaction(SIGSEGV, &previous_handler, nullptr);
    }
}

void reserve() {
    if (arena_base) return;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* room = mmap(nullptr, 2 * kArenaBytes, PROT_NONE, flags, -1, 0);
    void* table =
        mmap(nullptr, 2 * kArenaBytes / kGranuleBytes * sizeof(uint32_t), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (room == MAP_FAILED || table == MAP_FAILED) {
        std::perror("simt: cannot reserve the arenas");
        std::abort();
    }
    arena_base = reinterpret_cast<uintptr_t>(room);
    arenas[0].base = arena_base;
    arenas[1].base = arena_base + kArenaBytes;
    granules = static_cast<uint32_t*>(table);
    struct sigaction handler = {};
    handler.sa_sigaction = on_fault;
    handler.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigaction(SIGSEGV, &handler, &previous_handler);
}

}  // namespace

void* allocate(Space space, size_t n_bytes) {
    reserve();
    Arena& a = arena(space);
    if (n_bytes > a.limit || a.used > a.limit - n_bytes) return nullptr;
    // A granule of nothing behind every allocation.
    const size_t room = (n_bytes / kGranuleBytes + 2) * kGranuleBytes;
    if (room > kArenaBytes - a.top) return nullptr;
    const uintptr_t base = a.base + a.top;
    a.top += room;
    a.used += n_bytes;
    allocations.push_back({base, n_bytes, space, false});
    for (size_t i = 0; i < room / kGranuleBytes; ++i) {
        granules[(base - arena_base) / kGranuleBytes + i] = static_cast<uint32_t>(allocations.size());
    }
    if (space == Space::pinned || open_depth > 0) protect(base, base + n_bytes, PROT_READ | PROT_WRITE);
    return reinterpret_cast<void*>(base);
}

bool release(Space space, void* memory) {
    const Allocation* found = find_allocation(reinterpret_cast<uintptr_t>(memory));
    if (!found || found->space != space || found->freed || found->base != reinterpret_cast<uintptr_t>(memory))
        return false;
    Allocation& allocation = allocations[allocation_number(found) - 1];
    for (const Hold& hold : holds) {
        if (hold.begin < allocation.base + allocation.n_bytes && hold.end > allocation.base) {
            defect("pinned memory %p (%zu bytes) is freed while a copy that uses it is pending", memory,
                   allocation.n_bytes);
        }
    }
    allocation.freed = true;
    arena(space).used -= allocation.n_bytes;
    protect(allocation.base, allocation.base + allocation.n_bytes, PROT_NONE);
    madvise(memory, (allocation.n_bytes + kPage - 1) & ~(kPage - 1), MADV_DONTNEED);
    shadow_forget(allocation.base, allocation.n_bytes);
    return true;
}

const Allocation* find_allocation(uintptr_t address) {
    if (!arena_base || !in_arenas(address)) return nullptr;
    const uint32_t number = granules[(address - arena_base) / kGranuleBytes];
    return number ? &allocations[number - 1] : nullptr;
}

uint32_t allocation_number(const Allocation* allocation) {
    return static_cast<uint32_t>(allocation - allocations.data()) + 1;
}

size_t used_bytes(Space space) { return arena(space).used; }
size_t limit_bytes(Space space) { return arena(space).limit; }
void set_limit_bytes(Space space, size_t n_bytes) { arena(space).limit = n_bytes; }

void open_memory() {
    if (open_depth++ > 0) return;
    for (const Hold& hold : holds) protect(hold.begin, hold.end, PROT_READ | PROT_WRITE);
    for (const Allocation& a : allocations) {
        if (a.space == Space::device && !a.freed) protect(a.base, a.base + a.n_bytes, PROT_READ | PROT_WRITE);
    }
}

void close_memory() {
    if (--open_depth > 0) return;
    if (arenas[0].top) protect(arenas[0].base, arenas[0].base + arenas[0].top, PROT_NONE);
    for (const Hold& hold : holds) {
        for (uintptr_t page = hold.begin & ~(kPage - 1); page < hold.end; page += kPage) {
            if (std::find(given_up.begin(), given_up.end(), page) != given_up.end()) continue;
            protect(page, page + 1, hold.host_reads ? PROT_READ : PROT_NONE);
        }
    }
}

void hold_pinned(const void* memory, size_t n_bytes, bool host_reads, uint32_t stream, uint32_t sequence) {
    const auto begin = reinterpret_cast<uintptr_t>(memory);
    holds.push_back({begin, begin + n_bytes, host_reads, stream, sequence});
    protect(begin, begin + n_bytes, host_reads ? PROT_READ : PROT_NONE);
}

void release_pinned() {
    if (holds.empty()) return;
    for (const Hold& hold : holds) protect(hold.begin, hold.end, PROT_READ | PROT_WRITE);
    holds.erase(std::remove_if(holds.begin(), holds.end(),
                               [](const Hold& hold) { return host_has_waited_for(hold.stream, hold.sequence); }),
                holds.end());
    if (holds.empty()) given_up.clear();
    if (open_depth == 0) {
        for (const Hold& hold : holds) protect(hold.begin, hold.end, hold.host_reads ? PROT_READ : PROT_NONE);
    }
}

}  // namespace simt
