/* Clipping and AdamW over contiguous parameters, in one pass (algorithms.md §11). */
#include "kernels/cuda/device.cuh"

static __global__ void clip_kernel(float *factor, const float *norm, float most) {
  *factor = !isfinite(*norm) ? 0 : *norm > most ? most / *norm : 1;
}

// m = β1 m + (1−β1) g;  v = β2 v + (1−β2) g²;  w −= lr·(decay·w + (m/correct1)/(√(v/correct2) + eps))
static __global__ void adamw_kernel(float *w, float *m, float *v, const float *g, const float *factor,
                                    const m4n_adamw_step *step, const m4n_adamw_group *groups,
                                    const uint8_t *group_of, int64_t n, m4n_adamw_rates rates) {
  const float f = factor ? *factor : 1;
  if (f == 0) return; // a gradient that is not finite: the weights stay
  const float scale1 = 1 / step->correct1, scale2 = 1 / step->correct2;
  const int64_t stride = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
    const m4n_adamw_group group = groups[group_of[i / M4N_ADAMW_CHUNK]];
    const float lr = step->lr * group.lr_scale, keep = 1 - lr * group.decay, gi = f * g[i];
    const float mi = m[i] + (1 - rates.beta1) * (gi - m[i]);
    const float vi = rates.beta2 * v[i] + (1 - rates.beta2) * gi * gi;
    m[i] = mi, v[i] = vi;
    w[i] = keep * w[i] - lr * (mi * scale1) / (sqrtf(vi * scale2) + rates.eps);
  }
}

extern "C" {

void m4n_cuda_clip_factor(m4n_stream *s, m4n_real *factor, const m4n_real *norm, m4n_real max_norm) {
  M4N_LAUNCH(s, clip_kernel, 1, 1, factor, norm, max_norm);
}
void m4n_cuda_adamw(m4n_stream *s, m4n_real *w, m4n_real *m, m4n_real *v, const m4n_real *g,
                    const m4n_real *factor, const m4n_adamw_step *step, const m4n_adamw_group *groups,
                    const uint8_t *group_of, int64_t n, const m4n_adamw_rates *rates) {
  if (n > 0)
    M4N_LAUNCH(s, adamw_kernel, blocks_for(n), THREADS, w, m, v, g, factor, step, groups, group_of, n,
               *rates);
}

} // extern "C"
