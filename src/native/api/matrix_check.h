#pragma once

#include "api/check.h"

namespace kc {

// A matrix of weights that kernels can read.
inline void check_matrix(const kc_matrix& matrix, const char* name) {
    check_pointer(matrix.data, name);
    if (matrix.n_rows < 1 || matrix.n_cols < 1) {
        fail(KC_ERR_ARGUMENT, "%s is [%lld, %lld], but needs at least one row and one column", name,
             static_cast<long long>(matrix.n_rows), static_cast<long long>(matrix.n_cols));
    }
    check_shape({matrix.n_rows, matrix.n_cols}, name);
    if (kc_matrix_bytes(matrix.type, matrix.n_rows, matrix.n_cols) == 0) {
        fail(KC_ERR_ARGUMENT,
             "%s has type %d and %lld columns, but the type must be one of KC_TYPE_* and the columns a multiple of its "
             "block",
             name, matrix.type, static_cast<long long>(matrix.n_cols));
    }
}

}  // namespace kc
