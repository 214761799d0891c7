/* One policy that answers rows in time: the rows of a round go in, actions come out, and where the policy is
 * late its fallback answers.
 *
 *     m4n_decider_begin(d, slot, episode, seed);                   // lanes whose episode begins with this row
 *     m4n_decider_add(d, row, slot, reward, obs, NULL);            // every row that wants an action
 *     m4n_decider_start(d);
 *     m4n_decider_finish(d);                                       // actions are there
 *     for (int k = 0; k < d->n; k++) use(d->row[k], d->action + k * act_size);
 *
 * Without a fallback the policy decides in `start`, in the caller's thread. With one it has a thread of its own, and
 * `finish` waits for it until the deadline, then takes the fallback's answers. The fallback sees every row, so that
 * what it remembers of a lane is right whenever it is needed; the policy misses the rows that came while it was busy
 * with an old round. After three late rounds in a row it is not asked at all for a while.
 *
 * Nothing is allocated after `open`.
 */
#ifndef M4N_AGENT_DECIDER_H
#define M4N_AGENT_DECIDER_H

#include <stdbool.h>

#include "agent/policy.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_DECIDER_MISSES = 3, M4N_DECIDER_PAUSE_MS = 1000 };

typedef struct m4n_decider {
  const char *name;
  /* of the round that finished last */
  int32_t n;             /* rows */
  const int32_t *row;    /* [n] as given to add */
  const uint8_t *action; /* [n][spec act_size] */
  int served_by;         /* 0: the policy, 1: its fallback */
  int64_t took_ns;       /* what the round's deciding took */
  int64_t late;          /* rounds that the fallback answered, of all */
} m4n_decider;

/* `setup->name` is ignored; `fallback` NULL: none. The policy's reasons if it cannot serve the spec. */
int m4n_decider_open(m4n_decider **decider, const char *name, const m4n_policy_setup *setup,
                     const char *fallback, int decide_ms);
bool m4n_decider_wants_advice(const m4n_decider *decider);
const char *
m4n_decider_about(const m4n_decider *decider); /* how the policy was made; "" if it does not say */
void m4n_decider_begin(m4n_decider *decider, int32_t slot, int64_t episode, uint64_t seed);
/* `advice` NULL where the row has none. At most `setup->slots` rows a round. */
void m4n_decider_add(m4n_decider *decider, int32_t row, int32_t slot, double reward, const uint8_t *obs,
                     const uint8_t *advice);
void m4n_decider_start(m4n_decider *decider);
void m4n_decider_finish(m4n_decider *decider);
/* The first failure of a policy whose answers were taken: then they are worthless, and so is the run. */
int m4n_decider_status(const m4n_decider *decider);
void m4n_decider_close(m4n_decider *decider); /* waits for a decision that is still going on */

#ifdef __cplusplus
}
#endif
#endif
