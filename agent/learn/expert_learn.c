// What the lanes did becomes one update: advantages, and passes over all transitions in minibatches.
#include <math.h>
#include <string.h>

#include "agent/learn/expert_internal.h"
#include "agent/learn/ppo.h"

// from · (to/from)^share
static double fall(double from, double to, double share) {
  return from * pow(to / from, share);
}

// Advantages of all lanes and the list of all transitions. Returns their number.
static int64_t gather(m4n_expert *e) {
  int64_t n = 0;
  double sum = 0, size = 0;
  for (int i = 0; i < e->o.lanes; i++) {
    expert_lane *l = &e->lane[i];
    if (!l->waiting) l->value[l->count] = 0; // behind an end
    m4n_gae(l->advantage, l->target, l->reward, l->value, l->done, l->count, e->o.gamma, e->o.lambda);
    for (int t = 0; t < l->count; t++) {
      e->order[n++] = (struct expert_place){i, t};
      sum += l->advantage[t];
    }
  }
  const double mean = sum / (double)n;
  for (int i = 0; i < e->o.lanes; i++)
    for (int t = 0; t < e->lane[i].count; t++) size += fabs(e->lane[i].advantage[t] - mean) / (double)n;
  for (int i = 0; i < e->o.lanes; i++)
    for (int t = 0; t < e->lane[i].count; t++)
      e->lane[i].advantage[t] = m4n_advantage(e->lane[i].advantage[t], mean, size);
  return n;
}

static void shuffle(m4n_expert *e, int64_t n, m4n_rng *rng) {
  for (int64_t i = n - 1; i > 0; i--) {
    int64_t j = m4n_rng_below(rng, (uint32_t)i + 1);
    struct expert_place spare = e->order[i];
    e->order[i] = e->order[j], e->order[j] = spare;
  }
}

// One step of the optimiser on the transitions order[0 … rows−1].
static int learn(m4n_expert *e, const struct expert_place *order, int rows, const m4n_ppo *ppo, double lr,
                 m4n_ppo_stats *stats) {
  const size_t inputs = (size_t)e->features.n, outputs = (size_t)e->features.levels + 1;
  for (int k = 0; k < rows; k++) {
    const expert_lane *l = &e->lane[order[k].lane];
    const size_t t = (size_t)order[k].at;
    memcpy(e->x + (size_t)k * inputs, l->x + t * inputs, inputs * sizeof *e->x);
    e->action[k] = l->action[t], e->guided[k] = l->guide[t], e->logp[k] = l->logp[t];
    e->advantage[k] = l->advantage[t], e->target[k] = l->target[t];
  }
  M4N_TRY(expert_run(e, rows, true));
  if (expert_guided(e))
    m4n_guided_gradient(e->d_out, e->out, e->guided, e->target, rows, ppo);
  else
    m4n_ppo_gradient(e->d_out, stats, e->out, e->action, e->logp, e->advantage, e->target, rows, ppo);
  m4n_params *params = e->actor->params;
  m4n_copy_in(e->stream, e->actor->d_out, e->d_out, (size_t)rows * outputs * sizeof *e->d_out);
  m4n_zero(e->stream, params->g, (size_t)params->n * sizeof *params->g);
  m4n_actor_backward(e->actor, rows);
  m4n_optimiser_step(e->optimiser, lr);
  m4n_ema(e->stream, e->average, params->w, params->n, (m4n_real)e->o.average);
  return m4n_sync(e->stream);
}

int expert_update(m4n_expert *e) {
  const m4n_expert_options *o = &e->o;
  const double share = (double)e->done_steps / (double)o->steps, lr = fall(o->lr, o->lr_end, fmin(share, 1));
  const m4n_ppo ppo = {.choices = e->features.levels,
                       .clip = o->clip,
                       .entropy = fall(o->entropy, o->entropy_end, fmin(share, 1)),
                       .value = 0.1,
                       .width = 4};
  const int64_t n = gather(e);
  const int batch = (int)(n < o->batch ? n : o->batch);
  m4n_rng rng = m4n_rng_make(o->seed, (uint64_t)e->updates, M4N_RNG_DATA);
  m4n_ppo_stats stats = {0};
  for (int epoch = 0; epoch < o->epochs; epoch++) {
    shuffle(e, n, &rng);
    for (int64_t at = 0; at + batch <= n; at += batch)
      M4N_TRY(learn(e, e->order + at, batch, &ppo, lr, &stats));
  }
  double norm;
  M4N_TRY(m4n_optimiser_norm(e->optimiser, &norm));
  if (!isfinite(norm))
    return m4n_fail(M4N_EDIVERGED, "expert: the gradient is not finite after %lld decisions: lower expert.lr",
                    (long long)e->done_steps);
  e->updates++, e->done_steps += n;
  if (e->log)
    fprintf(e->log, "%lld,%lld,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g\n", (long long)e->updates,
            (long long)e->done_steps, e->reward_sum / (double)n, stats.entropy, stats.kl, stats.clipped,
            stats.value_loss, norm, lr);
  m4n_progress_at(&e->progress, e->done_steps);

  // The transition that waits for its outcome is the first of the next round.
  for (int i = 0; i < o->lanes; i++) {
    expert_lane *l = &e->lane[i];
    const size_t t = (size_t)l->count, inputs = (size_t)e->features.n;
    if (l->waiting) {
      memmove(l->x, l->x + t * inputs, inputs * sizeof *l->x);
      l->action[0] = l->action[t], l->guide[0] = l->guide[t], l->logp[0] = l->logp[t],
      l->value[0] = l->value[t];
    }
    l->count = 0;
  }
  e->collected = 0, e->reward_sum = 0;
  return M4N_OK;
}
