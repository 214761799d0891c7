/* A model as a policy needs it: shape, weights, and what its return token means. One .safetensors file; a teacher that
 * is a large checkpoint with LoRA has encoder and head in the file, and names the folders of backbone and adapter.
 *
 *     m4n_checkpoint c;
 *     M4N_TRY(m4n_checkpoint_read(&c, "student.safetensors"));
 *     M4N_TRY(m4n_condition_check(&c.condition, spec, c.path));
 *     m4n_engine_open(&engine, stream, &(m4n_engine_options){.config = c.config, .format = m4n_checkpoint_format(&c), …});
 *     M4N_TRY(m4n_checkpoint_load(&c, m4n_engine_net(engine)));
 *     double g = c.condition.target;                        // at an episode's start: times a factor of the user's
 *     g = m4n_return_after(&c.condition, g, reward);        // after every decision
 */
#ifndef M4N_LEARN_CHECKPOINT_H
#define M4N_LEARN_CHECKPOINT_H

#include "agent/model/net.h"
#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_WORLD = 256 };

/* What a model was trained to be asked for (algorithms.md §4.4): rewards of the pool lie in [low, high], are mapped to
 * [0, 1], and the returns to go divided by `scale`; `target` is the largest of the pool. */
typedef struct m4n_condition {
  double low, high, scale, target;
  char task[M4N_NAME], reward[64]; /* the spec's; task "": nobody has trained the model yet */
  char world[M4N_WORLD];           /* what its choices mean, as m4n_condition_world says it */
} m4n_condition;

/* r' of §4.4: 0 … 1, also for rewards that the pool never saw. */
static inline double m4n_reward_unit(const m4n_condition *c, double reward) {
  const double r = c->high > c->low ? (reward - c->low) / (c->high - c->low) : 0;
  return r < 0 ? 0 : r > 1 ? 1 : r;
}
/* What is left of the return `g` once `reward` has come. */
static inline double m4n_return_after(const m4n_condition *c, double g, double reward) {
  return g - m4n_reward_unit(c, reward) / c->scale;
}

/* The ladder and the seconds of a chunk: "ladder 300 750 1200 kbit/s, chunks of 4 s". A level by its number alone would mean
 * something else on another ladder. "" for a spec that states neither. */
void m4n_condition_world(char world[M4N_WORLD], const m4n_spec *spec);

/* EUNSUPPORTED with what is different: the model was trained for another task, reward, ladder or chunk duration, or not
 * at all. */
int m4n_condition_check(const m4n_condition *condition, const m4n_spec *spec, const char *path);

/* In a file's metadata; EFORMAT with the key. The second makes up to four entries of it, whose values lie in the condition
 * and in `text`, and returns how many. */
int m4n_condition_read(m4n_condition *condition, const m4n_safetensors *file, const char *path);
enum { M4N_CONDITION_TEXT = 128 };
int m4n_condition_metadata(const m4n_condition *condition, char text[M4N_CONDITION_TEXT], m4n_metadata to[4]);

enum { M4N_PATH = 4096, M4N_ABOUT = 384 };

typedef struct m4n_checkpoint {
  char path[M4N_PATH];
  m4n_config config;
  m4n_condition condition;
  char base[M4N_PATH];    /* where the backbone is; "": in the file */
  char adapter[M4N_PATH]; /* PEFT folder to be folded into it; "": none */
  char about[M4N_ABOUT];  /* how it was made: "distil, forward KL, labels: teacher" */
} m4n_checkpoint;

/* ENOTFOUND, EFORMAT. Paths in the file are relative to its folder. */
int m4n_checkpoint_read(m4n_checkpoint *checkpoint, const char *path);
/* Fills a net of its shape, with the adapter folded in. */
int m4n_checkpoint_load(const m4n_checkpoint *checkpoint, m4n_net *net);
/* How its weights are kept for inference: bf16 for a backbone from elsewhere, m4n_real otherwise. */
int m4n_checkpoint_format(const m4n_checkpoint *checkpoint);

/* Writes net's weights (values NULL) or an average of what is trained to checkpoint->path, in float32. A net with LoRA
 * or a frozen backbone writes encoder and head, refers to checkpoint->base, and puts its adapter into a folder beside
 * the file ("teacher-adapter" of "teacher.safetensors"), which `checkpoint->adapter` is set to. */
int m4n_checkpoint_save(m4n_checkpoint *checkpoint, const m4n_net *net, const m4n_real *values);

/* XXH3 of all files that make the model but the base. EIO. */
int m4n_checkpoint_hash(const m4n_checkpoint *checkpoint, uint64_t *hash);

#ifdef __cplusplus
}
#endif
#endif
