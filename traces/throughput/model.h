/* Synthetic throughput traces: a Markov-modulated rate that is fitted to a set of real traces.
 *
 * Time goes in steps of the set's own sample period. A trace first draws its level m and its spread s (mean and
 * deviation of the logarithm of its rate) from the set's distributions of both, correlated as the set's are.
 * Then it walks through eight states, each holding an eighth of the set's standardised log-rates
 * z = (ln rate − m) / s, by the set's transition matrix. Where it is inside a state follows a Gaussian AR(1) of
 * z's normal score, given that the score lies in the state. A ninth state is an outage: entered from a state with
 * that state's probability, held for a duration of the set's outages, left to a state by the set's frequencies.
 *
 *     m4n_trace_model model;
 *     M4N_TRY(m4n_trace_model_open(&model, "fcc"));                // a name, or a JSON file's path
 *     for (int i = 0; i < 60; i++) M4N_TRY(m4n_trace_generate(&trace[i], &arena, &model, seed, i, 320));
 *
 * A model is facts about a set (some 250 numbers), never a piece of it.
 */
#ifndef M4N_TRACES_MODEL_H
#define M4N_TRACES_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "traces/throughput/throughput.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  M4N_TRACE_STATES = 8,
  M4N_TRACE_KNOTS = 33,     /* quantiles of z at 0, 1/32, … 1: four pieces a state */
  M4N_TRACE_QUANTILES = 21, /* quantiles of the other distributions at 0, 1/20, … 1 */
  M4N_TRACE_NAME = 64
};

typedef struct m4n_trace_model {
  char name[M4N_TRACE_NAME]; /* letters, digits, "-", "_", "." */
  double traces;             /* how many it was fitted on */
  double period_s;           /* of a step */
  double seconds;            /* median duration of the set: what is generated where nobody says */
  double rtt_ms;             /* mean round trip that the files state; -1 where they state none */
  double max_mbps;           /* highest rate of the set */
  double log_mean[M4N_TRACE_QUANTILES], log_spread[M4N_TRACE_QUANTILES]; /* of m; of ln s */
  double mean_spread;                 /* correlation of both, of their normal scores */
  double score[M4N_TRACE_KNOTS];      /* quantiles of z */
  double start[M4N_TRACE_STATES + 1]; /* where traces begin; the last is an outage */
  double transition[M4N_TRACE_STATES]
                   [M4N_TRACE_STATES + 1]; /* a step's probabilities; the last is an outage */
  double memory;                           /* AR(1) coefficient of z's normal score */
  double outage_mbps;                      /* an outage is below this */
  double outage_s[M4N_TRACE_QUANTILES];    /* durations */
  double outage_rate[M4N_TRACE_QUANTILES]; /* Mbit/s during outages */
  double outage_exit[M4N_TRACE_STATES];    /* where they lead */
} m4n_trace_model;

/* A model that is built in ("fcc", see m4n_trace_model_builtin) or, where there is none of that name, a file.
 * EFORMAT names file, line and key; ENOTFOUND lists the names there are. */
int m4n_trace_model_open(m4n_trace_model *model, const char *name_or_path);
int m4n_trace_model_parse(m4n_trace_model *model, const char *name, const void *data, size_t size);
int m4n_trace_model_write(const m4n_trace_model *model, const char *path);

/* The name of built-in model `index`, NULL behind the last. */
const char *m4n_trace_model_builtin(int index);

/* Whether a model may be called so: it becomes part of file names. */
bool m4n_trace_model_name_ok(const char *name);

/* Fits a model to `count` traces. EFORMAT where no trace is long enough; EARG for a bad name. */
int m4n_trace_model_fit(m4n_trace_model *model, const m4n_trace *trace, int count, const char *name);

/* Trace `index` of the set `seed`: the same numbers whoever asks, for any other index and in any order. Lasts
 * `seconds`, rounded up to whole steps; memory comes from `arena`. Rates are whole kbit/s. EARG for a duration
 * that is not above 0 or has more than M4N_TRACE_MAX_ROWS steps, ENOMEM. */
int m4n_trace_generate(m4n_trace *trace, m4n_arena *arena, const m4n_trace_model *model, uint64_t seed,
                       uint64_t index, double seconds);

#ifdef __cplusplus
}
#endif
#endif
