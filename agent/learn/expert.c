#include "agent/learn/expert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/expert_internal.h"
#include "agent/learn/ppo.h"
#include "kernels/base/status.h"

m4n_expert_options m4n_expert_defaults(void) {
  return (m4n_expert_options){.seed = 1,
                              .steps = 50000000,
                              .guide = "robust-mpc",
                              .guide_steps = 2000000,
                              .lanes = 1024,
                              .horizon = 47,
                              .width = 128,
                              .layers = 3,
                              .batch = 4096,
                              .epochs = 3,
                              .lr = 5e-4,
                              .lr_end = 5e-5,
                              .entropy = 0.01,
                              .entropy_end = 0.0005,
                              .gamma = 0.99,
                              .lambda = 0.95,
                              .clip = 0.2,
                              .reward_scale = 0.2,
                              .reward_knee = -10,
                              .average = 0.999,
                              .save_every = 50};
}

static int check(const m4n_expert_options *o) {
  const struct {
    const char *name;
    double value, low, high;
  } range[] = {{"steps", (double)o->steps, 1, 1e13},
               {"lanes", o->lanes, 1, M4N_MAX_LANES},
               {"guide_steps", (double)o->guide_steps, 0, 1e13},
               {"horizon", o->horizon, 1, 65536},
               {"batch", o->batch, 1, 1 << 20},
               {"epochs", o->epochs, 1, 100},
               {"lr", o->lr, 1e-9, 1},
               {"lr_end", o->lr_end, 1e-9, 1},
               {"entropy", o->entropy, 1e-9, 10},
               {"entropy_end", o->entropy_end, 1e-9, 10},
               {"gamma", o->gamma, 0, 1},
               {"lambda", o->lambda, 0, 1},
               {"clip", o->clip, 1e-3, 10},
               {"reward_scale", o->reward_scale, 1e-9, 1e9},
               {"reward_knee", o->reward_knee, -1e9, -1e-9},
               {"average", o->average, 0, 0.999999},
               {"save_every", o->save_every, 1, 1e9}};
  for (size_t i = 0; i < sizeof range / sizeof *range; i++)
    if (!(range[i].value >= range[i].low && range[i].value <= range[i].high))
      return m4n_fail(M4N_EARG, "expert.%s: %g is not in [%g, %g]", range[i].name, range[i].value,
                      range[i].low, range[i].high);
  return M4N_OK;
}

int m4n_expert_open(m4n_expert **out, const m4n_expert_options *options, m4n_stream *stream) {
  *out = NULL;
  M4N_TRY(check(options));
  m4n_expert *e = calloc(1, sizeof *e);
  if (!e) return m4n_fail(M4N_ENOMEM, "no memory for an expert");
  e->o = *options, e->stream = stream;
  m4n_progress_begin(&e->progress, "expert", "decisions", options->steps);
  *out = e;
  return M4N_OK;
}

static void *take(m4n_expert *e, size_t n, size_t size) {
  return m4n_arena_alloc(&e->memory, n * size);
}

static int open_lane(m4n_expert *e, expert_lane *l) {
  const size_t room = (size_t)e->room;
  l->x = take(e, room * (size_t)e->features.n, sizeof *l->x);
  l->action = take(e, room, sizeof *l->action);
  l->guide = take(e, room, sizeof *l->guide);
  l->done = take(e, room, 1);
  float **const part[] = {&l->logp, &l->value, &l->reward, &l->advantage, &l->target};
  for (size_t i = 0; i < sizeof part / sizeof *part; i++)
    if (!(*part[i] = take(e, room, sizeof(float)))) return M4N_ENOMEM;
  return l->x && l->action && l->guide && l->done ? M4N_OK : M4N_ENOMEM;
}

static int open_guide(m4n_expert *e, const m4n_spec *spec) {
  const m4n_policy_setup setup = {.spec = spec, .slots = e->o.lanes, .seed = e->o.seed};
  M4N_TRY(m4n_policy_open(&e->guide, e->o.guide, &setup));
  if (e->guide.kind->wants_advice)
    return m4n_fail(M4N_EUNSUPPORTED,
                    "expert.guide: '%s' needs the simulator's advice, which an expert is not given",
                    e->o.guide);
  e->guide_action = take(e, spec->act_size, 1);
  return e->guide_action ? M4N_OK : M4N_ENOMEM;
}

// All memory of the training, once the simulator has said what it is.
static int prepare(m4n_expert *e, const m4n_spec *spec) {
  const m4n_expert_options *o = &e->o;
  M4N_TRY(m4n_features_open(&e->features, spec));
  if (o->guide) M4N_TRY(open_guide(e, spec));
  const size_t rows = (size_t)(o->batch > o->lanes ? o->batch : o->lanes), inputs = (size_t)e->features.n;
  const size_t outputs = (size_t)e->features.levels + 1;
  const m4n_actor_shape shape = {e->features.n, o->width, o->layers, e->features.levels};
  // A lane that was quick may run ahead of the mean while others begin episodes.
  e->room = 2 * o->horizon + 8;
  M4N_TRY(m4n_actor_open(&e->actor, e->stream, &shape, (int)rows, true));
  M4N_TRY(m4n_params_start(e->actor->params, M4N_ALL_SETS, o->seed));
  const m4n_optimiser_options adam = {
      .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-5, .decay = 0, .clip = 0.5, .fresh = 1};
  M4N_TRY(m4n_optimiser_open(&e->optimiser, e->actor->params, &adam));
  const int64_t n = e->actor->params->n;
  e->average = m4n_alloc(m4n_stream_backend(e->stream), (size_t)n * sizeof *e->average);
  if (!e->average) return m4n_last_error()->status;
  m4n_copy(e->stream, e->average, e->actor->params->w, (size_t)n * sizeof *e->average);
  e->lane = take(e, (size_t)o->lanes, sizeof *e->lane);
  if (!e->lane) return M4N_ENOMEM;
  for (int i = 0; i < o->lanes; i++) M4N_TRY(open_lane(e, &e->lane[i]));
  e->x = take(e, rows * inputs, sizeof *e->x);
  e->out = take(e, rows * outputs, sizeof *e->out);
  e->d_out = take(e, rows * outputs, sizeof *e->d_out);
  e->order = take(e, (size_t)o->lanes * (size_t)e->room, sizeof *e->order);
  e->action = take(e, (size_t)o->batch, sizeof *e->action);
  e->guided = take(e, (size_t)o->batch, sizeof *e->guided);
  e->logp = take(e, (size_t)o->batch, sizeof *e->logp);
  e->advantage = take(e, (size_t)o->batch, sizeof *e->advantage);
  e->target = take(e, (size_t)o->batch, sizeof *e->target);
  if (!e->x || !e->out || !e->d_out || !e->order || !e->action || !e->guided || !e->logp || !e->advantage ||
      !e->target)
    return M4N_ENOMEM;
  if (!o->work) return M4N_OK;
  M4N_TRY(m4n_mkdirs(o->work));
  if (o->resume) M4N_TRY(expert_load(e));
  return expert_log_open(e);
}

// ---- acting

static bool finished(void *self) {
  const m4n_expert *e = self;
  return e->failure.status || e->done_steps >= e->o.steps;
}

static int order_episode(m4n_expert *e, m4n_server *server, int slot) {
  expert_lane *l = &e->lane[slot];
  const m4n_reset order = {.lane = slot - l->session->first_slot,
                           .set = M4N_SET_TRAIN,
                           .episode = e->next_episode++,
                           .seed = e->o.seed,
                           .copy_of = -1};
  l->idle = false;
  l->rng = m4n_rng_make(e->o.seed, (uint64_t)order.episode, M4N_RNG_ACTION);
  if (e->guide.kind)
    e->guide.kind->begin(e->guide.self,
                         &(m4n_start){.slot = slot, .episode = order.episode, .seed = e->o.seed}, 1);
  return m4n_server_reset(server, l->session, &order);
}

static int began(void *self, m4n_server *server, m4n_session *session) {
  m4n_expert *e = self;
  if (!e->actor) {
    int status = prepare(e, session->spec);
    if (status) { // nobody else could be learned from either: serving ends, and close says why
      e->failure = *m4n_last_error();
      return status;
    }
  }
  if (session->first_slot + session->lanes > e->o.lanes)
    return m4n_fail(M4N_EARG, "expert.lanes: %d, the simulators have more", e->o.lanes);
  if (finished(e)) { // a run that was done before
    m4n_server_done(server, session);
    return M4N_OK;
  }
  for (int i = session->first_slot; i < session->first_slot + session->lanes; i++) {
    e->lane[i].session = session;
    M4N_TRY(order_episode(e, server, i));
  }
  return M4N_OK;
}

int expert_run(m4n_expert *e, int rows, bool train) {
  const size_t inputs = (size_t)e->features.n, outputs = (size_t)e->features.levels + 1;
  m4n_copy_in(e->stream, e->actor->x, e->x, (size_t)rows * inputs * sizeof *e->x);
  m4n_actor_forward(e->actor, rows, train);
  m4n_copy_out(e->stream, e->out, e->actor->out, (size_t)rows * outputs * sizeof *e->out);
  return m4n_sync(e->stream);
}

// What came of the action that the lane waits for.
static void finish(m4n_expert *e, expert_lane *l, double reward, uint32_t flags, double value) {
  const m4n_expert_options *o = &e->o;
  if (!l->waiting) return;
  l->waiting = false;
  if (flags & M4N_LOST) return; // its outcome is nobody's
  e->reward_sum += reward;
  double r = o->reward_scale * m4n_bent_reward(reward, o->reward_knee);
  if (flags & M4N_TRUNCATED) r += o->gamma * value; // cut off from outside: the value does not end
  l->reward[l->count] = (float)r;
  l->done[l->count] = (flags & M4N_ENDED) != 0;
  l->count++;
  e->collected++;
}

bool expert_guided(const m4n_expert *e) {
  return e->guide.kind && e->done_steps < e->o.guide_steps;
}

// What the guide would do here. The network acts itself, so that it learns what to do where it gets to.
static int32_t ask_guide(m4n_expert *e, int32_t slot, const m4n_spec *spec, const uint8_t *row) {
  const m4n_batch batch = {.n = 1, .slot = &slot, .obs = row};
  int32_t choice;
  e->guide.kind->decide(e->guide.self, &batch, &(m4n_decisions){.action = e->guide_action});
  memcpy(&choice, e->guide_action + spec->act[0].offset, sizeof choice);
  return choice;
}

// Draws an action from the policy and remembers it until its outcome is known.
static int32_t act(m4n_expert *e, expert_lane *l, const m4n_real *x, const m4n_real *out) {
  double p[M4N_ABR_MAX_LEVELS], u = m4n_rng_uniform(&l->rng);
  const int levels = e->features.levels;
  m4n_policy_logp(p, out, levels, 0);
  int a = 0;
  while (a < levels - 1 && (u -= p[a]) >= 0) a++;
  memcpy(l->x + (size_t)l->count * (size_t)e->features.n, x, (size_t)e->features.n * sizeof *x);
  l->action[l->count] = a;
  l->logp[l->count] = (float)log(fmax(p[a], 1e-12));
  l->value[l->count] = (float)out[levels];
  l->waiting = true;
  return a;
}

// From time to time all lanes are let run out, since a run can be resumed only where no episode is under way.
static bool saving(const m4n_expert *e) {
  return e->o.work && e->updates - e->saved_at >= e->o.save_every;
}

static int save_when_idle(m4n_expert *e, m4n_server *server) {
  for (int i = 0; i < e->o.lanes; i++)
    if (e->lane[i].session && !e->lane[i].idle) return M4N_OK;
  if (e->collected) M4N_TRY(expert_update(e));
  M4N_TRY(expert_save(e));
  for (int i = 0; i < e->o.lanes; i++)
    if (e->lane[i].session) M4N_TRY(order_episode(e, server, i));
  return M4N_OK;
}

static int decide(void *self, m4n_server *server, const m4n_rows *rows, m4n_replies *replies) {
  m4n_expert *e = self;
  const size_t inputs = (size_t)e->features.n, outputs = (size_t)e->features.levels + 1;
  for (int r = 0; r < rows->n; r++)
    m4n_features_fill(&e->features, e->x + (size_t)r * inputs, rows->obs + (size_t)r * rows->spec->obs_size);
  M4N_TRY(expert_run(e, rows->n, false));
  for (int r = 0; r < rows->n; r++) {
    expert_lane *l = &e->lane[rows->slot[r]];
    const m4n_real *out = e->out + (size_t)r * outputs;
    if (!(rows->flags[r] & M4N_FIRST)) finish(e, l, rows->reward[r], rows->flags[r], out[outputs - 1]);
    if (rows->flags[r] & M4N_ENDED) {
      if (saving(e))
        l->idle = true;
      else
        M4N_TRY(order_episode(e, server, rows->slot[r]));
      continue;
    }
    if (expert_guided(e))
      l->guide[l->count] =
          ask_guide(e, rows->slot[r], rows->spec, rows->obs + (size_t)r * rows->spec->obs_size);
    int32_t choice = act(e, l, e->x + (size_t)r * inputs, out);
    memcpy(replies->action + (size_t)r * rows->spec->act_size + rows->spec->act[0].offset, &choice,
           sizeof choice);
  }
  bool full = e->collected >= (int64_t)e->o.lanes * e->o.horizon;
  for (int i = 0; i < e->o.lanes && !full; i++) full = e->lane[i].count + 2 >= e->room;
  if (full) M4N_TRY(expert_update(e));
  return saving(e) ? save_when_idle(e, server) : M4N_OK;
}

static void ended(void *self, m4n_server *server, m4n_session *session, bool lost) {
  m4n_expert *e = self;
  (void)server, (void)lost;
  for (int i = 0; e->lane && i < session->lanes; i++) {
    expert_lane *l = &e->lane[session->first_slot + i];
    l->waiting = false, l->session = NULL;
    if (l->count) l->done[l->count - 1] = 1; // whoever takes the slot begins anew
  }
}

m4n_server_owner m4n_expert_owner(m4n_expert *expert) {
  return (m4n_server_owner){
      .self = expert, .began = began, .decide = decide, .ended = ended, .finished = finished};
}

int m4n_expert_close(m4n_expert *e, int status) {
  if (!e) return status;
  if (e->failure.status) status = m4n_set_error(&e->failure);
  const m4n_error why = *m4n_last_error();
  m4n_progress_end(&e->progress);
  int written = M4N_OK;
  if (!status && e->actor && e->o.checkpoint) {
    char *about = m4n_features_text(&e->features);
    written = about ? m4n_actor_save(e->actor, e->o.checkpoint, e->average, about) : M4N_ENOMEM;
    free(about);
  }
  if (e->log && fclose(e->log) && !written)
    written = m4n_fail_at(M4N_EIO, e->o.work, 0, "train.csv", "cannot be written");
  if (e->average) m4n_free(m4n_stream_backend(e->stream), e->average);
  m4n_policy_close(&e->guide);
  m4n_optimiser_close(e->optimiser);
  m4n_actor_close(e->actor);
  m4n_arena_close(&e->memory);
  free(e);
  return status ? m4n_set_error(&why) : written;
}
