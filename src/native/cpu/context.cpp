#include "cpu/context.h"

#include <thread>

namespace kc {

CpuContext::CpuContext(int n_threads, int32_t activations)
    : kernels(&choose_kernels()),
      pool(n_threads > 0 ? n_threads : static_cast<int>(std::thread::hardware_concurrency())),
      activations(activations) {}

}  // namespace kc
