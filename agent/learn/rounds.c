#include "agent/learn/rounds.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

static const char PREFIX[] = "round-";

static const m4n_stage *stage_of(const m4n_rounds *r) {
  return r->o.fitting->workshop->stage;
}

int m4n_rounds_path(const m4n_rounds *r, int64_t round, const char *file, char path[M4N_PATH]) {
  const char *work = stage_of(r)->work;
  const int n =
      snprintf(path, M4N_PATH, "%s/%s%06" PRId64 "%s%s", work, PREFIX, round, file[0] ? "/" : "", file);
  return n < M4N_PATH ? M4N_OK : m4n_fail(M4N_EARG, "%.60s…: a path that is too long", work);
}

int m4n_rounds_clear(const char *work) {
  m4n_names names;
  M4N_TRY(m4n_list_dir(&names, work));
  int status = M4N_OK;
  for (int i = 0; i < names.count && !status; i++) {
    if (strncmp(names.name[i], PREFIX, sizeof PREFIX - 1) != 0) continue;
    char *path = m4n_path_join(work, names.name[i]);
    status = path ? m4n_remove_tree(path) : m4n_fail(M4N_ENOMEM, "no memory for a path");
    free(path);
  }
  m4n_names_free(&names);
  return status;
}

int m4n_rounds_open(m4n_rounds *r, const m4n_rounds_options *o) {
  *r = (m4n_rounds){.o = *o};
  r->played = calloc((size_t)o->keep, sizeof *r->played);
  return r->played ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for rounds");
}

static void close_round(m4n_played *p) {
  m4n_labels_close((m4n_labels *)(uintptr_t)p->labels);
  m4n_trajectories_close((m4n_trajectories *)(uintptr_t)p->pool);
  *p = (m4n_played){0};
}

void m4n_rounds_close(m4n_rounds *r) {
  for (int i = 0; r->played && i < r->o.keep; i++) close_round(&r->played[i]);
  free(r->played);
  *r = (m4n_rounds){0};
}

bool m4n_rounds_due(const m4n_rounds *r, int64_t step) {
  return step >= r->o.start && (step - r->o.start) % r->o.every == 0;
}

// ---- one round -------------------------------------------------------------------------------------------------------------------

static int open_pool(const m4n_rounds *r, int64_t round, m4n_trajectories **pool) {
  char events[M4N_PATH];
  M4N_TRY(m4n_rounds_path(r, round, "events.bin", events));
  return m4n_trajectories_open(pool,
                               &(m4n_trajectories_options){.events = &(const char *){events},
                                                           .n_events = 1,
                                                           .shape = &r->o.fitting->checkpoint.config.abr,
                                                           .condition = &r->o.fitting->checkpoint.condition,
                                                           .asked = true});
}

static int play(m4n_rounds *r, int64_t round, const m4n_real *weights) {
  const m4n_stage *stage = stage_of(r);
  const int64_t episodes = r->o.episodes;
  char folder[M4N_PATH], student[M4N_PATH], events[M4N_PATH], name[64];
  M4N_TRY(m4n_rounds_path(r, round, "", folder));
  M4N_TRY(m4n_rounds_path(r, round, "events.bin", events));
  M4N_TRY(m4n_mkdirs(folder));
  snprintf(name, sizeof name, "%s%06" PRId64 "/student.safetensors", PREFIX, round);
  M4N_TRY(m4n_fitting_export(r->o.fitting, r->o.current ? NULL : weights, name, student));
  m4n_rng rng = m4n_rng_make(stage->seed, r->o.stream, M4N_RNG_ROLLOUT);
  double mean = 0;
  M4N_TRY(stage->hooks->play(stage->hooks->self, &(m4n_play){.policy = student,
                                                             .set = M4N_SET_TRAIN,
                                                             .first_episode = round * episodes,
                                                             .episodes = episodes,
                                                             .seed = m4n_rng_u64(&rng),
                                                             .sample = true,
                                                             .advice = r->o.advice,
                                                             .events = events,
                                                             .mean_metric = &mean}));
  m4n_log(M4N_LOG_INFO, "%s: round %" PRId64 ": the student played %" PRId64 " episodes, %.4f on average",
          r->o.fitting->name, round, episodes, mean);
  return M4N_OK;
}

static int make(m4n_rounds *r, int64_t round, const m4n_real *weights) {
  char events[M4N_PATH], labels[M4N_PATH];
  M4N_TRY(m4n_rounds_path(r, round, "events.bin", events));
  M4N_TRY(m4n_rounds_path(r, round, "labels.safetensors", labels));
  M4N_TRY(play(r, round, weights));
  if (!r->o.labelling) return M4N_OK;
  m4n_trajectories *pool;
  M4N_TRY(open_pool(r, round, &pool));
  int status = m4n_labelling_run(r->o.labelling, pool, &(const char *){events}, 1, labels);
  m4n_trajectories_close(pool);
  return status;
}

static int read_round(m4n_rounds *r, int64_t round, m4n_played *p) {
  char path[M4N_PATH];
  m4n_trajectories *pool;
  m4n_labels *labels = NULL;
  M4N_TRY(m4n_rounds_path(r, round, "labels.safetensors", path));
  M4N_TRY(open_pool(r, round, &pool));
  int status = r->o.labelling ? m4n_labels_open(&labels, path) : M4N_OK;
  if (!status && labels) status = m4n_labels_fit(labels, pool);
  *p = (m4n_played){pool, labels};
  if (status) close_round(p);
  return status;
}

// A round is whole when its labels are there, or its log where nobody labels: both appear whole.
static int open_round(m4n_rounds *r, int64_t round, bool due, const m4n_real *weights) {
  char path[M4N_PATH];
  M4N_TRY(m4n_rounds_path(r, round, r->o.labelling ? "labels.safetensors" : "events.bin", path));
  if (!m4n_exists(path)) {
    if (!due)
      return m4n_fail_at(M4N_ENOTFOUND, path, 0, NULL,
                         "this round of the interrupted run is missing: begin anew without resume");
    M4N_TRY(make(r, round, weights));
  }
  return read_round(r, round, &r->played[round % r->o.keep]);
}

int m4n_rounds_at(m4n_rounds *r, int64_t step, const m4n_real *weights) {
  if (step < r->o.start) return M4N_OK;
  const int64_t keep = r->o.keep, last = (step - r->o.start) / r->o.every;
  const int64_t first = last < keep ? 0 : last - keep + 1;
  for (int64_t i = first; i <= last; i++) {
    if (i >= r->first && i < r->first + r->n) continue; // open already
    const m4n_played old = r->played[i % keep];         // still drawn from until the new ones are set
    r->played[i % keep] = (m4n_played){0};
    int status = open_round(r, i, i == last && m4n_rounds_due(r, step), weights);
    if (status) {
      r->played[i % keep] = old;
      return status;
    }
    close_round(&(m4n_played){old.pool, old.labels});
  }
  r->first = first, r->n = last - first + 1;
  if (!first) return M4N_OK;
  char path[M4N_PATH];
  M4N_TRY(m4n_rounds_path(r, first - 1, "", path));
  return m4n_remove_tree(path);
}
