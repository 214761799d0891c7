/* The stages of learning: files in, files out. What the `train` command runs one after another.
 *
 *     collect   event logs of behaviour policies              (the command's own, over the bridge)
 *     adapt     event logs → a teacher
 *     reuse     a teacher → a student that has its weights     (agent/model/reuse.h)
 *     label     event logs, a teacher or another labeller → the labeller's answers to what is in the logs
 *     distil    event logs, labels, a first student → a student
 *     tune      a student → the same after a policy gradient in the simulator
 *
 *     m4n_adapt_options o = {.stage = {.device = "auto", .pool = pool, .stop = stop, .seed = 1, .resume = true,
 *                                      .work = "runs/x/adapt", .hooks = &hooks},
 *                            .fit = m4n_fit_usual(), .events = &events, .n_events = 1,
 *                            .preset = "mini", .out = "runs/x/model/teacher.safetensors"};
 *     M4N_TRY(m4n_adapt(&o));
 *
 * Every stage writes into its own folder `work` (checkpoints, train.csv) and, when it is done and not before, `out`.
 * With `resume` a stage whose `out` is there returns at once, and one that was killed goes on from its last
 * checkpoint to the bytes that an undisturbed run would have written; what was made with other options or from other
 * inputs is refused (EARG, naming the folder). Without `resume` it begins anew and removes what lies in `work`.
 * A stage that is asked to stop writes a checkpoint and returns ECANCELLED. EDIVERGED: a loss or gradient that is no
 * number, or a loss that grew tenfold; the last good checkpoint stays.
 *
 * Results depend on inputs, options and seed alone: not on threads, and not on how often the stage was interrupted.
 */
#ifndef M4N_LEARN_STAGES_H
#define M4N_LEARN_STAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/pool.h"
#include "kernels/base/stop.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what a stage needs of its surroundings ------------------------------------------------------------------------ */

/* Episodes to be played over the bridge: first_episode … first_episode + episodes − 1 of a set. */
typedef struct m4n_play {
  const char *policy; /* a policy's name, or the path of a checkpoint (….safetensors) */
  int set;            /* m4n_set of sim/spec.h */
  int64_t first_episode, episodes;
  uint64_t seed;       /* of the episodes and of sampled actions */
  bool sample;         /* a model draws its actions; else it takes the likeliest */
  bool advice;         /* the simulator's oracle advises on every row, and the log keeps it */
  const char *events;  /* the event log to write, whole or not at all; NULL: none */
  double *mean_metric; /* out: mean of the task's first metric; NULL: not wanted */
} m4n_play;

/* How a stage has a policy play without knowing how. The same order gives the same episodes. ECANCELLED on a stop. */
typedef struct m4n_stage_hooks {
  void *self;
  int (*play)(void *self, const m4n_play *play);
} m4n_stage_hooks;

typedef struct m4n_stage {
  const char *device;   /* "cpu", "cuda", "auto" */
  m4n_pool *pool;       /* may be NULL */
  const m4n_stop *stop; /* may be NULL */
  uint64_t seed;
  bool resume;
  const char *work;             /* folder, made if it is missing */
  const m4n_stage_hooks *hooks; /* NULL: no validation by playing, no on-policy part */
} m4n_stage;

/* ---- fitting: what adapt and distil share -------------------------------------------------------------------------- */

enum m4n_schedule_kind { M4N_LR_COSINE, M4N_LR_CONSTANT };

typedef struct m4n_fit {
  int64_t steps; /* of the optimiser */
  int batch;     /* windows of a step */
  double lr;
  int schedule;  /* enum m4n_schedule_kind; both after a linear warm-up */
  double warmup; /* share of the steps */
  double floor;  /* cosine ends at this share of lr */
  double beta1, beta2, decay, clip;
  double fresh; /* learning rate of what weight reuse left new: times this */
  double ema; /* decay of the averaged weights, which are validated and written; 0: the weights themselves */
  int64_t log_every, save_every;
  /* Validation: the model plays this many episodes of the valid set (hooks->play) every so many steps, and the best one
   * is what the stage writes. valid_episodes 0: none, the last one is written. */
  int64_t valid_every, valid_episodes;
  int patience; /* stops after so many validations without a better one; 0: never */
} m4n_fit;

/* algorithms.md §11: 1000 steps of 32 windows, lr 3e-4, cosine to 10 %, warm-up 3 %, AdamW (0.9, 0.95), decay 0.01,
 * clip 1, fresh 1, EMA 0.999, a line every 10 steps, a checkpoint every 200, no validation. */
m4n_fit m4n_fit_usual(void);

enum m4n_weighting { M4N_WEIGHT_NONE, M4N_WEIGHT_ADVANTAGE };

/* ---- adapt: a teacher by return-conditioned cross-entropy (§4.4, §7.2) --------------------------------------------- */

typedef struct m4n_adapt_options {
  m4n_stage stage;
  m4n_fit fit;
  const char *const *events; /* event logs, together the pool */
  int n_events;
  const char *preset; /* shape of a new model: "mini", …; NULL: the shape that `base` has */
  const char
      *base; /* NULL: begins with weights from the seed. A file of ours: goes on from all of it. A Hugging
                        * Face folder: its backbone, a new encoder and head */
  struct {
    int rank; /* 0: none, everything is trained; else the backbone is frozen */
    double alpha, dropout;
    const char *const *targets; /* "q_proj", … */
    int n_targets;
  } lora;
  int attention_layers; /* of a new model: so many and no others; 0: the preset's layers */
  int window;           /* steps of a window; 0: the model's */
  double rtg_scale;     /* of the return-to-go; 0: the pool's largest return, 1000: as published */
  int weighting;        /* enum m4n_weighting */
  const char
      *out; /* a checkpoint (agent/learn/checkpoint.h); with LoRA the adapter goes to the folder `out` minus
                     * ".safetensors" plus "-adapter" */
} m4n_adapt_options;

int m4n_adapt(const m4n_adapt_options *options);

/* ---- label: somebody's answers to what is in event logs (§7.2) ------------------------------------------------------ */

enum m4n_labeller {
  M4N_LABEL_TEACHER, /* a checkpoint's distributions, window by window: the paper's method */
  M4N_LABEL_EXPERT,  /* a policy's distribution on every row, or its choice where it has none */
  M4N_LABEL_ORACLE   /* the simulator's advice, which knows the future, as the log has kept it */
};

typedef struct m4n_label_options {
  m4n_stage stage;
  const char *const *events;
  int n_events;
  int labeller;        /* enum m4n_labeller; named in every output */
  const char *teacher; /* TEACHER: the checkpoint */
  const char *expert;  /* EXPERT: the policy's name */
  int batch;           /* windows (rows) of a pass; 0: 64 */
  int stride;          /* TEACHER: a window begins at every stride-th step of an episode; 0: 1 */
  double
      rtg_scale; /* EXPERT, ORACLE: of the returns that a student will see, as in adapt; a teacher has its own */
  const char *out; /* a label file (agent/learn/labels.h) */
} m4n_label_options;

int m4n_label(const m4n_label_options *options);

/* ---- reuse: a student that begins with its teacher's weights (§6) --------------------------------------------------- */

typedef struct m4n_reuse_stage_options {
  m4n_stage stage;
  const char *teacher;                /* checkpoint; NULL: there is none, and mode is "random" */
  const char *preset;                 /* the student's shape; encoder and head have the teacher's */
  int mamba_layers, attention_layers; /* −1: the preset's */
  const char *mode;                   /* "slice", "head", "pca", "spectrum", "random" (m4n_reuse_mode_of) */
  const char *const
      *events; /* logs: for pca, windows to look at the teacher's stream with; without a teacher, the task */
  int n_events;
  const char *out;
} m4n_reuse_stage_options;

int m4n_reuse_stage(const m4n_reuse_stage_options *options);

/* ---- distil: the student learns from the labels (§7) ---------------------------------------------------------------- */

enum m4n_distil_divergence { M4N_DISTIL_FORWARD, M4N_DISTIL_REVERSE, M4N_DISTIL_JSD };

typedef struct m4n_distil_options {
  m4n_stage stage;
  m4n_fit fit;
  const char *const *events;
  int n_events;
  const char *labels; /* of the same logs; NULL: no teacher (the paper's -S) */
  double rtg_scale; /* without labels, as in adapt; with labels, returns are scaled as they were for these */
  const char *student;     /* the checkpoint to begin with, of reuse */
  double task_weight;      /* of the cross-entropy with the log's actions; 1 */
  double label_weight;     /* β, of the divergence from the labels */
  int divergence;          /* enum m4n_distil_divergence */
  double temperature, jsd; /* ϑ; b of JSD */
  int weighting;           /* enum m4n_weighting, of the cross-entropy */
  /* On-policy part: rounds in which the student plays train episodes and the labeller labels what it visited. */
  struct {
    double share;  /* λ, of a batch; 0: none */
    double weight; /* β_on */
    int64_t every; /* steps between rounds */
    int64_t start; /* the first round is before this step */
    int64_t episodes;
    int keep;     /* rounds that are drawn from */
    int labeller; /* enum m4n_labeller */
    const char *teacher, *expert;
    int stride;
  } on_policy;
  const char *out;
} m4n_distil_options;

/* lr 3e-4, β 0.5, forward, ϑ 2; on-policy: share 0, weight 1, every 500, 64 episodes, keep 4. */
m4n_distil_options m4n_distil_usual(void);

int m4n_distil(const m4n_distil_options *options);

/* ---- tune: the student learns from its own rewards (§7.4) ------------------------------------------------------------ */

enum m4n_reference {
  M4N_REFERENCE_LABELLER, /* whoever labels: the teacher, where it is the paper's method */
  M4N_REFERENCE_STUDENT   /* the student as it was */
};

/* Proximal policy optimisation (agent/learn/policy_gradient.h): rounds in which the student as it is plays train episodes,
 * sampling, and then takes `every` steps on them. */
typedef struct m4n_tune_options {
  m4n_stage stage;
  m4n_fit fit;         /* fresh: of the value head */
  const char *student; /* the checkpoint to begin with */
  int64_t every;       /* steps between rounds */
  int64_t episodes;    /* of a round */
  int stride;          /* a window begins at every so manyth step of an episode, at most the model's window */
  double gamma, lambda, clip;
  double entropy; /* weight in the first step, falling to 0 */
  double reward_scale, reward_floor;
  int64_t value_first; /* steps in which the value head learns alone */
  struct {
    double weight; /* β; 0: held to nothing */
    int who;       /* enum m4n_reference */
    int labeller;  /* LABELLER: enum m4n_labeller, and as in distil: */
    const char *teacher, *expert;
  } reference;
  const char *out;
} m4n_tune_options;

/* §7.4: lr 3e-5, clip 0.2, λ 0.95, γ 0.99, entropy 0.01; 32 episodes and 16 steps of 32 windows a round, which are four
 * passes over episodes of 47 decisions in windows of 20 that begin 10 apart; rewards times 0.2, none below −20. */
m4n_tune_options m4n_tune_usual(void);

int m4n_tune(const m4n_tune_options *options);

#ifdef __cplusplus
}
#endif
#endif
