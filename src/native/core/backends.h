// The backends that there are. Each fills the table of the seam; api/ alone calls these.
#pragma once

#include "backend.h"

namespace kc {

// Throws an Error (ARGUMENT, UNSUPPORTED) with the way out.
Backend make_cpu_backend(const kc_context_desc& desc);
Backend make_cuda_backend(const kc_context_desc& desc);

// Whether this build holds the CUDA backend and the machine a device for it.
bool cuda_is_there() noexcept;

}  // namespace kc
