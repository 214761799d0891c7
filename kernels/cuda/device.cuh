/* What kernels share: launching, walking over elements and rows, sums inside a warp or a block.
 *
 * Written so that a plain C++ compiler can read it, too, with __global__, threadIdx and the warp's functions defined by
 * other means, to be run without a card (README.md): launches go by M4N_LAUNCH, shared arrays have fixed sizes, no inline PTX.
 */
#ifndef M4N_KERNELS_CUDA_DEVICE_CUH
#define M4N_KERNELS_CUDA_DEVICE_CUH

#include <math.h>
#include <stdint.h>

#include "kernels/cuda/cuda.h"

#ifndef M4N_LAUNCH
#define M4N_LAUNCH(s, kernel, grid, block, ...)                                                              \
  do {                                                                                                       \
    m4n_cuda_backend *m4n_launch_on = m4n_cuda_of(s);                                                        \
    kernel<<<(grid), (block), 0, m4n_launch_on->queue>>>(__VA_ARGS__);                                       \
    m4n_cuda_note(m4n_launch_on, cudaPeekAtLastError(), #kernel);                                            \
  } while (0)
#endif

enum { WARP = 32, THREADS = 256, ROWS_A_BLOCK = THREADS / WARP };
static const unsigned ALL_LANES = 0xffffffffu;

static inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
static inline bool aligned16(const void *at) {
  return ((uintptr_t)at & 15) == 0;
}

/* ---- sums --------------------------------------------------------------------------------------------------------- */

/* Over `lanes` neighbouring lanes (a power of two); every one of them gets the sum. */
template <class T> __device__ inline T lanes_sum(T x, int lanes = WARP) {
  for (int apart = lanes / 2; apart; apart /= 2) x += __shfl_xor_sync(ALL_LANES, x, apart);
  return x;
}
__device__ inline float lanes_max(float x, int lanes = WARP) {
  for (int apart = lanes / 2; apart; apart /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, apart));
  return x;
}

/* Over the threads of a block of at most 1024; every thread gets the sum, and all of them must call. */
template <class T> __device__ inline T block_sum(T x) {
  __shared__ T of_warp[WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = (blockDim.x + WARP - 1) / WARP;
  x = lanes_sum(x);
  __syncthreads(); // the array may still be read from the sum before
  if (lane == 0) of_warp[warp] = x;
  __syncthreads();
  x = lane < warps ? of_warp[lane] : 0;
  return lanes_sum(x);
}

/* ---- elementwise: y[i] = f(x0[i], x1[i], …), y may be one of the inputs ---------------------------------------------- */

template <int N> struct inputs { const float *at[N > 0 ? N : 1]; };

template <int N, class F> __global__ void map_kernel(float *y, inputs<N> x, int64_t n, int wide, F f) {
  const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x,
                step = (int64_t)gridDim.x * blockDim.x;
  const int64_t fours = wide ? n / 4 : 0;
  for (int64_t i = first; i < fours; i += step) {
    float4 v[N > 0 ? N : 1], out;
    float a[N > 0 ? N : 1];
    for (int k = 0; k < N; k++) v[k] = ((const float4 *)x.at[k])[i];
    for (int k = 0; k < N; k++) a[k] = v[k].x;
    out.x = f(a);
    for (int k = 0; k < N; k++) a[k] = v[k].y;
    out.y = f(a);
    for (int k = 0; k < N; k++) a[k] = v[k].z;
    out.z = f(a);
    for (int k = 0; k < N; k++) a[k] = v[k].w;
    out.w = f(a);
    ((float4 *)y)[i] = out;
  }
  for (int64_t i = 4 * fours + first; i < n; i += step) {
    float a[N > 0 ? N : 1];
    for (int k = 0; k < N; k++) a[k] = x.at[k][i];
    y[i] = f(a);
  }
}

/* Blocks for n items of work: enough to fill any card, then every thread has several. */
static inline unsigned blocks_for(int64_t items) {
  const int64_t blocks = ceil_div(items, THREADS);
  return (unsigned)(blocks < 4096 ? blocks : 4096);
}

template <int N, class F> void map(m4n_stream *s, float *y, inputs<N> x, int64_t n, F f) {
  if (n < 1) return;
  bool wide = aligned16(y);
  for (int k = 0; k < N; k++) wide = wide && aligned16(x.at[k]);
  M4N_LAUNCH(s, (map_kernel<N, F>), blocks_for(wide ? ceil_div(n, 4) : n), THREADS, y, x, n, wide, f);
}

/* ---- rows: a warp each, eight to a block --------------------------------------------------------------------------- */

/* The row of this warp; lanes walk over its columns. */
#define M4N_WARP_ROW(row, rows)                                                                              \
  const int64_t row = (int64_t)blockIdx.x * ROWS_A_BLOCK + threadIdx.x / WARP;                               \
  if (row >= (rows)) return
#define M4N_EACH_COLUMN(c, C) for (int c = threadIdx.x % WARP; c < (C); c += WARP)

static inline unsigned row_blocks(int64_t rows) {
  return (unsigned)ceil_div(rows, ROWS_A_BLOCK);
}

/* ---- functions of one number ------------------------------------------------------------------------------------------ */

__device__ inline float sigmoid(float x) {
  return 1 / (1 + expf(-x));
}
__device__ inline float silu(float x) {
  return x / (1 + expf(-x));
}
/* silu'(x) = σ(x)(1 + x(1 − σ(x))) */
__device__ inline float silu_grad(float x) {
  const float g = sigmoid(x);
  return g * (1 + x * (1 - g));
}
__device__ inline float softplus(float x) {
  return x > 20 ? x : log1pf(expf(x));
}
/* bf16: the upper half of a float32, to nearest, ties to even; what is no number stays so. */
__device__ inline uint16_t bf16_of(float x) {
  const uint32_t bits = __float_as_uint(x), rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded);
}
__device__ inline float of_bf16(uint16_t half) {
  return __uint_as_float((uint32_t)half << 16);
}

#endif
