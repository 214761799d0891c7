#include "agent/model/net.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

struct m4n_net_private {
  m4n_arena arena; // chain, blocks, encoder
  m4n_dense value; // head, where options.value says so
  // The batch on the backend.
  m4n_real *rows;
  int32_t *index;
};

static int max_steps(const m4n_net *net) {
  return net->options.sequences * net->options.steps;
}

// One row over the hidden states of the answers, which lie eight tokens apart.
static int declare_value(m4n_net *net, m4n_builder at) {
  const int d = net->options.config.backbone.d;
  const m4n_rows row = {"value", 1, m4n_start_at(0), true, m4n_start_at(0)};
  at.prefix = "";
  at.set = M4N_SET_VALUE;
  at.trainable = at.train;
  at.format = M4N_W_REAL;
  at.lora.rank = 0;
  at.max_B = max_steps(net), at.max_T = 1;
  return m4n_dense_declare(&at, &net->private_->value, d, M4N_ABR_TOKENS * d, 0, &row, 1);
}

static int declare(m4n_net *net, m4n_arena *arena) {
  const m4n_net_options *o = &net->options;
  m4n_builder at = {.params = net->params,
                    .arena = arena,
                    .prefix = "",
                    .set = M4N_SET_BACKBONE,
                    .max_B = o->sequences,
                    .max_T = o->tokens,
                    .train = o->train,
                    .trainable = o->train && !o->freeze && !o->lora.rank,
                    .format = o->format,
                    .lora = o->lora};
  M4N_TRY(m4n_chain_declare(&net->chain, &at, &o->config.backbone));
  if (o->lora.rank && !m4n_params_count(net->params, M4N_SET_ADAPTER, false))
    return m4n_fail(M4N_EARG, "LoRA target %s: the backbone has no layer of that name", o->lora.target[0]);
  if (!o->config.abr.levels) return M4N_OK;
  at.trainable = o->train;
  M4N_TRY(m4n_abr_declare(&net->abr, &at, &o->config.abr, o->config.backbone.d, max_steps(net)));
  return o->value ? declare_value(net, at) : M4N_OK;
}

static int plan(m4n_net *net) {
  const m4n_net_options *o = &net->options;
  M4N_TRY(m4n_params_place(net->params));
  M4N_TRY(m4n_chain_plan(
      net->chain, &(m4n_chain_plan_options){
                      .train = o->train, .recompute = o->recompute, .taps = o->taps, .lanes = o->lanes}));
  if (!net->abr) return M4N_OK;
  M4N_TRY(m4n_abr_plan(net->abr, o->train));
  m4n_backend *backend = m4n_stream_backend(net->stream);
  const size_t steps = (size_t)max_steps(net), index = steps * M4N_ABR_TOKENS;
  const size_t rows = steps * (size_t)net->features, logits = steps * (size_t)net->levels;
  if (!(net->rows = m4n_alloc_host(backend, rows * sizeof *net->rows)) ||
      !(net->index = m4n_alloc_host(backend, index * sizeof *net->index)) ||
      !(net->private_->rows = m4n_alloc(backend, rows * sizeof *net->rows)) ||
      !(net->private_->index = m4n_alloc(backend, index * sizeof *net->index)) ||
      !(net->logits = m4n_alloc(backend, logits * sizeof *net->logits)) ||
      !(net->d_logits = m4n_alloc(backend, logits * sizeof *net->d_logits)))
    return m4n_context(m4n_last_error()->status, "a batch");
  if (o->value && (!(net->values = m4n_alloc(backend, steps * sizeof *net->values)) ||
                   !(net->d_values = m4n_alloc(backend, steps * sizeof *net->d_values))))
    return m4n_context(m4n_last_error()->status, "values of a batch");
  return M4N_OK;
}

int m4n_net_open(m4n_net **out, m4n_stream *stream, const m4n_net_options *options) {
  M4N_TRY(m4n_config_check(&options->config, NULL));
  if (options->train && (options->freeze || options->lora.rank) && options->config.backbone.mamba_layers)
    return m4n_fail(M4N_EUNSUPPORTED,
                    "a frozen backbone with Mamba layers cannot be trained behind: their scan has no "
                    "backward without gradients of its own");
  m4n_net *net = *out = calloc(1, sizeof *net);
  if (net) net->private_ = calloc(1, sizeof *net->private_);
  if (!net || !net->private_) {
    free(net);
    *out = NULL;
    return m4n_fail(M4N_ENOMEM, "no memory for a model");
  }
  net->stream = stream;
  net->options = *options;
  m4n_net_options *o = &net->options;
  if (o->config.abr.levels) {
    if (!o->steps) o->steps = o->config.abr.window;
    o->tokens = M4N_ABR_TOKENS * o->steps;
    net->features = m4n_abr_features(&o->config.abr);
    net->levels = o->config.abr.levels;
  }
  int status = m4n_params_open(&net->params, stream);
  if (!status) status = declare(net, &net->private_->arena);
  if (!status) status = plan(net);
  if (!status) return M4N_OK;
  m4n_net_close(net);
  *out = NULL;
  return status;
}

void m4n_net_close(m4n_net *net) {
  if (!net) return;
  m4n_backend *backend = m4n_stream_backend(net->stream);
  m4n_chain_release(net->chain);
  m4n_abr_release(net->abr);
  m4n_free_host(backend, net->rows);
  m4n_free_host(backend, net->index);
  m4n_free(backend, net->private_->rows);
  m4n_free(backend, net->private_->index);
  m4n_free(backend, net->logits);
  m4n_free(backend, net->d_logits);
  m4n_free(backend, net->values);
  m4n_free(backend, net->d_values);
  m4n_params_close(net->params);
  m4n_arena_close(&net->private_->arena);
  free(net->private_);
  free(net);
}

m4n_net_bytes m4n_net_memory(const m4n_net *net) {
  const m4n_net_options *o = &net->options;
  const m4n_chain_bytes chain = m4n_chain_measure(
      net->chain, &(m4n_chain_plan_options){
                      .train = o->train, .recompute = o->recompute, .taps = o->taps, .lanes = o->lanes});
  return (m4n_net_bytes){.weights = (size_t)net->params->n * sizeof(m4n_real) + net->params->frozen_bytes,
                         .gradients = (size_t)net->params->n * sizeof(m4n_real),
                         .saved = chain.saved + (net->abr ? m4n_abr_bytes(net->abr, o->train) : 0),
                         .scratch = chain.scratch,
                         .state = chain.state};
}

// ---- parameters --------------------------------------------------------------------------------------------------------

int m4n_net_start(m4n_net *net, uint64_t seed) {
  return m4n_params_start(net->params, M4N_ALL_SETS, seed);
}

// The file's shapes must be the model's; what a pass may carry (window) is the caller's choice.
static int check_same(const m4n_net *net, const m4n_safetensors *file, const char *path) {
  m4n_config config;
  M4N_TRY(m4n_config_of(&config, file, path));
  char *theirs = m4n_config_text(&config), *ours = m4n_config_text(&net->options.config);
  int status = !theirs || !ours ? M4N_ENOMEM
               : strcmp(theirs, ours) == 0
                   ? M4N_OK
                   : m4n_fail_at(M4N_EFORMAT, path, 0, M4N_CONFIG_KEY,
                                 "is a model of another shape: %s, expected %s", theirs, ours);
  free(theirs);
  free(ours);
  return status;
}

int m4n_net_load(m4n_net *net, const char *path) {
  m4n_safetensors *file;
  M4N_TRY(m4n_safetensors_open(&file, path));
  int status = check_same(net, file, path);
  if (!status) status = m4n_params_load(net->params, M4N_SET_BACKBONE | M4N_SET_TASK, file, "");
  m4n_safetensors_close(file);
  return status;
}

// Hugging Face puts a name in front of a backbone that has a head, and none where it has not.
static const char *prefix_of(const m4n_net *net, const m4n_safetensors *file) {
  return net->options.config.backbone.hf_mamba && m4n_safetensors_find(file, "backbone.norm_f.weight")
             ? "backbone."
             : "";
}

int m4n_net_load_backbone(m4n_net *net, const char *path, const char *adapter) {
  m4n_safetensors *file;
  M4N_TRY(m4n_safetensors_open(&file, path));
  int status = adapter ? m4n_lora_fold(net->params, file, prefix_of(net, file), adapter)
                       : m4n_params_load(net->params, M4N_SET_BACKBONE, file, prefix_of(net, file));
  m4n_safetensors_close(file);
  return status;
}

int m4n_net_save(const m4n_net *net, const char *path, int type, const m4n_real *values) {
  char *text = m4n_config_text(&net->options.config);
  if (!text) return M4N_ENOMEM;
  const bool frozen = net->options.freeze || net->options.lora.rank;
  const int sets = frozen ? M4N_SET_TASK : M4N_SET_BACKBONE | M4N_SET_TASK;
  int status =
      m4n_params_save(net->params, sets, values, path, type, &(m4n_metadata){M4N_CONFIG_KEY, text}, 1);
  free(text);
  return status;
}

// ---- passes ------------------------------------------------------------------------------------------------------------

void m4n_net_set_step(m4n_net *net, int sequence, int step, int steps, int of_episode) {
  int32_t *index = net->index + ((size_t)sequence * (size_t)steps + (size_t)step) * M4N_ABR_TOKENS;
  const int32_t row = of_episode < 0 ? -1 : m4n_abr_step_row(&net->options.config.abr, of_episode);
  for (int i = 0; i < M4N_ABR_TOKENS; i++) index[i] = row;
}

void m4n_net_forward(m4n_net *net, int B, int steps, bool train, const int32_t *length) {
  const struct m4n_net_private *p = net->private_;
  const int n = B * steps;
  assert(net->abr && B <= net->options.sequences && steps <= net->options.steps);
  net->pass = (m4n_pass){.s = net->stream,
                         .B = B,
                         .T = M4N_ABR_TOKENS * steps,
                         .train = train,
                         .length = length,
                         .dropout = train ? net->dropout : NULL};
  m4n_copy_in(net->stream, p->rows, net->rows, (size_t)n * (size_t)net->features * sizeof *net->rows);
  m4n_copy_in(net->stream, p->index, net->index, (size_t)n * M4N_ABR_TOKENS * sizeof *net->index);
  m4n_abr_encode(net->abr, &net->pass, m4n_chain_input(net->chain), p->rows, p->index, n, false);
  const m4n_real *hidden = m4n_chain_forward(net->chain, &net->pass);
  m4n_abr_head(net->abr, &net->pass, net->logits, hidden, n);
  if (net->values)
    m4n_dense_forward(&p->value, &net->pass, net->values,
                      hidden + M4N_ABR_ANSWER * net->options.config.backbone.d, n, 0, NULL);
}

void m4n_net_backward(m4n_net *net) {
  const struct m4n_net_private *p = net->private_;
  const int n = net->pass.B * net->pass.T / M4N_ABR_TOKENS;
  m4n_real *d = m4n_chain_gradient(net->chain);
  const m4n_real *hidden = m4n_chain_tap(net->chain, m4n_chain_blocks(net->chain));
  assert(net->pass.train);
  m4n_abr_head_backward(net->abr, &net->pass, d, net->d_logits, hidden, n);
  if (net->values)
    m4n_dense_backward(&p->value, &net->pass, NULL, net->d_values,
                       hidden + M4N_ABR_ANSWER * net->options.config.backbone.d, n, 0, NULL, NULL);
  m4n_chain_backward(net->chain, &net->pass);
  m4n_abr_encode_backward(net->abr, &net->pass, d, p->rows, p->index, n);
}

void m4n_net_zero(m4n_net *net) {
  m4n_zero(net->stream, net->params->g, (size_t)net->params->n * sizeof(m4n_real));
}
