// BOLA (Spiteri, Urgaonkar, Sitaraman: "BOLA: Near-Optimal Bitrate Adaptation for Online Videos", INFOCOM 2016) as
// dash.js had it when Pensieve and its followers compared with it, without the start-up state:
//
//     u_m = ln(kbit/s),  gp = 1 - u_0 + (u_M - u_0) / (target / minimum - 1),  Vp = minimum / (u_0 + gp - 1)
//     level = argmax over m of (Vp (u_m + gp) - buffer) / kbit/s_m, the higher one where two are equal

#include <math.h>

#include "agent/rules/rule.h"
#include "agent/rules/rules.h"
#include "kernels/base/status.h"

static const double target_s = 30, minimum_s = 10; // dash.js: stable buffer and where adaptation begins

typedef struct bola {
  double worth[M4N_ABR_MAX_LEVELS]; /* Vp (u_m + gp) */
} bola;

static int prepare(void *plan, const m4n_abr_constants *c) {
  bola *b = plan;
  if (c->levels == 1) return M4N_OK; // no utility to gain, Vp would be infinite; the one level is best anyway
  double utility[M4N_ABR_MAX_LEVELS];
  for (int l = 0; l < c->levels; l++) utility[l] = log(c->ladder[l]);
  double gp = 1 - utility[0] + (utility[c->levels - 1] - utility[0]) / (target_s / minimum_s - 1);
  double vp = minimum_s / (utility[0] + gp - 1);
  for (int l = 0; l < c->levels; l++) b->worth[l] = vp * (utility[l] + gp);
  return M4N_OK;
}

static int level(const m4n_abr_constants *c, const void *plan, void *memory, const m4n_abr_view *view) {
  (void)memory;
  const bola *b = plan;
  double best_score = -HUGE_VAL;
  int best = 0;
  for (int l = 0; l < c->levels; l++) {
    double score = (b->worth[l] - view->buffer) / c->ladder[l];
    if (score >= best_score) best_score = score, best = l;
  }
  return best;
}

static const m4n_rule rule = {.needs = M4N_NEED_BUFFER | M4N_NEED_LADDER,
                              .plan_size = sizeof(bola),
                              .prepare = prepare,
                              .level = level};

const m4n_policy_kind m4n_policy_bola =
    M4N_RULE("bola", "most utility for the buffer that a level takes (Lyapunov)", rule);
