// How fast models are, beside the arithmetic and the memory of this machine.
#include "agent/bench/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/bench/bench.h"
#include "agent/model/engine.h"
#include "agent/model/optimiser.h"
#include "kernels/base/pool.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

enum { SEQUENCES = 8, DECISIONS = 24 };
static const double least_s = 1.5; // a figure is measured at least so long

typedef struct lab {
  m4n_pool *pool;
  m4n_backend *backend;
  m4n_stream *s;
  double gemm; // floating-point operations a second
} lab;

typedef int (*work)(void *self);

/* Seconds of one call: the best of several. */
static int seconds_of(double *best, work f, void *self) {
  M4N_TRY(f(self));
  *best = HUGE_VAL;
  for (double begin = m4n_bench_clock(), now = begin; now - begin < least_s;) {
    M4N_TRY(f(self));
    const double end = m4n_bench_clock();
    *best = fmin(*best, end - now);
    now = end;
  }
  return M4N_OK;
}

static void noise(m4n_real *values, size_t n) {
  m4n_rng rng = m4n_rng_make(1, 0, M4N_RNG_TEST);
  for (size_t i = 0; i < n; i++) values[i] = (m4n_real)m4n_rng_normal(&rng);
}

// ---- what the machine can do ---------------------------------------------------------------------------------------------

enum { GEMM_ROWS = 1280, GEMM_OUT = 2048, GEMM_IN = 512, GEMM_CALLS = 4 };

typedef struct gemm {
  m4n_stream *s;
  const m4n_linear *plan;
  m4n_real *y, *x, *w;
} gemm;

static int run_gemm(void *self) {
  const gemm *g = self;
  for (int i = 0; i < GEMM_CALLS; i++) m4n_linear_fwd(g->s, g->y, g->x, g->w, NULL, g->plan, GEMM_ROWS, 0);
  return m4n_sync(g->s);
}

static int measure_gemm(lab *l) {
  const size_t y = (size_t)GEMM_ROWS * GEMM_OUT, x = (size_t)GEMM_ROWS * GEMM_IN,
               w = (size_t)GEMM_OUT * GEMM_IN;
  gemm g = {.s = l->s};
  m4n_real *memory = m4n_alloc(l->backend, (y + x + w) * sizeof *memory);
  if (!memory) return m4n_last_error()->status;
  g.y = memory, g.x = memory + y, g.w = g.x + x;
  double seconds = 0;
  int status = m4n_linear_plan(&g.plan, l->s,
                               &(m4n_linear_shape){.out = GEMM_OUT, .in = GEMM_IN, .max_rows = GEMM_ROWS});
  if (!status) status = seconds_of(&seconds, run_gemm, &g);
  l->gemm = 2.0 * GEMM_CALLS * GEMM_ROWS * GEMM_OUT * GEMM_IN / seconds;
  m4n_free(l->backend, memory);
  return status;
}

/* Reads memory once, each thread its share. */
typedef struct reading {
  m4n_pool *pool;
  const uint64_t *at;
  size_t words;
  int tiles;
  uint64_t sum[64 * 8]; // of each tile, a cache line apart
} reading;

static void read_tile(void *self, int index) {
  reading *r = self;
  const size_t each = r->words / (size_t)r->tiles / 8 * 8;
  const uint64_t *at = r->at + (size_t)index * each;
  uint64_t sum[8] = {0};
  for (size_t i = 0; i < each; i += 8)
    for (int k = 0; k < 8; k++) sum[k] += at[i + (size_t)k];
  for (int k = 0; k < 8; k++) r->sum[8 * index] += sum[k];
}

static int read_once(void *self) {
  reading *r = self;
  m4n_pool_run(r->pool, r->tiles, read_tile, r);
  return M4N_OK;
}

/* A copy on the device reads and writes. */
typedef struct copying {
  m4n_stream *s;
  void *to;
  const void *from;
  size_t bytes;
} copying;

static int copy_once(void *self) {
  const copying *c = self;
  m4n_copy(c->s, c->to, c->from, c->bytes);
  return m4n_sync(c->s);
}

static int measure_copying(const lab *l, double *seconds, const void *at, size_t bytes) {
  copying c = {.s = l->s, .to = m4n_alloc(l->backend, bytes), .from = at, .bytes = bytes};
  if (!c.to) return m4n_last_error()->status;
  const int status = seconds_of(seconds, copy_once, &c);
  *seconds /= 2;
  m4n_free(l->backend, c.to);
  return status;
}

static int measure_reading(const lab *l, double *seconds, const void *at, size_t bytes) {
  static reading r;
  if (!m4n_backend_on_host(l->backend)) return measure_copying(l, seconds, at, bytes);
  r = (reading){.pool = l->pool, .at = at, .words = bytes / 8};
  r.tiles = m4n_pool_threads(l->pool) < 64 ? m4n_pool_threads(l->pool) : 64;
  return seconds_of(seconds, read_once, &r);
}

// ---- passes over whole windows --------------------------------------------------------------------------------------------

typedef struct batch {
  m4n_net *net;
  m4n_optimiser *optimiser;
  int steps;
} batch;

static int forward(void *self) {
  const batch *b = self;
  m4n_net_forward(b->net, SEQUENCES, b->steps, false, NULL);
  return m4n_sync(b->net->stream);
}

static int train(void *self) {
  const batch *b = self;
  m4n_net_forward(b->net, SEQUENCES, b->steps, true, NULL);
  m4n_net_zero(b->net);
  m4n_net_backward(b->net);
  if (b->optimiser) m4n_optimiser_step(b->optimiser, 1e-5);
  return m4n_sync(b->net->stream);
}

/* Of the backbone's products, for one token: two for each weight of a matrix. */
static double operations(const m4n_net *net) {
  double n = 0;
  for (int i = 0; i < net->params->n_weights; i++) {
    const m4n_weight *w = net->params->weight[i];
    if (w->set == M4N_SET_BACKBONE && w->decay) n += 2.0 * w->rows * w->cols;
  }
  return n;
}

static void emit(const char *preset, const char *name, double value, const char *unit, double limit) {
  char full[64];
  snprintf(full, sizeof full, "%s-%s", preset, name);
  m4n_bench_emit(
      &(m4n_bench_result){.bench = "model", .name = full, .value = value, .unit = unit, .limit = limit});
}

static int measure_batch(const lab *l, const char *preset, batch *b) {
  const double tokens = (double)SEQUENCES * b->steps * M4N_ABR_TOKENS, each = operations(b->net);
  const m4n_optimiser_options options = {0.9, 0.95, 1e-8, 0.01, 1, 1};
  double seconds = 0;
  noise(b->net->rows, (size_t)SEQUENCES * (size_t)b->steps * (size_t)b->net->features);
  for (int i = 0; i < SEQUENCES; i++)
    for (int k = 0; k < b->steps; k++) m4n_net_set_step(b->net, i, k, b->steps, k);
  M4N_TRY(seconds_of(&seconds, forward, b));
  emit(preset, "forward", 1e-9 * each * tokens / seconds, "GFLOP/s", 1e-9 * l->gemm);
  M4N_TRY(seconds_of(&seconds, train, b)); // one product forward, two backward
  emit(preset, "train", 3e-9 * each * tokens / seconds, "GFLOP/s", 1e-9 * l->gemm);
  M4N_TRY(m4n_optimiser_open(&b->optimiser, b->net->params, &options));
  M4N_TRY(seconds_of(&seconds, train, b));
  emit(preset, "train-step", tokens / seconds, "tokens/s", l->gemm / (3 * each));
  return M4N_OK;
}

static int bench_batch(const lab *l, const char *preset) {
  m4n_net_options o = {.sequences = SEQUENCES, .train = true};
  M4N_TRY(m4n_config_preset(&o.config, preset));
  batch b = {.steps = o.config.abr.window};
  M4N_TRY(m4n_net_open(&b.net, l->s, &o));
  int status = m4n_net_start(b.net, 1);
  if (!status) status = measure_batch(l, preset, &b);
  m4n_optimiser_close(b.optimiser);
  m4n_net_close(b.net);
  return status;
}

// ---- decisions --------------------------------------------------------------------------------------------------------------

typedef struct deciding {
  m4n_engine *engine;
  m4n_real row[256], logits[M4N_MAX_LEVELS];
} deciding;

/* One decision of a lane that has a past. */
static int decide(void *self) {
  deciding *d = self;
  const int32_t slot = 0;
  M4N_TRY(m4n_engine_decide(d->engine, 1, &slot, d->row, d->logits));
  m4n_engine_acted(d->engine, 0, 1);
  return M4N_OK;
}

static int measure_decision(const lab *l, const char *preset, const char *name, deciding *d) {
  const m4n_net *net = m4n_engine_net(d->engine);
  double seconds = 0, once = 0;
  noise(d->row, (size_t)net->features);
  m4n_engine_begin(d->engine, 0);
  for (int i = 0; i < DECISIONS; i++) M4N_TRY(decide(d)); // attention's window is full
  M4N_TRY(seconds_of(&seconds, decide, d));
  if (m4n_backend_on_host(l->backend))
    M4N_TRY(measure_reading(l, &once, net->params->frozen, net->params->frozen_bytes));
  emit(preset, name, 1e6 * seconds, "us", 1e6 * once);
  return M4N_OK;
}

static int bench_decisions(const lab *l, const char *preset, int context) {
  static const struct {
    const char *name;
    int format;
  } formats[] = {{"float32", M4N_W_PACKED}, {"bf16", M4N_W_BF16}, {"int8", M4N_W_INT8}};
  for (int i = 0; i < 3; i++) {
    static deciding d;
    char name[32];
    m4n_engine_options o = {.context = context, .slots = 1, .batch = 1, .format = formats[i].format};
    snprintf(name, sizeof name, "%s-%s", context == M4N_CONTEXT_STREAM ? "decide" : "window",
             formats[i].name);
    M4N_TRY(m4n_config_preset(&o.config, preset));
    M4N_TRY(m4n_engine_open(&d.engine, l->s, &o));
    int status = m4n_net_start(m4n_engine_net(d.engine), 1);
    if (!status) status = measure_decision(l, preset, name, &d);
    m4n_engine_close(d.engine);
    if (status) return status;
  }
  return M4N_OK;
}

// ---- one token after another, on one core --------------------------------------------------------------------------------

/* A recurrent model of half the weights of `paper`, in plain C and float32, was seen with 333 tokens a second on a core
 * of this kind; the aim is three times that for each weight. It was not measured here: how fast a plain loop is depends
 * on what a compiler may do with a sum. */
static const double plain_rate = 333, plain_share = 0.5, aim = 3;

typedef struct speaking {
  m4n_net *net;
  int32_t *at; // slot, position of the lane, position of the token, on the backend
  int32_t seen;
} speaking;

static int speak(void *self) {
  speaking *k = self;
  m4n_stream *s = k->net->stream;
  const int32_t now[3] = {0, k->seen, k->seen};
  m4n_copy_in(s, k->at, now, sizeof now);
  const m4n_pass pass = {.s = s, .B = 1, .T = 1, .slot = k->at, .pos = k->at + 1, .row_pos = k->at + 2};
  m4n_chain_decode(k->net->chain, &pass);
  k->seen++;
  return m4n_sync(s);
}

static int measure_tokens(const lab *l, const char *preset, const char *name, int format) {
  m4n_net_options o = {.sequences = 1, .tokens = 1, .format = format, .lanes = {1, 160, 1}};
  speaking k = {0};
  double seconds = 0;
  M4N_TRY(m4n_config_preset(&o.config, preset));
  o.config.abr.levels = 0; // the backbone alone
  M4N_TRY(m4n_net_open(&k.net, l->s, &o));
  int status = m4n_net_start(k.net, 1);
  if (!status && !(k.at = m4n_alloc(l->backend, 3 * sizeof *k.at))) status = m4n_last_error()->status;
  if (!status) m4n_zero(l->s, m4n_chain_input(k.net->chain), (size_t)o.config.backbone.d * sizeof(m4n_real));
  if (!status) status = seconds_of(&seconds, speak, &k);
  if (!status) emit(preset, name, 1 / seconds, "tokens/s", aim * plain_rate * plain_share);
  m4n_free(l->backend, k.at);
  m4n_net_close(k.net);
  return status;
}

static int bench_tokens(const char *device, const char *preset) {
  lab one = {0};
  int status = m4n_backend_open(&one.backend, device, NULL);
  if (!status) status = m4n_stream_open(&one.s, one.backend);
  if (!status && m4n_backend_on_host(one.backend)) {
    status = measure_tokens(&one, preset, "token-float32", M4N_W_PACKED);
    if (!status) status = measure_tokens(&one, preset, "token-bf16", M4N_W_BF16);
    if (!status) status = measure_tokens(&one, preset, "token-int8", M4N_W_INT8);
  }
  m4n_stream_close(one.s);
  m4n_backend_close(one.backend);
  return status;
}

// ------------------------------------------------------------------------------------------------------------------------------

static int run(lab *l) {
  M4N_TRY(measure_gemm(l));
  M4N_TRY(bench_batch(l, "paper"));
  M4N_TRY(bench_decisions(l, "paper", M4N_CONTEXT_STREAM));
  M4N_TRY(bench_batch(l, "small"));
  M4N_TRY(bench_decisions(l, "small", M4N_CONTEXT_STREAM));
  return bench_decisions(l, "small", M4N_CONTEXT_WINDOW);
}

int m4n_bench_model(const char *device, int threads) {
  lab l = {0};
  M4N_TRY(m4n_pool_open(&l.pool, threads));
  int status = m4n_backend_open(&l.backend, device, l.pool);
  if (!status) status = m4n_stream_open(&l.s, l.backend);
  if (!status) status = run(&l);
  if (!status) status = bench_tokens(device, "paper");
  m4n_stream_close(l.s);
  m4n_backend_close(l.backend);
  m4n_pool_close(l.pool);
  return status;
}
