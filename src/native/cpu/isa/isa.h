// Which instruction set the kernels use, decided at run time (cpu/choose_isa.cpp). Everything below may be included by
// the instruction-set units: plain structs and declarations only.
//
// How to add a kernel body:
//   1. cpu/kernels/NAME.h declares the plain structs of a work item and `struct NameBodies`, a pointer per body.
//   2. cpu/kernels/NAME.inl defines the bodies on the vector vocabulary (simd_scalar.h lists it) and ends with
//      `constexpr NameBodies name_bodies = {...};`. It includes nothing and calls nothing from the standard library.
//   3. Add the .inl to isa/bodies.inl, and `NameBodies name;` to Kernels below, in the order of the table.
//   4. cpu/kernels/NAME.cpp schedules: context.pool.run(...), each piece calling context.kernels->name.body(...).
// The units scalar.cpp, avx2.cpp, avx512.cpp and avx512vnni.cpp each compile all bodies inside an unnamed namespace, so
// that no function built for one instruction set can be linked into another. A word of the vocabulary that is missing
// is added to all three simd_*.h; an intrinsic that SIMDe lacks also to avx512_emulation.h.
#pragma once

#include <stdint.h>

#include "cpu/kernels/attention_full.h"
#include "cpu/kernels/attention_mix.h"
#include "cpu/kernels/attention_score.h"
#include "cpu/kernels/codec.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/matmul.h"
#include "cpu/kernels/select_topn.h"

namespace kc {

// avx512vnni counts as avx512 to the outside: it adds the dot product instructions for bytes.
enum class Isa : int32_t { scalar, avx2, avx512, avx512vnni };

struct Kernels {
    Isa isa;
    const char* name;
    ElementwiseBodies elementwise;
    MatMulBodies matmul;
    CodecBodies codec;
    AttentionScoreBodies attention_score;
    SelectTopnBodies select_topn;
    AttentionMixBodies attention_mix;
    AttentionFullBodies attention_full;
};

// The bodies for `isa`, or nullptr where this machine (or this build) cannot run them.
const Kernels* find_kernels(Isa isa);

// The best that this machine can run, or what the environment variable KCACHE_ISA names. Throws an Error where it names
// something unknown or not available.
const Kernels& choose_kernels();

}  // namespace kc
