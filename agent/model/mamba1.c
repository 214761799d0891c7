/* Variant B, the standard Mamba-1 mixer: x + W_o·(scan ⊙ silu(z)), with Δ, B and C made from the conv's output and
 * shared by all channels (algorithms.md §5.3); Hugging Face's MambaModel. */
#include "agent/model/block.h"
#include "agent/model/fields.h"
#include "agent/model/ssm.h"
#include "kernels/base/status.h"

#define PARAMETERS(VECTOR, PRODUCT)                                                                          \
  VECTOR(norm, "norm.weight", m4n_start_at(1), d)                                                            \
  PRODUCT(in, d, 0, {"mixer.in_proj", 2 * C, m4n_fan_in(d), false, m4n_start_at(0)})                         \
  VECTOR(conv, "mixer.conv1d.weight", m4n_fan_in(K), C, 1, K)                                                \
  VECTOR(conv_bias, "mixer.conv1d.bias", m4n_fan_in(K), C)                                                   \
  PRODUCT(x, C, 0, {"mixer.x_proj", R + 2 * N, m4n_fan_in(C), false, m4n_start_at(0)})                       \
  PRODUCT(dt, R, R + 2 * N, {"mixer.dt_proj", C, m4n_fan_in(R), false, m4n_start_at(0)})                     \
  VECTOR(dt_bias, "mixer.dt_proj.bias", ((m4n_init){M4N_START_DT_BIAS, 0}), C)                               \
  VECTOR(a_log, "mixer.A_log", ((m4n_init){M4N_START_A_LOG, 0}), C, N)                                       \
  VECTOR(D, "mixer.D", m4n_start_at(1), C)                                                                   \
  PRODUCT(out, C, 0, {"mixer.out_proj", d, m4n_fan_in_times(C, at->write), false, m4n_start_at(0)})

typedef struct mamba1 {
  m4n_ssm ssm;
  M4N_FIELDS(PARAMETERS)
} mamba1;

static int declare(m4n_block **block, m4n_builder *at, const m4n_backbone *config) {
  mamba1 *b = m4n_arena_alloc(at->arena, sizeof *b);
  if (!b) return M4N_ENOMEM;
  *block = &b->ssm.base;
  *b = (mamba1){.ssm = m4n_ssm_of(&m4n_mamba1_block, config)};
  const int d = config->d, C = b->ssm.C, N = b->ssm.N, R = b->ssm.R, K = b->ssm.K;
  M4N_DECLARE(PARAMETERS)
  return M4N_OK;
}

typedef struct work {
  m4n_real *a, *r;  // normed input [rows][d], [rows]
  m4n_real *in;     // [rows][x|z]
  m4n_real *p;      // [rows][δ|B|C]
  m4n_real *u, *dt; // conv's output, δ before softplus, [rows][C]
  m4n_real *A;      // −exp(A_log) [C][N]
  m4n_real *saved;  // states at the segments' starts
  m4n_real *y;      // gated [rows][C]
} work;

static m4n_scan scan_of(const mamba1 *b, int B, int T) {
  return (m4n_scan){.B = B,
                    .T = T,
                    .C = b->ssm.C,
                    .N = b->ssm.N,
                    .G = 1,
                    .u_ld = b->ssm.C,
                    .dt_ld = b->ssm.C,
                    .b_ld = b->x.out,
                    .c_ld = b->x.out,
                    .z_ld = b->in.out,
                    .y_ld = b->ssm.C,
                    .softplus = 1};
}

static size_t place(const mamba1 *b, m4n_layout *at, work *w, int B, int T) {
  const size_t rows = (size_t)B * (size_t)T, C = (size_t)b->ssm.C;
  const m4n_scan shape = scan_of(b, B, T);
  w->a = m4n_place(at, rows * (size_t)b->ssm.base.d);
  w->r = m4n_place(at, rows);
  w->in = m4n_place(at, rows * (size_t)b->in.out);
  w->p = m4n_place(at, rows * (size_t)b->x.out);
  w->u = m4n_place(at, rows * C);
  w->dt = m4n_place(at, rows * C);
  w->A = m4n_place(at, C * (size_t)b->ssm.N);
  w->saved = m4n_place(at, m4n_scan_saved(&shape));
  w->y = m4n_place(at, rows * C);
  return at->used;
}

static size_t work_bytes(const m4n_block *block, int B, int T) {
  work w;
  return place((const mamba1 *)block, &(m4n_layout){0}, &w, B, T);
}

typedef struct scratch {
  m4n_real *dy, *du, *ddt, *din, *dp, *dA, *scan, *da;
} scratch;

static size_t place_scratch(const mamba1 *b, m4n_layout *at, scratch *g, int B, int T) {
  const size_t rows = (size_t)B * (size_t)T, C = (size_t)b->ssm.C;
  const m4n_scan shape = scan_of(b, B, T);
  g->dy = m4n_place(at, rows * C);
  g->du = m4n_place(at, rows * C);
  g->ddt = m4n_place(at, rows * C);
  g->din = m4n_place(at, rows * (size_t)b->in.out);
  g->dp = m4n_place(at, rows * (size_t)b->x.out);
  g->dA = m4n_place(at, C * (size_t)b->ssm.N);
  g->scan = m4n_place(at, m4n_scan_scratch(&shape));
  g->da = m4n_place(at, rows * (size_t)b->ssm.base.d);
  return at->used;
}

static size_t scratch_bytes(const m4n_block *block, int B, int T) {
  scratch g;
  return place_scratch((const mamba1 *)block, &(m4n_layout){0}, &g, B, T);
}

// x and z of the normed input, and A = −exp(A_log).
static void project(const mamba1 *b, const m4n_pass *pass, const m4n_real *x, const work *w) {
  m4n_stream *s = pass->s;
  const int rows = pass->B * pass->T;
  m4n_rmsnorm_fwd(s, w->a, pass->train ? w->r : NULL, x, b->norm->w, rows, b->ssm.base.d, b->ssm.eps);
  m4n_dense_forward(&b->in, pass, w->in, w->a, rows, 0, NULL);
  m4n_neg_exp_fwd(s, w->A, b->a_log->w, (int64_t)b->ssm.C * b->ssm.N);
}

// δ, B and C of the conv's output.
static void select(const mamba1 *b, const m4n_pass *pass, const work *w) {
  const int rows = pass->B * pass->T;
  m4n_dense_forward(&b->x, pass, w->p, w->u, rows, 0, NULL);
  m4n_dense_forward(&b->dt, pass, w->dt, w->p, rows, 0, NULL);
}

static void forward(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x,
                    void *memory) {
  const mamba1 *b = (const mamba1 *)block;
  m4n_stream *s = pass->s;
  work w;
  place(b, &(m4n_layout){.base = memory}, &w, pass->B, pass->T);
  const m4n_conv conv = m4n_ssm_conv(&b->ssm, pass->B, pass->T, b->in.out);
  const m4n_scan scan = scan_of(b, pass->B, pass->T);
  project(b, pass, x, &w);
  m4n_conv_fwd(s, w.u, w.in, b->conv->w, b->conv_bias->w, &conv);
  select(b, pass, &w);
  m4n_scan_fwd(s, w.y, pass->train ? w.saved : NULL, NULL, w.u, w.dt, w.A, w.p + b->ssm.R,
               w.p + b->ssm.R + b->ssm.N, b->D->w, w.in + b->ssm.C, b->dt_bias->w, &scan);
  m4n_ssm_add_output(&b->out, pass, y, x, w.y);
}

static void decode(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x, void *state,
                   void *memory) {
  const mamba1 *b = (const mamba1 *)block;
  m4n_stream *s = pass->s;
  work w;
  place(b, &(m4n_layout){.base = memory}, &w, pass->B, pass->T);
  const m4n_ssm_state past = m4n_ssm_state_at(&b->ssm, state);
  const m4n_conv conv = m4n_ssm_conv(&b->ssm, pass->B, pass->T, b->in.out);
  const m4n_scan scan = scan_of(b, pass->B, pass->T);
  project(b, pass, x, &w);
  m4n_conv_step(s, w.u, past.x, w.in, b->conv->w, b->conv_bias->w, pass->slot, &conv);
  select(b, pass, &w);
  m4n_scan_step(s, w.y, past.h, w.u, w.dt, w.A, w.p + b->ssm.R, w.p + b->ssm.R + b->ssm.N, b->D->w,
                w.in + b->ssm.C, b->dt_bias->w, pass->slot, &scan);
  m4n_ssm_add_output(&b->out, pass, y, x, w.y);
}

static void backward(const m4n_block *block, const m4n_pass *pass, m4n_real *d, const m4n_real *x,
                     void *memory, void *scratch_memory) {
  const mamba1 *b = (const mamba1 *)block;
  m4n_stream *s = pass->s;
  const int rows = pass->B * pass->T, R = b->ssm.R, N = b->ssm.N;
  work w;
  scratch g;
  place(b, &(m4n_layout){.base = memory}, &w, pass->B, pass->T);
  place_scratch(b, &(m4n_layout){.base = scratch_memory}, &g, pass->B, pass->T);
  const m4n_conv conv = m4n_ssm_conv(&b->ssm, pass->B, pass->T, b->in.out);
  const m4n_scan scan = scan_of(b, pass->B, pass->T);
  const int64_t n = (int64_t)b->ssm.C * N;

  m4n_dense_backward(&b->out, pass, g.dy, d, w.y, rows, 0, NULL, NULL);
  m4n_zero(s, g.dA, (size_t)n * sizeof *g.dA);
  m4n_scan_bwd(s, g.du, g.ddt, g.dA, g.dp + R, g.dp + R + N, b->D->g, g.din + b->ssm.C, b->dt_bias->g, g.scan,
               g.dy, w.saved, w.u, w.dt, w.A, w.p + R, w.p + R + N, b->D->w, w.in + b->ssm.C, b->dt_bias->w,
               &scan);
  m4n_neg_exp_bwd(s, b->a_log->g, g.dA, w.A, n);
  // u reaches the scan directly and through δ, B, C.
  m4n_dense_backward(&b->dt, pass, g.dp, g.ddt, w.p, rows, 0, NULL, NULL);
  m4n_dense_backward(&b->x, pass, g.du, g.dp, w.u, rows, 1, NULL, NULL);
  m4n_conv_bwd(s, g.din, b->conv->g, b->conv_bias->g, g.du, w.in, b->conv->w, b->conv_bias->w, &conv);
  m4n_dense_backward(&b->in, pass, g.da, g.din, w.a, rows, 0, NULL, NULL);
  m4n_rmsnorm_bwd(s, d, b->norm->g, g.da, d, x, w.r, b->norm->w, rows, b->ssm.base.d);
}

const m4n_block_kind m4n_mamba1_block = {
    .name = "mamba1",
    .declare = declare,
    .work = work_bytes,
    .scratch = scratch_bytes,
    .state = m4n_ssm_state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
    .reset = m4n_ssm_reset,
};
