/* What the three model-predictive rules share: from an observation to the planning problem.
 *
 * They differ in the rate they expect and in how they plan (mpc.c, robust_mpc.c, robust_mpc_netllm.c).
 */
#ifndef M4N_AGENT_RULES_MPC_RULE_H
#define M4N_AGENT_RULES_MPC_RULE_H

#include "agent/rules/mpc_search.h"
#include "agent/rules/rule.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  M4N_MPC_NEEDS = M4N_NEED_THROUGHPUT | M4N_NEED_BUFFER | M4N_NEED_LAST_LEVEL | M4N_NEED_NEXT_SIZES |
                  M4N_NEED_CHUNKS_LEFT | M4N_NEED_CHUNK_SECONDS | M4N_NEED_QOE
};

/* A rule's `prepare`: the plan is an m4n_mpc_qoe. */
int m4n_mpc_prepare(void *plan, const m4n_abr_constants *constants);

/* The problem of one decision: t = bytes / 1e6 / rate for the next min(5, chunks left) chunks. `rate` is positive,
 * MB/s. */
m4n_mpc_problem m4n_mpc_problem_make(const m4n_mpc_qoe *qoe, const m4n_abr_view *view, double rate);

#ifdef __cplusplus
}
#endif
#endif
