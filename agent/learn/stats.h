/* Statistics of episodes: means with bootstrap intervals, paired tests, corrections for many comparisons.
 *
 * Policies play the same episodes, so columns (a metric of a policy, a difference of two policies) are resampled
 * together: one draw of episodes serves all of them. Deterministic: equal data and seed give equal bytes.
 *
 *     double x[81][2];                                        // episodes in rows, what is measured in columns
 *     m4n_interval ci[2];
 *     M4N_TRY(m4n_bootstrap_means(ci, &x[0][0], 81, 2, &(m4n_bootstrap){.resamples = 10000, .seed = 1}));
 */
#ifndef M4N_LEARN_STATS_H
#define M4N_LEARN_STATS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_interval {
  double low, high;
} m4n_interval;

typedef struct m4n_bootstrap {
  int resamples; /* 0: 10,000 */
  uint64_t seed;
  double level; /* of confidence; 0: 0.95 */
} m4n_bootstrap;

/* BCa intervals (Efron 1987) of the means of `columns` columns of x [rows][columns], by resampling rows. NaN is
 * a value that is missing: it enters no mean. A column of one value or less gives {mean, mean}, an empty one
 * NaN. EARG for fewer than 100 resamples, ENOMEM. */
int m4n_bootstrap_means(m4n_interval *interval, const double *x, int rows, int columns,
                        const m4n_bootstrap *options);

/* NaN entries are skipped; NaN where there is nothing. `n_used` may be NULL. */
double m4n_mean(const double *x, int n, int *n_used);

/* The q-quantile (0 … 1) of n sorted values, between order statistics linearly (R's type 7). NaN for n = 0. */
double m4n_quantile(const double *sorted, int n, double q);
/* Sorts in place, NaN behind; returns how many are numbers. */
int m4n_sort(double *x, int n);

/* Wilcoxon's signed-rank test of n paired differences, two-sided: zeros are dropped; exact up to 50 differences
 * without ties, else the normal approximation with the correction for ties and for continuity (as R does). 1
 * where nothing is left. ENOMEM. */
int m4n_wilcoxon(double *p, const double *difference, int n);

/* Holm's step-down correction of n p-values for n comparisons; `adjusted` may be `p`. ENOMEM. */
int m4n_holm(double *adjusted, const double *p, int n);

#ifdef __cplusplus
}
#endif
#endif
