// cuBLAS on the machine: a product is one piece of work on the handle's stream. It is computed by plain loops outside
// of the instrumentation, and what it reads and writes is judged in whole columns.
#include "cublas_v2.h"

#include <cmath>
#include <cstring>

#include "machine.h"

struct cublasContext {
    cudaStream_t stream = nullptr;
};

namespace {

// Column-major, as cuBLAS sees matrices.
struct Product {
    int transpose_a, transpose_b, m, n, k, n_batches;
    const float *a, *b;
    float* c;
    int lda, ldb, ldc;
    long long a_stride, b_stride, c_stride;
    float alpha, beta;
    int is_tf32;
};

// TF32: the eight bits of the exponent and ten of the mantissa, to the nearest.
float round_tf32(float x) {
    if (!std::isfinite(x)) return x;
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

void judge(const float* matrix, int n_rows, int n_columns, int stride, simt::Access access) {
    for (int i = 0; i < n_columns; ++i) {
        simt::check_access(reinterpret_cast<uintptr_t>(matrix + static_cast<ptrdiff_t>(i) * stride),
                           sizeof(float) * static_cast<size_t>(n_rows), access,
                           reinterpret_cast<const void*>(&cublasGemmEx));
    }
}

// The vectors that the sums run along, one behind the other: rows of op(A), columns of op(B).
std::vector<double> vectors(const float* matrix, int n, int k, ptrdiff_t stride, ptrdiff_t step, int is_tf32) {
    std::vector<double> out;
    out.reserve(static_cast<size_t>(n) * static_cast<size_t>(k));
    for (int i = 0; i < n; ++i) {
        for (int l = 0; l < k; ++l) {
            const float x = matrix[i * stride + l * step];
            out.push_back(static_cast<double>(is_tf32 ? round_tf32(x) : x));
        }
    }
    return out;
}

// A kernel of one thread.
void multiply(Product p) {
    for (int batch = 0; batch < p.n_batches; ++batch) {
        const float* a = p.a + batch * p.a_stride;
        const float* b = p.b + batch * p.b_stride;
        float* c = p.c + batch * p.c_stride;
        judge(a, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, p.lda, simt::Access::read);
        judge(b, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, p.ldb, simt::Access::read);
        if (p.beta != 0.f) judge(c, p.m, p.n, p.ldc, simt::Access::read);
        judge(c, p.m, p.n, p.ldc, simt::Access::write);
        const auto rows = vectors(a, p.m, p.k, p.transpose_a ? p.lda : 1, p.transpose_a ? 1 : p.lda, p.is_tf32);
        const auto columns = vectors(b, p.n, p.k, p.transpose_b ? 1 : p.ldb, p.transpose_b ? p.ldb : 1, p.is_tf32);
        for (int i = 0; i < p.m; ++i) {
            for (int j = 0; j < p.n; ++j) {
                double sum = 0;
                for (int l = 0; l < p.k; ++l)
                    sum += rows[static_cast<size_t>(i) * static_cast<size_t>(p.k) + static_cast<size_t>(l)] *
                           columns[static_cast<size_t>(j) * static_cast<size_t>(p.k) + static_cast<size_t>(l)];
                float* out = c + static_cast<ptrdiff_t>(j) * p.ldc + i;
                *out =
                    static_cast<float>(static_cast<double>(p.alpha) * sum +
                                       (p.beta != 0.f ? static_cast<double>(p.beta) * static_cast<double>(*out) : 0));
            }
        }
    }
}

}  // namespace

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* version) {
    *version = 110000;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void* workspace, size_t) {
    return reinterpret_cast<uintptr_t>(workspace) % 256 == 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                            const void* alpha, const void* a, cudaDataType a_type, int lda, const void* b,
                            cudaDataType b_type, int ldb, const void* beta, void* c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c,
                                      c_type, ldc, 0, 1, compute, algorithm);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                          int n, int k, const void* alpha, const void* a, cudaDataType a_type, int lda,
                                          long long a_stride, const void* b, cudaDataType b_type, int ldb,
                                          long long b_stride, const void* beta, void* c, cudaDataType c_type, int ldc,
                                          long long c_stride, int n_batches, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (a_type != CUDA_R_32F || b_type != CUDA_R_32F || c_type != CUDA_R_32F ||
        (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (m < 0 || n < 0 || k < 0 || n_batches < 0 || lda < (op_a == CUBLAS_OP_T ? k : m) ||
        ldb < (op_b == CUBLAS_OP_T ? n : k) || ldc < m) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (m == 0 || n == 0 || n_batches == 0) return CUBLAS_STATUS_SUCCESS;
    const Product product = {op_a == CUBLAS_OP_T,
                             op_b == CUBLAS_OP_T,
                             m,
                             n,
                             k,
                             n_batches,
                             static_cast<const float*>(a),
                             static_cast<const float*>(b),
                             static_cast<float*>(c),
                             lda,
                             ldb,
                             ldc,
                             a_stride,
                             b_stride,
                             c_stride,
                             *static_cast<const float*>(alpha),
                             *static_cast<const float*>(beta),
                             compute == CUBLAS_COMPUTE_32F_FAST_TF32};
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(1);
    config.blockDim = dim3(1);
    config.stream = handle->stream;
    return cudaLaunchKernelEx(&config, multiply, product) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                         : CUBLAS_STATUS_INVALID_VALUE;
}
