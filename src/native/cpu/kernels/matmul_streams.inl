// What the products for few tokens share: rows of several streams side by side.

// How far ahead of the products the bytes of every row are fetched: some way into the next row at its end.
constexpr int64_t kAheadBytes = 640;

// Row `at` of every stream: its number, and where it lies. A row that is not below n_rows is none of the matrix; its
// data are those of the last one.
template <int kStreams>
struct StreamRows {
    int64_t row[kStreams];
    const uint8_t* data[kStreams];

    StreamRows(const MatMulRows& rows, int64_t at) {
        for (int s = 0; s < kStreams; ++s) {
            row[s] = s * rows.stream_rows + at;
            data[s] = rows.weight + (row[s] < rows.n_rows ? row[s] : rows.n_rows - 1) * rows.row_bytes;
            at += rows.stream_skew;
            if (at >= rows.stream_rows) at -= rows.stream_rows;
        }
    }
};

// What the products do not fetch, as it lies less than kAheadBytes behind where they begin.
template <int kStreams>
inline void prefetch_streams(const StreamRows<kStreams>& at) {
    for (int64_t i = 0; i < kAheadBytes; i += 64) {
        for (int s = 0; s < kStreams; ++s) prefetch(at.data[s] + i);
    }
}

inline void finish(const MatMulRows& rows, int64_t token, int64_t row, float sum) {
    float* out = rows.out + token * rows.out_stride + row;
    if (rows.bias != nullptr) sum += rows.bias[row];
    *out = rows.accumulate ? *out + sum : sum;
}

// Stores the sums of one token for a row of every stream.
template <int kStreams>
inline void finish_streams(const MatMulRows& rows, int64_t token, const StreamRows<kStreams>& at, const float* sums) {
    for (int s = 0; s < kStreams; ++s) {
        if (at.row[s] < rows.n_rows) finish(rows, token, at.row[s], sums[s]);
    }
}
