#include "cpu/isa/isa.h"

#include <cstdlib>
#include <cstring>

#include "core/error.h"

#if defined(__x86_64__) || defined(_M_X64)
#define KC_X86 1
#include <cpuid.h>
#else
#define KC_X86 0
#endif

namespace kc {

namespace scalar {
extern const Kernels kernels;
}
#if KC_X86
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512vnni {
extern const Kernels kernels;
}
#endif

namespace {

struct Features {
    bool avx2 = false;
    bool avx512 = false;
    bool vnni = false;
};

#if KC_X86
// Which register states the operating system saves.
uint64_t saved_states() {
    uint32_t lo, hi;
    asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return static_cast<uint64_t>(hi) << 32 | lo;
}

Features detect() {
    Features features;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return features;
    const bool osxsave = c >> 27 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1, avx = c >> 28 & 1;
    if (!osxsave || !avx) return features;
    const uint64_t states = saved_states();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
    const bool ymm = (states & 0x6) == 0x6, zmm = (states & 0xe6) == 0xe6;
    features.avx2 = ymm && fma && f16c && (b >> 5 & 1);
    const bool f = b >> 16 & 1, dq = b >> 17 & 1, bw = b >> 30 & 1, vl = b >> 31 & 1;
    features.avx512 = features.avx2 && zmm && f && dq && bw && vl;
    features.vnni = features.avx512 && (c >> 11 & 1);
#ifdef KCACHE_EMULATE_AVX512
    // The emulated units are made of AVX2.
    features.avx512 = features.avx2;
    features.vnni = features.avx2;
#endif
    return features;
}
#else
Features detect() { return {}; }
#endif

}  // namespace

const Kernels* find_kernels(Isa isa) {
    // Asked once: on a virtual machine every cpuid leaves the guest, which costs tens of microseconds.
    static const Features features = detect();
    switch (isa) {
        case Isa::scalar:
            return &scalar::kernels;
#if KC_X86
        case Isa::avx2:
            return features.avx2 ? &avx2::kernels : nullptr;
        case Isa::avx512:
            return features.avx512 ? &avx512::kernels : nullptr;
        case Isa::avx512vnni:
            return features.vnni ? &avx512vnni::kernels : nullptr;
#endif
        default:
            (void)features;
            return nullptr;
    }
}

const Kernels& choose_kernels() {
    // Best first.
    static constexpr Isa kAll[] = {Isa::avx512vnni, Isa::avx512, Isa::avx2, Isa::scalar};
    const char* name = std::getenv("KCACHE_ISA");
    const bool any = name == nullptr || *name == 0;
    if (!any && std::strcmp(name, "scalar") != 0 && std::strcmp(name, "avx2") != 0 &&
        std::strcmp(name, "avx512") != 0) {
        fail(KC_ERR_ARGUMENT,
             "KCACHE_ISA is '%s'; it may be scalar, avx2 or avx512, or unset for the best of this machine", name);
    }
    for (const Isa isa : kAll) {
        const Kernels* kernels = find_kernels(isa);
        if (kernels != nullptr && (any || std::strcmp(name, kernels->name) == 0)) return *kernels;
    }
    fail(KC_ERR_UNSUPPORTED, "KCACHE_ISA asks for %s, which this machine cannot run; unset it for the best it can",
         name);
}

}  // namespace kc
