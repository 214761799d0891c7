/* Softmax attention, its gradient and its step with a cache (algorithms.md §2.2, §5.7).
 *
 * Queries come in blocks of 32 and keys in tiles of 64, cut at fixed positions; a running maximum and sum make one pass
 * over the keys enough, and nothing of size T² is stored. Vector lanes are queries: scores lie as [key][query], so that
 * softmax needs no sum across lanes, and of all operands only the queries are transposed. */
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
  int padded; /* D, rounded up to vectors */
} attention;

/* ---- operands ------------------------------------------------------------------------------------------------------------------------ */

/* Rows of one head: of a batch's array, or of a slot's ring. */
typedef struct rows {
  const m4n_real *at;
  int ld, ring; /* ring 0: none */
} rows;
static inline const m4n_real *row_of(const rows *x, int position) {
  return x->at + (size_t)(x->ring ? position % x->ring : position) * x->ld;
}

/* A few rows as a block product takes them: where they lie, or in a padded copy. */
typedef struct operand {
  const m4n_real *at;
  int ld;
} operand;

/* Rows first … first + count − 1. Copied into `buffer` [KEYS][WIDTH] where the ring turns in between, where D is no
 * number of whole vectors, or where the product wants `whole` rows in fours: with zeros behind D and count. */
static operand operand_of(const attention *a, m4n_real *buffer, const rows *x, int first, int count,
                          int whole) {
  const int D = a->n.D, padded = a->padded, turns = x->ring && first % x->ring + count > x->ring;
  if (!turns && D == padded && !(whole && count % M4N_BLOCK_ROWS)) return (operand){row_of(x, first), x->ld};
  const int total = m4n_round_up(count, M4N_BLOCK_ROWS);
  for (int i = 0; i < total; i++) {
    m4n_real *to = buffer + (size_t)i * padded;
    if (i < count) memcpy(to, row_of(x, first + i), (size_t)D * sizeof *to);
    memset(to + (i < count ? D : 0), 0, (size_t)(padded - (i < count ? D : 0)) * sizeof *to);
  }
  return (operand){buffer, padded};
}

/* buffer[d][lane] = scale·x[first + lane][d], zeros in lanes behind `count`. */
static void transpose(m4n_real *buffer, const rows *x, int first, int count, int lanes, int D,
                      m4n_real scale) {
  for (int i = 0; i < lanes; i++) {
    const m4n_real *from = row_of(x, i < count ? first + i : first), factor = i < count ? scale : 0;
    for (int d = 0; d < D; d++) buffer[d * lanes + i] = factor * from[d];
  }
}

/* ---- scores ---------------------------------------------------------------------------------------------------------------------------- */

/* The keys that the query at position t sees: [from, to). */
typedef struct span {
  int from, to;
} span;
static inline span visible(const m4n_attention *n, int t, int length) {
  span s = {0, n->causal ? t + 1 : length};
  if (n->window && t + 1 > n->window) s.from = t + 1 - n->window;
  return s;
}

/* A block of queries against a tile of keys. */
typedef struct pair {
  int first, queries, lanes; /* positions of the queries; lanes are whole vectors */
  int key, count;            /* positions of the keys */
  int length;
} pair;

/* s[key][lane] = k·q, −∞ where the query must not look. q_t is transposed and scaled. */
static void scores(m4n_real *s, const attention *a, const pair *p, const m4n_real *q_t, const operand *k) {
  const m4n_attention *n = &a->n;
  const int M = m4n_round_up(p->count, M4N_BLOCK_ROWS), lanes = p->lanes;
  m4n_block_product(s, lanes, k->at, k->ld, 1, q_t, lanes, M, lanes, n->D, 0);
  const int last = p->first + p->queries - 1, end = p->key + p->count;
  if ((!n->causal || end <= p->first + 1) && (!n->window || p->key > last - n->window)) return;
  for (int j = 0; j < p->count; j++) {
    // The query of lane i lies i − before behind the key, and sees it if that is from 0 to window − 1.
    const int before = p->key + j - p->first, from = n->causal ? before : 0;
    const int to = n->window && before + n->window < lanes ? before + n->window : lanes;
    M4N_EACH
    for (int i = 0; i < lanes; i++) {
      const int sees = (i >= from) & (i < to);
      s[j * lanes + i] = sees ? s[j * lanes + i] : -INFINITY;
    }
  }
}

/* ---- forward: o_t = Σ_j p_tj v_j, p = softmax(scale·q·k) ---------------------------------------------------------------------- */

/* What a block of queries has come to after some tiles. */
typedef struct running {
  m4n_real top[QUERIES], sum[QUERIES], value[QUERIES * WIDTH];
} running;

/* From scores to exp(s − top), under a maximum that may rise: what was summed before shrinks. */
static void weigh(running *r, m4n_real *s, const pair *p, int height, int padded) {
  const int lanes = p->lanes;
  m4n_real top[QUERIES], shrink[QUERIES], sum[QUERIES] = {0};
  memcpy(top, r->top, sizeof top);
  for (int j = 0; j < p->count; j++) M4N_EACH
  for (int i = 0; i < lanes; i++) top[i] = s[j * lanes + i] > top[i] ? s[j * lanes + i] : top[i];
  for (int j = 0; j < p->count; j++) M4N_EACH
  for (int i = 0; i < lanes; i++) {
    s[j * lanes + i] = m4n_exp(s[j * lanes + i] - top[i]);
    sum[i] += s[j * lanes + i];
  }
  M4N_EACH
  for (int i = 0; i < lanes; i++) {
    shrink[i] = m4n_exp(r->top[i] - top[i]);
    r->sum[i] = r->sum[i] * shrink[i] + sum[i], r->top[i] = top[i];
  }
  for (int i = 0; i < height; i++)
    for (int d = 0; d < padded; d++) r->value[i * padded + d] *= shrink[i];
}

/* One block of queries of one head, at positions first …; they are rows q_row … of q. Writes their rows of o, and lse
 * where it is wanted. */
static void attend(const attention *a, m4n_real *o, m4n_real *lse, const rows *q, const rows *k,
                   const rows *v, int q_row, int first, int queries, int length) {
  const int D = a->n.D, padded = a->padded;
  pair p = {.first = first, .queries = queries, .lanes = m4n_round_up(queries, M4N_VECTOR), .length = length};
  m4n_real q_t[WIDTH * QUERIES], s[KEYS * QUERIES], k_copy[KEYS * WIDTH], v_copy[KEYS * WIDTH];
  const int height = m4n_round_up(queries, M4N_BLOCK_ROWS);
  running r;
  transpose(q_t, q, q_row, queries, p.lanes, D, a->n.scale);
  memset(r.value, 0, (size_t)height * padded * sizeof *r.value);
  for (int i = 0; i < p.lanes; i++) r.top[i] = (m4n_real)-1e30, r.sum[i] = 0;

  const int last = visible(&a->n, first + queries - 1, length).to;
  for (p.key = visible(&a->n, first, length).from / KEYS * KEYS; p.key < last; p.key += KEYS) {
    p.count = m4n_min(KEYS, last - p.key);
    const operand keys = operand_of(a, k_copy, k, p.key, p.count, 1),
                  values = operand_of(a, v_copy, v, p.key, p.count, 0);
    scores(s, a, &p, q_t, &keys);
    weigh(&r, s, &p, height, padded);
    m4n_block_product(r.value, padded, s, 1, p.lanes, values.at, values.ld, height, padded, p.count, 1);
  }
  for (int i = 0; i < queries; i++) {
    const m4n_real scale = r.sum[i] > 0 ? 1 / r.sum[i] : 0;
    m4n_real *to = o + (size_t)i * a->n.o_ld;
    for (int d = 0; d < D; d++) to[d] = r.value[i * padded + d] * scale;
    if (lse) lse[i] = r.top[i] + (m4n_real)log(r.sum[i]);
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

/* Rows of one head lie far apart, so no prefetcher finds them. */
static void fetch_past(const m4n_attention *n, const rows *k, const rows *v, int pos) {
  enum { LINE = 64 / sizeof(m4n_real) };
  for (int key = visible(n, pos, 0).from; key < pos; key++)
    for (int d = 0; d < n->D; d += LINE) __builtin_prefetch(row_of(k, key) + d, 0, 2);
  for (int key = visible(n, pos, 0).from; key < pos; key++)
    for (int d = 0; d < n->D; d += LINE) __builtin_prefetch(row_of(v, key) + d, 0, 2);
}

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
  fetch_past(n, &k, &v, pos);
  for (int h = head * share; h < (head + 1) * share; h++) {
    const rows q = head_rows(a->q, n->q_ld, row, h, n->D);
    for (int t = 0; t < n->T; t += QUERIES)
      attend(a, a->o + (row + t) * n->o_ld + (size_t)h * n->D, NULL, &q, &k, &v, t, pos + t,
             m4n_min(QUERIES, n->T - t), pos + n->T);
  }
}

/* ---- backward: a tile is a batch and a key/value head with all its query heads --------------------------------------------
 *
 *   p = exp(s − lse);  P̄_tj = ō_t·v_j;  s̄_tj = scale p_tj (P̄_tj − ō_t·o_t);
 *   v̄_j = Σ_t p_tj ō_t;  k̄_j = Σ_t s̄_tj q_t;  q̄_t = Σ_j s̄_tj k_j         (Σ_k p_tk P̄_tk = ō_t·o_t)
 */

/* c[M][D] += a·b into rows of an array; by way of `buffer` where M or D do not fit the block product. */
static void add_product(m4n_real *c, int ldc, m4n_real *buffer, const attention *n, const m4n_real *a, int ai,
                        int ak, const operand *b, int M, int K) {
  const int D = n->n.D, padded = n->padded;
  if (D == padded && M % M4N_BLOCK_ROWS == 0) {
    m4n_block_product(c, ldc, a, ai, ak, b->at, b->ld, M, D, K, 1);
    return;
  }
  const int whole = m4n_round_up(M, M4N_BLOCK_ROWS);
  m4n_block_product(buffer, padded, a, ai, ak, b->at, b->ld, whole, padded, K, 0);
  for (int i = 0; i < M; i++)
    for (int d = 0; d < D; d++) c[(size_t)i * ldc + d] += buffer[i * padded + d];
}

/* One block of queries of one head, against all its keys. */
static void attend_back(const attention *a, int batch, int head, int first, int queries, int length) {
  const m4n_attention *n = &a->n;
  const int D = n->D, kv_head = head * n->Hkv / n->H;
  const size_t row = (size_t)batch * n->T;
  pair p = {.first = first, .queries = queries, .lanes = m4n_round_up(queries, M4N_VECTOR), .length = length};
  const rows q = head_rows(a->q, n->q_ld, row, head, D), d_o = head_rows(a->d_o, n->o_ld, row, head, D);
  const rows k = head_rows(a->k, n->kv_ld, row, kv_head, D), v = head_rows(a->v, n->kv_ld, row, kv_head, D);
  m4n_real q_t[WIDTH * QUERIES], do_t[WIDTH * QUERIES], s[KEYS * QUERIES], ds[KEYS * QUERIES];
  m4n_real q_copy[KEYS * WIDTH], do_copy[KEYS * WIDTH], k_copy[KEYS * WIDTH], v_copy[KEYS * WIDTH];
  m4n_real buffer[KEYS * WIDTH], lse[QUERIES] = {0}, along[QUERIES] = {0};
  transpose(q_t, &q, first, queries, p.lanes, D, n->scale);
  transpose(do_t, &d_o, first, queries, p.lanes, D, 1);
  const operand q_rows = operand_of(a, q_copy, &q, first, queries, 0);
  const operand do_rows = operand_of(a, do_copy, &d_o, first, queries, 0);
  for (int i = 0; i < queries; i++) {
    const m4n_real *o = a->o_saved + (row + first + i) * n->o_ld + (size_t)head * D,
                   *grad = row_of(&d_o, first + i);
    M4N_ROW_SUM(along[i], D, d, grad[d] * o[d]);
    lse[i] = a->lse_saved[((size_t)batch * n->H + head) * n->T + first + i];
  }
  const int last = visible(n, first + queries - 1, length).to;
  for (p.key = visible(n, first, length).from / KEYS * KEYS; p.key < last; p.key += KEYS) {
    p.count = m4n_min(KEYS, last - p.key);
    const int M = m4n_round_up(p.count, M4N_BLOCK_ROWS), lanes = p.lanes;
    const operand keys = operand_of(a, k_copy, &k, p.key, p.count, 1),
                  values = operand_of(a, v_copy, &v, p.key, p.count, 1);
    scores(s, a, &p, q_t, &keys);
    m4n_block_product(ds, lanes, values.at, values.ld, 1, do_t, lanes, M, lanes, D, 0);
    // Lanes without a query hold anything: no product takes them in.
    for (int j = 0; j < p.count; j++) M4N_EACH
    for (int i = 0; i < lanes; i++) {
      const m4n_real weight = m4n_exp(s[j * lanes + i] - lse[i]);
      s[j * lanes + i] = weight;
      ds[j * lanes + i] = n->scale * weight * (ds[j * lanes + i] - along[i]);
    }
    memset(s + p.count * lanes, 0, (size_t)((M - p.count) * lanes) * sizeof *s);
    memset(ds + p.count * lanes, 0, (size_t)((M - p.count) * lanes) * sizeof *ds);
    const size_t to = (row + p.key) * n->kv_ld + (size_t)kv_head * D;
    add_product(a->dv + to, n->kv_ld, buffer, a, s, lanes, 1, &do_rows, p.count, queries);
    add_product(a->dk + to, n->kv_ld, buffer, a, ds, lanes, 1, &q_rows, p.count, queries);
    add_product(a->dq + (row + first) * n->q_ld + (size_t)head * D, n->q_ld, buffer, a, ds, 1, lanes, &keys,
                queries, p.count);
  }
}

static void attention_grad_tile(void *self, int index) {
  const attention *a = self;
  const m4n_attention *n = &a->n;
  const int kv_head = index % n->Hkv, batch = index / n->Hkv, share = n->H / n->Hkv, D = n->D;
  const int length = a->length ? a->length[batch] : n->T;
  for (int t = 0; t < n->T; t++) { // the query heads of one group lie side by side
    const size_t row = (size_t)batch * n->T + t, kv = row * n->kv_ld + (size_t)kv_head * D;
    memset(a->dq + row * n->q_ld + (size_t)kv_head * share * D, 0, (size_t)share * D * sizeof *a->dq);
    memset(a->dk + kv, 0, (size_t)D * sizeof *a->dk);
    memset(a->dv + kv, 0, (size_t)D * sizeof *a->dv);
  }
  for (int head = kv_head * share; head < (kv_head + 1) * share; head++)
    for (int first = 0; first < length; first += QUERIES)
      attend_back(a, batch, head, first, m4n_min(QUERIES, length - first), length);
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
