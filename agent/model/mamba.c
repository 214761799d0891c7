/* Variant A, the Mamba mixer in the shape of attention: x + W_o·(scan ⊙ silu(z)), with v → x, k → B, q → C
 * (algorithms.md §5.2; forward, backward and the step of §5.4–5.5 are the ops'). */
#include "agent/model/block.h"
#include "agent/model/fields.h"
#include "agent/model/ssm.h"
#include "kernels/base/status.h"

/* The five projections that read the normed input are one product [x|B|C|z|δ]: x, B, C in the places of v, k, q. */
#define PARAMETERS(VECTOR, PRODUCT)                                                                          \
  VECTOR(norm, "input_layernorm.weight", m4n_start_at(1), d)                                                 \
  PRODUCT(in, d, 0, {"mixer.x_proj", C, linear, false, m4n_start_at(0)},                                     \
          {"mixer.b_proj", C, linear, false, m4n_start_at(0)},                                               \
          {"mixer.c_proj", C, linear, false, m4n_start_at(0)},                                               \
          {"mixer.z_proj", C, linear, gate_bias, m4n_start_at(0)},                                           \
          {"mixer.dt_down", R, linear, false, m4n_start_at(0)})                                              \
  PRODUCT(dt, R, 4 * C + R, {"mixer.dt_proj", C, m4n_fan_in(R), false, m4n_start_at(0)})                     \
  VECTOR(dt_bias, "mixer.dt_proj.bias", ((m4n_init){M4N_START_DT_BIAS, 0}), C)                               \
  VECTOR(conv, "mixer.conv1d.weight", m4n_fan_in(K), C, 1, K)                                                \
  VECTOR(conv_bias, "mixer.conv1d.bias", m4n_fan_in(K), C)                                                   \
  VECTOR(a_log, "mixer.A_log", ((m4n_init){M4N_START_A_LOG, 0}), C, N)                                       \
  VECTOR(D, "mixer.D", m4n_start_at(1), C)                                                                   \
  PRODUCT(out, C, 0, {"mixer.out_proj", d, m4n_fan_in_times(C, at->write), false, m4n_start_at(0)})

typedef struct mamba {
  m4n_ssm ssm;
  M4N_FIELDS(PARAMETERS)
} mamba;

static int declare(m4n_block **block, m4n_builder *at, const m4n_backbone *config) {
  mamba *b = m4n_arena_alloc(at->arena, sizeof *b);
  if (!b) return M4N_ENOMEM;
  *block = &b->ssm.base;
  *b = (mamba){.ssm = m4n_ssm_of(&m4n_mamba_block, config)};
  const int d = config->d, C = b->ssm.C, N = b->ssm.N, R = b->ssm.R, K = b->ssm.K;
  const bool gate_bias = config->gate_bias;
  const m4n_init linear = m4n_fan_in(d);
  M4N_DECLARE(PARAMETERS)
  return M4N_OK;
}

typedef struct work {
  m4n_real *a, *r;  // normed input [rows][d], [rows]
  m4n_real *in;     // [rows][x|B|C|z|δ]
  m4n_real *u, *dt; // conv's output, δ before softplus, [rows][C]
  m4n_real *A;      // −exp(A_log) [C][N]
  m4n_real *saved;  // states at the segments' starts
  m4n_real *y;      // gated [rows][C]
} work;

static m4n_scan scan_of(const mamba *b, int B, int T) {
  return (m4n_scan){.B = B,
                    .T = T,
                    .C = b->ssm.C,
                    .N = b->ssm.N,
                    .G = b->ssm.C / b->ssm.N,
                    .u_ld = b->ssm.C,
                    .dt_ld = b->ssm.C,
                    .b_ld = b->in.out,
                    .c_ld = b->in.out,
                    .z_ld = b->in.out,
                    .y_ld = b->ssm.C,
                    .softplus = 1};
}

static size_t place(const mamba *b, m4n_layout *at, work *w, int B, int T) {
  const size_t rows = (size_t)B * (size_t)T, C = (size_t)b->ssm.C;
  const m4n_scan shape = scan_of(b, B, T);
  w->a = m4n_place(at, rows * (size_t)b->ssm.base.d);
  w->r = m4n_place(at, rows);
  w->in = m4n_place(at, rows * (size_t)b->in.out);
  w->u = m4n_place(at, rows * C);
  w->dt = m4n_place(at, rows * C);
  w->A = m4n_place(at, C * (size_t)b->ssm.N);
  w->saved = m4n_place(at, m4n_scan_saved(&shape));
  w->y = m4n_place(at, rows * C);
  return at->used;
}

static size_t work_bytes(const m4n_block *block, int B, int T) {
  work w;
  return place((const mamba *)block, &(m4n_layout){0}, &w, B, T);
}

typedef struct scratch {
  m4n_real *dy, *du, *ddt, *din, *dA, *scan, *da;
} scratch;

static size_t place_scratch(const mamba *b, m4n_layout *at, scratch *g, int B, int T) {
  const size_t rows = (size_t)B * (size_t)T, C = (size_t)b->ssm.C;
  const m4n_scan shape = scan_of(b, B, T);
  g->dy = m4n_place(at, rows * C);
  g->du = m4n_place(at, rows * C);
  g->ddt = m4n_place(at, rows * C);
  g->din = m4n_place(at, rows * (size_t)b->in.out);
  g->dA = m4n_place(at, C * (size_t)b->ssm.N);
  g->scan = m4n_place(at, m4n_scan_scratch(&shape));
  g->da = m4n_place(at, rows * (size_t)b->ssm.base.d);
  return at->used;
}

static size_t scratch_bytes(const m4n_block *block, int B, int T) {
  scratch g;
  return place_scratch((const mamba *)block, &(m4n_layout){0}, &g, B, T);
}

// Where the five parts of a row of `in` begin.
typedef struct columns {
  m4n_real *x, *B, *C, *z, *v;
} columns;

static columns columns_of(const mamba *b, m4n_real *in) {
  const int C = b->ssm.C;
  return (columns){in, in + C, in + 2 * C, in + 3 * C, in + 4 * C};
}

// x, B, C, z, v and A = −exp(A_log), of the normed input.
static columns project(const mamba *b, const m4n_pass *pass, const m4n_real *x, const work *w) {
  m4n_stream *s = pass->s;
  const int rows = pass->B * pass->T;
  m4n_rmsnorm_fwd(s, w->a, pass->train ? w->r : NULL, x, b->norm->w, rows, b->ssm.base.d, b->ssm.eps);
  m4n_dense_forward(&b->in, pass, w->in, w->a, rows, 0, NULL);
  const columns in = columns_of(b, w->in);
  m4n_dense_forward(&b->dt, pass, w->dt, in.v, rows, 0, NULL); // δ = W_δ2·v
  m4n_neg_exp_fwd(s, w->A, b->a_log->w, (int64_t)b->ssm.C * b->ssm.N);
  return in;
}

static void forward(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x,
                    void *memory) {
  const mamba *b = (const mamba *)block;
  m4n_stream *s = pass->s;
  work w;
  place(b, &(m4n_layout){.base = memory}, &w, pass->B, pass->T);
  const columns in = project(b, pass, x, &w);
  const m4n_conv conv = m4n_ssm_conv(&b->ssm, pass->B, pass->T, b->in.out);
  const m4n_scan scan = scan_of(b, pass->B, pass->T);
  m4n_conv_fwd(s, w.u, in.x, b->conv->w, b->conv_bias->w, &conv);
  m4n_scan_fwd(s, w.y, pass->train ? w.saved : NULL, NULL, w.u, w.dt, w.A, in.B, in.C, b->D->w, in.z,
               b->dt_bias->w, &scan);
  m4n_ssm_add_output(&b->out, pass, y, x, w.y);
}

static void decode(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x, void *state,
                   void *memory) {
  const mamba *b = (const mamba *)block;
  m4n_stream *s = pass->s;
  work w;
  place(b, &(m4n_layout){.base = memory}, &w, pass->B, pass->T);
  const m4n_ssm_state past = m4n_ssm_state_at(&b->ssm, state);
  const columns in = project(b, pass, x, &w);
  const m4n_conv conv = m4n_ssm_conv(&b->ssm, pass->B, pass->T, b->in.out);
  const m4n_scan scan = scan_of(b, pass->B, pass->T);
  m4n_conv_step(s, w.u, past.x, in.x, b->conv->w, b->conv_bias->w, pass->slot, &conv);
  m4n_scan_step(s, w.y, past.h, w.u, w.dt, w.A, in.B, in.C, b->D->w, in.z, b->dt_bias->w, pass->slot, &scan);
  m4n_ssm_add_output(&b->out, pass, y, x, w.y);
}

static void backward(const m4n_block *block, const m4n_pass *pass, m4n_real *d, const m4n_real *x,
                     void *memory, void *scratch_memory) {
  const mamba *b = (const mamba *)block;
  m4n_stream *s = pass->s;
  const int rows = pass->B * pass->T;
  work w;
  scratch g;
  place(b, &(m4n_layout){.base = memory}, &w, pass->B, pass->T);
  place_scratch(b, &(m4n_layout){.base = scratch_memory}, &g, pass->B, pass->T);
  const columns in = columns_of(b, w.in), din = columns_of(b, g.din);
  const m4n_conv conv = m4n_ssm_conv(&b->ssm, pass->B, pass->T, b->in.out);
  const m4n_scan scan = scan_of(b, pass->B, pass->T);
  const int64_t n = (int64_t)b->ssm.C * b->ssm.N;

  m4n_dense_backward(&b->out, pass, g.dy, d, w.y, rows, 0, NULL, NULL);
  m4n_zero(s, g.dA, (size_t)n * sizeof *g.dA);
  m4n_scan_bwd(s, g.du, g.ddt, g.dA, din.B, din.C, b->D->g, din.z, b->dt_bias->g, g.scan, g.dy, w.saved, w.u,
               w.dt, w.A, in.B, in.C, b->D->w, in.z, b->dt_bias->w, &scan);
  m4n_neg_exp_bwd(s, b->a_log->g, g.dA, w.A, n);
  m4n_dense_backward(&b->dt, pass, din.v, g.ddt, in.v, rows, 0, NULL, NULL);
  m4n_conv_bwd(s, din.x, b->conv->g, b->conv_bias->g, g.du, in.x, b->conv->w, b->conv_bias->w, &conv);
  m4n_dense_backward(&b->in, pass, g.da, g.din, w.a, rows, 0, NULL, NULL);
  m4n_rmsnorm_bwd(s, d, b->norm->g, g.da, d, x, w.r, b->norm->w, rows, b->ssm.base.d);
}

const m4n_block_kind m4n_mamba_block = {
    .name = "mamba",
    .declare = declare,
    .work = work_bytes,
    .scratch = scratch_bytes,
    .state = m4n_ssm_state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
    .reset = m4n_ssm_reset,
};
