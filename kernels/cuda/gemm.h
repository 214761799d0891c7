/* One product of matrices of fixed widths through cuBLASLt, for any number of rows up to a bound. What can fail, the choice
 * of an algorithm included, is done when it is opened. The same algorithm serves every number of rows and sums without
 * splitting, so a row's result does not depend on how many rows there are. All matrices are row-major. */
#ifndef M4N_KERNELS_CUDA_GEMM_H
#define M4N_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is multiplied; x, w and y have row distances x_ld, w_ld, y_ld. */
enum m4n_cuda_product {
  M4N_CUDA_FORWARD, /* y[rows][N] = x[rows][K]·wᵀ,  w [N][K] */
  M4N_CUDA_BACK,    /* y[rows][N] = x[rows][K]·w,   w [K][N] */
  M4N_CUDA_WEIGHT   /* y[K][N] = xᵀ·w,              x [rows][K], w [rows][N]; may be split over rows */
};

typedef struct m4n_cuda_gemm_shape {
  int product; /* enum m4n_cuda_product */
  int N, K, max_rows;
  int x_ld, w_ld, y_ld;
  bool bf16; /* of x and w; y is float32 and so are sums */
} m4n_cuda_gemm_shape;

typedef struct m4n_cuda_gemm m4n_cuda_gemm;

int m4n_cuda_gemm_library_open(m4n_cuda_gemm_library **library, cudaStream_t queue, bool tf32);
void m4n_cuda_gemm_library_close(m4n_cuda_gemm_library *library); /* NULL is fine */
const char *m4n_cuda_gemm_library_name(void);

int m4n_cuda_gemm_open(m4n_cuda_gemm **gemm, m4n_cuda_gemm_library *library,
                       const m4n_cuda_gemm_shape *shape);
void m4n_cuda_gemm_close(m4n_cuda_gemm *gemm); /* NULL is fine */
/* y = product (+ bias[N] in every row, may be NULL) (+ y with `add`). Returns cudaErrorUnknown if the library refuses. */
cudaError_t m4n_cuda_gemm_run(m4n_cuda_gemm *gemm, float *y, const void *x, const void *w, const float *bias,
                              int rows, int add);

#ifdef __cplusplus
}
#endif
#endif
