#include "sim/vec.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

enum { TILE = 16 }; // lanes a thread takes at a time

typedef struct lane {
  m4n_reset order;
  bool live, named;  // named: in the current call, to catch a lane that is named twice
  m4n_arena scratch; // of the oracle
  void *plan;
} lane;

struct m4n_vec {
  const m4n_task *task;
  const m4n_world *world;
  const m4n_spec *spec;
  m4n_pool *pool;
  int lanes;
  size_t pitch; // bytes from state to state
  uint8_t *states;
  lane *lane;
  m4n_vec_rows rows;
  m4n_arena memory;
  // the call that the tiles work on
  int first, count;
  const uint8_t *actions;
  const int64_t *delay_ns;
  int *status; // [lanes] of the oracle
  m4n_error *error;
};

static void *state_of(const m4n_vec *vec, int i) {
  return vec->states + (size_t)i * vec->pitch;
}

int m4n_vec_open(m4n_vec **out, const m4n_task *task, const m4n_world *world, int lanes, m4n_pool *pool) {
  *out = NULL;
  if (lanes < 1 || lanes > M4N_MAX_LANES)
    return m4n_fail(M4N_EARG, "lanes: %d, expected 1 to %d", lanes, M4N_MAX_LANES);
  m4n_vec *vec = calloc(1, sizeof *vec);
  if (!vec) return m4n_fail(M4N_ENOMEM, "no memory for %d lanes", lanes);
  size_t n = (size_t)lanes;
  vec->task = task, vec->world = world, vec->pool = pool, vec->lanes = lanes;
  vec->spec = task->spec(world);
  vec->pitch = (task->state_size(world) + 63) / 64 * 64;
  const struct {
    void **at;
    size_t size;
  } part[] = {{(void **)&vec->states, vec->pitch},
              {(void **)&vec->lane, sizeof *vec->lane},
              {(void **)&vec->status, sizeof *vec->status},
              {(void **)&vec->error, sizeof *vec->error},
              {(void **)&vec->rows.lane, sizeof *vec->rows.lane},
              {(void **)&vec->rows.episode, sizeof *vec->rows.episode},
              {(void **)&vec->rows.sim_time_ns, sizeof *vec->rows.sim_time_ns},
              {(void **)&vec->rows.reward, sizeof *vec->rows.reward},
              {(void **)&vec->rows.flags, sizeof *vec->rows.flags},
              {(void **)&vec->rows.obs, vec->spec->obs_size},
              {(void **)&vec->rows.info, (size_t)vec->spec->n_info * sizeof(double)},
              {(void **)&vec->rows.metrics, (size_t)vec->spec->n_metrics * sizeof(double)},
              {(void **)&vec->rows.advice, vec->spec->act_size},
              {(void **)&vec->rows.advised, 1},
              {(void **)&vec->rows.label, sizeof *vec->rows.label}};
  for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
    *part[i].at = m4n_arena_alloc(&vec->memory, n * part[i].size);
    if (!*part[i].at) {
      m4n_vec_close(vec);
      return M4N_ENOMEM;
    }
  }
  *out = vec;
  return M4N_OK;
}

void m4n_vec_close(m4n_vec *vec) {
  if (!vec) return;
  for (int i = 0; vec->lane && i < vec->lanes; i++) m4n_arena_close(&vec->lane[i].scratch);
  m4n_arena_close(&vec->memory);
  free(vec);
}

int m4n_vec_lanes(const m4n_vec *vec) {
  return vec->lanes;
}
const m4n_task *m4n_vec_task(const m4n_vec *vec) {
  return vec->task;
}
const m4n_spec *m4n_vec_spec(const m4n_vec *vec) {
  return vec->spec;
}
const m4n_vec_rows *m4n_vec_rows_of(const m4n_vec *vec) {
  return &vec->rows;
}
void m4n_vec_clear(m4n_vec *vec) {
  vec->rows.n = 0;
}

// Row `r` of the rows is what lane `i` says.
static m4n_io io_of(m4n_vec *vec, int r) {
  m4n_vec_rows *rows = &vec->rows;
  return (m4n_io){.obs = rows->obs + (size_t)r * vec->spec->obs_size,
                  .info = vec->spec->n_info ? rows->info + (size_t)r * (size_t)vec->spec->n_info : NULL};
}

static void finish_row(m4n_vec *vec, int r, const m4n_io *io) {
  m4n_vec_rows *rows = &vec->rows;
  lane *l = &vec->lane[rows->lane[r]];
  double *metrics = rows->metrics + (size_t)r * (size_t)vec->spec->n_metrics;
  uint8_t *advice = rows->advice + (size_t)r * vec->spec->act_size;
  rows->episode[r] = l->order.episode;
  rows->sim_time_ns[r] = io->sim_time_ns;
  rows->reward[r] = io->reward;
  rows->flags[r] = (uint8_t)io->flags;
  bool ended = io->flags & M4N_ENDED;
  l->live = !ended;
  memset(metrics, 0, (size_t)vec->spec->n_metrics * sizeof *metrics);
  if (ended) vec->task->report(state_of(vec, rows->lane[r]), vec->world, metrics);
  rows->advised[r] = (l->order.options & M4N_RESET_ADVICE) && !ended;
  memset(advice, 0, vec->spec->act_size);
  if (rows->advised[r]) {
    int status = vec->task->oracle(state_of(vec, rows->lane[r]), vec->world, &l->scratch, &l->plan, advice);
    vec->status[r] = status;
    if (status) vec->error[r] = *m4n_last_error();
  }
}

// The first failure of an oracle among the rows of this call, as the caller's own.
static int first_failure(const m4n_vec *vec, int first, int n) {
  for (int r = first; r < first + n; r++)
    if (vec->rows.advised[r] && vec->status[r]) return m4n_set_error(&vec->error[r]);
  return M4N_OK;
}

static int check_order(const m4n_vec *vec, const m4n_reset *o) {
  int count = 0;
  const double *episodes = m4n_spec_constant(vec->spec, M4N_EPISODES, &count);
  if (o->lane < 0 || o->lane >= vec->lanes)
    return m4n_fail(M4N_EPROTO, "reset of lane %d: there are %d lanes", o->lane, vec->lanes);
  if (vec->lane[o->lane].live)
    return m4n_fail(M4N_EPROTO, "reset of lane %d: its episode is not over", o->lane);
  if (vec->lane[o->lane].named) return m4n_fail(M4N_EPROTO, "lane %d is named twice", o->lane);
  if (o->set < 0 || o->set >= M4N_SETS || !episodes || o->set >= count || episodes[o->set] < 1)
    return m4n_fail(M4N_EPROTO, "reset of lane %d: the world has no episodes in set %d", o->lane, o->set);
  if (o->episode < 0)
    return m4n_fail(M4N_EPROTO, "reset of lane %d: episode %lld", o->lane, (long long)o->episode);
  if ((o->options & M4N_RESET_ADVICE) && !vec->task->oracle)
    return m4n_fail(M4N_EPROTO, "reset of lane %d: task '%s' has no oracle", o->lane, vec->task->name);
  if (o->copy_of >= 0 && (o->copy_of >= vec->lanes || !vec->lane[o->copy_of].live))
    return m4n_fail(M4N_EPROTO, "reset of lane %d: lane %d is not live and cannot be copied", o->lane,
                    o->copy_of);
  return M4N_OK;
}

static void reset_tile(void *self, int tile) {
  m4n_vec *vec = self;
  for (int k = tile * TILE; k < vec->count && k < (tile + 1) * TILE; k++) {
    int r = vec->first + k, i = vec->rows.lane[r];
    lane *l = &vec->lane[i];
    m4n_io io = io_of(vec, r);
    m4n_arena_reset(&l->scratch);
    l->plan = NULL;
    if (l->order.copy_of < 0) {
      vec->task->reset(state_of(vec, i), vec->world, &l->order, &io);
    } else { // the source's state was copied before the tiles began
      vec->task->observe(state_of(vec, i), vec->world, &io);
      io.flags = M4N_FIRST;
    }
    if (io.info) memset(io.info, 0, (size_t)vec->spec->n_info * sizeof(double));
    vec->rows.label[r] = vec->task->label(vec->world, &l->order);
    finish_row(vec, r, &io);
  }
}

static void run(m4n_vec *vec, int n, m4n_tile tile) {
  vec->first = vec->rows.n, vec->count = n;
  vec->rows.n += n;
  m4n_pool_run(vec->pool, (n + TILE - 1) / TILE, tile, vec);
}

int m4n_vec_reset(m4n_vec *vec, const m4n_reset *orders, int n) {
  int status = M4N_OK, checked = 0;
  if (n < 0 || n > vec->lanes - vec->rows.n)
    return m4n_fail(M4N_EPROTO, "%d resets: more rows than the %d lanes", n, vec->lanes);
  for (; !status && checked < n; checked++) {
    status = check_order(vec, &orders[checked]);
    if (!status) vec->lane[orders[checked].lane].named = true;
  }
  for (int k = 0; k < checked; k++)
    if (orders[k].lane >= 0 && orders[k].lane < vec->lanes) vec->lane[orders[k].lane].named = false;
  M4N_TRY(status);
  for (int k = 0; k < n; k++) {
    int i = orders[k].lane;
    vec->lane[i].order = orders[k];
    vec->rows.lane[vec->rows.n + k] = i;
    if (orders[k].copy_of >= 0) memcpy(state_of(vec, i), state_of(vec, orders[k].copy_of), vec->pitch);
  }
  run(vec, n, reset_tile);
  return first_failure(vec, vec->first, n);
}

static void step_tile(void *self, int tile) {
  m4n_vec *vec = self;
  for (int k = tile * TILE; k < vec->count && k < (tile + 1) * TILE; k++) {
    int r = vec->first + k;
    m4n_io io = io_of(vec, r);
    io.action = vec->actions + (size_t)k * vec->spec->act_size;
    io.delay_ns = vec->delay_ns ? vec->delay_ns[k] : 0;
    vec->task->step(state_of(vec, vec->rows.lane[r]), vec->world, &io);
    vec->rows.label[r] = "";
    finish_row(vec, r, &io);
  }
}

static int check_step(const m4n_vec *vec, int i, const uint8_t *action, int64_t delay_ns) {
  if (i < 0 || i >= vec->lanes)
    return m4n_fail(M4N_EPROTO, "step of lane %d: there are %d lanes", i, vec->lanes);
  if (!vec->lane[i].live) return m4n_fail(M4N_EPROTO, "step of lane %d: it has no episode", i);
  if (vec->lane[i].named) return m4n_fail(M4N_EPROTO, "lane %d is named twice", i);
  if (delay_ns < 0 || delay_ns > INT64_C(86400000000000))
    return m4n_fail(M4N_EPROTO, "step of lane %d: a decision delay of %lld ns", i, (long long)delay_ns);
  for (int a = 0; a < vec->spec->n_act; a++) {
    const m4n_field *f = &vec->spec->act[a];
    int32_t choice;
    memcpy(&choice, action + f->offset, sizeof choice);
    if (choice < f->low || choice > f->high)
      return m4n_fail(M4N_EPROTO, "step of lane %d: action '%s' is %d, expected %g to %g", i, f->name, choice,
                      f->low, f->high);
  }
  return M4N_OK;
}

int m4n_vec_step(m4n_vec *vec, int n, const int32_t *lanes, const uint8_t *actions, const int64_t *delay_ns) {
  int status = M4N_OK, checked = 0;
  if (n < 0 || n > vec->lanes - vec->rows.n)
    return m4n_fail(M4N_EPROTO, "%d steps: more rows than the %d lanes", n, vec->lanes);
  for (; !status && checked < n; checked++) {
    status = check_step(vec, lanes[checked], actions + (size_t)checked * vec->spec->act_size,
                        delay_ns ? delay_ns[checked] : 0);
    if (!status) vec->lane[lanes[checked]].named = true;
  }
  for (int k = 0; k < checked; k++)
    if (lanes[k] >= 0 && lanes[k] < vec->lanes) vec->lane[lanes[k]].named = false;
  M4N_TRY(status);
  for (int k = 0; k < n; k++) vec->rows.lane[vec->rows.n + k] = lanes[k];
  vec->actions = actions, vec->delay_ns = delay_ns;
  run(vec, n, step_tile);
  return first_failure(vec, vec->first, n);
}
