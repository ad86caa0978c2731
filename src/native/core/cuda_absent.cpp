// Linked where the CUDA backend is not.
#include "core/backends.h"
#include "core/error.h"

namespace kc {

namespace {

[[noreturn]] void fail_absent() {
    fail(KC_ERR_UNSUPPORTED,
         "backend is KC_BACKEND_CUDA (2), but this build of the library holds the CPU backend only; use KC_BACKEND_CPU "
         "(1) or KC_BACKEND_AUTO (0), or a build with CUDA");
}

}  // namespace

Backend make_cuda_backend(const kc_context_desc&) { fail_absent(); }
int32_t count_cuda_devices() { fail_absent(); }
void cuda_device_info(int32_t, kc_device_info*) { fail_absent(); }

}  // namespace kc
