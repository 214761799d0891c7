// RobustMPC as NetLLM's comparison runs it (Wu et al., SIGCOMM 2024), with its three faults: it is the published
// baseline, not a recommendation.
//
// - Plans change the level by at most one a chunk.
// - Sizes are those of the chunk after the one that is planned. The observation looks five chunks ahead, so the
//   sixth's sizes, which the original reads, are taken to be the fifth's; likewise behind the video's end.
// - The errors of the trace before are not forgotten: the first prediction of a trace is judged by an estimate that
//   has nothing to do with it, and that error rules the first five decisions. Which trace came before depends
//   on how many lanes play, and results must not; so the unrelated estimate counts as wrong by as much as the
//   throughput itself, an error of 1, in every episode.

#include <string.h>

#include "agent/rules/estimate.h"
#include "agent/rules/mpc_rule.h"
#include "agent/rules/rules.h"

static const double unrelated_error = 1;

static int level(const m4n_abr_constants *constants, const void *plan, void *memory,
                 const m4n_abr_view *view) {
  double rate = m4n_robust_estimate(memory, view->throughput, unrelated_error);
  if (!(rate > 0)) return 0; // nothing was ever fetched
  int levels = constants->levels;
  double shifted[M4N_ABR_LOOKAHEAD * M4N_ABR_MAX_LEVELS];
  int known = 0; // the last chunk whose sizes are stated
  for (int chunk = 0; chunk < M4N_ABR_LOOKAHEAD; chunk++) {
    int next = chunk + 1;
    if (next < M4N_ABR_LOOKAHEAD && view->next_sizes[next * levels] > 0) known = next;
    memcpy(shifted + chunk * levels, view->next_sizes + known * levels, (size_t)levels * sizeof *shifted);
  }
  m4n_abr_view off_by_one = *view;
  off_by_one.next_sizes = shifted;
  m4n_mpc_problem problem = m4n_mpc_problem_make(plan, &off_by_one, rate);
  return m4n_mpc_enumerate(&problem, 1);
}

static const m4n_rule rule = {.needs = M4N_MPC_NEEDS,
                              .plan_size = sizeof(m4n_mpc_qoe),
                              .memory_size = sizeof(m4n_robust),
                              .slow = 1,
                              .prepare = m4n_mpc_prepare,
                              .level = level};

const m4n_policy_kind m4n_policy_robust_mpc_netllm =
    M4N_RULE("robust-mpc-netllm", "robust-mpc with the faults of NetLLM's comparison", rule);
