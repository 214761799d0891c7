#include "agent/learn/stats.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/rng.h"
#include "kernels/base/status.h"

enum {
  BLOCK = 64, /* columns that are resampled at a time */
  EXACT = 50  /* differences up to which signed ranks are counted out: 2^50 is a whole double */
};

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int m4n_sort(double *x, int n) {
  int kept = 0;
  for (int i = 0; i < n; i++) {
    if (isnan(x[i])) continue;
    double number = x[i];
    x[i] = x[kept];
    x[kept++] = number;
  }
  if (kept) qsort(x, (size_t)kept, sizeof *x, ascending);
  return kept;
}

double m4n_mean(const double *x, int n, int *n_used) {
  double sum = 0;
  int used = 0;
  for (int i = 0; i < n; i++)
    if (!isnan(x[i])) sum += x[i], used++;
  if (n_used) *n_used = used;
  return used ? sum / used : NAN;
}

double m4n_quantile(const double *sorted, int n, double q) {
  return n ? gsl_stats_quantile_from_sorted_data(sorted, 1, (size_t)n, q) : NAN;
}

/* ---- bootstrap */

/* What the resampling works on: missing values are 0 with weight 0. */
typedef struct resampling {
  int rows, columns, resamples;
  double *value, *weight; /* [rows][columns] */
  double *sum, *count;    /* [columns] of one resample */
  double *means;          /* [columns][resamples] */
} resampling;

static void resample(const resampling *s, uint64_t seed) {
  m4n_rng rng = m4n_rng_make(seed, 0, M4N_RNG_BOOTSTRAP);
  size_t columns = (size_t)s->columns;
  for (int r = 0; r < s->resamples; r++) {
    memset(s->sum, 0, columns * sizeof *s->sum);
    memset(s->count, 0, columns * sizeof *s->count);
    for (int i = 0; i < s->rows; i++) {
      size_t row = m4n_rng_below(&rng, (uint32_t)s->rows) * columns;
      const double *value = s->value + row, *weight = s->weight + row;
      for (size_t c = 0; c < columns; c++) s->sum[c] += value[c];
      for (size_t c = 0; c < columns; c++) s->count[c] += weight[c];
    }
    for (size_t c = 0; c < columns; c++)
      s->means[c * (size_t)s->resamples + (size_t)r] = s->sum[c] / s->count[c];
  }
}

/* BCa: the percentiles alpha and 1 - alpha of the resampled means are moved to
 *
 *     Phi(z0 + (z0 + z) / (1 - a (z0 + z))),    z = Phi^-1(alpha) or Phi^-1(1 - alpha)
 *
 * z0 = Phi^-1(share of resampled means below the mean): the bias; a = sum d^3 / (6 (sum d^2)^(3/2)) with d the
 * values' deviations from their mean: the acceleration, by the jackknife, which for a mean has this closed form.
 */
static m4n_interval bca(const resampling *s, int c, double level) {
  double mean = 0, n = 0, d2 = 0, d3 = 0, below = 0, *means = s->means + (size_t)c * (size_t)s->resamples;
  for (int i = 0; i < s->rows; i++) {
    size_t at = (size_t)i * (size_t)s->columns + (size_t)c;
    mean += s->value[at], n += s->weight[at];
  }
  mean /= n;
  for (int i = 0; i < s->rows; i++) {
    size_t at = (size_t)i * (size_t)s->columns + (size_t)c;
    double d = s->weight[at] > 0 ? s->value[at] - mean : 0;
    d2 += d * d, d3 += d * d * d;
  }
  int drawn = m4n_sort(means, s->resamples); // a resample that drew only missing values has no mean
  if (n < 2 || !(d2 > 0)) return (m4n_interval){mean, mean};
  for (int r = 0; r < drawn; r++) below += means[r] < mean ? 1 : means[r] > mean ? 0 : 0.5;
  double share = fmin(fmax(below / drawn, 0.5 / drawn), 1 - 0.5 / drawn);
  double z0 = gsl_cdf_ugaussian_Pinv(share), a = d3 / (6 * d2 * sqrt(d2)), alpha = (1 - level) / 2, q[2];
  for (int side = 0; side < 2; side++) {
    double z = z0 + (side ? 1 : -1) * gsl_cdf_ugaussian_Qinv(alpha);
    q[side] = gsl_cdf_ugaussian_P(z0 + z / (1 - a * z));
  }
  return (m4n_interval){m4n_quantile(means, drawn, q[0]), m4n_quantile(means, drawn, q[1])};
}

// Every block of columns draws the same rows, so that the width of a block changes nothing but the memory.
static void resample_block(m4n_interval *interval, resampling *s, const double *x, int all_columns, int first,
                           const m4n_bootstrap *options) {
  for (int i = 0; i < s->rows; i++)
    for (int c = 0; c < s->columns; c++) {
      double value = x[(size_t)i * (size_t)all_columns + (size_t)(first + c)];
      size_t at = (size_t)i * (size_t)s->columns + (size_t)c;
      s->value[at] = isnan(value) ? 0 : value;
      s->weight[at] = !isnan(value);
    }
  resample(s, options->seed);
  for (int c = 0; c < s->columns; c++)
    interval[first + c] = bca(s, c, options->level > 0 ? options->level : 0.95);
}

int m4n_bootstrap_means(m4n_interval *interval, const double *x, int rows, int columns,
                        const m4n_bootstrap *options) {
  int resamples = options->resamples ? options->resamples : 10000;
  if (resamples < 100 || resamples > 1000000)
    return m4n_fail(M4N_EARG, "%d resamples: expected 100 to 1000000", resamples);
  if (rows <= 0) {
    for (int c = 0; c < columns; c++) interval[c] = (m4n_interval){NAN, NAN};
    return M4N_OK;
  }
  size_t width = columns < BLOCK ? (size_t)columns : BLOCK, cells = (size_t)rows * width;
  double *memory = calloc(2 * cells + 2 * width + width * (size_t)resamples + 1, sizeof *memory);
  if (!memory) return m4n_fail(M4N_ENOMEM, "no memory for %d resamples of %d rows", resamples, rows);
  resampling s = {.rows = rows, .resamples = resamples, .value = memory};
  s.weight = s.value + cells;
  s.sum = s.weight + cells;
  s.count = s.sum + width;
  s.means = s.count + width;
  for (int first = 0; first < columns; first += s.columns) {
    s.columns = columns - first < BLOCK ? columns - first : BLOCK;
    resample_block(interval, &s, x, columns, first, options);
  }
  free(memory);
  return M4N_OK;
}

/* ---- Wilcoxon's signed ranks */

typedef struct signed_rank {
  double size, sign;
} signed_rank;

static int by_size(const void *a, const void *b) {
  double x = ((const signed_rank *)a)->size, y = ((const signed_rank *)b)->size;
  return (x > y) - (x < y);
}

// P(W <= w) where W is the sum of those ranks of 1 … n that fair coins choose. `ways` [n (n + 1) / 2 + 1] zeros.
static double signed_rank_cdf(double *ways, int n, int w) {
  ways[0] = 1;
  for (int rank = 1, top = 0; rank <= n; rank++) {
    top += rank;
    for (int sum = top; sum >= rank; sum--) ways[sum] += ways[sum - rank];
  }
  double total = 0;
  for (int sum = 0; sum <= w; sum++) total += ways[sum];
  return ldexp(total, -n);
}

int m4n_wilcoxon(double *p, const double *difference, int n) {
  *p = 1;
  signed_rank *d = malloc((size_t)n * sizeof *d + 1);
  double *ways = calloc(EXACT * (EXACT + 1) / 2 + 1, sizeof *ways);
  if (!d || !ways) {
    free(d);
    free(ways);
    return m4n_fail(M4N_ENOMEM, "no memory for a signed-rank test");
  }
  int kept = 0;
  for (int i = 0; i < n; i++)
    if (difference[i] < 0 || difference[i] > 0)
      d[kept++] = (signed_rank){fabs(difference[i]), difference[i] > 0 ? 1 : -1};
  qsort(d, (size_t)kept, sizeof *d, by_size);

  // Equal sizes share the mean of their ranks; sum of t^3 - t over such groups.
  double plus = 0, minus = 0, ties = 0;
  for (int first = 0, end; first < kept; first = end) {
    for (end = first + 1; end < kept && d[end].size <= d[first].size;) end++;
    double t = end - first, rank = (first + 1 + end) / 2.0;
    ties += t * t * t - t;
    for (int i = first; i < end; i++) *(d[i].sign > 0 ? &plus : &minus) += rank;
  }
  double m = kept, least = fmin(plus, minus);
  if (kept && kept <= EXACT && !(ties > 0)) {
    *p = fmin(1, 2 * signed_rank_cdf(ways, kept, (int)least));
  } else if (kept) {
    // Mean m(m+1)/4, variance m(m+1)(2m+1)/24 - ties/48, half a rank towards the mean.
    double mean = m * (m + 1) / 4, variance = m * (m + 1) * (2 * m + 1) / 24 - ties / 48;
    double z = (mean - least - 0.5) / sqrt(variance);
    *p = fmin(1, 2 * gsl_cdf_ugaussian_Q(fmax(z, 0)));
  }
  free(d);
  free(ways);
  return M4N_OK;
}

/* ---- Holm */

typedef struct ranked {
  double p;
  int at;
} ranked;

static int by_p(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  return x->p < y->p ? -1 : x->p > y->p ? 1 : x->at - y->at;
}

int m4n_holm(double *adjusted, const double *p, int n) {
  ranked *r = malloc((size_t)n * sizeof *r + 1);
  if (!r) return m4n_fail(M4N_ENOMEM, "no memory to correct %d comparisons", n);
  for (int i = 0; i < n; i++) r[i] = (ranked){p[i], i};
  qsort(r, (size_t)n, sizeof *r, by_p);
  double most = 0;
  for (int i = 0; i < n; i++) {
    most = fmax(most, fmin(1, (n - i) * r[i].p));
    adjusted[r[i].at] = most;
  }
  free(r);
  return M4N_OK;
}
