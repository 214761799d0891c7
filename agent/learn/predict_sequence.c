// Teacher and student: a chain over the tokens of an episode's last steps, asked for a return (algorithms.md §4.4, §5.5).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/abr_rows.h"
#include "agent/learn/checkpoint.h"
#include "agent/learn/predictor.h"
#include "agent/model/engine.h"
#include "kernels/base/status.h"

enum { BATCH = 64 }; // lanes of a pass: more make it slower, not faster, once the caches are full

typedef struct lane {
  bool fresh;  // no decision yet
  double left; // of the return that is asked for
} lane;

typedef struct sequence {
  m4n_predictor base; // first member
  m4n_engine *engine;
  m4n_abr_rows rows;
  m4n_condition condition;
  double target;
  size_t obs_size;
  lane *lane;         // [slots]
  m4n_real *features; // [slots][columns]
  int columns;
} sequence;

static void begin(m4n_predictor *self, int32_t slot) {
  sequence *s = (sequence *)self;
  m4n_engine_begin(s->engine, slot);
  s->lane[slot] = (lane){.fresh = true, .left = s->target};
}

// A stranger's simulator may send a level that its ladder does not have: it must not become an index.
static int last_level(const sequence *s, const uint8_t *row) {
  double level;
  memcpy(&level, row + s->rows.last_level, sizeof level);
  return level <= 0 ? 0 : level >= s->base.choices - 1 ? s->base.choices - 1 : (int)level;
}

static int predict(m4n_predictor *self, const m4n_batch *batch, m4n_real *logits, float *value) {
  sequence *s = (sequence *)self;
  for (int i = 0; i < batch->n; i++) {
    const uint8_t *row = batch->obs + (size_t)i * s->obs_size;
    m4n_real *x = s->features + (size_t)i * (size_t)s->columns;
    lane *l = &s->lane[batch->slot[i]];
    if (!l->fresh) {
      l->left = m4n_return_after(&s->condition, l->left, batch->reward[i]);
      m4n_engine_acted(s->engine, batch->slot[i], last_level(s, row));
    }
    l->fresh = false;
    m4n_abr_rows_fill(&s->rows, x, row);
    x[M4N_ABR_RETURN] = (m4n_real)l->left;
    x[M4N_ABR_ACTION] = 0;
    value[i] = NAN;
  }
  return m4n_engine_decide(s->engine, batch->n, batch->slot, s->features, logits);
}

static void close(m4n_predictor *self) {
  sequence *s = (sequence *)self;
  m4n_engine_close(s->engine);
  free(s->lane);
  free(s->features);
  free(s);
}

static int open(sequence *s, const m4n_checkpoint *c, const m4n_predictor_options *o) {
  s->base =
      (m4n_predictor){.choices = c->config.abr.levels, .begin = begin, .predict = predict, .close = close};
  static const char *const context[] = {"window", "stream", "reset"};
  const int mode = o->context < 0 ? M4N_CONTEXT_WINDOW : o->context;
  snprintf(s->base.about, sizeof s->base.about, "%s%scontext: %s", c->about, c->about[0] ? ", " : "",
           context[mode]);
  s->condition = c->condition;
  s->target = c->condition.target * (o->target != 0 ? o->target : 1);
  s->obs_size = o->spec->obs_size;
  s->columns = m4n_abr_features(&c->config.abr);
  M4N_TRY(m4n_condition_check(&c->condition, o->spec, c->path));
  int status = m4n_abr_rows_open(&s->rows, o->spec, &c->config.abr);
  if (status) return m4n_context(status, "%s", c->path);
  s->lane = calloc((size_t)o->slots, sizeof *s->lane);
  s->features = calloc((size_t)o->slots * (size_t)s->columns, sizeof *s->features);
  if (!s->lane || !s->features) return m4n_fail(M4N_ENOMEM, "no memory for %d lanes", o->slots);
  const m4n_engine_options engine = {.config = c->config,
                                     .context = mode,
                                     .slots = o->slots,
                                     .batch = o->slots < BATCH ? o->slots : BATCH,
                                     .format = o->weights < 0 ? m4n_checkpoint_format(c) : o->weights};
  M4N_TRY(m4n_engine_open(&s->engine, o->stream, &engine));
  return m4n_checkpoint_load(c, m4n_engine_net(s->engine));
}

int m4n_predict_sequence_open(m4n_predictor **predictor, const char *path,
                              const m4n_predictor_options *options) {
  *predictor = NULL;
  m4n_checkpoint *c = calloc(1, sizeof *c); // holds paths: too large for a stack
  sequence *s = calloc(1, sizeof *s);
  int status = c && s ? m4n_checkpoint_read(c, path) : m4n_fail(M4N_ENOMEM, "no memory for a model");
  if (!status) status = open(s, c, options);
  free(c);
  if (!status) {
    *predictor = &s->base;
    return M4N_OK;
  }
  if (s) close(&s->base);
  return status;
}
