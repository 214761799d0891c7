/* What the files of the CUDA backend share. C and CUDA C++ read it.
 *
 * Everything of a backend runs in one queue of the card (a cudaStream): scratch is shared by all its streams, and an op
 * begins when the one before has ended. Ops are launches and nothing else; what can fail later is noted and shows in
 * m4n_sync. Sums have a fixed order that follows from sizes alone: no atomics.
 */
#ifndef M4N_KERNELS_CUDA_CUDA_H
#define M4N_KERNELS_CUDA_CUDA_H

#include <cuda_runtime.h>

#include "kernels/backend_kind.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Floats of the scratch for sums over rows; how many parts such a sum has follows from it. */
enum { M4N_CUDA_PARTS = 1 << 20 };

typedef struct m4n_cuda_gemm_library m4n_cuda_gemm_library; /* gemm.h */
typedef struct m4n_cuda_linear m4n_cuda_linear;             /* linear.h */

typedef struct m4n_cuda_backend {
  m4n_backend backend;
  cudaStream_t queue;
  m4n_cuda_gemm_library *library;
  m4n_cuda_linear *plans;
  float *parts;     /* [M4N_CUDA_PARTS], for the length of an op */
  void *rows;       /* converted or copied rows of a product's operand, as large as the largest plan needs */
  float *row_scale; /* int8: what a row was divided by */
  size_t rows_bytes, scale_bytes;
  bool tf32;         /* float32 products by TF32 */
  cudaError_t error; /* the first that nobody was told of yet, and where it was seen */
  const char *error_at;
} m4n_cuda_backend;

static inline m4n_cuda_backend *m4n_cuda_of(m4n_stream *s) {
  return (m4n_cuda_backend *)s->backend;
}

/* Notes the first failure for the next m4n_sync. */
static inline void m4n_cuda_note(m4n_cuda_backend *cuda, cudaError_t error, const char *at) {
  if (error != cudaSuccess && cuda->error == cudaSuccess) cuda->error = error, cuda->error_at = at;
}

/* A failed call as a status: "WHAT: the runtime's words". */
int m4n_cuda_fail(cudaError_t error, const char *what);
/* Makes `*memory` at least `want` bytes large; content is lost. For plans: an op never calls it. */
int m4n_cuda_grow(m4n_cuda_backend *cuda, void **memory, size_t *have, size_t want);
int m4n_cuda_linear_plan(const m4n_linear **plan, m4n_stream *stream, const m4n_linear_shape *shape);
void m4n_cuda_linear_close(m4n_cuda_backend *cuda); /* all plans */

#define OP(name, parameters, arguments) void m4n_cuda_##name parameters;
#include "kernels/ops.def"
#undef OP

/* y[c] += Σ_r x[r][c], rows in a fixed order. x is not in cuda->parts. */
void m4n_cuda_column_sums(m4n_stream *s, float *y, const float *x, int64_t rows, int C, int64_t ld);

#ifdef __cplusplus
}
#endif
#endif
