// Kernel bodies for AVX-512 (F, BW, VL, DQ).
#if defined(__GNUC__) && !defined(__clang__)
// GCC's own headers initialise "undefined" registers with themselves.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#ifdef KCACHE_EMULATE_AVX512
#include "cpu/isa/avx512_emulation.h"
#else
#include <immintrin.h>
#endif
#include <stddef.h>
#include <stdint.h>

#include "cpu/isa/isa.h"

#define KC_ISA Isa::avx512
#define KC_ISA_NAME "avx512"
#define KC_VNNI 0

namespace kc::avx512 {
namespace {

#include "cpu/isa/simd_avx512.h"

#include "cpu/isa/simd_bytes_avx2.h"
#include "cpu/isa/simd_pairs_avx512.h"
#include "cpu/isa/simd_transpose_avx2.h"

#include "cpu/isa/simd_codes_avx512.h"
#include "cpu/isa/simd_rows_avx512.h"
// The table closes the unnamed namespace.
#include "cpu/isa/bodies.inl"

}  // namespace kc::avx512
