/* Inside of the expert: shared by acting (expert.c), learning (expert_learn.c), saving and resuming (expert_state.c). */
#ifndef M4N_LEARN_EXPERT_INTERNAL_H
#define M4N_LEARN_EXPERT_INTERNAL_H

#include "agent/learn/expert.h"
#include "agent/policy.h"
#include "agent/model/actor.h"
#include "agent/model/optimiser.h"
#include "kernels/base/arena.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

/* What a lane did since the last update: `count` transitions whose outcome is known, and one more that waits for it. */
typedef struct expert_lane {
  m4n_session *session;
  int32_t count;
  bool waiting,
      idle;    /* idle: its episode is over and no other was ordered, since the run is about to be saved */
  m4n_rng rng; /* of this episode's actions */
  m4n_real *x; /* [room][features] */
  int32_t *action;
  int32_t *guide; /* what the guide would have done */
  float *logp, *value, *reward, *advantage, *target;
  uint8_t *done;
} expert_lane;

struct m4n_expert {
  m4n_expert_options o;
  m4n_stream *stream;
  m4n_arena memory;
  m4n_features features;
  m4n_policy guide;      /* zeroed where there is none */
  uint8_t *guide_action; /* [spec act_size] */
  m4n_actor *actor;      /* opened with the first simulator, when its spec is known */
  m4n_optimiser *optimiser;
  m4n_real *average; /* [params->n], on the backend */
  expert_lane *lane; /* [lanes] */
  int room;          /* transitions of a lane */
  int64_t collected, done_steps, updates, next_episode;
  int64_t saved_at;          /* updates when the run was last saved */
  double reward_sum;         /* of the transitions since the last update, unscaled */
  m4n_real *x, *out, *d_out; /* host side of a pass */
  struct expert_place {
    int32_t lane, at;
  } * order;       /* of the minibatches: where a transition lies */
  int32_t *action; /* of a minibatch */
  int32_t *guided; /* likewise, while a guide is imitated */
  float *logp, *advantage, *target;
  FILE *log;
  m4n_error failure; /* why no simulator can be learned from */
  m4n_progress progress;
};

/* Runs `rows` rows of x; their logits and values are in `out`. */
int expert_run(m4n_expert *expert, int rows, bool train);
/* Whether the guide is still being imitated. */
bool expert_guided(const m4n_expert *expert);
/* Learns from what the lanes did since the last update, and forgets it. */
int expert_update(m4n_expert *expert);

/* Writes weights, their average, moments and counters into o.work: all of it, or the last saving stays. */
int expert_save(m4n_expert *expert);
/* Continues from o.work, if anything is there. */
int expert_load(m4n_expert *expert);
/* Opens train.csv, cut back to what the resumed run had written. */
int expert_log_open(m4n_expert *expert);

#endif
