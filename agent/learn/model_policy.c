#include "agent/learn/model_policy.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/predictor.h"
#include "agent/model/engine.h"
#include "kernels/base/arena.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"
#include "kernels/linear.h"

enum { MAX_CHOICES = 64 };

// ---- names

typedef struct settings {
  int context, weights; // −1: not said
  bool sample;
  double target; // 0: not said
  bool network;  // one of these was said in the name, and is for the network, not for who chooses by it
} settings;

static int weights_of(const char *name) {
  return !strcmp(name, "f32")    ? M4N_W_PACKED
         : !strcmp(name, "bf16") ? M4N_W_BF16
         : !strcmp(name, "int8") ? M4N_W_INT8
                                 : -1;
}

static bool is_target(m4n_span word, double *target) {
  static const char key[] = "target=";
  size_t n = sizeof key - 1;
  if (word.size <= n || memcmp(word.at, key, n) != 0) return false;
  m4n_span number = {word.at + n, word.size - n};
  return m4n_span_double(number, target) && *target >= 0.01 && *target <= 100;
}

static int read_setting(settings *s, m4n_span word, const char *name) {
  char text[16] = "";
  double target;
  if (word.size < sizeof text) memcpy(text, word.at, word.size);
  int context = m4n_context_of(text), weights = weights_of(text);
  if (context >= 0)
    s->context = context;
  else if (weights >= 0)
    s->weights = weights;
  else if (is_target(word, &target))
    s->target = target;
  else if (!strcmp(text, "sample") || !strcmp(text, "greedy"))
    s->sample = text[0] == 's';
  else
    return m4n_fail(M4N_EARG,
                    "policy '%s': '%.*s' is no setting of a model: expected window, stream, reset, greedy, "
                    "sample, f32, bf16, int8 or target=0.01 … 100",
                    name, M4N_SPAN(word));
  s->network = s->network || s->context >= 0 || s->weights >= 0 || s->target != 0;
  return M4N_OK;
}

static int read_settings(settings *s, const m4n_policy_kind *kind, const char *name) {
  const char *from = name + m4n_policy_settings(kind, name);
  *s = (settings){.context = -1, .weights = -1};
  if (!*from) return M4N_OK;
  m4n_span rest = {from + 1, strlen(from + 1)}, word;
  if (!rest.size) return read_setting(s, rest, name);
  while (m4n_span_split(&rest, ':', &word)) M4N_TRY(read_setting(s, word, name));
  return M4N_OK;
}

// What the name does not say, the models' own settings do.
static int complete(settings *s, const struct m4n_policy_model *model) {
  if (s->context < 0 && model->context && (s->context = m4n_context_of(model->context)) < 0)
    return m4n_fail(M4N_EARG, "context '%s': expected window, stream or reset", model->context);
  if (s->weights < 0 && model->weights && (s->weights = weights_of(model->weights)) < 0)
    return m4n_fail(M4N_EARG, "weights '%s': expected f32, bf16 or int8", model->weights);
  if (s->target == 0) s->target = model->target;
  return M4N_OK;
}

// ---- a policy

typedef struct model {
  m4n_arena memory;
  m4n_backend *backend;
  m4n_stream *stream;
  m4n_predictor *predictor;
  bool sample;
  int choices, slots;
  size_t act_size;
  uint32_t action;  // offset in a row
  m4n_rng *rng;     // [slots] of the slot's episode
  m4n_real *logits; // [slots][choices]
  float *value;     // [slots]
  m4n_error failure;
} model;

static void begin(void *self, const m4n_start *rows, int n) {
  model *m = self;
  for (int i = 0; i < n; i++) {
    assert(rows[i].slot >= 0 && rows[i].slot < m->slots);
    m->rng[rows[i].slot] = m4n_rng_make(rows[i].seed, (uint64_t)rows[i].episode, M4N_RNG_ACTION);
    m->predictor->begin(m->predictor, rows[i].slot);
  }
}

// p = softmax(z)
static void softmax(double *p, const m4n_real *z, int n) {
  double most = (double)z[0], sum = 0;
  for (int i = 1; i < n; i++) most = fmax(most, (double)z[i]);
  for (int i = 0; i < n; i++) sum += p[i] = exp((double)z[i] - most);
  for (int i = 0; i < n; i++) p[i] /= sum;
}

static int likeliest(const double *p, int n) {
  int best = 0;
  for (int i = 1; i < n; i++)
    if (p[i] > p[best]) best = i;
  return best;
}

static int draw(const double *p, int n, m4n_rng *rng) {
  double u = m4n_rng_uniform(rng);
  int i = 0;
  while (i < n - 1 && (u -= p[i]) >= 0) i++;
  return i;
}

static void answer(model *m, const m4n_batch *batch, m4n_decisions *out) {
  for (int i = 0; i < batch->n; i++) {
    double p[MAX_CHOICES];
    softmax(p, m->logits + (size_t)i * (size_t)m->choices, m->choices);
    int32_t choice = m->sample ? draw(p, m->choices, &m->rng[batch->slot[i]]) : likeliest(p, m->choices);
    memcpy(out->action + (size_t)i * m->act_size + m->action, &choice, sizeof choice);
    if (out->logp) out->logp[i] = (float)log(fmax(p[choice], 1e-30));
    if (out->value) out->value[i] = m->value[i];
    for (int c = 0; out->distribution && c < m->choices; c++)
      out->distribution[(size_t)i * (size_t)m->choices + (size_t)c] = (float)p[c];
  }
}

static void decide(void *self, const m4n_batch *batch, m4n_decisions *out) {
  model *m = self;
  assert(batch->n <= m->slots);
  memset(out->action, 0, (size_t)batch->n * m->act_size);
  if (m->failure.status) return;
  if (m->predictor->predict(m->predictor, batch, m->logits, m->value))
    m->failure = *m4n_last_error();
  else
    answer(m, batch, out);
}

static int status(void *self) {
  const model *m = self;
  return m->failure.status ? m4n_set_error(&m->failure) : M4N_OK;
}

static const char *about(void *self) {
  return ((const model *)self)->predictor->about;
}

static void close(void *self) {
  model *m = self;
  if (!m) return;
  if (m->predictor) m->predictor->close(m->predictor);
  m4n_stream_close(m->stream);
  m4n_backend_close(m->backend);
  m4n_arena_close(&m->memory);
  free(m);
}

// ---- opening

static int check_spec(model *m, const m4n_policy_setup *setup) {
  const m4n_spec *spec = setup->spec;
  const m4n_field *action = &spec->act[0];
  if (spec->n_act != 1 || action->mask[0] || action->high >= MAX_CHOICES)
    return m4n_fail(M4N_EUNSUPPORTED,
                    "policy '%s' needs one unmasked action with at most %d choices, task '%s' has another",
                    setup->name, MAX_CHOICES, spec->task);
  m->action = action->offset;
  m->act_size = spec->act_size;
  m->slots = setup->slots;
  return M4N_OK;
}

static int take_memory(model *m) {
  size_t slots = (size_t)m->slots;
  m->rng = m4n_arena_alloc(&m->memory, slots * sizeof *m->rng);
  m->logits = m4n_arena_alloc(&m->memory, slots * (size_t)m->choices * sizeof *m->logits);
  m->value = m4n_arena_alloc(&m->memory, slots * sizeof *m->value);
  return m->rng && m->logits && m->value ? M4N_OK : M4N_ENOMEM;
}

static int open_model(model *m, const m4n_policy_setup *setup, const char *device, const char *path,
                      const struct m4n_policy_model *usual) {
  settings s;
  M4N_TRY(check_spec(m, setup));
  M4N_TRY(read_settings(&s, setup->kind, setup->name));
  M4N_TRY(complete(&s, usual));
  M4N_TRY(m4n_backend_open(&m->backend, device ? device : "cpu", setup->pool));
  M4N_TRY(m4n_stream_open(&m->stream, m->backend));
  m->sample = s.sample;
  const m4n_predictor_options options = {.spec = setup->spec,
                                         .slots = setup->slots,
                                         .stream = m->stream,
                                         .named = s.network,
                                         .context = s.context,
                                         .weights = s.weights,
                                         .target = s.target};
  M4N_TRY(m4n_predictor_open(&m->predictor, path, &options));
  m->choices = m->predictor->choices;
  if (m->choices != (int)setup->spec->act[0].high + 1)
    return m4n_fail(M4N_EUNSUPPORTED, "%s chooses among %d levels, the simulator has %d", path, m->choices,
                    (int)setup->spec->act[0].high + 1);
  return take_memory(m);
}

static int open(void **self, const m4n_policy_setup *setup) {
  static const m4n_policy_models none = {0};
  const m4n_policy_models *known = setup->models ? setup->models : &none;
  bool file = setup->kind->match == M4N_MATCH_FILE;
  const struct m4n_policy_model *role =
      &known->role[file ? M4N_ROLE_STUDENT : *(const int *)setup->kind->detail];
  size_t size = m4n_policy_settings(setup->kind, setup->name);
  if (!file && !role->checkpoint)
    return m4n_fail(M4N_ENOTFOUND, "policy '%s': no checkpoint is known: set %s.checkpoint, or train one",
                    setup->name, setup->kind->name);
  char *path = file ? strndup(setup->name, size) : strdup(role->checkpoint);
  model *m = calloc(1, sizeof *m);
  int failed = m && path ? open_model(m, setup, known->device, path, role)
                         : m4n_fail(M4N_ENOMEM, "no memory for a model");
  free(path);
  if (failed) {
    close(m);
    return m4n_context(failed, "policy '%s'", setup->name);
  }
  *self = m;
  return M4N_OK;
}

// ---- the kinds

static int check(const m4n_policy_kind *kind, const char *name) {
  settings s;
  return read_settings(&s, kind, name);
}

#define KIND(NAME, SUMMARY, MATCH, DETAIL)                                                                   \
  {                                                                                                          \
    .name = NAME, .summary = SUMMARY, .match = MATCH, .open = open, .begin = begin, .decide = decide,        \
    .close = close, .status = status, .check = check, .about = about, .detail = DETAIL                       \
  }
static const int roles[M4N_ROLES] = {M4N_ROLE_TEACHER, M4N_ROLE_STUDENT, M4N_ROLE_EXPERT, M4N_ROLE_TUNED};
static const m4n_policy_kind models[] = {
    KIND("teacher", "the Transformer that was adapted", M4N_MATCH_MODEL, &roles[M4N_ROLE_TEACHER]),
    KIND("student", "the hybrid Mamba that was distilled", M4N_MATCH_MODEL, &roles[M4N_ROLE_STUDENT]),
    KIND("expert", "the small network trained by PPO", M4N_MATCH_MODEL, &roles[M4N_ROLE_EXPERT]),
    KIND("tuned", "the student after a policy gradient in the simulator", M4N_MATCH_MODEL,
         &roles[M4N_ROLE_TUNED]),
    KIND(".safetensors", "any checkpoint of ours", M4N_MATCH_FILE, NULL)};

void m4n_model_policies_register(void) {
  for (size_t i = 0; i < sizeof models / sizeof *models; i++) m4n_policy_register(&models[i]);
}
