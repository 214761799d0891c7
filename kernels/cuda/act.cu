/* Activations, elementwise (algorithms.md §1, §5.7). */
#include "kernels/cuda/device.cuh"

struct silu_of {
  __device__ float operator()(const float *a) const { return silu(a[0]); }
};
struct silu_back {
  __device__ float operator()(const float *a) const { return a[0] * silu_grad(a[1]); }
};
__device__ static inline float normal_cdf(float x) {
  return 0.5f * erfcf(-0.707106781f * x);
}
// gelu(x) = x·Φ(x), gelu'(x) = Φ(x) + x·φ(x)
struct gelu_of {
  __device__ float operator()(const float *a) const { return a[0] * normal_cdf(a[0]); }
};
struct gelu_back {
  __device__ float operator()(const float *a) const {
    const float x = a[1];
    return a[0] * (normal_cdf(x) + x * 0.3989422804f * expf(-0.5f * x * x));
  }
};
struct leaky_of {
  float slope;
  __device__ float operator()(const float *a) const { return a[0] > 0 ? a[0] : slope * a[0]; }
};
struct leaky_back {
  float slope;
  __device__ float operator()(const float *a) const { return a[1] > 0 ? a[0] : slope * a[0]; }
};
struct tanh_of {
  __device__ float operator()(const float *a) const { return tanhf(a[0]); }
};
struct tanh_back {
  __device__ float operator()(const float *a) const { return a[0] * (1 - a[1] * a[1]); }
};
// A = −max(exp(a_log), 1e-4); dA/da_log = A, 0 where the bound holds it.
#define SMALLEST_RATE 1e-4f
struct neg_exp_of {
  __device__ float operator()(const float *a) const { return -fmaxf(expf(a[0]), SMALLEST_RATE); }
};
struct neg_exp_back {
  __device__ float operator()(const float *a) const {
    return a[0] + (a[2] == -SMALLEST_RATE ? 0 : a[1] * a[2]);
  }
};

extern "C" {

void m4n_cuda_silu_fwd(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n) {
  map(s, y, inputs<1>{{x}}, n, silu_of());
}
void m4n_cuda_silu_bwd(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *x, int64_t n) {
  map(s, dx, inputs<2>{{dy, x}}, n, silu_back());
}
void m4n_cuda_gelu_fwd(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n) {
  map(s, y, inputs<1>{{x}}, n, gelu_of());
}
void m4n_cuda_gelu_bwd(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *x, int64_t n) {
  map(s, dx, inputs<2>{{dy, x}}, n, gelu_back());
}
void m4n_cuda_leaky_relu_fwd(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n, m4n_real slope) {
  map(s, y, inputs<1>{{x}}, n, leaky_of{slope});
}
void m4n_cuda_leaky_relu_bwd(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *x, int64_t n,
                             m4n_real slope) {
  map(s, dx, inputs<2>{{dy, x}}, n, leaky_back{slope});
}
void m4n_cuda_tanh_fwd(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n) {
  map(s, y, inputs<1>{{x}}, n, tanh_of());
}
void m4n_cuda_tanh_bwd(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *y, int64_t n) {
  map(s, dx, inputs<2>{{dy, y}}, n, tanh_back());
}
void m4n_cuda_neg_exp_fwd(m4n_stream *s, m4n_real *A, const m4n_real *a_log, int64_t n) {
  map(s, A, inputs<1>{{a_log}}, n, neg_exp_of());
}
void m4n_cuda_neg_exp_bwd(m4n_stream *s, m4n_real *da_log, const m4n_real *dA, const m4n_real *A, int64_t n) {
  map(s, da_log, inputs<3>{{da_log, dA, A}}, n, neg_exp_back());
}

} // extern "C"

/* ---- SwiGLU: m = silu(a)·b by rows, since a and b may be parts of wider ones ----------------------------------------- */

static __global__ void swiglu_kernel(float *m, const float *a, const float *b, int rows, int C, int64_t ld) {
  M4N_WARP_ROW(row, rows);
  M4N_EACH_COLUMN(c, C) m[row * C + c] = silu(a[row * ld + c]) * b[row * ld + c];
}
// da = dm·b·silu'(a), db = dm·silu(a)
static __global__ void swiglu_grad_kernel(float *da, float *db, const float *dm, const float *a,
                                          const float *b, int rows, int C, int64_t ld) {
  M4N_WARP_ROW(row, rows);
  M4N_EACH_COLUMN(c, C) {
    const int64_t at = row * ld + c;
    const float ac = a[at], bc = b[at], d = dm[row * C + c], g = sigmoid(ac);
    da[at] = d * bc * (g * (1 + ac * (1 - g)));
    db[at] = d * (ac * g);
  }
}

/* Four columns at a time. */
static __global__ void swiglu4_kernel(float4 *m, const float4 *a, const float4 *b, int rows, int C,
                                      int64_t ld) {
  M4N_WARP_ROW(row, rows);
  M4N_EACH_COLUMN(c, C) {
    const float4 u = a[row * ld + c], v = b[row * ld + c];
    float4 out;
    out.x = silu(u.x) * v.x, out.y = silu(u.y) * v.y, out.z = silu(u.z) * v.z, out.w = silu(u.w) * v.w;
    m[row * C + c] = out;
  }
}

extern "C" {

void m4n_cuda_swiglu_fwd(m4n_stream *s, m4n_real *m, const m4n_real *a, const m4n_real *b, int rows, int C,
                         int ab_ld) {
  const int ld = ab_ld ? ab_ld : C;
  if (C % 4 == 0 && ld % 4 == 0 && aligned16(m) && aligned16(a) && aligned16(b))
    M4N_LAUNCH(s, swiglu4_kernel, row_blocks(rows), THREADS, (float4 *)m, (const float4 *)a,
               (const float4 *)b, rows, C / 4, (int64_t)ld / 4);
  else
    M4N_LAUNCH(s, swiglu_kernel, row_blocks(rows), THREADS, m, a, b, rows, C, (int64_t)ld);
}
void m4n_cuda_swiglu_bwd(m4n_stream *s, m4n_real *da, m4n_real *db, const m4n_real *dm, const m4n_real *a,
                         const m4n_real *b, int rows, int C, int ab_ld) {
  M4N_LAUNCH(s, swiglu_grad_kernel, row_blocks(rows), THREADS, da, db, dm, a, b, rows, C,
             (int64_t)(ab_ld ? ab_ld : C));
}

} // extern "C"
