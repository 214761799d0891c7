/* Depthwise causal convolution with silu (algorithms.md §5.2, §5.4). Channels are vector lanes: a tile is one batch
 * and a strip of channels, the last K inputs of the strip stay in registers or first-level cache. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

#include <string.h>

enum { STRIP = 32, TAPS = 8, TILE_STEPS = 64 }; /* fewer steps than that are not worth another core */

typedef struct conv {
  m4n_real *y, *dx, *dw, *db, *state;
  const m4n_real *x, *dy, *w, *b;
  const int32_t *slot;
  m4n_conv shape;
  int strips, step; /* of the channels; how many of all batches make a tile */
} conv;

/* w of the strip as [K][STRIP], b as [STRIP]; channels that do not exist get 0. */
typedef struct taps {
  m4n_real w[TAPS][STRIP], b[STRIP];
  int c0, width;
} taps;

static void load_taps(taps *t, const conv *a, int strip) {
  const int K = a->shape.K;
  memset(t, 0, sizeof *t);
  t->c0 = strip * STRIP;
  t->width = m4n_min(STRIP, a->shape.C - t->c0);
  for (int c = 0; c < t->width; c++) {
    t->b[c] = a->b[t->c0 + c];
    for (int k = 0; k < K; k++) t->w[k][c] = a->w[(size_t)(t->c0 + c) * K + k];
  }
}

static void load(m4n_real lane[STRIP], const m4n_real *x, int width) {
  if (width == STRIP)
    memcpy(lane, x, STRIP * sizeof *x);
  else
    M4N_EACH
  for (int c = 0; c < STRIP; c++) lane[c] = c < width ? x[c] : 0;
}

/* A strip is a line or two of every row, which no prefetcher foresees. */
static inline void fetch(const m4n_real *x, int ld) {
  enum { ROWS_AHEAD = 16, LINE = 64 / sizeof(m4n_real) };
  for (int c = 0; c < STRIP; c += LINE) __builtin_prefetch(x + (ptrdiff_t)ROWS_AHEAD * ld + c);
}

// c_t = b + Σ_j w_j x_{t−K+1+j}; `past` holds x_{t−K+1} … x_t, oldest first, from row `first` of a ring of TAPS.
static inline void convolve(m4n_real sum[STRIP], const taps *t, m4n_real past[TAPS][STRIP], int K, int now) {
  M4N_EACH
  for (int c = 0; c < STRIP; c++) sum[c] = t->b[c];
  for (int k = 0; k < K; k++) {
    const m4n_real *x = past[(now - K + 1 + k) & (TAPS - 1)];
    M4N_EACH
    for (int c = 0; c < STRIP; c++) sum[c] += t->w[k][c] * x[c];
  }
}

/* The forward of one batch and strip, with or without a state. */
static void conv_strip(const conv *a, int index) {
  const m4n_conv *n = &a->shape;
  const int batch = index / a->strips, K = n->K;
  taps t;
  load_taps(&t, a, index % a->strips);
  m4n_real past[TAPS][STRIP] = {{0}}, sum[STRIP];
  m4n_real *state = a->state;
  if (state) {
    state += (size_t)(a->slot ? a->slot[batch] : batch) * (K - 1) * n->C + t.c0;
    for (int k = 0; k < K - 1; k++)
      load(past[(TAPS - K + 1 + k) & (TAPS - 1)], state + (size_t)k * n->C, t.width);
  }
  for (int i = 0; i < n->T; i++) {
    const size_t row = (size_t)batch * n->T + i;
    const m4n_real *x = a->x + row * n->x_ld + t.c0;
    m4n_real *y = a->y + row * n->y_ld + t.c0;
    fetch(x, n->x_ld), fetch(y, n->y_ld);
    load(past[i & (TAPS - 1)], x, t.width);
    convolve(sum, &t, past, K, i);
    M4N_EACH
    for (int c = 0; c < STRIP; c++) sum[c] = m4n_silu(sum[c]);
    if (t.width == STRIP)
      memcpy(y, sum, sizeof sum);
    else
      for (int c = 0; c < t.width; c++) y[c] = sum[c];
  }
  if (state)
    for (int k = 0; k < K - 1; k++)
      memcpy(state + (size_t)k * n->C, past[(n->T - K + 1 + k) & (TAPS - 1)],
             (size_t)t.width * sizeof *state);
}

static void conv_tile(void *self, int index) {
  const conv *a = self;
  M4N_TILE_RANGE(int, begin, end, index, a->step, a->shape.B * a->strips);
  for (int strip = begin; strip < end; strip++) conv_strip(a, strip);
}

/* c̄_t = ȳ_t silu'(c_t); b̄ = Σ c̄_t; w̄_j = Σ c̄_t x_{t−K+1+j}; x̄_t = Σ_j c̄_{t+K−1−j} w_j.
 * A tile is a strip with all its batches, so that w̄ and b̄ are its own. */
static inline __attribute__((always_inline)) void conv_grad_strip(conv *a, int strip, const int K) {
  const m4n_conv *n = &a->shape;
  const int T = n->T;
  taps t;
  load_taps(&t, a, strip);
  m4n_real dw[TAPS][STRIP] = {{0}}, db[STRIP] = {0};
  for (int batch = 0; batch < n->B; batch++) {
    m4n_real past[TAPS][STRIP] = {{0}}, late[TAPS][STRIP] = {{0}}; // late[t]: c̄_t of the last K steps
    for (int i = 0; i < T + K - 1; i++) {
      const size_t row = (size_t)batch * T + i;
      m4n_real *dc = late[i & (TAPS - 1)], sum[STRIP], dy[STRIP];
      if (i < T) {
        const m4n_real *from_x = a->x + row * n->x_ld + t.c0, *from_dy = a->dy + row * n->y_ld + t.c0;
        fetch(from_x, n->x_ld), fetch(from_dy, n->y_ld), fetch(a->dx + row * n->x_ld + t.c0, n->x_ld);
        load(past[i & (TAPS - 1)], from_x, t.width);
        load(dy, from_dy, t.width);
        convolve(sum, &t, past, K, i);
        M4N_EACH
        for (int c = 0; c < STRIP; c++) dc[c] = dy[c] * m4n_silu_grad(sum[c]), db[c] += dc[c];
        for (int k = 0; k < K; k++) {
          const m4n_real *x = past[(i - K + 1 + k) & (TAPS - 1)];
          M4N_EACH
          for (int c = 0; c < STRIP; c++) dw[k][c] += dc[c] * x[c];
        }
      } else {
        M4N_EACH
        for (int c = 0; c < STRIP; c++) dc[c] = 0;
      }
      // All that flows into x_{i−K+1} is known now.
      if (i < K - 1) continue;
      M4N_EACH
      for (int c = 0; c < STRIP; c++) sum[c] = 0;
      for (int k = 0; k < K; k++) {
        const m4n_real *from = late[(i - k) & (TAPS - 1)];
        M4N_EACH
        for (int c = 0; c < STRIP; c++) sum[c] += from[c] * t.w[k][c];
      }
      m4n_real *dx = a->dx + (row - (K - 1)) * n->x_ld + t.c0;
      for (int c = 0; c < t.width; c++) dx[c] = sum[c];
    }
  }
  for (int c = 0; c < t.width; c++) {
    a->db[t.c0 + c] += db[c];
    for (int k = 0; k < K; k++) a->dw[(size_t)(t.c0 + c) * K + k] += dw[k][c];
  }
}

/* With the usual number of taps known, their loops are unrolled. */
static void conv_grad_tile(void *self, int strip) {
  conv *a = self;
  if (a->shape.K == 4)
    conv_grad_strip(a, strip, 4);
  else
    conv_grad_strip(a, strip, a->shape.K);
}

static conv prepare(const m4n_conv *shape) {
  conv a = {.shape = *shape, .strips = m4n_ceil_div(shape->C, STRIP)};
  a.step = shape->T < TILE_STEPS ? TILE_STEPS / shape->T : 1;
  if (!a.shape.x_ld) a.shape.x_ld = shape->C;
  if (!a.shape.y_ld) a.shape.y_ld = shape->C;
  return a;
}

void M4N_CPU(conv_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, const m4n_real *w, const m4n_real *b,
                       const m4n_conv *shape) {
  conv a = prepare(shape);
  a.y = y, a.x = x, a.w = w, a.b = b;
  m4n_cpu_run(s, m4n_ceil_div(shape->B * a.strips, a.step), conv_tile, &a);
}
void M4N_CPU(conv_bwd)(m4n_stream *s, m4n_real *dx, m4n_real *dw, m4n_real *db, const m4n_real *dy,
                       const m4n_real *x, const m4n_real *w, const m4n_real *b, const m4n_conv *shape) {
  conv a = prepare(shape);
  a.dx = dx, a.dw = dw, a.db = db, a.dy = dy, a.x = x, a.w = w, a.b = b;
  m4n_cpu_run(s, a.strips, conv_grad_tile, &a);
}
void M4N_CPU(conv_step)(m4n_stream *s, m4n_real *y, m4n_real *state, const m4n_real *x, const m4n_real *w,
                        const m4n_real *b, const int32_t *slot, const m4n_conv *shape) {
  conv a = prepare(shape);
  a.y = y, a.state = state, a.x = x, a.w = w, a.b = b, a.slot = slot;
  m4n_cpu_run(s, m4n_ceil_div(shape->B * a.strips, a.step), conv_tile, &a);
}
