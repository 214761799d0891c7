#include "agent/model/linear.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/model/block.h"
#include "kernels/base/status.h"

m4n_init m4n_fan_in_times(int fan_in, double factor) {
  return (m4n_init){M4N_START_UNIFORM, factor / sqrt((double)fan_in)};
}

m4n_init m4n_fan_in(int fan_in) {
  return m4n_fan_in_times(fan_in, 1);
}

int m4n_declare_array(m4n_builder *at, m4n_weight **weight, const char *name, int rank, const int64_t *shape,
                      m4n_init init) {
  if (!(*weight = m4n_params_add(at->params, 1, at->set, at->trainable))) return M4N_ENOMEM;
  return m4n_params_part(at->params, *weight, at->prefix, name, rank, shape, init);
}

// ---- declaring -------------------------------------------------------------------------------------------------------

static int plan_product(m4n_builder *at, const m4n_linear **plan, int out, int in, int x_ld, int y_ld,
                        int format, bool trainable) {
  const m4n_linear_shape shape = {.out = out,
                                  .in = in,
                                  .max_rows = at->max_B * at->max_T,
                                  .format = format,
                                  .grads = (at->train ? M4N_GRAD_X : 0) |
                                           (at->train && trainable ? M4N_GRAD_W : 0),
                                  .x_ld = x_ld,
                                  .y_ld = y_ld};
  return m4n_linear_plan(plan, at->params->stream, &shape);
}

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_target(const m4n_lora *lora, const char *name) {
  for (int i = 0; i < lora->targets && lora->rank; i++)
    if (ends_with(name, lora->target[i])) return true;
  return false;
}

// The adapter of one part, in PEFT's names: D is "lora_A", U is "lora_B". D starts like any layer, U at 0.
static int declare_adapter(m4n_builder *at, m4n_dense *layer, const m4n_rows *rows, int first) {
  char prefix[256], name[128];
  snprintf(prefix, sizeof prefix, "base_model.model.%s%s", at->prefix, rows->name);
  const int rank = at->lora.rank;
  if (!layer->down && !(layer->down = m4n_params_add(at->params, layer->in, M4N_SET_ADAPTER, at->train)))
    return M4N_ENOMEM;
  snprintf(name, sizeof name, ".lora_A.weight");
  M4N_TRY(m4n_params_part(at->params, layer->down, prefix, name, 2, (int64_t[]){rank, layer->in},
                          m4n_fan_in(layer->in)));
  m4n_weight *up = m4n_params_add(at->params, rank, M4N_SET_ADAPTER, at->train);
  if (!up) return M4N_ENOMEM;
  snprintf(name, sizeof name, ".lora_B.weight");
  M4N_TRY(m4n_params_part(at->params, up, prefix, name, 2, (int64_t[]){rows->rows, rank}, m4n_start_at(0)));
  layer->down->decay = up->decay = true;
  layer->adapter[layer->adapters].up = up;
  layer->adapter[layer->adapters++].first = first;
  return M4N_OK;
}

static int plan_adapters(m4n_builder *at, m4n_dense *layer) {
  if (!layer->adapters) return M4N_OK;
  const int joined = layer->adapters * at->lora.rank;
  assert(layer->x_ld == layer->in);
  layer->rank = at->lora.rank;
  layer->scale = (m4n_real)(at->lora.alpha / at->lora.rank);
  layer->dropout = (m4n_real)at->lora.dropout;
  layer->use = at->dropouts++;
  M4N_TRY(plan_product(at, &layer->down_plan, joined, layer->in, 0, 0, M4N_W_REAL, true));
  for (int i = 0; i < layer->adapters; i++)
    M4N_TRY(plan_product(at, &layer->adapter[i].plan, layer->adapter[i].up->rows, layer->rank, joined,
                         layer->y_ld, M4N_W_REAL, true));
  return M4N_OK;
}

static int declare_bias(m4n_builder *at, m4n_dense *layer, const m4n_rows *rows, int first) {
  char name[128];
  if (!layer->bias) {
    if (!(layer->bias = m4n_params_add(at->params, 1, at->set, at->trainable))) return M4N_ENOMEM;
    layer->bias_first = first;
  }
  m4n_params_gap(layer->bias, first - layer->bias->rows); // rows before without a bias add 0
  layer->bias_count = first + rows->rows - layer->bias_first;
  snprintf(name, sizeof name, "%s.bias", rows->name);
  return m4n_params_part(at->params, layer->bias, at->prefix, name, 1, (int64_t[]){rows->rows},
                         rows->bias_init);
}

int m4n_dense_declare(m4n_builder *at, m4n_dense *layer, int in, int x_ld, int y_ld, const m4n_rows *rows,
                      int n) {
  assert(n <= M4N_MAX_ROWS);
  *layer = (m4n_dense){.in = in};
  for (int i = 0; i < n; i++) layer->out += rows[i].rows;
  layer->x_ld = x_ld ? x_ld : in;
  layer->y_ld = y_ld ? y_ld : layer->out;
  if (!(layer->w = m4n_params_add(at->params, in, at->set, at->trainable))) return M4N_ENOMEM;
  layer->w->decay = true;
  for (int i = 0, first = 0; i < n; first += rows[i++].rows) {
    char name[128];
    snprintf(name, sizeof name, "%s.weight", rows[i].name);
    M4N_TRY(m4n_params_part(at->params, layer->w, at->prefix, name, 2, (int64_t[]){rows[i].rows, in},
                            rows[i].init));
    if (rows[i].bias) M4N_TRY(declare_bias(at, layer, &rows[i], first));
    if (is_target(&at->lora, rows[i].name)) M4N_TRY(declare_adapter(at, layer, &rows[i], first));
  }
  if (layer->bias) m4n_params_gap(layer->bias, layer->out - layer->bias->rows);
  layer->w->format = at->trainable ? M4N_W_REAL : at->format;
  M4N_TRY(plan_product(at, &layer->plan, layer->out, in, x_ld, y_ld, layer->w->format, at->trainable));
  if (layer->w->format != M4N_W_REAL) layer->w->plan = layer->plan;
  return plan_adapters(at, layer);
}

int m4n_dense_gate(m4n_builder *at, m4n_dense *layer) {
  if (!layer->w->plan || at->train || layer->bias || layer->adapters) return M4N_OK;
  m4n_linear_shape shape = *m4n_linear_shape_of(layer->plan);
  shape.gated = 1, shape.y_ld = 0;
  const m4n_linear *plan;
  const int status = m4n_linear_plan(&plan, at->params->stream, &shape);
  if (status) return status == M4N_EUNSUPPORTED ? M4N_OK : status;
  layer->plan = layer->w->plan = plan, layer->gated = true;
  return M4N_OK;
}

// ---- running ---------------------------------------------------------------------------------------------------------

// What LoRA keeps of a forward: v = s·D·drop(x), and drop(x) itself, which its weights' gradient needs.
struct adapted {
  m4n_real *v, *dropped;
};

static struct adapted place_adapted(const m4n_dense *layer, m4n_layout *at, int rows) {
  struct adapted a = {0};
  if (layer->adapters) a.v = m4n_place(at, (size_t)rows * (size_t)(layer->adapters * layer->rank));
  if (layer->adapters && layer->dropout > 0) a.dropped = m4n_place(at, (size_t)rows * (size_t)layer->in);
  return a;
}

size_t m4n_dense_work(const m4n_dense *layer, int rows) {
  m4n_layout dry = {0};
  place_adapted(layer, &dry, rows);
  return dry.used;
}

// A backward needs room for the gradients of both.
size_t m4n_dense_scratch(const m4n_dense *layer, int rows) {
  return m4n_dense_work(layer, rows);
}

void m4n_dense_forward(const m4n_dense *layer, const m4n_pass *pass, m4n_real *y, const m4n_real *x, int rows,
                       int add, void *work) {
  m4n_stream *s = pass->s;
  m4n_linear_fwd(s, y, x, layer->w->w, layer->bias ? layer->bias->w : NULL, layer->plan, rows, add);
  if (!layer->adapters) return;

  // v = s·D·drop(x), then y_i += U_i·v_i
  struct adapted a = place_adapted(layer, &(m4n_layout){.base = work}, rows);
  const int joined = layer->adapters * layer->rank;
  if (a.dropped && pass->dropout) {
    m4n_dropout(s, a.dropped, x, pass->dropout, (int64_t)rows * layer->in, layer->use, layer->dropout);
    x = a.dropped;
  }
  m4n_linear_fwd(s, a.v, x, layer->down->w, NULL, layer->down_plan, rows, 0);
  m4n_axpby(s, a.v, a.v, (int64_t)rows * joined, layer->scale, 0);
  for (int i = 0; i < layer->adapters; i++)
    m4n_linear_fwd(s, y + layer->adapter[i].first, a.v + i * layer->rank, layer->adapter[i].up->w, NULL,
                   layer->adapter[i].plan, rows, 1);
}

// dU_i += dy_iᵀ·v_i; dv = s·dy·U; dD += dvᵀ·drop(x); dx += drop'(dv·D)
static void backward_adapters(const m4n_dense *layer, const m4n_pass *pass, m4n_real *dx, const m4n_real *dy,
                              const m4n_real *x, int rows, void *work, void *scratch) {
  m4n_stream *s = pass->s;
  struct adapted a = place_adapted(layer, &(m4n_layout){.base = work}, rows);
  struct adapted d = place_adapted(layer, &(m4n_layout){.base = scratch}, rows);
  const bool dropped = a.dropped && pass->dropout;
  for (int i = 0; i < layer->adapters; i++) {
    const m4n_real *dy_i = dy + layer->adapter[i].first;
    m4n_weight *up = layer->adapter[i].up;
    m4n_linear_bwd_w(s, up->g, dy_i, a.v + i * layer->rank, layer->adapter[i].plan, rows);
    m4n_linear_bwd_x(s, d.v + i * layer->rank, dy_i, up->w, layer->adapter[i].plan, rows, 0);
  }
  m4n_axpby(s, d.v, d.v, (int64_t)rows * layer->adapters * layer->rank, layer->scale, 0);
  m4n_linear_bwd_w(s, layer->down->g, d.v, dropped ? a.dropped : x, layer->down_plan, rows);
  if (!dx) return;
  if (!dropped) {
    m4n_linear_bwd_x(s, dx, d.v, layer->down->w, layer->down_plan, rows, 1);
    return;
  }
  const int64_t n = (int64_t)rows * layer->in;
  m4n_linear_bwd_x(s, d.dropped, d.v, layer->down->w, layer->down_plan, rows, 0);
  m4n_dropout(s, d.dropped, d.dropped, pass->dropout, n, layer->use, layer->dropout);
  m4n_add(s, dx, dx, d.dropped, n);
}

void m4n_dense_backward(const m4n_dense *layer, const m4n_pass *pass, m4n_real *dx, const m4n_real *dy,
                        const m4n_real *x, int rows, int add, void *work, void *scratch) {
  m4n_stream *s = pass->s;
  if (layer->w->g) m4n_linear_bwd_w(s, layer->w->g, dy, x, layer->plan, rows);
  if (layer->bias && layer->bias->g)
    m4n_sum_rows(s, layer->bias->g + layer->bias_first, dy + layer->bias_first, rows, 1, layer->bias_count,
                 layer->y_ld);
  if (dx) m4n_linear_bwd_x(s, dx, dy, layer->w->w, layer->plan, rows, add);
  if (layer->adapters) backward_adapters(layer, pass, dx, dy, x, rows, work, scratch);
}
