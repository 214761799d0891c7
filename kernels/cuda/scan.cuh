/* Selective scan (algorithms.md §5.2, §5.4), for short sequences and many of them: time is a loop, everything else runs
 * side by side.
 *
 * A channel's N states lie in the registers of P neighbouring lanes, STATES (8) of them in each; P = ⌈N/8⌉ rounded up to
 * a power of two. A block is one batch and up to SLOTS (64) channel slots: a tile of 64 channels of a wide group, or
 * several narrow groups, whose width is rounded up to a power of two so that sums over a group are sums over lanes. B and
 * C of a few steps are shared by the block, with zeros behind N, so that idle states stay 0.
 */
#ifndef M4N_KERNELS_CUDA_SCAN_CUH
#define M4N_KERNELS_CUDA_SCAN_CUH

#include "kernels/cuda/device.cuh"

enum {
  SEGMENT = M4N_SCAN_SEGMENT, /* steps between saved states */
  STATES = 8,                 /* of a lane */
  SLOTS = M4N_SCAN_TILE,      /* channels of a block */
  STEPS = 4,                  /* that are staged, and that the backward holds in registers, at once */
  SHARED = 256                /* states of the groups of a block, at most */
};

struct scan {
  m4n_scan n; /* distances filled in */
  float *y, *saved, *h;
  float *du, *ddt, *db, *dc, *dz, *part_A, *part_D, *part_bias, *part_b, *part_c;
  const float *dy, *u, *dt, *A, *b, *c, *D, *z, *bias, *h_saved;
  const int32_t *slot;
  int resume;          /* h holds the state to start from */
  int width, padded;   /* channels of a group; slots that it takes: a power of two, or SLOTS */
  int groups;          /* of a block */
  int tiles, segments; /* of a group; of T */
};

/* What a thread is. */
struct place {
  int batch, group, tile; /* group: of all; the block's first is group − local */
  int local, slot, part;  /* group within the block; slot and part of its states */
  int channel;            /* −1: none */
};
template <int P> __device__ inline place place_of(const scan &a) {
  place p;
  const int sets = (a.n.G + a.groups - 1) / a.groups;
  p.tile = blockIdx.x % a.tiles;
  const int set = blockIdx.x / a.tiles % sets;
  p.batch = blockIdx.x / a.tiles / sets;
  p.slot = threadIdx.x / P, p.part = threadIdx.x % P;
  p.local = p.slot / a.padded;
  p.group = set * a.groups + p.local;
  const int within = p.tile * SLOTS + p.slot % a.padded;
  p.channel = p.local < a.groups && p.group < a.n.G && within < a.width ? p.group * a.width + within : -1;
  return p;
}

/* B and C of `steps` steps from t0 on, for all groups of the block: shared[step][group][state]. All threads call. */
template <int P>
__device__ inline void stage(float *to, const float *from, int ld, const scan &a, const place &p, int t0,
                             int steps) {
  const int padded = P * STATES, first = p.group - p.local;
  for (int i = threadIdx.x; i < steps * a.groups * padded; i += SLOTS * P) {
    const int n = i % padded, g = i / padded % a.groups, t = i / padded / a.groups;
    const int64_t row = (int64_t)p.batch * a.n.T + t0 + t;
    to[i] = n < a.n.N && first + g < a.n.G ? from[row * ld + (int64_t)(first + g) * a.n.N + n] : 0;
  }
}

/* A[n] of the thread's states; 0 behind N, so that their decay is 1 and they stay 0. */
__device__ inline void load_rates(float *A, const scan &a, const place &p) {
  for (int i = 0; i < STATES; i++) {
    const int n = p.part * STATES + i;
    A[i] = p.channel >= 0 && n < a.n.N ? a.A[(int64_t)p.channel * a.n.N + n] : 0;
  }
}
/* States from or to [N][C]. */
__device__ inline void load_states(float *h, const float *from, const scan &a, const place &p) {
  for (int i = 0; i < STATES; i++) {
    const int n = p.part * STATES + i;
    h[i] = p.channel >= 0 && n < a.n.N ? from[(int64_t)n * a.n.C + p.channel] : 0;
  }
}
__device__ inline void store_states(float *to, const float *h, const scan &a, const place &p) {
  for (int i = 0; i < STATES; i++) {
    const int n = p.part * STATES + i;
    if (p.channel >= 0 && n < a.n.N) to[(int64_t)n * a.n.C + p.channel] = h[i];
  }
}

/* What a channel has at one step. */
struct step {
  float u, delta, raw; /* raw: dt + bias */
};
__device__ inline step load_step(const scan &a, const place &p, int t, float bias) {
  step s = {0, 0, 0};
  if (p.channel < 0 || t >= a.n.T) return s;
  const int64_t row = (int64_t)p.batch * a.n.T + t;
  s.u = a.u[row * a.n.u_ld + p.channel];
  s.raw = a.dt[row * a.n.dt_ld + p.channel] + bias;
  s.delta = a.n.softplus ? softplus(s.raw) : s.raw;
  return s;
}

/* h ← exp(Δ A) h + Δ B u; returns this lane's share of Σ C h. */
__device__ inline float advance(float *h, const float *A, const step &s, const float *b, const float *c) {
  const float in = s.delta * s.u;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < STATES; i++) {
    h[i] = expf(s.delta * A[i]) * h[i] + in * b[i];
    sum += h[i] * c[i];
  }
  return sum;
}

/* ---- on the host ------------------------------------------------------------------------------------------------------- */

static inline int lanes_of(int N) {
  int P = 1;
  while (P * STATES < N) P *= 2;
  return P;
}

static inline scan scan_of(const m4n_scan *shape) {
  scan a = {};
  a.n = *shape;
  m4n_scan *n = &a.n;
  const int states = n->G * n->N;
  n->u_ld = n->u_ld ? n->u_ld : n->C, n->dt_ld = n->dt_ld ? n->dt_ld : n->C;
  n->z_ld = n->z_ld ? n->z_ld : n->C, n->y_ld = n->y_ld ? n->y_ld : n->C;
  n->b_ld = n->b_ld ? n->b_ld : states, n->c_ld = n->c_ld ? n->c_ld : states;
  a.width = n->C / n->G;
  a.tiles = (int)ceil_div(a.width, SLOTS);
  a.segments = (int)ceil_div(n->T, SEGMENT);
  for (a.padded = 1; a.padded < a.width && a.padded < SLOTS;) a.padded *= 2;
  a.groups = SLOTS / a.padded;
  const int most = SHARED / (lanes_of(n->N) * STATES);
  if (a.groups > most) a.groups = most;
  if (a.groups > n->G) a.groups = n->G;
  return a;
}
static inline unsigned scan_blocks(const scan &a) {
  return (unsigned)(a.n.B * ceil_div(a.n.G, a.groups) * a.tiles);
}

/* Launches kernel<P> with the P of N. */
#define M4N_SCAN_LAUNCH(s, kernel, a)                                                                        \
  do {                                                                                                       \
    const unsigned scan_grid = scan_blocks(a);                                                               \
    if (scan_grid) switch (lanes_of((a).n.N)) {                                                              \
      case 1:                                                                                                \
        M4N_LAUNCH(s, kernel<1>, scan_grid, SLOTS, a);                                                       \
        break;                                                                                               \
      case 2:                                                                                                \
        M4N_LAUNCH(s, kernel<2>, scan_grid, SLOTS * 2, a);                                                   \
        break;                                                                                               \
      case 4:                                                                                                \
        M4N_LAUNCH(s, kernel<4>, scan_grid, SLOTS * 4, a);                                                   \
        break;                                                                                               \
      case 8:                                                                                                \
        M4N_LAUNCH(s, kernel<8>, scan_grid, SLOTS * 8, a);                                                   \
        break;                                                                                               \
      default:                                                                                               \
        M4N_LAUNCH(s, kernel<16>, scan_grid, SLOTS * 16, a);                                                 \
        break;                                                                                               \
      }                                                                                                      \
  } while (0)

#endif
