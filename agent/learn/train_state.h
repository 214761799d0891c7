/* A training run's checkpoint: everything that the next step depends on.
 *
 * A folder "step-000000000200" in the run's folder, written under another name and renamed when it is whole, then the
 * older one removed: at any moment there is one to go on from. It holds weights.safetensors (trainable weights, their
 * average, the best so far, and where the run is) and optimiser.safetensors (its moments).
 */
#ifndef M4N_LEARN_TRAIN_STATE_H
#define M4N_LEARN_TRAIN_STATE_H

#include <stdbool.h>

#include "agent/learn/train_log.h"
#include "agent/model/optimiser.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_train_state {
  int64_t step;      /* steps done */
  double start_loss; /* of the first step; NaN: there was none yet */
  double best;       /* measure; −INFINITY: nothing was validated yet */
  int64_t best_step;
  int unimproved; /* validations since the best one */
  bool stopped;   /* validation has ended the run */
  /* On the backend, params->n elements each; NULL: there is none. */
  m4n_params *params;
  m4n_optimiser *optimiser;
  m4n_real *average, *best_weights;
  const char *identity;
  char tally[M4N_TALLY]; /* sums of the table's next row (train_log.h) */
} m4n_train_state;

/* Writes a checkpoint into the folder `work`. EIO, ENOMEM. */
int m4n_train_state_save(const m4n_train_state *state, const char *work);

/* Reads the newest one, if there is one (*found), into memory that is there. EARG with the first key of the identity that
 * is different; EFORMAT. */
int m4n_train_state_load(m4n_train_state *state, const char *work, bool *found);

/* Removes all checkpoints. */
int m4n_train_state_clear(const char *work);

/* EARG with the first key that differs between two identities; `where` is the folder for the message. */
int m4n_identity_check(const char *theirs, const char *ours, const char *where);

#ifdef __cplusplus
}
#endif
#endif
