/* Products through CBLAS: where oneDNN is missing, and in the f64 build (oneDNN has no float64). bf16 and int8 weights
 * are expanded by linear.c, so only m4n_real comes here. */
#include "kernels/cpu/gemm.h"

#include <cblas.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

struct m4n_gemm_library {
  int threads;
};
struct m4n_gemm {
  m4n_gemm_shape shape;
};

int m4n_gemm_library_open(m4n_gemm_library **out, int threads) {
  *out = calloc(1, sizeof **out);
  if (!*out) return m4n_fail(M4N_ENOMEM, "no memory for matrix products");
  (*out)->threads = threads;
  // The tiles are our threads' work. OpenBLAS has threads of its own unless told; other libraries lack the function.
  union {
    void *object;
    void (*function)(int);
  } set_threads = {dlsym(RTLD_DEFAULT, "openblas_set_num_threads")};
  if (set_threads.object) set_threads.function(1);
  return M4N_OK;
}
void m4n_gemm_library_close(m4n_gemm_library *library) {
  free(library);
}
const char *m4n_gemm_library_name(void) {
  return "CBLAS";
}
bool m4n_gemm_has(const m4n_gemm_library *library, int type) {
  (void)library;
  return type == M4N_GEMM_REAL;
}

int m4n_gemm_open(m4n_gemm **out, m4n_gemm_library *library, const m4n_gemm_shape *shape,
                  const m4n_gemm *like) {
  (void)library, (void)like;
  *out = NULL;
  if (shape->type != M4N_GEMM_REAL)
    return m4n_fail(M4N_EUNSUPPORTED, "CBLAS has no products of type %d", shape->type);
  *out = malloc(sizeof **out);
  if (!*out) return m4n_fail(M4N_ENOMEM, "no memory for a matrix product");
  (*out)->shape = *shape;
  return M4N_OK;
}
void m4n_gemm_close(m4n_gemm *gemm) {
  free(gemm);
}

/* Packed is plain. */
size_t m4n_gemm_packed_bytes(const m4n_gemm *g) {
  return (size_t)g->shape.N * (size_t)g->shape.K * sizeof(m4n_real);
}
void m4n_gemm_pack(const m4n_gemm *g, int thread, void *packed, const void *w) {
  (void)thread;
  memcpy(packed, w, m4n_gemm_packed_bytes(g));
}

void m4n_gemm_run(const m4n_gemm *g, int thread, void *y, const void *x, const void *w) {
  (void)thread;
  const m4n_gemm_shape *s = &g->shape;
  const enum CBLAS_TRANSPOSE tx = s->x_transposed ? CblasTrans : CblasNoTrans;
  const enum CBLAS_TRANSPOSE tw = s->w_transposed ? CblasTrans : CblasNoTrans;
#ifdef M4N_REAL_F64
  cblas_dgemm(CblasRowMajor, tx, tw, s->M, s->N, s->K, 1, x, s->x_ld, w, s->w_ld, s->add, y, s->y_ld);
#else
  cblas_sgemm(CblasRowMajor, tx, tw, s->M, s->N, s->K, 1, x, s->x_ld, w, s->w_ld, s->add, y, s->y_ld);
#endif
}
