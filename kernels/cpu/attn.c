/* Softmax attention, its gradient and its step with a cache (algorithms.md §2.2, §5.7).
 *
 * Queries come in blocks of 32 and keys in tiles of 64, cut at fixed positions; a running maximum and sum make one pass
 * over the keys enough, and nothing of size T² is stored. Tiles are copied into padded buffers (keys transposed), which
 * also makes a ring of cached rows look like any other. */
#include "kernels/cpu/block.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/math.h"

#include <string.h>

enum { QUERIES = 32, KEYS = 64, WIDTH = M4N_ATTENTION_WIDTH };

typedef struct attention {
  m4n_attention n;
  m4n_real *o, *lse, *dq, *dk, *dv;
  const m4n_real *d_o, *q, *k, *v, *o_saved, *lse_saved;
  const m4n_cache *cache;
  const int32_t *length, *pos, *slot;
  int blocks; /* of queries */
  int padded; /* D, rounded up for the block product */
} attention;

/* Rows of one head: of a batch's array, or of a slot's ring. */
typedef struct rows {
  const m4n_real *at;
  int ld, ring; /* ring 0: none */
} rows;
static inline const m4n_real *row_of(const rows *x, int position) {
  return x->at + (size_t)(x->ring ? position % x->ring : position) * x->ld;
}

/* buffer[i][D] = scale·x[first + i], zeros behind D and behind `count`, up to `total` rows. */
static void copy_rows(m4n_real *buffer, const rows *x, int first, int count, int total, int D, int padded,
                      m4n_real scale) {
  for (int i = 0; i < total; i++) {
    m4n_real *to = buffer + (size_t)i * padded;
    const m4n_real *from = row_of(x, i < count ? first + i : first);
    for (int d = 0; d < padded; d++) to[d] = i < count && d < D ? scale * from[d] : 0;
  }
}

/* buffer[d][KEYS] = x[first + j][d], zeros behind `count`. */
static void copy_transposed(m4n_real *buffer, const rows *x, int first, int count, int D) {
  for (int j = 0; j < KEYS; j++) {
    if (j >= count) {
      for (int d = 0; d < D; d++) buffer[d * KEYS + j] = 0;
      continue;
    }
    const m4n_real *from = row_of(x, first + j);
    for (int d = 0; d < D; d++) buffer[d * KEYS + j] = from[d];
  }
}

/* The keys that the query at position t sees: [from, to). */
typedef struct span {
  int from, to;
} span;
static inline span visible(const m4n_attention *n, int t, int length) {
  span s = {0, n->causal ? t + 1 : length};
  if (n->window && t + 1 > n->window) s.from = t + 1 - n->window;
  return s;
}

/* Scores of a block against a tile, −∞ where the query must not look. q is scaled already. */
static void scores(m4n_real *s, const attention *a, const m4n_real *q, const m4n_real *keys, int first_query,
                   int queries, int first_key, int length) {
  const int M = m4n_round_up(queries, M4N_BLOCK_ROWS);
  memset(s, 0, (size_t)M * KEYS * sizeof *s);
  m4n_block_product(s, KEYS, q, a->padded, 1, keys, KEYS, M, KEYS, a->n.D);
  for (int i = 0; i < queries; i++) {
    const span see = visible(&a->n, first_query + i, length);
    const int from = see.from - first_key, to = see.to - first_key;
    if (from <= 0 && to >= KEYS) continue;
    for (int j = 0; j < KEYS; j++) s[i * KEYS + j] = j >= from && j < to ? s[i * KEYS + j] : -INFINITY;
  }
}

/* ---- forward: o_t = Σ_j p_tj v_j, p = softmax(scale·q·k) --------------------------------------------------------------- */

/* One block of queries at positions first … of one head. Writes o rows with a->n.o_ld, and lse where it is wanted. */
static void attend(const attention *a, m4n_real *o, m4n_real *lse, const rows *q, const rows *k,
                   const rows *v, int q_row, int first, int queries, int length) {
  const int D = a->n.D, padded = a->padded, M = m4n_round_up(queries, M4N_BLOCK_ROWS);
  m4n_real query[QUERIES * WIDTH], key[WIDTH * KEYS], value[KEYS * WIDTH], p[QUERIES * KEYS],
      sum_v[QUERIES * WIDTH];
  m4n_real top[QUERIES], sum[QUERIES];
  copy_rows(query, q, q_row, queries, M, D, padded, a->n.scale);
  memset(sum_v, 0, (size_t)M * padded * sizeof *sum_v);
  for (int i = 0; i < QUERIES; i++) top[i] = (m4n_real)-1e30, sum[i] = 0;

  const int last = visible(&a->n, first + queries - 1, length).to;
  for (int at = visible(&a->n, first, length).from / KEYS * KEYS; at < last; at += KEYS) {
    const int count = m4n_min(KEYS, last - at);
    // A ring holds only what may be seen; the rows of a tile before that are not touched.
    const int skip = k->ring ? visible(&a->n, first, length).from - at : 0;
    copy_transposed(key, k, at, count, D);
    copy_rows(value, v, at, count, KEYS, D, padded, 1);
    for (int j = 0; j < skip; j++) memset(value + (size_t)j * padded, 0, (size_t)padded * sizeof *value);
    scores(p, a, query, key, first, queries, at, length);
    for (int i = 0; i < queries; i++) {
      m4n_real *pi = p + i * KEYS, peak = top[i], total;
      for (int j = 0; j < KEYS; j++) peak = pi[j] > peak ? pi[j] : peak;
      for (int j = 0; j < KEYS; j++) pi[j] = m4n_exp(pi[j] - peak);
      M4N_ROW_SUM(total, KEYS, j, pi[j]);
      // What was summed under the old maximum shrinks.
      const m4n_real shrink = m4n_exp(top[i] - peak);
      sum[i] = sum[i] * shrink + total, top[i] = peak;
      for (int d = 0; d < padded; d++) sum_v[i * padded + d] *= shrink;
    }
    m4n_block_product(sum_v, padded, p, KEYS, 1, value, padded, M, padded, KEYS);
  }
  for (int i = 0; i < queries; i++) {
    const m4n_real scale = sum[i] > 0 ? 1 / sum[i] : 0;
    m4n_real *to = o + (size_t)i * a->n.o_ld;
    for (int d = 0; d < D; d++) to[d] = sum_v[i * padded + d] * scale;
    if (lse) lse[i] = top[i] + (m4n_real)log(sum[i]);
  }
}

static rows head_rows(const m4n_real *x, int ld, size_t first_row, int head, int D) {
  return (rows){x + first_row * ld + (size_t)head * D, ld, 0};
}

static void attention_tile(void *self, int index) {
  const attention *a = self;
  const m4n_attention *n = &a->n;
  const int block = index % a->blocks, head = index / a->blocks % n->H, batch = index / a->blocks / n->H;
  const int length = a->length ? a->length[batch] : n->T, first = block * QUERIES;
  const int queries = m4n_min(QUERIES, n->T - first), real = m4n_min(queries, length - first);
  const size_t row = (size_t)batch * n->T;
  const rows q = head_rows(a->q, n->q_ld, row, head, n->D);
  const rows k = head_rows(a->k, n->kv_ld, row, head * n->Hkv / n->H, n->D);
  const rows v = head_rows(a->v, n->kv_ld, row, head * n->Hkv / n->H, n->D);
  m4n_real *o = a->o + (row + first) * n->o_ld + (size_t)head * n->D;
  m4n_real *lse = a->lse ? a->lse + ((size_t)batch * n->H + head) * n->T + first : NULL;
  if (real > 0) attend(a, o, lse, &q, &k, &v, first, first, real, length);
  for (int i = real > 0 ? real : 0; i < queries; i++) {
    memset(o + (size_t)i * n->o_ld, 0, (size_t)n->D * sizeof *o);
    if (lse) lse[i] = 0;
  }
}

/* ---- step: a tile is a batch and a key/value head ------------------------------------------------------------------------ */

static void attention_step_tile(void *self, int index) {
  const attention *a = self;
  const m4n_attention *n = &a->n;
  const int head = index % n->Hkv, batch = index / n->Hkv, pos = a->pos[batch], capacity = a->cache->capacity;
  const int width = n->Hkv * n->D, share = n->H / n->Hkv;
  const size_t slot = (size_t)(a->slot ? a->slot[batch] : batch) * capacity * width + (size_t)head * n->D;
  const size_t row = (size_t)batch * n->T;
  for (int t = 0; t < n->T; t++) {
    const size_t to = slot + (size_t)((pos + t) % capacity) * width,
                 from = (row + t) * n->kv_ld + (size_t)head * n->D;
    memcpy(a->cache->k + to, a->k + from, (size_t)n->D * sizeof *a->k);
    memcpy(a->cache->v + to, a->v + from, (size_t)n->D * sizeof *a->v);
  }
  const rows k = {a->cache->k + slot, width, capacity}, v = {a->cache->v + slot, width, capacity};
  for (int h = head * share; h < (head + 1) * share; h++) {
    const rows q = head_rows(a->q, n->q_ld, row, h, n->D);
    for (int t = 0; t < n->T; t += QUERIES)
      attend(a, a->o + (row + t) * n->o_ld + (size_t)h * n->D, NULL, &q, &k, &v, t, pos + t,
             m4n_min(QUERIES, n->T - t), pos + n->T);
  }
}

/* ---- backward: a tile is a batch and a key/value head with all its query heads --------------------------------------------
 *
 *   p = exp(s − lse);  P̄_tj = ō_t·v_j;  s̄_tj = p_tj (P̄_tj − ō_t·o_t);  v̄_j = Σ p_tj ō_t;
 *   q̄_t = scale Σ_j s̄_tj k_j;  k̄_j = scale Σ_t s̄_tj q_t         (Σ_k p_tk P̄_tk = ō_t·o_t)
 */

/* A tile of keys with what flows into it. */
typedef struct key_tile {
  m4n_real key_t[WIDTH * KEYS], value_t[WIDTH * KEYS], key[KEYS * WIDTH];
  m4n_real dk[KEYS * WIDTH], dv[KEYS * WIDTH];
  int first, count;
} key_tile;

/* One block of queries of one head against the tile; adds to dk, dv of the tile and to dq in memory. */
static void attend_back(key_tile *tile, const attention *a, int batch, int head, int first, int queries,
                        int length) {
  const m4n_attention *n = &a->n;
  const int D = n->D, padded = a->padded, M = m4n_round_up(queries, M4N_BLOCK_ROWS);
  const size_t row = (size_t)batch * n->T;
  m4n_real query[QUERIES * WIDTH], grad[QUERIES * WIDTH], dq[QUERIES * WIDTH], p[QUERIES * KEYS],
      dp[QUERIES * KEYS];
  const rows q = head_rows(a->q, n->q_ld, row, head, D), d_o = head_rows(a->d_o, n->o_ld, row, head, D);
  copy_rows(query, &q, first, queries, M, D, padded, n->scale);
  copy_rows(grad, &d_o, first, queries, M, D, padded, 1);
  scores(p, a, query, tile->key_t, first, queries, tile->first, length);
  memset(dp, 0, (size_t)M * KEYS * sizeof *dp);
  m4n_block_product(dp, KEYS, grad, padded, 1, tile->value_t, KEYS, M, KEYS, D);
  for (int i = 0; i < M; i++) {
    m4n_real *pi = p + i * KEYS, *si = dp + i * KEYS;
    if (i >= queries) {
      memset(pi, 0, KEYS * sizeof *pi), memset(si, 0, KEYS * sizeof *si);
      continue;
    }
    const m4n_real *oi = a->o_saved + (row + first + i) * n->o_ld + (size_t)head * D, *gi = grad + i * padded;
    const m4n_real lse = a->lse_saved[((size_t)batch * n->H + head) * n->T + first + i];
    m4n_real along;
    M4N_ROW_SUM(along, D, d, gi[d] * oi[d]);
    for (int j = 0; j < KEYS; j++) pi[j] = m4n_exp(pi[j] - lse);
    for (int j = 0; j < KEYS; j++) si[j] = pi[j] * (si[j] - along);
  }
  // The queries carry the scale, so k̄ has it; q̄ gets it at the end.
  m4n_block_product(tile->dv, padded, p, 1, KEYS, grad, padded, KEYS, padded, queries);
  m4n_block_product(tile->dk, padded, dp, 1, KEYS, query, padded, KEYS, padded, queries);
  memset(dq, 0, (size_t)M * padded * sizeof *dq);
  m4n_block_product(dq, padded, dp, KEYS, 1, tile->key, padded, M, padded, KEYS);
  for (int i = 0; i < queries; i++) {
    m4n_real *to = a->dq + (row + first + i) * n->q_ld + (size_t)head * D;
    for (int d = 0; d < D; d++) to[d] += n->scale * dq[i * padded + d];
  }
}

static void attention_grad_tile(void *self, int index) {
  const attention *a = self;
  const m4n_attention *n = &a->n;
  const int kv_head = index % n->Hkv, batch = index / n->Hkv, share = n->H / n->Hkv, D = n->D,
            padded = a->padded;
  const int length = a->length ? a->length[batch] : n->T;
  const size_t row = (size_t)batch * n->T;
  const rows k = head_rows(a->k, n->kv_ld, row, kv_head, D), v = head_rows(a->v, n->kv_ld, row, kv_head, D);
  key_tile tile;
  for (int t = 0; t < n->T; t++) // the query heads of one group lie side by side
    memset(a->dq + (row + t) * n->q_ld + (size_t)kv_head * share * D, 0, (size_t)share * D * sizeof *a->dq);
  for (tile.first = 0; tile.first < n->T; tile.first += KEYS) {
    tile.count = m4n_min(KEYS, n->T - tile.first);
    const int real =
        m4n_min(tile.count, length - tile.first) > 0 ? m4n_min(tile.count, length - tile.first) : 0;
    memset(tile.dk, 0, (size_t)KEYS * padded * sizeof *tile.dk);
    memset(tile.dv, 0, (size_t)KEYS * padded * sizeof *tile.dv);
    if (real) {
      copy_transposed(tile.key_t, &k, tile.first, real, D);
      copy_transposed(tile.value_t, &v, tile.first, real, D);
      copy_rows(tile.key, &k, tile.first, real, KEYS, D, padded, 1);
    }
    for (int head = kv_head * share; real && head < (kv_head + 1) * share; head++)
      for (int first = 0; first < length; first += QUERIES) {
        const int queries = m4n_min(QUERIES, length - first);
        if (visible(n, first + queries - 1, length).to <= tile.first) continue;
        if (visible(n, first, length).from >= tile.first + KEYS) continue;
        attend_back(&tile, a, batch, head, first, queries, length);
      }
    for (int j = 0; j < tile.count; j++) {
      const size_t at = (row + tile.first + j) * n->kv_ld + (size_t)kv_head * D;
      memcpy(a->dk + at, tile.dk + (size_t)j * padded, (size_t)D * sizeof *a->dk);
      memcpy(a->dv + at, tile.dv + (size_t)j * padded, (size_t)D * sizeof *a->dv);
    }
  }
}

/* ---- the ops ------------------------------------------------------------------------------------------------------------- */

static attention prepare(const m4n_attention *shape) {
  attention a = {.n = *shape};
  if (!a.n.q_ld) a.n.q_ld = shape->H * shape->D;
  if (!a.n.kv_ld) a.n.kv_ld = shape->Hkv * shape->D;
  if (!a.n.o_ld) a.n.o_ld = shape->H * shape->D;
  a.blocks = m4n_ceil_div(shape->T, QUERIES);
  a.padded = m4n_round_up(shape->D, M4N_VECTOR);
  return a;
}

void M4N_CPU(attention_fwd)(m4n_stream *s, m4n_real *o, m4n_real *lse, const m4n_real *q, const m4n_real *k,
                            const m4n_real *v, const int32_t *length, const m4n_attention *shape) {
  attention a = prepare(shape);
  a.o = o, a.lse = lse, a.q = q, a.k = k, a.v = v, a.length = length;
  m4n_cpu_run(s, shape->B * shape->H * a.blocks, attention_tile, &a);
}
void M4N_CPU(attention_bwd)(m4n_stream *s, m4n_real *dq, m4n_real *dk, m4n_real *dv, const m4n_real *d_o,
                            const m4n_real *q, const m4n_real *k, const m4n_real *v, const m4n_real *o,
                            const m4n_real *lse, const int32_t *length, const m4n_attention *shape) {
  attention a = prepare(shape);
  a.dq = dq, a.dk = dk, a.dv = dv, a.d_o = d_o, a.q = q, a.k = k, a.v = v;
  a.o_saved = o, a.lse_saved = lse, a.length = length;
  m4n_cpu_run(s, shape->B * shape->Hkv, attention_grad_tile, &a);
}
void M4N_CPU(attention_step)(m4n_stream *s, m4n_real *o, const m4n_cache *cache, const m4n_real *q,
                             const m4n_real *k, const m4n_real *v, const int32_t *pos, const int32_t *slot,
                             const m4n_attention *shape) {
  attention a = prepare(shape);
  a.n.causal = 1;
  a.o = o, a.cache = cache, a.q = q, a.k = k, a.v = v, a.pos = pos, a.slot = slot;
  m4n_cpu_run(s, shape->B * shape->Hkv, attention_step_tile, &a);
}
