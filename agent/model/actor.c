#include "agent/model/actor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/block.h"
#include "kernels/base/status.h"

#define SHAPE_KEY "mamba4net.actor"
#define ABOUT_KEY "mamba4net.features"
static const m4n_real SLOPE = (m4n_real)0.01;

struct m4n_actor_private {
  m4n_arena arena;
  m4n_dense layer[M4N_ACTOR_MAX_LAYERS], head;
  m4n_real *h[M4N_ACTOR_MAX_LAYERS]; // behind each layer, [max_rows][width]
  m4n_real *d[2];                    // gradients on the way back
  char *memory;
  char names[M4N_ACTOR_MAX_LAYERS][24];
};

static int check(const m4n_actor_shape *s) {
  if (s->inputs >= 1 && s->inputs <= M4N_ACTOR_MAX_WIDTH && s->width >= 1 &&
      s->width <= M4N_ACTOR_MAX_WIDTH && s->layers >= 1 && s->layers <= M4N_ACTOR_MAX_LAYERS &&
      s->choices >= 1 && s->choices <= M4N_ACTOR_MAX_WIDTH)
    return M4N_OK;
  return m4n_fail(
      M4N_EARG,
      "an actor of %d inputs, %d layers of %d and %d choices: expected 1 to %d layers, widths 1 to %d",
      s->inputs, s->layers, s->width, s->choices, M4N_ACTOR_MAX_LAYERS, M4N_ACTOR_MAX_WIDTH);
}

static int declare(m4n_actor *actor, bool train) {
  struct m4n_actor_private *p = actor->private_;
  const m4n_actor_shape *s = &actor->shape;
  m4n_builder at = {.params = actor->params,
                    .arena = &p->arena,
                    .prefix = "",
                    .set = M4N_SET_TASK,
                    .max_B = actor->max_rows,
                    .max_T = 1,
                    .train = train,
                    .trainable = true,
                    .write = 1};
  int in = s->inputs;
  for (int i = 0; i < s->layers; i++, in = s->width) {
    snprintf(p->names[i], sizeof p->names[i], "layer.%d", i);
    const m4n_rows rows = {p->names[i], s->width, m4n_fan_in_times(in, 2.4494897), true,
                           m4n_start_at(0)}; // He: √6/√fan_in
    M4N_TRY(m4n_dense_declare(&at, &p->layer[i], in, 0, 0, &rows, 1));
  }
  // Small first logits: the policy begins nearly uniform.
  const m4n_rows rows = {"head", s->choices + 1, m4n_fan_in_times(in, 0.02), true, m4n_start_at(0)};
  M4N_TRY(m4n_dense_declare(&at, &p->head, in, 0, 0, &rows, 1));
  return m4n_params_place(actor->params);
}

static void place(m4n_actor *actor, m4n_layout *at, bool train) {
  struct m4n_actor_private *p = actor->private_;
  const size_t rows = (size_t)actor->max_rows, width = (size_t)actor->shape.width,
               out = (size_t)actor->shape.choices + 1;
  actor->x = m4n_place(at, rows * (size_t)actor->shape.inputs);
  actor->out = m4n_place(at, rows * out);
  for (int i = 0; i < actor->shape.layers; i++) p->h[i] = m4n_place(at, rows * width);
  if (!train) return;
  actor->d_out = m4n_place(at, rows * out);
  for (int i = 0; i < 2; i++) p->d[i] = m4n_place(at, rows * width);
}

int m4n_actor_open(m4n_actor **out, m4n_stream *stream, const m4n_actor_shape *shape, int max_rows,
                   bool train) {
  *out = NULL;
  M4N_TRY(check(shape));
  m4n_actor *actor = calloc(1, sizeof *actor);
  if (actor) actor->private_ = calloc(1, sizeof *actor->private_);
  if (!actor || !actor->private_) {
    free(actor);
    return m4n_fail(M4N_ENOMEM, "no memory for an actor");
  }
  actor->shape = *shape, actor->stream = stream, actor->max_rows = max_rows;
  int status = m4n_params_open(&actor->params, stream);
  if (!status) status = declare(actor, train);
  if (!status) {
    m4n_layout dry = {0};
    place(actor, &dry, train);
    actor->private_->memory = m4n_alloc(m4n_stream_backend(stream), dry.used);
    status = actor->private_->memory ? M4N_OK : m4n_last_error()->status;
  }
  if (status) {
    m4n_actor_close(actor);
    return status;
  }
  place(actor, &(m4n_layout){.base = actor->private_->memory}, train);
  *out = actor;
  return M4N_OK;
}

void m4n_actor_close(m4n_actor *actor) {
  if (!actor) return;
  if (actor->private_->memory) m4n_free(m4n_stream_backend(actor->stream), actor->private_->memory);
  m4n_params_close(actor->params);
  m4n_arena_close(&actor->private_->arena);
  free(actor->private_);
  free(actor);
}

static m4n_pass pass_of(const m4n_actor *actor, int rows, bool train) {
  return (m4n_pass){.s = actor->stream, .B = rows, .T = 1, .train = train};
}

void m4n_actor_forward(m4n_actor *actor, int rows, bool train) {
  struct m4n_actor_private *p = actor->private_;
  const m4n_pass pass = pass_of(actor, rows, train);
  const m4n_real *x = actor->x;
  for (int i = 0; i < actor->shape.layers; x = p->h[i++]) {
    m4n_dense_forward(&p->layer[i], &pass, p->h[i], x, rows, 0, NULL);
    m4n_leaky_relu_fwd(actor->stream, p->h[i], p->h[i], (int64_t)rows * actor->shape.width, SLOPE);
  }
  m4n_dense_forward(&p->head, &pass, actor->out, x, rows, 0, NULL);
}

void m4n_actor_backward(m4n_actor *actor, int rows) {
  struct m4n_actor_private *p = actor->private_;
  const m4n_pass pass = pass_of(actor, rows, true);
  const int last = actor->shape.layers - 1;
  m4n_real *d = p->d[0], *next = p->d[1];
  m4n_dense_backward(&p->head, &pass, d, actor->d_out, p->h[last], rows, 0, NULL, NULL);
  for (int i = last; i >= 0; i--) {
    m4n_leaky_relu_bwd(actor->stream, d, d, p->h[i], (int64_t)rows * actor->shape.width, SLOPE);
    m4n_dense_backward(&p->layer[i], &pass, i ? next : NULL, d, i ? p->h[i - 1] : actor->x, rows, 0, NULL,
                       NULL);
    m4n_real *spare = d;
    d = next, next = spare;
  }
}

int m4n_actor_save(const m4n_actor *actor, const char *path, const m4n_real *values, const char *about) {
  char shape[128];
  const m4n_actor_shape *s = &actor->shape;
  snprintf(shape, sizeof shape, "%d %d %d %d", s->inputs, s->width, s->layers, s->choices);
  const m4n_metadata metadata[] = {{SHAPE_KEY, shape}, {ABOUT_KEY, about}};
  return m4n_params_save(actor->params, M4N_ALL_SETS, values, path, M4N_TENSOR_F32, metadata, about ? 2 : 1);
}

int m4n_actor_read(m4n_actor_shape *shape, char **about, const char *path) {
  m4n_safetensors *file;
  *about = NULL;
  M4N_TRY(m4n_safetensors_open(&file, path));
  const char *text = m4n_safetensors_metadata(file, SHAPE_KEY),
             *features = m4n_safetensors_metadata(file, ABOUT_KEY);
  char rest;
  int status = M4N_OK;
  if (!text)
    status = m4n_fail_at(M4N_ENOTFOUND, path, 0, SHAPE_KEY, "is missing: the file is no expert's");
  else if (sscanf(text, "%d %d %d %d%c", &shape->inputs, &shape->width, &shape->layers, &shape->choices,
                  &rest) != 4)
    status = m4n_fail_at(M4N_EFORMAT, path, 0, SHAPE_KEY, "'%.40s': expected four numbers", text);
  else if ((status = check(shape)))
    status = m4n_context(status, "%s", path);
  else if (features && !(*about = strdup(features)))
    status = m4n_fail(M4N_ENOMEM, "no memory for a checkpoint's metadata");
  m4n_safetensors_close(file);
  return status;
}

int m4n_actor_load(m4n_actor *actor, const char *path) {
  m4n_safetensors *file;
  M4N_TRY(m4n_safetensors_open(&file, path));
  int status = m4n_params_load(actor->params, M4N_ALL_SETS, file, "");
  m4n_safetensors_close(file);
  return status;
}
