#include "agent/model/abr.h"

#include <assert.h>
#include <stdio.h>

#include "kernels/base/status.h"

static const m4n_real slope = (m4n_real)0.01, norm_eps = (m4n_real)1e-5;

// The six tokens of the state: a first layer over `in` columns, repeated at `positions` offsets (a convolution), then a
// projection to d.
enum { FEATURES = 6, TAPS = 4 };
typedef struct feature {
  const char *name;
  int column, in, positions;
} feature;

static void list_features(feature *f, const m4n_abr_shape *shape) {
  const int h = shape->history, s = shape->lookahead * shape->levels;
  int at = M4N_ABR_STATE;
  f[0] = (feature){"last_bitrate", at, 1, 1}, at += 1;
  f[1] = (feature){"buffer", at, 1, 1}, at += 1;
  f[2] = (feature){"throughput", at, TAPS, h - TAPS + 1}, at += h;
  f[3] = (feature){"download_time", at, TAPS, h - TAPS + 1}, at += h;
  f[4] = (feature){"next_sizes", at, s, 1}, at += s;
  f[5] = (feature){"chunks_left", at, 1, 1};
}

int m4n_abr_features(const m4n_abr_shape *shape) {
  return M4N_ABR_STATE + 3 + 2 * shape->history + shape->lookahead * shape->levels;
}

void m4n_abr_fill(const m4n_abr_shape *shape, m4n_real *row, const m4n_abr_state *state) {
  const int skip = state->history_given - shape->history;
  assert(skip >= 0);
  row += M4N_ABR_STATE;
  *row++ = (m4n_real)(state->last_bitrate / state->top_bitrate);
  *row++ = (m4n_real)(state->buffer / 10);
  for (int i = 0; i < shape->history; i++) *row++ = (m4n_real)state->throughput[skip + i];
  for (int i = 0; i < shape->history; i++) *row++ = (m4n_real)(state->download_time[skip + i] / 10);
  for (int i = 0; i < shape->lookahead * shape->levels; i++) *row++ = (m4n_real)(state->next_sizes[i] / 1e6);
  *row = (m4n_real)((state->chunks_left < 48 ? state->chunks_left : 48) / 48);
}

struct m4n_abr {
  m4n_backend *backend;
  m4n_abr_shape shape;
  int d, steps, columns;
  feature feature[FEATURES];
  m4n_dense first[FEATURES], second[FEATURES]; // to the embedding, to the stream
  m4n_dense returns, action, head;
  m4n_weight *table, *gain, *shift; // [max_steps + 1][d]; LayerNorm
  char *memory;
  // Of a pass: first layers' outputs, tokens before the norm, its statistics, gradients.
  m4n_real *hidden[FEATURES], *raw, *stats, *d_raw, *d_hidden;
};

// ---- declaring -------------------------------------------------------------------------------------------------------

static int declare_layer(m4n_builder *at, m4n_dense *layer, const char *name, int in, int x_ld, int out,
                         int y_ld) {
  const m4n_rows rows = {name, out, m4n_fan_in(in), true, m4n_fan_in(in)};
  return m4n_dense_declare(at, layer, in, x_ld, y_ld, &rows, 1);
}

int m4n_abr_declare(m4n_abr **out, m4n_builder *given, const m4n_abr_shape *shape, int d, int steps) {
  m4n_abr *a = *out = m4n_arena_alloc(given->arena, sizeof *a);
  if (!a) return M4N_ENOMEM;
  *a = (m4n_abr){.backend = m4n_stream_backend(given->params->stream),
                 .shape = *shape,
                 .d = d,
                 .steps = steps,
                 .columns = m4n_abr_features(shape)};
  list_features(a->feature, shape);
  m4n_builder at = *given;
  at.prefix = "encoder.";
  at.set = M4N_SET_TASK;
  at.max_B = steps;
  at.max_T = 1;
  if (at.format != M4N_W_REAL) at.format = M4N_W_PACKED; // never less than float32
  at.lora.rank = 0;
  const int e = shape->embed, token_ld = M4N_ABR_TOKENS * d;
  for (int i = 0; i < FEATURES; i++) {
    const feature *f = &a->feature[i];
    const int width = f->positions * e;
    char name[64];
    M4N_TRY(declare_layer(&at, &a->first[i], f->name, f->in, a->columns, e, width));
    snprintf(name, sizeof name, "%s_out", f->name);
    M4N_TRY(declare_layer(&at, &a->second[i], name, width, 0, d, token_ld));
  }
  M4N_TRY(declare_layer(&at, &a->returns, "return", 1, a->columns, d, token_ld));
  M4N_TRY(declare_layer(&at, &a->action, "action", 1, a->columns, d, token_ld));
  M4N_TRY(m4n_declare_array(&at, &a->table, "step.weight", 2, (int64_t[]){shape->max_steps + 1, d},
                            (m4n_init){M4N_START_NORMAL, 1}));
  M4N_TRY(m4n_declare_array(&at, &a->gain, "norm.weight", 1, (int64_t[]){d}, m4n_start_at(1)));
  M4N_TRY(m4n_declare_array(&at, &a->shift, "norm.bias", 1, (int64_t[]){d}, m4n_start_at(0)));
  at.prefix = "";
  return declare_layer(&at, &a->head, "head", d, token_ld, shape->levels, 0);
}

static size_t place(m4n_abr *a, m4n_layout *at, bool train) {
  const size_t steps = (size_t)a->steps, tokens = steps * M4N_ABR_TOKENS;
  size_t most = 0;
  for (int i = 0; i < FEATURES; i++) {
    const size_t n = steps * (size_t)a->second[i].in;
    a->hidden[i] = m4n_place(at, n);
    if (n > most) most = n;
  }
  a->raw = m4n_place(at, tokens * (size_t)a->d);
  a->stats = m4n_place(at, 2 * tokens);
  if (!train) return at->used;
  a->d_raw = m4n_place(at, tokens * (size_t)a->d);
  a->d_hidden = m4n_place(at, most);
  return at->used;
}

size_t m4n_abr_bytes(const m4n_abr *a, bool train) {
  m4n_abr counted = *a;
  return place(&counted, &(m4n_layout){0}, train);
}

int m4n_abr_plan(m4n_abr *a, bool train) {
  if (!(a->memory = m4n_alloc(a->backend, m4n_abr_bytes(a, train))))
    return m4n_context(m4n_last_error()->status, "the encoder's activations");
  place(a, &(m4n_layout){.base = a->memory}, train);
  return M4N_OK;
}

void m4n_abr_release(m4n_abr *a) {
  if (!a) return;
  m4n_free(a->backend, a->memory);
  a->memory = NULL;
}

// ---- running ---------------------------------------------------------------------------------------------------------

void m4n_abr_encode(const m4n_abr *a, const m4n_pass *pass, m4n_real *tokens, const m4n_real *rows,
                    const int32_t *index, int steps, bool action_first) {
  m4n_stream *s = pass->s;
  const int d = a->d, n = steps * M4N_ABR_TOKENS;
  m4n_real *action = a->raw + (action_first ? 0 : 7) * d, *returns = a->raw + (action_first ? 1 : 0) * d;
  m4n_dense_forward(&a->action, pass, action, rows + M4N_ABR_ACTION, steps, 0, NULL);
  m4n_dense_forward(&a->returns, pass, returns, rows + M4N_ABR_RETURN, steps, 0, NULL);
  for (int i = 0; i < FEATURES; i++) {
    const feature *f = &a->feature[i];
    for (int p = 0; p < f->positions; p++)
      m4n_dense_forward(&a->first[i], pass, a->hidden[i] + p * a->shape.embed, rows + f->column + p, steps, 0,
                        NULL);
    m4n_leaky_relu_fwd(s, a->hidden[i], a->hidden[i], (int64_t)steps * a->second[i].in, slope);
    m4n_dense_forward(&a->second[i], pass, returns + (1 + i) * d, a->hidden[i], steps, 0, NULL);
  }
  m4n_gather_fwd(s, a->raw, a->table->w, index, n, d, d, 1);
  m4n_layernorm_fwd(s, tokens, a->stats, a->raw, a->gain->w, a->shift->w, n, d, norm_eps);
}

void m4n_abr_encode_backward(const m4n_abr *a, const m4n_pass *pass, const m4n_real *d_tokens,
                             const m4n_real *rows, const int32_t *index, int steps) {
  m4n_stream *s = pass->s;
  const int d = a->d, n = steps * M4N_ABR_TOKENS;
  m4n_layernorm_bwd(s, a->d_raw, a->gain->g, a->shift->g, d_tokens, NULL, a->raw, a->stats, a->gain->w, n, d);
  m4n_gather_bwd(s, a->table->g, a->d_raw, index, n, d, d);
  m4n_dense_backward(&a->returns, pass, NULL, a->d_raw, rows + M4N_ABR_RETURN, steps, 0, NULL, NULL);
  m4n_dense_backward(&a->action, pass, NULL, a->d_raw + 7 * d, rows + M4N_ABR_ACTION, steps, 0, NULL, NULL);
  for (int i = 0; i < FEATURES; i++) {
    const feature *f = &a->feature[i];
    m4n_dense_backward(&a->second[i], pass, a->d_hidden, a->d_raw + (1 + i) * d, a->hidden[i], steps, 0, NULL,
                       NULL);
    m4n_leaky_relu_bwd(s, a->d_hidden, a->d_hidden, a->hidden[i], (int64_t)steps * a->second[i].in, slope);
    for (int p = 0; p < f->positions; p++)
      m4n_dense_backward(&a->first[i], pass, NULL, a->d_hidden + p * a->shape.embed, rows + f->column + p,
                         steps, 0, NULL, NULL);
  }
}

void m4n_abr_head(const m4n_abr *a, const m4n_pass *pass, m4n_real *logits, const m4n_real *hidden,
                  int steps) {
  m4n_dense_forward(&a->head, pass, logits, hidden + M4N_ABR_ANSWER * a->d, steps, 0, NULL);
}

void m4n_abr_head_backward(const m4n_abr *a, const m4n_pass *pass, m4n_real *d_hidden,
                           const m4n_real *d_logits, const m4n_real *hidden, int steps) {
  m4n_zero(pass->s, d_hidden, (size_t)steps * M4N_ABR_TOKENS * (size_t)a->d * sizeof *d_hidden);
  m4n_dense_backward(&a->head, pass, d_hidden + M4N_ABR_ANSWER * a->d, d_logits,
                     hidden + M4N_ABR_ANSWER * a->d, steps, 0, NULL, NULL);
}
