#include <cstring>

#include "api/guard.h"

namespace kc {
namespace {

thread_local char last_message[1024];

}  // namespace

kc_status set_failure(kc_status status, const char* message) noexcept {
    std::strncpy(last_message, message, sizeof last_message - 1);
    last_message[sizeof last_message - 1] = '\0';
    return status;
}

}  // namespace kc

#define KC_TEXT_OF(x) #x
#define KC_TEXT(x) KC_TEXT_OF(x)

const char* kc_version(void) {
    return KC_TEXT(KC_VERSION_MAJOR) "." KC_TEXT(KC_VERSION_MINOR) "." KC_TEXT(KC_VERSION_PATCH);
}

int32_t kc_abi(void) { return KC_ABI; }

const char* kc_last_message(void) { return kc::last_message; }
