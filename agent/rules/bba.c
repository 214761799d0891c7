// Buffer-based adaptation (Huang, Johari, McKeown, Trunnell, Watson: "A Buffer-Based Approach to Rate Adaptation",
// SIGCOMM 2014) in the form that Pensieve and NetLLM compare with: the lowest level up to a reservoir, the highest
// above reservoir and cushion, and levels in proportion to the buffer in between.

#include "agent/rules/rule.h"
#include "agent/rules/rules.h"

static const double reservoir_s = 5, cushion_s = 10; // Pensieve's values

static int level(const m4n_abr_constants *c, const void *plan, void *memory, const m4n_abr_view *view) {
  (void)plan, (void)memory;
  int top = c->levels - 1;
  if (view->buffer < reservoir_s) return 0;
  if (view->buffer >= reservoir_s + cushion_s) return top;
  return (int)(top * (view->buffer - reservoir_s) / cushion_s);
}

static const m4n_rule rule = {.needs = M4N_NEED_BUFFER, .level = level};

const m4n_policy_kind m4n_policy_bba =
    M4N_RULE("bba", "level in proportion to the buffer between 5 and 15 s", rule);
