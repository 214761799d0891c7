// FESTIVE (Jiang, Sekar, Zhang: "Improving Fairness, Efficiency, and Stability in HTTP-based Adaptive Video
// Streaming with FESTIVE", CoNEXT 2012): climb slowly, one level after more chunks the higher one is; then change
// only if the gain in efficiency outweighs the loss of stability:
//
//     score(m) = 2^n + 12 |kbit/s_m / min(w, kbit/s_ref) - 1|
//
// with w the harmonic mean of the last throughputs, `ref` the level to go to and n the switches of the last five
// chunks, this one included. The lower score wins, and the present level where they are equal.

#include <math.h>

#include "agent/rules/estimate.h"
#include "agent/rules/rule.h"
#include "agent/rules/rules.h"

static const double safety = 0.85;   // share of the estimate that may be asked for
static const double efficiency = 12; // its weight against stability
enum { SWITCHES = 5 };               // chunks in which switches are counted

typedef struct festive {
  int patience;           /* chunks in a row whose target was above the present level */
  int played;             /* decisions so far */
  int before;             /* the level at the decision before */
  int switched[SWITCHES]; /* 1: the chunk's level differed from the one before; in turn */
} festive;

static int recent_switches(festive *f, int current) {
  if (f->played > 0) f->switched[f->played % SWITCHES] = current != f->before;
  f->played++;
  f->before = current;
  int n = 0;
  for (int i = 0; i < SWITCHES; i++) n += f->switched[i];
  return n;
}

/* The level to go to: at most one step from the present one. */
static int reference(festive *f, int current, int target) {
  if (target > current) {
    f->patience++;
    return f->patience > current ? current + 1 : current;
  }
  f->patience = 0;
  return target < current ? current - 1 : current;
}

static int level(const m4n_abr_constants *c, const void *plan, void *memory, const m4n_abr_view *view) {
  (void)plan;
  festive *f = memory;
  int current = view->last_level;
  int switches = recent_switches(f, current);
  double kbps = 8000 * m4n_harmonic_mean(view->throughput, M4N_ABR_HISTORY);
  if (!(kbps > 0)) return 0; // nothing was ever fetched
  int target = 0;
  for (int l = 1; l < c->levels; l++)
    if (c->ladder[l] <= safety * kbps) target = l;
  int ref = reference(f, current, target);
  if (ref == current) return current;

  double fair = fmin(kbps, c->ladder[ref]);
  double stay = ldexp(1, switches) + efficiency * fabs(c->ladder[current] / fair - 1);
  double go = ldexp(1, switches + 1) + efficiency * fabs(c->ladder[ref] / fair - 1);
  if (!(go < stay)) return current;
  if (ref > current) f->patience = 0;
  return ref;
}

static const m4n_rule rule = {.needs = M4N_NEED_THROUGHPUT | M4N_NEED_LAST_LEVEL | M4N_NEED_LADDER,
                              .memory_size = sizeof(festive),
                              .level = level};

const m4n_policy_kind m4n_policy_festive =
    M4N_RULE("festive", "one level at a time, weighing efficiency against stability", rule);
