/* Clipping and AdamW over contiguous parameters (algorithms.md §11). */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

void M4N_CPU(clip_factor)(m4n_stream *s, m4n_real *factor, const m4n_real *norm, m4n_real max_norm) {
  (void)s;
  *factor = !isfinite(*norm) ? 0 : *norm > max_norm ? max_norm / *norm : 1;
}

typedef struct adamw {
  m4n_real *w, *m, *v;
  const m4n_real *g;
  const m4n_adamw_group *groups;
  const uint8_t *group_of;
  int64_t n;
  m4n_real factor, lr, beta1, beta2, eps, scale1, scale2;
} adamw;

// m = β1 m + (1−β1) g;  v = β2 v + (1−β2) g²;  w −= lr·(decay·w + (m/correct1)/(√(v/correct2) + eps))
static void adamw_tile(void *self, int index) {
  adamw *a = self;
  M4N_TILE_RANGE(int64_t, begin, end, index, M4N_TILE, a->n);
  for (int64_t at = begin; at < end; at += M4N_ADAMW_CHUNK) {
    const m4n_adamw_group *group = &a->groups[a->group_of[at / M4N_ADAMW_CHUNK]];
    const m4n_real lr = a->lr * group->lr_scale, keep = 1 - lr * group->decay;
    const int count = (int)(end - at < M4N_ADAMW_CHUNK ? end - at : M4N_ADAMW_CHUNK);
    m4n_real *w = a->w + at, *m = a->m + at, *v = a->v + at;
    const m4n_real *g = a->g + at;
    M4N_EACH
    for (int i = 0; i < count; i++) {
      const m4n_real gi = a->factor * g[i];
      m[i] += (1 - a->beta1) * (gi - m[i]);
      v[i] = a->beta2 * v[i] + (1 - a->beta2) * gi * gi;
      w[i] = keep * w[i] - lr * (m[i] * a->scale1) / (m4n_sqrt(v[i] * a->scale2) + a->eps);
    }
  }
}

void M4N_CPU(adamw)(m4n_stream *s, m4n_real *w, m4n_real *m, m4n_real *v, const m4n_real *g,
                    const m4n_real *factor, const m4n_adamw_step *step, const m4n_adamw_group *groups,
                    const uint8_t *group_of, int64_t n, const m4n_adamw_rates *rates) {
  adamw a = {.w = w, .m = m, .v = v, .g = g, .groups = groups, .group_of = group_of, .n = n};
  a.factor = factor ? *factor : 1;
  if (a.factor == 0) return; // a gradient that is not finite: the weights stay
  a.lr = step->lr, a.scale1 = 1 / step->correct1, a.scale2 = 1 / step->correct2;
  a.beta1 = rates->beta1, a.beta2 = rates->beta2, a.eps = rates->eps;
  m4n_cpu_run(s, m4n_tiles(n), adamw_tile, &a);
}
