#include "agent/model/chain.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/status.h"

struct m4n_chain {
  m4n_backend *backend;
  int d, max_B, max_T;
  int n;
  m4n_block **block;
  int layers, *behind; // blocks up to each layer
  // After planning.
  m4n_chain_plan_options options;
  char *saved, *scratch_memory, *state_memory;
  m4n_real **stream; // [n + 1]; one and the same where the stream is not kept
  void **work, **state;
  m4n_real *gradient, *again; // [rows][d]; `again`: the output of a repeated forward, which nobody reads
  void *scratch;
  const m4n_real **inject; // [n + 1]
};

// ---- declaring -------------------------------------------------------------------------------------------------------

static int add_block(m4n_chain *chain, m4n_builder *at, const m4n_block_kind *kind, const char *prefix,
                     const m4n_backbone *config) {
  m4n_builder local = *at;
  local.prefix = prefix;
  // Adapters belong to the layers of a Llama; a Mamba mixer is trained itself.
  if (kind != &m4n_attention_block && kind != &m4n_ffn_block) local.lora.rank = 0;
  int status = kind->declare(&chain->block[chain->n], &local, config);
  at->dropouts = local.dropouts;
  if (!status) chain->n++;
  return status;
}

static int add_layer(m4n_chain *chain, m4n_builder *at, int layer, const m4n_backbone *config) {
  char prefix[64];
  snprintf(prefix, sizeof prefix, config->hf_mamba ? "layers.%d." : "model.layers.%d.", layer);
  const bool mamba = layer < config->mamba_layers;
  M4N_TRY(add_block(chain, at,
                    !mamba                             ? &m4n_attention_block
                    : config->mixer == M4N_MIXER_MAMBA ? &m4n_mamba_block
                                                       : &m4n_mamba1_block,
                    prefix, config));
  if (config->ffn && (!mamba || config->mamba_ffn))
    M4N_TRY(add_block(chain, at, &m4n_ffn_block, prefix, config));
  chain->behind[layer] = chain->n;
  return M4N_OK;
}

int m4n_chain_declare(m4n_chain **out, m4n_builder *at, const m4n_backbone *config) {
  const int layers = config->mamba_layers + config->attention_layers, most = 2 * layers + 1;
  m4n_chain *chain = *out = m4n_arena_alloc(at->arena, sizeof *chain);
  if (!chain) return M4N_ENOMEM;
  *chain = (m4n_chain){.backend = m4n_stream_backend(at->params->stream),
                       .d = config->d,
                       .max_B = at->max_B,
                       .max_T = at->max_T,
                       .layers = layers};
  const size_t n = (size_t)most;
  chain->block = m4n_arena_alloc(at->arena, n * sizeof *chain->block);
  chain->behind = m4n_arena_alloc(at->arena, (size_t)layers * sizeof *chain->behind);
  chain->stream = m4n_arena_alloc(at->arena, (n + 1) * sizeof *chain->stream);
  chain->work = m4n_arena_alloc(at->arena, n * sizeof *chain->work);
  chain->state = m4n_arena_alloc(at->arena, n * sizeof *chain->state);
  chain->inject = m4n_arena_alloc(at->arena, (n + 1) * sizeof *chain->inject);
  if (!chain->block || !chain->behind || !chain->stream || !chain->work || !chain->state || !chain->inject)
    return M4N_ENOMEM;
  // What writes the residual stream starts smaller, the more layers write it: GPT-2's 1/√(2·layers).
  at->write = 1 / sqrt(2.0 * layers);
  for (int i = 0; i < layers; i++) M4N_TRY(add_layer(chain, at, i, config));
  return add_block(chain, at, &m4n_norm_block, config->hf_mamba ? "norm_f." : "model.norm.", config);
}

// ---- planning --------------------------------------------------------------------------------------------------------

// The stream (one array for each block, or one for all), then what blocks leave for their backward (likewise).
static void place_saved(m4n_chain *chain, m4n_layout *at) {
  const m4n_chain_plan_options *o = &chain->options;
  const size_t stream = (size_t)chain->max_B * (size_t)chain->max_T * (size_t)chain->d;
  const bool keep = o->train || o->taps, own = o->train && !o->recompute;
  for (int i = 0; i <= chain->n; i++)
    chain->stream[i] = keep || i == 0 ? m4n_place(at, stream) : chain->stream[0];
  size_t most = 0;
  for (int i = 0; i < chain->n; i++) {
    const size_t bytes = chain->block[i]->kind->work(chain->block[i], chain->max_B, chain->max_T);
    if (own) chain->work[i] = m4n_place_bytes(at, bytes);
    if (bytes > most) most = bytes;
  }
  if (own) return;
  void *shared = m4n_place_bytes(at, most);
  for (int i = 0; i < chain->n; i++) chain->work[i] = shared;
}

static void place_scratch(m4n_chain *chain, m4n_layout *at) {
  const m4n_chain_plan_options *o = &chain->options;
  if (!o->train) return;
  const size_t stream = (size_t)chain->max_B * (size_t)chain->max_T * (size_t)chain->d;
  chain->gradient = m4n_place(at, stream);
  chain->again = o->recompute ? m4n_place(at, stream) : NULL;
  size_t most = 0;
  for (int i = 0; i < chain->n; i++) {
    const size_t bytes = chain->block[i]->kind->scratch(chain->block[i], chain->max_B, chain->max_T);
    if (bytes > most) most = bytes;
  }
  chain->scratch = m4n_place_bytes(at, most);
}

static void place_state(m4n_chain *chain, m4n_layout *at) {
  for (int i = 0; i < chain->n; i++) {
    m4n_block *b = chain->block[i];
    b->lanes = chain->options.lanes;
    chain->state[i] = b->lanes.slots && b->kind->state ? m4n_place_bytes(at, b->kind->state(b)) : NULL;
  }
}

// Memory NULL: bytes are counted, and addresses are none.
static m4n_chain_bytes place_all(m4n_chain *chain) {
  m4n_layout saved = {.base = chain->saved}, scratch = {.base = chain->scratch_memory},
             state = {.base = chain->state_memory};
  place_saved(chain, &saved);
  place_scratch(chain, &scratch);
  place_state(chain, &state);
  return (m4n_chain_bytes){saved.used, scratch.used, state.used};
}

m4n_chain_bytes m4n_chain_measure(m4n_chain *chain, const m4n_chain_plan_options *options) {
  // A copy without memory; its arrays of addresses are the chain's own, so they are placed again.
  m4n_chain dry = *chain;
  dry.options = *options;
  dry.saved = dry.scratch_memory = dry.state_memory = NULL;
  const m4n_chain_bytes bytes = place_all(&dry);
  place_all(chain);
  return bytes;
}

int m4n_chain_plan(m4n_chain *chain, const m4n_chain_plan_options *options) {
  assert(!chain->saved);
  chain->options = *options;
  const m4n_chain_bytes bytes = place_all(chain);
  chain->saved = m4n_alloc(chain->backend, bytes.saved);
  chain->scratch_memory = m4n_alloc(chain->backend, bytes.scratch);
  chain->state_memory = m4n_alloc(chain->backend, bytes.state);
  if (!chain->saved || !chain->scratch_memory || !chain->state_memory)
    return m4n_context(m4n_last_error()->status,
                       "activations of %d sequences of %d tokens (fewer, shorter, or recompute)",
                       chain->max_B, chain->max_T);
  place_all(chain);
  return M4N_OK;
}

void m4n_chain_release(m4n_chain *chain) {
  if (!chain) return;
  m4n_free(chain->backend, chain->saved);
  m4n_free(chain->backend, chain->scratch_memory);
  m4n_free(chain->backend, chain->state_memory);
  chain->saved = chain->scratch_memory = chain->state_memory = NULL;
}

int m4n_chain_width(const m4n_chain *chain) {
  return chain->d;
}
int m4n_chain_blocks(const m4n_chain *chain) {
  return chain->n;
}
const m4n_block *m4n_chain_block(const m4n_chain *chain, int index) {
  return chain->block[index];
}
int m4n_chain_behind_layer(const m4n_chain *chain, int layer) {
  return chain->behind[layer];
}

// ---- running ---------------------------------------------------------------------------------------------------------

m4n_real *m4n_chain_input(const m4n_chain *chain) {
  return chain->stream[0];
}

m4n_real *m4n_chain_forward(const m4n_chain *chain, const m4n_pass *pass) {
  assert(pass->B <= chain->max_B && pass->T <= chain->max_T && (chain->options.train || !pass->train));
  for (int i = 0; i < chain->n; i++) {
    const m4n_block *b = chain->block[i];
    b->kind->forward(b, pass, chain->stream[i + 1], chain->stream[i], chain->work[i]);
  }
  return chain->stream[chain->n];
}

m4n_real *m4n_chain_decode(const m4n_chain *chain, const m4n_pass *pass) {
  assert(pass->B * pass->T <= chain->max_B * chain->max_T && pass->T <= chain->options.lanes.step &&
         !pass->train);
  for (int i = 0; i < chain->n; i++) {
    const m4n_block *b = chain->block[i];
    b->kind->decode(b, pass, chain->stream[i + 1], chain->stream[i], chain->state[i], chain->work[i]);
  }
  return chain->stream[chain->n];
}

m4n_real *m4n_chain_gradient(const m4n_chain *chain) {
  return chain->gradient;
}

static void add_injected(const m4n_chain *chain, const m4n_pass *pass, int blocks) {
  const int64_t n = (int64_t)pass->B * pass->T * chain->d;
  if (chain->inject[blocks]) m4n_add(pass->s, chain->gradient, chain->gradient, chain->inject[blocks], n);
}

void m4n_chain_backward(const m4n_chain *chain, const m4n_pass *pass) {
  add_injected(chain, pass, chain->n);
  for (int i = chain->n - 1; i >= 0; i--) {
    const m4n_block *b = chain->block[i];
    if (chain->options.recompute) b->kind->forward(b, pass, chain->again, chain->stream[i], chain->work[i]);
    b->kind->backward(b, pass, chain->gradient, chain->stream[i], chain->work[i], chain->scratch);
    add_injected(chain, pass, i);
  }
}

const m4n_real *m4n_chain_tap(const m4n_chain *chain, int blocks) {
  assert(chain->options.train || chain->options.taps);
  return chain->stream[blocks];
}

void m4n_chain_inject(m4n_chain *chain, int blocks, const m4n_real *gradient) {
  chain->inject[blocks] = gradient;
}

void m4n_chain_reset(const m4n_chain *chain, m4n_stream *s, int slot) {
  for (int i = 0; i < chain->n; i++) {
    const m4n_block *b = chain->block[i];
    if (b->kind->reset) b->kind->reset(b, s, chain->state[i], slot);
  }
}
