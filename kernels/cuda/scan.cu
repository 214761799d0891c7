/* Selective scan: forward, and the step that goes on from a state (algorithms.md §5.2, §5.5). */
#include "kernels/cuda/scan.cuh"

template <int P> static __global__ void __launch_bounds__(SLOTS *P) scan_kernel(scan a) {
  __shared__ float b[STEPS * SHARED], c[STEPS * SHARED];
  const place p = place_of<P>(a);
  const int padded = P * STATES, real = p.channel >= 0;
  float A[STATES], h[STATES];
  load_rates(A, a, p);
  const float D = real ? a.D[p.channel] : 0, bias = real && a.bias ? a.bias[p.channel] : 0;
  float *state = a.h ? a.h + (int64_t)(a.slot ? a.slot[p.batch] : p.batch) * a.n.N * a.n.C : NULL;
  if (a.resume)
    load_states(h, state, a, p);
  else
    for (int i = 0; i < STATES; i++) h[i] = 0;
  for (int t0 = 0; t0 < a.n.T; t0 += STEPS) {
    const int steps = t0 + STEPS < a.n.T ? STEPS : a.n.T - t0;
    // All loads of the next steps at once, so that they wait together.
    step at[STEPS];
    float z[STEPS];
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
      at[i] = load_step(a, p, t0 + i, bias);
      z[i] = a.z && real && i < steps ? a.z[((int64_t)p.batch * a.n.T + t0 + i) * a.n.z_ld + p.channel] : 0;
    }
    __syncthreads(); // the steps before may still be read
    stage<P>(b, a.b, a.n.b_ld, a, p, t0, steps);
    stage<P>(c, a.c, a.n.c_ld, a, p, t0, steps);
    __syncthreads();
    if (a.saved && t0 % SEGMENT == 0)
      store_states(a.saved + ((int64_t)p.batch * a.segments + t0 / SEGMENT) * a.n.N * a.n.C, h, a, p);
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
      if (i >= steps) break;
      // Slots without a group read the last group's; they have u = 0 and write nothing.
      const int group = p.local < a.groups ? p.local : a.groups - 1;
      const int from = (i * a.groups + group) * padded + p.part * STATES;
      const float sum = lanes_sum(advance(h, A, at[i], b + from, c + from), P) + D * at[i].u;
      if (real && p.part == 0)
        a.y[((int64_t)p.batch * a.n.T + t0 + i) * a.n.y_ld + p.channel] = a.z ? sum * silu(z[i]) : sum;
    }
  }
  if (state) store_states(state, h, a, p);
}

extern "C" {

void m4n_cuda_scan_fwd(m4n_stream *s, m4n_real *y, m4n_real *saved, m4n_real *h_last, const m4n_real *u,
                       const m4n_real *dt, const m4n_real *A, const m4n_real *b, const m4n_real *c,
                       const m4n_real *D, const m4n_real *z, const m4n_real *bias, const m4n_scan *shape) {
  scan a = scan_of(shape);
  a.y = y, a.saved = saved, a.h = h_last;
  a.u = u, a.dt = dt, a.A = A, a.b = b, a.c = c, a.D = D, a.z = z, a.bias = bias;
  M4N_SCAN_LAUNCH(s, scan_kernel, a);
}
void m4n_cuda_scan_step(m4n_stream *s, m4n_real *y, m4n_real *h, const m4n_real *u, const m4n_real *dt,
                        const m4n_real *A, const m4n_real *b, const m4n_real *c, const m4n_real *D,
                        const m4n_real *z, const m4n_real *bias, const int32_t *slot, const m4n_scan *shape) {
  scan a = scan_of(shape);
  a.y = y, a.h = h, a.resume = 1, a.slot = slot;
  a.u = u, a.dt = dt, a.A = A, a.b = b, a.c = c, a.D = D, a.z = z, a.bias = bias;
  M4N_SCAN_LAUNCH(s, scan_kernel, a);
}

} // extern "C"
