/* A small actor-critic: layers of equal width over one row of features, logits and a value at the end.
 *
 * What the `expert` stage trains with policy gradients in the simulator: the source of good experience for teacher and student, not a
 * subject of the study.
 *
 *     m4n_actor *actor;
 *     M4N_TRY(m4n_actor_open(&actor, stream, &(m4n_actor_shape){.inputs = 54, .width = 128, .layers = 3, .choices = 6}, 4096, true));
 *     M4N_TRY(m4n_params_start(actor->params, M4N_ALL_SETS, seed));
 *     … rows into actor->x …
 *     m4n_actor_forward(actor, rows, true);                        // actor->out [rows][choices + 1]: logits, value
 *     … gradient into actor->d_out …
 *     m4n_actor_backward(actor, rows);                             // actor->params->g +=
 */
#ifndef M4N_MODEL_ACTOR_H
#define M4N_MODEL_ACTOR_H

#include "agent/model/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_ACTOR_MAX_LAYERS = 8, M4N_ACTOR_MAX_WIDTH = 4096 };

typedef struct m4n_actor_shape {
  int inputs, width, layers, choices;
} m4n_actor_shape;

typedef struct m4n_actor {
  m4n_actor_shape shape;
  m4n_stream *stream;
  m4n_params *params;
  int max_rows;
  m4n_real *x;     /* [max_rows][inputs], on the backend */
  m4n_real *out;   /* [max_rows][choices + 1] */
  m4n_real *d_out; /* likewise; only when opened for training */
  struct m4n_actor_private *private_;
} m4n_actor;

/* EARG for sizes out of range, ENOMEM, EDEVICE. Parameters are to be started or loaded. */
int m4n_actor_open(m4n_actor **actor, m4n_stream *stream, const m4n_actor_shape *shape, int max_rows,
                   bool train);
void m4n_actor_close(m4n_actor *actor); /* NULL is fine */

/* h_0 = x;  h_{i+1} = leaky_relu(W_i h_i + b_i);  out = W h_n + b. */
void m4n_actor_forward(m4n_actor *actor, int rows, bool train);
/* From d_out of the last forward with `train`. */
void m4n_actor_backward(m4n_actor *actor, int rows);

/* A checkpoint: weights, and shape and `about` (JSON text of the caller's, what the features were; may be NULL) in its metadata. `values`
 * as in m4n_params_save. */
int m4n_actor_save(const m4n_actor *actor, const char *path, const m4n_real *values, const char *about);
/* The shape and `about` of a checkpoint; ENOTFOUND if the file is no actor's. *about is freed by the caller. */
int m4n_actor_read(m4n_actor_shape *shape, char **about, const char *path);
int m4n_actor_load(m4n_actor *actor, const char *path);

#ifdef __cplusplus
}
#endif
#endif
