/* What a trace, or a set of traces, is like: the figures of `mamba4net trace info`, and what a generated set is
 * compared with its source by.
 *
 *     m4n_trace_stats about;
 *     M4N_TRY(m4n_trace_stats_of(&about, set.trace, set.count, 1));
 *     printf("%g Mbit/s, %g %% of the time below %g\n", about.mean, 100 * about.outage_share, M4N_TRACE_OUTAGE);
 */
#ifndef M4N_TRACES_STATS_H
#define M4N_TRACES_STATS_H

#include "traces/throughput/throughput.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Below this rate, in Mbit/s, a link counts as out: a third of the lowest level of the usual ladder. */
#define M4N_TRACE_OUTAGE 0.1

typedef struct m4n_trace_stats {
  int traces;
  double shortest_s, median_s, longest_s; /* durations */
  double total_s;
  double mean;                  /* Mbit/s: mean over the traces of each trace's mean over time */
  double lowest, highest;       /* of the traces' means */
  double min, quartile[3], max; /* of the rate over time, all traces pooled, Mbit/s */
  double outage_share;          /* of the pooled time, rate below M4N_TRACE_OUTAGE */
  double lag1; /* autocorrelation of samples `period_s` apart, mean over the traces that vary */
} m4n_trace_stats;

/* ENOMEM. `count` at least 1, `period_s` above 0. */
int m4n_trace_stats_of(m4n_trace_stats *stats, const m4n_trace *trace, int count, double period_s);

double m4n_trace_seconds(const m4n_trace *trace);
double m4n_trace_mean(const m4n_trace *trace);      /* Mbit/s over time */
double m4n_trace_variation(const m4n_trace *trace); /* standard deviation over time, as a share of the mean */

/* The rate's means over successive stretches of `period_s` from the trace's begin: fills sample[0 … return-1], at
 * most `room`; a partial last stretch is left out. */
int m4n_trace_resample(const m4n_trace *trace, double period_s, double *sample, int room);

/* A rate and how long it held: what distributions over time are made of. */
typedef struct m4n_trace_pair {
  double mbps, seconds;
} m4n_trace_pair;
/* All rows of the traces, sorted by rate; *pairs of them, to be freed. NULL on lack of memory. */
m4n_trace_pair *m4n_trace_pool(const m4n_trace *trace, int count, size_t *pairs);

#ifdef __cplusplus
}
#endif
#endif
