/* The owner of the bridge's server: which policy answers which row, and which episode a lane plays next.
 *
 *     m4n_serve *serve;
 *     M4N_TRY(m4n_serve_open(&serve, &options));
 *     m4n_server_owner owner = m4n_serve_owner(serve);
 *     int status = m4n_server_run(server, &owner, &stop);
 *     int written = m4n_serve_close(serve, &stats);          // the event log is complete after this
 *
 * The (policy, episode) pairs form one queue in a fixed order (agent/plan.h); a lane that ends takes the next. Rows are grouped by
 * policy, one batch each. The results do not depend on how many lanes, simulators or threads play, nor on the
 * transport: an episode is named by its number and seed alone. (`delay` measured and a fallback bring the wall clock
 * into the experiment, and are the two exceptions.)
 */
#ifndef M4N_AGENT_SERVE_H
#define M4N_AGENT_SERVE_H

#include "agent/plan.h"
#include "agent/policy.h"
#include "agent/scenario.h"
#include "bridge/server.h"
#include "kernels/base/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_serve m4n_serve;

typedef struct m4n_serve_options {
  const char *const *policy; /* [n_policies]; everything here outlives the m4n_serve */
  int n_policies;
  int set;          /* m4n_set */
  int64_t episodes; /* a policy; 0: as many as the simulator has; negative: without end, with one policy */
  const m4n_plan_part *part; /* [n_parts] what is played in place of `episodes` of every policy; NULL: that */
  int n_parts;
  uint64_t seed;
  bool advice;    /* the simulator's oracle advises on every row, for the log */
  int slots;      /* the server's */
  int delay_kind; /* m4n_delay_kind */
  double delay_ms;
  const char *fallback; /* NULL: none */
  int decide_ms;
  const char *events;   /* where the event log goes; NULL: nothing is recorded */
  const char *scenario; /* its text, for the log */
  double *
      figure; /* [all jobs, in the plan's order] what policies are compared by: the first metric, or the mean reward
                     of a task without metrics; NAN for an episode that was given up. NULL: not wanted */
  const char *title; /* what the progress is called; NULL: none is shown */
  m4n_pool *pool;
  const m4n_policy_models *models; /* what "teacher", "student" and "expert" are; NULL: nothing */
} m4n_serve_options;

typedef struct m4n_serve_stats {
  int64_t planned, finished, given_up; /* episodes of all policies; planned is -1 without end */
  int64_t decisions, late;             /* rows answered; of these by the fallback */
} m4n_serve_stats;

/* Whether the policies can serve simulators of that spec: what opening and connecting would find out later. */
int m4n_serve_check(const m4n_serve_options *options, const m4n_spec *spec);

int m4n_serve_open(m4n_serve **serve, const m4n_serve_options *options);
m4n_server_owner m4n_serve_owner(m4n_serve *serve);
/* Ends threads and log. Reports the first failure that was no peer's: a policy that cannot serve the simulator, a
 * full disk. `stats` may be NULL. */
int m4n_serve_close(m4n_serve *serve, m4n_serve_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
