// Checks of arguments. Each failure is a sentence that names the argument, what it is and what it must be.
#pragma once

#include <cmath>
#include <initializer_list>

#include "core/error.h"
#include "core/params.h"

namespace kc {

inline void check_pointer(const void* pointer, const char* name) {
    if (!pointer) fail(KC_ERR_ARGUMENT, "%s is NULL", name);
}

// A struct that starts with its size.
template <class T>
void check_struct(const T* pointer, const char* name) {
    check_pointer(pointer, name);
    if (pointer->size != sizeof(T)) {
        fail(KC_ERR_ARGUMENT,
             "%s->size is %u, but this library's struct has %u bytes: set it to sizeof, and compare kc_abi()", name,
             static_cast<unsigned>(pointer->size), static_cast<unsigned>(sizeof(T)));
    }
}

inline void check_range(int64_t value, int64_t low, int64_t high, const char* name) {
    if (value < low || value > high) {
        fail(KC_ERR_ARGUMENT, "%s is %lld, but must be %lld to %lld", name, static_cast<long long>(value),
             static_cast<long long>(low), static_cast<long long>(high));
    }
}

inline void check_at_least(int64_t value, int64_t low, const char* name) {
    if (value < low) {
        fail(KC_ERR_ARGUMENT, "%s is %lld, but must be at least %lld", name, static_cast<long long>(value),
             static_cast<long long>(low));
    }
}

inline void check_finite(float value, const char* name) {
    if (!std::isfinite(value)) fail(KC_ERR_ARGUMENT, "%s is %g, but must be finite", name, static_cast<double>(value));
}

// The dimensions of an array: none negative, and together something that an address space holds.
inline void check_shape(std::initializer_list<int64_t> dims, const char* name) {
    constexpr int64_t kMost = int64_t(1) << 56;
    int64_t n = 1;
    for (int64_t dim : dims) {
        if (dim < 0)
            fail(KC_ERR_ARGUMENT, "%s has a dimension of %lld, but none may be negative", name,
                 static_cast<long long>(dim));
        if (dim > 0 && n > kMost / dim) {
            fail(KC_ERR_ARGUMENT, "%s has more than %lld elements with a dimension of %lld, which no memory holds",
                 name, static_cast<long long>(kMost), static_cast<long long>(dim));
        }
        n *= dim > 0 ? dim : 1;
    }
}

}  // namespace kc
