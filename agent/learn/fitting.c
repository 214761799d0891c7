#include "agent/learn/fitting.h"

#include <math.h>
#include <string.h>

#include "agent/learn/train_state.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const char CANDIDATE[] = "candidate.safetensors";

static int join(char path[M4N_PATH], const char *folder, const char *name) {
  const int n = snprintf(path, M4N_PATH, "%s/%s", folder, name);
  return n < M4N_PATH ? M4N_OK : m4n_fail(M4N_EARG, "%.60s…: a path that is too long", folder);
}

int m4n_fitting_export(m4n_fitting *f, const m4n_real *weights, const char *name, char path[M4N_PATH]) {
  M4N_TRY(join(path, f->workshop->stage->work, name));
  m4n_checkpoint copy = f->checkpoint;
  memcpy(copy.path, path, strlen(path) + 1);
  return m4n_checkpoint_save(&copy, f->net, weights);
}

static int check_spec(const m4n_spec *spec) {
  if (!spec->n_metrics)
    return m4n_fail_at(M4N_EARG, NULL, 0, "fit.valid_episodes", "task '%s' measures nothing", spec->task);
  int n;
  const double *episodes = m4n_spec_constant(spec, M4N_EPISODES, &n);
  if (episodes && n == M4N_SETS && !(episodes[M4N_SET_VALID] > 0))
    return m4n_fail_at(M4N_EARG, NULL, 0, "fit.valid_episodes", "the simulator has no valid set");
  return M4N_OK;
}

// Plays the first episodes of the valid set: the same ones every time, so that measures can be compared.
static int validate(void *self, int64_t step, const m4n_real *weights, double *measure) {
  m4n_fitting *f = self;
  const m4n_stage *stage = f->workshop->stage;
  char path[M4N_PATH];
  (void)step;
  M4N_TRY(check_spec(f->spec));
  M4N_TRY(m4n_fitting_export(f, weights, CANDIDATE, path));
  M4N_TRY(stage->hooks->play(stage->hooks->self, &(m4n_play){.policy = path,
                                                             .set = M4N_SET_VALID,
                                                             .episodes = f->fit->valid_episodes,
                                                             .seed = stage->seed,
                                                             .mean_metric = measure}));
  if (f->spec->metric[0].better < 0) *measure = -*measure;
  return isfinite(*measure) ? M4N_OK
                            : m4n_fail(M4N_EPROTO, "%s: validation: the simulator gave no %s", f->name,
                                       f->spec->metric[0].name);
}

static int train(m4n_fitting *f, m4n_trainer *trainer, const char *out) {
  M4N_TRY(m4n_trainer_run(trainer));
  m4n_checkpoint *c = &f->checkpoint;
  if (strlen(out) >= sizeof c->path) return m4n_fail(M4N_EARG, "%.60s…: a path that is too long", out);
  memcpy(c->path, out, strlen(out) + 1);
  return m4n_checkpoint_save(c, f->net, m4n_trainer_weights(trainer));
}

static int clean_up(const m4n_fitting *f) {
  const char *work = f->workshop->stage->work;
  char path[M4N_PATH];
  M4N_TRY(join(path, work, CANDIDATE));
  M4N_TRY(m4n_remove_tree(path));
  M4N_TRY(join(path, work, "candidate-adapter"));
  M4N_TRY(m4n_remove_tree(path));
  return m4n_train_state_clear(work);
}

int m4n_fitting_run(m4n_fitting *f, const char *out) {
  const m4n_stage *stage = f->workshop->stage;
  f->objective.owner = f;
  if (f->fit->valid_episodes) {
    if (!stage->hooks)
      return m4n_fail_at(M4N_EARG, NULL, 0, "fit.valid_episodes", "nobody is there to play them");
    if (f->spec) M4N_TRY(check_spec(f->spec));
    f->objective.validate = validate;
  }
  m4n_trainer *trainer;
  M4N_TRY(m4n_trainer_open(&trainer, &(m4n_trainer_options){.name = f->name,
                                                            .net = f->net,
                                                            .fit = f->fit,
                                                            .objective = &f->objective,
                                                            .work = stage->work,
                                                            .identity = f->identity,
                                                            .resume = stage->resume,
                                                            .seed = stage->seed,
                                                            .stop = stage->stop}));
  int status = train(f, trainer, out);
  m4n_trainer_close(trainer);
  return status ? status : clean_up(f);
}
