/* A model as a policy needs it: shape, weights, and what its return token means. One .safetensors file; a teacher that
 * is a large checkpoint with LoRA has encoder and head in the file, and names the folders of backbone and adapter.
 *
 *     m4n_checkpoint c;
 *     M4N_TRY(m4n_checkpoint_read(&c, "student.safetensors"));
 *     m4n_engine_open(&engine, stream, &(m4n_engine_options){.config = c.config, …});
 *     M4N_TRY(m4n_checkpoint_load(&c, m4n_engine_net(engine)));
 *     g = m4n_return_target(&c.condition);                  // at an episode's start
 *     g = m4n_return_after(&c.condition, g, reward);        // after every decision
 */
#ifndef M4N_LEARN_CHECKPOINT_H
#define M4N_LEARN_CHECKPOINT_H

#include "agent/model/net.h"
#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a model was trained to be asked for (algorithms.md §4.4): rewards of the pool lie in [low, high], are mapped to
 * [0, 1], and the returns to go divided by `scale`; `target` is the largest of the pool, times a factor of the user's. */
typedef struct m4n_condition {
  double low, high, scale, target;
  char task[M4N_NAME], reward[64]; /* of the spec: a model trained for another reward is refused */
} m4n_condition;

static inline double m4n_reward_unit(const m4n_condition *c, double reward) {
  const double r = (reward - c->low) / (c->high - c->low);
  return r < 0 ? 0 : r > 1 ? 1 : r;
}
static inline double m4n_return_target(const m4n_condition *c) {
  return c->target;
}
static inline double m4n_return_after(const m4n_condition *c, double g, double reward) {
  return g - m4n_reward_unit(c, reward) / c->scale;
}

enum { M4N_PATH = 4096, M4N_ABOUT = 512 };

typedef struct m4n_checkpoint {
  char path[M4N_PATH];
  m4n_config config;
  m4n_condition condition;
  char base[M4N_PATH], adapter[M4N_PATH]; /* "": the file holds everything */
  char about[M4N_ABOUT];                  /* how it was made: "distil forward, labels: teacher" */
} m4n_checkpoint;

/* ENOTFOUND, EFORMAT. */
int m4n_checkpoint_read(m4n_checkpoint *checkpoint, const char *path);
/* Fills a net of its shape, with the adapter folded in. */
int m4n_checkpoint_load(const m4n_checkpoint *checkpoint, m4n_net *net);
/* Writes net->params (values NULL) or an average of them to checkpoint->path. */
int m4n_checkpoint_save(const m4n_checkpoint *checkpoint, const m4n_net *net, const m4n_real *values);

/* EUNSUPPORTED with what is different: the model was trained for another task or reward. */
int m4n_condition_check(const m4n_condition *condition, const m4n_spec *spec, const char *path);

#ifdef __cplusplus
}
#endif
#endif
