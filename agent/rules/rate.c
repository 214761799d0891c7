// Rate-based adaptation: the highest level whose rate the harmonic mean of the last five throughputs carries.

#include "agent/rules/estimate.h"
#include "agent/rules/rule.h"
#include "agent/rules/rules.h"

static int level(const m4n_abr_constants *c, const void *plan, void *memory, const m4n_abr_view *view) {
  (void)plan, (void)memory;
  double mbps = 8 * m4n_harmonic_mean(view->throughput, M4N_ABR_HISTORY);
  int best = 0;
  for (int l = 1; l < c->levels; l++)
    if (c->ladder[l] / 1000 <= mbps) best = l;
  return best;
}

static const m4n_rule rule = {.needs = M4N_NEED_THROUGHPUT | M4N_NEED_LADDER, .level = level};

const m4n_policy_kind m4n_policy_rate =
    M4N_RULE("rate", "highest level below the harmonic mean of the last throughputs", rule);
