// How fast the ops are, each beside a bound that is measured in the same run.
#include "agent/bench/kernels.h"

#include <math.h>
#include <stdio.h>

#include "agent/bench/emit.h"
#include "kernels/backend.h"
#include "kernels/base/status.h"
#include "kernels/cpu/gemm.h"
#include "kernels/linear.h"

enum {
  B = 8,
  T = 160,
  ROWS = B * T,
  D_MODEL = 512,
  FFN = 1376,
  STATE = 16,
  HEADS = 32,
  WIDTH = 16,
  STEP = 8
};
static const double least_s = 0.25; // an op is measured at least so long

/* What all measurements share. `a` … are arrays of ops, large enough for each of them. */
typedef struct lab {
  m4n_backend *backend;
  m4n_stream *s;
  m4n_pool *pool;
  m4n_real *a, *b, *c, *d, *e, *f, *small, *weights;
  int32_t *index;
  const m4n_linear *plan;
  int rows;
} lab;

typedef void (*call)(lab *);

/* Seconds of one call, the best of several passes of enough calls. */
static double seconds_of(lab *l, call f) {
  f(l);
  double start = m4n_bench_clock();
  f(l), m4n_sync(l->s);
  const int calls = 1 + (int)(0.01 / (m4n_bench_clock() - start + 1e-9));
  double best = HUGE_VAL;
  for (double begin = m4n_bench_clock(), now = begin; now - begin < least_s;) {
    for (int i = 0; i < calls; i++) f(l);
    m4n_sync(l->s);
    const double end = m4n_bench_clock();
    best = fmin(best, (end - now) / calls), now = end;
  }
  return best;
}

static void emit(const char *name, double value, const char *unit, double limit, double seconds) {
  m4n_bench_emit_call(&(m4n_bench_result){"kernels", name, value, unit, limit}, 1e6 * seconds);
}

// ---- memory: ops that read and write more than they compute

static size_t copied; // elements of the copy
static void copy_call(lab *l) {
  m4n_copy_rows(l->s, l->a, l->b, (int)(copied / 1024), 1024, 0, 0);
}

/* An op that touches `floats` elements, against a copy that does. */
static void memory_op(lab *l, const char *name, call f, double floats) {
  const double bytes = floats * sizeof(m4n_real), seconds = seconds_of(l, f);
  copied = (size_t)(floats / 2);
  const double copy = seconds_of(l, copy_call);
  emit(name, 1e-9 * bytes / seconds, "GB/s", 1e-9 * (double)(copied / 1024 * 2048) * sizeof(m4n_real) / copy,
       seconds);
}

static void rmsnorm_fwd(lab *l) {
  m4n_rmsnorm_fwd(l->s, l->a, l->small, l->b, l->weights, ROWS, D_MODEL, (m4n_real)1e-5);
}
static void rmsnorm_bwd(lab *l) {
  m4n_rmsnorm_bwd(l->s, l->a, l->d, l->b, l->c, l->e, l->small, l->weights, ROWS, D_MODEL);
}
static void layernorm_fwd(lab *l) {
  m4n_layernorm_fwd(l->s, l->a, l->small, l->b, l->weights, l->weights, ROWS, D_MODEL, (m4n_real)1e-5);
}
static void layernorm_bwd(lab *l) {
  m4n_layernorm_bwd(l->s, l->a, l->d, l->f, l->b, l->c, l->e, l->small, l->weights, ROWS, D_MODEL);
}
static void add(lab *l) {
  m4n_add(l->s, l->a, l->b, l->c, ROWS * D_MODEL);
}
static void silu_fwd(lab *l) {
  m4n_silu_fwd(l->s, l->a, l->b, ROWS * D_MODEL);
}
static void silu_bwd(lab *l) {
  m4n_silu_bwd(l->s, l->a, l->b, l->c, ROWS * D_MODEL);
}
static void gelu_fwd(lab *l) {
  m4n_gelu_fwd(l->s, l->a, l->b, ROWS * D_MODEL);
}
static void gelu_bwd(lab *l) {
  m4n_gelu_bwd(l->s, l->a, l->b, l->c, ROWS * D_MODEL);
}
static void tanh_fwd(lab *l) {
  m4n_tanh_fwd(l->s, l->a, l->b, ROWS * D_MODEL);
}
static void swiglu_fwd(lab *l) {
  m4n_swiglu_fwd(l->s, l->a, l->b, l->b + FFN, ROWS, FFN, 2 * FFN);
}
static void swiglu_bwd(lab *l) {
  m4n_swiglu_bwd(l->s, l->a, l->a + FFN, l->c, l->b, l->b + FFN, ROWS, FFN, 2 * FFN);
}
static const m4n_conv conv_shape = {.B = B, .T = T, .C = D_MODEL, .K = 4};
static void conv_fwd(lab *l) {
  m4n_conv_fwd(l->s, l->a, l->b, l->weights, l->weights, &conv_shape);
}
static void conv_bwd(lab *l) {
  m4n_conv_bwd(l->s, l->a, l->d, l->d + 4 * D_MODEL, l->b, l->c, l->weights, l->weights, &conv_shape);
}
static const m4n_rope rope_shape = {.B = B, .T = T, .H = HEADS, .D = WIDTH};
static void rope_fwd(lab *l) {
  m4n_rope_fwd(l->s, l->a, l->b, l->small, &rope_shape);
}
static void sum_rows(lab *l) {
  m4n_sum_rows(l->s, l->d, l->b, ROWS, 1, D_MODEL, 0);
}
static void gather_fwd(lab *l) {
  m4n_gather_fwd(l->s, l->a, l->b, l->index, ROWS, D_MODEL, 0, 1);
}
static void gather_bwd(lab *l) {
  m4n_gather_bwd(l->s, l->a, l->b, l->index, ROWS, D_MODEL, 0);
}
static void to_bf16(lab *l) {
  m4n_to_bf16(l->s, (uint16_t *)l->a, l->b, ROWS * D_MODEL);
}
static void xent_bwd(lab *l) {
  m4n_xent_bwd(l->s, l->a, l->b, l->index, NULL, NULL, ROWS, 6, 0);
}
static void kl_bwd(lab *l) {
  m4n_kl_bwd(l->s, l->a, l->b, l->c, NULL, NULL, &(m4n_kl){ROWS, 6, M4N_KL_FORWARD, 2, 0}, 0);
}

enum { PARAMETERS = 1 << 22 };
static void grad_norm(lab *l) {
  m4n_grad_norm(l->s, l->small, l->b, PARAMETERS);
}
static const m4n_adamw_rates rates = {(m4n_real)0.9, (m4n_real)0.95, (m4n_real)1e-8};
static void adamw(lab *l) {
  m4n_adamw_step *step = (m4n_adamw_step *)l->f;
  m4n_adamw_group *group = (m4n_adamw_group *)(l->f + 16);
  m4n_adamw(l->s, l->a, l->b, l->c, l->d, NULL, step, group, (const uint8_t *)l->e, PARAMETERS, &rates);
}

// An update must not drift away over thousands of calls: the rate is tiny.
static void prepare_adamw(lab *l) {
  const m4n_adamw_step step = {(m4n_real)1e-9, 1, 1};
  const m4n_adamw_group group = {1, (m4n_real)0.1};
  m4n_copy_in(l->s, l->f, &step, sizeof step);
  m4n_copy_in(l->s, l->f + 16, &group, sizeof group);
  m4n_zero(l->s, l->e, PARAMETERS / M4N_ADAMW_CHUNK);
  m4n_zero(l->s, l->c, PARAMETERS * sizeof(m4n_real));
}

static void memory_ops(lab *l) {
  const double rows = (double)ROWS * D_MODEL, wide = (double)ROWS * FFN;
  memory_op(l, "add/1280x512", add, 3 * rows);
  memory_op(l, "rmsnorm_fwd/1280x512", rmsnorm_fwd, 2 * rows);
  memory_op(l, "rmsnorm_bwd/1280x512", rmsnorm_bwd, 4 * rows);
  memory_op(l, "layernorm_fwd/1280x512", layernorm_fwd, 2 * rows);
  memory_op(l, "layernorm_bwd/1280x512", layernorm_bwd, 4 * rows);
  memory_op(l, "silu_fwd/655360", silu_fwd, 2 * rows);
  memory_op(l, "silu_bwd/655360", silu_bwd, 3 * rows);
  memory_op(l, "gelu_fwd/655360", gelu_fwd, 2 * rows);
  memory_op(l, "gelu_bwd/655360", gelu_bwd, 3 * rows);
  memory_op(l, "tanh_fwd/655360", tanh_fwd, 2 * rows);
  memory_op(l, "swiglu_fwd/1280x1376", swiglu_fwd, 3 * wide);
  memory_op(l, "swiglu_bwd/1280x1376", swiglu_bwd, 5 * wide);
  memory_op(l, "conv_fwd/8x160x512", conv_fwd, 2 * rows);
  memory_op(l, "conv_bwd/8x160x512", conv_bwd, 3 * rows);
  memory_op(l, "rope_fwd/8x160x32x16", rope_fwd, 2 * rows);
  memory_op(l, "sum_rows/1280x512", sum_rows, rows);
  memory_op(l, "gather_fwd/1280x512", gather_fwd, 2 * rows);
  memory_op(l, "gather_bwd/1280x512", gather_bwd, rows);
  memory_op(l, "to_bf16/655360", to_bf16, 1.5 * rows);
  memory_op(l, "xent_bwd/1280x6", xent_bwd, 2.0 * ROWS * 6);
  memory_op(l, "kl_bwd/1280x6", kl_bwd, 3.0 * ROWS * 6);
  memory_op(l, "grad_norm/4194304", grad_norm, PARAMETERS);
  prepare_adamw(l);
  memory_op(l, "adamw/4194304", adamw, 7.0 * PARAMETERS);
}

// ---- scans: as many exponentials as there are states and steps

enum { EXPS = 1 << 14 };
static void bare_exp(lab *l) {
  for (int i = 0; i < 64; i++) m4n_neg_exp_fwd(l->s, l->a, l->b, EXPS);
}

static m4n_scan scan_shape(int batch, int time) {
  return (m4n_scan){.B = batch, .T = time, .C = D_MODEL, .N = STATE, .G = D_MODEL / STATE, .softplus = 1};
}
static void scan_fwd(lab *l) {
  const m4n_scan n = scan_shape(B, T);
  m4n_scan_fwd(l->s, l->a, l->f, NULL, l->b, l->c, l->small, l->d, l->e, l->weights, l->c, l->weights, &n);
}
static void scan_bwd(lab *l) {
  const m4n_scan n = scan_shape(B, T);
  const size_t wide = (size_t)ROWS * D_MODEL;
  m4n_scan_bwd(l->s, l->a, l->a + wide, l->weights + 1024, l->a + 2 * wide, l->a + 3 * wide,
               l->weights + 10240, l->a + 4 * wide, l->weights + 12000, l->f + m4n_scan_saved(&n), l->b, l->f,
               l->b, l->c, l->small, l->d, l->e, l->weights, l->c, l->weights, &n);
}
static void scan_step(lab *l) {
  const m4n_scan n = scan_shape(1, STEP);
  m4n_scan_step(l->s, l->a, l->f, l->b, l->c, l->small, l->d, l->e, l->weights, l->c, l->weights, NULL, &n);
}

static void scans(lab *l) {
  // One thread's tile is all of the array, so the threads' number comes in as a factor.
  const double exps = 64.0 * EXPS * m4n_pool_threads(l->pool) / seconds_of(l, bare_exp);
  const struct {
    const char *name;
    call f;
    double states;
  } all[] = {{"scan_fwd/8x160x512x16", scan_fwd, (double)ROWS * D_MODEL * STATE},
             {"scan_bwd/8x160x512x16", scan_bwd, (double)ROWS * D_MODEL * STATE},
             {"scan_step/1x8x512x16", scan_step, (double)STEP * D_MODEL * STATE}};
  for (int i = 0; i < 3; i++) {
    const double seconds = seconds_of(l, all[i].f);
    emit(all[i].name, 1e-9 * all[i].states / seconds, "Gstate/s", 1e-9 * exps, seconds);
  }
}

// ---- products of matrices

/* The library alone: every thread has a share of the rows (or, of few rows, of the columns) and one product for it. */
typedef struct direct {
  m4n_gemm *gemm;
  const char *x, *w;
  m4n_real *y;
  size_t x_step, w_step, y_step; // bytes (y: elements) from one thread's share to the next one's
} direct;
static direct bare;

static void direct_tile(void *self, int share) {
  const direct *d = self;
  m4n_gemm_run(d->gemm, m4n_pool_thread(), d->y + (size_t)share * d->y_step, d->x + (size_t)share * d->x_step,
               d->w + (size_t)share * d->w_step);
}
static void direct_call(lab *l) {
  m4n_pool_run(l->pool, m4n_pool_threads(l->pool), direct_tile, &bare);
}

enum { FORWARD, BACK_X, BACK_W, KINDS };

/* The product of `kind` of a layer, cut among the threads: by rows of y, or by its columns where rows are few. */
static m4n_gemm_shape direct_shape(int kind, int format, int rows, int in, int out, int threads) {
  const int type = format == M4N_W_BF16   ? M4N_GEMM_BF16
                   : format == M4N_W_INT8 ? M4N_GEMM_INT8
                                          : M4N_GEMM_REAL;
  const bool few = rows < 64;
  if (kind == FORWARD)
    return (m4n_gemm_shape){.type = type,
                            .M = few ? rows : rows / threads,
                            .N = few ? out / threads : out,
                            .K = in,
                            .x_ld = in,
                            .w_ld = in,
                            .y_ld = few ? out / threads : out,
                            .w_transposed = true,
                            .packed = format != M4N_W_REAL};
  if (kind == BACK_X)
    return (m4n_gemm_shape){.M = rows / threads, .N = in, .K = out, .x_ld = out, .w_ld = in, .y_ld = in};
  return (m4n_gemm_shape){.M = out / threads,
                          .N = in,
                          .K = rows,
                          .x_ld = out,
                          .w_ld = in,
                          .y_ld = in,
                          .x_transposed = true,
                          .add = true};
}

static int direct_seconds(lab *l, double *seconds, int kind, int format, int rows, int in, int out) {
  m4n_gemm_library *library;
  const int threads = m4n_pool_threads(l->pool);
  M4N_TRY(m4n_gemm_library_open(&library, threads));
  const m4n_gemm_shape n = direct_shape(kind, format, rows, in, out, threads);
  const size_t x_size = n.type == M4N_GEMM_REAL ? sizeof(m4n_real) : n.type == M4N_GEMM_BF16 ? 2 : 1;
  int status = m4n_gemm_open(&bare.gemm, library, &n, NULL);
  if (!status) {
    bare.x = (const char *)l->b, bare.w = (const char *)l->c, bare.y = l->a;
    bare.x_step = (kind == BACK_W ? (size_t)n.M : rows < 64 ? 0 : (size_t)n.M * (size_t)n.x_ld) * x_size;
    bare.w_step = rows < 64 ? (size_t)n.N * (size_t)n.K * x_size : 0;
    bare.y_step = (size_t)n.M * (size_t)n.y_ld;
    *seconds = seconds_of(l, direct_call);
  }
  m4n_gemm_close(bare.gemm);
  m4n_gemm_library_close(library);
  return status;
}

static void linear_fwd(lab *l) {
  m4n_linear_fwd(l->s, l->a, l->b, l->weights, NULL, l->plan, l->rows, 0);
}
static void linear_bwd_x(lab *l) {
  m4n_linear_bwd_x(l->s, l->a, l->b, l->weights, l->plan, l->rows, 0);
}
static void linear_bwd_w(lab *l) {
  m4n_linear_bwd_w(l->s, l->a, l->b, l->c, l->plan, l->rows);
}

/* Elsewhere than on the host: the rate of one large square product, the ceiling of the card. 0 where none is known. */
static int card_ceiling(lab *l, double *flops, int format) {
  enum { SIDE = 3840 }; // three such matrices are as large as the lab's arrays
  m4n_linear_shape shape = {.out = SIDE, .in = SIDE, .max_rows = SIDE, .format = format};
  static double known[M4N_W_INT8 + 1];
  *flops = known[format];
  if (*flops > 0) return M4N_OK;
  M4N_TRY(m4n_linear_plan(&l->plan, l->s, &shape));
  m4n_linear_pack(l->s, l->weights, l->c, l->plan);
  l->rows = SIDE;
  *flops = known[format] = 2.0 * SIDE * SIDE * SIDE / seconds_of(l, linear_fwd);
  return M4N_OK;
}

static int product(lab *l, int kind, int format, int rows, int in, int out) {
  static const char *const formats[] = {"float32", "packed", "bf16", "int8"};
  static const char *const kinds[] = {"linear_fwd", "linear_bwd_x", "linear_bwd_w"};
  static const call calls[] = {linear_fwd, linear_bwd_x, linear_bwd_w};
  char name[64];
  snprintf(name, sizeof name, "%s/%dx%dx%d-%s", kinds[kind], rows, in, out, formats[format]);
  const m4n_linear_shape shape = {.out = out,
                                  .in = in,
                                  .max_rows = rows,
                                  .format = format,
                                  .grads = kind == BACK_X   ? M4N_GRAD_X
                                           : kind == BACK_W ? M4N_GRAD_W
                                                            : 0};
  const bool on_host = m4n_backend_on_host(l->backend);
  double ceiling = 0;
  if (!on_host) M4N_TRY(card_ceiling(l, &ceiling, format));
  M4N_TRY(m4n_linear_plan(&l->plan, l->s, &shape));
  m4n_linear_pack(l->s, l->weights, l->c, l->plan);
  l->rows = rows;
  const double flops = 2.0 * rows * in * out, seconds = seconds_of(l, calls[kind]);
  double alone = 0;
  if (on_host) M4N_TRY(direct_seconds(l, &alone, kind, format, rows, in, out));
  if (alone > 0) ceiling = flops / alone;
  emit(name, 1e-9 * flops / seconds, "GFLOP/s", 1e-9 * ceiling, seconds);
  return M4N_OK;
}

static int products(lab *l) {
  for (int kind = 0; kind < KINDS; kind++) {
    M4N_TRY(product(l, kind, M4N_W_REAL, ROWS, D_MODEL, D_MODEL));
    M4N_TRY(product(l, kind, M4N_W_REAL, ROWS, D_MODEL, 2 * FFN));
    M4N_TRY(product(l, kind, M4N_W_REAL, ROWS, FFN, D_MODEL));
  }
  for (int format = M4N_W_PACKED; format <= M4N_W_INT8; format++) {
    M4N_TRY(product(l, FORWARD, format, ROWS, D_MODEL, 2 * FFN));
    M4N_TRY(product(l, FORWARD, format, STEP, D_MODEL, D_MODEL));
    M4N_TRY(product(l, FORWARD, format, STEP, D_MODEL, 2 * FFN));
    M4N_TRY(product(l, FORWARD, format, STEP, FFN, D_MODEL));
  }
  return M4N_OK;
}

// ---- attention: multiplications and additions of scores and sums, half of them where it is causal

static m4n_attention heads;
static void attention_fwd(lab *l) {
  m4n_attention_fwd(l->s, l->a, l->f, l->b, l->c, l->d, NULL, &heads);
}
static void attention_bwd(lab *l) {
  const size_t wide = (size_t)ROWS * D_MODEL;
  m4n_attention_bwd(l->s, l->a, l->a + wide, l->a + 2 * wide, l->b, l->b, l->c, l->d, l->e, l->f, NULL,
                    &heads);
}
static void attention_step(lab *l) {
  m4n_attention n = heads;
  n.B = 1, n.T = STEP;
  const m4n_cache cache = {l->a, l->a + 2 * T * D_MODEL, 2 * T};
  m4n_attention_step(l->s, l->e, &cache, l->b, l->c, l->d, l->index + ROWS, NULL, &n);
}

static int attention(lab *l) {
  double alone = 0;
  if (m4n_backend_on_host(l->backend))
    M4N_TRY(direct_seconds(l, &alone, FORWARD, M4N_W_REAL, ROWS, D_MODEL, D_MODEL));
  double peak = alone > 0 ? 1e-9 * 2.0 * ROWS * D_MODEL * D_MODEL / alone : 0;
  if (!m4n_backend_on_host(l->backend)) {
    M4N_TRY(card_ceiling(l, &peak, M4N_W_REAL));
    peak *= 1e-9;
  }
  const double flops = 4.0 * ROWS * T * D_MODEL / 2, step = 4.0 * STEP * T * D_MODEL;
  for (int many = 0; many < 2; many++) {
    heads =
        (m4n_attention){.B = B, .T = T, .H = many ? 32 : 8, .D = many ? 16 : 64, .causal = 1, .window = T};
    heads.Hkv = heads.H, heads.scale = (m4n_real)(1 / sqrt(heads.D));
    char name[64];
    double seconds = seconds_of(l, attention_fwd);
    snprintf(name, sizeof name, "attention_fwd/8x160x%dx%d", heads.H, heads.D);
    emit(name, 1e-9 * flops / seconds, "GFLOP/s", peak, seconds);
    seconds = seconds_of(l, attention_bwd);
    snprintf(name, sizeof name, "attention_bwd/8x160x%dx%d", heads.H, heads.D);
    emit(name, 2.5e-9 * flops / seconds, "GFLOP/s", peak, seconds);
    seconds = seconds_of(l, attention_step);
    snprintf(name, sizeof name, "attention_step/8of160x%dx%d", heads.H, heads.D);
    emit(name, 1e-9 * step / seconds, "GFLOP/s", peak, seconds);
  }
  return M4N_OK;
}

// ---- all of it

static int open_lab(lab *l, const char *device, int threads) {
  *l = (lab){0};
  M4N_TRY(m4n_pool_open(&l->pool, threads));
  M4N_TRY(m4n_backend_open(&l->backend, device, l->pool));
  M4N_TRY(m4n_stream_open(&l->s, l->backend));
  const size_t elements = 9 * (size_t)ROWS * FFN;
  m4n_real **const arrays[] = {&l->a, &l->b, &l->c, &l->d, &l->e, &l->f, &l->small, &l->weights};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
    *arrays[i] = m4n_alloc(l->backend, elements * sizeof(m4n_real));
    if (!*arrays[i]) return M4N_ENOMEM;
    // Small numbers, and for the rates of decay (`small`) negative ones.
    m4n_fill(l->s, *arrays[i], (int64_t)elements, *arrays[i] == l->small ? (m4n_real)-0.5 : (m4n_real)0.01);
  }
  l->index = m4n_alloc(l->backend, (ROWS + 1) * sizeof *l->index);
  if (!l->index) return M4N_ENOMEM;
  int32_t index[ROWS + 1];
  for (int i = 0; i < ROWS; i++) index[i] = i * 7 % 6;
  index[ROWS] = T - STEP; // tokens that a lane has seen before a step
  m4n_copy_in(l->s, l->index, index, sizeof index);
  return m4n_sync(l->s);
}

static void close_lab(lab *l) {
  if (l->backend) {
    void *const all[] = {l->a, l->b, l->c, l->d, l->e, l->f, l->small, l->weights, l->index};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) m4n_free(l->backend, all[i]);
  }
  m4n_stream_close(l->s);
  m4n_backend_close(l->backend);
  m4n_pool_close(l->pool);
}

int m4n_bench_kernels(const char *device, int threads) {
  lab l;
  int status = open_lab(&l, device, threads);
  if (!status) status = products(&l);
  if (!status) status = attention(&l);
  if (!status) scans(&l);
  if (!status) memory_ops(&l);
  close_lab(&l);
  return status;
}
