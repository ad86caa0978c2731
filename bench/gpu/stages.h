// The stages of this program.
#pragma once

#include <string>

namespace bench {

struct StageOptions {
    std::string folder;
    bool tiny = false;     // sizes for a device made of software: that everything runs, no figure means anything
    double seconds = 480;  // after these no new point is begun
};

// 0, or 75 where time ran out: the same call goes on.
int run_kernels(const StageOptions& options);
int run_sweep(const StageOptions& options);

}  // namespace bench
