/* Attention, backward (algorithms.md §5.7), from q, k, v, o and lse:
 *
 *   p = exp(s − lse);  P̄_tj = ō_t·v_j;  s̄_tj = scale p_tj (P̄_tj − ō_t·o_t);
 *   v̄_j = Σ_t p_tj ō_t;  k̄_j = Σ_t s̄_tj q_t;  q̄_t = Σ_j s̄_tj k_j         (Σ_k p_tk P̄_tk = ō_t·o_t)
 *
 * Two kernels, so that every sum has one owner: blocks of queries let keys pass for q̄, blocks of keys let queries pass
 * for k̄ and v̄. Keys and values (queries and ō) take turns in one tile. */
#include "kernels/cuda/attn.cuh"

/* ō_t·o_t of the rows first … of a head, into along[]. */
__device__ static inline void outputs_along(float *along, const attention &a, int64_t first_row, int head,
                                            int count) {
  const int lane = threadIdx.x % WARP;
  for (int i = threadIdx.x / WARP; i < count; i += ATTENTION_THREADS / WARP) {
    const int64_t at = (first_row + i) * a.n.o_ld + (int64_t)head * a.n.D;
    float sum = 0;
    for (int d = lane; d < a.n.D; d += WARP) sum += a.d_o[at + d] * a.o_saved[at + d];
    sum = lanes_sum(sum);
    if (lane == 0) along[i] = sum;
  }
}

/* A block: one tile of queries of one head. */
template <int WIDTH, int QUERIES, int KEYS>
static __global__ void __launch_bounds__(ATTENTION_THREADS) query_grad_kernel(attention a) {
  enum { ROWS = QUERIES / ATTENTION_Y, PASSES = KEYS / ATTENTION_X, COLUMNS = tile<WIDTH>::COLUMNS };
  __shared__ __align__(16) float queries[QUERIES * tile<WIDTH>::LD], grads[QUERIES * tile<WIDTH>::LD],
      passing[KEYS * tile<WIDTH>::LD];
  __shared__ float weight[QUERIES][KEYS + 1], along[QUERIES];
  const m4n_attention &n = a.n;
  const int tile_at = blockIdx.x % a.tiles, head = blockIdx.x / a.tiles % n.H,
            batch = blockIdx.x / a.tiles / n.H;
  const int tx = threadIdx.x % ATTENTION_X, ty = threadIdx.x / ATTENTION_X, D = n.D,
            kv_head = head * n.Hkv / n.H;
  const int row = tile_at * QUERIES, length = a.length ? a.length[batch] : n.T;
  const int count = n.T - row < QUERIES ? n.T - row : QUERIES;
  const int64_t first_row = (int64_t)batch * n.T;
  const head_rows q = rows_of(a.q, n.q_ld, first_row, head, D),
                  d_o = rows_of(a.d_o, n.o_ld, first_row, head, D);
  const head_rows k = rows_of(a.k, n.kv_ld, first_row, kv_head, D),
                  v = rows_of(a.v, n.kv_ld, first_row, kv_head, D);

  float out[ROWS][COLUMNS], lse[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    const int at = row + ty * ROWS + i;
    lse[i] = at < n.T ? a.lse_saved[((int64_t)batch * n.H + head) * n.T + at] : 0;
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) out[i][c] = 0;
  }
  load_tile<WIDTH, QUERIES>(queries, q, row, count, D, n.scale);
  load_tile<WIDTH, QUERIES>(grads, d_o, row, count, D, 1);
  outputs_along(along, a, first_row + row, head, count);
  const int last = n.causal && row + count < length ? row + count : length;
  const int from = n.window && row + 1 > n.window ? row + 1 - n.window : 0;
  for (int key = from / KEYS * KEYS; key < last; key += KEYS) {
    const int keys = last - key < KEYS ? last - key : KEYS;
    float s[ROWS][PASSES], dp[ROWS][PASSES];
    __syncthreads();
    load_tile<WIDTH, KEYS>(passing, k, key, keys, D, 1);
    __syncthreads();
    row_products<WIDTH, QUERIES, KEYS>(s, queries, passing, D);
    __syncthreads();
    load_tile<WIDTH, KEYS>(passing, v, key, keys, D, 1);
    __syncthreads();
    row_products<WIDTH, QUERIES, KEYS>(dp, grads, passing, D);
#pragma unroll
    for (int i = 0; i < ROWS; i++)
#pragma unroll
      for (int j = 0; j < PASSES; j++) {
        const int at = ty * ROWS + i, k_at = tx + j * ATTENTION_X;
        const bool seen = at < count && row + at < length && sees(n, row + at, key + k_at, length);
        const float p = seen ? expf(s[i][j] - lse[i]) : 0;
        weight[at][k_at] = seen ? n.scale * p * (dp[i][j] - along[at]) : 0;
      }
    __syncthreads();
    load_tile<WIDTH, KEYS>(passing, k, key, keys, D, 1);
    __syncthreads();
    add_weighted<WIDTH, QUERIES, KEYS>(out, weight, passing, keys);
  }
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    const int at = ty * ROWS + i;
    if (at >= count) continue;
    float *dq = a.dq + (first_row + row + at) * n.q_ld + (int64_t)head * D;
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
      if (tx + c * ATTENTION_X < D) dq[tx + c * ATTENTION_X] = out[i][c];
  }
}

/* A block: one tile of keys of one key/value head; all its query heads pass by, one after the other. */
template <int WIDTH, int KEYS, int QUERIES>
static __global__ void __launch_bounds__(ATTENTION_THREADS) key_grad_kernel(attention a) {
  enum { ROWS = KEYS / ATTENTION_Y, PASSES = QUERIES / ATTENTION_X, COLUMNS = tile<WIDTH>::COLUMNS };
  __shared__ __align__(16) float held_k[KEYS * tile<WIDTH>::LD], held_v[KEYS * tile<WIDTH>::LD],
      passing[QUERIES * tile<WIDTH>::LD];
  __shared__ float p_of[KEYS][QUERIES + 1], ds_of[KEYS][QUERIES + 1], along[QUERIES], lse[QUERIES];
  const m4n_attention &n = a.n;
  const int tile_at = blockIdx.x % a.tiles, kv_head = blockIdx.x / a.tiles % n.Hkv,
            batch = blockIdx.x / a.tiles / n.Hkv;
  const int tx = threadIdx.x % ATTENTION_X, ty = threadIdx.x / ATTENTION_X, D = n.D, share = n.H / n.Hkv;
  const int key = tile_at * KEYS, length = a.length ? a.length[batch] : n.T;
  const int count = n.T - key < KEYS ? n.T - key : KEYS;
  const int64_t first_row = (int64_t)batch * n.T;
  const head_rows k = rows_of(a.k, n.kv_ld, first_row, kv_head, D),
                  v = rows_of(a.v, n.kv_ld, first_row, kv_head, D);

  float dk[ROWS][COLUMNS], dv[ROWS][COLUMNS];
#pragma unroll
  for (int i = 0; i < ROWS; i++)
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) dk[i][c] = dv[i][c] = 0;
  load_tile<WIDTH, KEYS>(held_k, k, key, count, D, n.scale);
  load_tile<WIDTH, KEYS>(held_v, v, key, count, D, 1);
  // Queries that may see one of these keys, from the start of a tile.
  const int from = n.causal ? key / QUERIES * QUERIES : 0;
  const int last = n.window && key + count - 1 + n.window < length ? key + count - 1 + n.window : length;
  for (int head = kv_head * share; head < (kv_head + 1) * share; head++) {
    const head_rows q = rows_of(a.q, n.q_ld, first_row, head, D),
                    d_o = rows_of(a.d_o, n.o_ld, first_row, head, D);
    for (int row = from; row < last; row += QUERIES) {
      const int queries = last - row < QUERIES ? last - row : QUERIES;
      float s[ROWS][PASSES], dp[ROWS][PASSES];
      __syncthreads();
      load_tile<WIDTH, QUERIES>(passing, q, row, queries, D, 1);
      for (int i = threadIdx.x; i < queries; i += ATTENTION_THREADS)
        lse[i] = a.lse_saved[((int64_t)batch * n.H + head) * n.T + row + i];
      outputs_along(along, a, first_row + row, head, queries);
      __syncthreads();
      row_products<WIDTH, KEYS, QUERIES>(s, held_k, passing, D);
      __syncthreads();
      load_tile<WIDTH, QUERIES>(passing, d_o, row, queries, D, 1);
      __syncthreads();
      row_products<WIDTH, KEYS, QUERIES>(dp, held_v, passing, D);
#pragma unroll
      for (int i = 0; i < ROWS; i++)
#pragma unroll
        for (int j = 0; j < PASSES; j++) {
          const int at = ty * ROWS + i, q_at = tx + j * ATTENTION_X;
          const bool seen = at < count && q_at < queries && sees(n, row + q_at, key + at, length);
          const float p = seen ? expf(s[i][j] - lse[q_at]) : 0;
          p_of[at][q_at] = p;
          ds_of[at][q_at] = seen ? n.scale * p * (dp[i][j] - along[q_at]) : 0;
        }
      __syncthreads();
      add_weighted<WIDTH, KEYS, QUERIES>(dv, p_of, passing, queries);
      __syncthreads();
      load_tile<WIDTH, QUERIES>(passing, q, row, queries, D, 1);
      __syncthreads();
      add_weighted<WIDTH, KEYS, QUERIES>(dk, ds_of, passing, queries);
    }
  }
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    const int at = ty * ROWS + i;
    if (at >= count) continue;
    const int64_t to = (first_row + key + at) * n.kv_ld + (int64_t)kv_head * D;
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      const int d = tx + c * ATTENTION_X;
      if (d < D) a.dk[to + d] = dk[i][c], a.dv[to + d] = dv[i][c];
    }
  }
}

template <int WIDTH, int HELD, int PASSING> static void attend_back(m4n_stream *s, attention a) {
  a.tiles = (int)ceil_div(a.n.T, HELD);
  const int64_t tiles = (int64_t)a.n.B * a.tiles;
  if (!tiles) return;
  M4N_LAUNCH(s, (query_grad_kernel<WIDTH, HELD, PASSING>), (unsigned)(tiles * a.n.H), ATTENTION_THREADS, a);
  M4N_LAUNCH(s, (key_grad_kernel<WIDTH, HELD, PASSING>), (unsigned)(tiles * a.n.Hkv), ATTENTION_THREADS, a);
}

extern "C" void m4n_cuda_attention_bwd(m4n_stream *s, m4n_real *dq, m4n_real *dk, m4n_real *dv,
                                       const m4n_real *d_o, const m4n_real *q, const m4n_real *k,
                                       const m4n_real *v, const m4n_real *o, const m4n_real *lse,
                                       const int32_t *length, const m4n_attention *shape) {
  attention a = attention_of(shape);
  a.dq = dq, a.dk = dk, a.dv = dv, a.d_o = d_o, a.q = q, a.k = k, a.v = v;
  a.o_saved = o, a.lse_saved = lse, a.length = length;
  // Shared memory of a block is 48 KiB: wider heads have smaller tiles.
  if (a.n.D <= 16)
    attend_back<16, 32, 32>(s, a);
  else if (a.n.D <= 64)
    attend_back<64, 32, 32>(s, a);
  else if (a.n.D <= 128)
    attend_back<128, 16, 16>(s, a);
  else
    attend_back<256, 8, 16>(s, a);
}
