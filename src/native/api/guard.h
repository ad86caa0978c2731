// The C boundary: whatever the C++ side throws becomes a status and a sentence for the calling thread.
#pragma once

#include <exception>
#include <new>
#include <system_error>

#include "core/error.h"

namespace kc {

// Keeps the sentence for kc_last_message and returns the status.
kc_status set_failure(kc_status status, const char* message) noexcept;

template <class F>
kc_status guard(F&& body) noexcept {
    try {
        body();
        return KC_OK;
    } catch (const Error& error) {
        return set_failure(error.status(), error.what());
    } catch (const std::bad_alloc&) {
        return set_failure(KC_ERR_MEMORY, "the system has no memory left for this call; ask for less, or free some");
    } catch (const std::system_error& error) {
        return set_failure(KC_ERR_MEMORY, error.what());  // no more threads
    } catch (const std::exception& error) {
        return set_failure(KC_ERR_INTERNAL, error.what());
    } catch (...) {
        return set_failure(KC_ERR_INTERNAL, "an exception of unknown type; please report what was called");
    }
}

// For functions that return a size, 0 where something is wrong.
template <class F>
uint64_t guard_size(F&& body) noexcept {
    uint64_t n_bytes = 0;
    guard([&] { n_bytes = body(); });
    return n_bytes;
}

}  // namespace kc
