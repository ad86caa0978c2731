// Bodies of matmul.h. A type of weights is one file in weights/ and one row of the table below.

inline float half_at(const uint8_t* p) {
    uint16_t h;
    __builtin_memcpy(&h, p, 2);
    return f16_to_f32(h);
}

#include "cpu/kernels/weights/bf16.inl"
#include "cpu/kernels/weights/f16.inl"
#include "cpu/kernels/weights/f32.inl"
#include "cpu/kernels/weights/q4_0.inl"
#include "cpu/kernels/weights/q4_1.inl"
#include "cpu/kernels/weights/q8_0.inl"

#include "cpu/kernels/matmul_streams.inl"

#include "cpu/kernels/matmul_floats.inl"

#include "cpu/kernels/matmul_bytes.inl"

// Weights that are floats meet floats; weights in blocks meet either.
template <class W>
constexpr WeightBodies weight_bodies() {
    WeightBodies bodies = {W::kType, W::kBlock, W::kBlockBytes, decode_row<W>, multiply_floats<W>, nullptr};
    if constexpr (W::kBlock == 32) bodies.multiply_bytes = multiply_bytes<W>;
    return bodies;
}

constexpr MatMulBodies matmul_bodies = {
    {
        weight_bodies<WeightF32>(),
        weight_bodies<WeightF16>(),
        weight_bodies<WeightBF16>(),
        weight_bodies<WeightQ8_0>(),
        weight_bodies<WeightQ4_0>(),
        weight_bodies<WeightQ4_1>(),
    },
    {TokenRows::kRows, kMostStreamedTokens},
    {kFloatStreams, 1},
    quantise_token,
};
