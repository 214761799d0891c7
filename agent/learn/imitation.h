/* The objective of teacher and student: do as was done, and answer as the labels answer (algorithms.md §7.2, §7.3).
 *
 *     L = 1/n Σ_t [ a·ω_t·CE(z_t, action_t) + β·KL(label_t ‖ z_t) ]   over steps of recorded windows
 *       + 1/n Σ_t β_on·KL(label_t ‖ z_t)                              over steps of windows that the student played itself
 *
 * n counts all steps of a batch; a share λ of its windows is the student's own. Where the labeller has only choices, the
 * divergence is the cross-entropy with them. Padding, and steps without a label, count nothing.
 *
 *     m4n_imitation *imitation;
 *     M4N_TRY(m4n_imitation_open(&imitation, &(m4n_imitation_options){.net = net, .batch = 32, .seed = 1,
 *                                 .pool = pool, .task_weight = 1}));
 *     m4n_objective objective = m4n_imitation_objective(imitation);
 */
#ifndef M4N_LEARN_IMITATION_H
#define M4N_LEARN_IMITATION_H

#include "agent/learn/labels.h"
#include "agent/learn/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_imitation_options {
  m4n_net *net;
  int batch;
  uint64_t seed;
  const m4n_trajectories *pool;
  const m4n_labels *labels; /* of the pool; NULL: none */
  double task_weight, label_weight;
  double on_policy_share, on_policy_weight; /* λ, β_on */
  int divergence;                           /* enum m4n_divergence */
  double temperature, jsd;
} m4n_imitation_options;

typedef struct m4n_imitation m4n_imitation;

int m4n_imitation_open(m4n_imitation **imitation, const m4n_imitation_options *options);
void m4n_imitation_close(m4n_imitation *imitation); /* NULL is fine */

/* What the student has played itself from now on: n pools, each with its labels, all of which outlive their use. EARG if
 * labels are missing. */
typedef struct m4n_played {
  const m4n_trajectories *pool;
  const m4n_labels *labels;
} m4n_played;
int m4n_imitation_play(m4n_imitation *imitation, const m4n_played *played, int n);

/* batch, loss, look; a stage adds the rest. */
m4n_objective m4n_imitation_objective(m4n_imitation *imitation);

#ifdef __cplusplus
}
#endif
#endif
