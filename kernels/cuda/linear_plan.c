/* Planning of linear layers: everything that allocates or can fail. */
#include "kernels/cuda/linear.h"

#include <stdlib.h>

#include "kernels/base/status.h"

enum { ALIGN = 256 };

static int padded(int n, int format) {
  const int to = format == M4N_W_BF16 ? 8 : format == M4N_W_INT8 ? 16 : 1;
  return (n + to - 1) / to * to;
}

static int make_products(m4n_cuda_linear *l, m4n_cuda_gemm_library *library) {
  const m4n_linear_shape *s = &l->linear.shape;
  const bool bf16 = s->format == M4N_W_BF16;
  m4n_cuda_gemm_shape shape = {.N = s->out, .K = l->in, .max_rows = s->max_rows, .bf16 = bf16};
  shape.product = M4N_CUDA_FORWARD;
  shape.x_ld = bf16 || l->copy_x ? l->in : s->x_ld, shape.w_ld = l->in, shape.y_ld = s->y_ld;
  if (s->format != M4N_W_INT8 && !m4n_cuda_few(l)) M4N_TRY(m4n_cuda_gemm_open(&l->forward, library, &shape));
  shape.product = M4N_CUDA_BACK, shape.N = s->in, shape.K = s->out;
  shape.x_ld = bf16 ? l->out : s->y_ld, shape.y_ld = s->x_ld;
  if (s->grads & M4N_GRAD_X) M4N_TRY(m4n_cuda_gemm_open(&l->back, library, &shape));
  shape.product = M4N_CUDA_WEIGHT; // dw[out][in] = dyᵀ·x
  shape.x_ld = s->y_ld, shape.w_ld = l->copy_x ? l->in : s->x_ld, shape.y_ld = s->in;
  if (s->grads & M4N_GRAD_W) M4N_TRY(m4n_cuda_gemm_open(&l->weight, library, &shape));
  return M4N_OK;
}

/* Converted or copied rows of the largest call. */
static int make_scratch(m4n_cuda_linear *l, m4n_cuda_backend *cuda) {
  const m4n_linear_shape *s = &l->linear.shape;
  const size_t rows = (size_t)s->max_rows, wider = (size_t)(l->in > l->out ? l->in : l->out);
  size_t bytes = l->copy_x ? rows * (size_t)l->in * sizeof(float) : 0;
  if (s->format == M4N_W_BF16) bytes = rows * wider * sizeof(uint16_t);
  if (s->format == M4N_W_INT8) bytes = rows * (size_t)l->in;
  M4N_TRY(m4n_cuda_grow(cuda, &cuda->rows, &cuda->rows_bytes, bytes));
  void *scale = cuda->row_scale;
  if (s->format == M4N_W_INT8) M4N_TRY(m4n_cuda_grow(cuda, &scale, &cuda->scale_bytes, rows * sizeof(float)));
  cuda->row_scale = scale;
  return M4N_OK;
}

static int make(m4n_cuda_linear *l, m4n_cuda_backend *cuda) {
  const m4n_linear_shape *s = &l->linear.shape;
  l->in = padded(s->in, s->format), l->out = padded(s->out, s->format);
  l->copy_x = s->x_ld < s->in;
  const size_t size = s->format == M4N_W_BF16   ? sizeof(uint16_t)
                      : s->format == M4N_W_INT8 ? 1
                                                : sizeof(float);
  if (s->format == M4N_W_INT8) l->at_weights = ((size_t)s->out * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
  l->linear.bytes = l->at_weights + (size_t)s->out * (size_t)l->in * size;
  M4N_TRY(make_products(l, cuda->library));
  return make_scratch(l, cuda);
}

static void close_plan(m4n_cuda_linear *l) {
  m4n_cuda_gemm_close(l->forward);
  m4n_cuda_gemm_close(l->back);
  m4n_cuda_gemm_close(l->weight);
  free(l);
}

static bool same_shape(const m4n_linear_shape *a, const m4n_linear_shape *b) {
  return a->out == b->out && a->in == b->in && a->max_rows == b->max_rows && a->format == b->format &&
         a->grads == b->grads && a->x_ld == b->x_ld && a->y_ld == b->y_ld;
}

int m4n_cuda_linear_plan(const m4n_linear **plan, m4n_stream *stream, const m4n_linear_shape *shape) {
  if (shape->gated) return m4n_fail(M4N_EUNSUPPORTED, "the card has no gated product");
  m4n_cuda_backend *cuda = m4n_cuda_of(stream);
  for (m4n_cuda_linear *l = cuda->plans; l; l = l->next)
    if (same_shape(&l->linear.shape, shape)) {
      *plan = &l->linear;
      return M4N_OK;
    }
  m4n_cuda_linear *l = calloc(1, sizeof *l);
  if (!l) return m4n_fail(M4N_ENOMEM, "no memory for the plan of a linear layer");
  l->linear.shape = *shape;
  const int status = make(l, cuda);
  if (status) {
    close_plan(l);
    return m4n_context(status, "linear layer %d → %d", shape->in, shape->out);
  }
  l->next = cuda->plans, cuda->plans = l;
  *plan = &l->linear;
  return M4N_OK;
}

void m4n_cuda_linear_close(m4n_cuda_backend *cuda) {
  for (m4n_cuda_linear *l = cuda->plans, *next; l; l = next) {
    next = l->next;
    close_plan(l);
  }
  cuda->plans = NULL;
}
