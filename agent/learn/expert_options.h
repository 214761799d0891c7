/* What the expert's training is told (expert.h). Data only, so that a scenario can hold it without the bridge. */
#ifndef M4N_LEARN_EXPERT_OPTIONS_H
#define M4N_LEARN_EXPERT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_expert_options {
  const char *checkpoint; /* to be written: weights averaged over the last steps */
  const char *work;       /* folder of train.csv and of what a resumed run goes on from; NULL: neither */
  bool resume;            /* go on from `work` where that is possible */
  int save_every;         /* updates between two savings; lanes then finish their episodes first */
  uint64_t seed;
  int64_t steps; /* decisions to train on */
  const char *
      guide; /* a policy to imitate first, so that no choice is given up before it was understood; NULL: none */
  int64_t guide_steps; /* decisions that it is imitated for */
  int lanes, horizon;  /* lanes played at once; decisions of a lane between updates */
  int width, layers;
  int batch, epochs;           /* rows of a minibatch, passes over what was played */
  double lr, lr_end;           /* learning rate, falling geometrically */
  double entropy, entropy_end; /* weight of the entropy bonus, falling geometrically */
  double gamma, lambda, clip;
  double reward_scale, reward_knee; /* r' = scale · r, and below the knee (< 0) only as the logarithm of r */
  double average;                   /* decay of the weights' average, per update */
} m4n_expert_options;

#ifdef __cplusplus
}
#endif
#endif
