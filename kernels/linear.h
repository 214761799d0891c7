/* Plans of matrix products: what a linear layer needs to know before the first product.
 *
 * A plan belongs to a shape, not to a layer: layers of equal shape get the same plan. Everything that can fail or
 * allocate (a library's primitives, workspace for padded rows) happens here; the ops linear_* of ops.def then only run.
 *
 *     const m4n_linear *plan;
 *     M4N_TRY(m4n_linear_plan(&plan, stream, &(m4n_linear_shape){.out = 512, .in = 512, .max_rows = 1280,
 *                                                                .grads = M4N_GRAD_X | M4N_GRAD_W}));
 *     m4n_linear_fwd(stream, y, x, w, NULL, plan, rows, 0);            // y[rows][512] = x[rows][512]·wᵀ
 *
 * Numbers: M4N_W_REAL is m4n_real throughout. M4N_W_BF16 rounds the rows of x (and dy) to bf16 and accumulates in
 * float32. M4N_W_INT8 has one scale an output row, quantises each row of x by its largest magnitude, accumulates in
 * int32. A row's result depends on that row alone: not on its number, not on the others. Gated products are those of the
 * CPU's packed formats, without bias and add.
 */
#ifndef M4N_KERNELS_LINEAR_H
#define M4N_KERNELS_LINEAR_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum m4n_weight_format {
  M4N_W_REAL,   /* plain [out][in] of m4n_real, what is trained */
  M4N_W_PACKED, /* the same numbers in the order that the product reads; inference only, faster for few rows */
  M4N_W_BF16,   /* packed; frozen or for inference; M4N_GRAD_X possible */
  M4N_W_INT8    /* packed; inference only */
};
enum { M4N_GRAD_X = 1, M4N_GRAD_W = 2 };

typedef struct m4n_linear_shape {
  int out, in;
  int max_rows;   /* the most rows of a call */
  int format;     /* enum m4n_weight_format */
  int grads;      /* M4N_GRAD_X | M4N_GRAD_W: which backward products will be asked for */
  int x_ld, y_ld; /* row distance of x and dx, of y and dy; 0: in, out. x_ld < in slides over a signal */
  int gated;      /* 1: y = silu(first half of w's rows)·(second half), out/2 wide: SwiGLU. See below */
} m4n_linear_shape;

/* The plan is the backend's: it lives until the backend is closed. EARG for sizes below 1, distances below the width, an
 * odd number of rows to be gated, or gradients that the format does not have; ENOMEM; EUNSUPPORTED where the backend or
 * the format has no gated product. */
int m4n_linear_plan(const m4n_linear **plan, m4n_stream *stream, const m4n_linear_shape *shape);

/* Bytes of the weights in the plan's format (of M4N_W_REAL: out·in·sizeof(m4n_real)). */
size_t m4n_linear_bytes(const m4n_linear *plan);
const m4n_linear_shape *m4n_linear_shape_of(const m4n_linear *plan);

#ifdef __cplusplus
}
#endif
#endif
