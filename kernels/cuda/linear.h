/* The card's plan of a linear layer: linear_plan.c makes it, linear.cu runs it.
 *
 *   few rows   up to 8: a kernel that reads the weights once, which is all that counts there
 *   int8       rows of x are quantised, then a kernel of integers
 *   all else   cuBLASLt (gemm.h), bf16 with rows rounded and padded in scratch */
#ifndef M4N_KERNELS_CUDA_LINEAR_H
#define M4N_KERNELS_CUDA_LINEAR_H

#include "kernels/cuda/gemm.h"

enum { M4N_CUDA_FEW_ROWS = 8 };

struct m4n_cuda_linear {
  m4n_linear linear;
  struct m4n_cuda_linear *next;
  int in, out;       /* row lengths of packed weights, and of dy: padded for bf16 and int8 */
  bool copy_x;       /* rows of x overlap, which no library takes */
  size_t at_weights; /* bytes: int8's scales lie in front */
  m4n_cuda_gemm *forward, *back, *weight;
};

static inline bool m4n_cuda_few(const m4n_cuda_linear *l) {
  return l->linear.shape.max_rows <= M4N_CUDA_FEW_ROWS && l->linear.shape.format != M4N_W_INT8;
}

#endif
