#include "agent/rules/mpc_rule.h"

#include "kernels/base/status.h"

int m4n_mpc_prepare(void *plan, const m4n_abr_constants *constants) {
  m4n_mpc_qoe *qoe = plan;
  *qoe = m4n_mpc_qoe_make(constants->levels, constants->utility, constants->rebuffer, constants->smooth,
                          constants->chunk_s);
  return M4N_OK;
}

/* Sizes and rates come from outside: a time beyond any video is cut there, so that all sums stay finite. */
static const double longest_s = 1e12;

m4n_mpc_problem m4n_mpc_problem_make(const m4n_mpc_qoe *qoe, const m4n_abr_view *view, double rate) {
  m4n_mpc_problem problem;
  problem.qoe = qoe;
  problem.last = view->last_level;
  problem.buffer = view->buffer;
  double left = view->chunks_left;
  problem.horizon = left >= M4N_ABR_LOOKAHEAD ? M4N_ABR_LOOKAHEAD : left > 1 ? (int)left : 1;
  for (int chunk = 0; chunk < problem.horizon; chunk++)
    for (int l = 0; l < qoe->levels; l++) {
      double t = view->next_sizes[chunk * qoe->levels + l] / 1000000 / rate;
      problem.time[chunk][l] = t > 0 ? t < longest_s ? t : longest_s : 0;
    }
  return problem;
}
