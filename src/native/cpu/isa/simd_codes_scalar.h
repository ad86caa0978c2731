// The part of the vector vocabulary that coded rows need, in plain C++: the semantics. Included behind simd_scalar.h.

// (b >> shift) & mask of every byte; the mask keeps no bit that came from a neighbour.
inline Bytes bits_of(const Bytes& b, int shift, int mask) {
    Bytes out;
    for (int i = 0; i < 32; ++i) out.v[i] = static_cast<int8_t>(static_cast<uint8_t>(b.v[i]) >> shift & mask);
    return out;
}
// low | high << 2 of every byte; low below 4, high below 2.
inline Bytes with_high_bit(const Bytes& low, const Bytes& high) {
    Bytes out;
    for (int i = 0; i < 32; ++i) out.v[i] = static_cast<int8_t>(low.v[i] | high.v[i] << 2);
    return out;
}
// table[code] of every byte; codes below 16.
inline Bytes look_up(const Bytes& codes, const int8_t* table) {
    Bytes out;
    for (int i = 0; i < 32; ++i) out.v[i] = table[codes.v[i]];
    return out;
}
inline void store_bytes(void* p, const Bytes& b) { __builtin_memcpy(p, &b, 32); }

// 8 exact integer sums.
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

// 8 pairs of numbers.
struct Pairs {
    int16_t v[16];
};
// 16 signed bytes, widened.
inline Pairs load_pairs(const void* p) {
    int8_t b[16];
    __builtin_memcpy(b, p, 16);
    Pairs out;
    for (int i = 0; i < 16; ++i) out.v[i] = b[i];
    return out;
}
// One pair, 8 times.
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

// Four numbers, 8 times.
typedef Bytes Quads;
inline Quads splat_quad(const int8_t* p) {
    Bytes out;
    for (int i = 0; i < 32; ++i) out.v[i] = p[i % 4];
    return out;
}
// What add_quads adds too much, times the sum of all numbers of the query.
constexpr int32_t kQuadBias = 0;
// sums + the products, summed by fours; levels and numbers of the query within -127 to 127.
inline Ints add_quads(const Ints& sums, const Bytes& levels, const Quads& q) {
    Ints out = sums;
    for (int i = 0; i < 32; ++i) out.v[i / 4] += levels.v[i] * q.v[i];
    return out;
}

// out[d * 64 + t] = row t [d] for 8 rows of f16 and 8 numbers each.
inline void transpose_f16(const uint8_t* rows, int64_t row_bytes, float* out) {
    for (int t = 0; t < 8; ++t) {
        uint16_t row[8];
        __builtin_memcpy(row, rows + t * row_bytes, 16);
        for (int d = 0; d < 8; ++d) out[d * 64 + t] = f16_to_f32(row[d]);
    }
}
