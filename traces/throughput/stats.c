#include "traces/throughput/stats.h"

#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/base/status.h"

double m4n_trace_seconds(const m4n_trace *trace) {
  return trace->time[trace->rows - 1] - trace->time[0];
}

double m4n_trace_mean(const m4n_trace *trace) {
  double mbit = 0;
  for (int i = 1; i < trace->rows; i++) mbit += trace->mbps[i] * (trace->time[i] - trace->time[i - 1]);
  return mbit / m4n_trace_seconds(trace);
}

double m4n_trace_variation(const m4n_trace *trace) {
  double mean = m4n_trace_mean(trace), sum = 0;
  for (int i = 1; i < trace->rows; i++) {
    double off = trace->mbps[i] - mean;
    sum += off * off * (trace->time[i] - trace->time[i - 1]);
  }
  return mean > 0 ? sqrt(sum / m4n_trace_seconds(trace)) / mean : 0;
}

int m4n_trace_resample(const m4n_trace *trace, double period_s, double *sample, int room) {
  int row = 1, count = 0;
  double at = trace->time[0];
  // The small allowance keeps a last stretch whose end rounding has moved by a little.
  while (count < room &&
         trace->time[0] + (count + 1) * period_s <= trace->time[trace->rows - 1] + 1e-9 * period_s) {
    double end = trace->time[0] + (count + 1) * period_s, mbit = 0;
    while (row < trace->rows && at < end) {
      double stop = fmin(end, trace->time[row]);
      mbit += trace->mbps[row] * (stop - at);
      at = stop;
      if (stop == trace->time[row]) row++;
    }
    sample[count++] = mbit / period_s;
  }
  return count;
}

static int by_rate(const void *a, const void *b) {
  double x = ((const m4n_trace_pair *)a)->mbps, y = ((const m4n_trace_pair *)b)->mbps;
  return (x > y) - (x < y);
}

m4n_trace_pair *m4n_trace_pool(const m4n_trace *trace, int count, size_t *pairs) {
  size_t n = 0;
  for (int i = 0; i < count; i++) n += (size_t)trace[i].rows - 1;
  m4n_trace_pair *pair = malloc(n * sizeof *pair);
  if (!pair) {
    m4n_fail(M4N_ENOMEM, "no memory for %zu rows", n);
    return NULL;
  }
  *pairs = n;
  n = 0;
  for (int i = 0; i < count; i++)
    for (int k = 1; k < trace[i].rows; k++)
      pair[n++] = (m4n_trace_pair){trace[i].mbps[k], trace[i].time[k] - trace[i].time[k - 1]};
  qsort(pair, n, sizeof *pair, by_rate);
  return pair;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void durations_and_means(m4n_trace_stats *stats, const m4n_trace *trace, int count, double *seconds) {
  for (int i = 0; i < count; i++) {
    double mean = m4n_trace_mean(&trace[i]);
    seconds[i] = m4n_trace_seconds(&trace[i]);
    stats->total_s += seconds[i];
    stats->mean += mean / count;
    stats->lowest = i ? fmin(stats->lowest, mean) : mean;
    stats->highest = i ? fmax(stats->highest, mean) : mean;
  }
  qsort(seconds, (size_t)count, sizeof *seconds, by_value);
  stats->shortest_s = seconds[0];
  stats->median_s = gsl_stats_median_from_sorted_data(seconds, 1, (size_t)count);
  stats->longest_s = seconds[count - 1];
}

static void rates(m4n_trace_stats *stats, const m4n_trace_pair *pair, size_t pairs) {
  double below = 0, outage = 0;
  int q = 0;
  for (size_t i = 0; i < pairs; i++) {
    below += pair[i].seconds;
    if (pair[i].mbps < M4N_TRACE_OUTAGE) outage = below;
    for (; q < 3 && below >= (q + 1) * stats->total_s / 4; q++) stats->quartile[q] = pair[i].mbps;
  }
  stats->min = pair[0].mbps;
  stats->max = pair[pairs - 1].mbps;
  for (; q < 3; q++) stats->quartile[q] = stats->max; // rounding in the sums
  stats->outage_share = outage / stats->total_s;
}

static int autocorrelation(m4n_trace_stats *stats, const m4n_trace *trace, int count, double period_s) {
  int varying = 0;
  for (int i = 0; i < count; i++) {
    double stretches = ceil(m4n_trace_seconds(&trace[i]) / period_s) + 1;
    int room = stretches < M4N_TRACE_MAX_ROWS ? (int)stretches : M4N_TRACE_MAX_ROWS;
    double *sample = malloc((size_t)room * sizeof *sample);
    if (!sample) return m4n_fail(M4N_ENOMEM, "no memory for %d samples", room);
    int n = m4n_trace_resample(&trace[i], period_s, sample, room);
    if (n >= 3 && gsl_stats_max(sample, 1, (size_t)n) > gsl_stats_min(sample, 1, (size_t)n)) {
      stats->lag1 += gsl_stats_lag1_autocorrelation(sample, 1, (size_t)n);
      varying++;
    }
    free(sample);
  }
  if (varying) stats->lag1 /= varying;
  return M4N_OK;
}

int m4n_trace_stats_of(m4n_trace_stats *stats, const m4n_trace *trace, int count, double period_s) {
  *stats = (m4n_trace_stats){.traces = count};
  double *seconds = malloc((size_t)count * sizeof *seconds);
  if (!seconds) return m4n_fail(M4N_ENOMEM, "no memory for %d traces", count);
  durations_and_means(stats, trace, count, seconds);
  free(seconds);
  size_t pairs;
  m4n_trace_pair *pair = m4n_trace_pool(trace, count, &pairs);
  if (!pair) return M4N_ENOMEM;
  rates(stats, pair, pairs);
  free(pair);
  return autocorrelation(stats, trace, count, period_s);
}
