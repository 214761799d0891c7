/* What there is to play: parts, each some episodes of one policy, handed out one by one in their order. What a lost lane
 * leaves unfinished goes out again, three times at most.
 */
#ifndef M4N_AGENT_PLAN_H
#define M4N_AGENT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_PLAN_TRIES = 3 };

typedef struct m4n_plan_part {
  int policy;
  int64_t first,
      episodes; /* first … first + episodes − 1; INT64_MAX: without end, and then there is no other part */
} m4n_plan_part;

typedef struct m4n_job {
  int64_t number; /* in the plan's order, from 0 */
  int policy;
  int64_t episode;
  int lost; /* times */
} m4n_job;

typedef struct m4n_plan {
  const m4n_plan_part *part;
  int parts;
  int at;        /* the part that is handed out … */
  int64_t taken; /* … and how many of its episodes were */
  int64_t next;  /* number of the next job */
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
