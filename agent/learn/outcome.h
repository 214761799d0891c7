/* What came of the decisions of played episodes: how likely each was under the policy that is to learn from it, how much
 * better it went than expected, and what its state was worth. What policy_gradient.h learns from.
 *
 *     m4n_outcome o;
 *     M4N_TRY(m4n_outcome_open(&o, pool->steps));
 *     … o.logp[step] and o.value[step] of every step of the pool, by the model …
 *     m4n_outcome_judge(&o, pool, &(m4n_judgement){.gamma = 0.99, .lambda = 0.95, .scale = 0.2, .floor = -20});
 *     M4N_TRY(m4n_outcome_save(&o, pool, path));            // what a resumed run reads with m4n_outcome_load
 *     m4n_outcome_close(&o);
 */
#ifndef M4N_LEARN_OUTCOME_H
#define M4N_LEARN_OUTCOME_H

#include "agent/learn/trajectories.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_outcome {
  int64_t steps;
  float *logp;      /* [steps] ln π(action) */
  float *value;     /* [steps + 1] V; the last is nobody's */
  float *advantage; /* [steps] mean 0, deviation 1 over those that count */
  float *target;    /* [steps] what V should have been */
  double variance;  /* of the targets that count */
} m4n_outcome;

typedef struct m4n_judgement {
  double gamma, lambda; /* of rewards, of advantages (ppo.h) */
  double scale,
      floor; /* a reward counts scale · max(reward, floor): rare disasters must not drown all else */
} m4n_judgement;

int m4n_outcome_open(m4n_outcome *outcome, int64_t steps); /* ENOMEM */
void m4n_outcome_close(m4n_outcome *outcome);              /* harmless on a zeroed one */

/* The last decision of an episode that was cut off is known by the value of its state alone: nothing is learned from it. */
static inline bool m4n_outcome_counts(const m4n_trajectory *episode, int t) {
  return t < episode->steps - episode->truncated;
}

/* Advantages and targets from rewards and values. ENOMEM. */
int m4n_outcome_judge(m4n_outcome *outcome, const m4n_trajectories *pool, const m4n_judgement *judgement);

/* A file, whole or not at all; reading it for another pool is EFORMAT. Values are not kept. */
int m4n_outcome_save(const m4n_outcome *outcome, const m4n_trajectories *pool, const char *path);
int m4n_outcome_load(m4n_outcome *outcome, const m4n_trajectories *pool, const char *path);

#ifdef __cplusplus
}
#endif
#endif
