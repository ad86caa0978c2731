// Kernel bodies for any machine.
#include <stddef.h>
#include <stdint.h>

#include "cpu/isa/isa.h"

#define KC_ISA Isa::scalar
#define KC_ISA_NAME "scalar"

namespace kc::scalar {
namespace {

#include "cpu/isa/simd_scalar.h"

#include "cpu/isa/simd_codes_scalar.h"
// The table closes the unnamed namespace.
#include "cpu/isa/bodies.inl"

}  // namespace kc::scalar
