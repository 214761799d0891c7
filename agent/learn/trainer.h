/* Training: batch, forward, loss, backward, step, average; validation, checkpoints and what is told of it. What is fitted
 * to what is an objective; this is what all of them share.
 *
 *     m4n_trainer *trainer;
 *     M4N_TRY(m4n_trainer_open(&trainer, &(m4n_trainer_options){.name = "adapt", .net = net, .fit = fit, .objective = &o,
 *                              .work = "runs/x/adapt", .identity = text, .resume = true, .seed = 1, .stop = stop}));
 *     int status = m4n_trainer_run(trainer);
 *     … m4n_trainer_weights(trainer) is what came out …
 *     m4n_trainer_close(trainer);
 *
 * The folder `work` holds train.csv, valid.csv (train_log.h) and one checkpoint (train_state.h). After kill -9 the run goes
 * on from there and ends with the bytes that it would have had: batches are named by (seed, step), not by what was drawn
 * before. Nothing is allocated in an iteration.
 */
#ifndef M4N_LEARN_TRAINER_H
#define M4N_LEARN_TRAINER_H

#include "agent/learn/stages.h"
#include "agent/model/net.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_MAX_PARTS = 8 };

/* What a step's batch had to say. */
typedef struct m4n_agreement {
  int64_t agreed, answers; /* likeliest class equal to the target's, of all that count */
} m4n_agreement;

/* What a model is fitted to, and how its stage looks after it. Steps count from 0. */
typedef struct m4n_objective {
  void *self; /* first argument of batch, loss and look */
  int parts;  /* of the loss, which is their sum */
  const char *part[M4N_MAX_PARTS];
  int tokens; /* of a batch */
  /* Fills the net's batch for a step, and what the loss needs. */
  int (*batch)(void *self, int64_t step);
  /* Runs the net forward, writes its d_logits and the parts [parts] of the loss (all on the backend). */
  void (*loss)(void *self, m4n_real *parts);
  /* After the stream is done. NULL: nothing to say. */
  void (*look)(void *self, m4n_agreement *agreement);
  void *owner; /* first argument of validate, due and round */
  /* How good the model is, higher is better, with weights in place of params->w (NULL: these). NULL: no validation. */
  int (*validate)(void *owner, int64_t step, const m4n_real *weights, double *measure);
  /* Once before the first step of a run (of a resumed one too), and before every step that is due, when a checkpoint of
   * that step has been written: rounds of playing. Both NULL: none. */
  bool (*due)(void *owner, int64_t step);
  int (*round)(void *owner, int64_t step, const m4n_real *weights);
} m4n_objective;

typedef struct m4n_trainer_options {
  const char *name; /* of the stage, for what is told */
  m4n_net *net;
  const m4n_fit *fit;
  const m4n_objective *objective;
  const char *work, *identity; /* identity: lines "key=value" of all that the result depends on */
  bool resume;
  uint64_t seed;
  const m4n_stop *stop;
} m4n_trainer_options;

typedef struct m4n_trainer m4n_trainer;

/* With `resume`, goes on from the checkpoint in `work` if there is one; EARG naming the first key that is different if it
 * was made with another identity. Else whatever is in `work` is removed. */
int m4n_trainer_open(m4n_trainer **trainer, const m4n_trainer_options *options);
void m4n_trainer_close(m4n_trainer *trainer); /* NULL is fine */

/* To the last step, or until validation has not improved for `patience` times. ECANCELLED after a checkpoint, when asked to
 * stop. EDIVERGED: no checkpoint is written any more. What the objective's functions return. */
int m4n_trainer_run(m4n_trainer *trainer);

/* What a stage writes: the best validated weights, else the average, else NULL (params->w). */
const m4n_real *m4n_trainer_weights(const m4n_trainer *trainer);
int64_t m4n_trainer_steps(const m4n_trainer *trainer); /* done so far */

#ifdef __cplusplus
}
#endif
#endif
