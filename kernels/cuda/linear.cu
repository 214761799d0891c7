/* Linear layers (algorithms.md §1): y = x·wᵀ + b, x̄ = ȳ·w, w̄ += ȳᵀ·x. */
#include "kernels/cuda/linear.h"

#include "kernels/cuda/device.cuh"

/* ---- operands on their way: rounded to bf16, or quantised by row; zeros behind the width ---------------------------------- */

static __global__ void round_rows_kernel(uint16_t *to, const float *x, int rows, int width, int padded,
                                         int64_t ld) {
  M4N_WARP_ROW(row, rows);
  M4N_EACH_COLUMN(c, padded) to[row * padded + c] = c < width ? bf16_of(x[row * ld + c]) : 0;
}

/* A row by its largest magnitude/127; the scale is no number if one of the row's is none or infinite. */
static __global__ void quantise_rows_kernel(int8_t *to, float *scales, const float *x, int rows, int width,
                                            int padded, int64_t ld) {
  M4N_WARP_ROW(row, rows);
  float most = 0, poison = 0;
  M4N_EACH_COLUMN(c, width) {
    const float v = x[row * ld + c];
    most = fmaxf(most, fabsf(v)), poison += 0 * v;
  }
  const float scale = lanes_max(most) / 127 + lanes_sum(poison), inverse = scale > 0 ? 1 / scale : 0;
  M4N_EACH_COLUMN(c, padded)
  to[row * padded + c] = (int8_t)(c < width && inverse > 0 ? (int)rintf(x[row * ld + c] * inverse) : 0);
  if (threadIdx.x % WARP == 0) scales[row] = scale;
}

/* ---- few rows: a warp has a few outputs, its lanes walk along the weights ---------------------------------------------------- */

enum { OUTPUTS = 2, FEW_THREADS = 128, FEW_WARPS = FEW_THREADS / WARP, MOST_ROWS = M4N_CUDA_FEW_ROWS };

struct few {
  float *y;
  const float *x, *bias;
  const void *w;
  int rows, in, out, add, wide; /* wide: rows of x and float32 weights can be read by 16 bytes */
  int64_t x_ld, w_ld, y_ld;
};

__device__ static inline void load_four(float *to, const float *x, int k, int end, int wide) {
  if (wide) { // the width is a multiple of four, too
    const float4 v = *(const float4 *)(x + k);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  } else {
    for (int i = 0; i < 4; i++) to[i] = k + i < end ? x[k + i] : 0;
  }
}

template <bool BF16> static __global__ void few_rows_kernel(few a) {
  const int first = (blockIdx.x * FEW_WARPS + threadIdx.x / WARP) * OUTPUTS, lane = threadIdx.x % WARP;
  if (first >= a.out) return;
  float sum[MOST_ROWS][OUTPUTS];
#pragma unroll
  for (int r = 0; r < MOST_ROWS; r++)
    for (int o = 0; o < OUTPUTS; o++) sum[r][o] = 0;
  for (int k = 4 * lane; k < a.in; k += 4 * WARP) {
    float w[OUTPUTS][4];
#pragma unroll
    for (int o = 0; o < OUTPUTS; o++) {
      const int64_t row = first + o < a.out ? first + o : first;
      if (BF16) { // rows are padded to a multiple of eight
        const uint16_t *half = (const uint16_t *)a.w + row * a.w_ld + k;
        const uint2 v = *(const uint2 *)half;
        w[o][0] = of_bf16((uint16_t)v.x), w[o][1] = of_bf16((uint16_t)(v.x >> 16));
        w[o][2] = of_bf16((uint16_t)v.y), w[o][3] = of_bf16((uint16_t)(v.y >> 16));
      } else {
        load_four(w[o], (const float *)a.w + row * a.w_ld, k, a.in, a.wide);
      }
    }
#pragma unroll
    for (int r = 0; r < MOST_ROWS; r++) {
      if (r >= a.rows) break;
      float x[4];
      load_four(x, a.x + r * a.x_ld, k, a.in, a.wide);
      for (int i = 0; i < 4; i++) {
        const float v = BF16 ? of_bf16(bf16_of(x[i])) : x[i];
        for (int o = 0; o < OUTPUTS; o++) sum[r][o] += w[o][i] * v;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < MOST_ROWS; r++)
    for (int o = 0; o < OUTPUTS; o++) {
      if (r >= a.rows) break;
      const float total = lanes_sum(sum[r][o]);
      if (lane || first + o >= a.out) continue;
      float *y = a.y + r * a.y_ld + first + o;
      *y = (a.add ? *y + total : total) + (a.bias ? a.bias[first + o] : 0);
    }
}

/* ---- int8: tiles of 32 rows × 32 outputs, four products of bytes at a time ------------------------------------------------------ */

enum { TILE = 32, WORDS = 16, BYTE_THREADS = 256, BYTE_ROWS = TILE * TILE / BYTE_THREADS };

static __global__ void byte_kernel(float *y, const int *x, const int *w, const float *x_scale,
                                   const float *w_scale, const float *bias, int rows, int out, int words,
                                   int64_t y_ld, int add) {
  __shared__ int xs[TILE][WORDS + 1], ws[TILE][WORDS + 1];
  const int first = blockIdx.x * TILE, first_out = blockIdx.y * TILE;
  const int o = threadIdx.x % TILE, r = threadIdx.x / TILE;
  int sum[BYTE_ROWS] = {0};
  for (int at = 0; at < words; at += WORDS) {
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * WORDS; i += BYTE_THREADS) {
      const int row = i / WORDS, k = i % WORDS;
      xs[row][k] = first + row < rows && at + k < words ? x[(int64_t)(first + row) * words + at + k] : 0;
      ws[row][k] =
          first_out + row < out && at + k < words ? w[(int64_t)(first_out + row) * words + at + k] : 0;
    }
    __syncthreads();
    for (int k = 0; k < WORDS; k++)
#pragma unroll
      for (int i = 0; i < BYTE_ROWS; i++) sum[i] = __dp4a(xs[r * BYTE_ROWS + i][k], ws[o][k], sum[i]);
  }
  if (first_out + o >= out) return;
  for (int i = 0; i < BYTE_ROWS; i++) {
    const int row = first + r * BYTE_ROWS + i;
    if (row >= rows) return;
    const float value =
        x_scale[row] * w_scale[first_out + o] * (float)sum[i] + (bias ? bias[first_out + o] : 0);
    float *to = y + row * y_ld + first_out + o;
    *to = add ? *to + value : value;
  }
}

/* ---- the ops -------------------------------------------------------------------------------------------------------------------- */

static void run_few(m4n_stream *s, float *y, const float *x, const void *w, const float *bias,
                    const m4n_cuda_linear *l, int rows, int add) {
  const m4n_linear_shape *n = &l->linear.shape;
  few a = {};
  a.y = y, a.x = x, a.w = w, a.bias = bias, a.rows = rows, a.in = n->in, a.out = n->out, a.add = add;
  a.x_ld = n->x_ld, a.w_ld = l->in, a.y_ld = n->y_ld;
  const bool bf16 = n->format == M4N_W_BF16;
  a.wide = n->in % 4 == 0 && n->x_ld % 4 == 0 && aligned16(x) && (bf16 || aligned16(w));
  const unsigned blocks = (unsigned)ceil_div(n->out, FEW_WARPS * OUTPUTS);
  if (bf16)
    M4N_LAUNCH(s, few_rows_kernel<true>, blocks, FEW_THREADS, a);
  else
    M4N_LAUNCH(s, few_rows_kernel<false>, blocks, FEW_THREADS, a);
}

static void run_int8(m4n_stream *s, float *y, const float *x, const char *w, const float *bias,
                     const m4n_cuda_linear *l, int rows, int add) {
  const m4n_linear_shape *n = &l->linear.shape;
  m4n_cuda_backend *cuda = m4n_cuda_of(s);
  M4N_LAUNCH(s, quantise_rows_kernel, row_blocks(rows), THREADS, (int8_t *)cuda->rows, cuda->row_scale, x,
             rows, n->in, l->in, (int64_t)n->x_ld);
  const dim3 grid((unsigned)ceil_div(rows, TILE), (unsigned)ceil_div(n->out, TILE));
  M4N_LAUNCH(s, byte_kernel, grid, BYTE_THREADS, y, (const int *)cuda->rows, (const int *)(w + l->at_weights),
             cuda->row_scale, (const float *)w, bias, rows, n->out, l->in / 4, (int64_t)n->y_ld, add);
}

/* Rows as the product takes them: rounded, copied apart, or where they lie. */
static const void *operand(m4n_stream *s, const m4n_cuda_linear *l, const float *x, int rows, int width,
                           int padded, int ld) {
  m4n_cuda_backend *cuda = m4n_cuda_of(s);
  if (l->linear.shape.format == M4N_W_BF16)
    M4N_LAUNCH(s, round_rows_kernel, row_blocks(rows), THREADS, (uint16_t *)cuda->rows, x, rows, width,
               padded, (int64_t)ld);
  else if (ld < width)
    m4n_cuda_copy_rows(s, (float *)cuda->rows, x, rows, width, width, ld);
  else
    return x;
  return cuda->rows;
}

extern "C" {

void m4n_cuda_linear_fwd(m4n_stream *s, m4n_real *y, const m4n_real *x, const void *w, const m4n_real *bias,
                         const m4n_linear *plan, int rows, int add) {
  const m4n_cuda_linear *l = (const m4n_cuda_linear *)plan;
  const m4n_linear_shape *n = &plan->shape;
  if (rows < 1) return;
  if (n->format == M4N_W_INT8)
    run_int8(s, y, x, (const char *)w, bias, l, rows, add);
  else if (m4n_cuda_few(l))
    run_few(s, y, x, w, bias, l, rows, add);
  else
    m4n_cuda_note(
        m4n_cuda_of(s),
        m4n_cuda_gemm_run(l->forward, y, operand(s, l, x, rows, n->in, l->in, n->x_ld), w, bias, rows, add),
        "linear_fwd");
}
void m4n_cuda_linear_bwd_x(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const void *w,
                           const m4n_linear *plan, int rows, int add) {
  const m4n_cuda_linear *l = (const m4n_cuda_linear *)plan;
  if (rows < 1) return;
  const void *x = operand(s, l, dy, rows, plan->shape.out, l->out, plan->shape.y_ld);
  m4n_cuda_note(m4n_cuda_of(s), m4n_cuda_gemm_run(l->back, dx, x, w, NULL, rows, add), "linear_bwd_x");
}
void m4n_cuda_linear_bwd_w(m4n_stream *s, m4n_real *dw, const m4n_real *dy, const m4n_real *x,
                           const m4n_linear *plan, int rows) {
  const m4n_cuda_linear *l = (const m4n_cuda_linear *)plan;
  if (rows < 1) return;
  const void *from = operand(s, l, x, rows, plan->shape.in, l->in, plan->shape.x_ld);
  m4n_cuda_note(m4n_cuda_of(s), m4n_cuda_gemm_run(l->weight, dw, dy, from, NULL, rows, 1), "linear_bwd_w");
}

void m4n_cuda_linear_pack(m4n_stream *s, void *packed, const m4n_real *w, const m4n_linear *plan) {
  const m4n_cuda_linear *l = (const m4n_cuda_linear *)plan;
  const m4n_linear_shape *n = &plan->shape;
  m4n_cuda_backend *cuda = m4n_cuda_of(s);
  if (n->format == M4N_W_BF16)
    M4N_LAUNCH(s, round_rows_kernel, row_blocks(n->out), THREADS, (uint16_t *)packed, w, n->out, n->in, l->in,
               (int64_t)n->in);
  else if (n->format == M4N_W_INT8)
    M4N_LAUNCH(s, quantise_rows_kernel, row_blocks(n->out), THREADS, (int8_t *)packed + l->at_weights,
               (float *)packed, w, n->out, n->in, l->in, (int64_t)n->in);
  else
    m4n_cuda_note(cuda, cudaMemcpyAsync(packed, w, plan->bytes, cudaMemcpyDeviceToDevice, cuda->queue),
                  "linear_pack");
}

} // extern "C"
