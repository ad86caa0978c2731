// The choice of an instruction set: the best of the machine, or what KCACHE_ISA asks for, or a sentence.
#include <cstdlib>
#include <cstring>
#include <string>

#include "check.h"
#include "core/error.h"
#include "isa_list.h"

namespace {

void set_isa(const char* name) {
#ifdef _WIN32
    _putenv_s("KCACHE_ISA", name);
#else
    setenv("KCACHE_ISA", name, 1);
#endif
}

std::string chosen(const char* name) {
    set_isa(name);
    try {
        return kc::choose_kernels().name;
    } catch (const kc::Error& error) {
        return std::to_string(error.status()) + ": " + error.what();
    }
}

}  // namespace

int main() {
    const auto all = kc_test::all_kernels();
    CHECK(!all.empty() && all[0] == kc::find_kernels(kc::Isa::scalar), "the scalar bodies run everywhere");
    CHECK(chosen("") == all.back()->name, chosen(""));
    for (const kc::Kernels* kernels : all) CHECK(chosen(kernels->name) == kernels->name, chosen(kernels->name));
    for (const char* name : {"avx2", "avx512"}) {
        bool available = false;
        for (const kc::Kernels* kernels : all) available = available || std::strcmp(kernels->name, name) == 0;
        const std::string refused = std::to_string(KC_ERR_UNSUPPORTED) + ": KCACHE_ISA asks for " + name;
        if (!available) CHECK(chosen(name).starts_with(refused), chosen(name));
    }
    const std::string unknown = std::to_string(KC_ERR_ARGUMENT) + ": KCACHE_ISA is 'sse9'";
    CHECK(chosen("sse9").starts_with(unknown), chosen("sse9"));
    return kc_test::check_result();
}
