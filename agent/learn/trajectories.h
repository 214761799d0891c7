/* Event logs as a learner wants them: every decision of every episode as one row of features, in memory, once.
 *
 *     m4n_trajectories *pool;
 *     M4N_TRY(m4n_trajectories_open(&pool, &(m4n_trajectories_options){.events = &path, .n_events = 1, .shape = &shape}));
 *     for (int e = 0; e < pool->n; e++)
 *       for (int t = 0; t < pool->episode[e].steps; t++) use(m4n_trajectories_row(pool, pool->episode[e].first + t));
 *     m4n_trajectories_close(pool);
 *
 * Episodes are sorted by policy, set, number and seed, so the order of a log (that of finishing) does not matter. Lost
 * ones are left out, truncated ones kept and marked. One pass over each file; memory is a row of features, an action
 * and two numbers a decision.
 */
#ifndef M4N_LEARN_TRAJECTORIES_H
#define M4N_LEARN_TRAJECTORIES_H

#include "agent/learn/checkpoint.h"
#include "agent/learn/store.h"
#include "agent/model/abr.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_trajectory {
  const char *policy;     /* who played it */
  int32_t set, steps;     /* steps ≥ 1 */
  int64_t episode, first; /* first: its first step in the pool's arrays */
  uint64_t seed;
  bool truncated;
  char label[M4N_LABEL]; /* what the simulator calls it: the trace */
  int32_t file;          /* which log it was in, and as which episode of it */
  int64_t ordinal;
  uint64_t hash; /* of all that the log says of it */
} m4n_trajectory;

typedef struct m4n_trajectories {
  m4n_spec spec;
  m4n_abr_shape shape;
  int features; /* columns of a row */
  m4n_condition condition;
  int n;
  m4n_trajectory *episode;
  int64_t steps;   /* of all episodes */
  m4n_real *row;   /* [steps][features] state, return to go, action */
  uint8_t *action; /* [steps] */
  uint8_t *advice; /* [steps] of the simulator's oracle, M4N_NO_ADVICE where it gave none */
  double *reward;  /* [steps] */
  float *weight;   /* [steps] of the loss: 1, or as m4n_trajectories_weigh says */
  int64_t advised; /* steps with advice */
  uint64_t
      hash; /* of the episodes and the condition, whatever the shape: labels are valid for this pool alone */
  struct m4n_trajectories_private *private_;
} m4n_trajectories;

enum { M4N_NO_ADVICE = 255 };

typedef struct m4n_trajectories_options {
  const char *const *events;
  int n_events;
  const m4n_abr_shape *shape; /* the encoder's; of another number of levels than the logs': EUNSUPPORTED */
  /* NULL: rewards are mapped by their own extremes, and returns scaled by `rtg_scale` (0: by the largest, so that they
   * lie in [0, 1]). Else as this model was trained. */
  const m4n_condition *condition;
  double rtg_scale;
  /* false: the return column is what came (§4.4). true: what was asked for: the condition's target, less what had come
   * so far, as a policy that acts sees it. Needs a condition. */
  bool asked;
} m4n_trajectories_options;

/* The spec of a log, from which a new model's shape is made. */
int m4n_trajectories_spec(m4n_spec *spec, const char *events);

/* ENOTFOUND, EFORMAT, EIO, ENOMEM; EUNSUPPORTED for logs of another task; EFORMAT naming what differs between the logs'
 * specs; EFORMAT if there is not a single whole episode. */
int m4n_trajectories_open(m4n_trajectories **pool, const m4n_trajectories_options *options);
void m4n_trajectories_close(m4n_trajectories *pool); /* NULL is fine */

static inline m4n_real *m4n_trajectories_row(const m4n_trajectories *pool, int64_t step) {
  return pool->row + step * pool->features;
}

/* Weights of the loss by advantage (§7.2): ω = exp(clip((R_t − V_t)/T, −2, 2)), divided by its mean over the pool. R_t is
 * the return to go, V_t its mean over all episodes of the pool with the same label at the same step, T `temperature`
 * times the deviation of R − V (0: 1). ENOMEM. */
int m4n_trajectories_weigh(m4n_trajectories *pool, double temperature);

#ifdef __cplusplus
}
#endif
#endif
