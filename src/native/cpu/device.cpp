#include "cpu/device.h"

#include <cstdint>
#include <cstdio>
#include <fstream>

#include "core/backends.h"
#include "cpu/isa/isa.h"

#if defined(_WIN32)
#include <windows.h>
#endif

namespace kc {
namespace {

// What Linux's /proc/meminfo or Windows says; 0 where neither is there.
void memory(uint64_t* total_bytes, uint64_t* free_bytes) {
#if defined(_WIN32)
    MEMORYSTATUSEX status = {};
    status.dwLength = sizeof status;
    if (!GlobalMemoryStatusEx(&status)) return;
    *total_bytes = status.ullTotalPhys;
    *free_bytes = status.ullAvailPhys;
#else
    std::ifstream lines("/proc/meminfo");
    for (std::string line; std::getline(lines, line);) {
        unsigned long long kib = 0;
        if (std::sscanf(line.c_str(), "MemTotal: %llu", &kib) == 1) *total_bytes = kib * 1024;
        if (std::sscanf(line.c_str(), "MemAvailable: %llu", &kib) == 1) *free_bytes = kib * 1024;
    }
#endif
}

}  // namespace

std::string cpu_name() {
    std::ifstream lines("/proc/cpuinfo");
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind("model name", 0) != 0) continue;
        const size_t colon = line.find(": ");
        if (colon != std::string::npos) return line.substr(colon + 2);
    }
    return "CPU";
}

int32_t count_cpu_devices() { return 1; }

void cpu_device_info(int32_t, kc_device_info* out) {
    std::snprintf(out->isa, sizeof out->isa, "%s", choose_kernels().name);
    std::snprintf(out->name, sizeof out->name, "%s", cpu_name().c_str());
    memory(&out->total_bytes, &out->free_bytes);
}

}  // namespace kc
