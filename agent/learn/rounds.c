#include "agent/learn/rounds.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

static const char PREFIX[] = "round-";

static int path_of(char path[M4N_PATH], const m4n_rounds *r, int64_t round, const char *file) {
  const int n = snprintf(path, M4N_PATH, "%s/%s%06" PRId64 "%s%s", r->o->stage.work, PREFIX, round,
                         file[0] ? "/" : "", file);
  return n < M4N_PATH ? M4N_OK : m4n_fail(M4N_EARG, "%.60s…: a path that is too long", r->o->stage.work);
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

static int check(const char *key, double value, double low, double high) {
  return value >= low && value <= high
             ? M4N_OK
             : m4n_fail_at(M4N_EARG, NULL, 0, key, "%g: expected %g … %g", value, low, high);
}

int m4n_rounds_open(m4n_rounds *r, const m4n_distil_options *o, m4n_fitting *fitting,
                    m4n_imitation *imitation, m4n_labelling *labelling) {
  *r = (m4n_rounds){.o = o, .fitting = fitting, .imitation = imitation, .labelling = labelling};
  M4N_TRY(check("on_policy.every", (double)o->on_policy.every, 1, 1e12));
  M4N_TRY(check("on_policy.start", (double)o->on_policy.start, 0, 1e12));
  M4N_TRY(check("on_policy.episodes", (double)o->on_policy.episodes, 1, 1e9));
  M4N_TRY(check("on_policy.keep", o->on_policy.keep, 1, 1000));
  if (!o->stage.hooks)
    return m4n_fail_at(M4N_EARG, NULL, 0, "on_policy.share", "nobody is there to play rounds");
  r->played = calloc((size_t)o->on_policy.keep, sizeof *r->played);
  return r->played ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for rounds");
}

static void close_round(m4n_played *p) {
  m4n_labels_close((m4n_labels *)(uintptr_t)p->labels);
  m4n_trajectories_close((m4n_trajectories *)(uintptr_t)p->pool);
  *p = (m4n_played){0};
}

void m4n_rounds_close(m4n_rounds *r) {
  for (int i = 0; r->played && i < r->o->on_policy.keep; i++) close_round(&r->played[i]);
  free(r->played);
  *r = (m4n_rounds){0};
}

bool m4n_rounds_due(const m4n_rounds *r, int64_t step) {
  return step >= r->o->on_policy.start && (step - r->o->on_policy.start) % r->o->on_policy.every == 0;
}

// ---- one round -------------------------------------------------------------------------------------------------------------------

static int open_pool(const m4n_rounds *r, int64_t round, m4n_trajectories **pool) {
  char events[M4N_PATH];
  M4N_TRY(path_of(events, r, round, "events.bin"));
  return m4n_trajectories_open(pool,
                               &(m4n_trajectories_options){.events = &(const char *){events},
                                                           .n_events = 1,
                                                           .shape = &r->fitting->checkpoint.config.abr,
                                                           .condition = &r->fitting->checkpoint.condition,
                                                           .asked = true});
}

static int play(m4n_rounds *r, int64_t round, const m4n_real *weights) {
  const m4n_stage *stage = &r->o->stage;
  const int64_t episodes = r->o->on_policy.episodes;
  char folder[M4N_PATH], student[M4N_PATH], events[M4N_PATH], name[64];
  M4N_TRY(path_of(folder, r, round, ""));
  M4N_TRY(path_of(events, r, round, "events.bin"));
  M4N_TRY(m4n_mkdirs(folder));
  snprintf(name, sizeof name, "%s%06" PRId64 "/student.safetensors", PREFIX, round);
  M4N_TRY(m4n_fitting_export(r->fitting, weights, name, student));
  m4n_rng rng = m4n_rng_make(stage->seed, 0, M4N_RNG_ROLLOUT);
  double mean = 0;
  M4N_TRY(stage->hooks->play(stage->hooks->self,
                             &(m4n_play){.policy = student,
                                         .set = M4N_SET_TRAIN,
                                         .first_episode = round * episodes,
                                         .episodes = episodes,
                                         .seed = m4n_rng_u64(&rng),
                                         .sample = true,
                                         .advice = r->o->on_policy.labeller == M4N_LABEL_ORACLE,
                                         .events = events,
                                         .mean_metric = &mean}));
  m4n_log(M4N_LOG_INFO, "%s: round %" PRId64 ": the student played %" PRId64 " episodes, %.4f on average",
          r->fitting->name, round, episodes, mean);
  return M4N_OK;
}

// A round is whole when its labels are there.
static int make(m4n_rounds *r, int64_t round, const m4n_real *weights) {
  char events[M4N_PATH], labels[M4N_PATH];
  M4N_TRY(path_of(events, r, round, "events.bin"));
  M4N_TRY(path_of(labels, r, round, "labels.safetensors"));
  M4N_TRY(play(r, round, weights));
  m4n_trajectories *pool;
  M4N_TRY(open_pool(r, round, &pool));
  int status = m4n_labelling_run(r->labelling, pool, &(const char *){events}, 1, labels);
  m4n_trajectories_close(pool);
  return status;
}

static int open_round(m4n_rounds *r, int64_t round, bool due, const m4n_real *weights) {
  m4n_played *p = &r->played[round % r->o->on_policy.keep];
  char path[M4N_PATH];
  M4N_TRY(path_of(path, r, round, "labels.safetensors"));
  if (!m4n_exists(path)) {
    if (!due)
      return m4n_fail_at(M4N_ENOTFOUND, path, 0, NULL,
                         "this round of the interrupted run is missing: begin anew without resume");
    M4N_TRY(make(r, round, weights));
  }
  m4n_trajectories *pool;
  m4n_labels *labels;
  M4N_TRY(open_pool(r, round, &pool));
  int status = m4n_labels_open(&labels, path);
  if (!status) {
    status = m4n_labels_fit(labels, pool);
    *p = (m4n_played){pool, labels};
    if (status) close_round(p);
  } else {
    m4n_trajectories_close(pool);
  }
  return status;
}

int m4n_rounds_at(m4n_rounds *r, int64_t step, const m4n_real *weights) {
  if (step < r->o->on_policy.start) return M4N_OK;
  const int64_t keep = r->o->on_policy.keep, last = (step - r->o->on_policy.start) / r->o->on_policy.every;
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
  M4N_TRY(m4n_imitation_play(r->imitation, r->played, (int)r->n));
  if (!first) return M4N_OK;
  char path[M4N_PATH];
  M4N_TRY(path_of(path, r, first - 1, ""));
  return m4n_remove_tree(path);
}
