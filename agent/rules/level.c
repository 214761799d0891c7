// Always the same level.

#include "agent/rules/rule.h"
#include "agent/rules/rules.h"
#include "kernels/base/status.h"

static int prepare(void *plan, const m4n_abr_constants *c) {
  (void)plan;
  if (c->number >= c->levels)
    return m4n_fail(M4N_EUNSUPPORTED, "policy 'level-%d': there are %d levels, so level-0 to level-%d",
                    c->number, c->levels, c->levels - 1);
  return M4N_OK;
}

static int level(const m4n_abr_constants *c, const void *plan, void *memory, const m4n_abr_view *view) {
  (void)plan, (void)memory, (void)view;
  return c->number;
}

static const m4n_rule rule = {.prepare = prepare, .level = level};

const m4n_policy_kind m4n_policy_level = M4N_NUMBERED_RULE("level-", "always level N, from 0", rule);
