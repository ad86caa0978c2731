// Bodies of codec.h.

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

// A fixed sequence of signs: the low bits of splitmix64 from a start that was chosen among eight by the divergence of
// the 2-bit sketch on two windows of text (docs/sketch.md); any sequence is right, some are luckier.
constexpr uint64_t kSignStart = 4000012;
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

void codec_expand(int32_t codec, const uint8_t* block, int64_t head_dim, int8_t* levels) {
    const int64_t n_units = 2 * head_dim;
    if (codec == KC_CODEC_Q4) {
        for (int64_t unit = 0; unit < n_units; unit += 2, block += 32) {
            const Bytes chunk = load_bytes(block);
            store_bytes(levels + unit * 32, look_up(bits_of(chunk, 0, 15), kLevels4));
            store_bytes(levels + unit * 32 + 32, look_up(bits_of(chunk, 4, 15), kLevels4));
        }
        return;
    }
    const uint8_t* high_plane = block + n_units * 8;
    for (int64_t unit = 0; unit < n_units; unit += 8, block += 64) {
        const Bytes high = codec == KC_CODEC_Q3 ? load_bytes(high_plane + unit * 4) : load_bytes(block);
        for (int half = 0; half < 2; ++half) {
            const Bytes chunk = load_bytes(block + 32 * half);
            for (int i = 0; i < 4; ++i) {
                const Bytes low = bits_of(chunk, 2 * i, 3);
                const Bytes level = codec == KC_CODEC_Q3
                                        ? look_up(with_high_bit(low, bits_of(high, 4 * half + i, 1)), kLevels3)
                                        : look_up(low, kLevels2);
                store_bytes(levels + (unit + 4 * half + i) * 32, level);
            }
        }
    }
}

constexpr CodecBodies codec_bodies = {codec_to_f16,      codec_from_f16,  codec_rotate,
                                      codec_rotate_back, codec_transpose, codec_expand};
