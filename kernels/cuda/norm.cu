/* RMSNorm and LayerNorm (algorithms.md §2.2, §5.7). A row is a warp's where it is short, else a block's: by its width
 * alone, so that a row's result does not depend on the others. */
#include "kernels/cuda/device.cuh"

enum { WARP_WIDTH = 1024 }; /* the widest row that one warp takes */

/* A row's threads: 32 of a warp, or all of a block. `column` walks by `step`. */
struct span {
  int64_t row;
  int column, step;
};
__device__ static inline span row_span(int C) {
  span s;
  if (C <= WARP_WIDTH)
    s.row = (int64_t)blockIdx.x * ROWS_A_BLOCK + threadIdx.x / WARP, s.column = threadIdx.x % WARP,
    s.step = WARP;
  else
    s.row = blockIdx.x, s.column = threadIdx.x, s.step = THREADS;
  return s;
}
__device__ static inline float row_sum(float x, int C) {
  return C <= WARP_WIDTH ? lanes_sum(x) : block_sum(x);
}
static unsigned span_blocks(int rows, int C) {
  return C <= WARP_WIDTH ? row_blocks(rows) : (unsigned)rows;
}

// r = (mean x² + eps)^−½, y = g·x·r
static __global__ void rmsnorm_kernel(float *y, float *saved, const float *x, const float *g, int rows, int C,
                                      float eps) {
  const span s = row_span(C);
  if (s.row >= rows) return;
  x += s.row * C, y += s.row * C;
  float sum = 0;
  for (int c = s.column; c < C; c += s.step) sum += x[c] * x[c];
  const float r = 1 / sqrtf(row_sum(sum, C) / C + eps);
  for (int c = s.column; c < C; c += s.step) y[c] = g[c] * (x[c] * r);
  if (saved && s.column == 0) saved[s.row] = r;
}

// x̂ = x·r, ĝ = dy·g: dx = r(ĝ − x̂·mean(ĝ·x̂)), plus the residual's gradient
static __global__ void rmsnorm_grad_kernel(float *dx, const float *dy, const float *dres, const float *x,
                                           const float *saved, const float *g, int rows, int C) {
  const span s = row_span(C);
  if (s.row >= rows) return;
  const int64_t at = s.row * C;
  const float r = saved[s.row];
  float sum = 0;
  for (int c = s.column; c < C; c += s.step) sum += dy[at + c] * g[c] * x[at + c];
  const float along = row_sum(sum, C) * r * r * r / C;
  for (int c = s.column; c < C; c += s.step) {
    const float own = dy[at + c] * g[c] * r - x[at + c] * along;
    dx[at + c] = dres ? dres[at + c] + own : own;
  }
}

// x̂ = (x − μ)/√(σ² + eps), y = g·x̂ + b
static __global__ void layernorm_kernel(float *y, float *stats, const float *x, const float *g,
                                        const float *b, int rows, int C, float eps) {
  const span s = row_span(C);
  if (s.row >= rows) return;
  x += s.row * C, y += s.row * C;
  float sum = 0, square = 0;
  for (int c = s.column; c < C; c += s.step) sum += x[c];
  const float mean = row_sum(sum, C) / C;
  for (int c = s.column; c < C; c += s.step) square += (x[c] - mean) * (x[c] - mean);
  const float r = 1 / sqrtf(row_sum(square, C) / C + eps);
  for (int c = s.column; c < C; c += s.step) y[c] = g[c] * ((x[c] - mean) * r) + b[c];
  if (stats && s.column == 0) stats[2 * s.row] = mean, stats[2 * s.row + 1] = r;
}

// ĝ = dy·g: dx = r(ĝ − mean(ĝ) − x̂·mean(ĝ·x̂))
static __global__ void layernorm_grad_kernel(float *dx, const float *dy, const float *dres, const float *x,
                                             const float *stats, const float *g, int rows, int C) {
  const span s = row_span(C);
  if (s.row >= rows) return;
  const int64_t at = s.row * C;
  const float mean = stats[2 * s.row], r = stats[2 * s.row + 1];
  float sum = 0, along = 0;
  for (int c = s.column; c < C; c += s.step) {
    const float ghat = dy[at + c] * g[c];
    sum += ghat, along += ghat * (x[at + c] - mean);
  }
  sum = row_sum(sum, C) / C, along = row_sum(along, C) * r * r / C;
  for (int c = s.column; c < C; c += s.step) {
    const float own = r * (dy[at + c] * g[c] - sum - (x[at + c] - mean) * along);
    dx[at + c] = dres ? dres[at + c] + own : own;
  }
}

/* ---- gradients of gain and bias: sums over rows, in parts, then the parts in order ------------------------------------- */

enum { STRIPES = 8, PART_ROWS = 64, MOST_PARTS = 64 };

/* part[p][0][c] = Σ dy·x̂, part[p][1][c] = Σ dy over the rows of part p. stats: r of a row (RMSNorm, centred 0), or mean
 * and r. A thread takes every eighth row, then the eight are added in order. */
static __global__ void gain_kernel(float *part, const float *dy, const float *x, const float *stats, int rows,
                                   int C, int centred, int part_rows) {
  __shared__ float gains[STRIPES][WARP], biases[STRIPES][WARP];
  const int lane = threadIdx.x % WARP, stripe = threadIdx.x / WARP, c = blockIdx.x * WARP + lane;
  const int first = blockIdx.y * part_rows, end = first + part_rows < rows ? first + part_rows : rows;
  float gain = 0, bias = 0;
  if (c < C)
    for (int row = first + stripe; row < end; row += STRIPES) {
      const int64_t at = (int64_t)row * C + c;
      const float mean = centred ? stats[2 * row] : 0, r = centred ? stats[2 * row + 1] : stats[row];
      gain += dy[at] * ((x[at] - mean) * r), bias += dy[at];
    }
  gains[stripe][lane] = gain, biases[stripe][lane] = bias;
  __syncthreads();
  if (stripe || c >= C) return;
  for (int i = 1; i < STRIPES; i++) gain += gains[i][lane], bias += biases[i][lane];
  float *to = part + (int64_t)blockIdx.y * (1 + centred) * C;
  to[c] = gain;
  if (centred) to[C + c] = bias;
}

static void gains(m4n_stream *s, float *dg, float *db, const float *dy, const float *x, const float *stats,
                  int rows, int C) {
  const int arrays = db ? 2 : 1;
  int64_t parts = ceil_div(rows, PART_ROWS);
  if (parts > MOST_PARTS) parts = MOST_PARTS;
  // Half of the scratch: column_sums, which adds the parts up, has none to split since they are few.
  if (parts > M4N_CUDA_PARTS / 2 / (arrays * C)) parts = M4N_CUDA_PARTS / 2 / (arrays * C);
  if (parts < 1) parts = 1;
  const int part_rows = (int)ceil_div(rows, parts);
  parts = ceil_div(rows, part_rows);
  float *part = m4n_cuda_of(s)->parts;
  M4N_LAUNCH(s, gain_kernel, dim3((unsigned)ceil_div(C, WARP), (unsigned)parts), THREADS, part, dy, x, stats,
             rows, C, db != NULL, part_rows);
  m4n_cuda_column_sums(s, dg, part, parts, C, (int64_t)arrays * C);
  if (db) m4n_cuda_column_sums(s, db, part + C, parts, C, (int64_t)arrays * C);
}

extern "C" {

void m4n_cuda_rmsnorm_fwd(m4n_stream *s, m4n_real *y, m4n_real *r, const m4n_real *x, const m4n_real *g,
                          int rows, int C, m4n_real eps) {
  if (rows > 0) M4N_LAUNCH(s, rmsnorm_kernel, span_blocks(rows, C), THREADS, y, r, x, g, rows, C, eps);
}
void m4n_cuda_rmsnorm_bwd(m4n_stream *s, m4n_real *dx, m4n_real *dg, const m4n_real *dy, const m4n_real *dres,
                          const m4n_real *x, const m4n_real *r, const m4n_real *g, int rows, int C) {
  if (rows < 1) return;
  if (dg) gains(s, dg, NULL, dy, x, r, rows, C); // first: dx may lie on dy
  M4N_LAUNCH(s, rmsnorm_grad_kernel, span_blocks(rows, C), THREADS, dx, dy, dres, x, r, g, rows, C);
}
void m4n_cuda_layernorm_fwd(m4n_stream *s, m4n_real *y, m4n_real *stats, const m4n_real *x, const m4n_real *g,
                            const m4n_real *b, int rows, int C, m4n_real eps) {
  if (rows > 0)
    M4N_LAUNCH(s, layernorm_kernel, span_blocks(rows, C), THREADS, y, stats, x, g, b, rows, C, eps);
}
void m4n_cuda_layernorm_bwd(m4n_stream *s, m4n_real *dx, m4n_real *dg, m4n_real *db, const m4n_real *dy,
                            const m4n_real *dres, const m4n_real *x, const m4n_real *stats, const m4n_real *g,
                            int rows, int C) {
  if (rows < 1) return;
  if (dg) gains(s, dg, db, dy, x, stats, rows, C);
  M4N_LAUNCH(s, layernorm_grad_kernel, span_blocks(rows, C), THREADS, dx, dy, dres, x, stats, g, rows, C);
}

} // extern "C"
