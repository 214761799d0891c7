/* THE policy interface: rules, teacher, student, an oracle's advice and a fallback chain are policies alike.
 *
 * A policy sees rows in the spec's layout (sim/spec.h) and nothing else of a task. It keeps what it must
 * remember of a lane under the lane's **slot**, a number below `slots` that is unique among all sessions of
 * an agent. `begin` starts an episode in a slot, `decide` answers a batch of rows of different slots. Answers
 * do not depend on how rows are batched.
 *
 *     m4n_policy policy;
 *     M4N_TRY(m4n_policy_open(&policy, "robust-mpc", &(m4n_policy_setup){.spec = spec, .slots = 64}));
 *     policy.kind->begin(policy.self, &(m4n_start){.slot = 3, .episode = 17, .seed = 1}, 1);
 *     m4n_batch batch = {.n = 1, .slot = &slot, .obs = row};
 *     policy.kind->decide(policy.self, &batch, &(m4n_decisions){.action = action});
 *     m4n_policy_close(&policy);
 */
#ifndef M4N_AGENT_POLICY_H
#define M4N_AGENT_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/pool.h"
#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

struct m4n_policy_kind;

/* The models that the names "teacher", "student" and "expert" stand for, and how they decide where a name does not say
 * it (agent/learn/model_policy.h). A policy that is a file takes the student's settings. */
enum m4n_policy_role { M4N_ROLE_TEACHER, M4N_ROLE_STUDENT, M4N_ROLE_EXPERT, M4N_ROLE_TUNED, M4N_ROLES };

typedef struct m4n_policy_models {
  const char *device; /* "cpu", "cuda", "auto"; NULL: cpu */
  struct m4n_policy_model {
    const char *checkpoint; /* NULL: there is none */
    const char *context;    /* "window", "stream" or "reset"; NULL: window */
    const char *weights;    /* "f32", "bf16" or "int8"; NULL: as the checkpoint has them */
    double target;          /* the return that it asks for, times the one that its pool reached; 0: 1 */
  } role[M4N_ROLES];
} m4n_policy_models;

typedef struct m4n_policy_setup {
  const char *name;                   /* as written by the user: "level-3", "robust-mpc" */
  const struct m4n_policy_kind *kind; /* what the name stands for; set by m4n_policy_open, like the name */
  const m4n_spec *spec;               /* outlives the policy */
  int slots;                          /* lanes that may be live at once */
  uint64_t seed;                      /* of what is drawn when the policy is opened: initial weights */
  m4n_pool *pool;                     /* may be NULL */
  const m4n_policy_models *models;    /* needed while it is opened; NULL: none are known */
} m4n_policy_setup;

/* What an episode draws from (sampled actions) is named by its seed and number, as the reset order stated
 * them, and never by the slot: any number of lanes gives the same episodes. */
typedef struct m4n_start {
  int32_t slot;
  int64_t episode;
  uint64_t seed;
} m4n_start;

/* n rows of different slots; all arrays are the caller's. */
typedef struct m4n_batch {
  int32_t n;
  const int32_t *slot;
  const double *reward; /* of the slot's previous action; of no meaning on the first row of an episode */
  const uint8_t *obs;   /* [n][spec obs_size], 8-byte aligned, every number finite */
  const uint8_t *
      advice; /* [n][spec act_size], the simulator's oracle; NULL unless the policy's `wants_advice` is set */
} m4n_batch;

typedef struct m4n_decisions {
  uint8_t *action;     /* [n][spec act_size] */
  float *logp;         /* [n] log-probability of the action; NULL: not wanted */
  float *value;        /* [n]; NULL: not wanted */
  float *distribution; /* [n][choices of the first action component]; NULL: not wanted */
} m4n_decisions;

/* How what users write is matched with a kind's name. */
enum m4n_policy_match {
  M4N_MATCH_NAME,     /* "bba" */
  M4N_MATCH_NUMBERED, /* "level-": a number follows */
  M4N_MATCH_MODEL,    /* "student": settings may follow, "student:stream:sample" */
  M4N_MATCH_FILE      /* ".safetensors": a file's name ends so; settings may follow */
};

typedef struct m4n_policy_kind {
  const char *name;
  const char *summary; /* a line for --help */
  int match;           /* enum m4n_policy_match */
  int wants_advice; /* 1: rows must carry the simulator's oracle: a bound, not a policy that could be deployed
                     */
  /* EUNSUPPORTED with the reason if the spec is not one it can serve. */
  int (*open)(void **self, const m4n_policy_setup *setup);
  void (*begin)(void *self, const m4n_start *rows, int n);
  void (*decide)(void *self, const m4n_batch *batch, m4n_decisions *out); /* cannot fail, does not allocate */
  void (*close)(void *self);
  /* Optional. The first failure since it was opened, with its record (a device that is lost): what it decided from then
   * on is worthless, and whoever asked it must stop. NULL: it cannot fail. */
  int (*status)(void *self);
  /* Optional. How it was made, "distil, labels: teacher": for whatever reports what it did. Lives as long as it does. */
  const char *(*about)(void *self);
  /* Optional. Whether the settings in a name are such; EARG with what was expected. */
  int (*check)(const struct m4n_policy_kind *kind, const char *name);
  const void *detail; /* the kind's own: what tells apart kinds that share their functions (rules/rule.h) */
} m4n_policy_kind;

typedef struct m4n_policy {
  const m4n_policy_kind *kind;
  void *self;
} m4n_policy;

/* The registry: the rules, and what was registered. ENOTFOUND lists the names there are, one that a number follows as
 * "level-N"; EARG for settings that are none. */
int m4n_policy_find(const m4n_policy_kind **kind, const char *name);
const m4n_policy_kind *m4n_policy_at(int index); /* NULL behind the last */
/* Adds a kind, which must last. For the start of a program, before there are threads. */
void m4n_policy_register(const m4n_policy_kind *kind);
/* Where in `name` settings begin, at its ':' (a file's name may hold others); its end where there are none. */
size_t m4n_policy_settings(const m4n_policy_kind *kind, const char *name);

int m4n_policy_open(m4n_policy *policy, const char *name,
                    const m4n_policy_setup *setup); /* setup->name is ignored */
void m4n_policy_close(m4n_policy *policy);          /* harmless on a zeroed one */

#ifdef __cplusplus
}
#endif
#endif
