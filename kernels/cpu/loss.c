/* Losses and their gradients (algorithms.md §5.7, §7). Rows are short (6 … 100 classes, 3 angles), so a tile is many
 * rows and a row is done twice rather than saved. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

typedef struct loss {
  m4n_real *out; /* loss[rows], or the gradient [rows][V] */
  const m4n_real *z, *zt, *weight, *period, *sigma, *goal;
  const int32_t *target;
  const uint8_t *mask;
  int rows, V, add, divergence, step;
  m4n_real temperature, b, delta;
} loss;

static void run(m4n_stream *s, loss *a, m4n_tile tile) {
  a->step = m4n_tile_rows(a->V * 16);
  m4n_cpu_run(s, m4n_ceil_div(a->rows, a->step), tile, a);
}
#define EACH_ROW(a, index, r)                                                                                \
  M4N_TILE_RANGE(int, begin, end, index, (a)->step, (a)->rows);                                              \
  for (int r = begin; r < end; r++)

static inline m4n_real weight_of(const loss *a, int r) {
  return a->weight ? a->weight[r] : 1;
}
static inline const uint8_t *mask_of(const loss *a, int r) {
  return a->mask ? a->mask + (size_t)r * a->V : NULL;
}
static inline void put(const loss *a, size_t at, m4n_real value) {
  a->out[at] = a->add ? a->out[at] + value : value;
}

/* ---- softmax over the classes that the mask leaves ------------------------------------------------------------------- */

/* ln Σ exp(z/ϑ), from the largest down. */
static m4n_real log_sum(const m4n_real *z, const uint8_t *mask, int V, m4n_real scale) {
  m4n_real top = -INFINITY, sum = 0;
  for (int v = 0; v < V; v++)
    if ((!mask || mask[v]) && !(scale * z[v] <= top)) top = scale * z[v];
  for (int v = 0; v < V; v++)
    if (!mask || mask[v]) sum += m4n_exp(scale * z[v] - top);
  return top + (m4n_real)log(sum);
}

static void softmax_tile(void *self, int index) {
  loss *a = self;
  const m4n_real scale = 1 / a->temperature;
  EACH_ROW(a, index, r) {
    const m4n_real *z = a->z + (size_t)r * a->V;
    m4n_real *p = a->out + (size_t)r * a->V;
    const uint8_t *mask = mask_of(a, r);
    const m4n_real total = log_sum(z, mask, a->V, scale);
    for (int v = 0; v < a->V; v++) p[v] = !mask || mask[v] ? m4n_exp(scale * z[v] - total) : 0;
  }
}
void M4N_CPU(softmax)(m4n_stream *s, m4n_real *p, const m4n_real *z, const uint8_t *mask, int rows, int V,
                      m4n_real temperature) {
  run(s, &(loss){.out = p, .z = z, .mask = mask, .rows = rows, .V = V, .temperature = temperature},
      softmax_tile);
}

/* ---- cross-entropy: −ω ln p(target), z̄ = ω(p − onehot) ------------------------------------------------------------------ */

static void xent_tile(void *self, int index) {
  loss *a = self;
  EACH_ROW(a, index, r) {
    const m4n_real *z = a->z + (size_t)r * a->V;
    const int target = a->target[r];
    a->out[r] = target < 0 ? 0 : weight_of(a, r) * (log_sum(z, mask_of(a, r), a->V, 1) - z[target]);
  }
}
static void xent_grad_tile(void *self, int index) {
  loss *a = self;
  EACH_ROW(a, index, r) {
    const m4n_real *z = a->z + (size_t)r * a->V, weight = a->target[r] < 0 ? 0 : weight_of(a, r);
    const uint8_t *mask = mask_of(a, r);
    const m4n_real total = log_sum(z, mask, a->V, 1);
    for (int v = 0; v < a->V; v++) {
      const int counts = weight != 0 && (!mask || mask[v]);
      put(a, (size_t)r * a->V + v, counts ? weight * (m4n_exp(z[v] - total) - (v == a->target[r])) : 0);
    }
  }
}
void M4N_CPU(xent_fwd)(m4n_stream *s, m4n_real *out, const m4n_real *z, const int32_t *target,
                       const uint8_t *mask, const m4n_real *weight, int rows, int V) {
  run(s, &(loss){.out = out, .z = z, .target = target, .mask = mask, .weight = weight, .rows = rows, .V = V},
      xent_tile);
}
void M4N_CPU(xent_bwd)(m4n_stream *s, m4n_real *dz, const m4n_real *z, const int32_t *target,
                       const uint8_t *mask, const m4n_real *weight, int rows, int V, int add) {
  loss a = {
      .out = dz, .z = z, .target = target, .mask = mask, .weight = weight, .rows = rows, .V = V, .add = add};
  run(s, &a, xent_grad_tile);
}

/* ---- divergences between teacher and student, with the factor ϑ² ------------------------------------------------------------
 *
 *   forward KL   Σ p_T ln(p_T/p_S)                               ∂/∂z_S = ϑ(p_S − p_T)
 *   reverse KL   Σ p_S ln(p_S/p_T)                               ϑ p_S(ℓ − Σ p_S ℓ), ℓ = ln(p_S/p_T)
 *   JSD(b)       b KL(p_T‖M) + (1−b) KL(p_S‖M),                  ϑ(1−b) p_S(ℓ − Σ p_S ℓ), ℓ = ln(p_S/M)
 *                M = b p_T + (1−b) p_S
 */

static const m4n_real least_log = (m4n_real)-27.631021115928547; /* ln 1e-12 */

/* ln p of one class under teacher and student. */
typedef struct pair {
  m4n_real t, s;
} pair;
static inline pair logs(const m4n_real *zt, const m4n_real *zs, m4n_real total_t, m4n_real total_s,
                        m4n_real scale, int v) {
  const m4n_real t = scale * zt[v] - total_t, s = scale * zs[v] - total_s;
  return (pair){t < least_log ? least_log : t, s < least_log ? least_log : s};
}

/* ℓ of the table: what the student's probability is compared with. */
static inline m4n_real log_ratio(const loss *a, pair l) {
  if (a->divergence != M4N_JSD) return l.s - l.t;
  return l.s - (m4n_real)log(a->b * m4n_exp(l.t) + (1 - a->b) * m4n_exp(l.s));
}

static void kl_tile(void *self, int index) {
  loss *a = self;
  const m4n_real scale = 1 / a->temperature;
  EACH_ROW(a, index, r) {
    const m4n_real *zs = a->z + (size_t)r * a->V, *zt = a->zt + (size_t)r * a->V;
    const uint8_t *mask = mask_of(a, r);
    const m4n_real total_s = log_sum(zs, mask, a->V, scale), total_t = log_sum(zt, mask, a->V, scale);
    m4n_real sum = 0;
    for (int v = 0; v < a->V; v++) {
      if (mask && !mask[v]) continue;
      const pair l = logs(zt, zs, total_t, total_s, scale, v);
      const m4n_real t = m4n_exp(l.t), p = m4n_exp(l.s), ratio = log_ratio(a, l);
      if (a->divergence == M4N_KL_FORWARD)
        sum -= t * ratio;
      else if (a->divergence == M4N_KL_REVERSE)
        sum += p * ratio;
      else
        sum += a->b * t * (l.t - l.s + ratio) + (1 - a->b) * p * ratio;
    }
    a->out[r] = weight_of(a, r) * a->temperature * a->temperature * sum;
  }
}

static void kl_grad_tile(void *self, int index) {
  loss *a = self;
  const m4n_real scale = 1 / a->temperature;
  EACH_ROW(a, index, r) {
    const m4n_real *zs = a->z + (size_t)r * a->V, *zt = a->zt + (size_t)r * a->V;
    const uint8_t *mask = mask_of(a, r);
    const m4n_real total_s = log_sum(zs, mask, a->V, scale), total_t = log_sum(zt, mask, a->V, scale);
    m4n_real factor = weight_of(a, r) * a->temperature, mean = 0;
    if (a->divergence == M4N_JSD) factor *= 1 - a->b;
    if (a->divergence != M4N_KL_FORWARD)
      for (int v = 0; v < a->V; v++) {
        if (mask && !mask[v]) continue;
        const pair l = logs(zt, zs, total_t, total_s, scale, v);
        mean += m4n_exp(l.s) * log_ratio(a, l);
      }
    for (int v = 0; v < a->V; v++) {
      m4n_real grad = 0;
      if (!mask || mask[v]) {
        const pair l = logs(zt, zs, total_t, total_s, scale, v);
        grad = a->divergence == M4N_KL_FORWARD ? m4n_exp(l.s) - m4n_exp(l.t)
                                               : m4n_exp(l.s) * (log_ratio(a, l) - mean);
      }
      put(a, (size_t)r * a->V + v, factor * grad);
    }
  }
}

static loss kl_of(const m4n_real *zs, const m4n_real *zt, const uint8_t *mask, const m4n_real *weight,
                  const m4n_kl *shape) {
  return (loss){.z = zs,
                .zt = zt,
                .mask = mask,
                .weight = weight,
                .rows = shape->rows,
                .V = shape->V,
                .divergence = shape->divergence,
                .temperature = shape->temperature,
                .b = shape->b};
}
void M4N_CPU(kl_fwd)(m4n_stream *s, m4n_real *out, const m4n_real *zs, const m4n_real *zt,
                     const uint8_t *mask, const m4n_real *weight, const m4n_kl *shape) {
  loss a = kl_of(zs, zt, mask, weight, shape);
  a.out = out;
  run(s, &a, kl_tile);
}
void M4N_CPU(kl_bwd)(m4n_stream *s, m4n_real *dzs, const m4n_real *zs, const m4n_real *zt,
                     const uint8_t *mask, const m4n_real *weight, const m4n_kl *shape, int add) {
  loss a = kl_of(zs, zt, mask, weight, shape);
  a.out = dzs, a.add = add;
  run(s, &a, kl_grad_tile);
}

/* ---- regression ------------------------------------------------------------------------------------------------------------ */

// wrap(e) = ((e + p/2) mod p) − p/2 for a period p > 0
static inline m4n_real difference(const loss *a, m4n_real y, m4n_real target, int c) {
  const m4n_real e = y - target, p = a->period ? a->period[c] : 0;
  return p > 0 ? e - p * (m4n_real)floor(e / p + (m4n_real)0.5) : e;
}

// huber(e) = e²/2, or delta(|e| − delta/2) outside
static void huber_tile(void *self, int index) {
  loss *a = self;
  EACH_ROW(a, index, r) {
    m4n_real sum = 0;
    for (int c = 0; c < a->V; c++) {
      const size_t at = (size_t)r * a->V + c;
      const m4n_real e = difference(a, a->z[at], a->goal[at], c), size = (m4n_real)fabs(e);
      sum += size <= a->delta ? e * e / 2 : a->delta * (size - a->delta / 2);
    }
    a->out[r] = weight_of(a, r) * sum;
  }
}
// huber'(e) = e, or ±delta outside
static void huber_grad_tile(void *self, int index) {
  loss *a = self;
  EACH_ROW(a, index, r) {
    for (int c = 0; c < a->V; c++) {
      const size_t at = (size_t)r * a->V + c;
      const m4n_real e = difference(a, a->z[at], a->goal[at], c);
      put(a, at, weight_of(a, r) * (e > a->delta ? a->delta : e < -a->delta ? -a->delta : e));
    }
  }
}
void M4N_CPU(huber_fwd)(m4n_stream *s, m4n_real *out, const m4n_real *y, const m4n_real *target,
                        const m4n_real *period, const m4n_real *weight, int rows, int C, m4n_real delta) {
  loss a = {.out = out, .z = y, .goal = target, .period = period, .weight = weight, .rows = rows, .V = C};
  a.delta = delta;
  run(s, &a, huber_tile);
}
void M4N_CPU(huber_bwd)(m4n_stream *s, m4n_real *dy, const m4n_real *y, const m4n_real *target,
                        const m4n_real *period, const m4n_real *weight, int rows, int C, m4n_real delta,
                        int add) {
  loss a = {.out = dy,
            .z = y,
            .goal = target,
            .period = period,
            .weight = weight,
            .rows = rows,
            .V = C,
            .add = add};
  a.delta = delta;
  run(s, &a, huber_grad_tile);
}

/* Does component c of row r count: is the teacher nearer to the target than the student? */
static inline int teacher_is_nearer(const loss *a, size_t at, int c) {
  if (!a->goal) return 1;
  return fabs(difference(a, a->zt[at], a->goal[at], c)) < fabs(difference(a, a->z[at], a->goal[at], c));
}
// KL of two normal distributions of common σ: (y_T − y)²/(2σ²)
static void gauss_kl_tile(void *self, int index) {
  loss *a = self;
  EACH_ROW(a, index, r) {
    m4n_real sum = 0;
    for (int c = 0; c < a->V; c++) {
      const size_t at = (size_t)r * a->V + c;
      const m4n_real e = difference(a, a->z[at], a->zt[at], c) / a->sigma[c];
      if (teacher_is_nearer(a, at, c)) sum += e * e / 2;
    }
    a->out[r] = weight_of(a, r) * sum;
  }
}
static void gauss_kl_grad_tile(void *self, int index) {
  loss *a = self;
  EACH_ROW(a, index, r) {
    for (int c = 0; c < a->V; c++) {
      const size_t at = (size_t)r * a->V + c;
      const m4n_real e = difference(a, a->z[at], a->zt[at], c) / (a->sigma[c] * a->sigma[c]);
      put(a, at, teacher_is_nearer(a, at, c) ? weight_of(a, r) * e : 0);
    }
  }
}
void M4N_CPU(gauss_kl_fwd)(m4n_stream *s, m4n_real *out, const m4n_real *y, const m4n_real *yt,
                           const m4n_real *sigma, const m4n_real *target, const m4n_real *period,
                           const m4n_real *weight, int rows, int C) {
  loss a = {.out = out, .z = y, .zt = yt, .sigma = sigma, .goal = target, .period = period, .weight = weight};
  a.rows = rows, a.V = C;
  run(s, &a, gauss_kl_tile);
}
void M4N_CPU(gauss_kl_bwd)(m4n_stream *s, m4n_real *dy, const m4n_real *y, const m4n_real *yt,
                           const m4n_real *sigma, const m4n_real *target, const m4n_real *period,
                           const m4n_real *weight, int rows, int C, int add) {
  loss a = {.out = dy, .z = y, .zt = yt, .sigma = sigma, .goal = target, .period = period, .weight = weight};
  a.rows = rows, a.V = C, a.add = add;
  run(s, &a, gauss_kl_grad_tile);
}
