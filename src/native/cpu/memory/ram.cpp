#include "cpu/memory/ram.h"

#include <cstdint>
#include <cstring>
#include <new>

#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace kc {
namespace {

constexpr uint64_t kPage = 4096;
constexpr std::align_val_t kLine{64};

#if !defined(_WIN32)
void* map(uint64_t n_bytes) {
    void* memory =
        mmap(nullptr, static_cast<size_t>(n_bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return memory;
}

// Selected rows are read from all over a pool: under pages of 4 KiB nearly each of them is a miss of the TLB as well.
// Never more than n_bytes can become resident: a huge page lies wholly inside.
void* map_for_huge_pages(uint64_t n_bytes) {
#if defined(MADV_HUGEPAGE)
    constexpr uint64_t kHugePage = uint64_t{2} << 20;
    if (n_bytes >= kHugePage) {
        const uint64_t mapped = (n_bytes + kPage - 1) / kPage * kPage;
        auto* begin = static_cast<uint8_t*>(map(mapped + kHugePage));
        const uint64_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
        if (before != 0) munmap(begin, before);
        munmap(begin + before + mapped, kHugePage - before);
        // A system without huge pages refuses, and nothing is lost.
        madvise(begin + before, mapped, MADV_HUGEPAGE);
        return begin + before;
    }
#endif
    return map(n_bytes);
}
#endif

}  // namespace

void* ram_allocate(uint64_t n_bytes) {
    if (n_bytes > SIZE_MAX / 2) throw std::bad_alloc();
    if (n_bytes < kPage) {
        void* memory = ::operator new(static_cast<size_t>(n_bytes ? n_bytes : 1), kLine);
        std::memset(memory, 0, static_cast<size_t>(n_bytes));
        return memory;
    }
#if defined(_WIN32)
    void* memory = VirtualAlloc(nullptr, static_cast<size_t>(n_bytes), MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (!memory) throw std::bad_alloc();
#else
    void* memory = map_for_huge_pages(n_bytes);
#endif
    return memory;
}

void ram_release(void* memory, uint64_t n_bytes) noexcept {
    if (!memory) return;
#if defined(__SANITIZE_ADDRESS__)
    // Gaps that an arena closed.
    __asan_unpoison_memory_region(memory, static_cast<size_t>(n_bytes));
#endif
    if (n_bytes < kPage) {
        ::operator delete(memory, kLine);
        return;
    }
#if defined(_WIN32)
    VirtualFree(memory, 0, MEM_RELEASE);
#else
    munmap(memory, static_cast<size_t>(n_bytes));
#endif
}

}  // namespace kc
