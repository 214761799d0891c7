#include "agent/plan.h"

int64_t m4n_plan_jobs(const m4n_plan *plan) {
  int64_t n = 0;
  for (int i = 0; i < plan->parts; i++) {
    if (plan->part[i].episodes == INT64_MAX) return INT64_MAX;
    n += plan->part[i].episodes;
  }
  return n;
}

bool m4n_plan_take(m4n_plan *plan, m4n_job *job) {
  if (plan->n_back) {
    *job = plan->back[--plan->n_back];
    return true;
  }
  while (plan->at < plan->parts && plan->taken == plan->part[plan->at].episodes) plan->at++, plan->taken = 0;
  if (plan->at == plan->parts) return false;
  const m4n_plan_part *part = &plan->part[plan->at];
  *job = (m4n_job){.number = plan->next++, .policy = part->policy, .episode = part->first + plan->taken++};
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
  return plan->done + plan->given_up == m4n_plan_jobs(plan);
}
