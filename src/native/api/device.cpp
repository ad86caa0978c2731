#include "api/check.h"
#include "api/guard.h"
#include "core/backends.h"

using namespace kc;

namespace {

int32_t count_devices(int32_t backend) {
    check_range(backend, KC_BACKEND_CPU, KC_BACKEND_CUDA, "backend");
    return backend == KC_BACKEND_CUDA ? count_cuda_devices() : count_cpu_devices();
}

}  // namespace

kc_status kc_device_count(int32_t backend, int32_t* out_n_devices) {
    return guard([&] {
        check_pointer(out_n_devices, "out_n_devices");
        *out_n_devices = count_devices(backend);
    });
}

kc_status kc_device_info_get(int32_t backend, int32_t device, kc_device_info* out) {
    return guard([&] {
        check_struct(out, "out");
        check_range(device, 0, count_devices(backend) - 1, "device");
        kc_device_info info = {};
        info.size = sizeof info;
        info.backend = backend;
        info.device = device;
        if (backend == KC_BACKEND_CUDA)
            cuda_device_info(device, &info);
        else
            cpu_device_info(device, &info);
        *out = info;
    });
}
