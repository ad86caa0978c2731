// What every CPU kernel is called with: threads, instruction set, options, scratch.
#pragma once

#include <cstdint>

#include "cpu/isa/isa.h"
#include "cpu/parallel.h"
#include "cpu/scratch.h"
#include "kcache.h"

namespace kc {

struct CpuContext {
    // n_threads 0: one per core that the process may use. activations: KC_ACTIVATIONS_*.
    explicit CpuContext(int n_threads, int32_t activations = KC_ACTIVATIONS_Q8);

    // The bodies to call, and the pool to call them on.
    const Kernels* kernels;
    ThreadPool pool;
    int32_t activations;
    // Of matmul: activations in 8 bits, and what each worker unpacks.
    Scratch scratch;
};

}  // namespace kc
