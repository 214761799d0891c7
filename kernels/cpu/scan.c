/* Selective scan (algorithms.md §5.2, §5.4).
 *
 * Vector lanes are channels: a block of W neighbouring channels of one group shares B_t and C_t, which are then scalars
 * to it, and its state h[n][lane] stays in registers and first-level cache over all of T. Groups narrower than a block
 * leave lanes idle (inputs 0). Exponentials are most of the work; everything else hides behind them. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

#include <string.h>

/* One 512-bit register of float32. Narrower processors use two or four, which also hides latency. */
enum {
  W = 64 / sizeof(m4n_real),
  S = M4N_SCAN_SEGMENT,
  N_MAX = M4N_SCAN_STATE,
  TILE_BLOCKS = M4N_SCAN_TILE / W
};

typedef struct scan {
  m4n_scan n;
  m4n_real *y, *saved, *h;                             /* forward; h is the last state or the step's state */
  m4n_real *du, *ddt, *dA, *db, *dc, *dD, *dz, *dbias; /* backward */
  m4n_real *part_A, *part_D, *part_bias, *part_b,
      *part_c; /* backward: sums that tiles do not own, in scratch */
  const m4n_real *dy, *u, *dt, *A, *b, *c, *D, *z, *bias, *h_saved;
  const int32_t *slot;
  int resume;          /* h holds the state to start from */
  int width;           /* channels a group */
  int tiles, segments; /* a group's tiles of M4N_SCAN_TILE channels; segments of T */
} scan;

static void load(m4n_real lane[W], const m4n_real *x, int width) {
  if (width == W)
    memcpy(lane, x, W * sizeof *x);
  else
    for (int c = 0; c < W; c++) lane[c] = c < width ? x[c] : 0;
}
static void store(m4n_real *x, const m4n_real lane[W], int width) {
  if (width == W)
    memcpy(x, lane, W * sizeof *x);
  else
    for (int c = 0; c < width; c++) x[c] = lane[c];
}

/* A block of channels with its parameters. */
typedef struct block {
  int c0, width;
  m4n_real A[N_MAX][W], D[W], bias[W];
} block;

static void load_block(block *k, const scan *a, int c0, int end) {
  const int N = a->n.N;
  k->c0 = c0, k->width = m4n_min(W, end - c0);
  load(k->D, a->D + c0, k->width);
  if (a->bias)
    load(k->bias, a->bias + c0, k->width);
  else
    memset(k->bias, 0, sizeof k->bias);
  for (int n = 0; n < N; n++)
    for (int c = 0; c < W; c++) k->A[n][c] = c < k->width ? a->A[(size_t)(c0 + c) * N + n] : 0;
}

/* Δ = softplus(dt + bias) */
static inline void step_sizes(m4n_real delta[W], const scan *a, const block *k, size_t row) {
  load(delta, a->dt + row * a->n.dt_ld + k->c0, k->width);
  for (int c = 0; c < W; c++) delta[c] += k->bias[c];
  if (a->n.softplus)
    for (int c = 0; c < W; c++) delta[c] = m4n_softplus(delta[c]);
}

/* h ← exp(Δ A) h + Δ B u, y = Σ_n C h + D u */
static inline void advance(m4n_real h[][W], m4n_real y[W], const block *k, const m4n_real delta[W],
                           const m4n_real u[W], const m4n_real *b, const m4n_real *c, int N) {
  m4n_real in[W];
  for (int i = 0; i < W; i++) in[i] = delta[i] * u[i], y[i] = k->D[i] * u[i];
  for (int n = 0; n < N; n++)
    for (int i = 0; i < W; i++) {
      m4n_real next = m4n_exp(delta[i] * k->A[n][i]) * h[n][i] + in[i] * b[n];
      h[n][i] = next;
      y[i] += next * c[n];
    }
}

/* ---- forward: a tile is a batch and a block ---------------------------------------------------------------------------- */

static void scan_tile(void *self, int index) {
  scan *a = self;
  const m4n_scan *n = &a->n;
  const int blocks = m4n_ceil_div(a->width, W), batch = index / (n->G * blocks),
            group = index / blocks % n->G;
  block k;
  load_block(&k, a, group * a->width + index % blocks * W, (group + 1) * a->width);
  m4n_real h[N_MAX][W], u[W], delta[W], y[W], z[W];
  m4n_real *state = a->h ? a->h + (size_t)(a->slot ? a->slot[batch] : batch) * n->N * n->C + k.c0 : NULL;
  for (int i = 0; i < n->N; i++)
    if (a->resume)
      load(h[i], state + (size_t)i * n->C, k.width);
    else
      memset(h[i], 0, sizeof h[i]);
  for (int t = 0; t < n->T; t++) {
    const size_t row = (size_t)batch * n->T + t;
    if (a->saved && t % S == 0) {
      m4n_real *to = a->saved + ((size_t)batch * a->segments + t / S) * n->N * n->C + k.c0;
      for (int i = 0; i < n->N; i++) store(to + (size_t)i * n->C, h[i], k.width);
    }
    load(u, a->u + row * n->u_ld + k.c0, k.width);
    step_sizes(delta, a, &k, row);
    advance(h, y, &k, delta, u, a->b + row * n->b_ld + group * n->N, a->c + row * n->c_ld + group * n->N,
            n->N);
    if (a->z) {
      load(z, a->z + row * n->z_ld + k.c0, k.width);
      for (int c = 0; c < W; c++) y[c] *= m4n_silu(z[c]);
    }
    store(a->y + row * n->y_ld + k.c0, y, k.width);
  }
  if (state)
    for (int i = 0; i < n->N; i++) store(state + (size_t)i * n->C, h[i], k.width);
}

/* ---- backward: a tile is a batch and M4N_SCAN_TILE channels of a group ---------------------------------------------------- */

/* What the recompute of a segment leaves for its reverse sweep. Row [t·N + n]: dense in N, since rows a power of two
 * apart would share their cache sets. */
typedef struct history {
  m4n_real h[(S + 1) * N_MAX][W]; /* states before and after each step */
  m4n_real decay[S * N_MAX][W];   /* exp(Δ A) */
  m4n_real delta[S][W], slope[S][W], u[S][W], dy[S][W];
} history;

/* What a block carries from segment to segment; eta is the gradient that flows into the state from later steps. */
typedef struct carry {
  m4n_real eta[N_MAX][W], dA[N_MAX][W], dD[W], dbias[W];
} carry;

static void recompute(history *p, const scan *a, const block *k, int batch, int group, int t0, int steps) {
  const m4n_scan *n = &a->n;
  const m4n_real *from = a->h_saved + ((size_t)batch * a->segments + t0 / S) * n->N * n->C + k->c0;
  for (int i = 0; i < n->N; i++) load(p->h[i], from + (size_t)i * n->C, k->width);
  for (int t = 0; t < steps; t++) {
    const size_t row = (size_t)batch * n->T + t0 + t;
    const m4n_real *b = a->b + row * n->b_ld + group * n->N, *c = a->c + row * n->c_ld + group * n->N;
    m4n_real *u = p->u[t], *delta = p->delta[t], in[W], y[W], z[W], dz[W];
    load(u, a->u + row * n->u_ld + k->c0, k->width);
    load(p->dy[t], a->dy + row * n->y_ld + k->c0, k->width);
    step_sizes(delta, a, k, row);
    // softplus'(v) = σ(v) = 1 − e^−softplus(v)
    for (int i = 0; i < W; i++) p->slope[t][i] = n->softplus ? 1 - m4n_exp(-delta[i]) : 1;
    for (int i = 0; i < W; i++) in[i] = delta[i] * u[i], y[i] = k->D[i] * u[i];
    m4n_real(*before)[W] = p->h + t * n->N;
    m4n_real(*after)[W] = p->h + (t + 1) * n->N, (*decay)[W] = p->decay + t * n->N;
    for (int j = 0; j < n->N; j++)
      for (int i = 0; i < W; i++) {
        decay[j][i] = m4n_exp(delta[i] * k->A[j][i]);
        after[j][i] = decay[j][i] * before[j][i] + in[i] * b[j];
        y[i] += after[j][i] * c[j];
      }
    if (!a->z) continue;
    // Through the gate: z̄ = ō·y·silu'(z), ȳ = ō·silu(z)
    load(z, a->z + row * n->z_ld + k->c0, k->width);
    for (int i = 0; i < W; i++) {
      dz[i] = p->dy[t][i] * y[i] * m4n_silu_grad(z[i]);
      p->dy[t][i] *= m4n_silu(z[i]);
    }
    store(a->dz + row * n->z_ld + k->c0, dz, k->width);
  }
}

/* κ = η + ȳ C;  C̄ += ȳ h_t;  B̄ += κ Δ u;  s = κ h_{t−1} α;  Ā += s Δ;  Δ̄ += s A + κ B u;  ū += κ Δ B;  η = κ α */
static void sweep_back(carry *f, m4n_real (*grad_b)[W], m4n_real (*grad_c)[W], history *p, const scan *a,
                       const block *k, int batch, int group, int t0, int steps) {
  const m4n_scan *n = &a->n;
  for (int t = steps - 1; t >= 0; t--) {
    const size_t row = (size_t)batch * n->T + t0 + t;
    const m4n_real *b = a->b + row * n->b_ld + group * n->N, *c = a->c + row * n->c_ld + group * n->N;
    const m4n_real *delta = p->delta[t], *u = p->u[t], *dy = p->dy[t];
    m4n_real in[W], through_b[W] = {0}, through_A[W] = {0}, du[W], ddt[W];
    m4n_real(*before)[W] = p->h + t * n->N, (*after)[W] = p->h + (t + 1) * n->N;
    m4n_real(*decay)[W] = p->decay + t * n->N;
    m4n_real(*to_b)[W] = grad_b + t * n->N, (*to_c)[W] = grad_c + t * n->N;
    for (int i = 0; i < W; i++) in[i] = delta[i] * u[i];
    for (int j = 0; j < n->N; j++)
      for (int i = 0; i < W; i++) {
        const m4n_real kappa = f->eta[j][i] + dy[i] * c[j];
        const m4n_real into_past = kappa * decay[j][i], s = into_past * before[j][i];
        to_c[j][i] += dy[i] * after[j][i];
        to_b[j][i] += kappa * in[i];
        f->dA[j][i] += s * delta[i];
        through_A[i] += s * k->A[j][i];
        through_b[i] += kappa * b[j];
        f->eta[j][i] = into_past;
      }
    for (int i = 0; i < W; i++) {
      du[i] = dy[i] * k->D[i] + through_b[i] * delta[i];
      ddt[i] = (through_A[i] + through_b[i] * u[i]) * p->slope[t][i];
      f->dD[i] += dy[i] * u[i];
      f->dbias[i] += ddt[i];
    }
    store(a->du + row * n->u_ld + k->c0, du, k->width);
    store(a->ddt + row * n->dt_ld + k->c0, ddt, k->width);
  }
}

static inline m4n_real lane_sum(const m4n_real lane[W]) {
  m4n_real sum[W / 2];
  for (int i = 0; i < W / 2; i++) sum[i] = lane[i] + lane[i + W / 2];
  for (int half = W / 4; half; half /= 2)
    for (int i = 0; i < half; i++) sum[i] += sum[i + half];
  return sum[0];
}

static void scan_grad_tile(void *self, int index) {
  scan *a = self;
  const m4n_scan *n = &a->n;
  const int batch = index / (n->G * a->tiles), group = index / a->tiles % n->G, part = index % a->tiles;
  const int first = group * a->width + part * M4N_SCAN_TILE, end = (group + 1) * a->width;
  const int blocks = m4n_ceil_div(m4n_min(M4N_SCAN_TILE, end - first), W);
  block k[TILE_BLOCKS];
  carry f[TILE_BLOCKS];
  history p;
  m4n_real grad_b[S * N_MAX][W], grad_c[S * N_MAX][W]; /* [t·N + n], collected over the blocks */
  for (int i = 0; i < blocks; i++) {
    load_block(&k[i], a, first + i * W, end);
    memset(f[i].dD, 0, sizeof f[i].dD), memset(f[i].dbias, 0, sizeof f[i].dbias);
    memset(f[i].eta, 0, (size_t)n->N * sizeof *f[i].eta), memset(f[i].dA, 0, (size_t)n->N * sizeof *f[i].dA);
  }
  for (int segment = a->segments - 1; segment >= 0; segment--) {
    const int t0 = segment * S, steps = m4n_min(S, n->T - t0);
    memset(grad_b, 0, (size_t)(steps * n->N) * sizeof *grad_b);
    memset(grad_c, 0, (size_t)(steps * n->N) * sizeof *grad_c);
    for (int i = 0; i < blocks; i++) {
      recompute(&p, a, &k[i], batch, group, t0, steps);
      sweep_back(&f[i], grad_b, grad_c, &p, a, &k[i], batch, group, t0, steps);
    }
    // Over the lanes: straight to the result where this tile is the whole group, else to scratch.
    for (int t = 0; t < steps; t++) {
      const size_t row = (size_t)batch * n->T + t0 + t, rows = (size_t)n->B * n->T;
      m4n_real *to_b = a->tiles == 1 ? a->db + row * n->b_ld : a->part_b + (part * rows + row) * n->G * n->N;
      m4n_real *to_c = a->tiles == 1 ? a->dc + row * n->c_ld : a->part_c + (part * rows + row) * n->G * n->N;
      for (int j = 0; j < n->N; j++) {
        to_b[group * n->N + j] = lane_sum(grad_b[t * n->N + j]);
        to_c[group * n->N + j] = lane_sum(grad_c[t * n->N + j]);
      }
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

/* ---- the ops -------------------------------------------------------------------------------------------------------------- */

static scan prepare(const m4n_scan *shape) {
  scan a = {.n = *shape};
  m4n_scan *n = &a.n;
  const int states = n->G * n->N;
  n->u_ld = n->u_ld ? n->u_ld : n->C, n->dt_ld = n->dt_ld ? n->dt_ld : n->C;
  n->z_ld = n->z_ld ? n->z_ld : n->C, n->y_ld = n->y_ld ? n->y_ld : n->C;
  n->b_ld = n->b_ld ? n->b_ld : states, n->c_ld = n->c_ld ? n->c_ld : states;
  a.width = n->C / n->G;
  a.tiles = m4n_ceil_div(a.width, M4N_SCAN_TILE);
  a.segments = m4n_ceil_div(n->T, S);
  return a;
}

static void run_forward(m4n_stream *s, scan *a) {
  m4n_cpu_run(s, a->n.B * a->n.G * m4n_ceil_div(a->width, W), scan_tile, a);
}

void M4N_CPU(scan_fwd)(m4n_stream *s, m4n_real *y, m4n_real *saved, m4n_real *h_last, const m4n_real *u,
                       const m4n_real *dt, const m4n_real *A, const m4n_real *b, const m4n_real *c,
                       const m4n_real *D, const m4n_real *z, const m4n_real *bias, const m4n_scan *shape) {
  scan a = prepare(shape);
  a.y = y, a.saved = saved, a.h = h_last;
  a.u = u, a.dt = dt, a.A = A, a.b = b, a.c = c, a.D = D, a.z = z, a.bias = bias;
  run_forward(s, &a);
}

void M4N_CPU(scan_step)(m4n_stream *s, m4n_real *y, m4n_real *h, const m4n_real *u, const m4n_real *dt,
                        const m4n_real *A, const m4n_real *b, const m4n_real *c, const m4n_real *D,
                        const m4n_real *z, const m4n_real *bias, const int32_t *slot, const m4n_scan *shape) {
  scan a = prepare(shape);
  a.y = y, a.h = h, a.resume = 1, a.slot = slot;
  a.u = u, a.dt = dt, a.A = A, a.b = b, a.c = c, a.D = D, a.z = z, a.bias = bias;
  run_forward(s, &a);
}

void M4N_CPU(scan_bwd)(m4n_stream *s, m4n_real *du, m4n_real *ddt, m4n_real *dA, m4n_real *db, m4n_real *dc,
                       m4n_real *dD, m4n_real *dz, m4n_real *dbias, m4n_real *scratch, const m4n_real *dy,
                       const m4n_real *saved, const m4n_real *u, const m4n_real *dt, const m4n_real *A,
                       const m4n_real *b, const m4n_real *c, const m4n_real *D, const m4n_real *z,
                       const m4n_real *bias, const m4n_scan *shape) {
  scan a = prepare(shape);
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
