/* One small matrix product of a fixed shape, run by one thread: what a BLAS-like library is asked for.
 *
 * linear.c cuts a layer's product into tiles and runs them on the pool; two files implement this header, gemm_dnnl.c and
 * gemm_blas.c, and the build picks one. Products are opened while a layer is planned; `run` neither allocates nor fails.
 */
#ifndef M4N_KERNELS_CPU_GEMM_H
#define M4N_KERNELS_CPU_GEMM_H

#include <stdbool.h>

#include "kernels/ops.h"

/* Types of x, w and y. */
enum m4n_gemm_type {
  M4N_GEMM_REAL, /* m4n_real throughout */
  M4N_GEMM_BF16, /* bf16, bf16, float32 */
  M4N_GEMM_INT8  /* uint8, int8, int32 */
};

/* y[M][N] = x[M][K]·w[K][N], or += with `add`. */
typedef struct m4n_gemm_shape {
  int type;
  int M, N, K;
  int x_ld, w_ld, y_ld; /* row distances in memory */
  bool x_transposed;    /* x lies as [K][M] */
  bool w_transposed;    /* w lies as [N][K] */
  bool packed;          /* w is what `pack` wrote from a dense matrix that the members above describe */
  bool add;
} m4n_gemm_shape;

typedef struct m4n_gemm_library m4n_gemm_library; /* the library, with scratch for each thread */
typedef struct m4n_gemm m4n_gemm;

int m4n_gemm_library_open(m4n_gemm_library **library, int threads);
void m4n_gemm_library_close(m4n_gemm_library *library);
const char *m4n_gemm_library_name(void);                      /* "oneDNN 2.6.3" */
bool m4n_gemm_has(const m4n_gemm_library *library, int type); /* fast on this processor */

/* `like`, where not NULL, is another packed product of the same w, whose order this one must take too. */
int m4n_gemm_open(m4n_gemm **gemm, m4n_gemm_library *library, const m4n_gemm_shape *shape,
                  const m4n_gemm *like);
void m4n_gemm_close(m4n_gemm *gemm); /* NULL is fine */
size_t m4n_gemm_packed_bytes(const m4n_gemm *gemm);
/* Both are called by thread number `thread` of the library's. */
void m4n_gemm_pack(const m4n_gemm *gemm, int thread, void *packed, const void *w);
void m4n_gemm_run(const m4n_gemm *gemm, int thread, void *y, const void *x, const void *w);

#endif
