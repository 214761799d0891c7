/* Selective scan, backward (algorithms.md §5.4). From the states saved at every 16th step, a segment is run twice more:
 * once to have the states at every 4th step in registers, then four steps at a time, forward and in reverse. */
#include "kernels/cuda/scan.cuh"

enum { SHARES = SEGMENT / STEPS, SUMS = 2 * STATES };

/* sum[] over the channels of a group, which are `lanes` (a power of two) slots, P lanes apart. Each exchange halves what
 * a lane still adds up: afterwards it holds `left` sums, of which the first is number `base`. */
template <int P> __device__ static inline void group_sums(float *sum, int lanes, int *base, int *left) {
  const int lane = threadIdx.x % WARP;
  *base = 0, *left = SUMS;
#pragma unroll
  for (int level = 0, half = SUMS / 2; level < 4; level++, half /= 2) {
    const int apart = P << level;
    if (apart >= P * lanes) break;
    const bool upper = lane & apart;
#pragma unroll
    for (int i = 0; i < half; i++) {
      const float give = upper ? sum[i] : sum[i + half], keep = upper ? sum[i + half] : sum[i];
      sum[i] = keep + __shfl_xor_sync(ALL_LANES, give, apart);
    }
    *base += upper ? half : 0, *left = half;
  }
  if (lanes > 16) sum[0] += __shfl_xor_sync(ALL_LANES, sum[0], P * 16); // both lanes have the sum now
}

template <int P> static __global__ void __launch_bounds__(SLOTS *P) scan_grad_kernel(scan a) {
  enum { PADDED = P * STATES, WARP_SLOTS = WARP / P, WARPS = SLOTS / WARP_SLOTS };
  __shared__ float b[STEPS * SHARED], c[STEPS * SHARED];
  __shared__ float of_warp[WARPS][2 * PADDED]; // sums of groups wider than a warp
  const place p = place_of<P>(a);
  const int real = p.channel >= 0, N = a.n.N, C = a.n.C;
  const int group = p.local < a.groups ? p.local : a.groups - 1;
  const int lanes = a.padded < WARP_SLOTS ? a.padded : WARP_SLOTS; // slots of a group in a warp
  float A[STATES], eta[STATES], dA[STATES], dD = 0, dbias = 0;
  load_rates(A, a, p);
  for (int i = 0; i < STATES; i++) eta[i] = dA[i] = 0;
  const float D = real ? a.D[p.channel] : 0, bias = real && a.bias ? a.bias[p.channel] : 0;
  // B̄ and C̄ go straight to the result where this tile is the whole group, else to scratch.
  const int64_t rows = (int64_t)a.n.B * a.n.T, states = (int64_t)a.n.G * N;
  float *db = a.tiles == 1 ? a.db : a.part_b + p.tile * rows * states;
  float *dc = a.tiles == 1 ? a.dc : a.part_c + p.tile * rows * states;
  const int64_t b_ld = a.tiles == 1 ? a.n.b_ld : states, c_ld = a.tiles == 1 ? a.n.c_ld : states;

  for (int segment = a.segments - 1; segment >= 0; segment--) {
    const int t0 = segment * SEGMENT, end = t0 + SEGMENT < a.n.T ? t0 + SEGMENT : a.n.T;
    const int shares = (end - t0 + STEPS - 1) / STEPS;
    // States in front of every fourth step, outside the registers: they are read once in sixteen.
    float mark[SHARES][STATES], h[STATES];
    load_states(h, a.h_saved + ((int64_t)p.batch * a.segments + segment) * N * C, a, p);
#pragma unroll 1
    for (int i = 0; i < shares; i++) {
      for (int j = 0; j < STATES; j++) mark[i][j] = h[j];
      if (i == shares - 1) break;
      __syncthreads();
      stage<P>(b, a.b, a.n.b_ld, a, p, t0 + i * STEPS, STEPS);
      __syncthreads();
      for (int j = 0; j < STEPS; j++) {
        const float *from = b + (j * a.groups + group) * PADDED + p.part * STATES;
        advance(h, A, load_step(a, p, t0 + i * STEPS + j, bias), from, from);
      }
    }
#pragma unroll 1
    for (int share = shares - 1; share >= 0; share--) {
      const int first = t0 + share * STEPS, steps = first + STEPS < end ? STEPS : end - first;
      __syncthreads();
      stage<P>(b, a.b, a.n.b_ld, a, p, first, steps);
      stage<P>(c, a.c, a.n.c_ld, a, p, first, steps);
      __syncthreads();
      // Forward once more: the states behind each of the four steps.
      step at[STEPS];
      float after[STEPS][STATES], dy[STEPS];
      for (int j = 0; j < STATES; j++) h[j] = mark[share][j];
#pragma unroll
      for (int i = 0; i < STEPS; i++) {
        at[i] = load_step(a, p, i < steps ? first + i : a.n.T, bias);
        dy[i] = 0;
        const int from = ((i < steps ? i : 0) * a.groups + group) * PADDED + p.part * STATES;
        float y = 0;
        if (i < steps) y = advance(h, A, at[i], b + from, c + from);
        for (int j = 0; j < STATES; j++) after[i][j] = h[j];
        y = lanes_sum(y, P) + D * at[i].u;
        const int64_t row = (int64_t)p.batch * a.n.T + first + i;
        if (real && i < steps) dy[i] = a.dy[row * a.n.y_ld + p.channel];
        if (!a.z || !real || i >= steps) continue;
        // Through the gate: z̄ = ō·y·silu'(z), ȳ = ō·silu(z)
        const float z = a.z[row * a.n.z_ld + p.channel];
        if (p.part == 0) a.dz[row * a.n.z_ld + p.channel] = dy[i] * y * silu_grad(z);
        dy[i] *= silu(z);
      }
      // κ = η + ȳ C;  C̄ += ȳ h_t;  B̄ += κ Δ u;  s = κ h_{t−1} α;  Ā += s Δ;  Δ̄ += s A + κ B u;  ū += κ Δ B;  η = κ α
#pragma unroll
      for (int i = STEPS - 1; i >= 0; i--) {
        if (i >= steps) continue;
        const float *bt = b + (i * a.groups + group) * PADDED + p.part * STATES;
        const float *ct = c + (i * a.groups + group) * PADDED + p.part * STATES;
        float sum[SUMS], by_A = 0, by_b = 0;
        for (int j = 0; j < STATES; j++) {
          const float before = i ? after[i - 1][j] : mark[share][j];
          const float kappa = eta[j] + dy[i] * ct[j], past = kappa * expf(at[i].delta * A[j]),
                      s = past * before;
          sum[j] = kappa * at[i].delta * at[i].u;
          sum[STATES + j] = dy[i] * after[i][j];
          dA[j] += s * at[i].delta;
          eta[j] = past;
          by_A += s * A[j], by_b += kappa * bt[j];
        }
        by_A = lanes_sum(by_A, P), by_b = lanes_sum(by_b, P);
        const int64_t row = (int64_t)p.batch * a.n.T + first + i;
        const float slope = a.n.softplus ? sigmoid(at[i].raw) : 1, ddt = (by_A + by_b * at[i].u) * slope;
        dD += dy[i] * at[i].u, dbias += ddt;
        if (real && p.part == 0) {
          a.du[row * a.n.u_ld + p.channel] = dy[i] * D + by_b * at[i].delta;
          a.ddt[row * a.n.dt_ld + p.channel] = ddt;
        }
        // B̄ and C̄: sums over the slots of a group, in a warp, then over its warps.
        int base, left;
        group_sums<P>(sum, lanes, &base, &left);
        const int first_of = p.slot % lanes < 16; // of 32 slots, two lanes hold every sum
        const int wide = a.padded > WARP_SLOTS, warp = p.slot / WARP_SLOTS;
        if (wide) __syncthreads();
#pragma unroll
        for (int j = 0; j < SUMS; j++) {
          const int number = base + j, n = p.part * STATES + number % STATES;
          if (j >= left || !first_of) continue;
          if (wide)
            of_warp[warp][number / STATES * PADDED + n] = sum[j];
          else if (n < N && p.local < a.groups && p.group < a.n.G)
            (number < STATES ? db + row * b_ld : dc + row * c_ld)[(int64_t)p.group * N + n] = sum[j];
        }
        if (!wide) continue;
        __syncthreads();
        const int warps = a.padded / WARP_SLOTS;
        for (int k = threadIdx.x; k < a.groups * 2 * PADDED; k += SLOTS * P) {
          const int g = k / (2 * PADDED), n = k % PADDED, of_c = k % (2 * PADDED) >= PADDED;
          const int to = p.group - p.local + g;
          float total = 0;
          for (int w = 0; w < warps; w++) total += of_warp[g * warps + w][k % (2 * PADDED)];
          if (n < N && to < a.n.G) (of_c ? dc + row * c_ld : db + row * b_ld)[(int64_t)to * N + n] = total;
        }
      }
    }
  }
  if (!real) return;
  const int64_t at = (int64_t)p.batch * C + p.channel;
  for (int j = 0; j < STATES; j++)
    if (p.part * STATES + j < N) a.part_A[at * N + p.part * STATES + j] = dA[j];
  if (p.part == 0) a.part_D[at] = dD, a.part_bias[at] = dbias;
}

/* B̄ and C̄ of wide groups: sums over the tiles of a group. */
static __global__ void scan_join_kernel(float *to, const float *part, int64_t rows, int width, int64_t ld,
                                        int tiles) {
  const int64_t all = rows * width, stride = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += stride) {
    float sum = 0;
    for (int tile = 0; tile < tiles; tile++) sum += part[tile * all + i];
    to[i / width * ld + i % width] = sum;
  }
}

extern "C" void m4n_cuda_scan_bwd(m4n_stream *s, m4n_real *du, m4n_real *ddt, m4n_real *dA, m4n_real *db,
                                  m4n_real *dc, m4n_real *dD, m4n_real *dz, m4n_real *dbias,
                                  m4n_real *scratch, const m4n_real *dy, const m4n_real *saved,
                                  const m4n_real *u, const m4n_real *dt, const m4n_real *A, const m4n_real *b,
                                  const m4n_real *c, const m4n_real *D, const m4n_real *z,
                                  const m4n_real *bias, const m4n_scan *shape) {
  scan a = scan_of(shape);
  const int64_t channels = (int64_t)shape->B * shape->C, rows = (int64_t)shape->B * shape->T;
  const int width = shape->G * shape->N;
  if (rows < 1) return;
  a.du = du, a.ddt = ddt, a.db = db, a.dc = dc, a.dz = dz, a.dy = dy, a.h_saved = saved;
  a.u = u, a.dt = dt, a.A = A, a.b = b, a.c = c, a.D = D, a.z = z, a.bias = bias;
  a.part_D = scratch, a.part_bias = a.part_D + channels, a.part_A = a.part_bias + channels;
  a.part_b = a.part_A + channels * shape->N, a.part_c = a.part_b + a.tiles * rows * width;
  M4N_SCAN_LAUNCH(s, scan_grad_kernel, a);
  // What belongs to parameters sums over batches.
  m4n_cuda_column_sums(s, dA, a.part_A, shape->B, shape->C * shape->N, (int64_t)shape->C * shape->N);
  m4n_cuda_column_sums(s, dD, a.part_D, shape->B, shape->C, shape->C);
  if (dbias) m4n_cuda_column_sums(s, dbias, a.part_bias, shape->B, shape->C, shape->C);
  if (a.tiles == 1) return;
  M4N_LAUNCH(s, scan_join_kernel, blocks_for(rows * width), THREADS, db, a.part_b, rows, width, a.n.b_ld,
             a.tiles);
  M4N_LAUNCH(s, scan_join_kernel, blocks_for(rows * width), THREADS, dc, a.part_c, rows, width, a.n.c_ld,
             a.tiles);
}
