#include "agent/serve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/decider.h"
#include "agent/learn/store.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

// The policies for one kind of simulator. An evaluation has one; a server that stays may meet several.
typedef struct world {
  struct world *next;
  m4n_spec spec;
  uint64_t hash;
  int sessions; // simulators that play it now
  m4n_plan plan;
  m4n_plan_part *part;    // what the plan has, unless the options say it
  m4n_decider *decider[]; // [n_policies]
} world;

typedef struct slot {
  m4n_session *session; // NULL: nobody's
  m4n_job job;
  bool has_job;
  double reward; // sum over the episode so far
  int64_t steps;
} slot;

struct m4n_serve {
  m4n_serve_options o;
  world *worlds;
  slot *slots;
  m4n_events *events;
  m4n_progress progress;
  m4n_serve_stats stats;
  m4n_error failure; // ours, not a peer's
};

static int fail_here(m4n_serve *s) {
  if (!s->failure.status) s->failure = *m4n_last_error();
  return s->failure.status;
}

// ---- worlds

static void close_world(m4n_serve *s, world *w) {
  for (int p = 0; p < s->o.n_policies; p++) m4n_decider_close(w->decider[p]);
  free(w->plan.back);
  free(w->part);
  free(w);
}

// Without end, for whoever comes.
static bool stays(const m4n_serve *s) {
  return s->o.episodes < 0;
}

static int count_episodes(const m4n_serve *s, const m4n_spec *spec, int64_t *episodes) {
  static const char *const set[] = {"test", "train", "valid"};
  int n = 0;
  const double *has = m4n_spec_constant(spec, M4N_EPISODES, &n);
  if (has && (n <= s->o.set || has[s->o.set] < 1))
    return m4n_fail(M4N_EARG, "the simulator has no episodes in its set '%s'", set[s->o.set]);
  if (stays(s))
    *episodes = INT64_MAX;
  else if (s->o.episodes)
    *episodes = s->o.episodes;
  else if (has && has[s->o.set] <= 1e9)
    *episodes = (int64_t)has[s->o.set];
  else if (s->o.part)
    *episodes = 0; // the parts say it
  else if (has)
    return m4n_fail(M4N_EARG, "the simulator has %g episodes: set evaluate.episodes", has[s->o.set]);
  else
    return m4n_fail(M4N_EARG, "the simulator does not say how many episodes it has: set evaluate.episodes");
  return M4N_OK;
}

static int make_plan(m4n_serve *s, world *w) {
  int n = s->o.n_policies;
  int64_t episodes = 0;
  w->plan.back = calloc((size_t)s->o.slots, sizeof *w->plan.back);
  w->part = calloc((size_t)n, sizeof *w->part);
  if (!w->plan.back || !w->part) return m4n_fail(M4N_ENOMEM, "no memory for the queue of episodes");
  M4N_TRY(count_episodes(s, &w->spec, &episodes));
  for (int p = 0; p < n; p++) w->part[p] = (m4n_plan_part){.policy = p, .episodes = episodes};
  w->plan.part = s->o.part ? s->o.part : w->part;
  w->plan.parts = s->o.part ? s->o.n_parts : n;
  return M4N_OK;
}

static int open_policy(m4n_decider **decider, const m4n_serve_options *o, int p, const m4n_spec *spec,
                       int slots) {
  // With a fallback policies decide in threads of their own, and a pool has one caller at a time.
  const m4n_policy_setup setup = {.spec = spec,
                                  .slots = slots,
                                  .seed = o->seed,
                                  .pool = o->fallback ? NULL : o->pool,
                                  .models = o->models};
  M4N_TRY(m4n_decider_open(decider, o->policy[p], &setup, o->fallback, o->decide_ms));
  if ((o->advice || m4n_decider_wants_advice(*decider)) && !(spec->capabilities & M4N_CAN_ORACLE))
    return m4n_fail(M4N_EUNSUPPORTED, "%s%s%s needs advice that a simulator of task '%s' cannot give",
                    o->advice ? "the log" : "policy '", o->advice ? "" : o->policy[p], o->advice ? "" : "'",
                    spec->task);
  return M4N_OK;
}

static int open_policies(m4n_serve *s, world *w) {
  for (int p = 0; p < s->o.n_policies; p++)
    M4N_TRY(open_policy(&w->decider[p], &s->o, p, &w->spec, s->o.slots));
  return M4N_OK;
}

static int open_events(m4n_serve *s, const world *w) {
  const char **about = calloc((size_t)s->o.n_policies, sizeof *about);
  if (!about) return m4n_fail(M4N_ENOMEM, "no memory for the event log");
  for (int p = 0; p < s->o.n_policies; p++) about[p] = m4n_decider_about(w->decider[p]);
  const m4n_events_header header = {.spec = w->spec,
                                    .seed = s->o.seed,
                                    .n_policies = s->o.n_policies,
                                    .policy = s->o.policy,
                                    .about = about,
                                    .scenario = s->o.scenario ? s->o.scenario : ""};
  int status = m4n_events_create(&s->events, s->o.events, &header, s->o.slots);
  free(about);
  return status;
}

static int open_world(m4n_serve *s, world **out, const m4n_spec *spec) {
  world *w = calloc(1, sizeof *w + (size_t)s->o.n_policies * sizeof *w->decider);
  if (!w) return m4n_fail(M4N_ENOMEM, "no memory for a simulator's policies");
  w->spec = *spec;
  w->hash = m4n_spec_hash(spec);
  int status = make_plan(s, w);
  if (!status) status = open_policies(s, w);
  if (!status && s->o.events) status = open_events(s, w);
  if (status) {
    close_world(s, w);
    return status;
  }
  w->next = s->worlds;
  s->worlds = w;
  int64_t jobs = m4n_plan_jobs(&w->plan);
  if (s->o.title) m4n_progress_begin(&s->progress, s->o.title, "episodes", jobs == INT64_MAX ? 0 : jobs);
  *out = w;
  return M4N_OK;
}

// Policies are compared on one task: a second simulator must be the first one's like.
static int find_world(m4n_serve *s, world **out, const m4n_spec *spec) {
  uint64_t hash = m4n_spec_hash(spec);
  for (world *w = s->worlds; w; w = w->next)
    if (w->hash == hash) return *out = w, M4N_OK;
  if (s->worlds && !stays(s))
    return m4n_fail(
        M4N_EARG,
        "this evaluation began with a simulator of task '%s', reward '%s'; yours has task '%s', reward "
        "'%s' or other observations, actions or constants",
        s->worlds->spec.task, s->worlds->spec.reward, spec->task, spec->reward);
  int status = open_world(s, out, spec);
  // An evaluation whose policies cannot serve the simulator, or that cannot be recorded, is over.
  if (status && !stays(s)) fail_here(s);
  return status;
}

// ---- lanes

static int give(m4n_serve *s, m4n_server *server, world *w, int32_t index) {
  slot *l = &s->slots[index];
  if (!m4n_plan_take(&w->plan, &l->job)) return M4N_OK;
  bool advice = s->o.advice || m4n_decider_wants_advice(w->decider[l->job.policy]);
  const m4n_reset order = {.lane = index - l->session->first_slot,
                           .set = s->o.set,
                           .episode = l->job.episode,
                           .seed = s->o.seed,
                           .options = advice ? M4N_RESET_ADVICE : 0,
                           .copy_of = -1};
  l->has_job = true;
  return m4n_server_reset(server, l->session, &order);
}

static bool is_idle(const m4n_serve *s, const m4n_session *session) {
  for (int i = 0; i < session->lanes; i++)
    if (s->slots[session->first_slot + i].has_job) return false;
  return true;
}

// The slot's lane was lost: its episode goes to another lane, and only one that nobody could finish is recorded so.
static void lose(m4n_serve *s, world *w, int32_t index) {
  slot *l = &s->slots[index];
  if (!l->has_job) return;
  l->has_job = false;
  if (m4n_plan_return(&w->plan, l->job)) {
    if (s->events) m4n_events_drop(s->events, index);
    return;
  }
  if (s->events) m4n_events_lost(s->events, index);
  if (s->o.figure) s->o.figure[l->job.number] = NAN;
  m4n_log(M4N_LOG_WARN, "policy '%s', episode %lld: lost %d times, given up", s->o.policy[l->job.policy],
          (long long)l->job.episode, M4N_PLAN_TRIES);
}

// Lanes that ran out of work while others were still playing take what came back.
static void share_out(m4n_serve *s, m4n_server *server, world *w) {
  for (int32_t i = 0; i < s->o.slots && w->plan.n_back; i++) {
    slot *l = &s->slots[i];
    if (!l->session || l->has_job || l->session->owner != w || is_idle(s, l->session)) continue;
    if (give(s, server, w, i)) fail_here(s);
  }
}

// A server that stays forgets worlds that nobody plays: strangers may come with any number of them.
static void leave_world(m4n_serve *s, world *w) {
  if (--w->sessions || !stays(s)) return;
  world **at = &s->worlds;
  while (*at != w) at = &(*at)->next;
  *at = w->next;
  s->stats.finished += w->plan.done;
  s->stats.given_up += w->plan.given_up;
  close_world(s, w);
}

static void ended(void *self, m4n_server *server, m4n_session *session, bool lost) {
  m4n_serve *s = self;
  world *w = session->owner;
  if (lost) m4n_log(M4N_LOG_WARN, "lost the simulator %s with %d lanes", session->simulator, session->lanes);
  for (int32_t i = session->first_slot; i < session->first_slot + session->lanes; i++) {
    lose(s, w, i);
    s->slots[i] = (slot){0};
  }
  share_out(s, server, w);
  leave_world(s, w);
}

static int began(void *self, m4n_server *server, m4n_session *session) {
  m4n_serve *s = self;
  world *w = NULL;
  int status = find_world(s, &w, session->spec);
  if (status) return status;
  w->sessions++;
  session->owner = w;
  for (int32_t i = session->first_slot; i < session->first_slot + session->lanes; i++)
    s->slots[i] = (slot){.session = session};
  for (int32_t i = session->first_slot; i < session->first_slot + session->lanes && !status; i++)
    status = give(s, server, w, i);
  if (status) {
    ended(s, server, session, false); // it never began for the server, which will not say so
    return status;
  }
  if (is_idle(s, session)) m4n_server_done(server, session);
  if (stays(s))
    m4n_log(M4N_LOG_INFO, "simulator %s %s comes with %d lanes of '%s'", session->simulator, session->version,
            session->lanes, session->spec->task);
  return M4N_OK;
}

static bool finished(void *self) {
  const m4n_serve *s = self;
  return s->failure.status || (s->worlds && !stays(s) && m4n_plan_finished(&s->worlds->plan));
}

// ---- rows

static const uint8_t *advice_of(const world *w, const m4n_rows *rows, int32_t r) {
  return rows->advice && rows->advised[r] ? rows->advice + (size_t)r * w->spec.act_size : NULL;
}

static void record_row(m4n_serve *s, const world *w, const m4n_rows *rows, int32_t r, const slot *l) {
  size_t i = (size_t)r;
  const m4n_spec *spec = &w->spec;
  const uint8_t *obs = rows->obs + i * spec->obs_size;
  if (rows->flags[r] & M4N_FIRST) {
    const m4n_reset order = {.set = s->o.set,
                             .episode = l->job.episode,
                             .seed = s->o.seed,
                             .options = advice_of(w, rows, r) ? M4N_RESET_ADVICE : 0,
                             .copy_of = -1};
    m4n_events_begin(s->events, rows->slot[r], l->job.policy, &order, rows->label[r], obs,
                     rows->sim_time_ns[r]);
  } else {
    m4n_events_result(s->events, rows->slot[r], obs, rows->reward[r],
                      rows->info ? rows->info + i * (size_t)spec->n_info : NULL, rows->sim_time_ns[r],
                      rows->flags[r], rows->metrics ? rows->metrics + i * (size_t)spec->n_metrics : NULL);
  }
}

static double figure_of(const world *w, const m4n_rows *rows, int32_t r, const slot *l) {
  double metric =
      rows->metrics && w->spec.n_metrics ? rows->metrics[(size_t)r * (size_t)w->spec.n_metrics] : NAN;
  return isnan(metric) ? l->reward / (double)l->steps : metric;
}

// A row is what came of its lane's last action; if that ended the episode, the lane gets another.
static int take_row(m4n_serve *s, m4n_server *server, world *w, const m4n_rows *rows, int32_t r) {
  int32_t index = rows->slot[r];
  slot *l = &s->slots[index];
  m4n_decider *decider = w->decider[l->job.policy];
  bool first = rows->flags[r] & M4N_FIRST, last = rows->flags[r] & M4N_ENDED;
  if ((rows->flags[r] & M4N_LOST) || (first && last)) { // an episode without a decision is none
    lose(s, w, index);
  } else {
    if (s->events) record_row(s, w, rows, r, l);
    if (first) {
      m4n_decider_begin(decider, index, l->job.episode, s->o.seed);
      l->reward = 0, l->steps = 0;
    } else {
      l->reward += rows->reward[r], l->steps++;
    }
    if (!last) {
      const uint8_t *advice = advice_of(w, rows, r);
      if (advice && s->events) m4n_events_advice(s->events, index, advice);
      m4n_decider_add(decider, r, index, rows->reward[r], rows->obs + (size_t)r * w->spec.obs_size, advice);
      return M4N_OK;
    }
    l->has_job = false;
    if (s->o.figure) s->o.figure[l->job.number] = figure_of(w, rows, r, l);
    m4n_plan_done(&w->plan);
    if (s->o.title) m4n_progress_at(&s->progress, w->plan.done);
  }
  M4N_TRY(give(s, server, w, index));
  if (is_idle(s, l->session)) m4n_server_done(server, l->session);
  return M4N_OK;
}

static int64_t delay_of(const m4n_serve *s, const m4n_decider *d) {
  return s->o.delay_kind == M4N_DELAY_FIXED      ? (int64_t)(s->o.delay_ms * 1e6)
         : s->o.delay_kind == M4N_DELAY_MEASURED ? d->took_ns
                                                 : 0;
}

static void put_answers(m4n_serve *s, world *w, const m4n_decider *d, const m4n_rows *rows,
                        m4n_replies *replies) {
  size_t act_size = w->spec.act_size;
  int64_t delay_ns = delay_of(s, d);
  for (int32_t k = 0; k < d->n; k++) {
    int32_t r = d->row[k];
    const uint8_t *action = d->action + (size_t)k * act_size;
    memcpy(replies->action + (size_t)r * act_size, action, act_size);
    replies->served_by[r] = (uint8_t)d->served_by;
    replies->delay_ns[r] = delay_ns;
    if (s->events) m4n_events_action(s->events, rows->slot[r], action, delay_ns, d->served_by);
  }
  s->stats.decisions += d->n;
  s->stats.late += d->served_by ? d->n : 0;
}

static int decide(void *self, m4n_server *server, const m4n_rows *rows, m4n_replies *replies) {
  m4n_serve *s = self;
  if (!rows->n) return M4N_OK;
  if (s->events) M4N_TRY(m4n_events_status(s->events)); // a full disk ends the run, not just its record
  world *w = rows->session[0]->owner;
  for (int32_t r = 0; r < rows->n; r++) M4N_TRY(take_row(s, server, w, rows, r));
  int64_t start = m4n_now_ns();
  // All begin before any is waited for: with fallbacks the policies work side by side.
  for (int p = 0; p < s->o.n_policies; p++) m4n_decider_start(w->decider[p]);
  for (int p = 0; p < s->o.n_policies; p++) {
    m4n_decider_finish(w->decider[p]);
    M4N_TRY(m4n_decider_status(w->decider[p]));
    put_answers(s, w, w->decider[p], rows, replies);
  }
  replies->infer_ns = m4n_now_ns() - start;
  return M4N_OK;
}

// ---- opening and closing

int m4n_serve_check(const m4n_serve_options *options, const m4n_spec *spec) {
  for (int p = 0; p < options->n_policies; p++) {
    m4n_decider *decider = NULL;
    int status = open_policy(&decider, options, p, spec, 1);
    m4n_decider_close(decider);
    M4N_TRY(status);
  }
  return M4N_OK;
}

m4n_server_owner m4n_serve_owner(m4n_serve *serve) {
  return (m4n_server_owner){
      .self = serve, .began = began, .decide = decide, .ended = ended, .finished = finished};
}

int m4n_serve_open(m4n_serve **serve, const m4n_serve_options *options) {
  *serve = NULL;
  m4n_serve *s = calloc(1, sizeof *s);
  slot *slots = calloc((size_t)options->slots, sizeof *slots);
  if (!s || !slots) {
    free(s);
    free(slots);
    return m4n_fail(M4N_ENOMEM, "no memory to serve %d lanes", options->slots);
  }
  s->o = *options;
  s->slots = slots;
  *serve = s;
  return M4N_OK;
}

int m4n_serve_close(m4n_serve *serve, m4n_serve_stats *stats) {
  if (!serve) return M4N_OK;
  m4n_serve *s = serve;
  if (s->worlds && s->o.title) m4n_progress_end(&s->progress);
  for (const world *w = s->worlds; w; w = w->next) {
    s->stats.planned = stays(s) ? -1 : m4n_plan_jobs(&w->plan);
    s->stats.finished += w->plan.done;
    s->stats.given_up += w->plan.given_up;
  }
  if (stats) *stats = s->stats;
  if (s->events && m4n_events_close(s->events)) fail_here(s);
  for (world *w = s->worlds, *next; w; w = next) {
    next = w->next;
    close_world(s, w);
  }
  m4n_error failure = s->failure;
  free(s->slots);
  free(s);
  return failure.status ? m4n_set_error(&failure) : M4N_OK;
}
