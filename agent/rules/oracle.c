// The simulator's own advice, which uses what no policy can know (the future of the trace): a bound to compare
// with and a source of labels, not a policy that could be deployed.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/rules/rules.h"
#include "kernels/base/status.h"

typedef struct oracle {
  size_t act_size;
  uint32_t action;
  int choices; /* of the first component */
} oracle;

static int open_oracle(void **self, const m4n_policy_setup *setup) {
  const m4n_spec *spec = setup->spec;
  if (!(spec->capabilities & M4N_CAN_ORACLE))
    return m4n_fail(M4N_EUNSUPPORTED,
                    "policy '%s': the simulator of task '%s' gives no advice (capability oracle)",
                    setup->name, spec->task);
  oracle *o = malloc(sizeof *o);
  if (!o) return m4n_fail(M4N_ENOMEM, "no memory for policy '%s'", setup->name);
  *o = (oracle){
      .act_size = spec->act_size, .action = spec->act[0].offset, .choices = (int)spec->act[0].high + 1};
  *self = o;
  return M4N_OK;
}

static void begin(void *self, const m4n_start *rows, int n) {
  (void)self, (void)rows, (void)n; // nothing is remembered
}

static void decide(void *self, const m4n_batch *batch, m4n_decisions *out) {
  const oracle *o = self;
  assert(batch->advice);
  memcpy(out->action, batch->advice, o->act_size * (size_t)batch->n);
  for (int i = 0; i < batch->n; i++) {
    int32_t chosen;
    memcpy(&chosen, out->action + o->act_size * (size_t)i + o->action, sizeof chosen);
    if (out->logp) out->logp[i] = 0;
    if (out->value) out->value[i] = 0;
    if (out->distribution)
      for (int c = 0; c < o->choices; c++)
        out->distribution[(size_t)i * (size_t)o->choices + (size_t)c] = c == chosen;
  }
}

static void close_oracle(void *self) {
  free(self);
}

const m4n_policy_kind m4n_policy_oracle = {.name = "oracle",
                                           .summary = "the simulator's advice: a bound that knows the future",
                                           .wants_advice = 1,
                                           .open = open_oracle,
                                           .begin = begin,
                                           .decide = decide,
                                           .close = close_oracle};
