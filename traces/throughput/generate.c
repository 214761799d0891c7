// From a model to traces. The stream of trace `index` is Philox's for (seed, index, GENERATE): no trace depends on
// another.
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "traces/throughput/model.h"

enum { STATES = M4N_TRACE_STATES, OUTAGE = STATES };

// Linear between the knots q[0 … n-1], which stand at 0, 1/(n-1), … 1.
static double quantile(const double *q, int n, double u) {
  double place = u * (n - 1);
  int i = (int)place;
  if (i > n - 2) i = n - 2;
  return q[i] + (place - i) * (q[i + 1] - q[i]);
}

static double between(double a, double b, double u) {
  return a + u * (b - a);
}

// The index whose stretch of [0, sum of p) holds u.
static int draw(const double *p, int n, double u) {
  int i = 0;
  while (i < n - 1 && (u -= p[i]) >= 0) i++;
  return i;
}

typedef struct walk {
  const m4n_trace_model *model;
  m4n_rng rng;
  double mean, spread; // of this trace's log-rate
  int state, left;     // left: steps that an outage still lasts
  double score;        // z's normal score; outside outages inside the state's eighth
} walk;

// A normal of mean ρ·score and variance 1−ρ², given that it lies in the state's eighth: by its distribution
// function, in the tail where that is exact.
static void place(walk *w, double rho) {
  double mean = rho * w->score, deviation = sqrt(1 - rho * rho);
  double low = w->state ? (gsl_cdf_ugaussian_Pinv((double)w->state / STATES) - mean) / deviation : -40;
  double high =
      w->state < STATES - 1 ? (gsl_cdf_ugaussian_Pinv((w->state + 1.0) / STATES) - mean) / deviation : 40;
  double u = m4n_rng_uniform(&w->rng);
  double x = low > 0
                 ? gsl_cdf_ugaussian_Qinv(between(gsl_cdf_ugaussian_Q(low), gsl_cdf_ugaussian_Q(high), u))
                 : gsl_cdf_ugaussian_Pinv(between(gsl_cdf_ugaussian_P(low), gsl_cdf_ugaussian_P(high), u));
  w->score = mean + deviation * fmin(fmax(x, low), high);
}

static void begin_outage(walk *w, int most) {
  double s = quantile(w->model->outage_s, M4N_TRACE_QUANTILES, m4n_rng_uniform(&w->rng));
  w->left = (int)fmin(fmax(1, round(s / w->model->period_s)), most);
}

static walk begin(const m4n_trace_model *model, uint64_t seed, uint64_t index, int steps) {
  walk w = {.model = model, .rng = m4n_rng_make(seed, index, M4N_RNG_GENERATE)};
  double a = m4n_rng_normal(&w.rng), b = m4n_rng_normal(&w.rng), r = model->mean_spread;
  w.mean = quantile(model->log_mean, M4N_TRACE_QUANTILES, gsl_cdf_ugaussian_P(a));
  w.spread =
      exp(quantile(model->log_spread, M4N_TRACE_QUANTILES, gsl_cdf_ugaussian_P(r * a + sqrt(1 - r * r) * b)));
  w.state = draw(model->start, STATES + 1, m4n_rng_uniform(&w.rng));
  if (w.state == OUTAGE && steps == 1) w.state = 0;
  if (w.state == OUTAGE)
    begin_outage(&w, steps - 1); // a silent start, but never all of a trace
  else
    place(&w, 0);
  return w;
}

static double rate(walk *w) {
  const m4n_trace_model *m = w->model;
  if (w->state == OUTAGE) return quantile(m->outage_rate, M4N_TRACE_QUANTILES, m4n_rng_uniform(&w->rng));
  double z = quantile(m->score, M4N_TRACE_KNOTS, gsl_cdf_ugaussian_P(w->score));
  return fmin(fmax(exp(w->mean + w->spread * z), m->outage_mbps), m->max_mbps);
}

static void step(walk *w) {
  const m4n_trace_model *m = w->model;
  bool out = w->state == OUTAGE;
  if (out && --w->left > 0) return;
  w->state = out ? draw(m->outage_exit, STATES, m4n_rng_uniform(&w->rng))
                 : draw(m->transition[w->state], STATES + 1, m4n_rng_uniform(&w->rng));
  if (w->state == OUTAGE)
    begin_outage(w, M4N_TRACE_MAX_ROWS);
  else
    place(w, out ? 0 : m->memory); // an outage forgets what was before it
}

int m4n_trace_generate(m4n_trace *trace, m4n_arena *arena, const m4n_trace_model *model, uint64_t seed,
                       uint64_t index, double seconds) {
  double steps = ceil(seconds / model->period_s - 1e-9);
  if (!(seconds > 0 && steps < M4N_TRACE_MAX_ROWS))
    return m4n_fail(M4N_EARG, "%g s: expected a duration above 0 of at most %g s", seconds,
                    (M4N_TRACE_MAX_ROWS - 1) * model->period_s);
  int n = steps < 1 ? 1 : (int)steps;
  double *time = m4n_arena_alloc(arena, ((size_t)n + 1) * sizeof *time);
  double *mbps = m4n_arena_alloc(arena, ((size_t)n + 1) * sizeof *mbps);
  char name[M4N_TRACE_NAME + 48];
  snprintf(name, sizeof name, "%s_%llu_%06llu", model->name, (unsigned long long)seed,
           (unsigned long long)index);
  const char *kept = m4n_arena_strdup(arena, name);
  if (!time || !mbps || !kept) return M4N_ENOMEM;

  walk w = begin(model, seed, index, n);
  for (int i = 1; i <= n; i++) {
    time[i] = i * model->period_s;
    mbps[i] = round(rate(&w) * 1000) / 1000; // whole kbit/s: what is left of a libm's last bit rounds away
    step(&w);
  }
  mbps[0] = mbps[1];
  *trace = (m4n_trace){kept, n + 1, M4N_TRACE_COOKED, time, mbps, model->rtt_ms};
  return M4N_OK;
}
