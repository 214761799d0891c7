#include "kernels/cuda/gemm.h"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

enum { WORKSPACE = 32 << 20, CANDIDATES = 16 };

struct m4n_cuda_gemm_library {
  cublasLtHandle_t handle;
  cudaStream_t queue;
  void *workspace;
  bool tf32;
};

/* cuBLASLt is column-major, in which our row-major y is yᵀ: yᵀ = op(w)·op(x), so A is w and B is x. */
struct m4n_cuda_gemm {
  m4n_cuda_gemm_library *library;
  m4n_cuda_gemm_shape shape;
  cublasLtMatmulDesc_t plain, biased; /* biased: NULL where no bias is possible */
  cublasLtMatrixLayout_t a, b, y;
  cublasLtMatmulAlgo_t algo[2][2]; /* [with bias][addresses that are no multiples of 16] */
};

static int fail(cublasStatus_t status, const char *what) {
  return m4n_fail(M4N_EDEVICE, "device cuda: %s: %s", what, cublasLtGetStatusString(status));
}
#define LT_TRY(call, what)                                                                                   \
  do {                                                                                                       \
    const cublasStatus_t lt_status = (call);                                                                 \
    if (lt_status != CUBLAS_STATUS_SUCCESS) return fail(lt_status, what);                                    \
  } while (0)

const char *m4n_cuda_gemm_library_name(void) {
  static char name[32];
  const size_t version = cublasLtGetVersion();
  snprintf(name, sizeof name, "cuBLASLt %zu.%zu", version / 10000, version / 100 % 100);
  return name;
}

int m4n_cuda_gemm_library_open(m4n_cuda_gemm_library **out, cudaStream_t queue, bool tf32) {
  m4n_cuda_gemm_library *library = *out = calloc(1, sizeof *library);
  if (!library) return m4n_fail(M4N_ENOMEM, "no memory for cuBLASLt");
  library->queue = queue, library->tf32 = tf32;
  LT_TRY(cublasLtCreate(&library->handle), "opening cuBLASLt");
  const cudaError_t error = cudaMalloc(&library->workspace, WORKSPACE);
  return error == cudaSuccess ? M4N_OK : m4n_cuda_fail(error, "device cuda: workspace of cuBLASLt");
}

void m4n_cuda_gemm_library_close(m4n_cuda_gemm_library *library) {
  if (!library) return;
  if (library->workspace) (void)cudaFree(library->workspace);
  if (library->handle) (void)cublasLtDestroy(library->handle);
  free(library);
}

/* ---- describing a product ------------------------------------------------------------------------------------------ */

static int describe(cublasLtMatmulDesc_t *desc, const m4n_cuda_gemm *g, bool bias) {
  const cublasComputeType_t compute =
      g->library->tf32 && !g->shape.bf16 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  const cublasOperation_t none = CUBLAS_OP_N, turned = CUBLAS_OP_T;
  LT_TRY(cublasLtMatmulDescCreate(desc, compute, CUDA_R_32F), "describing a product");
  const cublasOperation_t *a = g->shape.product == M4N_CUDA_FORWARD ? &turned : &none;
  const cublasOperation_t *b = g->shape.product == M4N_CUDA_WEIGHT ? &turned : &none;
  LT_TRY(cublasLtMatmulDescSetAttribute(*desc, CUBLASLT_MATMUL_DESC_TRANSA, a, sizeof *a),
         "describing a product");
  LT_TRY(cublasLtMatmulDescSetAttribute(*desc, CUBLASLT_MATMUL_DESC_TRANSB, b, sizeof *b),
         "describing a product");
  if (!bias) return M4N_OK;
  const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  LT_TRY(cublasLtMatmulDescSetAttribute(*desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue),
         "describing a bias");
  return M4N_OK;
}

static cublasStatus_t set_columns(cublasLtMatrixLayout_t layout, int columns) {
  const uint64_t n = (uint64_t)columns;
  return cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &n, sizeof n);
}

/* Which dimension the number of rows is: of x and y, or of x and w. */
static cublasStatus_t set_rows(const m4n_cuda_gemm *g, int rows) {
  const cublasStatus_t status = set_columns(g->b, rows);
  return status != CUBLAS_STATUS_SUCCESS
             ? status
             : set_columns(g->shape.product == M4N_CUDA_WEIGHT ? g->a : g->y, rows);
}

static int lay_out(m4n_cuda_gemm *g) {
  const m4n_cuda_gemm_shape *s = &g->shape;
  const cudaDataType_t type = s->bf16 ? CUDA_R_16BF : CUDA_R_32F;
  const uint64_t N = (uint64_t)s->N, K = (uint64_t)s->K, rows = (uint64_t)s->max_rows;
  const bool forward = s->product == M4N_CUDA_FORWARD, weight = s->product == M4N_CUDA_WEIGHT;
  LT_TRY(cublasLtMatrixLayoutCreate(&g->a, type, forward ? K : N,
                                    forward  ? N
                                    : weight ? rows
                                             : K,
                                    s->w_ld),
         "laying out a product");
  LT_TRY(cublasLtMatrixLayoutCreate(&g->b, type, K, rows, s->x_ld), "laying out a product");
  LT_TRY(cublasLtMatrixLayoutCreate(&g->y, CUDA_R_32F, N, weight ? K : rows, s->y_ld),
         "laying out a product");
  return M4N_OK;
}

/* ---- choosing an algorithm ---------------------------------------------------------------------------------------- */

/* Serves it every number of rows that may be asked for? Few of each size are tried. */
static bool serves_all(const m4n_cuda_gemm *g, cublasLtMatmulDesc_t desc, const cublasLtMatmulAlgo_t *algo) {
  const int most = g->shape.max_rows, counts[] = {1, 7, 16, 33, 64, 160, most / 2 + 1, most};
  bool good = true;
  for (size_t i = 0; i < sizeof counts / sizeof *counts && good; i++) {
    if (counts[i] > most) continue;
    cublasLtMatmulHeuristicResult_t result;
    good = set_rows(g, counts[i]) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatmulAlgoCheck(g->library->handle, desc, g->a, g->b, g->y, g->y, algo, &result) ==
               CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= WORKSPACE;
  }
  return set_rows(g, most) == CUBLAS_STATUS_SUCCESS && good;
}

static uint32_t alignment(bool aligned, int ld, size_t size) {
  const size_t row = (size_t)ld * size;
  return aligned && row % 16 == 0 ? 16 : (uint32_t)size;
}

static int set_preference(cublasLtMatmulPreference_t want, const m4n_cuda_gemm *g, bool aligned) {
  const size_t workspace = WORKSPACE, size = g->shape.bf16 ? 2 : 4;
  // A sum may be split only where the sum is over rows, and then its parts are added in order.
  const uint32_t reduction = g->shape.product == M4N_CUDA_WEIGHT ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                                                                 : CUBLASLT_REDUCTION_SCHEME_NONE;
  const uint32_t x = alignment(aligned, g->shape.x_ld, size), w = alignment(aligned, g->shape.w_ld, size),
                 y = alignment(aligned, g->shape.y_ld, 4);
#define SET(name, value)                                                                                     \
  LT_TRY(cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_##name, &(value), sizeof(value)),   \
         "choosing an algorithm")
  SET(MAX_WORKSPACE_BYTES, workspace);
  SET(REDUCTION_SCHEME_MASK, reduction);
  SET(MIN_ALIGNMENT_A_BYTES, w);
  SET(MIN_ALIGNMENT_B_BYTES, x);
  SET(MIN_ALIGNMENT_C_BYTES, y);
  SET(MIN_ALIGNMENT_D_BYTES, y);
#undef SET
  return M4N_OK;
}

static int choose(m4n_cuda_gemm *g, cublasLtMatmulDesc_t desc, cublasLtMatmulAlgo_t *algo, bool aligned) {
  cublasLtMatmulPreference_t want = NULL;
  LT_TRY(cublasLtMatmulPreferenceCreate(&want), "choosing an algorithm");
  cublasLtMatmulHeuristicResult_t found[CANDIDATES];
  int n = 0;
  const int status = set_preference(want, g, aligned);
  cublasStatus_t lt = CUBLAS_STATUS_SUCCESS;
  if (!status)
    lt = cublasLtMatmulAlgoGetHeuristic(g->library->handle, desc, g->a, g->b, g->y, g->y, want, CANDIDATES,
                                        found, &n);
  (void)cublasLtMatmulPreferenceDestroy(want);
  if (status) return status;
  for (int i = 0; i < n && lt == CUBLAS_STATUS_SUCCESS; i++)
    if (found[i].state == CUBLAS_STATUS_SUCCESS && serves_all(g, desc, &found[i].algo)) {
      *algo = found[i].algo;
      return M4N_OK;
    }
  return m4n_fail(M4N_EUNSUPPORTED,
                  "device cuda: of %d algorithms of cuBLASLt none serves a product %d → %d of up to %d rows",
                  n, g->shape.K, g->shape.N, g->shape.max_rows);
}

static int make(m4n_cuda_gemm *g) {
  M4N_TRY(lay_out(g));
  M4N_TRY(describe(&g->plain, g, false));
  // A layer's forward alone has a bias.
  if (g->shape.product == M4N_CUDA_FORWARD) M4N_TRY(describe(&g->biased, g, true));
  for (int unaligned = 0; unaligned < 2; unaligned++) {
    M4N_TRY(choose(g, g->plain, &g->algo[0][unaligned], !unaligned));
    if (g->biased) M4N_TRY(choose(g, g->biased, &g->algo[1][unaligned], !unaligned));
  }
  return M4N_OK;
}

int m4n_cuda_gemm_open(m4n_cuda_gemm **out, m4n_cuda_gemm_library *library,
                       const m4n_cuda_gemm_shape *shape) {
  m4n_cuda_gemm *g = *out = calloc(1, sizeof *g);
  if (!g) return m4n_fail(M4N_ENOMEM, "no memory for a product");
  g->library = library, g->shape = *shape;
  const int status = make(g);
  if (!status) return M4N_OK;
  m4n_cuda_gemm_close(g);
  *out = NULL;
  return status;
}

void m4n_cuda_gemm_close(m4n_cuda_gemm *g) {
  if (!g) return;
  if (g->plain) (void)cublasLtMatmulDescDestroy(g->plain);
  if (g->biased) (void)cublasLtMatmulDescDestroy(g->biased);
  if (g->a) (void)cublasLtMatrixLayoutDestroy(g->a);
  if (g->b) (void)cublasLtMatrixLayoutDestroy(g->b);
  if (g->y) (void)cublasLtMatrixLayoutDestroy(g->y);
  free(g);
}

/* ---- running --------------------------------------------------------------------------------------------------------- */

cudaError_t m4n_cuda_gemm_run(m4n_cuda_gemm *g, float *y, const void *x, const void *w, const float *bias,
                              int rows, int add) {
  const float one = 1, old = add ? 1 : 0;
  const bool unaligned = ((uintptr_t)x | (uintptr_t)w | (uintptr_t)y | (uintptr_t)bias) & 15;
  const cublasLtMatmulDesc_t desc = bias ? g->biased : g->plain;
  cublasStatus_t status = set_rows(g, rows);
  if (bias && status == CUBLAS_STATUS_SUCCESS)
    status = cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = cublasLtMatmul(g->library->handle, desc, &one, w, g->a, x, g->b, &old, y, g->y, y, g->y,
                            &g->algo[bias != NULL][unaligned], g->library->workspace, WORKSPACE,
                            g->library->queue);
  return status == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown;
}
