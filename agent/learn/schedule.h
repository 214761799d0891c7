/* The learning rate of a step: it rises linearly over the warm-up, then falls along a cosine to the floor, or stays. */
#ifndef M4N_LEARN_SCHEDULE_H
#define M4N_LEARN_SCHEDULE_H

#include "agent/learn/stages.h"

#ifdef __cplusplus
extern "C" {
#endif

/* EARG with the key ("fit.lr") of what is out of range. */
int m4n_fit_check(const m4n_fit *fit);

/* Of step 0 … fit->steps − 1. */
double m4n_learning_rate(const m4n_fit *fit, int64_t step);

/* The decay of the averaged weights at a step: short at first, so that the average forgets what the weights were before
 * they were any good. min(ema, (1 + step)/(10 + step)). */
double m4n_ema_decay(const m4n_fit *fit, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
