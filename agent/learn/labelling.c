#include "agent/learn/labelling.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/model/half.h"
#include "agent/policy.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

struct m4n_labelling {
  const m4n_workshop *workshop;
  m4n_labelling_options o;
  m4n_checkpoint teacher;
  uint64_t teacher_hash;
  m4n_net *net; // the teacher
  m4n_window *window;
  m4n_real *logits; // [batch·w][levels], on the host
};

// ---- opening ---------------------------------------------------------------------------------------------------------------

static int open_teacher(m4n_labelling *l) {
  m4n_checkpoint *c = &l->teacher;
  M4N_TRY(m4n_checkpoint_read(c, l->o.teacher));
  M4N_TRY(m4n_checkpoint_hash(c, &l->teacher_hash));
  const m4n_net_options net = {
      .config = c->config, .sequences = l->o.batch, .format = m4n_checkpoint_format(c)};
  M4N_TRY(m4n_net_open(&l->net, l->workshop->stream, &net));
  M4N_TRY(m4n_checkpoint_load(c, l->net));
  const size_t rows = (size_t)l->o.batch * (size_t)c->config.abr.window;
  l->window = malloc((size_t)l->o.batch * sizeof *l->window);
  l->logits = m4n_alloc_host(l->workshop->backend, rows * (size_t)l->net->levels * sizeof *l->logits);
  return l->window && l->logits ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for %d windows", l->o.batch);
}

int m4n_labelling_open(m4n_labelling **out, const m4n_workshop *workshop,
                       const m4n_labelling_options *options) {
  m4n_labelling *l = *out = calloc(1, sizeof *l);
  if (!l) return m4n_fail(M4N_ENOMEM, "no memory for labelling");
  l->workshop = workshop;
  l->o = *options;
  if (l->o.batch <= 0) l->o.batch = 64;
  if (l->o.stride <= 0) l->o.stride = 1;
  int status = l->o.labeller == M4N_LABEL_TEACHER ? open_teacher(l) : M4N_OK;
  if (!status) return M4N_OK;
  m4n_labelling_close(l);
  *out = NULL;
  return status;
}

void m4n_labelling_close(m4n_labelling *l) {
  if (!l) return;
  m4n_net_close(l->net);
  m4n_free_host(l->workshop->backend, l->logits);
  free(l->window);
  free(l);
}

const m4n_checkpoint *m4n_labelling_teacher(const m4n_labelling *l) {
  return l->net ? &l->teacher : NULL;
}

// ---- values on their way to the file ---------------------------------------------------------------------------------------

// All values of a label file, in memory. Those that were made are also in a file beside it, so that a killed run loses little.
typedef struct store {
  uint16_t *value;
  int64_t n, made;
  char *path;
  FILE *file;
} store;

// The file's name holds what the labels depend on, so that a run with another teacher does not go on from it.
static int open_store(store *s, int64_t n, const char *out, const m4n_labels_about *about, bool resume) {
  const size_t size = strlen(out) + 96;
  *s = (store){.n = n, .value = malloc((size_t)n * sizeof(uint16_t)), .path = malloc(size)};
  if (!s->value || !s->path) return m4n_fail(M4N_ENOMEM, "no memory for %lld labels", (long long)n);
  snprintf(s->path, size, "%s.%016" PRIx64 "-%016" PRIx64 "-%d.part", out, about->pool, about->teacher,
           about->stride);
  if (!resume) M4N_TRY(m4n_remove_tree(s->path));
  s->file = fopen(s->path, "a+be");
  if (!s->file) return m4n_fail_at(M4N_EIO, s->path, 0, NULL, "cannot write: %s", strerror(errno));
  rewind(s->file);
  s->made = (int64_t)fread(s->value, sizeof *s->value, (size_t)n, s->file);
  return M4N_OK;
}

// What was made ends with a whole piece of `size` values; a rest is made again.
static int cut_store(store *s, int64_t size) {
  s->made -= s->made % size;
  if (ftruncate(fileno(s->file), (off_t)(s->made * (int64_t)sizeof *s->value)) || fseek(s->file, 0, SEEK_END))
    return m4n_fail_at(M4N_EIO, s->path, 0, NULL, "cannot cut: %s", strerror(errno));
  return M4N_OK;
}

static int keep(store *s, int64_t n) {
  if (fwrite(s->value + s->made, sizeof *s->value, (size_t)n, s->file) != (size_t)n || fflush(s->file))
    return m4n_fail_at(M4N_EIO, s->path, 0, NULL, "cannot write: %s", strerror(errno));
  s->made += n;
  return M4N_OK;
}

static void close_store(store *s, bool done) {
  if (s->file) fclose(s->file);
  if (done) unlink(s->path);
  free(s->path);
  free(s->value);
}

// ln softmax(z), no smaller than −100: in 16 bits that is still a number.
static void put_logp(uint16_t *to, const m4n_real *z, int levels) {
  double most = (double)z[0], sum = 0;
  for (int k = 1; k < levels; k++) most = fmax(most, (double)z[k]);
  for (int k = 0; k < levels; k++) sum += exp((double)z[k] - most);
  for (int k = 0; k < levels; k++) to[k] = m4n_half_bits((float)fmax((double)z[k] - most - log(sum), -100));
}

// ---- the teacher -------------------------------------------------------------------------------------------------------------

static int label_windows(m4n_labelling *l, const m4n_trajectories *pool, int n, store *s) {
  const int w = l->net->options.steps, levels = l->net->levels;
  m4n_stream *stream = l->workshop->stream;
  for (int b = 0; b < n; b++) m4n_window_fill(l->net, b, pool, &l->window[b]);
  m4n_net_forward(l->net, n, w, false, NULL);
  m4n_copy_out(stream, l->logits, l->net->logits, (size_t)(n * w) * (size_t)levels * sizeof *l->logits);
  M4N_TRY(m4n_sync(stream));
  uint16_t *to = s->value + s->made;
  memset(to, 0, (size_t)(n * w * levels) * sizeof *to);
  for (int b = 0; b < n; b++)
    for (int t = 0; t < l->window[b].steps; t++) {
      const int64_t row = (int64_t)b * w + t;
      const m4n_real *z = l->logits + row * levels;
      for (int k = 0; k < levels; k++)
        if (!isfinite(z[k]))
          return m4n_fail_at(M4N_EFORMAT, l->teacher.path, 0, NULL, "the teacher's answers are not numbers");
      put_logp(to + row * levels, z, levels);
    }
  return keep(s, (int64_t)n * w * levels);
}

static int label_by_teacher(m4n_labelling *l, const m4n_trajectories *pool, store *s) {
  const int w = l->net->options.steps;
  const int64_t values = (int64_t)w * l->net->levels;
  M4N_TRY(cut_store(s, values));
  m4n_progress progress;
  m4n_progress_begin(&progress, "label", "windows", s->n / values);
  progress.first = s->made / values;
  int64_t skip = progress.first; // windows that are there already
  int n = 0;
  for (int e = 0; e < pool->n; e++) {
    const int steps = pool->episode[e].steps, windows = m4n_windows_of(steps, w, l->o.stride);
    for (int i = 0; i < windows; i++) {
      const bool last = e == pool->n - 1 && i == windows - 1;
      if (skip > 0) {
        skip--;
        continue;
      }
      l->window[n] = (m4n_window){.episode = e};
      m4n_window_at(&l->window[n++], i, steps, w, l->o.stride);
      if (n < l->o.batch && !last) continue;
      if (m4n_stop_requested(l->workshop->stage->stop))
        return m4n_fail(M4N_ECANCELLED, "label: stopped; it can be resumed");
      M4N_TRY(label_windows(l, pool, n, s));
      m4n_progress_at(&progress, s->made / values);
      n = 0;
    }
  }
  m4n_progress_end(&progress);
  return M4N_OK;
}

// ---- an expert -----------------------------------------------------------------------------------------------------------------

static int by_place(const void *a, const void *b) {
  const m4n_trajectory *const *x = a, *const *y = b;
  if ((*x)->file != (*y)->file) return (*x)->file < (*y)->file ? -1 : 1;
  return (*x)->ordinal < (*y)->ordinal ? -1 : (*x)->ordinal > (*y)->ordinal;
}

typedef struct asking {
  const m4n_trajectories *pool;
  m4n_policy policy;
  uint8_t *action;
  float *distribution;
  bool in_doubt; // the policy has given a probability between 0 and 1
  store *store;
} asking;

// A policy without a distribution is sure of what it does.
static int put_answer(asking *a, int64_t step) {
  const int levels = a->pool->shape.levels;
  int32_t choice;
  memcpy(&choice, a->action + a->pool->spec.act[0].offset, sizeof choice);
  const bool known = isfinite(a->distribution[0]);
  for (int k = 0; k < levels; k++) {
    const double p = known ? (double)a->distribution[k] : k == choice;
    if (!(p >= 0 && p <= 1.0001))
      return m4n_fail(M4N_EUNSUPPORTED, "policy '%s' gives probabilities that are none",
                      a->policy.kind->name);
    a->in_doubt |= p > 0 && p < 1;
    a->store->value[step * levels + k] = m4n_half_bits((float)fmax(log(p), -100));
  }
  return M4N_OK;
}

static int ask_about(asking *a, const m4n_episode *e, const m4n_trajectory *t) {
  const m4n_policy *p = &a->policy;
  const int32_t slot = 0;
  p->kind->begin(p->self, &(m4n_start){.slot = 0, .episode = t->episode, .seed = t->seed}, 1);
  for (int32_t i = 0; i < t->steps; i++) {
    const double reward = i ? e->reward[i - 1] : 0;
    const m4n_batch row = {
        .n = 1, .slot = &slot, .reward = &reward, .obs = e->obs + (size_t)i * a->pool->spec.obs_size};
    for (int k = 0; k < a->pool->shape.levels; k++)
      a->distribution[k] = NAN; // stays so if the policy has none
    p->kind->decide(p->self, &row, &(m4n_decisions){.action = a->action, .distribution = a->distribution});
    M4N_TRY(put_answer(a, t->first + i));
  }
  return M4N_OK;
}

static int ask_log(asking *a, m4n_events_file *file, int number, m4n_trajectory *const *order, int *next,
                   const m4n_stop *stop) {
  bool more = true;
  for (int64_t ordinal = 0; *next < a->pool->n && order[*next]->file == number; ordinal++) {
    m4n_episode e;
    if (m4n_stop_requested(stop)) return m4n_fail(M4N_ECANCELLED, "label: stopped");
    M4N_TRY(m4n_events_next(file, &e, &more));
    if (!more) return m4n_fail(M4N_EFORMAT, "the log became shorter while it was read");
    if (ordinal != order[*next]->ordinal) continue;
    if (e.steps != order[*next]->steps) return m4n_fail(M4N_EFORMAT, "the log changed while it was read");
    M4N_TRY(ask_about(a, &e, order[*next]));
    ++*next;
  }
  return M4N_OK;
}

// An expert that is never in doubt leaves choices. log 1 = 0 is the likeliest.
static void keep_choices(const m4n_trajectories *pool, store *s) {
  const int levels = pool->shape.levels;
  for (int64_t i = 0; i < pool->steps; i++) {
    int choice = 0;
    while (choice < levels - 1 && s->value[i * levels + choice] != 0) choice++;
    s->value[i] = m4n_half_bits((float)choice); // behind what is still to be read
  }
}

// Answers lie in the order of the pool's steps, which is that of reading: the pool's episodes are sorted, their steps are not.
static int sort_values(const m4n_trajectories *pool, store *s, int per_step) {
  uint16_t *sorted = malloc((size_t)(pool->steps * per_step) * sizeof *sorted), *to = sorted;
  if (!sorted) return m4n_fail(M4N_ENOMEM, "no memory for %lld labels", (long long)pool->steps);
  for (int e = 0; e < pool->n; e++) {
    const size_t n = (size_t)pool->episode[e].steps * (size_t)per_step;
    memcpy(to, s->value + pool->episode[e].first * per_step, n * sizeof *to);
    to += n;
  }
  free(s->value);
  s->value = sorted;
  s->n = pool->steps * per_step;
  return M4N_OK;
}

static int ask_all(asking *a, const m4n_labelling *l, const char *const *events, int n_events) {
  const m4n_trajectories *pool = a->pool;
  m4n_trajectory **order = malloc((size_t)pool->n * sizeof(m4n_trajectory *));
  if (!order) return m4n_fail(M4N_ENOMEM, "no memory for %d episodes", pool->n);
  for (int e = 0; e < pool->n; e++) order[e] = &pool->episode[e];
  qsort(order, (size_t)pool->n, sizeof(m4n_trajectory *), by_place);
  int status = M4N_OK, next = 0;
  for (int i = 0; i < n_events && !status; i++) {
    m4n_events_file *file;
    status = m4n_events_open(&file, events[i]);
    if (status) break;
    status = ask_log(a, file, i, order, &next, l->workshop->stage->stop);
    if (status) m4n_context(status, "%s", events[i]);
    m4n_events_free(file);
  }
  free(order);
  if (status) return status;
  if (!a->in_doubt) keep_choices(pool, a->store);
  return sort_values(pool, a->store, a->in_doubt ? pool->shape.levels : 1);
}

static int label_by_expert(m4n_labelling *l, const m4n_trajectories *pool, const char *const *events,
                           int n_events, store *s, bool *soft) {
  asking a = {.pool = pool, .store = s};
  const m4n_policy_kind *kind;
  M4N_TRY(m4n_policy_find(&kind, l->o.expert));
  if (kind->wants_advice)
    return m4n_fail(M4N_EUNSUPPORTED,
                    "policy '%s' answers with the simulator's advice: take the labeller 'oracle'",
                    l->o.expert);
  M4N_TRY(m4n_policy_open(&a.policy, l->o.expert,
                          &(m4n_policy_setup){.spec = &pool->spec,
                                              .slots = 1,
                                              .seed = l->workshop->stage->seed,
                                              .pool = l->workshop->stage->pool}));
  a.action = calloc(1, pool->spec.act_size);
  a.distribution = malloc((size_t)pool->shape.levels * sizeof *a.distribution);
  int status = a.action && a.distribution ? ask_all(&a, l, events, n_events)
                                          : m4n_fail(M4N_ENOMEM, "no memory for an expert");
  free(a.action);
  free(a.distribution);
  m4n_policy_close(&a.policy);
  *soft = a.in_doubt;
  return status;
}

// ---- the oracle --------------------------------------------------------------------------------------------------------------

static int label_by_oracle(const m4n_trajectories *pool, store *s) {
  if (!pool->advised)
    return m4n_fail(M4N_EARG, "the logs hold no advice of the simulator: they must be played with it");
  for (int64_t i = 0; i < pool->steps; i++)
    s->value[i] = m4n_half_bits(pool->advice[i] == M4N_NO_ADVICE ? -1 : (float)pool->advice[i]);
  return sort_values(pool, s, 1);
}

// ---- all of them ---------------------------------------------------------------------------------------------------------------

static m4n_labels_about about_of(const m4n_labelling *l, const m4n_trajectories *pool) {
  m4n_labels_about about = {.labeller = l->o.labeller,
                            .soft = l->o.labeller == M4N_LABEL_TEACHER,
                            .levels = pool->shape.levels,
                            .pool = pool->hash,
                            .condition = pool->condition};
  if (l->net) {
    about.w = l->net->options.steps, about.stride = l->o.stride, about.teacher = l->teacher_hash;
    snprintf(about.by, sizeof about.by, "%.100s", m4n_path_base(l->teacher.path));
  } else if (l->o.labeller == M4N_LABEL_EXPERT) {
    snprintf(about.by, sizeof about.by, "%.100s", m4n_path_base(l->o.expert));
  }
  return about;
}

int m4n_labelling_run(m4n_labelling *l, const m4n_trajectories *pool, const char *const *events, int n_events,
                      const char *out) {
  m4n_labels_about about = about_of(l, pool);
  const bool expert = l->o.labeller == M4N_LABEL_EXPERT;
  const int64_t most = expert ? pool->steps * pool->shape.levels : m4n_labels_values(&about, pool);
  store s = {0};
  int status = open_store(&s, most, out, &about, l->workshop->stage->resume && l->net);
  if (!status && l->net) status = label_by_teacher(l, pool, &s);
  if (!status && expert) status = label_by_expert(l, pool, events, n_events, &s, &about.soft);
  if (!status && !l->net && !expert) status = label_by_oracle(pool, &s);
  if (!status) status = m4n_labels_write(out, &about, s.value, s.n);
  close_store(&s, !status);
  return status;
}
