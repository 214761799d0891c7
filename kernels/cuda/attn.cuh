/* Softmax attention: what its forward and its gradient share (algorithms.md §2.2, §5.7).
 *
 * A block of 128 threads keeps a tile of rows in shared memory ("held": queries, or keys) and lets tiles of the other
 * kind pass by ("passing"). Tiles are cut at fixed positions, so a query's sums do not depend on its neighbours, and a
 * step with a cache gives the bytes of the whole. Thread (ty, tx) of 8 × 16 has the held rows ty·HELD/8 …, and of the
 * passing ones every 16th from tx on; of an output's columns every 16th from tx on, too.
 */
#ifndef M4N_KERNELS_CUDA_ATTN_CUH
#define M4N_KERNELS_CUDA_ATTN_CUH

#include "kernels/cuda/device.cuh"

enum { ATTENTION_THREADS = 128, ATTENTION_X = 16, ATTENTION_Y = ATTENTION_THREADS / ATTENTION_X };

struct attention {
  m4n_attention n; /* distances filled in */
  float *o, *lse, *dq, *dk, *dv;
  const float *d_o, *q, *k, *v, *o_saved, *lse_saved;
  const int32_t *length, *pos,
      *slot;       /* pos: queries begin there, and keys lie in a ring of `ring` rows a slot */
  int ring, tiles; /* tiles: of what is held */
};

/* Rows of one head: row i at `at` + i·ld, or in a ring. */
struct head_rows {
  const float *at;
  int64_t ld;
  int ring; /* 0: none */
};
__device__ inline const float *row_at(const head_rows &x, int i) {
  return x.at + (x.ring ? i % x.ring : i) * x.ld;
}
__device__ inline head_rows rows_of(const float *x, int64_t ld, int64_t first_row, int head, int D) {
  const head_rows r = {x + first_row * ld + (int64_t)head * D, ld, 0};
  return r;
}

/* Distance of tile rows: 16-byte reads of neighbouring rows fall into different banks. */
template <int WIDTH> struct tile {
  enum { LD = WIDTH + 4, COLUMNS = WIDTH / ATTENTION_X };
};

/* tile[i][d] = factor·x[first + i][d]; zeros behind `count` rows and behind D. */
template <int WIDTH, int ROWS>
__device__ inline void load_tile(float *to, const head_rows &x, int first, int count, int D, float factor) {
  for (int i = threadIdx.x; i < ROWS * WIDTH; i += ATTENTION_THREADS) {
    const int row = i / WIDTH, d = i % WIDTH;
    to[row * tile<WIDTH>::LD + d] = row < count && d < D ? factor * row_at(x, first + row)[d] : 0;
  }
}

/* s[i][j] = held row · passing row, over the first `D` columns rounded up to four. */
template <int WIDTH, int HELD, int PASSING>
__device__ inline void row_products(float (*s)[PASSING / ATTENTION_X], const float *held,
                                    const float *passing, int D) {
  const int tx = threadIdx.x % ATTENTION_X, ty = threadIdx.x / ATTENTION_X;
#pragma unroll
  for (int i = 0; i < HELD / ATTENTION_Y; i++)
#pragma unroll
    for (int j = 0; j < PASSING / ATTENTION_X; j++) s[i][j] = 0;
  for (int d = 0; d < D; d += 4) {
    float4 h[HELD / ATTENTION_Y];
#pragma unroll
    for (int i = 0; i < HELD / ATTENTION_Y; i++)
      h[i] = *(const float4 *)(held + (ty * (HELD / ATTENTION_Y) + i) * tile<WIDTH>::LD + d);
#pragma unroll
    for (int j = 0; j < PASSING / ATTENTION_X; j++) {
      const float4 p = *(const float4 *)(passing + (tx + j * ATTENTION_X) * tile<WIDTH>::LD + d);
#pragma unroll
      for (int i = 0; i < HELD / ATTENTION_Y; i++)
        s[i][j] += h[i].x * p.x + h[i].y * p.y + h[i].z * p.z + h[i].w * p.w;
    }
  }
}

/* out[i][c] += Σ_k weight[held row i][k]·passing[k][c], k in rising order. */
template <int WIDTH, int HELD, int PASSING>
__device__ inline void add_weighted(float (*out)[tile<WIDTH>::COLUMNS], const float (*weight)[PASSING + 1],
                                    const float *passing, int count) {
  const int tx = threadIdx.x % ATTENTION_X, ty = threadIdx.x / ATTENTION_X;
  for (int k = 0; k < count; k++) {
    float w[HELD / ATTENTION_Y];
#pragma unroll
    for (int i = 0; i < HELD / ATTENTION_Y; i++) w[i] = weight[ty * (HELD / ATTENTION_Y) + i][k];
#pragma unroll
    for (int c = 0; c < tile<WIDTH>::COLUMNS; c++) {
      const float x = passing[k * tile<WIDTH>::LD + tx + c * ATTENTION_X];
#pragma unroll
      for (int i = 0; i < HELD / ATTENTION_Y; i++) out[i][c] += w[i] * x;
    }
  }
}

/* Does the query at position t see the key at position j? */
__device__ inline bool sees(const m4n_attention &n, int t, int j, int length) {
  return j < length && (!n.causal || j <= t) && (!n.window || j > t - n.window);
}

static inline attention attention_of(const m4n_attention *shape) {
  attention a = {};
  a.n = *shape;
  if (!a.n.q_ld) a.n.q_ld = shape->H * shape->D;
  if (!a.n.kv_ld) a.n.kv_ld = shape->Hkv * shape->D;
  if (!a.n.o_ld) a.n.o_ld = shape->H * shape->D;
  return a;
}

#endif
