#include "api/check.h"
#include "api/guard.h"
#include "api/matrix_check.h"
#include "core/context.h"

using namespace kc;

kc_status kc_rms_norm(kc_context* context, const float* x, const float* weight, int64_t n_tokens, int64_t dim,
                      float eps, float* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_shape({n_tokens, dim}, "x[n_tokens, dim]");
        check_finite(eps, "eps");
        if (eps < 0) fail(KC_ERR_ARGUMENT, "eps is %g, but must be at least 0", static_cast<double>(eps));
        if (n_tokens == 0 || dim == 0) return;
        check_pointer(x, "x");
        check_pointer(weight, "weight");
        check_pointer(out, "out");
        context->backend.rms_norm(context->backend.self, x, weight, n_tokens, dim, eps, out);
    });
}

kc_status kc_rope_table(kc_context* context, const int32_t* positions, const float* inv_freq, int64_t n_tokens,
                        int64_t n_pairs, float magnitude, float* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_shape({n_tokens, n_pairs, 2}, "out[n_tokens, n_pairs, 2]");
        check_finite(magnitude, "magnitude");
        if (n_tokens == 0 || n_pairs == 0) return;
        check_pointer(positions, "positions");
        check_pointer(inv_freq, "inv_freq");
        check_pointer(out, "out");
        context->backend.rope_table(context->backend.self, positions, inv_freq, n_tokens, n_pairs, magnitude, out);
    });
}

kc_status kc_rope(kc_context* context, const float* table, int64_t n_tokens, int64_t n_heads, int64_t head_dim,
                  int64_t n_pairs, int32_t pairing, float* x) {
    return guard([&] {
        check_pointer(context, "context");
        check_shape({n_tokens, n_heads, head_dim}, "x[n_tokens, n_heads, head_dim]");
        check_range(n_pairs, 0, head_dim / 2, "n_pairs");
        check_range(pairing, KC_ROPE_INTERLEAVED, KC_ROPE_HALVES, "pairing");
        if (n_tokens == 0 || n_heads == 0 || n_pairs == 0) return;
        check_pointer(table, "table");
        check_pointer(x, "x");
        context->backend.rope(context->backend.self, table, n_tokens, n_heads, head_dim, n_pairs, pairing, x);
    });
}

kc_status kc_swiglu(kc_context* context, const float* gate, const float* up, int64_t n, float* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_shape({n}, "out[n]");
        if (n == 0) return;
        check_pointer(gate, "gate");
        check_pointer(up, "up");
        check_pointer(out, "out");
        context->backend.swiglu(context->backend.self, gate, up, n, out);
    });
}

kc_status kc_add(kc_context* context, const float* a, const float* b, int64_t n, float* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_shape({n}, "out[n]");
        if (n == 0) return;
        check_pointer(a, "a");
        check_pointer(b, "b");
        check_pointer(out, "out");
        context->backend.add(context->backend.self, a, b, n, out);
    });
}

kc_status kc_embed(kc_context* context, const kc_matrix* table, const int32_t* ids, int64_t n_tokens, float* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_pointer(table, "table");
        check_matrix(*table, "table");
        check_shape({n_tokens, table->n_cols}, "out[n_tokens, n_cols]");
        if (n_tokens == 0) return;
        check_pointer(ids, "ids");
        check_pointer(out, "out");
        context->backend.embed(context->backend.self, *table, ids, n_tokens, out);
    });
}

kc_status kc_softmax(kc_context* context, const float* x, int64_t n_rows, int64_t n_cols, float* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_shape({n_rows, n_cols}, "x[n_rows, n_cols]");
        if (n_rows == 0 || n_cols == 0) return;
        check_pointer(x, "x");
        check_pointer(out, "out");
        context->backend.softmax(context->backend.self, x, n_rows, n_cols, out);
    });
}

kc_status kc_argmax(kc_context* context, const float* x, int64_t n_rows, int64_t n_cols, int32_t* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_shape({n_rows, n_cols}, "x[n_rows, n_cols]");
        if (n_rows > 0) check_range(n_cols, 1, INT32_MAX, "n_cols");
        if (n_rows == 0) return;
        check_pointer(x, "x");
        check_pointer(out, "out");
        context->backend.argmax(context->backend.self, x, n_rows, n_cols, out);
    });
}
