// The last sentence of a program with a defect, and the seed that repeats it.
#include <dlfcn.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "machine.h"

namespace simt {

namespace {

uint64_t initial_seed() {
    const char* text = std::getenv("KCACHE_SIMT_SEED");
    return text ? std::strtoull(text, nullptr, 10) : 1;
}

uint64_t the_seed = initial_seed();
uint64_t state = the_seed;

}  // namespace

uint64_t seed() { return the_seed; }

void set_seed(uint64_t seed) { the_seed = state = seed; }

uint32_t choose(uint32_t n) {
    if (the_seed == 0) return 0;
    // splitmix64
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>(((z ^ z >> 31) >> 32) * n >> 32);
}

std::string describe_code(const void* address) {
    Dl_info info;
    if (!address || !dladdr(address, &info)) return "unknown code";
    const auto offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(info.dli_fbase);
    char command[1024];
    std::snprintf(command, sizeof command, "addr2line -Cfpse '%s' 0x%zx 2>/dev/null", info.dli_fname,
                  static_cast<size_t>(offset));
    std::string text;
    if (FILE* pipe = popen(command, "r")) {
        char part[512];
        while (std::fgets(part, sizeof part, pipe)) text += part;
        pclose(pipe);
    }
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text.empty() ? std::string(info.dli_fname) : text;
}

void defect(const char* format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::fprintf(stderr, "simt: %s\n", text);
    if (running)
        std::fprintf(stderr, "simt: in %s%s\n", describe_work(running_number()).c_str(), describe_place().c_str());
    std::fprintf(stderr, "simt: KCACHE_SIMT_SEED=%llu repeats it\n", static_cast<unsigned long long>(the_seed));
    std::fflush(stderr);
    std::abort();
}

}  // namespace simt
