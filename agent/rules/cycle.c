// A fixed walk over all levels that no observation changes: level (7k + 3) mod levels for chunk k. It makes
// simulators comparable chunk by chunk.

#include <math.h>

#include "agent/rules/rule.h"
#include "agent/rules/rules.h"

static int level(const m4n_abr_constants *c, const void *plan, void *memory, const m4n_abr_view *view) {
  (void)plan, (void)memory;
  double chunk = fmod(c->chunks - view->chunks_left, c->levels); // only its remainder matters
  if (!(chunk >= 0)) return 0;                                   // more chunks left than the video has
  return (7 * (int)chunk + 3) % c->levels;
}

static const m4n_rule rule = {.needs = M4N_NEED_CHUNKS_LEFT | M4N_NEED_CHUNKS, .level = level};

const m4n_policy_kind m4n_policy_cycle = M4N_RULE("cycle", "level (7k + 3) mod levels for chunk k", rule);
