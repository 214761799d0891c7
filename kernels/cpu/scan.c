/* Selective scan: forward, and the step that goes on from a state (algorithms.md §5.2, §5.5). */
#include "kernels/cpu/scan.h"

/* One block of one batch. */
static void scan_block(const scan *a, int index) {
  const m4n_scan *n = &a->n;
  const int blocks = a->blocks, batch = index / (n->G * blocks), group = index / blocks % n->G;
  const int c0 = group * a->width + index % blocks * W;
  const size_t first = (size_t)batch * n->T;
  m4n_real *state = a->h ? a->h + (size_t)(a->slot ? a->slot[batch] : batch) * n->N * n->C + c0 : NULL;
  if (state) load_first(state, n->C, n->N);
  load_first(a->u + first * n->u_ld + c0, n->u_ld, n->T);
  load_first(a->dt + first * n->dt_ld + c0, n->dt_ld, n->T);
  load_first(a->b + first * n->b_ld + group * n->N, n->b_ld, n->T);
  load_first(a->c + first * n->c_ld + group * n->N, n->c_ld, n->T);
  if (a->z) load_first(a->z + first * n->z_ld + c0, n->z_ld, n->T);
  load_first(a->y + first * n->y_ld + c0, n->y_ld, n->T);
  block k;
  load_block(&k, a, c0, (group + 1) * a->width);
  LINES m4n_real h[N_MAX][W], decay[N_MAX][W], u[S][W], delta[S][W], gate[S][W], y[W];
  for (int i = 0; i < n->N; i++)
    if (a->resume)
      load(h[i], state + (size_t)i * n->C, k.width);
    else
      memset(h[i], 0, sizeof h[i]);
  for (int t0 = 0; t0 < n->T; t0 += S) {
    const int steps = m4n_min(S, n->T - t0);
    const size_t row = first + t0;
    if (a->saved) {
      m4n_real *to = a->saved + ((size_t)batch * a->segments + t0 / S) * n->N * n->C + k.c0;
      for (int i = 0; i < n->N; i++) store(to + (size_t)i * n->C, h[i], k.width);
    }
    // Apart from the recurrence, so that no step's functions wait for those of the step before.
    for (int t = 0; t < steps; t++) step_sizes(delta[t], a, &k, row + t);
    for (int t = 0; a->z && t < steps; t++) gates(gate[t], a, &k, row + t);
    for (int t = 0; t < steps; t++) {
      load_next(a, a->u + (row + t) * n->u_ld + k.c0, n->u_ld);
      load(u[t], a->u + (row + t) * n->u_ld + k.c0, k.width);
    }
    for (int t = 0; t < steps; t++) {
      m4n_real *to = a->y + (row + t) * n->y_ld + k.c0;
      decays(decay, &k, delta[t], n->N);
      advance(h, h, decay, y, &k, delta[t], u[t], a->b + (row + t) * n->b_ld + group * n->N,
              a->c + (row + t) * n->c_ld + group * n->N, n->N);
      if (a->z) M4N_EACH
      for (int c = 0; c < W; c++) y[c] *= gate[t][c];
      load_next(a, to, n->y_ld);
      store(to, y, k.width);
    }
  }
  if (state)
    for (int i = 0; i < n->N; i++) store(state + (size_t)i * n->C, h[i], k.width);
}

static void scan_tile(void *self, int index) {
  const scan *a = self;
  M4N_TILE_RANGE(int, begin, end, index, a->step, a->n.B * a->n.G * a->blocks);
  for (int i = begin; i < end; i++) scan_block(a, i);
}

static void run_forward(m4n_stream *s, scan *a) {
  m4n_cpu_run(s, m4n_ceil_div(a->n.B * a->n.G * a->blocks, a->step), scan_tile, a);
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
