/* Proximal policy optimisation (Schulman et al. 2017): advantages of what was played, and the gradient of the clipped objective.
 *
 * Bare numbers on the host: no model, no environment. Used by the expert stage and by fine-tuning after distillation.
 */
#ifndef M4N_LEARN_PPO_H
#define M4N_LEARN_PPO_H

#include <stdint.h>

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Generalised advantage estimation over one lane's T transitions in the order of time:
 *     δ_t = r_t + γ·V(s_{t+1}) − V(s_t),   A_t = δ_t + γ·λ·A_{t+1},   return_t = A_t + V(s_t)
 * done[t] != 0: the episode ended with transition t, so V(s_{t+1}) = 0 and nothing of t+1 flows back. value[T] is V of the state behind
 * the last transition. A transition whose episode was cut off must carry γ·V(last state) in its reward. */
void m4n_gae(float *advantage, float *target, const float *reward, const float *value, const uint8_t *done,
             int T, double gamma, double lambda);

/* Below the knee k < 0 a reward counts k·(1 + ln(r/k)): disasters must not drown all else, and yet the worse one must be worse. */
double m4n_bent_reward(double reward, double knee);

/* Advantages are brought to mean 0 and mean size 1, and none counts more than this: (A − mean) / mean |A − mean|, bounded. Not to deviation
 * 1: that is made by the few stalls, and leaves so little of the differences between levels that an entropy bonus drowns them. */
#define M4N_ADVANTAGE_MAX 30.0
float m4n_advantage(double advantage, double mean, double size);

typedef struct m4n_ppo {
  int choices;
  double clip;    /* 0.2 */
  double entropy; /* weight of the entropy bonus */
  double value;   /* weight of the value loss */
  double width;   /* w of its h: INFINITY where value and policy share no layers */
} m4n_ppo;

/* Means over the rows of a call. */
typedef struct m4n_ppo_stats {
  double policy; /* −min(ρ·A, clip(ρ, 1−ε, 1+ε)·A) */
  double entropy, kl, clipped, value_loss;
} m4n_ppo_stats;

/* out[n][choices + 1] are logits and value; d[n][choices + 1] receives the gradient of
 *     mean( −min(ρ·A, clip(ρ, 1−ε, 1+ε)·A) − entropy·H(π) + value·h(V − target) ),
 *     ρ = π(a)/π_old(a),
 *     h(e) = ½e² for |e| < w, else w·(|e| − ½w): a stall must not rule what the layers learn. */
void m4n_ppo_gradient(m4n_real *d, m4n_ppo_stats *stats, const m4n_real *out, const int32_t *action,
                      const float *old_logp, const float *advantage, const float *target, int n,
                      const m4n_ppo *ppo);

/* Imitation with the same outputs: d receives the gradient of mean( −ln π(guide) + value·h(V − target) ). */
void m4n_guided_gradient(m4n_real *d, const m4n_real *out, const int32_t *guide, const float *target, int n,
                         const m4n_ppo *ppo);

/* p[choices] = softmax(logits); returns ln p[action]. */
double m4n_policy_logp(double *p, const m4n_real *logits, int choices, int action);

#ifdef __cplusplus
}
#endif
#endif
