#include "agent/plan.h"

int64_t m4n_plan_jobs(const m4n_plan *plan) {
  return plan->episodes == INT64_MAX ? INT64_MAX : plan->policies * plan->episodes;
}

bool m4n_plan_take(m4n_plan *plan, m4n_job *job) {
  if (plan->n_back) {
    *job = plan->back[--plan->n_back];
    return true;
  }
  if (plan->next >= m4n_plan_jobs(plan)) return false;
  *job = (m4n_job){.number = plan->next,
                   .policy = (int)(plan->next / plan->episodes),
                   .episode = plan->next % plan->episodes};
  plan->next++;
  return true;
}

void m4n_plan_done(m4n_plan *plan) {
  plan->done++;
}

bool m4n_plan_return(m4n_plan *plan, m4n_job job) {
  if (++job.lost == M4N_PLAN_TRIES) {
    plan->given_up++;
    return false;
  }
  plan->back[plan->n_back++] = job;
  return true;
}

bool m4n_plan_finished(const m4n_plan *plan) {
  return plan->episodes && plan->done + plan->given_up == m4n_plan_jobs(plan);
}
