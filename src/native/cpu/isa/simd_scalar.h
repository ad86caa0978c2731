// The vector vocabulary in plain C++: the semantics, and what runs where nothing better was compiled in. Included
// inside the namespace of an instruction-set unit; includes nothing.
//
// VecF holds kLanes floats; Bytes holds the 32 bytes of a block; RowsF and RowsI hold a number for each of 8 rows.
// Loads and stores need no alignment. A tail form (last argument n, 0 <= n < kLanes) touches the first n elements only;
// the other lanes of a load are zero. Reductions have a fixed order, so that equal accumulators give equal bits.

constexpr int kLanes = 4;

typedef float VecF __attribute__((vector_size(16)));
typedef int32_t VecI __attribute__((vector_size(16)));

inline VecF splat(float a) { return VecF{a, a, a, a}; }
inline VecF add(VecF a, VecF b) { return a + b; }
inline VecF sub(VecF a, VecF b) { return a - b; }
inline VecF mul(VecF a, VecF b) { return a * b; }
inline VecF div(VecF a, VecF b) { return a / b; }
// a * b + c; fused where the instruction set fuses.
inline VecF fma(VecF a, VecF b, VecF c) { return a * b + c; }
// a where it is greater (max) or less (min), else b: so b where either is NaN.
inline VecF max(VecF a, VecF b) { return a > b ? a : b; }
inline VecF min(VecF a, VecF b) { return a < b ? a : b; }
inline VecF abs(VecF a) { return reinterpret_cast<VecF>(reinterpret_cast<VecI>(a) & 0x7fffffff); }
inline float sqrt(float a) { return __builtin_sqrtf(a); }

inline VecF load(const float* p) {
    VecF v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
inline VecF load(const float* p, int n) {
    VecF v = {};
    __builtin_memcpy(&v, p, sizeof(float) * static_cast<size_t>(n));
    return v;
}
inline bool all_zero(VecF v) { return v[0] == 0.f && v[1] == 0.f && v[2] == 0.f && v[3] == 0.f; }
inline void store(float* p, VecF v) { __builtin_memcpy(p, &v, sizeof v); }
inline void store(float* p, VecF v, int n) { __builtin_memcpy(p, &v, sizeof(float) * static_cast<size_t>(n)); }

inline float f16_to_f32(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
    const uint32_t magnitude = h & 0x7fff;
    uint32_t bits;
    float f;
    if (magnitude >= 0x7c00) {
        bits = sign | 0x7f800000 | (magnitude & 0x3ff) << 13 | (magnitude > 0x7c00 ? 0x400000 : 0);
    } else if (magnitude >= 0x400) {
        bits = sign | ((magnitude << 13) + 0x38000000);
    } else {
        // Subnormal: the integer times 2^-24, exact.
        f = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
        __builtin_memcpy(&bits, &f, 4);
        bits |= sign;
    }
    __builtin_memcpy(&f, &bits, 4);
    return f;
}
// Round to nearest even; too large becomes infinity.
inline uint16_t f32_to_f16(float f) {
    uint32_t bits;
    __builtin_memcpy(&bits, &f, 4);
    const uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (bits >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);
    if (bits < 0x38800000) {
        // Adding 0.5 leaves the result, rounded to 2^-24, in the low bits of the sum.
        float a;
        __builtin_memcpy(&a, &bits, 4);
        a += 0.5f;
        __builtin_memcpy(&bits, &a, 4);
        return static_cast<uint16_t>(sign | (bits - 0x3f000000));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return static_cast<uint16_t>(sign | (bits - 0x38000000) >> 13);
}

inline VecF load_f16(const void* p, int n) {
    uint16_t h[kLanes] = {};
    __builtin_memcpy(h, p, sizeof(uint16_t) * static_cast<size_t>(n));
    return VecF{f16_to_f32(h[0]), f16_to_f32(h[1]), f16_to_f32(h[2]), f16_to_f32(h[3])};
}
inline VecF load_f16(const void* p) { return load_f16(p, kLanes); }
inline void store_f16(void* p, VecF v, int n) {
    uint16_t h[kLanes];
    for (int i = 0; i < kLanes; ++i) h[i] = f32_to_f16(v[i]);
    __builtin_memcpy(p, h, sizeof(uint16_t) * static_cast<size_t>(n));
}
inline void store_f16(void* p, VecF v) { store_f16(p, v, kLanes); }

inline VecF load_bf16(const void* p, int n) {
    uint16_t h[kLanes] = {};
    __builtin_memcpy(h, p, sizeof(uint16_t) * static_cast<size_t>(n));
    VecI bits = {};
    for (int i = 0; i < kLanes; ++i) bits[i] = static_cast<int32_t>(static_cast<uint32_t>(h[i]) << 16);
    return reinterpret_cast<VecF>(bits);
}
inline VecF load_bf16(const void* p) { return load_bf16(p, kLanes); }

// kLanes signed bytes as floats.
inline VecF load_i8(const int8_t* p) {
    return VecF{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]), static_cast<float>(p[3])};
}
// Nearest integers (ties to even), held to [-128, 127]; lanes that are NaN store an arbitrary byte.
inline void store_i8(int8_t* p, VecF v) {
    // Adding 1.5 * 2^23 rounds to an integer that stands in the low bits.
    const VecF clamped = min(max(v, splat(-128.f)), splat(127.f));
    const VecI bits = reinterpret_cast<VecI>(clamped + 12582912.f);
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(bits[i] & 0xff);
}

inline float reduce_add(VecF v) { return (v[0] + v[1]) + (v[2] + v[3]); }
inline float reduce_max(VecF v) {
    const float a = v[0] > v[1] ? v[0] : v[1];
    const float b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

// Nearest integer, ties to even, for |v| < 2^22.
inline VecF round_even(VecF v) { return (v + 12582912.f) - 12582912.f; }
// 2^n for integers -126 <= n <= 127.
inline VecF exp2_integer(VecF n) {
    const VecI bits = reinterpret_cast<VecI>(n + 12582912.f);
    return reinterpret_cast<VecF>((bits + (127 - 0x4b400000)) << 23);
}
// 0 where a < b, else value (so also where either is NaN).
inline VecF zero_if_less(VecF a, VecF b, VecF value) {
    return reinterpret_cast<VecF>(reinterpret_cast<VecI>(value) & ~(a < b));
}
// b where a lane's bit is clear, a where it is set.
inline VecF choose(uint64_t lanes, VecF a, VecF b) {
    const VecI bits = {1, 2, 4, 8};
    const int32_t all = static_cast<int32_t>(lanes);
    return (VecI{all, all, all, all} & bits) != 0 ? a : b;
}
// A bit for every lane with a >= b.
inline uint32_t at_least(VecF a, VecF b) {
    uint32_t lanes = 0;
    for (int i = 0; i < kLanes; ++i) lanes |= static_cast<uint32_t>(a[i] >= b[i]) << i;
    return lanes;
}
// The largest of the lanes congruent to 0, 1, 2, 3 modulo 4.
inline void store_maxima4(float* p, VecF v) { store(p, v); }

struct Bytes {
    int8_t v[32];
};

inline Bytes load_bytes(const void* p) {
    Bytes b;
    __builtin_memcpy(&b, p, 32);
    return b;
}
// 16 bytes as 32 numbers 0..15: the low halves first, then the high halves.
inline Bytes load_nibbles(const void* p) {
    uint8_t packed[16];
    __builtin_memcpy(packed, p, 16);
    Bytes b;
    for (int i = 0; i < 16; ++i) {
        b.v[i] = static_cast<int8_t>(packed[i] & 15);
        b.v[i + 16] = static_cast<int8_t>(packed[i] >> 4);
    }
    return b;
}
// kLanes nibbles, the low or the high halves of kLanes bytes, as floats.
inline VecF load_u4(const uint8_t* p, bool high) {
    const int shift = high ? 4 : 0;
    return VecF{static_cast<float>(p[0] >> shift & 15), static_cast<float>(p[1] >> shift & 15),
                static_cast<float>(p[2] >> shift & 15), static_cast<float>(p[3] >> shift & 15)};
}

struct RowsF {
    VecF lo;
    VecF hi;
};
struct RowsI {
    VecI lo;
    VecI hi;
};

inline RowsF rows_splat(float a) { return {splat(a), splat(a)}; }
inline RowsF rows_add(RowsF a, RowsF b) { return {a.lo + b.lo, a.hi + b.hi}; }
inline RowsF rows_mul(RowsF a, RowsF b) { return {a.lo * b.lo, a.hi * b.hi}; }
inline RowsF rows_fma(RowsF a, RowsF b, RowsF c) { return {fma(a.lo, b.lo, c.lo), fma(a.hi, b.hi, c.hi)}; }
inline RowsI rows_sub(RowsI a, int32_t b) { return {a.lo - b, a.hi - b}; }
inline RowsF rows_convert(RowsI a) {
    return {__builtin_convertvector(a.lo, VecF), __builtin_convertvector(a.hi, VecF)};
}
inline RowsF rows_load(const float* p) { return {load(p), load(p + 4)}; }
inline RowsF rows_load(const float* p, int n) {
    float v[8] = {};
    __builtin_memcpy(v, p, sizeof(float) * static_cast<size_t>(n));
    return rows_load(v);
}
inline void rows_store(float* p, RowsF v) { __builtin_memcpy(p, &v, sizeof v); }
inline void rows_store(float* p, RowsF v, int n) { __builtin_memcpy(p, &v, sizeof(float) * static_cast<size_t>(n)); }
// The f16 at rows[r] + offset of every row.
inline RowsF rows_load_f16(const uint8_t* const* rows, int64_t offset) {
    float v[8];
    for (int r = 0; r < 8; ++r) {
        uint16_t h;
        __builtin_memcpy(&h, rows[r] + offset, 2);
        v[r] = f16_to_f32(h);
    }
    return rows_load(v);
}
// The integer dot products of x with the block at rows[r] + offset of every row, W being the type of the weights; exact
// for any bytes of weights and bytes of x from -127 to 127.
template <class W>
inline RowsI dot_rows(const uint8_t* const* rows, int64_t offset, const Bytes& x) {
    int32_t v[8];
    for (int r = 0; r < 8; ++r) {
        const Bytes w = W::bytes(rows[r] + offset);
        int sum = 0;
        for (int i = 0; i < 32; ++i) sum += static_cast<int16_t>(w.v[i]) * static_cast<int16_t>(x.v[i]);
        v[r] = sum;
    }
    RowsI dots;
    __builtin_memcpy(&dots, v, sizeof dots);
    return dots;
}

// How many rows of weights meet a single token at a time; EightRows of matmul_bytes.inl says what this offers.
typedef struct EightRows TokenRows;

// Whether tiles of tokens gain by an interleaved copy of 8 rows (not here), and what such a copy adds to signed bytes.
constexpr bool kInterleaves = false;
constexpr int kInterleavedZero = 0;
// One block of 8 rows as 8 vectors of 32 bytes: vector k holds bytes 4k .. 4k + 3 of row r at 4r.
template <bool kSigned>
void store_interleaved(const Bytes (&rows)[8], uint8_t* out);
// Dot products of such a block with a block of each of T tokens, x_stride bytes apart.
template <bool kSigned, int T>
void dot_interleaved(const uint8_t* w, const int8_t* x, int64_t x_stride, RowsI (&dots)[T]);

// Tokens of a tile: as many accumulators as registers hold.
constexpr int kFloatTileTokens = 3;
constexpr int kByteTileTokens = 4;

// The line of memory at p will be read soon.
inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
// Soon, and then for long no more: it need not take the place of others in the second-level cache.
inline void prefetch_once(const void* p) { __builtin_prefetch(p, 0, 0); }
