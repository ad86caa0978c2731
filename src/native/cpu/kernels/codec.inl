// Bodies of codec.h, and what the kernels that read coded blocks share.

// Vectors of the 64 tokens of a block.
constexpr int kBlockVectors = 64 / kLanes;

bool codec_to_f16(const float* x, int64_t n, uint16_t* out) {
    // Becomes NaN where a number is NaN or infinite.
    VecF probe = splat(0.f);
    VecF largest = splat(0.f);
    for (int64_t i = 0; i < n; i += kLanes) {
        const VecF v = load(x + i);
        probe = fma(v, splat(0.f), probe);
        largest = max(abs(v), largest);
        store_f16(out + i, v);
    }
    // From 65520 on a number would round to infinity.
    if (reduce_add(probe) == 0.f && reduce_max(largest) < 65520.f) return true;
    for (int64_t i = 0; i < n; ++i) {
        const float v = x[i];
        out[i] = v != v ? uint16_t{0} : f32_to_f16(v > 65504.f ? 65504.f : v < -65504.f ? -65504.f : v);
    }
    return false;
}

void codec_from_f16(const uint16_t* x, int64_t n, float* out) {
    for (int64_t i = 0; i < n; i += kLanes) store(out + i, load_f16(x + i));
}

struct RotationSigns {
    float v[256];
};
constexpr RotationSigns make_rotation_signs() {
    RotationSigns signs = {};
    for (uint64_t d = 0; d < 256; ++d) {
        uint64_t z = (kSignStart + d + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        signs.v[d] = ((z ^ z >> 31) & 1) != 0 ? 1.f : -1.f;
    }
    return signs;
}
constexpr RotationSigns kRotationSigns = make_rotation_signs();

// The block that is transformed as a whole: the largest power of two that divides head_dim.
inline int64_t rotation_block(int64_t head_dim) { return head_dim & -head_dim; }

inline void walsh_hadamard(float* x, int64_t n) {
    for (int64_t step = 1; step < n; step *= 2) {
        for (int64_t i = 0; i < n; i += 2 * step) {
            for (int64_t j = i; j < i + step; ++j) {
                const float a = x[j], b = x[j + step];
                x[j] = a + b;
                x[j + step] = a - b;
            }
        }
    }
}

void codec_rotate(float* x, int64_t head_dim) {
    const int64_t block = rotation_block(head_dim);
    const float factor = 1.f / sqrt(static_cast<float>(block));
    for (int64_t d = 0; d < head_dim; ++d) x[d] *= kRotationSigns.v[d];
    for (int64_t d = 0; d < head_dim; d += block) walsh_hadamard(x + d, block);
    for (int64_t d = 0; d < head_dim; ++d) x[d] *= factor;
}

void codec_rotate_back(float* x, int64_t head_dim) {
    const int64_t block = rotation_block(head_dim);
    const float factor = 1.f / sqrt(static_cast<float>(block));
    for (int64_t d = 0; d < head_dim; d += block) walsh_hadamard(x + d, block);
    for (int64_t d = 0; d < head_dim; ++d) x[d] *= factor * kRotationSigns.v[d];
}

void codec_transpose(const uint8_t* rows, int64_t row_bytes, int64_t head_dim, float* keys) {
    for (int64_t t = 0; t < 64; t += 8) {
        for (int64_t d = 0; d < head_dim; d += 8) {
            transpose_f16(rows + t * row_bytes + 2 * d, row_bytes, keys + d * 64 + t);
        }
    }
}

// Tables of levels in registers, each level with `bias` added.
template <int kBias>
struct LevelTables {
    int8_t q2[16] = {}, q3[16] = {}, q4[16] = {};
    constexpr LevelTables() {
        for (int i = 0; i < 16; ++i) {
            q2[i] = static_cast<int8_t>(kLevels2[i] + kBias);
            q3[i] = static_cast<int8_t>(kLevels3[i] + kBias);
            q4[i] = static_cast<int8_t>(kLevels4[i] + kBias);
        }
    }
    template <int32_t kCodec>
    constexpr const int8_t* of() const {
        return kCodec == KC_CODEC_Q4 ? q4 : kCodec == KC_CODEC_Q3 ? q3 : q2;
    }
};
constexpr LevelTables<0> kSignedLevels;

// Codes of part `part` of unit `eight` + i (codes.h), `eight` being a multiple of 8 and i below 8: that often the bits
// of all planes begin anew.
template <int32_t kCodec>
inline Codes unit_codes(const uint8_t* block, int64_t head_dim, int64_t eight, int i, int part) {
    const int64_t offset = part * kCodeBytes;
    if constexpr (kCodec == KC_CODEC_Q4) {
        return bits_of(load_codes(block + eight * 32 + i / 2 * 64 + offset), i % 2 * 4, 15);
    } else {
        const Codes low = bits_of(load_codes(block + eight * 16 + i / 4 * 64 + offset), i % 4 * 2, 3);
        if constexpr (kCodec == KC_CODEC_Q2) return low;
        const uint8_t* high_plane = block + head_dim * 16;
        return with_high_bit(low, bits_of(load_codes(high_plane + eight * 8 + offset), i, 1));
    }
}

// How many of n_heads heads go together next: the rest is not left alone.
inline int64_t tile_heads(int64_t n_heads) {
    if (n_heads == kTileHeads + 1 && kTileHeads > 2) return kTileHeads - 1;
    return n_heads > kTileHeads ? kTileHeads : n_heads;
}

template <int32_t kCodec>
inline void expand_units(const uint8_t* block, int64_t head_dim, int8_t* levels) {
    const Codes table = load_table(kSignedLevels.of<kCodec>());
    for (int64_t unit = 0; unit < head_dim; unit += 8) {
        for (int i = 0; i < 8; ++i) {
            for (int part = 0; part < kUnitParts; ++part) {
                const Codes codes = unit_codes<kCodec>(block, head_dim, unit, i, part);
                store_codes(levels + (unit + i) * 64 + part * kCodeBytes, look_up(codes, table));
            }
        }
    }
}

void codec_expand(int32_t codec, const uint8_t* block, int64_t head_dim, int8_t* levels) {
    if (codec == KC_CODEC_Q4) return expand_units<KC_CODEC_Q4>(block, head_dim, levels);
    if (codec == KC_CODEC_Q3) return expand_units<KC_CODEC_Q3>(block, head_dim, levels);
    expand_units<KC_CODEC_Q2>(block, head_dim, levels);
}

constexpr CodecBodies codec_bodies = {codec_to_f16,      codec_from_f16,  codec_rotate,
                                      codec_rotate_back, codec_transpose, codec_expand};
