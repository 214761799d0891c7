/* A training as a whole: the stages of learning one after another in a run's folder, from experience to the report.
 *
 *     expert    a policy trained by PPO in the simulator     model/expert.safetensors     (where expert.steps says so)
 *     collect   episodes of behaviour policies               collect/events.bin
 *     adapt     a teacher                                    model/teacher.safetensors
 *     reuse     a student that begins with its weights       model/student-start.safetensors
 *     label     somebody's answers to what was collected     label/labels.safetensors
 *     distil    the student                                  model/student.safetensors
 *     tune      the student, by PPO in the simulator         model/tuned.safetensors      (where tune.steps says so)
 *     evaluate  everybody on traces that nobody has seen     events.bin, episodes.csv, summary.json, report.html
 *
 * Every simulator is met over the bridge: one of this process, or simulators that connect from outside. A stage is done
 * when its outputs are there and were made with the options and from the inputs that hold now (a stamp in stamps/ says
 * from which); then it is skipped. So what was deleted, or what changed with an option, is made again, with all that
 * follows from it, and what was interrupted goes on.
 *
 *     M4N_TRY(m4n_training_run(&(m4n_training_options){.scenario = s, .out = "runs/x", .device = "auto"}, &stop));
 */
#ifndef M4N_AGENT_TRAINING_H
#define M4N_AGENT_TRAINING_H

#include "agent/models.h"
#include "agent/run_folder.h"
#include "agent/scenario.h"
#include "agent/serve.h"
#include "agent/simulator.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_training_options {
  const m4n_scenario *scenario;
  const char *out;          /* NULL: a new folder under runs/ */
  bool resume;              /* `out` may hold an earlier training, which goes on */
  const char *const *stage; /* [n_stages] these alone; 0: all that the scenario needs */
  int n_stages;
  const char *device;
  int threads;   /* 0: one a processor */
  bool external; /* simulators connect to bridge.endpoint; else one plays here */
  int lanes;     /* of external simulators together */
  bool json;     /* summary.json on standard output in place of the table */
  /* Folders of other trainings: what a stage would make anew and one of them has already, made with the same options and
   * from the same inputs, is taken from there. */
  const char *const *from;
  int n_from;
  bool part; /* of something larger, which has its own table and says how it goes on */
} m4n_training_options;

/* What can be refused before anything is done. EARG with the key. */
int m4n_training_check(const m4n_training_options *options);

/* ECANCELLED leaves a folder that can be gone on with. Otherwise as the stages say. */
int m4n_training_run(const m4n_training_options *options, const m4n_stop *stop);

/* ---- between the training's parts */

typedef struct m4n_training {
  m4n_training_options o;
  const m4n_stop *stop;
  m4n_run_folder folder;
  char *endpoint;
  m4n_pool *pool;          /* of policies and of learning */
  m4n_simulator simulator; /* one that plays here, with bridge.lanes; opened when it is needed first */
  bool has_simulator;
  m4n_stage_hooks hooks;
  int role; /* whose settings a checkpoint plays with: m4n_policy_role */
} m4n_training;

struct m4n_stamp;

enum { M4N_STAGE_OUTPUTS = 5 };

typedef struct m4n_training_stage {
  const char *name, *output[M4N_STAGE_OUTPUTS]; /* relative to the folder */
  const char *makes;                            /* for people */
  bool shared;                                  /* its outputs may be taken from another training */
  bool (*wanted)(const m4n_training *t);
  int (*describe)(m4n_training *t, struct m4n_stamp *stamp); /* all that its outputs depend on */
  int (*run)(m4n_training *t, bool resume);
} m4n_training_stage;

extern const m4n_training_stage m4n_training_stages[]; /* in their order; the last has no name */

/* "folder/name", to be freed. NULL: no memory, and the record says so. */
char *m4n_training_path(const m4n_training *t, const char *name);
/* The checkpoint of a role: given by the scenario, or the folder's own. To be freed. */
char *m4n_training_model(const m4n_training *t, int role);
/* A policy's name that needs no scenario: "expert:sample" becomes "…/model/expert.safetensors:sample". To be freed. */
char *m4n_training_policy(const m4n_training *t, const char *name);
bool m4n_training_uses(const char *const *policies, int n, const char *role);
/* Whether this labeller's answers are wanted: by distil, or to hold tune to them. */
bool m4n_training_labels(const m4n_training *t, int labeller);

/* ---- playing (training_play.c) */

/* The simulator of this process, for whoever plays with bridge.lanes; NULL where simulators connect from outside. */
int m4n_training_simulator(m4n_training *t, m4n_simulator **simulator);
int m4n_training_slots(const m4n_training *t);
/* Plays what `options` say to its end; their slots, pool and models are set here. The log appears whole or not at all. */
int m4n_training_play(m4n_training *t, m4n_serve_options *options, m4n_serve_stats *stats);
/* The stages' hook; self is the m4n_training. */
int m4n_training_hook(void *self, const m4n_play *play);
int m4n_training_collect(m4n_training *t, bool resume);
int m4n_training_expert(m4n_training *t, bool resume);

#ifdef __cplusplus
}
#endif
#endif
