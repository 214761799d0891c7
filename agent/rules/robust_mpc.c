// RobustMPC (Yin et al., SIGCOMM 2015): MPC with the expected throughput lowered by the largest error of the last
// five predictions.

#include "agent/rules/estimate.h"
#include "agent/rules/mpc_rule.h"
#include "agent/rules/rules.h"

static int level(const m4n_abr_constants *constants, const void *plan, void *memory,
                 const m4n_abr_view *view) {
  (void)constants;
  double rate = m4n_robust_estimate(memory, view->throughput, 0);
  if (!(rate > 0)) return 0; // nothing was ever fetched
  m4n_mpc_problem problem = m4n_mpc_problem_make(plan, view, rate);
  return m4n_mpc_search(&problem);
}

static const m4n_rule rule = {.needs = M4N_MPC_NEEDS,
                              .plan_size = sizeof(m4n_mpc_qoe),
                              .memory_size = sizeof(m4n_robust),
                              .slow = 1,
                              .prepare = m4n_mpc_prepare,
                              .level = level};

const m4n_policy_kind m4n_policy_robust_mpc =
    M4N_RULE("robust-mpc", "mpc with the throughput lowered by the largest of its last errors", rule);
