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

constexpr CodecBodies codec_bodies = {codec_to_f16, codec_from_f16};
