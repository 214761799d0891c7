/* What an evaluation has to play: every policy every episode, handed out one by one in a fixed order, policy by
 * policy. What a lost lane leaves unfinished goes out again, three times at most.
 */
#ifndef M4N_AGENT_PLAN_H
#define M4N_AGENT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_PLAN_TRIES = 3 };

typedef struct m4n_job {
  int64_t number; /* policy · episodes + episode */
  int policy;
  int64_t episode;
  int lost; /* times */
} m4n_job;

typedef struct m4n_plan {
  int policies;
  int64_t episodes; /* a policy; INT64_MAX: without end, for one policy */
  int64_t next;     /* number of the first job that nobody had */
  int64_t done, given_up;
  m4n_job *back; /* [slots] jobs that came back; at most as many as lanes, since they go out first */
  int n_back;
} m4n_plan;

/* False when nothing is left to hand out (some may be under way). */
bool m4n_plan_take(m4n_plan *plan, m4n_job *job);
void m4n_plan_done(m4n_plan *plan);
/* The lane of `job` was lost; false if that happened too often and the job is given up. */
bool m4n_plan_return(m4n_plan *plan, m4n_job job);
bool m4n_plan_finished(const m4n_plan *plan);
int64_t m4n_plan_jobs(const m4n_plan *plan); /* all; INT64_MAX without end */

#ifdef __cplusplus
}
#endif
#endif
