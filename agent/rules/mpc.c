// Model-predictive control (Yin, Jindal, Sekar, Sinopoli: "A Control-Theoretic Approach for Dynamic Adaptive Video
// Streaming over HTTP", SIGCOMM 2015): the plan for the next five chunks with the largest QoE if the throughput
// were the harmonic mean of the last five.

#include "agent/rules/estimate.h"
#include "agent/rules/mpc_rule.h"
#include "agent/rules/rules.h"

static int level(const m4n_abr_constants *constants, const void *plan, void *memory,
                 const m4n_abr_view *view) {
  (void)constants, (void)memory;
  double rate = m4n_harmonic_mean(view->throughput, M4N_ABR_HISTORY);
  if (!(rate > 0)) return 0; // nothing was ever fetched
  m4n_mpc_problem problem = m4n_mpc_problem_make(plan, view, rate);
  return m4n_mpc_search(&problem);
}

static const m4n_rule rule = {.needs = M4N_MPC_NEEDS,
                              .plan_size = sizeof(m4n_mpc_qoe),
                              .slow = 1,
                              .prepare = m4n_mpc_prepare,
                              .level = level};

const m4n_policy_kind m4n_policy_mpc =
    M4N_RULE("mpc", "best plan for five chunks at the harmonic mean of the last throughputs", rule);
