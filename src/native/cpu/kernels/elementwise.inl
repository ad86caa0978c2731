// Bodies of elementwise.h.

void rms_norm_row(const float* x, const float* weight, int64_t dim, float eps, float* out) {
    const int tail = static_cast<int>(dim % kLanes);
    const int64_t whole = dim - tail;
    VecF squares = splat(0.f);
    for (int64_t i = 0; i < whole; i += kLanes) {
        const VecF v = load(x + i);
        squares = fma(v, v, squares);
    }
    if (tail != 0) {
        const VecF v = load(x + whole, tail);
        squares = fma(v, v, squares);
    }
    const VecF scale = splat(1.f / sqrt(reduce_add(squares) / static_cast<float>(dim) + eps));
    for (int64_t i = 0; i < whole; i += kLanes) store(out + i, mul(mul(load(x + i), scale), load(weight + i)));
    if (tail != 0) store(out + whole, mul(mul(load(x + whole, tail), scale), load(weight + whole, tail)), tail);
}

void rope_token(const float* table, int64_t n_heads, int64_t head_dim, int64_t n_pairs, int32_t pairing, float* x) {
    for (int64_t head = 0; head < n_heads; ++head, x += head_dim) {
        const bool interleaved = pairing == KC_ROPE_INTERLEAVED;
        float* first = x;
        float* second = interleaved ? x + 1 : x + n_pairs;
        const int64_t step = interleaved ? 2 : 1;
        for (int64_t p = 0; p < n_pairs; ++p) {
            const float cos = table[2 * p], sin = table[2 * p + 1];
            const float a = first[step * p], b = second[step * p];
            first[step * p] = a * cos - b * sin;
            second[step * p] = a * sin + b * cos;
        }
    }
}

inline VecF swiglu_lanes(VecF gate, VecF up) {
    const VecF one = splat(1.f);
    return mul(div(gate, add(one, exp(sub(splat(0.f), gate)))), up);
}

void swiglu_range(const float* gate, const float* up, int64_t n, float* out) {
    const int tail = static_cast<int>(n % kLanes);
    const int64_t whole = n - tail;
    for (int64_t i = 0; i < whole; i += kLanes) store(out + i, swiglu_lanes(load(gate + i), load(up + i)));
    if (tail != 0) store(out + whole, swiglu_lanes(load(gate + whole, tail), load(up + whole, tail)), tail);
}

void add_range(const float* a, const float* b, int64_t n, float* out) {
    const int tail = static_cast<int>(n % kLanes);
    const int64_t whole = n - tail;
    for (int64_t i = 0; i < whole; i += kLanes) store(out + i, add(load(a + i), load(b + i)));
    if (tail != 0) store(out + whole, add(load(a + whole, tail), load(b + whole, tail)), tail);
}

// The largest element that is not NaN; minus infinity where there is none.
inline float largest(const float* x, int64_t n) {
    const float lowest = -__builtin_inff();
    VecF m = splat(lowest);
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) m = max(load(x + i), m);
    float result = reduce_max(m);
    for (; i < n; ++i) {
        if (x[i] > result) result = x[i];
    }
    return result;
}

void softmax_row(const float* x, int64_t n, float* out) {
    const int tail = static_cast<int>(n % kLanes);
    const int64_t whole = n - tail;
    const VecF m = splat(largest(x, n));
    VecF sums = splat(0.f);
    for (int64_t i = 0; i < whole; i += kLanes) {
        const VecF e = exp(sub(load(x + i), m));
        store(out + i, e);
        sums = add(sums, e);
    }
    if (tail != 0) {
        store(out + whole, exp(sub(load(x + whole, tail), m)), tail);
        sums = add(sums, load(out + whole, tail));
    }
    const VecF scale = splat(1.f / reduce_add(sums));
    for (int64_t i = 0; i < whole; i += kLanes) store(out + i, mul(load(out + i), scale));
    if (tail != 0) store(out + whole, mul(load(out + whole, tail), scale), tail);
}

int32_t argmax_row(const float* x, int64_t n) {
    const float m = largest(x, n);
    for (int64_t i = 0; i < n; ++i) {
        if (x[i] == m) return static_cast<int32_t>(i);
    }
    return 0;
}

constexpr ElementwiseBodies elementwise_bodies = {rms_norm_row, rope_token,  swiglu_range,
                                                  add_range,    softmax_row, argmax_row};
