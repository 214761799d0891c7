/* The objective of tuning: proximal policy optimisation of a model over windows of what it has just played itself, held
 * to somebody's answers (algorithms.md §7.4).
 *
 *     L = 1/n Σ_t [ −min(ρ_t·A_t, clip(ρ_t, 1−ε, 1+ε)·A_t) − η·H(π_t) + ½(V_t − R_t)²/σ² + β·KL(π_t ‖ label_t) ]
 *
 * ρ_t = π(a_t)/π_old(a_t): both under the same window, π_old with the weights that began the round (a decision was drawn
 * with all the past that a window holds, and most windows show less of it). The windows of an episode begin `stride` steps
 * apart; each decision is learned from once a pass, in the first window that holds it, where it has at least w − stride
 * steps before it (or all there are). n counts the decisions of a batch; η falls to 0; R and A are of outcome.h, and σ² is
 * the variance of R in the round: a value part of ½ explains nothing. V's gradient ends at its head (agent/model/net.h), so
 * that part needs no weight. Where the labeller has only choices, the divergence is the cross-entropy with them.
 *
 *     m4n_policy_gradient *pg;
 *     M4N_TRY(m4n_policy_gradient_open(&pg, &(m4n_policy_gradient_options){.net = net, .batch = 32, .stride = 10, …}));
 *     before the first step of a round:
 *       M4N_TRY(m4n_policy_gradient_round(pg, &played, first_step));
 *       M4N_TRY(m4n_policy_gradient_judge(pg));                 // or m4n_outcome_load(m4n_policy_gradient_outcome(pg), …)
 *     m4n_objective objective = m4n_policy_gradient_objective(pg);
 */
#ifndef M4N_LEARN_POLICY_GRADIENT_H
#define M4N_LEARN_POLICY_GRADIENT_H

#include "agent/learn/imitation.h"
#include "agent/learn/outcome.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_policy_gradient_options {
  m4n_net *net; /* with a value head */
  int batch, stride;
  uint64_t seed;
  m4n_judgement judgement;
  double clip, entropy, reference; /* ε; η in the first step; β */
  int64_t steps, value_first;      /* of the whole run; the first ones teach the value head alone */
} m4n_policy_gradient_options;

typedef struct m4n_policy_gradient m4n_policy_gradient;

int m4n_policy_gradient_open(m4n_policy_gradient **pg, const m4n_policy_gradient_options *options);
void m4n_policy_gradient_close(m4n_policy_gradient *pg); /* NULL is fine */

/* From this step on these episodes are learned from, which outlive their use; labels of windows must be of this window and
 * stride. EARG, ENOMEM. */
int m4n_policy_gradient_round(m4n_policy_gradient *pg, const m4n_played *played, int64_t first_step);
/* The round's outcome by the model as it is. */
int m4n_policy_gradient_judge(m4n_policy_gradient *pg);
m4n_outcome *m4n_policy_gradient_outcome(m4n_policy_gradient *pg);
int m4n_policy_gradient_windows(const m4n_policy_gradient *pg); /* of the round */

/* batch, loss, look; a stage adds the rest. */
m4n_objective m4n_policy_gradient_objective(m4n_policy_gradient *pg);

#ifdef __cplusplus
}
#endif
#endif
