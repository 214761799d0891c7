/* A model of a task: encoder, backbone, head. Teacher and student are the same thing with other shapes.
 *
 *     m4n_net *net;
 *     M4N_TRY(m4n_net_open(&net, stream, &(m4n_net_options){.config = config, .sequences = 16, .train = true}));
 *     M4N_TRY(m4n_net_start(net, seed));                       // or m4n_net_load(net, "student.safetensors")
 *     for each batch:
 *       fill net->rows [B·steps][features] and net->index [B·steps·8]         // m4n_net_row, m4n_net_set_step
 *       m4n_net_forward(net, B, steps, true);                  // net->logits [B·steps][levels], on the backend
 *       … losses write net->d_logits …
 *       m4n_net_zero(net);
 *       m4n_net_backward(net);                                 // net->params->g
 *
 * With `value` a second head says what a step is worth, V = v·h + c of the hidden state that the answer is read from. Its
 * gradient ends there: the rest of the model is moved by its answers alone. It starts with m4n_params_start(…,
 * M4N_SET_VALUE, …), at 0, and no file of a model holds it.
 *
 * Memory is taken once, when opened, in four parts: weights; gradients (and the optimiser's state beside them); what a
 * forward leaves for its backward; scratch. Nothing is allocated afterwards.
 */
#ifndef M4N_MODEL_NET_H
#define M4N_MODEL_NET_H

#include "agent/model/abr.h"
#include "agent/model/chain.h"
#include "agent/model/config.h"
#include "agent/model/lora.h"
#include "agent/model/params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_net_options {
  m4n_config config;
  int sequences; /* of a pass, at most */
  int steps;     /* of a sequence, at most; 0: config.abr.window */
  int tokens;    /* of a sequence, for a backbone without a task (config.abr.levels 0) */
  bool train;
  bool freeze;    /* the backbone's own weights are not trained; LoRA freezes them anyway */
  m4n_lora lora;  /* rank 0: none */
  int format;     /* enum m4n_weight_format of the backbone's products where they are not trained */
  bool recompute; /* see chain.h */
  bool taps;
  bool value;      /* a value head beside the task's */
  m4n_lanes lanes; /* for decoding */
} m4n_net_options;

typedef struct m4n_net {
  m4n_net_options options;
  m4n_stream *stream;
  m4n_params *params;
  m4n_chain *chain;
  m4n_abr *abr; /* NULL: no task */
  int features, levels;
  /* The next batch, on the host, to be written by the caller. */
  m4n_real *rows;
  int32_t *index;
  const uint32_t *dropout; /* [2] on the backend, the caller's; NULL: no dropout */
  /* On the backend. */
  m4n_real *logits, *d_logits;
  m4n_real *values, *d_values; /* [B·steps] of the value head; NULL: there is none */
  m4n_pass pass;               /* the last one */
  struct m4n_net_private *private_;
} m4n_net;

int m4n_net_open(m4n_net **net, m4n_stream *stream, const m4n_net_options *options);
void m4n_net_close(m4n_net *net); /* NULL is fine */

/* Memory in bytes. */
typedef struct m4n_net_bytes {
  size_t weights, gradients, saved, scratch, state;
} m4n_net_bytes;
m4n_net_bytes m4n_net_memory(const m4n_net *net);

/* All parameters from a seed. */
int m4n_net_start(m4n_net *net, uint64_t seed);
/* Backbone and task from a file of ours. */
int m4n_net_load(m4n_net *net, const char *path);
/* The backbone alone, from a Hugging Face folder or a file of ours; with `adapter`, a PEFT folder, folded in. */
int m4n_net_load_backbone(m4n_net *net, const char *path, const char *adapter);
/* Writes a file of ours: what is trained, or all. values: NULL, or an average of params->w to be written instead. */
int m4n_net_save(const m4n_net *net, const char *path, int type, const m4n_real *values);

/* Row of features of a step of a sequence, in a batch of sequences of `steps` steps. */
static inline m4n_real *m4n_net_row(const m4n_net *net, int sequence, int step, int steps) {
  return net->rows + ((size_t)sequence * (size_t)steps + (size_t)step) * (size_t)net->features;
}
/* Says which step of its episode it is; < 0: padding. */
void m4n_net_set_step(m4n_net *net, int sequence, int step, int steps, int of_episode);

/* Runs the batch of B sequences of `steps` steps in net->rows and net->index. length [B] tokens that count, on the
 * backend, or NULL. */
void m4n_net_forward(m4n_net *net, int B, int steps, bool train, const int32_t *length);
/* Adds to the gradients of all that is trained, from net->d_logits of the last forward (which was one of training). */
void m4n_net_backward(m4n_net *net);
void m4n_net_zero(m4n_net *net); /* the gradients */

#ifdef __cplusplus
}
#endif
#endif
