#include "agent/learn/ppo.h"

#include <math.h>

enum { MAX_CHOICES = 256 };

void m4n_gae(float *advantage, float *target, const float *reward, const float *value, const uint8_t *done,
             int T, double gamma, double lambda) {
  double next = 0;
  for (int t = T - 1; t >= 0; t--) {
    double live = done[t] ? 0 : 1;
    double delta = reward[t] + gamma * live * value[t + 1] - value[t];
    next = delta + gamma * lambda * live * next;
    advantage[t] = (float)next;
    target[t] = (float)(next + value[t]);
  }
}

double m4n_bent_reward(double reward, double knee) {
  return reward < knee ? knee * (1 + log(reward / knee)) : reward;
}

static double bounded(double x, double most) {
  return fmin(fmax(x, -most), most);
}

float m4n_advantage(double advantage, double mean, double size) {
  return (float)bounded((advantage - mean) / (size + 1e-8), M4N_ADVANTAGE_MAX);
}

double m4n_policy_logp(double *p, const m4n_real *logits, int choices, int action) {
  double most = logits[0], sum = 0;
  for (int a = 1; a < choices; a++) most = fmax(most, logits[a]);
  for (int a = 0; a < choices; a++) sum += p[a] = exp(logits[a] - most);
  for (int a = 0; a < choices; a++) p[a] /= sum;
  return logits[action] - most - log(sum);
}

void m4n_ppo_gradient(m4n_real *d, m4n_ppo_stats *stats, const m4n_real *out, const int32_t *action,
                      const float *old_logp, const float *advantage, const float *target, int n,
                      const m4n_ppo *ppo) {
  const int K = ppo->choices;
  double p[MAX_CHOICES];
  *stats = (m4n_ppo_stats){0};
  for (int i = 0; i < n; i++) {
    const m4n_real *z = out + (size_t)i * (size_t)(K + 1);
    m4n_real *dz = d + (size_t)i * (size_t)(K + 1);
    double logp = m4n_policy_logp(p, z, K, action[i]), ratio = exp(logp - old_logp[i]), A = advantage[i];
    double entropy = 0;
    for (int a = 0; a < K; a++) entropy -= p[a] > 0 ? p[a] * log(p[a]) : 0;
    // Where the ratio has left the trust region in the direction of the advantage, the surrogate is flat.
    int flat = A > 0 ? ratio > 1 + ppo->clip : ratio < 1 - ppo->clip;
    double pull = flat ? 0 : -A * ratio;
    for (int a = 0; a < K; a++) {
      double dlogp = (a == action[i]) - p[a];
      double dentropy = p[a] > 0 ? -p[a] * (log(p[a]) + entropy) : 0;
      dz[a] = (m4n_real)((pull * dlogp - ppo->entropy * dentropy) / n);
    }
    double error = z[K] - target[i];
    dz[K] = (m4n_real)(ppo->value * bounded(error, ppo->width) / n);
    stats->policy -= fmin(ratio * A, fmin(fmax(ratio, 1 - ppo->clip), 1 + ppo->clip) * A) / n;
    stats->entropy += entropy / n;
    stats->kl += (old_logp[i] - logp) / n;
    stats->clipped += (double)flat / n;
    stats->value_loss +=
        (fabs(error) < ppo->width ? 0.5 * error * error : ppo->width * (fabs(error) - 0.5 * ppo->width)) / n;
  }
}

void m4n_guided_gradient(m4n_real *d, const m4n_real *out, const int32_t *guide, const float *target, int n,
                         const m4n_ppo *ppo) {
  const int K = ppo->choices;
  double p[MAX_CHOICES];
  for (int i = 0; i < n; i++) {
    const m4n_real *z = out + (size_t)i * (size_t)(K + 1);
    m4n_real *dz = d + (size_t)i * (size_t)(K + 1);
    m4n_policy_logp(p, z, K, guide[i]);
    for (int a = 0; a < K; a++) dz[a] = (m4n_real)((p[a] - (a == guide[i])) / n);
    dz[K] = (m4n_real)(ppo->value * bounded(z[K] - target[i], ppo->width) / n);
  }
}
