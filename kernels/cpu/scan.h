/* Selective scan (algorithms.md §5.2, §5.4).
 *
 * Vector lanes are channels: a block of W neighbouring channels of one group shares B_t and C_t, which are then scalars
 * to it, and its state h[n][lane] stays in registers and first-level cache over all of T. Groups narrower than a block
 * leave lanes idle (inputs 0). Exponentials are most of the work; everything else hides behind them. */
#ifndef M4N_KERNELS_CPU_SCAN_H
#define M4N_KERNELS_CPU_SCAN_H

#include "kernels/cpu/block.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

#include <string.h>

/* One 512-bit register of float32. Narrower processors use two or four, which also hides latency. */
enum {
  W = 64 / sizeof(m4n_real),
  S = M4N_SCAN_SEGMENT,
  N_MAX = M4N_SCAN_STATE,
  TILE_BLOCKS = M4N_SCAN_TILE / W,
  TILE_STEPS = 32, /* fewer, of all the blocks of a tile, are not worth another core */
  V = W / M4N_VECTOR
};

typedef struct scan {
  m4n_scan n;
  m4n_real *y, *saved, *h;                             /* forward; h is the last state or the step's state */
  m4n_real *du, *ddt, *dA, *db, *dc, *dD, *dz, *dbias; /* backward */
  m4n_real *part_A, *part_D, *part_bias, *part_b,
      *part_c; /* backward: sums that tiles do not own, in scratch */
  const m4n_real *dy, *u, *dt, *A, *b, *c, *D, *z, *bias, *h_saved;
  const int32_t *slot;
  int next;            /* rows to the segment that is next: S forward, −S backward */
  int resume;          /* h holds the state to start from */
  int width;           /* channels a group */
  int blocks, step;    /* forward: a group's blocks; how many make a tile */
  int tiles, segments; /* backward: a group's tiles of M4N_SCAN_TILE channels; segments of T */
} scan;

/* A block reads one line of the cache in every row of an array, which no prefetcher foresees: lines are asked for a
 * segment before they are read, those of the first one together. */
static inline void load_next(const scan *a, const m4n_real *x, int ld) {
  __builtin_prefetch(x + (ptrdiff_t)a->next * ld);
}
static inline void load_first(const m4n_real *x, int ld, int rows) {
  for (int i = 0; i < rows && i < S; i++) __builtin_prefetch(x + (ptrdiff_t)i * ld);
}
static inline void load(m4n_real lane[W], const m4n_real *x, int width) {
  if (width == W)
    memcpy(lane, x, W * sizeof *x);
  else
    M4N_EACH
  for (int c = 0; c < W; c++) lane[c] = c < width ? x[c] : 0;
}
static inline void store(m4n_real *x, const m4n_real lane[W], int width) {
  if (width == W)
    memcpy(x, lane, W * sizeof *x);
  else
    for (int c = 0; c < width; c++) x[c] = lane[c];
}

/* Arrays of lanes begin with a line of the cache: a load that spans two stores waits for both. */
#define LINES __attribute__((aligned(64)))

/* A block of channels with its parameters. */
typedef struct block {
  int c0, width;
  m4n_real A[N_MAX][W]; /* times log₂e */
  m4n_real D[W], bias[W];
} LINES block;

static const m4n_real log2_e = (m4n_real)1.44269504088896340736, ln_2 = (m4n_real)0.69314718055994530942;

static inline void load_block(block *k, const scan *a, int c0, int end) {
  const int N = a->n.N;
  k->c0 = c0, k->width = m4n_min(W, end - c0);
  load(k->D, a->D + c0, k->width);
  if (a->bias)
    load(k->bias, a->bias + c0, k->width);
  else
    memset(k->bias, 0, sizeof k->bias);
  for (int n = 0; n < N; n++) M4N_EACH
  for (int c = 0; c < W; c++) k->A[n][c] = c < k->width ? log2_e * a->A[(size_t)(c0 + c) * N + n] : 0;
}

/* Δ = softplus(dt + bias) */
static inline void step_sizes(m4n_real delta[W], const scan *a, const block *k, size_t row) {
  const m4n_real *dt = a->dt + row * a->n.dt_ld + k->c0;
  load_next(a, dt, a->n.dt_ld);
  load(delta, dt, k->width);
  M4N_EACH
  for (int c = 0; c < W; c++) delta[c] += k->bias[c];
  if (a->n.softplus) M4N_EACH
  for (int c = 0; c < W; c++) delta[c] = m4n_softplus(delta[c]);
}

/* silu(z) */
static inline void gates(m4n_real gate[W], const scan *a, const block *k, size_t row) {
  const m4n_real *z = a->z + row * a->n.z_ld + k->c0;
  load_next(a, z, a->n.z_ld);
  load(gate, z, k->width);
  M4N_EACH
  for (int c = 0; c < W; c++) gate[c] = m4n_silu(gate[c]);
}

/* decay[n] = exp(Δ A[n]) = 2^(Δ A[n] log₂e): a loop of its own, which compilers vectorise; what follows holds its sums in registers, which
 * they do only when told in vectors. */
static inline void decays(m4n_real (*decay)[W], const block *k, const m4n_real delta[W], int N) {
  for (int n = 0; n < N; n++) M4N_EACH
  for (int i = 0; i < W; i++) decay[n][i] = m4n_exp2(delta[i] * k->A[n][i]);
}

/* h ← decay·h + Δ B u, y = Σ_n C h + D u; `before` and `after` may be the same. */
static inline void advance(m4n_real (*after)[W], m4n_real (*before)[W], m4n_real (*decay)[W], m4n_real y[W],
                           const block *k, const m4n_real delta[W], const m4n_real u[W], const m4n_real *b,
                           const m4n_real *c, int N) {
  m4n_vector in[V], sum[V];
  for (int v = 0; v < V; v++) {
    const int at = v * M4N_VECTOR;
    const m4n_vector uv = m4n_vector_load(u + at);
    in[v] = m4n_vector_load(delta + at) * uv, sum[v] = m4n_vector_load(k->D + at) * uv;
  }
  for (int n = 0; n < N; n++)
    for (int v = 0; v < V; v++) {
      const int at = v * M4N_VECTOR;
      const m4n_vector h = m4n_vector_load(decay[n] + at) * m4n_vector_load(before[n] + at) + in[v] * b[n];
      m4n_vector_store(after[n] + at, h);
      sum[v] += h * c[n];
    }
  for (int v = 0; v < V; v++) m4n_vector_store(y + v * M4N_VECTOR, sum[v]);
}

/* What all ops begin with; the caller adds its arrays. */
static inline scan scan_of(const m4n_scan *shape) {
  scan a = {.n = *shape, .next = S};
  m4n_scan *n = &a.n;
  const int states = n->G * n->N;
  n->u_ld = n->u_ld ? n->u_ld : n->C, n->dt_ld = n->dt_ld ? n->dt_ld : n->C;
  n->z_ld = n->z_ld ? n->z_ld : n->C, n->y_ld = n->y_ld ? n->y_ld : n->C;
  n->b_ld = n->b_ld ? n->b_ld : states, n->c_ld = n->c_ld ? n->c_ld : states;
  a.width = n->C / n->G;
  a.blocks = m4n_ceil_div(a.width, W);
  a.step = n->T > 0 && n->T < TILE_STEPS ? TILE_STEPS / n->T : 1;
  a.tiles = m4n_ceil_div(a.width, M4N_SCAN_TILE);
  a.segments = m4n_ceil_div(n->T, S);
  return a;
}

#endif
