// The product with activations in 8 bits, for weights in blocks of 32. The integer sum over a block is exact however it
// is taken; an output is the sum over blocks in ascending order of (both scales) * (integer sum), plus minimum * sum of
// x. So a group of rows may be summed row by row (one token) or column by column from an interleaved copy (tiles).

void quantise_token(const float* x, int64_t n_cols, int8_t* q, float* scale, int32_t* q_sum, float* x_sum) {
    for (int64_t b = 0; b < n_cols / 32; ++b, x += 32, q += 32) {
        VecF largest_lanes = splat(0.f);
        VecF poison = splat(0.f);  // NaN as soon as one element is NaN or infinite
        for (int i = 0; i < 32; i += kLanes) {
            const VecF v = load(x + i);
            largest_lanes = max(abs(v), largest_lanes);
            poison = fma(v, splat(0.f), poison);
        }
        const float most = reduce_max(largest_lanes);
        // Below this the reciprocal would overflow; such a block is zero for any purpose.
        const float inverse = most > 1e-30f ? 127.f / most : 0.f;
        // Integers as floats, so their sum is exact; reading q back would wait for the stores.
        VecF sums = splat(0.f);
        for (int i = 0; i < 32; i += kLanes) {
            const VecF number = round_even(min(max(mul(load(x + i), splat(inverse)), splat(-128.f)), splat(127.f)));
            store_i8(q + i, number);
            sums = add(number, sums);
        }
        const float sum = reduce_add(sums);
        scale[b] = (inverse != 0.f ? most / 127.f : 0.f) + reduce_add(poison);
        q_sum[b] = static_cast<int32_t>(sum);
        x_sum[b] = scale[b] * sum;
    }
}

// Stores the sums of one token and up to 8 rows.
inline void finish_rows(const MatMulRows& rows, int64_t token, int64_t row, int n_valid, RowsF sums) {
    float* out = rows.out + token * rows.out_stride + row;
    if (rows.bias != nullptr) sums = rows_add(sums, rows_load(rows.bias + row, n_valid));
    if (rows.accumulate) sums = rows_add(rows_load(out, n_valid), sums);
    rows_store(out, sums, n_valid);
}

// What a token meets at a time. dots<W>: the integer dot products of x with the block at rows[r] + offset of every row,
// too large by kSignedZero times the sum of x where the weights are signed.
struct EightRows {
    typedef RowsF F;
    static constexpr int kRows = 8;
    static constexpr int kSignedZero = 0;
    static F splat(float a) { return rows_splat(a); }
    static F load_f16(const uint8_t* const* rows, int64_t offset) { return rows_load_f16(rows, offset); }
    template <class W>
    static RowsI dots(const uint8_t* const* rows, int64_t offset, const Bytes& x) {
        return dot_rows<W>(rows, offset, x);
    }
    static void store(float* p, F sums) { rows_store(p, sums); }
};

// A row of every stream, straight from the file's layout, against one token; the first token fetches what follows.
template <class W>
inline TokenRows::F rows_times_token(const uint8_t* const* row_pointers, const MatMulInput& input, int64_t token) {
    constexpr int kZero = W::kZero + (W::kSigned ? TokenRows::kSignedZero : 0);
    constexpr int kLineBlocks = (64 + W::kBlockBytes / 2) / W::kBlockBytes;
    const int64_t n_blocks = input.n_cols / 32;
    const int8_t* q = input.q + token * input.n_cols;
    const float* scale = input.scale + token * n_blocks;
    TokenRows::F sums = TokenRows::splat(0.f);
    for (int64_t b = 0; b < n_blocks; ++b) {
        const int64_t offset = b * W::kBlockBytes;
        // Once for about every line.
        if (b % kLineBlocks == 0 && token == 0) {
            for (int r = 0; r < TokenRows::kRows; ++r) prefetch(row_pointers[r] + offset + kAheadBytes);
        }
        auto dots = TokenRows::dots<W>(row_pointers, offset, load_bytes(q + 32 * b));
        if constexpr (kZero != 0) dots = rows_sub(dots, kZero * input.q_sum[token * n_blocks + b]);
        const TokenRows::F scales = rows_mul(TokenRows::load_f16(row_pointers, offset), TokenRows::splat(scale[b]));
        sums = rows_fma(scales, rows_convert(dots), sums);
        if constexpr (W::kHasMinimum) {
            const TokenRows::F minima = TokenRows::load_f16(row_pointers, offset + W::kMinimumOffset);
            sums = rows_fma(minima, TokenRows::splat(input.x_sum[token * n_blocks + b]), sums);
        }
    }
    return sums;
}

// A group of rows as tiles want it: of every block, 8 vectors that each hold 4 columns of all 8 rows, and the 8 scales
// and minima.
struct InterleavedGroup {
    uint8_t* bytes;  // [n_blocks, 8, 32]
    float* scales;   // [n_blocks, 8]
    float* minima;   // [n_blocks, 8]
};

template <class W>
inline void interleave_group(const uint8_t* const* row_pointers, int64_t n_blocks, const InterleavedGroup& group) {
    for (int64_t b = 0; b < n_blocks; ++b) {
        const int64_t offset = b * W::kBlockBytes;
        Bytes block[kMatMulGroup];
        for (int r = 0; r < kMatMulGroup; ++r) block[r] = W::bytes(row_pointers[r] + offset);
        store_interleaved<W::kSigned>(block, group.bytes + b * 256);
        rows_store(group.scales + b * kMatMulGroup, rows_load_f16(row_pointers, offset));
        if constexpr (W::kHasMinimum) {
            rows_store(group.minima + b * kMatMulGroup, rows_load_f16(row_pointers, offset + W::kMinimumOffset));
        }
    }
}

// An interleaved group against T tokens.
template <class W, int T>
inline void group_times_tile(const InterleavedGroup& group, const MatMulInput& input, int64_t token, RowsF (&sums)[T]) {
    // What store_interleaved has added to each byte.
    constexpr int kZero = W::kZero + (W::kSigned ? kInterleavedZero : 0);
    const int64_t n_blocks = input.n_cols / 32;
    for (int t = 0; t < T; ++t) sums[t] = rows_splat(0.f);
    for (int64_t b = 0; b < n_blocks; ++b) {
        RowsI dots[T];
        dot_interleaved<W::kSigned, T>(group.bytes + b * 256, input.q + token * input.n_cols + 32 * b, input.n_cols,
                                       dots);
        const RowsF row_scales = rows_load(group.scales + b * kMatMulGroup);
        for (int t = 0; t < T; ++t) {
            const int64_t at = (token + t) * n_blocks + b;
            if constexpr (kZero != 0) dots[t] = rows_sub(dots[t], kZero * input.q_sum[at]);
            sums[t] = rows_fma(rows_mul(row_scales, rows_splat(input.scale[at])), rows_convert(dots[t]), sums[t]);
            if constexpr (W::kHasMinimum) {
                const RowsF minima = rows_load(group.minima + b * kMatMulGroup);
                sums[t] = rows_fma(minima, rows_splat(input.x_sum[at]), sums[t]);
            }
        }
    }
}

template <class W, int T>
inline void byte_tiles(const MatMulInput& input, const MatMulRows& rows, const InterleavedGroup& group, int64_t row,
                       int n_valid, int64_t token, int64_t token_end) {
    for (; token + T <= token_end; token += T) {
        RowsF sums[T];
        group_times_tile<W, T>(group, input, token, sums);
        for (int t = 0; t < T; ++t) finish_rows(rows, token + t, row, n_valid, sums[t]);
    }
    if constexpr (T > 1) byte_tiles<W, T / 2>(input, rows, group, row, n_valid, token, token_end);
}

// Some rows; where there are fewer, the last is repeated. Returns how many there are.
inline int group_rows(const MatMulRows& rows, int64_t row, const uint8_t* (&out)[kMatMulGroup]) {
    const int64_t n_rows = rows.end - row;
    const uint8_t* first = rows.weight + row * rows.row_bytes;
    for (int r = 0; r < kMatMulGroup; ++r) out[r] = first + (r < n_rows ? r : n_rows - 1) * rows.row_bytes;
    return static_cast<int>(n_rows < kMatMulGroup ? n_rows : kMatMulGroup);
}

// Many tokens: a panel of rows is interleaved once, and blocks of tokens that fit the second-level cache pass by it.
template <class W>
void multiply_tiles(const MatMulInput& input, const MatMulRows& rows, void* scratch) {
    constexpr int64_t kTokenBlockBytes = 96 * 1024;
    constexpr int kGroups = kMatMulPanel / kMatMulGroup;
    const int64_t n_blocks = input.n_cols / 32;
    int64_t token_block = kTokenBlockBytes / input.n_cols / kByteTileTokens * kByteTileTokens;
    if (token_block < kByteTileTokens) token_block = kByteTileTokens;
    for (int64_t panel_row = rows.begin; panel_row < rows.end; panel_row += kMatMulPanel) {
        InterleavedGroup groups[kGroups];
        int n_valid[kGroups];
        int n_groups = 0;
        for (; n_groups < kGroups && panel_row + n_groups * kMatMulGroup < rows.end; ++n_groups) {
            uint8_t* base = static_cast<uint8_t*>(scratch) + n_groups * n_blocks * kMatMulGroup * (32 + 4 + 4);
            float* scales = reinterpret_cast<float*>(base + n_blocks * kMatMulGroup * 32);
            groups[n_groups] = {base, scales, scales + n_blocks * kMatMulGroup};
            const uint8_t* row_pointers[kMatMulGroup];
            n_valid[n_groups] = group_rows(rows, panel_row + n_groups * kMatMulGroup, row_pointers);
            interleave_group<W>(row_pointers, n_blocks, groups[n_groups]);
        }
        for (int64_t token = 0; token < input.n_tokens; token += token_block) {
            const int64_t token_end = token + token_block < input.n_tokens ? token + token_block : input.n_tokens;
            for (int g = 0; g < n_groups; ++g) {
                byte_tiles<W, kByteTileTokens>(input, rows, groups[g], panel_row + g * kMatMulGroup, n_valid[g], token,
                                               token_end);
            }
        }
    }
}

// Few tokens: a row of every stream at a time.
template <class W>
void multiply_streams(const MatMulInput& input, const MatMulRows& rows) {
    constexpr int kStreams = TokenRows::kRows;
    prefetch_streams(StreamRows<kStreams>(rows, rows.begin));
    for (int64_t i = rows.begin; i < rows.end; ++i) {
        const StreamRows<kStreams> at(rows, i);
        for (int64_t token = 0; token < input.n_tokens; ++token) {
            float sums[kStreams];
            TokenRows::store(sums, rows_times_token<W>(at.data, input, token));
            finish_streams(rows, token, at, sums);
        }
    }
}

// One token more gains by an interleaved group about what making it costs.
constexpr int64_t kMostStreamedTokens = kInterleaves ? 5 : INT64_MAX;

template <class W>
void multiply_bytes(const MatMulInput* input, const MatMulRows* rows, void* scratch) {
    if constexpr (kInterleaves) {
        if (rows->stream_rows == 0) {
            multiply_tiles<W>(*input, *rows, scratch);
            return;
        }
    }
    multiply_streams<W>(*input, *rows);
}
