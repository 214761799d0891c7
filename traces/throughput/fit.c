// From a set of traces to a model: quantiles, transition counts and correlations, nothing iterative.
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_math.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"
#include "traces/throughput/model.h"
#include "traces/throughput/stats.h"

enum { STATES = M4N_TRACE_STATES, OUTAGE = STATES, KNOTS = M4N_TRACE_KNOTS };

static const double longest_memory = 0.95; // more pins a walk to the edges of its states

typedef struct mean_of {
  double mean;
  int n;
} mean_of;

// The set as the fit sees it: samples of all traces one behind the other.
typedef struct sampled {
  int traces;
  int *first;             // [traces + 1] where a trace's samples begin
  double *mbps, *z;       // [first[traces]] rate; standardised log-rate, NAN in an outage
  double *level, *spread; // [traces] of those that have both
  int levels;
  mean_of lag1;
  double *work; // [first[traces] + traces]
} sampled;

static void sort_quantiles(double *value, size_t n, double *q, int knots) {
  gsl_sort(value, 1, n);
  for (int i = 0; i < knots; i++)
    q[i] = n ? gsl_stats_quantile_from_sorted_data(value, 1, n, (double)i / (knots - 1)) : 0;
}

// The mean of traces' lag-1 autocorrelations, of those that vary.
static void add_lag1(mean_of *lag1, const double *mbps, int n) {
  if (n < 3 || gsl_stats_max(mbps, 1, (size_t)n) == gsl_stats_min(mbps, 1, (size_t)n)) return;
  lag1->n++;
  lag1->mean += (gsl_stats_lag1_autocorrelation(mbps, 1, (size_t)n) - lag1->mean) / lag1->n;
}

// ---- samples ----------------------------------------------------------------------------------------------

// The median of the traces' mean row lengths in whole seconds, at least one.
static double sample_period(const m4n_trace *trace, int count, double *work) {
  for (int i = 0; i < count; i++) work[i] = m4n_trace_seconds(&trace[i]) / (trace[i].rows - 1);
  gsl_sort(work, 1, (size_t)count);
  return fmin(fmax(1, round(gsl_stats_median_from_sorted_data(work, 1, (size_t)count))), 3600);
}

static void release(sampled *s) {
  free(s->first);
  free(s->mbps);
  free(s->z);
  free(s->level);
  free(s->spread);
  free(s->work);
  *s = (sampled){0};
}

static bool rows_are_samples(const m4n_trace *trace, double period) {
  double row = m4n_trace_seconds(trace) / (trace->rows - 1);
  return row > 0.75 * period && row < 1.25 * period;
}

// Rows of about one period are the samples; resampling would smooth what shifts against it. Else means of periods.
static int sample_one(const m4n_trace *trace, double period, double *mbps, int room) {
  if (!rows_are_samples(trace, period)) return m4n_trace_resample(trace, period, mbps, room);
  memcpy(mbps, trace->mbps + 1, ((size_t)trace->rows - 1) * sizeof *mbps);
  return trace->rows - 1;
}

static int sample(sampled *s, const m4n_trace *trace, int count, double *period) {
  size_t n = (size_t)count, room = 0;
  *s = (sampled){.traces = count};
  s->first = calloc(n + 1, sizeof *s->first);
  s->level = calloc(n, sizeof *s->level);
  s->spread = calloc(n, sizeof *s->spread);
  if (!s->first || !s->level || !s->spread) return m4n_fail(M4N_ENOMEM, "no memory for %d traces", count);
  *period = sample_period(trace, count, s->level);
  for (int i = 0; i < count; i++)
    room += rows_are_samples(&trace[i], *period)
                ? (size_t)trace[i].rows
                : (size_t)fmin(m4n_trace_seconds(&trace[i]) / *period + 1, M4N_TRACE_MAX_ROWS);
  if (room > INT32_MAX / 2) return m4n_fail(M4N_EUNSUPPORTED, "%zu samples are more than a fit takes", room);
  s->mbps = calloc(room, sizeof *s->mbps);
  s->z = calloc(room, sizeof *s->z);
  s->work = calloc(room + n, sizeof *s->work);
  if (!s->mbps || !s->z || !s->work) return m4n_fail(M4N_ENOMEM, "no memory for %zu samples", room);
  for (int i = 0; i < count; i++)
    s->first[i + 1] =
        s->first[i] + sample_one(&trace[i], *period, s->mbps + s->first[i], (int)room - s->first[i]);
  for (int i = 0; i < count; i++) add_lag1(&s->lag1, s->mbps + s->first[i], s->first[i + 1] - s->first[i]);
  return M4N_OK;
}

// m and s of every trace, z of every sample. A trace that hardly varies gets the smallest spread, and z near 0.
static void standardise(sampled *s) {
  static const double smallest = 0.01;
  for (int i = 0; i < s->traces; i++) {
    size_t n = 0;
    for (int k = s->first[i]; k < s->first[i + 1]; k++)
      if (s->mbps[k] >= M4N_TRACE_OUTAGE) s->work[n++] = log(s->mbps[k]);
    double mean = n ? gsl_stats_mean(s->work, 1, n) : 0;
    double spread = n > 1 ? fmax(gsl_stats_sd_m(s->work, 1, n, mean), smallest) : 1;
    for (int k = s->first[i]; k < s->first[i + 1]; k++)
      s->z[k] = s->mbps[k] >= M4N_TRACE_OUTAGE ? (log(s->mbps[k]) - mean) / spread : NAN;
    if (n < 2) continue;
    s->level[s->levels] = mean;
    s->spread[s->levels++] = log(spread);
  }
}

// ---- the model's parts ------------------------------------------------------------------------------------

static void fit_levels(m4n_trace_model *model, sampled *s) {
  size_t n = (size_t)s->levels;
  // Spearman's ρ to the correlation of normal scores: r = 2 sin(π ρ / 6).
  if (n > 2) {
    double rho = gsl_stats_spearman(s->level, 1, s->spread, 1, n, s->work);
    model->mean_spread = isfinite(rho) ? 2 * sin(M_PI / 6 * rho) : 0;
  }
  sort_quantiles(s->level, n, model->log_mean, M4N_TRACE_QUANTILES);
  sort_quantiles(s->spread, n, model->log_spread, M4N_TRACE_QUANTILES);
}

static void fit_scores(m4n_trace_model *model, const sampled *s) {
  size_t n = 0;
  for (int k = 0; k < s->first[s->traces]; k++)
    if (!isnan(s->z[k])) s->work[n++] = s->z[k];
  sort_quantiles(s->work, n, model->score, KNOTS);
}

static int state_of(const m4n_trace_model *model, double z) {
  int state = 0;
  if (isnan(z)) return OUTAGE;
  while (state < STATES - 1 && z >= model->score[(state + 1) * (KNOTS - 1) / STATES]) state++;
  return state;
}

static void normalise(double *p, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += p[i];
  for (int i = 0; i < n; i++) p[i] = sum > 0 ? p[i] / sum : 1.0 / n;
}

// Counts of what begins and of what follows what, a trace at a time; an outage is followed by where it leads.
static void fit_transitions(m4n_trace_model *model, const sampled *s) {
  for (int i = 0; i < s->traces; i++) {
    if (s->first[i] < s->first[i + 1]) model->start[state_of(model, s->z[s->first[i]])]++;
    for (int k = s->first[i]; k + 1 < s->first[i + 1]; k++) {
      int from = state_of(model, s->z[k]), to = state_of(model, s->z[k + 1]);
      if (from != OUTAGE)
        model->transition[from][to]++;
      else if (to != OUTAGE)
        model->outage_exit[to]++;
    }
  }
  normalise(model->start, STATES + 1);
  for (int i = 0; i < STATES; i++) normalise(model->transition[i], STATES + 1);
  normalise(model->outage_exit, STATES);
}

// The standard normal of which z is to its distribution what the result is to its own.
static double normal_score(const m4n_trace_model *model, double z) {
  const double *q = model->score;
  int i = 0;
  while (i < KNOTS - 2 && z >= q[i + 1]) i++;
  double width = q[i + 1] - q[i], u = (i + (width > 0 ? (z - q[i]) / width : 0.5)) / (KNOTS - 1);
  return gsl_cdf_ugaussian_Pinv(fmin(fmax(u, 1e-4), 1 - 1e-4));
}

// The correlation of neighbouring scores; `work` holds the earlier, the rates' memory the later ones.
static void fit_memory(m4n_trace_model *model, sampled *s) {
  size_t pairs = 0;
  for (int i = 0; i < s->traces; i++)
    for (int k = s->first[i]; k + 1 < s->first[i + 1]; k++) {
      if (isnan(s->z[k]) || isnan(s->z[k + 1])) continue;
      s->work[pairs] = normal_score(model, s->z[k]);
      s->mbps[pairs++] = normal_score(model, s->z[k + 1]);
    }
  double r = pairs < 10 ? 0 : gsl_stats_correlation(s->work, 1, s->mbps, 1, pairs);
  model->memory = isfinite(r) ? fmin(fmax(r, 0), longest_memory) : 0;
}

static int generated_lag1(const m4n_trace_model *model, double *lag1) {
  enum { TRACES = 100, STEPS = 320 };
  m4n_arena arena = {0};
  mean_of mean = {0};
  int status = M4N_OK;
  for (int i = 0; i < TRACES && !status; i++) {
    m4n_trace trace;
    m4n_arena_reset(&arena);
    status = m4n_trace_generate(&trace, &arena, model, 1, (uint64_t)i, STEPS * model->period_s);
    if (!status) add_lag1(&mean, trace.mbps + 1, trace.rows - 1);
  }
  m4n_arena_close(&arena);
  *lag1 = mean.mean;
  return status;
}

// Eight states forget too fast where a set has slow swings: then the memory is raised until generated traces
// are as correlated as the set's, by bisection. It is never lowered.
static int calibrate_memory(m4n_trace_model *model, const sampled *s) {
  double low = model->memory, high = longest_memory, lag1;
  M4N_TRY(generated_lag1(model, &lag1));
  if (lag1 >= s->lag1.mean) return M4N_OK;
  for (int i = 0; i < 8; i++) {
    model->memory = (low + high) / 2;
    M4N_TRY(generated_lag1(model, &lag1));
    *(lag1 < s->lag1.mean ? &low : &high) = model->memory;
  }
  return M4N_OK;
}

static void fit_outages(m4n_trace_model *model, const sampled *s) {
  size_t n = 0;
  for (int k = 0; k < s->first[s->traces]; k++)
    if (isnan(s->z[k])) s->work[n++] = s->mbps[k];
  sort_quantiles(s->work, n, model->outage_rate, M4N_TRACE_QUANTILES);

  n = 0;
  for (int i = 0; i < s->traces; i++)
    for (int k = s->first[i], length = 0; k < s->first[i + 1]; k++) {
      if (!isnan(s->z[k])) continue;
      length++;
      if (k + 1 < s->first[i + 1] && isnan(s->z[k + 1])) continue;
      s->work[n++] = length * model->period_s;
      length = 0;
    }
  sort_quantiles(s->work, n, model->outage_s, M4N_TRACE_QUANTILES);
}

// ---- the whole --------------------------------------------------------------------------------------------

static int fit(m4n_trace_model *model, sampled *s, const m4n_trace *trace, int count) {
  M4N_TRY(sample(s, trace, count, &model->period_s));
  standardise(s);
  if (!s->levels)
    return m4n_fail(M4N_EFORMAT, "no trace has two samples of %g s above %g Mbit/s to fit a model to",
                    model->period_s, M4N_TRACE_OUTAGE);
  model->max_mbps = gsl_stats_max(s->mbps, 1, (size_t)s->first[count]);
  fit_levels(model, s);
  fit_scores(model, s);
  fit_transitions(model, s);
  fit_outages(model, s);
  fit_memory(model, s); // behind the others: it works in the rates' memory
  return calibrate_memory(model, s);
}

int m4n_trace_model_fit(m4n_trace_model *model, const m4n_trace *trace, int count, const char *name) {
  *model = (m4n_trace_model){.traces = count, .outage_mbps = M4N_TRACE_OUTAGE, .rtt_ms = -1};
  if (count < 1) return m4n_fail(M4N_EARG, "no traces to fit a model to");
  if (!m4n_trace_model_name_ok(name))
    return m4n_fail(M4N_EARG, "\"%.80s\" is no model name: expected 1 to %d letters, digits, -, _ or .", name,
                    M4N_TRACE_NAME - 1);
  snprintf(model->name, sizeof model->name, "%s", name);
  m4n_trace_stats about;
  M4N_TRY(m4n_trace_stats_of(&about, trace, count, 1));
  model->seconds = round(about.median_s);
  double rtt = 0;
  int stated = 0;
  for (int i = 0; i < count; i++)
    if (trace[i].rtt_ms >= 0) rtt += trace[i].rtt_ms, stated++;
  if (stated) model->rtt_ms = rtt / stated;

  sampled s;
  int status = fit(model, &s, trace, count);
  release(&s);
  return status;
}
