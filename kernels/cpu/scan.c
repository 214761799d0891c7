/* Selective scan: forward, and the step that goes on from a state (algorithms.md §5.2, §5.5). */
#include "kernels/cpu/scan.h"

/* A tile is a batch and a block. */
static void scan_tile(void *self, int index) {
  scan *a = self;
  const m4n_scan *n = &a->n;
  const int blocks = m4n_ceil_div(a->width, W), batch = index / (n->G * blocks),
            group = index / blocks % n->G;
  block k;
  load_block(&k, a, group * a->width + index % blocks * W, (group + 1) * a->width);
  m4n_real h[N_MAX][W], decay[N_MAX][W], u[W], delta[W], y[W], z[W];
  m4n_real *state = a->h ? a->h + (size_t)(a->slot ? a->slot[batch] : batch) * n->N * n->C + k.c0 : NULL;
  for (int i = 0; i < n->N; i++)
    if (a->resume)
      load(h[i], state + (size_t)i * n->C, k.width);
    else
      memset(h[i], 0, sizeof h[i]);
  for (int t = 0; t < n->T; t++) {
    const size_t row = (size_t)batch * n->T + t;
    if (a->saved && t % S == 0) {
      m4n_real *to = a->saved + ((size_t)batch * a->segments + t / S) * n->N * n->C + k.c0;
      for (int i = 0; i < n->N; i++) store(to + (size_t)i * n->C, h[i], k.width);
    }
    load_ahead(a->u + row * n->u_ld + k.c0, n->u_ld);
    load_ahead(a->dt + row * n->dt_ld + k.c0, n->dt_ld);
    if (a->z) load_ahead(a->z + row * n->z_ld + k.c0, n->z_ld);
    load_ahead(a->y + row * n->y_ld + k.c0, n->y_ld);
    load(u, a->u + row * n->u_ld + k.c0, k.width);
    step_sizes(delta, a, &k, row);
    decays(decay, &k, delta, n->N);
    advance(h, h, decay, y, &k, delta, u, a->b + row * n->b_ld + group * n->N,
            a->c + row * n->c_ld + group * n->N, n->N);
    if (a->z) {
      load(z, a->z + row * n->z_ld + k.c0, k.width);
      M4N_EACH
      for (int c = 0; c < W; c++) y[c] *= m4n_silu(z[c]);
    }
    store(a->y + row * n->y_ld + k.c0, y, k.width);
  }
  if (state)
    for (int i = 0; i < n->N; i++) store(state + (size_t)i * n->C, h[i], k.width);
}

static void run_forward(m4n_stream *s, scan *a) {
  m4n_cpu_run(s, a->n.B * a->n.G * m4n_ceil_div(a->width, W), scan_tile, a);
}

void M4N_CPU(scan_fwd)(m4n_stream *s, m4n_real *y, m4n_real *saved, m4n_real *h_last, const m4n_real *u,
                       const m4n_real *dt, const m4n_real *A, const m4n_real *b, const m4n_real *c,
                       const m4n_real *D, const m4n_real *z, const m4n_real *bias, const m4n_scan *shape) {
  scan a = scan_of(shape);
  a.y = y, a.saved = saved, a.h = h_last;
  a.u = u, a.dt = dt, a.A = A, a.b = b, a.c = c, a.D = D, a.z = z, a.bias = bias;
  run_forward(s, &a);
}

void M4N_CPU(scan_step)(m4n_stream *s, m4n_real *y, m4n_real *h, const m4n_real *u, const m4n_real *dt,
                        const m4n_real *A, const m4n_real *b, const m4n_real *c, const m4n_real *D,
                        const m4n_real *z, const m4n_real *bias, const int32_t *slot, const m4n_scan *shape) {
  scan a = scan_of(shape);
  a.y = y, a.h = h, a.resume = 1, a.slot = slot;
  a.u = u, a.dt = dt, a.A = A, a.b = b, a.c = c, a.D = D, a.z = z, a.bias = bias;
  run_forward(s, &a);
}
