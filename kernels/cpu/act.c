/* Activations, elementwise (algorithms.md §1, §5.7). */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

/* y = f(x) and dx = dy·f'(v), v being x or y: all that this file's ops without a shape take. */
typedef struct unary {
  m4n_real *y;
  const m4n_real *dy, *x;
  int64_t n;
  m4n_real slope;
} unary;

#define EACH(e, index, i)                                                                                    \
  M4N_TILE_RANGE(int64_t, begin, end, index, M4N_TILE, (e)->n);                                              \
  M4N_EACH                                                                                                   \
  for (int64_t i = begin; i < end; i++)

static void silu_tile(void *self, int index) {
  unary *a = self;
  EACH(a, index, i) a->y[i] = m4n_silu(a->x[i]);
}
static void silu_grad_tile(void *self, int index) {
  unary *a = self;
  EACH(a, index, i) a->y[i] = a->dy[i] * m4n_silu_grad(a->x[i]);
}
// gelu(x) = x·Φ(x), gelu'(x) = Φ(x) + x·φ(x)
static void gelu_tile(void *self, int index) {
  unary *a = self;
  EACH(a, index, i) a->y[i] = a->x[i] * m4n_normal_cdf(a->x[i]);
}
static void gelu_grad_tile(void *self, int index) {
  unary *a = self;
  EACH(a, index, i) a->y[i] = a->dy[i] * (m4n_normal_cdf(a->x[i]) + a->x[i] * m4n_normal_pdf(a->x[i]));
}
static void leaky_relu_tile(void *self, int index) {
  unary *a = self;
  const m4n_real slope = a->slope; // loaded under a condition it would keep the loop scalar
  EACH(a, index, i) a->y[i] = a->x[i] * (a->x[i] > 0 ? 1 : slope);
}
static void leaky_relu_grad_tile(void *self, int index) {
  unary *a = self;
  const m4n_real slope = a->slope;
  EACH(a, index, i) a->y[i] = a->dy[i] * (a->x[i] > 0 ? 1 : slope);
}
static void tanh_tile(void *self, int index) {
  unary *a = self;
  EACH(a, index, i) a->y[i] = m4n_tanh(a->x[i]);
}
static void tanh_grad_tile(void *self, int index) {
  unary *a = self;
  EACH(a, index, i) a->y[i] = a->dy[i] * (1 - a->x[i] * a->x[i]);
}

// A = −max(exp(a_log), 1e-4); dA/da_log = A, 0 where the bound holds it.
static const m4n_real smallest_rate = (m4n_real)1e-4;
static void neg_exp_tile(void *self, int index) {
  unary *a = self;
  EACH(a, index, i) {
    m4n_real e = m4n_exp(a->x[i]);
    a->y[i] = e < smallest_rate ? -smallest_rate : -e;
  }
}
static void neg_exp_grad_tile(void *self, int index) {
  unary *a = self;
  EACH(a, index, i) a->y[i] += a->x[i] == -smallest_rate ? 0 : a->dy[i] * a->x[i];
}

void M4N_CPU(silu_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), silu_tile, &(unary){y, NULL, x, n, 0});
}
void M4N_CPU(silu_bwd)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *x, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), silu_grad_tile, &(unary){dx, dy, x, n, 0});
}
void M4N_CPU(gelu_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), gelu_tile, &(unary){y, NULL, x, n, 0});
}
void M4N_CPU(gelu_bwd)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *x, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), gelu_grad_tile, &(unary){dx, dy, x, n, 0});
}
void M4N_CPU(leaky_relu_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n, m4n_real slope) {
  m4n_cpu_run(s, m4n_tiles(n), leaky_relu_tile, &(unary){y, NULL, x, n, slope});
}
void M4N_CPU(leaky_relu_bwd)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *x, int64_t n,
                             m4n_real slope) {
  m4n_cpu_run(s, m4n_tiles(n), leaky_relu_grad_tile, &(unary){dx, dy, x, n, slope});
}
void M4N_CPU(tanh_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), tanh_tile, &(unary){y, NULL, x, n, 0});
}
void M4N_CPU(tanh_bwd)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *y, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), tanh_grad_tile, &(unary){dx, dy, y, n, 0});
}
void M4N_CPU(neg_exp_fwd)(m4n_stream *s, m4n_real *A, const m4n_real *a_log, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), neg_exp_tile, &(unary){A, NULL, a_log, n, 0});
}
void M4N_CPU(neg_exp_bwd)(m4n_stream *s, m4n_real *da_log, const m4n_real *dA, const m4n_real *A, int64_t n) {
  m4n_cpu_run(s, m4n_tiles(n), neg_exp_grad_tile, &(unary){da_log, dA, A, n, 0});
}

/* m = silu(a)·b, by rows since a and b may be parts of wider ones. */
typedef struct swiglu {
  m4n_real *m, *da, *db;
  const m4n_real *dm, *a, *b;
  int rows, C, ld, step;
} swiglu;

static void swiglu_tile(void *self, int index) {
  swiglu *w = self;
  M4N_TILE_RANGE(int, begin, end, index, w->step, w->rows);
  for (int r = begin; r < end; r++) {
    m4n_real *m = w->m + (size_t)r * w->C;
    const m4n_real *a = w->a + (size_t)r * w->ld, *b = w->b + (size_t)r * w->ld;
    M4N_EACH
    for (int c = 0; c < w->C; c++) m[c] = m4n_silu(a[c]) * b[c];
  }
}

// da = dm·b·silu'(a), db = dm·silu(a)
static void swiglu_grad_tile(void *self, int index) {
  swiglu *w = self;
  M4N_TILE_RANGE(int, begin, end, index, w->step, w->rows);
  for (int r = begin; r < end; r++) {
    const m4n_real *dm = w->dm + (size_t)r * w->C;
    const m4n_real *a = w->a + (size_t)r * w->ld, *b = w->b + (size_t)r * w->ld;
    m4n_real *da = w->da + (size_t)r * w->ld, *db = w->db + (size_t)r * w->ld;
    M4N_EACH
    for (int c = 0; c < w->C; c++) {
      m4n_real g = m4n_sigmoid(a[c]), ac = a[c], bc = b[c];
      da[c] = dm[c] * bc * (g * (1 + ac * (1 - g)));
      db[c] = dm[c] * (ac * g);
    }
  }
}

void M4N_CPU(swiglu_fwd)(m4n_stream *s, m4n_real *m, const m4n_real *a, const m4n_real *b, int rows, int C,
                         int ab_ld) {
  swiglu w = {
      .m = m, .a = a, .b = b, .rows = rows, .C = C, .ld = ab_ld ? ab_ld : C, .step = m4n_tile_rows(C)};
  m4n_cpu_run(s, m4n_ceil_div(rows, w.step), swiglu_tile, &w);
}
void M4N_CPU(swiglu_bwd)(m4n_stream *s, m4n_real *da, m4n_real *db, const m4n_real *dm, const m4n_real *a,
                         const m4n_real *b, int rows, int C, int ab_ld) {
  swiglu w = {NULL, da, db, dm, a, b, rows, C, ab_ld ? ab_ld : C, m4n_tile_rows(C)};
  m4n_cpu_run(s, m4n_ceil_div(rows, w.step), swiglu_grad_tile, &w);
}
