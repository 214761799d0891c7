/* Elementwise sums, copies and conversions, and sums over rows. */
#include "kernels/base/rng.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/math.h"

/* ---- elementwise ---------------------------------------------------------------------------------------------------- */

typedef struct elements {
  m4n_real *y;
  const m4n_real *a, *b;
  uint16_t *y16;
  const uint16_t *a16;
  int64_t n;
  m4n_real alpha, beta;
  const uint32_t *key;
  uint32_t use;
} elements;

#define EACH(e, index, i)                                                                                    \
  M4N_TILE_RANGE(int64_t, begin, end, index, M4N_TILE, (e)->n);                                              \
  M4N_EACH                                                                                                   \
  for (int64_t i = begin; i < end; i++)

static void fill_tile(void *self, int index) {
  elements *e = self;
  EACH(e, index, i) e->y[i] = e->alpha;
}
static void add_tile(void *self, int index) {
  elements *e = self;
  EACH(e, index, i) e->y[i] = e->a[i] + e->b[i];
}
static void mul_tile(void *self, int index) {
  elements *e = self;
  EACH(e, index, i) e->y[i] = e->a[i] * e->b[i];
}
static void scale_tile(void *self, int index) {
  elements *e = self;
  EACH(e, index, i) e->y[i] = e->alpha * e->a[i];
}
static void axpby_tile(void *self, int index) {
  elements *e = self;
  EACH(e, index, i) e->y[i] = e->alpha * e->a[i] + e->beta * e->y[i];
}
static void ema_tile(void *self, int index) {
  elements *e = self;
  EACH(e, index, i) e->y[i] += (1 - e->alpha) * (e->a[i] - e->y[i]);
}

static void to_bf16_tile(void *self, int index) {
  elements *e = self;
  EACH(e, index, i) e->y16[i] = m4n_bf16_of((float)e->a[i]);
}
static void from_bf16_tile(void *self, int index) {
  elements *e = self;
  EACH(e, index, i) e->y[i] = m4n_of_bf16(e->a16[i]);
}

// Four elements share a Philox block: counter (i/4, use, 0), key from memory; the draw's upper 24 bits are compared.
static void dropout_tile(void *self, int index) {
  elements *e = self;
  M4N_TILE_RANGE(int64_t, begin, end, index, M4N_TILE, e->n);
  const m4n_real keep = 1 / (1 - e->alpha);
  const uint32_t bound = (uint32_t)(e->alpha * 16777216);
  for (int64_t i = begin; i < end; i += 4) {
    uint32_t counter[4] = {(uint32_t)(i / 4), (uint32_t)(i / 4 >> 32), e->use, 0}, draw[4];
    m4n_philox4x32(draw, counter, e->key);
    for (int j = 0; j < 4 && i + j < end; j++) e->y[i + j] = draw[j] >> 8 < bound ? 0 : keep * e->a[i + j];
  }
}

void M4N_CPU(fill)(m4n_stream *s, m4n_real *y, int64_t n, m4n_real value) {
  m4n_cpu_run(s, m4n_tiles(n), fill_tile, &(elements){.y = y, .n = n, .alpha = value});
}
void M4N_CPU(add)(m4n_stream *s, m4n_real *y, const m4n_real *a, const m4n_real *b, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), add_tile, &(elements){.y = y, .a = a, .b = b, .n = n});
}
void M4N_CPU(mul)(m4n_stream *s, m4n_real *y, const m4n_real *a, const m4n_real *b, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), mul_tile, &(elements){.y = y, .a = a, .b = b, .n = n});
}
void M4N_CPU(axpby)(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n, m4n_real alpha, m4n_real beta) {
  elements e = {.y = y, .a = x, .n = n, .alpha = alpha, .beta = beta};
  m4n_cpu_run(s, m4n_tiles(n), beta == 0 ? scale_tile : axpby_tile, &e);
}
void M4N_CPU(to_bf16)(m4n_stream *s, uint16_t *y, const m4n_real *x, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), to_bf16_tile, &(elements){.y16 = y, .a = x, .n = n});
}
void M4N_CPU(from_bf16)(m4n_stream *s, m4n_real *y, const uint16_t *x, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), from_bf16_tile, &(elements){.y = y, .a16 = x, .n = n});
}
void M4N_CPU(ema)(m4n_stream *s, m4n_real *average, const m4n_real *w, int64_t n, m4n_real decay) {
  m4n_cpu_run(s, m4n_tiles(n), ema_tile, &(elements){.y = average, .a = w, .n = n, .alpha = decay});
}
void M4N_CPU(dropout)(m4n_stream *s, m4n_real *y, const m4n_real *x, const uint32_t *key, int64_t n,
                      uint32_t use, m4n_real p) {
  m4n_cpu_run(s, m4n_tiles(n), dropout_tile,
              &(elements){.y = y, .a = x, .n = n, .alpha = p, .key = key, .use = use});
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

typedef struct row_set {
  m4n_real *y;
  const m4n_real *x, *p;
  int rows, period, C, y_ld, x_ld, step;
} row_set;

static void copy_rows_tile(void *self, int index) {
  row_set *a = self;
  M4N_TILE_RANGE(int, begin, end, index, a->step, a->rows);
  for (int r = begin; r < end; r++)
    memcpy(a->y + (size_t)r * a->y_ld, a->x + (size_t)r * a->x_ld, (size_t)a->C * sizeof *a->y);
}
void M4N_CPU(copy_rows)(m4n_stream *s, m4n_real *y, const m4n_real *x, int rows, int C, int y_ld, int x_ld) {
  row_set a = {.y = y, .x = x, .rows = rows, .C = C, .y_ld = y_ld ? y_ld : C, .x_ld = x_ld ? x_ld : C};
  a.step = m4n_tile_rows(C);
  m4n_cpu_run(s, m4n_ceil_div(rows, a.step), copy_rows_tile, &a);
}

static void add_rows_tile(void *self, int index) {
  row_set *a = self;
  M4N_TILE_RANGE(int, begin, end, index, a->step, a->rows);
  for (int r = begin; r < end; r++) {
    m4n_real *y = a->y + (size_t)r * a->C;
    const m4n_real *x = a->x + (size_t)r * a->C, *p = a->p + (size_t)(r % a->period) * a->C;
    M4N_EACH
    for (int c = 0; c < a->C; c++) y[c] = x[c] + p[c];
  }
}
void M4N_CPU(add_rows)(m4n_stream *s, m4n_real *y, const m4n_real *x, const m4n_real *p, int rows, int period,
                       int C) {
  row_set a = {.y = y, .x = x, .p = p, .rows = rows, .period = period, .C = C, .step = m4n_tile_rows(C)};
  m4n_cpu_run(s, m4n_ceil_div(rows, a.step), add_rows_tile, &a);
}

// dp[q][c] += Σ_{r ≡ q} dy[r][c], rows in rising order; a tile is a strip of columns, whose sums stay near.
enum { STRIP = 64 };
static void sum_rows_tile(void *self, int index) {
  row_set *a = self;
  const int c0 = index * STRIP, width = m4n_min(STRIP, a->C - c0);
  for (int q = 0; q < m4n_min(a->period, a->rows); q++) {
    m4n_real sum[STRIP] = {0};
    for (int r = q; r < a->rows; r += a->period) {
      const m4n_real *x = a->x + (size_t)r * a->x_ld + c0;
      if (width == STRIP)
        for (int c = 0; c < STRIP; c++) sum[c] += x[c];
      else
        for (int c = 0; c < width; c++) sum[c] += x[c];
    }
    m4n_real *y = a->y + (size_t)q * a->C + c0;
    for (int c = 0; c < width; c++) y[c] += sum[c];
  }
}
void M4N_CPU(sum_rows)(m4n_stream *s, m4n_real *dp, const m4n_real *dy, int rows, int period, int C,
                       int dy_ld) {
  row_set a = {.y = dp, .x = dy, .rows = rows, .period = period, .C = C, .x_ld = dy_ld ? dy_ld : C};
  m4n_cpu_run(s, m4n_ceil_div(C, STRIP), sum_rows_tile, &a);
}

/* ---- sums of everything: partial sums of fixed pieces, added in order --------------------------------------------------- */

enum { PIECES = 256 };
typedef struct total {
  double piece[PIECES];
  const m4n_real *x;
  int64_t n, step;
  int square;
} total;

static void total_tile(void *self, int index) {
  total *a = self;
  M4N_TILE_RANGE(int64_t, begin, end, index, a->step, a->n);
  double sum = 0;
  for (int64_t at = begin; at < end; at += M4N_LANES * 64) {
    const m4n_real *x = a->x + at;
    const int n = (int)(end - at < M4N_LANES * 64 ? end - at : M4N_LANES * 64);
    m4n_real part;
    if (a->square)
      M4N_ROW_SUM(part, n, i, x[i] * x[i]);
    else
      M4N_ROW_SUM(part, n, i, x[i]);
    sum += part;
  }
  a->piece[index] = sum;
}

static double sum_all(m4n_stream *s, const m4n_real *x, int64_t n, int square) {
  total a = {.x = x, .n = n, .square = square};
  a.step = (n + PIECES - 1) / PIECES;
  if (a.step < M4N_TILE) a.step = M4N_TILE;
  const int pieces = (int)((n + a.step - 1) / a.step);
  m4n_cpu_run(s, pieces, total_tile, &a);
  double sum = 0;
  for (int i = 0; i < pieces; i++) sum += a.piece[i];
  return sum;
}

void M4N_CPU(sum)(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n, m4n_real alpha, int add) {
  m4n_real value = (m4n_real)(alpha * sum_all(s, x, n, 0));
  *y = add ? *y + value : value;
}
void M4N_CPU(grad_norm)(m4n_stream *s, m4n_real *norm, const m4n_real *g, int64_t n) {
  *norm = (m4n_real)sqrt(sum_all(s, g, n, 1));
}
