#include "agent/learn/trajectories.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "agent/learn/abr_rows.h"
#include "kernels/base/arena.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

struct m4n_trajectories_private {
  m4n_arena names;
  int room;          // of the list of episodes
  int64_t step_room; // of the arrays of steps
  m4n_abr_rows reader;
  const m4n_field *action; // of the spec
};

// ---- memory that grows while a log is read ---------------------------------------------------------------------------

static int no_memory(const m4n_trajectories *pool) {
  return m4n_fail(M4N_ENOMEM, "no memory for a pool of more than %d episodes with %lld decisions", pool->n,
                  (long long)pool->steps);
}

static bool grow(void *array, int64_t n, size_t size) {
  void **at = array;
  void *more = realloc(*at, (size_t)n * size);
  if (more) *at = more;
  return more;
}

static int make_room(m4n_trajectories *pool, int32_t steps) {
  struct m4n_trajectories_private *p = pool->private_;
  if (pool->n == p->room) {
    const int room = p->room ? 2 * p->room : 256;
    if (!grow(&pool->episode, room, sizeof *pool->episode)) return no_memory(pool);
    p->room = room;
  }
  if (pool->steps + steps > p->step_room) {
    const int64_t room = 2 * p->step_room + steps + 4096;
    if (!grow(&pool->row, room * pool->features, sizeof *pool->row) || !grow(&pool->action, room, 1) ||
        !grow(&pool->advice, room, 1) || !grow(&pool->reward, room, sizeof *pool->reward) ||
        !grow(&pool->weight, room, sizeof *pool->weight))
      return no_memory(pool);
    p->step_room = room;
  }
  return M4N_OK;
}

// ---- reading -----------------------------------------------------------------------------------------------------------

static bool same_field(const m4n_field *a, const m4n_field *b) {
  return !strcmp(a->name, b->name) && a->dtype == b->dtype && a->rank == b->rank && a->offset == b->offset &&
         !memcmp(a->shape, b->shape, sizeof a->shape) && a->low == b->low && a->high == b->high;
}

// A log must be of the pool's task in all that a decision depends on. How many episodes its simulator had is its own affair.
static int check_same(const m4n_spec *pool, const m4n_spec *log, const char *path) {
  if (strcmp(pool->task, log->task) != 0 || strcmp(pool->reward, log->reward) != 0)
    return m4n_fail_at(M4N_EFORMAT, path, 0, NULL,
                       "task '%s' with the reward '%s'; the logs before it have '%s' with '%s'", log->task,
                       log->reward, pool->task, pool->reward);
  bool same = pool->n_obs == log->n_obs && pool->n_act == log->n_act;
  for (int i = 0; same && i < pool->n_obs; i++) same = same_field(&pool->obs[i], &log->obs[i]);
  for (int i = 0; same && i < pool->n_act; i++) same = same_field(&pool->act[i], &log->act[i]);
  if (!same)
    return m4n_fail_at(M4N_EFORMAT, path, 0, NULL,
                       "its observations or actions are not those of the logs before it");
  for (int i = 0; i < pool->n_constants; i++) {
    const m4n_constant *c = &pool->constant[i];
    if (strcmp(c->name, M4N_EPISODES) == 0) continue;
    int n;
    const double *theirs = m4n_spec_constant(log, c->name, &n);
    if (!theirs || n != c->count || memcmp(theirs, pool->value + c->first, (size_t)n * sizeof *theirs) != 0)
      return m4n_fail_at(M4N_EFORMAT, path, 0, c->name, "is not what the logs before it have");
  }
  return M4N_OK;
}

static int take_spec(m4n_trajectories *pool, const m4n_spec *spec, const char *path) {
  if (pool->features) return check_same(&pool->spec, spec, path);
  struct m4n_trajectories_private *p = pool->private_;
  pool->spec = *spec;
  int status = m4n_abr_rows_open(&p->reader, &pool->spec, &pool->shape);
  if (!status && (pool->spec.n_act != 1 || pool->spec.act[0].high != pool->shape.levels - 1))
    status = m4n_fail(M4N_EUNSUPPORTED, "expected one action with a choice for each of %d levels",
                      pool->shape.levels);
  if (status) return m4n_context(status, "%s", path);
  p->action = &pool->spec.act[0];
  pool->features = m4n_abr_features(&pool->shape);
  return M4N_OK;
}

static int32_t choice_of(const m4n_trajectories *pool, const uint8_t *actions, int32_t step) {
  int32_t choice;
  memcpy(&choice, actions + (size_t)step * pool->spec.act_size + pool->private_->action->offset,
         sizeof choice);
  return choice;
}

// Of what the log says, so that pools of models with other encoders are the same pool.
static uint64_t hash_of_episode(const m4n_episode *e, const m4n_trajectory *t, const m4n_spec *spec) {
  XXH3_state_t s;
  XXH3_64bits_reset(&s);
  const int64_t numbers[] = {t->set, t->steps, t->episode, (int64_t)t->seed, t->truncated, e->advice != NULL};
  const size_t steps = (size_t)t->steps;
  XXH3_64bits_update(&s, t->policy, strlen(t->policy) + 1);
  XXH3_64bits_update(&s, t->label, strlen(t->label) + 1);
  XXH3_64bits_update(&s, numbers, sizeof numbers);
  XXH3_64bits_update(&s, e->obs, steps * spec->obs_size);
  XXH3_64bits_update(&s, e->action, steps * spec->act_size);
  if (e->advice) XXH3_64bits_update(&s, e->advice, steps * spec->act_size);
  XXH3_64bits_update(&s, e->reward, steps * sizeof *e->reward);
  return XXH3_64bits_digest(&s);
}

static int take_episode(m4n_trajectories *pool, const m4n_episode *e, const char *policy, int32_t file,
                        int64_t ordinal) {
  if (e->flags & M4N_LOST || !e->steps) return M4N_OK;
  M4N_TRY(make_room(pool, e->steps));
  m4n_trajectory *t = &pool->episode[pool->n++];
  *t = (m4n_trajectory){.policy = policy,
                        .set = e->set,
                        .steps = e->steps,
                        .episode = e->episode,
                        .first = pool->steps,
                        .seed = e->seed,
                        .truncated = (e->flags & M4N_TRUNCATED) != 0,
                        .file = file,
                        .ordinal = ordinal};
  memcpy(t->label, e->label, sizeof t->label);
  t->hash = hash_of_episode(e, t, &pool->spec);
  for (int32_t i = 0; i < e->steps; i++, pool->steps++) {
    m4n_real *row = m4n_trajectories_row(pool, pool->steps);
    const int32_t action = choice_of(pool, e->action, i),
                  advice = e->advice ? choice_of(pool, e->advice, i) : -1;
    m4n_abr_rows_fill(&pool->private_->reader, row, e->obs + (size_t)i * pool->spec.obs_size);
    row[M4N_ABR_ACTION] = m4n_abr_action(&pool->shape, action);
    pool->action[pool->steps] = (uint8_t)action;
    pool->advice[pool->steps] = advice < 0 ? M4N_NO_ADVICE : (uint8_t)advice;
    pool->advised += advice >= 0;
    pool->reward[pool->steps] = e->reward[i];
    pool->weight[pool->steps] = 1;
  }
  return M4N_OK;
}

static int read_log(m4n_trajectories *pool, m4n_events_file *file, const char *path, int32_t number) {
  const m4n_events_header *header = m4n_events_header_of(file);
  M4N_TRY(take_spec(pool, &header->spec, path));
  const char **names = m4n_arena_alloc(&pool->private_->names, (size_t)header->n_policies * sizeof *names);
  if (!names) return M4N_ENOMEM;
  for (int i = 0; i < header->n_policies; i++)
    if (!(names[i] = m4n_arena_strdup(&pool->private_->names, header->policy[i]))) return M4N_ENOMEM;
  m4n_episode e;
  bool more = true;
  for (int64_t ordinal = 0;; ordinal++) {
    M4N_TRY(m4n_events_next(file, &e, &more));
    if (!more) break;
    M4N_TRY(take_episode(pool, &e, names[e.policy], number, ordinal));
  }
  if (m4n_events_truncated(file))
    m4n_log(M4N_LOG_WARN, "%s: the log has no end, episodes may be missing", path);
  return M4N_OK;
}

// ---- what the rows as a whole say ----------------------------------------------------------------------------------------

static int by_name(const void *a, const void *b) {
  const m4n_trajectory *x = a, *y = b;
  const int policy = strcmp(x->policy, y->policy);
  if (policy) return policy;
  if (x->set != y->set) return x->set < y->set ? -1 : 1;
  if (x->episode != y->episode) return x->episode < y->episode ? -1 : 1;
  if (x->seed != y->seed) return x->seed < y->seed ? -1 : 1;
  if (x->file != y->file) return x->file < y->file ? -1 : 1;
  return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

// g_t = Σ_{k≥t} r'_k / scale
static double fill_returns(m4n_trajectories *pool, double scale) {
  double most = 0;
  for (int e = 0; e < pool->n; e++) {
    const m4n_trajectory *t = &pool->episode[e];
    double sum = 0;
    for (int64_t i = t->first + t->steps - 1; i >= t->first; i--) {
      sum += m4n_reward_unit(&pool->condition, pool->reward[i]);
      m4n_trajectories_row(pool, i)[M4N_ABR_RETURN] = (m4n_real)(sum / scale);
    }
    if (sum > most) most = sum;
  }
  return most;
}

// g_0 = target, g_{t+1} = g_t − r'_t / scale
static void fill_asked(m4n_trajectories *pool) {
  for (int e = 0; e < pool->n; e++) {
    const m4n_trajectory *t = &pool->episode[e];
    double g = pool->condition.target;
    for (int64_t i = t->first; i < t->first + t->steps; i++) {
      m4n_trajectories_row(pool, i)[M4N_ABR_RETURN] = (m4n_real)g;
      g = m4n_return_after(&pool->condition, g, pool->reward[i]);
    }
  }
}

static void condition_on(m4n_trajectories *pool, double rtg_scale) {
  m4n_condition *c = &pool->condition;
  *c = (m4n_condition){.low = INFINITY, .high = -INFINITY, .scale = 1};
  memcpy(c->task, pool->spec.task, sizeof c->task);
  memcpy(c->reward, pool->spec.reward, sizeof c->reward);
  m4n_condition_world(c->world, &pool->spec);
  for (int64_t i = 0; i < pool->steps; i++) {
    if (pool->reward[i] < c->low) c->low = pool->reward[i];
    if (pool->reward[i] > c->high) c->high = pool->reward[i];
  }
  const double most = fill_returns(pool, 1);
  c->scale = rtg_scale > 0 ? rtg_scale : most > 0 ? most : 1;
  c->target = most / c->scale;
}

static uint64_t hash_of(const m4n_trajectories *pool, bool asked) {
  XXH3_state_t s;
  XXH3_64bits_reset(&s);
  const double condition[] = {pool->condition.low, pool->condition.high, pool->condition.scale,
                              pool->condition.target, asked};
  XXH3_64bits_update(&s, condition, sizeof condition);
  for (int e = 0; e < pool->n; e++) XXH3_64bits_update(&s, &pool->episode[e].hash, sizeof(uint64_t));
  return XXH3_64bits_digest(&s);
}

int m4n_trajectories_spec(m4n_spec *spec, const char *events) {
  m4n_events_file *file;
  M4N_TRY(m4n_events_open(&file, events));
  *spec = m4n_events_header_of(file)->spec;
  m4n_events_free(file);
  return M4N_OK;
}

// ---- opening ---------------------------------------------------------------------------------------------------------------

static int open_pool(m4n_trajectories *pool, const m4n_trajectories_options *o) {
  for (int i = 0; i < o->n_events; i++) {
    m4n_events_file *file;
    M4N_TRY(m4n_events_open(&file, o->events[i]));
    int status = read_log(pool, file, o->events[i], i);
    m4n_events_free(file);
    M4N_TRY(status);
  }
  if (!pool->n)
    return m4n_fail_at(M4N_EFORMAT, o->n_events ? o->events[0] : NULL, 0, NULL,
                       "there is not one whole episode to learn from");
  qsort(pool->episode, (size_t)pool->n, sizeof *pool->episode, by_name);
  if (o->condition) {
    pool->condition = *o->condition;
    M4N_TRY(m4n_condition_check(&pool->condition, &pool->spec, o->events[0]));
    if (o->asked)
      fill_asked(pool);
    else
      fill_returns(pool, pool->condition.scale);
  } else {
    condition_on(pool, o->rtg_scale);
    fill_returns(pool, pool->condition.scale);
  }
  pool->hash = hash_of(pool, o->asked);
  return M4N_OK;
}

int m4n_trajectories_open(m4n_trajectories **out, const m4n_trajectories_options *options) {
  m4n_trajectories *pool = *out = calloc(1, sizeof *pool);
  if (pool) pool->private_ = calloc(1, sizeof *pool->private_);
  if (!pool || !pool->private_) {
    free(pool);
    *out = NULL;
    return m4n_fail(M4N_ENOMEM, "no memory for a pool of trajectories");
  }
  pool->shape = *options->shape;
  int status = open_pool(pool, options);
  if (!status) return M4N_OK;
  m4n_trajectories_close(pool);
  *out = NULL;
  return status;
}

void m4n_trajectories_close(m4n_trajectories *pool) {
  if (!pool) return;
  m4n_arena_close(&pool->private_->names);
  free(pool->private_);
  free(pool->episode);
  free(pool->row);
  free(pool->action);
  free(pool->advice);
  free(pool->reward);
  free(pool->weight);
  free(pool);
}

// ---- advantages --------------------------------------------------------------------------------------------------------------

static int by_label(const void *a, const void *b) {
  const m4n_trajectory *const *x = a, *const *y = b;
  const int label = strcmp((*x)->label, (*y)->label);
  return label ? label : *x < *y ? -1 : *x > *y; // in the pool's order, so that sums are always the same
}

// The return to go of a step, less its mean over the n episodes of one label: into weight.
static void subtract_mean(m4n_trajectories *pool, m4n_trajectory *const *group, int n) {
  int32_t longest = 0;
  for (int i = 0; i < n; i++)
    if (group[i]->steps > longest) longest = group[i]->steps;
  for (int32_t t = 0; t < longest; t++) {
    double sum = 0;
    int count = 0;
    for (int i = 0; i < n; i++)
      if (t < group[i]->steps)
        sum += (double)m4n_trajectories_row(pool, group[i]->first + t)[M4N_ABR_RETURN], count++;
    for (int i = 0; i < n; i++)
      if (t < group[i]->steps) {
        const int64_t at = group[i]->first + t;
        pool->weight[at] = (float)((double)m4n_trajectories_row(pool, at)[M4N_ABR_RETURN] - sum / count);
      }
  }
}

int m4n_trajectories_weigh(m4n_trajectories *pool, double temperature) {
  m4n_trajectory **group = malloc((size_t)pool->n * sizeof(m4n_trajectory *));
  if (!group) return no_memory(pool);
  for (int e = 0; e < pool->n; e++) group[e] = &pool->episode[e];
  qsort(group, (size_t)pool->n, sizeof(m4n_trajectory *), by_label);
  for (int from = 0, to; from < pool->n; from = to) {
    for (to = from + 1; to < pool->n && strcmp(group[to]->label, group[from]->label) == 0; to++) {
    }
    subtract_mean(pool, group + from, to - from);
  }
  free(group);
  // Now weight is the advantage; its mean is 0 by construction.
  double square = 0, mean = 0;
  for (int64_t i = 0; i < pool->steps; i++) square += (double)pool->weight[i] * (double)pool->weight[i];
  const double unit = (temperature > 0 ? temperature : 1) * sqrt(square / (double)pool->steps);
  for (int64_t i = 0; i < pool->steps; i++) {
    const double a = unit > 0 ? (double)pool->weight[i] / unit : 0;
    pool->weight[i] = (float)exp(a < -2 ? -2 : a > 2 ? 2 : a);
    mean += (double)pool->weight[i] / (double)pool->steps;
  }
  for (int64_t i = 0; i < pool->steps; i++) pool->weight[i] = (float)((double)pool->weight[i] / mean);
  return M4N_OK;
}
