// The part of the vector vocabulary that coded rows need, in plain C++: the semantics. Included behind simd_scalar.h.

// A register of codes or levels: all or half of a unit (cpu/kernels/codes.h).
typedef Bytes Codes;
constexpr int kCodeBytes = 32;
constexpr int kUnitParts = 64 / kCodeBytes;
// How many query heads go through a block of codes together.
constexpr int kTileHeads = 3;
inline Codes load_codes(const void* p) { return load_bytes(p); }
inline void store_codes(void* p, const Codes& b) { __builtin_memcpy(p, &b, 32); }
// (b >> shift) & mask of every byte; the mask keeps no bit that came from a neighbour.
inline Codes bits_of(const Codes& b, int shift, int mask) {
    Codes out;
    for (int i = 0; i < 32; ++i) out.v[i] = static_cast<int8_t>(static_cast<uint8_t>(b.v[i]) >> shift & mask);
    return out;
}
// low | high << 2 of every byte; low below 4, high below 2.
inline Codes with_high_bit(const Codes& low, const Codes& high) {
    Codes out;
    for (int i = 0; i < 32; ++i) out.v[i] = static_cast<int8_t>(low.v[i] | high.v[i] << 2);
    return out;
}
// A table of 16 bytes, for look_up.
inline Codes load_table(const int8_t* table) {
    Codes out = {};
    __builtin_memcpy(&out, table, 16);
    return out;
}
// table[code] of every byte; codes below 16.
inline Codes look_up(const Codes& codes, const Codes& table) {
    Codes out;
    for (int i = 0; i < 32; ++i) out.v[i] = table.v[codes.v[i]];
    return out;
}

// kIntLanes exact integer sums.
constexpr int kIntLanes = 8;
struct Ints {
    int32_t v[8];
};
inline Ints zero_ints() { return {}; }
inline void store_ints(float* p, const Ints& a) {
    for (int i = 0; i < 8; ++i) p[i] = static_cast<float>(a.v[i]);
}
inline Ints subtract(const Ints& a, int32_t b) {
    Ints out;
    for (int i = 0; i < 8; ++i) out.v[i] = a.v[i] - b;
    return out;
}

// kIntLanes pairs of numbers, which meet kPairHeads query heads at a time.
constexpr int kPairHeads = 2;
struct Pairs {
    int16_t v[16];
};
// 2 * kIntLanes signed bytes, widened.
inline Pairs load_pairs(const void* p) {
    int8_t b[16];
    __builtin_memcpy(b, p, 16);
    Pairs out;
    for (int i = 0; i < 16; ++i) out.v[i] = b[i];
    return out;
}
// One pair, kIntLanes times.
inline Pairs splat_pair(const int16_t* p) {
    Pairs out;
    for (int i = 0; i < 16; ++i) out.v[i] = p[i % 2];
    return out;
}
// sums + the products, summed by pairs.
inline Ints add_pairs(const Ints& sums, const Pairs& a, const Pairs& b) {
    Ints out;
    for (int i = 0; i < 8; ++i) {
        out.v[i] = sums.v[i] + (a.v[2 * i] * b.v[2 * i] + a.v[2 * i + 1] * b.v[2 * i + 1]);
    }
    return out;
}

// Four numbers, once per sum.
typedef Codes Quads;
inline Quads splat_quad(const int8_t* p) {
    Codes out;
    for (int i = 0; i < 32; ++i) out.v[i] = p[i % 4];
    return out;
}
// What levels need to have added for add_quads, which then adds it times the sum of the query's numbers too much.
constexpr int32_t kQuadBias = 0;
// How many units of K a tile takes side by side.
constexpr int kUnitTile = 2;
inline Ints zero_quads() { return {}; }
// sums + the products, summed by fours; levels (less the bias) and numbers of the query within -127 to 127.
inline Ints add_quads(const Ints& sums, const Codes& levels, const Quads& q) {
    Ints out = sums;
    for (int i = 0; i < 32; ++i) out.v[i / 4] += levels.v[i] * q.v[i];
    return out;
}
// Vectors of floats that the sums of a register make.
constexpr int kQuadVectors = 2;
inline void convert_quads(const Ints& sums, int32_t less, VecF (&out)[kQuadVectors]) {
    float f[8];
    store_ints(f, subtract(sums, less));
    for (int i = 0; i < kQuadVectors; ++i) out[i] = load(f + i * kLanes);
}

// Weights of 4 tokens as integers from 0 to kWeightSteps, in the form that add_weighted takes. As many steps as two
// signed bytes can tell.
constexpr float kWeightSteps = 127 * 256 + 127;
// What levels need to have added for add_weighted, and of how many pages, at most 16, its sums hold the products.
constexpr int32_t kWeightedBias = 0;
constexpr int kWeightedPages = 4;
struct WeightQuad {
    int32_t first;
    int32_t second;
};
// Sums of packed weights, and what add_weighted comes to for them and the bias alone.
struct PackedSums {};
struct WeightedBias {};
inline PackedSums zero_packed() { return {}; }
inline WeightedBias weighted_bias(const PackedSums&) { return {}; }
// round(weights * inverse) of 64 tokens; out[16].
inline void pack_weights(const float* weights, VecF inverse, WeightQuad* out, PackedSums&) {
    for (int i = 0; i < 16; ++i) {
        float x[kLanes];
        store(x, mul(load(weights + i * kLanes), inverse));
        int32_t w[4];
        for (int j = 0; j < 4; ++j) w[j] = static_cast<int32_t>(__builtin_rintf(x[j]));
        out[i] = {w[0] | w[2] << 16, w[1] | w[3] << 16};
    }
}
static_assert(kLanes == 4);
// Levels of 4 tokens, prepared once for all heads.
typedef Codes WeightedLevels;
inline WeightedLevels prepare_levels(const Codes& levels) { return levels; }
typedef Ints WeightedSums;
constexpr int kWeightedTile = 1;
inline WeightedSums zero_weighted() { return {}; }
// sums + weights * levels, summed by fours.
inline void add_weighted(WeightedSums& sums, const WeightedLevels& levels, const WeightQuad& w) {
    for (int i = 0; i < 8; ++i) {
        const int8_t* level = levels.v + 4 * i;
        sums.v[i] += level[0] * (w.first & 0xffff) + level[1] * (w.second & 0xffff) + level[2] * (w.first >> 16) +
                     level[3] * (w.second >> 16);
    }
}
// p[i] += unit * (sums[i] - bias).
inline void add_total(float* p, const WeightedSums& sums, const WeightedBias&, float unit) {
    for (int i = 0; i < 8; ++i) p[i] += unit * static_cast<float>(sums.v[i]);
}

// out[d * 64 + t] = row t [d] for 8 rows of f16 and 8 numbers each.
inline void transpose_f16(const uint8_t* rows, int64_t row_bytes, float* out) {
    for (int t = 0; t < 8; ++t) {
        uint16_t row[8];
        __builtin_memcpy(row, rows + t * row_bytes, 16);
        for (int d = 0; d < 8; ++d) out[d * 64 + t] = f16_to_f32(row[d]);
    }
}
