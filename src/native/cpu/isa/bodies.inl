// All kernel bodies and their table, once per instruction set. The including unit has opened its namespace and an
// unnamed one inside it, included its vector vocabulary, and defined KC_ISA and KC_ISA_NAME.

#include "cpu/isa/simd_math.inl"
// Codes are what the others read.
#include "cpu/kernels/codec.inl"

#include "cpu/kernels/attention_full.inl"
#include "cpu/kernels/attention_mix.inl"
#include "cpu/kernels/attention_score.inl"
#include "cpu/kernels/elementwise.inl"
#include "cpu/kernels/matmul.inl"
#include "cpu/kernels/select_topn.inl"

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {
    KC_ISA,
    KC_ISA_NAME,
    elementwise_bodies,
    matmul_bodies,
    codec_bodies,
    attention_score_bodies,
    select_topn_bodies,
    attention_mix_bodies,
    attention_full_bodies,
};
