/* Softmax attention, forward and the step with a cache: a running maximum and sum make one pass over the keys enough. */
#include "kernels/cuda/attn.cuh"

#define LOWEST -1e30f /* below every score; finite, so that differences of it are numbers */

/* A block: one tile of queries of one head of one batch. */
template <int WIDTH, int QUERIES, int KEYS>
static __global__ void __launch_bounds__(ATTENTION_THREADS) attention_kernel(attention a) {
  enum { ROWS = QUERIES / ATTENTION_Y, PASSES = KEYS / ATTENTION_X, COLUMNS = tile<WIDTH>::COLUMNS };
  __shared__ __align__(16) float queries[QUERIES * tile<WIDTH>::LD], passing[KEYS * tile<WIDTH>::LD];
  __shared__ float weight[QUERIES][KEYS + 1];
  const m4n_attention &n = a.n;
  const int tile_at = blockIdx.x % a.tiles, head = blockIdx.x / a.tiles % n.H,
            batch = blockIdx.x / a.tiles / n.H;
  const int tx = threadIdx.x % ATTENTION_X, ty = threadIdx.x / ATTENTION_X, D = n.D,
            kv_head = head * n.Hkv / n.H;
  // Positions: of the queries from `begin` on; keys end at `length`. Without a cache rows are positions.
  const int row = tile_at * QUERIES, past = a.pos ? a.pos[batch] : 0, begin = past + row;
  const int length = a.pos ? past + n.T : a.length ? a.length[batch] : n.T;
  const int count = n.T - row < QUERIES ? n.T - row : QUERIES;
  const int64_t first_row = (int64_t)batch * n.T, slot = a.slot ? a.slot[batch] : batch;
  const head_rows q = rows_of(a.q, n.q_ld, first_row, head, D);
  head_rows k = rows_of(a.k, n.kv_ld, a.ring ? slot * a.ring : first_row, kv_head, D);
  head_rows v = rows_of(a.v, n.kv_ld, a.ring ? slot * a.ring : first_row, kv_head, D);
  k.ring = v.ring = a.ring;

  float top[ROWS], sum[ROWS], out[ROWS][COLUMNS];
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    top[i] = LOWEST, sum[i] = 0;
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) out[i][c] = 0;
  }
  load_tile<WIDTH, QUERIES>(queries, q, row, count, D, n.scale);
  const int last = n.causal && begin + count < length ? begin + count : length;
  const int from = n.window && begin + 1 > n.window ? begin + 1 - n.window : 0;
  for (int key = from / KEYS * KEYS; key < last; key += KEYS) {
    const int keys = last - key < KEYS ? last - key : KEYS;
    __syncthreads(); // the values before may still be read
    load_tile<WIDTH, KEYS>(passing, k, key, keys, D, 1);
    __syncthreads();
    float s[ROWS][PASSES];
    row_products<WIDTH, QUERIES, KEYS>(s, queries, passing, D);
    // Softmax of what was seen so far: the sixteen lanes of a row share its maximum and its sum.
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const int at = ty * ROWS + i;
      float most = top[i], part = 0;
#pragma unroll
      for (int j = 0; j < PASSES; j++) {
        if (!sees(n, begin + at, key + tx + j * ATTENTION_X, length)) s[i][j] = -INFINITY;
        most = fmaxf(most, s[i][j]);
      }
      most = lanes_max(most, ATTENTION_X);
      const float shrink = expf(top[i] - most);
#pragma unroll
      for (int j = 0; j < PASSES; j++) {
        const float p = expf(s[i][j] - most);
        weight[at][tx + j * ATTENTION_X] = p, part += p;
      }
      sum[i] = sum[i] * shrink + lanes_sum(part, ATTENTION_X), top[i] = most;
#pragma unroll
      for (int c = 0; c < COLUMNS; c++) out[i][c] *= shrink;
    }
    __syncthreads();
    load_tile<WIDTH, KEYS>(passing, v, key, keys, D, 1);
    __syncthreads();
    add_weighted<WIDTH, QUERIES, KEYS>(out, weight, passing, keys);
  }
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    const int at = ty * ROWS + i;
    if (at >= count) continue;
    const bool real = a.pos || row + at < length; // tokens behind the length have 0
    const float scale = real && sum[i] > 0 ? 1 / sum[i] : 0;
    float *o = a.o + (first_row + row + at) * n.o_ld + (int64_t)head * D;
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
      if (tx + c * ATTENTION_X < D) o[tx + c * ATTENTION_X] = real ? out[i][c] * scale : 0;
    if (a.lse && tx == 0)
      a.lse[((int64_t)batch * n.H + head) * n.T + row + at] = real ? top[i] + logf(sum[i]) : 0;
  }
}

/* New keys and values into the ring. A warp is a token. */
static __global__ void cache_kernel(float *k, float *v, const float *new_k, const float *new_v,
                                    const int32_t *pos, const int32_t *slot, m4n_attention n, int capacity) {
  M4N_WARP_ROW(row, (int64_t)n.B * n.T);
  const int batch = (int)(row / n.T), t = (int)(row % n.T), width = n.Hkv * n.D;
  const int64_t to = ((int64_t)(slot ? slot[batch] : batch) * capacity + (pos[batch] + t) % capacity) * width;
  M4N_EACH_COLUMN(c, width) {
    k[to + c] = new_k[row * n.kv_ld + c];
    v[to + c] = new_v[row * n.kv_ld + c];
  }
}

template <int WIDTH, int QUERIES, int KEYS> static void attend(m4n_stream *s, attention a) {
  a.tiles = (int)ceil_div(a.n.T, QUERIES);
  const unsigned blocks = (unsigned)((int64_t)a.n.B * a.n.H * a.tiles);
  if (blocks) M4N_LAUNCH(s, (attention_kernel<WIDTH, QUERIES, KEYS>), blocks, ATTENTION_THREADS, a);
}
static void attend_by_width(m4n_stream *s, const attention &a) {
  if (a.n.D <= 16)
    attend<16, 32, 32>(s, a);
  else if (a.n.D <= 64)
    attend<64, 32, 32>(s, a);
  else if (a.n.D <= 128)
    attend<128, 32, 32>(s, a);
  else
    attend<256, 16, 16>(s, a);
}

extern "C" {

void m4n_cuda_attention_fwd(m4n_stream *s, m4n_real *o, m4n_real *lse, const m4n_real *q, const m4n_real *k,
                            const m4n_real *v, const int32_t *length, const m4n_attention *shape) {
  attention a = attention_of(shape);
  a.o = o, a.lse = lse, a.q = q, a.k = k, a.v = v, a.length = length;
  attend_by_width(s, a);
}
void m4n_cuda_attention_step(m4n_stream *s, m4n_real *o, const m4n_cache *cache, const m4n_real *q,
                             const m4n_real *k, const m4n_real *v, const int32_t *pos, const int32_t *slot,
                             const m4n_attention *shape) {
  attention a = attention_of(shape);
  if (shape->B < 1 || shape->T < 1) return;
  M4N_LAUNCH(s, cache_kernel, row_blocks((int64_t)shape->B * shape->T), THREADS, cache->k, cache->v, k, v,
             pos, slot, a.n, cache->capacity);
  a.n.causal = 1, a.n.kv_ld = shape->Hkv * shape->D;
  a.o = o, a.q = q, a.k = cache->k, a.v = cache->v, a.pos = pos, a.slot = slot, a.ring = cache->capacity;
  attend_by_width(s, a);
}

} // extern "C"
