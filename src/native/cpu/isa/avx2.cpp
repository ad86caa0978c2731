// Kernel bodies for AVX2 with FMA and F16C.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/isa/isa.h"

#define KC_ISA Isa::avx2
#define KC_ISA_NAME "avx2"
#define KC_VNNI 0

namespace kc::avx2 {
namespace {

#include "cpu/isa/simd_avx2.h"

#include "cpu/isa/simd_bytes_avx2.h"
#include "cpu/isa/simd_pairs_avx2.h"
#include "cpu/isa/simd_transpose_avx2.h"

#include "cpu/isa/simd_codes_avx2.h"
// The table closes the unnamed namespace.
#include "cpu/isa/bodies.inl"

}  // namespace kc::avx2
