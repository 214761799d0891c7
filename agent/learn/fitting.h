/* A model that is fitted to pools, as a stage runs it: training with validation by playing, from an open net to the
 * checkpoint that the stage writes. What adapt and distil share.
 */
#ifndef M4N_LEARN_FITTING_H
#define M4N_LEARN_FITTING_H

#include "agent/learn/imitation.h"
#include "agent/learn/workshop.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_fitting {
  const char *name; /* of the stage */
  const m4n_workshop *workshop;
  const m4n_fit *fit;
  m4n_net *net;
  const m4n_spec *spec; /* its first metric is what validation measures; NULL: to be set by the first round */
  m4n_checkpoint checkpoint; /* what is written but for the weights and the path */
  m4n_objective objective;   /* validation is added to it, with this as the owner */
  const char *identity;
  void *stage; /* the stage's own, for its rounds */
} m4n_fitting;

/* Trains, writes `out`, and leaves only tables in the stage's folder. */
int m4n_fitting_run(m4n_fitting *fitting, const char *out);

/* Writes the model with `weights` (NULL: the net's) to a file of that name in the stage's folder, for somebody to play. */
int m4n_fitting_export(m4n_fitting *fitting, const m4n_real *weights, const char *name, char path[M4N_PATH]);

#ifdef __cplusplus
}
#endif
#endif
