#include "cpu/memory/ram.h"

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
    void* memory =
        mmap(nullptr, static_cast<size_t>(n_bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
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
