// The part of cuBLAS that is called, with cuBLAS's own names and meanings, on the machine made of software: what a
// program finds when it looks for the library by its exports.
#pragma once

#include "cuda_runtime.h"

typedef struct cublasContext* cublasHandle_t;
typedef enum {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_NOT_SUPPORTED = 15
} cublasStatus_t;
typedef enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 } cublasOperation_t;
typedef enum { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 } cublasComputeType_t;
typedef enum { CUDA_R_32F = 0 } cudaDataType;
typedef int cublasGemmAlgo_t;

#define SIMT_CUBLAS extern "C" __attribute__((visibility("default")))

SIMT_CUBLAS cublasStatus_t cublasCreate_v2(cublasHandle_t* handle);
SIMT_CUBLAS cublasStatus_t cublasDestroy_v2(cublasHandle_t handle);
SIMT_CUBLAS cublasStatus_t cublasGetVersion_v2(cublasHandle_t handle, int* version);
SIMT_CUBLAS cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream);
SIMT_CUBLAS cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t n_bytes);
SIMT_CUBLAS cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                        int n, int k, const void* alpha, const void* a, cudaDataType a_type, int lda,
                                        const void* b, cudaDataType b_type, int ldb, const void* beta, void* c,
                                        cudaDataType c_type, int ldc, cublasComputeType_t compute,
                                        cublasGemmAlgo_t algorithm);
SIMT_CUBLAS cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a,
                                                      cublasOperation_t op_b, int m, int n, int k, const void* alpha,
                                                      const void* a, cudaDataType a_type, int lda, long long a_stride,
                                                      const void* b, cudaDataType b_type, int ldb, long long b_stride,
                                                      const void* beta, void* c, cudaDataType c_type, int ldc,
                                                      long long c_stride, int n_batches, cublasComputeType_t compute,
                                                      cublasGemmAlgo_t algorithm);
