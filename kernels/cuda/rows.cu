/* Elementwise sums, copies and conversions, and sums over rows. */
#include "kernels/cuda/device.cuh"

/* ---- elementwise ---------------------------------------------------------------------------------------------------- */

struct value_of {
  float value;
  __device__ float operator()(const float *) const { return value; }
};
struct sum_of {
  __device__ float operator()(const float *a) const { return a[0] + a[1]; }
};
struct product_of {
  __device__ float operator()(const float *a) const { return a[0] * a[1]; }
};
struct scaled {
  float alpha;
  __device__ float operator()(const float *a) const { return alpha * a[0]; }
};
struct blend {
  float alpha, beta;
  __device__ float operator()(const float *a) const { return alpha * a[0] + beta * a[1]; }
};
struct towards {
  float share;
  __device__ float operator()(const float *a) const { return a[1] + share * (a[0] - a[1]); }
};

static __global__ void to_bf16_kernel(uint16_t *y, const float *x, int64_t n) {
  const int64_t step = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) y[i] = bf16_of(x[i]);
}
static __global__ void from_bf16_kernel(float *y, const uint16_t *x, int64_t n) {
  const int64_t step = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) y[i] = of_bf16(x[i]);
}

/* Ten rounds of Philox4x32 (kernels/base/rng.c has the same). */
__device__ static inline void philox(uint32_t out[4], uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3,
                                     uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; round++) {
    const uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
    const uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c0 = n0, c1 = (uint32_t)b, c2 = n2, c3 = (uint32_t)a;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}
// Four elements share a block of numbers: counter (i/4, use, 0); the upper 24 bits of a draw are compared.
static __global__ void dropout_kernel(float *y, const float *x, const uint32_t *key, int64_t n, uint32_t use,
                                      float keep, uint32_t bound) {
  const int64_t step = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; 4 * i < n; i += step) {
    uint32_t draw[4];
    philox(draw, (uint32_t)i, (uint32_t)(i >> 32), use, 0, key[0], key[1]);
    for (int j = 0; j < 4 && 4 * i + j < n; j++)
      y[4 * i + j] = draw[j] >> 8 < bound ? 0 : keep * x[4 * i + j];
  }
}

extern "C" {

void m4n_cuda_fill(m4n_stream *s, m4n_real *y, int64_t n, m4n_real value) {
  map(s, y, inputs<0>(), n, value_of{value});
}
void m4n_cuda_add(m4n_stream *s, m4n_real *y, const m4n_real *a, const m4n_real *b, int64_t n) {
  map(s, y, inputs<2>{{a, b}}, n, sum_of());
}
void m4n_cuda_mul(m4n_stream *s, m4n_real *y, const m4n_real *a, const m4n_real *b, int64_t n) {
  map(s, y, inputs<2>{{a, b}}, n, product_of());
}
void m4n_cuda_axpby(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n, m4n_real alpha, m4n_real beta) {
  if (beta == 0)
    map(s, y, inputs<1>{{x}}, n, scaled{alpha});
  else
    map(s, y, inputs<2>{{x, y}}, n, blend{alpha, beta});
}
void m4n_cuda_ema(m4n_stream *s, m4n_real *average, const m4n_real *w, int64_t n, m4n_real decay) {
  map(s, average, inputs<2>{{w, average}}, n, towards{1 - decay});
}
void m4n_cuda_to_bf16(m4n_stream *s, uint16_t *y, const m4n_real *x, int64_t n) {
  if (n > 0) M4N_LAUNCH(s, to_bf16_kernel, blocks_for(n), THREADS, y, x, n);
}
void m4n_cuda_from_bf16(m4n_stream *s, m4n_real *y, const uint16_t *x, int64_t n) {
  if (n > 0) M4N_LAUNCH(s, from_bf16_kernel, blocks_for(n), THREADS, y, x, n);
}
void m4n_cuda_dropout(m4n_stream *s, m4n_real *y, const m4n_real *x, const uint32_t *key, int64_t n,
                      uint32_t use, m4n_real p) {
  if (n > 0)
    M4N_LAUNCH(s, dropout_kernel, blocks_for(ceil_div(n, 4)), THREADS, y, x, key, n, use, 1 / (1 - p),
               (uint32_t)(p * 16777216));
}

} // extern "C"

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static __global__ void copy_rows_kernel(float *y, const float *x, int rows, int C, int64_t y_ld,
                                        int64_t x_ld) {
  M4N_WARP_ROW(row, rows);
  M4N_EACH_COLUMN(c, C) y[row * y_ld + c] = x[row * x_ld + c];
}
static __global__ void copy_rows4_kernel(float4 *y, const float4 *x, int rows, int C, int64_t y_ld,
                                         int64_t x_ld) {
  M4N_WARP_ROW(row, rows);
  M4N_EACH_COLUMN(c, C) y[row * y_ld + c] = x[row * x_ld + c];
}
static __global__ void add_rows_kernel(float *y, const float *x, const float *p, int rows, int period,
                                       int C) {
  M4N_WARP_ROW(row, rows);
  M4N_EACH_COLUMN(c, C) y[row * C + c] = x[row * C + c] + p[row % period * C + c];
}

extern "C" {

void m4n_cuda_copy_rows(m4n_stream *s, m4n_real *y, const m4n_real *x, int rows, int C, int y_ld, int x_ld) {
  const int64_t to = y_ld ? y_ld : C, from = x_ld ? x_ld : C;
  if (rows < 1) return;
  if (C % 4 == 0 && to % 4 == 0 && from % 4 == 0 && aligned16(y) && aligned16(x))
    M4N_LAUNCH(s, copy_rows4_kernel, row_blocks(rows), THREADS, (float4 *)y, (const float4 *)x, rows, C / 4,
               to / 4, from / 4);
  else
    M4N_LAUNCH(s, copy_rows_kernel, row_blocks(rows), THREADS, y, x, rows, C, to, from);
}
void m4n_cuda_add_rows(m4n_stream *s, m4n_real *y, const m4n_real *x, const m4n_real *p, int rows, int period,
                       int C) {
  if (rows > 0) M4N_LAUNCH(s, add_rows_kernel, row_blocks(rows), THREADS, y, x, p, rows, period, C);
}

} // extern "C"

/* ---- sums over rows: parts of at least 64 rows, then the parts in order ------------------------------------------------- */

enum { STRIP = WARP, STRIPES = 8, PART_ROWS = 64, MOST_PARTS = 64 };

/* to[part][c] (+)= Σ x[r][c] over the rows first, first + step, … of the part. Blocks are 32 columns × 8; a thread takes
 * every eighth row, then the eight are added in order. */
static __global__ void column_sums_kernel(float *to, const float *x, int64_t rows, int C, int64_t ld,
                                          int64_t part_rows, int add) {
  __shared__ float sums[STRIPES][STRIP];
  const int lane = threadIdx.x % STRIP, stripe = threadIdx.x / STRIP, c = blockIdx.x * STRIP + lane;
  const int64_t first = blockIdx.y * part_rows, end = first + part_rows < rows ? first + part_rows : rows;
  float sum = 0;
  if (c < C)
    for (int64_t r = first + stripe; r < end; r += STRIPES) sum += x[r * ld + c];
  sums[stripe][lane] = sum;
  __syncthreads();
  if (stripe || c >= C) return;
  for (int i = 1; i < STRIPES; i++) sum += sums[i][lane];
  float *at = to + (int64_t)blockIdx.y * C + c;
  *at = add ? *at + sum : sum;
}

extern "C" void m4n_cuda_column_sums(m4n_stream *s, float *y, const float *x, int64_t rows, int C,
                                     int64_t ld) {
  const unsigned strips = (unsigned)ceil_div(C, STRIP);
  int64_t parts = ceil_div(rows, PART_ROWS);
  if (parts > MOST_PARTS) parts = MOST_PARTS;
  if (parts > M4N_CUDA_PARTS / C) parts = M4N_CUDA_PARTS / C;
  if (parts < 2) {
    M4N_LAUNCH(s, column_sums_kernel, dim3(strips, 1), THREADS, y, x, rows, C, ld, rows, 1);
    return;
  }
  const int64_t part_rows = ceil_div(rows, parts);
  parts = ceil_div(rows, part_rows);
  float *part = m4n_cuda_of(s)->parts;
  M4N_LAUNCH(s, column_sums_kernel, dim3(strips, (unsigned)parts), THREADS, part, x, rows, C, ld, part_rows,
             0);
  M4N_LAUNCH(s, column_sums_kernel, dim3(strips, 1), THREADS, y, part, parts, C, C, parts, 1);
}

/* dp[q][c] += Σ dy[r][c] over r = q, q + period, …: few rows each, so one stage. */
static __global__ void periodic_sums_kernel(float *dp, const float *dy, int rows, int period, int C,
                                            int64_t ld) {
  const int c = blockIdx.y * blockDim.x + threadIdx.x, q = blockIdx.x;
  if (c >= C) return;
  float sum = 0;
  for (int64_t r = q; r < rows; r += period) sum += dy[r * ld + c];
  dp[(int64_t)q * C + c] += sum;
}

extern "C" void m4n_cuda_sum_rows(m4n_stream *s, m4n_real *dp, const m4n_real *dy, int rows, int period,
                                  int C, int dy_ld) {
  const int64_t ld = dy_ld ? dy_ld : C;
  if (rows < 1) return;
  if (period == 1)
    m4n_cuda_column_sums(s, dp, dy, rows, C, ld);
  else
    M4N_LAUNCH(s, periodic_sums_kernel, dim3(period < rows ? period : rows, (unsigned)ceil_div(C, THREADS)),
               THREADS, dp, dy, rows, period, C, ld);
}

/* ---- sums of everything, in double: pieces, then the pieces in order ------------------------------------------------------ */

enum { PIECES = 512, LEAST_PIECE = 4096 };

static __global__ void total_kernel(double *piece, const float *x, int64_t n, int64_t step, int square) {
  const int64_t first = blockIdx.x * step, end = first + step < n ? first + step : n;
  double sum = 0;
  for (int64_t i = first + threadIdx.x; i < end; i += blockDim.x)
    sum += square ? (double)x[i] * x[i] : (double)x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) piece[blockIdx.x] = sum;
}
static __global__ void join_kernel(float *y, const double *piece, int pieces, float alpha, int add,
                                   int root) {
  double sum = 0;
  for (int i = threadIdx.x; i < pieces; i += blockDim.x) sum += piece[i];
  sum = block_sum(sum);
  if (threadIdx.x) return;
  const float value = root ? (float)sqrt(sum) : (float)(alpha * sum);
  *y = add ? *y + value : value;
}

static void total(m4n_stream *s, float *y, const float *x, int64_t n, float alpha, int add, int norm) {
  double *piece = (double *)m4n_cuda_of(s)->parts;
  int64_t step = ceil_div(n, PIECES);
  if (step < LEAST_PIECE) step = LEAST_PIECE;
  const int pieces = (int)ceil_div(n, step);
  if (pieces) M4N_LAUNCH(s, total_kernel, pieces, THREADS, piece, x, n, step, norm);
  M4N_LAUNCH(s, join_kernel, 1, THREADS, y, piece, pieces, alpha, add, norm);
}

extern "C" {

void m4n_cuda_sum(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n, m4n_real alpha, int add) {
  total(s, y, x, n, alpha, add, 0);
}
void m4n_cuda_grad_norm(m4n_stream *s, m4n_real *norm, const m4n_real *g, int64_t n) {
  total(s, norm, g, n, 1, 0, 1);
}

} // extern "C"
