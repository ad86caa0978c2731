#include "api/check.h"
#include "api/guard.h"
#include "api/matrix_check.h"
#include "core/context.h"

using namespace kc;

kc_status kc_matmul(kc_context* context, const kc_matmul_params* params) {
    return guard([&] {
        check_pointer(context, "context");
        check_struct(params, "params");
        check_range(params->n_outputs, 1, KC_MATMUL_MAX_OUTPUTS, "params->n_outputs");
        check_shape({params->n_tokens, params->n_cols}, "params->x[n_tokens, n_cols]");
        check_at_least(params->n_cols, 1, "params->n_cols");
        if (params->x_stride != 0) check_at_least(params->x_stride, params->n_cols, "params->x_stride (or 0)");
        check_shape({params->n_tokens, params->x_stride}, "params->x[n_tokens, x_stride]");
        for (int i = 0; i < params->n_outputs; ++i) {
            const kc_matmul_output& output = params->outputs[i];
            char name[48];
            std::snprintf(name, sizeof name, "params->outputs[%d].weight", i);
            check_matrix(output.weight, name);
            if (output.weight.n_cols != params->n_cols) {
                fail(KC_ERR_ARGUMENT, "%s has %lld columns, but x has %lld", name,
                     static_cast<long long>(output.weight.n_cols), static_cast<long long>(params->n_cols));
            }
            std::snprintf(name, sizeof name, "params->outputs[%d].out_stride (or 0)", i);
            if (output.out_stride != 0) check_at_least(output.out_stride, output.weight.n_rows, name);
            check_shape({params->n_tokens, output.out_stride ? output.out_stride : output.weight.n_rows}, name);
            std::snprintf(name, sizeof name, "params->outputs[%d].accumulate", i);
            check_range(output.accumulate, 0, 1, name);
            std::snprintf(name, sizeof name, "params->outputs[%d].out", i);
            if (params->n_tokens > 0) check_pointer(output.out, name);
        }
        if (params->n_tokens == 0) return;
        check_pointer(params->x, "params->x");
        context->backend.matmul(context->backend.self, *params);
    });
}

kc_status kc_matrix_expand(kc_context* context, const kc_matrix* weight, int64_t first_row, int64_t n_rows,
                           float* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_pointer(weight, "weight");
        check_matrix(*weight, "weight");
        check_range(first_row, 0, weight->n_rows, "first_row");
        check_range(n_rows, 0, weight->n_rows - first_row, "n_rows");
        if (n_rows == 0) return;
        check_pointer(out, "out");
        context->backend.matrix_expand(context->backend.self, *weight, first_row, n_rows, out);
    });
}
