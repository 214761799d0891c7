#include "agent/decider.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/base/arena.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

// The rows of one round.
typedef struct batch {
  int32_t n;
  int32_t *row, *slot;
  double *reward;
  uint8_t *obs, *advice, *action;
} batch;

typedef struct impl {
  m4n_decider seen; // first member: what the caller sees
  m4n_policy policy, fallback;
  size_t obs_size, act_size;
  int slots;
  bool has_fallback, wants_advice;
  m4n_arena memory;

  batch coming;     // what begin and add collect
  m4n_start *start; // [slots] episodes that the policy was not told of, one entry a slot
  int32_t n_start;
  int32_t *start_at; // [slots] index into start, or -1
  m4n_start *fresh;  // [slots] the same for the fallback, of this round
  int32_t n_fresh;
  uint8_t *second; // [slots][act_size] the fallback's answers
  int64_t started_ns;
  m4n_error failure; // of a policy

  // with a fallback: the policy's thread, and what it works on
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t wake, done;
  batch taken;     // the thread's while `busy`
  m4n_start *told; // [slots] likewise
  int32_t n_told;
  bool busy, quit, asked; // asked: the coming round was handed over
  int64_t decide_ns, closed_until_ns;
  int misses;
} impl;

static impl *impl_of(m4n_decider *decider) {
  return (impl *)decider;
}

static void decide(m4n_policy *policy, batch *b, bool advice, uint8_t *action) {
  const m4n_batch in = {
      .n = b->n, .slot = b->slot, .reward = b->reward, .obs = b->obs, .advice = advice ? b->advice : NULL};
  m4n_decisions out = {.action = action};
  if (b->n) policy->kind->decide(policy->self, &in, &out);
}

// ---- the policy's own thread

static void *work(void *self) {
  impl *d = self;
  pthread_mutex_lock(&d->lock);
  for (;;) {
    while (!d->busy && !d->quit) pthread_cond_wait(&d->wake, &d->lock);
    if (!d->busy) break; // what was handed over is finished first
    pthread_mutex_unlock(&d->lock);
    if (d->n_told) d->policy.kind->begin(d->policy.self, d->told, d->n_told);
    decide(&d->policy, &d->taken, d->wants_advice, d->taken.action);
    pthread_mutex_lock(&d->lock);
    d->busy = false;
    pthread_cond_signal(&d->done);
  }
  pthread_mutex_unlock(&d->lock);
  return NULL;
}

static int start_thread(impl *d) {
  pthread_condattr_t clock;
  pthread_condattr_init(&clock);
  pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
  pthread_mutex_init(&d->lock, NULL);
  pthread_cond_init(&d->wake, NULL);
  pthread_cond_init(&d->done, &clock);
  pthread_condattr_destroy(&clock);
  if (!pthread_create(&d->thread, NULL, work, d)) return M4N_OK;
  pthread_cond_destroy(&d->wake);
  pthread_cond_destroy(&d->done);
  pthread_mutex_destroy(&d->lock);
  d->has_fallback = false; // close has no thread to end
  return m4n_fail(M4N_ENOMEM, "cannot start a thread for policy '%s'", d->seen.name);
}

static void stop_thread(impl *d) {
  pthread_mutex_lock(&d->lock);
  d->quit = true;
  pthread_cond_signal(&d->wake);
  pthread_mutex_unlock(&d->lock);
  pthread_join(d->thread, NULL);
  pthread_cond_destroy(&d->wake);
  pthread_cond_destroy(&d->done);
  pthread_mutex_destroy(&d->lock);
}

// Waits until the thread is idle or the deadline passed; true if it is idle. The lock is held.
static bool wait_idle(impl *d, int64_t deadline_ns) {
  struct timespec until = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
  while (d->busy)
    if (pthread_cond_timedwait(&d->done, &d->lock, &until)) return !d->busy;
  return true;
}

// ---- opening

static bool make_batch(impl *d, batch *b) {
  size_t n = (size_t)d->slots;
  b->row = m4n_arena_alloc(&d->memory, n * sizeof *b->row);
  b->slot = m4n_arena_alloc(&d->memory, n * sizeof *b->slot);
  b->reward = m4n_arena_alloc(&d->memory, n * sizeof *b->reward);
  b->obs = m4n_arena_alloc(&d->memory, n * d->obs_size);
  b->advice = m4n_arena_alloc(&d->memory, n * d->act_size);
  b->action = m4n_arena_alloc(&d->memory, n * d->act_size);
  return b->row && b->slot && b->reward && b->obs && b->advice && b->action;
}

static int make_memory(impl *d) {
  size_t n = (size_t)d->slots;
  d->start = m4n_arena_alloc(&d->memory, n * sizeof *d->start);
  d->fresh = m4n_arena_alloc(&d->memory, n * sizeof *d->fresh);
  d->told = m4n_arena_alloc(&d->memory, n * sizeof *d->told);
  d->start_at = m4n_arena_alloc(&d->memory, n * sizeof *d->start_at);
  d->second = m4n_arena_alloc(&d->memory, n * d->act_size);
  if (!make_batch(d, &d->coming) || !make_batch(d, &d->taken) || !d->start || !d->fresh || !d->told ||
      !d->start_at || !d->second)
    return m4n_fail(M4N_ENOMEM, "no memory for the rows of %d lanes", d->slots);
  for (int i = 0; i < d->slots; i++) d->start_at[i] = -1;
  return M4N_OK;
}

int m4n_decider_open(m4n_decider **decider, const char *name, const m4n_policy_setup *setup,
                     const char *fallback, int decide_ms) {
  *decider = NULL;
  impl *d = calloc(1, sizeof *d);
  if (!d) return m4n_fail(M4N_ENOMEM, "no memory for policy '%s'", name);
  d->seen.name = name;
  d->slots = setup->slots;
  d->obs_size = setup->spec->obs_size;
  d->act_size = setup->spec->act_size;
  d->decide_ns = (int64_t)decide_ms * 1000000;
  int status = make_memory(d);
  if (!status) status = m4n_policy_open(&d->policy, name, setup);
  if (!status) d->wants_advice = d->policy.kind->wants_advice;
  if (!status && fallback) {
    status = m4n_policy_open(&d->fallback, fallback, setup);
    if (!status && d->fallback.kind->wants_advice)
      status =
          m4n_fail(M4N_EUNSUPPORTED,
                   "'%s' cannot be a fallback: it is a bound that needs the simulator's advice", fallback);
    d->has_fallback = !status;
    if (!status) status = start_thread(d);
  }
  if (status) {
    m4n_decider_close(&d->seen);
    return status;
  }
  *decider = &d->seen;
  return M4N_OK;
}

void m4n_decider_close(m4n_decider *decider) {
  if (!decider) return;
  impl *d = impl_of(decider);
  if (d->has_fallback) stop_thread(d);
  m4n_policy_close(&d->policy);
  m4n_policy_close(&d->fallback);
  m4n_arena_close(&d->memory);
  free(d);
}

bool m4n_decider_wants_advice(const m4n_decider *decider) {
  return ((const impl *)decider)->wants_advice;
}

const char *m4n_decider_about(const m4n_decider *decider) {
  const m4n_policy *policy = &((const impl *)decider)->policy;
  return policy->kind->about ? policy->kind->about(policy->self) : "";
}

// ---- a round

void m4n_decider_begin(m4n_decider *decider, int32_t slot, int64_t episode, uint64_t seed) {
  impl *d = impl_of(decider);
  const m4n_start start = {.slot = slot, .episode = episode, .seed = seed};
  // A slot whose last episode the busy policy never heard of begins another one: only the last matters.
  if (d->start_at[slot] < 0) d->start_at[slot] = d->n_start++;
  d->start[d->start_at[slot]] = start;
  if (d->has_fallback) d->fresh[d->n_fresh++] = start;
}

void m4n_decider_add(m4n_decider *decider, int32_t row, int32_t slot, double reward, const uint8_t *obs,
                     const uint8_t *advice) {
  impl *d = impl_of(decider);
  batch *b = &d->coming;
  size_t k = (size_t)b->n++;
  b->row[k] = row;
  b->slot[k] = slot;
  b->reward[k] = reward;
  memcpy(b->obs + k * d->obs_size, obs, d->obs_size);
  if (d->wants_advice && advice) memcpy(b->advice + k * d->act_size, advice, d->act_size);
}

static void forget_starts(impl *d) {
  for (int32_t i = 0; i < d->n_start; i++) d->start_at[d->start[i].slot] = -1;
  d->n_start = 0;
}

void m4n_decider_start(m4n_decider *decider) {
  impl *d = impl_of(decider);
  d->started_ns = m4n_now_ns();
  if (!d->has_fallback) {
    if (d->n_start) d->policy.kind->begin(d->policy.self, d->start, d->n_start);
    forget_starts(d);
    decide(&d->policy, &d->coming, d->wants_advice, d->coming.action);
    return;
  }
  pthread_mutex_lock(&d->lock);
  d->asked = !d->busy && d->started_ns >= d->closed_until_ns;
  if (d->asked) {
    // The fallback reads the rows too: the thread gets a copy of what it may keep.
    batch *to = &d->taken, *from = &d->coming;
    size_t n = (size_t)from->n;
    to->n = from->n;
    memcpy(to->slot, from->slot, n * sizeof *to->slot);
    memcpy(to->reward, from->reward, n * sizeof *to->reward);
    memcpy(to->obs, from->obs, n * d->obs_size);
    if (d->wants_advice) memcpy(to->advice, from->advice, n * d->act_size);
    memcpy(d->told, d->start, (size_t)d->n_start * sizeof *d->told);
    d->n_told = d->n_start;
    forget_starts(d);
    d->busy = true;
    pthread_cond_signal(&d->wake);
  }
  pthread_mutex_unlock(&d->lock);
  if (d->n_fresh) d->fallback.kind->begin(d->fallback.self, d->fresh, d->n_fresh);
  d->n_fresh = 0;
  decide(&d->fallback, &d->coming, false, d->second);
}

// Three late rounds in a row, and the policy is left alone for a while.
static void count_miss(impl *d) {
  d->seen.late++;
  if (!d->asked && d->closed_until_ns > d->started_ns) return;
  if (++d->misses < M4N_DECIDER_MISSES) return;
  d->misses = 0;
  d->closed_until_ns = m4n_now_ns() + (int64_t)M4N_DECIDER_PAUSE_MS * 1000000;
  m4n_log(M4N_LOG_WARN,
          "policy '%s' was late %d times in a row (bridge.decide_ms is %lld): '%s' answers for %d ms",
          d->seen.name, M4N_DECIDER_MISSES, (long long)(d->decide_ns / 1000000), d->fallback.kind->name,
          M4N_DECIDER_PAUSE_MS);
}

static void look_at(impl *d, const m4n_policy *policy) {
  if (!d->failure.status && policy->kind->status && policy->kind->status(policy->self))
    d->failure = *m4n_last_error();
}

int m4n_decider_status(const m4n_decider *decider) {
  const impl *d = (const impl *)decider;
  return d->failure.status ? m4n_set_error(&d->failure) : M4N_OK;
}

void m4n_decider_finish(m4n_decider *decider) {
  impl *d = impl_of(decider);
  const uint8_t *action = d->coming.action;
  int served_by = 0;
  if (d->has_fallback) {
    pthread_mutex_lock(&d->lock);
    bool in_time = d->asked && wait_idle(d, d->started_ns + d->decide_ns);
    pthread_mutex_unlock(&d->lock);
    if (in_time) {
      memcpy(d->coming.action, d->taken.action, (size_t)d->coming.n * d->act_size);
      d->misses = 0;
    } else {
      action = d->second;
      served_by = 1;
      count_miss(d);
    }
  }
  look_at(d, served_by ? &d->fallback : &d->policy);
  d->seen.n = d->coming.n;
  d->seen.row = d->coming.row;
  d->seen.action = action;
  d->seen.served_by = served_by;
  d->seen.took_ns = m4n_now_ns() - d->started_ns;
  d->coming.n = 0; // the next begin or add opens a round
}
