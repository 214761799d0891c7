/* RMSNorm and LayerNorm (algorithms.md §2.2, §5.7). */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lanes.h"

#include <math.h>

typedef struct norm {
  m4n_real *y, *stats; /* forward: y and what is saved; backward: dx */
  m4n_real *dg, *db;
  const m4n_real *dy, *dres, *x, *saved, *g, *b;
  int rows, C, step;
  m4n_real eps;
} norm;

static int row_tiles(norm *a) {
  a->step = m4n_tile_rows(a->C);
  return m4n_ceil_div(a->rows, a->step);
}

// r = (mean x² + eps)^−½, y = g·x·r
static void rmsnorm_tile(void *self, int index) {
  norm *a = self;
  M4N_TILE_RANGE(int, begin, end, index, a->step, a->rows);
  for (int row = begin; row < end; row++) {
    const m4n_real *x = a->x + (size_t)row * a->C;
    m4n_real *y = a->y + (size_t)row * a->C, sum;
    M4N_ROW_SUM(sum, a->C, i, x[i] * x[i]);
    const m4n_real r = 1 / (m4n_real)sqrt(sum / a->C + a->eps);
    M4N_EACH
    for (int c = 0; c < a->C; c++) y[c] = a->g[c] * (x[c] * r);
    if (a->stats) a->stats[row] = r;
  }
}

// x̂ = x·r, ĝ = dy·g: dx = r(ĝ − x̂·mean(ĝ·x̂)), plus the residual's gradient
static void rmsnorm_grad_tile(void *self, int index) {
  norm *a = self;
  M4N_TILE_RANGE(int, begin, end, index, a->step, a->rows);
  for (int row = begin; row < end; row++) {
    const m4n_real *x = a->x + (size_t)row * a->C, *dy = a->dy + (size_t)row * a->C, *g = a->g;
    const m4n_real *dres = a->dres ? a->dres + (size_t)row * a->C : NULL;
    m4n_real *dx = a->y + (size_t)row * a->C, sum;
    const m4n_real r = a->saved[row];
    M4N_ROW_SUM(sum, a->C, i, dy[i] * g[i] * x[i]);
    const m4n_real along = sum * r * r * r / a->C;
    if (dres) M4N_EACH
    for (int c = 0; c < a->C; c++) dx[c] = dres[c] + (dy[c] * g[c] * r - x[c] * along);
    else M4N_EACH
    for (int c = 0; c < a->C; c++) dx[c] = dy[c] * g[c] * r - x[c] * along;
  }
}

// Gradients of gain and bias sum over rows, in rising order: a tile is a strip of columns.
enum { STRIP = 64 };
static void rmsnorm_gain_tile(void *self, int index) {
  norm *a = self;
  const int c0 = index * STRIP, width = m4n_min(STRIP, a->C - c0);
  m4n_real sum[STRIP] = {0};
  for (int row = 0; row < a->rows; row++) {
    const m4n_real *x = a->x + (size_t)row * a->C + c0, *dy = a->dy + (size_t)row * a->C + c0;
    const m4n_real r = a->saved[row];
    for (int c = 0; c < width; c++) sum[c] += dy[c] * (x[c] * r);
  }
  for (int c = 0; c < width; c++) a->dg[c0 + c] += sum[c];
}

void M4N_CPU(rmsnorm_fwd)(m4n_stream *s, m4n_real *y, m4n_real *r, const m4n_real *x, const m4n_real *g,
                          int rows, int C, m4n_real eps) {
  norm a = {.y = y, .stats = r, .x = x, .g = g, .rows = rows, .C = C, .eps = eps};
  m4n_cpu_run(s, row_tiles(&a), rmsnorm_tile, &a);
}
void M4N_CPU(rmsnorm_bwd)(m4n_stream *s, m4n_real *dx, m4n_real *dg, const m4n_real *dy, const m4n_real *dres,
                          const m4n_real *x, const m4n_real *r, const m4n_real *g, int rows, int C) {
  norm a = {.y = dx, .dg = dg, .dy = dy, .dres = dres, .x = x, .saved = r, .g = g, .rows = rows, .C = C};
  // The gain's gradient first: dx may lie on dy.
  if (dg) m4n_cpu_run(s, m4n_ceil_div(C, STRIP), rmsnorm_gain_tile, &a);
  m4n_cpu_run(s, row_tiles(&a), rmsnorm_grad_tile, &a);
}

// x̂ = (x − μ)/√(σ² + eps), y = g·x̂ + b
static void layernorm_tile(void *self, int index) {
  norm *a = self;
  M4N_TILE_RANGE(int, begin, end, index, a->step, a->rows);
  for (int row = begin; row < end; row++) {
    const m4n_real *x = a->x + (size_t)row * a->C;
    m4n_real *y = a->y + (size_t)row * a->C, sum, square;
    M4N_ROW_SUM(sum, a->C, i, x[i]);
    const m4n_real mean = sum / a->C;
    M4N_ROW_SUM(square, a->C, i, (x[i] - mean) * (x[i] - mean));
    const m4n_real r = 1 / (m4n_real)sqrt(square / a->C + a->eps);
    M4N_EACH
    for (int c = 0; c < a->C; c++) y[c] = a->g[c] * ((x[c] - mean) * r) + a->b[c];
    if (a->stats) a->stats[2 * row] = mean, a->stats[2 * row + 1] = r;
  }
}

// ĝ = dy·g: dx = r(ĝ − mean(ĝ) − x̂·mean(ĝ·x̂))
static void layernorm_grad_tile(void *self, int index) {
  norm *a = self;
  M4N_TILE_RANGE(int, begin, end, index, a->step, a->rows);
  for (int row = begin; row < end; row++) {
    const m4n_real *x = a->x + (size_t)row * a->C, *dy = a->dy + (size_t)row * a->C, *g = a->g;
    const m4n_real *dres = a->dres ? a->dres + (size_t)row * a->C : NULL;
    m4n_real *dx = a->y + (size_t)row * a->C, sum, along;
    const m4n_real mean = a->saved[2 * row], r = a->saved[2 * row + 1];
    M4N_ROW_SUM(sum, a->C, i, dy[i] * g[i]);
    M4N_ROW_SUM(along, a->C, i, dy[i] * g[i] * (x[i] - mean));
    sum /= a->C, along *= r * r / a->C;
    M4N_EACH
    for (int c = 0; c < a->C; c++) {
      m4n_real own = r * (dy[c] * g[c] - sum - (x[c] - mean) * along);
      dx[c] = dres ? dres[c] + own : own;
    }
  }
}

static void layernorm_gain_tile(void *self, int index) {
  norm *a = self;
  const int c0 = index * STRIP, width = m4n_min(STRIP, a->C - c0);
  m4n_real gain[STRIP] = {0}, bias[STRIP] = {0};
  for (int row = 0; row < a->rows; row++) {
    const m4n_real *x = a->x + (size_t)row * a->C + c0, *dy = a->dy + (size_t)row * a->C + c0;
    const m4n_real mean = a->saved[2 * row], r = a->saved[2 * row + 1];
    for (int c = 0; c < width; c++) gain[c] += dy[c] * ((x[c] - mean) * r), bias[c] += dy[c];
  }
  for (int c = 0; c < width; c++) a->dg[c0 + c] += gain[c], a->db[c0 + c] += bias[c];
}

void M4N_CPU(layernorm_fwd)(m4n_stream *s, m4n_real *y, m4n_real *stats, const m4n_real *x, const m4n_real *g,
                            const m4n_real *b, int rows, int C, m4n_real eps) {
  norm a = {.y = y, .stats = stats, .x = x, .g = g, .b = b, .rows = rows, .C = C, .eps = eps};
  m4n_cpu_run(s, row_tiles(&a), layernorm_tile, &a);
}
void M4N_CPU(layernorm_bwd)(m4n_stream *s, m4n_real *dx, m4n_real *dg, m4n_real *db, const m4n_real *dy,
                            const m4n_real *dres, const m4n_real *x, const m4n_real *stats, const m4n_real *g,
                            int rows, int C) {
  norm a = {.y = dx,
            .dg = dg,
            .db = db,
            .dy = dy,
            .dres = dres,
            .x = x,
            .saved = stats,
            .g = g,
            .rows = rows,
            .C = C};
  if (dg) m4n_cpu_run(s, m4n_ceil_div(C, STRIP), layernorm_gain_tile, &a);
  m4n_cpu_run(s, row_tiles(&a), layernorm_grad_tile, &a);
}
