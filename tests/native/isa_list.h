// The kernels of every instruction set that this machine can run, for tests that try them all.
#pragma once

#include <vector>

#include "cpu/isa/isa.h"

namespace kc_test {

inline std::vector<const kc::Kernels*> all_kernels() {
    std::vector<const kc::Kernels*> all;
    for (const kc::Isa isa : {kc::Isa::scalar, kc::Isa::avx2, kc::Isa::avx512, kc::Isa::avx512vnni}) {
        if (const kc::Kernels* kernels = kc::find_kernels(isa)) all.push_back(kernels);
    }
    return all;
}

}  // namespace kc_test
