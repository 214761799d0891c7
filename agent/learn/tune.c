// tune: a policy gradient from the distilled student, in the simulator, held to its teacher's answers (algorithms.md §7.4).
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/policy_gradient.h"
#include "agent/learn/rounds.h"
#include "agent/learn/schedule.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const char OUTCOME[] = "outcome.safetensors";

m4n_tune_options m4n_tune_usual(void) {
  m4n_tune_options o = {.fit = m4n_fit_usual(),
                        .every = 16,
                        .episodes = 32,
                        .stride = 10,
                        .gamma = 0.99,
                        .lambda = 0.95,
                        .clip = 0.2,
                        .entropy = 0.01,
                        .reward_scale = 0.2,
                        .reward_floor = -20,
                        .value_first = 32,
                        .reference = {.weight = 0.1}};
  o.fit.steps = 640;
  o.fit.lr = 3e-5;
  o.fit.fresh = 100;
  return o;
}

typedef struct tuning {
  const m4n_tune_options *o;
  m4n_workshop workshop;
  m4n_labelling *labelling; // whose answers it is held to; NULL: nobody's
  m4n_policy_gradient *gradient;
  m4n_rounds rounds;
  m4n_identity identity;
  m4n_fitting fitting;
  uint64_t student; // hash
  int64_t round;    // that is learned from; −1: none yet
} tuning;

// ---- what can be refused ----------------------------------------------------------------------------------------------------

static int check(const char *key, double value, double low, double high) {
  return value >= low && value <= high
             ? M4N_OK
             : m4n_fail_at(M4N_EARG, NULL, 0, key, "%g: expected %g … %g", value, low, high);
}

static int check_options(const m4n_tune_options *o) {
  M4N_TRY(m4n_fit_check(&o->fit));
  M4N_TRY(check("tune.every", (double)o->every, 1, 1e12));
  M4N_TRY(check("tune.episodes", (double)o->episodes, 1, 1e9));
  M4N_TRY(check("tune.stride", o->stride, 1, 1e6));
  M4N_TRY(check("tune.gamma", o->gamma, 0, 1));
  M4N_TRY(check("tune.lambda", o->lambda, 0, 1));
  M4N_TRY(check("tune.clip_ratio", o->clip, 1e-3, 10));
  M4N_TRY(check("tune.entropy", o->entropy, 0, 10));
  M4N_TRY(check("tune.reward_scale", o->reward_scale, 1e-9, 1e9));
  M4N_TRY(check("tune.reward_floor", o->reward_floor, -1e9, 1e9));
  M4N_TRY(check("tune.value_first", (double)o->value_first, 0, 1e12));
  M4N_TRY(check("tune.reference.weight", o->reference.weight, 0, 1e6));
  return o->stage.hooks ? M4N_OK
                        : m4n_fail_at(M4N_EARG, NULL, 0, "tune.steps", "nobody is there to play rounds");
}

// ---- who it is held to --------------------------------------------------------------------------------------------------------

static int labeller_of(const m4n_tune_options *o) {
  return o->reference.who == M4N_REFERENCE_STUDENT ? M4N_LABEL_TEACHER : o->reference.labeller;
}

// What it is held to must see the returns that the student sees.
static int open_reference(tuning *t) {
  const m4n_tune_options *o = t->o;
  const m4n_condition *ours = &t->fitting.checkpoint.condition;
  if (!(o->reference.weight > 0)) return M4N_OK;
  const bool itself = o->reference.who == M4N_REFERENCE_STUDENT;
  M4N_TRY(m4n_labelling_open(&t->labelling, &t->workshop,
                             &(m4n_labelling_options){.labeller = labeller_of(o),
                                                      .teacher = itself ? o->student : o->reference.teacher,
                                                      .expert = o->reference.expert,
                                                      .batch = o->fit.batch,
                                                      .stride = o->stride}));
  const m4n_checkpoint *teacher = m4n_labelling_teacher(t->labelling);
  if (!teacher) return M4N_OK;
  const m4n_condition *theirs = &teacher->condition;
  if (theirs->low != ours->low || theirs->high != ours->high || theirs->scale != ours->scale ||
      theirs->target != ours->target)
    return m4n_fail_at(M4N_EARG, teacher->path, 0, "tune.reference.by",
                       "this teacher was trained for other returns than the student: expected student");
  if (teacher->config.abr.window != t->fitting.checkpoint.config.abr.window)
    return m4n_fail_at(M4N_EARG, teacher->path, 0, "tune.reference.by",
                       "this teacher's window is not the student's: expected student");
  return M4N_OK;
}

// ---- the model ----------------------------------------------------------------------------------------------------------------

// The value head begins at 0, and may learn faster than what is there already.
static int open_net(tuning *t) {
  m4n_checkpoint *c = &t->fitting.checkpoint;
  if (c->base[0])
    return m4n_fail_at(M4N_EUNSUPPORTED, c->path, 0, NULL, "is an adapter, and a student is a whole model");
  M4N_TRY(m4n_checkpoint_hash(c, &t->student));
  M4N_TRY(m4n_net_open(
      &t->fitting.net, t->workshop.stream,
      &(m4n_net_options){.config = c->config, .sequences = t->o->fit.batch, .train = true, .value = true}));
  m4n_params *params = t->fitting.net->params;
  M4N_TRY(m4n_checkpoint_load(c, t->fitting.net));
  M4N_TRY(m4n_params_start(params, M4N_SET_VALUE, t->o->stage.seed));
  m4n_params_find(params, "value.weight")->fresh = true;
  m4n_params_find(params, "value.bias")->fresh = true;
  return M4N_OK;
}

static int open_gradient(tuning *t) {
  const m4n_tune_options *o = t->o;
  return m4n_policy_gradient_open(&t->gradient,
                                  &(m4n_policy_gradient_options){.net = t->fitting.net,
                                                                 .batch = o->fit.batch,
                                                                 .stride = o->stride,
                                                                 .seed = o->stage.seed,
                                                                 .judgement = {.gamma = o->gamma,
                                                                               .lambda = o->lambda,
                                                                               .scale = o->reward_scale,
                                                                               .floor = o->reward_floor},
                                                                 .clip = o->clip,
                                                                 .entropy = o->entropy,
                                                                 .reference = o->reference.weight,
                                                                 .steps = o->fit.steps,
                                                                 .value_first = o->value_first});
}

// ---- what it is called -----------------------------------------------------------------------------------------------------------

// "distil: …; tune: PPO, 40 rounds of 32 episodes, KL 0.1 to teacher"
static void name_result(tuning *t) {
  const m4n_tune_options *o = t->o;
  char before[M4N_ABOUT], to[96] = "";
  const char *who = o->reference.who == M4N_REFERENCE_STUDENT ? "the student before"
                                                              : m4n_labeller_name(o->reference.labeller);
  const bool expert = t->labelling && labeller_of(o) == M4N_LABEL_EXPERT;
  if (t->labelling)
    snprintf(to, sizeof to, ", KL %g to %s%s%.40s", o->reference.weight, who, expert ? " " : "",
             expert ? m4n_path_base(o->reference.expert) : "");
  memcpy(before, t->fitting.checkpoint.about, sizeof before);
  snprintf(t->fitting.checkpoint.about, M4N_ABOUT,
           "%.200s%stune: PPO, %" PRId64 " rounds of %" PRId64 " episodes%s", before, before[0] ? "; " : "",
           (o->fit.steps + o->every - 1) / o->every, o->episodes, to);
}

static int describe(tuning *t) {
  const m4n_tune_options *o = t->o;
  const m4n_checkpoint *teacher = t->labelling ? m4n_labelling_teacher(t->labelling) : NULL;
  uint64_t hash = 0;
  if (teacher) M4N_TRY(m4n_checkpoint_hash(teacher, &hash));
  M4N_TRY(m4n_identity_open(&t->identity));
  fprintf(t->identity.stream,
          "stage=tune\nseed=%" PRIu64 "\nstudent=%016" PRIx64 "\nevery=%" PRId64 "\nepisodes=%" PRId64
          "\nstride=%d\ngamma=%.17g\nlambda=%.17g\nclip_ratio=%.17g\nentropy=%.17g\nreward=%.17g %.17g\n"
          "value_first=%" PRId64 "\nreference=%.17g\n",
          o->stage.seed, t->student, o->every, o->episodes, o->stride, o->gamma, o->lambda, o->clip,
          o->entropy, o->reward_scale, o->reward_floor, o->value_first, o->reference.weight);
  if (t->labelling)
    fprintf(t->identity.stream, "reference.by=%d %d %016" PRIx64 " %s\n", o->reference.who, labeller_of(o),
            hash, labeller_of(o) == M4N_LABEL_EXPERT ? o->reference.expert : "");
  m4n_identity_fit(&t->identity, &o->fit);
  return m4n_identity_done(&t->identity);
}

// ---- rounds -----------------------------------------------------------------------------------------------------------------------

static bool due(void *self, int64_t step) {
  const tuning *t = ((m4n_fitting *)self)->stage;
  return m4n_rounds_due(&t->rounds, step);
}

// How likely its decisions were, and what they were worth, is said by the weights that begin the round, and by no later ones.
static int outcome_at(tuning *t, int64_t step, const m4n_trajectories *pool) {
  char path[M4N_PATH];
  M4N_TRY(m4n_rounds_path(&t->rounds, t->round, OUTCOME, path));
  m4n_outcome *outcome = m4n_policy_gradient_outcome(t->gradient);
  if (m4n_exists(path)) return m4n_outcome_load(outcome, pool, path);
  if (!m4n_rounds_due(&t->rounds, step))
    return m4n_fail_at(M4N_ENOTFOUND, path, 0, NULL,
                       "this round of the interrupted run is missing: begin anew without resume");
  M4N_TRY(m4n_policy_gradient_judge(t->gradient));
  return m4n_outcome_save(outcome, pool, path);
}

static int round_at(void *self, int64_t step, const m4n_real *weights) {
  tuning *t = ((m4n_fitting *)self)->stage;
  M4N_TRY(m4n_rounds_at(&t->rounds, step, weights));
  const m4n_played *played = &t->rounds.played[0];
  const bool first = t->round < 0;
  t->round = t->rounds.first;
  t->fitting.spec = &played->pool->spec;
  M4N_TRY(m4n_policy_gradient_round(t->gradient, played, t->round * t->o->every));
  if (first)
    m4n_log(M4N_LOG_INFO, "tune: %d windows a round, %.1f passes", m4n_policy_gradient_windows(t->gradient),
            (double)(t->o->every * t->o->fit.batch) / m4n_policy_gradient_windows(t->gradient));
  return outcome_at(t, step, played->pool);
}

// ---- running -----------------------------------------------------------------------------------------------------------------------

static int run(tuning *t) {
  const m4n_tune_options *o = t->o;
  m4n_fitting *f = &t->fitting;
  *f = (m4n_fitting){.name = "tune", .workshop = &t->workshop, .fit = &o->fit, .stage = t};
  M4N_TRY(m4n_checkpoint_read(&f->checkpoint, o->student));
  M4N_TRY(open_reference(t));
  M4N_TRY(open_net(t));
  name_result(t);
  M4N_TRY(describe(t));
  M4N_TRY(open_gradient(t));
  m4n_log(M4N_LOG_INFO, "%s", f->checkpoint.about);
  f->objective = m4n_policy_gradient_objective(t->gradient);
  f->objective.due = due;
  f->objective.round = round_at;
  f->identity = t->identity.text;
  if (!o->stage.resume) M4N_TRY(m4n_rounds_clear(o->stage.work));
  M4N_TRY(m4n_rounds_open(&t->rounds,
                          &(m4n_rounds_options){.fitting = f,
                                                .labelling = t->labelling,
                                                .every = o->every,
                                                .episodes = o->episodes,
                                                .keep = 1,
                                                .advice = t->labelling && labeller_of(o) == M4N_LABEL_ORACLE,
                                                .current = true,
                                                .stream = 1}));
  M4N_TRY(m4n_fitting_run(f, o->out));
  return m4n_rounds_clear(o->stage.work);
}

int m4n_tune(const m4n_tune_options *options) {
  if (m4n_stage_done(&options->stage, options->out)) return M4N_OK;
  M4N_TRY(check_options(options));
  tuning t = {.o = options, .round = -1};
  int status = m4n_workshop_open(&t.workshop, &options->stage);
  if (!status) status = run(&t);
  m4n_rounds_close(&t.rounds);
  m4n_policy_gradient_close(t.gradient);
  m4n_net_close(t.fitting.net);
  m4n_labelling_close(t.labelling);
  m4n_identity_close(&t.identity);
  if (t.workshop.backend) m4n_workshop_close(&t.workshop);
  return status;
}
