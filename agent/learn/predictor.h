/* A trained network behind a policy: logits over the choices of an action, for rows of the lanes that it follows. What
 * kind of network a checkpoint holds is its own affair; how one chooses by the logits is the policy's (model_policy.h).
 *
 *     m4n_predictor *p;
 *     M4N_TRY(m4n_predictor_open(&p, "model/student.safetensors", &options));
 *     p->begin(p, slot);                                          // an episode starts in a slot
 *     M4N_TRY(p->predict(p, &batch, logits, value));              // one decision of each row's episode
 *     p->close(p);
 *
 * What was done is read off the next row (its last level), since with a fallback that is not what was decided.
 */
#ifndef M4N_LEARN_PREDICTOR_H
#define M4N_LEARN_PREDICTOR_H

#include "agent/policy.h"
#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_predictor {
  int choices;
  char about[448]; /* how it was made, "distil, forward KL, labels: teacher", and how it decides */
  void (*begin)(struct m4n_predictor *self, int32_t slot);
  /* logits [n][choices], value [n] (NAN where the network has none). EDEVICE. Does not allocate. */
  int (*predict)(struct m4n_predictor *self, const m4n_batch *batch, m4n_real *logits, float *value);
  void (*close)(struct m4n_predictor *self);
} m4n_predictor;

typedef struct m4n_predictor_options {
  const m4n_spec *spec;
  int slots;
  m4n_stream *stream;
  bool named;    /* the user said some of these three for this very policy */
  int context;   /* enum m4n_context; −1: not said */
  int weights;   /* enum m4n_weight_format; −1: as the checkpoint has them */
  double target; /* factor on the return that is asked for; 0: not said */
} m4n_predictor_options;

/* EUNSUPPORTED with what differs, if the checkpoint was not made for such a simulator, and for settings that were named
 * and that its network does not know. ENOTFOUND, EFORMAT, ENOMEM, EDEVICE. */
int m4n_predictor_open(m4n_predictor **predictor, const char *path, const m4n_predictor_options *options);

/* The kinds there are: a chain over the episode's past (checkpoint.h), and the expert's actor, which sees one row. */
int m4n_predict_sequence_open(m4n_predictor **predictor, const char *path,
                              const m4n_predictor_options *options);
int m4n_predict_actor_open(m4n_predictor **predictor, const char *path, const m4n_predictor_options *options);

#ifdef __cplusplus
}
#endif
#endif
