// The product with activations as floats. An output is the sum of kLanes partial sums, lane l over the columns
// congruent to l, in ascending order: the one-token path and every tile run the same operations on the same numbers.

// Columns that a loop takes at once: a block, or a register of weights that have no blocks.
template <class W>
constexpr int kStep = W::kBlock > kLanes ? W::kBlock : kLanes;
template <class W>
constexpr int kStepBytes = kStep<W> / W::kBlock* W::kBlockBytes;

// sums[r][t] over n_cols columns for R rows and T tokens. A step fetches what lies ahead_bytes further on in every row
// (0: nothing; the columns themselves are at hand).
template <class W, int R, int T>
inline void float_tile(const uint8_t* const* rows, const float* x, int64_t x_stride, int64_t n_cols,
                       int64_t ahead_bytes, float (&sums)[R][T]) {
    VecF acc[R][T];
    for (int r = 0; r < R; ++r) {
        for (int t = 0; t < T; ++t) acc[r][t] = splat(0.f);
    }
    const int64_t n_steps = n_cols / kStep<W>;
    for (int64_t s = 0; s < n_steps; ++s) {
        if (ahead_bytes != 0) {
            for (int r = 0; r < R; ++r) prefetch(rows[r] + s * kStepBytes<W> + ahead_bytes);
        }
        for (int i = 0; i < kStep<W>; i += kLanes) {
            VecF v[T];
            for (int t = 0; t < T; ++t) v[t] = load(x + t * x_stride + s * kStep<W> + i);
            for (int r = 0; r < R; ++r) {
                const VecF w = W::lanes(rows[r] + s * kStepBytes<W>, i);
                for (int t = 0; t < T; ++t) acc[r][t] = fma(w, v[t], acc[r][t]);
            }
        }
    }
    if constexpr (W::kBlock == 1) {
        const int64_t col = n_steps * kStep<W>;
        const int n = static_cast<int>(n_cols - col);
        if (n != 0) {
            for (int r = 0; r < R; ++r) {
                const VecF w = W::tail(rows[r] + n_steps * kStepBytes<W>, n);
                for (int t = 0; t < T; ++t) acc[r][t] = fma(w, load(x + t * x_stride + col, n), acc[r][t]);
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int t = 0; t < T; ++t) sums[r][t] = reduce_add(acc[r][t]);
    }
}

// R rows, of which the first n_valid are stored, against tokens [token, token_end) in tiles of T and less.
template <class W, int R, int T>
inline void float_tiles(const MatMulInput& input, const MatMulRows& rows, const uint8_t* const* row_pointers,
                        int64_t row, int n_valid, int64_t token, int64_t token_end) {
    for (; token + T <= token_end; token += T) {
        float sums[R][T];
        float_tile<W, R, T>(row_pointers, input.x + token * input.x_stride, input.x_stride, input.n_cols, 0, sums);
        for (int r = 0; r < n_valid; ++r) {
            for (int t = 0; t < T; ++t) finish(rows, token + t, row + r, sums[r][t]);
        }
    }
    if constexpr (T > 1) float_tiles<W, R, T / 2>(input, rows, row_pointers, row, n_valid, token, token_end);
}

template <class W>
void decode_row(const uint8_t* row, int64_t n_cols, float* out) {
    const int64_t n_steps = n_cols / kStep<W>;
    for (int64_t s = 0; s < n_steps; ++s, row += kStepBytes<W>, out += kStep<W>) {
        for (int i = 0; i < kStep<W>; i += kLanes) store(out + i, W::lanes(row, i));
    }
    if constexpr (W::kBlock == 1) {
        const int n = static_cast<int>(n_cols % kStep<W>);
        if (n != 0) store(out, W::tail(row, n), n);
    }
}

constexpr int kFloatStreams = 4;

// One token: a row of every stream at a time.
template <class W>
void multiply_float_streams(const MatMulInput& input, const MatMulRows& rows) {
    prefetch_streams(StreamRows<kFloatStreams>(rows, rows.begin));
    for (int64_t i = rows.begin; i < rows.end; ++i) {
        const StreamRows<kFloatStreams> at(rows, i);
        float sums[kFloatStreams][1];
        float_tile<W, kFloatStreams, 1>(at.data, input.x, 0, input.n_cols, kAheadBytes, sums);
        finish_streams(rows, 0, at, sums[0]);
    }
}

template <class W>
void multiply_floats(const MatMulInput* input, const MatMulRows* rows, void* scratch) {
    constexpr int R = 4;
    // Tokens whose activations stay in the second-level cache while a panel of rows passes.
    constexpr int64_t kTokenBlockBytes = 128 * 1024;
    // A row group that has fewer than R rows repeats its last one.
    const auto pointers = [](const uint8_t* first, int64_t row_bytes, int64_t n_rows, const uint8_t*(&out)[R]) {
        for (int r = 0; r < R; ++r) out[r] = first + (r < n_rows ? r : n_rows - 1) * row_bytes;
        return static_cast<int>(n_rows < R ? n_rows : R);
    };
    if (rows->stream_rows != 0) {
        multiply_float_streams<W>(*input, *rows);
        return;
    }
    const uint8_t* row_pointers[R];
    int64_t token_block = kTokenBlockBytes / (4 * input->n_cols) / kFloatTileTokens * kFloatTileTokens;
    if (token_block < kFloatTileTokens) token_block = kFloatTileTokens;
    float* panel = static_cast<float*>(scratch);
    for (int64_t panel_row = rows->begin; panel_row < rows->end; panel_row += kMatMulPanel) {
        const int64_t n_left = rows->end - panel_row;
        const int64_t n_rows = n_left < kMatMulPanel ? n_left : kMatMulPanel;
        const uint8_t* source = rows->weight + panel_row * rows->row_bytes;
        int64_t source_bytes = rows->row_bytes;
        if constexpr (W::kType != KC_TYPE_F32) {
            for (int64_t r = 0; r < n_rows; ++r)
                decode_row<W>(source + r * source_bytes, input->n_cols, panel + r * input->n_cols);
            source = reinterpret_cast<const uint8_t*>(panel);
            source_bytes = 4 * input->n_cols;
        }
        for (int64_t token = 0; token < input->n_tokens; token += token_block) {
            const int64_t token_end = token + token_block < input->n_tokens ? token + token_block : input->n_tokens;
            for (int64_t r = 0; r < n_rows; r += R) {
                const int n_valid = pointers(source + r * source_bytes, source_bytes, n_rows - r, row_pointers);
                float_tiles<WeightF32, R, kFloatTileTokens>(*input, *rows, row_pointers, panel_row + r, n_valid, token,
                                                            token_end);
            }
        }
    }
}
