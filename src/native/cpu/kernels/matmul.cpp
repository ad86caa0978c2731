#include "cpu/kernels/matmul.h"

#include <algorithm>

#include "core/params.h"
#include "cpu/context.h"

namespace kc {
namespace {

// What a piece of work should at least read, so that handing it out costs little.
constexpr int64_t kPieceBytes = 16 * 1024;

// Where the pieces of one call's scratch lie.
struct Layout {
    uint64_t q = 0, scale = 0, q_sum = 0, x_sum = 0;  // of the activations in 8 bits
    uint64_t workers = 0;                             // first worker's scratch
    uint64_t worker_bytes = 0;
    uint64_t total_bytes = 0;
};

Layout layout(int64_t n_tokens, int64_t n_cols, bool bytes, bool floats, int n_threads) {
    Layout at;
    uint64_t end = 0;
    const auto take = [&end](uint64_t n_bytes) {
        const uint64_t begin = end;
        end += (n_bytes + Scratch::kAlignment - 1) / Scratch::kAlignment * Scratch::kAlignment;
        return begin;
    };
    if (bytes) {
        const uint64_t n = static_cast<uint64_t>(n_tokens), cols = static_cast<uint64_t>(n_cols), blocks = cols / 32;
        at.q = take(n * cols);
        at.scale = take(n * blocks * sizeof(float));
        at.q_sum = take(n * blocks * sizeof(int32_t));
        at.x_sum = take(n * blocks * sizeof(float));
    }
    const uint64_t needed =
        std::max(bytes ? matmul_byte_scratch_bytes(n_cols) : 0, floats ? matmul_float_scratch_bytes(n_cols) : 0);
    at.worker_bytes = (needed + Scratch::kAlignment - 1) / Scratch::kAlignment * Scratch::kAlignment;
    // A single token is multiplied straight from the file's layout.
    at.workers = take(n_tokens > 1 ? at.worker_bytes * static_cast<uint64_t>(n_threads) : 0);
    at.total_bytes = end;
    return at;
}

// How far each stream is ahead of the one before: so many rows that their addresses are not all alike in the bits that
// choose a place in the first-level cache.
int64_t stream_skew(int64_t stream_rows, int64_t row_bytes) {
    for (int64_t skew = 0; skew < std::min<int64_t>(stream_rows, 4); ++skew) {
        const int64_t apart = (stream_rows + skew) * row_bytes % 512;
        if (apart >= 128 && apart <= 384) return skew;
    }
    return 0;
}

struct Output {
    MatMulRows rows;
    void (*multiply)(const MatMulInput* input, const MatMulRows* rows, void* scratch);
    int64_t first_group;  // number of its first group among the groups of all outputs
    int64_t n_groups;     // groups of 8 rows, or of a row of every stream
};

}  // namespace

const WeightBodies* find_weight(const MatMulBodies& bodies, int32_t type) {
    for (const WeightBodies& weight : bodies.weights) {
        if (weight.type == type) return &weight;
    }
    return nullptr;
}

void matmul_reserve(CpuContext& context, int64_t n_tokens, int64_t n_cols) {
    const bool bytes = context.activations == KC_ACTIVATIONS_Q8;
    context.scratch.reserve(layout(n_tokens, n_cols, bytes, true, context.pool.n_threads()).total_bytes);
}

void matmul(CpuContext& context, const kc_matmul_params& params) {
    if (params.n_tokens <= 0) return;
    const MatMulBodies& bodies = context.kernels->matmul;
    Output outputs[KC_MATMUL_MAX_OUTPUTS];
    int64_t n_groups = 0;
    int64_t largest_group_bytes = 1;
    bool bytes = false, floats = false;
    for (int i = 0; i < params.n_outputs; ++i) {
        const kc_matmul_output& wanted = params.outputs[i];
        const WeightBodies& weight = *find_weight(bodies, wanted.weight.type);
        const bool in_bytes = context.activations == KC_ACTIVATIONS_Q8 && weight.multiply_bytes != nullptr;
        bytes = bytes || in_bytes;
        floats = floats || !in_bytes;
        const int64_t n_rows = wanted.weight.n_rows;
        const int64_t row_bytes = params.n_cols / weight.block * weight.block_bytes;
        const MatMulStreams& streams = in_bytes ? bodies.byte_streams : bodies.float_streams;
        const bool streamed = params.n_tokens <= streams.most_tokens;
        const int64_t n_at_once = streamed ? streams.n_streams : kMatMulGroup;
        const int64_t n_of_output = ceil_div(n_rows, n_at_once);
        outputs[i] = {{static_cast<const uint8_t*>(wanted.weight.data), row_bytes, n_rows, streamed ? n_of_output : 0,
                       streamed ? stream_skew(n_of_output, row_bytes) : 0, 0, 0, wanted.bias, wanted.out,
                       wanted.out_stride != 0 ? wanted.out_stride : n_rows, wanted.accumulate},
                      in_bytes ? weight.multiply_bytes : weight.multiply_floats,
                      n_groups,
                      n_of_output};
        largest_group_bytes = std::max(largest_group_bytes, n_at_once * row_bytes);
        n_groups += n_of_output;
    }

    ThreadPool& pool = context.pool;
    const Layout at = layout(params.n_tokens, params.n_cols, bytes, floats, pool.n_threads());
    uint8_t* scratch = context.scratch.reserve(at.total_bytes);
    MatMulInput input = {};
    input.n_tokens = params.n_tokens;
    input.n_cols = params.n_cols;
    input.x = params.x;
    input.x_stride = params.x_stride != 0 ? params.x_stride : params.n_cols;
    if (bytes) {
        int8_t* q = reinterpret_cast<int8_t*>(scratch + at.q);
        float* scale = reinterpret_cast<float*>(scratch + at.scale);
        int32_t* q_sum = reinterpret_cast<int32_t*>(scratch + at.q_sum);
        float* x_sum = reinterpret_cast<float*>(scratch + at.x_sum);
        const int64_t n_blocks = params.n_cols / 32;
        pool.run(params.n_tokens, std::max<int64_t>(1, 8192 / params.n_cols), [&](int64_t begin, int64_t end, int) {
            for (int64_t t = begin; t < end; ++t) {
                context.kernels->matmul.quantise(input.x + t * input.x_stride, params.n_cols, q + t * params.n_cols,
                                                 scale + t * n_blocks, q_sum + t * n_blocks, x_sum + t * n_blocks);
            }
        });
        input.q = q;
        input.scale = scale;
        input.q_sum = q_sum;
        input.x_sum = x_sum;
    }

    // One token: pieces just large enough to be worth their handing out. More: whole panels, unless threads would go
    // idle.
    const int64_t fair = std::max<int64_t>(1, n_groups / (4 * pool.n_threads()));
    const int64_t grain = params.n_tokens == 1 ? 1 : std::min<int64_t>(fair, kMatMulPanel / kMatMulGroup);
    const int64_t least = ceil_div(kPieceBytes, largest_group_bytes * params.n_tokens);
    pool.run(n_groups, std::max(grain, least), [&](int64_t begin, int64_t end, int worker) {
        uint8_t* mine = scratch + at.workers + static_cast<uint64_t>(worker) * at.worker_bytes;
        for (int i = 0; i < params.n_outputs; ++i) {
            const Output& output = outputs[i];
            const int64_t first = std::max<int64_t>(0, begin - output.first_group);
            const int64_t last = std::min(end - output.first_group, output.n_groups);
            if (first >= last) continue;
            MatMulRows rows = output.rows;
            rows.begin = first;
            rows.end = last;
            if (rows.stream_rows == 0) {
                rows.begin *= kMatMulGroup;
                rows.end = std::min(last * kMatMulGroup, rows.n_rows);
            }
            output.multiply(&input, &rows, mine);
        }
    });
}

namespace {

// Rows of floats from rows of weights: row_of(i) is the weight of row i of out.
template <class RowOf>
void decode_rows(CpuContext& context, const kc_matrix& weight, int64_t n_rows, RowOf row_of, float* out) {
    const WeightBodies& bodies = *find_weight(context.kernels->matmul, weight.type);
    const uint8_t* data = static_cast<const uint8_t*>(weight.data);
    const int64_t row_bytes = weight.n_cols / bodies.block * bodies.block_bytes;
    context.pool.run(n_rows, std::max<int64_t>(1, 4096 / weight.n_cols), [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
            bodies.decode(data + row_of(i) * row_bytes, weight.n_cols, out + i * weight.n_cols);
    });
}

}  // namespace

void embed(CpuContext& context, const kc_matrix& table, const int32_t* ids, int64_t n_tokens, float* out) {
    decode_rows(
        context, table, n_tokens, [ids](int64_t t) { return int64_t{ids[t]}; }, out);
}

void matrix_expand(CpuContext& context, const kc_matrix& weight, int64_t first_row, int64_t n_rows, float* out) {
    decode_rows(
        context, weight, n_rows, [first_row](int64_t r) { return first_row + r; }, out);
}

}  // namespace kc
