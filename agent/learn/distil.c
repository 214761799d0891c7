// distil: the student learns from recorded actions and from labels, offline and on what it plays itself (algorithms.md §7).
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/rounds.h"
#include "agent/learn/schedule.h"
#include "agent/model/reuse.h"
#include "kernels/base/log.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

m4n_distil_options m4n_distil_usual(void) {
  return (m4n_distil_options){
      .fit = m4n_fit_usual(),
      .task_weight = 1,
      .label_weight = 0.5,
      .divergence = M4N_DISTIL_FORWARD,
      .temperature = 2,
      .jsd = 0.5,
      .on_policy = {.weight = 1, .every = 500, .episodes = 64, .keep = 4, .stride = 1},
  };
}

typedef struct distilling {
  const m4n_distil_options *o;
  m4n_workshop workshop;
  m4n_labels *labels;
  m4n_labelling *labelling; // of the rounds
  m4n_trajectories *pool;
  m4n_imitation *imitation;
  m4n_rounds rounds;
  m4n_identity identity;
  m4n_fitting fitting;
  uint64_t student; // hash
} distilling;

static int check(const char *key, double value, double low, double high) {
  return value >= low && value <= high
             ? M4N_OK
             : m4n_fail_at(M4N_EARG, NULL, 0, key, "%g: expected %g … %g", value, low, high);
}

static int check_rounds(const m4n_distil_options *o) {
  M4N_TRY(check("on_policy.every", (double)o->on_policy.every, 1, 1e12));
  M4N_TRY(check("on_policy.start", (double)o->on_policy.start, 0, 1e12));
  M4N_TRY(check("on_policy.episodes", (double)o->on_policy.episodes, 1, 1e9));
  M4N_TRY(check("on_policy.keep", o->on_policy.keep, 1, 1000));
  return o->stage.hooks ? M4N_OK
                        : m4n_fail_at(M4N_EARG, NULL, 0, "on_policy.share", "nobody is there to play rounds");
}

static int check_options(const m4n_distil_options *o) {
  M4N_TRY(m4n_fit_check(&o->fit));
  M4N_TRY(check("distil.task_weight", o->task_weight, 0, 1e6));
  M4N_TRY(check("distil.label_weight", o->label_weight, 0, 1e6));
  M4N_TRY(check("distil.temperature", o->temperature, 1e-3, 1e3));
  M4N_TRY(check("distil.jsd", o->jsd, 1e-6, 1 - 1e-6));
  M4N_TRY(check("distil.on_policy.share", o->on_policy.share, 0, 1));
  M4N_TRY(check("distil.on_policy.weight", o->on_policy.weight, 0, 1e6));
  if (o->on_policy.share > 0) M4N_TRY(check_rounds(o));
  if (o->n_events < 1) return m4n_fail(M4N_EARG, "distil: there are no event logs to learn from");
  if (!o->labels && !(o->task_weight > 0) && !(o->on_policy.share > 0))
    return m4n_fail(M4N_EARG, "distil: without labels and with task_weight 0 there is nothing to learn");
  return M4N_OK;
}

// ---- what is learned from --------------------------------------------------------------------------------------------------------

static int same_condition(const m4n_condition *a, const m4n_condition *b) {
  return a->low == b->low && a->high == b->high && a->scale == b->scale && a->target == b->target;
}

static int open_labelling(distilling *d) {
  const m4n_distil_options *o = d->o;
  return m4n_labelling_open(&d->labelling, &d->workshop,
                            &(m4n_labelling_options){.labeller = o->on_policy.labeller,
                                                     .teacher = o->on_policy.teacher,
                                                     .expert = o->on_policy.expert,
                                                     .batch = o->fit.batch,
                                                     .stride = o->on_policy.stride});
}

// Teacher and student must see the same returns: whoever labels says how they are scaled.
static int open_pool(distilling *d) {
  const m4n_distil_options *o = d->o;
  m4n_checkpoint *c = &d->fitting.checkpoint;
  const m4n_condition *condition = NULL;
  if (o->labels) {
    M4N_TRY(m4n_labels_open(&d->labels, o->labels));
    condition = &d->labels->about.condition;
  }
  if (o->on_policy.share > 0) M4N_TRY(open_labelling(d));
  const m4n_checkpoint *teacher = d->labelling ? m4n_labelling_teacher(d->labelling) : NULL;
  if (teacher && condition && !same_condition(condition, &teacher->condition))
    return m4n_fail_at(M4N_EARG, teacher->path, 0, NULL,
                       "this teacher was trained for other returns than those of the labels");
  if (teacher && !condition) condition = &teacher->condition;
  M4N_TRY(m4n_trajectories_open(&d->pool, &(m4n_trajectories_options){.events = o->events,
                                                                      .n_events = o->n_events,
                                                                      .shape = &c->config.abr,
                                                                      .condition = condition,
                                                                      .rtg_scale = o->rtg_scale}));
  if (d->labels) M4N_TRY(m4n_labels_fit(d->labels, d->pool));
  if (o->weighting == M4N_WEIGHT_ADVANTAGE) M4N_TRY(m4n_trajectories_weigh(d->pool, 1));
  c->condition = d->pool->condition;
  d->fitting.spec = &d->pool->spec;
  return M4N_OK;
}

static int open_net(distilling *d) {
  const m4n_distil_options *o = d->o;
  m4n_checkpoint *c = &d->fitting.checkpoint;
  if (c->base[0])
    return m4n_fail_at(M4N_EUNSUPPORTED, c->path, 0, NULL, "is an adapter, and a student is a whole model");
  M4N_TRY(m4n_checkpoint_hash(c, &d->student));
  M4N_TRY(m4n_net_open(&d->fitting.net, d->workshop.stream,
                       &(m4n_net_options){.config = c->config, .sequences = o->fit.batch, .train = true}));
  M4N_TRY(m4n_checkpoint_load(c, d->fitting.net));
  if (o->fit.fresh != 1) m4n_reuse_mark(d->fitting.net);
  return M4N_OK;
}

// ---- what it is called -----------------------------------------------------------------------------------------------------------

static const char *divergence_name(int divergence) {
  static const char *const names[] = {"forward KL", "reverse KL", "JSD"};
  return names[divergence];
}

static void name_result(distilling *d) {
  const m4n_distil_options *o = d->o;
  char *about = d->fitting.checkpoint.about;
  int n = snprintf(about, M4N_ABOUT, "distil: ");
  if (!d->labels)
    n += snprintf(about + n, M4N_ABOUT - (size_t)n, "no labels");
  else
    n += snprintf(about + n, M4N_ABOUT - (size_t)n, "%s, labels: %s%s%.60s",
                  d->labels->about.soft ? divergence_name(o->divergence) : "cross-entropy",
                  m4n_labeller_name(d->labels->about.labeller), d->labels->about.by[0] ? " " : "",
                  d->labels->about.by);
  if (d->labelling)
    snprintf(about + n, M4N_ABOUT - (size_t)n, "; on-policy %g, labels: %s%s%.60s", o->on_policy.share,
             m4n_labeller_name(o->on_policy.labeller), o->on_policy.labeller == M4N_LABEL_EXPERT ? " " : "",
             o->on_policy.labeller == M4N_LABEL_EXPERT ? m4n_path_base(o->on_policy.expert) : "");
}

static int describe(distilling *d) {
  const m4n_distil_options *o = d->o;
  const m4n_labels_about none = {0}, *labels = d->labels ? &d->labels->about : &none;
  M4N_TRY(m4n_identity_open(&d->identity));
  FILE *to = d->identity.stream;
  fprintf(
      to,
      "stage=distil\nseed=%" PRIu64 "\npool=%016" PRIx64 "\nlabels=%016" PRIx64 "\nstudent=%016" PRIx64
      "\ntask_weight=%.17g\nlabel_weight=%.17g\ndivergence=%d\ntemperature=%.17g\njsd=%.17g\nweighting=%d\n",
      o->stage.seed, d->pool->hash, labels->content, d->student, o->task_weight, o->label_weight,
      o->divergence, o->temperature, o->jsd, o->weighting);
  fprintf(to, "on_policy.share=%.17g\n", o->on_policy.share);
  if (d->labelling) {
    const m4n_checkpoint *teacher = m4n_labelling_teacher(d->labelling);
    uint64_t hash = 0;
    if (teacher) M4N_TRY(m4n_checkpoint_hash(teacher, &hash));
    fprintf(to,
            "on_policy.weight=%.17g\non_policy.every=%" PRId64 "\non_policy.start=%" PRId64
            "\non_policy.episodes=%" PRId64 "\non_policy.keep=%d\non_policy.labeller=%d %016" PRIx64
            " %s\non_policy.stride=%d\n",
            o->on_policy.weight, o->on_policy.every, o->on_policy.start, o->on_policy.episodes,
            o->on_policy.keep, o->on_policy.labeller, hash,
            o->on_policy.labeller == M4N_LABEL_EXPERT ? o->on_policy.expert : "", o->on_policy.stride);
  }
  m4n_identity_fit(&d->identity, &o->fit);
  return m4n_identity_done(&d->identity);
}

// ---- running -----------------------------------------------------------------------------------------------------------------------

static bool due(void *self, int64_t step) {
  const distilling *d = ((m4n_fitting *)self)->stage;
  return m4n_rounds_due(&d->rounds, step);
}

static int round_at(void *self, int64_t step, const m4n_real *weights) {
  distilling *d = ((m4n_fitting *)self)->stage;
  M4N_TRY(m4n_rounds_at(&d->rounds, step, weights));
  return d->rounds.n ? m4n_imitation_play(d->imitation, d->rounds.played, (int)d->rounds.n) : M4N_OK;
}

static int open_imitation(distilling *d) {
  const m4n_distil_options *o = d->o;
  static const int divergence[] = {M4N_KL_FORWARD, M4N_KL_REVERSE, M4N_JSD};
  return m4n_imitation_open(&d->imitation, &(m4n_imitation_options){.net = d->fitting.net,
                                                                    .batch = o->fit.batch,
                                                                    .seed = o->stage.seed,
                                                                    .pool = d->pool,
                                                                    .labels = d->labels,
                                                                    .task_weight = o->task_weight,
                                                                    .label_weight = o->label_weight,
                                                                    .on_policy_share = o->on_policy.share,
                                                                    .on_policy_weight = o->on_policy.weight,
                                                                    .divergence = divergence[o->divergence],
                                                                    .temperature = o->temperature,
                                                                    .jsd = o->jsd});
}

static int run(distilling *d) {
  const m4n_distil_options *o = d->o;
  m4n_fitting *f = &d->fitting;
  *f = (m4n_fitting){.name = "distil", .workshop = &d->workshop, .fit = &o->fit, .stage = d};
  M4N_TRY(m4n_checkpoint_read(&f->checkpoint, o->student));
  M4N_TRY(open_pool(d));
  M4N_TRY(open_net(d));
  name_result(d);
  M4N_TRY(describe(d));
  m4n_log(M4N_LOG_INFO, "%s; %d episodes, %lld decisions; a student of %lld parameters", f->checkpoint.about,
          d->pool->n, (long long)d->pool->steps,
          (long long)m4n_params_count(f->net->params, M4N_ALL_SETS, false));
  M4N_TRY(open_imitation(d));
  f->objective = m4n_imitation_objective(d->imitation);
  f->identity = d->identity.text;
  if (d->labelling) {
    if (!o->stage.resume) M4N_TRY(m4n_rounds_clear(o->stage.work));
    M4N_TRY(m4n_rounds_open(&d->rounds,
                            &(m4n_rounds_options){.fitting = f,
                                                  .labelling = d->labelling,
                                                  .every = o->on_policy.every,
                                                  .start = o->on_policy.start,
                                                  .episodes = o->on_policy.episodes,
                                                  .keep = o->on_policy.keep,
                                                  .advice = o->on_policy.labeller == M4N_LABEL_ORACLE}));
    f->objective.due = due;
    f->objective.round = round_at;
  }
  M4N_TRY(m4n_fitting_run(f, o->out));
  return d->labelling ? m4n_rounds_clear(o->stage.work) : M4N_OK;
}

int m4n_distil(const m4n_distil_options *options) {
  if (m4n_stage_done(&options->stage, options->out)) return M4N_OK;
  M4N_TRY(check_options(options));
  distilling d = {.o = options};
  int status = m4n_workshop_open(&d.workshop, &options->stage);
  if (!status) status = run(&d);
  m4n_rounds_close(&d.rounds);
  m4n_imitation_close(d.imitation);
  m4n_net_close(d.fitting.net);
  m4n_trajectories_close(d.pool);
  m4n_labelling_close(d.labelling);
  m4n_labels_close(d.labels);
  m4n_identity_close(&d.identity);
  if (d.workshop.backend) m4n_workshop_close(&d.workshop);
  return status;
}
