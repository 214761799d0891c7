#include "agent/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/store.h"
#include "agent/policy.h"
#include "agent/simulator.h"
#include "kernels/base/arena.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

typedef struct player {
  const m4n_task *task;
  m4n_world *world;
  const m4n_spec *spec;
  const m4n_events_header *header;
  uint64_t seed;
  m4n_policy *policy; // [header n_policies]
  void *state;
  uint8_t *obs, *action, *advice;
  double *info, *metrics;
  m4n_arena memory, scratch; // scratch: of the oracle
  void *plan;
  const m4n_episode *episode; // the one that is compared
  int step;
} player;

// ---- the first difference

static void where(const player *p, char *text, size_t size) {
  const m4n_episode *e = p->episode;
  snprintf(text, size, "policy '%s', episode %" PRId64 "%s%s%s, step %d", p->header->policy[e->policy],
           e->episode, *e->label ? " (" : "", e->label, *e->label ? ")" : "", p->step);
}

static int differs(const player *p, const char *what, const char *recorded, const char *replayed) {
  char place[256];
  where(p, place, sizeof place);
  return m4n_fail(M4N_EDIFFERS, "%s: %s: recorded %s, replayed %s", place, what, recorded, replayed);
}

static int same_int(const player *p, const char *what, int64_t recorded, int64_t replayed) {
  char a[32], b[32];
  if (recorded == replayed) return M4N_OK;
  snprintf(a, sizeof a, "%" PRId64, recorded);
  snprintf(b, sizeof b, "%" PRId64, replayed);
  return differs(p, what, a, b);
}

// Bits, not values: 0 and -0 differ.
static int same_doubles(const player *p, const char *what, const m4n_figure *figure, int n,
                        const double *recorded, const double *replayed) {
  for (int i = 0; i < n; i++) {
    char a[32], b[32], name[64];
    if (!memcmp(&recorded[i], &replayed[i], sizeof *recorded)) continue;
    snprintf(a, sizeof a, "%.17g", recorded[i]);
    snprintf(b, sizeof b, "%.17g", replayed[i]);
    snprintf(name, sizeof name, "%s%s%s%s", what, figure ? " '" : "", figure ? figure[i].name : "",
             figure ? "'" : "");
    return differs(p, name, a, b);
  }
  return M4N_OK;
}

static void print_element(char *text, size_t size, int dtype, const uint8_t *at) {
  union {
    double f64;
    float f32;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
    uint32_t u32;
  } x;
  memcpy(&x, at, m4n_dtype_size(dtype));
  switch (dtype) {
  case M4N_F64:
    snprintf(text, size, "%.17g", x.f64);
    break;
  case M4N_F32:
    snprintf(text, size, "%.9g", (double)x.f32);
    break;
  case M4N_I64:
    snprintf(text, size, "%" PRId64, x.i64);
    break;
  default:
    snprintf(text, size, "%" PRId64, dtype == M4N_I32 ? x.i32 : dtype == M4N_U32 ? (int64_t)x.u32 : x.u8);
  }
}

// Two rows, field by field, so that the difference has a name. A varying field's count stands in front of its rows.
static int same_row(const player *p, const char *what, const m4n_field *field, int n, const uint8_t *recorded,
                    const uint8_t *replayed) {
  for (int i = 0; i < n; i++) {
    const m4n_field *f = &field[i];
    bool varies = f->rank > 0 && f->shape[0] == -1;
    size_t element = m4n_dtype_size(f->dtype), front = varies ? 8 : 0;
    uint32_t counts[2] = {f->count, f->count};
    char name[96], a[32], b[32];
    snprintf(name, sizeof name, "%s '%s'", what, f->name);
    if (varies) {
      memcpy(&counts[0], recorded + f->offset, sizeof counts[0]);
      memcpy(&counts[1], replayed + f->offset, sizeof counts[1]);
      M4N_TRY(same_int(p, name, counts[0], counts[1]));
      counts[0] *= f->count / (uint32_t)f->max_rows;
    }
    for (uint32_t k = 0; k < counts[0]; k++) {
      size_t at = f->offset + front + k * element;
      if (!memcmp(recorded + at, replayed + at, element)) continue;
      print_element(a, sizeof a, f->dtype, recorded + at);
      print_element(b, sizeof b, f->dtype, replayed + at);
      if (f->rank) snprintf(name, sizeof name, "%s '%s'[%u]", what, f->name, k);
      return differs(p, name, a, b);
    }
  }
  return M4N_OK;
}

// ---- one episode

static int decide(player *p, bool wants_advice, double reward) {
  const m4n_episode *e = p->episode;
  m4n_policy *policy = &p->policy[e->policy];
  if (wants_advice) {
    if (!p->task->oracle) return m4n_fail(M4N_EUNSUPPORTED, "task '%s' has no oracle", p->task->name);
    M4N_TRY(p->task->oracle(p->state, p->world, &p->scratch, &p->plan, p->advice));
  }
  int32_t slot = 0;
  if (p->step == 0)
    policy->kind->begin(policy->self, &(m4n_start){.episode = e->episode, .seed = p->seed}, 1);
  policy->kind->decide(
      policy->self,
      &(m4n_batch){
          .n = 1, .slot = &slot, .reward = &reward, .obs = p->obs, .advice = wants_advice ? p->advice : NULL},
      &(m4n_decisions){.action = p->action});
  if (policy->kind->status) M4N_TRY(policy->kind->status(policy->self));
  return same_row(p, "action", p->spec->act, p->spec->n_act, e->action + (size_t)p->step * p->spec->act_size,
                  p->action);
}

static int replay_episode(player *p, bool fallback) {
  const m4n_episode *e = p->episode;
  const m4n_spec *spec = p->spec;
  const m4n_reset order = {.set = e->set, .episode = e->episode, .seed = p->seed, .copy_of = -1};
  m4n_io io = {.obs = p->obs, .info = spec->n_info ? p->info : NULL};
  p->step = 0;
  p->plan = NULL;
  m4n_arena_reset(&p->scratch);
  M4N_TRY(same_int(p, "seed", (int64_t)e->seed, (int64_t)p->seed));
  p->task->reset(p->state, p->world, &order, &io);
  const char *label = p->task->label(p->world, &order);
  if (strncmp(label, e->label, sizeof e->label - 1)) return differs(p, "the episode's name", e->label, label);
  for (int t = 0; t <= e->steps; t++) {
    p->step = t;
    M4N_TRY(same_row(p, "observation", spec->obs, spec->n_obs, e->obs + (size_t)t * spec->obs_size, p->obs));
    M4N_TRY(same_int(p, "simulated time (ns)", e->sim_time_ns[t], io.sim_time_ns));
    if (t == e->steps) break;
    if (!fallback) M4N_TRY(decide(p, p->policy[e->policy].kind->wants_advice, io.reward));
    io.action = e->action + (size_t)t * spec->act_size;
    io.delay_ns = e->delay_ns[t];
    p->task->step(p->state, p->world, &io);
    M4N_TRY(same_doubles(p, "reward", NULL, 1, &e->reward[t], &io.reward));
    M4N_TRY(same_doubles(p, "figure", spec->info, spec->n_info, e->info + (size_t)t * (size_t)spec->n_info,
                         p->info));
    bool last = t + 1 == e->steps, cut = e->flags & (M4N_LOST | M4N_TRUNCATED);
    if (!cut || !last) M4N_TRY(same_int(p, "flags", last ? e->flags : 0, io.flags));
    if (!last || cut) continue;
    p->task->report(p->state, p->world, p->metrics);
    // A simulator that has become newer may measure more than the log.
    M4N_TRY(same_doubles(p, "metric", spec->metric, p->header->spec.n_metrics, e->metrics, p->metrics));
  }
  return M4N_OK;
}

// ---- the whole log

static int open_policies(player *p, const m4n_policy_models *models) {
  const m4n_policy_setup setup = {.spec = p->spec, .slots = 1, .seed = p->header->seed, .models = models};
  p->policy = calloc((size_t)p->header->n_policies, sizeof *p->policy);
  if (!p->policy) return m4n_fail(M4N_ENOMEM, "no memory for the policies");
  for (int i = 0; i < p->header->n_policies; i++)
    M4N_TRY(m4n_policy_open(&p->policy[i], p->header->policy[i], &setup));
  return M4N_OK;
}

static int open_player(player *p, const m4n_scenario *scenario, const m4n_policy_models *models,
                       const char *events) {
  M4N_TRY(m4n_simulator_world(&p->task, &p->world, scenario));
  p->spec = p->task->spec(p->world);
  p->seed = scenario->seed;
  if (m4n_spec_hash(p->spec) != m4n_spec_hash(&p->header->spec))
    return m4n_fail_at(
        M4N_EDIFFERS, events, 0, NULL,
        "was recorded with another world: task '%s', reward '%s'; the scenario gives task '%s', reward "
        "'%s', or other observations, actions or constants",
        p->header->spec.task, p->header->spec.reward, p->spec->task, p->spec->reward);
  const m4n_spec *log = &p->header->spec;
  if (p->spec->n_info != log->n_info ||
      m4n_figures_common(p->spec->info, p->spec->n_info, log->info, log->n_info) < log->n_info ||
      m4n_figures_common(p->spec->metric, p->spec->n_metrics, log->metric, log->n_metrics) < log->n_metrics)
    return m4n_fail_at(M4N_EDIFFERS, events, 0, NULL,
                       "was recorded by a simulator that reports other figures");
  p->state = m4n_arena_alloc(&p->memory, p->task->state_size(p->world));
  p->obs = m4n_arena_alloc(&p->memory, p->spec->obs_size);
  p->action = m4n_arena_alloc(&p->memory, p->spec->act_size);
  p->advice = m4n_arena_alloc(&p->memory, p->spec->act_size);
  p->info = m4n_arena_alloc(&p->memory, (size_t)p->spec->n_info * sizeof *p->info);
  p->metrics = m4n_arena_alloc(&p->memory, (size_t)p->spec->n_metrics * sizeof *p->metrics);
  if (!p->state || !p->obs || !p->action || !p->advice || !p->info || !p->metrics) return M4N_ENOMEM;
  return open_policies(p, models);
}

static void close_player(player *p) {
  for (int i = 0; p->policy && i < p->header->n_policies; i++) m4n_policy_close(&p->policy[i]);
  free(p->policy);
  m4n_arena_close(&p->scratch);
  m4n_arena_close(&p->memory);
  if (p->world) p->task->world_close(p->world);
}

static int replay_all(player *p, m4n_events_file *file, m4n_replay_counts *counts, const m4n_stop *stop) {
  m4n_progress progress;
  m4n_progress_begin(&progress, "replay", "episodes", 0);
  for (;;) {
    m4n_episode episode;
    bool more, fallback = false;
    if (m4n_stop_requested(stop))
      return m4n_fail(M4N_ECANCELLED, "interrupted after %" PRId64 " episodes without a difference",
                      counts->episodes);
    M4N_TRY(m4n_events_next(file, &episode, &more));
    if (!more) break;
    for (int t = 0; t < episode.steps; t++) fallback = fallback || episode.served_by[t];
    p->episode = &episode;
    M4N_TRY(replay_episode(p, fallback));
    counts->episodes++;
    counts->decisions += episode.steps;
    counts->fallback += fallback;
    counts->lost += !!(episode.flags & M4N_LOST);
    m4n_progress_at(&progress, counts->episodes);
  }
  counts->truncated = m4n_events_truncated(file);
  m4n_progress_end(&progress);
  return M4N_OK;
}

int m4n_replay(const char *events, const m4n_scenario *scenario, const m4n_policy_models *models,
               m4n_replay_counts *counts, const m4n_stop *stop) {
  *counts = (m4n_replay_counts){0};
  m4n_events_file *file;
  M4N_TRY(m4n_events_open(&file, events));
  player p = {.header = m4n_events_header_of(file)};
  int status = open_player(&p, scenario, models, events);
  if (!status) status = replay_all(&p, file, counts, stop);
  close_player(&p);
  m4n_events_free(file);
  return status;
}
