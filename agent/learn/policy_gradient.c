#include "agent/learn/policy_gradient.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/ppo.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

enum { POLICY, ENTROPY, VALUE, REFERENCE, PARTS };

// What the divergence reads of a batch, a row for each step of each window, on the host and on the backend.
typedef struct rows {
  m4n_real *weight;
  m4n_real *logp;  // [rows][levels]
  int32_t *choice; // −1: none
} rows;

// What goes between the net and the host, a row for each step of each window.
typedef struct answers {
  m4n_real *logits, *d_logits; // [rows][levels]
  m4n_real *value, *d_value;   // [rows]
  m4n_real *parts;             // [PARTS]
} answers;

// The decisions of a batch, behind one another.
typedef struct decisions {
  int n;
  int *row; // where it lies in the batch
  int32_t *action;
  float *logp, *advantage, *target;
  m4n_real *out, *d; // [n][levels + 1] logits and value, and their gradient
} decisions;

struct m4n_policy_gradient {
  m4n_policy_gradient_options o;
  int w, levels, rows;
  // The round.
  m4n_played played;
  m4n_outcome outcome;
  m4n_window *window; // [n] all of its episodes
  int n;
  int64_t first, pass; // its first step; which pass `order` is of, −1: none
  int *order;          // [n] of the windows
  int64_t step;        // the batch's
  // The batch.
  rows host, device;
  char *rows_memory, *rows_device;
  size_t rows_bytes;
  answers answers;
  char *answers_memory;
  decisions decisions;
  char *decisions_memory;
  m4n_real *loss; // [rows] on the backend
};

// ---- memory --------------------------------------------------------------------------------------------------------------

static size_t place_rows(const m4n_policy_gradient *pg, rows *r, void *base) {
  m4n_layout at = {.base = base};
  const size_t n = (size_t)pg->rows;
  r->weight = m4n_place(&at, n);
  r->logp = m4n_place(&at, n * (size_t)pg->levels);
  r->choice = m4n_place_bytes(&at, n * sizeof(int32_t));
  return at.used;
}

static size_t place_answers(const m4n_policy_gradient *pg, answers *a, void *base) {
  m4n_layout at = {.base = base};
  const size_t n = (size_t)pg->rows;
  a->logits = m4n_place(&at, n * (size_t)pg->levels);
  a->d_logits = m4n_place(&at, n * (size_t)pg->levels);
  a->value = m4n_place(&at, n);
  a->d_value = m4n_place(&at, n);
  a->parts = m4n_place(&at, PARTS);
  return at.used;
}

static size_t place_decisions(const m4n_policy_gradient *pg, decisions *d, void *base) {
  m4n_layout at = {.base = base};
  const size_t n = (size_t)pg->rows, outputs = (size_t)pg->levels + 1;
  d->out = m4n_place(&at, n * outputs);
  d->d = m4n_place(&at, n * outputs);
  d->row = m4n_place_bytes(&at, n * sizeof(int));
  d->action = m4n_place_bytes(&at, n * sizeof(int32_t));
  d->logp = m4n_place_bytes(&at, n * sizeof(float));
  d->advantage = m4n_place_bytes(&at, n * sizeof(float));
  d->target = m4n_place_bytes(&at, n * sizeof(float));
  return at.used;
}

static int take_memory(m4n_policy_gradient *pg) {
  m4n_backend *backend = m4n_stream_backend(pg->o.net->stream);
  pg->rows_bytes = place_rows(pg, &pg->host, NULL);
  if (!(pg->rows_memory = m4n_alloc_host(backend, pg->rows_bytes)) ||
      !(pg->rows_device = m4n_alloc(backend, pg->rows_bytes)) ||
      !(pg->answers_memory = m4n_alloc_host(backend, place_answers(pg, &pg->answers, NULL))) ||
      !(pg->loss = m4n_alloc(backend, (size_t)pg->rows * sizeof *pg->loss)))
    return m4n_context(m4n_last_error()->status, "a batch of %d windows", pg->o.batch);
  if (!(pg->decisions_memory = malloc(place_decisions(pg, &pg->decisions, NULL))))
    return m4n_fail(M4N_ENOMEM, "no memory for a batch of %d windows", pg->o.batch);
  place_rows(pg, &pg->host, pg->rows_memory);
  place_rows(pg, &pg->device, pg->rows_device);
  place_answers(pg, &pg->answers, pg->answers_memory);
  place_decisions(pg, &pg->decisions, pg->decisions_memory);
  return M4N_OK;
}

int m4n_policy_gradient_open(m4n_policy_gradient **out, const m4n_policy_gradient_options *o) {
  m4n_policy_gradient *pg = *out = calloc(1, sizeof *pg);
  if (!pg) return m4n_fail(M4N_ENOMEM, "no memory for an objective");
  pg->o = *o;
  pg->w = o->net->options.steps;
  pg->levels = o->net->levels;
  pg->rows = o->batch * pg->w;
  int status = o->stride >= 1 && o->stride <= pg->w
                   ? take_memory(pg)
                   : m4n_fail(M4N_EARG, "windows of %d steps cannot begin %d steps apart", pg->w, o->stride);
  if (!status) return M4N_OK;
  m4n_policy_gradient_close(pg);
  *out = NULL;
  return status;
}

void m4n_policy_gradient_close(m4n_policy_gradient *pg) {
  if (!pg) return;
  m4n_backend *backend = m4n_stream_backend(pg->o.net->stream);
  m4n_outcome_close(&pg->outcome);
  m4n_free_host(backend, pg->rows_memory);
  m4n_free(backend, pg->rows_device);
  m4n_free_host(backend, pg->answers_memory);
  m4n_free(backend, pg->loss);
  free(pg->decisions_memory);
  free(pg->window);
  free(pg->order);
  free(pg);
}

// ---- a round ---------------------------------------------------------------------------------------------------------------

static int check_labels(const m4n_policy_gradient *pg, const m4n_labels *labels) {
  const m4n_labels_about *about = &labels->about;
  if (about->w && (about->w != pg->w || about->stride != pg->o.stride))
    return m4n_fail(M4N_EARG, "labels of windows of %d steps, %d apart, and the model's have %d, %d apart",
                    about->w, about->stride, pg->w, pg->o.stride);
  return M4N_OK;
}

static int list_windows(m4n_policy_gradient *pg, const m4n_trajectories *pool) {
  const int stride = pg->o.stride;
  int n = 0;
  for (int e = 0; e < pool->n; e++) n += m4n_windows_of(pool->episode[e].steps, pg->w, stride);
  free(pg->window);
  free(pg->order);
  pg->window = malloc((size_t)n * sizeof *pg->window);
  pg->order = malloc((size_t)n * sizeof *pg->order);
  pg->n = 0, pg->pass = -1;
  if (!pg->window || !pg->order) return m4n_fail(M4N_ENOMEM, "no memory for %d windows", n);
  for (int e = 0; e < pool->n; e++) {
    const int steps = pool->episode[e].steps, windows = m4n_windows_of(steps, pg->w, stride);
    for (int i = 0; i < windows; i++) {
      m4n_window *to = &pg->window[pg->n++];
      *to = (m4n_window){.episode = e};
      m4n_window_at(to, i, steps, pg->w, stride);
    }
  }
  return M4N_OK;
}

int m4n_policy_gradient_round(m4n_policy_gradient *pg, const m4n_played *played, int64_t first_step) {
  if (played->labels) M4N_TRY(check_labels(pg, played->labels));
  m4n_outcome_close(&pg->outcome);
  M4N_TRY(m4n_outcome_open(&pg->outcome, played->pool->steps));
  M4N_TRY(list_windows(pg, played->pool));
  pg->played = *played;
  pg->first = first_step;
  return M4N_OK;
}

m4n_outcome *m4n_policy_gradient_outcome(m4n_policy_gradient *pg) {
  return &pg->outcome;
}

int m4n_policy_gradient_windows(const m4n_policy_gradient *pg) {
  return pg->n;
}

// The place in a window behind those that the window before it has, too.
static int first_new(const m4n_policy_gradient *pg, const m4n_window *window) {
  m4n_window before = *window;
  if (!window->number) return 0;
  m4n_window_at(&before, window->number - 1, pg->played.pool->episode[window->episode].steps, pg->w,
                pg->o.stride);
  return before.start + before.steps - window->start;
}

// ---- a batch -----------------------------------------------------------------------------------------------------------------

// Runs the net over its batch; logits and values are then on the host.
static int answer(m4n_policy_gradient *pg, int windows) {
  m4n_net *net = pg->o.net;
  const size_t n = (size_t)(windows * pg->w);
  m4n_net_forward(net, windows, pg->w, true, NULL);
  m4n_copy_out(net->stream, pg->answers.logits, net->logits, n * (size_t)pg->levels * sizeof(m4n_real));
  m4n_copy_out(net->stream, pg->answers.value, net->values, n * sizeof(m4n_real));
  return m4n_sync(net->stream);
}

int m4n_policy_gradient_judge(m4n_policy_gradient *pg) {
  const m4n_trajectories *pool = pg->played.pool;
  double p[M4N_MAX_LEVELS];
  for (int at = 0; at < pg->n; at += pg->o.batch) {
    const int windows = pg->n - at < pg->o.batch ? pg->n - at : pg->o.batch;
    for (int b = 0; b < windows; b++) m4n_window_fill(pg->o.net, b, pool, &pg->window[at + b]);
    M4N_TRY(answer(pg, windows));
    for (int b = 0; b < windows; b++) {
      const m4n_window *window = &pg->window[at + b];
      const int64_t step = pool->episode[window->episode].first + window->start;
      for (int t = first_new(pg, window); t < window->steps; t++) {
        const size_t row = (size_t)(b * pg->w + t);
        pg->outcome.logp[step + t] = (float)m4n_policy_logp(p, pg->answers.logits + row * (size_t)pg->levels,
                                                            pg->levels, pool->action[step + t]);
        pg->outcome.value[step + t] = (float)pg->answers.value[row];
      }
    }
  }
  return m4n_outcome_judge(&pg->outcome, pool, &pg->o.judgement);
}

// Pass p over the round's windows has an order of its own, whatever was drawn before.
static const m4n_window *window_at(m4n_policy_gradient *pg, int64_t place) {
  const int64_t pass = place / pg->n;
  if (pass != pg->pass) {
    m4n_rng rng = m4n_rng_make(pg->o.seed, ((uint64_t)pg->first << 20) + (uint64_t)pass, M4N_RNG_DATA);
    for (int i = 0; i < pg->n; i++) pg->order[i] = i;
    for (int i = pg->n - 1; i > 0; i--) {
      const int k = (int)m4n_rng_below(&rng, (uint32_t)i + 1), spare = pg->order[i];
      pg->order[i] = pg->order[k], pg->order[k] = spare;
    }
    pg->pass = pass;
  }
  return &pg->window[pg->order[place % pg->n]];
}

static void add_decision(m4n_policy_gradient *pg, int row, int64_t step) {
  decisions *d = &pg->decisions;
  const m4n_outcome *o = &pg->outcome;
  d->row[d->n] = row;
  d->action[d->n] = pg->played.pool->action[step];
  d->logp[d->n] = o->logp[step], d->advantage[d->n] = o->advantage[step], d->target[d->n] = o->target[step];
  d->n++;
}

static int fill_window(m4n_policy_gradient *pg, int b, const m4n_window *window) {
  const m4n_trajectory *episode = &pg->played.pool->episode[window->episode];
  const m4n_labels *labels = pg->played.labels;
  const int first = b * pg->w;
  rows *h = &pg->host;
  m4n_window_fill(pg->o.net, b, pg->played.pool, window);
  for (int t = 0; t < pg->w; t++) h->weight[first + t] = 0, h->choice[first + t] = -1;
  if (labels && labels->about.soft)
    M4N_TRY(m4n_labels_read(labels, window, h->logp + (size_t)first * (size_t)pg->levels));
  if (labels && !labels->about.soft) M4N_TRY(m4n_labels_read_choices(labels, window, h->choice + first));
  for (int t = first_new(pg, window); t < window->steps; t++)
    if (m4n_outcome_counts(episode, window->start + t)) {
      h->weight[first + t] = (m4n_real)pg->o.reference;
      add_decision(pg, first + t, episode->first + window->start + t);
    }
  return M4N_OK;
}

static int make_batch(void *self, int64_t step) {
  m4n_policy_gradient *pg = self;
  pg->step = step;
  pg->decisions.n = 0;
  for (int b = 0; b < pg->o.batch; b++)
    M4N_TRY(fill_window(pg, b, window_at(pg, (step - pg->first) * pg->o.batch + b)));
  if (!pg->decisions.n)
    return m4n_fail(M4N_EFORMAT, "tune: the episodes that were played were all cut off at once");
  const m4n_real factor = (m4n_real)(1.0 / pg->decisions.n);
  for (int i = 0; i < pg->rows; i++) pg->host.weight[i] *= factor;
  m4n_copy_in(pg->o.net->stream, pg->rows_device, pg->rows_memory, pg->rows_bytes);
  return M4N_OK;
}

// ---- the loss ----------------------------------------------------------------------------------------------------------------

// The clipped objective of all decisions, on the host: their logits and values to gradients and parts.
static void clipped_objective(m4n_policy_gradient *pg, bool acts) {
  const m4n_policy_gradient_options *o = &pg->o;
  decisions *d = &pg->decisions;
  answers *a = &pg->answers;
  const size_t levels = (size_t)pg->levels;
  const double left = 1 - (double)pg->step / (double)o->steps;
  const m4n_ppo ppo = {.choices = pg->levels,
                       .clip = o->clip,
                       .entropy = o->entropy * left,
                       .value = 1 / (pg->outcome.variance + 1e-8),
                       .width = INFINITY};
  m4n_ppo_stats stats;
  for (int i = 0; i < d->n; i++) {
    m4n_real *out = d->out + (size_t)i * (levels + 1);
    memcpy(out, a->logits + (size_t)d->row[i] * levels, levels * sizeof *out);
    out[levels] = a->value[d->row[i]];
  }
  m4n_ppo_gradient(d->d, &stats, d->out, d->action, d->logp, d->advantage, d->target, d->n, &ppo);
  memset(a->d_logits, 0, (size_t)pg->rows * levels * sizeof *a->d_logits);
  memset(a->d_value, 0, (size_t)pg->rows * sizeof *a->d_value);
  for (int i = 0; i < d->n; i++) {
    const m4n_real *from = d->d + (size_t)i * (levels + 1);
    if (acts) memcpy(a->d_logits + (size_t)d->row[i] * levels, from, levels * sizeof *from);
    a->d_value[d->row[i]] = from[levels];
  }
  a->parts[POLICY] = acts ? (m4n_real)stats.policy : 0;
  a->parts[ENTROPY] = acts ? (m4n_real)(-ppo.entropy * stats.entropy) : 0;
  a->parts[VALUE] = (m4n_real)(ppo.value * stats.value_loss);
  a->parts[REFERENCE] = 0;
}

// Adds β·KL(π ‖ label) and its gradient.
static void hold(m4n_policy_gradient *pg, m4n_real *parts) {
  m4n_net *net = pg->o.net;
  m4n_stream *s = net->stream;
  const rows *d = &pg->device;
  const int n = pg->rows, levels = pg->levels;
  const m4n_kl kl = {n, levels, M4N_KL_REVERSE, 1, (m4n_real)0.5};
  if (pg->played.labels->about.soft) {
    m4n_kl_fwd(s, pg->loss, net->logits, d->logp, NULL, d->weight, &kl);
    m4n_kl_bwd(s, net->d_logits, net->logits, d->logp, NULL, d->weight, &kl, 1);
  } else {
    m4n_xent_fwd(s, pg->loss, net->logits, d->choice, NULL, d->weight, n, levels);
    m4n_xent_bwd(s, net->d_logits, net->logits, d->choice, NULL, d->weight, n, levels, 1);
  }
  m4n_sum(s, parts + REFERENCE, pg->loss, n, 1, 0);
}

static void loss(void *self, m4n_real *parts) {
  m4n_policy_gradient *pg = self;
  m4n_net *net = pg->o.net;
  m4n_stream *s = net->stream;
  const bool acts = pg->step >= pg->o.value_first;
  m4n_fill(s, parts, PARTS, NAN);
  if (answer(pg, pg->o.batch)) return; // the loss is no number: the trainer ends there
  clipped_objective(pg, acts);
  m4n_copy_in(s, net->d_logits, pg->answers.d_logits,
              (size_t)pg->rows * (size_t)pg->levels * sizeof(m4n_real));
  m4n_copy_in(s, net->d_values, pg->answers.d_value, (size_t)pg->rows * sizeof(m4n_real));
  m4n_copy_in(s, parts, pg->answers.parts, PARTS * sizeof *parts);
  if (acts && pg->played.labels) hold(pg, parts);
}

static int likeliest(const m4n_real *z, int levels) {
  int best = 0;
  for (int k = 1; k < levels; k++)
    if (z[k] > z[best]) best = k;
  return best;
}

// Agreement with the labels where there are some, else with what was done.
static void look(void *self, m4n_agreement *agreement) {
  const m4n_policy_gradient *pg = self;
  const m4n_labels *labels = pg->played.labels;
  for (int i = 0; i < pg->decisions.n; i++) {
    const int row = pg->decisions.row[i];
    const size_t at = (size_t)row * (size_t)pg->levels;
    const int target = !labels              ? pg->decisions.action[i]
                       : labels->about.soft ? likeliest(pg->host.logp + at, pg->levels)
                                            : pg->host.choice[row];
    if (target < 0) continue;
    agreement->answers++;
    agreement->agreed += likeliest(pg->answers.logits + at, pg->levels) == target;
  }
}

m4n_objective m4n_policy_gradient_objective(m4n_policy_gradient *pg) {
  return (m4n_objective){.self = pg,
                         .parts = PARTS,
                         .part = {"policy", "entropy", "value", "reference"},
                         .tokens = pg->rows * M4N_ABR_TOKENS,
                         .batch = make_batch,
                         .loss = loss,
                         .look = look};
}
