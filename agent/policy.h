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

typedef struct m4n_policy_setup {
  const char *name;                   /* as written by the user: "level-3", "robust-mpc" */
  const struct m4n_policy_kind *kind; /* what the name stands for; set by m4n_policy_open, like the name */
  const m4n_spec *spec;               /* outlives the policy */
  int slots;                          /* lanes that may be live at once */
  uint64_t seed;                      /* of what is drawn when the policy is opened: initial weights */
  m4n_pool *pool;                     /* may be NULL */
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

typedef struct m4n_policy_kind {
  const char
      *name; /* what users write; "level-" with a number behind it matches by prefix (see `numbered`) */
  const char *summary; /* a line for --help */
  int numbered;        /* 1: name is a prefix that a number follows */
  int wants_advice; /* 1: rows must carry the simulator's oracle: a bound, not a policy that could be deployed
                     */
  /* EUNSUPPORTED with the reason if the spec is not one it can serve. */
  int (*open)(void **self, const m4n_policy_setup *setup);
  void (*begin)(void *self, const m4n_start *rows, int n);
  void (*decide)(void *self, const m4n_batch *batch, m4n_decisions *out); /* cannot fail, does not allocate */
  void (*close)(void *self);
  const void *detail; /* the kind's own: what tells apart kinds that share their functions (rules/rule.h) */
} m4n_policy_kind;

typedef struct m4n_policy {
  const m4n_policy_kind *kind;
  void *self;
} m4n_policy;

/* The registry. ENOTFOUND lists the names there are; a numbered one stands there as "level-N". */
int m4n_policy_find(const m4n_policy_kind **kind, const char *name);
const m4n_policy_kind *m4n_policy_at(int index); /* NULL behind the last */

int m4n_policy_open(m4n_policy *policy, const char *name,
                    const m4n_policy_setup *setup); /* setup->name is ignored */
void m4n_policy_close(m4n_policy *policy);          /* harmless on a zeroed one */

#ifdef __cplusplus
}
#endif
#endif
