// The expert: an actor-critic that sees one row and remembers nothing.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/features.h"
#include "agent/learn/predictor.h"
#include "agent/model/actor.h"
#include "kernels/base/status.h"

enum { ROWS = 256 }; // of a pass

typedef struct actor {
  m4n_predictor base; // first member
  m4n_actor *net;
  m4n_stream *stream;
  m4n_features features;
  size_t obs_size;
  m4n_real *x, *out; // [ROWS][inputs], [ROWS][choices + 1]
} actor;

static void begin(m4n_predictor *self, int32_t slot) {
  (void)self, (void)slot;
}

static int pass(actor *a, const uint8_t *obs, int rows, m4n_real *logits, float *value) {
  const size_t inputs = (size_t)a->features.n, choices = (size_t)a->base.choices, outputs = choices + 1;
  for (int i = 0; i < rows; i++)
    m4n_features_fill(&a->features, a->x + (size_t)i * inputs, obs + (size_t)i * a->obs_size);
  m4n_copy_in(a->stream, a->net->x, a->x, (size_t)rows * inputs * sizeof *a->x);
  m4n_actor_forward(a->net, rows, false);
  m4n_copy_out(a->stream, a->out, a->net->out, (size_t)rows * outputs * sizeof *a->out);
  M4N_TRY(m4n_sync(a->stream));
  for (int i = 0; i < rows; i++) {
    memcpy(logits + (size_t)i * choices, a->out + (size_t)i * outputs, choices * sizeof *logits);
    value[i] = (float)a->out[(size_t)i * outputs + choices];
  }
  return M4N_OK;
}

static int predict(m4n_predictor *self, const m4n_batch *batch, m4n_real *logits, float *value) {
  actor *a = (actor *)self;
  for (int at = 0; at < batch->n; at += ROWS) {
    int rows = batch->n - at < ROWS ? batch->n - at : ROWS;
    M4N_TRY(pass(a, batch->obs + (size_t)at * a->obs_size, rows,
                 logits + (size_t)at * (size_t)a->base.choices, value + at));
  }
  return M4N_OK;
}

static void close(m4n_predictor *self) {
  actor *a = (actor *)self;
  m4n_actor_close(a->net);
  free(a->x);
  free(a->out);
  free(a);
}

static int open(actor *a, const char *path, const m4n_predictor_options *o) {
  m4n_actor_shape shape;
  char *about;
  if (o->named)
    return m4n_fail(M4N_EUNSUPPORTED,
                    "%s: an expert sees one row: it has no context, weights or target to be set", path);
  M4N_TRY(m4n_actor_read(&shape, &about, path));
  int status = m4n_features_open(&a->features, o->spec);
  if (!status) status = m4n_features_match(&a->features, about, path);
  free(about);
  M4N_TRY(status);
  if (shape.inputs != a->features.n || shape.choices != a->features.levels)
    return m4n_fail_at(
        M4N_EUNSUPPORTED, path, 0, NULL,
        "the expert has %d inputs and %d choices, and %d features and %d levels are known of this simulator",
        shape.inputs, shape.choices, a->features.n, a->features.levels);
  a->base = (m4n_predictor){.choices = shape.choices, .begin = begin, .predict = predict, .close = close};
  snprintf(a->base.about, sizeof a->base.about, "%s", "a small network trained by PPO in the simulator");
  a->stream = o->stream;
  a->obs_size = o->spec->obs_size;
  a->x = calloc((size_t)ROWS * (size_t)shape.inputs, sizeof *a->x);
  a->out = calloc((size_t)ROWS * (size_t)(shape.choices + 1), sizeof *a->out);
  if (!a->x || !a->out) return m4n_fail(M4N_ENOMEM, "no memory for an expert");
  M4N_TRY(m4n_actor_open(&a->net, o->stream, &shape, ROWS, false));
  return m4n_actor_load(a->net, path);
}

int m4n_predict_actor_open(m4n_predictor **predictor, const char *path,
                           const m4n_predictor_options *options) {
  *predictor = NULL;
  actor *a = calloc(1, sizeof *a);
  if (!a) return m4n_fail(M4N_ENOMEM, "no memory for an expert");
  int status = open(a, path, options);
  if (status)
    close(&a->base);
  else
    *predictor = &a->base;
  return status;
}
