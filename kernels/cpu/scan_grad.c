/* Selective scan, backward (algorithms.md §5.4): from the states at every 16th step, a segment is run again, then swept
 * in reverse. A tile is a batch and M4N_SCAN_TILE channels of a group. */
#include "kernels/cpu/scan.h"

/* What the recompute of a segment leaves for its reverse sweep. Row [t·N + n]: dense in N, since rows a power of two
 * apart would share their cache sets. Arrays are set APART rows off a power of two, too: a load waits for a store of
 * another array if the lower 12 bits of their addresses agree. */
enum { APART = 21 };
typedef struct history {
  m4n_real h[(S + 1) * N_MAX + APART][W]; /* states before and after each step */
  m4n_real decay[S * N_MAX + APART][W];   /* exp(Δ A) */
  m4n_real delta[S][W], slope[S][W], u[S][W], y[S][W], dy[S][W];
} LINES history;

/* What a block carries from segment to segment; eta is the gradient that flows into the state from later steps. */
typedef struct carry {
  m4n_real eta[N_MAX + APART][W], dA[N_MAX][W], dD[W], dbias[W];
} LINES carry;

/* Gradients of B_t and C_t before they are summed over lanes; a tile's first block begins them. */
typedef struct shared {
  m4n_real b[N_MAX + APART][W], c[N_MAX][W];
} LINES shared;

/* What does not depend on the state, for a segment: u, ō, Δ and its slope. */
static void functions(history *p, const scan *a, const block *k, size_t first, int steps) {
  const m4n_scan *n = &a->n;
  for (int t = 0; t < steps; t++) {
    const size_t row = first + t;
    const m4n_real *u = a->u + row * n->u_ld + k->c0, *dy = a->dy + row * n->y_ld + k->c0;
    load_next(a, u, n->u_ld), load_next(a, dy, n->y_ld);
    load(p->u[t], u, k->width), load(p->dy[t], dy, k->width);
    step_sizes(p->delta[t], a, k, row);
    // softplus'(v) = σ(v): of v itself, since 1 − e^−Δ would lose the digits of a small Δ
    load(p->slope[t], a->dt + row * n->dt_ld + k->c0, k->width);
    M4N_EACH
    for (int i = 0; i < W; i++) p->slope[t][i] = n->softplus ? m4n_sigmoid(p->slope[t][i] + k->bias[i]) : 1;
  }
}

static void recompute(history *p, const scan *a, const block *k, int batch, int group, int t0, int steps) {
  const m4n_scan *n = &a->n;
  const size_t first = (size_t)batch * n->T + t0, states = (size_t)n->N * n->C;
  const m4n_real *from = a->h_saved + ((size_t)batch * a->segments + t0 / S) * states + k->c0;
  for (int i = 0; i < n->N; i++) {
    if (t0) __builtin_prefetch(from - states + (size_t)i * n->C);
    load(p->h[i], from + (size_t)i * n->C, k->width);
  }
  functions(p, a, k, first, steps);
  for (int t = 0; t < steps; t++) {
    const size_t row = first + t;
    m4n_real(*decay)[W] = p->decay + t * n->N;
    decays(decay, k, p->delta[t], n->N);
    advance(p->h + (t + 1) * n->N, p->h + t * n->N, decay, p->y[t], k, p->delta[t], p->u[t],
            a->b + row * n->b_ld + group * n->N, a->c + row * n->c_ld + group * n->N, n->N);
  }
  // Through the gate: z̄ = ō·y·silu'(z), ȳ = ō·silu(z)
  for (int t = 0; a->z && t < steps; t++) {
    const m4n_real *from_z = a->z + (first + t) * n->z_ld + k->c0;
    m4n_real z[W], dz[W];
    load_next(a, from_z, n->z_ld);
    load(z, from_z, k->width);
    M4N_EACH
    for (int i = 0; i < W; i++) {
      dz[i] = p->dy[t][i] * p->y[t][i] * m4n_silu_grad(z[i]);
      p->dy[t][i] *= m4n_silu(z[i]);
    }
    store(a->dz + (first + t) * n->z_ld + k->c0, dz, k->width);
  }
}

/* κ = η + ȳ C;  C̄ += ȳ h_t;  B̄ += κ Δ u;  s = κ h_{t−1} α;  Ā += s Δ;  Δ̄ += s A + κ B u;  ū += κ Δ B;  η = κ α */
static void step_back(carry *f, shared *to, bool begins, history *p, const scan *a, const block *k,
                      size_t row, int group, int t) {
  const m4n_scan *n = &a->n;
  const m4n_real *b = a->b + row * n->b_ld + group * n->N, *c = a->c + row * n->c_ld + group * n->N;
  const m4n_real *delta = p->delta[t], *u = p->u[t], *dy = p->dy[t];
  m4n_real through_A[W], through_b[W], du[W], ddt[W];
  m4n_real(*before)[W] = p->h + t * n->N, (*after)[W] = p->h + (t + 1) * n->N;
  m4n_real(*decay)[W] = p->decay + t * n->N;
  m4n_vector step[V], in[V], out[V], by_A[V], by_b[V];
  for (int v = 0; v < V; v++) {
    const int at = v * M4N_VECTOR;
    step[v] = m4n_vector_load(delta + at), out[v] = m4n_vector_load(dy + at);
    in[v] = step[v] * m4n_vector_load(u + at);
    by_A[v] = by_b[v] = (m4n_vector){0};
  }
  for (int j = 0; j < n->N; j++)
    for (int v = 0; v < V; v++) {
      const int at = v * M4N_VECTOR;
      const m4n_vector kappa = m4n_vector_load(f->eta[j] + at) + out[v] * c[j];
      const m4n_vector into_past = kappa * m4n_vector_load(decay[j] + at);
      const m4n_vector s = into_past * m4n_vector_load(before[j] + at);
      m4n_vector dc = out[v] * m4n_vector_load(after[j] + at), db = kappa * in[v];
      if (!begins) dc += m4n_vector_load(to->c[j] + at), db += m4n_vector_load(to->b[j] + at);
      m4n_vector_store(to->c[j] + at, dc), m4n_vector_store(to->b[j] + at, db);
      m4n_vector_store(f->dA[j] + at, m4n_vector_load(f->dA[j] + at) + s * step[v]);
      m4n_vector_store(f->eta[j] + at, into_past);
      by_A[v] += s * m4n_vector_load(k->A[j] + at);
      by_b[v] += kappa * b[j];
    }
  for (int v = 0; v < V; v++) {
    m4n_vector_store(through_A + v * M4N_VECTOR, ln_2 * by_A[v]); // A came times log₂e
    m4n_vector_store(through_b + v * M4N_VECTOR, by_b[v]);
  }
  M4N_EACH
  for (int i = 0; i < W; i++) {
    du[i] = dy[i] * k->D[i] + through_b[i] * delta[i];
    ddt[i] = (through_A[i] + through_b[i] * u[i]) * p->slope[t][i];
    f->dD[i] += dy[i] * u[i];
    f->dbias[i] += ddt[i];
  }
  store(a->du + row * n->u_ld + k->c0, du, k->width);
  store(a->ddt + row * n->dt_ld + k->c0, ddt, k->width);
}

/* `left` vectors to half as many. */
static inline void halve(m4n_vector *sum, const int left) {
  for (int j = 0; j < left / 2; j++) sum[j] = m4n_vector_pairs(sum[2 * j], sum[2 * j + 1]);
}

/* to[n] = Σ over the lanes of from[n], for `count` of a vector's lanes: vectors become sums of pairs, then of fours, …,
 * until a lane is a sum. */
static inline void lane_sums(m4n_real *to, m4n_real (*from)[W], const int count) {
  m4n_vector sum[M4N_VECTOR];
  for (int j = 0; j < M4N_VECTOR; j++) {
    sum[j] = (m4n_vector){0};
    for (int v = 0; v < V && j < count; v++) sum[j] += m4n_vector_load(from[j] + v * M4N_VECTOR);
  }
  if (M4N_VECTOR >= 16) halve(sum, 16);
  if (M4N_VECTOR >= 8) halve(sum, 8);
  if (M4N_VECTOR >= 4) halve(sum, 4);
  halve(sum, 2);
  if (count == M4N_VECTOR) {
    m4n_vector_store(to, sum[0]);
  } else {
    m4n_real result[M4N_VECTOR];
    m4n_vector_store(result, sum[0]);
    memcpy(to, result, (size_t)count * sizeof *to);
  }
}

static void sum_lanes(m4n_real *to, m4n_real (*from)[W], int N) {
  int n = 0;
  for (; n + M4N_VECTOR <= N; n += M4N_VECTOR) lane_sums(to + n, from + n, M4N_VECTOR);
  if (n < N) lane_sums(to + n, from + n, N - n);
}

static void scan_grad_tile(void *self, int index) {
  scan *a = self;
  const m4n_scan *n = &a->n;
  const int batch = index / (n->G * a->tiles), group = index / a->tiles % n->G, part = index % a->tiles;
  const int first = group * a->width + part * M4N_SCAN_TILE, end = (group + 1) * a->width;
  const int blocks = m4n_ceil_div(m4n_min(M4N_SCAN_TILE, end - first), W);
  // B̄ and C̄ go straight to the result where this tile is the whole group, else to scratch.
  const size_t rows = (size_t)n->B * n->T, states = (size_t)n->G * n->N, at_group = (size_t)group * n->N;
  m4n_real *db = a->tiles == 1 ? a->db : a->part_b + part * rows * states;
  m4n_real *dc = a->tiles == 1 ? a->dc : a->part_c + part * rows * states;
  const size_t b_ld = a->tiles == 1 ? (size_t)n->b_ld : states,
               c_ld = a->tiles == 1 ? (size_t)n->c_ld : states;
  block k[TILE_BLOCKS];
  carry f[TILE_BLOCKS];
  history p[TILE_BLOCKS];
  shared sums;
  for (int i = 0; i < blocks; i++) {
    load_block(&k[i], a, first + i * W, end);
    memset(f[i].dD, 0, sizeof f[i].dD), memset(f[i].dbias, 0, sizeof f[i].dbias);
    memset(f[i].eta, 0, (size_t)n->N * sizeof *f[i].eta), memset(f[i].dA, 0, (size_t)n->N * sizeof *f[i].dA);
  }
  for (int segment = a->segments - 1; segment >= 0; segment--) {
    const int t0 = segment * S, steps = m4n_min(S, n->T - t0);
    for (int i = 0; i < blocks; i++) recompute(&p[i], a, &k[i], batch, group, t0, steps);
    for (int t = steps - 1; t >= 0; t--) {
      const size_t row = (size_t)batch * n->T + t0 + t;
      for (int i = 0; i < blocks; i++) step_back(&f[i], &sums, i == 0, &p[i], a, &k[i], row, group, t);
      sum_lanes(db + row * b_ld + at_group, sums.b, n->N);
      sum_lanes(dc + row * c_ld + at_group, sums.c, n->N);
    }
  }
  for (int i = 0; i < blocks; i++) {
    const size_t at = (size_t)batch * n->C + k[i].c0;
    store(a->part_D + at, f[i].dD, k[i].width);
    store(a->part_bias + at, f[i].dbias, k[i].width);
    for (int c = 0; c < k[i].width; c++)
      for (int j = 0; j < n->N; j++) a->part_A[(at + c) * n->N + j] = f[i].dA[j][c];
  }
}

/* What belongs to parameters sums over batches, in their order: a tile is a range of channels. */
static void scan_sum_tile(void *self, int index) {
  scan *a = self;
  const m4n_scan *n = &a->n;
  M4N_TILE_RANGE(int, begin, end, index, M4N_SCAN_TILE, n->C);
  for (int batch = 0; batch < n->B; batch++) {
    const size_t at = (size_t)batch * n->C;
    for (int c = begin; c < end; c++) a->dD[c] += a->part_D[at + c];
    if (a->dbias)
      for (int c = begin; c < end; c++) a->dbias[c] += a->part_bias[at + c];
    for (size_t i = (size_t)begin * n->N; i < (size_t)end * n->N; i++) a->dA[i] += a->part_A[at * n->N + i];
  }
}

/* B̄ and C̄ of wide groups sum over the tiles of a group: a tile is a range of rows. */
static void scan_join_tile(void *self, int index) {
  scan *a = self;
  const m4n_scan *n = &a->n;
  const int width = n->G * n->N, rows = n->B * n->T;
  M4N_TILE_RANGE(int, begin, end, index, S, rows);
  for (int row = begin; row < end; row++) {
    m4n_real *db = a->db + (size_t)row * n->b_ld, *dc = a->dc + (size_t)row * n->c_ld;
    for (int i = 0; i < width; i++) {
      m4n_real sum_b = 0, sum_c = 0;
      for (int part = 0; part < a->tiles; part++) {
        sum_b += a->part_b[((size_t)part * rows + row) * width + i];
        sum_c += a->part_c[((size_t)part * rows + row) * width + i];
      }
      db[i] = sum_b, dc[i] = sum_c;
    }
  }
}

/* ---- the op ---------------------------------------------------------------------------------------------------- */

void M4N_CPU(scan_bwd)(m4n_stream *s, m4n_real *du, m4n_real *ddt, m4n_real *dA, m4n_real *db, m4n_real *dc,
                       m4n_real *dD, m4n_real *dz, m4n_real *dbias, m4n_real *scratch, const m4n_real *dy,
                       const m4n_real *saved, const m4n_real *u, const m4n_real *dt, const m4n_real *A,
                       const m4n_real *b, const m4n_real *c, const m4n_real *D, const m4n_real *z,
                       const m4n_real *bias, const m4n_scan *shape) {
  scan a = scan_of(shape);
  a.next = -S;
  const size_t channels = (size_t)shape->B * shape->C;
  a.du = du, a.ddt = ddt, a.dA = dA, a.db = db, a.dc = dc, a.dD = dD, a.dz = dz, a.dbias = dbias;
  a.dy = dy, a.h_saved = saved;
  a.u = u, a.dt = dt, a.A = A, a.b = b, a.c = c, a.D = D, a.z = z, a.bias = bias;
  a.part_D = scratch, a.part_bias = a.part_D + channels, a.part_A = a.part_bias + channels;
  a.part_b = a.part_A + channels * shape->N;
  a.part_c = a.part_b + (size_t)a.tiles * shape->B * shape->T * shape->G * shape->N;
  m4n_cpu_run(s, shape->B * shape->G * a.tiles, scan_grad_tile, &a);
  m4n_cpu_run(s, m4n_ceil_div(shape->C, M4N_SCAN_TILE), scan_sum_tile, &a);
  if (a.tiles > 1) m4n_cpu_run(s, m4n_ceil_div(shape->B * shape->T, S), scan_join_tile, &a);
}
