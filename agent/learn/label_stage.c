// label: somebody's answers to what is in event logs (algorithms.md §7.2).
#include "agent/learn/abr_rows.h"
#include "agent/learn/labelling.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

// Rows are read with the teacher's encoder and its returns; for others the usual encoder does, since they see the logs' own rows.
static int open_pool(m4n_trajectories **pool, const m4n_label_options *o, const m4n_checkpoint *teacher) {
  m4n_trajectories_options options = {
      .events = o->events, .n_events = o->n_events, .rtg_scale = o->rtg_scale};
  m4n_config usual;
  if (teacher) {
    options.shape = &teacher->config.abr;
    options.condition = &teacher->condition;
  } else {
    m4n_spec spec;
    M4N_TRY(m4n_trajectories_spec(&spec, o->events[0]));
    M4N_TRY(m4n_config_preset(&usual, "mini"));
    M4N_TRY(m4n_abr_rows_shape(&usual.abr, &spec));
    options.shape = &usual.abr;
  }
  return m4n_trajectories_open(pool, &options);
}

static int run(const m4n_label_options *o, const m4n_workshop *workshop) {
  m4n_labelling *labelling;
  m4n_trajectories *pool = NULL;
  M4N_TRY(m4n_labelling_open(&labelling, workshop,
                             &(m4n_labelling_options){.labeller = o->labeller,
                                                      .teacher = o->teacher,
                                                      .expert = o->expert,
                                                      .batch = o->batch,
                                                      .stride = o->stride}));
  int status = open_pool(&pool, o, m4n_labelling_teacher(labelling));
  if (!status)
    m4n_log(M4N_LOG_INFO, "label: %d episodes, %lld decisions, by %s", pool->n, (long long)pool->steps,
            m4n_labeller_name(o->labeller));
  if (!status) status = m4n_labelling_run(labelling, pool, o->events, o->n_events, o->out);
  m4n_trajectories_close(pool);
  m4n_labelling_close(labelling);
  return status;
}

int m4n_label(const m4n_label_options *options) {
  if (m4n_stage_done(&options->stage, options->out)) return M4N_OK;
  if (options->n_events < 1) return m4n_fail(M4N_EARG, "label: there are no event logs");
  m4n_workshop workshop;
  M4N_TRY(m4n_workshop_open(&workshop, &options->stage));
  int status = run(options, &workshop);
  m4n_workshop_close(&workshop);
  return status;
}
