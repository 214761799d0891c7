/* The event log's writing side: lanes fill buffers, one thread makes records of them. */
#include "agent/learn/store.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/store_format.h"
#include "agent/learn/store_output.h"
#include "kernels/base/status.h"

enum { QUEUE = 64 /* finished episodes that may wait for the writer */, PARTS = M4N_MAX_FIELDS + 2 };

/* An episode that is being recorded or waits to be written. */
typedef struct episode {
  m4n_bytes part[PARTS]; /* 0: moments, [T+1] words; 1: decisions, [T] words; then the varying fields' rows */
  uint64_t *metrics;     /* [n_metrics] bits of doubles */
  int32_t policy, set;
  int64_t number;
  uint64_t seed;
  uint32_t flags, steps, extras;
  size_t decision_words; /* of a step: more than the log's where there is advice */
  char label[M4N_LABEL];
  struct episode *next; /* in the queue or among the spare ones */
} episode;

typedef struct slot {
  episode *episode;   /* NULL: none is open */
  uint64_t *decision; /* words of the decision that waits for its result */
  bool decided;
  bool given_up; /* the episode cannot be kept, its rest is ignored */
} slot;

struct m4n_events {
  m4n_events_header header; /* only its spec and n_policies */
  m4n_row_plan plan;
  size_t decision_words, moment_words;
  char *path;
  int slots;
  slot *slot;
  uint64_t *decisions;   /* the memory of slot[].decision */
  size_t longest[PARTS]; /* bytes of the longest episode so far: what a buffer gets at once */

  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t filled, drained;
  episode *first, *last, *spare; /* under lock, as are the next three */
  int queued;
  bool closing;
  m4n_error failure; /* status 0: none */

  /* the writer's own */
  m4n_output output;
  uint64_t written;
};

static void remember(m4n_events *log) {
  pthread_mutex_lock(&log->lock);
  if (!log->failure.status) log->failure = *m4n_last_error();
  pthread_mutex_unlock(&log->lock);
}

/* ---- the writer */

static void append(m4n_bytes *bytes, const void *data, size_t size) {
  if (size) memcpy(bytes->data + bytes->size, data, size);
  bytes->size += size;
}

// Memory is there: see content_size.
static void append_zeros(m4n_bytes *bytes) {
  while (bytes->size % 8) bytes->data[bytes->size++] = 0;
}

static size_t content_size(const m4n_events *log, const episode *e) {
  size_t size = M4N_EPISODE_HEAD + m4n_round8(strlen(e->label)) + (size_t)log->header.spec.n_metrics * 8;
  for (int i = 0; i < 2 + log->plan.n_varying; i++) size += m4n_round8(e->part[i].size);
  return size;
}

static int make_content(m4n_events *log, const episode *e) {
  m4n_bytes *c = &log->output.content;
  size_t size = content_size(log, e);
  c->size = 0;
  if (!m4n_bytes_reserve(c, size)) return m4n_fail(M4N_ENOMEM, "no memory for an episode's record");
  uint32_t label = (uint32_t)strlen(e->label);
  append(c, &e->policy, 4);
  append(c, &e->set, 4);
  append(c, &e->number, 8);
  append(c, &e->seed, 8);
  append(c, &e->flags, 4);
  append(c, &e->steps, 4);
  append(c, &label, 4);
  append(c, &e->extras, 4);
  append(c, e->label, label);
  append_zeros(c);
  append(c, e->metrics, (size_t)log->header.spec.n_metrics * 8);
  m4n_columns((uint64_t *)(void *)(c->data + c->size), (const uint64_t *)(const void *)e->part[1].data,
              e->steps, e->decision_words);
  c->size += e->part[1].size;
  m4n_columns((uint64_t *)(void *)(c->data + c->size), (const uint64_t *)(const void *)e->part[0].data,
              (size_t)e->steps + 1, log->moment_words);
  c->size += e->part[0].size;
  for (int i = 2; i < 2 + log->plan.n_varying; i++) {
    append(c, e->part[i].data, e->part[i].size);
    append_zeros(c);
  }
  return M4N_OK;
}

static int write_episode(m4n_events *log, const episode *e, bool more) {
  M4N_TRY(make_content(log, e));
  M4N_TRY(m4n_output_add(&log->output, M4N_RECORD_EPISODE));
  log->written++;
  return more ? M4N_OK : m4n_output_flush(&log->output);
}

static void *writer(void *self) {
  m4n_events *log = self;
  pthread_mutex_lock(&log->lock);
  for (;;) {
    while (!log->first && !log->closing) pthread_cond_wait(&log->filled, &log->lock);
    episode *e = log->first;
    if (!e) break;
    log->first = e->next;
    log->queued--;
    bool more = log->first != NULL, dead = log->failure.status == M4N_EIO;
    if (log->queued == QUEUE / 2) pthread_cond_signal(&log->drained); // not for every single place
    pthread_mutex_unlock(&log->lock);
    // After a failure to write, episodes are taken and dropped so that nobody waits for a dead disk.
    if (!dead && write_episode(log, e, more)) remember(log);
    pthread_mutex_lock(&log->lock);
    e->next = log->spare;
    log->spare = e;
  }
  pthread_mutex_unlock(&log->lock);
  return NULL;
}

/* ---- opening and closing */

static void episode_free(episode *e) {
  for (int i = 0; i < PARTS; i++) m4n_bytes_free(&e->part[i]);
  free(e->metrics);
  free(e);
}

static void list_free(episode *e) {
  while (e) {
    episode *next = e->next;
    episode_free(e);
    e = next;
  }
}

static void release(m4n_events *log) {
  for (int i = 0; log->slot && i < log->slots; i++)
    if (log->slot[i].episode) episode_free(log->slot[i].episode);
  list_free(log->first);
  list_free(log->spare);
  m4n_output_free(&log->output);
  free(log->slot);
  free(log->decisions);
  free(log->path);
  pthread_mutex_destroy(&log->lock);
  pthread_cond_destroy(&log->filled);
  pthread_cond_destroy(&log->drained);
  free(log);
}

// What we write must be what we would read: names that are too long, a spec that does not lay out.
static int check_header(const m4n_bytes *content) {
  if (content->size > M4N_MAX_HEADER)
    return m4n_fail(M4N_EARG,
                    "the event log's header has %zu bytes (the scenario's text included), at most %d fit",
                    content->size, M4N_MAX_HEADER);
  m4n_events_header back;
  char *strings;
  int status = m4n_header_get(&back, &strings, content->data, content->size);
  if (!status) free(strings);
  return status == M4N_EFORMAT ? m4n_context(M4N_EARG, "the event log cannot hold this run") : status;
}

static int prepare(m4n_events *log, const m4n_events_header *header) {
  const m4n_spec *spec = &log->header.spec;
  log->plan = m4n_row_plan_of(spec);
  log->moment_words = 1 + log->plan.words;
  log->decision_words = M4N_DECISION_WORDS + (size_t)spec->n_info + spec->act_size / 8;
  size_t most = log->decision_words + spec->act_size / 8; // with advice
  log->slot = calloc((size_t)log->slots, sizeof *log->slot);
  log->decisions = calloc((size_t)log->slots, most * 8);
  if (!log->path || !log->slot || !log->decisions)
    return m4n_fail(M4N_ENOMEM, "no memory for an event log of %d lanes", log->slots);
  for (int i = 0; i < log->slots; i++) log->slot[i].decision = log->decisions + (size_t)i * most;
  M4N_TRY(m4n_output_init(&log->output, log->path));
  M4N_TRY(m4n_header_put(&log->output.content, header));
  M4N_TRY(check_header(&log->output.content));
  M4N_TRY(m4n_output_add(&log->output, M4N_RECORD_HEADER));
  M4N_TRY(m4n_output_open(&log->output));
  return m4n_output_flush(&log->output);
}

int m4n_events_create(m4n_events **out, const char *path, const m4n_events_header *header, int slots) {
  *out = NULL;
  assert(slots > 0);
  m4n_events *log = calloc(1, sizeof *log);
  if (!log) return m4n_fail(M4N_ENOMEM, "no memory for an event log");
  log->output.fd = -1;
  log->slots = slots;
  log->path = strdup(path);
  log->header.spec = header->spec;
  log->header.n_policies = header->n_policies;
  pthread_mutex_init(&log->lock, NULL);
  pthread_cond_init(&log->filled, NULL);
  pthread_cond_init(&log->drained, NULL);
  int status = prepare(log, header);
  if (!status && pthread_create(&log->thread, NULL, writer, log))
    status = m4n_fail(M4N_ENOMEM, "cannot start the event log's thread");
  if (status) {
    release(log);
    return status;
  }
  *out = log;
  return M4N_OK;
}

int m4n_events_status(m4n_events *log) {
  pthread_mutex_lock(&log->lock);
  int status = log->failure.status ? m4n_set_error(&log->failure) : M4N_OK;
  pthread_mutex_unlock(&log->lock);
  return status;
}

// The last record says how many there are: without it episodes are missing.
static int write_end(m4n_events *log) {
  m4n_bytes *content = &log->output.content;
  content->size = 0;
  if (!m4n_bytes_reserve(content, 8)) return m4n_fail(M4N_ENOMEM, "no memory for the last record");
  append(content, &log->written, 8);
  M4N_TRY(m4n_output_add(&log->output, M4N_RECORD_END));
  M4N_TRY(m4n_output_flush(&log->output));
  return m4n_output_close(&log->output);
}

int m4n_events_close(m4n_events *log) {
  if (!log) return M4N_OK;
  for (int i = 0; i < log->slots; i++) m4n_events_lost(log, i);
  pthread_mutex_lock(&log->lock);
  log->closing = true;
  pthread_cond_signal(&log->filled);
  pthread_mutex_unlock(&log->lock);
  pthread_join(log->thread, NULL);
  int failure = log->failure.status; // after EIO nothing more goes to this file
  if (failure != M4N_EIO && (failure ? m4n_output_flush(&log->output) : write_end(log))) remember(log);
  int status = m4n_events_status(log);
  release(log);
  return status;
}

/* ---- the lanes' side */

static void forget_advice(m4n_events *log, slot *s) {
  memset(s->decision + log->decision_words, 0xff, log->header.spec.act_size);
}

// An episode that cannot be kept (no memory, too long) is forgotten, and close says so.
static void give_up(m4n_events *log, slot *s) {
  remember(log);
  s->given_up = true;
}

static episode *take_spare(m4n_events *log) {
  pthread_mutex_lock(&log->lock);
  episode *e = log->spare;
  if (e) log->spare = e->next;
  pthread_mutex_unlock(&log->lock);
  if (e) return e;
  e = calloc(1, sizeof *e);
  if (e) e->metrics = calloc((size_t)log->header.spec.n_metrics + 1, 8);
  if (e && e->metrics) return e;
  free(e);
  return NULL;
}

static void hand_over(m4n_events *log, slot *s) {
  episode *e = s->episode;
  s->episode = NULL;
  e->next = NULL;
  pthread_mutex_lock(&log->lock);
  if (s->given_up) {
    for (int i = 0; i < PARTS; i++) m4n_bytes_free(&e->part[i]); // they may be huge
    e->next = log->spare;
    log->spare = e;
  } else {
    while (log->queued == QUEUE) pthread_cond_wait(&log->drained, &log->lock);
    if (log->first) {
      log->last->next = e;
    } else {
      log->first = e;
      pthread_cond_signal(&log->filled);
    }
    log->last = e;
    log->queued++;
  }
  pthread_mutex_unlock(&log->lock);
}

// Appends a moment: the time, the row's fixed part and the rows of its varying fields.
static void add_moment(m4n_events *log, slot *s, const uint8_t *obs, int64_t sim_time_ns) {
  const m4n_row_plan *plan = &log->plan;
  episode *e = s->episode;
  m4n_bytes *moments = &e->part[0];
  size_t bytes = log->moment_words * 8, total = 0;
  bool enough = m4n_bytes_reserve(moments, bytes);
  if (enough) {
    uint64_t *words = (uint64_t *)(void *)(moments->data + moments->size);
    memcpy(words, &sim_time_ns, 8);
    m4n_row_pack(plan, words + 1, obs);
    moments->size += bytes;
    for (int i = 0; i < plan->n_varying && enough; i++) {
      uint32_t count;
      memcpy(&count, obs + plan->varying[i].offset, 4);
      assert(count <= plan->varying[i].max_rows);
      size_t size = (size_t)count * plan->varying[i].row;
      enough = m4n_bytes_reserve(&e->part[2 + i], size);
      if (enough) append(&e->part[2 + i], obs + plan->varying[i].offset + 8, size);
    }
  }
  if (!enough) {
    m4n_fail(M4N_ENOMEM, "no memory to record episode %lld", (long long)e->number);
    give_up(log, s);
    return;
  }
  for (int i = 0; i < 2 + plan->n_varying; i++) total += m4n_round8(e->part[i].size);
  size_t rows = ((size_t)e->steps + 1) * log->header.spec.obs_size;
  if (total > M4N_MAX_EPISODE - 4096 || rows > M4N_MAX_EPISODE) {
    m4n_fail_at(M4N_EFORMAT, log->path, 0, NULL,
                "episode %lld is not recorded: after %u decisions it has no end and more than %d bytes",
                (long long)e->number, e->steps, M4N_MAX_EPISODE);
    give_up(log, s);
  }
}

// There are many bit patterns that are not a number: the file knows one.
static uint64_t bits_of(double value) {
  uint64_t bits;
  if (isnan(value)) value = NAN;
  memcpy(&bits, &value, 8);
  return bits;
}

static slot *slot_of(m4n_events *log, int index) {
  assert(index >= 0 && index < log->slots);
  return &log->slot[index];
}

void m4n_events_begin(m4n_events *log, int index, int policy, const m4n_reset *order, const char *label,
                      const uint8_t *obs, int64_t sim_time_ns) {
  slot *s = slot_of(log, index);
  assert(!s->episode && policy >= 0 && policy < log->header.n_policies);
  episode *e = s->episode = take_spare(log);
  s->decided = s->given_up = false;
  if (!e) {
    m4n_fail(M4N_ENOMEM, "no memory to record episode %lld", (long long)order->episode);
    remember(log);
    return;
  }
  for (int i = 0; i < PARTS; i++) {
    e->part[i].size = 0;
    m4n_bytes_reserve(&e->part[i], log->longest[i]); // without memory now, what is needed is asked for later
  }
  e->policy = policy;
  e->set = order->set;
  e->number = order->episode;
  e->seed = order->seed;
  e->steps = 0;
  e->extras = order->options & M4N_RESET_ADVICE ? M4N_EXTRA_ADVICE : 0;
  e->decision_words = log->decision_words + (e->extras ? log->header.spec.act_size / 8 : 0);
  forget_advice(log, s);
  snprintf(e->label, sizeof e->label, "%s", label ? label : "");
  add_moment(log, s, obs, sim_time_ns);
}

void m4n_events_action(m4n_events *log, int index, const uint8_t *action, int64_t delay_ns, int served_by) {
  slot *s = slot_of(log, index);
  s->decision[0] = (uint64_t)delay_ns;
  s->decision[1] = served_by != 0;
  memcpy(s->decision + M4N_DECISION_WORDS + log->header.spec.n_info, action, log->header.spec.act_size);
  s->decided = true;
}

void m4n_events_advice(m4n_events *log, int index, const uint8_t *advice) {
  slot *s = slot_of(log, index);
  if (!s->episode || !(s->episode->extras & M4N_EXTRA_ADVICE)) return;
  memcpy(s->decision + log->decision_words, advice, log->header.spec.act_size);
}

static void finish(m4n_events *log, slot *s, uint32_t flags, const double *metrics) {
  episode *e = s->episode;
  e->flags = flags & M4N_ENDED;
  for (int i = 0; i < log->header.spec.n_metrics; i++) e->metrics[i] = bits_of(metrics ? metrics[i] : NAN);
  for (int i = 0; i < PARTS && !s->given_up; i++)
    if (e->part[i].size > log->longest[i]) log->longest[i] = e->part[i].size;
  hand_over(log, s);
}

void m4n_events_result(m4n_events *log, int index, const uint8_t *obs, double reward, const double *info,
                       int64_t sim_time_ns, uint32_t flags, const double *metrics) {
  slot *s = slot_of(log, index);
  episode *e = s->episode;
  if (!e) return; // there was no memory to begin it
  assert(s->decided);
  s->decided = false;
  if (!s->given_up) {
    m4n_bytes *decisions = &e->part[1];
    int n_info = log->header.spec.n_info;
    s->decision[2] = bits_of(reward);
    for (int i = 0; i < n_info; i++) s->decision[M4N_DECISION_WORDS + i] = bits_of(info ? info[i] : NAN);
    if (m4n_bytes_reserve(decisions, e->decision_words * 8)) {
      append(decisions, s->decision, e->decision_words * 8);
      e->steps++;
      forget_advice(log, s);
      add_moment(log, s, obs, sim_time_ns);
    } else {
      m4n_fail(M4N_ENOMEM, "no memory to record episode %lld", (long long)e->number);
      give_up(log, s);
    }
  }
  if (flags & M4N_ENDED) finish(log, s, flags, metrics);
}

void m4n_events_lost(m4n_events *log, int index) {
  slot *s = slot_of(log, index);
  if (s->episode) finish(log, s, M4N_LOST, NULL);
}

void m4n_events_drop(m4n_events *log, int index) {
  slot *s = slot_of(log, index);
  if (!s->episode) return;
  s->given_up = true;
  hand_over(log, s);
}
