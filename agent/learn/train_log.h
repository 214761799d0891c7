/* What a training run tells: train.csv, valid.csv, a line on the terminal.
 *
 * train.csv has a row every so many steps, with means over these steps: step, loss, its parts, agreement, grad_norm, lr,
 * and last what depends on the clock: tokens_per_s, seconds. The columns before those are the same in every run with the
 * same seed, resumed or not: a resumed run drops the rows behind its checkpoint.
 */
#ifndef M4N_LEARN_TRAIN_LOG_H
#define M4N_LEARN_TRAIN_LOG_H

#include <stdio.h>

#include "agent/learn/trainer.h"
#include "kernels/base/log.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_train_log {
  FILE *train, *valid;
  char *train_path, *valid_path;
  const m4n_objective *objective;
  int64_t log_every;
  m4n_progress progress;
  /* Since the last row. */
  int64_t steps, timed; /* timed: of them in this process */
  double part[M4N_MAX_PARTS], norm;
  m4n_agreement agreement;
  int64_t start_ns,
      aside_ns;   /* aside: what went into validation, rounds and checkpoints, and not into steps */
  double seconds; /* of the run, with those before it was resumed */
} m4n_train_log;

enum { M4N_TALLY = 512 };

/* Opens the tables in `work`: new ones at step 0, else the old ones up to `step`, and the sums since the last row as
 * m4n_train_log_tally wrote them. EIO. */
int m4n_train_log_open(m4n_train_log *log, const char *name, const char *work, const m4n_fit *fit,
                       const m4n_objective *objective, int64_t step, const char *tally);
void m4n_train_log_tally(const m4n_train_log *log, char tally[M4N_TALLY]);
/* Harmless on a zeroed one. EIO if something could not be written. */
int m4n_train_log_close(m4n_train_log *log);

/* A step has been done (`step` counts from 1): parts of its loss, gradient's norm, agreement, learning rate. */
void m4n_train_log_step(m4n_train_log *log, int64_t step, const double *part, double norm,
                        m4n_agreement agreement, double lr, bool last);
void m4n_train_log_valid(m4n_train_log *log, int64_t step, double measure, bool best);

#ifdef __cplusplus
}
#endif
#endif
