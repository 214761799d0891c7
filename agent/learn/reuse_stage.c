// reuse: a student that begins with its teacher's weights (algorithms.md §6).
#include <stdio.h>
#include <string.h>

#include "agent/learn/abr_rows.h"
#include "agent/learn/imitation.h"
#include "agent/learn/workshop.h"
#include "agent/model/reuse.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

enum { LOOK_BATCH = 16, LOOK_AT = 2000 }; // windows of a pass, and of all that is seen of a teacher's stream

static int student_shape(m4n_config *config, const m4n_reuse_stage_options *o, const m4n_checkpoint *teacher,
                         const m4n_reuse_options *reuse) {
  M4N_TRY(m4n_config_preset(config, o->preset));
  if (o->mamba_layers >= 0) config->backbone.mamba_layers = o->mamba_layers;
  if (o->attention_layers >= 0) config->backbone.attention_layers = o->attention_layers;
  if (teacher) {
    config->abr = teacher->config.abr;
    if (reuse->mode != M4N_REUSE_RANDOM) m4n_reuse_shape(config, &teacher->config, reuse);
    return M4N_OK;
  }
  m4n_spec spec;
  if (o->n_events < 1)
    return m4n_fail(M4N_EARG, "reuse: without a teacher, event logs must say what the task is");
  M4N_TRY(m4n_trajectories_spec(&spec, o->events[0]));
  return m4n_abr_rows_shape(&config->abr, &spec);
}

// ---- what the teacher's stream looks like ------------------------------------------------------------------------------------

static int look_at(m4n_moments *moments, m4n_net *net, const m4n_trajectories *pool, const m4n_stage *stage) {
  m4n_imitation *batches;
  M4N_TRY(m4n_imitation_open(
      &batches, &(m4n_imitation_options){
                    .net = net, .batch = LOOK_BATCH, .seed = stage->seed, .pool = pool, .temperature = 1}));
  const m4n_objective objective = m4n_imitation_objective(batches);
  int64_t windows = 0; // no more than there are
  for (int e = 0; e < pool->n && windows < LOOK_AT; e++)
    windows += m4n_windows_of(pool->episode[e].steps, net->options.steps, 1);
  int status = M4N_OK;
  for (int64_t i = 0; i * LOOK_BATCH < (windows < LOOK_AT ? windows : LOOK_AT) && !status; i++) {
    if (m4n_stop_requested(stage->stop)) status = m4n_fail(M4N_ECANCELLED, "reuse: stopped");
    if (!status) status = objective.batch(objective.self, i);
    if (status) break;
    m4n_net_forward(net, LOOK_BATCH, net->options.steps, false, NULL);
    m4n_moments_add(moments);
    status = m4n_sync(net->stream);
  }
  m4n_imitation_close(batches);
  return status;
}

static int open_moments(m4n_moments **moments, m4n_net **net, m4n_trajectories **pool,
                        const m4n_reuse_stage_options *o, const m4n_workshop *workshop,
                        const m4n_checkpoint *teacher) {
  if (o->n_events < 1)
    return m4n_fail(M4N_EARG, "reuse: mode pca looks at windows, and there are no event logs");
  M4N_TRY(m4n_trajectories_open(pool, &(m4n_trajectories_options){.events = o->events,
                                                                  .n_events = o->n_events,
                                                                  .shape = &teacher->config.abr,
                                                                  .condition = &teacher->condition}));
  const m4n_net_options options = {.config = teacher->config,
                                   .sequences = LOOK_BATCH,
                                   .taps = true,
                                   .format = m4n_checkpoint_format(teacher)};
  M4N_TRY(m4n_net_open(net, workshop->stream, &options));
  M4N_TRY(m4n_checkpoint_load(teacher, *net));
  M4N_TRY(m4n_moments_open(moments, *net));
  return look_at(*moments, *net, *pool, workshop->stage);
}

// ---- the student ---------------------------------------------------------------------------------------------------------------

static int take_weights(m4n_net *student, const m4n_checkpoint *teacher, const m4n_reuse_options *reuse) {
  m4n_teacher files;
  m4n_reuse_report report;
  M4N_TRY(m4n_teacher_open(&files, teacher->path, teacher->base[0] ? teacher->base : NULL,
                           teacher->adapter[0] ? teacher->adapter : NULL));
  int status = m4n_reuse(student, &files, reuse, &report);
  m4n_teacher_close(&files);
  if (!status)
    m4n_log(M4N_LOG_INFO, "reuse: %lld parameters from the teacher, %lld new%s", (long long)report.reused,
            (long long)report.fresh, reuse->mode == M4N_REUSE_PCA ? "" : ".");
  if (!status && reuse->mode == M4N_REUSE_PCA)
    m4n_log(M4N_LOG_INFO, "reuse: %.2f %% of the stream's energy is kept", 100 * report.energy);
  return status;
}

static int make_student(m4n_checkpoint *c, const m4n_checkpoint *teacher, const m4n_reuse_stage_options *o,
                        const m4n_workshop *workshop, const m4n_reuse_options *reuse) {
  m4n_net *student;
  M4N_TRY(student_shape(&c->config, o, teacher, reuse));
  M4N_TRY(m4n_net_open(&student, workshop->stream,
                       &(m4n_net_options){.config = c->config, .sequences = 1, .train = true}));
  int status = m4n_net_start(student, o->stage.seed);
  if (!status && teacher) status = take_weights(student, teacher, reuse);
  if (!status) status = m4n_checkpoint_save(c, student, NULL);
  m4n_net_close(student);
  return status;
}

static int run(const m4n_reuse_stage_options *o, const m4n_workshop *workshop) {
  const int mode = m4n_reuse_mode_of(o->mode);
  if (mode < 0) return m4n_fail(M4N_EARG, "reuse: no mode is called '%.40s'", o->mode);
  if (!o->teacher && mode != M4N_REUSE_RANDOM)
    return m4n_fail(M4N_EARG, "reuse: mode '%s' needs a teacher", o->mode);
  m4n_checkpoint teacher, student = {0};
  m4n_reuse_options reuse = m4n_reuse_usual(mode);
  reuse.seed = o->stage.seed;
  reuse.pool = o->stage.pool;
  if (o->teacher) {
    M4N_TRY(m4n_checkpoint_read(&teacher, o->teacher));
    student.condition = teacher.condition;
  }
  if (strlen(o->out) >= sizeof student.path)
    return m4n_fail(M4N_EARG, "%.60s…: a path that is too long", o->out);
  memcpy(student.path, o->out, strlen(o->out) + 1);
  snprintf(student.about, sizeof student.about, "reuse: %s", o->mode);
  m4n_moments *moments = NULL;
  m4n_net *net = NULL;
  m4n_trajectories *pool = NULL;
  int status = M4N_OK;
  if (mode == M4N_REUSE_PCA) status = open_moments(&moments, &net, &pool, o, workshop, &teacher);
  reuse.moments = moments;
  if (!status) status = make_student(&student, o->teacher ? &teacher : NULL, o, workshop, &reuse);
  m4n_moments_close(moments);
  m4n_net_close(net);
  m4n_trajectories_close(pool);
  return status;
}

int m4n_reuse_stage(const m4n_reuse_stage_options *options) {
  if (m4n_stage_done(&options->stage, options->out)) return M4N_OK;
  m4n_workshop workshop;
  M4N_TRY(m4n_workshop_open(&workshop, &options->stage));
  int status = run(options, &workshop);
  m4n_workshop_close(&workshop);
  return status;
}
