// The backends that there are. Each fills the table of the seam; api/ alone calls these.
#pragma once

#include "backend.h"

namespace kc {

// Throws an Error (ARGUMENT, UNSUPPORTED) with the way out.
Backend make_cpu_backend(const kc_context_desc& desc);
Backend make_cuda_backend(const kc_context_desc& desc);

// How many devices work. CUDA: throws an Error (UNSUPPORTED) with the reason where none does.
int32_t count_cpu_devices();
int32_t count_cuda_devices();
// Of one that was counted: fills isa, name and the memory's bytes.
void cpu_device_info(int32_t device, kc_device_info* out);
void cuda_device_info(int32_t device, kc_device_info* out);

}  // namespace kc
