/* Rotary embedding (algorithms.md §2.2): pairs of a head's elements turn by pos·freq. A thread is a pair. */
#include "kernels/cuda/device.cuh"

// u'_i = u_i cos φ − u_j sin φ, u'_j = u_j cos φ + u_i sin φ; j = i + D/2, or pairs (2i, 2i+1)
static __global__ void rope_kernel(float *y, const float *x, const float *table, m4n_rope n, float sign) {
  const int half = n.D / 2, pairs = n.H * half;
  const int64_t all = (int64_t)n.B * n.T * pairs, stride = (int64_t)gridDim.x * blockDim.x;
  for (int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; k < all; k += stride) {
    const int64_t row = k / pairs, head = k % pairs / half, i = k % half;
    const float *turn = table + (n.per_batch ? row : row % n.T) * n.D;
    const float cosine = turn[i], sine = sign * turn[half + i];
    const int64_t at = row * n.x_ld + head * n.D, first = at + (n.interleaved ? 2 * i : i),
                  second = at + (n.interleaved ? 2 * i + 1 : i + half);
    const float u = x[first], w = x[second];
    y[first] = u * cosine - w * sine;
    y[second] = w * cosine + u * sine;
  }
}

static __global__ void table_kernel(float *table, const float *freq, const int32_t *pos, int rows, int half) {
  const int64_t all = (int64_t)rows * half, stride = (int64_t)gridDim.x * blockDim.x;
  for (int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; k < all; k += stride) {
    const int64_t row = k / half, i = k % half;
    const float angle = (float)(pos ? pos[row] : (int)row) * freq[i];
    table[row * 2 * half + i] = cosf(angle);
    table[row * 2 * half + half + i] = sinf(angle);
  }
}

static void turn(m4n_stream *s, float *y, const float *x, const float *table, const m4n_rope *shape,
                 float sign) {
  m4n_rope n = *shape;
  if (!n.x_ld) n.x_ld = n.H * n.D;
  const int64_t pairs = (int64_t)n.B * n.T * n.H * (n.D / 2);
  if (pairs) M4N_LAUNCH(s, rope_kernel, blocks_for(pairs), THREADS, y, x, table, n, sign);
}

extern "C" {

void m4n_cuda_rope_table(m4n_stream *s, m4n_real *table, const m4n_real *freq, const int32_t *pos, int rows,
                         int half) {
  if (rows > 0 && half > 0)
    M4N_LAUNCH(s, table_kernel, blocks_for((int64_t)rows * half), THREADS, table, freq, pos, rows, half);
}
void m4n_cuda_rope_fwd(m4n_stream *s, m4n_real *y, const m4n_real *x, const m4n_real *table,
                       const m4n_rope *shape) {
  turn(s, y, x, table, shape, 1);
}
void m4n_cuda_rope_bwd(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *table,
                       const m4n_rope *shape) {
  turn(s, dx, dy, table, shape, -1);
}

} // extern "C"
