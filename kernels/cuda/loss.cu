/* Losses and their gradients (algorithms.md §5.7, §7). Rows are short (6 … 100 classes, 3 angles): a warp each, and a row
 * is done twice rather than saved. */
#include "kernels/cuda/device.cuh"

struct loss {
  float *out; /* loss[rows], or the gradient [rows][V] */
  const float *z, *zt, *weight, *period, *sigma, *goal;
  const int32_t *target;
  const uint8_t *mask;
  int rows, V, add, divergence;
  float temperature, b, delta;
};

__device__ static inline float weight_of(const loss &a, int64_t r) {
  return a.weight ? a.weight[r] : 1;
}
__device__ static inline bool counts(const loss &a, int64_t at) {
  return !a.mask || a.mask[at];
}
__device__ static inline void put(const loss &a, int64_t at, float value) {
  a.out[at] = a.add ? a.out[at] + value : value;
}
__device__ static inline void put_sum(const loss &a, int64_t r, float factor, float sum) {
  sum = lanes_sum(sum);
  if (threadIdx.x % WARP == 0) a.out[r] = factor * sum;
}

/* ---- softmax over the classes that the mask leaves ------------------------------------------------------------------- */

/* ln Σ exp(z/ϑ) of row r, from the largest down; the same in all lanes. */
__device__ static inline float log_sum(const loss &a, const float *z, int64_t r, float scale) {
  float top = -INFINITY, sum = 0, poison = 0;
  M4N_EACH_COLUMN(v, a.V)
  if (counts(a, r * a.V + v)) {
    const float s = scale * z[r * a.V + v];
    top = fmaxf(top, s);
    if (isnan(s)) poison = s; // fmaxf drops what is no number
  }
  top = lanes_max(top);
  M4N_EACH_COLUMN(v, a.V) if (counts(a, r * a.V + v)) sum += expf(scale * z[r * a.V + v] - top);
  return top + logf(lanes_sum(sum)) + lanes_sum(poison);
}

static __global__ void softmax_kernel(loss a) {
  M4N_WARP_ROW(r, a.rows);
  const float scale = 1 / a.temperature, total = log_sum(a, a.z, r, scale);
  M4N_EACH_COLUMN(v, a.V) {
    const int64_t at = r * a.V + v;
    a.out[at] = counts(a, at) ? expf(scale * a.z[at] - total) : 0;
  }
}

/* ---- cross-entropy: −ω ln p(target), z̄ = ω(p − onehot) ------------------------------------------------------------------ */

static __global__ void xent_kernel(loss a) {
  M4N_WARP_ROW(r, a.rows);
  const int target = a.target[r];
  const float total = log_sum(a, a.z, r, 1);
  if (threadIdx.x % WARP == 0) a.out[r] = target < 0 ? 0 : weight_of(a, r) * (total - a.z[r * a.V + target]);
}
static __global__ void xent_grad_kernel(loss a) {
  M4N_WARP_ROW(r, a.rows);
  const int target = a.target[r];
  const float weight = target < 0 ? 0 : weight_of(a, r), total = log_sum(a, a.z, r, 1);
  M4N_EACH_COLUMN(v, a.V) {
    const int64_t at = r * a.V + v;
    put(a, at, weight != 0 && counts(a, at) ? weight * (expf(a.z[at] - total) - (v == target)) : 0);
  }
}

/* ---- divergences between teacher and student, with the factor ϑ² (kernels/cpu/loss.c has the table) ------------------------- */

#define LEAST_LOG -27.631021f /* ln 1e-12 */

/* ln p of one class under teacher and student, and ℓ: what the student's probability is compared with. */
struct logs {
  float t, s, ratio;
};
__device__ static inline logs logs_of(const loss &a, int64_t at, float total_t, float total_s, float scale) {
  logs l;
  l.t = scale * a.zt[at] - total_t, l.s = scale * a.z[at] - total_s;
  l.t = l.t < LEAST_LOG ? LEAST_LOG : l.t, l.s = l.s < LEAST_LOG ? LEAST_LOG : l.s;
  l.ratio = a.divergence != M4N_JSD ? l.s - l.t : l.s - logf(a.b * expf(l.t) + (1 - a.b) * expf(l.s));
  return l;
}

static __global__ void kl_kernel(loss a) {
  M4N_WARP_ROW(r, a.rows);
  const float scale = 1 / a.temperature;
  const float total_s = log_sum(a, a.z, r, scale), total_t = log_sum(a, a.zt, r, scale);
  float sum = 0;
  M4N_EACH_COLUMN(v, a.V) {
    if (!counts(a, r * a.V + v)) continue;
    const logs l = logs_of(a, r * a.V + v, total_t, total_s, scale);
    const float t = expf(l.t), p = expf(l.s);
    if (a.divergence == M4N_KL_FORWARD)
      sum -= t * l.ratio;
    else if (a.divergence == M4N_KL_REVERSE)
      sum += p * l.ratio;
    else
      sum += a.b * t * (l.t - l.s + l.ratio) + (1 - a.b) * p * l.ratio;
  }
  put_sum(a, r, weight_of(a, r) * a.temperature * a.temperature, sum);
}

static __global__ void kl_grad_kernel(loss a) {
  M4N_WARP_ROW(r, a.rows);
  const float scale = 1 / a.temperature;
  const float total_s = log_sum(a, a.z, r, scale), total_t = log_sum(a, a.zt, r, scale);
  float factor = weight_of(a, r) * a.temperature, mean = 0;
  if (a.divergence == M4N_JSD) factor *= 1 - a.b;
  if (a.divergence != M4N_KL_FORWARD) M4N_EACH_COLUMN(v, a.V) {
      if (!counts(a, r * a.V + v)) continue;
      const logs l = logs_of(a, r * a.V + v, total_t, total_s, scale);
      mean += expf(l.s) * l.ratio;
    }
  mean = lanes_sum(mean);
  M4N_EACH_COLUMN(v, a.V) {
    const int64_t at = r * a.V + v;
    float grad = 0;
    if (counts(a, at)) {
      const logs l = logs_of(a, at, total_t, total_s, scale);
      grad = a.divergence == M4N_KL_FORWARD ? expf(l.s) - expf(l.t) : expf(l.s) * (l.ratio - mean);
    }
    put(a, at, factor * grad);
  }
}

/* ---- regression ------------------------------------------------------------------------------------------------------------ */

// wrap(e) = ((e + p/2) mod p) − p/2 for a period p > 0
__device__ static inline float difference(const loss &a, float y, float target, int c) {
  const float e = y - target, p = a.period ? a.period[c] : 0;
  return p > 0 ? e - p * floorf(e / p + 0.5f) : e;
}

// huber(e) = e²/2, or delta(|e| − delta/2) outside
static __global__ void huber_kernel(loss a) {
  M4N_WARP_ROW(r, a.rows);
  float sum = 0;
  M4N_EACH_COLUMN(c, a.V) {
    const int64_t at = r * a.V + c;
    const float e = difference(a, a.z[at], a.goal[at], c), size = fabsf(e);
    sum += size <= a.delta ? e * e / 2 : a.delta * (size - a.delta / 2);
  }
  put_sum(a, r, weight_of(a, r), sum);
}
static __global__ void huber_grad_kernel(loss a) {
  M4N_WARP_ROW(r, a.rows);
  M4N_EACH_COLUMN(c, a.V) {
    const int64_t at = r * a.V + c;
    const float e = difference(a, a.z[at], a.goal[at], c);
    put(a, at, weight_of(a, r) * (e > a.delta ? a.delta : e < -a.delta ? -a.delta : e));
  }
}

/* Does a component count: is the teacher nearer to the target than the student? */
__device__ static inline bool teacher_is_nearer(const loss &a, int64_t at, int c) {
  if (!a.goal) return true;
  return fabsf(difference(a, a.zt[at], a.goal[at], c)) < fabsf(difference(a, a.z[at], a.goal[at], c));
}
// KL of two normal distributions of common σ: (y_T − y)²/(2σ²)
static __global__ void gauss_kl_kernel(loss a) {
  M4N_WARP_ROW(r, a.rows);
  float sum = 0;
  M4N_EACH_COLUMN(c, a.V) {
    const int64_t at = r * a.V + c;
    const float e = difference(a, a.z[at], a.zt[at], c) / a.sigma[c];
    if (teacher_is_nearer(a, at, c)) sum += e * e / 2;
  }
  put_sum(a, r, weight_of(a, r), sum);
}
static __global__ void gauss_kl_grad_kernel(loss a) {
  M4N_WARP_ROW(r, a.rows);
  M4N_EACH_COLUMN(c, a.V) {
    const int64_t at = r * a.V + c;
    const float e = difference(a, a.z[at], a.zt[at], c) / (a.sigma[c] * a.sigma[c]);
    put(a, at, teacher_is_nearer(a, at, c) ? weight_of(a, r) * e : 0);
  }
}

/* ---- the ops --------------------------------------------------------------------------------------------------------------- */

#define RUN(kernel)                                                                                          \
  if (a.rows > 0) M4N_LAUNCH(s, kernel, row_blocks(a.rows), THREADS, a)

static loss kl_of(const float *zs, const float *zt, const uint8_t *mask, const float *weight,
                  const m4n_kl *shape) {
  loss a = {};
  a.z = zs, a.zt = zt, a.mask = mask, a.weight = weight, a.rows = shape->rows, a.V = shape->V;
  a.divergence = shape->divergence, a.temperature = shape->temperature, a.b = shape->b;
  return a;
}

extern "C" {

void m4n_cuda_softmax(m4n_stream *s, m4n_real *p, const m4n_real *z, const uint8_t *mask, int rows, int V,
                      m4n_real temperature) {
  loss a = {};
  a.out = p, a.z = z, a.mask = mask, a.rows = rows, a.V = V, a.temperature = temperature;
  RUN(softmax_kernel);
}
void m4n_cuda_xent_fwd(m4n_stream *s, m4n_real *out, const m4n_real *z, const int32_t *target,
                       const uint8_t *mask, const m4n_real *weight, int rows, int V) {
  loss a = {};
  a.out = out, a.z = z, a.target = target, a.mask = mask, a.weight = weight, a.rows = rows, a.V = V;
  RUN(xent_kernel);
}
void m4n_cuda_xent_bwd(m4n_stream *s, m4n_real *dz, const m4n_real *z, const int32_t *target,
                       const uint8_t *mask, const m4n_real *weight, int rows, int V, int add) {
  loss a = {};
  a.out = dz, a.z = z, a.target = target, a.mask = mask, a.weight = weight, a.rows = rows, a.V = V,
  a.add = add;
  RUN(xent_grad_kernel);
}
void m4n_cuda_kl_fwd(m4n_stream *s, m4n_real *out, const m4n_real *zs, const m4n_real *zt,
                     const uint8_t *mask, const m4n_real *weight, const m4n_kl *shape) {
  loss a = kl_of(zs, zt, mask, weight, shape);
  a.out = out;
  RUN(kl_kernel);
}
void m4n_cuda_kl_bwd(m4n_stream *s, m4n_real *dzs, const m4n_real *zs, const m4n_real *zt,
                     const uint8_t *mask, const m4n_real *weight, const m4n_kl *shape, int add) {
  loss a = kl_of(zs, zt, mask, weight, shape);
  a.out = dzs, a.add = add;
  RUN(kl_grad_kernel);
}
void m4n_cuda_huber_fwd(m4n_stream *s, m4n_real *out, const m4n_real *y, const m4n_real *target,
                        const m4n_real *period, const m4n_real *weight, int rows, int C, m4n_real delta) {
  loss a = {};
  a.out = out, a.z = y, a.goal = target, a.period = period, a.weight = weight, a.rows = rows, a.V = C,
  a.delta = delta;
  RUN(huber_kernel);
}
void m4n_cuda_huber_bwd(m4n_stream *s, m4n_real *dy, const m4n_real *y, const m4n_real *target,
                        const m4n_real *period, const m4n_real *weight, int rows, int C, m4n_real delta,
                        int add) {
  loss a = {};
  a.out = dy, a.z = y, a.goal = target, a.period = period, a.weight = weight, a.rows = rows, a.V = C,
  a.delta = delta;
  a.add = add;
  RUN(huber_grad_kernel);
}
void m4n_cuda_gauss_kl_fwd(m4n_stream *s, m4n_real *out, const m4n_real *y, const m4n_real *yt,
                           const m4n_real *sigma, const m4n_real *target, const m4n_real *period,
                           const m4n_real *weight, int rows, int C) {
  loss a = {};
  a.out = out, a.z = y, a.zt = yt, a.sigma = sigma, a.goal = target, a.period = period, a.weight = weight;
  a.rows = rows, a.V = C;
  RUN(gauss_kl_kernel);
}
void m4n_cuda_gauss_kl_bwd(m4n_stream *s, m4n_real *dy, const m4n_real *y, const m4n_real *yt,
                           const m4n_real *sigma, const m4n_real *target, const m4n_real *period,
                           const m4n_real *weight, int rows, int C, int add) {
  loss a = {};
  a.out = dy, a.z = y, a.zt = yt, a.sigma = sigma, a.goal = target, a.period = period, a.weight = weight;
  a.rows = rows, a.V = C, a.add = add;
  RUN(gauss_kl_grad_kernel);
}

} // extern "C"
