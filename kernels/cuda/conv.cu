/* Depthwise causal convolution with silu (algorithms.md §5.2, §5.4). A thread is a channel and some steps of a sequence;
 * the last inputs stay in its registers. */
#include "kernels/cuda/device.cuh"

enum { TAPS = 8, CHUNK = 16, CHANNELS = 128 };

/* The taps of a channel, right-aligned: tap[TAPS − 1] is the newest input's. `first` = TAPS − K. */
struct taps {
  float w[TAPS], bias;
  int first;
};
__device__ static inline taps load_taps(const float *w, const float *b, int c, int K) {
  taps t;
  t.first = TAPS - K, t.bias = b[c];
#pragma unroll
  for (int j = 0; j < TAPS; j++) t.w[j] = j >= t.first ? w[(int64_t)c * K + j - t.first] : 0;
  return t;
}
__device__ static inline void push(float *past, float x) {
#pragma unroll
  for (int j = 0; j < TAPS - 1; j++) past[j] = past[j + 1];
  past[TAPS - 1] = x;
}
// c_t = b + Σ_j w_j x_{t−K+1+j}
__device__ static inline float convolve(const taps &t, const float *past) {
  float sum = t.bias;
#pragma unroll
  for (int j = 0; j < TAPS; j++)
    if (j >= t.first) sum += t.w[j] * past[j];
  return sum;
}

/* A block is a chunk of steps of one batch (all steps where there is a state) and CHANNELS channels. */
static __global__ void conv_kernel(float *y, float *state, const float *x, const float *w, const float *b,
                                   const int32_t *slot, m4n_conv n, int steps) {
  const int c = blockIdx.y * CHANNELS + threadIdx.x, chunks = (n.T + steps - 1) / steps;
  const int batch = blockIdx.x / chunks, begin = blockIdx.x % chunks * steps;
  const int end = begin + steps < n.T ? begin + steps : n.T;
  if (c >= n.C) return;
  const taps t = load_taps(w, b, c, n.K);
  float past[TAPS] = {0};
  x += (int64_t)batch * n.T * n.x_ld + c, y += (int64_t)batch * n.T * n.y_ld + c;
  if (state) state += (int64_t)(slot ? slot[batch] : batch) * (n.K - 1) * n.C + c;
  for (int k = 1 - n.K; k < 0; k++) {
    const int at = begin + k;
    push(past, at >= 0 ? x[(int64_t)at * n.x_ld] : state ? state[(int64_t)(n.K - 1 + at) * n.C] : 0);
  }
  for (int i = begin; i < end; i++) {
    push(past, x[(int64_t)i * n.x_ld]);
    y[(int64_t)i * n.y_ld] = silu(convolve(t, past));
  }
  if (!state) return;
#pragma unroll
  for (int j = 1; j < TAPS; j++)
    if (j > t.first) state[(int64_t)(j - t.first - 1) * n.C] = past[j];
}

/* c̄_t = ȳ_t silu'(c_t); b̄ = Σ c̄_t; w̄_j = Σ c̄_t x_{t−K+1+j}; x̄_t = Σ_j c̄_{t+K−1−j} w_j.
 * Part p has the pieces p, p + parts, … of the list of all chunks, and leaves its sums in part[p][K + 1][C]. */
static __global__ void conv_grad_kernel(float *dx, float *part, const float *dy, const float *x,
                                        const float *w, const float *b, m4n_conv n, int pieces) {
  const int c = blockIdx.y * CHANNELS + threadIdx.x, chunks = (n.T + CHUNK - 1) / CHUNK, K = n.K;
  if (c >= n.C) return;
  const taps t = load_taps(w, b, c, K);
  float dw[TAPS] = {0}, db = 0;
  for (int piece = blockIdx.x; piece < pieces; piece += gridDim.x) {
    const int64_t row = (int64_t)(piece / chunks) * n.T;
    const int begin = piece % chunks * CHUNK, end = begin + CHUNK < n.T ? begin + CHUNK : n.T;
    float past[TAPS] = {0}, late[TAPS] = {0}; // inputs up to now; c̄ up to now
    for (int i = begin + 1 - K; i < begin; i++) push(past, i >= 0 ? x[(row + i) * n.x_ld + c] : 0);
    for (int i = begin; i < end + K - 1; i++) {
      float dc = 0;
      if (i < n.T) {
        push(past, x[(row + i) * n.x_ld + c]);
        dc = dy[(row + i) * n.y_ld + c] * silu_grad(convolve(t, past));
      }
      push(late, dc);
      if (i < end) {
        db += dc;
#pragma unroll
        for (int j = 0; j < TAPS; j++)
          if (j >= t.first) dw[j] += dc * past[j];
      }
      if (i < begin + K - 1) continue; // not yet all that flows into x_{i−K+1}
      float sum = 0;
#pragma unroll
      for (int k = 0; k < TAPS; k++)
        if (k < K) sum += late[TAPS - 1 - k] * w[(int64_t)c * K + k];
      dx[(row + i - K + 1) * n.x_ld + c] = sum;
    }
  }
  part += (int64_t)blockIdx.x * (K + 1) * n.C + c;
#pragma unroll
  for (int j = 0; j < TAPS; j++)
    if (j >= t.first) part[(int64_t)(j - t.first) * n.C] = dw[j];
  part[(int64_t)K * n.C] = db;
}

/* dw and db from the parts, in order. */
static __global__ void conv_join_kernel(float *dw, float *db, const float *part, int parts, int C, int K) {
  const int c = blockIdx.x * CHANNELS + threadIdx.x, k = blockIdx.y;
  if (c >= C) return;
  float sum = 0;
  for (int p = 0; p < parts; p++) sum += part[((int64_t)p * (K + 1) + k) * C + c];
  if (k < K)
    dw[(int64_t)c * K + k] += sum;
  else
    db[c] += sum;
}

static m4n_conv dense(const m4n_conv *shape) {
  m4n_conv n = *shape;
  if (!n.x_ld) n.x_ld = n.C;
  if (!n.y_ld) n.y_ld = n.C;
  return n;
}

extern "C" {

void m4n_cuda_conv_fwd(m4n_stream *s, m4n_real *y, const m4n_real *x, const m4n_real *w, const m4n_real *b,
                       const m4n_conv *shape) {
  const m4n_conv n = dense(shape);
  const dim3 grid((unsigned)(n.B * ceil_div(n.T, CHUNK)), (unsigned)ceil_div(n.C, CHANNELS));
  if (grid.x)
    M4N_LAUNCH(s, conv_kernel, grid, CHANNELS, y, (float *)NULL, x, w, b, (const int32_t *)NULL, n, CHUNK);
}
void m4n_cuda_conv_step(m4n_stream *s, m4n_real *y, m4n_real *state, const m4n_real *x, const m4n_real *w,
                        const m4n_real *b, const int32_t *slot, const m4n_conv *shape) {
  const m4n_conv n = dense(shape);
  const dim3 grid((unsigned)n.B, (unsigned)ceil_div(n.C, CHANNELS));
  if (n.B > 0 && n.T > 0) M4N_LAUNCH(s, conv_kernel, grid, CHANNELS, y, state, x, w, b, slot, n, n.T);
}
void m4n_cuda_conv_bwd(m4n_stream *s, m4n_real *dx, m4n_real *dw, m4n_real *db, const m4n_real *dy,
                       const m4n_real *x, const m4n_real *w, const m4n_real *b, const m4n_conv *shape) {
  const m4n_conv n = dense(shape);
  const int64_t pieces = n.B * ceil_div(n.T, CHUNK), room = M4N_CUDA_PARTS / ((int64_t)n.C * (n.K + 1));
  const int parts = (int)(pieces < room ? pieces : room);
  const unsigned strips = (unsigned)ceil_div(n.C, CHANNELS);
  float *part = m4n_cuda_of(s)->parts;
  if (parts < 1) return;
  M4N_LAUNCH(s, conv_grad_kernel, dim3(parts, strips), CHANNELS, dx, part, dy, x, w, b, n, (int)pieces);
  M4N_LAUNCH(s, conv_join_kernel, dim3(strips, n.K + 1), CHANNELS, dw, db, part, parts, n.C, n.K);
}

} // extern "C"
