#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "stages.h"

int main(int argc, char** argv) {
    bench::StageOptions options;
    if (argc < 3 || (std::strcmp(argv[1], "kernels") != 0 && std::strcmp(argv[1], "sweep") != 0)) {
        std::fprintf(stderr, "usage: gpu_bench kernels|sweep FOLDER [--tiny] [--seconds S]\n");
        return 2;
    }
    options.folder = argv[2];
    for (int i = 3; i < argc; ++i) {
        if (std::strcmp(argv[i], "--tiny") == 0) options.tiny = true;
        if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) options.seconds = std::atof(argv[++i]);
    }
    try {
        return std::strcmp(argv[1], "sweep") == 0 ? bench::run_sweep(options) : bench::run_kernels(options);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
