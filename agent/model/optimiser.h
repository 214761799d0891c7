/* AdamW over all trainable parameters of a model at once, with a clipped gradient.
 *
 *     m4n_optimiser *o;
 *     M4N_TRY(m4n_optimiser_open(&o, params, &(m4n_optimiser_options){.beta1 = 0.9, .beta2 = 0.95,
 *                                            .eps = 1e-8, .decay = 0.01, .clip = 1, .fresh = 3}));
 *     for (…) { m4n_zero(…params->g…); forward; backward; m4n_optimiser_step(o, schedule(i)); }
 *
 * A gradient that is not finite leaves the weights as they are and shows in m4n_optimiser_norm.
 */
#ifndef M4N_MODEL_OPTIMISER_H
#define M4N_MODEL_OPTIMISER_H

#include "agent/model/params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_optimiser_options {
  double beta1, beta2, eps;
  double decay; /* of matrices */
  double clip;  /* the largest norm of all gradients together; INFINITY: none */
  double fresh; /* learning rate of parts that weight reuse left new: times this */
} m4n_optimiser_options;

typedef struct m4n_optimiser m4n_optimiser;

int m4n_optimiser_open(m4n_optimiser **optimiser, m4n_params *params, const m4n_optimiser_options *options);
void m4n_optimiser_close(m4n_optimiser *optimiser); /* NULL is fine */

/* One step with params->g. Sync at least every 16 steps. */
void m4n_optimiser_step(m4n_optimiser *optimiser, double lr);
int64_t m4n_optimiser_steps(const m4n_optimiser *optimiser);
/* The norm of the last step's gradient before clipping; waits for it. */
int m4n_optimiser_norm(m4n_optimiser *optimiser, double *norm);

/* The moments as a checkpoint, to resume to the same bytes. */
int m4n_optimiser_save(const m4n_optimiser *optimiser, const char *path);
int m4n_optimiser_load(m4n_optimiser *optimiser, const char *path);

size_t m4n_optimiser_bytes(const m4n_params *params);

#ifdef __cplusplus
}
#endif
#endif
