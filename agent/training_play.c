// How a training plays: collect, the stages' hook and the expert, all over the bridge with one and the same server.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/expert.h"
#include "agent/loop.h"
#include "agent/training.h"
#include "kernels/backend.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

enum { MANY_LANES = 1024 }; // of simulators from outside, where nobody says how many

int m4n_training_slots(const m4n_training *t) {
  if (!t->o.external) return t->o.scenario->bridge.lanes;
  return t->o.lanes ? t->o.lanes : MANY_LANES;
}

int m4n_training_simulator(m4n_training *t, m4n_simulator **simulator) {
  *simulator = NULL;
  if (t->o.external) return M4N_OK;
  if (!t->has_simulator)
    M4N_TRY(m4n_simulator_open(&t->simulator, t->o.scenario, t->o.scenario->bridge.lanes, t->o.threads));
  t->has_simulator = true;
  *simulator = &t->simulator;
  return M4N_OK;
}

static int run_loop(m4n_training *t, const m4n_server_owner *owner, m4n_simulator *simulator, int slots,
                    const char *policy) {
  m4n_loop loop;
  M4N_TRY(m4n_loop_open(&loop, &(m4n_loop_options){.scenario = t->o.scenario,
                                                   .endpoint = t->endpoint,
                                                   .simulator = simulator,
                                                   .slots = slots,
                                                   .wait_ms = t->o.scenario->bridge.wait_ms,
                                                   .policy = policy}));
  int status = m4n_loop_run(&loop, owner, t->stop);
  m4n_loop_close(&loop);
  return status;
}

static int play_all(m4n_training *t, const m4n_serve_options *options, m4n_serve_stats *stats) {
  m4n_serve *serve;
  m4n_simulator *simulator;
  M4N_TRY(m4n_training_simulator(t, &simulator));
  if (simulator) M4N_TRY(m4n_serve_check(options, m4n_vec_spec(simulator->vec)));
  M4N_TRY(m4n_serve_open(&serve, options));
  m4n_server_owner owner = m4n_serve_owner(serve);
  int status = run_loop(t, &owner, simulator, options->slots, options->policy[0]);
  m4n_error why = *m4n_last_error();
  // A failure of our own (a full disk, a policy that cannot serve) is the cause of what peers then complain of.
  int ours = m4n_serve_close(serve, stats);
  if (ours) return ours;
  if (status) return m4n_set_error(&why);
  if (stats->given_up)
    return m4n_fail(M4N_EPROTO, "%lld of %lld episodes were lost with their simulators",
                    (long long)stats->given_up, (long long)stats->planned);
  return M4N_OK;
}

int m4n_training_play(m4n_training *t, m4n_serve_options *options, m4n_serve_stats *stats) {
  m4n_models models;
  M4N_TRY(m4n_models_open(&models, t->o.scenario, t->folder.path, t->o.device));
  // A checkpoint that plays takes the settings of whom it is going to be.
  if (t->role != M4N_ROLE_EXPERT) {
    struct m4n_policy_model *file = &models.known.role[M4N_ROLE_STUDENT];
    const struct m4n_policy_model *from = &models.known.role[t->role];
    file->context = from->context, file->weights = from->weights, file->target = from->target;
  }
  const char *events = options->events;
  char *part = events ? malloc(strlen(events) + sizeof ".part") : NULL;
  int status = events && !part ? m4n_fail(M4N_ENOMEM, "no memory for a path") : M4N_OK;
  if (part) sprintf(part, "%s.part", events);
  options->events = part;
  options->slots = m4n_training_slots(t);
  options->pool = t->pool;
  options->models = &models.known;
  options->scenario = t->o.scenario->resolved;
  if (!status) status = play_all(t, options, stats);
  if (part && !status && rename(part, events))
    status = m4n_fail_at(M4N_EIO, events, 0, NULL, "cannot be written");
  if (part && status) remove(part);
  options->events = events;
  options->models = NULL; // they end here
  free(part);
  m4n_models_close(&models);
  return status;
}

// ---- the stages' hook

static double mean_of(const double *figure, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += figure[i];
  return sum / (double)n;
}

int m4n_training_hook(void *self, const m4n_play *play) {
  m4n_training *t = self;
  const m4n_plan_part part = {.first = play->first_episode, .episodes = play->episodes};
  double *figure = calloc((size_t)play->episodes, sizeof *figure);
  char *policy = malloc(strlen(play->policy) + sizeof ":sample");
  m4n_serve_stats stats;
  int status = figure && policy ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory to play");
  if (!status) {
    sprintf(policy, "%s%s", play->policy, play->sample ? ":sample" : "");
    m4n_serve_options options = {.policy = (const char *const *)&policy,
                                 .n_policies = 1,
                                 .set = play->set,
                                 .part = &part,
                                 .n_parts = 1,
                                 .seed = play->seed,
                                 .advice = play->advice,
                                 .events = play->events,
                                 .figure = figure};
    status = m4n_training_play(t, &options, &stats);
  }
  if (!status && play->mean_metric) *play->mean_metric = mean_of(figure, play->episodes);
  free(policy);
  free(figure);
  return status;
}

// ---- collect

// Episodes by shares, what is left over going to the largest remainders; each policy has its own, or all the same.
static void share_out(m4n_plan_part *part, const m4n_scenario *s) {
  int n = s->collect.n_policies;
  double sum = 0;
  int64_t given = 0;
  for (int p = 0; p < n; p++) sum += s->collect.n_shares ? s->collect.shares[p] : 1;
  double rest[64];
  for (int p = 0; p < n; p++) {
    double exact = (double)s->collect.episodes * (s->collect.n_shares ? s->collect.shares[p] : 1) / sum;
    part[p] = (m4n_plan_part){.policy = p, .episodes = (int64_t)exact};
    rest[p] = exact - floor(exact);
    given += part[p].episodes;
  }
  for (; given < s->collect.episodes; given++) {
    int most = 0;
    for (int p = 1; p < n; p++)
      if (rest[p] > rest[most]) most = p;
    part[most].episodes++;
    rest[most] = -1;
  }
  for (int p = 1; p < n && !s->collect.together; p++)
    part[p].first = part[p - 1].first + part[p - 1].episodes;
}

int m4n_training_collect(m4n_training *t, bool resume) {
  (void)resume; // soon played again, with the same bytes
  const m4n_scenario *s = t->o.scenario;
  m4n_plan_part part[64];
  m4n_serve_stats stats;
  char *events = m4n_training_path(t, "collect/events.bin");
  if (!events) return M4N_ENOMEM;
  share_out(part, s);
  m4n_serve_options options = {.policy = s->collect.policies,
                               .n_policies = s->collect.n_policies,
                               .set = M4N_SET_TRAIN,
                               .part = part,
                               .n_parts = s->collect.n_policies,
                               .seed = s->seed,
                               .advice = s->collect.advice,
                               .events = events,
                               .title = "collect"};
  int64_t start = m4n_now_ns();
  int status = m4n_training_play(t, &options, &stats);
  double seconds = (double)(m4n_now_ns() - start) * 1e-9;
  if (!status)
    m4n_log(M4N_LOG_INFO, "collect: %lld episodes, %lld decisions, %.0f a second", (long long)stats.finished,
            (long long)stats.decisions, (double)stats.decisions / seconds);
  free(events);
  return status;
}

// ---- the expert

static int train_expert(m4n_training *t, const m4n_expert_options *options, m4n_stream *stream) {
  m4n_simulator own = {0};
  m4n_expert *expert;
  M4N_TRY(m4n_expert_open(&expert, options, stream));
  int status = t->o.external ? M4N_OK : m4n_simulator_open(&own, t->o.scenario, options->lanes, t->o.threads);
  m4n_server_owner owner = m4n_expert_owner(expert);
  if (!status) status = run_loop(t, &owner, t->o.external ? NULL : &own, options->lanes, "expert");
  status = m4n_expert_close(expert, status);
  if (!t->o.external) m4n_simulator_close(&own);
  return status;
}

int m4n_training_expert(m4n_training *t, bool resume) {
  m4n_expert_options options = t->o.scenario->expert.ppo;
  char *checkpoint = m4n_training_path(t, "model/expert.safetensors"), *work = m4n_training_path(t, "expert");
  m4n_backend *backend = NULL;
  m4n_stream *stream = NULL;
  options.checkpoint = checkpoint;
  options.work = work;
  options.resume = resume;
  options.seed = t->o.scenario->seed;
  int status = checkpoint && work ? m4n_backend_open(&backend, t->o.device, t->pool) : M4N_ENOMEM;
  if (!status) status = m4n_stream_open(&stream, backend);
  if (!status) status = train_expert(t, &options, stream);
  m4n_stream_close(stream);
  m4n_backend_close(backend);
  free(checkpoint);
  free(work);
  return status;
}
