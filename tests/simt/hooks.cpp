// The names that code compiled with -fsanitize=thread calls for every load and store, answered by the shadow memory.
// On the host they return at once: there the MMU watches (memory.cpp).
#include <atomic>

#include "machine.h"

using simt::Access;

namespace {

inline void report(const void* address, size_t n_bytes, Access access, const void* code) {
    if (!simt::current) return;
    const auto at = reinterpret_cast<uintptr_t>(address);
    if (access == Access::read && simt::may_read_freely(at, n_bytes)) return;
    simt::check_access(at, n_bytes, access, code);
}

}  // namespace

#define CODE __builtin_return_address(0)
#define ACCESS_HOOKS(N)                                                                       \
    extern "C" void __tsan_read##N(void* p) { report(p, N, Access::read, CODE); }             \
    extern "C" void __tsan_write##N(void* p) { report(p, N, Access::write, CODE); }           \
    extern "C" void __tsan_unaligned_read##N(void* p) { report(p, N, Access::read, CODE); }   \
    extern "C" void __tsan_unaligned_write##N(void* p) { report(p, N, Access::write, CODE); } \
    extern "C" void __tsan_volatile_read##N(void* p) { report(p, N, Access::read, CODE); }    \
    extern "C" void __tsan_volatile_write##N(void* p) { report(p, N, Access::write, CODE); }  \
    extern "C" void __tsan_read_write##N(void* p) {                                           \
        report(p, N, Access::read, CODE), report(p, N, Access::write, CODE);                  \
    }                                                                                         \
    extern "C" void __tsan_unaligned_read_write##N(void* p) { __tsan_read_write##N(p); }
ACCESS_HOOKS(1)
ACCESS_HOOKS(2)
ACCESS_HOOKS(4)
ACCESS_HOOKS(8)
ACCESS_HOOKS(16)

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void* p, unsigned long n) { report(p, n, Access::read, CODE); }
void __tsan_write_range(void* p, unsigned long n) { report(p, n, Access::write, CODE); }
void* __tsan_memcpy(void* to, const void* from, unsigned long n) {
    report(from, n, Access::read, CODE);
    report(to, n, Access::write, CODE);
    return __builtin_memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, unsigned long n) {
    report(from, n, Access::read, CODE);
    report(to, n, Access::write, CODE);
    return __builtin_memmove(to, from, n);
}
void* __tsan_memset(void* to, int value, unsigned long n) {
    report(to, n, Access::write, CODE);
    return __builtin_memset(to, value, n);
}
}

// Atomics of host code (reference counts and the like); kernels use CUDA's own, which are the machine's.
#define ATOMIC_HOOKS(BITS, T)                                                                                          \
    extern "C" T __tsan_atomic##BITS##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); } \
    extern "C" void __tsan_atomic##BITS##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); } \
    extern "C" T __tsan_atomic##BITS##_exchange(volatile T* p, T v, int) { return __atomic_exchange_n(p, v, 5); }      \
    extern "C" T __tsan_atomic##BITS##_fetch_add(volatile T* p, T v, int) { return __atomic_fetch_add(p, v, 5); }      \
    extern "C" T __tsan_atomic##BITS##_fetch_sub(volatile T* p, T v, int) { return __atomic_fetch_sub(p, v, 5); }      \
    extern "C" T __tsan_atomic##BITS##_fetch_or(volatile T* p, T v, int) { return __atomic_fetch_or(p, v, 5); }        \
    extern "C" T __tsan_atomic##BITS##_fetch_and(volatile T* p, T v, int) { return __atomic_fetch_and(p, v, 5); }      \
    extern "C" int __tsan_atomic##BITS##_compare_exchange_strong(volatile T* p, T* expected, T v, int, int) {          \
        return __atomic_compare_exchange_n(p, expected, v, false, 5, 5);                                               \
    }                                                                                                                  \
    extern "C" T __tsan_atomic##BITS##_compare_exchange_val(volatile T* p, T expected, T v, int, int) {                \
        __atomic_compare_exchange_n(p, &expected, v, false, 5, 5);                                                     \
        return expected;                                                                                               \
    }
ATOMIC_HOOKS(8, uint8_t)
ATOMIC_HOOKS(32, uint32_t)
ATOMIC_HOOKS(64, uint64_t)
extern "C" void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

void simt::atomic_access(const void* address, size_t n_bytes, void* caller) {
    if (current) check_access(reinterpret_cast<uintptr_t>(address), n_bytes, Access::atomic, caller);
}
