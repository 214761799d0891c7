/* Rows by number: embeddings, edges of a graph, sums over segments (algorithms.md §4.3). Sums run in the order of the
 * index, so the backward ops cut columns into strips instead of rows into tiles. */
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { STRIP = 64 };

typedef struct graph {
  m4n_real *y;
  const m4n_real *x;
  const int32_t *index, *offset;
  int rows, C, ld, add, step;
} graph;

static void gather_tile(void *self, int tile) {
  graph *a = self;
  M4N_TILE_RANGE(int, begin, end, tile, a->step, a->rows);
  for (int r = begin; r < end; r++) {
    m4n_real *y = a->y + (size_t)r * a->ld;
    const m4n_real *x = a->x + (size_t)(a->index[r] < 0 ? 0 : a->index[r]) * a->C;
    if (a->index[r] >= 0 && a->add)
      for (int c = 0; c < a->C; c++) y[c] += x[c];
    else if (a->index[r] >= 0)
      memcpy(y, x, (size_t)a->C * sizeof *y);
    else if (!a->add)
      memset(y, 0, (size_t)a->C * sizeof *y);
  }
}
void M4N_CPU(gather_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *table, const int32_t *index, int rows,
                         int C, int y_ld, int add) {
  graph a = {.y = y, .x = table, .index = index, .rows = rows, .C = C, .ld = y_ld ? y_ld : C, .add = add};
  a.step = m4n_tile_rows(C);
  m4n_cpu_run(s, m4n_ceil_div(rows, a.step), gather_tile, &a);
}

static void scatter_tile(void *self, int strip) {
  graph *a = self;
  const int c0 = strip * STRIP, width = m4n_min(STRIP, a->C - c0);
  for (int r = 0; r < a->rows; r++) {
    if (a->index[r] < 0) continue;
    m4n_real *y = a->y + (size_t)a->index[r] * a->C + c0;
    const m4n_real *x = a->x + (size_t)r * a->ld + c0;
    for (int c = 0; c < width; c++) y[c] += x[c];
  }
}
void M4N_CPU(gather_bwd)(m4n_stream *s, m4n_real *dtable, const m4n_real *dy, const int32_t *index, int rows,
                         int C, int dy_ld) {
  graph a = {.y = dtable, .x = dy, .index = index, .rows = rows, .C = C, .ld = dy_ld ? dy_ld : C};
  m4n_cpu_run(s, m4n_ceil_div(C, STRIP), scatter_tile, &a);
}

// y_k = Σ x over the rows that segment k names
static void segment_sum_tile(void *self, int tile) {
  graph *a = self;
  M4N_TILE_RANGE(int, begin, end, tile, a->step, a->rows);
  for (int k = begin; k < end; k++) {
    m4n_real *y = a->y + (size_t)k * a->C;
    if (!a->add) memset(y, 0, (size_t)a->C * sizeof *y);
    for (int e = a->offset[k]; e < a->offset[k + 1]; e++) {
      const m4n_real *x = a->x + (size_t)(a->index ? a->index[e] : e) * a->C;
      for (int c = 0; c < a->C; c++) y[c] += x[c];
    }
  }
}
void M4N_CPU(segment_sum_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, const int32_t *offset,
                              const int32_t *index, int segments, int C, int add) {
  graph a = {.y = y, .x = x, .index = index, .offset = offset, .rows = segments, .C = C, .add = add};
  a.step = m4n_tile_rows(C);
  m4n_cpu_run(s, m4n_ceil_div(segments, a.step), segment_sum_tile, &a);
}

static void segment_spread_tile(void *self, int strip) {
  graph *a = self;
  const int c0 = strip * STRIP, width = m4n_min(STRIP, a->C - c0);
  for (int k = 0; k < a->rows; k++) {
    const m4n_real *dy = a->x + (size_t)k * a->C + c0;
    for (int e = a->offset[k]; e < a->offset[k + 1]; e++) {
      m4n_real *dx = a->y + (size_t)(a->index ? a->index[e] : e) * a->C + c0;
      for (int c = 0; c < width; c++) dx[c] += dy[c];
    }
  }
}
void M4N_CPU(segment_sum_bwd)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const int32_t *offset,
                              const int32_t *index, int segments, int C) {
  graph a = {.y = dx, .x = dy, .index = index, .offset = offset, .rows = segments, .C = C};
  m4n_cpu_run(s, m4n_ceil_div(C, STRIP), segment_spread_tile, &a);
}
